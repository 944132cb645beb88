"""The network's forward and backward pass as CUDA graphs: hundreds of kernels launched as one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

log = logging.getLogger("ceph")

MOST = 16  # graphs that a run keeps; batches of further shapes run kernel by kernel
Key = tuple[Any, ...]


class Graphed:
    """A network whose training pass is replayed from a CUDA graph, one for each kind of batch; the same bits.

    A batch is of a kind with another if its shape and type, the parameters that train and the modules' modes are the
    same. The second batch of a kind is recorded. A network with forward hooks, and what cannot be recorded, runs as it
    is. Call it under autocast as the network itself; one backward pass has to follow before the next call.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._graphs: dict[Key, Callable[[torch.Tensor], torch.Tensor] | None] = {}
        self._pool: Any = None
        self._off = False

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The network's answer to images [B, C, H, W]."""
        modules = list(self.model.modules())
        watched = any(m._forward_hooks or m._forward_pre_hooks for m in modules)  # noqa: SLF001 - nothing else tells
        if watched or self._off or not torch.is_grad_enabled():
            return self._plain(images)
        key = (
            *(images.shape, images.dtype, images.is_contiguous(memory_format=torch.channels_last)),
            tuple(p.requires_grad for p in self.model.parameters()),
            tuple(m.training for m in modules),
        )
        if key not in self._graphs:
            if len(self._graphs) < MOST:
                self._graphs[key] = None
            return self._plain(images)
        if self._graphs[key] is None:
            self._graphs[key] = self._recorded(images)
        return self._graphs[key](images)  # type: ignore[misc]

    def _plain(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.model(images)
        return found

    def _recorded(self, images: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """The graph of a batch, or the network itself where there can be none; its buffers stay as they are."""
        kind, before = images.device.type, [buffer.clone() for buffer in self.model.buffers()]
        try:
            random = torch.cuda.get_rng_state(images.device)
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            with torch.autocast(
                kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False
            ):
                graph: Any = torch.cuda.make_graphed_callables(
                    Pass(self.model), (images.clone(),), allow_unused_input=True, pool=self._pool
                )
            torch.cuda.set_rng_state(random, images.device)
        except (RuntimeError, AssertionError) as error:  # memory, or a step that asks the device for a number
            self._off = True
            log.warning("no CUDA graphs, steps go kernel by kernel: %s", str(error).strip().split("\n")[0])
            return self._plain
        finally:
            for buffer, was in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(was)
        return cast("Callable[[torch.Tensor], torch.Tensor]", graph)


class Pass(nn.Module):
    """A shell around a network: what makes it a graph is done to the shell, and copies of the network stay plain."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """What the network gives."""
        found: torch.Tensor = self.model(images)
        return found
