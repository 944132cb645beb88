"""hard-mining: what the model finds hard, it sees more of: films drawn more often, landmarks and pixels that count."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from ceph.plugin import (
    Batch,
    ConfigError,
    Duration,
    Plugin,
    PluginConfig,
    Run,
    Sample,
    guarded,
    hookimpl,
    log,
    moving_average,
    write_text,
)

OUTLIER = 2.0  # times the median film's error: above it a film is watched for a label error
FALL = 0.05  # of its error that such a film must lose to count as learning
LEAST_HARDNESS = 1e-3  # of an average film, so that every film has a chance
REPORT = "hard-films.csv"


# --- films -----------------------------------------------------------------------------------------------------------


def film_errors(errors_mm: torch.Tensor) -> torch.Tensor:
    """The mean error [N] in mm of each film, over its landmarks [N, K] that have one; NaN for a film without any."""
    known = errors_mm.isfinite()
    total = torch.where(known, errors_mm, 0.0).sum(dim=1)
    return total / known.sum(dim=1)  # 0 / 0 is the NaN of a film without any


def capped(weights: torch.Tensor, cap: float) -> torch.Tensor:
    """Weights [N] > 0, mean 1, none above `cap` >= 1: what is cut off goes to the others, in proportion."""
    films = len(weights)
    cap = min(cap, films)
    falling = weights.sort(descending=True).values
    left = falling.flip(0).cumsum(0).flip(0)  # [N], the sum from each place on
    scale = (films - cap * torch.arange(films, dtype=weights.dtype)) / left  # if that many are cut to the cap
    cut = int((falling * scale <= cap * (1 + 1e-12)).nonzero()[0])
    return (weights * scale[cut]).clamp(max=cap)


def film_weights(
    error_mm: torch.Tensor,
    power: float,
    uniform: float,
    max_ratio: float | None = None,
    max_repeats: float = math.inf,
) -> torch.Tensor:
    """The weights [N], mean 1, of films with errors [N] in mm; films of unknown error count as average.

    (error / mean) ** power, clipped so that no film outweighs another more than `max_ratio` times (a mislabelled film
    must not take over the epoch), then mixed with the share `uniform` of equal weights; at last no weight is left
    above `max_repeats`, so no film is drawn more often than that (rounded up) in an epoch.
    """
    known = error_mm.isfinite()
    mean = error_mm[known].mean()
    if not mean > 0:  # nothing known yet (NaN), or nothing wrong
        return torch.ones_like(error_mm)
    hardness = torch.where(known, error_mm / mean, 1.0) ** power
    if max_ratio is not None:
        hardness = hardness.clamp(1 / math.sqrt(max_ratio), math.sqrt(max_ratio))
    hardness = hardness.clamp(LEAST_HARDNESS, 1e9)
    return capped(uniform + (1 - uniform) * hardness / hardness.mean(), max_repeats)


# --- landmarks -------------------------------------------------------------------------------------------------------


def hardest(loss: torch.Tensor, valid: torch.Tensor, keep: float) -> torch.Tensor:
    """1 for the landmarks of each film whose loss is greatest, 0 for the others: [B, K] from loss and valid [B, K].

    `keep`: an int is a number of landmarks, a float a share of all K (at least one): where a film has fewer, or a
    mask leaves fewer, all of these count.
    Online hard keypoint mining: Chen et al. 2018, Cascaded Pyramid Network, section 3.2.
    """
    order = torch.where(valid, loss, -math.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(loss.shape[1], device=loss.device).expand_as(order))
    return (rank < (keep if isinstance(keep, int) else max(1, round(keep * loss.shape[1])))).to(loss.dtype)


def by_power(loss: torch.Tensor, counts: torch.Tensor, power: float) -> torch.Tensor:
    """Weights [B, K] in proportion to loss ** power among each film's landmarks that count ([B, K] bool).

    Their mean is 1 in each film, so no film counts more than before; the others get 0. As the focusing of the focal
    loss (Lin et al. 2017, section 3.2), on whole landmarks.
    """
    loss = torch.where(counts, loss, 0.0).clamp_min(0)
    top = loss.amax(dim=1, keepdim=True)
    share = torch.where(counts & (top > 0), loss / top, counts.to(loss.dtype)) ** power
    share = torch.where(counts, share, 0.0)
    return share * counts.sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True).clamp_min(1e-12)


def spread(weights: torch.Tensor, valid: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Weights [B, K], evened out in the films of `rows` [B] bool: all that is valid [B, K] counts alike.

    The total of a film stays.
    """
    even = (weights * valid).sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(rows[:, None], even, weights)


