"""tta: the views are those of its settings, either way; nothing set changes nothing, and none is a mirror."""

import json
import shutil

import pytest
import torch
from pydantic import ValidationError

import ceph
from ceph.config.load import from_values
from ceph.evaluation.means import viewed
from ceph.hooks.verbs import Hooks
from ceph.runfolder import read_figures
from ceph_plugins.tta import Tta, TtaConfig

POINTS = torch.tensor([[40.3, 60.0], [81.7, 33.2], [100.0, 140.6]])  # away from the middle


def films_with_blobs(points, size=(160, 128), sigma=10.0):
    """Films [B, 1, H, W], bright about one network px [B, 2] each."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    dx, dy = x - points[:, :1, None], y - points[:, 1:, None]
    return torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))[:, None]


def views(**settings):
    return [view for _, listed in Hooks({"tta": Tta(TtaConfig(**settings))}).each("views") for view in listed]


def test_each_kind_of_view_is_two_and_none_is_a_mirror():
    films = films_with_blobs(POINTS)
    seen = [viewed(films, view)[0] for view in views(gamma=1.2)]
    assert len(seen) == 6
    for image in seen:
        assert not torch.equal(image, films)
        for mirrored in (films.flip(-1), films.flip(-2)):
            assert ((image - films).square().sum((1, 2, 3)) < (image - mirrored).square().sum((1, 2, 3))).all()


def test_the_film_is_moved_as_far_as_the_setting_says_either_way():
    films = films_with_blobs(POINTS)
    for view, by in zip(views(shift_px=3.0, rotate_deg=0), (3.0, -3.0), strict=True):
        moved = films_with_blobs(POINTS + by)
        torch.testing.assert_close(viewed(films, view)[0][..., 8:-8, 8:-8], moved[..., 8:-8, 8:-8], rtol=0, atol=1e-3)


def test_gamma_is_a_power_and_its_inverse():
    films = films_with_blobs(POINTS)
    up, down = (viewed(films, view)[0] for view in views(shift_px=0, rotate_deg=0, gamma=1.5))
    assert torch.equal(up, films**1.5)
    torch.testing.assert_close(down**1.5, films)


def test_nothing_set_is_no_view():
    assert views(shift_px=0, rotate_deg=0) == []


def test_it_is_evaluated_with_while_training_and_after(tiny, tmp_path):
    run = ceph.train(tiny(plugins={"tta": {"rotate_deg": 0.0}}, train={"epochs": 1}), out=tmp_path / "run")
    line = json.loads((run.folder / "metrics.jsonl").read_text())
    assert line["validation"]["mre_mm"] == run.metrics["mre_mm"]


def test_a_run_that_was_trained_without_it_can_be_evaluated_with_it(tiny_run, tiny, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    plain = ceph.load(run)
    assert "tta" not in plain.hooks.names
    config = from_values(tiny(plugins={"tta": {}}))
    assert config.create_plugins()["tta"].config == TtaConfig()
    before = read_figures(run)["validation"]["mre_mm"]
    views = ceph.load(run, settings=["plugins.tta.rotate_deg=1"]).evaluate()[0]
    assert views["mre_mm"] > 0
    assert views["mre_mm"] != before


@pytest.mark.parametrize("wrong", [{"kind": "heatmap"}, {"shift_px": -1}, {"rotate_deg": 90}, {"gamma": 0.5}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TtaConfig(**wrong)
