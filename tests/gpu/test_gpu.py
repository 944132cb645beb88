"""What runs on a GPU: each test on the CPU first (slow), so that it is known to come to its end, then there (gpu)."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.combos.test_pairs import NAMES, SETTINGS
from tests.distributed.launch import launch, records, written
from tests.training.runs import ALL, last_weights, same_weights
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import ceph
from ceph.config.load import from_values, resolve
from ceph.data.loader import Loader
from ceph.data.plan import plan_epoch
from ceph.errors import TrainingError
from ceph.run.prepare import prepare
from ceph.training import checkpoint
from ceph.training.batch_norm import synchronise
from ceph.training.graphs import Graphed

HERE = torch.cuda.is_available()
THERE = [pytest.mark.gpu, pytest.mark.skipif(not HERE, reason="no CUDA device is visible")]
CPU, CUDA = pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=THERE)
on_each = pytest.mark.parametrize("device", [CPU, CUDA])
NARROW = {"cpu": "bf16", "cuda": "fp16"}
SHELF = [name for name in NAMES if name not in ("tensorboard", "trackio", "wandb", "mlflow", "distill")]
PLUGIN = """import torch
from ceph.plugin import Plugin, hookimpl


class Mine(Plugin):
    '''A test.'''

    calls = 0
{body}

    def state_dict(self):
        return {{}}

    def load_state_dict(self, state):
        pass
"""
# The third loss is not a number.
NAN = """
    @hookimpl
    def loss_terms(self, batch):
        self.calls += 1
        return {"odd": batch.points.sum() * (float("nan") if self.calls == 3 else 0)}
"""
# The third gradient is not: a loss scaler takes it for its own fault.
TURNED = """
    @hookimpl
    def build_criterion(self, default):
        plain = default()

        def criterion(pred, target, weights):
            self.calls += 1
            bad = self.calls == 3
            pred.register_hook(lambda grad: grad * float("nan") if bad else grad)
            return plain(pred, target, weights)

        return criterion
"""
GREEDY = """
    @hookimpl
    def epoch_start(self, model):
        torch.empty(2**45, device=next(model.parameters()).device)