# --- pixels ----------------------------------------------------------------------------------------------------------


def hard_negatives(
    pred: torch.Tensor, points: torch.Tensor, radius: float, level: float, weight: float
) -> torch.Tensor:
    """`weight` for hard background pixels and 1 for all others: [B, K, h, w] from raw maps and points in map px.

    Hard is a pixel farther than `radius` map px from the point [B, K, 2], whose logit is within log(1 / level) of the
    map's highest: of a distribution that is a response of at least `level` times the peak's. As in the mining of hard
    negatives (Felzenszwalb et al. 2010, section 4; Shrivastava et al. 2016), with a weight in place of a choice.
    """
    height, width = pred.shape[-2:]
    dx = torch.arange(width, device=pred.device) - points[..., :1]  # [B, K, w]
    dy = torch.arange(height, device=pred.device) - points[..., 1:]  # [B, K, h]
    far = dy.square()[..., :, None] + dx.square()[..., None, :] > radius**2
    high = pred >= pred.amax((-2, -1), keepdim=True) + math.log(level)
    return torch.where(far & high, weight, 1.0)


# --- memory ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Memory:
    """What is known of N films with K landmarks; on the CPU, float64 but for whole numbers."""

    error_mm: torch.Tensor  # [N, K] smoothed, NaN where never seen
    lowest_mm: torch.Tensor  # [N] the film's error from which it must fall to count as learning
    stuck: torch.Tensor  # [N] epochs for which it has been an outlier and has not fallen
    epochs: torch.Tensor  # [N] epochs after the warm-up in which its error was known; the sums are over these
    times_median: torch.Tensor  # [N] sum of its error over the median film's
    weight: torch.Tensor  # [N] sum of its sampling weights
    in_hardest: torch.Tensor  # [N] how often it was in the hardest tenth

    @classmethod
    def empty(cls, films: int, landmarks: int) -> Memory:
        """Nothing known."""
        unknown = torch.full((films, landmarks), math.nan, dtype=torch.float64)
        none, zero = torch.zeros(films, dtype=torch.int64), torch.zeros(films, dtype=torch.float64)
        return cls(unknown, torch.full_like(zero, math.nan), none, none, zero, zero, none)

    def with_epoch(self, new_mm: torch.Tensor, weights: torch.Tensor, momentum: float, *, mined: bool) -> Memory:
        """Give the memory after another epoch: errors [N, K] in mm, NaN where not drawn, and the films' weights [N].

        An epoch that was not `mined` (the warm-up) only moves the errors. A landmark that trained nowhere in it is
        forgotten, so that the errors of a film are of what trains now.
        """
        error_mm = moving_average(self.error_mm, new_mm, momentum)
        error_mm[:, ~new_mm.isfinite().any(dim=0)] = math.nan
        if not mined:
            return replace(self, error_mm=error_mm)
        film = film_errors(error_mm)
        known = film.isfinite()
        times = film / film.nanmedian().clamp_min(1e-9)
        held = (times > OUTLIER) & ~(film < (1 - FALL) * self.lowest_mm)
        return Memory(
            error_mm,
            lowest_mm=torch.where(held & self.lowest_mm.isfinite(), self.lowest_mm, film),
            stuck=torch.where(held, self.stuck + 1, 0),
            epochs=self.epochs + known,
            times_median=self.times_median + torch.where(known, times, 0.0),
            weight=self.weight + torch.where(known, weights, 0.0),
            in_hardest=self.in_hardest + (film >= film.nanquantile(0.9)),
        )

    def set_aside(self, patience: int | None) -> torch.Tensor:
        """The films [N] bool that were outliers for `patience` epochs on end and did not learn."""
        return torch.zeros_like(self.stuck, dtype=torch.bool) if patience is None else self.stuck >= patience


@dataclass(frozen=True)
class HardFilm:
    """A film's line in the report."""

    image_id: str
    error_mm: float  # smoothed, mean of its landmarks
    times_median: float  # its error over the median film's, mean of the epochs
    weight: float  # its sampling weight, mean of the epochs; 1 is average
    epochs_in_hardest: int
    epochs: int
    set_aside: int  # 1: suspected of a label error, so no longer mined
    worst_landmark: str  # by its error over that of the same landmark in the median film
    worst_error_mm: float


