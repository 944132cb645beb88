"""Films as an annotation file names them, and how a set is made of them: sizes, spacings, splits, groups, readers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ceph.data.dicom import dicom_spacing, is_dicom
from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.film_table import Facts, read_table, spacing_of
from ceph.data.formats.locate import Films
from ceph.data.formats.spelling import place_of
from ceph.data.formats.splits import ORDER, held_out, kind, split_of, split_of_folders
from ceph.data.images import film_size, stem_of
from ceph.data.strict_json import Field
from ceph.data.types import Flags, Points, Sample
from ceph.errors import DataError

logger = logging.getLogger("ceph")
PATIENTS, FILMS_OF_ONE = 5, 12  # folders look like patients' where there are so many, of so few films each
ONE_READER = "reader"  # what a reader is called where the format does not name them
PREDICTED, CORRECTED = "predicted", "corrected"  # points of `ceph predict`; the same after somebody saw them in a tool

Marks = dict[str, tuple[float, float]]  # symbol -> (x, y) in film px


@dataclass
class Film:
    """One film and its annotation. `where` names the annotation in errors; what the format does not say is empty.

    `marks` are the points of each reader; `size` (H, W) is what the annotation says of the film, which must be true;
    `part` is the split that the name of the annotation's file, or the like, states.
    """

    path: Path
    where: str
    marks: dict[str, Marks] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    facts: Facts = field(default_factory=Facts)
    part: str = ""

    def lacks(self, symbol: str) -> None:
        """Note that the annotation says of a landmark that it is not on the film."""
        self.facts = replace(self.facts, absent=(*self.facts.absent, symbol))


@dataclass
class Found:
    """What the annotation files of a set hold: its films, and the landmarks and readers that they list in order.

    `numbered` landmarks all stay, since a name may be given to each by its place; `named` is DataSet's.
    """

    places: Films
    findings: Findings = field(default_factory=Findings)
    films: list[Film] = field(default_factory=list)
    landmarks: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    numbered: bool = False
    named: bool = True
    _by_path: dict[Path, Film] = field(default_factory=dict)

    def film(self, path: Path, where: str) -> Film:
        """The film at `path`, new where it is first asked for, by the annotation `where`."""
        if path not in self._by_path:
            self.films.append(film := Film(path, where))
            self._by_path[path] = film
        return self._by_path[path]


def from_corner(x: float, y: float) -> tuple[float, float]:
    """A point measured from the film's outer corner, in film px; rounded to 1e-9 px, to undo `to_corner` exactly."""
    return round(x - 0.5, 9), round(y - 0.5, 9)


def to_corner(point: Sequence[float]) -> tuple[float, float]:
    """A point in film px (the centre of the first pixel is (0, 0)) measured from the film's outer corner."""
    return point[0] + 0.5, point[1] + 0.5


def plain(value: float) -> float:
    """A number as a file of text holds it: whole ones as integers."""
    return int(value) if float(value).is_integer() else float(value)


def marks_of(sample: Sample, row: int, landmarks: Sequence[str]) -> Marks:
    """The valid points of one reader (row of `sample.points`) by symbol."""
    return {
        symbol: (float(sample.points[row, k, 0]), float(sample.points[row, k, 1]))
        for k, symbol in enumerate(landmarks)
        if sample.valid[row, k]
    }


def check_link(named: Field, path: Path, places: Films) -> None:
    """Raise DataError where an annotation file of one film names one, and is itself called like another.

    `named` is the field that names the film at `path`. Who renamed films and annotations together would have the
    points of one patient on another.
    """
    if other := places.contradicted(named.file, path):
        named.fail(
            f"the annotation is of the film {path}, but its file is called like the film {other}",
            hint="one of the two is wrong: name the annotation file like its film, or correct the name in it",
        )


