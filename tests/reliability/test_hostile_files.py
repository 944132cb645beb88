"""Rows 8 and 13 of docs/reliability.md: files that would run code, and paths that lead out of the data folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.data.small_sets import aariz_json, noise_film, some_points, write_aariz, write_isbi

from ceph.config.load import from_values, resolve
from ceph.data.cache import OWN, FilmCache, digest
from ceph.data.formats.aariz import LANDMARKS, MARKS, TABLE
from ceph.data.formats.find import read
from ceph.data.images import read_film
from ceph.errors import CephError, ConfigError
from ceph.evaluation.runs import find_groups
from ceph.evaluation.scores import read_scores
from ceph.model.weights import read_weights
from ceph.report.record import read_record
from ceph.runfolder import read_figures, require_same_data
from ceph.runfolder.place import FINGERPRINT
from ceph.training import checkpoint


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def bytes_of(save) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


PAYLOADS = {
    **{f"pickle {n}": lambda evil, n=n: pickle.dumps(evil, protocol=n) for n in (0, 2, 5)},
    "torch zip": lambda evil: bytes_of(lambda f: torch.save({"model": evil}, f)),
    "torch legacy": lambda evil: bytes_of(lambda f: torch.save(evil, f, _use_new_zipfile_serialization=False)),
    "npy": lambda evil: bytes_of(lambda f: np.save(f, np.array([evil], dtype=object), allow_pickle=True)),
    "npz": lambda evil: bytes_of(lambda f: np.savez(f, a=np.array([evil], dtype=object))),
    "yaml": lambda evil: f"a: !!python/object/apply:os.mkdir ['{evil.canary}']\n".encode(),
    "safetensors": lambda evil: safetensors.torch.save(
        {"model.w": torch.ones(1)}, {"ceph": pickle.dumps(evil, protocol=0).decode("latin1")}
    ),
}


def through_checkpoint(name):
    def door(content, folder):
        (folder / name).write_bytes(content)
        (folder / f"{name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        checkpoint.load(folder, name)

    return door


def through_weights(suffix):
    def door(content, folder):
        (folder / f"w{suffix}").write_bytes(content)
        read_weights(folder / f"w{suffix}")

    return door


def through_film(suffix):
    def door(content, folder):
        (folder / f"f{suffix}").write_bytes(content)
        read_film(folder / f"f{suffix}")

    return door


def through_annotation(content, folder):
    data = write_aariz(folder / "set", 1)
    next((data / "train" / MARKS / "Senior Orthodontists").iterdir()).write_bytes(content)
    read(data)


def through_table(content, folder):
    data = write_aariz(folder / "set", 1)
    (data / TABLE).write_bytes(content)
    read(data)


def through_text(content, folder):
    data = write_isbi(folder / "set", 1)
    next((data / "AnnotationsByMD" / "400_senior").iterdir()).write_bytes(content)
    read(data, mm_per_px=0.1)


def through_config(content, folder):
    (folder / "c.yaml").write_bytes(content)
    resolve(folder / "c.yaml")


def through_metrics(content, folder):
    (folder / "metrics.json").write_bytes(content)
    read_figures(folder)


def through_fingerprint(content, folder):
    (folder / FINGERPRINT).write_bytes(content)
    require_same_data(folder, {"films": {"train": {}}})


def through_run(content, folder):
    for name in (
        "config.yaml",
        "state.json",
        "environment.json",
        FINGERPRINT,
        "metrics.json",
        "predictions-validation.csv",
    ):
        (folder / name).write_bytes(content)
    with contextlib.suppress(CephError):
        read_scores(find_groups([folder]), "validation")
    read_record(folder)


def through_cache(content, folder):
    """A cache that others may write: what does not check is made anew from the film."""
    film = noise_film(folder / "f.png")
    cache, name = FilmCache(folder / "cache"), digest(film)
    place = folder / "cache" / OWN / name[:2] / f"{name}-L0.npy"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert np.array_equal(cache.level(film, name, 1.0), read_film(film))


DOORS = {
    **{name: through_checkpoint(name) for name in (checkpoint.LAST, checkpoint.BEST, checkpoint.PREVIOUS)},
    **{f"weights{suffix}": through_weights(suffix) for suffix in (".pt", ".pth", ".bin", ".safetensors")},
    **{f"film{suffix}": through_film(suffix) for suffix in (".png", ".jpg", ".tif", ".bmp")},
    "annotation": through_annotation,
    "table": through_table,
    "text": through_text,
    "config": through_config,
    "metrics": through_metrics,
    "fingerprint": through_fingerprint,
    "run": through_run,
    "cache": through_cache,
}


@pytest.mark.parametrize("door", DOORS)
def test_row_08_no_file_that_the_program_loads_runs_code(tmp_path, door):
    canary = tmp_path / "canary"
    for number, payload in enumerate(PAYLOADS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with contextlib.suppress(CephError):
            DOORS[door](payload(Evil(canary)), folder)
        assert not canary.exists()


def test_row_08_the_payloads_would_run_where_they_are_trusted(tmp_path):
    pickle.loads(PAYLOADS["pickle 0"](Evil(tmp_path / "a")))
    torch.load(io.BytesIO(PAYLOADS["torch zip"](Evil(tmp_path / "b"))), weights_only=False)
    assert len(list(tmp_path.iterdir())) == 2


def secret(folder):
    """Films and annotations that belong to somebody else."""
    folder.mkdir()
    noise_film(folder / "film.png", 7)
    (folder / "marks.json").write_text(aariz_json("train000", some_points(len(LANDMARKS), 7)))
    (folder / "marks.txt").write_text("7,7\n" * 19)
    (folder / "table.csv").write_text("cephalogram_id,pixel_size\ntrain000,0.77\n")
    return folder


AARIZ = {
    "film": ("train/Cephalograms/train000.png", "film.png"),
    "annotation": ("train/Annotations/Cephalometric Landmarks/Senior Orthodontists/train000.json", "marks.json"),
    "table": (TABLE, "table.csv"),
    "films": ("train/Cephalograms", "."),
    "reader": ("train/Annotations/Cephalometric Landmarks/Senior Orthodontists", "."),
    "split": ("train", "."),
}
ISBI = {
    "film": ("RawImage/TrainingData/001.bmp", "film.png"),
    "annotation": ("AnnotationsByMD/400_senior/001.txt", "marks.txt"),
    "part": ("RawImage/TrainingData", "."),
    "reader": ("AnnotationsByMD/400_senior", "."),
}
HOWS = ("absolute", "relative", "chain", "loop", "dangling")
LINKS = [(name, where, how) for name, places in (("aariz", AARIZ), ("isbi", ISBI)) for where in places for how in HOWS]


@pytest.mark.parametrize(("name", "where", "how"), LINKS)
def test_row_13_no_link_leads_a_reader_out_of_the_data_folder(tmp_path, name, where, how):
    outside = secret(tmp_path / "outside")
    data = write_aariz(tmp_path / "set", 1) if name == "aariz" else write_isbi(tmp_path / "set", 1)
    place, target = (AARIZ if name == "aariz" else ISBI)[where]
    victim, aim = data / place, (outside / target).resolve()
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    if how == "chain":
        (data / "hop").symlink_to(aim)
        aim = data / "hop"
    words = {"relative": os.path.relpath(aim, victim.parent), "loop": victim.name, "dangling": tmp_path / "nowhere"}
    victim.symlink_to(words.get(how, aim))
    try:
        found = read(data, mm_per_px=None if where == "table" else 0.1)
    except CephError as error:
        said = str(error)
        # A table that is not there is none: the spacing is unknown.
        assert str(data) in said or (where == "table" and "data.mm_per_px" in said)
    else:
        assert all(sample.path.resolve().is_relative_to(data.resolve()) for sample in found.samples)
        assert not any((sample.points == 7).all() for sample in found.samples)
        assert all(sample.mm_per_px == 0.1 for sample in found.samples)


ODD = {
    "data.path": "films\0/../..",
    "model.weights": "w\0.pt",
    "data.path of a zip": "set.zip",
    "data.path of a device": "/dev/zero",
}


@pytest.mark.parametrize("odd", ODD)
def test_row_13_odd_paths_in_a_config_are_errors(tmp_path, tiny, odd, monkeypatch):
    import ceph

    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("set.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    section, key = odd.split(" ")[0].split(".")
    with pytest.raises(CephError):
        ceph.train(tiny(**{section: {key: ODD[odd]}}), out=tmp_path / "run")
    assert not (tmp_path.parent / "evil.txt").exists()


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/b", "..", ".", "a\0b", "", "-", "é/..", "a\\b"])
def test_row_13_a_plugin_s_name_is_no_path(tmp_path, tiny, name):
    (tmp_path / "p.py").write_text("")
    with pytest.raises(ConfigError):
        from_values(tiny(plugins={name: {"from": str(tmp_path / "p.py")}}))


def test_row_13_an_identity_in_an_annotation_is_no_path(tmp_path):
    data = write_aariz(tmp_path / "set", 1)
    file = data / "train" / MARKS / "Senior Orthodontists" / "train000.json"
    for identity in ("../../train000", "/etc/passwd", "train000\0", "train000/../x"):
        content = json.loads(aariz_json("train000", some_points(len(LANDMARKS), 0)))
        file.write_text(json.dumps({**content, "ceph_id": identity}))
        with pytest.raises(CephError, match="ceph_id"):
            read(data)
