"""What our backward pass of depthwise convolutions gains in bf16 on this CPU: `python benchmarks/depthwise.py`.

For each depthwise layer of tf_efficientnet_lite0 at 480x384 px, batch 8, the library's forward and backward pass and
ours run in turns, in one process; the table gives the median of each and their ratio, and the last row the whole
backbone.
"""

from __future__ import annotations

import copy
import statistics
import time

import timm
import torch
from torch import nn

from ceph.model.depthwise import use_fast_depthwise
from ceph.training.runtime import flushed_denormals, keep_freed_memory

ROUNDS = 9


def seconds(module, image):
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(image)
        loss = sum(o.float().square().mean() for o in (out if isinstance(out, list) else [out]))
    loss.backward()
    return time.perf_counter() - start


def in_turns(library, ours, image):
    pairs = [(seconds(library, image), seconds(ours, image)) for _ in range(ROUNDS + 1)][1:]
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


def main():
    keep_freed_memory()
    torch.manual_seed(0)
    library = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False, in_chans=1)
    library = library.to(memory_format=torch.channels_last)
    ours = copy.deepcopy(library)
    use_fast_depthwise(ours)
    shapes = {}

    def note(name):
        return lambda _module, inputs: shapes.__setitem__(name, inputs[0].shape)

    handles = [m.register_forward_pre_hook(note(n)) for n, m in library.named_modules() if isinstance(m, nn.Conv2d)]
    image = torch.rand(8, 1, 480, 384).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        library(image)
    for handle in handles:
        handle.remove()
    print(f"{'layer':34} {'input':22} {'library ms':>10} {'ours ms':>8} {'ratio':>6}")
    replaced = dict(ours.named_modules())
    for name, module in library.named_modules():
        if name in shapes and type(replaced[name]) is not type(module):
            given = torch.rand(shapes[name]).contiguous(memory_format=torch.channels_last).requires_grad_()
            report(name, tuple(given.shape), *in_turns(module, replaced[name], given))
    report("the whole backbone", tuple(image.shape), *in_turns(library, ours, image))


def report(name, shape, library, ours):
    print(f"{name:34} {'x'.join(map(str, shape)):22} {library * 1e3:10.1f} {ours * 1e3:8.1f} {library / ours:6.2f}")


if __name__ == "__main__":
    with flushed_denormals():
        main()
