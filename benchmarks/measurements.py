"""How often intervals of measurements hold the readers' values: python benchmarks/measurements.py RUN [SPLIT].

The intervals of a split are by the run's errors out of fold, or of validation, as `ceph analyse` takes them; where the
split is that itself, each film's are by the errors of the others. It must have been scored (`ceph evaluate`).
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.measuring.formula import facing_right
from ceph.measuring.interval import LEVEL, Errors, errors_from, errors_of, intervals
from ceph.measuring.table import built_in, measurable
from ceph.runfolder import predicted_splits, read_predictions


def main(run: Path, split: str | None = None) -> None:
    """Print for each measurement the mean absolute error, the interval's mean width, and how often it holds."""
    taught = OUT_OF_FOLD if OUT_OF_FOLD in predicted_splits(run) else "validation"
    kept = read_predictions(run, split or taught)
    chosen = measurable(built_in(), kept.landmarks)
    found, true = (facing_right(points, kept.landmarks) for points in (kept.points_px, kept.truth_px))
    measures = [partial(one.formula.of, landmarks=kept.landmarks) for one in chosen]
    with np.errstate(invalid="ignore", divide="ignore"):  # the spacing is what the errors in mm and px say
        mm = np.nanmedian(kept.errors_mm / np.linalg.norm(found - true, axis=-1), axis=1)
    scale = np.stack([mm if one.unit == "mm" else np.ones(len(mm)) for one in chosen], axis=-1)
    radius = np.full(found.shape[:2], np.nan)
    errors = errors_of(run, kept.landmarks)
    if split in (None, taught):
        own = errors_from(kept.points_px, kept.truth_px, kept.landmarks)
        each = [
            intervals(measures, found[f : f + 1], radius[:1], Errors(np.delete(own.offsets, f, axis=0), own.usual))
            for f in range(len(found))
        ]
        low, high = (np.concatenate(ends) for ends in zip(*each, strict=True))
    else:
        low, high = intervals(measures, found, radius, errors)
    values, truths = (np.stack([measure(points) for measure in measures], axis=-1) for points in (found, true))
    inside = (low <= truths) & (truths <= high)
    off, width = np.abs(values - truths) * scale, (high - low) * scale
    print(f"{len(found)} films; {100 * LEVEL:.0f} % intervals hold {100 * inside.mean():.1f} % of all values")
    for m, one in enumerate(chosen):
        held, error, wide = 100 * inside[:, m].mean(), off[:, m].mean(), width[:, m].mean()
        print(f"{one.name:24} {held:5.1f} % held, error {error:5.2f}, width {wide:5.2f} {one.unit}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
