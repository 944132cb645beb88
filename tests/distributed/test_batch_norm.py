"""The batch norm of several processes is torch's own where there is one: values, gradients, statistics."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import nn

from ceph.training.batch_norm import synchronise


@pytest.fixture
def group():
    """A process group of this process alone."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(5), BatchNormAct2d(5), nn.BatchNorm2d(5, momentum=None, affine=False)])
def test_values_gradients_and_statistics_are_those_of_torch(group, norm):
    torch.manual_seed(0)
    synced = nn.Sequential(copy.deepcopy(norm))
    synchronise(synced)
    x = (3 + 2 * torch.randn(4, 5, 6, 7)).to(memory_format=torch.channels_last)
    factors = torch.randn(4, 5, 6, 7)
    found = []
    for module in (nn.Sequential(norm), synced):
        own = x.clone().requires_grad_()
        for _ in range(3):
            y = module(own)
        (y * factors).sum().backward()
        grads = [p.grad for p in module.parameters()]
        found.append([y, own.grad, *grads, *module.buffers(), module.eval()(x)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_copy_of_the_model_keeps_its_own_norms(group):
    model = nn.Sequential(nn.BatchNorm2d(3))
    synchronise(model)
    twin = copy.deepcopy(model)
    twin(torch.randn(2, 3, 4, 4))
    assert model[0].num_batches_tracked == 0
    assert twin[0].num_batches_tracked == 1
    assert isinstance(twin[0], nn.BatchNorm2d)