"""


@pytest.fixture
def on(tiny, tmp_path):
    """`on(device, plugins, **train)`: a config that trains on that device; the body of a plugin may be among them."""

    def config(device, plugins=(), body="", **train):
        named = {name: {} for name in plugins}
        if body:
            (tmp_path / "mine.py").write_text(PLUGIN.format(body=body))
            named["mine"] = {"from": str(tmp_path / "mine.py")}
        return tiny(train={"device": device, **train}, plugins=named)

    return config


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        pytest.param(device, precision, marks=marks)
        for device, marks in (("cpu", pytest.mark.slow), ("cuda", THERE))
        for precision in ("bf16", "fp16", "fp32")
        if (device, precision) != ("cpu", "fp16")
    ],
)
def test_it_trains_in_each_precision(device, precision, on, tmp_path):
    run = ceph.train(on(device, precision=precision, epochs=6, lr=3e-3), out=tmp_path / "run")
    first, *_, last = records(run.folder)
    assert last["loss"] < first["loss"]
    assert last["skipped_steps"] == 0
    assert math.isfinite(run.metrics["mre_mm"])


@on_each
def test_a_step_that_is_not_finite_is_skipped_and_the_scale_falls(device, on, tmp_path):
    config = on(device, body=TURNED, precision=NARROW[device], non_finite="skip")
    run = ceph.train(config, out=tmp_path / "run").folder
    scaled = device == "cuda"
    assert [line["skipped_steps"] for line in records(run)] == [0 if scaled else 1, 0]
    assert all(torch.isfinite(tensor).all() for tensor in last_weights(run).values())
    scaler = checkpoint.load(run / "checkpoints", checkpoint.LAST)["scaler"]
    assert scaler.get("scale") == (2.0**15 if scaled else None)


@on_each
def test_a_loss_that_is_not_finite_stops_the_run_naming_its_films(device, on, tmp_path):
    with pytest.raises((TrainingError, ceph.errors.PluginError), match="NaN|not finite"):
        ceph.train(on(device, body=NAN, precision=NARROW[device], check_every=1), out=tmp_path / "run")


@on_each
def test_memory_that_runs_out_says_what_to_lower(device, on, tmp_path):
    with pytest.raises(TrainingError, match="out of memory while training with batches of 4 films at 64x64") as found:
        ceph.train(on(device, body=GREEDY), out=tmp_path / "run")
    assert found.value.problems[0].hint.startswith("lower train.batch_size")


def moved(run, **settings):
    """The run, whose config says otherwise, as on another machine."""
    file = run / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    for key, value in settings.items():
        lines = [line if line.strip().partition(":")[0] != key else f"  {key}: {value}\n" for line in lines]
    file.write_text("".join(lines))
    return run


@on_each
@pytest.mark.parametrize("precision", ["fp32", "narrow"])
def test_a_run_that_was_stopped_goes_on_to_the_last_bit(device, precision, on, tmp_path):
    kind = NARROW[device] if precision == "narrow" else precision
    whole = ceph.train(on(device, ALL, precision=kind), out=tmp_path / "whole").folder
    half = ceph.train(on(device, ALL, precision=kind, stop_after=1), out=tmp_path / "half").folder
    ceph.resume(moved(half, stop_after="null"))
    assert same_weights(last_weights(whole), last_weights(half))
    assert (whole / "metrics.jsonl").read_bytes() == (half / "metrics.jsonl").read_bytes()


@on_each
@pytest.mark.parametrize("plugins", [["multi-scale", "ema"], ["fine-tune"], ["attention-head"]], ids="-".join)
def test_graphs_change_no_bit(device, plugins, on, tmp_path):
    runs = [
        ceph.train(on(device, plugins, cuda_graphs=g, epochs=4), out=tmp_path / str(g)).folder for g in (True, False)
    ]
    assert "no CUDA graphs" not in (runs[0] / "log.txt").read_text()
    assert same_weights(*map(last_weights, runs))


@on_each
def test_the_second_batch_of_a_kind_is_recorded_and_its_bits_are_those_of_the_network(device):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 3)).to(device)
    plain, graphed = copy.deepcopy(network), Graphed(network) if device == "cuda" else network
    for step in range(5):
        image = torch.rand(4, 1, 16 + step % 2, 16, device=device)
        found = []
        for forward, model in ((graphed, network), (plain, plain)):
            torch.manual_seed(step)
            model.zero_grad()
            with torch.autocast(device, torch.bfloat16):
                maps = forward(image)
            maps.float().square().mean().backward()
            found.append([maps.detach().clone(), *(p.grad.clone() for p in model.parameters())])
        assert all(map(torch.equal, *found))
    assert same_weights(network.state_dict(), plain.state_dict())
    assert device == "cpu" or all(graphed._graphs.values())


@on_each
def test_a_run_goes_on_on_another_device_and_back(device, on, tmp_path):
    whole = ceph.train(on("cpu", ["ema", "hard-mining"], epochs=3), out=tmp_path / "whole").folder
    run = ceph.train(on("cpu", ["ema", "hard-mining"], epochs=3, stop_after=1), out=tmp_path / "run").folder
    for where, end in ((device, 2), ("cpu", "null")):
        ceph.resume(moved(run, device=where, stop_after=end))
    there, here = records(run), records(whole)
    assert [line["epoch"] for line in there] == [0, 1, 2]
    assert [line["loss"] for line in there] == pytest.approx([line["loss"] for line in here], rel=1e-2)


@on_each
@pytest.mark.parametrize("name", SHELF)
def test_each_plugin_of_the_shelf_takes_two_steps(device, name, tiny, tmp_path):
    train = {"device": device, "precision": "auto", "batch_size": 12, "warmup_epochs": 0}
    settings = [f"plugins.{name}.{setting}" for setting in SETTINGS.get(name, [])]
    run = ceph.train(from_values(tiny(train=train), plugins=[name], settings=settings), out=tmp_path / "run")
    assert "switched off" not in (run.folder / "log.txt").read_text()
    assert math.isfinite(run.metrics["mre_mm"])


@on_each
def test_points_are_those_of_the_cpu_within_a_fiftieth_of_a_pixel(device, on, tmp_path, tiny_set):
    run = ceph.train(on("cpu", ["tta"], epochs=4, lr=3e-3), out=tmp_path / "run").folder
    films = sorted(tiny_set.rglob("*.png"))[:6]
    cpu, there = (
        ceph.load(run, settings=[f"train.device={d}", "train.precision=fp32", "evaluate.scales=[1,1.5]"]).predict(films)
        for d in ("cpu", device)
    )
    assert np.abs(cpu[0] - there[0]).max() <= 0.02
    assert np.abs(cpu[1] - there[1]).max() <= 1e-3


@on_each
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [4, 8, 16])
def test_batches_of_pinned_workers_are_those_of_none(device, workers, on):
    prepared = prepare(from_values(on(device, ["heavy-augmentation"])))
    batches = plan_epoch(len(prepared.train), 2, seed=0, epoch=0, size=(64, 64)).batches
    pin = device == "cuda"
    one, many = (list(Loader(prepared.train, n, pin=pin and n > 0).load(batches)) for n in (0, workers))
    for a, b in zip(one, many, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:7], b[:7], strict=True))
        assert b.image.is_pinned() == pin


@on_each
def test_a_job_of_one_process_trains_as_the_command_alone_does(device, on, tmp_path):
    config = written(on(device), tmp_path / "c.json")
    code, _, err = launch(1, "run", config, "--out", tmp_path / "job")
    assert code == 0, err
    alone = ceph.train(resolve(config), out=tmp_path / "alone").folder
    assert [x["loss"] for x in records(tmp_path / "job")] == [x["loss"] for x in records(alone)]


@on_each
def test_the_wrapped_network_of_one_process_has_the_gradients_of_the_bare_one(device):
    """NCCL on a GPU, gloo elsewhere: gradients, synchronised norms, and the exchange of objects between CPUs."""
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    try:
        torch.manual_seed(0)
        bare = nn.Sequential(nn.Conv2d(1, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 2, 3)).to(device)
        image = torch.rand(4, 1, 16, 16, device=device)
        bare(image).square().mean().backward()
        found = {name: p.grad.clone() for name, p in bare.named_parameters()}
        bare.zero_grad()
        synchronise(bare)
        DistributedDataParallel(bare, device_ids=[0] if device == "cuda" else None)(image).square().mean().backward()
        for name, p in bare.named_parameters():
            torch.testing.assert_close(p.grad, found[name], rtol=1e-4, atol=1e-6)
    finally:
        dist.destroy_process_group()
