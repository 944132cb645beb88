"""The sample hooks (truth, extras, warps, augmentations), asked of a copy of the plugins as an epoch found them.

In a loader's worker and in the training process alike, so that what a plugin learns within an epoch changes no film of
it, however many workers there are, and a run that is resumed within an epoch loads what it would have loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ceph.data.dataset import Look, State
from ceph.data.plan import derive
from ceph.data.types import Flags, Points, Sample
from ceph.hooks.verbs import Hooks

SAMPLE_HOOKS = ("truth", "extras", "warps", "augmentations")


def begun_state(hooks: Hooks) -> dict[str, Any]:
    """The state of the plugins that answer sample hooks, of its own and on the CPU: what an epoch begins with."""
    names = {name for hook in SAMPLE_HOOKS for name in hooks.answerers(hook)}
    return {name: _own(state) for name, state in hooks.state_dict(names).items()}


def _own(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _own(part) for key, part in value.items()}
    return type(value)(_own(part) for part in value) if isinstance(value, list | tuple) else value


def draw_names(hooks: Hooks) -> tuple[str, ...]:
    """The further draws that plugins ask for, each once, sorted."""
    return tuple(sorted({name for _, names in hooks.each("second_draws") for name in names}))


class SampleHooks:
    """Asks a run's plugins about each film: themselves, and once `begin` was called, copies of them."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self._copied = False
        self._names: frozenset[str] | None = None  # of the extras of the first film

    def begin(self, state: State) -> Hooks:
        """Give the copies the state with which an epoch begins, see `begun_state`; returns them."""
        if not self._copied:
            self.hooks, self._copied = self.hooks.copied(SAMPLE_HOOKS), True
        known = {name: copy.deepcopy(part) for name, part in state.items() if name in self.hooks.plugins}
        self.hooks.load_state_dict(known, without=tuple(self.hooks.plugins))
        return self.hooks

    def truth(self, plain: Callable[[Sample, int], tuple[Any, ...]], sample: Sample, seed: int) -> tuple[Any, ...]:
        """What a plugin says is true of a film, or `plain` does: see the hook."""
        found: tuple[Any, ...] = self.hooks.one(
            "truth", lambda: plain(sample, seed), sample=sample, rng=_Seeded(seed, "truth")
        )
        return found

    def extras(self, sample: Sample, truth: tuple[Points, Flags], look: Look, seed: int) -> dict[str, torch.Tensor]:
        """What plugins send with a film, float32 or int64; a name that another film lacks names the plugin."""
        rng = _Seeded(seed, "extras")
        found = self.hooks.merge("extras", sample=sample, truth=truth, look=look, rng=rng)
        self._names = frozenset(found) if self._names is None else self._names
        for plugin, name in self.hooks.shapes:
            if (name in found) != (name in self._names):
                had, lacks = ("others", sample.id) if name in self._names else (sample.id, "others")
                what = f"gave '{name}' for film {had} and not for {lacks}"
                hint = "give each name for each film: NaN or -1 where it is not known"
                raise self.hooks.blames("extras")[plugin].error(what, hint)
        return {name: tensor_of(value) for name, value in found.items()}


class _Seeded:
    """Gives each plugin a generator of its own, seeded by the film's seed, the plugin and the hook."""

    def __init__(self, seed: int, hook: str) -> None:
        self.seed, self.hook = seed, hook

    def __call__(self, plugin: str) -> np.random.Generator:
        return np.random.default_rng(derive(self.seed, plugin, self.hook))


def tensor_of(value: Any) -> torch.Tensor:
    """An array of numbers as a tensor: float32, or int64 where they are whole numbers or flags."""
    array = np.asarray(value)
    return torch.from_numpy(np.array(array, np.float32 if array.dtype.kind == "f" else np.int64))
