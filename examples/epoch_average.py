"""epoch-average: evaluated is the average of the weights at the ends of the last epochs (Izmailov et al. 2018)."""

import copy

from pydantic import Field

from ceph.plugin import Duration, Plugin, PluginConfig, hookimpl


class EpochAverageConfig(PluginConfig):
    start: Duration = Field(default=Duration("75%"), description="how long before the average begins")


class EpochAverage(Plugin[EpochAverageConfig]):
    """The average of the weights after each epoch from `start` on: stochastic weight averaging."""

    @hookimpl
    def run_start(self, run, model):
        self.start, self.count = self.config.start.epochs(run.epochs), 0
        self.mean = copy.deepcopy(model)

    @hookimpl
    def eval_model(self, epoch, model):
        if epoch < self.start:
            return model
        self.count += 1
        for mean, new in zip(self.mean.state_dict().values(), model.state_dict().values(), strict=True):
            mean.lerp_(new, 1 / self.count) if mean.is_floating_point() else mean.copy_(new)
        return self.mean

    def state_dict(self):
        return {"count": self.count, "mean": self.mean.state_dict()} if hasattr(self, "mean") else {}

    def load_state_dict(self, state):
        if state:
            self.count = state["count"]
            self.mean.load_state_dict(state["mean"])
