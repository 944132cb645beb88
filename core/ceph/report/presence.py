"""How well absent landmarks were told from present ones, as a person reads it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ceph.report.text import digits
from ceph.runfolder import mapping, number


def presence_sentences(figures: Mapping[str, Any]) -> Iterable[str]:
    """What a split's `presence` says; nothing where its set says of no landmark that it is absent."""
    found = mapping(figures, "presence")
    auc = number(found, "auc")
    if math.isnan(auc):
        return
    absent, by = number(found, "n_absent"), found.get("by")
    yield (
        f"{absent:.0f} landmarks that other films have are absent by the set's word; of two films, one that has such a "
        f"landmark and one that lacks it, the first has the higher {by} in {digits(100 * auc, 1)} % of the pairs"
    )
    kept = number(found, "kept_percent")
    if math.isfinite(kept):
        yield (
            f"{digits(number(found, 'found_percent'), 1)} % of the absent landmarks are said to be absent, and "
            f"{digits(kept, 1)} % of the present ones present"
        )