def assemble(name: str, found: Found, *, mm_per_px: float | None) -> DataSet:
    """The set of what was found in the format `name`, in the order of splits and ids; raises what was gathered.

    The landmarks and readers that files list come first, in this order, if any film has them; then the others as they
    occur. A set that has no validation films, and does not say of each film where it is, gives those training films to
    validation that draw the lowest lots by their name.
    """
    root, films, findings = found.places.root, found.films, found.findings
    seen = (symbol for film in films for marks in film.marks.values() for symbol in marks)
    known = list(dict.fromkeys(found.landmarks)) if found.numbered else _in_order(found.landmarks, seen)
    readers = _in_order(found.readers, (reader for film in films for reader in film.marks))
    table: dict[str, Facts] = {}
    with findings.gather():
        table = read_table(root)
    samples: dict[str, Sample] = {}
    names = film_names(root, [film.path for film in films])
    for film, called in zip(films, names, strict=True):
        with findings.gather():
            sample = _sample(called, film, root, table, known, readers, mm_per_px, findings)
            if sample.id in samples:
                raise DataError(
                    f"{film.where}: the film {sample.id} ({film.path}) is already {samples[sample.id].path}",
                    hint="a film may stand once in a set",
                )
            samples[sample.id] = sample
    if not samples and not findings.problems:
        raise DataError(f"{root}: holds no films with annotations")
    if not any(sample.valid.any() for sample in samples.values()) and not findings.problems:
        raise DataError(f"{root}: no film has a marked landmark")
    for _ in set(found.places.paths) - {film.path for film in films}:
        findings.leave_out("films without an annotation")
    if not findings.problems:
        told = any(film.facts.split or table.get(name, Facts()).split for name, film in zip(names, films, strict=True))
        samples = _with_splits(_with_patients(samples, root), hold_out=not told)
    findings.report()
    order = sorted(samples.values(), key=lambda sample: (ORDER.index(sample.split), sample.id))
    return DataSet(tuple(known), tuple(order), tuple(readers), name, found.named)


def _in_order(first: Sequence[str], names: Iterable[str]) -> list[str]:
    """Each of the `names` once: those of `first` in its order, then the others as they occur."""
    seen = dict.fromkeys(names)
    return [*(name for name in dict.fromkeys(first) if name in seen), *(name for name in seen if name not in first)]


def film_names(root: Path, paths: Sequence[Path]) -> list[str]:
    """What to call films: the file without its ending, with its folders before it where two would be called alike."""
    count = Counter(map(stem_of, set(paths)))
    return [
        stem if count[stem] == 1 else "_".join((*path.relative_to(root).parts[:-1], stem))
        for path, stem in zip(paths, map(stem_of, paths), strict=True)
    ]


def _sample(
    called: str,
    film: Film,
    root: Path,
    table: Mapping[str, Facts],
    landmarks: Sequence[str],
    readers: Sequence[str],
    mm_per_px: float | None,
    findings: Findings,
) -> Sample:
    size = film_size(film.path)
    if film.size is not None and film.size != size:
        (h, w), (H, W) = film.size, size
        raise DataError(
            f"{film.where}: is made for a film of {w} x {h} pixels, but {film.path} has {W} x {H}",
            hint="put the film there that was annotated: points do not fit another size",
        )
    raw = np.full((len(readers), len(landmarks), 2), np.nan)
    for row, reader in enumerate(readers):
        for symbol, point in film.marks.get(reader, {}).items():
            raw[row, landmarks.index(symbol)] = point
    points, valid, outside = findings.settle(called, raw, size, readers, landmarks)
    folders = film.path.relative_to(root).parts[:-1]
    facts = replace(film.facts, split=film.facts.split or film.part or split_of_folders(folders))
    return make_sample(
        called, film.path, size, points, valid, outside, facts, table, mm_per_px, findings, landmarks=landmarks
    )


