"""Parts that a plugin builds and the engine uses later: where one fails or breaks its promise, the plugin is named."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ceph.data.formats.base import DataSet, broken_promise
from ceph.errors import CephError, Interrupted, PluginError
from ceph.hooks.answers import MapShape, given, wrong_state
from ceph.hooks.misuse import label

# What is wrong with what a part gave for these arguments, or "" if nothing is.
PartCheck = Callable[..., str]


class Blame(NamedTuple):
    """Whose fault it is."""

    plugin: str
    version: str
    hook: str

    def error(self, what: str, hint: str = "") -> PluginError:
        """The error that names plugin, version and hook, and says what to do."""
        remedy = hint or f"mend the plugin, or run without it: --without {self.plugin}"
        return PluginError(f"{label(*self)}: {what}", hint=remedy)

    def raised(self, error: BaseException, function: Callable[..., Any]) -> PluginError:
        """The error for what the plugin's `function` raised, with the line."""
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return self.error(said + _where(error, function))


class Part:
    """A codec, a warp or a reader of a plugin: its promised methods are checked at each call, all else is as it was."""

    def __init__(self, part: Any, blame: Blame) -> None:
        self._part, self._blame = part, blame

    def __getattr__(self, name: str) -> Any:
        if name in ("_part", "_blame"):  # while it is unpickled
            raise AttributeError(name)
        found = getattr(self._part, name)
        check = METHODS[self._blame.hook].get(name)
        return found if check is None else checked(found, check, self._blame)

    def __repr__(self) -> str:
        return repr(self._part)


def checked(function: Callable[..., Any], check: PartCheck, blame: Blame) -> Callable[..., Any]:
    """The function, with its failures and wrong answers told as the plugin's."""

    def asked(*arguments: Any, **named: Any) -> Any:
        try:
            answer = function(*arguments, **named)
            wrong = check(answer, *arguments)
        except (Exception, SystemExit) as error:
            if isinstance(error, CephError if blame.hook == "dataset_formats" else Interrupted | PluginError):
                raise  # a reader itself tells a person what is wrong with films
            raise blame.raised(error, function) from error
        if wrong:
            raise blame.error(wrong)
        return answer

    return asked


def checked_module(module: nn.Module, maps: MapShape, blame: Blame) -> nn.Module:
    """The same module, its forward pass checked against `maps`; copies of it are checked too."""
    own = vars(module).get("forward", type(module).forward)  # a plugin may have set one on the module itself
    if hasattr(own, "blame"):  # checked already
        return module
    bound = isinstance(own, MethodType) and own.__self__ is module
    forward = own.__func__ if bound else own  # so that a copy of the module runs itself

    def named(self: nn.Module, *arguments: Any, **others: Any) -> Any:
        right = partial(_network, maps, evaluates=not self.training)
        function = partial(forward, self) if bound or own is type(self).forward else own
        return checked(function, right, blame)(*arguments, **others)

    named.blame = blame  # type: ignore[attr-defined]
    module.forward = MethodType(named, module)
    return module


def guarded(answer: Any, arguments: Mapping[str, Any], core: Sequence[Any], blame: Blame, maps: MapShape) -> Any:
    """An answer to a `one` hook, checked at each later use, unless it is what the hook's `default()` gave: `core`.

    `arguments` are those of the hook, `maps` is what is known of a network's. A network is checked always, since
    plugins change the core's own.
    """
    if isinstance(answer, nn.Module):
        return answer if answer is arguments.get("model") else checked_module(answer, maps, blame)
    if blame.hook == "build_optimizer":
        own = any(answer[1] is schedule for _, schedule in core)
        return answer if own else (answer[0], checked(answer[1], _factor, blame))
    if any(answer is found for found in core):
        return answer
    if blame.hook == "build_codec":
        return Part(answer, blame)
    return checked(answer, _losses, blame) if blame.hook == "build_criterion" else answer


