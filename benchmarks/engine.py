"""The engine against a bare loop with the same network, criterion and optimiser: `python benchmarks/engine.py`.

Four ways take turns: the bare loop over tensors in memory; the engine without a plugin and with the four plugins, its
films in memory too; and the engine that loads its films. Milliseconds are of a film.
"""

from __future__ import annotations

import argparse

from parts import FOUR, BareLoop, add_arguments, epoch, job_of, preloaded, resolved
from protocol import SLOWER, head, in_turns, slower_row

from ceph.training.runtime import flushed_denormals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    given = parser.parse_args()
    job, prepared = job_of(resolved(given), given.steps)
    four = job_of(resolved(given, plugins=tuple(FOUR)), given.steps)
    loading = job_of(resolved(given), given.steps)
    ways = {
        "bare": BareLoop(job, prepared),
        "no plugin": epoch(preloaded(job, prepared)),
        "four plugins": epoch(preloaded(*four)),
        "loading": epoch(loading[0]),
    }
    found = in_turns(ways, given.rounds)
    print(head(*SLOWER))
    size = f"{given.backbone}, {given.size[0]}x{given.size[1]}"
    print(slower_row(f"{size}: no plugin", found["no plugin"], found["bare"], 1.02, 3))
    print(slower_row(f"{size}: the four plugins", found["four plugins"], found["bare"], 1.03, 3))
    print(slower_row(f"{size}: no plugin, loading its films", found["loading"], found["bare"], 1.05, 3))


if __name__ == "__main__":
    with flushed_denormals():
        main()
