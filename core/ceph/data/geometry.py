"""Where a film pixel lands in the network's image: letterbox, warps, one resampling for film and points.

Coordinates are (x, y), x right, y down; the centre of the first pixel is (0, 0). A size is (H, W). A matrix [3, 3]
maps (x, y, 1) from one frame to another. A displacement field [H, W, 2] says where the output pixel q is sampled:
at q + field[q], in network pixels.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Matrix, Points

Field = NDArray[np.float32]  # [H, W, 2]


def resize(scale_x: float, scale_y: float | None = None) -> Matrix:
    """The map of a resize: x -> (x + 0.5) * scale - 0.5."""
    sy = scale_x if scale_y is None else scale_y
    return np.array([[scale_x, 0, (scale_x - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])


def shift(x: float, y: float) -> Matrix:
    """The map of a translation by (x, y) pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def inverse(matrix: Matrix) -> Matrix:
    """The map the other way round."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def similarity(angle_deg: float, scale: float, shift_px: tuple[float, float], size: tuple[int, int]) -> Matrix:
    """Rotation and scaling about the centre of an image of `size`, then a shift; within the network frame."""
    centre_x, centre_y = (size[1] - 1) / 2, (size[0] - 1) / 2
    angle = np.deg2rad(angle_deg)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    moved: Matrix = shift(centre_x + shift_px[0], centre_y + shift_px[1]) @ turn @ shift(-centre_x, -centre_y)
    return moved


def letterbox(film: tuple[int, int], size: tuple[int, int]) -> Matrix:
    """Film px -> network px: the largest uniform scale at which the film fits into `size`, centred."""
    scale = letterbox_scale(film, size)
    pad_x, pad_y = (size[1] - film[1] * scale) / 2, (size[0] - film[0] * scale) / 2
    return shift(pad_x, pad_y) @ resize(scale)


def letterbox_scale(film: tuple[int, int], size: tuple[int, int]) -> float:
    """Network pixels for each film pixel."""
    return min(size[0] / film[0], size[1] / film[1])


def transform(matrix: Matrix, points: Points) -> Points:
    """Map points [..., 2] by a matrix [3, 3]; NaN stays NaN."""
    mapped = points @ matrix[:2, :2].T + matrix[:2, 2]
    if np.array_equal(matrix[2], (0, 0, 1)):
        return np.asarray(mapped)
    return np.asarray(mapped / (points @ matrix[2, :2] + matrix[2, 2])[..., None])


def local_scale(matrix: Matrix, at: Points) -> float:
    """Output pixels for each input pixel near the input point `at` [2]: the square root of the area's factor."""
    depth = matrix[2, :2] @ at + matrix[2, 2]
    return float(np.sqrt(abs(np.linalg.det(matrix)) / abs(depth) ** 3))


def procrustes(shapes: Points) -> tuple[Points, Points]:
    """Lay shapes [N, K, 2] on each other by similarities (generalised Procrustes analysis, Gower 1975).

    Answers the mean shape [K, 2], centred, its squares summing to 1, and the shapes [N, K, 2] laid on it, scaled into
    the plane that touches the sphere of such shapes at the mean.
    """
    z = np.asarray(shapes, dtype=np.float64) @ (1, 1j)
    z = z - z.mean(axis=1, keepdims=True)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    mean = z[0]
    for _ in range(10):
        onto = z.conj() @ mean
        mean = ((onto / np.abs(onto))[:, None] * z).mean(axis=0)
        mean /= np.linalg.norm(mean)
    onto = z.conj() @ mean
    laid = (onto / np.abs(onto) ** 2)[:, None] * z
    return np.stack([mean.real, mean.imag], -1), np.stack([laid.real, laid.imag], -1)


def displace(field: Field, points: Points, steps: int = 20) -> Points:
    """Where points [K, 2] of the undisplaced image appear after the field: solves q + field[q] = p by iteration.

    Converges for any field whose slope stays under 1; the field is read bilinearly and is constant outside the image.
    """
    sampler = np.ascontiguousarray(field, dtype=np.float32)
    found = points.copy()
    for _ in range(steps):
        at = np.nan_to_num(found).astype(np.float32)[:, None]
        moved = cv2.remap(sampler, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        found = points - moved
    return found


@cache
def _grid(size: tuple[int, int]) -> Field:
    """Each pixel's own (x, y), [H, W, 2]."""
    columns, rows = np.meshgrid(np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32))
    return np.stack([columns, rows], -1)


def resample(
    image: NDArray[np.uint8], matrix: Matrix, size: tuple[int, int], field: Field | None = None
) -> NDArray[np.uint8]:
    """The image [h, w] seen through `matrix` (image px -> network px) and then `field`, as [H, W]; black outside."""
    height, width = size
    if field is not None:
        source = cv2.perspectiveTransform(_grid(size) + np.asarray(field, np.float32), inverse(matrix))
        warped = cv2.remap(image, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    elif np.array_equal(matrix[2], (0, 0, 1)):
        warped = cv2.warpAffine(
            image, matrix[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
    else:
        warped = cv2.warpPerspective(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
    return np.asarray(warped, dtype=np.uint8)
