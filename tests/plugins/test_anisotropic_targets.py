"""anisotropic-targets: the readers' covariance is found and drawn, round ones are the core's, and points come back."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import ceph
from ceph.data.types import Batch
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph.model.codec import DECODERS, GaussianDecoder, GaussianTargets
from ceph_plugins.anisotropic_targets import (
    AnisotropicGaussians,
    AnisotropicTargets,
    AnisotropicTargetsConfig,
    at_least,
    reader_covariance_mm,
)

SIZE, MAP = (256, 192), (64, 48)
LONG = np.array([[9.0, 3.0], [3.0, 4.0]])  # map px^2


def core(kind="distribution", sigma=1.5):
    return GaussianTargets(kind, sigma, 4)


def targets(covariance, largest=3.0, **of_core):
    return AnisotropicGaussians(core(**of_core), np.asarray(covariance), SIZE, largest)


def batch(points, size=SIZE):
    """A batch of images of `size` with these points [B, K, 2]."""
    return Batch(torch.zeros(len(points), 1, *size), points, *(torch.zeros(len(points)),) * 4)


def films(run, off_mm, readers=2):
    """The run with films whose readers are `off_mm` [N, R, K, 2] from a common point."""
    spacing = run.samples[0].mm_per_px
    points = [np.full((19, 2), 300.0) + off / spacing for off in off_mm]
    made = [
        dataclasses.replace(run.samples[0], points=p, valid=np.ones(p.shape[:2], dtype=bool), id=str(i))
        for i, p in enumerate(points)
    ]
    return dataclasses.replace(run, samples=tuple(made))


@pytest.mark.parametrize("readers", [2, 3])
def test_the_covariance_of_the_readers_is_found_in_mm(make_run, readers):
    rng = np.random.default_rng(0)
    truth = np.array([[1.0, 0.5], [0.5, 0.8]])
    off = rng.multivariate_normal([0, 0], truth, size=(800, readers, 19))
    found, freedom = reader_covariance_mm(films(make_run(), off).samples)
    assert (freedom == 800 * (readers - 1)).all()
    np.testing.assert_allclose(found, np.broadcast_to(truth, found.shape), atol=0.25)
    np.testing.assert_allclose(found.mean(axis=0), truth, atol=0.05)


def test_what_one_reader_did_not_mark_is_no_disagreement(make_run):
    run = films(make_run(), np.zeros((4, 2, 19, 2)))
    valid = np.ones((2, 19), dtype=bool)
    valid[1, 3] = False
    points = np.where(valid[..., None], run.samples[0].points, np.nan)
    found, freedom = reader_covariance_mm([dataclasses.replace(s, points=points, valid=valid) for s in run.samples])
    assert freedom[3] == 0
    assert freedom[4] == 4
    assert not found.any()


def test_widths_are_bounded_along_their_own_axes():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    found = at_least((turn @ np.diag([0.01, 100.0]) @ turn.T)[None], 1.5, 4.5)[0]
    np.testing.assert_allclose(turn.T @ found @ turn, np.diag([1.5**2, 4.5**2]), atol=1e-9)


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
def test_a_round_target_of_sigma_px_is_the_core_s_own(kind):
    points = torch.tensor([[[100.0, 80.0], [51.3, 201.7]]])
    mine = targets([1.5**2 * np.eye(2)] * 2, kind=kind)
    assert torch.allclose(mine.encode(batch(points), MAP), core(kind).encode(batch(points), MAP), atol=1e-6)


def moments(maps):
    """Mean [2] and covariance [2, 2] of one map [h, w], in map px."""
    y, x = np.mgrid[: maps.shape[0], : maps.shape[1]]
    at, mass = np.stack([x, y], -1).reshape(-1, 2), maps.double().numpy().ravel()
    mean = mass @ at / mass.sum()
    return mean, (mass[:, None] * (at - mean)).T @ (at - mean) / mass.sum()


def test_a_target_has_the_covariance_and_the_point_and_a_small_batch_has_it_in_proportion():
    mine = targets([LONG], largest=9, sigma=0.5)
    mean, covariance = moments(mine.encode(batch(torch.tensor([[[97.5, 121.5]]])), MAP)[0, 0])
    np.testing.assert_allclose(mean, [24, 30], atol=1e-3)
    np.testing.assert_allclose(covariance, LONG, atol=1e-2)
    half = mine.encode(batch(torch.tensor([[[49.5, 61.5]]]), (128, 96)), (32, 24))[0, 0]
    np.testing.assert_allclose(moments(half)[1], LONG / 4, atol=0.05)


def test_at_another_size_the_readers_part_shrinks_and_no_target_is_narrower_than_the_core_s():
    half = (SIZE[0] // 2, SIZE[1] // 2)
    mine = targets([np.diag([16.0, 36.0]), np.eye(2)], sigma=1.5)
    np.testing.assert_allclose(mine.covariance(SIZE), [np.diag([16, 4.5**2]), 2.25 * np.eye(2)])
    np.testing.assert_allclose(mine.covariance(half), [np.diag([4, 9]), 2.25 * np.eye(2)])
    points = torch.tensor([[[50.0, 40.0], [31.3, 81.7]]])
    drawn, of_core = (t.encode(batch(points, half), (MAP[0] // 2, MAP[1] // 2)) for t in (mine, core()))
    assert torch.allclose(drawn[:, 1], of_core[:, 1], atol=1e-6)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
def test_points_come_back_from_their_targets(kind, decoder):
    points = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([90.0, 150.0]) + 50
    mine = targets([LONG, 2.25 * np.eye(2), LONG[::-1, ::-1]], kind=kind)
    found, score = GaussianDecoder(kind, 1.5, 4, decoder).decode(mine.encode(batch(points), MAP), SIZE)
    off_px = {"argmax": 4, "dark": 0.1, "local-soft-argmax": 0.5}  # network px, 4 to a map px
    assert (found - points).abs().max() < off_px[decoder]
    assert ((score > 0.5) & (score <= 1)).all()


def test_a_set_without_two_readers_is_refused(make_run):
    run = films(make_run(), np.zeros((9, 1, 19, 2)))
    with pytest.raises(ConfigError, match="at most 0 training films have two readers of one landmark"):
        Hooks({"anisotropic-targets": AnisotropicTargets()}).tell("check_run", run=run)


def test_a_landmark_is_drawn_as_its_readers_differ_in_network_pixels(make_run):
    rng = np.random.default_rng(1)
    off = np.zeros((400, 2, 19, 2))
    off[:, :, 5] = rng.normal(0, [3.0, 0.01], (400, 2, 2))
    run = films(make_run(), off)  # 960 x 774 film px of 0.25 mm in 480 x 384: 2 network px a mm, 0.5 map px
    plugin = AnisotropicTargets(AnisotropicTargetsConfig(largest=9))
    made = plugin.build_targets(run=run, default=lambda: core(sigma=1.0))
    covariance = made.covariance(run.size)
    scale = min(480 / 960, 384 / 774) / 0.25 / 4
    np.testing.assert_allclose(np.sqrt(covariance[5].diagonal()), [3 * scale, 1.0], rtol=0.1)
    np.testing.assert_allclose(covariance[4], np.eye(2), atol=1e-6)


def test_a_run_trains_with_it_and_is_evaluated_by_it(tiny, tmp_path):
    run = ceph.train(tiny(plugins={"anisotropic-targets": {"spread": 4.0}}), out=tmp_path / "run")
    assert run.metrics["mre_mm"] > 0
    assert "sigma along the longer axis" in (run.folder / "log.txt").read_text()


@pytest.mark.parametrize("wrong", [{"spread": 0}, {"largest": 0.5}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        AnisotropicTargetsConfig(**wrong)
