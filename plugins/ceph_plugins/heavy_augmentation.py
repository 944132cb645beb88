"""heavy-augmentation: stronger changes of geometry, grey values and visible parts, all moved by one strength.

From top to bottom: warps, photometric changes, artefacts of films, occlusion, and the plugin that gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import Matrix, Plugin, PluginConfig, Warp, hookimpl, similarity

CELLS = 5  # cells of the elastic field along the longer side: deformations as long as a jaw, not as a tooth
GRID = 8  # px; the field is drawn on a grid this wide
SHIFT = 4  # bits of a pixel's fraction in cv2's drawing: outlines lie where they should to 1/16 px
SLOPE = 0.4  # greatest stretch of the elastic field: under 1 it folds nowhere and its inverse can be iterated


def tilt(x: float, y: float, size: tuple[int, int]) -> Matrix:
    """A perspective map [3, 3] in network px about the centre of (H, W); depth changes by x, y towards the sides."""
    height, width = size
    to_centre = np.array([[2 / width, 0, (1 - width) / width], [0, 2 / height, (1 - height) / height], [0, 0, 1.0]])
    return np.asarray(np.linalg.inv(to_centre) @ np.array([[1, 0, 0], [0, 1, 0], [x, y, 1.0]]) @ to_centre)


@lru_cache(maxsize=64)
def splines(samples: int, cell: float) -> NDArray[np.float32]:
    """Cubic B-splines with knots `cell` samples apart: the matrix [samples, knots] from control points to samples."""
    at = np.arange(samples) / cell + 1  # one knot before the first sample
    distance = np.abs(at[:, None] - np.arange(int(at[-1]) + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def elastic_field(rng: np.random.Generator, size: tuple[int, int], amplitude_px: float) -> NDArray[np.float32]:
    """A smooth field [H, W, 2] in network px, of cubic B-splines with random control points (Rueckert et al. 1999).

    It is drawn on every `GRID`th pixel and is linear between. A field steeper than SLOPE is scaled down to it.
    """
    height, width = (max(2, round(side / GRID)) for side in size)
    cell = max(height, width) / CELLS
    down, along = splines(height, cell), splines(width, cell)
    control = rng.uniform(-amplitude_px, amplitude_px, (2, down.shape[1], along.shape[1])).astype(np.float32)
    field = down @ control @ along.T
    by_y, by_x = np.diff(field, axis=1) * (height / size[0]), np.diff(field, axis=2) * (width / size[1])
    # The greatest norm of the Jacobian, by parts: at least what any pixel has.
    steepest = float(np.sqrt((by_y**2).sum(axis=0).max() + (by_x**2).sum(axis=0).max()))
    field *= min(1.0, SLOPE / max(steepest, 1e-9))
    coarse = np.ascontiguousarray(field.transpose(1, 2, 0))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


class Pose(Warp):
    """A film held differently: rotation, scaling, shift and perspective, each uniform in its range."""

    def __init__(self, rotate_deg: float, scale: float, shift: float, perspective: float) -> None:
        self.rotate_deg, self.scale, self.shift, self.perspective = rotate_deg, scale, shift, perspective

    def matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> Matrix:
        """Draw network px -> network px; never a flip."""
        turn, zoom, right, down, x, y = rng.uniform(-1, 1, 6)
        moved = (right * self.shift * size[1], down * self.shift * size[0])
        pose = similarity(turn * self.rotate_deg, float(np.exp(zoom * self.scale)), moved, size)
        return np.asarray(pose @ tilt(x * self.perspective, y * self.perspective, size))


class Elastic(Warp):
    """A face of another shape: a smooth, invertible displacement; `amplitude` is a share of the longer side."""

    def __init__(self, amplitude: float) -> None:
        self.amplitude = amplitude

    def displacement(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[Any]:
        """Draw where each output pixel is sampled, in network px."""
        return elastic_field(rng, size, self.amplitude * max(size))


def photometric(amount: float) -> list[Any]:
    """Another exposure, another detector, another file: albumentations transforms of grey films, uint8."""
    if amount == 0:
        return []
    weaker = 100 / (1 + 0.5 * amount)  # gamma in percent, the same factor up and down
    # GaussNoise at half the size costs a quarter and has the grain of a real detector.
    noise = A.GaussNoise(std_range=(0, min(1.0, 0.05 * amount)), noise_scale_factor=0.5, p=1)
    speckle = A.MultiplicativeNoise((1 - min(0.9, 0.1 * amount), 1 + 0.1 * amount), elementwise=True, p=1)
    blur = A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 0.1 + amount), p=1)
    sharpen = A.Sharpen(alpha=(0, min(1.0, 0.3 * amount)), lightness=(1, 1), p=1)
    best = max(1, round(95 - 10 * min(amount, 2)))
    return [
        A.RandomGamma(gamma_limit=(weaker, 1e4 / weaker), p=0.5),
        A.RandomBrightnessContrast(min(1.0, 0.1 * amount), min(1.0, 0.2 * amount), p=0.5),
        A.CLAHE(clip_limit=(1, 1 + 2 * amount), p=0.2),
        A.OneOf([blur, sharpen], p=0.3),
        A.OneOf([noise, speckle], p=0.3),
        A.ImageCompression(quality_range=(max(1, round(95 - 30 * min(amount, 3))), best), p=0.2),
    ]


Cover = NDArray[np.uint8]  # [H, W], the opacity of what is painted: 0 leaves the film as it is, 255 hides it
Layer = tuple[Cover, int]  # ... and its grey value
Draw = Callable[[np.random.Generator, tuple[int, int], float], list[Layer]]  # of a film (H, W) and an amount


class Artefacts(A.ImageOnlyTransform):  # type: ignore[misc]
    """Paint what lies on real films and is no anatomy; `chances` has how likely each kind of it is on a film."""

    def __init__(self, chances: Mapping[Draw, float], amount: float) -> None:
        super().__init__(p=1.0)
        self.chances, self.amount = dict(chances), amount

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the layers for a film of this size, from the lowest to the topmost."""
        del data
        height, width = params["shape"][:2]
        rng = self.random_generator
        drawn = [draw for draw, chance in self.chances.items() if rng.random() < chance]
        return {"layers": [layer for draw in drawn for layer in draw(rng, (height, width), self.amount)]}

    def apply(self, img: NDArray[np.uint8], layers: Sequence[Layer], **params: Any) -> NDArray[np.uint8]:
        """Blend the layers into the film."""
        del params
        for cover, grey in layers:
            img = paint(img, cover, grey)
        return img

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """Name the arguments, for albumentations' repr."""
        return ("chances", "amount")


