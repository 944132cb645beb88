"""A plugin with modules, as a file: a head that sees features, and a module that only its plugin calls."""

SOURCE = '''
import torch
from ceph.plugin import Plugin, hookimpl


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.guess = torch.nn.Linear(8, 1)

    def forward(self, features):
        return self.guess(features[0].mean((2, 3)))[:, 0]


class Scale(torch.nn.Module):
    def __init__(self, landmarks):
        super().__init__()
        self.log = torch.nn.Parameter(torch.zeros(landmarks))


class Parts(Plugin):
    """A head that guesses the spacing, and a scale of each landmark's distance."""

    @hookimpl
    def modules(self, run):
        return {"spacing_head": Head(), "scale": Scale(len(run.landmarks))}

    @hookimpl
    def landmark_losses(self, batch, points, model):
        off = (points - batch.points).abs().sum(-1) / 100
        return {"scaled": off * (-model.scale.log).exp() + model.scale.log}

    @hookimpl
    def loss_terms(self, batch, outputs):
        known = batch.valid.any(1)
        off = (outputs["spacing_head"] - batch.mm_per_px) ** 2
        return {"spacing": ((off * known).sum(), known.sum())}

    @hookimpl
    def metrics(self, outputs, samples):
        return {"heads": float(len(outputs["spacing_head"]) == len(samples))}
'''
NAMES = ("spacing_head.guess.weight", "spacing_head.guess.bias", "scale.log")


def switched_on(folder):
    """The section of a config that switches it on."""
    path = folder / "parts.py"
    path.write_text(SOURCE)
    return {"parts": {"from": str(path)}}
