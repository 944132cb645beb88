"""`ceph plan`: who answers which hook, in what order, what is not default; conflicts are told before training."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.config.fakes import OHKM

from ceph.cli.app import main
from ceph.hooks.specs import VERBS

PLUGIN = """\
from ceph.hooks.base import Plugin, hookimpl


class {name}(Plugin):
    \"\"\"{name} for tests.\"\"\"
    requires = {requires}
    conflicts = {conflicts}

    @hookimpl
    def {hook}(self):
        pass
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, hook="batch_shape", requires=(), conflicts=()):
        text = PLUGIN.format(name=name.capitalize(), hook=hook, requires=requires, conflicts=conflicts)
        (tmp_path / f"{name}.py").write_text(text)
        return ("--plugin", f"./{name}.py")

    return write


def section(text, title):
    return re.search(rf"^{title}:.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL).group()


def test_it_says_who_answers_what_with_version_and_place_and_reads_no_film(here, capsys):
    call = ["plan", "--data", "./nowhere", *("--plugin", "hard-mining"), *("--plugin", "weighted-loss"), *here("sizes")]
    assert main(call) == 0
    text = capsys.readouterr().out
    answers = section(text, "who answers each hook")
    assert re.search(r"^  landmark_weights  product  hard-mining \d\S*, weighted-loss \d\S*$", answers, re.MULTILINE)
    assert re.search(r"^  batch_shape       one      sizes [0-9a-f]{12}$", answers, re.MULTILINE)
    assert "step_end" not in answers
    loop = text.splitlines()
    at = loop.index("          w = landmark_weights(batch, loss)")
    assert loop[at + 1] == "            <- hard-mining * weighted-loss"
    assert loop[at + 3] == "          total = sum(w * valid * loss) / sum(w * valid)"
    exclusive = section(text, "exclusive")
    assert "batch_shape  only sizes may;" in exclusive
    assert "build_model" in exclusive.partition("free")[2]
    assert "Sizes for tests." in section(text, "plugins")


def test_the_loop_names_every_hook_and_lines_fit_a_narrow_terminal(here, capsys):
    every = ["hard-mining", "weighted-loss", "multi-scale", "heavy-augmentation"]
    assert main(["plan", *(word for name in every for word in ("--plugin", name))]) == 0
    text = capsys.readouterr().out
    assert all(f"{hook}(" in text for hook in VERBS)
    assert max(map(len, text.splitlines())) <= 80
    assert "warps: heavy-augmentation" in text


def test_settings_are_shown_where_they_differ_from_the_default_with_their_origin(here, tmp_path, capsys):
    (tmp_path / "my_loss.py").write_text(OHKM)
    (tmp_path / "ceph.yaml").write_text(
        "extends: demo\ntrain:\n  epochs: 7\n  batch_size: 8\nplugins:\n  my-loss: {from: ./my_loss.py}\n"
    )
    assert main(["plan", "--set", "plugins.my-loss.table.B=2", "--set", "train.lr=1e-3", "--seed", "3", "--trust"]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in section(text, "settings that are not default").splitlines()[1:]]
    found = {row[0]: row[1:] for row in rows if "." in row[0] and len(row) > 1}
    assert found["train.epochs"] == ["ceph.yaml:3", "7"]
    assert found["train.seed"] == ["--seed", "3"]
    assert found["data.size"] == ["preset", "demo", "[256,", "224]"]
    assert found["plugins.my-loss.table.B"] == ["--set", "2.0"]
    # given, but what they are anyway: batch_size, lr, keep, table.A
    assert not {"train.batch_size", "train.lr", "plugins.my-loss.keep", "plugins.my-loss.table.A"} & set(found)
    assert text.startswith("7 epochs of tf_efficientnet_lite0 on the embedded synthetic set:")


def test_without_plugins_the_core_is_alone(here, capsys):
    assert main(["plan"]) == 0
    text = capsys.readouterr().out
    assert "plugins: none; the core trains alone\n" in text
    assert "who answers each hook: nobody\n" in text
    assert "<- " not in text.partition("the loop (<- who answers")[2].partition("\n")[2]


def test_all_conflicts_are_told_at_once_each_with_a_remedy(here, capsys):
    call = [
        *here("ape"),
        *here("bee", requires=("nectar", "ema")),
        *here("cat", hook="warps", conflicts=("dog",)),
        *here("dog", hook="warps"),
    ]
    assert main(["plan", *call]) == 2
    err = capsys.readouterr().err
    blocks = {re.search(r"plugins\.(\w+): ([^,\n]*)", block).groups(): block for block in err.split("error: ")[1:]}
    assert set(blocks) == {
        ("bee", "answers the hook batch_shape"),
        ("bee", "needs the plugin ema"),
        ("bee", "needs the plugin nectar"),
        ("cat", "cannot be combined with the plugin dog"),
    }
    assert "hint: --without ape, or --without bee" in blocks["bee", "answers the hook batch_shape"]
    assert "hint: --plugin ema" in blocks["bee", "needs the plugin ema"]
    assert "hint: install what provides it, or --without bee" in blocks["bee", "needs the plugin nectar"]
    assert "hint: --without dog, or --without cat" in blocks["cat", "cannot be combined with the plugin dog"]
    assert "Traceback" not in err


def test_three_answers_to_a_hook_of_one_are_two_too_many(here, capsys):
    assert main(["plan", *here("ape"), *here("bee"), *here("cat")]) == 2
    err = capsys.readouterr().err
    assert err.count("answers the hook batch_shape, which takes one answer, as the plugin ape does") == 2


def test_a_plugin_that_is_misspelt_inside_is_told_too(here, capsys):
    assert main(["plan", *here("odd", hook="batch_shapes")]) == 2
    assert "did you mean 'batch_shape'?" in capsys.readouterr().err


def test_a_plan_without_plugins_imports_nothing_slow(here):
    code = (
        "import sys; from ceph.cli.app import main; code = main(['plan', '--preset', 'demo']); "
        "sys.exit(code or bool({'torch', 'timm', 'albumentations', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
