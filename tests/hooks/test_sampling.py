"""Plugins that are asked for each film: of what is sent along, of further draws, of states, and of who is at fault."""

from __future__ import annotations

import multiprocessing

import cv2
import numpy as np
import pytest
import torch

from ceph.config.models import Config
from ceph.data.dataset import to_batch
from ceph.data.formats.base import DataSet
from ceph.data.loader import Loader
from ceph.data.plan import plan_epoch
from ceph.data.types import Sample
from ceph.data.warps import Warp
from ceph.errors import PluginError
from ceph.hooks.base import Plugin, hookimpl
from ceph.hooks.sampling import begun_state
from ceph.hooks.verbs import Hooks
from ceph.run.films import training_films

SIZE = (64, 48)


@pytest.fixture
def data(tmp_path):
    """Six films of two readers and three landmarks, of which the last is the first reader's alone."""
    samples = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 255, (96, 72)).astype(np.uint8))
        points = np.random.default_rng(number).uniform(20, 50, (2, 3, 2))
        valid = np.array([[True, True, True], [True, True, False]])
        samples.append(Sample(str(number), "train", str(number), "m", (96, 72), 0.5, points, valid, path))
    return DataSet(("A", "B", "C"), tuple(samples), ("one", "two"), "own")


def config(**settings):
    return Config.model_validate({"data": {"cache": "none", **settings}})


def batches(data, hooks, workers=0, state=None, epoch=0, **settings):
    films = training_films(data, config(**settings), hooks)
    plan = plan_epoch(6, 2, seed=0, epoch=epoch, size=SIZE)
    loader = Loader(films, workers)
    return [to_batch(item, torch.device("cpu")) for item in loader.load(plan.part(0, 1), state)]


class Sends(Plugin):
    @hookimpl
    def extras(self, sample, truth, look, rng):
        points, valid = truth
        window = look(points, 8.0, 4)
        return {"number": int(sample.id), "draw": rng.uniform(size=2), "window": window, "valid": valid}


class Again(Plugin):
    @hookimpl
    def second_draws(self):
        return ["again", "teacher"]


def test_what_a_plugin_sends_arrives_with_its_film_as_float32_or_int64(data):
    for batch in batches(data, Hooks({"sends": Sends()})):
        assert batch.extras["number"].tolist() == batch.index.tolist()
        assert {name: (part.dtype, tuple(part.shape)) for name, part in batch.extras.items()} == {
            "number": (torch.int64, (2,)),
            "draw": (torch.float32, (2, 2)),
            "window": (torch.float32, (2, 3, 4, 4)),
            "valid": (torch.int64, (2, 3)),
        }


def test_two_plugins_draw_from_generators_of_their_own(data):
    class Others(Plugin):
        @hookimpl
        def extras(self, rng):
            return {"other": rng.uniform(size=2)}

    alone, beside = (batches(data, Hooks(p))[0].extras for p in ({"s": Sends()}, {"a": Others(), "s": Sends()}))
    assert torch.equal(alone["draw"], beside["draw"])
    assert not torch.equal(beside["other"], beside["draw"])


def test_a_film_s_further_draws_are_changed_by_seeds_of_their_own_and_have_its_truth(data):
    plain = batches(data, Hooks({}))
    for batch, alone in zip(batches(data, Hooks({"a": Again(), "b": Again()})), plain, strict=True):
        assert sorted(batch.draws) == ["again", "teacher"]
        assert torch.equal(batch.image, alone.image)
        images = [batch.image, *(draw.image for draw in batch.draws.values())]
        assert not any(torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])
        for draw in batch.draws.values():
            on_film = [
                (torch.linalg.inv(m) @ torch.cat([p.double(), torch.ones(2, 3, 1)], -1).mT).mT[..., :2]
                for m, p in ((draw.film_to_network, draw.points), (batch.film_to_network, batch.points))
            ]
            both = draw.valid & batch.valid
            assert both.any()
            assert torch.allclose(on_film[0][both], on_film[1][both], atol=1e-3)


def test_a_film_has_its_readers(data):
    (first, *_) = batches(data, Hooks({}))
    assert first.reader.tolist() == [[-1, -1, 0]] * 2  # a mean, a mean, one reader's
    (first, *_) = batches(data, Hooks({}), truth="two")
    assert first.reader.tolist() == [[1, 1, -1]] * 2

    class Draws(Plugin):
        @hookimpl
        def truth(self, sample, rng):
            return sample.points[1], sample.valid[1], np.where(sample.valid[1], 1, -1)

    (first, *_) = batches(data, Hooks({"draws": Draws()}))
    assert first.reader.tolist() == [[1, 1, -1]] * 2


