"""`ceph export`: the folder finds what the run finds, and needs neither torch nor ceph for it."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.test_formats_dicom import write_dicom

import ceph
from ceph.cli.app import main
from ceph.data.dataset import bare_item
from ceph.data.formats.find import read
from ceph.data.geometry import letterbox
from ceph.data.images import read_film
from ceph.data.look import windows
from ceph.errors import ConfigError
from ceph.evaluation.stations import HeadOffsets, shifted
from ceph.evaluation.twin import Twin
from ceph.exporting.graph import FilmGraph
from ceph.training import checkpoint
from ceph.view.maps import activation_maps

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

CONSTRAINT = "build_constraint", "constrain", "maps, decode, image_size, look"
REFINER = "build_refiner", "refine", "look, model"


def standing(hook, method, given, twin="twin = lambda self, **_: Twin(stay)"):
    """The text of a plugin whose station leaves points where they are, and needs no values for it."""
    return f"""
from ceph.plugin import Plugin, PluginConfig, Twin, hookimpl

def stay(points, scores, film, graph):
    return points, scores

class Standing(Plugin[PluginConfig]):
    @hookimpl
    def {hook}(self, run):
        class Station:
            def {method}(self, points, scores, {given}):
                return points, scores

            {twin}

        return Station()
"""


MORE = {"zoom": {"px": 32, "width": 8}}


@pytest.fixture(scope="module", params=[{}, pytest.param(MORE, marks=pytest.mark.slow)], ids=["plain", "more"])
def run(request, once, tiny_set):
    """A run with radii, a shape model of few films that rules out much, and a refiner that needs no values.

    Slow: of two scales, with a second look.
    """

    def make(folder):
        folder.mkdir()
        (folder / "standing.py").write_text(standing(*REFINER))
        refiner = request.param or {"standing": {"from": str(folder / "standing.py")}}
        config = {
            "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
            "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
            "train": {"epochs": 1, "batch_size": 4, "precision": "fp32", "device": "cpu"},
            "evaluate": {"scales": [1.0, 1.25] if request.param else [1.0]},
            "plugins": {"shape-constraint": {"spreads": 1.0, "least_mm": 1.0}, **refiner},
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ceph_plugins.shape_constraint.LEAST_FILMS", 5)
            for part in ("radius", "gate"):
                patch.setattr(f"ceph.evaluation.{part}.LEAST_FILMS", 2)
            run = ceph.train(config, out=folder / "run").folder
        assert main(["export", str(run), "--out", str(folder / "model"), "--licence", "CC0"]) == 0

    return once("more" if request.param else "plain", make) / "run"


@pytest.fixture(scope="module")
def exported(run):
    """Its export, by the command."""
    return run.parent / "model"


def table(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_folder_alone_finds_what_the_run_finds(run, exported, tiny_set, tmp_path):
    films = [str(sample.path) for sample in read(tiny_set).samples[:6]]
    call = [sys.executable, "-I", str(exported / "predict.py"), *films, "--out", str(tmp_path / "own.csv")]
    subprocess.run([*call, "--mm-per-px", "0.5"], check=True)
    given = ["--out", str(tmp_path / "run.csv"), "--mm-per-px", "0.5", "--gate", "off"]
    assert main(["predict", str(run), *films, *given]) == 0
    own, of_run = table(tmp_path / "own.csv"), table(tmp_path / "run.csv")
    assert [list(row) for row in own] == [list(row) for row in of_run]
    assert [(row["film"], row["symbol"]) for row in own] == [(row["film"], row["symbol"]) for row in of_run]
    told = ("x_px", "y_px", "score", "radius_mm")
    both = np.array([[[float(row[key]) for key in told] for row in rows] for rows in (own, of_run)])
    assert np.quantile(np.linalg.norm((both[0] - both[1])[:, :2], axis=-1), 0.98) < 0.05
    assert np.quantile(np.abs(both[0] - both[1])[:, 2:], 0.98, axis=0).max() < 0.01
    assert len(np.unique(both[0][:, 3])) > 20


@pytest.mark.slow
def test_offsets_of_adapt_are_exported_and_widen_no_radius(run, tiny_set, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    content = checkpoint.load(folder / "checkpoints", checkpoint.BEST)
    shape = torch.from_numpy(ceph.load(run).known.shape.mean)
    content["stations"]["adapt"] = HeadOffsets(shape, torch.full_like(shape, 9.0)).state_dict()
    checkpoint.save(folder / "checkpoints", checkpoint.BEST, content)
    films = [str(sample.path) for sample in read(tiny_set).samples[:3]]
    ceph.export(folder, out=tmp_path / "model")
    call = [sys.executable, "-I", str(tmp_path / "model" / "predict.py"), *films, "--mm-per-px", "0.5"]
    subprocess.run([*call, "--out", str(tmp_path / "own.csv")], check=True)
    for name, folder_ in (("run", run), ("moved", folder)):
        given = ["--out", str(tmp_path / f"{name}.csv"), "--mm-per-px", "0.5", "--gate", "off"]
        assert main(["predict", str(folder_), *films, *given]) == 0
    told = ("x_px", "y_px", "radius_mm")
    own, plain, moved = (
        np.array([[float(row[key]) for key in told] for row in table(tmp_path / f"{name}.csv")])
        for name in ("own", "run", "moved")
    )
    assert np.linalg.norm((own - moved)[:, :2], axis=-1).max() < 0.05
    assert np.abs(own - moved)[:, 2].max() < 0.02
    assert np.linalg.norm((plain - moved)[:, :2], axis=-1).min() > 3
    assert np.median(moved[:, 2] / plain[:, 2]) < 1.3


def test_a_header_s_spacing_and_a_name_like_a_formula_are_told_as_the_run_tells_them(
    run, exported, tiny_set, tmp_path, monkeypatch, capfd
):
    pytest.importorskip("pydicom", reason="needs the extra `dicom`")
    monkeypatch.chdir(tmp_path)
    film = read_film(read(tiny_set).samples[0].path)
    for name, header in (("=a.dcm", {"PixelSpacing": [0.12, 0.12]}), ("b.dcm", {"ImagerPixelSpacing": [0.1, 0.1]})):
        write_dicom(Path(name), film, bits=8, **header)
    films = ["=a.dcm", "b.dcm"]
    subprocess.run([sys.executable, "-I", str(exported / "predict.py"), *films, "--out", "own.csv"], check=True)
    assert "b.dcm: its mm are not known: its DICOM header states 0.1 on the detector" in capfd.readouterr().err
    assert main(["predict", str(run), *films, "--out", "run.csv"]) == 0
    own, of_run = table(Path("own.csv")), table(Path("run.csv"))
    assert {row["film"] for row in own} == {"'=a.dcm", "b.dcm"}
    for mine, other in zip(own, of_run, strict=True):
        assert (mine["film"], mine["symbol"]) == (other["film"], other["symbol"])
        assert bool(mine["x_mm"]) == bool(other["x_mm"]) == (mine["film"] != "b.dcm")
        assert float(mine["x_mm"] or 0) == pytest.approx(float(other["x_mm"] or 0), abs=0.05)


def test_the_graph_of_two_scales_is_their_mean(run, tiny_set):
    trained = ceph.load(run, settings=["evaluate.scales=[1.0,1.25]"])
    film = read_film(read(tiny_set).samples[0].path)
    graph = FilmGraph(trained.ensemble, trained.evaluator.stations.decoder, maps=True)
    images = [bare_item(film, size, 1).image for size in trained.ensemble.sizes]
    assert len(images) == 2
    with torch.no_grad():
        *_, maps = graph(*images, torch.tensor(film.shape))
    assert np.allclose(maps.numpy(), activation_maps(trained, film)[0], atol=1e-5)


def test_the_runner_knows_three_packages_only(exported):
    tree = ast.parse((exported / "predict.py").read_text())
    used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    used |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    strange = {name.split(".")[0] for name in used} - sys.stdlib_module_names
    assert strange == {"numpy", "onnxruntime", "PIL", "pydicom"}


def test_the_manifest_says_what_the_folder_is(exported, run):
    content = json.loads((exported / "manifest.json").read_text())
    assert [each["symbol"] for each in content["landmarks"]] == list(ceph.load(run).landmarks)
    assert content["licence"] == "CC0"
    assert content["stations"] == ["constraint", "refiner"]
    assert (exported / "constraint.onnx").is_file()
    assert (exported / "refiner.onnx").is_file() == ("zoom" in ceph.load(run).hooks.names)
    assert content["accuracy"]["validation"]["n_images"] > 0
    for name, digest in content["sha256"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert "CC0" in (exported / "MODEL_CARD.md").read_text()


def test_a_plugin_without_a_twin_is_named(tiny, tmp_path):
    (tmp_path / "standing.py").write_text(standing(*CONSTRAINT, twin=""))
    plugins = {"standing": {"from": str(tmp_path / "standing.py")}}
    run = ceph.train(tiny(train={"epochs": 1}, plugins=plugins), out=tmp_path / "run").folder
    with pytest.raises(ConfigError, match=r"plugin 'standing' cannot be exported: its constraint"):
        ceph.export(run, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.slow  # beside a station with values: the run of the tests above
def test_a_station_that_needs_no_values_is_exported(tiny, tmp_path, tiny_set):
    (tmp_path / "standing.py").write_text(standing(*CONSTRAINT))
    plugins = {"standing": {"from": str(tmp_path / "standing.py")}}
    run = ceph.train(tiny(train={"epochs": 1}, plugins=plugins), out=tmp_path / "run").folder
    ceph.export(run, out=tmp_path / "model")
    call = [sys.executable, "-I", str(tmp_path / "model" / "predict.py"), str(read(tiny_set).samples[0].path)]
    subprocess.run([*call, "--out", str(tmp_path / "own.csv")], check=True)


@pytest.mark.slow
def test_of_a_folder_of_runs_all_second_looks_are_exported(tiny, tmp_path, tiny_set):
    settings = {"plugins": MORE, "evaluate": {"scales": [1.0]}}
    runs = [
        ceph.train(tiny(train={"epochs": 1, "seed": seed}, **settings), out=tmp_path / f"r{seed}").folder
        for seed in (0, 1)
    ]
    ceph.ensemble(runs, out=tmp_path / "both")
    both, films = ceph.load(tmp_path / "both"), [sample.path for sample in read(tiny_set).samples[:3]]
    ceph.export(tmp_path / "both", out=tmp_path / "model")
    call = [sys.executable, "-I", str(tmp_path / "model" / "predict.py"), *map(str, films), "--mm-per-px", "0.5"]
    subprocess.run([*call, "--out", str(tmp_path / "own.csv")], check=True)
    own = [[float(row[key]) for key in ("x_px", "y_px", "score")] for row in table(tmp_path / "own.csv")]
    points, scores = both.predict(films, [0.5] * 3)
    found = np.array(own).reshape(3, -1, 3)
    assert np.linalg.norm(found[..., :2] - points, axis=-1).max() < 0.05
    assert np.abs(found[..., 2] - scores).max() < 1e-3
    single = ceph.load(tmp_path / "r0").predict(films, [0.5] * 3)[0]
    assert np.linalg.norm(single - points, axis=-1).mean() > 0.05


def stay(points, scores, _film, _graph):
    return points, scores


def test_stations_with_the_same_text_stand_once_in_the_runner():
    from ceph.exporting.export import runner

    text = runner({"refiner": {"refiner": Twin(stay), "refiner_1": Twin(stay)}, "adapt": {"adapt": Twin(shifted)}})
    assert text.count("def stay(") == 1
    module: dict = {"__name__": "runner"}
    exec(compile(text, "predict.py", "exec"), module)
    assert [list(parts) for parts in module["STATIONS"].values()] == [["refiner", "refiner_1"], ["adapt"]]
    points = np.ones((1, 3, 2))
    for make in module["STATIONS"]["refiner"].values():
        assert make()(points, points[..., 0], None, None)[0] is points


def test_a_folder_that_holds_something_is_left_alone(run, exported):
    with pytest.raises(ConfigError, match="is there already"):
        ceph.export(run, out=exported)


@pytest.mark.parametrize("shape", [(240, 193), (97, 130), (64, 64)])
@pytest.mark.parametrize("size", [(48, 38), (64, 64), (50, 61)])
def test_the_runner_sees_films_to_the_last_bit_as_the_network_does(shape, size):
    from ceph.exporting import runner

    film = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    levels, box = runner.Levels(film), runner.letterbox(shape, size)
    assert np.array_equal(runner.boxed(levels, box), bare_item(film, size, 1).image.numpy())
    centre, to_film = np.array([[5.0, 7.5], [30.25, 60.0]]), np.linalg.inv(letterbox(shape, size))
    step = 0.9 * box.scale  # at the film's own level
    assert np.array_equal(runner.windows(levels, box, centre, step, 16), windows(film, to_film, centre, step, 16))


def test_offsets_are_the_same_in_numpy():
    rng = np.random.default_rng(0)
    points, shape, offsets = rng.normal(0, 30, (1, 6, 2)), rng.normal(0, 30, (6, 2)), rng.normal(0, 1, (6, 2))
    scores = np.ones((1, 6))
    station = HeadOffsets(torch.from_numpy(shape), torch.from_numpy(offsets))
    wanted, _ = station.shift(torch.from_numpy(points), torch.from_numpy(scores), torch.eye(3)[None])
    found, _ = shifted(points, scores, None, None, shape, offsets)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-9)
