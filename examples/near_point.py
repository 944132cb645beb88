"""near-point: each landmark's loss grows with the distance of its point, in mm, beside what its map says."""

from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, hookimpl


class NearPointConfig(PluginConfig):
    weight: float = Field(default=0.05, ge=0, description="factor of a mm of distance in a landmark's loss")


class NearPoint(Plugin[NearPointConfig]):
    """The distance of the soft point to the truth joins the loss of its landmark: weights and masks count for both."""

    @hookimpl
    def landmark_losses(self, batch, points):
        """Give {"near_point": [B, K]}; points [B, K, 2] in network px."""
        distance_mm = ((points - batch.points).square().sum(-1) + 1e-6).sqrt() * batch.mm_per_px[:, None]
        return {"near_point": self.config.weight * distance_mm}
