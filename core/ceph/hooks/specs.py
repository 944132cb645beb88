"""Every hook: the questions the engine asks plugins, each with its verb, its shapes and the moment it fires.

A hook's answers are combined by one of four verbs, always in the order of the plugins' names:

    one      at most one plugin answers, else the core's own default
    product  weights, multiplied; None means 1
    merge    dicts are joined and lists concatenated; a key given twice is an error
    tell     observers are told and answer nothing

The whole of a run, with every hook in its place (B films of a batch, K landmarks, N training samples, [h, w] the
map's size, [H, W] the network image's; a name before `=` is what the hook answers):

    readers = dataset_formats()                                          merge    find the reader of the folder
    check_run(run)                                                       tell     refuse what cannot work
    model = build_model(run, default)                                    one
    codec = build_codec(run, default)                                    one
    criterion = build_criterion(run, default)                            one
    optimizer, schedule = build_optimizer(model, run, default)           one
    warps, transforms = warps(), augmentations(stage)                    merge    for both stages
    run_start(run)                                                       tell
    (a resumed run loads its checkpoint and every plugin's state here)
    for epoch in range(run.epochs):
        model.train()
        epoch_start(epoch, model)                                        tell
        chances [N] = sample_weights(epoch, samples)                     product
        for index in the epoch's micro-batches:                                   the plan, before the first step
            size = batch_shape(epoch, index, size, seed)                 one
        for entry in the plan:                                                    in the loader's workers
            points, valid = truth(sample, rng)                           one
            draw the warps, resample film and points once, apply the transforms
        for batch in loader:
            pred = model(batch.image)                                             [B, K, h, w]
            target = codec.encode(batch.points, ...)                              [B, K, h, w]
            p = pixel_weights(batch, pred, target)                       product
            loss = criterion(pred, target, p)                                     [B, K]
            w = landmark_weights(batch, loss)                            product
            total = sum(w * valid * loss) / sum(w * valid)
            total += sum of loss_terms(batch, pred, points)              merge
            total.backward()
            after each `accumulate` micro-batches:
                optimizer.step()
                step_end(step, model, loss)                              tell
        model.eval()
        evaluated = eval_model(model)                                    one
        for images in the validation films:
            maps = predict(evaluated, images, activate)                  one
        numbers = metrics(errors_mm, points_px, valid, samples, landmarks)  merge
        epoch_end(epoch, samples, loss, errors_mm, metrics)              tell
    run_end(run, result)                                                 tell

Arguments are passed by name and a plugin may take a subset of them. Models are given unwrapped and uncompiled.
Nothing here imports torch: the command line prints these docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar

import pluggy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from ceph.data.types import Batch, Flags, Points, Sample
    from ceph.data.warps import Warp
    from ceph.hooks.base import Run

Verb = Literal["one", "product", "merge", "tell"]
P = ParamSpec("P")
R = TypeVar("R")

VERBS: dict[str, Verb] = {}  # hook -> verb, in the order of this file
_hookspec = pluggy.HookspecMarker("ceph")


def _declare(hook: Callable[P, R], verb: Verb) -> Callable[P, R]:
    VERBS[hook.__name__] = verb
    return _hookspec(hook)


def one(hook: Callable[P, R]) -> Callable[P, R]:
    """At most one plugin may answer; two are an error before training."""
    return _declare(hook, "one")


def product(hook: Callable[P, R]) -> Callable[P, R]:
    """Answers are weights and are multiplied; None means 1."""
    return _declare(hook, "product")


def merge(hook: Callable[P, R]) -> Callable[P, R]:
    """Answers are dicts, joined, or lists, concatenated; a key given twice is an error."""
    return _declare(hook, "merge")


def tell(hook: Callable[P, R]) -> Callable[P, R]:
    """Plugins are told and answer nothing."""
    return _declare(hook, "tell")


class Specs(Protocol):
    """Every hook, a method each; see the module's docstring for the order in which they fire."""

    # --- setup ---------------------------------------------------------------------------------------------------

    @tell
    def check_run(self, run: Run) -> None:
        """Raise ConfigError if this plugin cannot work in this run, with the dotted key and a hint.

        `run`: landmarks [K symbols], size (H, W) in network px, epochs, samples of the training split, whole config.
        Fires: setup, before anything is built or written, and in a dry run; the only hook that should refuse a config.
        """

    @merge
    def dataset_formats(self) -> Mapping[str, Any]:
        """Give readers of further data-set layouts.

        Answer: {name: reader}, a reader as in `ceph.data.formats.base`: it recognises a folder and reads its films
        with points [R, K, 2] in film px. Fires: setup, before the data are read.
        """

    @one
    def build_model(self, run: Run, default: Callable[[], nn.Module]) -> nn.Module:
        """Build the network.

        Answer: a module from images [B, 1, H, W] (0..1) to maps [B, K, h, w], its backbone at `model.backbone`; h and w
        are H and W over `model.stride` of the config, rounded up.
        `run` is as in `check_run`; `default()` builds the core's own. Fires: setup, once, and when a finished run is
        loaded, without samples.
        """

    @one
    def build_codec(self, run: Run, default: Callable[[], Any]) -> Any:
        """Build the object that renders targets and decodes predictions.

        Answer: `encode(points [B, K, 2] in network px, image_size (H, W), map_size (h, w))` -> [B, K, h, w], and
        `decode(pred [B, K, h, w], image_size)` -> points [B, K, 2] in network px, scores [B, K]. `run` is as
        in `check_run`; `default()` builds the core's own. Fires: setup, once, and when a finished run is loaded,
        without samples, to decode only. What it learned from the samples it may give as `state_dict()`, tensors and
        plain values; that is kept in `best`, and comes back by `load_state_dict(state)` when the run is loaded.
        """

    @one
    def build_criterion(self, run: Run, default: Callable[[], Callable[..., torch.Tensor]]) -> Callable[..., Any]:
        """Build the loss of a landmark's map.

        Answer: `f(pred [B, K, h, w], target [B, K, h, w], pixel_weights or None)` -> [B, K], unreduced, fp32.
        `run` is as in `check_run`; `default()` gives the one that the config names. Fires: setup, once.
        """

    @one
    def build_optimizer(
        self, model: nn.Module, run: Run, default: Callable[[], tuple[torch.optim.Optimizer, Callable[[float], float]]]
    ) -> tuple[torch.optim.Optimizer, Callable[[float], float]]:
        """Build the optimiser and the schedule of its rate.

        Answer: (optimizer, schedule): `schedule(epochs_done)` is a pure function from 0..run.epochs, fractional inside
        an epoch, to the factor that multiplies each group's own rate, so a resumed run needs no state of it.
        `model` maps [B, 1, H, W] to [B, K, h, w]; `run` is as in `check_run`; `default()` gives the core's pair.
        Fires: setup, once, after `build_model`.
        """

    @merge
    def warps(self) -> Sequence[Warp]:
        """Give random changes of geometry, composed with the letterbox into one resampling of film and points.

        Answer: a list of `Warp`s: `matrix(rng, (H, W))` -> [3, 3], network px to network px, or `displacement(rng,
        (H, W))` -> [H, W, 2], output pixel q is sampled at q + d(q), network px. Matrices compose in the order of
        names, fields add. Fires: setup, once; the warps draw anew for each film, in the loader's workers.
        """

    @merge
    def augmentations(self, stage: Literal["photometric", "occlusion"]) -> Sequence[Any]:
        """Give albumentations transforms of pixels; no geometry, which belongs to `warps`.

        Answer: a list of transforms of grey films, uint8 [H, W], that keep the shape. `stage` is "photometric" (runs
        first) or "occlusion". Fires: setup, once a stage; seeded for each film by its own seed and the plugin's name.
        """

    # --- sample --------------------------------------------------------------------------------------------------

    @one
    def truth(self, sample: Sample, rng: np.random.Generator) -> tuple[Points, Flags]:
        """Make one truth of a film out of what its R readers marked.

        `sample`: points [R, K, 2] in film px, NaN where valid [R, K] is False; `rng` is the film's own generator.
        Answer: (points [K, 2] in film px, valid [K] bool). Fires: at each load of a training film, in the workers.
        """

    # --- epoch ---------------------------------------------------------------------------------------------------

    @tell
    def epoch_start(self, epoch: int, model: nn.Module) -> None:
        """Learn that an epoch begins, or change the model's mode.

        `epoch` counts from 0; `model` maps [B, 1, H, W] to [B, K, h, w] and is in training mode already: freeze
        norms here. Fires: at the start of each epoch, after `model.train()`, and again where a run resumes within one.
        """

    @product
    def sample_weights(self, epoch: int, samples: Sequence[Sample]) -> torch.Tensor | NDArray[Any] | None:
        """Weight the chances of each training film to be drawn in this epoch.

        `samples`: the N training samples. Answer: [N] on the CPU, >= 0 and finite, combined in float64; equal weights
        mean a plain permutation, others N draws with replacement. Fires: at the start of each epoch.
        """

    # --- batch ---------------------------------------------------------------------------------------------------

    @one
    def batch_shape(self, epoch: int, index: int, size: tuple[int, int], seed: int) -> tuple[int, int]:
        """Choose the size of a training batch.

        `index` counts the epoch's global micro-batches from 0; `size` is the base (H, W) in network px; `seed` the
        run's. Answer: (H, W) in network px, a pure function of the arguments and the settings. Fires: for each
        micro-batch when the epoch is planned; evaluation stays at the base size and does not ask.
        """

    # --- step ----------------------------------------------------------------------------------------------------

    @product
    def pixel_weights(self, batch: Batch, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor | None:
        """Weight the pixels of each landmark's map in the criterion.

        `pred` [B, K, h, w]: raw output, fp32, detached; `target` [B, K, h, w]. Answer: broadcasts to [B, K, h, w],
        on the device, detached, >= 0 and finite. Fires: in each micro-batch, between forward and criterion.
        """

    @product
    def landmark_weights(self, batch: Batch, loss: torch.Tensor) -> torch.Tensor | None:
        """Weight the landmarks of each film in the mean of the loss.

        `loss` [B, K]: the raw loss of each landmark, detached, zero where invalid, the same for every plugin. Answer:
        broadcasts to [B, K], on the device, detached, >= 0 and finite; the overall scale has no effect.
        Fires: in each micro-batch, after the criterion.
        """

    @merge
    def loss_terms(self, batch: Batch, pred: torch.Tensor, points: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Add terms to the loss.

        `pred` [B, K, h, w]: raw output, fp32; `points` [B, K, 2]: its differentiable local soft-argmax, fp32, network
        px. Answer: {name: scalar tensor}, each times its own factor. Fires: in each micro-batch, last before backward.
        """

    @tell
    def step_end(self, step: int, model: nn.Module, loss: torch.Tensor) -> None:
        """Learn that the optimiser has stepped.

        `step` counts optimiser steps; `model` has its new weights; `loss` [] is the step's, detached, on the device:
        reading it (`.item()`) would stall the device, so do not synchronise here. Fires: after each optimiser step.
        """

    # --- evaluation ----------------------------------------------------------------------------------------------

    @one
    def eval_model(self, model: nn.Module) -> nn.Module:
        """Give the module to evaluate and to keep as `best`: an average of the weights, say.

        `model` and the answer map [B, 1, H, W] to [B, K, h, w]. Fires: before each evaluation.
        """

    @one
    def predict(
        self, model: nn.Module, images: torch.Tensor, activate: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Predict a batch in evaluation, with test-time augmentation, say.

        `model` is the one to evaluate; `images` [B, 1, H, W], 0..1; `activate()` is the softmax or sigmoid of raw maps
        [B, K, h, w], as the loss asks for. Answer: activations [B, K, h, w], fp32, finite, on the device. Fires: for
        each batch of an evaluation, and at each of its sizes, without gradients.
        """

    @merge
    def metrics(
        self,
        errors_mm: NDArray[np.float64],
        points_px: Points,
        valid: Flags,
        samples: Sequence[Sample],
        landmarks: Sequence[str],
    ) -> Mapping[str, float]:
        """Give further numbers of a split, written under `plugins` in its metrics.

        Arrays of the split's N films: `errors_mm` [N, K], NaN where invalid; `points_px` [N, K, 2], predictions in film
        px; `valid` [N, K]; `samples` [N]; `landmarks` [K symbols]. Answer: {name: finite number}; leave out what is
        not known. Fires: at the end of each evaluation, that of a finished run too, where no `run_start` was told.
        """

    # --- end of an epoch, start and end of the run ---------------------------------------------------------------

    @tell
    def epoch_end(
        self,
        epoch: int,
        samples: Sequence[Sample],
        loss: torch.Tensor,
        errors_mm: torch.Tensor,
        metrics: Mapping[str, Any],
    ) -> None:
        """Learn how each training film did in this epoch: a plugin's memory is filled here.

        `samples`: the N training samples; `loss` and `errors_mm` [N, K] on the CPU, means over a film's draws in this
        epoch, NaN where not drawn or invalid; `metrics`: the validation's. Fires: after each epoch's evaluation.
        """

    @tell
    def run_start(self, run: Run) -> None:
        """Learn that training begins: keep what later hooks need of the run.

        `run`: landmarks [K symbols], size (H, W) in network px, device. Fires: once a process, when all is built, and
        in a resumed run before `load_state_dict`.
        """

    @tell
    def run_end(self, run: Run, result: Any) -> None:
        """Learn that the run has ended well.

        `run` is as in `run_start`; `result` is what `ceph.train` returns, errors in mm. Fires: once, at the end.
        """
