"""A CUDA device that is not there: tensors on it have shapes, types and a device, but no numbers.

Tensors of the CPU stay real. Whatever needs a number of the device (`.item()`, a mask as an index) or mixes devices
raises, as torch's FakeTensorMode does; copies between the two are counted. One thing cannot be had without a device,
autograd's pass back: parameters are given gradients of their shapes instead.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ceph.training.runtime import Runtime

CUDA = torch.device("cuda:0")
WAITS = ("aten::_linalg_check_errors", "aten::nonzero", "aten::equal", "aten::_local_scalar_dense")


class FakeCuda(TorchDispatchMode):
    """Describes what is on the device. Copies to and from it are in `handed`, or in `waited` if the host waits."""

    def __init__(self):
        super().__init__()
        self.handed, self.waited = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        there = [g for g in given if isinstance(g, FakeTensor) or (isinstance(g, torch.device) and g.type == "cuda")]
        if not there:
            with unset_fake_temporarily():
                return function(*args, **kwargs)
        found = function(*args, **kwargs)
        name = function.name().split(".")[0]
        if name in WAITS:
            self.waited.append(name)
        if name in ("aten::_to_copy", "aten::copy_"):
            source = args[name == "aten::copy_"]
            if source.device.type != found.device.type:
                quick = kwargs.get("non_blocking") or args[2:3] == (True,)
                (self.handed if quick else self.waited).append(f"{source.device.type} {list(source.shape)}")
        return found

    def forget(self):
        self.handed, self.waited = [], []


@contextmanager
def fake_cuda(patch):
    """Inside, `cuda:0` is one of this machine's devices; gives the FakeCuda."""
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    patch.setattr(torch.cuda, "get_device_name", str)
    patch.setattr(torch.Tensor, "backward", lambda _loss: None)
    patch.setattr(nn.Module, "to", described)
    with FakeTensorMode(allow_non_fake_inputs=True), FakeCuda() as mode:
        yield mode


def described(module, *args, **kwargs):
    """`Module.to`, which cannot swap a real parameter for a description."""
    device, *_ = torch._C._nn._parse_to(*args, **kwargs)
    for part in module.modules() if device is not None and device.type == "cuda" else ():
        for own in (part._parameters, part._buffers):
            for name, tensor in own.items():
                if tensor is not None and not isinstance(tensor, FakeTensor):
                    order = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA, memory_format=order)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    own[name] = nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
    return module


@dataclass(frozen=True)
class FakeRuntime(Runtime):
    """A runtime whose models are described on its device."""

    def place(self, model):
        return model.to(self.device)


def on_cuda(prepared, precision):
    """The same run, on that device."""
    runtime = FakeRuntime(CUDA, precision)
    return replace(prepared, runtime=runtime, run=replace(prepared.run, device=CUDA))


def give_gradients(model):
    """What the pass back would have left."""
    for p in model.parameters():
        p.grad = torch.empty_like(p) if p.requires_grad else None