def paint(film: NDArray[np.uint8], cover: Cover, grey: int) -> NDArray[np.uint8]:
    """The film [H, W] where a material of one grey value covers it to the share cover / 255."""
    under = cv2.multiply(film, cv2.bitwise_not(cover), scale=1 / 255)
    return np.asarray(cv2.add(under, cv2.convertScaleAbs(cover, alpha=grey / 255)), dtype=np.uint8)


def fixed(points: Any) -> NDArray[np.int32]:
    """Points [..., 2] in px as cv2 draws them with a fraction of SHIFT bits."""
    return np.round(np.asarray(points) * (1 << SHIFT)).astype(np.int32)


def bar(cover: Cover, middle: Any, along: Any, length: float, width: float, opacity: float) -> None:
    """Draw a bar about `middle` [2] into the cover; `along` [2] is its direction, a unit vector."""
    middle, half = np.asarray(middle), np.asarray(along) * length / 2
    side = np.array([-along[1], along[0]]) * width / 2
    corners = fixed([middle - half - side, middle + half - side, middle + half + side, middle - half + side])
    cv2.fillConvexPoly(cover, corners, round(255 * opacity), cv2.LINE_AA, SHIFT)


def ticks(cover: Cover, start: Any, along: Any, count: int, pitch: float, length: float) -> None:
    """Draw the marks of a scale across its direction, opaque, every fifth of full `length`, from `start` [2] on."""
    at = np.asarray(start) + np.arange(count)[:, None] * pitch * np.asarray(along)
    reach = np.where(np.arange(count) % 5 == 0, length, 0.6 * length)[:, None] * np.array([-along[1], along[0]])
    cv2.polylines(cover, list(fixed(np.stack([at, at + reach], axis=1))), False, 255, 1, cv2.LINE_AA, SHIFT)  # noqa: FBT003


def tapes(rng: np.random.Generator, size: tuple[int, int], amount: float) -> list[Layer]:
    """One to three opaque strips along a border, as of labels and of a cassette's clips, bright or dark."""
    side = int(rng.integers(4))
    cover = np.zeros(size if side % 2 == 0 else size[::-1], dtype=np.uint8)
    count, edge = int(rng.integers(1, 4)), cover.shape[1]
    length = rng.uniform(0.1, 0.8) * edge / count
    first, depth = rng.uniform(0, edge / count - length), rng.uniform(0.01, 0.015 + 0.025 * amount) * max(size)
    for i in range(count):
        left = round(first + i * edge / count)
        cover[: max(1, round(depth)), left : left + max(1, round(length))] = 255
    grey = rng.integers(225, 256) if rng.random() < 0.7 else rng.integers(0, 20)
    return [(np.ascontiguousarray(np.rot90(cover, side)), int(grey))]


