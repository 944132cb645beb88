"""hard-mining: hard films are drawn more often, hard landmarks and pixels count more, label errors are found."""

import csv
import dataclasses
import json
import logging
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.config.models import Config
from ceph.data.plan import epoch_order
from ceph.errors import ConfigError, PluginError
from ceph.hooks.verbs import Hooks
from ceph.plugin import Duration
from ceph_plugins.hard_mining import (
    HardMining,
    HardMiningConfig,
    Memory,
    by_power,
    capped,
    film_errors,
    film_weights,
    hard_negatives,
    hardest,
    spread,
)

NAN = math.nan
ERRORS = st.lists(st.floats(0, 100) | st.just(NAN), min_size=1, max_size=9)


def made(**settings):
    return HardMining(HardMiningConfig(**settings))


def watch(plugin, run, *films):
    """Tell the plugin one mean error in mm for each film, an epoch for each list."""
    hooks = Hooks({"hard-mining": plugin})
    hooks.tell("check_run", run=run)
    hooks.tell("run_start", run=run)
    for epoch, errors in enumerate(films):
        table = torch.tensor(errors)[:, None].repeat(1, len(run.landmarks))
        hooks.tell("epoch_end", epoch=epoch, samples=run.samples, loss=table, errors_mm=table, metrics={})
    return hooks


def weights_of(hooks, run, epoch):
    return hooks.product("sample_weights", (len(run.samples),), epoch=epoch, samples=run.samples)


# --- films --------------------------------------------------------------------------------------------------------


def test_films_whose_error_is_greater_weigh_more(make_run):
    run = make_run(films=4)
    weights = weights_of(watch(made(warmup_epochs=0), run, [1.0, 2.0, 3.0, 4.0]), run, 1)
    assert (weights.diff() > 0).all()
    assert weights.mean() == pytest.approx(1.0)


def test_films_are_drawn_evenly_before_the_warmup_ends_and_when_switched_off(make_run):
    run = make_run(films=2)
    plugin = made(warmup_epochs=2)
    hooks = watch(plugin, run, [1.0, 3.0])
    assert weights_of(hooks, run, 1) is None
    assert weights_of(hooks, run, 2) is not None
    assert weights_of(watch(made(warmup_epochs=0), run), run, 0) is None  # nothing known yet
    assert weights_of(watch(made(warmup_epochs=0, films=False), run, [1.0, 3.0]), run, 1) is None


def test_a_film_that_was_not_drawn_keeps_its_error_and_one_never_drawn_counts_as_average(make_run):
    run = make_run(films=3)
    plugin = made(warmup_epochs=0, momentum=0.5)
    hooks = watch(plugin, run, [2.0, NAN, 4.0], [1.0, NAN, NAN])
    known = torch.tensor([1.5, NAN, 4.0], dtype=torch.float64)
    torch.testing.assert_close(film_errors(plugin.memory.error_mm), known, equal_nan=True)
    low, middle, high = weights_of(hooks, run, 2).tolist()
    assert low < middle < high


def test_a_landmark_without_an_error_is_left_out_of_its_films_mean():
    table = torch.tensor([[1.0, NAN, 3.0], [NAN, NAN, NAN], [math.inf, 4.0, NAN]])
    torch.testing.assert_close(film_errors(table), torch.tensor([2.0, NAN, 4.0]), equal_nan=True)


def test_errors_may_come_as_an_array(make_run):
    run = make_run(films=2)
    plugin = made()
    table = np.array([[1.0, 3.0], [np.nan, np.nan]], dtype=np.float32)
    watch(plugin, run).tell("epoch_end", epoch=0, samples=run.samples, loss=table, errors_mm=table, metrics={})
    assert plugin.memory.error_mm[0].tolist() == [1.0, 3.0]


@given(ERRORS, st.floats(0, 4), st.floats(0, 1), st.floats(1, 20))
def test_weights_are_always_usable_and_their_ratio_is_capped(errors, power, uniform, max_ratio):
    weights = film_weights(torch.tensor(errors, dtype=torch.float64), power, uniform, max_ratio)
    assert weights.isfinite().all()
    assert (weights > 0).all()
    assert weights.max() / weights.min() <= max_ratio * (1 + 1e-9)
    assert weights.mean() == pytest.approx(1.0)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=9))
