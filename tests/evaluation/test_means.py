"""Maps of several networks, views and scales are laid where the film is, and each pixel is the mean of who sees it."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ceph.data.dataset import bare_item, collate, film_points, to_batch
from ceph.data.geometry import similarity
from ceph.errors import PluginError
from ceph.evaluation.means import Ensemble, Member, View, viewed
from ceph.hooks.blame import Blame
from ceph.model.codec import GaussianDecoder

CPU, OWNER = torch.device("cpu"), Blame("mine", "1.0", "members")
SIZE, AT = (160, 112), np.array([91.0, 187.0])  # network px; a blob's place in film px


def film(shape=(311, 203), at=AT, sigma=20.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))).astype(np.uint8)


class Shown(nn.Module):
    """A network that shows its input at stride 4, sharpened: its logits."""

    def __init__(self, gain=12.0, landmarks=1):
        super().__init__()
        self.gain, self.landmarks = gain, landmarks

    def forward(self, images):
        maps = F.avg_pool2d(images, 4, ceil_mode=True, count_include_pad=False)
        return (self.gain * (maps - 0.5)).repeat(1, self.landmarks, 1, 1)


def mean(ensemble, image=None):
    image = film() if image is None else image
    items = [collate([bare_item(image, size, 1)]) for size in ensemble.sizes]
    with torch.no_grad():
        return ensemble.maps(items, [to_batch(item, CPU).image for item in items], nullcontext)[0], items[0]


def ensemble(*members, views=(), scales=(1.0,), kind="distribution", model=None):
    first = Member(model or Shown(), kind=kind)
    return Ensemble([(first, None), *((m, OWNER) for m in members)], [(v, OWNER) for v in views], SIZE, scales)


def place(maps, item):
    """Where the blob is found, in film px."""
    found, _ = GaussianDecoder("heatmap", 3.0, 4, "dark").decode(maps / maps.max(), SIZE)
    return film_points(found[0, 0].double().numpy(), item.film_to_network[0].numpy())


TURNED = View(lambda size: similarity(5.0, 1.0, (3.0, -2.0), size))
KEYSTONE = View(np.array([[1, 0, 2.0], [0, 1, -1.0], [4e-4, 0, 1]]))


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
@pytest.mark.parametrize(
    "parts",
    [
        {"scales": (1.0, 0.85, 1.13, 1.5)},
        {"scales": (0.9, 1.3)},
        {"views": [TURNED]},
        {"views": [KEYSTONE, View(photometric=lambda images: images**1.3)]},
        {"views": [TURNED], "scales": (1.0, 0.75), "members": [Member(Shown(9), (123, 97)), Member(Shown())]},
    ],
    ids=["scales", "without 1", "turned", "keystone", "all"],
)
def test_a_blob_stays_where_it_is(kind, parts):
    parts = dict(parts)
    members = [Member(m.module, m.size, kind) for m in parts.pop("members", ())]
    maps, item = mean(ensemble(*members, kind=kind, **parts))
    assert np.abs(place(maps, item) - AT).max() < 0.8  # film px; a tenth of a map's pixel


def test_a_distribution_still_sums_to_one_and_a_heatmap_keeps_its_peak():
    assert mean(ensemble(scales=(1.0, 0.75, 1.3)))[0].sum().item() == pytest.approx(1, abs=1e-3)
    alone, both = (mean(ensemble(kind="heatmap", views=views))[0] for views in ((), (TURNED,)))
    assert both.max().item() == pytest.approx(alone.max().item(), rel=0.02)


def test_the_model_alone_is_passed_on_bit_for_bit():
    maps, item = mean(ensemble())
    assert torch.equal(maps, Shown()(to_batch(item, CPU).image).flatten(2).softmax(-1).view_as(maps))


def test_near_the_edge_only_those_that_see_a_pixel_count():
    level = lambda images: F.avg_pool2d(images, 4) * 0  # noqa: E731 - all maps are sigmoid(0)
    half = ensemble(model=level, kind="heatmap", views=[View(lambda size: similarity(0, 1, (40, 0), size))])
    torch.testing.assert_close(mean(half)[0], torch.full((1, 1, 40, 28), 0.5))


def test_what_is_at_p_is_at_matrix_p_in_the_view():
    images = torch.zeros(1, 1, 40, 40)
    images[0, 0, 10, 20] = 1
    seen, _ = viewed(images, View(similarity(0, 1, (5, -3), (40, 40))))
    assert seen[0, 0, 7, 25] == pytest.approx(1, abs=1e-4)


class Half(Shown):
    """Knows the first of two landmarks only."""

    def forward(self, images):
        maps = super().forward(images)
        return torch.cat([maps[:, :1], torch.full_like(maps[:, 1:], torch.nan)], 1)


@pytest.mark.parametrize("size", [None, (120, 84)])
def test_a_member_leaves_what_it_does_not_know_to_the_others(size):
    alone, _ = mean(ensemble(model=Shown(landmarks=2)))
    both, _ = mean(ensemble(Member(Half(3, landmarks=2), size), model=Shown(landmarks=2)))
    assert torch.equal(both[:, 1], alone[:, 1])
    assert not torch.allclose(both[:, 0], alone[:, 0], rtol=0.1)


def test_a_model_without_numbers_is_not_hidden_by_its_members():
    broken = ensemble(Member(Shown()), model=lambda images: Shown()(images) * torch.nan)
    assert mean(broken)[0].isnan().all()


def test_each_size_is_loaded_once_and_that_of_the_frame_comes_first():
    made = ensemble(Member(Shown(), (80, 56)), Member(Shown()), scales=(1.0, 0.5))
    assert made.sizes == [(160, 112), (80, 56), (40, 28)]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"members": [Member(Shown(landmarks=3))]}, "its member gave Tensor"),
        ({"views": [View(np.zeros((3, 3)))]}, "an invertible"),
        ({"views": [View(photometric=lambda images: images[..., 1:])]}, "its view gave Tensor"),
    ],
)
def test_what_is_wrong_with_a_part_names_the_plugin(parts, words):
    parts = dict(parts)
    with pytest.raises(PluginError, match=f"plugin 'mine' 1.0, hook members: .*{words}"):
        mean(ensemble(*parts.pop("members", ()), **parts))
