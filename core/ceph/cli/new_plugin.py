"""What `ceph plugins new` writes: a distribution of one plugin, its signatures and shapes taken from specs.py."""

from __future__ import annotations

import ast
import inspect
import keyword
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ceph.errors import ConfigError, Problem, nearest
from ceph.files import write_text
from ceph.hooks import discovery
from ceph.hooks.specs import VERBS, Specs

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

# The neutral answer of each hook: valid, and training is the same as without the plugin. Hooks that tell have none.
BODIES: dict[str, str] = {
    "check_run": "",
    "dataset_formats": "return {}",
    "build_model": "return default()",
    "modules": "return {}",
    "build_targets": "return default()",
    "build_decoder": "return default()",
    "build_constraint": "return Still()",
    "build_refiner": "return Still()",
    "build_offsets": "return Still()",
    "build_criterion": "return default()",
    "build_optimizer": "return default()",
    "warps": "return [Move()]",
    "augmentations": 'return [A.NoOp()] if stage == "photometric" else []',
    "second_draws": "return []",
    "truth": """\
marked = sample.valid.sum(axis=0)
total = np.where(sample.valid[..., None], sample.points, 0.0).sum(axis=0)
return np.where(marked[:, None] > 0, total / np.maximum(marked, 1)[:, None], np.nan), marked > 0""",
    "extras": "return {}",
    "epoch_start": "",
    "sample_weights": "return torch.ones(len(samples))",
    "batch_shape": "return size",
    "landmark_mask": "return torch.ones_like(batch.valid)",
    "pixel_weights": "return torch.ones_like(target)",
    "landmark_weights": "return torch.ones_like(loss)",
    "landmark_losses": 'return {"@NAME@": torch.zeros_like(points[..., 0])}',
    "loss_terms": 'return {"@NAME@": points.new_zeros(())}',
    "step_end": "",
    "eval_model": "return model",
    "views": "return []",
    "members": "return []",
    "metrics": 'return {"@NAME@-largest-mm": float(np.nanmax(errors_mm))}',
    "epoch_end": "",
    "run_start": "",
    "run_end": "",
}

_MOVE = '''\
class Move(Warp):
    """A change of geometry, drawn anew for each film; a class of the module, so that loader workers can have it."""

    def matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> Matrix:
        """Draw a map [3, 3] of network px -> network px in an image of `size` (H, W)."""
        return np.eye(3)


'''

_STILL = '''\
class Still:
    """A station of decoding that leaves every point where it is."""
@METHODS@

'''

_METHODS = {
    "build_constraint": '''
    def constrain(
        self,
        points: torch.Tensor,
        scores: torch.Tensor,
        maps: torch.Tensor,
        decode: Callable[..., Any],
        image_size: tuple[int, int],
        look: Callable[..., torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give points [B, K, 2] in network px and scores [B, K]."""
        return points, scores
''',
    "build_refiner": '''
    def refine(
        self, points: torch.Tensor, scores: torch.Tensor, look: Callable[..., torch.Tensor], model: nn.Module
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give points [B, K, 2] in network px and scores [B, K]."""
        return points, scores
''',
    "build_offsets": '''
    def shift(
        self, points: torch.Tensor, scores: torch.Tensor, to_film: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give points [B, K, 2] in network px and scores [B, K]."""
        return points, scores
''',
}

_MODULE = '''\
"""@NAME@: say in a line what it does."""

from __future__ import annotations

@IMPORTS@


class @CLASS@Config(PluginConfig):
    """Settings; each is the key `plugins.@NAME@.KEY` of a run's config.

    For example: strength: float = Field(default=1.0, ge=0, description="what it does, in which unit")
    """


@BEFORE@class @CLASS@(Plugin[@CLASS@Config]):
    """Say in a line what it does, and where it comes from (author, year, section).

    The answers below change nothing yet. A hook may leave out the arguments that it does not need.
    """
@HOOKS@'''

_TEST = '''\
"""@NAME@ keeps the rules of plugins; add tests of what it is for."""

import pytest
from ceph.testing import checks

from @MODULE@ import @CLASS@

# `neutral`: settings with which training must be the same, bit for bit, as without the plugin.
CHECKS = checks(@CLASS@, name="@NAME@", neutral={})


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_conformance(check):
    check()
'''

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "ceph-plugin-@NAME@"
version = "0.1.0"
description = "A plugin for ceph"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["ceph-trainer"]

[project.optional-dependencies]
dev = ["pytest"]

[project.entry-points."ceph.plugins"]
@NAME@ = "@MODULE@:@CLASS@"

[tool.hatch.build]
dev-mode-dirs = ["src"]

