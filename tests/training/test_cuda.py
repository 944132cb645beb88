"""What can be known of a GPU without one: which numbers a step waits for, where its tensors are, and in which types."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.combos.test_pairs import NAMES, SETTINGS, refused
from tests.training.fake_cuda import CUDA, fake_cuda, give_gradients, on_cuda
from tests.training.runs import last_weights, same_weights
from torch import nn

import ceph
from ceph.config.load import from_values
from ceph.data.dataset import collate, to_batch
from ceph.data.loader import Loader
from ceph.data.plan import Entry
from ceph.evaluation.means import Ensemble, Member
from ceph.model.codec import DECODERS, GaussianDecoder
from ceph.run.evaluator import Evaluator
from ceph.run.prepare import prepare
from ceph.run.train import build, new_network
from ceph.training import engine
from ceph.training.graphs import Graphed
from ceph.training.loss import CRITERIA
from ceph.training.progress import Progress
from ceph.training.runtime import full_name

SINKS = ("tensorboard", "trackio", "wandb", "mlflow")  # they only watch
SHELF = [name for name in NAMES if name not in (*SINKS, "distill")]
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
ITEM = 7  # tensors of a loaded batch: image, points, valid, film, spacing, matrix, reader


@pytest.fixture
def cuda(monkeypatch):
    with fake_cuda(monkeypatch) as mode:
        yield mode


def job_on_cuda(config, plugins=(), precision="bf16", **settings):
    given = [f"plugins.{name}.{setting}" for name in plugins for setting in SETTINGS.get(name, [])]
    given += [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    prepared = on_cuda(prepare(from_values(config, plugins=plugins, settings=given)), precision)
    job = build(prepared, new_network(prepared), Path("nowhere"))
    prepared.hooks.tell("run_start", run=job.run, model=job.model)
    return prepared, job


def step(prepared, job, mode, steps=2):
    """Training steps of an epoch, of which nothing is due to be read; the loss of the last."""
    progress = Progress(step=1)
    job.model.train()
    job.hooks.tell("epoch_start", epoch=0, model=job.model)
    plan = engine.planned_epoch(job, progress)
    items = Loader(prepared.train, 0).load(plan.batches, progress.sampling)
    give_gradients(job.model)
    for batch in plan.batches[:steps]:
        mode.forget()
        loss = engine.train_step(job, progress, items, [len(batch)], epochs_done=0.0, last=False)
    return loss


def together(names):
    """The names in as few groups as go together."""
    groups = []
    for name in names:
        group = next((g for g in groups if not any(refused(name, other) for other in g)), None)
        groups.append([name]) if group is None else group.append(name)
    return groups


ALONE = [pytest.param([name], marks=pytest.mark.slow) for name in SHELF]


@pytest.mark.parametrize("names", [[], *together(SHELF), *ALONE], ids="+".join)
def test_a_step_waits_for_nothing_of_the_device_and_mixes_no_devices(names, tiny, cuda):
    prepared, job = job_on_cuda(tiny(), names)
    loss = step(prepared, job, cuda)
    assert loss.device == CUDA
    assert cuda.waited == []
    draws = 4 * ("mean-teacher" in names) + ("cvm-head" in names) + 3 * ("zoom" in names)
    assert len(cuda.handed) == ITEM + draws


@pytest.mark.parametrize(
    ("loss", "precision"),
    [*((loss, "bf16") for loss in CRITERIA), ("cross-entropy", "fp16"), ("cross-entropy", "fp32")],
)
def test_maps_and_losses_are_fp32_whatever_the_network_computes_in(loss, precision, tiny, cuda, monkeypatch):
    prepared, job = job_on_cuda(tiny(loss={"name": loss}), precision=precision)
    seen = {}
    job.model.head.register_forward_hook(lambda _m, given, found: seen.update(features=given[0].dtype, raw=found.dtype))
    own = engine.batch_loss
    monkeypatch.setattr(engine, "batch_loss", lambda job, batch: seen.setdefault("loss", own(job, batch)))
    assert step(prepared, job, cuda, steps=1).dtype == torch.float32
    value, found = seen["loss"]
    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    assert {seen["features"], seen["raw"]} == {narrow}
    assert {value.dtype, found.pred.dtype, found.loss.dtype} == {torch.float32}
    assert {p.dtype for p in job.model.parameters()} == {torch.float32}
    assert job.scaler.is_enabled() == (precision == "fp16")


@pytest.mark.parametrize(
    ("scales", "decoder"), [([0.75, 1.0] if name == "argmax" else [1.0], name) for name in DECODERS]
)
def test_a_prediction_is_launched_without_waiting_for_the_device(decoder, scales, tiny, cuda):
    prepared, job = job_on_cuda(tiny(evaluate={"scales": scales}, target={"decoder": decoder}), ["tta"])
    evaluator = Evaluator(prepared.config, job.hooks, job.runtime, job.run.landmarks, job.stations)
    ensemble = Ensemble([(Member(job.model.eval()), None)], evaluator.views, prepared.config.data.size, scales)
    items = [collate([prepared.validation[Entry(0, size, 0)]]) for size in ensemble.sizes]
    cuda.forget()
    maps, _ = ensemble.maps(items, [to_batch(item, CUDA).image for item in items], job.runtime.autocast)
    (stage,) = job.stations.stages(maps, (64, 64), None, ensemble.model, None)
    assert cuda.waited == []
    assert {maps.device, stage.points.device, stage.scores.device} == {CUDA}


# --- compiled --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh():
    """No compiled code of other tests, and none left behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(params=["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def same_in_one_graph(request, fresh):
    """Hold that a function gives the same in one graph, which a break is not; inductor's code rounds otherwise."""
    near = {"rtol": 0, "atol": 0} if request.param == "eager" else {"rtol": 1e-3, "atol": 1e-4}

    def same(function, *given):
        one_graph = torch.compile(function, backend=request.param, fullgraph=True)
        torch.testing.assert_close(one_graph(*given), function(*given), **near)

    return same


def test_the_network_is_one_graph(tiny, same_in_one_graph):
    torch.manual_seed(0)
    same_in_one_graph(new_network(prepare(from_values(tiny()))).eval(), torch.rand(2, 1, 64, 64))


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", CRITERIA)
def test_each_criterion_is_one_graph(name, weighed, same_in_one_graph):
    weights = torch.rand(2, 3, 16, 16) if weighed else None
    same_in_one_graph(CRITERIA[name], torch.randn(2, 3, 16, 16), torch.rand(2, 3, 16, 16), weights)


@pytest.mark.parametrize("name", DECODERS)
def test_each_decoder_is_one_graph(name, same_in_one_graph):
    maps = torch.randn(2, 3, 24, 20).flatten(2).softmax(-1).view(2, 3, 24, 20)
    same_in_one_graph(GaussianDecoder("distribution", 1.5, 4, name).decode, maps, (96, 80))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of what dynamo looks at
@pytest.mark.parametrize("name", [pytest.param(None, marks=pytest.mark.slow), "cvm-head"])  # a head beside the network
def test_a_compiled_run_trains_as_one_that_is_not(name, tiny, tmp_path, fresh, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plugins = {name: {}} if name else {}
    runs = [
        ceph.train(tiny(train={"compile": c}, plugins=plugins), out=tmp_path / str(c)).folder for c in (False, True)
    ]
    assert same_weights(*map(last_weights, runs))


# --- CUDA graphs -----------------------------------------------------------------------------------------------------


def test_the_device_is_named_as_its_tensors_name_it(cuda):
    assert full_name(torch.device("cuda")) == CUDA


def test_a_network_that_cannot_be_recorded_runs_as_it_is(caplog):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    plain, graphed, image = copy.deepcopy(network), Graphed(network), torch.rand(2, 1, 8, 8)
    for _ in range(4):
        assert torch.equal(graphed(image), plain(image))
    assert caplog.text.count("no CUDA graphs") == 1
    assert same_weights(network.state_dict(), plain.state_dict())
