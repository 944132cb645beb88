"""shape-constraint: a predicted point that its film's other landmarks rule out is sought again where they allow it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, Points, Run, Sample, hookimpl, log, procrustes

LEAST_FILMS, LEAST_LANDMARKS = 30, 5  # fewer do not tell how heads vary
FOLDS = 5
NOISE_MM = 1.0  # of a point that is in its place
FAR_MM = (40, 30, 22, 16, 12, 9, 6, 6, 6, 6)  # distance at which a point counts a quarter, by iteration
FREE_MM = 100.0  # how far shift, turn and size may still go when one landmark is left out
LEAST_TRUST = 0.05  # of a point without any score
LEAST_AGREE = 0.5  # a film whose points do not agree is left alone
ROUNDS = 3  # a point that is found again may rule out another one

Floats = NDArray[np.float64]


def seen_together(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """The landmarks [M] that enough samples have all of: all, or less those that the fewest have."""
    flags = np.stack([sample.valid.any(axis=0) for sample in samples])
    seen = np.arange(flags.shape[1])
    while len(seen) > LEAST_LANDMARKS and flags[:, seen].all(axis=1).sum() < LEAST_FILMS:
        seen = np.delete(seen, flags[:, seen].sum(axis=0).argmin())
    return seen


def complete_shapes_mm(samples: Sequence[Sample], landmarks: NDArray[np.int64]) -> Points:
    """The readers' mean points [N, M, 2] in mm of those samples that have all of these landmarks [M]."""
    complete = [s for s in samples if s.valid[:, landmarks].any(axis=0).all()]
    found = [np.nanmean(s.points[:, landmarks], axis=0) * s.mm_per_px for s in complete]
    return np.stack(found) if found else np.zeros((0, len(landmarks), 2))


@dataclass(frozen=True, eq=False)
class Expected:
    """Where the other landmarks of each film put a landmark [N, K, 2], in the frame of the points."""

    points: Points
    px_per_mm: Floats  # [N] pixels of that frame for a mm of the model
    agree: Floats  # [N] share of the trust that is in points where the others put them


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """A normal distribution of shapes, laid on each other by similarities, in mm of a head of mean size."""

    mean: Floats  # [K, 2], about the origin
    covariance: Floats  # [2 K, 2 K]
    spread_mm: Floats  # [K] how far a landmark usually is from where the others put it

    def expected(self, points: Points, trust: Floats) -> Expected:
        """Where the others put each point [N, K, 2] of films in any similarity's frame; `trust` [N, K] in 0..1.

        The shape is fitted to all points with noise (its posterior mean), those far off counting less and less
        (weights of Geman and McClure 1987); then each landmark's conditional mean given all others is read from the
        inverse of the points' covariance, shift, turn and size being free again.
        """
        x, mean = points @ (1, 1j), self.mean @ (1, 1j)
        K, bent, trust = len(mean), np.zeros_like(x), np.maximum(trust, LEAST_TRUST)
        weights = trust
        for far in FAR_MM:
            model = mean + bent
            share = weights / weights.sum(axis=1, keepdims=True)
            a, b = (np.sum(share * z, axis=1, keepdims=True) for z in (x, model))
            turn = np.sum(share * (x - a) * (model - b).conj(), axis=1, keepdims=True)
            turn /= np.sum(share * np.abs(model - b) ** 2, axis=1, keepdims=True)
            off = (x - a) / turn + b - mean
            noise = NOISE_MM**2 / np.repeat(weights, 2, axis=1)[:, None] * np.eye(2 * K)
            bent = _complex(np.linalg.solve(self.covariance + noise, _flat(off)[..., None])[..., 0] @ self.covariance)
            weights = np.maximum(trust / (1 + (np.abs(off - bent) / far) ** 2) ** 2, 1e-6)
        free = np.stack([_flat(mode) for mode in (0 * mean + 1, 0 * mean + 1j, mean, 1j * mean)])
        free *= FREE_MM * np.sqrt(K) / np.linalg.norm(free, axis=1, keepdims=True)
        precision = np.linalg.inv(self.covariance + noise + free.T @ free)
        blocks = np.linalg.inv(precision.reshape(-1, K, 2, K, 2)[:, np.arange(K), :, np.arange(K)])  # [K, N, 2, 2]
        rest = np.einsum("knij,nkj->nki", blocks, (precision @ _flat(off)[..., None]).reshape(-1, K, 2))
        place = a + turn * (mean + off - rest @ (1, 1j) - b)
        agree = np.sum(trust * (weights > trust / 4), axis=1) / trust.sum(axis=1)
        return Expected(np.stack([place.real, place.imag], -1), np.abs(turn[:, 0]), agree)


def fit(shapes: Points) -> ShapeModel:
    """The model of `shapes` [N, K, 2] in mm; each landmark's spread is of films that the model had not seen."""
    off = []
    for fold in range(FOLDS):
        held = np.arange(len(shapes)) % FOLDS == fold
        found = _normal(shapes[~held]).expected(shapes[held], np.ones(shapes[held].shape[:2]))
        off.append(np.linalg.norm(found.points - shapes[held], axis=-1) / found.px_per_mm[:, None])
    # The squares of distances whose components are normal are exponential: their median is ln 2 of their mean.
    spread = np.sqrt(np.median(np.square(np.concatenate(off)), axis=0) / np.log(2))
    whole = _normal(shapes)
    return ShapeModel(whole.mean, whole.covariance, spread)


def _normal(shapes: Points) -> ShapeModel:
    mean, laid = procrustes(shapes)
    size = np.linalg.norm(shapes - shapes.mean(axis=1, keepdims=True), axis=(1, 2)).mean()
    off = (size * (laid - mean)).reshape(len(shapes), -1)
    return ShapeModel(size * mean, off.T @ off / (len(off) - 1), np.zeros(len(mean)))