def test_no_power_or_a_whole_share_of_uniform_draws_means_equal_weights(errors):
    table = torch.tensor(errors, dtype=torch.float64)
    assert film_weights(table, 0.0, 0.3, 4.0).tolist() == pytest.approx([1.0] * len(errors))
    assert film_weights(table, 2.0, 1.0, 4.0).tolist() == [1.0] * len(errors)


def test_one_mislabelled_film_does_not_take_over_the_epoch():
    table = torch.full((130,), 1.5, dtype=torch.float64)
    table[7] = 60.0
    weights = film_weights(table, power=2.0, uniform=0.5, max_ratio=4.0)
    assert weights[7] / weights.sum() < 4 / 130


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.floats(1, 15))
def test_capped_weights_keep_their_order_their_mean_and_the_cap(weights, cap):
    given_weights = torch.tensor(weights, dtype=torch.float64)
    found = capped(given_weights, cap)
    assert found.mean() == pytest.approx(1.0)
    assert found.max() <= cap + 1e-9
    assert (found[given_weights.argsort()].diff() >= -1e-9).all()
    free = found < cap - 1e-6  # those below the cap are still in proportion
    ratio = (found / given_weights)[free]
    assert not free.any() or ratio.max() / ratio.min() == pytest.approx(1.0)


@given(ERRORS, st.floats(0, 4), st.floats(0, 1), st.none() | st.floats(1, 20), st.floats(1, 5))
def test_no_film_weighs_more_than_max_repeats_and_none_is_lost(errors, power, uniform, max_ratio, max_repeats):
    table = torch.tensor(errors, dtype=torch.float64)
    weights = film_weights(table, power, uniform, max_ratio, max_repeats)
    assert (weights > 0).all()
    assert weights.max() <= max_repeats + 1e-9
    assert weights.mean() == pytest.approx(1.0)


@given(st.permutations(range(6)), st.lists(st.floats(0.1, 50) | st.just(NAN), min_size=6, max_size=6))
def test_the_weights_of_films_do_not_depend_on_their_order(order, errors):
    table = torch.tensor(errors, dtype=torch.float64)
    weights = film_weights(table, 1.5, 0.2, 8.0, 2.0)
    torch.testing.assert_close(film_weights(table[order], 1.5, 0.2, 8.0, 2.0), weights[order])


@given(st.integers(0, 50))
def test_no_film_is_drawn_more_than_max_repeats_in_an_epoch(seed):
    errors = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) ** 4
    weights = film_weights(errors, power=2.0, uniform=0.0, max_ratio=None, max_repeats=2.5)
    assert weights.max() == pytest.approx(2.5)
    drawn = np.bincount(epoch_order(40, weights.numpy(), seed, 0), minlength=40)
    assert drawn.max() == 3


def test_a_warmup_may_be_a_share_of_the_run(make_run):
    run = make_run(films=2, epochs=8)
    hooks = watch(made(warmup_epochs=Duration("25%")), run, [1.0, 3.0])
    assert [weights_of(hooks, run, epoch) is None for epoch in range(4)] == [True, True, False, False]


@pytest.mark.parametrize("neutral", [{"power": 0}, {"uniform": 1}, {"max_repeats": 1}])
def test_settings_that_leave_nothing_to_mine_answer_nothing(make_run, neutral):
    run = make_run(films=3)
    assert weights_of(watch(made(warmup_epochs=0, **neutral), run, [1.0, 2.0, 9.0]), run, 1) is None


# --- landmarks ----------------------------------------------------------------------------------------------------


def test_only_the_hardest_landmarks_count():
    loss = torch.tensor([[1.0, 4.0, 3.0, 2.0], [9.0, 1.0, 1.0, 5.0]])
    valid = torch.ones_like(loss, dtype=torch.bool)
    assert hardest(loss, valid, 2).tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    assert hardest(loss, valid, 0.25).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert hardest(loss, valid, 1.0).eq(1).all()


def test_a_share_is_of_all_landmarks_so_that_a_mask_that_leaves_fewer_leaves_nothing_to_mine():
    loss = torch.tensor([[5.0, 0.0, 3.0, 2.0], [0.0, 0.0, 0.0, 1.0]])
    valid = torch.tensor([[True, False, True, True], [False, False, False, True]])
    assert (hardest(loss, valid, 0.5) * valid).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]
    assert (hardest(loss, valid, 0.1) * valid).sum(dim=1).tolist() == [1, 1]  # at least one


