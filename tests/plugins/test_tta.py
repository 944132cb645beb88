"""tta: views are laid back where they came from, nothing set changes nothing, and the activation is the loss's."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

import ceph
from ceph.config.load import from_values
from ceph.data.geometry import similarity
from ceph.hooks.verbs import Hooks
from ceph.model.codec import GaussianCodec, activate
from ceph_plugins.tta import Tta, TtaConfig, seen_through

STRIDE = 4


def made(**settings):
    return Tta(TtaConfig(**settings))


class Finder(nn.Module):
    """A perfect network: a film's grey values, averaged to the map, are its logits."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return 12 * F.avg_pool2d(images, STRIDE, ceil_mode=True, count_include_pad=False)


def film_with_blobs(points, size=(160, 128), sigma=10.0):
    """Films [B, 1, H, W], bright about one network px [B, 2] each."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    dx, dy = x - points[:, :1, None], y - points[:, 1:, None]
    return torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))[:, None]


POINTS = torch.tensor([[40.3, 60.0], [81.7, 33.2], [100.0, 140.6], [63.5, 79.5]])


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
@pytest.mark.parametrize(
    "views",
    [{}, {"shift": 2.0, "rotate_deg": 0.0}, {"shift": 0.0, "rotate_deg": 5.0}, {"gamma": 1.3}, {"shift": 0.25}],
    ids=str,
)
def test_a_blob_stays_where_it_is_to_a_tenth_of_a_map_pixel(kind, views):
    images, codec = film_with_blobs(POINTS), GaussianCodec(kind, 2.5, STRIDE, "dark")
    shift = 0 if kind == "distribution" else 6  # a heatmap's logits, low in the background
    model = Finder()
    plain = codec.decode(activate(model(images) - shift, kind), (160, 128))[0]
    hooks = Hooks({"tta": made(**views)})
    asked = {"images": images, "activate": partial(activate, kind=kind)}
    maps = hooks.one("predict", None, model=lambda i: model(i) - shift, **asked)
    found = codec.decode(maps, (160, 128))[0]
    torch.testing.assert_close(found[:, 0], POINTS, rtol=0, atol=0.2 * STRIDE)  # the finder itself
    torch.testing.assert_close(found, plain, rtol=0, atol=0.1 * STRIDE)


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
def test_without_any_view_the_answer_is_the_core_s_bit_for_bit(kind):
    images = torch.rand(2, 1, 48, 36, generator=torch.Generator().manual_seed(0))
    activated = partial(activate, kind=kind)
    found = made(shift=0, rotate_deg=0).predict(model=Finder(), images=images, activate=activated)
    assert torch.equal(found, activate(Finder()(images), kind))


def test_each_kind_of_view_costs_two_passes_and_no_view_is_a_mirror():
    model, films = Finder(), film_with_blobs(POINTS[:3])  # away from the middle
    made(gamma=1.2).predict(model=model, images=films, activate=torch.sigmoid)
    assert len(model.seen) == 7
    for view in model.seen:
        for mirrored in (films.flip(-1), films.flip(-2)):
            assert ((view - films).square().sum((1, 2, 3)) < (view - mirrored).square().sum((1, 2, 3))).all()


def test_a_map_that_is_moved_there_and_back_is_the_same_inside():
    smooth = film_with_blobs(POINTS / STRIDE, (40, 32), sigma=4.0)
    matrix = similarity(7.0, 1.0, (9.0, -5.0), (160, 128))
    back = seen_through(seen_through(smooth, matrix, STRIDE), np.linalg.inv(matrix), STRIDE)
    torch.testing.assert_close(back[..., 8:-8, 8:-8], smooth[..., 8:-8, 8:-8], rtol=0, atol=0.03)


def test_film_and_map_move_together_also_where_the_map_reaches_beyond_the_film():
    size, points = (158, 126), torch.tensor([[60.0, 90.0]])
    matrix = similarity(5.0, 1.0, (3.0, 2.0), size)
    moved = F.avg_pool2d(seen_through(film_with_blobs(points, size), matrix, 1), STRIDE, ceil_mode=True)
    assert moved.shape[-2:] == (40, 32)
    back = seen_through(moved, np.linalg.inv(matrix), STRIDE)
    codec = GaussianCodec("heatmap", 2.5, STRIDE, "dark")
    torch.testing.assert_close(codec.decode(back, size)[0][0], points, rtol=0, atol=0.1 * STRIDE)


def test_near_the_edge_only_the_views_that_see_a_pixel_count():
    images = torch.full((1, 1, 64, 64), 0.5)
    plugin, blank = made(shift=4.0, rotate_deg=0), lambda i: F.avg_pool2d(i, 4) * 0
    maps = plugin.predict(model=blank, images=images, activate=torch.sigmoid)
    torch.testing.assert_close(maps, torch.full((1, 1, 16, 16), 0.5))


def test_a_run_of_heatmaps_is_evaluated_with_the_sigmoid_while_training_and_after(tiny, tmp_path):
    heatmaps = {"loss": {"name": "adaptive-wing"}, "train": {"epochs": 1}}
    run = ceph.train(tiny(plugins={"tta": {"rotate_deg": 0.0}}, **heatmaps), out=tmp_path / "run")
    line = json.loads((run.folder / "metrics.jsonl").read_text())
    assert line["validation"]["mre_mm"] == run.metrics["mre_mm"]
    trained = ceph.load(run.folder)
    with torch.no_grad():
        maps = trained.evaluator.activations(trained.model, torch.rand(1, 1, 64, 64))
    assert maps.flatten(2).sum(-1).max() > 1.5 or maps.max() < 0.5  # no distribution


def test_a_run_that_was_trained_without_it_can_be_evaluated_with_it(tiny, tmp_path):
    run = ceph.train(tiny(train={"epochs": 1}), out=tmp_path / "run")
    plain = ceph.load(run.folder)
    assert "tta" not in plain.hooks.names
    config = from_values(tiny(plugins={"tta": {}}))
    assert config.create_plugins()["tta"].config == TtaConfig()
    views = ceph.load(run.folder, settings=["plugins.tta.rotate_deg=1"]).evaluate()[0]
    assert views["mre_mm"] > 0
    assert views["mre_mm"] != run.metrics["mre_mm"]


@pytest.mark.parametrize("wrong", [{"kind": "heatmap"}, {"shift": -1}, {"rotate_deg": 90}, {"gamma": 0.5}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TtaConfig(**wrong)