[tool.hatch.build.targets.wheel]
packages = ["src/@MODULE@"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["src"]

[tool.ruff]
line-length = 120
"""

_README = """\
# @NAME@

A plugin for ceph. Say here what it does, where it comes from, and what it changed in millimetres.

```sh
pip install -e ".[dev]"
pytest                                # the rules that every plugin keeps
ceph plugins check @NAME@
ceph run --plugin @NAME@
```

The code is in `src/@MODULE@/__init__.py`; `ceph plugins show @NAME@` prints its settings and hooks.
"""

# Where the names that a module may use come from.
_IMPORTS: dict[str, str] = {
    **dict.fromkeys(("Callable", "Mapping", "Sequence"), "collections.abc"),
    **dict.fromkeys(("Any", "Literal"), "typing"),
    "A": "import albumentations as A",
    "np": "import numpy as np",
    "torch": "import torch",
    "NDArray": "numpy.typing",
    "nn": "torch",
    **dict.fromkeys(
        (
            *("Batch", "Figure", "Flags", "Matrix", "Member", "Plugin", "PluginConfig", "Points", "Run", "Sample"),
            *("View", "Warp", "hookimpl"),
        ),
        "ceph.plugin",
    ),
}
_STANDARD = ("collections.abc", "typing")


def write(name: str, hooks: Sequence[str], folder: Path) -> list[str]:
    """Write the files of a new plugin into `folder`, and give their paths within it.

    Raises ConfigError for a name that is wrong or taken, an unknown hook, and a folder that is there.
    """
    check_name(name)
    unknown = [hook for hook in hooks if hook not in VERBS]
    if unknown:
        raise ConfigError([Problem(f"there is no hook {h!r}", "--hook", hint=nearest(h, VERBS)) for h in unknown])
    files = project(name, hooks)
    try:
        folder.mkdir(parents=True)
        for file, text in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    except FileExistsError:
        raise ConfigError(f"{folder} is there already", key="--out", hint="name a new folder") from None
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}", key="--out") from None
    return list(files)


def check_name(name: str) -> None:
    """Raise ConfigError where a plugin cannot have this name."""
    if not _NAME.fullmatch(name):
        bare = re.sub("^[^a-z]+", "", discovery.kebab_case(name))
        hint = f"for example '{bare if len(bare) > 1 and find_spec(module_of(bare)) is None else 'my-plugin'}'"
        what = f"{name!r} is no name: lower-case letters and digits joined by dashes, a letter first"
        raise ConfigError(what, key="NAME", hint=hint)
    takers = [plugin for plugin in discovery.installed() if plugin.name == name]
    if takers:
        taker = f"{takers[0].distribution} {takers[0].version}"
        raise ConfigError(f"the name {name!r} is taken by {taker}", key="NAME", hint=f"for example '{name}-2'")
    module = module_of(name)
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or find_spec(module):
        what = f"{name!r} is the name of a module or a word of Python, so it cannot be imported as {module}"
        raise ConfigError(what, key="NAME", hint=f"for example 'ceph-{name}'")


def module_of(name: str) -> str:
    """`my-plugin` -> `my_plugin`."""
    return name.replace("-", "_")


def class_of(name: str) -> str:
    """`my-plugin` -> `MyPlugin`; `warp` -> `WarpPlugin`, since Warp is taken, and `none` -> `NonePlugin`."""
    found = "".join(part.capitalize() for part in name.split("-"))
    return f"{found}Plugin" if found in {*_IMPORTS, "Move", "Still"} or keyword.iskeyword(found) else found


def project(name: str, hooks: Sequence[str]) -> dict[str, str]:
    """The files of a distribution with one plugin: path -> text."""
    words = {"@NAME@": name, "@MODULE@": module_of(name), "@CLASS@": class_of(name)}
    chosen = [hook for hook in VERBS if hook in hooks]
    pyproject = _PYPROJECT
    if "augmentations" in chosen:  # the release whose transforms the core takes
        pyproject = pyproject.replace('["ceph-trainer"]', '["ceph-trainer", "albumentations==2.0.8"]')
    files = {
        "pyproject.toml": pyproject,
        "README.md": _README,
        f"src/{module_of(name)}/__init__.py": module_text(chosen),
        f"tests/test_{module_of(name)}.py": _TEST,
    }
    for word, value in words.items():
        files = {file: text.replace(word, value) for file, text in files.items()}
    return files


def module_text(hooks: Sequence[str]) -> str:
    """The module of a plugin with these hooks, its names still to be filled in."""
    methods = "".join(f"\n{method(hook)}" for hook in hooks)
    stations = "".join(_METHODS[hook] for hook in hooks if hook in _METHODS)
    before = (_MOVE if "warps" in hooks else "") + (_STILL.replace("@METHODS@", stations) if stations else "")
    text = _MODULE.replace("@HOOKS@", methods).replace("@BEFORE@", before)
    return text.replace("@IMPORTS@", imports_of(re.sub("@[A-Z]+@", "X", text)))


def method(hook: str) -> str:
    """A hook as specs.py declares it, docstring and all, with its neutral answer."""
    lines = inspect.getsource(getattr(Specs, hook)).rstrip().splitlines()
    declared = "\n".join(lines[1:])  # the first line is the verb
    body = "".join(f"\n        {line}" for line in BODIES[hook].splitlines())
    return f"    @hookimpl\n{declared}{body}\n"


def imports_of(text: str) -> str:
    """The import lines for the names that a module's text uses."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)} & _IMPORTS.keys()
    whole = sorted(_IMPORTS[name] for name in used if " " in _IMPORTS[name])
    by_module: dict[str, list[str]] = {}
    for name in sorted(used, key=lambda name: (name[0].islower(), name)):
        if " " not in _IMPORTS[name]:
            by_module.setdefault(_IMPORTS[name], []).append(name)
    lines = {module: _import(module, names) for module, names in sorted(by_module.items())}
    standard = [line for module, line in lines.items() if module in _STANDARD]
    others = whole + [line for module, line in lines.items() if module not in _STANDARD]
    return "\n".join([*standard, *([""] if standard else []), *others])


def _import(module: str, names: Sequence[str]) -> str:
    """The import of these names, in a line, or one line each where that is too long."""
    line = f"from {module} import {', '.join(names)}"
    each = "".join(f"    {name},\n" for name in names)
    return line if len(line) <= 120 else f"from {module} import (\n{each})"
