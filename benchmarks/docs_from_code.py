"""Write docs/hooks.md, docs/cli.md and docs/plugins/ from the code: python benchmarks/docs_from_code.py (make docs).

The hooks come from the docstrings of ceph.hooks.specs, the plugins from the entry points in pyproject.toml, their
classes and settings, the commands from their options; in docs/measurements.md the tables are made, the text is not.
tests/test_docs.py fails where a page is stale.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from PIL import Image

import ceph.plugin as plugin_door
from ceph.cli.app import COMMANDS, load_command
from ceph.cli.plugins import settings_of
from ceph.hooks import specs
from ceph.hooks.discovery import GROUP, file_plugin_name, load
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS, Specs, Verb
from ceph.measuring.formula import FUNCTIONS
from ceph.measuring.table import Classes, built_in

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HAND = "<!-- From here on by hand. -->\n"  # what follows it on a plugin's page is kept
WORDS = {"all": "every"}  # verb -> its decorator in specs, where the verb is a word of Python's own
MADE = "<!-- Made by `make docs` from the code; edit that. -->\n"

TRUST = """\
**A plugin is code that runs with your rights**: it can read, write and send whatever you can. Nothing checks what it
does, so switch on only what you would run yourself. `ceph` imports only the plugins that are named (in the config, with
`--plugin`, or by a command that says so: `plugins show` imports the one, `config schema` all that are installed);
`plugins list` reads their first lines without importing them. Each run notes the version and the sha256 of its plugins
in `environment.json`.

On a shared machine `CEPH_ALLOW_PLUGINS` holds a list: with

```sh
export CEPH_ALLOW_PLUGINS=weighted-loss,hard-mining,/opt/ceph/ohkm.py
```

any other plugin is an error that names the list. Names stand for installed plugins; a file is allowed by what it holds:
its copy in a run folder is allowed too, a changed one is not. An empty list allows none. It guards against mistakes, as
whoever can set a variable can unset it.
"""

SHELF = """\
# The plugins

Strategies that are ready to try, behind the door that any plugin comes through; nearly every hook has a user here, the
others have one among the [examples](../../examples/README.md). Each has a page with its settings and the published
idea that it follows. What is said there is what they do and when they may help; none of it is a promise. Whether one
helps on your films, [`ceph ablate`](../ablation.md) tells.

```sh
ceph run --plugin ema --plugin shape-prior --set plugins.shape-prior.weight=0.2
ceph plugins show ema                      # the settings of one
```

All of them combine, in any order; two that answered one hook of the verb "one" would be refused by their names.
"""

GROUPS = {
    "The four strategies": ("weighted-loss", "hard-mining", "multi-scale", "heavy-augmentation"),
    "Gross errors, and a second look": ("shape-constraint", "shape-prior", "zoom"),
    "Readers, truth and targets": ("readers", "annotator-noise", "anisotropic-targets", "coordinate-loss", "hard-only"),
    "Averages": ("ema", "tta"),
    "Unmarked films, other runs, fine-tuning": ("mean-teacher", "distill", "fine-tune"),
    "Parts of the network": ("attention-head", "cvm-head", "presence"),
    "Curves elsewhere": ("tensorboard", "trackio", "wandb", "mlflow"),
}

HOOKS = """\
# The hooks

A hook is a question that the engine asks. A plugin answers it with a method of that name, marked `@hookimpl`, that
takes the arguments it needs, by name. [plugins/README.md](../plugins/README.md) is how to write one.

Answers are combined by the hook's verb, always in the order of the plugins' names:
"""

LOOP = """\
## The whole of a run

B films of a batch, K landmarks, N training samples, [h, w] the map's size, [H, W] the network image's; a name before
`=` is what the hook answers.
"""

SEEING = """\
## See them at work

`ceph plan` prints this loop with the plugins of your config in it, before anything trains: it reads no film.

`ceph run --trace-hooks` prints each call to stderr (and to `log.txt`), with the plugin, the time it took and the shape
of what it answered, and a mean for each hook after each epoch. `--set train.stop_after=1` keeps it short. It changes
no result. From Python: `with ceph.hooks.trace.traced(): ceph.train(...)`.

