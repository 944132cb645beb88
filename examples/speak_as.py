"""speak-as: points as another reader would mark them, by known offsets in the frame of the head."""

import torch
from pydantic import Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, hookimpl


class SpeakAsConfig(PluginConfig):
    offsets: dict[str, tuple[float, float]] = Field(
        default={}, description="by landmark: along S to N and at right angles to it, in percent of that distance"
    )


class Offsets:
    def __init__(self, percent, sella, nasion):
        self.percent, self.sella, self.nasion = torch.tensor(percent), sella, nasion

    def shift(self, points, scores, to_film):
        """Points [B, K, 2] in network px, each moved by its offset, turned and scaled as the head lies."""
        along = (points[:, self.nasion] - points[:, self.sella])[:, None] / 100
        across = torch.stack([-along[..., 1], along[..., 0]], -1)
        by = self.percent.to(points)
        return points + by[:, :1] * along + by[:, 1:] * across, scores


class SpeakAs(Plugin[SpeakAsConfig]):
    """Two readers of a film mean different points; a table of their offsets turns one's habit into the other's."""

    @hookimpl
    def build_offsets(self, run):
        unknown = ({"S", "N"} | set(self.config.offsets)) - set(run.landmarks)
        if unknown:
            raise ConfigError(f"this run has no landmark {', '.join(sorted(unknown))}", key="plugins.speak-as.offsets")
        percent = [self.config.offsets.get(symbol, (0.0, 0.0)) for symbol in run.landmarks]
        return Offsets(percent, run.landmarks.index("S"), run.landmarks.index("N"))
