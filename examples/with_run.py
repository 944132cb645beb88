"""with-run: in evaluation the maps of other finished runs are averaged with those of this one."""

from pydantic import Field

from ceph.plugin import ConfigError, Member, Plugin, PluginConfig, hookimpl, load


class WithRunConfig(PluginConfig):
    runs: tuple[str, ...] = Field(default=(), description="folders of runs with the same landmarks")


class WithRun(Plugin[WithRunConfig]):
    """An ensemble without training anew: each run sees a film at its own size; all maps count alike."""

    @hookimpl
    def check_run(self, run):
        self.trained = [load(folder) for folder in self.config.runs]
        for folder, other in zip(self.config.runs, self.trained, strict=True):
            if other.landmarks != run.landmarks:
                raise ConfigError(f"{folder} has other landmarks", key="plugins.with-run.runs")

    @hookimpl
    def members(self):
        """Give a member for each run; a run that is loaded asks no `check_run`, so what is not there yet is read."""
        if not hasattr(self, "trained"):
            self.trained = [load(folder) for folder in self.config.runs]
        return [Member(t.model, t.config.data.size, t.config.target_kind) for t in self.trained]
