"""empty-film: a second look at each point; where the film shows nothing about it, its score says so."""

from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, hookimpl


class EmptyFilmConfig(PluginConfig):
    mm: float = Field(default=8.0, gt=0, description="side of the window that is looked at, mm")
    least: float = Field(
        default=0.02, gt=0, description="standard deviation of grey (0..1) of a window that shows something"
    )


class Look:
    def __init__(self, config):
        self.config = config

    def refine(self, points, scores, look, model):
        """Points [B, K, 2] as they are; scores [B, K] down to 0 where the window is of one grey."""
        contrast = look(points, self.config.mm, 24).flatten(2).std(-1)
        return points, scores * (contrast / self.config.least).clamp(max=1.0)


class EmptyFilm(Plugin[EmptyFilmConfig]):
    """A point on a part of the film that shows nothing (beyond the collimation, under a marker) gets a low score."""

    @hookimpl
    def build_refiner(self):
        return Look(self.config)
