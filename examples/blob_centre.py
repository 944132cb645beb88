"""blob-centre: a point is the centre of mass of its map where that is high, however far the hill reaches."""

from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, hookimpl


class BlobCentreConfig(PluginConfig):
    level: float = Field(default=0.3, gt=0, lt=1, description="share of the peak from which a pixel counts")


class Decoder:
    def __init__(self, level):
        self.level = level

    def decode(self, maps, image_size):
        """Activations [B, K, h, w] -> points [B, K, 2] in network px, and the peaks as scores [B, K]."""
        peak = maps.amax((-2, -1), keepdim=True)
        mass = maps * (maps >= self.level * peak)
        mass = mass / mass.sum((-2, -1), keepdim=True).clamp_min(1e-12)
        stride = image_size[1] / maps.shape[-1]
        points = maps.new_zeros(*maps.shape[:2], 2)
        for axis, dims in enumerate((-2, -1)):
            along = (mass.sum(dims).cumsum(-1).neg() + 1).sum(-1)  # the mean of 0, 1, 2 ... by the mass
            points[..., axis] = (along + 0.5) * stride - 0.5
        return points, peak[..., 0, 0].clamp(0, 1)


class BlobCentre(Plugin[BlobCentreConfig]):
    """The centre of mass of all that is high in a map: steady where hills are broad, wrong where there are two."""

    @hookimpl
    def build_decoder(self):
        return Decoder(self.config.level)
