"""A run trains, writes its folder, repeats itself bit for bit, stops and goes on."""

from __future__ import annotations

import csv
import json
import math
import shutil

import pytest
import torch
from tests.training.runs import ALL, last_weights, same_weights

import ceph
from ceph.config.load import resolve
from ceph.data.types import Batch
from ceph.errors import CephError, CheckpointError, ConfigError, DataError, PluginError, TrainingError
from ceph.report.curves import best_epoch
from ceph.report.progress import Silent
from ceph.report.record import read_record
from ceph.runfolder import locked, read_figures, read_settings, read_state
from ceph.training import checkpoint


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_a_person_needs_in_its_folder(tiny, tmp_path):
    result = ceph.train(tiny(plugins={"weighted-loss": {}}), out=tmp_path / "run")
    files = {p.relative_to(result.folder).as_posix() for p in result.folder.rglob("*") if p.is_file()}
    assert files >= {
        "config.yaml",
        "environment.json",
        "data_fingerprint.json",
        "metrics.jsonl",
        "metrics.json",
        "predictions-validation.csv",
        "log.txt",
        *(f"checkpoints/{name}.safetensors{end}" for name in ("best", "last") for end in ("", ".sha256")),
    }
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    figures = json.loads((result.folder / "metrics.json").read_text())
    assert figures["validation"] == json.loads(json.dumps(result.metrics))
    assert figures["validation"]["n_points"] == figures["validation"]["n_images"] * 29
    assert set(figures["validation"]["sdr_percent"]) == {"2.0", "2.5", "3.0", "4.0"}
    rows = table(result.folder / "predictions-validation.csv")
    assert list(rows[0]) == ["image_id", "symbol", "x_px", "y_px", "score", "true_x_px", "true_y_px", "error_mm"]
    mean = sum(float(row["error_mm"]) for row in rows) / len(rows)
    assert mean == pytest.approx(result.metrics["mre_mm"], abs=1e-3)
    assert json.loads((result.folder / "environment.json").read_text())["plugins"]["weighted-loss"]["sha256"]


def test_errors_in_mm_come_from_film_pixels_and_each_film_s_spacing(tiny_run):
    from ceph.data.formats.find import read

    spacing = {s.id: s.mm_per_px for s in read(resolve(tiny_run / "config.yaml").config.data.path).samples}
    assert len(set(spacing.values())) > 1
    for row in table(tiny_run / "predictions-validation.csv"):
        dx, dy = (float(row[f"{a}_px"]) - float(row[f"true_{a}_px"]) for a in "xy")
        expected = (dx**2 + dy**2) ** 0.5 * spacing[row["image_id"]]
        assert float(row["error_mm"]) == pytest.approx(expected, abs=2e-3)


