"""Row 9 of docs/reliability.md: NaN or infinity in the loss, a gradient or a weight."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.training.runs import last_weights

import ceph
from ceph.errors import TrainingError

HEAD = """
import torch
from ceph.plugin import Plugin, PluginConfig, hookimpl

class Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, number):
        ctx.number = number
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient + ctx.number, None

class Bad(Plugin[PluginConfig]):
    '''Spoils step 4, the second of the second epoch.'''

    calls = 0
"""
BODIES = {
    "loss": """
    @hookimpl
    def build_criterion(self, run, default):
        whole = default()
        def criterion(pred, target, pixels):
            self.calls += 1
            return whole(pred, target, pixels) + (NUMBER if self.calls == 5 else 0.0)
        return criterion
""",
    "gradient": """
    @hookimpl
    def build_criterion(self, run, default):
        whole = default()
        def criterion(pred, target, pixels):
            self.calls += 1
            return whole(Spoil.apply(pred, NUMBER) if self.calls == 5 else pred, target, pixels)
        return criterion
""",
    "weights": """
    @hookimpl
    def step_end(self, step, model):
        if step == 4:
            with torch.no_grad():
                next(model.parameters()).view(-1)[0] = NUMBER
""",
}
CASES = [*itertools.product(BODIES, ("nan", "inf"), ("stop", "skip"))]
SHORT = [("loss", "nan", "stop"), ("gradient", "inf", "skip"), ("weights", "nan", "skip")]


@pytest.mark.parametrize(
    ("part", "number", "setting"),
    [pytest.param(*c, marks=() if c in SHORT else pytest.mark.slow, id="-".join(c)) for c in CASES],
)
def test_row_09_a_number_that_is_not_finite_stops_or_is_skipped_and_the_good_checkpoint_stays(
    tiny, tmp_path, part, number, setting, caplog
):
    file = tmp_path / "bad.py"
    file.write_text(HEAD + BODIES[part].replace("NUMBER", f"float('{number}')"))
    config = tiny(plugins={"bad": {"from": str(file)}}, train={"non_finite": setting})
    run = tmp_path / "run"
    if setting == "skip" and part != "weights":
        ceph.train(config, out=run)
        told = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
        assert len(told) == 1
    else:
        with pytest.raises(TrainingError) as error:
            ceph.train(config, out=run)
        told = [str(error.value)]
        assert "hint: " in told[0]
    assert "not finite at step " in told[0]
    assert f"the {part} " in told[0] or part == "weights"
    assert "films: synthetic-" in told[0] or "weights are not finite" in told[0]
    weights = last_weights(run)
    assert all(torch.isfinite(w).all() for w in weights.values())
