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

SETS = {"one": (1500, 31), "two": (1500, 32)}  # films, of which 70 % train, and their seed
SETTINGS = (
    "data.size=[256,208]",
    "train.epochs=2",
    "train.warmup_epochs=0.15",
    "evaluate.scales=[0.8,1,1.25]",
    "plugins.shape-constraint.spreads=2",
)
FEW = 64  # films whose points stay beside the weights: `ceph adapt` learns from them how a mean head lies


def main(work: Path, to: Path = SHIPPED[runfolder.DRAWN]) -> None:
    sets = {name: work / f"films-{name}" for name in SETS}
    for name, (films, seed) in SETS.items():
        if not sets[name].exists():
            ceph("data", "synth", sets[name], "--films", films, "--height", 340, "--seed", seed, "--varied")
    run = work / "run"
    if runfolder.is_run(run):
        ceph("run", "--resume", run)
    else:
        listed = ", ".join(f"{{name: {name}, path: {json.dumps(str(path))}}}" for name, path in sets.items())
        settings = [part for setting in (f"data.path=[{listed}]", *SETTINGS) for part in ("--set", setting)]
        ceph("run", "--preset", "quick", *settings, "--out", run)
    print(f"sha256 of the weights: {pack(run, to)}")


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
    kept = {"licence": "MIT", **{key: made[key] for key in ("versions", "plugins")}}
    (to / ENVIRONMENT).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    prints = json.loads((run / FINGERPRINT).read_text(encoding="utf-8"))
    emptied = {key: {} if isinstance(value, dict) else value for key, value in prints.items()}
    (to / FINGERPRINT).write_text(json.dumps(emptied, indent=2) + "\n", encoding="utf-8")
    few_points(runfolder.predictions_file(run, "validation"), runfolder.predictions_file(to, "validation"))
    return hashlib.sha256((to / runfolder.CHECKPOINTS / checkpoint.BEST).read_bytes()).hexdigest()


def anywhere(config: str) -> str:
    """The config with a place of the films that nobody has: null would be the embedded set."""
    lines = ("  path: ./its-films-do-not-ship" if line.startswith("  path:") else line for line in config.splitlines())
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
