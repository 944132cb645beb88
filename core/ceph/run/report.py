"""Write report.html of a run: what its folder records, and the films of its data set where they can be read."""

from __future__ import annotations

import logging
from pathlib import Path

from ceph import runfolder
from ceph.data.check.check import outside_noted
from ceph.data.formats.base import DataSet
from ceph.errors import CephError
from ceph.report.figures import write_figures
from ceph.report.findings import Films
from ceph.report.html import write_html
from ceph.report.record import read_record
from ceph.run.films import read_known

log = logging.getLogger("ceph")


def report(folder: Path | str, figures: Path | str | None = None, data: DataSet | None = None) -> list[Path]:
    """Write report.html of a run anew, from what its folder holds; `figures` is a folder for pictures of it.

    `data` is the run's own set, where it is read already. Returns the files written. Where the films cannot be read,
    the page says so and shows the rest. Raises ConfigError where `folder` is no run or a file cannot be written.
    """
    where = Path(folder)
    runfolder.require_run(where)
    record, films = read_record(where), known_films(where, data)
    written = [write_html(record, films)]
    return written if figures is None else [*written, *write_figures(record, films, Path(figures))]


def report_if_possible(folder: Path, data: DataSet | None = None) -> None:
    """Write report.html; a fault there is a warning, since what it shows is done and written."""
    try:
        with outside_noted():  # what is doubtful in the set was said when it was read for the figures
            report(folder, data=data)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("report.html was not written (%s: %s); try: ceph report %s", type(error).__name__, error, folder)


def known_films(folder: Path, data: DataSet | None = None) -> Films:
    """The films of the run's data set, or why they are not to be found."""
    try:
        data = data or read_known(folder)[1]
    except CephError as error:
        return Films(missing="; ".join(problem.what for problem in error.problems))
    return Films({(s.split, s.id): s for s in data.samples}, data.readers, data.landmarks)
