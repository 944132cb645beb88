"""`look` in evaluation: windows of the films of a batch at any scale, read from the films themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ceph.data.dataset import Item
from ceph.data.geometry import inverse, resize
from ceph.data.look import windows
from ceph.errors import DataError

# (place of the film, scale) -> the film at the smallest pyramid level not below the scale [h, w], and its own (H, W)
OpenFilm = Callable[[int, float], tuple[NDArray[np.uint8], tuple[int, int]]]


class Look:
    """What stations are given as `look`, for the films of one batch, of which one is in memory at a time.

    `frame` is the batch as the network sees it, `mm_per_px` the mm of a network pixel that films without spacing are
    taken to have; `assumed` [B] tells of which films that was made use of. `look.mm_per_px` [B], on the device, is the
    mm of a network pixel of each film: what takes a place in a window back to network px.
    """

    def __init__(self, frame: Item, open_film: OpenFilm, mm_per_px: float, device: torch.device) -> None:
        self._frame, self._open, self._device = frame, open_film, device
        self._known = torch.isfinite(frame.mm_per_px).numpy()
        self._spacing = np.where(self._known, frame.mm_per_px.double().numpy(), mm_per_px)
        self.mm_per_px = torch.from_numpy(self._spacing).float().to(device)
        self.assumed = np.zeros(len(frame.film), dtype=bool)

    def __call__(self, centre: torch.Tensor, mm: float, px: int) -> torch.Tensor:
        """Windows [B, ..., px, px] of `mm` by `mm` about `centre` [B, ..., 2] in network px, float 0..1, on the device.

        Their axes are the network image's. Outside the film is its border's value. Raises DataError where a film cannot
        be read, or where nothing is known of its millimetres.
        """
        if centre.ndim < 2 or len(centre) != len(self.assumed) or centre.shape[-1] != 2 or not (mm > 0 and px > 0):
            raise ValueError(f"look takes centres [{len(self.assumed)}, ..., 2], mm > 0 and px > 0")
        at = np.nan_to_num(centre.detach().double().cpu().numpy()).reshape(len(centre), -1, 2)
        seen = np.stack([self._film(film, points, mm, px) for film, points in enumerate(at)])
        return torch.from_numpy(seen).to(self._device).float().div_(255).view(*centre.shape[:-1], px, px)

    def _film(self, number: int, centre: NDArray[np.float64], mm: float, px: int) -> NDArray[np.uint8]:
        to_network = self._frame.film_to_network[number].double().numpy()
        self.assumed[number] = not self._known[number]
        if not np.isfinite(self._spacing[number]):
            raise DataError("a film has no spacing, and the run does not know that of its training films")
        step = float(mm / px / self._spacing[number])
        zoom = float(np.sqrt(abs(np.linalg.det(to_network[:2, :2]))))
        level, size = self._open(int(self._frame.film[number]), zoom / step)
        to_level = resize(level.shape[1] / size[1], level.shape[0] / size[0]) @ inverse(to_network)
        return windows(level, to_level, centre, step, px)
