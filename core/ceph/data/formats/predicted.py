"""Read the JSON of `ceph predict`: films with a model's points, as the reader `predicted`."""

from __future__ import annotations

from pathlib import Path

from ceph.data.formats.film_table import Facts
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.records import PREDICTED, Found
from ceph.data.spacing import plausible_spacing
from ceph.data.strict_json import Field, parse_json


class Predicted(InFiles):
    """What `ceph predict` writes as json."""

    name = "predicted"
    layout = "a .json file of ceph predict beside the films"
    marks = (r"\A\s*\{", r'"films"\s*:\s*\[', r'"(not_read|run)"\s*:')

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add each film that was read."""
        content = Field(parse_json(text, file), file)
        found.landmarks += [name.text() for name in content["landmarks"].items()]
        for film in content["films"].items():
            with found.findings.gather():
                _add(film, found)


def _add(film: Field, found: Found) -> None:
    named = film["film"]
    path = found.places.find(named.text())
    if path is None:
        named.fail(f"{named.text()!r} is not in {found.places.root}", hint="put the films into the folder of the file")
    one = found.film(path, f"{film.file}: {film.name}")
    if PREDICTED in one.marks:
        film.fail(f"the film {path.name} stands twice")
    one.size = int(film["height_px"].number()), int(film["width_px"].number())
    spacing = film["mm_per_px"]
    if spacing.value is not None:
        mm_per_px = plausible_spacing(spacing.number(), f"{spacing.value!r}", spacing.fail)
        one.facts = Facts(mm_per_px=mm_per_px, source="given to ceph predict")
    points = film["points"]
    one.marks[PREDICTED] = {
        symbol: (points[symbol]["x_px"].number(), points[symbol]["y_px"].number())
        for symbol in found.landmarks
        if points.get(symbol) is not None
    }
