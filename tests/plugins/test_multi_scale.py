"""multi-scale: sizes drawn from a list or growing over the epochs, pure in seed, epoch and index."""

import math
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ceph.config.load import from_values
from ceph.data.plan import plan_epoch
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph.run.prepare import prepare
from ceph_plugins.multi_scale import MultiScale, MultiScaleConfig, scaled, stage

BASE = (480, 384)
SMALL, MIDDLE = (320, 256), (384, 320)  # 0.67 and 0.83 of it in multiples of 32


@pytest.fixture
def sizes(make_run):
    """`sizes(seed, epoch, count, size, **settings)`: of so many batches in mode random, in a run of eight epochs."""
    return partial(sizes_of, make_run())


def sizes_of(run, seed=0, epoch=0, count=600, size=BASE, **settings):
    hooks = Hooks({"multi-scale": MultiScale(MultiScaleConfig(**settings))})
    hooks.tell("check_run", run=run)
    asked = {"epoch": epoch, "size": size, "seed": seed}
    return [hooks.one("batch_shape", lambda: size, index=index, **asked) for index in range(count)]


def grown(make_run, epochs, **settings):
    """The size of each epoch's batches (a set) in mode progressive."""
    plugin = MultiScale(MultiScaleConfig(mode="progressive", **settings))
    plugin.check_run(make_run(epochs=epochs))
    return [{plugin.batch_shape(epoch, index, BASE, 0) for index in range(20)} for epoch in range(epochs)]


def test_batches_are_drawn_evenly_from_the_scales(sizes):
    drawn = Counter(sizes())
    assert set(drawn) == {(352, 288), BASE, (608, 480)}  # 360 and 600 rounded to a multiple of 32, half up
    assert all(150 < count < 250 for count in drawn.values())


def test_a_share_of_the_batches_keeps_the_base_size(sizes):
    drawn = Counter(sizes(scales=(0.75,), base_share=0.8))
    assert 430 < drawn[BASE] < 530


def test_the_size_is_a_pure_function_of_seed_epoch_and_index(sizes):
    assert sizes(seed=3, epoch=2) == sizes(seed=3, epoch=2)
    assert sizes(seed=3, epoch=2)[5:] == sizes(seed=3, epoch=2)[5:]
    assert sizes(seed=3) != sizes(seed=4)
    assert sizes(epoch=0) != sizes(epoch=1)


def test_the_draw_is_the_same_on_every_machine(sizes):
    # Golden: what blake2b of the keys, as the seed of numpy's PCG64, draws; pinned so that old runs resume.
    names = {(352, 288): "s", BASE: "m", (608, 480): "l"}
    assert "".join(names[s] for s in sizes(count=16)) == "llsssmlllmmmlssl"


@pytest.mark.parametrize(("epoch", "varied"), [(0, False), (1, False), (2, True), (5, True), (6, False), (9, False)])
@pytest.mark.parametrize("phase", [(2, 6), ("25%", "75%"), ("20%", "70%")])
def test_the_first_and_the_last_epochs_may_stay_at_the_base_size(sizes, epoch, varied, phase):
    drawn = set(sizes(epoch=epoch, count=50, warmup_epochs=phase[0], until_epoch=phase[1]))
    assert (len(drawn) > 1) is varied
    assert BASE in drawn


def test_progressive_sizes_grow_in_stages_and_end_at_the_base_size(make_run):
    assert grown(make_run, 30) == [{SMALL}] * 10 + [{MIDDLE}] * 10 + [{BASE}] * 10
    assert grown(make_run, 6, grow_until="50%", scales=(0.5,)) == [{(256, 192)}] * 3 + [{BASE}] * 3
    assert grown(make_run, 6, grow_until=4) == [{SMALL}] * 2 + [{MIDDLE}] * 2 + [{BASE}] * 2
    assert grown(make_run, 1) == [{BASE}]


@pytest.mark.parametrize(
    ("old", "said"), [(0.5, "not 0.5; that share is written 50%"), (1.0, "is written 100%"), (1.5, "as in 4, or")]
)
def test_a_share_as_it_was_written_before_is_refused_with_how_it_is_written_now(old, said):
    with pytest.raises(ConfigError) as caught:
        from_values({"plugins": {"multi-scale": {"mode": "progressive", "grow_until": old}}})
    (problem,) = caught.value.problems
    assert problem.key == "plugins.multi-scale.grow_until"
    assert said in problem.what


def test_progressive_batches_may_mix_in_the_base_size(make_run):
    assert grown(make_run, 3, base_share=0.5)[:2] == [{SMALL, BASE}, {MIDDLE, BASE}]


