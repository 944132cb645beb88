"""Every hook, a good answer to it, and the wrong ones: the bodies of methods, and what their message must say.

A plugin is written as a file, as a stranger would: `source(hook, body)`. The names that bodies use are in `HEAD`.
"""

from __future__ import annotations

from typing import NamedTuple

from ceph.hooks.answers import STATIONS

HEAD = '''\
import sys

import albumentations as A
import numpy as np
import torch

from ceph.data.formats.aariz import Aariz
from ceph.plugin import ConfigError, Member, Plugin, View, Warp, hookimpl


def fail(*_):
    raise KeyError("oops")


def refuse():
    raise ConfigError("oops")


class Late:
    """A function that is as it should be for so many calls, and then another."""

    def __init__(self, calls, good, bad=fail):
        self.calls, self.good, self.bad = calls, good, bad

    def __call__(self, *given):
        self.calls -= 1
        return (self.good if self.calls >= 0 else self.bad)(*given)


class Backward(torch.autograd.Function):
    """Nothing, whose gradient is that of `Late`."""

    @staticmethod
    def forward(ctx, pred, gradient):
        ctx.gradient = gradient
        return pred.new_zeros(())

    @staticmethod
    def backward(ctx, above):
        ctx.gradient()
        return None, None


class Optimizer(torch.optim.SGD):
    """SGD that fails after some steps."""

    def step(self, closure=None):
        self.late = getattr(self, "late", Late(2, lambda: None))
        self.late()
        return super().step(closure)


class LookAlike:
    """What has the methods of a transform and is none."""

    def set_random_seed(self, seed):
        pass

    def __call__(self, **given):
        return given


class Reader:
    """The Aariz layout under another name, with answers that `change` spoils."""

    name, layout = "mine", "a folder of films"

    def __init__(self, matches=lambda found: False, read=lambda found: found):
        self.spoil_matches, self.spoil_read = matches, read

    def matches(self, folder):
        return self.spoil_matches(True)

    def read(self, folder, *, mm_per_px=None):
        return self.spoil_read(Aariz().read(folder, mm_per_px=mm_per_px))


class Net(torch.nn.Module):
    """A network whose maps go through `change`."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.backbone, self.change = inner, inner.backbone, change

    def forward(self, images):
        return self.change(self.inner(images))


class Targets:
    def __init__(self, inner, change=lambda maps: maps):
        self.inner, self.change = inner, change

    def encode(self, batch, map_size):
        return self.change(self.inner.encode(batch, map_size))


class Station:
    """Any station of decoding: what was found before it goes through `change`."""

    def __init__(self, change=lambda found: found, inner=None):
        self.inner, self.change = inner, change

    def decode(self, maps, image_size):
        return self.change(self.inner.decode(maps, image_size))

    def constrain(self, points, scores, maps, decode, image_size, look):
        return self.change((points, scores))

    def refine(self, points, scores, look, model):
        return self.change((points, scores))

    def shift(self, points, scores, to_film):
        return self.change((points, scores))


class Head(torch.nn.Module):
    """A module that sees features, whose output goes through `change`."""

    def __init__(self, change=lambda found: found):
        super().__init__()
        self.scale, self.change = torch.nn.Parameter(torch.ones(())), change

    def forward(self, features):
        return self.change(self.scale * features[-1].flatten(1).mean(1))


class Pixels(A.ImageOnlyTransform):
    """A transform of pixels that does as `change` says."""

    def __init__(self, change):
        super().__init__(p=1.0)
        self.change = change

    def apply(self, img, **params):
        return self.change(img)


class Moved(Warp):
    def __init__(self, matrix=lambda: None, field=lambda size: None):
        self.make_matrix, self.make_field = matrix, field

    def matrix(self, rng, size):
        return self.make_matrix()

    def displacement(self, rng, size):
        return self.make_field(size)


'''

