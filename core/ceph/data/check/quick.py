"""The quick part of the check, before a run and an evaluation: what can be told without decoding a film."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ceph.data.check.findings import listed
from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.data.types import Sample, absent_in
from ceph.data.unmarked import SPLIT as UNMARKED

ENDS = {(".jpg", ".jpeg"): b"\xff\xd9", (".png",): b"IEND"}
TAIL_BYTES = 4096  # some scanners write a little behind the image


def quick_check(samples: Sequence[Sample], digests: Sequence[str], landmarks: Sequence[str]) -> list[str]:
    """What is wrong with the films that a run uses, a line each; `digests` are the hashes of their files, in order.

    Films that are one file or of one group in two splits, files that are cut off, films and landmarks without points,
    copied readings. Films that were saved anew, and points in the wrong place, are found by the whole check only.
    """
    same, groups = defaultdict(list), defaultdict(list)
    for sample, digest in zip(samples, digests, strict=True):
        same[digest].append(sample)
        groups[sample.group].append(sample)
    lines = [f"{listed(films)} are one film, byte for byte" for films in same.values() if len(films) > 1]
    lines += [
        f"{listed(films)} are of one group, {group}, in several splits"
        for group, films in groups.items()
        if len({sample.split for sample in films}) > 1
    ]
    lines += [f"{sample.path} seems to be cut off" for sample in samples if _cut_off(sample.path)]
    if n := sum(int(sample.copied.sum()) for sample in samples if sample.copied is not None):
        of = sum(int(sample.valid[1:].sum()) for sample in samples)
        lines.append(
            f"{n} of {of} points of further readers were taken over from another, and are no readings of their own"
        )
    return lines + list(_without_points([s for s in samples if s.split != UNMARKED], landmarks))


def trained_on(samples: Sequence[Sample], digests: Sequence[str], films: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Which of the films to be scored a run has trained on or chosen its best epoch by, a line for each split of these.

    `films` are the hashes of the run's films, by split and id, as in its data_fingerprint.json.
    """
    lines = []
    for split in ("train", "validation", OUT_OF_FOLD, UNMARKED, "adapt"):
        used = {mark.partition(":")[0]: film for film, mark in films.get(split, {}).items()}
        again = [s for s, digest in zip(samples, digests, strict=True) if digest in used and s.split != split]
        if again:
            lines.append(f"{listed(again)}: byte for byte in {split} of this run, so that the score says too much")
    return lines


def _without_points(samples: Sequence[Sample], landmarks: Sequence[str]) -> Iterator[str]:
    marked = np.stack([sample.valid.any(axis=0) for sample in samples])
    if bare := [sample for sample in samples if not sample.valid.any()]:
        yield f"{listed(bare)}: no landmark is marked"
    known = marked | absent_in(samples, len(landmarks)) | ~marked.any(axis=1, keepdims=True)
    for k in np.flatnonzero(~known.all(axis=0)).tolist():
        yield f"{landmarks[k]} is marked in {marked[:, k].sum()} of {len(samples)} films"


def _cut_off(path: Path) -> bool:
    """Whether the end of the image does not stand where such files have it."""
    mark = next((end for suffixes, end in ENDS.items() if path.suffix.lower() in suffixes), None)
    if mark is None:
        return False
    with path.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(stream.tell() - TAIL_BYTES, 0))
        return mark not in stream.read()
