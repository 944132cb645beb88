"""Whether a landmark is on a film at all: what a network says of it, and how well that tells absent ones from present.

A part of the network called `presence`, which a plugin gives (`modules`) and which takes `features`, gives logits
[B, K]: their sigmoid is the presence of each landmark. Where there is none the points' own scores stand in for it.

Legend: N films, K landmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ceph.data.types import Flags

Floats = NDArray[np.float64]

PRESENCE = "presence"  # the part of a network, and the figures of a split
LIKELY = 0.5  # from here on a landmark is said to be there


def presence_of(outputs: Mapping[str, torch.Tensor], shape: tuple[int, ...]) -> Floats:
    """The presence [N, K], 0..1, by the `outputs` of a network's parts; NaN where none of these gives it.

    Logits of another shape than [N, K] are not taken for it.
    """
    found = outputs.get(PRESENCE)
    if found is None or tuple(found.shape) != shape:
        return np.full(shape, np.nan)
    return np.asarray(found.double().sigmoid().numpy())


def presence_figures(
    presence: Floats, scores: Floats, valid: Flags, absent: Flags, landmarks: Sequence[str]
) -> dict[str, Any]:
    """`{"presence": ...}` of a split in which landmarks are `absent` [N, K]; {} where none is.

    `auc` is how often, of two films of which one has a landmark (`valid` [N, K]) and the other lacks it, the one that
    has it is given more `presence`, or, without (NaN), the higher score: the area under the ROC curve. Pairs are of one
    landmark each, since scores of different ones do not compare; `n_absent`, `n_present` are the landmarks in any pair.
    Of a presence, `found_percent` of the absent ones and `kept_percent` of the present ones are said to be so.
    """
    of_network = not np.isnan(presence).all()
    said = presence if of_network else scores
    paired: Flags = np.logical_and(valid.any(axis=0), absent.any(axis=0))
    valid, absent = valid & paired, absent & paired
    if not absent.any():
        return {}
    won, pairs = np.zeros(len(landmarks)), np.zeros(len(landmarks))
    for k in np.flatnonzero(paired):
        more = said[valid[:, k], k][:, None] - said[absent[:, k], k]
        won[k], pairs[k] = (more > 0).sum() + 0.5 * (more == 0).sum(), more.size
    found: dict[str, Any] = {
        "by": PRESENCE if of_network else "score",
        "auc": float(won.sum() / pairs.sum()),
        "n_absent": int(absent.sum()),
        "n_present": int(valid.sum()),
        "per_landmark": {s: float(won[k] / pairs[k]) for k, s in enumerate(landmarks) if paired[k]},
    }
    if of_network:
        found["found_percent"] = float((said[absent] < LIKELY).mean() * 100)
        found["kept_percent"] = float((said[valid] >= LIKELY).mean() * 100)
    return {PRESENCE: found}
