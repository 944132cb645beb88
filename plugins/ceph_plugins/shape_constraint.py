"""shape-constraint: a predicted point that its film's other landmarks rule out is sought again where they allow it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from ceph.plugin import Plugin, PluginConfig, Points, Run, Sample, Twin, hookimpl, log, procrustes

LEAST_FILMS, LEAST_LANDMARKS = 30, 5  # fewer do not tell how heads vary
FOLDS = 5
NOISE_MM = 1.0  # of a point that is in its place
FAR_MM = (40, 30, 22, 16, 12, 9, 6, 6, 6, 6)  # distance at which a point counts a quarter, by iteration
FREE_MM = 100.0  # how far shift, turn and size may still go when one landmark is left out
LEAST_TRUST = 0.05  # of a point without any score
LEAST_AGREE = 0.5  # a film whose points do not agree is left alone
ROUNDS = 3  # a point that is found again may rule out another one

Floats = NDArray[np.float64]
Decode = Callable[[torch.Tensor, tuple[int, int]], tuple[torch.Tensor, torch.Tensor]]
# (films [M], landmarks [M], where they may be [M, 2] and how far from it [M], network px) -> points [M, 2], scores [M]
Seek = Callable[[Any, Any, Floats, Floats], tuple[Floats, Floats]]


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


class Expected(NamedTuple):
    """Where the other landmarks of each film put a landmark [N, K, 2], in the frame of the points."""

    points: Points
    px_per_mm: Floats  # [N] pixels of that frame for a mm of the model
    agree: Floats  # [N] share of the trust that is in points where the others put them


def expected(points: Points, trust: Floats, mean: Floats, covariance: Floats) -> Expected:
    """Where the others put each point [N, K, 2] of films in any similarity's frame; `trust` [N, K] in 0..1.

    The shape, of a `ShapeModel`, is fitted to all points with noise (its posterior mean), those far off counting less
    and less (weights of Geman and McClure 1987); then each landmark's conditional mean given all others is read from
    the inverse of the points' covariance, shift, turn and size being free again.
    """
    x, middle = points @ (1, 1j), mean @ (1, 1j)
    K, bent, trust = len(mean), np.zeros_like(x), np.maximum(trust, LEAST_TRUST)
    weights = trust
    for far in FAR_MM:
        model = middle + bent
        share = weights / weights.sum(axis=1, keepdims=True)
        a, b = (np.sum(share * z, axis=1, keepdims=True) for z in (x, model))
        turn = np.sum(share * (x - a) * (model - b).conj(), axis=1, keepdims=True)
        turn /= np.sum(share * np.abs(model - b) ** 2, axis=1, keepdims=True)
        off = (x - a) / turn + b - middle
        noise = NOISE_MM**2 / np.repeat(weights, 2, axis=1)[:, None] * np.eye(2 * K)
        bent = _complex(np.linalg.solve(covariance + noise, _flat(off)[..., None])[..., 0] @ covariance)
        weights = np.maximum(trust / (1 + (np.abs(off - bent) / far) ** 2) ** 2, 1e-6)
    free = _free(middle)
    precision = np.linalg.inv(covariance + noise + free.T @ free)
    blocks = np.linalg.inv(precision.reshape(-1, K, 2, K, 2)[:, np.arange(K), :, np.arange(K)])  # [K, N, 2, 2]
    rest = np.einsum("knij,nkj->nki", blocks, (precision @ _flat(off)[..., None]).reshape(-1, K, 2))
    place = a + turn * (middle + off - rest @ (1, 1j) - b)
    agree = np.sum(trust * (weights > trust / 4), axis=1) / trust.sum(axis=1)
    return Expected(np.stack([place.real, place.imag], -1), np.abs(turn[:, 0]), agree)


def _free(middle: NDArray[np.complexfloating[Any, Any]]) -> Floats:
    """Shifts, turn and size [4, 2 K] of a shape [K], as far as they may go."""
    free = np.stack([_flat(mode) for mode in (0 * middle + 1, 0 * middle + 1j, middle, 1j * middle)])
    free *= FREE_MM * np.sqrt(len(middle)) / np.linalg.norm(free, axis=1, keepdims=True)
    return free


def _flat(values: NDArray[np.complexfloating[Any, Any]]) -> Floats:
    """Complex numbers [..., K] as x, y, x, y ... [..., 2 K]."""
    return values.astype(np.complex128).view(np.float64)


def _complex(values: Floats) -> NDArray[np.complex128]:
    return np.ascontiguousarray(values).view(np.complex128)


def put_right(
    points: Points, scores: Floats, seek: Seek, mean: Floats, covariance: Floats, spread_mm: Floats, limit_mm: Floats
) -> tuple[Points, Floats]:
    """Points [N, K, 2] in network px and scores [N, K], with those sought again that the others rule out.

    These lie further than `limit_mm` [K] from where the others put them, by the parts of a `ShapeModel`.
    """
    points, scores = points.copy(), scores.copy()
    trust, films = scores.astype(np.float64), np.arange(len(points))
    for _ in range(ROUNDS):
        here = points[films].astype(np.float64)
        with np.errstate(all="ignore"):  # points that are all one have no shape
            found = expected(here, trust[films], mean, covariance)
            off = np.linalg.norm(here - found.points, axis=-1) / found.px_per_mm[:, None]
            row, out = np.nonzero((off > limit_mm) & (found.agree >= LEAST_AGREE)[:, None])  # NaN compares false
        if not len(row):
            break
        wide = np.maximum(spread_mm[out], NOISE_MM) * found.px_per_mm[row]
        points[films[row], out], scores[films[row], out] = seek(films[row], out, found.points[row, out], wide)
        films = films[np.unique(row)]
    return points, scores


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """A normal distribution of shapes, laid on each other by similarities, in mm of a head of mean size."""

    mean: Floats  # [K, 2], about the origin
    covariance: Floats  # [2 K, 2 K]
    spread_mm: Floats  # [K] how far a landmark usually is from where the others put it

    def expected(self, points: Points, trust: Floats) -> Expected:
        """Where the others put each point [N, K, 2] of films in any similarity's frame; `trust` [N, K] in 0..1."""
        return expected(points, trust, self.mean, self.covariance)

    def of(self, landmarks: NDArray[np.int64]) -> ShapeModel:
        """The model of these of its landmarks [M] alone; what fewer others leave open is added to their spreads."""
        rows = (2 * landmarks[:, None] + (0, 1)).ravel()
        mean, covariance = self.mean[landmarks], self.covariance[np.ix_(rows, rows)]
        mean = mean - mean.mean(axis=0)
        more = _left_open(mean, covariance) - _left_open(self.mean, self.covariance)[landmarks]
        return ShapeModel(mean, covariance, np.sqrt(self.spread_mm[landmarks] ** 2 + np.maximum(more, 0)))


