"""Regenerate the table of head shapes that the embedded synthetic set draws from.

    python benchmarks/make_synthetic_shape.py [OUTPUT]

Reads `data/aariz/landmarks.json` in the folder of shared data (`CEPH_SHARED`, default `../shared` beside the
repository) and writes `core/ceph/data/synthetic/shape.json`. The table holds statistics only: a mean, a few
directions of variation rounded to four digits, and standard deviations. No film can be recovered from it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "core" / "ceph" / "data" / "synthetic" / "shape.json"
COMPONENTS = 14


def shared_folder() -> Path:
    """Folder of shared data: `CEPH_SHARED`, else `../shared` beside the repository."""
    return Path(os.environ.get("CEPH_SHARED", ROOT.parent / "shared"))


def load_mm(path: Path) -> tuple[tuple[str, ...], Array, Array]:
    """Read the films that have a size and a spacing.

    Returns the symbols, the readers' mean [N, K, 2] in mm of the film, and the difference between the two readers
    [N, K, 2] in mm, NaN where only the mean is known.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    symbols = tuple(table["landmarks"])
    films = [film for film in table["images"] if film["points"] and film["mm_per_px"] and film["orig_width"]]
    missing = [np.nan, np.nan]
    mean = np.array([[film["points"]["mean_of_two"][s] for s in symbols] for film in films], dtype=float)
    one = np.array([[film["points"]["annotator_x"].get(s, missing) for s in symbols] for film in films], dtype=float)
    scale = np.array([film["mm_per_px"] for film in films])[:, None, None]
    # One reader lies half the difference away from the mean of both.
    return symbols, mean * scale, 2 * (one - mean) * scale


def align(shapes: Array) -> tuple[Array, Array, Array]:
    """Take position and rotation, but not size, out of shapes [N, K, 2].

    Returns the aligned shapes [N, K, 2], their mean [K, 2] at the films' average rotation, and the rotation of each
    film [N] in degrees, positive turning x towards y.
    """
    centred = shapes - shapes.mean(axis=1, keepdims=True)
    mean = centred.mean(axis=0)
    for _ in range(20):
        cross = (mean[:, 0] * centred[..., 1] - mean[:, 1] * centred[..., 0]).sum(axis=1)
        dot = (mean * centred).sum(axis=(1, 2))
        angle = np.arctan2(cross, dot)
        angle -= angle.mean()
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        x, y = centred[..., 0], centred[..., 1]
        aligned = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)
        mean = aligned.mean(axis=0)
    return aligned, mean, np.degrees(angle)


def reader_sd(difference: Array) -> Array:
    """Standard deviation [K] of one reader in mm and along one axis, from differences [N, K, 2] of two.

    The readers' marks are identical on many films, so a median would be zero: the 90th percentile of the distance is
    matched to that of a Gaussian (Rayleigh, 2.146 sd), which outliers beyond it cannot move.
    """
    distance = np.hypot(difference[..., 0], difference[..., 1])
    reach = np.nanpercentile(np.where(np.isnan(distance).all(axis=0), 0.0, distance), 90, axis=0)
    sd: Array = reach / np.sqrt(2 * np.log(10)) / np.sqrt(2)
    return sd


def digits(values: Array | np.float64, count: int = 4) -> Any:
    """Round to `count` significant digits, as plain nested lists."""
    return np.vectorize(lambda value: float(f"{value:.{count - 1}e}"))(values).tolist()


def make_table(path: Path) -> dict[str, Any]:
    """The table of shapes, made of the landmarks in the file at `path`."""
    symbols, shapes, difference = load_mm(path)
    aligned, mean, angle = align(shapes)
    residual = (aligned - mean).reshape(len(aligned), -1)
    _, singular, directions = np.linalg.svd(residual, full_matrices=False)
    sd = singular / np.sqrt(len(residual) - 1)
    # The sign of a component is arbitrary: fix it, so that regenerating the table gives the same one.
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
    noise = reader_sd(difference)
    # N` and Pog` have one reader only, and on the cusps most films repeat one reader's mark: no sd can be told.
    noise[noise == 0] = noise[noise > 0].mean()
    return {
        "about": "Head shapes in mm, x right, y down, centred; made by benchmarks/make_synthetic_shape.py",
        "films": len(shapes),
        "variance_kept": digits(np.float64((sd[:COMPONENTS] ** 2).sum() / (sd**2).sum()), 3),
        "rotation_sd_deg": digits(np.float64(angle.std(ddof=1)), 3),
        "landmarks": list(symbols),
        "mean_mm": digits(mean),
        "component_sd_mm": digits(sd[:COMPONENTS]),
        "components": digits(directions[:COMPONENTS].reshape(COMPONENTS, -1, 2)),
        "reader_sd_mm": digits(noise, 3),
    }


def render(table: dict[str, Any]) -> str:
    """The table as JSON with one landmark or component a line."""
    lines = []
    for key, value in table.items():
        if isinstance(value, list) and isinstance(value[0], list):
            rows = ",\n".join("    " + json.dumps(row) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(argv: list[str]) -> int:
    """Write the table to the path in `argv`, by default into the package."""
    output = Path(argv[0]) if argv else OUTPUT
    source = shared_folder() / "data" / "aariz" / "landmarks.json"
    if not source.is_file():
        print(f"{source} is missing: point CEPH_SHARED at the folder of shared data.", file=sys.stderr)
        return 2
    output.write_text(render(make_table(source)), encoding="utf-8")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
