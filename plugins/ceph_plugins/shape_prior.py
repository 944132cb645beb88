"""shape-prior: predicted landmarks are pulled towards arrangements that a statistical shape model finds plausible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field

from ceph.plugin import (
    Batch,
    ConfigError,
    Duration,
    Plugin,
    PluginConfig,
    Points,
    Run,
    Sample,
    hookimpl,
    log,
    procrustes,
)

LEAST_FILMS = 10  # with all landmarks; fewer make no shape model
RIDGE = 1e-4  # keeps the fit to a film with missing landmarks solvable


def complete_shapes(samples: Sequence[Sample]) -> Points:
    """The readers' mean points [N, K, 2] in film px of those samples that have every landmark."""
    found = [np.nanmean(s.points, axis=0) for s in samples if s.valid.any(axis=0).all()]
    return np.stack(found) if found else np.zeros((0, 1, 2))


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean shape and modes of variation (Cootes et al. 1995), in units of the centroid size; K landmarks, M modes."""

    mean: torch.Tensor  # [K, 2], centred, its squares sum to 1
    basis: torch.Tensor  # [2 K, 4 + M], orthonormal: two shifts, scale, turn, then the modes
    limit: torch.Tensor  # [4 + M] how far each may go; the first four are free

    def implausible(self, points: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """How far points [B, K, 2], of any similarity's frame, are from the nearest plausible shape: [B, K, 2].

        The shape is laid on the mean by the least-squares similarity (closed form), then the modes are fitted and
        clamped to their limits (Cootes et al. 1995, section 4.2). What is not valid [B, K] counts nowhere and is zero.
        """
        seen = valid[..., None].to(points.dtype)
        z, mean = centred(points, seen), centred(self.mean.expand_as(points), seen)
        size = z.square().sum((1, 2)).clamp_min(1e-6)
        along = ((z * mean).sum((1, 2)) / size)[:, None]
        across = ((z[..., 0] * mean[..., 1] - z[..., 1] * mean[..., 0]).sum(1) / size)[:, None]
        x, y = z.unbind(-1)
        aligned = torch.stack([along * x - across * y, across * x + along * y], -1)
        off = (aligned - mean).flatten(1)[..., None]  # [B, 2 K, 1]
        basis = seen.expand_as(points).flatten(1)[..., None] * self.basis
        ridge = RIDGE * torch.eye(basis.shape[-1], device=points.device, dtype=points.dtype)
        fitted = torch.linalg.solve_ex(basis.mT @ basis + ridge, basis.mT @ off)[0][..., 0]
        fitted = torch.maximum(torch.minimum(fitted, self.limit), -self.limit)
        left = off - basis @ fitted[..., None]
        return left.view_as(points)

    def unit(self, points: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """The length [B] of the model's unit in films with points [B, K, 2], in the unit of these."""
        seen = valid[..., None].to(points.dtype)
        size, of_mean = (centred(p, seen).square().sum((1, 2)) for p in (points, self.mean.expand_as(points)))
        return (size / of_mean.clamp_min(1e-6)).sqrt()


def centred(points: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Points [B, K, 2] less the mean of those that are seen [B, K, 1], 1 or 0; the others are zero."""
    return (points - (points * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)) * seen


def fit(shapes: Points, variance: float, limit: float) -> ShapeModel:
    """The shape model of `shapes` [N, K, 2]: aligned by similarities (generalised Procrustes), then their PCA.

    It keeps the modes that explain the share `variance`, each up to `limit` standard deviations.
    """
    mean, laid = procrustes(shapes)
    across = mean[:, ::-1] * (-1, 1)  # the mean, turned by a right angle
    one = np.full(len(mean), 1 / math.sqrt(len(mean)))
    shifts = np.stack([one, 0 * one], -1), np.stack([0 * one, one], -1)
    free = np.stack([*shifts, mean, across]).reshape(4, -1)  # [4, 2 K]
    off = (laid - mean).reshape(len(laid), -1)
    _, strength, modes = np.linalg.svd(off - off @ free.T @ free, full_matrices=False)
    share = np.cumsum(strength**2) / max(float((strength**2).sum()), 1e-30)
    kept = int((share < variance).sum()) + 1
    sd = strength[:kept] / math.sqrt(len(laid) - 1)
    return ShapeModel(
        torch.from_numpy(mean).float(),
        torch.from_numpy(np.concatenate([free, modes[:kept]]).T.copy()).float(),
        torch.from_numpy(np.concatenate([np.full(4, np.inf), limit * sd])).float(),
    )


class ShapePriorConfig(PluginConfig):
    """The term is in mm: a square below one millimetre, and linear beyond."""

    weight: float = Field(default=0.1, ge=0, description="factor of the term in the loss")
    warmup_epochs: Duration = Field(
        default=Duration(5), description="epochs, or % of the run, without it, until points are near their place"
    )
    variance: float = Field(default=0.95, gt=0, le=1, description="share of the variance of shape that modes explain")
    limit: float = Field(default=3.0, gt=0, description="standard deviations up to which a mode is plausible")


class ShapePrior(Plugin[ShapePriorConfig]):
    """Predicted landmarks that a PCA shape model of the training films finds implausible add to the loss.

    Active shape models: Cootes et al. 1995. Shapes are compared up to a similarity, so rotation, scaling and shift of a
    film do not matter. The model is fitted to the films that have every landmark; others train as far as they are
    marked, if half of their landmarks are.
    """

    model: ShapeModel
    warmup_epochs: float

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a training set with too few complete films, and say which landmark is missing most."""
        complete = len(complete_shapes(run.samples))
        if complete < LEAST_FILMS:
            missing = sum((~s.valid.any(axis=0)).astype(int) for s in run.samples)
            worst = int(np.argmax(missing))
            raise ConfigError(
                f"{complete} of {len(run.samples)} training films have all landmarks; a shape model needs "
                f"{LEAST_FILMS}",
                hint=f"{run.landmarks[worst]} is missing most, in {np.max(missing)}; leave it out by data.landmarks",
            )

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Fit the shape model to the training films; it follows from the data alone, so it is no state."""
        self.warmup_epochs = self.config.warmup_epochs.epochs(run.epochs)
        shapes = complete_shapes(run.samples)
        found = fit(shapes, self.config.variance, self.config.limit)
        self.model = ShapeModel(*(part.to(run.device) for part in (found.mean, found.basis, found.limit)))
        log.info("shape-prior: %d modes explain the shapes of %d films", found.basis.shape[1] - 4, len(shapes))

    @hookimpl
    def loss_terms(self, batch: Batch, points: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give {"shape_prior": scalar} from points [B, K, 2] in network px."""
        if batch.epochs_done < self.warmup_epochs:
            return {}
        to_mm = batch.mm_per_px * self.model.unit(batch.points, batch.valid)
        off_mm = self.model.implausible(points, batch.valid) * to_mm[:, None, None]
        bent = (1 + off_mm.square().sum(-1)).sqrt() - 1
        counts = batch.valid & (2 * batch.valid.sum(1, keepdim=True) >= batch.valid.shape[1])
        return {"shape_prior": self.config.weight * (bent * counts).sum() / counts.sum().clamp_min(1)}
