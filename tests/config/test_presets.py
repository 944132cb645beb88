"""The presets of fine-tuning do what they say: a run goes on from a run's weights, at the rate that was asked for."""

from __future__ import annotations

import json

import pytest
import torch
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.config.dump import dump_yaml
from ceph.config.load import from_values, resolve
from ceph.training import checkpoint

SMALL = ["data.size=[64, 64]", "model.backbone=test_resnet", "model.weights=none", "model.width=8", "train.device=cpu"]


@pytest.fixture(scope="module")
def heatmap_run(tiny, tmp_path_factory):
    """A run trained on heatmaps at a high rate."""
    config = tiny(loss={"name": "adaptive-wing"}, train={"lr": 3e-3})
    return ceph.train(config, out=tmp_path_factory.mktemp("heatmap") / "first").folder


def optimiser_rates(folder):
    return [
        group["lr"] for group in checkpoint.load(folder / "checkpoints", checkpoint.LAST)["optimizer"]["param_groups"]
    ]


def logged_rates(folder):
    return [json.loads(line)["lr"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_fine_tune_hard_is_what_a_hand_patched_script_asked_for_in_vain():
    resolved = resolve(preset="fine-tune-hard")
    train = resolved.config.train
    assert (train.epochs, train.warmup_epochs.epochs(20), train.precision) == (20, 2.0, "auto")
    assert train.lr == pytest.approx(resolve(preset="base").config.train.lr / 10)
    assert (resolved.config.loss.name, resolved.config.target_kind) == ("adaptive-wing", "heatmap")
    assert list(resolved.plugins) == ["weighted-loss"]


def test_fine_tune_hard_over_a_run_s_config_keeps_its_data_network_and_weights(tiny, tmp_path):
    first = tiny(plugins={"weighted-loss": {"weights": {"Go": 3.0}}}, train={"stop_after": 1, "epochs": 60})
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(from_values(first).own_values(), {}))
    before, after = (resolve(file, preset=name).config for name in (None, "fine-tune-hard"))
    assert (after.data, after.model, after.train.batch_size) == (before.data, before.model, 4)
    assert after.plugins["weighted-loss"]["weights"] == {"Go": 3.0}
    assert (after.train.epochs, after.train.stop_after) == (20, None)


def test_a_run_of_cross_entropy_keeps_its_loss_where_it_is_told_to():
    assert resolve(preset="fine-tune-hard", settings=["loss.name=cross-entropy"]).config.target_kind == "distribution"


@pytest.mark.parametrize("asked", [None, 1e-6])
def test_the_rate_that_is_used_is_the_one_asked_for_and_rises_through_the_warm_up(heatmap_run, tmp_path, asked):
    settings = ["train.stop_after=3", *([f"train.lr={asked}"] if asked else [])]
    resolved = resolve(heatmap_run / "config.yaml", preset="fine-tune-hard", settings=settings)
    tuned = ceph.train(resolved, out=tmp_path / "tuned", init_from=heatmap_run).folder
    peak = asked or 5e-5
    for rates in zip(*logged_rates(tuned), strict=True):  # of one group, after each epoch
        assert rates[:2] == pytest.approx([0.505 * peak, peak])
        assert 0.98 * peak < rates[2] < peak
    # The last of three steps of the third epoch: just past the top, far from the 3e-3 that the weights come from.
    assert all(0.98 * peak < rate < peak for rate in optimiser_rates(tuned))


def test_a_rate_of_next_to_nothing_leaves_the_run_s_weights_where_they_were(heatmap_run, tmp_path):
    settings = ["train.stop_after=1", "train.lr=1e-12", "train.weight_decay=0"]
    resolved = resolve(heatmap_run / "config.yaml", preset="fine-tune-hard", settings=settings)
    tuned = ceph.train(resolved, out=tmp_path / "tuned", init_from=heatmap_run).folder
    best = checkpoint.load(heatmap_run / "checkpoints", checkpoint.BEST)["model"]
    trained = {name for name, tensor in best.items() if "running" not in name and tensor.is_floating_point()}
    now = last_weights(tuned)
    assert all(torch.allclose(now[name], best[name], atol=1e-9) for name in trained)
    assert not same_weights(now, best)  # the statistics of the norms have moved, so it did train


def test_high_res_needs_no_more_memory_than_base_and_steps_over_as_many_films():
    base, high = resolve(preset="base").config, resolve(preset="high-res").config
    (H, W), (h, w) = high.data.size, base.data.size
    assert (H, W / w) == (1024, pytest.approx(H / h, rel=0.02))
    assert H % 32 == W % 32 == 0
    assert high.train.batch_size * H * W <= base.train.batch_size * h * w
    assert high.train.batch_size * high.train.accumulate == base.train.batch_size
    assert high.train.lr < base.train.lr
    assert (high.model, high.loss) == (base.model, base.loss)
    assert high.train.constant_pixels


def test_high_res_goes_on_from_a_smaller_run(tiny_set, tmp_path):
    small = [*SMALL, "data.workers=0", "train.batch_size=4", "train.epochs=1"]
    first = ceph.train(resolve(preset="base", data=tiny_set, settings=small), out=tmp_path / "first").folder
    larger = [*small, "data.size=[96, 64]", "train.accumulate=2"]
    resolved = resolve(preset="high-res", data=tiny_set, settings=larger, plugins=["multi-scale"])
    result = ceph.train(resolved, out=tmp_path / "high", init_from=first)
    assert result.metrics["n_images"] > 0
    assert "29 of 29 landmarks were known" in (result.folder / "log.txt").read_text()