def ruler(rng: np.random.Generator, size: tuple[int, int], amount: float) -> list[Layer]:
    """A graduated scale, mostly upright and near a side; bright marks on a faint bar, or dark ones on a bright bar."""
    del amount
    height, width = size
    longer = max(size)
    upright = rng.random() < 0.7
    angle = rng.normal(0, 0.04) + (np.pi / 2 if upright else 0)
    along = np.array([np.cos(angle), np.sin(angle)])
    near, far = rng.uniform(0.04, 0.2), rng.uniform(0.25, 0.75)
    near = near if rng.random() < 0.5 else 1 - near
    middle = np.array([near * width, far * height] if upright else [far * width, near * height])
    length, thick = rng.uniform(0.15, 0.45) * longer, rng.uniform(0.015, 0.03) * longer
    pitch = max(3.0, rng.uniform(0.008, 0.02) * longer)
    side = np.array([-along[1], along[0]]) * thick / 2
    body, marks = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.uint8)
    bright = rng.random() < 0.5
    bar(body, middle, along, length, thick, rng.uniform(0.05, 0.4) if bright else rng.uniform(0.6, 1))
    ticks(marks, middle - along * length / 2 - side, along, int(length / pitch) + 1, pitch, thick)
    grey = int(rng.integers(190, 256))
    return [(body, grey), (marks, grey if bright else int(rng.integers(0, 50)))]


def collimation(rng: np.random.Generator, size: tuple[int, int], amount: float) -> list[Layer]:
    """Film that the beam did not reach, beyond slightly turned straight lines at one to three sides; mostly dark."""
    height, width = size
    down, right = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    inside = np.full(size, np.inf, dtype=np.float32)  # px to the nearest line
    for side in rng.permutation(4)[: rng.integers(1, 4)]:
        depth = rng.uniform(0, min(0.25, 0.02 + 0.05 * amount)) * size[side % 2]
        slope = np.tan(np.deg2rad(rng.uniform(-3, 3)))
        across, by = (down, right - width / 2) if side % 2 == 0 else (right, down - height / 2)
        across = across if side < 2 else size[side % 2] - 1 - across
        np.minimum(inside, across + by * np.float32(slope) - np.float32(depth), out=inside)
    penumbra = rng.uniform(0.7, 4)
    cover = np.clip(127.5 - inside * (255 / penumbra), 0, 255).astype(np.uint8)
    grey = rng.integers(0, 25) if rng.random() < 0.75 else rng.integers(235, 256)
    return [(cover, int(grey))]


def brackets(rng: np.random.Generator, size: tuple[int, int], amount: float) -> list[Layer]:
    """A row of small bright pieces of metal on a wire, as of orthodontic brackets, somewhere about the jaws."""
    del amount
    longer, count = max(size), int(rng.integers(3, 8))
    middle = rng.uniform((0.25, 0.45), (0.75, 0.85)) * (size[1], size[0])
    place = np.arange(count) - (count - 1) / 2
    spacing, bow, turn = rng.uniform(0.018, 0.03) * longer, rng.uniform(-0.06, 0.06), rng.normal(0, 0.3)
    along = np.array([np.cos(turn), np.sin(turn)])
    across = np.array([-along[1], along[0]])
    at = middle + spacing * (place[:, None] * along + bow * (place**2)[:, None] * across)
    at += rng.normal(0, 0.08 * spacing, at.shape)
    cover = np.zeros(size, dtype=np.uint8)
    cv2.polylines(cover, [fixed(at)], False, int(rng.integers(120, 230)), 1, cv2.LINE_AA, SHIFT)  # noqa: FBT003
    for point in at:
        wide, high = rng.uniform(0.35, 0.55, 2) * spacing
        angle = turn + rng.normal(0, 0.15)
        bar(cover, point, (np.cos(angle), np.sin(angle)), wide, high, rng.uniform(0.8, 1))
    return [(cover, int(rng.integers(235, 256)))]


