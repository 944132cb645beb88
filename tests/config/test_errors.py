"""What is wrong with a config is told all at once, each in its place; the texts are kept in golden/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.config.fakes import OHKM, install

from ceph.config.load import resolve
from ceph.errors import ConfigError, Place, PluginError

GOLDEN = Path(__file__).parent / "golden"


def told(here: Path, call) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    return f"{caught.value}\n".replace(str(here), "HERE")


def check(name: str, text: str) -> None:
    """Compare with golden/NAME.txt; CEPH_UPDATE_GOLDEN=1 writes it."""
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("CEPH_UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_wrong_values(here):
    (here / "ceph.yaml").write_text(
        "data:\n  size: [8, 10.5]\n  augmentation: defualt\n  mm_per_px: 0\n  workers: some\n"
        "  landmarks: [A, A]\n  cache: foo\n"
        "model: {stride: 3, width: wide, weights: offlin}\n"
        "target: {sigma_px: '1.5'}\n"
        "train:\n  epochs: eight\n  lr: true\n  weight_decay: -1\n  constant_pixels: 1\n  precision: bf17\n"
        "  early_stopping: 0\n  seed: 1.5\n  monitor: 5\n"
        "evaluate: {scales: [], decoder: []}\n"
        "loss: cross-entropy\n"
    )
    check("wrong-values", told(here, resolve))


def test_wrong_names(here):
    (here / "ceph.yaml").write_text(
        "trian: {}\nepochs: 5\nsize: [3, 4]\ntrain:\n  learning_rate: 1\n  epoch: 5\n  sigma_px: 2\n"
        "data: {sise: 1}\nzzz: 1\n"
    )
    check("wrong-names", told(here, resolve))


def test_wrong_texts(here):
    (here / "ceph.yaml").write_text("train:\n  lr: 1e999\n  lr: 2\n  seed: !!python/name:os.system x\n1: 2\ntrian: 3\n")
    check("wrong-texts", told(here, resolve))


def test_wrong_flags(here):
    check(
        "wrong-flags",
        told(
            here,
            lambda: resolve(
                preset="quik",
                plugins=["./gone.py"],
                without=["x"],
                settings=[
                    "train.lr",
                    "train.epochs=x",
                    "a..b=1",
                    "train.seed=[1",
                    "extends=quick",
                    "epochs=3",
                    "loss.name=mze",
                ],
                seed=-1,
            ),
        ),
    )


def test_fields_that_do_not_fit_together(here):
    (here / "ceph.yaml").write_text(
        "target:\n  kind: heatmap\ntrain: {epochs: 3, stop_after: 5}\nevaluate: {batch_size: 0}\n"
    )
    check("cross-checks", told(here, resolve))


def test_the_place_of_a_clash_is_the_key_that_was_written(here):
    (here / "ceph.yaml").write_text("target: {kind: distribution}\n")
    check("cross-checks-set", told(here, lambda: resolve(settings=["loss.name=focal"])))


def test_extends(here):
    (here / "a.yaml").write_text("extends: b.yaml\n")
    (here / "b.yaml").write_text("extends: ./a.yaml\n")
    (here / "typo.yaml").write_text("extends: bass\n")
    (here / "gone.yaml").write_text("extends: ./gone/base.yaml\n")
    (here / "number.yaml").write_text("extends: 3\n")
    names = ("a", "typo", "gone", "number", "nowhere")
    check("extends", "".join(told(here, lambda n=name: resolve(Path(f"{n}.yaml"))) for name in names))


def test_a_preset_that_extends_itself(here, monkeypatch):
    from ceph.config import layers

    (here / "loop.yaml").write_text("extends: loop\n")
    monkeypatch.setattr(layers, "PRESETS", here)
    assert "preset loop extends itself: preset loop -> preset loop" in told(here, lambda: resolve(preset="loop"))


def test_plugins(here, monkeypatch):
    install(here / "site", monkeypatch, name="ohkm")
    (here / "several.py").write_text(OHKM + "\n\nclass Other(Ohkm):\n    pass\n")
    (here / "empty.py").write_text("x = 1\n")
    (here / "ceph.yaml").write_text(
        "plugins:\n  okhm: {}\n  ohkm: {kep: 3, keep: 0}\n  several: {from: ./several.py}\n  empty: {from: empty.py}\n"
        "  other: {from: ./several.py:Othr}\n  gone: {from: gone.py}\n  bad.name: {from: empty.py}\n  yes: true\n"
        "  ./empty.py: {}\n  text: {from: 5}\n"
    )
    check("plugins", told(here, resolve))


def test_plugins_must_be_a_mapping(here):
    (here / "ceph.yaml").write_text("plugins: [a, b]\n")
    check("plugins-list", told(here, resolve))


def test_relations_of_plugins(here):
    relation = "from ceph.hooks.base import Plugin\n\n\nclass {}(Plugin):\n    {} = ({!r},)\n"
    (here / "aa.py").write_text(relation.format("Aa", "requires", "helper"))
    (here / "bb.py").write_text(relation.format("Bb", "conflicts", "aa"))
    check("relations", told(here, lambda: resolve(plugins=["./aa.py", "./bb.py"])))


def test_switching_off(here, monkeypatch):
    install(here / "site", monkeypatch, name="ohkm")
    (here / "ceph.yaml").write_text("plugins: {ohkm: {}}\n")
    check("without", told(here, lambda: resolve(without=["okhm", "nothing"])))
    assert "is switched on and off by the same call" in told(here, lambda: resolve(plugins=["ohkm"], without=["ohkm"]))


def test_a_plugin_whose_own_code_fails_is_a_plugin_error_that_names_it(here):
    (here / "bad.py").write_text("x = 1\nimport no_such_module\n")
    with pytest.raises(PluginError, match=r"plugin 'bad' \w{12} \(.*bad.py:2\) cannot be imported: ModuleNotFound"):
        resolve(plugins=["./bad.py"])
    with pytest.raises(ConfigError) as caught:
        resolve(plugins=["./bad.py"], settings=["train.lr=0"])
    assert [str(p.place) for p in caught.value.problems] == ["--plugin:1:1", "--set:1:10"]


def test_problems_are_sorted_by_place(here):
    (here / "ceph.yaml").write_text("train: {lr: 0}\ndata: {size: [1, 1]}\nmodel: {x: 1, y: 2}\n")
    with pytest.raises(ConfigError) as caught:
        resolve()
    places = [problem.place for problem in caught.value.problems]
    assert places == sorted(place for place in places if isinstance(place, Place))
    assert len(places) == 5


def test_files_that_cannot_be_read(here):
    (here / "latin.yaml").write_bytes(b"data: {path: f\xfcr}\n")
    (here / "folder.yaml").mkdir()
    names = ("latin.yaml", "folder.yaml", "none.yaml", "nul\0.yaml")
    text = "".join(told(here, lambda n=name: resolve(Path(n))) for name in names)
    check("unreadable", text.replace("\0", "NUL"))
