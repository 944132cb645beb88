"""From the errors of a run to the config of its next fine-tune, each choice by a simple rule and with its reason.

The rules, with the figures below, are those of docs/fine-tuning.md. They read the training or validation split only.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.config.load import Resolved, from_values, resolve_run
from ceph.config.models import Config
from ceph.data.geometry import letterbox_scale
from ceph.data.types import Sample
from ceph.errors import CephError, ConfigError, DataError, nearest
from ceph.run.assembly import make_hooks
from ceph.run.films import read_data
from ceph.tools.next_config import Choice, changed, config_text

Floats = NDArray[np.float64]

SPLITS = ("validation", "train")
MIN_FILMS = 10  # on fewer, neither landmarks nor films are told apart
STANDARD_ERRORS = 2.0  # a landmark is hard if its error exceeds the mean by more than so many of its standard errors
MAX_WEIGHT = 2.5
CONCENTRATED = 0.25  # share of the whole error in the worst tenth of the films
RESOLVED_MAP_PX = 1.5  # a median error below it: the map's own grid limits the run
GROWTH, MAX_SIDE, MULTIPLE = 4 / 3, 1024, 32
FALLING = 0.9  # last validation error over that of three quarters of the epochs: the run ended too early
OVERFIT = 0.6  # training error over validation error
RATE, EPOCHS, WARMUP_EPOCHS = 0.1, 20, 2.0
STRENGTH_STEP, MAX_STRENGTH = 0.5, 2.0

MINING, WEIGHTING, AUGMENTATION = "hard-mining", "weighted-loss", "heavy-augmentation"
_LEGEND = (
    "A key with a comment was chosen, by the rules of docs/fine-tuning.md; the others are the run's; "
    "what is not here is a default."
)


@dataclass(frozen=True)
class Suggestion:
    """The config of the next fine-tune of `run`: its text (YAML), and the choices in it, in order."""

    run: Path
    text: str
    choices: tuple[Choice, ...]

    def command(self, file: Path | str) -> str:
        """The call that starts it, once the text is in `file`."""
        return f"ceph run {shlex.quote(str(file))} --init-from {shlex.quote(str(self.run))}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run showed: N films of a split, K landmarks; NaN where there is no truth, or nothing known."""

    landmarks: tuple[str, ...]
    errors_mm: Floats  # [N, K]
    errors_map_px: Floats  # [N, K], in pixels of the heatmap
    zoom: float  # network pixels for each film pixel, the films' median
    disagreement_mm: Floats  # [K], between readers
    train_mre_mm: float = math.nan  # both at the epoch of the best validation MRE
    validation_mre_mm: float = math.nan


def suggest(run: Path | str, *, split: str = "validation") -> Suggestion:
    """Read the errors of a run on `split` and choose the next fine-tune.

    Raises ConfigError for a test split, or where `run` is no run or was not evaluated on `split`, and DataError where
    its predictions or its data cannot be read.
    """
    folder = Path(run)
    runfolder.require_run(folder)
    if split not in SPLITS:
        is_test = split.startswith("test")
        raise ConfigError(
            f"a config chosen on the split {split!r} makes its figures worthless" if is_test else f"no split {split!r}",
            key="--split",
            hint="suggest reads validation or train" if is_test else nearest(split, SPLITS),
        )
    resolved = resolve_run(folder)
    evidence = gather(folder, resolved, split)
    values = resolved.own_values()
    choices, notes = choose(resolved.config, values, evidence)
    head = [_summary(folder, split, evidence), *_unfinished(folder), *_hard_films(folder), _LEGEND]
    return Suggestion(folder, config_text(changed(values, choices), choices, notes, head), choices)


# --- evidence ---------------------------------------------------------------------------------------------------------


