"""Plugins that break one rule each, and the check that must find it: (check, class, arguments of `suite`)."""

from __future__ import annotations

import random

import albumentations as A
import cv2
import numpy as np
import torch
from pydantic import ConfigDict, Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, Warp, hookimpl


class Ones(Plugin):
    """Breaks nothing."""

    @hookimpl
    def landmark_weights(self, loss):
        return torch.ones_like(loss)


# --- settings and hooks ----------------------------------------------------------------------------------------------


class LooseConfig(PluginConfig):
    model_config = ConfigDict(extra="ignore")


class LooseSettings(Ones, Plugin[LooseConfig]):
    pass


class NeedyConfig(PluginConfig):
    table: str = Field(description="a file, which must be given")


class NoDefault(Plugin[NeedyConfig]):
    @hookimpl
    def landmark_weights(self, loss):
        return torch.ones_like(loss)


class NoArgument(Ones):
    def __init__(self, config):
        super().__init__(config)


class FailsToStart(Ones):
    def __init__(self, config=None):
        raise OSError("no such file")


class BareConfig(PluginConfig):
    strength: float = 1.0


class NoDescription(Ones, Plugin[BareConfig]):
    pass


class Unmarked(Plugin):
    def landmark_weights(self, loss):
        return torch.ones_like(loss)


class NoHook(Plugin):
    pass


class NoSuchHook(Ones):
    @hookimpl
    def landmark_wieghts(self, loss):
        return None


class NoSuchArgument(Plugin):
    @hookimpl
    def landmark_weights(self, losses):
        return torch.ones_like(losses)


class HalfAMemory(Ones):
    def state_dict(self):
        return {}


# --- answers ---------------------------------------------------------------------------------------------------------


def answering(hook, answer):
    """A plugin class whose one hook is the function `answer(self, ...)`."""
    answer.__name__ = hook
    name = f"Wrong_{hook}_{sum(known.startswith(f'Wrong_{hook}_') for known in globals())}"
    globals()[name] = type(name, (Plugin,), {hook: hookimpl(answer), "__module__": __name__})  # where pickle finds it
    return globals()[name]


class Faint(torch.nn.Module):
    """A module that sees the features and gives no numbers."""

    def forward(self, features):
        return features[-1].mean((1, 2, 3)) / 0 * 0


class Headless(torch.nn.Module):
    def forward(self, images):
        return images


class Writes:
    """A part of each kind, which writes into what it is given."""

    def __init__(self, inner=None):
        self.inner = inner

    def encode(self, batch, map_size):
        batch.points.add_(1)
        return self.inner.encode(batch, map_size)

    def constrain(self, points, scores, maps, decode, image_size, look):
        maps.mul_(2)
        return points, scores

    def __call__(self, pred, target, weights):
        found = self.inner(pred, target, weights)
        target.mul_(2)
        return found


def steep(pred):
    return (pred - pred.detach()).abs().sqrt()  # the slope of a square root at 0


# Wrong answers that a run would not tell; those that it would are in tests/faults/table.py.
WRONG_ANSWERS = {
    "build_model": [lambda self: Headless()],
    "modules": [lambda self: {"faint": Faint()}],
    "build_targets": [lambda self, default: Writes(default())],
    "build_constraint": [lambda self: Writes()],
    "build_criterion": [
        lambda self, default: Writes(default()),
        lambda self, default: lambda pred, target, weights: default()(pred, target, weights) / 0,
    ],
    "build_optimizer": [lambda self, default: (default()[0], lambda done: np.random.rand())],
    "landmark_weights": [lambda self, loss: loss / loss.sum(dim=1, keepdim=True)],  # 0 / 0 for a film without points
    "landmark_losses": [lambda self, pred: {"steep": steep(pred).mean((2, 3))}],
    "loss_terms": [
        lambda self, pred: {"steep": steep(pred).sum()},
        lambda self, pred, batch: {"steep": (steep(pred).sum(), batch.valid.sum())},
    ],
}


# --- what must not change --------------------------------------------------------------------------------------------