def head_holder(rng: np.random.Generator, size: tuple[int, int], amount: float) -> list[Layer]:
    """The ring of an ear rod, or the rod of a nasion support with its block and its scale, or both; see-through."""
    del amount
    height, width = size
    longer, cover = max(size), np.zeros(size, dtype=np.uint8)
    shown = int(rng.integers(3))
    if shown != 1:
        x = rng.uniform(0.03, 0.35)  # before the face, which may look to either side
        end = np.array([(x if rng.random() < 0.5 else 1 - x) * width, rng.uniform(0.2, 0.5) * height])
        angle, thick = np.pi / 2 + rng.normal(0, 0.03), rng.uniform(0.007, 0.014) * longer
        along, opacity = np.array([np.cos(angle), np.sin(angle)]), rng.uniform(0.3, 0.8)
        bar(cover, end, (1, 0), 4 * thick, 3 * thick, 0.5 * opacity)
        bar(cover, end - along * height / 2, along, height, thick, opacity)
        ticks(cover, end - along * 7 * thick, along, 12, max(2.5, thick / 2), thick)
    if shown != 0:
        centre = fixed(rng.uniform((0.25, 0.35), (0.75, 0.65)) * (width, height)).tolist()
        radius = rng.uniform(0.012, 0.025) * longer
        opacity, wall = rng.uniform(0.35, 0.9), max(1, round(radius * rng.uniform(0.2, 0.45)))
        cv2.circle(cover, centre, int(fixed(radius)), round(255 * opacity), wall, cv2.LINE_AA, SHIFT)
    return [(cover, int(rng.integers(200, 256)))]


def artefacts(amount: float) -> list[Any]:
    """Tapes, rulers, collimation, brackets and head holders over a film, each with a chance; the points stay."""
    if amount == 0:
        return []
    chances = {tapes: 0.15, ruler: 0.15, collimation: 0.2, brackets: 0.1, head_holder: 0.15}
    return [Artefacts({draw: min(0.8, chance * amount) for draw, chance in chances.items()}, amount)]


def occlusion(amount: float) -> list[Any]:
    """A few rectangles without information, black or noisy (DeVries & Taylor 2017, Cutout); the points stay."""
    if amount == 0:
        return []
    sides = (0.02, min(0.5, 0.02 + 0.08 * amount))
    holes = {"num_holes_range": (1, 4), "hole_height_range": sides, "hole_width_range": sides, "p": 1}
    return [A.OneOf([A.CoarseDropout(fill=0, **holes), A.CoarseDropout(fill="random_uniform", **holes)], p=0.4)]


class HeavyAugmentationConfig(PluginConfig):
    """Each range is at strength 1 and grows with it; they come on top of the core's own augmentation."""

    strength: float = Field(default=1.0, ge=0, le=4, description="moves everything; 0 changes nothing, 2 doubles")
    rotate_deg: float = Field(default=8.0, ge=0, le=45, description="rotation up to, degrees")
    scale: float = Field(default=0.1, ge=0, le=0.5, description="scaling up to a factor of exp(+-scale)")
    shift: float = Field(default=0.03, ge=0, le=0.25, description="shift up to, share of the image's sides")
    perspective: float = Field(default=0.04, ge=0, le=0.2, description="change of scale towards the sides up to")
    elastic: float = Field(default=0.015, ge=0, le=0.1, description="elastic deformation, share of the longer side")
    photometric: float = Field(default=1.0, ge=0, le=4, description="exposure, noise, blur, compression; 0: none")
    artefacts: float = Field(
        default=1.0, ge=0, le=4, description="tapes, rulers, collimation, brackets, head holders; 0: none"
    )
    occlusion: float = Field(default=1.0, ge=0, le=4, description="rectangles without information; 0: none")


class HeavyAugmentation(Plugin[HeavyAugmentationConfig]):
    """Stronger warps, photometric changes, artefacts and occlusion, all moved by one `strength`; never a flip."""

    @hookimpl
    def warps(self) -> list[Warp]:
        """Give the pose [3, 3] and the elastic field [H, W, 2], in network px; nothing at strength 0."""
        c = self.config
        s = c.strength
        pose = (s * c.rotate_deg, s * c.scale, s * c.shift, min(0.4, s * c.perspective))
        found: list[Warp] = [Pose(*pose)] if any(pose) else []
        return [*found, Elastic(s * c.elastic)] if s * c.elastic else found

    @hookimpl
    def augmentations(self, stage: str) -> list[Any]:
        """Give the transforms of a stage, for grey films uint8 [H, W]; nothing at strength 0."""
        c = self.config
        if stage == "photometric":  # what lies on a film is blurred and compressed with it
            return [*artefacts(c.strength * c.artefacts), *photometric(c.strength * c.photometric)]
        return occlusion(c.strength * c.occlusion) if stage == "occlusion" else []
