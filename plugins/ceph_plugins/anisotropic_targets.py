"""anisotropic-targets: each landmark's target is as wide, and in that direction, as its readers differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import Batch, ConfigError, Plugin, PluginConfig, Run, Sample, hookimpl, log

LEAST_PAIRS = 5  # films with two readers of a landmark; with fewer its target stays round


def reader_covariance_mm(samples: Sequence[Sample]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The covariance [K, 2, 2] in mm^2 of one reader's points about the readers' mean, and its degrees of freedom [K].

    The pooled within-film sample covariance: the squares about each film's mean, over the readers less one.
    """
    landmarks = samples[0].points.shape[1]
    total, freedom = np.zeros((landmarks, 2, 2)), np.zeros(landmarks, dtype=np.int64)
    for sample in samples:
        valid = sample.valid[..., None]
        count = valid.sum(axis=0)
        points = np.where(valid, sample.points, 0.0)
        off = np.where(valid, points - points.sum(axis=0) / np.maximum(count, 1), 0.0) * sample.mm_per_px
        total += np.einsum("rki,rkj->kij", off, off)
        freedom += np.maximum(count[:, 0] - 1, 0)
    return total / np.maximum(freedom, 1)[:, None, None], freedom


def at_least(covariance: NDArray[np.float64], floor: float, ceiling: float) -> NDArray[np.float64]:
    """Covariances [K, 2, 2] whose standard deviations along their own axes are kept within `floor` and `ceiling`."""
    variance, axes = np.linalg.eigh(covariance)
    return np.asarray((axes * variance.clip(floor**2, ceiling**2)[:, None]) @ axes.swapaxes(1, 2))


class AnisotropicGaussians:
    """Gaussian targets, each of the readers' covariance [K, 2, 2], in map px.

    `readers` is that at the network's `size` (H, W), and shrinks with the image; at each size the widths are kept
    within the core's `sigma_px` and `largest` times that.
    """

    def __init__(self, core: Any, readers: NDArray[np.float64], size: tuple[int, int], largest: float = 3.0) -> None:
        self.core, self.readers, self.size, self.largest = core, readers, size, largest
        self._precisions: dict[tuple[int, int], torch.Tensor] = {}  # by the image's size, on the device

    def covariance(self, image_size: tuple[int, int]) -> NDArray[np.float64]:
        """The covariances [K, 2, 2] of the targets for an image of this size, in map px."""
        shrunk = (image_size[0] / self.size[0]) ** 2
        return at_least(shrunk * self.readers, self.core.sigma_px, self.largest * self.core.sigma_px)

    def encode(self, batch: Batch, map_size: tuple[int, int]) -> torch.Tensor:
        """The batch's points [B, K, 2] in network px -> target maps [B, K, h, w]."""
        image_size = (batch.image.shape[-2], batch.image.shape[-1])
        on_map = (batch.points.float() + 0.5) / self.core.stride - 0.5
        x, y = (
            torch.arange(side, device=on_map.device) - centre[..., None]
            for side, centre in zip(map_size[::-1], on_map.unbind(-1), strict=True)
        )
        if image_size not in self._precisions:
            found = np.linalg.inv(self.covariance(image_size))
            self._precisions[image_size] = torch.from_numpy(found).to(on_map)
        precision = self._precisions[image_size]
        (a, b), (_, c) = (row.unbind(0) for row in precision.permute(1, 2, 0))
        a, b, c = (part[:, None, None] for part in (a, b, c))
        x, y = x[..., None, :], y[..., :, None]
        off = a * x**2 + 2 * b * x * y + c * y**2  # [B, K, h, w]
        z: torch.Tensor = -off / 2
        return z.flatten(2).softmax(-1).view_as(z) if self.core.kind == "distribution" else z.exp()


class AnisotropicTargetsConfig(PluginConfig):
    """Widths are bounded by `target.sigma_px` from below."""

    spread: float = Field(default=1.0, gt=0, description="factor of the readers' standard deviation")
    largest: float = Field(default=3.0, ge=1, description="widest target, in units of target.sigma_px")


class AnisotropicTargets(Plugin[AnisotropicTargetsConfig]):
    """Each landmark's target is a Gaussian as wide, and in that direction, as its readers differ over the films.

    Thaler et al. 2021, Modeling annotation uncertainty with Gaussian heatmaps in landmark localization; there the
    covariance is learned along with the network, here it is the sample covariance of the readers.
    """

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a training set in which no landmark has two readers often enough."""
        most = int(reader_covariance_mm(run.samples)[1].max())
        if most < LEAST_PAIRS:
            raise ConfigError(
                f"at most {most} training films have two readers of one landmark; a covariance needs {LEAST_PAIRS}",
                key="plugins.anisotropic-targets",
                hint="a set with several readers has one, ISBI 2015 for instance; or leave the plugin out",
            )

    @hookimpl
    def build_targets(self, run: Run, default: Callable[[], Any]) -> Any:
        """Give these targets, or the core's own where nothing trains."""
        core = default()
        if not run.samples:
            return core
        mm2, freedom = reader_covariance_mm(run.samples)
        shrink = np.median([min(run.size[0] / s.size[0], run.size[1] / s.size[1]) / s.mm_per_px for s in run.samples])
        on_map = mm2 * (self.config.spread * shrink / core.stride) ** 2
        on_map[freedom < LEAST_PAIRS] = 0
        targets = AnisotropicGaussians(core, on_map, run.size, self.config.largest)
        wide = np.sqrt(np.linalg.eigvalsh(targets.covariance(run.size))[:, 1])
        log.info(
            "anisotropic-targets: sigma along the longer axis %.2f to %.2f map px (%s), at least %.2f",
            *(wide.min(), wide.max(), run.landmarks[int(wide.argmax())], core.sigma_px),
        )
        return targets
