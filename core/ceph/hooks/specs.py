"""Every hook: the questions the engine asks plugins, each with its verb, its shapes and the moment it fires.

A hook's answers are combined by one of six verbs, always in the order of the plugins' names:

    one      at most one plugin answers, else the core's own default
    all      masks, joined by a logical and; None means everything
    product  weights, multiplied; None means 1
    mean     lists of what is averaged with equal weight
    merge    dicts are joined and lists concatenated; a key given twice is an error
    tell     observers are told and answer nothing

The whole of a run, with every hook in its place (B films of a batch, K landmarks, N training samples, [h, w] the
map's size, [H, W] the network image's; a name before `=` is what the hook answers):

    readers = dataset_formats()                                          merge    find the reader of the folder
    check_run(run)                                                       tell     refuse what cannot work
    model = build_model(run, default)                                    one
    parts = modules(run)                                                 merge    trained beside the model
    targets = build_targets(run, default)                                one
    decoder = build_decoder(run, default)                                one      the stations of decoding, in order
    constraint = build_constraint(run)                                   one
    refiner = build_refiner(run)                                         one
    offsets = build_offsets(run)                                         one
    criterion = build_criterion(run, default)                            one
    optimizer, schedule = build_optimizer(model, run, default)           one
    warps, transforms = warps(), augmentations(stage)                    merge    for both stages
    names = second_draws()                                               merge    further draws of each film
    run_start(run, model)                                                tell
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
            arrays = extras(sample, truth, look, rng)                    merge
        for batch in loader:
            valid = batch.valid and landmark_mask(batch)                 all
            pred = model(batch.image)                                             [B, K, h, w]
            target = targets.encode(batch, (h, w))                                [B, K, h, w]
            p = pixel_weights(batch, pred, target)                       product
            loss = criterion(pred, target, p)                                     [B, K]
            w = landmark_weights(batch, loss)                            product
            loss += landmark_losses(batch, pred, points, model, outputs)  merge
            total = sum(w * valid * loss) / sum(w * valid)
            total += sum of loss_terms(batch, pred, points, model, outputs)  merge
            total.backward()
            after each `accumulate` micro-batches:
                optimizer.step()
                step_end(step, model, loss)                              tell
        evaluated = eval_model(epoch, model)                             one      what `best` holds
        for images in the validation films:
            for module in evaluated and members(model):                  mean
                for view in plain and views():                           mean
                    maps = the mean of activations, each laid on the first's grid
            points = decoder, constraint, refiner, offsets of the maps
        metrics(split, errors_mm, points_px, valid, samples, landmarks, outputs)  merge
        epoch_end(epoch, model, samples, loss, errors_mm, moves_mm, metrics)  tell
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
    from ceph.evaluation.means import Member, View
    from ceph.evaluation.metrics import Figure
    from ceph.hooks.base import Run

Verb = Literal["one", "all", "product", "mean", "merge", "tell"]
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


def every(hook: Callable[P, R]) -> Callable[P, R]:
    """Answers are masks, joined by a logical and; None means everything."""
    return _declare(hook, "all")


def product(hook: Callable[P, R]) -> Callable[P, R]:
    """Answers are weights and are multiplied; None means 1."""
    return _declare(hook, "product")


def mean(hook: Callable[P, R]) -> Callable[P, R]:
    """Answers are lists of what is averaged, by the core and with equal weight."""
    return _declare(hook, "mean")


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

    @merge
    def modules(self, run: Run) -> Mapping[str, nn.Module]:
        """Give networks that are trained beside the model: a head, a teacher's projection, a second look.

        Answer: {name: module}. Each becomes a child of the model under its name: it is on the device, in the optimiser
        and in checkpoints, and an average of the model's weights holds it too. One whose `forward` has an argument
        `features` is called by the core with the pyramid, a tuple of [B, width, h, w] from fine to coarse, `width` that
        of `run.config.model`, their number the backbone's matter; what it gives is in `outputs` under its name. One
        of these that is called `presence` gives logits [B, K]: whether each landmark is on the film at all. All others
        are called by their plugins. `run` is as in `build_model`.
        Fires: setup, once, after `build_model`, and when a finished run is loaded.
        """

    @one
    def build_targets(self, run: Run, default: Callable[[], Any]) -> Any:
        """Build the object that renders the targets of training.

        Answer: `encode(batch, (h, w))` -> [B, K, h, w], fp32, of the batch's points in network px. `run` is as in
        `check_run`; `default()` builds the core's own, with `kind`, `sigma_px` (map px), `stride`. Fires: setup, once.
        """

    @one
    def build_decoder(self, run: Run, default: Callable[[], Any]) -> Any:
        """Build the first station of decoding, which finds points on maps.

        Answer: `decode(maps [B, K, h, w] activations, image_size (H, W))` -> points [B, K, 2] in network px, scores
        [B, K]. `default()` builds the core's own. `run` is as in `check_run`. Fires: setup, once, and when a finished
        run is loaded, without samples. What a station learned it may give as `state_dict()`, tensors and plain values;
        that is kept in `last` and `best`, and `load_state_dict(state)` follows building. A new run that starts from
        another's weights (`--init-from`) finds the state that the station had there in `run.origin`.
        """

    @one
    def build_constraint(self, run: Run) -> Any:
        """Build the station that moves what is out of place to where it can be.

        Answer: `constrain(points [B, K, 2], scores [B, K], maps [B, K, h, w], decode, image_size, look)` -> points,
        scores, in network px; `decode(maps, image_size)` is the decoder's, `look(centre [B, ..., 2] in network px, mm,
        px)` -> [B, ..., px, px] shows the film about any points, 0..1. `run` and a state: as in `build_decoder`. With a
        method `twin` (docs/export.md) the station is part of what `ceph export` writes; so of the two after it.
        Fires: setup, once, and when a finished run is loaded, without samples.
        """

    @one
    def build_refiner(self, run: Run) -> Any:
        """Build the station that looks at the film again about the points found.

        Answer: `refine(points [B, K, 2], scores [B, K], look, model)` -> points, scores, in network px; `look` is as in
        `build_constraint`, and `look.mm_per_px` [B] the mm of a network pixel, by which a place in a window is one in
        the image; `model` the one that is evaluated, with the `modules` under their names. `run` and a state: as in
        `build_decoder`. Fires: setup, once, and when a finished run is loaded, without samples.
        """

    @one
    def build_offsets(self, run: Run) -> Any:
        """Build the last station, which says the points as one reader or place would mark them.

        Answer: `shift(points [B, K, 2], scores [B, K], to_film [B, 3, 3])` -> points, scores, in network px; `to_film`
        maps network px to film px. `run` and a state: as in `build_decoder`. Fires: setup, once, and when a finished
        run is loaded, without samples.
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
        names, fields add. Fires: at setup, and at each epoch's start on a copy of the plugin as it is then; the warps
        draw anew for each film, in the loader's workers.
        """

    @merge
    def augmentations(self, stage: Literal["photometric", "occlusion"]) -> Sequence[Any]:
        """Give albumentations transforms of pixels; no geometry, which belongs to `warps`.

        Answer: a list of transforms of grey films, uint8 [H, W], that keep the shape. `stage` is "photometric" (runs
        first) or "occlusion". Fires: as `warps`, once a stage; seeded for each film by its own seed and the plugin's
        name.
        """

    @merge
    def second_draws(self) -> Sequence[str]:
        """Ask for further draws of each training film, changed at random like the first but by seeds of their own.

        Answer: a list of names; `batch.draws[name]` has image [B, 1, H, W], points [B, K, 2], valid [B, K] and
        film_to_network [B, 3, 3]. The truth of a film is the same in all its draws. A name that two plugins ask for is
        one draw. Fires: setup, once.
        """

    # --- sample --------------------------------------------------------------------------------------------------

    @one
    def truth(self, sample: Sample, rng: np.random.Generator) -> tuple[Any, ...]:
        """Make one truth of a film out of what its R readers marked.

        `sample`: points [R, K, 2] in film px, NaN where valid [R, K] is False; `rng` is seeded by the entry's seed, the
        plugin and the hook. Answer: (points [K, 2] in film px, valid [K] bool), or those and reader [K] int, -1 where
        it is a mean of readers. Fires: at each load of a training film, in the workers, on a copy of the plugin as it
        was when the epoch began.
        """

    @merge
    def extras(
        self,
        sample: Sample,
        truth: tuple[Points, Flags],
        look: Callable[[Points, float, int], NDArray[np.float32]],
        rng: np.random.Generator,
    ) -> Mapping[str, Any]:
        """Give arrays that travel with a training film: labels, crops, whatever a loss needs.

        `sample` is as in `truth`; `truth` is (points [K, 2] in film px, valid [K]) of this load; `look(centre [..., 2]
        in film px, mm, px)` -> float32 [..., px, px], 0..1, shows squares of the film, `mm` wide, at any resolution;
        `rng` is seeded by the entry's seed, the plugin and the hook. Answer: {name: array}, each of one shape for all
        films (NaN or -1 where unknown), collated into `batch.extras` as float32 or int64. Fires: as `truth`.

        What `look` shows went through the same draw of warps and photometric changes as the image (occlusions are left
        out); its axes are the image's, its middle is the point to 0.02 px (0.04 with OpenCV 4), `mm` are of the film,
        `batch.mm_per_px` likewise. Outside the film is its border's value; a centre that is NaN gives 0. Each window is
        changed by itself, with the image's seed: what depends on the grey value alone (gamma, contrast, a table) is the
        very change of the image. What depends on neighbours (blur, noise, compression) is as strong, in the window's
        own pixels; what depends on the whole image (equalisation) sees the window as the whole, and what lies at a
        place of the image (a ruler, a tape) lies at that place of the window.
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

    @every
    def landmark_mask(self, batch: Batch) -> torch.Tensor | None:
        """Say which landmarks of which films count in training.

        Answer: bool, broadcasts to [B, K], on the device; `batch.valid` [B, K] becomes `valid` and all masks before
        anything else is asked. Evaluation scores every landmark. Fires: in each micro-batch, first.
        """

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
    def landmark_losses(
        self,
        batch: Batch,
        pred: torch.Tensor,
        points: torch.Tensor,
        model: nn.Module,
        outputs: Mapping[str, Any],
    ) -> Mapping[str, torch.Tensor]:
        """Add a loss of each landmark to the main one; masks and weights count for it as for that.

        `pred` [B, K, h, w]: raw output, fp32; `points` [B, K, 2]: its differentiable local soft-argmax, fp32, network
        px; `model`: unwrapped, with the `modules` under their names; `outputs`: as in `loss_terms`. Answer: {name:
        [B, K]}, unreduced, fp32. Fires: in each micro-batch, after `landmark_weights`, which sees the main loss alone.
        """

    @merge
    def loss_terms(
        self,
        batch: Batch,
        pred: torch.Tensor,
        points: torch.Tensor,
        model: nn.Module,
        outputs: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Add terms to the loss.

        `pred`, `points`, `model` are as in `landmark_losses`; `outputs`: {name: what a module that takes `features`
        gave}, and `pyramid`, the features themselves, a tuple of [B, width, h, w] from fine to coarse. Answer: {name:
        scalar tensor}, a mean over valid landmarks, or {name: (sum, count)}, two scalars that the core divides over all
        processes; each times its own factor. Fires: in each micro-batch, last before backward.
        """

    @tell
    def step_end(self, step: int, model: nn.Module, loss: torch.Tensor) -> None:
        """Learn that the optimiser has stepped.

        `step` counts optimiser steps; `model` has its new weights; `loss` [] is the step's, detached, on the device:
        reading it (`.item()`) would stall the device, so do not synchronise here. Fires: after each optimiser step.
        """

    # --- evaluation ----------------------------------------------------------------------------------------------

    @one
    def eval_model(self, epoch: int, model: nn.Module) -> nn.Module:
        """Give the module to evaluate and to keep as `best`: an average of the weights, say.

        `model` and the answer map [B, 1, H, W] to [B, K, h, w]. Fires: once an epoch, after its last step and before
        its evaluation.
        """

    @mean
    def views(self) -> Sequence[View]:
        """Give further views of each film in evaluation (test-time augmentation).

        Answer: a list of `View(matrix, photometric)`: a map [3, 3] of network px to network px, or a function of the
        image's (H, W) that gives one, and a function of images [B, 1, H, W] in 0..1. The core lays each view's
        activations back on the plain one, which always counts too. Fires: setup, once.
        """

    @mean
    def members(self, model: nn.Module) -> Sequence[Member]:
        """Give further networks whose activations are averaged with the model's.

        `model` is the one that is evaluated, [B, 1, H, W] to [B, K, h, w]. Answer: a list of `Member(module, size,
        kind)`: each sees films in its own letterbox of size (H, W) (None: the run's), `kind` is `distribution` or
        `heatmap`. A landmark of which a member's maps are NaN is left to the others. Fires: once an evaluation.
        """

    @merge
    def metrics(
        self,
        split: str,
        errors_mm: NDArray[np.float64],
        points_px: Points,
        valid: Flags,
        samples: Sequence[Sample],
        landmarks: Sequence[str],
        outputs: Mapping[str, Any],
    ) -> Mapping[str, float | Figure]:
        """Give further numbers of a split, written under `plugins` in its metrics.

        `split`: its name. Arrays of its N films: `errors_mm` [N, K], NaN where invalid; `points_px` [N, K, 2],
        predictions in film px; `valid` [N, K]; `samples` [N]; `landmarks` [K symbols]; `outputs`: {name: [N, ...]},
        on the CPU, of the `modules` that take `features`, for the plain view at scale 1. Answer: {name: finite number,
        or `Figure(value, higher_is_better)`}; leave out what is not known. Fires: at the end of each evaluation, that
        of a finished run too, where no `run_start` was told.
        """

    # --- end of an epoch, start and end of the run ---------------------------------------------------------------

    @tell
    def epoch_end(
        self,
        epoch: int,
        model: nn.Module,
        samples: Sequence[Sample],
        loss: torch.Tensor,
        errors_mm: torch.Tensor,
        moves_mm: torch.Tensor,
        metrics: Mapping[str, Any],
    ) -> None:
        """Learn how each training film did in this epoch: a plugin's memory is filled here.

        `model` maps [B, 1, H, W] to [B, K, h, w], with its weights at the epoch's end; `samples`: the N training
        samples; `loss` and `errors_mm` [N, K] on the CPU, means over a film's draws in this epoch, NaN where not drawn
        or invalid; `moves_mm` [N, K, 2] likewise: truth less found, in mm, along the axes of the film as it was taken;
        `metrics`: the validation's. Fires: after each epoch's evaluation.
        """

    @tell
    def run_start(self, run: Run, model: nn.Module) -> None:
        """Learn that training begins: keep what later hooks need of the run.

        `run`: landmarks [K symbols], size (H, W) in network px, device; `model` maps [B, 1, H, W] to [B, K, h, w].
        Fires: once a process, when all is built, and in a resumed run before `load_state_dict`.
        """

    @tell
    def run_end(self, run: Run, result: Any) -> None:
        """Learn that the run has ended well.

        `run` is as in `run_start`; `result` is what `ceph.train` returns, errors in mm. Fires: once, at the end.
        """