Each run ends with every plugin's share of a training step, and writes `hooks.json`: calls and seconds by plugin and
hook, since the process began or went on. All of these are wall times on the CPU, in the process that trains. So on a
GPU they are the time to launch the work, not to do it; what an answer costs later is not in them (the backward pass of
a loss term, the drawing of warps); and neither are calls in the loader's worker processes (`truth`). A plugin that
calls `default()` or the model has the time of that call in its own.
"""


DOOR = """\
## What a plugin is given and may use

All of it is imported from `ceph.plugin`. Points are (x, y), x right, y down; the centre of the first pixel is (0, 0).
"""

CLI = """\
# The commands

Exit codes: 0 done, 1 the run failed, 2 the config or the call is wrong, 130 or 143 interrupted with a checkpoint.
"""


def plugins() -> dict[str, Any]:
    """The classes of the plugins that this project comes with, by name."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][GROUP]
    found = {}
    for name, value in sorted(points.items()):
        module, _, attribute = value.partition(":")
        found[name] = getattr(importlib.import_module(module), attribute)
    return found


def examples() -> dict[str, Path]:
    """The plugins in files of examples/, by name."""
    return {file_plugin_name(str(path)): path for path in sorted((ROOT / "examples").glob("*.py"))}


def users() -> dict[str, list[str]]:
    """Hook -> the plugins of this project that answer it; those of examples/ where no other does."""
    answered = {name: hooks_of(plugin) for name, plugin in plugins().items()}
    shown = {name: hooks_of(load(str(path)).plugin_class) for name, path in examples().items()}

    def by(hook: str, known: Mapping[str, tuple[str, ...]]) -> list[str]:
        return [name for name, hooks in known.items() if hook in hooks]

    return {hook: by(hook, answered) or by(hook, shown) for hook in VERBS}


def link_to(name: str) -> str:
    """Where a plugin is described, or the file of an example."""
    path = examples().get(name)
    return f"[`{name}`](../{path.relative_to(ROOT).as_posix()})" if path else f"[`{name}`](plugins/{name}.md)"


def hooks_page() -> str:
    """docs/hooks.md."""
    used = users()
    (order,) = (block for block in (specs.__doc__ or "").split("\n\n") if "dataset_formats()" in block)
    verbs = (f"- **{v}**: {_sentence(inspect.getdoc(getattr(specs, WORDS.get(v, v))))}" for v in get_args(Verb))
    parts = [MADE, HOOKS, *verbs, "", LOOP, f"```\n{textwrap.dedent(order)}\n```\n", SEEING, "## Each hook\n"]
    for hook, verb in VERBS.items():
        by = ", ".join(map(link_to, used[hook])) or "no plugin of this project"
        parts += [
            f"### `{hook}`\n",
            f"```python\n{_signature(hook)}\n```\n",
            f"{inspect.getdoc(getattr(Specs, hook))}\n",
            f"Verb: **{verb}**. Used by: {by}.\n",
        ]
    return "\n".join([*parts, DOOR, *door()])


def door() -> Iterator[str]:
    """What `ceph.plugin` gives beside plain types and errors: each with its fields or signature, and its docstring."""
    for name in ("Run", "Origin", "Sample", "Batch", "DataSet", "Warp", "Figure", "Duration", "Plugin", "PluginConfig"):
        thing = getattr(plugin_door, name)
        yield f"### `{name}`\n\n{inspect.getdoc(thing)}\n"
        if dataclasses.is_dataclass(thing):
            fields = (f"{field.name}: {field.type}" for field in dataclasses.fields(thing))
            yield "```python\n" + "\n".join(fields) + "\n```\n"
        elif name in ("Warp", "Duration"):
            own = ((n, m) for n, m in vars(thing).items() if inspect.isfunction(m) and not n.startswith("_"))
            methods = (f"def {n}{_bare(m)}  # {inspect.getdoc(m)}" for n, m in own)
            yield "```python\n" + "\n".join(methods) + "\n```\n"
    for name in (
        "generator",
        "load",
        "moving_average",
        "reader_disagreement_mm",
        "similarity",
        "transform",
        "procrustes",
        "gaussians",
        "soft_points",
        "write_text",
    ):
        function = getattr(plugin_door, name)
        yield f"### `{name}`\n\n```python\n{name}{_bare(function)}\n```\n\n{inspect.getdoc(function)}\n"


def _bare(function: Any) -> str:
    return str(inspect.signature(function)).replace("'", "")


