"""anisotropic-targets: each landmark's target is as wide, and in that direction, as its readers differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, Run, Sample, hookimpl, log

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


class AnisotropicCodec:
    """The core's codec with Gaussian targets of a covariance [K, 2, 2] each, in map px at the network's size (H, W)."""

    def __init__(self, core: Any, covariance: torch.Tensor, size: tuple[int, int]) -> None:
        self.core, self.size = core, size
        self.precision = torch.linalg.inv(covariance)

    def encode(self, points: torch.Tensor, image_size: tuple[int, int], map_size: tuple[int, int]) -> torch.Tensor:
        """Points [B, K, 2] in network px -> target maps [B, K, h, w]; widths are in proportion to the image's size."""
        on_map = (points.float() + 0.5) / self.core.stride - 0.5
        x, y = (
            torch.arange(side, device=points.device) - centre[..., None]
            for side, centre in zip(map_size[::-1], on_map.unbind(-1), strict=True)
        )
        shrunk = (self.size[0] / image_size[0]) ** 2
        (a, b), (_, c) = (row.unbind(0) for row in (shrunk * self.precision).permute(1, 2, 0))
        a, b, c = (part[:, None, None] for part in (a, b, c))
        x, y = x[..., None, :], y[..., :, None]
        off = a * x**2 + 2 * b * x * y + c * y**2  # [B, K, h, w]
        z: torch.Tensor = -off / 2
        return z.flatten(2).softmax(-1).view_as(z) if self.core.kind == "distribution" else z.exp()

    def decode(self, pred: torch.Tensor, image_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode as the core does: activations [B, K, h, w] -> points [B, K, 2] in network px, scores [B, K]."""
        found: tuple[torch.Tensor, torch.Tensor] = self.core.decode(pred, image_size)
        return found


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
    def build_codec(self, run: Run, default: Callable[[], Any]) -> Any:
        """Give the core's codec with these targets, or the core's own where nothing trains."""
        core = default()
        if not run.samples:
            return core
        mm2, freedom = reader_covariance_mm(run.samples)
        shrink = np.median([min(run.size[0] / s.size[0], run.size[1] / s.size[1]) / s.mm_per_px for s in run.samples])
        on_map = mm2 * (self.config.spread * shrink / core.stride) ** 2
        on_map[freedom < LEAST_PAIRS] = 0
        found = at_least(on_map, core.sigma_px, self.config.largest * core.sigma_px)
        wide = np.sqrt(np.linalg.eigvalsh(found)[:, 1])
        log.info(
            "anisotropic-targets: sigma along the longer axis %.2f to %.2f map px (%s), at least %.2f",
            *(wide.min(), wide.max(), run.landmarks[int(wide.argmax())], core.sigma_px),
        )
        return AnisotropicCodec(core, torch.from_numpy(found).float().to(run.device), run.size)
