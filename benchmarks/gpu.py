"""All that is to be known on a GPU, in one call under nine minutes: `python benchmarks/gpu.py --data FILMS --out DIR`.

    works      the tests marked `gpu`
    speed      engine beside the bare step, idle GPU, memory, what compiling, graphs and workers change; a trace
    accuracy   `quick`, and at 960 x 768, on ISBI, by the clock; Test1

Each part is a process with a limit of time; each row of its table (DIR/PART.md, DIR/PART.json) is written when it is
known, so that a part that is cut off loses its running row. A machine without network takes what it lacks from the
folder that `benchmarks/gpu_pack.sh` makes: `--wheels runs/gpu/wheels --data runs/gpu/films`. With `--dry-run` it all
goes to its last line on a CPU, in small.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {"works": 90, "speed": 130, "accuracy": 260}  # seconds; five times as many in a dry run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the ISBI films, for --dry-run any set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--wheels", type=Path, help="packages that this machine lacks")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, tiny networks, one round")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory(prefix="ceph-gpu-") as site:
        paths = [HERE, HERE.parent, HERE.parent / "core", HERE.parent / "plugins"]
        if given.wheels:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site]
            subprocess.run([*pip, *map(str, sorted(given.wheels.glob("*.whl")))], check=True)  # noqa: S603
            paths.append(Path(site))
        path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
        for part in given.only or PARTS:
            limit = PARTS[part] * (5 if given.dry_run else 1)
            words = [given.data.resolve(), given.out.resolve(), "dry" if given.dry_run else "gpu", limit]
            command = [sys.executable, str(HERE / f"gpu_{part}.py"), *map(str, words)]
            code, seconds = limited(command, limit, given.out / "log.txt", {**os.environ, "PYTHONPATH": path})
            table = given.out / f"{part}.md"
            print(table.read_text() if table.exists() else "", end="")
            how = {0: "to its end", None: "cut off at its limit"}.get(code, f"failed ({code}): {given.out}/log.txt")
            print(f"\n{part}: {how}, {seconds:.0f} s of {limit}\n", flush=True)
            failed += [part] if code != 0 else []
    sys.exit(f"not to the end: {', '.join(failed)}" if failed else 0)


def limited(command, limit, log, environment):
    """Run a command and all that it starts for so many seconds: (exit code, None where it was cut off; seconds)."""
    began = time.monotonic()
    with log.open("a") as file:
        process = subprocess.Popen(  # noqa: S603 - one of the scripts beside this one
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return code, time.monotonic() - began


if __name__ == "__main__":
    main()
