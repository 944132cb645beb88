"""cvm-head: the stage's loss and figures are over the films that have a stage, and the head trains with the network."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from tests.training.runs import last_weights

import ceph
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.cvm_head import CvmHead, CvmHeadConfig, StageHead


def staged(run, *stages):
    """The run's samples with these stages; None: without a label."""
    labels = [{} if stage is None else {"cvm_stage": float(stage)} for stage in stages]
    return tuple(dataclasses.replace(s, labels=given) for s, given in zip(run.samples, labels, strict=False))


def loss_of(make_batch, logits, stages, weight=1.0):
    batch = dataclasses.replace(
        make_batch(torch.ones(len(stages), 3, dtype=torch.bool)), extras={"cvm_stage": torch.tensor(stages)}
    )
    return CvmHead(CvmHeadConfig(weight=weight)).loss_terms(batch=batch, outputs={"cvm": logits})["cvm"]


def test_the_stage_travels_from_zero_and_minus_one_says_that_there_is_none(make_run):
    sent = [CvmHead().extras(sample)["cvm_stage"] for sample in staged(make_run(), 1, 6, None)]
    assert [int(stage) for stage in sent] == [0, 5, -1]


def test_the_loss_counts_the_films_that_have_a_stage(make_batch):
    total, count = loss_of(make_batch, torch.zeros(3, 6), [0, -1, 5], weight=0.5)
    assert float(total) == pytest.approx(0.5 * 2 * math.log(6))
    assert int(count) == 2


def test_films_without_a_stage_move_no_weight(make_batch):
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    total, count = loss_of(make_batch, logits, [-1, -1])
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert not logits.grad.any()


def test_the_figures_are_of_the_films_that_have_a_stage(make_run):
    logits = torch.eye(6)[[0, 3, 5, 2]]  # told: 1, 4, 6, 3
    samples = staged(make_run(films=4), 1, 3, 3, None)
    figures = CvmHead().metrics(samples=samples, outputs={"cvm": logits})
    assert {name: f.value for name, f in figures.items()} == pytest.approx(
        {"cvm_accuracy": 1 / 3, "cvm_within_one": 2 / 3, "cvm_mae_stages": 4 / 3}
    )
    assert [f.higher_is_better for f in figures.values()] == [True, True, False]
    assert CvmHead().metrics(samples=staged(make_run(films=1), None), outputs={"cvm": logits[:1]}) == {}


def test_a_set_without_stages_is_refused(make_run):
    with pytest.raises(ConfigError, match=r"plugins.cvm-head: no training film has a cvm_stage\n  hint: .*Aariz"):
        Hooks({"cvm-head": CvmHead()}).tell("check_run", run=make_run())


def test_the_head_takes_a_pyramid_of_any_depth_and_size():
    for sizes in ([(8, 6)], [(16, 12), (8, 6), (4, 3)]):
        assert StageHead(4)([torch.zeros(2, 4, *size) for size in sizes]).shape == (2, 6)


def test_the_head_trains_with_the_network_and_its_figures_stand_with_the_others(tiny, tmp_path):
    folder = ceph.train(tiny(train={"epochs": 1}, plugins={"cvm-head": {}}), out=tmp_path / "run").folder
    still = tiny(train={"epochs": 1}, plugins={"cvm-head": {"weight": 0}})
    one, other = (last_weights(f) for f in (folder, ceph.train(still, out=tmp_path / "still").folder))
    assert not torch.equal(one["cvm.layers.2.weight"], other["cvm.layers.2.weight"])
    figures = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["validation"]["plugins"]
    assert figures.keys() >= {"cvm_accuracy", "cvm_within_one", "cvm_mae_stages"}
    assert np.isfinite(figures["cvm_mae_stages"])
