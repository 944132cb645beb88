"""What the formats share that lie in annotation files anywhere beside films: which files are read, and how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from ceph.data.files import inside, read_text
from ceph.data.formats.base import DataSet
from ceph.data.formats.film_table import TABLE
from ceph.data.formats.locate import ANNOTATIONS, MAX_SET_BYTES, Films, annotation_files, shows
from ceph.data.formats.records import Found, assemble
from ceph.data.types import Sample


class InFiles(ABC):
    """A format of annotation files that end in `suffix` and are known by what they show, here and in `folders`.

    `marks` are regular expressions: the first for a file's beginning, the others for anywhere in it. The rest of the
    attributes are those of a Reader and a Writer; what is set here holds where a format does not say otherwise.
    """

    name: str
    layout: str
    suffix = ".json"
    marks: tuple[str, ...] = ()
    folders: Sequence[str] = ANNOTATIONS
    one_each = False  # a file for each film, called like it: such a file is read whatever it shows
    landmarks: tuple[str, ...] | None = None
    readers: tuple[str, ...] | None = None
    complete = False

    @abstractmethod
    def add(self, text: str, file: Path, found: Found) -> None:
        """Add to `found` what the `text` of a file holds; DataError for what makes the whole file useless."""

    def knows(self, file: Path) -> bool:
        """Whether a file shows that it is of this format."""
        return shows(file, *self.marks)

    def listed(self, folder: Path) -> list[Path]:
        """The files that may be of this format by their names."""
        files = annotation_files(folder, self.suffix, beside=self.folders)
        return [file for file in files if file.name != TABLE]

    def matches(self, folder: Path) -> bool:
        """Whether a file shows that it is of this format."""
        return any(map(self.knows, self.listed(folder)))

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read every file that shows this format, or all where none does: then whoever named it means these."""
        found = Found(Films(folder))
        listed = self.listed(folder)
        names = found.places.stems() if self.one_each else ()
        known = self.chosen([file for file in listed if self.knows(file) or file.stem in names])
        for file in set(listed) - set(known) if known else ():
            found.findings.leave_out(f"{file.suffix.lower()} files that are not of the format {self.name}")
        for file in known or listed:
            with found.findings.gather():
                self.add_file(inside(folder, file), found)
        return assemble(self.name, found, mm_per_px=mm_per_px)

    def chosen(self, known: list[Path]) -> list[Path]:
        """Those of the files that show this format which are read: all."""
        return known

    def add_file(self, file: Path, found: Found) -> None:
        """Add to `found` what a file holds."""
        self.add(read_text(file, limit=MAX_SET_BYTES), file, found)

    def place(self, sample: Sample, number: int) -> str:  # noqa: ARG002 - the format names its films
        """All films lie together."""
        return f"images/{sample.id}"
