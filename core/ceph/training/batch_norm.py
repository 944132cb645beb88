"""Batch norms whose statistics are those of the global batch.

On a GPU they are torch's own SyncBatchNorm. That needs one; elsewhere this is arithmetic on any device, so that several
processes on CPUs train as one does, and the norms keep their class: only their forward pass in training is another.
Names and state are the same either way.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, cast

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(model: nn.Module) -> None:
    """Make all batch norms of a model take their statistics over all processes while they train."""
    if any(tensor.device.type == "cuda" for tensor in (*model.parameters(), *model.buffers())):
        convert_sync_batchnorm(model)  # in place: norms are replaced in their parents, with their parameters
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm) and module.track_running_stats:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    """The forward pass of a norm; timm's have an activation too."""
    if not self.training:
        return cast("torch.Tensor", type(self).forward(self, x))
    momentum = self.momentum
    if self.num_batches_tracked is not None:
        self.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)
    weight, bias = (p if p is not None else x.new_full((x.shape[1],), v) for p, v in ((self.weight, 1), (self.bias, 0)))
    y, mean, var, count = _Normalise.apply(x, weight, bias, self.eps)
    with torch.no_grad():
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var * (count / (count - 1).clamp_min(1)), momentum)
    return cast("torch.Tensor", self.act(self.drop(y)) if hasattr(self, "act") else y)


class _Normalise(torch.autograd.Function):
    """Normalise [B, C, ...] by mean and variance [C] over all processes (Ioffe & Szegedy 2015, algorithm 1)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        own = torch.cat([*_moments(x), x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float32)])
        all_of = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(all_of, own)
        means, variances, counts = torch.split(torch.stack(all_of), [x.shape[1], x.shape[1], 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        var = ((variances + (means - mean) ** 2) * counts).sum(0) / count  # Chan et al. 1983, of several samples
        inverse = (var + eps).rsqrt()
        scale = inverse * weight.float()
        y = x * _as(x, scale) + _as(x, bias.float() - mean * scale)
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, var, count)
        return y.to(x.dtype), mean, var, count

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        others = [d for d in range(x.ndim) if d != 1]
        dy = dy.float()
        xhat = (x.float() - _as(x, mean)) * _as(x, inverse)
        dbias, dweight = dy.sum(others), (dy * xhat).sum(others)
        sums = torch.cat([dbias, dweight])
        dist.all_reduce(sums)
        mean_dy, mean_dy_xhat = (sums / count).chunk(2)
        dx = (dy - _as(x, mean_dy) - xhat * _as(x, mean_dy_xhat)) * _as(x, inverse * weight.float())
        return dx.to(x.dtype), dweight.to(weight.dtype), dbias.to(weight.dtype), None


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance [C] of [B, C, ...], in fp32."""
    var, mean = torch.var_mean(x.float(), dim=[d for d in range(x.ndim) if d != 1], correction=0)
    return mean, var


def _as(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values [C] laid out to broadcast over x [B, C, ...]."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
