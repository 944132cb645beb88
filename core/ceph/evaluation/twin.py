"""What stands for a station of decoding where there is no torch: a function of numpy alone."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True, eq=False)
class Twin:
    """What a station's `twin(decode, model, size, map_size)` gives for an exported model, None where it does nothing.

    `function(points, scores, film, graph, **values)` moves points [1, K, 2] in network px and scores [1, K], float64.
    `film` has `maps` [1, K, h, w], `size` (H, W) of the network's image, `mm_per_px` of its pixels, and
    `look(centre [..., 2] in network px, mm, px)`, which gives windows [..., px, px], uint8. `graph(*arrays)` runs the
    `network`, which is exported with inputs of the shapes of `inputs`, and gives the list of what it returns.

    The text of `function` goes into the runner, with that of the functions of `uses` before it and with `constants`,
    so all that they name must be among these, or numpy as `np`. `values` are arrays and numbers, kept in a file.
    """

    function: Callable[..., tuple[NDArray[Any], NDArray[Any]]]
    values: Mapping[str, NDArray[Any] | float] = field(default_factory=dict)
    uses: Sequence[Callable[..., Any] | type] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    network: nn.Module | None = None
    inputs: tuple[torch.Tensor, ...] = ()

    def source(self, name: str) -> str:
        """A function `name()` that gives `function`: what it needs has names of its own, as in another file."""
        parts = [f"{key} = {value!r}" for key, value in self.constants.items()]
        parts += [textwrap.dedent(inspect.getsource(part)) for part in (*self.uses, self.function)]
        parts.append(f"return {self.function.__name__}")
        return f"def {name}() -> Any:\n" + textwrap.indent("\n".join(parts), "    ") + "\n"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The values as arrays."""
        return {key: np.asarray(value) for key, value in self.values.items()}
