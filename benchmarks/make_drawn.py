"""Draw films, train on them alone, and pack the run that ships: `python benchmarks/make_drawn.py WORK`.

WORK is a folder that is made, or gone on with: what is done in it is not done again. No film is read but drawn ones.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from ceph import runfolder
from ceph.runfolder.place import CONFIG, ENVIRONMENT, FINGERPRINT, SHIPPED, STATE
from ceph.training import checkpoint

# Films, of which 70 % train, and their seed.
SETS = {"first": (1400, 11), "second": (1500, 23), "third": (3000, 23), "fourth": (1030, 24)}
STAGES = (  # the set that a run trains on, from the weights of the run before it, and its own settings
    ("first", ("train.epochs=1", "train.warmup_epochs=0.2")),
    ("first", ("train.epochs=2", "train.stop_after=1", "train.warmup_epochs=0.1", "train.lr=1e-3")),
    ("second", ("train.epochs=1", "train.warmup_epochs=0.1", "train.lr=1.5e-3")),
    ("third", ("train.epochs=1", "train.warmup_epochs=0.05", "train.lr=1.5e-3")),
    ("fourth", ("train.epochs=1", "train.warmup_epochs=0.05", "train.lr=1e-3", "plugins.shape-constraint.spreads=2")),
)
SETTINGS = ("data.size=[256,208]", "evaluate.scales=[0.8,1,1.25]")
FEW = 64  # films whose points stay beside the weights: `ceph adapt` learns from them how a mean head lies


def main(work: Path, to: Path = SHIPPED[runfolder.DRAWN]) -> None:
    run: Path | None = None
    for number, (name, own) in enumerate(STAGES, start=1):
        data, (films, seed) = work / f"films-{name}", SETS[name]
        if not data.exists():
            ceph("data", "synth", data, "--films", films, "--height", 340, "--seed", seed, "--varied")
        start = ("--init-from", run) if run else ()
        run = work / f"run-{number}"
        if runfolder.is_run(run):
            ceph("run", "--resume", run)
        else:
            sets = [part for setting in (*SETTINGS, *own) for part in ("--set", setting)]
            ceph("run", "--preset", "quick", "--data", data, *sets, *start, "--out", run)
    print(f"sha256 of the weights: {pack(work / f'run-{len(STAGES)}', to)}")


def ceph(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "ceph", *map(str, words)], check=True)  # noqa: S603


def pack(run: Path, to: Path) -> str:
    """Write what predicting needs of a run into `to`, weights as fp16; the sha256 of the weights."""
    best = checkpoint.load(run / runfolder.CHECKPOINTS, checkpoint.BEST)
    # Vectors stay as they are: the norms' variances leave the range of fp16.
    best["model"] = {name: t.half() if t.ndim > 1 else t for name, t in best["model"].items()}
    shutil.rmtree(to / runfolder.CHECKPOINTS, ignore_errors=True)
    checkpoint.save(to / runfolder.CHECKPOINTS, checkpoint.BEST, best)
    text = (run / CONFIG).read_text(encoding="utf-8")
    (to / CONFIG).write_text(anywhere(text), encoding="utf-8")
    state = json.loads((run / STATE).read_text(encoding="utf-8")) | {"pid": 0, "host": ""}
    (to / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    made = json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))
    kept = {key: made[key] for key in ("versions", "plugins")}
    (to / ENVIRONMENT).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    prints = json.loads((run / FINGERPRINT).read_text(encoding="utf-8"))
    emptied = {key: {} if isinstance(value, dict) else value for key, value in prints.items()}
    (to / FINGERPRINT).write_text(json.dumps(emptied, indent=2) + "\n", encoding="utf-8")
    few_points(runfolder.predictions_file(run, "validation"), runfolder.predictions_file(to, "validation"))
    return hashlib.sha256((to / runfolder.CHECKPOINTS / checkpoint.BEST).read_bytes()).hexdigest()


def anywhere(config: str) -> str:
    """The config without the place of the films, which nobody else has."""
    lines = ("  path: null" if line.startswith("  path:") else line for line in config.splitlines())
    return "\n".join(lines) + "\n"


def few_points(of: Path, to: Path) -> None:
    """Copy the rows of the first films of a table of points."""
    with of.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    films = list(dict.fromkeys(row[0] for row in rows))[:FEW]
    with to.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([header, *(row for row in rows if row[0] in films)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
