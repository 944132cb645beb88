"""Folds and ensembles: who is held out with whom, and a folder of runs that predicts as one."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.cli.app import main
from ceph.config.load import from_values
from ceph.errors import ConfigError, DataError
from ceph.evaluation.folds import folds_of
from ceph.evaluation.means import OnLandmarks
from ceph.run.assembly import make_hooks
from ceph.run.films import read_data
from ceph.run.folds import divided
from ceph.run.train import check
from ceph.runfolder import read_figures, read_fingerprint, read_predictions, read_records, read_state, unseen_points
from ceph.training import checkpoint


def films(groups, machines="", sets=""):
    columns = (groups, machines or " " * len(groups), sets or " " * len(groups))
    rows = enumerate(zip(*columns, strict=True))
    return [SimpleNamespace(id=f"{n}", group=g, machine=m.strip(), set=s.strip()) for n, (g, m, s) in rows]


def fold_of(samples, by="group", count=None, equal=()):
    digests = ["same" if n in equal else str(n) for n in range(len(samples))]
    return folds_of(samples, digests, by, count).tolist()


def test_groups_and_equal_films_stay_together_in_folds_of_equal_size():
    samples = films("aabcdefghij")
    found = fold_of(samples, count=4, equal=(2, 9))
    assert found[0] == found[1]
    assert found[2] == found[9]
    assert sorted(np.bincount(found)) == [2, 3, 3, 3]
    order = [4, 9, 0, 2, 8, 1, 3, 10, 5, 7, 6]
    places = [order.index(n) for n in (2, 9)]
    again = fold_of([samples[n] for n in order], count=4, equal=places)
    assert again == [found[n] for n in order]


def test_a_machine_or_a_set_is_a_fold_and_two_that_share_a_film_are_one():
    assert fold_of(films("abcdef", "yxzxyz"), "machine") == [1, 0, 2, 0, 1, 2]
    assert fold_of(films("abcdef", sets="nnmmmm"), "set") == [1, 1, 0, 0, 0, 0]
    assert fold_of(films("abcdea", "yxzxyz"), "machine") == [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("samples", "by", "count", "what"),
    [
        (films("aabb"), "group", 3, "4 films of 2 groups do not make 3 folds"),
        (films("abc", "xxx"), "machine", None, "3 films of 1 machine do not make 2 folds"),
        (films("abc", "xyz"), "machine", 2, "3 films of 3 machines do not make 2 folds"),
        (films("abc", "x y"), "machine", None, "1 of 3 films do not say their machine, 1 among them"),
        (films("abc"), "set", None, "do not say their set"),
    ],
)
def test_films_that_do_not_make_the_folds_are_told(samples, by, count, what):
    with pytest.raises(DataError, match=what):
        fold_of(samples, by, count)


def test_a_fold_is_validation_all_others_train_and_tests_stay(tiny):
    whole = read_data(from_values(tiny()).config, make_hooks(from_values(tiny())))
    tests = {s.id for s in whole.samples if s.split == "test"}
    held = []
    for number in (0, 1, 2, None):
        resolved = from_values(tiny(data={"fold": {"of": 3, "number": number}}))
        by_split = {}
        for s in read_data(resolved.config, make_hooks(resolved)).samples:
            by_split.setdefault(s.split, []).append(s.id)
        assert set(by_split.pop("test")) == tests
        if number is None:
            assert by_split == {"out-of-fold": [film for fold in held for film in fold]}
        else:
            assert len(by_split["train"]) + len(by_split["validation"]) == len(whole.samples) - len(tests)
            held.append(by_split["validation"])
    assert len({film for fold in held for film in fold}) == len(whole.samples) - len(tests)


def test_by_machine_there_are_as_many_folds_as_machines(tiny):
    resolved = from_values(tiny())
    read = read_data(resolved.config, make_hooks(resolved)).samples
    machines = {s.machine for s in read if s.split in ("train", "validation")}
    assert divided(resolved, "machine").config.data.fold.of == len(machines) > 1


def test_the_last_epoch_is_the_best_where_no_film_may_choose(tiny, tmp_path):
    result = ceph.train(
        tiny(train={"epochs": 3, "lr": 0.05, "monitor": "last", "early_stopping": 1}), out=tmp_path / "r"
    )
    assert result.best_epoch == 2
    assert checkpoint.load(tmp_path / "r" / "checkpoints", checkpoint.BEST)["epoch"] == 2
    assert [r["validation"]["mre_mm"] for r in read_records(tmp_path / "r")][2] == result.metrics["mre_mm"]


@pytest.fixture(scope="module")
def config(tiny_set):
    return {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "device": "cpu", "warmup_epochs": 0.5},
    }


def test_each_film_is_scored_once_by_the_run_that_held_it_out(folds_run):
    out, figures = folds_run, read_figures(folds_run)["out-of-fold"]
    found = read_predictions(out, "out-of-fold")
    held = [read_predictions(out / "members" / f"fold-{n}", "validation") for n in (0, 1)]
    assert found.ids == held[0].ids + held[1].ids
    assert np.allclose(found.points_px, np.concatenate([h.points_px for h in held]), atol=0.002)
    assert figures["mre_mm"] == pytest.approx(np.nanmean(found.errors_mm), abs=1e-3)
    seen = read_fingerprint(out)["films"]
    assert set(seen["out-of-fold"]) == set(found.ids)
    assert read_state(out).state == "finished"
    for number in (0, 1):
        text = (out / "members" / f"fold-{number}" / "config.yaml").read_text()
        assert f"seed: {number} " in text
        assert f"number: {number} " in text


def test_the_folder_predicts_by_the_mean_of_its_runs_maps(folds_run, tiny_set):
    out = folds_run
    film = min((tiny_set / "test" / "Cephalograms").iterdir())
    both = ceph.load(out)
    assert len(both.ensemble.members) == 2
    maps = [one(both, film), *(one(member, film) for member in both.members)]
    assert torch.allclose(maps[0], (maps[1] + maps[2]) / 2, atol=1e-6)
    assert not torch.allclose(maps[1], maps[2], atol=1e-6)
    points, _ = both.predict([film])
    assert np.isfinite(points).all()


def one(trained, film):
    from ceph.data.images import read_film
    from ceph.view.maps import activation_maps

    return torch.from_numpy(activation_maps(trained, read_film(film))[0])


def test_evaluate_prints_the_gain_beside_the_cost_and_the_page_and_the_list_know_the_folder(
    folds_run, tmp_path, capsys
):
    out = shutil.copytree(folds_run, tmp_path / "runs" / "out")
    assert main(["evaluate", str(out), "--split", "test"]) == 0
    assert "2 runs: " in (text := capsys.readouterr().out)
    assert "the mean gains" in text
    figures = read_figures(out)["test"]
    alone = [run["mre_mm"] for run in figures["members"]["alone"].values()]
    assert list(figures["members"]["alone"]) == ["fold-0", "fold-1"]
    assert f"alone {np.mean(alone):.3f}" in text
    assert main(["runs", str(out.parent)]) == 0
    assert f"{figures['mre_mm']:.2f}" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "out-of-fold" in page
    assert "fold-0, fold-1" in page
    assert "No epoch is over" not in page


def test_what_is_done_is_left_as_it_is_and_another_config_is_refused(folds_run, config, capsys):
    out = folds_run
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main(["run", "--resume", str(out)]) == 0
    assert "out of fold" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    for words, what in (
        (["folds", str(out / "folds.yaml"), "--out", str(out)], "data.fold: is what folds are made of"),
        (["run", "--resume", str(out), "--set", "train.epochs=9"], "is several runs, which go on as they began"),
    ):
        assert main(words) == 2
        assert what in capsys.readouterr().err
    for call, what in (
        (lambda: ceph.folds({**config, "model": {}}, out=out, folds=2), "holds another config: model.backbone is"),
        (lambda: ceph.train(config, out=out), "already holds a run"),
        (lambda: ceph.train(config, out=f"{out}-x", init_from=out), "is several runs"),
    ):
        with pytest.raises(ConfigError, match=what):
            call()


def test_a_run_that_is_missing_is_told_before_anything_is_predicted(folds_run, tmp_path):
    shutil.copytree(folds_run, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "members" / "fold-1")
    with pytest.raises(ConfigError, match=r"1 of the 2 runs of .* are not finished: fold-1(.|\n)*run --resume"):
        ceph.load(tmp_path / "out")
    (tmp_path / "out" / "members.json").write_text('{"members": ["../../etc"]}')
    with pytest.raises(DataError, match="no name of a folder"):
        ceph.load(tmp_path / "out")


def test_points_that_a_run_found_on_films_that_it_never_saw(folds_run):
    out = folds_run
    found = read_predictions(out, "out-of-fold")
    points = unseen_points(out, [*found.ids, "other"], found.landmarks[:2])
    assert np.array_equal(points[:-1], found.points_px[:, :2])
    assert np.isnan(points[-1]).all()


def test_distill_learns_from_all_runs_of_a_folder(folds_run, config, caplog):
    with caplog.at_level(logging.INFO, logger="ceph"):
        check({**config, "plugins": {"distill": {"runs": [str(folds_run)]}}})
    assert sum("distill: 29 of 29 landmarks from" in message for message in caplog.messages) == 2


# --- ensembles --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(config, tmp_path_factory):
    """A run of another backbone and size that knows five landmarks, in another order."""
    folder = tmp_path_factory.mktemp("other") / "few"
    data = {**config["data"], "size": [96, 80], "landmarks": ["Me", "S", "N", "Go", "A"]}
    model = {**config["model"], "backbone": "test_efficientnet"}
    return ceph.train({**config, "data": data, "model": model}, out=folder).folder


def test_runs_of_other_sizes_backbones_and_landmarks_are_one(folds_run, other, tiny_set, tmp_path):
    fold = folds_run / "members" / "fold-0"
    result = ceph.ensemble([fold, other], out=tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / "out")
    both = ceph.load(tmp_path / "out")
    assert both.ensemble.sizes == [(64, 64), (96, 80)]
    assert result.metrics["n_images"] == read_figures(tmp_path / "out")["validation"]["n_images"]
    assert not list((tmp_path / "out").rglob("last.*"))
    film = min((tiny_set / "test" / "Cephalograms").iterdir())
    mean, alone = one(both, film), one(ceph.load(fold), film)
    known = torch.tensor([symbol in ("Me", "S", "N", "Go", "A") for symbol in both.landmarks])
    assert torch.allclose(mean[~known], alone[~known], atol=1e-6)
    assert (mean[known] - alone[known]).abs().amax((1, 2)).min() > 1e-4


def test_runs_that_do_not_go_together_are_refused(folds_run, other, config, tmp_path):
    fold = folds_run / "members" / "fold-0"
    with pytest.raises(ConfigError, match="one run is no ensemble"):
        ceph.ensemble([fold], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="already holds a run"):
        ceph.ensemble([fold, other], out=other)
    maps = {**config, "loss": {"name": "mse"}, "train": {**config["train"], "epochs": 1}}
    drawn = ceph.train(maps, out=tmp_path / "heatmaps").folder
    with pytest.raises(ConfigError, match="draws heatmaps: their mean is neither"):
        ceph.ensemble([fold, drawn], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_maps_on_another_list_of_landmarks():
    maps = torch.rand(2, 3, 4, 5)
    found = OnLandmarks(torch.nn.Identity(), [2, -1, 0, 1])(maps)
    assert torch.equal(found[:, [0, 2, 3]], maps[:, [2, 0, 1]])
    assert found[:, 1].isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["stopped", "killed"])
def test_folds_that_were_stopped_or_killed_go_on_to_the_same_bits(folds_run, config, tmp_path, number):
    out = tmp_path / "out"
    (tmp_path / "c.json").write_text(json.dumps(config))
    code = "import ceph, json, sys; ceph.folds(json.load(open(sys.argv[1])), out=sys.argv[2], folds=2, jobs=2)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "c.json"), str(out)], cwd=tmp_path)
    runs = [out / "members" / f"fold-{n}" for n in (0, 1)]
    while not all((run / "metrics.jsonl").exists() and (run / "state.json").exists() for run in runs):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(120) != 0  # of a killed call the runs end by themselves; the next call waits for them
    result = ceph.resume(out)
    assert not result.was_done
    for n in (0, 1):
        assert same_weights(last_weights(runs[n]), last_weights(folds_run / "members" / f"fold-{n}"))
    first, again = (Path(folder / "predictions-out-of-fold.csv").read_bytes() for folder in (folds_run, out))
    assert first == again
