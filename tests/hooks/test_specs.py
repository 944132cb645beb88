"""Every hook in specs.py has a verb, a docstring with shapes, and a place in the printed loop."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pluggy
import pytest
import torch

from ceph.hooks import specs
from ceph.hooks.discovery import installed, load
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS, Specs
from ceph.hooks.verbs import Hooks

HOOKS = [name for name, value in vars(Specs).items() if inspect.isfunction(value) and not name.startswith("_")]
# The table of design: a hook, its verb and its arguments. Arguments may be added here, never taken away.
CONTRACT = {
    "check_run": ("tell", "run"),
    "dataset_formats": ("merge", ""),
    "build_model": ("one", "run default"),
    "modules": ("merge", "run"),
    "build_targets": ("one", "run default"),
    "build_decoder": ("one", "run default"),
    "build_constraint": ("one", "run"),
    "build_refiner": ("one", "run"),
    "build_offsets": ("one", "run"),
    "build_criterion": ("one", "run default"),
    "build_optimizer": ("one", "model run default"),
    "warps": ("merge", ""),
    "augmentations": ("merge", "stage"),
    "second_draws": ("merge", ""),
    "truth": ("one", "sample rng"),
    "extras": ("merge", "sample truth look rng"),
    "epoch_start": ("tell", "epoch model"),
    "sample_weights": ("product", "epoch samples"),
    "batch_shape": ("one", "epoch index size seed"),
    "landmark_mask": ("all", "batch"),
    "pixel_weights": ("product", "batch pred target"),
    "landmark_weights": ("product", "batch loss"),
    "landmark_losses": ("merge", "batch pred points model outputs"),
    "loss_terms": ("merge", "batch pred points model outputs"),
    "step_end": ("tell", "step model loss"),
    "eval_model": ("one", "epoch model"),
    "views": ("mean", ""),
    "members": ("mean", "model"),
    "metrics": ("merge", "split errors_mm points_px valid samples landmarks outputs"),
    "epoch_end": ("tell", "epoch model samples loss errors_mm moves_mm metrics"),
    "run_start": ("tell", "run model"),
    "run_end": ("tell", "run result"),
}


def arguments(hook):
    return list(inspect.signature(getattr(Specs, hook)).parameters)[1:]


def test_the_hooks_are_those_of_the_contract():
    assert {hook: (VERBS[hook], " ".join(arguments(hook))) for hook in HOOKS} == CONTRACT


def test_verbs_and_methods_agree():
    assert list(VERBS) == HOOKS


def test_pluggy_accepts_every_hook():
    pm = pluggy.PluginManager("ceph")
    pm.add_hookspecs(Specs)
    assert {hook: list(getattr(pm.hook, hook).spec.argnames) for hook in HOOKS} == {h: arguments(h) for h in HOOKS}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_docstring_says_what_it_asks_with_what_shapes_and_when_it_fires(hook):
    text = inspect.getdoc(getattr(Specs, hook))
    first, blank, rest = text.partition("\n\n")
    assert blank, "one sentence, a blank line, the rest"
    assert first.endswith(".")
    assert "\n" not in first
    assert "Fires: " in rest
    if VERBS[hook] != "tell":
        assert re.search(r"Answer:|the answer", rest)
    if not set(arguments(hook)) <= {"run", "result"} or VERBS[hook] != "tell":
        assert re.search(r"\[[^\]]*\]|\(H, W\)|\{name", rest), "shapes in brackets"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_argument_is_annotated_and_explained(hook):
    function = getattr(Specs, hook)
    text = inspect.getdoc(function)
    for argument in arguments(hook):
        assert argument in function.__annotations__
        assert re.search(rf"`{argument}(\(\))?`", text) or argument in {
            "epoch",
            "batch",
            "samples",
            "seed",
        }  # explained once
    assert "return" in function.__annotations__


@pytest.mark.parametrize("hook", HOOKS)
def test_the_printed_loop_has_every_hook_with_its_verb_and_arguments(hook):
    lines = [line for line in specs.__doc__.splitlines() if f"{hook}(" in line]
    assert len(lines) == 1
    assert lines[0].split()[-1] == VERBS[hook] or f" {VERBS[hook]} " in lines[0]
    inside = re.search(rf"{hook}\(([^)]*)\)", lines[0]).group(1)
    assert len([a for a in inside.split(",") if a.strip()]) == len(arguments(hook))


def test_reading_the_hooks_imports_no_torch():
    code = "import sys, ceph.hooks.misuse; assert not {'torch', 'albumentations'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


ROOT = Path(__file__).parents[2]
README = ROOT / "plugins" / "README.md"
BUILT_IN = {p.name: load(p.name).plugin_class for p in installed() if p.distribution == "ceph-trainer"}
EXAMPLES = {path.stem.replace("_", "-"): load(str(path)).plugin_class for path in (ROOT / "examples").glob("*.py")}


def test_the_plugins_readme_table_agrees_with_the_code():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in README.read_text().splitlines() if line[:2] == "| "
    ]
    users = {name: hooks_of(plugin) for name, plugin in BUILT_IN.items()}
    hooks = {row[1]: (row[3], set(filter(None, row[4].split(", ")))) for row in rows if len(row) == 5 and "`" in row[1]}

    def answered(hook):
        """By whom: the examples count where no built-in plugin does."""
        built_in = {name for name, used in users.items() if hook in used}
        return built_in or {name for name, plugin in EXAMPLES.items() if hook in hooks_of(plugin)}

    assert hooks == {f"`{h}({', '.join(arguments(h))})`": (VERBS[h], answered(h)) for h in HOOKS}


def test_the_example_of_the_plugins_readme_is_a_plugin_that_works():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    names = {"__name__": "ohkm"}
    exec(code, names)
    hooks = Hooks({"ohkm": names["Ohkm"](names["OhkmConfig"](keep=1))})
    loss = torch.tensor([[1.0, 3.0, 2.0]])
    assert hooks.product("landmark_weights", (1, 3), batch=None, loss=loss).tolist() == [[0.0, 1.0, 0.0]]