def test_a_landmark_that_trains_no_more_is_forgotten_and_one_not_drawn_is_not():
    first = torch.tensor([[1.0, 9.0], [3.0, 9.0]], dtype=torch.float64)
    now = torch.tensor([[2.0, math.nan], [math.nan, math.nan]], dtype=torch.float64)
    memory = Memory.empty(2, 2).with_epoch(first, torch.ones(2), 0.5, mined=True)
    assert film_errors(memory.with_epoch(now, torch.ones(2), 0.5, mined=True).error_mm).tolist() == [1.5, 3.0]


@given(st.integers(1, 5), st.integers(1, 29), st.data())
def test_the_landmarks_that_count_are_the_top(films, landmarks, data):
    loss = torch.rand(films, landmarks, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    keep = data.draw(st.integers(1, landmarks))
    mask = hardest(loss, torch.ones_like(loss, dtype=torch.bool), keep)
    assert mask.sum(dim=1).eq(keep).all()
    assert (torch.where(mask.bool(), loss, 1.0).amin(1) >= torch.where(mask.bool(), 0.0, loss).amax(1)).all()


@pytest.mark.parametrize(("landmarks", "count"), [("isbi", 8), ("aariz", 12)])
def test_by_default_about_two_fifths_count_after_the_warmup(make_run, make_batch, landmarks, count):
    run = make_run(landmarks)
    loss = torch.rand(3, len(run.landmarks))
    valid = torch.ones_like(loss, dtype=torch.bool)
    hooks = watch(HardMining(), run)
    found = [
        hooks.product("landmark_weights", loss.shape, batch=make_batch(valid, done), loss=loss) for done in (1.9, 2)
    ]
    assert found[0] is None
    assert found[1].sum(dim=1).tolist() == [count] * 3


@pytest.mark.parametrize("off", [{"landmarks": False}, {"keep": None}])
def test_landmarks_can_be_switched_off(make_run, make_batch, off):
    loss = torch.rand(3, 4)
    hooks = watch(made(warmup_epochs=0, **off), make_run(("A", "B", "C", "D")))
    batch = make_batch(loss > 0)
    assert hooks.product("landmark_weights", loss.shape, batch=batch, loss=loss) is None


LOSSES = st.integers(0, 99).map(lambda seed: torch.rand(3, 7, generator=torch.Generator().manual_seed(seed)))


@given(LOSSES, st.floats(0.1, 6))
def test_soft_weights_follow_the_loss_have_mean_one_in_each_film_and_ignore_its_scale(loss, power):
    counts = loss > 0.2
    counts[:, 0] = True
    found = by_power(loss, counts, power)
    assert (found[~counts] == 0).all()
    torch.testing.assert_close(found.sum(1), counts.sum(1).float())
    torch.testing.assert_close(by_power(loss * 1000, counts, power), found, rtol=1e-4, atol=1e-6)
    for row, mask, weights in zip(loss, counts, found, strict=True):
        assert (weights[mask][row[mask].argsort()].diff() >= -1e-6).all()


def test_soft_weights_go_with_the_power_of_the_loss():
    loss, counts = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(by_power(loss, counts, 2.0), torch.tensor([[1.0, 4.0, 9.0]]) * 3 / 14)
    assert by_power(loss * 0, counts, 2.0).tolist() == [[1.0, 1.0, 1.0]]
    assert by_power(loss, ~counts, 2.0).tolist() == [[0.0, 0.0, 0.0]]


def test_a_power_without_keep_weighs_all_landmarks_and_with_keep_only_those_kept(make_run, make_batch):
    loss = torch.tensor([[1.0, 4.0, 3.0, 2.0]])
    batch = make_batch(torch.tensor([[True, True, True, False]]))

    def weighed(**settings):
        hooks = watch(made(warmup_epochs=0, landmark_power=1.0, **settings), make_run(("A", "B", "C", "D")))
        return hooks.product("landmark_weights", loss.shape, batch=batch, loss=loss)

    torch.testing.assert_close(weighed(keep=None), torch.tensor([[1.0, 4.0, 3.0, 0.0]]) * 3 / 8)
    both = weighed(keep=2)
    torch.testing.assert_close(both, torch.tensor([[0.0, 4.0, 3.0, 0.0]]) * 2 / 7)


@given(LOSSES)
def test_evening_out_keeps_a_film_s_total_and_leaves_the_others_alone(weights):
    valid = weights > 0.1
    valid[:, 0] = True
    found = spread(weights, valid, torch.tensor([True, False, True]))
    torch.testing.assert_close((found * valid).sum(1), (weights * valid).sum(1))
    assert torch.equal(found[1], weights[1])
    assert all(len(found[i][valid[i]].unique()) == 1 for i in (0, 2))


# --- pixels -------------------------------------------------------------------------------------------------------


def test_only_background_pixels_that_respond_like_the_peak_count_more():
    pred = torch.full((1, 1, 20, 30), -9.0)
    pred[0, 0, 5, 5] = 4.0  # the point
    pred[0, 0, 5, 8] = 3.9  # beside it
    pred[0, 0, 15, 25] = 3.0  # a second response, 0.37 of the first
    pred[0, 0, 1, 25] = 0.0  # a weak one, 0.02
    found = hard_negatives(pred, torch.tensor([[[5.0, 5.0]]]), radius=4.0, level=0.1, weight=3.0)
    expected = torch.ones_like(pred)
    expected[0, 0, 15, 25] = 3.0
    assert torch.equal(found, expected)


@given(st.integers(0, 99), st.floats(1, 9), st.floats(0.01, 1), st.floats(1, 9))
def test_pixels_near_the_point_never_count_more(seed, radius, level, weight):
    rng = torch.Generator().manual_seed(seed)
    pred, points = torch.randn(2, 3, 12, 16, generator=rng), torch.rand(2, 3, 2, generator=rng) * 12
    found = hard_negatives(pred, points, radius, level, weight)
    y, x = torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
    distance = torch.hypot(x - points[..., 0, None, None], y - points[..., 1, None, None])
    assert (found[distance < radius - 1e-3] == 1).all()
    assert ((found == 1) | (found - weight).abs().lt(1e-5)).all()


def test_pixels_are_mined_after_the_warmup_where_asked_for_and_in_the_frame_of_the_map(make_run, make_batch):
    batch = make_batch(torch.ones(2, 3, dtype=torch.bool), 1.0)  # images of 8 x 8 px, points at (0, 0)
    pred = torch.zeros(2, 3, 4, 4)
    shape = tuple(pred.shape)

    def found(**settings):
        plugin = made(**{"warmup_epochs": 1, "keep": None, "pixels": True, "pixel_radius": 2.0, **settings})
        hooks = watch(plugin, dataclasses.replace(make_run(("A", "B", "C")), config=Config()))
        return hooks.product("pixel_weights", shape, batch=batch, pred=pred, target=pred)

    assert found(warmup_epochs=2) is None
    assert found(pixels=False) is None
    assert found(pixel_weight=1) is None
    assert found().shape == shape
    # Network (0, 0) is map (-0.25, -0.25): (1, 1) is 1.8 away, (2, 0) 2.3.
    assert found()[0, 0].tolist() == [[1, 1, 3, 3], [1, 1, 3, 3], [3, 3, 3, 3], [3, 3, 3, 3]]


def test_a_radius_within_the_target_is_refused(make_run):
    run = dataclasses.replace(make_run(), config=Config.model_validate({"target": {"sigma_px": 2.5}}))
    with pytest.raises(ConfigError, match=r"(?s)pixel_radius: 6 map px reach into the target.*three sigma: 7\.5"):
        watch(made(pixels=True), run)
    watch(made(pixels=True, pixel_radius=7.5), run)


# --- label errors -------------------------------------------------------------------------------------------------

PLANTED, HARD, FILMS, EPOCHS = range(6), range(6, 18), 120, 25


def simulated(plugin, make_run, tmp_path):
    """Films that are learnt by being drawn, twelve of them slowly; six have wrong labels and are never learnt.

    Gives how often each was drawn after the warm-up [N], and the rows of hard-films.csv.
    """
    run = make_run(("X", "Y"), films=FILMS, epochs=EPOCHS)
    hooks, rng = watch(plugin, run), np.random.default_rng(0)
    start, rate, seen = np.full(FILMS, 4.0), np.full(FILMS, 0.25), np.zeros(FILMS)
    start[list(HARD)], rate[list(HARD)] = 8.0, 0.06
    after_warmup = np.zeros(FILMS, dtype=int)
    for epoch in range(EPOCHS):
        weights = weights_of(hooks, run, epoch)
        drawn = np.bincount(epoch_order(FILMS, None if weights is None else weights.numpy(), 0, epoch), minlength=FILMS)
        seen += drawn
        after_warmup += drawn * (epoch >= plugin.warmup_epochs)
        errors = 1.2 + start * np.exp(-rate * seen)
        errors[list(PLANTED)] = 12.0
        table = errors[:, None] * np.array([0.8, 1.2]) * rng.lognormal(0, 0.1, (FILMS, 2))
        table[list(PLANTED), 0] *= 2  # X is worse there than elsewhere
        table[drawn == 0] = np.nan
        table = torch.tensor(table)
        hooks.tell("epoch_end", epoch=epoch, samples=run.samples, loss=table, errors_mm=table, metrics={})
    hooks.tell("run_end", run=run, result=SimpleNamespace(folder=tmp_path))
    with (tmp_path / "hard-films.csv").open(newline="") as file:
        return after_warmup, list(csv.DictReader(file))


def test_planted_label_errors_head_the_report_and_are_set_aside_but_slow_films_are_not(make_run, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="ceph"):
        _, rows = simulated(made(), make_run, tmp_path)
    assert len(rows) == FILMS
    assert {row["image_id"] for row in rows[: len(PLANTED)]} == {f"{i:03}" for i in PLANTED}
    assert {row["image_id"] for row in rows if row["set_aside"] == "1"} == {f"{i:03}" for i in PLANTED}
    assert all(row["worst_landmark"] == "X" and float(row["worst_error_mm"]) > 15 for row in rows[: len(PLANTED)])
    assert all(int(row["epochs_in_hardest"]) == int(row["epochs"]) == EPOCHS - 2 for row in rows[: len(PLANTED)])
    assert "film 000 stays hard" in caplog.text
    assert "look at their labels first: hard-films.csv" in caplog.text


def test_setting_films_aside_gives_their_draws_to_films_that_learn(make_run, tmp_path):
    with_rule, _ = simulated(made(), make_run, tmp_path)
    without, _ = simulated(made(patience=None), make_run, tmp_path)
    planted, hard = list(PLANTED), list(HARD)
    even = EPOCHS - 2
    assert without[planted].mean() > 1.3 * even
    assert with_rule[planted].mean() < 1.2 * even
    assert with_rule[hard].mean() > without[hard].mean() > even


def test_a_film_that_is_set_aside_returns_once_it_learns(make_run):
    run = make_run(films=5)
    plugin = made(warmup_epochs=0, patience=2, momentum=0.0)
    usual = [1.0, 1.0, 1.0, 1.0]
    hooks = watch(plugin, run, *[[*usual, 9.0]] * 3)
    assert plugin.memory.set_aside(2).tolist() == [False] * 4 + [True]
    assert weights_of(hooks, run, 3).tolist() == [1.0] * 5
    table = torch.tensor([*usual, 8.0])[:, None].repeat(1, len(run.landmarks))
    hooks.tell("epoch_end", epoch=3, samples=run.samples, loss=table, errors_mm=table, metrics={})
    assert not plugin.memory.set_aside(2).any()
    assert weights_of(hooks, run, 4)[4] > 1.1


def test_the_landmarks_of_a_film_that_is_set_aside_count_alike(make_run, make_batch):
    run = make_run(("X", "Y", "Z", "W"), films=3)
    plugin = made(warmup_epochs=0, patience=2, keep=2)
    hooks = watch(plugin, run, *[[1.0, 1.0, 9.0]] * 3)
    loss = torch.tensor([[1.0, 4.0, 3.0, 2.0]] * 3)
    found = hooks.product("landmark_weights", loss.shape, batch=make_batch(loss > 0), loss=loss)
    assert found.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0.5] * 4]


