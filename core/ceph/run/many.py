"""Many films: each answer is kept as it comes, a call that was stopped goes on, and a last look says what to see."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

from ceph import __version__, runfolder
from ceph.errors import ConfigError, DataError
from ceph.files import is_plain, write_text
from ceph.report.answers import Answers, Found, Why
from ceph.report.predictions import FilmPoints, Source, page_of, pages, pieces
from ceph.run.doubt import Doubts, Floats, doubtful, doubts_of, usual_scores
from ceph.run.gate import OPEN, Gate
from ceph.run.members import agreed
from ceph.run.predictions import NamedFilm, in_parts, part_size, write_overlays
from ceph.run.trained import Trained

log = logging.getLogger("ceph")

PART = ".part"  # of a name: what is known so far of the file that is called so


@dataclass(frozen=True)
class Asked:
    """Films of which a run is asked, and what is known of them so far. Each pass reads the answers from their file."""

    trained: Trained
    films: Sequence[NamedFilm]
    answers: Answers
    gate: Gate
    agree_mm: float | None = None  # within which all runs of a folder of several agree on the points that are kept

    def find(self, progress: Callable[[int], None] = lambda _done: None) -> None:
        """Find what is not known yet; `progress` is told how many films are done and on the disk.

        Films are predicted in parts that depend on their list alone, so that points do not depend on where a call was
        stopped: a part of which anything is missing is predicted whole.
        """
        states, size = [state_of(film) for film in self.films], part_size(self.trained)
        left: list[int] = []
        for start in range(0, len(self.films), size):
            places = range(start, min(start + size, len(self.films)))
            if not all(self.answers.has(str(self.films[n].path), states[n]) for n in places):
                left += places
        done, rest = len(self.films) - len(left), iter(left)
        progress(done)
        with closing(in_parts(self.trained, [self.films[n] for n in left], gate=self.gate)) as parts:
            for part in parts:
                found = part if self.agree_mm is None else agreed(self.trained, part, self.agree_mm)
                lines = [(str(film.path), states[next(rest)], _kept(what)) for film, what in found]
                with runfolder.writing(self.answers.path):
                    self.answers.add(lines)
                progress(done := done + len(part))

    def each(self) -> Iterator[tuple[NamedFilm, Found]]:
        """Each film with its points, or with why it was not read."""
        return ((film, self.answers.of(str(film.path))) for film in self.films)

    def found(self) -> Iterator[tuple[NamedFilm, FilmPoints]]:
        """The films that were read."""
        return ((film, what) for film, what in self.each() if isinstance(what, FilmPoints))

    def broken(self) -> Iterator[tuple[NamedFilm, Why]]:
        """The films that were not read."""
        return ((film, what) for film, what in self.each() if isinstance(what, list))

    def points(self) -> Iterator[FilmPoints]:
        """What was found, film by film."""
        return (found for _, found in self.found())

    @cached_property
    def usual(self) -> Floats | None:
        """Each landmark's usual score [K]."""
        run, landmarks = self.trained.folder, self.trained.landmarks
        return usual_scores(run, landmarks, lambda: [film.scores for film in self.points()])

    def doubts(self, most: int) -> Doubts:
        """The doubtful points, and the `most` films that deserve a look most."""
        return doubts_of(self.points(), self.usual, most)

    def source(self, run: str) -> Source:
        """Whose points they are; `run` is as it was named."""
        folder = self.trained.folder
        return Source(run, self.trained.landmarks, f"{folder.resolve().name}@{runfolder.version(folder)}")

    def pieces(self, kind: str, run: str) -> Iterator[str]:
        """The text of a file of a kind."""
        broken = ((str(film.path), why[0][0]) for film, why in self.broken())
        return pieces(kind, self.points, self.source(run), broken)

    def require_free(self, folder: Path) -> None:
        """Raise ConfigError where a file of LabelMe is already where one would be written, or two would be one file."""
        places = [page_of(folder, str(film.name)) for film in self.films]
        twice = next((place for place, count in Counter(places).items() if count > 1), None)
        if twice is not None:
            raise ConfigError(f"{twice} would be the file of two films", key="--out", hint="name them apart")
        there = [] if self.answers.kept else [place for place in places if place.exists()]
        if there:
            what = f"{there[0]} is there already{f', and {len(there) - 1} others' if len(there) > 1 else ''}"
            raise ConfigError(what, key="--out", hint="nothing is overwritten: name another folder, or move them away")

    def write_pages(self, folder: Path, run: str) -> None:
        """Write LabelMe's file of each film, where there is none. Raises OSError."""
        for place, text in pages(self.points, self.source(run), folder):
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                write_text(place, text())

    def draw(self, folder: Path) -> None:
        """A picture of each film with its points. Raises OSError."""
        low = partial(doubtful, usual=self.usual)
        write_overlays(folder, self.found(), self.trained.landmarks, lambda found: low(found.scores))


def _kept(found: FilmPoints | DataError) -> Found:
    return [[problem.what, problem.hint] for problem in found.problems] if isinstance(found, DataError) else found


def state_of(film: NamedFilm) -> str:
    """What the answer depends on: the film's file, by its size and time, and the spacing that is known."""
    try:
        file = film.path.stat()
    except OSError:
        return ""
    return f"{file.st_size} {file.st_mtime_ns} {film.mm_per_px}"


@contextmanager
def asking(
    trained: Trained,
    films: Sequence[NamedFilm],
    out: Path | None,
    gate: Gate = OPEN,
    *,
    agree_mm: float | None = None,
) -> Iterator[Asked]:
    """The films and what an earlier call, with the same run, settings and `out`, has found on them.

    It is kept in `<out>.part` until the block ends well. Without `out`, or where that is a device, nothing is kept.
    `out` may be a folder. Raises CephError where it cannot be written.
    """
    version, settings = runfolder.version(trained.folder), list(trained.asked)
    call = {"version": __version__, "run": version, "settings": settings, "gate": asdict(gate), "agree_mm": agree_mm}
    lasting = out is not None and (is_plain(out) or out.is_dir() or not out.exists())
    path = Path(f"{out.resolve()}{PART}") if out is not None and lasting else None
    with runfolder.writing(path or Path("a temporary file")):
        answers = Answers(path, call)
    if answers.other:
        log.warning("%s is of another run or of other settings: begun anew", path)
    done = False
    try:
        yield Asked(trained, films, answers, gate, agree_mm)
        done = True
    finally:
        answers.close(remove=done or answers.empty)