def _left_open(mean: Floats, covariance: Floats) -> Floats:
    """The mean square [K] in mm^2 of how far landmarks are from where the others put them, by the model itself."""
    K, free = len(mean), _free(mean @ (1, 1j))
    precision = np.linalg.inv(covariance + NOISE_MM**2 * np.eye(2 * K) + free.T @ free).reshape(K, 2, K, 2)
    off = np.linalg.inv(precision[np.arange(K), :, np.arange(K)]) @ precision.reshape(K, 2, 2 * K)
    return np.asarray(np.einsum("kim,mn,kin->k", off, covariance, off))


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


class Sought(nn.Module):
    """Maps [M, h, w], each times a Gaussian about a place [M, 2], `wide` [M], both in network px, read by `decode`.

    Gives points [M, 2] and scores [M]; where nothing is left of a map, the place.
    """

    def __init__(self, decode: Decode, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.decode, self.image_size = decode, image_size

    def forward(
        self, maps: torch.Tensor, centre: torch.Tensor, wide: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The points and their scores."""
        there = maps * _bells(centre, wide, self.image_size, maps.shape[-2:])
        again, score = (part[0] for part in self.decode(there[None], self.image_size))
        return torch.where(there.amax((1, 2))[:, None] > 0, again, centre.to(again)), score


def put_right_on_film(
    points: Points, scores: Floats, film: Any, graph: Any, seen: Any, **model: Floats
) -> tuple[Points, Floats]:
    """As `put_right`, of the one film of an exported model and the landmarks `seen` [M] of its shapes."""

    def seek(films: Any, landmarks: Any, centre: Floats, wide: Floats) -> tuple[Floats, Floats]:
        given = film.maps[films, seen[landmarks]], centre.astype(np.float32), wide.astype(np.float32)
        each = [graph(*(part[i : i + 1] for part in given)) for i in range(len(wide))]
        return np.concatenate([found[0] for found in each]), np.concatenate([found[1] for found in each])

    points, scores = points.copy(), scores.copy()
    points[:, seen], scores[:, seen] = put_right(points[:, seen], scores[:, seen], seek, **model)
    return points, scores


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
        decode: Decode,
        image_size: tuple[int, int],
        look: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [B, K, 2] in network px and scores [B, K]; those that the others rule out are sought in their maps."""
        del look  # maps say enough
        if self.model is None or not bool(torch.isfinite(points).all()):
            return points, scores
        sought, seen = Sought(decode, image_size), self._seen(points.shape[1])

        def seek(films: Any, landmarks: Any, centre: Floats, wide: Floats) -> tuple[Floats, Floats]:
            places = (torch.from_numpy(part).to(maps) for part in (centre, wide))
            again, score = sought(maps[films, seen[landmarks]], *places)
            return again.cpu().numpy(), score.cpu().numpy()

        given = points[:, seen].cpu().numpy(), scores[:, seen].cpu().numpy()
        moved, lower = points.clone(), scores.clone()
        moved[:, seen], lower[:, seen] = (
            torch.from_numpy(part).to(points) for part in put_right(*given, seek, **self._values(self.model))
        )
        return moved, lower

    def twin(self, decode: Decode, image_size: tuple[int, int], map_size: tuple[int, int], **_: Any) -> Twin | None:
        """The same for an exported model; None without a shape model."""
        if self.model is None:
            return None
        constants = {
            "NOISE_MM": NOISE_MM,
            "FAR_MM": FAR_MM,
            "FREE_MM": FREE_MM,
            "LEAST_TRUST": LEAST_TRUST,
            "LEAST_AGREE": LEAST_AGREE,
            "ROUNDS": ROUNDS,
        }
        return Twin(
            put_right_on_film,
            values={**self._values(self.model), "seen": self._seen(len(self.model.mean))},
            uses=(Expected, _free, _flat, _complex, expected, put_right),
            constants=constants,
            network=Sought(decode, image_size),
            inputs=(torch.rand(1, *map_size), torch.zeros(1, 2), torch.ones(1)),
        )

    def _seen(self, landmarks: int) -> NDArray[np.int64]:
        return np.arange(landmarks) if self.seen is None else self.seen

    def _values(self, model: ShapeModel) -> dict[str, Floats]:
        return {**vars(model), "limit_mm": np.maximum(self.least_mm, self.spreads * model.spread_mm)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The shape model; empty where there were too few films for one."""
        parts = {} if self.model is None else vars(self.model)
        parts = parts if self.seen is None else {**parts, "seen": self.seen}
        return {name: torch.from_numpy(part) for name, part in parts.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the shape model of the run that was trained."""
        if not state:
            log.warning("shape-constraint: the run was trained without a shape model; points stay as they are")
            return
        self.model, self.seen = model_in(state)


def model_in(state: Mapping[str, torch.Tensor]) -> tuple[ShapeModel, NDArray[np.int64] | None]:
    """The shape model of a `ShapeCheck`'s state that is not empty, and the landmarks that it is of (None: all)."""
    parts = dict(state)
    seen = parts.pop("seen").numpy() if "seen" in parts else None
    return ShapeModel(**{name: part.double().numpy() for name, part in parts.items()}), seen


def model_before(run: Run) -> tuple[ShapeModel | None, NDArray[np.int64]]:
    """The shape model of the run that this one starts from, if any, and the landmarks [M] that it has of `run`'s."""
    if run.origin is None or not (state := run.origin.state("constraint", "shape-constraint")):
        return None, np.zeros(0, np.int64)
    model, seen = model_in(state)
    known = run.origin.landmarks if seen is None else [run.origin.landmarks[k] for k in seen]
    shared = [k for k, symbol in enumerate(run.landmarks) if symbol in known]
    theirs = [known.index(run.landmarks[k]) for k in shared]
    return model.of(np.array(theirs)) if len(shared) >= LEAST_LANDMARKS else None, np.array(shared)


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
        """Give the check against the shapes of the training films, of the run it starts from, or in the checkpoint."""
        if not run.samples:
            return ShapeCheck(None, self.config.least_mm, self.config.spreads)
        seen, K = seen_together(run.samples), len(run.landmarks)
        shapes, model, why = complete_shapes_mm(run.samples, seen), None, "too few films have all landmarks"
        if len(shapes) >= LEAST_FILMS and len(seen) >= LEAST_LANDMARKS:
            model = fit(shapes)
        else:
            model, seen = model_before(run)
            why = "the run that it starts from lacks some landmarks"
            log.log(
                logging.WARNING if model is None else logging.INFO,
                "shape-constraint: %d films with all of %d landmarks make no shape model (it takes %d and %d); %s",
                *(len(complete_shapes_mm(run.samples, np.arange(K))), K, LEAST_FILMS, LEAST_LANDMARKS),
                "points stay as they are" if model is None else "that of the run that it starts from is taken",
            )
        if model is not None and len(seen) < K:
            left = ", ".join(symbol for k, symbol in enumerate(run.landmarks) if k not in seen)
            log.warning("shape-constraint: %s; left alone: %s", why, left)
        return ShapeCheck(model, self.config.least_mm, self.config.spreads, seen if model and len(seen) < K else None)