def test_the_warmup_teaches_errors_but_accuses_no_film(make_run, tmp_path):
    run = make_run(films=3)
    plugin = made(warmup_epochs=9, patience=1)
    hooks = watch(plugin, run, *[[1.0, 1.0, 9.0]] * 5)
    assert not plugin.memory.set_aside(1).any()
    hooks.tell("run_end", run=run, result=SimpleNamespace(folder=tmp_path))
    assert not list(tmp_path.iterdir())


def mislabel(films, names):
    """Give the landmarks of these training films each other's places, in the files of every reader."""
    for file in (films / "train" / "Annotations" / "Cephalometric Landmarks").rglob("*.json"):
        if file.stem in names:
            content = json.loads(file.read_text())
            places = [landmark["value"] for landmark in content["landmarks"]]
            for landmark, place in zip(content["landmarks"], reversed(places), strict=True):
                landmark["value"] = place
            file.write_text(json.dumps(content))


def test_mislabelled_films_of_a_real_run_head_its_report(tiny, tiny_set, tmp_path):
    films = tmp_path / "films"
    shutil.copytree(tiny_set, films)
    names = sorted(f.stem for f in (films / "train" / "Cephalograms").iterdir())
    planted = {names[1], names[6]}
    mislabel(films, planted)
    settings = {"epochs": 8, "lr": 3e-3}
    data = {"path": str(films), "augmentation": "none"}
    run = ceph.train(tiny(train=settings, data=data, plugins={"hard-mining": {}}), out=tmp_path / "run")
    with (run.folder / "hard-films.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image_id"] for row in rows[:2]} == planted
    assert float(rows[1]["times_median"]) > float(rows[2]["times_median"])


