"""The faster backward pass of depthwise convolutions gives the library's gradients."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from ceph.model.depthwise import DepthwiseConv2d, use_fast_depthwise
from ceph.model.zoo import create_model


def gradients(conv, image, *, bf16):
    image = image.clone().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = conv(image)
    (out.float() * torch.linspace(-1, 1, out[0, 0].numel()).view_as(out[0, 0])).sum().backward()
    return out.detach().float(), image.grad, conv.weight.grad.clone()


@pytest.mark.parametrize("kind", ["plain", "same"])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 22), (9, 30)])
def test_gradients_agree_with_the_library_s(kind, kernel, stride, size):
    if (kernel, stride) == (3, 1):
        pytest.skip("the library's own pass is the fast one and stays")
    torch.manual_seed(0)
    settings = {"groups": 6, "bias": False, "stride": stride}
    conv = (
        Conv2dSame(6, 6, kernel, **settings)
        if kind == "same"
        else nn.Conv2d(6, 6, kernel, padding=kernel // 2, **settings)
    )
    network = nn.Sequential(conv)
    image = torch.randn(2, 6, *size)
    exact, rounded = gradients(conv, image, bf16=False), gradients(conv, image, bf16=True)
    assert use_fast_depthwise(network) == 1
    assert isinstance(network[0], DepthwiseConv2d)
    for ours, theirs in zip(gradients(network[0], image, bf16=False), exact, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs, library in zip(gradients(network[0], image, bf16=True), exact, rounded, strict=True):
        assert ours.shape == theirs.shape
        own = (library - theirs).abs().max()  # what rounding to bf16 costs the library, more on some processors
        assert (ours - theirs).abs().max() <= max(0.02 * theirs.abs().max(), 1.5 * own)


def test_a_network_keeps_its_names_and_weights():
    network = create_model("test_efficientnet", pretrained=False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert use_fast_depthwise(network) > 0
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_compiled_network_keeps_the_faster_backward_pass():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(6, 6, 5, stride=2, padding=2, groups=6, bias=False))
    use_fast_depthwise(network)
    image, traced = torch.randn(2, 6, 17, 22), []

    def backend(graph, _inputs):
        traced.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    compiled = gradients(torch.compile(network[0], backend=backend), image, bf16=True)
    assert "autograd_function_apply" in traced
    for ours, eager in zip(compiled, gradients(network[0], image, bf16=True), strict=True):
        assert torch.equal(ours, eager)
