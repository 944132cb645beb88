"""On one GPU: `python benchmarks/gpu.py --data FOLDER`, the preset base (HRNet-W32, 768 px, bf16), 4, 8, 16 workers.

Images a second of training with loading, as a share of the bare step over tensors in memory; the time for which the
GPU is idle follows from both; peak memory is of tensors. Without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from parts import BareLoop, add_arguments, epoch, job_of, resolved
from protocol import in_turns


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, size=(768, 640), rounds=5, steps=20, batch=16)
    parser.set_defaults(backbone="hrnet_w32", precision="bf16")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU here: the table stays empty")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    print("| workers | images/s | share of the bare step % | GPU idle % | peak MB |\n|---|---|---|---|---|")
    for workers in (4, 8, 16):
        torch.cuda.reset_peak_memory_stats()
        job, prepared = job_of(resolved(given, data__workers=workers), given.steps)
        found = in_turns({"bare": BareLoop(job, prepared), "engine": epoch(job)}, given.rounds)
        bare, engine = (statistics.median(found[way]) for way in ("bare", "engine"))
        share, peak = 100 * bare / engine, torch.cuda.max_memory_allocated() / 1e6
        print(f"| {workers} | {1 / engine:.1f} | {share:.1f} | {max(0, 100 - share):.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