MEMORY = """\

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""

ARGUMENTS = {
    "check_run": "run",
    "dataset_formats": "",
    "build_model": "run, default",
    "modules": "run",
    "build_targets": "run, default",
    "build_decoder": "run, default",
    "build_constraint": "run",
    "build_refiner": "run",
    "build_offsets": "run",
    "build_criterion": "run, default",
    "build_optimizer": "model, run, default",
    "warps": "",
    "augmentations": "stage",
    "second_draws": "",
    "truth": "sample, rng",
    "extras": "sample, truth, look, rng",
    "epoch_start": "epoch, model",
    "sample_weights": "epoch, samples",
    "batch_shape": "epoch, index, size, seed",
    "landmark_mask": "batch",
    "pixel_weights": "batch, pred, target",
    "landmark_weights": "batch, loss",
    "landmark_losses": "batch, pred, points, model, outputs",
    "loss_terms": "batch, pred, points, model, outputs",
    "step_end": "step, model, loss",
    "eval_model": "epoch, model",
    "views": "",
    "members": "model",
    "metrics": "split, errors_mm, points_px, valid, samples, landmarks, outputs",
    "epoch_end": "epoch, model, samples, loss, errors_mm, moves_mm, metrics",
    "run_start": "run, model",
    "run_end": "run, result",
}
GOOD = {
    "dataset_formats": "return {'mine': Reader()}",
    "build_model": "return Net(default(), lambda maps: maps)",
    "modules": "return {'mine': Head()}",
    **dict.fromkeys(("build_targets", "build_decoder", "build_criterion", "build_optimizer"), "return default()"),
    **dict.fromkeys(("build_constraint", "build_refiner", "build_offsets"), "return Station()"),
    "warps": "return [Moved(lambda: np.eye(3), lambda size: np.zeros((*size, 2)))]",
    "augmentations": "return [A.NoOp()]",
    "second_draws": "return ['mine']",
    "truth": "return sample.points[0], sample.valid[0]",
    "extras": "return {'mine': np.zeros(3, np.float32)}",
    "sample_weights": "return torch.ones(len(samples))",
    "batch_shape": "return size",
    "landmark_mask": "return torch.ones_like(batch.valid)",
    "pixel_weights": "return torch.ones_like(pred)",
    "landmark_weights": "return torch.ones_like(loss)",
    "landmark_losses": "return {'mine': 0.0 * pred.mean((2, 3))}",
    "loss_terms": "return {'mine': 0.0 * pred.mean()}",
    "eval_model": "return model",
    "views": "return [View()]",
    "members": "return [Member(model)]",
    "metrics": "return {'mine': float(len(samples))}",
}
TELL = ("check_run", "epoch_start", "step_end", "epoch_end", "run_start", "run_end")
GOOD |= dict.fromkeys(TELL, "return None")


class Fault(NamedTuple):
    """A wrong answer: the body of the method, and words that its message has beside plugin, version, hook, remedy."""

    hook: str
    kind: str
    body: str
    words: str


def _weights(hook: str, like: str, flat: str) -> list[Fault]:
    return [
        Fault(hook, "wrong type", "return 1.0", "float 1.0 where a floating tensor"),
        Fault(hook, "wrong shape", f"return {flat}", "gave weights of shape"),
        Fault(hook, "wrong dtype", f"return {like} > 0", "torch.bool"),
        Fault(hook, "gradients", f"return torch.ones_like({like}).requires_grad_()", "detach"),
        Fault(hook, "NaN", f"return {like} * float('nan')", "gave NaN"),
        Fault(hook, "inf", f"return torch.full_like({like}, float('inf'))", "gave an infinite number"),
        Fault(hook, "negative", f"return torch.full_like({like}, -2.0)", "gave a negative weight (-2)"),
    ]


def _station(hook: str) -> list[Fault]:
    inner = ", default()" if hook == "build_decoder" else ""
    bodies = {
        "raise in use": ("fail", "KeyError: 'oops'"),
        "wrong type in use": ("lambda found: 1", "(points, scores)"),
        "wrong shape": ("lambda f: (f[0][:, :1], f[1])", "gave Tensor ["),
        "wrong device": ("lambda f: (f[0].to('meta'), f[1])", "on meta"),
        "NaN": ("lambda f: (f[0] * float('nan'), f[1])", "not finite"),
        "inf": ("lambda f: (f[0], f[1] + float('inf'))", "not finite"),
    }
    return [Fault(hook, kind, f"return Station({body}{inner})", words) for kind, (body, words) in bodies.items()]


WRONG = [
    *(Fault(hook, "wrong type", "return 1", "this hook takes no answer") for hook in TELL),
    # --- setup
    Fault("dataset_formats", "wrong type", "return Reader()", "a dict with names as keys"),
    Fault("dataset_formats", "wrong keys", "return {1: Reader()}", "a dict with names as keys"),
    Fault("dataset_formats", "wrong type of value", "return {'mine': 3}", "no reader: it lacks name"),
    Fault("dataset_formats", "raise in use", "return {'mine': Reader(matches=lambda _: fail())}", "KeyError: 'oops'"),
    Fault("dataset_formats", "wrong type in use", "return {'mine': Reader(matches=lambda _: 'no')}", "True or False"),
    Fault("build_model", "wrong type", "return None", "torch.nn.Module"),
    Fault("build_model", "raise in use", "return Net(default(), lambda maps: fail())", "KeyError: 'oops'"),
    Fault("build_model", "exit in use", "return Net(default(), lambda maps: sys.exit(3))", "SystemExit: 3"),
    Fault(
        "build_model",
        "wrong shape of a patch",
        "net = Net(default(), list); old = net.inner; net.forward = lambda images: old(images)[:, :2]; return net",
        "gave Tensor [",
    ),
    Fault("build_model", "wrong type in use", "return Net(default(), list)", "gave list"),
    Fault("build_model", "wrong shape", "return Net(default(), lambda maps: maps[:, :2])", "gave Tensor ["),
    Fault("build_model", "wrong dtype", "return Net(default(), lambda maps: maps.long())", "of torch.int64"),
    Fault("build_model", "wrong height", "return Net(default(), lambda maps: maps[:, :, 1:])", "gave Tensor ["),
    Fault("build_model", "wrong width", "return Net(default(), lambda maps: maps[..., ::2])", "gave Tensor ["),
    Fault("build_model", "wrong device", "return Net(default(), lambda maps: maps.to('meta'))", "on meta"),
    Fault("modules", "wrong type", "return Head()", "a dict with names as keys"),
    Fault("modules", "wrong type of value", "return {'mine': 3}", "torch.nn.Module is promised under 'mine'"),
    Fault("modules", "a name taken", "return {'backbone': Head()}", "under 'backbone'"),
    Fault("modules", "raise in use", "return {'mine': Head(fail)}", "KeyError: 'oops'"),
    Fault("build_targets", "wrong type", "return object()", "lacks encode"),
    Fault("build_targets", "raise in use", "return Targets(default(), lambda maps: fail())", "KeyError: 'oops'"),
    Fault("build_targets", "wrong shape", "return Targets(default(), lambda maps: maps[:, :1])", "gave Tensor ["),
    Fault("build_targets", "wrong dtype", "return Targets(default(), lambda maps: maps.long())", "torch.int64"),
    Fault("build_targets", "wrong device", "return Targets(default(), lambda maps: maps.to('meta'))", "on meta"),
    Fault("build_decoder", "wrong type", "return object()", "lacks decode"),
    Fault("build_constraint", "wrong type", "return object()", "lacks constrain"),
    Fault("build_refiner", "wrong type", "return object()", "lacks refine"),
    Fault("build_offsets", "wrong type", "return object()", "lacks shift"),
    *(fault for hook in STATIONS for fault in _station(hook)),
    Fault("build_criterion", "wrong type", "return 3", "a function is promised"),
    Fault("build_criterion", "raise in use", "return lambda pred, target, weights: fail()", "KeyError: 'oops'"),
    Fault("build_criterion", "wrong shape", "return lambda p, t, w: default()(p, t, w).mean()", "gave Tensor []"),
    Fault("build_criterion", "wrong dtype", "return lambda p, t, w: default()(p, t, w).double()", "torch.float64"),
    Fault("build_criterion", "wrong device", "return lambda p, t, w: default()(p, t, w).to('meta')", "on meta"),
    Fault("build_optimizer", "wrong type", "return default()[0]", "(optimizer, schedule)"),
    Fault("build_optimizer", "wrong schedule", "return default()[0], 1.0", "function of epochs"),
    Fault("build_optimizer", "raise in use", "return default()[0], lambda done: fail()", "KeyError: 'oops'"),
    Fault("build_optimizer", "NaN", "return default()[0], lambda done: float('nan')", "its schedule gave float nan"),
    Fault("build_optimizer", "inf", "return default()[0], lambda done: float('inf')", "its schedule gave float inf"),
    Fault("build_optimizer", "negative", "return default()[0], lambda done: -1.0", "its schedule gave float -1.0"),
    Fault("build_optimizer", "wrong type in use", "return default()[0], lambda done: '1'", "its schedule gave str"),
    Fault("warps", "wrong type", "return Moved()", "a list is promised"),
    Fault("warps", "wrong type of part", "return [np.eye(3)]", "is no Warp: it lacks matrix and displacement"),
    Fault("warps", "raise in use", "return [Moved(fail)]", "KeyError: 'oops'"),
    Fault("warps", "exit in use", "return [Moved(lambda: sys.exit(3))]", "SystemExit: 3"),
    Fault("warps", "our error in use", "return [Moved(refuse)]", "ConfigError: oops"),
    Fault("warps", "wrong shape", "return [Moved(lambda: np.eye(2))]", "its matrix gave float64 [2, 2]"),
    Fault("warps", "ragged", "return [Moved(lambda: [[1, 0, 0], [0, 1]])]", "ValueError: "),
    Fault("warps", "wrong dtype", "return [Moved(lambda: np.full((3, 3), 'x'))]", "its matrix gave"),
    Fault("warps", "NaN", "return [Moved(lambda: np.full((3, 3), np.nan))]", "a finite, invertible [3, 3]"),
    Fault("warps", "singular", "return [Moved(lambda: np.zeros((3, 3)))]", "a finite, invertible [3, 3]"),
    Fault("warps", "wrong field", "return [Moved(field=lambda size: np.zeros((4, 4)))]", "its displacement gave"),
    Fault("warps", "inf", "return [Moved(field=lambda s: np.full((*s, 2), np.inf))]", "its displacement gave"),
    Fault("augmentations", "wrong type", "return A.NoOp()", "a list is promised"),
    Fault("augmentations", "wrong type of part", "return [lambda image: image]", "no albumentations transform"),
    Fault("augmentations", "raise in use", "return [Pixels(lambda film: fail())]", "KeyError: 'oops'"),
    Fault("augmentations", "exit in use", "return [Pixels(lambda film: sys.exit(3))]", "SystemExit: 3"),
    Fault("augmentations", "look-alike", "return [LookAlike()]", "AttributeError: 'LookAlike' object"),
    Fault("augmentations", "wrong shape", "return [Pixels(lambda film: film[::2])]", "gave a film uint8 ["),
    Fault("augmentations", "wrong dtype", "return [Pixels(lambda film: film / 2)]", "gave a film float64 ["),
    # --- sample, epoch, batch
    Fault("truth", "wrong type", "return sample.points[0]", "gave ndarray"),
    Fault("truth", "wrong shape", "return sample.points, sample.valid", "(points ["),
    Fault("truth", "wrong dtype", "return sample.points[0], sample.valid[0].astype(float)", "of float64"),
    Fault("truth", "points of objects", "return sample.points[0].astype(object), sample.valid[0]", "of object"),
    Fault("truth", "NaN", "return sample.points[0] * np.nan, sample.valid[0] | True", "not finite but valid"),
    Fault("truth", "inf", "return sample.points[0] + np.inf, sample.valid[0] | True", "not finite but valid"),
    Fault("second_draws", "wrong type", "return 'mine'", "a list is promised"),
    Fault("second_draws", "wrong type of part", "return [3]", "which is no name"),
    Fault("extras", "wrong type", "return np.zeros(3)", "a dict with names as keys"),
    Fault("extras", "wrong type of value", "return {'mine': 'x'}", "under 'mine'"),
    Fault("extras", "other shapes", "self.n = getattr(self, 'n', 0) + 1; return {'mine': np.zeros(self.n)}", "'mine'"),
    Fault("sample_weights", "wrong type", "return [1.0] * len(samples)", "gave list"),
    Fault("sample_weights", "wrong shape", "return torch.ones(1)", "of shape [1]"),
    Fault("sample_weights", "wrong dtype", "return np.array(['x'] * len(samples))", "gave <U1 of shape"),
    Fault("sample_weights", "NaN", "return torch.full((len(samples),), float('nan'))", "gave NaN"),
    Fault("sample_weights", "inf", "return np.full(len(samples), np.inf)", "gave an infinite number"),
    Fault("sample_weights", "negative", "return -torch.ones(len(samples))", "gave a negative weight (-1)"),
    Fault("sample_weights", "zeros", "return torch.zeros(len(samples))", "gave only zeros"),
    Fault("batch_shape", "wrong type", "return list(size)", "two positive ints"),
    Fault("batch_shape", "wrong shape", "return (64,)", "two positive ints"),
    Fault("batch_shape", "wrong dtype", "return (64.0, 64.0)", "two positive ints"),
    Fault("batch_shape", "negative", "return (-64, 64)", "two positive ints"),
    # --- step
    Fault("landmark_mask", "wrong type", "return True", "bool tensor that broadcasts"),
    Fault("landmark_mask", "wrong shape", "return batch.valid[:, :-1]", "gave a mask of shape"),
    Fault("landmark_mask", "wrong dtype", "return batch.valid.float()", "torch.float32"),
    Fault("landmark_mask", "wrong device", "return batch.valid.to('meta')", "on meta"),
    *_weights("pixel_weights", "pred", "pred[:1, :1, :1, :1].expand(2, 1, 1, 1, 1)"),
    *_weights("landmark_weights", "loss", "loss[:, :-1] * 0 + 1"),
    Fault("landmark_losses", "wrong type", "return pred.mean((2, 3))", "a dict with names as keys"),
    Fault("landmark_losses", "wrong type of value", "return {'mine': 1.0}", "under 'mine'"),
    Fault("landmark_losses", "wrong shape", "return {'mine': pred.mean()}", "is promised under 'mine'"),
    Fault("landmark_losses", "wrong dtype", "return {'mine': pred.mean((2, 3)).double()}", "torch.float64"),
    Fault("landmark_losses", "NaN", "return {'mine': pred.mean((2, 3)) * float('nan')}", "gave NaN under 'mine'"),
    Fault("loss_terms", "wrong type", "return pred.mean()", "a dict with names as keys"),
    Fault("loss_terms", "wrong keys", "return {1: pred.mean()}", "a dict with names as keys"),
    Fault("loss_terms", "wrong type of value", "return {'mine': 1.0}", "scalar floating tensor"),
    Fault("loss_terms", "wrong shape", "return {'mine': pred}", "is promised under 'mine'"),
    Fault("loss_terms", "wrong dtype", "return {'mine': pred.argmax()}", "scalar floating tensor"),
    Fault("loss_terms", "NaN", "return {'mine': pred.mean() * float('nan')}", "gave NaN under 'mine'"),
    Fault("loss_terms", "inf", "return {'mine': pred.mean() * 0 + float('inf')}", "infinite number under 'mine'"),
    # --- evaluation
    Fault("eval_model", "wrong type", "return model.state_dict()", "torch.nn.Module"),
    Fault("eval_model", "raise in use", "return Net(model, lambda maps: fail())", "KeyError: 'oops'"),
    Fault("eval_model", "wrong shape", "return Net(model, lambda maps: maps.mean())", "gave Tensor []"),
    Fault(
        "eval_model",
        "wrong landmarks",
        "return Net(model, lambda maps: maps[:, :-1])",
        "gave Tensor [",
    ),
    Fault("eval_model", "wrong height", "return Net(model, lambda maps: maps[:, :, 1:])", "gave Tensor ["),
    Fault("eval_model", "NaN in a run", "return Net(model, lambda maps: maps * float('nan'))", "not finite"),
    Fault("eval_model", "inf in a run", "return Net(model, lambda maps: maps + float('inf'))", "not finite"),
    Fault("views", "wrong type", "return View()", "a list is promised"),
    Fault("views", "wrong type of part", "return [np.eye(3)]", "is no View"),
    Fault("views", "raise in use", "return [View(photometric=fail)]", "KeyError: 'oops'"),
    Fault("views", "wrong shape", "return [View(photometric=lambda images: images[..., 1:])]", "gave Tensor ["),
    Fault("views", "singular", "return [View(np.zeros((3, 3)))]", "invertible"),
    Fault("members", "wrong type", "return Member(model)", "a list is promised"),
    Fault("members", "wrong type of part", "return [model]", "is no Member"),
    Fault("members", "raise in use", "return [Member(Net(model, fail))]", "KeyError: 'oops'"),
    Fault("members", "wrong shape", "return [Member(Net(model, lambda maps: maps[:, 1:]))]", "gave Tensor ["),
    Fault("metrics", "wrong type", "return 1.0", "a dict with names as keys"),
    Fault("metrics", "wrong keys", "return {1: 1.0}", "a dict with names as keys"),
    Fault("metrics", "wrong type of value", "return {'mine': 'good'}", "a number is promised under 'mine'"),
    Fault("metrics", "wrong dtype", "return {'mine': np.array('1')}", "a number is promised under 'mine'"),
    Fault("metrics", "NaN", "return {'mine': float('nan')}", "gave NaN under 'mine'"),
    Fault("metrics", "inf", "return {'mine': np.float32('inf')}", "gave an infinite number under 'mine'"),
    Fault("metrics", "complex", "return {'mine': torch.tensor(1j)}", "a number is promised under 'mine'"),
    Fault("metrics", "wrong shape", "return {'mine': np.ones(2)}", "a number is promised under 'mine'"),
]
FAULTS = [
    *(Fault(hook, "raise", "fail()", "KeyError: 'oops' (mine.py, line ") for hook in ARGUMENTS),
    *(Fault(hook, "exit", "sys.exit(3)", "SystemExit: 3 (mine.py, line ") for hook in ARGUMENTS),
    *WRONG,
]

# How often a hook is asked well in a tiny run of three steps an epoch before it fails: so that training has begun.
CALLS = {
    "truth": 13,
    "extras": 13,
    "epoch_start": 1,
    "sample_weights": 1,
    "batch_shape": 3,
    "pixel_weights": 2,
    "landmark_weights": 2,
    "landmark_mask": 2,
    "landmark_losses": 2,
    "loss_terms": 2,
    "step_end": 2,
    "eval_model": 2,
    "metrics": 1,
    "epoch_end": 1,
}

# What a plugin made, failing once training has begun: the hook that made it, and the body of its method.
LATE = {
    "model": ("build_model", "return Net(default(), Late(4, lambda maps: maps))"),
    "pre-hook": (
        "build_model",
        "net = Net(default(), lambda maps: maps); net.register_forward_pre_hook(Late(4, lambda *_: None)); return net",
    ),
    "targets": ("build_targets", "return Targets(default(), Late(4, lambda maps: maps))"),
    "decoder": ("build_decoder", "return Station(Late(1, lambda found: found), default())"),
    "refiner": ("build_refiner", "return Station(Late(1, lambda found: found))"),
    "module": ("modules", "return {'mine': Head(Late(4, lambda found: found))}"),
    "criterion": ("build_criterion", "return Late(4, default())"),
    "schedule": ("build_optimizer", "return default()[0], Late(4, lambda done: 1.0)"),
    "optimizer": ("build_optimizer", "return Optimizer(model.parameters(), lr=1e-3), lambda done: 1.0"),
    "warp": ("warps", "return [Moved(Late(10, lambda: None))]"),
    "transform": ("augmentations", "return [Pixels(Late(10, lambda film: film))]"),
    "backward": (
        "loss_terms",
        "self.late = getattr(self, 'late', Late(2, lambda: None)); return {'mine': Backward.apply(pred, self.late)}",
    ),
    "exit in backward": (
        "loss_terms",
        "Mine.exit = getattr(Mine, 'exit', Late(2, list, sys.exit)); return {'mine': Backward.apply(pred, Mine.exit)}",
    ),
    "module to evaluate": ("eval_model", "return Net(model, Late(1, lambda maps: maps))"),
}


def source(hook: str, body: str, *, calls: int = 0, memory: bool = False) -> str:
    """A plugin in a file: its one hook answers well `calls` times, and then as `body` says."""
    taken = ", ".join(["self", *filter(None, [ARGUMENTS[hook]])])
    lines = [
        "    asked = 0\n",
        "    @hookimpl",
        f"    def {hook}({taken}):",
        "        self.asked += 1",
        f"        if self.asked <= {calls}:",
        f"            {GOOD[hook]}",
        f"        {body}",
    ]
    return HEAD + "class Mine(Plugin):\n" + "\n".join(lines) + "\n" + (MEMORY if memory else "")
