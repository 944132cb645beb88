"""What is known of an exported model: its manifest, for programs, and its card, for people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import ceph
from ceph import runfolder
from ceph.data.formats.symbols import SYMBOLS
from ceph.exporting.graph import OPSET
from ceph.run.trained import Trained

FORMAT = 1
PACKAGES = ("torch", "onnx", "onnxscript", "timm", "numpy")


def manifest(
    trained: Trained, licence: str | None, radius_level: float | None, sha256: Mapping[str, str]
) -> dict[str, Any]:
    """What manifest.json holds; `sha256` are those of the folder's other files. The `licence` is the run's if None."""
    stations, sizes = trained.evaluator.stations, trained.ensemble.sizes
    known = runfolder.read_fingerprint(trained.folder)
    spacing = stations.mm_per_px
    return {
        "format": FORMAT,
        "run": trained.folder.resolve().name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "ceph": ceph.__version__,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "opset": OPSET,
        "licence": licence or runfolder.read_environment(trained.folder).get("licence", "not stated"),
        "landmarks": [
            {"symbol": s, "definition": SYMBOLS[s].definition if s in SYMBOLS else None} for s in trained.landmarks
        ],
        "sizes": [list(size) for size in sizes],
        "kind": trained.config.target_kind,
        "stations": [name for name in ("constraint", "refiner", "offsets", "adapt") if getattr(stations, name)],
        "assumed_mm_per_network_px": None if math.isnan(spacing) else spacing,
        "radius_level": radius_level,
        "trained_on": {
            "films": {name: len(films) for name, films in runfolder.mapping(known, "films").items()},
            "fingerprint_sha256": hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest(),
        },
        "accuracy": accuracy(trained),
        "adapted": runfolder.read_adapted(trained.folder)["expected"] if runfolder.is_adapted(trained.folder) else None,
        "sha256": dict(sha256),
    }


def accuracy(trained: Trained) -> dict[str, Any]:
    """The run's own figures by split: MRE in mm with its 95 % interval, SDR, and each landmark's MRE."""
    found = {}
    for split, figures in runfolder.read_figures(trained.folder).items():
        whole = runfolder.mapping(figures)
        if "mre_mm" in whole:
            each = runfolder.mapping(whole, "per_landmark")
            found[split] = {
                **{key: whole.get(key) for key in ("n_images", "truth", "mre_mm", "sdr_percent", "interval_95")},
                "per_landmark": {s: runfolder.mapping(each, s).get("mre_mm") for s in trained.landmarks if s in each},
            }
    return found


def card(trained: Trained, content: Mapping[str, Any]) -> str:
    """MODEL_CARD.md of a manifest's content."""
    films = ", ".join(f"{count} {name}" for name, count in content["trained_on"]["films"].items()) or "unknown"
    spacing = content["assumed_mm_per_network_px"]
    plugins = ", ".join(trained.config.plugins) or "none"
    size = " x ".join(map(str, trained.config.data.size))
    lines = [
        f"# {content['run']}: landmarks of lateral cephalograms",
        "",
        (
            f"{len(trained.landmarks)} landmarks, found by {trained.config.model.backbone} on films letterboxed into "
            f"{size} px (height x width), trained with ceph {content['ceph']}. Licence: {content['licence']}."
        ),
        "",
        (
            "**Not a medical device.** A person who can mark films looks at the points. Nothing is known of films "
            "unlike those that it was trained on: of other machines, ages and habits of marking, mirrored or cropped."
        ),
        "",
        "## Use",
        "",
        "```sh",
        "pip install numpy onnxruntime pillow        # and pydicom, pylibjpeg, pylibjpeg-libjpeg for DICOM films",
        "python predict.py FILM_OR_FOLDER... --out points.csv --mm-per-px 0.1",
        "```",
        "",
        (
            "`model.onnx` takes a film at each of its sizes (grey, 0..255, letterboxed as by `predict.py`) and its own "
            "height and width; it gives points in film pixels and scores. What follows the decoder "
            f"({', '.join(content['stations']) or 'nothing'}) is in `predict.py`. `manifest.json` has sha256 sums."
        ),
        "",
        "## Training",
        "",
        f"Films: {films}. Fingerprint: `{content['trained_on']['fingerprint_sha256'][:16]}`. Plugins: {plugins}.",
        f"Median spacing: {spacing:.4g} mm of a pixel of that image." if spacing else "Spacing: unknown.",
        "",
        "## Accuracy",
        "",
        *_accuracy_lines(content["accuracy"], content["adapted"]),
        "",
        "## Landmarks",
        "",
        "| symbol | what it is |",
        "|---|---|",
        *(f"| {one['symbol']} | {one['definition'] or 'as its data set means it'} |" for one in content["landmarks"]),
        "",
    ]
    return "\n".join(lines)


def _accuracy_lines(accuracy: Mapping[str, Any], adapted: Mapping[str, float] | None) -> list[str]:
    if adapted:
        low, high, gain = (adapted[f"{key}_mm"] for key in ("low", "high", "gain"))
        return [
            (
                f"Adapted: {adapted['after_mm']:.2f} mm expected at the new place, {adapted['before_mm']:.2f} without; "
                f"gain {gain:.2f} mm ({low:.2f} to {high:.2f}, 95 %)."
            )
        ]
    if not accuracy:
        return ["Not evaluated: `ceph evaluate RUN`, then export again."]
    lines = ["| split | films | truth | MRE mm | 95 % | within 2 mm |", "|---|---|---|---|---|---|"]
    for split, found in accuracy.items():
        low, high = runfolder.mapping(found, "interval_95").get("mre_mm") or (math.nan, math.nan)
        within = runfolder.number(found, "sdr_percent", "2.0")
        lines.append(
            f"| {split} | {found['n_images']} | {found['truth']} | {found['mre_mm']:.2f} | {low:.2f} to {high:.2f} "
            f"| {within:.1f} % |"
        )
    each = next(iter(accuracy.values()))["per_landmark"]
    worst = sorted(((mre, symbol) for symbol, mre in each.items() if mre is not None), reverse=True)[:5]
    return [*lines, "", "Worst: " + ", ".join(f"{symbol} {mre:.2f} mm" for mre, symbol in worst) + "."]