def hard_films(
    memory: Memory, ids: Sequence[str], landmarks: Sequence[str], patience: int | None = None
) -> list[HardFilm]:
    """The films that were watched, hardest first: by their error over the median film's, mean of the epochs.

    A label error shows early and stays, whereas at the end a network may have learnt it by heart: so the mean over
    the epochs ranks them (Huang et al. 2019, O2U-Net, ranks by the mean loss for this reason).
    """
    film_mm = film_errors(memory.error_mm)
    per_landmark = memory.error_mm / memory.error_mm.nanmedian(dim=0).values.clamp_min(1e-9)
    worst = per_landmark.nan_to_num(-1.0).argmax(dim=1)
    aside = memory.set_aside(patience)
    found = []
    for i, film_id in enumerate(ids):
        epochs, k = int(memory.epochs[i]), int(worst[i])
        if epochs:
            found.append(
                HardFilm(
                    film_id,
                    round(float(film_mm[i]), 3),
                    round(float(memory.times_median[i]) / epochs, 3),
                    round(float(memory.weight[i]) / epochs, 3),
                    int(memory.in_hardest[i]),
                    epochs,
                    int(aside[i]),
                    landmarks[k],
                    round(float(memory.error_mm[i, k]), 3),
                )
            )
    return sorted(found, key=lambda film: (-film.times_median, film.image_id))


