"""Runs on several sets: further ones are scored with each validation, and one that shares some landmarks after it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.data.small_sets import write_isbi

import ceph
from ceph.data.synthetic.sets import write
from ceph.errors import ConfigError
from ceph.run.train import check
from ceph.run.trained import load


@pytest.fixture(scope="module")
def other_set(tmp_path_factory):
    """Six films of another place."""
    folder = tmp_path_factory.mktemp("other") / "set"
    write(folder, films=6, seed=9, height=330)
    return folder


def test_two_sets_train_as_one_and_another_is_scored_with_each_validation(tiny, tiny_set, other_set, tmp_path, caplog):
    several = [{"name": "a", "path": str(tiny_set)}, {"name": "b", "path": str(other_set), "truth": "senior"}]
    isbi = write_isbi(tmp_path / "isbi")
    also = {"clinic": str(other_set), "isbi": {"path": str(isbi), "split": "train", "mm_per_px": 0.1}}
    config = tiny(data={"path": several}, evaluate={"also": also}, train={"monitor": "also.isbi.per_landmark.S.mre_mm"})
    run = ceph.train(config, out=tmp_path / "run")
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    scores = [record["validation"]["also"]["isbi"]["per_landmark"]["S"]["mre_mm"] for record in records]
    assert run.best_epoch == int(np.argmin(scores))
    kept = json.loads((run.folder / "metrics.json").read_text())["validation"]
    assert kept["also"]["isbi"]["per_landmark"]["S"]["mre_mm"] == pytest.approx(min(scores), abs=1e-6)
    assert kept["also"]["isbi"]["per_landmark"]["Co"]["n"] == 0  # ISBI has none
    assert kept["also"]["clinic"]["n_images"] == 1
    films = json.loads((run.folder / "data_fingerprint.json").read_text())["films"]
    assert {name.partition("-")[0] for name in films["train"]} == {"a", "b"}

    caplog.clear()
    figures, split = load(run.folder, settings=["data.mm_per_px=0.1"]).evaluate("train", isbi)
    assert split == "train"
    assert figures["per_landmark"]["S"]["n"] == figures["n_images"]
    assert figures["per_landmark"]["Co"]["n"] == 0
    assert "Co" in caplog.text


def test_a_test_split_is_not_scored_while_training(tiny, other_set, tmp_path):
    config = tiny(evaluate={"also": {"clinic": {"path": str(other_set), "split": "test"}}})
    with pytest.raises(ConfigError, match=r"evaluate\.also\.clinic: is the split test"):
        ceph.train(config, out=tmp_path / "run")


def test_a_figure_of_a_set_that_is_not_scored_cannot_be_monitored(tiny, other_set):
    config = tiny(evaluate={"also": {"clinic": str(other_set)}}, train={"monitor": "also.clinc.mre_mm"})
    with pytest.raises(ConfigError, match=r"also\.clinic\.mre_mm"):
        check(config)