def _flat(values: NDArray[np.complexfloating[Any, Any]]) -> Floats:
    """Complex numbers [..., K] as x, y, x, y ... [..., 2 K]."""
    return values.astype(np.complex128).view(np.float64)


def _complex(values: Floats) -> NDArray[np.complex128]:
    return np.ascontiguousarray(values).view(np.complex128)


class ShapeCheck:
    """Points held against a shape model where there is one, which is all its state; what they rule out is moved.

    The model is of the landmarks `seen` [M] (None: of all); the others stay as they are.
    """

    def __init__(
        self, model: ShapeModel | None, least_mm: float, spreads: float, seen: NDArray[np.int64] | None = None
    ) -> None:
        self.model, self.least_mm, self.spreads, self.seen = model, least_mm, spreads, seen

    def constrain(
        self,
        points: torch.Tensor,
        scores: torch.Tensor,
        maps: torch.Tensor,
        decode: Callable[[torch.Tensor, tuple[int, int]], tuple[torch.Tensor, torch.Tensor]],
        image_size: tuple[int, int],
        look: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [B, K, 2] in network px and scores [B, K]; those that the others rule out are sought in their maps."""
        del look  # maps say enough
        model = self.model
        if model is None or not bool(torch.isfinite(points).all()):
            return points, scores
        limit = np.maximum(self.least_mm, self.spreads * model.spread_mm)
        seen = np.arange(points.shape[1]) if self.seen is None else self.seen
        trust = scores.double().cpu().numpy()[:, seen]
        films = np.arange(len(maps))
        for _ in range(ROUNDS):
            here = points[films].double().cpu().numpy()[:, seen]
            with np.errstate(all="ignore"):  # points that are all one have no shape
                found = model.expected(here, trust[films])
                off = np.linalg.norm(here - found.points, axis=-1) / found.px_per_mm[:, None]
                row, out = np.nonzero((off > limit) & (found.agree >= LEAST_AGREE)[:, None])  # NaN compares false
            if not len(row):
                break
            wide = np.maximum(model.spread_mm[out], NOISE_MM) * found.px_per_mm[row]
            centre = torch.from_numpy(found.points[row, out]).to(maps)
            bells = _bells(centre, torch.from_numpy(wide).to(maps), image_size, maps.shape[-2:])
            out = seen[out]
            there = maps[films[row], out] * bells
            again, score = (part[0] for part in decode(there[None], image_size))
            again = torch.where(there.amax((1, 2))[:, None] > 0, again, centre.to(again))
            points[films[row], out], scores[films[row], out] = again, score
            films = films[np.unique(row)]
        return points, scores

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The shape model; empty where there were too few films for one."""
        parts = {} if self.model is None else vars(self.model)
        parts = parts if self.seen is None else {**parts, "seen": self.seen}
        return {name: torch.from_numpy(part) for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take the shape model of the run that was trained."""
        if not state:
            log.warning("shape-constraint: the run was trained without a shape model; points stay as they are")
            return
        parts = dict(state)
        self.seen = parts.pop("seen").numpy() if "seen" in parts else None
        self.model = ShapeModel(**{name: part.double().numpy() for name, part in parts.items()})


def _bells(centre: torch.Tensor, wide: torch.Tensor, image_size: tuple[int, int], size: Sequence[int]) -> torch.Tensor:
    """Gaussians [M, h, w] of peak 1 about `centre` [M, 2], `wide` [M], both in network px, on maps of `size` (h, w)."""
    axes = []
    for along in (0, 1):
        stride = image_size[1 - along] / size[1 - along]
        at = (torch.arange(size[1 - along], device=centre.device) + 0.5) * stride - 0.5
        axes.append(torch.exp(-(((at - centre[:, along, None]) / wide[:, None]) ** 2) / 2))
    return axes[1][:, :, None] * axes[0][:, None, :]


class ShapeConstraintConfig(PluginConfig):
    """A point is out of place beyond both limits; all others stay as they are, to the last digit."""

    spreads: float = Field(
        default=3.5, gt=0, description="in units of how far a landmark usually is from where the others put it"
    )
    least_mm: float = Field(default=5.0, ge=0, description="mm; nearer points are never touched")


class ShapeConstraint(Plugin[ShapeConstraintConfig]):
    """Gross errors: a predicted point that the film's other landmarks rule out is sought again where they allow it.

    A statistical model of the training films' shapes (as in Cootes et al. 1995) constrains what the maps say, after
    Lindner et al. 2015; training does not change. The point moves to the peak of its map times a Gaussian about where
    the others put it, and its score, of that product, is small.
    """

    @hookimpl
    def build_constraint(self, run: Run) -> ShapeCheck:
        """Give the check against the shapes of the training films, or against those in the checkpoint."""
        if not run.samples:
            return ShapeCheck(None, self.config.least_mm, self.config.spreads)
        seen, K, model = seen_together(run.samples), len(run.landmarks), None
        shapes = complete_shapes_mm(run.samples, seen)
        if len(shapes) >= LEAST_FILMS and len(seen) >= LEAST_LANDMARKS:
            model = fit(shapes)
            if len(seen) < K:
                left = ", ".join(symbol for k, symbol in enumerate(run.landmarks) if k not in seen)
                log.warning("shape-constraint: too few films have all landmarks; left alone: %s", left)
        else:
            log.warning(
                "shape-constraint: %d films with all of %d landmarks make no shape model (it takes %d and %d); "
                "points stay as they are",
                *(len(complete_shapes_mm(run.samples, np.arange(K))), K, LEAST_FILMS, LEAST_LANDMARKS),
            )
        return ShapeCheck(model, self.config.least_mm, self.config.spreads, seen if model and len(seen) < K else None)
