"""zoom: windows of the film itself, displaced about the truth, teach a second network to find points where they are."""

import dataclasses
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.errors import Interrupted
from ceph.report.progress import Silent
from ceph_plugins.zoom import Refiner, SecondLook, Zoom, ZoomConfig, mean_about, views_of

SMALL = {"windows": 2, "px": 32, "mm": 16, "width": 8}


class StopAt(Silent):
    def __init__(self, steps):
        self.left = steps

    def step(self, epoch, done, total, loss):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


class Reads(torch.nn.Module):
    """In place of the second network: the map of every landmark is bright where the window is."""

    steps, spread_mm = 1, torch.full((3,), 5.0)

    def forward(self, windows):
        return 200 * torch.nn.functional.avg_pool2d(windows[:, None], 2).expand(-1, 3, -1, -1)


class Film:
    """A `look` at a film with one bright spot at `place`, network px of `mm_per_px`."""

    def __init__(self, place, mm_per_px):
        self.place, self.mm_per_px = torch.tensor(place), torch.full((1,), mm_per_px)

    def __call__(self, centre, mm, px):
        at = (self.place - centre) * self.mm_per_px / (mm / px) + (px - 1) / 2
        along = torch.arange(px)
        x, y = (torch.exp(-(along - at[..., axis, None]).square() / 8) for axis in (0, 1))
        return y[..., :, None] * x[..., None, :]


@pytest.mark.parametrize("maps", [2048, 1])
def test_a_displaced_point_goes_back_whatever_the_spacing_and_however_many_at_a_time(maps, monkeypatch):
    monkeypatch.setattr("ceph_plugins.zoom.MAPS", maps)
    points = torch.tensor([[[41.0, 30.0], [40.0, 30.0], [39.0, 33.5]]])
    model = SimpleNamespace(zoom=Reads())
    found, scores = Refiner(24.0, 96).refine(points, torch.ones(1, 3), Film((40.0, 31.0), 2.5), model)
    assert torch.allclose(found, torch.tensor([40.0, 31.0]).expand(1, 3, 2), atol=0.02)
    assert scores.min() > 0.9


def test_where_the_second_look_sees_nothing_the_score_says_so():
    points, film = torch.full((1, 3, 2), 40.0), Film((400.0, 400.0), 2.5)
    assert Refiner(24.0, 96).refine(points, torch.ones(1, 3), film, SimpleNamespace(zoom=Reads()))[1].max() < 0.1


def test_of_two_spots_alike_it_takes_the_one_that_the_first_look_believes():
    class Two(Film):
        def __call__(self, centre, mm, px):
            return super().__call__(centre, mm, px) + super().__call__(centre - torch.tensor([3.0, 0.0]), mm, px)

    points = torch.tensor([[[40.5, 31.0], [42.5, 31.0], [40.0, 31.0]]])
    found, _ = Refiner(24.0, 96).refine(points, torch.ones(1, 3), Two((40.0, 31.0), 2.5), SimpleNamespace(zoom=Reads()))
    assert found[0, :, 0].tolist() == pytest.approx([40, 43, 40], abs=0.3)


def test_the_last_digits_of_the_first_pass_change_nothing():
    points, film, model = torch.full((1, 3, 2), 40.0), Film((41.0, 40.5), 2.5), SimpleNamespace(zoom=Reads())
    found = [Refiner(24.0, 96).refine(points + off, torch.ones(1, 3), film, model) for off in (0.0, 0.01)]
    assert all(map(torch.equal, *found))


def test_what_has_not_learned_moves_nothing():
    model = SimpleNamespace(zoom=SecondLook("test_resnet", 3, 8, 4.0, 1.5))
    points, scores = torch.rand(1, 3, 2), torch.rand(1, 3)
    found = Refiner(24.0, 96).refine(points, scores, None, model)
    assert torch.equal(found[0], points)
    assert torch.equal(found[1], scores)


def test_two_of_the_three_channels_do_not_know_the_exposure():
    windows = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0))
    bright, dark = views_of(windows, 9), views_of(0.2 + 0.5 * windows, 9)
    assert torch.allclose(bright[:, 1:], dark[:, 1:], atol=1e-3)
    assert bright.min() >= 0
    assert bright.max() <= 1


def test_displacements_are_as_wide_as_the_first_pass_errs():
    plugin = Zoom(ZoomConfig(widen=1, windows=1))
    errors = np.random.default_rng(0).normal(0, (1.0, 3.0), (2, 4000, 2))
    plugin.epoch_end(torch.tensor(np.hypot(*errors)))
    assert plugin.spread_mm.tolist() == pytest.approx([1, 3], rel=0.05)
    plugin.epoch_end(torch.full((5, 2), torch.nan))
    again = Zoom(ZoomConfig())
    again.load_state_dict(plugin.state_dict())
    assert again.spread_mm.tolist() == pytest.approx([1, 3], rel=0.05)


def test_the_loss_is_least_where_the_truth_is_and_counts_every_landmark_in_a_window(make_batch):
    plugin, model = Zoom(ZoomConfig(windows=1, px=96, mm=24.0)), SimpleNamespace(zoom=Reads())
    film, centre = Film((40.0, 31.0), 2.5), torch.tensor([[42.0, 31.0]])

    def losses(*truth):
        batch = make_batch(torch.tensor([[True, True, False]]))
        true = torch.tensor([truth[0]])
        extras = {
            "zoom_windows": film(centre[None], 24.0, 96),
            "zoom_which": torch.tensor([[0]]),
            "zoom_places": torch.stack([true, centre])[None],
        }
        points = torch.tensor([[*truth, (40.0, 31.0)]])
        batch = dataclasses.replace(batch, points=points, mm_per_px=film.mm_per_px, extras=extras)
        outputs = {"pyramid": (torch.zeros(1),)}
        return plugin.landmark_losses(batch, batch.image, model, outputs)["zoom"][0].tolist()

    right, off, far = (losses((40.0, 31.0), other) for other in ((40.0, 31.0), (41.0, 31.0), (90.0, 31.0)))
    assert right[0] == pytest.approx(right[1])
    assert off[1] > right[1] + 1  # 2.5 mm: half of it is distance
    assert far[1] == right[2] == 0  # outside the window, and not valid


def test_the_mean_about_a_pixel_is_that_of_the_square():
    x = torch.rand(2, 1, 9, 12)
    torch.testing.assert_close(mean_about(x, 5), F.avg_pool2d(x, 5, 1, 2, count_include_pad=False))


def test_neither_workers_nor_a_stop_within_an_epoch_change_a_bit(tiny, tmp_path):
    def config(workers):
        return tiny(data={"workers": workers}, plugins={"zoom": {**SMALL, "begin": 1}})

    whole = last_weights(ceph.train(config(0), out=tmp_path / "whole").folder)
    with pytest.raises(Interrupted):
        ceph.train(config(2), out=tmp_path / "run", watcher=StopAt(5))  # the second step of the second epoch's three
    ceph.resume(tmp_path / "run")
    assert same_weights(whole, last_weights(tmp_path / "run"))
    assert int(whole["zoom.steps"]) == 3  # none of the first epoch