def gather(folder: Path, resolved: Resolved, split: str) -> Evidence:
    """The errors of a run on a split, and what its data and its log say about them."""
    config = resolved.config
    path = runfolder.predictions_file(folder, split)
    if not path.is_file():
        hint = f"ceph evaluate {shlex.quote(str(folder))} --split {split}"
        raise ConfigError(f"{folder} holds no {path.name}", key="--split", hint=hint)
    found = runfolder.read_predictions(folder, split)
    if not np.isfinite(found.errors_mm).any():
        raise DataError(f"{path} holds no error: its films have no truth")
    data = read_data(config, make_hooks(resolved))
    samples = {s.id: s for s in data.samples if s.split in SPLITS}
    gone = [film for film in found.ids if film not in samples]
    if gone or found.landmarks != data.landmarks:
        what = f"film {gone[0]} is" if gone else "its landmarks are"
        raise DataError(f"{path}: {what} not in the data of the run's config", key="data.path")
    zoom = np.array([letterbox_scale(samples[film].size, config.data.size) for film in found.ids])
    off_px = np.linalg.norm(found.points_px - found.truth_px, axis=-1)
    return Evidence(
        found.landmarks,
        found.errors_mm,
        off_px * zoom[:, None] / config.model.stride,
        float(np.median(zoom)),
        disagreement_mm(list(samples.values())),
        *_best_epoch(folder),
    )


def disagreement_mm(samples: Sequence[Sample]) -> Floats:
    """How far readers are apart, [K] in mm, as the mean over films and pairs of readers; NaN where one alone marked.

    Their constant offset, a matter of convention that a model can learn, is taken out first.
    """
    points = np.stack([s.points * s.mm_per_px for s in samples])  # [N, R, K, 2]
    valid = np.stack([s.own for s in samples])
    total, count = np.zeros(points.shape[2]), np.zeros(points.shape[2])
    for a, b in combinations(range(points.shape[1]), 2):
        both = valid[:, a] & valid[:, b]  # [N, K]
        apart = np.where(both[..., None], points[:, a] - points[:, b], 0.0)
        offset = apart.sum(0) / np.maximum(both.sum(0), 1)[:, None]
        total += np.where(both, np.linalg.norm(apart - offset, axis=-1), 0.0).sum(0)
        count += both.sum(0)
    return np.where(count >= MIN_FILMS, total / np.maximum(count, 1), np.nan)


def _best_epoch(folder: Path) -> tuple[float, float]:
    """Training and validation MRE in mm at the epoch of the best validation MRE; NaN where the log lacks them."""
    known = _curve(folder)
    return min(known, key=lambda pair: pair[1]) if known else (math.nan, math.nan)


def _curve(folder: Path) -> list[tuple[float, float]]:
    """Training and validation MRE in mm of the epochs in which both are known."""
    records = runfolder.read_records(folder)
    pairs = [(runfolder.number(r, "train_mre_mm"), runfolder.number(r, "validation", "mre_mm")) for r in records]
    return [pair for pair in pairs if not math.isnan(sum(pair))]


def _unfinished(folder: Path) -> list[str]:
    """A word on a run whose validation error was still falling fast when it ended; nothing for others."""
    curve = [valid for _, valid in _curve(folder)]
    then = 3 * (len(curve) - 1) // 4
    if not curve or curve[-1] > min(curve) or curve[-1] >= FALLING * curve[then]:
        return []
    fell = f"from {curve[then]:.2f} mm in epoch {then + 1} to {curve[-1]:.2f} in the last, {len(curve)}"
    return [f"The run was not done: its validation error fell {fell}. Train it longer before any fine-tune."]


def _summary(folder: Path, split: str, evidence: Evidence) -> str:
    films, mre = len(evidence.errors_mm), np.nanmean(evidence.errors_mm)
    return f"The next fine-tune of {folder.absolute()}, from its errors on {films} {split} films: MRE {mre:.2f} mm."


def _hard_films(folder: Path) -> list[str]:
    """What the list of films that stayed hard asks for; nothing where mining wrote none."""
    path = folder / "hard-films.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    hard = [row for row in rows if 2 * int(row.get("epochs_in_hardest") or 1) >= int(row.get("epochs") or 1)]
    if not hard:
        return []
    suspects = sum(row.get("set_aside") == "1" for row in hard)
    doubt = f", {suspects} of them suspected of a label error" if suspects else ""
    return [f"{len(hard)} training films stayed hard{doubt}: look at their labels first, in {path.absolute()}"]


# --- the rules --------------------------------------------------------------------------------------------------------


