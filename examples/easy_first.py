"""easy-first: films of small loss count first, hard ones join as the clock goes on (Bengio et al. 2009, curriculum)."""

from pydantic import Field

from ceph.plugin import Duration, Plugin, PluginConfig, Run, hookimpl


class EasyFirstConfig(PluginConfig):
    until: Duration = Field(default=Duration("50%"), gt=0, description="from here on all films of a batch count")
    first: float = Field(default=0.25, gt=0, le=1, description="share of each batch that counts at the beginning")


class EasyFirst(Plugin[EasyFirstConfig]):
    """The easiest films of each batch count, more of them as the run goes on."""

    @hookimpl
    def run_start(self, run: Run):
        self.until = self.config.until.epochs(run.epochs)

    @hookimpl
    def landmark_weights(self, batch, loss):
        """Give [B, 1] from the loss [B, K]: 1 for films whose mean loss is among the least, 0 for the others."""
        share = min(1.0, self.config.first + (1 - self.config.first) * batch.epochs_done / self.until)
        film = loss.sum(1) / batch.valid.sum(1).clamp_min(1)
        counts = max(1, round(share * len(film)))
        return (film.argsort().argsort() < counts).to(loss.dtype)[:, None]