def test_training_teaches_and_the_best_checkpoint_is_the_one_with_the_best_validation(tiny, tmp_path):
    settings = {"epochs": 10, "lr": 3e-3}
    run = ceph.train(tiny(train=settings, data={"augmentation": "none"}), out=tmp_path / "run")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    # The cross-entropy of these targets cannot fall below their own entropy, 3.65.
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    assert lines[-1]["train_mre_mm"] < 0.5 * lines[0]["train_mre_mm"]
    errors = [line["validation"]["mre_mm"] for line in lines]
    assert run.best_epoch == errors.index(min(errors))
    assert run.metrics["mre_mm"] == pytest.approx(min(errors), rel=1e-5)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run with the four strategies."""
    return ceph.train(tiny(plugins=ALL), out=tmp_path_factory.mktemp("whole") / "run")


def test_the_same_command_twice_gives_the_same_weights_and_another_seed_does_not(whole, tiny, tmp_path):
    runs = [ceph.train(tiny(plugins=ALL, train={"seed": seed}), out=tmp_path / str(seed)) for seed in (0, 1)]
    one, again, other = (last_weights(run.folder) for run in (whole, *runs))
    assert same_weights(one, again)
    assert not same_weights(one, other)


def test_stopped_after_an_epoch_and_resumed_a_run_of_any_number_of_workers_ends_in_the_same_weights(
    whole, tiny, tmp_path
):
    half = ceph.train(tiny(plugins=ALL, train={"stop_after": 1}, data={"workers": 2}), out=tmp_path / "half")
    assert not same_weights(last_weights(whole.folder), last_weights(half.folder))
    config = half.folder / "config.yaml"
    config.write_text(
        "".join(line for line in config.read_text().splitlines(keepends=True) if "stop_after" not in line)
    )
    resumed = ceph.resume(half.folder)
    assert same_weights(last_weights(whole.folder), last_weights(resumed.folder))
    assert (whole.folder / "metrics.jsonl").read_text() == (resumed.folder / "metrics.jsonl").read_text()


def test_resuming_a_finished_run_changes_nothing(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    again = ceph.resume(run)
    best = checkpoint.load(run / "checkpoints", checkpoint.BEST)["epoch"]
    assert (again.metrics, again.best_epoch) == (read_figures(run)["validation"], best)
    assert again.was_done
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


class Cut(Silent):
    """A watcher that ends the process in its second epoch, as a kill between two checkpoints would."""

    def epoch(self, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt


def test_a_finished_run_trains_on_by_a_new_schedule_that_survives_an_interruption(tiny, tmp_path):
    first = ceph.train(tiny(train={"early_stopping": 9}), out=tmp_path / "run").folder
    shutil.copytree(first, tmp_path / "cut")
    whole = ceph.resume(first, epochs=5)
    rates = [json.loads(line)["lr"][0] for line in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    assert rates[1] == rates[4] == 0
    assert rates[2] > rates[3] > rates[4]
    assert rates[2] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 0.5 / 2.5)))  # warmed up in half an epoch
    train = resolve(whole.folder / "config.yaml").config.train
    assert (train.epochs, train.schedule_from, train.stop_after) == (5, 2, None)
    origins = {setting.key: setting.origin for setting in read_settings(whole.folder)}
    assert (origins["data.path"], origins["train.epochs"]) == ("python", "--resume, with --set train.epochs")
    assert "a new schedule from here to epoch 5" in (whole.folder / "log.txt").read_text()
    with pytest.raises(KeyboardInterrupt):
        ceph.resume(tmp_path / "cut", epochs=5, watcher=Cut())
    assert read_state(tmp_path / "cut").state == "interrupted"
    with pytest.raises(ConfigError, match="not finished"):
        ceph.resume(tmp_path / "cut", epochs=6)
    ceph.resume(tmp_path / "cut")
    assert same_weights(last_weights(whole.folder), last_weights(tmp_path / "cut"))
    assert (whole.folder / "metrics.jsonl").read_text() == (tmp_path / "cut" / "metrics.jsonl").read_text()
    with pytest.raises(ConfigError, match="more than the 5"):
        ceph.resume(whole.folder, epochs=5)
    with pytest.raises(ConfigError, match="schedule_from=0"):
        ceph.train(whole.folder / "config.yaml", out=tmp_path / "new")


def test_a_new_run_from_old_weights_uses_the_rate_that_was_asked_for(tiny_run, tiny, tmp_path):
    tiny_rate = tiny(train={"lr": 1e-9, "warmup_epochs": 0, "epochs": 1, "weight_decay": 0})
    second = ceph.train(tiny_rate, out=tmp_path / "second", init_from=tiny_run)
    told = [json.loads((run / "environment.json").read_text())["init_from"] for run in (tiny_run, second.folder)]
    assert told == [None, str(tiny_run.resolve())]
    best = checkpoint.load(tiny_run / "checkpoints", checkpoint.BEST)["model"]
    now = last_weights(second.folder)
    moved = max(
        (best[n] - now[n]).abs().max().item() for n in best if best[n].is_floating_point() and "running" not in n
    )
    assert 0 < moved < 1e-6


def test_weights_of_another_kind_of_map_are_warned_of(tiny_run, tiny, tmp_path, caplog):
    config = tiny(train={"epochs": 1}, loss={"name": "adaptive-wing"})
    ceph.train(config, out=tmp_path / "second", init_from=tiny_run)
    (warning,) = [r.getMessage() for r in caplog.records if "fine-tuning" in r.getMessage()]
    assert "as a distribution, but the loss adaptive-wing trains a heatmap" in warning


def test_changed_data_is_noticed_when_a_run_goes_on(tiny, tmp_path, tiny_set):
    films = tmp_path / "films"
    shutil.copytree(tiny_set, films)
    run = ceph.train(tiny(data={"path": str(films)}, train={"stop_after": 1}), out=tmp_path / "run")
    film = next((films / "train" / "Annotations" / "Cephalometric Landmarks" / "Senior Orthodontists").glob("*.json"))
    content = json.loads(film.read_text())
    content["landmarks"][0]["value"]["x"] += 1
    film.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"data changed.*{film.stem}"):
        ceph.resume(run.folder, epochs=2)
    assert read_state(run.folder).state == "finished"


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(tiny, tmp_path):
    whole = ceph.train(tiny(train={"epochs": 3}), out=tmp_path / "whole")
    run = ceph.train(tiny(train={"epochs": 3, "stop_after": 2}), out=tmp_path / "run")
    last = run.folder / "checkpoints" / "last.safetensors"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("stop_after: 2", "stop_after: null"))
    ceph.resume(run.folder)
    assert "last.safetensors is damaged" in (run.folder / "log.txt").read_text()
    assert same_weights(last_weights(whole.folder), last_weights(run.folder))
    for name in ("last.safetensors", "previous.safetensors"):
        (run.folder / "checkpoints" / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="previous.safetensors is damaged"):
        ceph.resume(run.folder)


def test_a_checkpoint_of_another_network_is_told_with_a_remedy(tiny, tmp_path):
    run = ceph.train(tiny(train={"stop_after": 1}), out=tmp_path / "run")
    config = run.folder / "config.yaml"
    config.write_text(config.read_text().replace("width: 8", "width: 16").replace("stop_after: 1", "stop_after: null"))
    with pytest.raises(CheckpointError, match=r"does not fit the run's network(.|\n)*--init-from"):
        ceph.resume(run.folder)
    with pytest.raises(CheckpointError, match=r"do not fit this network(.|\n)*environment.json"):
        ceph.load(run.folder)


def test_a_folder_holds_one_run(tiny_run, tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"already holds a run(.|\n)*--resume"):
        ceph.train(tiny(), out=tiny_run)
    with pytest.raises(ConfigError, match="no run folder"):
        ceph.resume(tmp_path)


def test_early_stopping_ends_a_run_that_no_longer_improves_and_survives_a_resume(tiny, tmp_path):
    stuck = tiny(train={"epochs": 30, "lr": 1e-12, "early_stopping": 2, "warmup_epochs": 0})
    run = ceph.train(stuck, out=tmp_path / "run")
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == run.best_epoch + 3 < 30
    assert ceph.resume(run.folder).best_epoch == run.best_epoch


def test_accumulated_batches_step_once(tiny, tmp_path):
    run = ceph.train(tiny(train={"accumulate": 2, "epochs": 1, "batch_size": 2}), out=tmp_path / "run")
    state = checkpoint.load(run.folder / "checkpoints", checkpoint.LAST)
    assert state["progress"]["step"] == 3  # eleven films, five batches of two


@pytest.mark.parametrize("loss", ["adaptive-wing", "mse", "focal"])
def test_every_loss_trains(tiny, tmp_path, loss):
    run = ceph.train(tiny(loss={"name": loss}, train={"epochs": 1}), out=tmp_path / "run")
    assert run.metrics["mre_mm"] > 0


def test_half_precision_trains(tiny, tmp_path):
    run = ceph.train(tiny(train={"precision": "bf16", "epochs": 1}), out=tmp_path / "run")
    assert all(t.dtype == torch.float32 for t in last_weights(run.folder).values() if t.is_floating_point())


def test_a_subset_of_landmarks_trains_in_the_asked_order(tiny, tmp_path):
    train = {"monitor": "per_landmark.Go.mre_mm", "epochs": 1}
    run = ceph.train(tiny(data={"landmarks": ["Go", "Ar", "S"]}, train=train), out=tmp_path / "run")
    assert list(run.metrics["per_landmark"]) == ["Go", "Ar", "S"]


def test_an_unknown_figure_to_monitor_is_an_error(tiny):
    with pytest.raises(ConfigError, match=r"train.monitor.*no figure 'mre'(.|\n)*mre_mm"):
        ceph.train(tiny(train={"monitor": "mre"}))


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, 2), (False, 0)])
def test_the_best_epoch_of_a_plugin_s_figure_is_the_one_that_its_direction_says(tiny, tmp_path, higher_is_better, best):
    body = (
        "    def epoch_start(self, epoch):\n        self.epoch = epoch\n\n"
        "    @hookimpl\n    def metrics(self):\n"
        f"        return {{'sure': Figure(float(getattr(self, 'epoch', 0)), higher_is_better={higher_is_better})}}\n"
    )
    settings = {"epochs": 3, "batch_size": 12, "monitor": "plugins.sure"}
    run = ceph.train(tiny(plugins=plugin_file(tmp_path, "sure", body), train=settings), out=tmp_path / "run")
    assert run.best_epoch == best
    line = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[best])
    assert line["validation"]["plugins"] == {"sure": float(best)}
    assert best_epoch(read_record(run.folder)) == best


def test_a_figure_to_monitor_that_no_plugin_gives_ends_the_run_after_the_first_evaluation(tiny, tmp_path):
    plugins = plugin_file(tmp_path, "sure", "    def metrics(self):\n        return {'sure': 1.0}\n")
    with pytest.raises(ConfigError, match=r"train.monitor: no plugin gives the figure 'plugins.shure'") as caught:
        ceph.train(tiny(plugins=plugins, train={"monitor": "plugins.shure"}), out=tmp_path / "run")
    assert caught.value.problems[0].hint == "did you mean 'plugins.sure'?"
    assert checkpoint.load(tmp_path / "run" / "checkpoints", checkpoint.LAST)["progress"]["epoch"] == 0


def test_a_warm_up_is_a_share_of_the_run_as_well_as_epochs(tiny_run, tiny, tmp_path):
    runs = [ceph.train(tiny(train={"warmup_epochs": w}), out=tmp_path / str(w)).folder for w in ("50%", 1)]
    weights = [last_weights(run) for run in (*runs, tiny_run)]  # it warms up in half an epoch
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])


def plugin_file(folder, name, body):
    path = folder / f"{name}.py"
    path.write_text(
        "import torch\nfrom ceph.plugin import Figure, Plugin, PluginConfig, hookimpl\n\n"
        f"class Mine(Plugin[PluginConfig]):\n    '''A test.'''\n\n    @hookimpl\n{body}"
    )
    return {name: {"from": str(path)}}


def test_a_plugin_in_a_file_is_kept_with_the_run(tiny, tmp_path):
    body = "    def landmark_weights(self, batch, loss):\n        return torch.ones_like(loss)\n"
    plugins = plugin_file(tmp_path, "ones", body)
    run = ceph.train(tiny(plugins=plugins, train={"stop_after": 1}), out=tmp_path / "run")
    (tmp_path / "ones.py").unlink()
    assert (run.folder / "plugins" / "ones" / "ones.py").is_file()
    ceph.resume(run.folder)
    ceph.load(run.folder)


def test_a_plugin_that_fails_in_training_leaves_a_checkpoint_to_go_on_from(tiny, tmp_path):
    body = "    def landmark_weights(self, batch, loss):\n        if batch.step == 3: raise KeyError('oops')\n"
    run = tmp_path / "run"
    with pytest.raises(PluginError, match=r"(?s)bad.*landmark_weights.*oops"):
        ceph.train(tiny(plugins=plugin_file(tmp_path, "bad", body)), out=run)
    state = checkpoint.load(run / "checkpoints", checkpoint.LAST)
    assert state["progress"]["step"] == 3
    assert ceph.resume(run, without=["bad"]).metrics["mre_mm"] > 0
    assert "bad" not in (run / "config.yaml").read_text()


def test_what_a_run_goes_on_without_is_out_of_its_config_for_good(tiny, tmp_path):
    body = (
        "    def landmark_weights(self, batch, loss):\n        if batch.step == 3: raise KeyError('oops')\n\n"
        "    @hookimpl\n    def metrics(self):\n        return {'bad': 1.0}\n"
    )
    run, settings = tmp_path / "run", {"decay": 0.5}
    plugins = {**plugin_file(tmp_path, "bad", body), "ema": settings, "weighted-loss": {}}
    with pytest.raises(PluginError):
        ceph.train(tiny(plugins=plugins), out=run)
    before = (run / "config.yaml").read_text()
    ceph.resume(run, without=["bad"])
    after = (run / "config.yaml").read_text()
    assert set(before.splitlines()) - set(after.splitlines()) == {
        line for line in before.splitlines() if line.startswith("  bad:") or "./plugins/bad/bad.py" in line
    }
    found = ceph.load(run)
    assert list(found.config.plugins) == ["ema", "weighted-loss"]
    assert found.config.plugins["ema"] == settings
    assert "plugins" not in found.evaluate()[0]
    assert ceph.resume(run).best_epoch >= 0  # it is finished


def test_a_run_goes_on_without_its_only_plugin(tiny, tmp_path):
    body = "    def landmark_weights(self, batch, loss):\n        if batch.step == 3: raise KeyError('oops')\n"
    run = tmp_path / "run"
    with pytest.raises(PluginError):
        ceph.train(tiny(plugins=plugin_file(tmp_path, "bad", body)), out=run)
    ceph.resume(run, without=["bad"])
    assert (run / "config.yaml").read_text().endswith("plugins: {}\n")
    assert ceph.load(run).hooks.names == ()


def test_a_nan_weight_names_its_plugin_and_never_reaches_the_weights(tiny, tmp_path):
    body = "    def landmark_weights(self, batch, loss):\n        return loss * float('nan')\n"
    with pytest.raises(PluginError, match=r"(?s)broken.*landmark_weights"):
        ceph.train(tiny(plugins=plugin_file(tmp_path, "broken", body)), out=tmp_path / "run")
    assert all(torch.isfinite(t).all() for t in last_weights(tmp_path / "run").values())


def test_a_loss_that_is_not_finite_names_its_films_and_leaves_the_good_checkpoint(tiny, tmp_path):
    body = (
        "    def build_criterion(self, run, default):\n"
        "        f = default()\n"
        "        return lambda p, t, w: f(p, t, w) + p.sum() * float('inf')\n"
    )
    plugins = plugin_file(tmp_path, "inf", body)
    with pytest.raises(TrainingError, match=r"(?s)step 0.*films: synthetic-"):
        ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    assert all(torch.isfinite(t).all() for t in last_weights(tmp_path / "run").values())


def test_an_observer_that_fails_does_not_stop_the_run(tiny, tmp_path):
    body = "    def step_end(self, step):\n        raise OSError('disk on fire')\n"
    run = ceph.train(tiny(plugins=plugin_file(tmp_path, "watcher", body), train={"epochs": 1}), out=tmp_path / "run")
    assert "disk on fire" in (run.folder / "log.txt").read_text()


def test_hooks_see_batches_as_the_contract_says(tiny, tmp_path):
    body = (
        "    def landmark_weights(self, batch, loss):\n"
        "        import json, pathlib\n"
        "        assert batch.image.shape == (4, 1, 64, 64) and 0 <= batch.image.min() and batch.image.max() <= 1\n"
        "        assert batch.points.shape == (4, 29, 2) and batch.valid.dtype == torch.bool\n"
        "        assert batch.mm_per_px.shape == (4,) and (batch.mm_per_px > 1).all()\n"
        "        assert not loss.requires_grad and (loss[~batch.valid] == 0).all()\n"
        "        assert batch.points[batch.valid].min() > -0.5 and batch.points.max() < 63.5\n"
    )
    ceph.train(tiny(plugins=plugin_file(tmp_path, "look", body), train={"epochs": 1}), out=tmp_path / "run")
    assert Batch.__dataclass_params__.frozen


def test_two_runs_cannot_share_a_folder(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    with locked(run), pytest.raises(CephError, match="in use"):
        ceph.resume(run)
