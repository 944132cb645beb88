"""How well absent landmarks are told from present ones: pairs of one landmark, by the presence, else by the score."""

import numpy as np
import pytest
import torch

from ceph.evaluation.presence import presence_figures, presence_of

NONE = np.full((3, 2), np.nan)


def test_pairs_are_of_one_landmark_each():
    scores = np.array([[0.9, 0.02], [0.8, 0.04], [0.85, 0.01]])
    absent = np.array([[False, False], [True, False], [False, True]])
    figures = presence_figures(NONE, scores, ~absent, absent, ("S", "UMT"))["presence"]
    assert (figures["by"], figures["auc"], figures["n_absent"], figures["n_present"]) == ("score", 1.0, 2, 4)
    assert figures["per_landmark"] == {"S": 1.0, "UMT": 1.0}  # though UMT's scores are all below S's
    swapped = presence_figures(NONE, -scores, ~absent, absent, ("S", "UMT"))["presence"]
    assert swapped["auc"] == 0.0
    assert presence_figures(NONE, scores * 0, ~absent, absent, ("S", "UMT"))["presence"]["auc"] == 0.5


def test_what_was_not_marked_is_in_no_pair_and_a_presence_goes_before_the_score():
    absent = np.array([[True, False], [False, False], [False, False]])
    valid = np.array([[False, True], [True, True], [False, True]])
    presence = np.array([[0.4, 0.9], [0.6, 0.9], [0.1, 0.2]])
    figures = presence_figures(presence, 1 - presence, valid, absent, ("S", "N"))["presence"]
    assert (figures["by"], figures["auc"], figures["n_present"]) == ("presence", 1.0, 1)
    assert (figures["found_percent"], figures["kept_percent"]) == (100.0, 100.0)
    assert presence_figures(presence, presence, valid, np.zeros_like(absent), ("S", "N")) == {}


def test_logits_of_another_shape_are_no_presence():
    assert presence_of({"presence": torch.zeros(3, 2)}, (3, 2)) == pytest.approx(np.full((3, 2), 0.5))
    assert np.isnan(presence_of({"presence": torch.zeros(3)}, (3, 2))).all()
    assert np.isnan(presence_of({}, (3, 2))).all()