@given(st.lists(st.floats(0.1, 1), min_size=1, max_size=6), st.integers(1, 500), st.data())
def test_growth_never_goes_back_and_each_stage_lasts_alike(scales, epochs, data):
    scales, until = sorted(scales), data.draw(st.integers(0, epochs))
    curve = [stage(epoch, scales, until) for epoch in range(epochs)]
    assert curve == sorted(curve)
    assert curve[until:] == [1.0] * (epochs - until)
    lengths = Counter(epoch * len(scales) // until for epoch in range(until))
    assert all(abs(n - until / len(scales)) < 1 for n in lengths.values())


@pytest.mark.parametrize("hook", ["check_run", "run_start"])
def test_either_setup_hook_teaches_the_number_of_epochs(make_run, hook):
    plugin = MultiScale(MultiScaleConfig(mode="progressive"))
    with pytest.raises(RuntimeError, match="number of epochs is not known"):
        plugin.batch_shape(0, 0, BASE, 0)
    getattr(plugin, hook)(make_run(epochs=3))
    assert [plugin.batch_shape(epoch, 0, BASE, 0) for epoch in range(3)] == [SMALL, MIDDLE, BASE]


@pytest.mark.parametrize(("grow_until", "enough", "short"), [(8, 9, 8), ("90%", 1, None), ("100%", None, 5)])
def test_a_run_that_would_end_before_the_base_size_is_refused(make_run, grow_until, enough, short):
    hooks = Hooks({"multi-scale": MultiScale(MultiScaleConfig(mode="progressive", grow_until=grow_until))})
    if enough:
        hooks.tell("check_run", run=make_run(epochs=enough))
    if short:
        with pytest.raises(ConfigError, match=f"ends after {short} epochs, before the size has grown") as caught:
            hooks.tell("check_run", run=make_run(epochs=short))
        assert caught.value.problems[0].key == "plugins.multi-scale.grow_until"


@pytest.mark.parametrize("mode", ["random", "progressive"])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_with_constant_pixels_each_batch_is_within_one_film_of_the_base_batch(make_run, mode, epoch):
    plugin = MultiScale(MultiScaleConfig(mode=mode))
    plugin.check_run(make_run(epochs=3))
    plan = plan_epoch(
        150,
        8,
        seed=0,
        epoch=epoch,
        size=BASE,
        batch_shape=lambda index: plugin.batch_shape(epoch, index, BASE, 0),
        constant_pixels=True,
    )
    for batch in plan.batches:
        film = math.prod(batch[0].size)
        assert abs(len(batch) * film - 8 * math.prod(BASE)) < film
    films = [entry.film for batch in plan.batches for entry in batch]
    assert len(films) == len(set(films))


def test_small_sizes_mean_fewer_and_larger_batches():
    def batches(size):
        return plan_epoch(150, 8, seed=0, epoch=0, size=BASE, batch_shape=lambda _: size, constant_pixels=True).batches

    # The figures of docs/plugins/multi-scale.md: films a batch, and batches an epoch of 150 films.
    assert {size: (len(batches(size)[0]), len(batches(size))) for size in (SMALL, MIDDLE, BASE)} == {
        SMALL: (18, 8),
        MIDDLE: (12, 12),
        BASE: (8, 18),
    }


def test_a_resolved_config_reads_back_and_learns_its_epochs_in_a_real_run(tiny):
    values = tiny(
        data={"size": [96, 64]}, train={"epochs": 3}, plugins={"multi-scale": {"mode": "progressive", "scales": [0.34]}}
    )
    prepared = prepare(from_values(values))
    plugin = prepared.hooks.plugins["multi-scale"]
    assert MultiScaleConfig(**plugin.config.model_dump()) == plugin.config
    assert [plugin.batch_shape(epoch, 0, (96, 64), 0) for epoch in range(3)] == [(32, 32)] * 2 + [(96, 64)]


@given(st.tuples(st.integers(1, 2000), st.integers(1, 2000)), st.floats(0.1, 4), st.sampled_from([1, 16, 32, 64]))
def test_sides_are_multiples_near_the_scaled_size(size, scale, multiple):
    for side, base in zip(scaled(size, scale, multiple), size, strict=True):
        assert side > 0
        if scale == 1:
            assert side == base
        else:
            assert side % multiple == 0
            assert abs(side - base * scale) <= multiple / 2 or side == multiple


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales": ()},
        {"scales": (0.0,)},
        {"scales": (5.0,)},
        {"base_share": 1.1},
        {"multiple": 0},
        {"mode": "growing"},
        {"grow_until": 0.5},
        {"mode": "progressive", "grow_until": 0},
        {"mode": "progressive", "grow_until": 1.5},
        {"mode": "progressive", "until_epoch": 3},
        {"mode": "progressive", "warmup_epochs": 3},
        {"mode": "progressive", "scales": (0.83, 0.67)},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        MultiScaleConfig(**wrong)
