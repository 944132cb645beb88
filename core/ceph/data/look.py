"""Windows of a film around points, at any scale: read from the film itself, through the same map as the image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.geometry import Field, transform
from ceph.data.types import Matrix, Points


def windows(
    level: NDArray[np.uint8], network_to_level: Matrix, centre: Points, step: float, px: int, field: Field | None = None
) -> NDArray[np.uint8]:
    """Square windows [N, px, px] about `centre` [N, 2], network px, their axes along the network image's.

    `level` [h, w] is the film, or a smaller copy of it, `network_to_level` [3, 3] the map into its pixels, `step` the
    network px of a window's pixel. The window's centre is the middle of its pixels. A displacement `field` [H, W, 2] is
    added as in `resample`. Outside the film is its border's value.
    """
    along = (np.arange(px) - (px - 1) / 2) * step
    grid = np.asarray(centre, np.float64)[:, None, None] + np.stack(np.meshgrid(along, along), -1)
    if field is not None:
        at = grid.reshape(-1, px, 2).astype(np.float32)
        moved = cv2.remap(field, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        grid = grid + moved.reshape(grid.shape)
    at = transform(network_to_level, grid).reshape(-1, px, 2).astype(np.float32)
    seen = cv2.remap(level, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.uint8).reshape(-1, px, px)
