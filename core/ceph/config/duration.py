"""How long something lasts in a run: `3` epochs, `0.5` of one, or `20%` of the run; the one spelling for all."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator, RootModel

from ceph.config.words import show

_SHARE = re.compile(r"\d+(\.\d+)?%")


def _length(value: Any) -> Any:
    if isinstance(value, str):
        right = _SHARE.fullmatch(value) is not None and float(value[:-1]) <= 100
    else:
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    if not right:
        raise ValueError(f"must be epochs, as in 3, or a share of the run, as in 20%, not {show(value)}")
    return value


_Written = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=f"^{_SHARE.pattern}$")]


class Duration(RootModel[Annotated[int | float | str, PlainValidator(_length, json_schema_input_type=_Written)]]):
    """Epochs (`3`, `0.5`) or a share of the run (`20%`).

    As the type of a setting it is given as either; `Field(default=Duration(2), gt=0)` refuses one of no length. Raises
    pydantic's ValidationError for what is neither, for less than nothing and for more than the whole run.
    """

    model_config = ConfigDict(frozen=True)

    def epochs(self, run: float) -> float:
        """Its length in epochs, where the run has `run` of them; epochs may be more than these."""
        return float(self.root[:-1]) * run / 100 if isinstance(self.root, str) else self.root

    def __gt__(self, other: float) -> bool:
        """Whether it is longer than `other` epochs in a run of one: what `Field(gt=0)` asks."""
        return self.epochs(1) > other

    def __str__(self) -> str:
        """As it stands in a sentence: `3 epochs`, `20% of the run`."""
        return f"{self.root} of the run" if isinstance(self.root, str) else f"{self.root:g} epochs"
