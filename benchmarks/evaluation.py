"""Evaluation against the forward pass alone: `python benchmarks/evaluation.py`; goal: at least 90 % of its rate."""

from __future__ import annotations

import argparse

from parts import add_arguments, resolved

from ceph.bench import bench


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, rounds=5, steps=1)
    given = parser.parse_args()
    found = bench(resolved(given), steps=given.steps, rounds=given.rounds)["evaluation"]
    print("| what | films/s | forward films/s | share % | goal |\n|---|---|---|---|---|")
    figures = (
        f"{found['films_per_second']:.2f} | {found['forward_films_per_second']:.2f} | {found['share_percent']:.1f}"
    )
    print(f"| {given.backbone}, {given.size[0]}x{given.size[1]} | {figures} | >= 90 |")


if __name__ == "__main__":
    main()