class WritesLoss(Plugin):
    @hookimpl
    def landmark_weights(self, loss):
        loss.mul_(2)
        return torch.ones_like(loss)


class WritesBatch(Plugin):
    @hookimpl
    def landmark_mask(self, batch):
        batch.valid[:, 0] = False


class WritesDraws(Plugin):
    @hookimpl
    def second_draws(self):
        return ["again"]

    @hookimpl
    def landmark_losses(self, batch, pred):
        batch.draws["again"].image.zero_()
        return {"nothing": 0 * pred.mean((2, 3))}


class WritesMaps(Plugin):
    @hookimpl
    def pixel_weights(self, pred):
        pred.relu_()


class WritesTruth(Plugin):
    @hookimpl
    def extras(self, truth):
        truth[0][0] = 0
        return {}


class WritesTable(Plugin):
    @hookimpl
    def epoch_end(self, errors_mm):
        errors_mm[errors_mm.isnan()] = 0


class WritesSamples(Plugin):
    @hookimpl
    def sample_weights(self, samples):
        samples[0].points[0, 0] += 1
        return torch.ones(len(samples))


class WritesModel(Plugin):
    @hookimpl
    def eval_model(self, model):
        for part in model.parameters():
            part.data.mul_(0.5)
        return model


class Numbered(Plugin):
    """Each instance answers otherwise."""

    made = 0

    def __init__(self, config=None):
        super().__init__(config)
        Numbered.made += 1
        self.number = Numbered.made

    @hookimpl
    def landmark_weights(self, loss):
        return torch.full_like(loss, self.number)

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]


class GlobalDraws(Plugin):
    @hookimpl
    def landmark_weights(self, loss):
        return torch.from_numpy(np.random.rand(loss.shape[1])).float()


class TorchDraws(Plugin):
    @hookimpl
    def landmark_weights(self, loss):
        return torch.rand_like(loss)


class DrawsExtras(Plugin):
    @hookimpl
    def extras(self):
        return {"number": np.random.rand()}


class Seeds(Ones):
    @hookimpl
    def run_start(self):
        torch.manual_seed(42)


class Shuffles(Plugin):
    @hookimpl
    def sample_weights(self, samples):
        weights = [1.0 + index for index in range(len(samples))]
        random.shuffle(weights)
        return torch.tensor(weights)


class Counting(Plugin):
    """The size of a batch depends on how often it was asked in this epoch."""

    @hookimpl
    def epoch_start(self):
        self.asked = 0

    @hookimpl
    def batch_shape(self, size):
        self.asked = getattr(self, "asked", 0) + 1
        return (size[0] + 32 * (self.asked % 2), size[1])


class Huge(Plugin):
    @hookimpl
    def batch_shape(self, size):
        return (64 * size[0], size[1])


class Forgets(Plugin):
    """Remembers errors, and saves nothing."""

    @hookimpl
    def epoch_end(self, errors_mm):
        self.errors_mm = errors_mm.nanmean(dim=1).nan_to_num(1.0)

    @hookimpl
    def sample_weights(self, samples):
        return getattr(self, "errors_mm", None)


class SavesArrays(Forgets):
    def state_dict(self):
        return {"errors_mm": self.errors_mm.numpy()}

    def load_state_dict(self, state):
        self.errors_mm = torch.from_numpy(state["errors_mm"])


class LosesState(Forgets):
    def state_dict(self):
        return {"errors_mm": self.errors_mm if hasattr(self, "errors_mm") else None}

    def load_state_dict(self, state):
        pass


class Remembers(Forgets):
    """As `Forgets`, mended."""

    def state_dict(self):
        return {"errors_mm": getattr(self, "errors_mm", None)}

    def load_state_dict(self, state):
        if state["errors_mm"] is not None:
            self.errors_mm = state["errors_mm"]


# --- the device ------------------------------------------------------------------------------------------------------


