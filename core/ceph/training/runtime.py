"""The machine under the loop: device, precision, ranks, determinism. The only place that knows accelerate."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ceph.errors import ConfigError
from ceph.training.ranks import ALONE, Ranks, cpu_group, patience

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h
LAUNCHED = ("LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # torchrun, MPI
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """Where and how a run computes; `ranks` are the processes that share it."""

    device: torch.device
    precision: str
    ranks: Ranks = ALONE

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, its convolutions in channels-last order; changes and returns it."""
        return model.to(device=self.device).to(memory_format=torch.channels_last)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for the model's forward pass."""
        dtype = DTYPES.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def start(device: str = "auto", precision: str = "auto") -> Runtime:
    """Choose the device and the precision, and make arithmetic repeatable.

    Raises ConfigError where the machine lacks what was asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is visible", key="train.device", hint="--set train.device=auto")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("this machine has no MPS device", key="train.device", hint="--set train.device=auto")
    if device == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available():
        device = "cpu"
    if device == "cpu" and not any(name in os.environ for name in LAUNCHED):
        keep_freed_memory()
        return Runtime(torch.device(device), choose_precision(torch.device(device), precision))
    from accelerate import PartialState  # it takes its time

    state = PartialState(cpu=device == "cpu", timeout=patience())
    found = torch.device("cpu") if device == "cpu" else full_name(torch.device(state.device))
    if found.type == "cpu":
        keep_freed_memory()
    if found.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # hundreds of kernels
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32: points are those of the CPU
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    ranks = (
        Ranks(state.process_index, state.num_processes, here, found, cpu_group()) if state.num_processes > 1 else ALONE
    )
    return Runtime(found, choose_precision(found, precision), ranks)


def full_name(device: torch.device) -> torch.device:
    """The device as its tensors name it: `cuda:0`, where `cuda` is the same one."""
    return torch.empty(0, device=device).device


def choose_precision(device: torch.device, precision: str) -> str:
    """`auto` is bf16 where the device computes in it natively, else fp16 on CUDA and fp32 elsewhere."""
    if precision != "auto":
        if precision == "fp16" and device.type == "cpu":
            raise ConfigError("fp16 needs a GPU", key="train.precision", hint="--set train.precision=bf16, or auto")
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    return "fp32"


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16 or AMX); emulated it is slower than fp32."""
    capability: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if capability:
        return any(bool(value) for name, value in capability.items() if "bf16" in name.lower())
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take denormal numbers for zero: Gaussian tails are full of them, and they make CPU arithmetic many times slower.

    Threads take the setting over from the one that starts them, so this belongs around the first computation.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next step; no effect with another C library.

    Otherwise each large tensor is mapped anew and the kernel zeroes its pages again, a third of a training step. The
    process then holds its peak until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20)):
        mallopt(option, value)