def make_sample(
    called: str,
    path: Path,
    size: tuple[int, int],
    points: Points,
    valid: Flags,
    outside: Flags,
    native: Facts,
    table: Mapping[str, Facts],
    mm_per_px: float | None,
    findings: Findings,
    *,
    landmarks: Sequence[str],
    note: str = "",
) -> Sample:
    """A sample of the film that the set calls `called`: what is given, else in the table of films, else `native`.

    A DICOM film's own header says its spacing where nothing else does. Landmarks [K] are absent that either says are,
    unless a reader marked them. Raises DataError where two contradict another.
    """
    told = table.get(called, Facts())
    if native.mm_per_px is None and mm_per_px is None and told.mm_per_px is None and is_dicom(path):
        spacing, source, why = dicom_spacing(path)
        note = f" ({why})"
        native = replace(native, mm_per_px=spacing, source=source)
    spacing, source = spacing_of(called, native, told, mm_per_px)
    identity = told.id or called
    return Sample(
        id=identity,
        split=agreed_split(called, native.split, told.split),
        group=told.group or native.group or identity,
        machine=told.machine or native.machine,
        size=size,
        mm_per_px=findings.spacing(f"{called}{note}", spacing),
        points=points,
        valid=valid,
        path=path,
        spacing_source=source,
        outside=outside,
        absent=_absent(called, (*native.absent, *told.absent), valid, landmarks, findings),
    )


def _absent(
    called: str, said: Sequence[str], valid: Flags, landmarks: Sequence[str], findings: Findings
) -> Flags | None:
    """Which landmarks [K] are `said` not to be on a film; none that a reader marked (`valid` [R, K])."""
    absent = np.zeros(len(landmarks), dtype=bool)
    for symbol in dict.fromkeys(said):
        place = place_of(symbol, landmarks)
        if place is None:
            findings.leave_out(f"that {symbol} is absent: no film has a landmark of that name marked")
        elif valid[:, place].any():
            findings.leave_out(f"that {symbol} is absent on film {called}, on which a reader marked it")
        else:
            absent[place] = True
    return absent if absent.any() else None


def agreed_split(film: str, native: str, told: str) -> str:
    """The split of a film by the set itself and by the table; DataError where they contradict each other."""
    if native and told and kind(native) != kind(told):
        raise DataError(
            f"film {film} is in {native} by the set itself, in {told} by the table of films",
            hint="correct one of the two",
        )
    return told or native


def _with_patients(samples: dict[str, Sample], root: Path) -> dict[str, Sample]:
    """Films that no group is told of are of one where they lie in one folder, and the folders look like patients'."""
    alone = {key: sample for key, sample in samples.items() if sample.group == sample.id}
    folders = {key: _patient(sample.path.relative_to(root).parts[:-1]) for key, sample in alone.items()}
    count = Counter(folders.values())
    if len(count) < PATIENTS or not 1 < max(count.values()) <= FILMS_OF_ONE or "" in count:
        return samples
    logger.info("%d folders of at most %d films: those of one are one patient's", len(count), max(count.values()))
    return {**samples, **{key: replace(sample, group=folders[key]) for key, sample in alone.items()}}


def _patient(folders: Sequence[str]) -> str:
    return "/".join(folder for folder in folders if not split_of(folder))


def _with_splits(samples: dict[str, Sample], *, hold_out: bool) -> dict[str, Sample]:
    """Give each film a split: as stated, else train; some of train to validation where nothing states who is."""
    stated = {sample.split for sample in samples.values()} - {""}
    if stated and (bare := next((s for s in samples.values() if not s.split), None)):
        raise DataError(
            f"{bare.path}: nothing says which split this film is in, though other films have one",
            hint="put it into a folder train, validation or test as the others, or state `split` in ceph-films.csv",
        )
    training = {sample.group for sample in samples.values() if sample.split in ("", "train")}
    chosen = held_out(training) if hold_out and "validation" not in stated else set()
    if chosen:
        logger.info("the set states no validation films: %d training films are held out, by lot", len(chosen))
    return {
        key: replace(
            sample,
            split="validation" if sample.split in ("", "train") and sample.group in chosen else sample.split or "train",
        )
        for key, sample in samples.items()
    }
