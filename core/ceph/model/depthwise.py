"""Depthwise convolutions whose backward pass is fast in bf16 on a CPU.

The library's own bf16 kernels are slow there for the weights' gradient of 5x5 kernels and for the input's gradient of
strided ones, which then cost about as much as the rest of the network together. The same gradients come several times
faster from fp32 arithmetic and from a plain convolution of the spread-out output gradient.
`benchmarks/depthwise.py` measures both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn

SMALL_KERNEL = 3  # up to this size the library's bf16 gradient of the weights is fast


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d, or timm's with `same` padding, with the faster backward pass where it helps."""

    same_padding = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the base's name
        """Convolve [B, C, H, W]."""
        if self.same_padding:
            input = pad_same(input, self.kernel_size, self.stride, self.dilation)  # noqa: A001
        padding = (0, 0) if self.same_padding else self.padding
        if helps(input) and torch.is_grad_enabled():
            weight = self.weight.to(torch.get_autocast_dtype("cpu"))
            found: torch.Tensor = _Depthwise.apply(input.to(weight.dtype), weight, self.stride, padding)
            return found if self.bias is None else found + self.bias.view(1, -1, 1, 1)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def helps(input: torch.Tensor) -> bool:  # noqa: A002 - as in PyTorch
    """Whether the other backward pass is the faster one here: on a CPU in bf16."""
    if input.device.type != "cpu":
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def use_fast_depthwise(network: nn.Module) -> int:
    """Replace the depthwise convolutions of a network, keeping their weights and names; returns how many."""
    count = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and type(child) in (nn.Conv2d, Conv2dSame) and _replaceable(child):
                setattr(parent, name, _replacement(child))
                count += 1
    return count


def _replaceable(conv: nn.Conv2d) -> bool:
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    slow = max(conv.kernel_size) > SMALL_KERNEL or conv.stride != (1, 1)
    usual = conv.dilation == (1, 1) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return depthwise and slow and usual


def _replacement(conv: nn.Conv2d) -> DepthwiseConv2d:
    (ky, kx), (sy, sx), padding = conv.kernel_size, conv.stride, conv.padding
    assert not isinstance(padding, str)  # noqa: S101 - asked before
    channels, (py, px) = conv.in_channels, padding
    made = DepthwiseConv2d(
        channels, channels, (ky, kx), (sy, sx), (py, px), groups=channels, bias=conv.bias is not None, device="meta"
    )
    made.weight, made.bias = conv.weight, conv.bias
    made.same_padding = isinstance(conv, Conv2dSame)
    return made.train(conv.training)


class _Depthwise(torch.autograd.Function):
    """F.conv2d of [B, C, H, W] with weights [C, 1, k, k] in groups of one."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: Any, padding: Any) -> torch.Tensor:
        """Convolve, as ever."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """Gradients of x and of the weights."""
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            if tuple(ctx.stride) == (1, 1):
                of_x = _library(gradient, x, weight, ctx.stride, ctx.padding, (True, False, False))[0]
            else:
                of_x = _spread_out(gradient, x, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            inputs = (gradient, x, weight)
            if max(weight.shape[-2:]) > SMALL_KERNEL:
                inputs = (gradient.float(), x.float(), weight.float())
            of_weight = _library(*inputs, ctx.stride, ctx.padding, (False, True, False))[1].to(weight.dtype)
        return of_x, of_weight, None, None


def _library(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: Any, padding: Any, wanted: tuple[bool, ...]
) -> tuple[torch.Tensor, ...]:
    """The library's own gradients of (x, weight, bias)."""
    transposed, groups = False, weight.shape[0]
    found: tuple[torch.Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), transposed, (0, 0), groups, wanted
    )
    return found


def _spread_out(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: Any, padding: Any
) -> torch.Tensor:
    """The gradient of x: the output's [B, C, h, w], spread out by the stride, convolved with the turned kernel."""
    B, C, H, W = x.shape
    ky, kx = weight.shape[-2:]
    h, w = gradient.shape[-2:]
    spread = torch.empty((B, C, H + ky - 1, W + kx - 1), dtype=x.dtype, memory_format=torch.channels_last).zero_()
    rows = slice(ky - 1 - padding[0], ky - 1 - padding[0] + (h - 1) * stride[0] + 1, stride[0])
    columns = slice(kx - 1 - padding[1], kx - 1 - padding[1] + (w - 1) * stride[1] + 1, stride[1])
    spread[:, :, rows, columns] = gradient
    return F.conv2d(spread, weight.flip(2, 3), None, 1, 0, 1, C)
