"""`ceph compare` on runs that were really trained: what it prints, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import ceph
from ceph.cli.app import main


@pytest.fixture(scope="module")
def trained(tiny_set, tmp_path_factory):
    """Two configs, two seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, lr in (("base", 1e-3), ("slow", 1e-5)):
        for seed in range(2):
            config = {
                "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
                "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
                "train": {"epochs": 1, "batch_size": 4, "precision": "fp32", "device": "cpu", "lr": lr, "seed": seed},
            }
            ceph.train(config, out=folder / f"{name}-s{seed}")
    return folder


def runs(trained, *names):
    return [str(trained / f"{name}-s{seed}") for name in names for seed in range(2)]


def test_seeds_are_joined_and_the_figures_are_those_of_the_runs(trained, tmp_path, capsys):
    out, plot = tmp_path / "out.json", tmp_path / "plot.png"
    assert main(["compare", *runs(trained, "base", "slow"), "--json", str(out), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    for part in ("slow against base\n", "seeds 0 1\n", "UMT", "MRE: ", "Landmarks: ", "SDR: "):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
    [comparison] = json.loads(out.read_text())["comparisons"]
    own = [
        json.loads((trained / f"{name}-s{seed}" / "metrics.json").read_text())["validation"]["mre_mm"]
        for name in ("base", "slow")
        for seed in range(2)
    ]
    # The table of predictions holds four decimals.
    assert comparison["mre"]["baseline"] == pytest.approx(sum(own[:2]) / 2, abs=1e-4)
    assert comparison["mre"]["other"] == pytest.approx(sum(own[2:]) / 2, abs=1e-4)
    assert len(comparison["landmarks"]) == 29
    assert comparison["seeds"] == [[0, 1], [0, 1]]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_runs_is_compared_with_a_run(trained, tmp_path, capsys):
    both = tmp_path / "base"
    both.mkdir()
    for seed in range(2):
        (both / str(seed)).symlink_to(trained / f"base-s{seed}")
    assert main(["compare", str(both), str(trained / "slow-s1")]) == 0
    text = capsys.readouterr().out
    assert "seeds 0 1 of base, 1 of slow-s1\n" in text
    assert "one seed of slow-s1" in " ".join(text.split())


def test_the_same_runs_under_another_name_show_nothing(trained, tmp_path, capsys):
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "0").symlink_to(trained / "base-s0")
    assert main(["compare", str(trained / "base-s0"), str(tmp_path / "again")]) == 0
    text = capsys.readouterr().out
    assert text.count("no difference shown") == 3


def test_two_seeds_of_one_config_are_no_comparison(trained, capsys):
    assert main(["compare", *runs(trained, "base")]) == 2
    assert "one config only: base (" in capsys.readouterr().err


def test_a_split_that_was_not_scored_is_told_how_to(trained, capsys):
    assert main(["compare", *runs(trained, "base", "slow"), "--split", "test"]) == 2
    assert f"ceph evaluate {trained / 'base-s0'} --split test" in capsys.readouterr().err


def test_a_picture_of_another_kind_is_refused_before_anything_is_read(tmp_path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path), "--plot", "x.gif"]) == 2
    assert "--plot: x.gif must end in .png or .svg" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_error(trained, tmp_path, capsys):
    call = ["compare", *runs(trained, "base", "slow"), "--json", str(tmp_path / "nowhere" / "x.json")]
    assert main(call) == 2
    assert "--json: cannot write" in capsys.readouterr().err


def test_comparing_needs_no_torch(trained):
    code = (
        "import sys; from ceph.cli.app import main; code = main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "compare", *runs(trained, "base", "slow")], check=False)
    assert done.returncode == 0
