"""`ceph export`: the best checkpoint of a run as a folder that numpy, onnxruntime and pillow can run."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ceph import runfolder
from ceph.data import dicom, grey, names, spacing
from ceph.errors import ConfigError
from ceph.evaluation import difficulty, offsets, spread
from ceph.evaluation.radius import LEVEL
from ceph.evaluation.stations import MeanLook
from ceph.evaluation.twin import Twin
from ceph.exporting.card import card, manifest
from ceph.exporting.graph import FilmGraph, write_graph
from ceph.run.trained import STATIONS, Trained, load

NEEDS = ("onnx", "onnxscript")
INSTALL = "pip install 'ceph-trainer[export]'"
GRAPH, RUNNER, VALUES = "model.onnx", "predict.py", "stations.npz"
# What the runner has of ours: modules from these words on; of others constants, and functions and classes.
MODULES = {grey: "Counts = ", names: "# Control characters", spacing: "# Scanners of"}
PARTS = {
    dicom: (
        ("DECODERS", "SQUARE", "SAME", "DETECTOR", "CORRECTED", "BETWEEN", "ONE_TONE"),
        (
            *("spacing_in", "_magnification", "_square"),
            *("windowed", "_shows", "_unpadded", "_grey", "_stretched", "_window", "_first"),
        ),
    ),
    offsets: ((), ("turns", "turned", "_complex", "_middle_of")),
    difficulty: (("NOISE_MM", "FREE_MM", "COUNTS", "LEAST_MM"), ("Shape", "_flat", "difficulty_px", "difficulty")),
    spread: (("FLOOR",), ()),
}
MANIFEST, CARD = "manifest.json", "MODEL_CARD.md"


@dataclass(frozen=True)
class Exported:
    """The folder written, its manifest, and what of the run it does not hold."""

    folder: Path
    manifest: Mapping[str, Any]
    left_out: tuple[str, ...]


def export(run: Path | str, *, out: Path | str, settings: Sequence[str] = (), licence: str | None = None) -> Exported:
    """Write the best checkpoint of `run` into a new folder `out`: graphs, a runner, what is known of the model.

    Predicts as `ceph predict` does in fp32 on the CPU. `settings` are `KEY=VALUE` texts as for `--set`, `licence` is
    under what the model may be used; None: what environment.json of the run has as `licence`. Raises ConfigError where
    `out` holds something, where a package is missing, and naming the plugin whose part cannot be exported.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise ConfigError(f"exporting needs {' and '.join(missing)}", hint=INSTALL)
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already", key="--out", hint="name a new folder")
    trained = load(run, settings=(*settings, "train.precision=fp32", "train.device=cpu"))
    twins = twins_of(trained)
    with runfolder.writing(target):
        target.mkdir(parents=True, exist_ok=True)
    radii = radii_of(trained)
    _write_graph(trained, target, maps=bool(twins or radii))
    parts = {part: twin for several in twins.values() for part, twin in several.items()}
    for part, twin in parts.items():
        if twin.network is not None:
            outputs = [f"found_{number}" for number in range(_outputs(twin))]
            inputs = [f"given_{number}" for number in range(len(twin.inputs))]
            with trained.hooks.blamed():
                write_graph(twin.network, twin.inputs, (inputs, outputs), target / f"{part}.onnx")
    with runfolder.writing(target):
        values = {**{part: twin.arrays() for part, twin in parts.items()}, "radius": radii}
        kept: dict[str, Any] = {f"{name}.{key}": a for name, arrays in values.items() for key, a in arrays.items()}
        if twins or radii:
            np.savez(target / VALUES, **kept)
        runfolder.write_text(target / RUNNER, runner(twins))
        content = manifest(trained, licence, LEVEL if radii else None, _hashes(target))
        runfolder.write_json(target / MANIFEST, content)
        runfolder.write_text(target / CARD, card(trained, content))
    return Exported(target, content, left_out(trained))


