"""Numbers that are not finite stop a run or are skipped, name step and films, and never reach a checkpoint."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tests.training.runs import last_weights

import ceph
from ceph.errors import PluginError, TrainingError
from ceph.training import checkpoint, nonfinite

PLUGIN = (
    "from ceph.plugin import Plugin, PluginConfig, hookimpl\n\n\n"
    "class Other(Plugin[PluginConfig]):\n    '''A test.'''\n\n"
)

HEAD = """import torch
from ceph.plugin import Plugin, PluginConfig, hookimpl

BAD, AT = float("{bad}"), 2


class Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * BAD


class Mine(Plugin[PluginConfig]):
    '''A test.'''

    calls = 0
"""
LOSS = """
    @hookimpl
    def build_criterion(self, run, default):
        plain = default()

        def criterion(pred, target, weights):
            self.calls += 1
            found = plain(pred, target, weights)
            return {} if self.calls == AT else found

        return criterion
"""
WHERE = {
    "loss": LOSS.format("found + torch.tensor(BAD)"),
    "gradient": LOSS.format("Turned.apply(found)"),
    "weights": """
    @hookimpl
    def step_end(self, step, model):
        if step == AT - 1:
            next(model.parameters()).data.view(-1)[0] = BAD
""",
}


def faulty(folder, where, bad):
    path = folder / "mine.py"
    path.write_text(HEAD.format(bad=bad) + WHERE[where])
    return {"mine": {"from": str(path)}}


def finite(weights):
    return all(torch.isfinite(part).all() for part in weights.values())


SLOW = [("loss", "inf"), ("weights", "inf")]
CASES = [
    pytest.param(where, bad, marks=pytest.mark.slow if (where, bad) in SLOW else ())
    for where in WHERE
    for bad in ("nan", "inf")
]


@pytest.mark.parametrize(("where", "bad"), CASES)
def test_a_run_stops_at_a_number_that_is_not_finite_and_the_good_checkpoint_stays(tiny, tmp_path, where, bad):
    run = tmp_path / "run"
    with pytest.raises(TrainingError) as found:
        ceph.train(tiny(plugins=faulty(tmp_path, where, bad), train={"epochs": 1}), out=run)
    words = str(found.value)
    assert words.startswith(
        f"the {where} {'are' if where == 'weights' else 'is'} not finite at step 1 (epoch 1); films"
    )
    assert words.count("synthetic-") == 4
    assert "hint: " in words
    assert finite(last_weights(run))
    assert checkpoint.load(run / "checkpoints", checkpoint.LAST)["progress"]["step"] == 0


@pytest.mark.parametrize(("where", "bad"), CASES)
def test_a_step_with_a_number_that_is_not_finite_is_skipped_where_that_is_asked_for(tiny, tmp_path, where, bad):
    run = tmp_path / "run"
    config = tiny(plugins=faulty(tmp_path, where, bad), train={"epochs": 1, "non_finite": "skip"})
    if where == "weights":  # skipping does not bring them back
        with pytest.raises(TrainingError, match="the weights are not finite"):
            ceph.train(config, out=run)
        assert finite(last_weights(run))
        return
    ceph.train(config, out=run)
    assert finite(last_weights(run))
    (record,) = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert record["skipped_steps"] == 1
    assert record["step"] == 3
    assert math.isfinite(record["loss"])
    warning = f"the {where} is not finite at step 1 (epoch 1); films: synthetic-"
    assert warning in (run / "log.txt").read_text()


def test_a_skipped_step_changes_nothing(tiny, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    one_step = {"epochs": 1, "batch_size": 12, "non_finite": "skip"}
    plugins = faulty(tmp_path, "gradient", "nan")
    (tmp_path / "mine.py").write_text(
        (tmp_path / "mine.py").read_text().replace('AT = float("nan"), 2', 'AT = float("nan"), 1')
    )
    ceph.train(tiny(plugins=plugins, train=one_step), out=after)
    ceph.train(tiny(train={**one_step, "lr": 1e-30, "weight_decay": 0}), out=before)
    one, other = last_weights(before), last_weights(after)
    trained = [name for name in one if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-20) for name in trained)
    assert all(bool((other[n] == 0).all()) for n in other if n.endswith("running_mean"))  # as they were made


def test_skipping_ends_after_ten_steps_in_a_row(tiny, tmp_path):
    plugins = faulty(tmp_path, "loss", "nan")
    path = tmp_path / "mine.py"
    path.write_text(path.read_text().replace("self.calls == AT", "self.calls >= AT"))
    with pytest.raises(TrainingError, match=r"at step 10 (.|\n)*10 steps in a row"):
        ceph.train(tiny(plugins=plugins, train={"batch_size": 1, "non_finite": "skip"}), out=tmp_path / "run")


def test_flags_that_are_read_late_name_the_step_where_it_began(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(nonfinite, "is_due", lambda job, progress, *, last: last)  # as on a GPU, between two looks
    config = tiny(plugins=faulty(tmp_path, "gradient", "nan"), train={"epochs": 1, "batch_size": 2})
    with pytest.raises(TrainingError, match=r"at step 1 \(epoch 1\)"):
        ceph.train(config, out=tmp_path / "run")
    assert finite(last_weights(tmp_path / "run"))


def test_a_plugin_that_passes_on_what_it_was_given_is_not_blamed(tiny, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(f"{PLUGIN}    @hookimpl\n    def landmark_weights(self, batch, loss):\n        return loss\n")
    plugins = {**faulty(tmp_path, "loss", "nan"), "other": {"from": str(other)}}
    with pytest.raises(TrainingError, match="the loss is not finite"):
        ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    other.write_text(other.read_text().replace("return loss\n", "return loss * float('nan')\n"))
    with pytest.raises(PluginError, match="other"):
        ceph.train(tiny(plugins={"other": {"from": str(other)}}), out=tmp_path / "second")


@pytest.mark.parametrize(("values", "best"), [((5, None, 4), 2), ((3, None, 4), 0), ((3, None, None), 0)])
def test_a_figure_that_is_missing_after_the_first_evaluation_is_the_worst(tiny, tmp_path, values, best):
    path = tmp_path / "figure.py"
    path.write_text(
        f"{PLUGIN}"
        "    def __init__(self, config=None):\n        super().__init__(config)\n"
        f"        self.values = list({values!r})\n\n"
        "    @hookimpl\n    def metrics(self):\n        value = self.values.pop(0)\n"
        "        return {} if value is None else {'mine': value}\n"
    )
    config = tiny(
        plugins={"figure": {"from": str(path)}}, train={"epochs": 3, "batch_size": 12, "monitor": "plugins.mine"}
    )
    assert ceph.train(config, out=tmp_path / "run").best_epoch == best
