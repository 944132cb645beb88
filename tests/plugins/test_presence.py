"""presence: what the set says is absent trains a head, what was not marked trains nothing, and all of it is told."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

import ceph
from ceph.cli.app import main
from ceph.data.synthetic.sets import write
from ceph.errors import ConfigError
from ceph_plugins.presence import Presence, PresenceConfig, PresenceHead


def test_absent_and_marked_landmarks_count_and_unmarked_ones_do_not(make_batch):
    points = torch.tensor([[[5.0, 5], [0, 0], [0, 0], [6, 0]]]).expand(2, 4, 2)
    valid = torch.tensor([[True, False, False, False], [False] * 4])  # the last landmark is masked; a film stands in
    extras = {"absent": torch.tensor([[False, True, False, False]] * 2)}
    batch = dataclasses.replace(make_batch(valid), points=points, extras=extras)
    logits = torch.zeros(2, 4, requires_grad=True)
    given = Presence(PresenceConfig(weight=1, balance=3)).loss_terms(batch=batch, outputs={"presence": logits})
    total, count = given["presence"]
    total.backward()
    assert (float(count), total.item()) == (5, pytest.approx(5 * np.log(2)))
    assert logits.grad.sign().tolist() == [[-1, 1, 0, -1], [0, 0, 0, 0]]


def test_the_features_are_left_to_the_points():
    features = [torch.rand(2, 8, 6, 4, requires_grad=True), torch.rand(2, 8, 3, 2, requires_grad=True)]
    head = PresenceHead(8, 3)
    logits = head(features)
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all(feature.grad is None for feature in features)
    assert all(weight.grad is not None for weight in head.parameters())


def test_a_set_that_says_nothing_is_refused(make_run):
    with pytest.raises(ConfigError, match="no training film lacks a landmark"):
        Presence().check_run(run=make_run())


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """Sixteen small films, each of which lacks a tooth."""
    folder = tmp_path_factory.mktemp("lacking") / "films"
    write(folder, films=16, height=330, absent=1.0)
    return folder


def rows_of(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_presence_reaches_figures_predictions_and_films_without_truth(lacking, tiny, tmp_path, capsys):
    plain = tiny(data={"path": str(lacking)}, train={"epochs": 1}, plugins={"presence": {}})
    run = ceph.train(plain, out=tmp_path / "run").folder
    figures = json.loads((run / "metrics.json").read_text())["validation"]["presence"]
    rows = rows_of(run / "predictions-validation.csv")
    gone = [row for row in rows if row["absent"] == "1"]
    assert figures["by"] == "presence"
    assert 0 <= figures["auc"] <= 1
    assert figures["n_absent"] <= len(gone) == len({row["image_id"] for row in rows})
    assert all(not row["error_mm"] for row in gone)
    film = next((lacking / "test" / "Cephalograms").iterdir())
    assert main(["predict", str(run), str(film), "--out", str(tmp_path / "found.csv")]) == 0
    assert all(0 <= float(row["presence"]) <= 1 for row in rows_of(tmp_path / "found.csv"))


def test_without_a_head_the_score_stands_in(lacking, tiny, tmp_path):
    run = ceph.train(tiny(data={"path": str(lacking)}, train={"epochs": 1}), out=tmp_path / "run").folder
    assert json.loads((run / "metrics.json").read_text())["validation"]["presence"]["by"] == "score"
    assert "presence" not in rows_of(run / "predictions-validation.csv")[0]