def twins_of(trained: Trained) -> dict[str, dict[str, Twin]]:
    """The twins of each station after the decoder, in order: one, or of each run's second look one, by their names.

    Raises ConfigError naming the plugin that has none.
    """
    stations, network = trained.evaluator.stations, trained.ensemble.model
    size, stride = trained.config.data.size, trained.config.model.stride
    map_size = -(-size[0] // stride), -(-size[1] // stride)
    given = {"decode": stations.decoder.decode, "image_size": size, "map_size": map_size}
    twins: dict[str, dict[str, Twin]] = {}
    for name in (*STATIONS[1:], "adapt"):
        station, owner = getattr(stations, name), stations.built_by.get(name)
        if station is None:
            continue
        parts: Sequence[tuple[Any, nn.Module]] = (
            station.looks if isinstance(station, MeanLook) else [(station, network)]
        )
        if any(not hasattr(part, "twin") for part, _ in parts):
            plugin = owner.plugin if owner is not None else name
            raise ConfigError(
                f"plugin '{plugin}' cannot be exported: its {name} works in torch only",
                key=f"plugins.{plugin}",
                hint="give it a method `twin` (docs/export.md), predict with `ceph predict`, or train without it",
            )
        found = [part.twin(**given, model=model) for part, model in parts]
        if moving := [twin for twin in found if twin is not None]:  # who moves nothing has no part in a mean
            twins[name] = {f"{name}_{n}" if n else name: twin for n, twin in enumerate(moving)}
    return twins


def radii_of(trained: Trained) -> dict[str, NDArray[Any]]:
    """What makes the radii of `LEVEL`: factors of landmarks, the mean shape, its covariance; {} where none is known."""
    known = trained.known
    if known.radii is None or known.shape is None:
        return {}
    factor = known.radii.radii_mm(np.ones((1, len(trained.landmarks))), LEVEL)[0]
    return {"factor": factor, "mean": known.shape.mean, "covariance": known.shape.covariance}


def _write_graph(trained: Trained, target: Path, *, maps: bool) -> None:
    ensemble, stations = trained.ensemble, trained.evaluator.stations
    graph = FilmGraph(ensemble, stations.decoder, maps=maps)
    images = [torch.zeros(size, dtype=torch.uint8) for size in ensemble.sizes]
    names = [f"image_{height}x{width}" for height, width in ensemble.sizes]
    found = ["points_px", "scores", *(["maps"] if maps else [])]
    answered = [h for h in ("build_model", "modules", "views", "members", "build_decoder") if trained.hooks.answers(h)]
    try:
        film = torch.tensor(trained.config.data.size)
        write_graph(graph, (*images, film), ([*names, "film_size"], found), target / GRAPH)
    except Exception as error:
        if not answered:
            raise
        whose = ", ".join(sorted({f"'{p}'" for h in answered for p in trained.hooks.blames(h)}))
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"the network cannot be exported as a graph ({reason}); plugins have part in it: {whose}",
            hint="write what they compute in operations that torch.onnx.export knows, or predict with `ceph predict`",
        ) from error


def _outputs(twin: Twin) -> int:
    assert twin.network is not None  # noqa: S101 - asked before
    with torch.no_grad():
        found = twin.network(*twin.inputs)
    return len(found) if isinstance(found, tuple) else 1


def left_out(trained: Trained) -> tuple[str, ...]:
    """The modules of plugins whose own outputs an exported model does not give."""
    return tuple(sorted(name for name in trained.hooks.blames("metrics") if name in trained.hooks.blames("modules")))


def runner(twins: Mapping[str, Mapping[str, Twin]]) -> str:
    """The text of the runner: the module of that name, with what it imports of ours and the stations in it."""
    text = (Path(__file__).parent / "runner.py").read_text("utf-8")
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("from ceph.")]
    modules = [start + inspect.getsource(module).partition(start)[2] for module, start in MODULES.items()]
    parts = [
        part
        for module, (constants, codes) in PARTS.items()
        for part in (
            "\n".join(f"{name} = {getattr(module, name)!r}" for name in constants),
            *(inspect.getsource(getattr(module, name)) for name in codes),
        )
    ]
    stations, bodies = [], dict[str, str]()
    for name, several in twins.items():
        for part, twin in several.items():
            source = twin.source(part)
            same = bodies.setdefault(source.partition("\n")[2], part)
            parts.append(source if same == part else f"{part} = {same}\n")
        stations.append(f"{name!r}: {{{', '.join(f'{part!r}: {part}' for part in several)}}}")
    whole = "\n\n".join([*modules, *parts, f"STATIONS: dict[str, dict[str, Any]] = {{{', '.join(stations)}}}\n"])
    return "".join(lines).replace("STATIONS: dict[str, dict[str, Any]] = {}\n", f"\n{whole}")


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
