"""annotator-noise: each time a film is loaded its truth is drawn anew, somewhere between what its readers marked."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ceph.plugin import ConfigError, Flags, Plugin, PluginConfig, Points, Run, Sample, hookimpl


def between(points: Points, valid: Flags, rng: np.random.Generator) -> Points:
    """Points [K, 2], each a random mean of those of its readers: of two, uniform on the segment between them."""
    share = rng.exponential(size=valid.shape) * valid  # normalised: Dirichlet(1, ..., 1)
    share /= np.maximum(share.sum(axis=0), 1e-300)
    return np.asarray((share[..., None] * points).sum(axis=0))


def of_one_reader(points: Points, valid: Flags, rng: np.random.Generator) -> Points:
    """The points [K, 2] of one reader, drawn for the whole film; what this one did not mark is the next one's."""
    order = rng.permutation(len(points))
    first = order[valid[order].argmax(axis=0)]
    return np.asarray(points[first, np.arange(points.shape[1])])


def as_another(points: Points, valid: Flags, rng: np.random.Generator) -> Points:
    """Points [K, 2] of a Gaussian with the readers' mean and their sample covariance: as another reader might mark."""
    count = valid.sum(axis=0)
    mean = points.sum(axis=0) / np.maximum(count, 1)[:, None]
    apart = (points - mean) * valid[..., None] / np.sqrt(np.maximum(count - 1, 1))[:, None]
    return np.asarray(mean + (rng.standard_normal(valid.shape)[..., None] * apart).sum(axis=0))


DRAWS = {"segment": between, "reader": of_one_reader, "gaussian": as_another}


class AnnotatorNoiseConfig(PluginConfig):
    """The truth of validation stays `data.truth`."""

    mode: Literal["segment", "reader", "gaussian"] = Field(
        default="segment",
        description="segment: uniform between the readers, for each landmark; reader: one reader for the whole film; "
        "gaussian: their mean and covariance, so also beyond them",
    )


class AnnotatorNoise(Plugin[AnnotatorNoiseConfig]):
    """The truth of a training film is drawn anew at each load, as far apart as its readers are.

    Labels sampled from the raters rather than fused: Jensen et al. 2019; the uncertainty of cephalometric marks as a
    Gaussian: Thaler et al. 2021. A landmark with one reader is that one's, and so is one whose second reading was
    copied from the first; `data.truth` counts for validation only.
    """

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a training set in which no landmark of any film has two readers."""
        if not any((sample.own.sum(axis=0) > 1).any() for sample in run.samples):
            raise ConfigError("no landmark of a training film has two readers, so there is nothing to draw between")

    @hookimpl
    def truth(self, sample: Sample, rng: np.random.Generator) -> tuple[Points, Flags]:
        """Give points [K, 2] in film px (NaN where nobody marked) and valid [K], drawn by the film's own `rng`."""
        known: Flags = np.asarray(sample.own.any(axis=0))
        drawn = DRAWS[self.config.mode](np.where(sample.own[..., None], sample.points, 0.0), sample.own, rng)
        return np.where(known[:, None], drawn, np.nan), known
