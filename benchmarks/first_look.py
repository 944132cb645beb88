"""Draw the README's picture from a run on the embedded set: `python benchmarks/first_look.py RUN docs/first-look.png`.

Circles where the landmarks are, crosses where the run finds them, on two validation films.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

from ceph.config.load import resolve
from ceph.data.images import read_film
from ceph.report.marks import TRUE
from ceph.report.overlay import overlay
from ceph.run.assembly import make_hooks
from ceph.run.films import read_data


def panel(path, rows, height):
    film = read_film(path)
    zoom = height / film.shape[0]
    small = cv2.resize(film, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    points = np.array([[float(row[name]) for name in ("true_x_px", "true_y_px", "x_px", "y_px")] for row in rows])
    truth, found = np.split((points + 0.5) * zoom - 0.5, 2, axis=1)
    picture = overlay(small, found, [row["symbol"] for row in rows]).copy()
    for centre in np.rint(truth).astype(int).tolist():
        cv2.circle(picture, centre, 5, TRUE, 1, cv2.LINE_AA)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)


def main(run, out):
    resolved = resolve(run / "config.yaml")
    films = {s.id: s for s in read_data(resolved.config, make_hooks(resolved)).samples}
    with (run / "predictions-validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["image_id"] for row in rows}, key=lambda n: -films[n].size[0])[:2]
    panels = [panel(films[n].path, [r for r in rows if r["image_id"] == n], 620) for n in names]
    cv2.imwrite(str(out), np.hstack(panels))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