class ReadsLoss(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = loss.item()


class FormatsLoss(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = f"{loss:.3f}"


class CopiesLoss(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = loss.detach().cpu()


class SendsLoss(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = loss.detach().to("cpu")


class SendsLossToADevice(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = loss.detach().to(torch.device("cpu"))


class CopiesLossHome(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = torch.zeros(()).copy_(loss)


class PrintsLoss(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = str(loss)


class LogsLoss(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = "%s" % (loss,)  # noqa: UP031 - as logging does


class MakesAnArray(Plugin):
    @hookimpl
    def step_end(self, loss):
        self.last = np.asarray(loss.detach())


class ReadsWeights(Plugin):
    @hookimpl
    def step_end(self, model):
        self.norms = [float(part.detach().norm()) for part in model.parameters()]


class Branches(Plugin):
    @hookimpl
    def landmark_weights(self, loss):
        return torch.ones_like(loss) if loss.mean() > 1 else None


class PicksByValue(Plugin):
    @hookimpl
    def landmark_mask(self, batch):
        return batch.valid if batch.valid.any() else None


class ReadsMaps(Plugin):
    @hookimpl
    def landmark_losses(self, pred):
        return {"peak": pred.amax((2, 3)) * float(pred.detach().mean())}


class ReadsExtras(Plugin):
    @hookimpl
    def extras(self, sample):
        return {"spacing": sample.mm_per_px}

    @hookimpl
    def loss_terms(self, batch, pred):
        return {"spaced": pred.mean() * batch.extras["spacing"].tolist()[0]}


class Masks(Plugin):
    @hookimpl
    def loss_terms(self, batch, points):
        return {"spread": points[batch.valid].var()}


class Ages(torch.nn.Module):
    """Tells something of each film by the coarsest features."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, features):
        return self.scale * features[-1].mean((1, 2, 3))


class SeesAll(Plugin):
    """A head, labels, a second draw, a mask, and two losses of them; it breaks nothing."""

    @hookimpl
    def modules(self):
        return {"ages": Ages()}

    @hookimpl
    def build_refiner(self):
        return self

    def refine(self, points, scores, look, model):
        return points + 0 * look(points, 10.0, 4).mean((-2, -1))[..., None] * model.ages.scale, scores

    @hookimpl
    def second_draws(self):
        return ["again"]

    @hookimpl
    def extras(self, sample, truth, look, rng):
        crop = look(truth[0][:2], 20.0, 8)
        return {"crops": crop, "age": rng.uniform(8, 18), "known": truth[1]}

    @hookimpl
    def landmark_mask(self, batch):
        return batch.extras["known"] > 0

    @hookimpl
    def landmark_losses(self, batch, points):
        off = points - batch.draws["again"].points
        return {"again": 1e-3 * (off.pow(2).sum(-1) + 1e-6).sqrt()}

    @hookimpl
    def loss_terms(self, batch, outputs):
        off = (outputs["ages"] - batch.extras["age"] + 0 * batch.extras["crops"].mean()).abs()
        return {"age": (1e-3 * off.sum(), off.new_tensor(off.numel()))}

    @hookimpl
    def metrics(self, outputs):
        return {"ages": float(outputs["ages"].mean())} if "ages" in outputs else {}


class KeepsOnDevice(Plugin):
    """Sums on the device, and reads its own tensor on the CPU: neither waits."""

    def __init__(self, config=None):
        super().__init__(config)
        self.total, self.own = torch.zeros(()), torch.ones(3)

    @hookimpl
    def step_end(self, model, loss):
        self.total = self.total + loss.detach()
        if self.own.sum() > 2:
            self.norm = torch.stack([part.detach().norm() for part in model.parameters()]).sum()


# --- films -----------------------------------------------------------------------------------------------------------


class Singular(Warp):
    def matrix(self, rng, size):
        return np.zeros((3, 3))


class Changed(A.ImageOnlyTransform):
    """A transform that does what `change` of its subclass does."""

    def __init__(self):
        super().__init__(p=1.0)

    def apply(self, img, **params):
        return self.change(img)


class Crop(Changed):
    def change(self, img):
        return img[8:-8]


class ToFloat(Changed):
    def change(self, img):
        return img.astype(np.float32) / 255


class Fails(Changed):
    def change(self, img):
        raise ValueError("three channels wanted")


class Roll(Changed):
    """Shifts the film by one pixel."""

    def change(self, img):
        return np.roll(img, 1, axis=1)


class RollsAndInverts(Changed):
    def change(self, img):
        return 255 - np.roll(img, 5, axis=1)


class RollsAndBlurs(Changed):
    def change(self, img):
        return cv2.GaussianBlur(np.roll(img, 5, axis=0), (0, 0), 5)


class RollsAndRoughens(Changed):
    def change(self, img):
        noise = 30 * self.random_generator.standard_normal(img.shape)
        return np.clip(np.roll(img, 5, axis=1) + noise, 0, 255).astype(np.uint8)


class MovesTheTop(Changed):
    def change(self, img):
        moved = img.copy()
        moved[: len(img) // 5] = np.roll(img[: len(img) // 5], 8, axis=1)
        return moved


class GlobalNoise(Changed):
    def change(self, img):
        return np.clip(img + np.random.normal(0, 3, img.shape), 0, 255).astype(np.uint8)


class Folds(Warp):
    """A field so steep that the film folds."""

    def displacement(self, rng, size):
        down, right = np.mgrid[: size[0], : size[1]].astype(np.float32)
        wave = 12 * np.sin(right / 4 + rng.uniform(0, 6))
        return np.stack([wave, 0 * down], -1).astype(np.float32)


class GlobalShift(Warp):
    def matrix(self, rng, size):
        return np.array([[1, 0, np.random.uniform(-3, 3)], [0, 1, 0], [0, 0, 1.0]])


class Closure(Warp):
    def __init__(self):
        self.draw = lambda rng: rng.uniform(-3, 3)

    def matrix(self, rng, size):
        return np.array([[1, 0, self.draw(rng)], [0, 1, 0], [0, 0, 1.0]])


class TakesALambda(Plugin):
    """What answers for films in the workers holds what cannot get there."""

    def __init__(self, config=None):
        super().__init__(config)
        self.number = lambda: 1.0

    @hookimpl
    def extras(self):
        return {"number": self.number()}


class Tilt(Warp):
    """Perspective, turn and shift, all at once; breaks nothing."""

    def matrix(self, rng, size):
        a, b, c = rng.uniform(-1, 1, 3)
        return np.array([[1.05, 0.1 * a, 4 * b], [-0.1 * a, 0.97, 3 * c], [1e-4 * b, -1e-4 * a, 1.0]])


def warping(warp):
    return type(f"Warping{warp.__name__}", (Plugin,), {"warps": hookimpl(named("warps", lambda self: [warp()]))})


def changing(make, stage="photometric"):
    function = named("augmentations", lambda self, stage: [make()] if stage == "photometric" else [])
    return type("Changing", (Plugin,), {"augmentations": hookimpl(function)})


def named(name, function):
    function.__name__ = name
    return function


def flips():
    return A.HorizontalFlip(p=0.5)


def turns():
    return A.Affine(rotate=(-2, 2), p=1)


def shrinks():
    return A.Affine(scale=(0.995, 0.995), p=1)


def noises():
    return A.GaussNoise(std_range=(0.02, 0.05), p=1)


def inverts():
    return A.InvertImg(p=1)


def equalises():
    return A.CLAHE(p=1)


def blurs():
    return A.GaussianBlur(sigma_limit=(2, 4), p=1)


def covers():
    return A.CoarseDropout(num_holes_range=(3, 6), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=1)


# --- training --------------------------------------------------------------------------------------------------------


class Unpractised(Plugin):
    """Knows only batches of four films."""

    @hookimpl
    def landmark_weights(self, loss):
        return torch.ones(4, 1)


class Unsociable(Ones):
    """Refuses a run with multi-scale, and declares no conflict."""

    @hookimpl
    def check_run(self, run):
        if "multi-scale" in run.config.plugins:
            raise ConfigError("cannot work with multi-scale", hint="one of them")


class CountsSteps(Plugin):
    """Later steps of an epoch weigh landmarks otherwise, by a count that is not saved."""

    @hookimpl
    def epoch_start(self):
        self.steps = 0

    @hookimpl
    def landmark_weights(self, loss):
        self.steps += 1
        return torch.linspace(1, self.steps, loss.shape[1])


class NotNeutral(Plugin):
    @hookimpl
    def landmark_weights(self, loss):
        return torch.linspace(1, 2, loss.shape[1])


SETTINGS = [
    ("settings-refuse-unknown-keys", LooseSettings),
    ("settings-construct", NoDefault),
    ("settings-construct", NoArgument),
    ("settings-construct", FailsToStart),
    ("hooks-are-real", Unmarked),
    ("hooks-are-real", NoHook),
    ("hooks-are-real", NoSuchHook),
    ("hooks-are-real", NoSuchArgument),
    ("hooks-are-real", HalfAMemory),
]
ANSWERS = [(f"answers-{hook}", answering(hook, fn)) for hook, wrong in WRONG_ANSWERS.items() for fn in wrong]
BEHAVIOUR = [
    ("inputs-are-left-alone", WritesLoss),
    ("inputs-are-left-alone", WritesBatch),
    ("inputs-are-left-alone", WritesDraws),
    ("inputs-are-left-alone", WritesMaps),
    ("inputs-are-left-alone", WritesTruth),
    ("inputs-are-left-alone", WritesTable),
    ("inputs-are-left-alone", WritesSamples),
    ("inputs-are-left-alone", WritesModel),
    ("answers-repeat", Numbered),
    ("draws-are-its-own", GlobalDraws),
    ("draws-are-its-own", TorchDraws),
    ("draws-are-its-own", DrawsExtras),
    ("draws-are-its-own", Seeds),
    ("draws-are-its-own", Shuffles),
    ("batch-shape-is-pure", Counting),
    ("batch-shape-is-pure", Huge),
    ("memory-is-saved", Forgets),
    ("memory-is-saved", SavesArrays),
    ("memory-is-saved", LosesState),
    ("steps-do-not-wait", ReadsLoss),
    ("steps-do-not-wait", FormatsLoss),
    ("steps-do-not-wait", CopiesLoss),
    ("steps-do-not-wait", SendsLoss),
    ("steps-do-not-wait", SendsLossToADevice),
    ("steps-do-not-wait", CopiesLossHome),
    ("steps-do-not-wait", PrintsLoss),
    ("steps-do-not-wait", LogsLoss),
    ("steps-do-not-wait", MakesAnArray),
    ("steps-do-not-wait", ReadsWeights),
    ("steps-do-not-wait", Branches),
    ("steps-do-not-wait", Masks),
    ("steps-do-not-wait", PicksByValue),
    ("steps-do-not-wait", ReadsMaps),
    ("steps-do-not-wait", ReadsExtras),
]
FILMS = [
    ("transforms-keep-films", changing(Crop)),
    ("transforms-keep-films", changing(ToFloat)),
    ("transforms-keep-films", changing(Fails)),
    ("changes-pickle", warping(Closure)),
    ("changes-pickle", TakesALambda),
    ("changes-are-seeded", warping(GlobalShift)),
    ("changes-are-seeded", changing(GlobalNoise)),
    ("points-follow", warping(Folds)),
    ("points-follow", changing(Roll)),
    *(
        ("points-follow", changing(change))
        for change in (RollsAndInverts, RollsAndBlurs, RollsAndRoughens, MovesTheTop)
    ),
    ("points-follow", changing(flips)),
    ("points-follow", changing(turns)),
    ("points-follow", changing(shrinks)),
]
TRAINING = [
    ("trains-alone", Unpractised),
    ("trains-beside-multi-scale", Unsociable),
    ("resumes-exactly", CountsSteps),
    ("neutral-changes-nothing", NotNeutral),
]
SOUND = [
    Ones,
    Remembers,
    KeepsOnDevice,
    SeesAll,
    warping(Tilt),
    *map(changing, (noises, covers, inverts, equalises, blurs)),
]
