"""Any of the four built-in strategies go together, and the order in which they are named changes nothing."""

from __future__ import annotations

import itertools

import pytest
from tests.training.runs import ALL, last_weights, same_weights

import ceph
from ceph.config.load import from_values, resolve

SUBSETS = [names for size in range(5) for names in itertools.combinations(sorted(ALL), size)]
# None, one and two have tests of their own; in either order all four train in test_pairs.py, beside others.
SOON = [pytest.param(names, marks=[pytest.mark.slow] if len(names) < 4 else []) for names in SUBSETS]


@pytest.mark.parametrize("names", SOON, ids="+".join)
def test_every_subset_of_the_strategies_trains_two_steps(tiny, tmp_path, names):
    config = tiny(plugins={name: ALL[name] for name in names}, train={"epochs": 1, "batch_size": 5})
    run = ceph.train(config, out=tmp_path / "run")
    assert run.metrics["mre_mm"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("named", [tuple(sorted(ALL)), *itertools.combinations(sorted(ALL), 2)], ids="+".join)
def test_strategies_named_in_either_order_give_the_same_weights(tiny, tmp_path, named):
    weights = []
    for names in (named, named[::-1]):
        settings = [f"plugins.{n}.{k}={v}" for n in names for k, v in ALL[n].items()]
        config = from_values(tiny(train={"epochs": 2}), plugins=names, settings=settings)
        weights.append(last_weights(ceph.train(config, out=tmp_path / "-".join(names)).folder))
    assert same_weights(*weights)


def test_ideas_about_targets_weights_views_and_decoding_go_together_in_quick(tiny_set, tmp_path):
    small = ["train.epochs=1", "data.size=[64, 64]", "model.backbone=test_resnet", "model.weights=none"]
    names = ("anisotropic-targets", "tta", "ema")
    config = resolve(preset="quick", plugins=names, settings=[*small, "evaluate.scales=[1, 1.25]"], data=tiny_set)
    run = ceph.train(config, out=tmp_path / "run")
    assert run.metrics["mre_mm"] > 0
    assert set(ceph.load(run.folder).hooks.names) == {*names, "shape-constraint"}
    assert (run.folder / "stages-validation.csv").exists()