def write_report(films: Sequence[HardFilm], file: Path) -> None:
    """Write the films as a table, a line each."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(field.name for field in fields(HardFilm))
    table.writerows([guarded(getattr(film, field.name)) for field in fields(HardFilm)] for film in films)
    write_text(file, out.getvalue())


# --- the plugin ------------------------------------------------------------------------------------------------------


class HardMiningConfig(PluginConfig):
    """Three switches, `films`, `landmarks` and `pixels`; the rest shapes them."""

    films: bool = Field(default=True, description="draw films more often where their error stays high")
    landmarks: bool = Field(default=True, description="only the hardest landmarks of each film train the model")
    pixels: bool = Field(default=False, description="background pixels that respond like a point count more")
    warmup_epochs: Duration = Field(
        default=Duration(2), description="epochs, or % of the run, that only watch, before anything is mined"
    )
    momentum: float = Field(default=0.7, ge=0, lt=1, description="how much of a film's past error stays each epoch")
    power: float = Field(default=1.0, ge=0, description="films are drawn by their error in mm to this power")
    uniform: float = Field(default=0.5, ge=0, le=1, description="share of the draws that ignores the errors")
    max_ratio: float | None = Field(
        default=4.0, ge=1, description="the hardest film weighs at most so many times the easiest; null: no limit"
    )
    max_repeats: float = Field(
        default=3.0, ge=1, description="no film is drawn more often in an epoch than so many times its even share"
    )
    patience: int | None = Field(
        default=5,
        ge=1,
        description="a film whose error is far above the others' and does not fall for so many mined epochs is no "
        "longer mined, since its labels may be wrong; null: never",
    )
    keep: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=0.4,
        description="landmarks of each film that count: a number, or a share of the set's (0.4); null: all",
    )
    landmark_power: float = Field(
        default=0.0, ge=0, description="landmarks that count weigh by their loss to this power; 0: all alike"
    )
    pixel_radius: float = Field(default=6.0, gt=0, description="map px; the background begins so far from the point")
    pixel_level: float = Field(
        default=0.1, gt=0, le=1, description="share of the map's peak from which a background response is hard"
    )
    pixel_weight: float = Field(default=3.0, ge=1, description="weight of a hard background pixel; others weigh 1")


class HardMining(Plugin[HardMiningConfig]):
    """What the model finds hard, it sees more of: hard films are drawn more often, easy landmarks do not count.

    Errors are in mm, since a loss changes with the size of the map. Films that stay hard are reported at the end.
    """

    warmup_epochs: float  # that the run's length makes of the setting

    def __init__(self, config: HardMiningConfig | None = None) -> None:
        super().__init__(config)
        self.memory: Memory | None = None
        self._aside: torch.Tensor | None = None  # [N] bool, on the device, once asked for; see `_set_aside`

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse to count more landmarks than there are, or target as background; note a warm-up without an end."""
        keep = self.config.keep
        if self.config.landmarks and isinstance(keep, int) and keep > len(run.landmarks):
            raise ConfigError(
                f"keeps {keep} landmarks of each film, but the data set has {len(run.landmarks)}",
                key="plugins.hard-mining.keep",
                hint=f"at most {len(run.landmarks)}, or a share such as 0.4",
            )
        if self.config.pixels and self.config.pixel_radius < 3 * run.config.sigma_px:
            raise ConfigError(
                f"{self.config.pixel_radius:g} map px reach into the target, whose sigma is {run.config.sigma_px:g} px",
                key="plugins.hard-mining.pixel_radius",
                hint=f"at least three sigma: {3 * run.config.sigma_px:g}",
            )
        if self.config.warmup_epochs.epochs(run.epochs) >= run.epochs:
            log.info("hard-mining: the run ends within its %d warm-up epochs, so nothing is mined", run.epochs)

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Learn how long the warm-up is in this run."""
        self.warmup_epochs = self.config.warmup_epochs.epochs(run.epochs)

    @hookimpl
    def sample_weights(self, epoch: int, samples: Sequence[Sample]) -> torch.Tensor | None:
        """Give [N], 1 on average, higher where a film's error stays high."""
        c, memory = self.config, self.memory
        evenly = not c.films or c.power == 0 or c.uniform == 1 or c.max_repeats == 1
        if evenly or epoch < self.warmup_epochs or memory is None:
            return None
        if len(memory.error_mm) != len(samples):
            raise ValueError(f"remembers {len(memory.error_mm)} films, but the run trains on {len(samples)}")
        error_mm = film_errors(memory.error_mm).masked_fill(memory.set_aside(c.patience), math.nan)
        return film_weights(error_mm, c.power, c.uniform, c.max_ratio, c.max_repeats)

    @hookimpl
    def landmark_weights(self, batch: Batch, loss: torch.Tensor) -> torch.Tensor | None:
        """Give [B, K]: the top of each film's losses, weighted by their power; even for a film that is set aside."""
        c = self.config
        if not c.landmarks or batch.epochs_done < self.warmup_epochs or (c.keep is None and c.landmark_power == 0):
            return None
        weights = batch.valid.to(loss.dtype) if c.keep is None else hardest(loss, batch.valid, c.keep)
        if c.landmark_power:
            weights = by_power(loss, batch.valid & (weights > 0), c.landmark_power)
        aside = self._set_aside(loss.device)
        return weights if aside is None else spread(weights, batch.valid, aside[batch.index])

    @hookimpl
    def pixel_weights(self, batch: Batch, pred: torch.Tensor) -> torch.Tensor | None:
        """Give [B, K, h, w]: more for background pixels that respond like a point."""
        c = self.config
        if not c.pixels or c.pixel_weight == 1 or batch.epochs_done < self.warmup_epochs:
            return None
        stride = batch.image.shape[-1] / pred.shape[-1]
        return hard_negatives(pred, (batch.points + 0.5) / stride - 0.5, c.pixel_radius, c.pixel_level, c.pixel_weight)

    @hookimpl
    def epoch_end(self, epoch: int, samples: Sequence[Sample], errors_mm: torch.Tensor) -> None:
        """Remember the films' errors [N, K] in mm, NaN where not drawn."""
        c, new_mm = self.config, torch.as_tensor(errors_mm, dtype=torch.float64)
        weights = self.sample_weights(epoch, samples)  # as this epoch was planned: the memory is still the same
        if weights is None:
            weights = torch.ones(len(new_mm), dtype=torch.float64)
        memory = Memory.empty(*new_mm.shape) if self.memory is None else self.memory
        self.memory = memory.with_epoch(new_mm, weights, c.momentum, mined=epoch >= self.warmup_epochs)
        self._aside = None

    @hookimpl
    def run_end(self, run: Run, result: Any) -> None:
        """Write every film that was watched into hard-films.csv of the run folder, and log the hardest."""
        if self.memory is None:
            return
        films = hard_films(self.memory, [s.id for s in run.samples], run.landmarks, self.config.patience)
        if not films:
            return
        write_report(films, Path(result.folder) / REPORT)
        again = [film for film in films if 2 * film.epochs_in_hardest >= film.epochs]
        for film in again[:10]:
            log.info(
                "hard-mining: film %s stays hard: %.2f mm, %.1f times the median, weight %.2f, worst %s %.1f mm%s",
                film.image_id,
                film.error_mm,
                film.times_median,
                film.weight,
                film.worst_landmark,
                film.worst_error_mm,
                "; set aside" if film.set_aside else "",
            )
        log.info("hard-mining: %d films stay hard; look at their labels first: %s", len(again), REPORT)

    def state_dict(self) -> dict[str, Any]:
        """The memory, once there is one: tensors by name."""
        return {} if self.memory is None else dict(vars(self.memory))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the memory back."""
        self.memory, self._aside = Memory(**state) if state else None, None

    def _set_aside(self, device: torch.device) -> torch.Tensor | None:
        """The films [N] bool that are not mined, on the device; None where there are none. Made once an epoch."""
        if self.memory is None:
            return None
        if self._aside is None:
            self._aside = self.memory.set_aside(self.config.patience)
            self._aside = self._aside.to(device) if bool(self._aside.any()) else self._aside[:0]
        return self._aside if len(self._aside) else None