def choose(config: Config, values: Mapping[str, Any], evidence: Evidence) -> tuple[tuple[Choice, ...], tuple[str, ...]]:
    """All choices for the next run after one with `config` (its own `values`), and notes on plugins left alone."""
    choices = [*choose_size(config, evidence), *choose_schedule(config)]
    notes: list[str] = []
    for rule in (choose_mining, choose_weights, choose_augmentation):
        found, note = rule(config, evidence)
        candidate = changed(values, found)
        try:
            from_values(candidate)
        except CephError as error:  # a plugin of the run does not go with it, or it is not installed
            found, note = (), f"{note} But it cannot be switched on here: {error.problems[0].what}."
        else:
            values = candidate
        choices += found
        notes += [] if found else [note]
    return tuple(choices), tuple(notes)


def choose_size(config: Config, evidence: Evidence) -> list[Choice]:
    """Grow the input while the map's grid limits the errors; the batch shrinks so that memory does not grow."""
    size, median = config.data.size, float(np.nanmedian(evidence.errors_map_px))
    grown = _grown(size)
    measured = f"the median error is {median:.1f} px of the map"
    if median >= RESOLVED_MAP_PX:
        return [Choice(("data", "size"), list(size), f"as it was: {measured}, so a finer one would not help")]
    if grown == size:
        return [Choice(("data", "size"), list(size), f"as it was: {measured}, but it is as large as suggest goes")]
    if evidence.zoom >= 1:
        return [Choice(("data", "size"), list(size), f"as it was: {measured}, but the films have no more pixels")]
    chosen = [Choice(("data", "size"), list(grown), f"was {list(size)}: {measured}, so a finer one may help")]
    if config.train.batch_size > 1:
        batch, steps = config.train.batch_size // 2, config.train.accumulate * 2
        chosen += [
            Choice(("train", "batch_size"), batch, f"was {config.train.batch_size}: larger films need more memory"),
            Choice(("train", "accumulate"), steps, f"was {config.train.accumulate}: as many films a step as before"),
        ]
    return chosen


def _grown(size: tuple[int, int]) -> tuple[int, int]:
    """The size (H, W) times 4/3, the longer side at most 1024, each a multiple of 32 and never less than it was."""
    factor = min(GROWTH, MAX_SIDE / max(size))
    height, width = (max(side, math.floor(side * factor / MULTIPLE + 0.5) * MULTIPLE) for side in size)
    return height, width


def choose_schedule(config: Config) -> list[Choice]:
    """A tenth of the run's rate, briefly, and its own loss."""
    rate = float(f"{config.train.lr * RATE:.6g}")
    return [
        Choice(("loss", "name"), config.loss.name, f"the run's: its weights answer with a {config.loss.kind}"),
        Choice(("train", "lr"), rate, f"a tenth of the run's {config.train.lr:g}"),
        Choice(("train", "epochs"), EPOCHS, "a fine-tune is short"),
        Choice(("train", "stop_after"), None, "all of them"),
        Choice(("train", "warmup_epochs"), WARMUP_EPOCHS, "the optimiser starts without its averages"),
    ]


Rule = tuple[tuple[Choice, ...], str]  # choices, and what to say where there is none


def choose_mining(config: Config, evidence: Evidence) -> Rule:
    """Draw hard films more often where a few films hold much of the error; a run that mined goes on with it."""
    films = np.array([row[~np.isnan(row)].mean() for row in evidence.errors_mm if not np.isnan(row).all()])
    if len(films) < MIN_FILMS:
        return (), f"{MINING}: left as it was, since {len(films)} films are too few to tell hard ones from easy ones."
    worst = math.ceil(len(films) / 10)
    share = float(np.sort(films)[-worst:].sum() / max(films.sum(), 1e-12))
    measured = f"the worst {worst} of {len(films)} films hold {share:.0%} of the error"
    if share <= CONCENTRATED:
        return (), f"{MINING}: left as it was, since {measured}, not more than {CONCENTRATED:.0%}."
    goes_on = "stays on" if MINING in config.plugins else "on"
    found = [Choice(("plugins", MINING, "films"), value=True, reason=f"{goes_on}: {measured}")]
    if MINING not in config.plugins:
        reason = "which landmarks count, the weights say"
        found.append(Choice(("plugins", MINING, "landmarks"), value=False, reason=reason))
    return tuple(found), f"{MINING}: {measured}."


