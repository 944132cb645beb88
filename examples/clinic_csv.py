"""clinic-csv, a data layout of one's own in a plugin: `ceph run --plugin examples/clinic_csv.py --data FOLDER`.

    file,patient,split,mm_per_px,S_x,S_y,N_x,N_y,...
    a/0001.png,P17,train,0.1,902.5,655,1371,729.25

An empty cell is a landmark that was not marked. `ceph data check FOLDER` lists what is wrong with all films at once.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from ceph.plugin import DataError, DataSet, Plugin, Sample, hookimpl


class ClinicCsv:
    """The reader: `matches` looks at names only, `read` gives every film with one reader's points [1, K, 2]."""

    name, layout = "clinic-csv", "films.csv with the columns file, patient, split, mm_per_px and S_x, S_y, ..."

    def matches(self, folder: Path) -> bool:
        """Whether the folder has this layout."""
        return (folder / "films.csv").is_file()

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read the set; `mm_per_px` is `data.mm_per_px`, which counts for all films if it is given."""
        table = csv.DictReader((folder / "films.csv").read_text("utf-8").splitlines())
        landmarks = tuple(column.removesuffix("_x") for column in table.fieldnames or () if column.endswith("_x"))
        samples = []
        for number, row in enumerate(table, start=2):
            try:
                at = [[float(row[f"{symbol}_{axis}"] or "nan") for axis in "xy"] for symbol in landmarks]
                with Image.open(folder / row["file"]) as film:
                    size = film.height, film.width
                spacing = mm_per_px or float(row["mm_per_px"])
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{folder / 'films.csv'}:{number}: {error!r}", hint=self.layout) from error
            points = np.array([at])
            valid = ~np.isnan(points).any(axis=-1)
            path = folder / row["file"]
            samples.append(Sample(path.stem, row["split"], row["patient"], "", size, spacing, points, valid, path))
        return DataSet(landmarks, tuple(samples), ("clinic",), self.name)


class ClinicCsvFormat(Plugin):
    """A clinic's own layout: one table with the points of all films."""

    @hookimpl
    def dataset_formats(self) -> dict[str, ClinicCsv]:
        """Give the reader by the name that `data.format` has for it."""
        return {"clinic-csv": ClinicCsv()}