# --- settings and state -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "kept"), [(8, 8), (8.0, 8), (1, 1), (1.0, 1.0), (0.4, 0.4)])
def test_keep_is_a_number_or_a_share(given, kept):
    keep = HardMiningConfig(keep=given).keep
    assert keep == kept
    assert type(keep) is type(kept)


@pytest.mark.parametrize(
    "wrong",
    [
        {"keep": 0},
        {"keep": 1.5},
        {"keep": -0.1},
        {"uniform": 1.1},
        {"max_ratio": 0.5},
        {"momentum": 1.0},
        {"max_repeats": 0.9},
        {"patience": 0},
        {"landmark_power": -1},
        {"pixel_level": 0},
        {"pixel_weight": 0.5},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        HardMiningConfig(**wrong)


def test_more_landmarks_than_the_set_has_are_refused(make_run):
    with pytest.raises(ConfigError, match=r"plugins\.hard-mining\.keep: keeps 20 landmarks .* has 19"):
        watch(made(keep=20), make_run("isbi"))


@pytest.mark.parametrize("warmup", [8, "100%"])
def test_a_run_that_ends_within_the_warmup_is_told(make_run, caplog, warmup):
    with caplog.at_level(logging.INFO, logger="ceph"):
        watch(made(warmup_epochs=warmup), make_run(epochs=8))
    assert "nothing is mined" in caplog.text


def test_a_resumed_run_draws_what_the_other_would_have_drawn(make_run, tmp_path):
    run = make_run(films=3)
    settings = {"warmup_epochs": 0}
    hooks = watch(made(**settings), run, [2.0, NAN, 4.0], [1.0, 5.0, NAN])
    torch.save(hooks.state_dict(), tmp_path / "state.pt")
    resumed = watch(made(**settings), run)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(weights_of(resumed, run, 2), weights_of(hooks, run, 2))


def test_a_state_before_the_first_epoch_is_empty_and_loads(make_run):
    hooks = watch(made(), make_run())
    assert hooks.state_dict() == {"hard-mining": {}}
    hooks.load_state_dict({"hard-mining": {}})


def test_a_memory_of_other_films_is_an_error(make_run):
    hooks = watch(made(warmup_epochs=0), make_run(films=3), [1.0, 2.0, 3.0])
    with pytest.raises(PluginError, match="remembers 3 films, but the run trains on 4"):
        weights_of(hooks, make_run(films=4), 1)


EVERYTHING = {
    "hard-mining": {"warmup_epochs": 1, "pixels": True, "landmark_power": 1.0, "patience": 1, "max_repeats": 2.0},
    "weighted-loss": {"weights": "auto", "noise_aware": True, "ramp_epochs": 2},
}


def test_stopped_and_resumed_with_every_switch_on_a_run_ends_in_the_same_weights_and_report(tiny, tmp_path):
    three = {"epochs": 3, "lr": 3e-3}
    whole = ceph.train(tiny(plugins=EVERYTHING, train=three), out=tmp_path / "whole")
    half = ceph.train(tiny(plugins=EVERYTHING, train={**three, "stop_after": 2}), out=tmp_path / "half")
    config = half.folder / "config.yaml"
    config.write_text(config.read_text().replace("stop_after: 2", "stop_after: null"))
    resumed = ceph.resume(half.folder)
    assert same_weights(last_weights(whole.folder), last_weights(resumed.folder))
    reports = [(run.folder / "hard-films.csv").read_text() for run in (whole, resumed)]
    assert reports[0] == reports[1]