def shelf_page() -> str:
    """docs/plugins/README.md: every plugin with its first sentence, and whom to trust."""
    known = plugins()
    parts = [MADE, SHELF]
    for group, names in GROUPS.items():
        rows = [(f"[`{name}`]({name}.md)", _sentence(known[name].__doc__)) for name in names]
        parts += [f"## {group}\n", _table(("plugin", "what it does"), rows)]
    return "\n".join([*parts, "## Whom to trust\n", TRUST])


def plugin_page(name: str, plugin: Any) -> str:
    """docs/plugins/NAME.md: what the code says, and what a hand wrote below it."""
    page = DOCS / "plugins" / f"{name}.md"
    by_hand = page.read_text("utf-8").partition(HAND)[2] if page.exists() else ""
    said = f"# {name}\n\n{inspect.cleandoc(plugin.__doc__ or '')}\n"
    hooks = ", ".join(f"[`{hook}`](../hooks.md#{hook})" for hook in hooks_of(plugin))
    return "\n".join([MADE, said, _settings(plugin), f"Hooks: {hooks}.\n", *_relations(plugin), HAND, by_hand.lstrip()])


def _relations(plugin: Any) -> Iterator[str]:
    for relation, words in (("requires", "It needs"), ("conflicts", "It does not go together with")):
        if others := getattr(plugin, relation):
            yield f"{words} {', '.join(f'[`{other}`]({other}.md)' for other in others)}.\n"


def _settings(plugin: Any) -> str:
    rows = [
        (f"`{s['name']}`", s["type"], f"`{s['default']}`", s["description"]) for s in settings_of(plugin.config_model())
    ]
    return _table(("setting", "type", "default", "meaning"), rows) if rows else "It has no settings.\n"


def cli_page() -> str:
    """docs/cli.md."""
    parts = [
        MADE,
        CLI,
        _table(("command", "what it does"), [(f"[`ceph {n}`](#ceph-{n})", t) for n, (_, t) in COMMANDS.items()]),
    ]
    for name in COMMANDS:
        parts += _command(f"ceph {name}", load_command(name), "##")
    return "\n".join(parts)


def measurements_page() -> str:
    """docs/measurements.md with its tables anew."""
    functions = [(f"`{name}`", str(len(one.takes)), one.meaning) for name, one in FUNCTIONS.items()]
    rows = []
    for one in built_in():
        sd = "" if one.sd is None else f" ± {one.sd:g}"
        norm = "" if one.norm is None else f"{one.norm:g}{sd}"
        rows.append((one.name, f"``{one.formula.text}``", one.unit, norm, one.source, ", ".join(one.of)))
    classed = [
        (one.name, *(_classes(each) for each in (one.classes, one.challenge)))
        for one in built_in()
        if one.classes or one.challenge
    ]
    made = {
        "functions": _table(("function", "takes", "value"), functions),
        "measurements": _table(("measurement", "formula", "unit", "norm", "source", "analyses"), rows),
        "classes": _table(("measurement", "classes", "ISBI 2015 challenge"), classed),
    }
    text = (DOCS / "measurements.md").read_text("utf-8")
    for name, table in made.items():
        begin, end = f"<!-- made: {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(begin)
        text = before + begin + table + end + rest.partition(end)[2]
    return text


def _classes(classes: Classes | None) -> str:
    if classes is None:
        return ""
    limits = [f" < {limit:g} ≤ " for limit in classes.limits]
    return "".join(name + limit for name, limit in zip(classes.names, [*limits, ""], strict=True))


def _command(words: str, command: Any, level: str) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    shown = [param for param in command.params if param.name != "help"]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    flags = [param for param in shown if param.param_type_name != "argument"]
    usage = [words, *(["COMMAND"] if inner else []), *map(_argument, arguments), *(["[OPTIONS]"] if flags else [])]
    yield f"{level} {words}\n"
    yield f"```\n{' '.join(usage)}\n```\n\n{inspect.cleandoc(command.help or '')}\n"
    rows = [(f"`{_argument(p)}`", _meaning(p)) for p in arguments] + [(_names(p), _meaning(p)) for p in flags]
    if rows:
        yield _table(("option", "meaning"), rows)
    if command.epilog:
        calls = textwrap.dedent(inspect.cleandoc(command.epilog.replace("\b", "")).partition("\n")[2])
        yield "```sh\n" + re.sub(r"(?m)(\S)( {3,})(\S)", r"\1\2# \3", calls) + "\n```\n"
    for name, child in inner.items():
        yield from _command(f"{words} {name}", child, f"{level}#")