def choose_weights(config: Config, evidence: Evidence) -> Rule:
    """Weigh the landmarks whose error is above the mean beyond doubt, and above what their readers agree to."""
    found, section = weigh(evidence), config.plugins.get(WEIGHTING, {})
    weights = {choice.key[-1]: choice.value for choice in found}
    told = f" ({'; '.join(f'{choice.key[-1]} {choice.reason}' for choice in found)})" if found else ""
    if section.get("weights") == "auto":
        if all(weight > 1 for weight in weights.values()):
            return (), f"{WEIGHTING}: left as it was, since its weights follow the errors{told}."
        reason = f"the error of {', '.join(s for s, w in weights.items() if w == 1)} is not above what readers agree to"
        return (Choice(("plugins", WEIGHTING, "noise_aware"), value=True, reason=reason),), f"{WEIGHTING}: {reason}."
    if not any(weight > 1 for weight in weights.values()):
        return (), f"{WEIGHTING}: left as it was, since no landmark is hard beyond doubt{told}."
    key = ("plugins", WEIGHTING)
    mean = np.nanmean(evidence.errors_mm)
    reason = f"error / mean of {mean:.2f} mm, at most {MAX_WEIGHT:g}, where it is above the mean beyond doubt"
    chosen = [Choice((*key, "weights"), weights, reason)]
    chosen += [Choice((*key, "weights", choice.key[-1]), choice.value, choice.reason) for choice in found]
    chosen.append(Choice((*key, "other"), 1.0, "all the others"))
    if section.get("noise_aware"):
        reason = "these weights know the readers' disagreement already"
        chosen.append(Choice((*key, "noise_aware"), value=False, reason=reason))
    return tuple(chosen), f"{WEIGHTING}: {', '.join(weights)} are hard."


def weigh(evidence: Evidence) -> list[Choice]:
    """The hard landmarks, hardest first, each keyed by its symbol, with its weight; 1 where readers agree no better."""
    mean = float(np.nanmean(evidence.errors_mm))
    found: list[Choice] = []
    for k, symbol in enumerate(evidence.landmarks):
        known = evidence.errors_mm[:, k][~np.isnan(evidence.errors_mm[:, k])]
        if len(known) < MIN_FILMS:
            continue
        error, doubt = float(known.mean()), float(known.std(ddof=1) / math.sqrt(len(known)))
        weight = round(min(MAX_WEIGHT, error / mean), 1)
        if error - mean <= STANDARD_ERRORS * doubt or weight <= 1:
            continue
        apart, measured = float(evidence.disagreement_mm[k]), f"{error:.2f} mm +- {doubt:.2f}"
        if error <= apart:
            found.append(Choice((symbol,), 1.0, f"{measured}, but its readers are {apart:.2f} mm apart"))
        else:
            known_apart = "" if math.isnan(apart) else f"; its readers are {apart:.2f} mm apart"
            found.append(Choice((symbol,), weight, f"{measured}{known_apart}"))
    return sorted(found, key=lambda choice: -choice.value)


def choose_augmentation(config: Config, evidence: Evidence) -> Rule:
    """Augment more where the training films are known far better than the validation films."""
    ratio = evidence.train_mre_mm / evidence.validation_mre_mm if evidence.validation_mre_mm else math.nan
    if math.isnan(ratio):
        return (), f"{AUGMENTATION}: left as it was, since the run's log has no training error."
    measured = f"the training error is {ratio:.0%} of the validation error"
    if ratio >= OVERFIT:
        return (), f"{AUGMENTATION}: left as it was, since {measured}, not below {OVERFIT:.0%}."
    key = ("plugins", AUGMENTATION, "strength")
    if AUGMENTATION not in config.plugins:
        return (Choice(key, 1.0, f"on: {measured}"),), f"{AUGMENTATION}: {measured}."
    before = float(config.plugins[AUGMENTATION]["strength"])
    if before >= MAX_STRENGTH:
        return (), f"{AUGMENTATION}: left at {before:g}, as strong as suggest goes, although {measured}."
    return (Choice(key, min(MAX_STRENGTH, before + STRENGTH_STEP), f"was {before:g}: {measured}"),), ""
