"""The processes of one job (torchrun's ranks): what they tell each other, and how they end together.

With one process nothing is ever sent or waited for. Small numbers are summed in fp32 on the device; what the processes
must agree on before they go on (a signal, a fault) goes between the CPUs, so that a GPU is not waited for.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ceph.errors import CephError, ConfigError, TrainingError
from ceph.training.batch_norm import synchronise

T = TypeVar("T")

PATIENCE = "CEPH_TIMEOUT_MINUTES"  # a process that says nothing for so long ends the job; 30 where it is not set
REACH = 10.0  # seconds to find torchrun, which is at once or, where the network is cut, not at all
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")


@dataclass(frozen=True)
class Ranks:
    """One process, number `rank` of `count`, of which `here` share its machine."""

    rank: int = 0
    count: int = 1
    here: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None  # of CPUs; None: the only one that there is

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes, logs and shows."""
        return self.rank == 0

    def share(self, films: int) -> int:
        """How many films of a global micro-batch of `films` this process trains: `batch[rank::count]`."""
        return len(range(self.rank, films, self.count))

    def averaged(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over all processes, the same bits on each; detached."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def gathered(self, parts: Sequence[torch.Tensor], films: int) -> tuple[torch.Tensor, ...]:
        """Rows [B, ...] of each process's slice of a micro-batch -> [films, ...] of all of it, in its own order."""
        if self.count == 1:
            return tuple(parts)
        widths = [part[0].numel() for part in parts]
        rows = torch.cat([part.flatten(1) if part.ndim > 1 else part[:, None] for part in map(_double, parts)], dim=1)
        padded = rows.new_zeros(-(-films // self.count), rows.shape[1])
        padded[: self.share(films)] = rows[: self.share(films)]
        slices = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(slices, padded)
        table = torch.split(torch.stack(slices, dim=1).flatten(0, 1)[:films], widths, dim=1)
        return tuple(c.to(p.dtype).reshape(films, *p.shape[1:]) for c, p in zip(table, parts, strict=True))

    def greatest(self, number: int) -> int:
        """The greatest of each process's number; waits for all of them."""
        if self.count == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX, self.group)
        return int(found)

    def collected(self, value: T) -> list[T]:
        """The value of each process, by rank; waits for all of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, self.group)
        return values

    def agreed(self, value: T) -> T:
        """The first process's value, on all."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0, self.group)
        return values[0]

    def require_same(self, value: object, what: str) -> None:
        """Raise ConfigError unless all processes have the same `value`, as printed; `what` it is."""
        if self.count > 1 and len(set(self.collected(hashlib.sha256(repr(value).encode()).hexdigest()))) > 1:
            raise ConfigError(
                f"the processes of this job do not see the same {what}",
                hint="give every machine the same files, at the same paths, and the same versions",
            )

    def settle(self, fault: CephError | None) -> None:
        """Raise the fault that this process found, or one that is told elsewhere where another process found one."""
        if self.greatest(int(fault is not None)):
            raise fault or told_elsewhere()

    def copy_buffers(self, model: nn.Module) -> None:
        """Give all processes the first one's buffers, such as the running statistics of batch norms."""
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        if self.count == 1 or not buffers:
            return
        flat = torch.cat([buffer.detach().flatten().float() for buffer in buffers])
        dist.broadcast(flat, 0)
        parts = torch.split(flat, [buffer.numel() for buffer in buffers])
        torch._foreach_copy_(buffers, [p.view_as(b) for p, b in zip(parts, buffers, strict=True)])

    @contextmanager
    def exchanging(self, forward: object, *, gradients: bool) -> Iterator[None]:
        """Around a backward pass: without `gradients` they wait for the last micro-batch of an accumulation."""
        quiet = isinstance(forward, DistributedDataParallel) and not gradients
        with forward.no_sync() if quiet else nullcontext():  # type: ignore[attr-defined]
            yield

    def average_gradients(self, parts: Mapping[str, nn.Module]) -> None:
        """Average the gradients of modules that stand outside of `wrap`, as plugins call them anywhere in a step.

        A parameter that no process used has none; elsewhere a missing gradient counts as zero.
        """
        learning = [p for part in parts.values() for p in part.parameters() if p.requires_grad]
        if self.count == 1 or not learning:
            return
        used = torch.tensor([p.grad is not None for p in learning], dtype=torch.float32, device=self.device)
        dist.all_reduce(used)
        kept = [p for p, times in zip(learning, used.tolist(), strict=True) if times]
        if not kept:
            return
        for p in kept:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = self.averaged(torch.cat([p.grad.flatten() for p in kept]))  # type: ignore[union-attr]
        for p, part in zip(kept, torch.split(flat, [p.numel() for p in kept]), strict=True):
            p.grad = part.view_as(p)

    def wrap(self, model: nn.Module, *, sync_batchnorm: bool, apart: Sequence[str] = ()) -> nn.Module:
        """The model as one that averages its gradients over all processes; the model itself with one process.

        The children named in `apart` are not: see `average_gradients`.

        Parameters may be frozen and thawed later. The buckets of gradients keep their layout for the whole run, so that
        a resumed run adds in the same order.
        """
        if self.count == 1:
            return model
        if sync_batchnorm:
            synchronise(model)
        learning = [p.requires_grad for p in model.parameters()]
        model.requires_grad_(requires_grad=True)
        outside = [name for name, _ in model.named_parameters() if name.partition(".")[0] in apart]
        outside += [name for name, _ in model.named_buffers() if name.partition(".")[0] in apart]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, outside)  # type: ignore[no-untyped-call] # noqa: SLF001 - its only door
        devices = [self.device] if self.device.type == "cuda" else None
        wrapped = DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)
        for parameter, learns in zip(model.parameters(), learning, strict=True):
            parameter.requires_grad_(learns)
        return wrapped


