"""Every hook, a good answer to it, and the wrong ones: the bodies of methods, and what their message must say.

A plugin is written as a file, as a stranger would: `source(hook, body)`. The names that bodies use are in `HEAD`.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = '''\
import sys

import albumentations as A
import numpy as np
import torch

from ceph.data.formats.aariz import Aariz
from ceph.plugin import ConfigError, Plugin, Warp, hookimpl


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


class Codec:
    def __init__(self, inner, encode=lambda maps: maps, decode=lambda found: found):
        self.inner, self.change_encoded, self.change_decoded = inner, encode, decode

    def encode(self, points, image_size, map_size):
        return self.change_encoded(self.inner.encode(points, image_size, map_size))

    def decode(self, pred, image_size):
        return self.change_decoded(self.inner.decode(pred, image_size))


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
    "build_codec": "run, default",
    "build_criterion": "run, default",
    "build_optimizer": "model, run, default",
    "warps": "",
    "augmentations": "stage",
    "truth": "sample, rng",
    "epoch_start": "epoch, model",
    "sample_weights": "epoch, samples",
    "batch_shape": "epoch, index, size, seed",
    "pixel_weights": "batch, pred, target",
    "landmark_weights": "batch, loss",
    "loss_terms": "batch, pred, points",
    "step_end": "step, model, loss",
    "eval_model": "model",
    "predict": "model, images, activate",
    "metrics": "errors_mm, points_px, valid, samples, landmarks",
    "epoch_end": "epoch, samples, loss, errors_mm, metrics",
    "run_start": "run",
    "run_end": "run, result",
}
GOOD = {
    "dataset_formats": "return {'mine': Reader()}",
    "build_model": "return Net(default(), lambda maps: maps)",
    **dict.fromkeys(("build_codec", "build_criterion", "build_optimizer"), "return default()"),
    "warps": "return [Moved(lambda: np.eye(3), lambda size: np.zeros((*size, 2)))]",
    "augmentations": "return [A.NoOp()]",
    "truth": "return sample.points[0], sample.valid[0]",
    "sample_weights": "return torch.ones(len(samples))",
    "batch_shape": "return size",
    "pixel_weights": "return torch.ones_like(pred)",
    "landmark_weights": "return torch.ones_like(loss)",
    "loss_terms": "return {'mine': 0.0 * pred.mean()}",
    "eval_model": "return model",
    "predict": "return activate(model(images))",
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
        "its module gave Tensor",
    ),
    Fault("build_model", "wrong type in use", "return Net(default(), list)", "its module gave list"),
    Fault("build_model", "wrong shape", "return Net(default(), lambda maps: maps[:, :2])", "its module gave Tensor"),
    Fault("build_model", "wrong dtype", "return Net(default(), lambda maps: maps.long())", "of torch.int64"),
    Fault(
        "build_model", "wrong height", "return Net(default(), lambda maps: maps[:, :, 1:])", "its module gave Tensor"
    ),
    Fault("build_model", "wrong width", "return Net(default(), lambda maps: maps[..., ::2])", "its module gave Tensor"),
    Fault("build_model", "wrong device", "return Net(default(), lambda maps: maps.to('meta'))", "gave maps on meta"),
    Fault("build_codec", "wrong type", "return object()", "lacks encode and decode"),
    Fault("build_codec", "raise in use", "return Codec(default(), encode=lambda maps: fail())", "KeyError: 'oops'"),
    Fault("build_codec", "wrong shape", "return Codec(default(), encode=lambda maps: maps[:, :1])", "its encode gave"),
    Fault("build_codec", "wrong dtype", "return Codec(default(), encode=lambda maps: maps.long())", "torch.int64"),
    Fault("build_codec", "wrong device", "return Codec(default(), encode=lambda maps: maps.to('meta'))", "on meta"),
    Fault("build_codec", "NaN", "return Codec(default(), decode=lambda f: (f[0] * float('nan'), f[1]))", "not finite"),
    Fault("build_codec", "inf", "return Codec(default(), decode=lambda f: (f[0], f[1] + float('inf')))", "not finite"),
    Fault("build_codec", "wrong type in use", "return Codec(default(), decode=lambda found: 1)", "(points, scores)"),
    Fault(
        "build_codec",
        "wrong points",
        "return Codec(default(), decode=lambda f: (f[0][:, :1], f[1]))",
        "its decode gave",
    ),
    Fault("build_criterion", "wrong type", "return 3", "a function is promised"),
    Fault("build_criterion", "raise in use", "return lambda pred, target, weights: fail()", "KeyError: 'oops'"),
    Fault("build_criterion", "wrong shape", "return lambda p, t, w: default()(p, t, w).mean()", "its function gave"),
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
    Fault("warps", "wrong shape", "return [Moved(lambda: np.eye(2))]", "its matrix gave ndarray [2, 2]"),
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
    *_weights("pixel_weights", "pred", "pred[:1, :1, :1, :1].expand(2, 1, 1, 1, 1)"),
    *_weights("landmark_weights", "loss", "loss[:, :-1] * 0 + 1"),
    Fault("loss_terms", "wrong type", "return pred.mean()", "a dict with names as keys"),
    Fault("loss_terms", "wrong keys", "return {1: pred.mean()}", "a dict with names as keys"),
    Fault(
        "loss_terms", "wrong type of value", "return {'mine': 1.0}", "scalar floating tensor is promised under 'mine'"
    ),
    Fault("loss_terms", "wrong shape", "return {'mine': pred}", "scalar floating tensor is promised under 'mine'"),
    Fault("loss_terms", "wrong dtype", "return {'mine': pred.argmax()}", "scalar floating tensor"),
    Fault("loss_terms", "NaN", "return {'mine': pred.mean() * float('nan')}", "gave NaN in the term 'mine'"),
    Fault("loss_terms", "inf", "return {'mine': pred.mean() * 0 + float('inf')}", "infinite number in the term 'mine'"),
    # --- evaluation
    Fault("eval_model", "wrong type", "return model.state_dict()", "torch.nn.Module"),
    Fault("eval_model", "raise in use", "return Net(model, lambda maps: fail())", "KeyError: 'oops'"),
    Fault("eval_model", "wrong shape", "return Net(model, lambda maps: maps.mean())", "its module gave Tensor []"),
    Fault(
        "eval_model",
        "wrong landmarks",
        "return Net(model, lambda maps: maps[:, :-1])",
        "its module gave Tensor [",
    ),
    Fault("eval_model", "wrong height", "return Net(model, lambda maps: maps[:, :, 1:])", "its module gave Tensor ["),
    Fault("eval_model", "NaN", "return Net(model, lambda maps: maps * float('nan'))", "gave maps that are not finite"),
    Fault("eval_model", "inf", "return Net(model, lambda maps: maps + float('inf'))", "gave maps that are not finite"),
    Fault("predict", "wrong landmarks", "return activate(model(images))[:, :-1]", "gave Tensor ["),
    Fault("predict", "wrong height", "return activate(model(images))[:, :, 1:]", "gave Tensor ["),
    Fault("predict", "wrong width", "return activate(model(images))[..., 1:]", "gave Tensor ["),
    Fault("predict", "another stride", "return activate(model(images))[..., ::2, ::2]", "gave Tensor ["),
    Fault("predict", "wrong device", "return activate(model(images)).to('meta')", "gave maps on meta"),
    Fault("predict", "wrong type", "return None", "maps ["),
    Fault("predict", "wrong shape", "return model(images).sum((-2, -1))", "maps ["),
    Fault("predict", "wrong dtype", "return model(images) > 0", "maps ["),
    Fault("predict", "NaN", "return model(images) * float('nan')", "maps that are not finite"),
    Fault("predict", "inf", "return model(images) + float('inf')", "maps that are not finite"),
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
    "epoch_start": 1,
    "sample_weights": 1,
    "batch_shape": 3,
    "pixel_weights": 2,
    "landmark_weights": 2,
    "loss_terms": 2,
    "step_end": 2,
    "eval_model": 2,
    "predict": 1,
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
    "encode": ("build_codec", "return Codec(default(), encode=Late(4, lambda maps: maps))"),
    "decode": ("build_codec", "return Codec(default(), decode=Late(1, lambda found: found))"),
    "criterion": ("build_criterion", "return Late(4, default())"),
    "schedule": ("build_optimizer", "return default()[0], Late(4, lambda done: 1.0)"),
    "optimizer": ("build_optimizer", "return Optimizer(model.parameters(), lr=1e-3), lambda done: 1.0"),
    "warp": ("warps", "return [Moved(Late(20, lambda: None))]"),
    "transform": ("augmentations", "return [Pixels(Late(20, lambda film: film))]"),
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
