"""The rule that no step waits for the device: hooks are asked with fake tensors, whose values nobody can read."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ceph.hooks.misuse import taken_arguments
from ceph.hooks.trace import STEP_HOOKS
from ceph.testing.rehearsal import EPOCHS, Rehearsal
from ceph.testing.subject import LeftOut, Subject


class _Waits(Exception):
    pass


class _ReadingIsRefused(TorchFunctionMode):
    """Refuse what fake tensors let pass and what waits on a device: copies to the CPU, arrays, texts of a tensor."""

    READS = (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__repr__)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch._subclasses.fake_tensor import FakeTensor

        del types
        given = (*args[1:], *(kwargs or {}).values())
        home = func is torch.Tensor.to and any(_is_cpu(part) for part in given)
        if (home or func in self.READS) and isinstance(args[0], FakeTensor):
            raise _Waits(f".{func.__name__}()")
        if func is torch.Tensor.copy_ and not isinstance(args[0], FakeTensor) and isinstance(args[1], FakeTensor):
            raise _Waits(".copy_() to a tensor of the plugin on the CPU")
        return func(*args, **(kwargs or {}))


def _is_cpu(part: Any) -> bool:
    return isinstance(part, (str, torch.device)) and torch.device(part).type == "cpu"


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Within, reading a value of a fake tensor raises _Waits."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise _Waits(str(error.func)) from error
    except TypeError as error:
        if "FakeTensor.__format__" in str(error):
            raise _Waits("a tensor formatted as text") from error
        raise


def _fake(value: Any, mode: Any) -> Any:
    """The value with fake tensors in place of real ones."""
    from torch._subclasses.fake_tensor import FakeCopyMode

    if isinstance(value, torch.Tensor):
        return mode.from_tensor(value.detach()).requires_grad_(value.requires_grad)
    if isinstance(value, nn.Module):
        with FakeCopyMode(mode):
            return copy.deepcopy(value)
    if isinstance(value, Mapping):
        return {name: _fake(part, mode) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_fake(part, mode) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _fake(getattr(value, field.name), mode) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    return value


def steps_do_not_wait(subject: Subject) -> None:
    """What fires at each step reads no value of a tensor: that would stop the device until it has caught up."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    rehearsal = Rehearsal(subject)
    plugin, inconclusive = rehearsal.hooks.plugins[subject.name], ""
    for question in rehearsal.questions(EPOCHS):
        rehearsal.quietly(question)
    for question in rehearsal.of_epoch(EPOCHS):
        if question.hook not in STEP_HOOKS or question.hook not in subject.implemented:
            rehearsal.quietly(question)
            continue
        function = getattr(plugin, question.hook)
        taken = taken_arguments(function)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # making a module fake warns of itself
                mode = FakeTensorMode(allow_non_fake_inputs=True)
                given = {name: _fake(question.arguments[name], mode) for name in taken}
                # The mode is not entered: what a plugin computes of its own tensors alone is not the device's business.
                with _no_waiting(), _ReadingIsRefused():
                    function(**given)
        except _Waits as wait:
            raise subject.failure(
                f"it reads a value of a tensor ({wait}), so the device is waited for at each step",
                "keep sums on the device and read them in epoch_end; choose by torch.where, not by `if` or a mask",
                question.hook,
            ) from wait
        except Exception as error:  # noqa: BLE001 - the plugin may do what fake tensors cannot
            inconclusive = f"cannot be told: {question.hook} raised {type(error).__name__} on fake tensors"
    if inconclusive:
        raise LeftOut(inconclusive)
