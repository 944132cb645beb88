"""The films of a run: sets are read, splits taken, and plugins asked what they say of each film and do to it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ceph.config.load import Resolved, resolve_run
from ceph.config.models import Config, FoldConfig, SetConfig
from ceph.data import unmarked
from ceph.data.cache import FilmCache, default_root, digests
from ceph.data.dataset import Films, State, Truth
from ceph.data.formats.base import DataSet, Reader
from ceph.data.formats.film_table import table_at
from ceph.data.formats.find import READERS, read, select
from ceph.data.formats.records import ONE_READER
from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.data.geometry import letterbox_scale
from ceph.data.several import join, on_landmarks
from ceph.data.truth import MEAN, combine, reader_of
from ceph.data.types import Sample
from ceph.errors import CephError, ConfigError, DataError, nearest
from ceph.evaluation.folds import FOLDED, folds_of
from ceph.hooks.sampling import SAMPLE_HOOKS, SampleHooks, draw_names
from ceph.hooks.trust import Untrusted
from ceph.hooks.verbs import Hooks
from ceph.run.assembly import make_hooks
from ceph.training.runtime import Runtime

if TYPE_CHECKING:
    from ceph.data.augment import Augmentation

log = logging.getLogger("ceph")


def read_data(
    config: Config, hooks: Hooks, path: Path | None = None, *, shared: Sequence[str] | None = None
) -> DataSet:
    """Read the set at `path` (default: the config's; none: the embedded one) with the landmarks that are wanted.

    `shared` are a run's landmarks: the set then has these, of which it may lack some. The config's own set has the
    splits that `data.fold` says.
    """
    found = _read_set(config, hooks, path, shared)
    return refolded(found, config.data.fold) if path is None else found


def refolded(data: DataSet, fold: FoldConfig | None) -> DataSet:
    """The set with the films of train and validation divided anew: the fold is validation, or all are out-of-fold.

    The latter are in the order of their folds.
    """
    if fold is None:
        return data
    chosen = [sample for sample in data.samples if sample.split in FOLDED]
    numbers = folds_of(chosen, digests([sample.path for sample in chosen]), fold.by, fold.of)
    if fold.number is None:
        anew = [replace(chosen[n], split=OUT_OF_FOLD) for n in np.argsort(numbers, kind="stable")]
    else:
        held = numbers == fold.number
        anew = [replace(s, split="validation" if out else "train") for s, out in zip(chosen, held, strict=True)]
    return replace(data, samples=(*anew, *(s for s in data.samples if s.split not in FOLDED)))


def _read_set(config: Config, hooks: Hooks, path: Path | None, shared: Sequence[str] | None) -> DataSet:
    data, readers = config.data, known_readers(hooks)
    if path is None and isinstance(data.path, tuple):
        with table_at(data.films_table):
            joined_sets = join(
                {each.name: _one_of_several(config, n, each, readers) for n, each in enumerate(data.path)}
            )
        if shared is not None:
            return on_landmarks(joined_sets, shared)
        return joined_sets if data.landmarks is None else select(joined_sets, data.landmarks)
    with table_at(data.films_table if path is None else None):
        return read(
            path or (data.path if isinstance(data.path, Path) else embedded_set(data.synthetic_films)),
            format=data.format,
            landmarks=data.landmarks if shared is None else shared,
            mm_per_px=data.mm_per_px,
            readers=readers,
            shared=shared is not None,
        )


def read_known(folder: Path, path: Path | None = None) -> tuple[Config, DataSet]:
    """The config of a run and its films (or those at `path`), read as `read_sparingly` does."""
    plain = resolve_run(folder, imports="none")
    return plain.config, read_sparingly(plain, lambda: resolve_run(folder), path)


def read_sparingly(resolved: Resolved, whole: Callable[[], Resolved], path: Path | None = None) -> DataSet:
    """`read_data` with the plugins that `resolved` has imported; where that fails, with those of `whole()`.

    So no plugin is imported for a set that the core reads. Raises what `read_data` raises; Untrusted, which tells that
    too, where a plugin might read the set that the user has not agreed to run.
    """
    try:
        return read_data(resolved.config, make_hooks(resolved), path)
    except CephError as error:
        if not resolved.config.plugins.keys() - resolved.plugins:
            raise
        try:
            hooks = make_hooks(whole())
        except Untrusted as other:
            raise Untrusted([*error.problems, *other.problems], other.files) from other
        except CephError as other:
            raise type(error)([*error.problems, *other.problems]) from other
        if not hooks.answers("dataset_formats"):
            raise
        return read_data(resolved.config, hooks, path)


@contextmanager
def told_of(key: str) -> Iterator[None]:
    """Tell what is wrong with `data.path`, `data.mm_per_px`, ... inside as of this section of the config."""
    try:
        yield
    except (ConfigError, DataError) as error:
        here = [
            replace(p, key=p.key and f"{key}.{p.key.rpartition('.')[2]}", hint=p.hint.replace("data.", f"{key}."))
            for p in error.problems
        ]
        raise type(error)(here) from error


def known_readers(hooks: Hooks) -> tuple[Reader, ...]:
    """The core's readers of data sets and those of plugins."""
    return (*READERS, *hooks.merge("dataset_formats").values())


def _one_of_several(config: Config, number: int, each: SetConfig, readers: Sequence[Reader]) -> DataSet:
    data, truth = config.data, each.truth or config.data.truth
    with told_of(f"data.path[{number}]"):
        found = read(each.path, format=each.format, mm_per_px=each.mm_per_px or data.mm_per_px, readers=readers)
    if truth not in (MEAN, *found.readers):
        hint = nearest(truth, [MEAN, *found.readers])
        raise ConfigError(f"no reader {truth!r} in the set {each.name}", key="data.truth", hint=hint)
    return found


def embedded_set(films: int) -> Path:
    """The folder of the synthetic set in the user's cache; drawn the first time."""
    from ceph.data.synthetic import sets as synthetic  # which no other set needs

    where = default_root() / f"synthetic-{films}-{synthetic.VERSION}"
    if not where.is_dir():
        log.info("drawing %d synthetic films into %s", films, where)
        try:
            synthetic.write(where, films=films)
        except FileExistsError:
            log.info("another process has just drawn them")
    return where


def film_cache(config: Config) -> FilmCache:
    """Where decoded films are kept."""
    words = {"auto": default_root() / "films", "none": None}
    return FilmCache(words[config.data.cache] if config.data.cache in words else Path(config.data.cache))


def make_films(data: DataSet, split: str, config: Config) -> Films:
    """The films of one split, as they are. Raises DataError where there is none."""
    chosen = tuple(sample for sample in data.samples if sample.split == split)
    if not chosen:
        hint = nearest(split, {sample.split for sample in data.samples})
        if split == "validation":
            hint = "name some in ceph-films.csv, or train on all, each held out once, by ceph folds (docs/folds.md)"
        raise DataError(f"{config.data.place} has no films of the split {split!r}", key="data.path", hint=hint)
    return films_of(chosen, data, config)


def films_of(samples: Sequence[Sample], data: DataSet, config: Config) -> Films:
    """These films of a set, as they are."""
    return Films(samples, digests([s.path for s in samples]), plain_truth(config, data), film_cache(config))


def also_films(config: Config, hooks: Hooks, landmarks: Sequence[str]) -> dict[str, Films]:
    """The films of the sets of `evaluate.also`, by their names. Raises ConfigError for those of a test split."""
    found = {}
    for name, also in config.evaluate.also.items():
        key = f"evaluate.also.{name}"
        with told_of(key):
            data = read(
                also.path,
                format=also.format,
                landmarks=landmarks,
                mm_per_px=also.mm_per_px,
                readers=known_readers(hooks),
                shared=True,
            )
        there = sorted({sample.split for sample in data.samples})
        wanted = [also.split or "validation"] if also.split or "validation" in there else there
        if tests := sorted(set(wanted) & set(unmarked.TESTS)):
            hint = f"name another split, with {key}.split; ceph evaluate opens a test split, once a run has ended"
            what = f"is the split {tests[0]} of {also.path}, which training must not see"
            raise ConfigError(what, key=key, hint=hint)
        chosen = tuple(sample for sample in data.samples if sample.split in wanted)
        if not chosen:
            raise ConfigError(
                f"{also.path} has no split {also.split!r}", key=f"{key}.split", hint=nearest(wanted[0], there)
            )
        found[name] = films_of(chosen, data, config)
    return found


def training_films(data: DataSet, config: Config, hooks: Hooks) -> Films:
    """The training films, with all that plugins say of a film and do to it; unmarked films stand behind them."""
    films, asked = make_films(data, "train", config), SampleHooks(hooks)
    others = unmarked_films(config, data, hooks, films.samples)
    names = digests([sample.path for sample in others])
    if others:
        tests = [sample for sample in data.samples if sample.split in unmarked.TESTS]
        unmarked.refuse_equal(others, names, dict(zip(digests([s.path for s in tests]), tests, strict=True)))
    return replace(
        films,
        samples=(*films.samples, *others),
        digests=(*films.digests, *names),
        unmarked=len(others),
        truth=partial(asked.truth, films.truth) if hooks.answers("truth") else films.truth,
        augmentation=make_augmentation(config, hooks),
        extras=asked.extras if hooks.answers("extras") else None,
        second_draws=draw_names(hooks),
        begin=partial(_begun, config, asked) if any(map(hooks.answers, SAMPLE_HOOKS)) else None,
    )


def unmarked_films(config: Config, data: DataSet, hooks: Hooks, marked: Sequence[Sample]) -> tuple[Sample, ...]:
    """The films of `data.unmarked`; one of unknown spacing has the median mm per network pixel of the `marked`."""
    if config.data.unmarked is None or not config.data.unmarked_share:
        return ()
    size, shape = config.data.size, (len(data.readers), len(data.landmarks))
    median_mm = float(np.median([sample.mm_per_px / letterbox_scale(sample.size, size) for sample in marked]))
    readers = known_readers(hooks)
    usual = lambda film: median_mm * letterbox_scale(film, size)  # noqa: E731
    return unmarked.read_unmarked(config.data.unmarked, shape, usual, readers, config.data.mm_per_px)


def _begun(config: Config, asked: SampleHooks, state: State) -> Augmentation:
    return make_augmentation(config, asked.begin(state))


def plain_truth(config: Config, data: DataSet) -> Truth:
    """The truth of `data.truth`, or of that of a film's own set, the same at every draw."""
    sets = config.data.path if isinstance(config.data.path, tuple) else ()
    truths = {each.name: each.truth or config.data.truth for each in sets}
    return partial(_combined, truths=truths, otherwise=config.data.truth, readers=data.readers)


def _combined(
    sample: Sample, _seed: int, *, truths: Mapping[str, str], otherwise: str, readers: Sequence[str]
) -> tuple[Any, ...]:
    truth = truths.get(sample.set, otherwise)
    if truth == ONE_READER:  # who bears the set's name where there are several
        truth = sample.set or truth
    return *combine(sample.points, sample.valid, truth, readers), reader_of(sample.valid, truth, readers)


def make_augmentation(config: Config, hooks: Hooks) -> Augmentation:
    """The core's default changes of training films and those of the plugins."""
    from ceph.data.augment import STAGES, Augmentation, default_augmentation  # albumentations takes its time

    warps: dict[str, Any] = dict(hooks.each("warps"))
    transforms: dict[str, dict[str, Any]] = {s: dict(hooks.each("augmentations", stage=s)) for s in STAGES}
    if config.data.augmentation == "default":
        own_warps, own_photometric = default_augmentation()
        warps["core"], transforms["photometric"]["core"] = own_warps, own_photometric
    return Augmentation(warps, transforms, hooks.versions)


def loader_workers(config: Config, runtime: Runtime) -> int:
    """`auto`: none beside a CPU that trains, since its cores are taken; else up to eight."""
    if config.data.workers != "auto":
        return config.data.workers
    return 0 if runtime.device.type == "cpu" else min(8, (os.cpu_count() or 1) // runtime.ranks.here)