ALONE = Ranks()


def _double(part: torch.Tensor) -> torch.Tensor:
    return part.detach().double()


@cache
def cpu_group() -> Any:
    """A group of all processes that speaks between CPUs; None where the only group does."""
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=patience())


def patience() -> timedelta:
    """How long the others wait for a process that says nothing. Raises ConfigError for what is no number of minutes."""
    text = os.environ.get(PATIENCE, "30")
    with suppress(ValueError, OverflowError):
        if (found := timedelta(minutes=float(text))) > timedelta():
            return found
    raise ConfigError(f"{text!r} is no number of minutes", key=PATIENCE, hint=f"export {PATIENCE}=30")


def told_elsewhere() -> CephError:
    """The error of a process that ends because another one failed, which has said why."""
    error = CephError("another process of this job has failed")
    error.told = True
    return error


@contextmanager
def connected() -> Iterator[None]:
    """Inside, the loss of another process is an error for a person, not a traceback of the transport."""
    try:
        yield
    except RuntimeError as error:
        if not dist.is_initialized() or not any(word in str(error) for word in LOST):
            raise
        if _failures(0):
            raise told_elsewhere() from error
        waited = f"{patience() / timedelta(minutes=1):g} minutes ({PATIENCE})"
        raise TrainingError(
            f"another process of this job has said nothing for {waited}: it hangs, or its machine or network is gone"
            if "timed out" in str(error).lower()
            else "another process of this job has ended without a word: killed, or its machine or network is gone",
            hint="go on from the last checkpoint: the same command with `run --resume RUN`",
        ) from error


@contextmanager
def one_voice() -> Iterator[None]:
    """Of all processes that fail, only the first keeps its message (`CephError.told`); all keep their exit codes."""
    try:
        with connected():
            yield
    except CephError as error:
        error.told = error.told or (dist.is_initialized() and _failures(1) > 1)
        raise


def _failures(more: int) -> int:
    """How many processes have failed so far, counting `more` of them; kept by torchrun, which outlives them."""
    try:
        where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        socket.create_connection(where, REACH).close()  # a store tries for minutes, and prints each try
        store = dist.TCPStore(*where, wait_for_workers=False)  # type: ignore[attr-defined]
        return int(store.add(f"ceph/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/failed", more))
    except (KeyError, OSError, RuntimeError):
        return 0