def _argument(param: Any) -> str:
    name = (param.metavar or param.name.upper()).removesuffix("...")
    text = name + ("..." if param.nargs == -1 else "")
    return text if param.required else f"[{text}]"


def _names(param: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    return names if param.is_flag else f"{names} `{param.metavar or _choices(param)}`"


def _choices(param: Any) -> str:
    known = getattr(getattr(param, "type", None), "choices", None)  # typer before and after it left click's types
    known = known or get_args(getattr(getattr(param, "type_descriptor", None), "annotation", None))
    return "|".join(str(getattr(choice, "value", choice)) for choice in known) or "VALUE"


def _meaning(param: Any) -> str:
    text, default = (getattr(param, "help", None) or "").strip(), param.default
    plain = isinstance(default, (int, float, str, Path)) and not isinstance(default, bool)
    return f"{text} Default: `{default}`." if plain and param.show_default is not False else text


def _signature(hook: str) -> str:
    given = inspect.signature(getattr(Specs, hook))
    arguments = [f"{p.name}: {p.annotation}" for p in given.parameters.values() if p.name != "self"]
    line = f"{hook}({', '.join(arguments)}) -> {given.return_annotation}"
    if len(line) <= 100:
        return line
    return f"{hook}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f") -> {given.return_annotation}"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, *rows)]
    return "\n".join((lines[0], "|" + "---|" * len(header), *lines[1:])) + "\n"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").strip().partition("\n\n")[0].split())


def pages() -> dict[Path, str]:
    """Every page that is made from the code, by its file."""
    made = {"hooks.md": hooks_page(), "cli.md": cli_page(), "plugins/README.md": shelf_page()}
    made |= {f"plugins/{name}.md": plugin_page(name, plugin) for name, plugin in plugins().items()}
    made["measurements.md"] = measurements_page()
    return {DOCS / name: re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n" for name, text in made.items()}


def links(page: Path) -> Iterable[str]:
    """What a page links to inside the project, pictures too, as it is written there."""
    if page.suffix != ".md":
        return ()
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return (target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("http", "mailto:")))


def listed() -> list[Path]:
    """The pages of the site, in the order of its menu, and the files of its looks."""
    names = re.findall(r'"([^"]+\.(?:md|css|js))"', (ROOT / "zensical.toml").read_text("utf-8"))
    return [ROOT / name for name in names]


def reached() -> set[Path]:
    """The files of the site: what its menu lists, and every file of the project that a page of these leads to."""
    found, todo = set(), [(page, "its menu") for page in listed()]
    while todo:
        page, by = todo.pop()
        if not page.is_file():
            raise SystemExit(f"{page} is linked to by {by}, and is no file")
        if page not in found:
            found.add(page)
            files = (target.partition("#")[0] for target in links(page))
            todo += [((page.parent / file).resolve(), page.name) for file in files if file]
    return found


def gather(folder: Path) -> None:
    """Lay every page of the site, and what it links to, into a folder, each under its own path."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in reached():
        there = folder / path.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)


def gallery(folder: Path = ROOT / "build" / "gallery") -> None:
    """Run the commands of docs/gallery.md in an empty folder, and shrink the pictures that the page shows."""
    page = DOCS / "gallery.md"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    here = {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}
    for lines in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        subprocess.run(["/bin/sh", "-exc", lines], cwd=folder, env=here, check=True)  # noqa: S603 - our own page
    for shown in (DOCS / target for target in links(page) if target.startswith("gallery/")):
        drawn = max(folder.rglob(f"{shown.stem}.png"), key=lambda path: path.stat().st_mtime)
        picture = Image.open(drawn).convert("RGB")
        picture.thumbnail((1200, 1600))
        shown.parent.mkdir(exist_ok=True)
        picture.save(shown, quality=75, method=6)


def main() -> None:
    """Write the pages that differ; `--gather FOLDER` also lays out the site's, `--gallery` draws their pictures."""
    for path, text in pages().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    match sys.argv[1:]:
        case ["--gather", folder]:
            gather(Path(folder))
        case ["--gallery"]:
            gallery()


if __name__ == "__main__":
    main()
