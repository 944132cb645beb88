"""Finished runs, of whatever backbones and sizes, as one folder that predicts by the mean of their maps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ceph import runfolder
from ceph.config.load import resolve_run
from ceph.errors import CephError, ConfigError
from ceph.evaluation.runs import short_names
from ceph.run.held_out import ADAPT
from ceph.run.report import report_if_possible
from ceph.run.train import Result, describe, rewrite_config
from ceph.run.trained import TRAINING_SPLITS, Trained, load
from ceph.training.engine import last_epoch

log = logging.getLogger("ceph")


def ensemble(runs: Sequence[Path | str], *, out: Path | str) -> Result:
    """Copy what predicting needs of finished `runs` into a folder `out` that predicts by the mean of their maps.

    The first says which landmarks are found, in what frame, and what comes after the maps; one that lacks a landmark
    leaves it to the others. Members of a folder of several runs are taken one by one. Returns the figures of the
    first's validation films, {} where these cannot be read. Raises ConfigError where the runs do not go together, or
    `out` is a run already, and what loading them raises.
    """
    named = [runfolder.located(run) for run in runs]
    out, folders = Path(out), [each for run in named for each in runfolder.read_members(run) or [run]]
    if len(folders) < 2:
        raise ConfigError("one run is no ensemble", key="RUN", hint="name two or more")
    members = [load(folder) for folder in folders]
    require_fitting(members)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {out}: {error.strerror}", key="--out") from error
    with runfolder.locked(out), runfolder.logging_to(out):
        if runfolder.is_run(out):
            raise ConfigError(f"{out} already holds a run", key="--out", hint="give the ensemble another folder")
        names = [f"{place}-{name.replace('/', '-')}" for place, name in enumerate(short_names(folders))]
        for folder, name in zip(folders, names, strict=True):
            runfolder.copy_run(folder, out / runfolder.INSIDE / name)
        with runfolder.recorded(out):
            describe_in(out, members, names)
        try:
            figures, _ = load(out).evaluate("validation")
        except CephError as error:
            log.warning("not scored: %s", error.problems[0].what)
            figures = {}
        report_if_possible(out)
    return Result(out, figures, last_epoch(members[0].config.train) - 1)


def require_fitting(members: Sequence[Trained]) -> None:
    """Raise ConfigError where a mean of the maps would mean nothing; warn of what is not used."""
    first = members[0]
    for other in members[1:]:
        if other.config.target_kind != first.config.target_kind:
            kinds = [f"{m.folder} draws {m.config.target_kind}s" for m in (first, other)]
            raise ConfigError(f"{' and '.join(kinds)}: their mean is neither", key="RUN")
        if not set(other.landmarks) & set(first.landmarks):
            raise ConfigError(f"{other.folder} knows none of the landmarks of {first.folder}", key="RUN")
        if more := [symbol for symbol in other.landmarks if symbol not in first.landmarks]:
            what = "%s also knows %s, which %s does not: name it first to have them found"
            log.warning(what, other.folder, ", ".join(more), first.folder)
        if other.landmarks != first.landmarks and other.evaluator.stations.refiner is not None:
            what = "the second look of %s is not used: its landmarks, or their order, are not those of %s"
            log.warning(what, other.folder, first.folder)


def describe_in(out: Path, members: Sequence[Trained], names: Sequence[str]) -> None:
    """Write the files that make the folder a run; the films seen are those of all members."""
    first, films = members[0], {split: dict[str, str]() for split in (*TRAINING_SPLITS, ADAPT)}
    for member, name in zip(members, names, strict=True):
        known = runfolder.read_fingerprint(member.folder)
        for split, seen in films.items():
            for film, marks in runfolder.labels(known, "films", split).items():
                seen[film if seen.get(film, marks) == marks else f"{name}/{film}"] = marks
    seen_films = {split: seen for split, seen in films.items() if seen}
    runfolder.write_fingerprint(out, {**runfolder.read_fingerprint(first.folder), "films": seen_films})
    about = runfolder.read_environment(first.folder).get("plugins", {})
    made = runfolder.environment(about, describe(first.runtime), None)
    licences = [runfolder.read_environment(member.folder).get("licence") for member in members]
    if licences[0] and all(licence == licences[0] for licence in licences):
        made["licence"] = licences[0]
    runfolder.write_environment(out, made)
    runfolder.copy_config(first.folder, out)
    runfolder.write_members(out, names)
    if first.config.data.fold is not None:
        rewrite_config(out, resolve_run(out, settings=["data.fold=null"]), ())