class Learns(Plugin):
    """Warps, transforms, truth and extras all follow a memory, which is written into at every turn."""

    def __init__(self, config=None):
        super().__init__(config)
        self.level = torch.zeros(1)

    def state_dict(self):
        return {"level": self.level}

    def load_state_dict(self, state):
        self.level = state["level"]

    @hookimpl
    def warps(self):
        class Zoom(Warp):
            def matrix(_, rng, size):  # noqa: N805 - the plugin is self
                return np.diag([1 + 0.05 * float(self.level), 1, 1.0])

        return [Zoom()]

    @hookimpl
    def augmentations(self, stage):
        import albumentations as A

        bright = float(self.level) / 10
        return [A.RandomBrightnessContrast((bright, bright), (0, 0), p=1)] if stage == "photometric" else []

    @hookimpl
    def truth(self, sample, rng):
        return sample.points[0] + float(self.level), sample.valid[0]

    @hookimpl
    def extras(self, sample):
        return {"level": self.level.numpy().copy()}


def same(one, other):
    return all(
        torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(one, other, strict=True) for name in PARTS
    ) and all(torch.equal(a.extras["level"], b.extras["level"]) for a, b in zip(one, other, strict=True))


PARTS = ("image", "points", "valid", "index", "mm_per_px", "film_to_network", "reader")


@pytest.mark.parametrize("workers", [0, 2])
def test_films_of_an_epoch_load_with_the_state_it_began_with_whatever_is_learned_in_it(data, workers):
    plugin = Learns()
    hooks = Hooks({"learns": plugin})
    loader = Loader(training_films(data, config(), hooks), workers)
    told = []
    for epoch in range(3):
        state = begun_state(hooks)
        plan = plan_epoch(6, 2, seed=0, epoch=epoch, size=SIZE)
        seen = []
        for item in loader.load(plan.part(0, 1), state):
            plugin.level += 1  # in place
            seen.append(to_batch(item, torch.device("cpu")))
        assert {float(level) for batch in seen for level in batch.extras["level"]} == {3.0 * epoch}
        told.append(seen)
        fresh = Learns()
        fresh.load_state_dict({"level": torch.tensor([3.0 * epoch])})
        assert same(seen, batches(data, Hooks({"learns": fresh}), epoch=epoch))
    assert told[1][0].image.mean() > told[0][0].image.mean()


def test_more_workers_than_batches_load_the_next_epoch_too(data):
    plugin = Learns()
    hooks = Hooks({"learns": plugin})
    loader = Loader(training_films(data, config(), hooks), 2)
    plan = plan_epoch(6, 3, seed=0, epoch=0, size=SIZE).part(0, 1)
    for level, planned in ((1, plan[:1]), (2, plan), (3, plan[:1])):
        plugin.level = torch.full((1,), float(level))
        items = list(loader.load(planned, begun_state(hooks)))
        assert {float(n) for item in items for n in item.extras["level"]} == {float(level)}


def test_only_the_state_of_plugins_that_are_asked_for_films_is_kept(data):
    class Other(Plugin):
        @hookimpl
        def step_end(self):
            pass

        def state_dict(self):
            raise AssertionError("asked")

        def load_state_dict(self, state):
            raise AssertionError("told")

    hooks = Hooks({"learns": Learns(), "other": Other()})
    assert begun_state(hooks) == {"learns": {"level": torch.zeros(1)}}
    assert len(batches(data, hooks, state=begun_state(hooks))) == 3


def answering(answer):
    class Answers(Plugin):
        @hookimpl
        def extras(self, sample):
            return answer(sample)

    return Answers()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda sample: {"x": np.zeros(1 + int(sample.id) % 2)}, "one shape"),
        (lambda sample: {"x": 1 if sample.id in "024" else 1.5}, "one shape"),
        (lambda sample: {} if sample.id in "024" else {"x": 1}, "gave 'x' for film"),
        (lambda sample: {"x": "text"}, "no array"),
        (lambda sample: {"x": [[1], [2, 3]]}, "no array"),
        (lambda sample: 3, "a dict"),
        (lambda sample: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_stacked_is_the_plugin_s_fault(data, answer, words, workers):
    with pytest.raises(PluginError, match=words) as caught:
        batches(data, Hooks({"odd": answering(answer)}), workers)
    assert "plugin 'odd', hook extras" in str(caught.value)
    assert not multiprocessing.active_children()  # they end at once


def test_a_name_that_two_plugins_send_names_both(data):
    hooks = Hooks({"one": answering(lambda _: {"x": 1}), "two": answering(lambda _: {"x": 1})})
    with pytest.raises(PluginError, match=r"plugin 'two'.*gave 'x', which plugin 'one' gives too"):
        batches(data, hooks)


def test_a_draw_without_a_name_is_the_plugin_s_fault(data):
    class Odd(Plugin):
        @hookimpl
        def second_draws(self):
            return [3]

    with pytest.raises(PluginError, match="plugin 'odd', hook second_draws: gave int 3"):
        training_films(data, config(), Hooks({"odd": Odd()}))


def test_a_plugin_that_cannot_be_copied_is_named(data):
    import threading

    class Locked(Learns):
        def __init__(self, config=None):
            super().__init__(config)
            self.lock = threading.Lock()

    with pytest.raises(PluginError, match="plugin 'locked': it cannot be copied"):
        batches(data, hooks := Hooks({"locked": Locked()}), state=begun_state(hooks))
