"""learned-width: how wide each landmark's target is, is learned with the network (as in Payer et al. 2020)."""

import torch

from ceph.plugin import Plugin, gaussians, hookimpl


class Widths(torch.nn.Module):
    """Targets whose widths [K, 1], in map px, are learned, and the loss, in which width has a price."""

    def __init__(self, landmarks, kind, sigma_px, stride):
        super().__init__()
        self.log_sigma = torch.nn.Parameter(torch.full((landmarks, 1), sigma_px).log())
        self.kind, self.stride = kind, stride

    def encode(self, batch, map_size):
        return gaussians(batch.points, map_size, self.kind, self.log_sigma.exp(), self.stride)

    def loss(self, pred, target, pixel_weights):
        log_p = pred.flatten(2).log_softmax(-1).view_as(pred)
        return (target * (target.clamp_min(1e-12).log() - log_p)).sum((-2, -1)) + 0.1 * self.log_sigma.exp()[:, 0]


class LearnedWidth(Plugin):
    """Each landmark's target is as wide as the network can place it."""

    @hookimpl
    def modules(self, run):
        c = run.config
        self.widths = Widths(len(run.landmarks), c.target_kind, c.sigma_px, c.model.stride)
        return {"target_widths": self.widths}

    @hookimpl
    def build_targets(self):
        return self.widths

    @hookimpl
    def build_criterion(self):
        return self.widths.loss
