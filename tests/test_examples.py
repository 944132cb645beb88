"""The examples run, and say what the docs say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ceph
from ceph.config.load import resolve

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_config_trains(tiny_set, tmp_path, file):
    settings = [
        "data.size=[64,64]",
        "model.backbone=test_resnet",
        "model.weights=none",
        "train.epochs=1",
        "train.device=cpu",
    ]
    ceph.train(resolve(file, data=tiny_set, settings=settings), out=tmp_path / "run")


def test_the_example_plugin_trains_and_is_the_one_of_the_docs(tiny, tmp_path):
    ceph.train(tiny(plugins={"ohkm": {"from": str(ROOT / "examples" / "ohkm.py"), "keep": 5}}), out=tmp_path / "run")
    body = "torch.zeros_like(loss).scatter_(1, hardest, 1.0)"
    assert body in (ROOT / "plugins" / "README.md").read_text()
    assert body in (ROOT / "examples" / "ohkm.py").read_text()


def test_every_command_in_the_readme_is_one_that_there_is():
    from ceph.cli.app import COMMANDS

    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^ceph ([a-z]+)", text, re.MULTILINE)) | set(re.findall(r"`ceph ([a-z]+)", text))
    assert named
    assert named <= set(COMMANDS)


@pytest.mark.parametrize(
    "page", ["README.md", "core/README.md", "plugins/README.md", "CONTRIBUTING.md", "examples/README.md"]
)
def test_every_file_that_a_page_links_to_is_there(page):
    here = (ROOT / page).parent
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text()):
        assert (here / target).exists(), f"{page} links to {target}"


SHORT = {
    "epoch_average": {"start": 1},
    "easy_first": {"until": 1},
    "learned_width": {},
    "near_point": {},
    "blob_centre": {},
    "empty_film": {},
    "speak_as": {"offsets": {"Go": [1.0, -2.0]}},
    "with_run": {},
}


@pytest.mark.parametrize("name", SHORT)
def test_an_example_of_the_door_is_short_and_trains(tiny, tmp_path, name):
    file = ROOT / "examples" / f"{name}.py"
    assert len(file.read_text().splitlines()) < 40
    plugin = name.replace("_", "-")
    run = ceph.train(tiny(plugins={plugin: {"from": str(file), **SHORT[name]}}), out=tmp_path / "run")
    assert run.metrics["mre_mm"] > 0


def test_the_stations_of_the_examples_do_what_they_say(tiny, tmp_path):
    import csv

    def points(folder):
        with (folder / "predictions-validation.csv").open() as file:
            return {(r["image_id"], r["symbol"]): (float(r["x_px"]), float(r["y_px"])) for r in csv.DictReader(file)}

    def trained(name, **plugins):
        files = {n: {"from": str(ROOT / "examples" / f"{n.replace('-', '_')}.py"), **s} for n, s in plugins.items()}
        return ceph.train(tiny(plugins=files, train={"epochs": 1}), out=tmp_path / name).folder

    plain = trained("plain")
    moved = trained("moved", **{"speak-as": {"offsets": {"Go": [10.0, 0.0]}}})
    before, after = points(plain), points(moved)
    changed = {symbol for film, symbol in before if before[film, symbol] != after[film, symbol]}
    assert changed == {"Go"}
    assert "offsets" in (moved / "stages-validation.csv").read_text()
    alone = trained("alone", **{"with-run": {"runs": [str(plain)]}})  # two runs of one seed: the same maps twice
    assert points(alone) == before