def file_of(plugin: type[Any]) -> str:
    """The file that defines a class; empty where none does, as in a notebook."""
    return getattr(sys.modules.get(plugin.__module__), "__file__", None) or ""


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The lines that an error went through, the deepest last, without the one that caught it."""
    return list(traceback.extract_tb(error.__traceback__)[1:])


def _where(error: BaseException, function: Callable[..., Any]) -> str:
    """` (ohkm.py, line 14)`: the deepest line of the plugin's own file, or of any, where the error was raised."""
    frames = frames_of(error)
    function = getattr(function, "func", function)
    file = file_of(function) if isinstance(function, type) else None
    file = file or getattr(getattr(function, "__code__", None), "co_filename", None)
    own = [frame for frame in frames if frame.filename == file] or frames
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _tensor(answer: Any, shape: tuple[int, ...], what: str, beside: torch.Tensor | None = None) -> str:
    """A floating tensor of this shape, on the device of `beside` where that is given."""
    if not isinstance(answer, torch.Tensor) or not answer.is_floating_point() or tuple(answer.shape) != shape:
        kind = f"{given(answer)} of {answer.dtype}" if isinstance(answer, torch.Tensor) else given(answer)
        return f"its {what} gave {kind} where a floating tensor {list(shape)} is promised"
    if beside is not None and answer.device != beside.device:
        return f"its {what} gave a tensor on {answer.device}; it was given one on {beside.device}"
    return ""


def _network(maps: MapShape, answer: Any, images: torch.Tensor, *, evaluates: bool) -> str:
    wrong = maps.wrong(answer, images)
    if not wrong and evaluates and not bool(torch.isfinite(answer).all()):  # in training that would wait for the device
        wrong = "gave maps that are not finite"
    return wrong and f"its module {wrong}"


def _encoded(answer: Any, points: torch.Tensor, _image_size: Any, map_size: tuple[int, int]) -> str:
    return _tensor(answer, (*points.shape[:2], *map_size), "encode", points)


def _decoded(answer: Any, pred: torch.Tensor, _image_size: Any) -> str:
    if not (isinstance(answer, tuple) and len(answer) == 2):
        return f"its decode gave {given(answer)} where (points, scores) is promised"
    points, scores = answer
    wrong = _tensor(points, (*pred.shape[:2], 2), "decode") or _tensor(scores, tuple(pred.shape[:2]), "decode")
    finite = wrong or all(bool(torch.isfinite(part).all()) for part in answer) or not bool(torch.isfinite(pred).all())
    return wrong or ("" if finite else "its decode gave points or scores that are not finite")


def _state(answer: Any, *_: Any) -> str:
    return wrong_state(answer, "its state_dict()")


def _nothing(*_: Any) -> str:
    return ""


def _losses(answer: Any, pred: torch.Tensor, *_: Any) -> str:
    wrong = _tensor(answer, tuple(pred.shape[:2]), "function", pred)
    return wrong or ("" if answer.dtype == torch.float32 else f"its function gave {answer.dtype}, not float32")


def _factor(answer: Any, *_: Any) -> str:
    number = isinstance(answer, (int, float, np.number)) and math.isfinite(answer) and answer >= 0
    return "" if number else f"its schedule gave {given(answer)} where a finite number >= 0 is promised"


def _matrix(answer: Any, *_: Any) -> str:
    if answer is None:
        return ""
    matrix = np.asarray(answer)
    good = matrix.shape == (3, 3) and matrix.dtype.kind in "fiu" and np.isfinite(matrix).all()
    if good and np.linalg.det(matrix) != 0:
        return ""
    return f"its matrix gave {given(answer)} where a finite, invertible [3, 3] is promised"


def _field(answer: Any, _rng: Any, size: tuple[int, int]) -> str:
    if answer is None:
        return ""
    field = np.asarray(answer)
    good = field.shape == (*size, 2) and field.dtype.kind in "fiu" and np.isfinite(field).all()
    return "" if good else f"its displacement gave {given(answer)} where a finite [{size[0]}, {size[1]}, 2] is promised"


def _known(answer: Any, *_: Any) -> str:
    return "" if isinstance(answer, bool) else f"its matches gave {given(answer)} where True or False is promised"


def _films(answer: Any, *_: Any) -> str:
    if not isinstance(answer, DataSet):
        return f"its read gave {given(answer)} where a DataSet is promised"
    wrong = broken_promise(answer)
    return wrong and f"its read gave {wrong}"


METHODS: dict[str, dict[str, PartCheck]] = {
    "build_codec": {"encode": _encoded, "decode": _decoded, "state_dict": _state, "load_state_dict": _nothing},
    "warps": {"matrix": _matrix, "displacement": _field},
    "dataset_formats": {"matches": _known, "read": _films},
}
