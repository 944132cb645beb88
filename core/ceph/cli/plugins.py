"""`ceph plugins`: list and show what is installed, check that a plugin keeps the rules, and begin a new one."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ceph.cli import options
from ceph.cli.console import table
from ceph.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from ceph.hooks.discovery import LoadedPlugin
    from ceph.testing import Check

app = options.new_app("List, show, check and begin plugins.", no_args_is_help=True)


def complete_hook(incomplete: str) -> list[str]:
    """Names of hooks that begin so."""
    from ceph.hooks.specs import VERBS

    return [hook for hook in VERBS if hook.startswith(incomplete)]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog=options.examples("ceph plugins list", "ceph plugins list --json"))
def list_plugins(json: AsJson = False) -> None:  # noqa: FBT002 - a flag
    """List every installed plugin and what it does. Nothing is imported."""
    from ceph.hooks.discovery import installed

    found = [
        {
            "name": plugin.name,
            "version": plugin.version,
            "distribution": plugin.distribution,
            "source": str(plugin.source or plugin.value),
            "description": f"broken: {plugin.fault}" if plugin.fault else plugin.description,
        }
        for plugin in installed()
    ]
    if json:
        _print_json(found)
    elif found:
        rows = [(p["name"], p["version"], p["distribution"], p["description"]) for p in found]
        typer.echo(table(rows, header=("NAME", "VERSION", "SOURCE", "WHAT IT DOES")))
    else:
        typer.echo("no plugins are installed; `--plugin ./file.py` takes one from a file")


@app.command(epilog=options.examples("ceph plugins show hard-mining", "ceph plugins show ./ohkm.py"))
def show(
    plugin: Annotated[str, typer.Argument(metavar="NAME|FILE", autocompletion=options.complete_plugin)],
    json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Show one plugin, its settings and its hooks. The plugin is imported."""
    from ceph.hooks.discovery import load

    facts = describe(load(plugin))
    if json:
        _print_json(facts)
        return
    said = [table([(" ".join(text.split()),)]) for text in facts["description"].split("\n\n")]
    typer.echo(f"{facts['name']} {facts['version']}  ({facts['source']})\n")
    typer.echo("\n\n".join(said).strip() + "\n" if facts["description"] else "(no docstring)\n")
    for relation in ("requires", "conflicts"):
        if facts[relation]:
            typer.echo(f"{relation}: {', '.join(facts[relation])}\n")
    typer.echo("settings:" if facts["settings"] else "settings: none")
    rows = [(f"  {s['name']}", s["type"], s["default"], s["description"]) for s in facts["settings"]]
    typer.echo(table(rows) + "\n" if rows else "")
    typer.echo("hooks:" if facts["hooks"] else "hooks: none")
    typer.echo(table([(f"  {hook['name']}", hook["description"]) for hook in facts["hooks"]]))


@app.command(
    epilog=options.examples(
        "ceph plugins check hard-mining",
        "ceph plugins check ./ohkm.py --set plugins.ohkm.keep=5 --neutral plugins.ohkm.keep=29",
        "ceph plugins check ./ohkm.py --fast                      seconds: nothing trains",
        "ceph plugins check hard-mining --json                    what each check found, for a program",
    )
)
def check(
    plugin: Annotated[str, typer.Argument(metavar="NAME|FILE", autocompletion=options.complete_plugin)],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="plugins.NAME.KEY=VALUE",
            help="Check with this setting. Repeatable.",
            show_default=False,
        ),
    ] = None,
    neutral: Annotated[
        list[str] | None,
        typer.Option(
            metavar="plugins.NAME.KEY=VALUE",
            help="With this setting training must be as without the plugin, bit for bit. Repeatable.",
            show_default=False,
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out the checks that train.")] = False,  # noqa: FBT002
    json: AsJson = False,  # noqa: FBT002 - a flag
) -> None:
    """Check that a plugin keeps the rules: its settings, hooks and answers, and a few tiny runs."""
    loaded, settings = load_with(plugin, set_ or ())
    without = load_with(plugin, neutral)[1] if neutral else None
    import logging

    from ceph.testing import suite

    logging.getLogger("ceph").addHandler(logging.NullHandler())  # what a run logs is not asked for here
    found = suite(loaded.plugin_class, settings=settings, neutral=without, name=loaded.name)
    if not json:
        typer.echo(f"{loaded.label}  ({loaded.source})")
    results = []
    for one in found:
        if not one.foreign and not (fast and one.trains):
            results.append(result_of(one))
            if not json:
                print_result(results[-1])
    words = [result["result"] for result in results]
    if json:
        _print_json({"plugin": loaded.name, "version": loaded.version, "checks": results})
    else:
        counts = ", ".join(f"{words.count(word)} {word}" for word in ("ok", "failed", "left out"))
        foreign = sum(one.foreign for one in found)
        typer.echo(f"{len(results)} checks: {counts}; {foreign} more are of hooks that it does not answer")
    if "failed" in words:
        raise typer.Exit(1)


def load_with(plugin: str, settings: Sequence[str]) -> tuple[LoadedPlugin, dict[str, Any]]:
    """A plugin by its name or file, and its settings from `plugins.NAME.KEY=VALUE`, {} for its defaults.

    Any fault is a ConfigError.
    """
    from ceph.config.load import from_values
    from ceph.hooks import discovery

    try:
        loaded = discovery.load(plugin)
        own = f"plugins.{loaded.name}."
        for text in settings:
            if not text.startswith(own):
                raise ConfigError(f"{text!r} is no setting of this plugin", key="--set", hint=f"--set {own}KEY=VALUE")
        from ceph.testing.subject import Subject

        companions = Subject.of(loaded.plugin_class, name=loaded.name).companions()
        resolved = from_values({}, plugins=[plugin, *companions], settings=settings)
    except PluginError as error:  # a plugin that cannot be loaded is a wrong call here, not a failed run
        raise ConfigError(error.problems) from error
    given = {key: value for key, value in resolved.config.plugins[loaded.name].items() if key != "from"}
    return loaded, given if settings else {}


def result_of(check: Check) -> dict[str, Any]:
    """Run one check: its id and rule, the result (ok, failed, left out), the reason for that, and notes."""
    import warnings

    from ceph.testing import ConformanceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            reason, failed = check.run(), False
        except AssertionError as error:
            reason, failed = str(error), True
    notes = [str(w.message) for w in caught if issubclass(w.category, ConformanceWarning)]
    word = "failed" if failed else "left out" if reason else "ok"
    return {"check": check.id, "rule": check.description, "result": word, "reason": reason, "notes": notes}


def print_result(found: Mapping[str, Any]) -> None:
    """Print the line of a check, what failed and the notes beneath it."""
    failed = found["result"] == "failed"
    said = found["rule"] if failed or not found["reason"] else found["reason"]
    typer.echo(f"{'FAILED' if failed else found['result']:<9} {found['check']:<33} {said}")
    for text in [*([found["reason"]] if failed else []), *(f"note: {note}" for note in found["notes"])]:
        for line in text.splitlines():
            typer.echo(f"          {line}")


@app.command(
    epilog=options.examples(
        "ceph plugins new my-idea",
        "ceph plugins new my-idea --hook loss_terms --hook epoch_end --out ~/src/my-idea",
    )
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, as in my-idea.", show_default=False)],
    hook: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOOK",
            help="A hook that it answers; default: landmark_weights. Repeatable.",
            autocompletion=complete_hook,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The new folder; default: ./NAME.", show_default=False)
    ] = None,
) -> None:
    """Begin a plugin in a distribution of its own, with its hooks, their shapes, and a test that checks the rules."""
    from ceph.cli.new_plugin import write

    where = out or Path(name)
    files = write(name, hook or ["landmark_weights"], where)
    typer.echo("\n".join(f"wrote {where / file}" for file in files))
    typer.echo(f"next: pip install -e {where} && pytest {where} && ceph run --plugin {name}")


def describe(loaded: LoadedPlugin) -> dict[str, Any]:
    """What a person may want to know of a plugin, as plain values."""
    import inspect

    cls = loaded.plugin_class
    return {
        "name": loaded.name,
        "version": loaded.version,
        "distribution": loaded.distribution,
        "source": str(loaded.source),
        "class": cls.__name__,
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "requires": list(cls.requires),
        "conflicts": list(cls.conflicts),
        "settings": settings_of(cls.config_model()),
        "hooks": hooks_of(cls),
    }


def settings_of(model: Any) -> list[dict[str, str]]:
    """Each setting of a model: name, type in words with its bounds, default as written, description."""
    from pydantic_core import PydanticUndefined, to_jsonable_python

    from ceph.config.dump import flow

    found = []
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True)
        bounds = [text for text in map(_bound, info.metadata) if text]
        found.append(
            {
                "name": info.alias or name,
                "type": type_in_words(info.annotation) + (f" ({', '.join(bounds)})" if bounds else ""),
                "default": "(required)" if default is PydanticUndefined else flow(to_jsonable_python(default)),
                "description": " ".join((info.description or "").split()),
            }
        )
    return found


def type_in_words(annotation: Any) -> str:
    """`tuple[int, ...] | None` -> `list of whole number or null`."""
    import types
    from typing import Literal, Union, get_args, get_origin

    from ceph.config.duration import Duration

    words: dict[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path"}
    words |= {type(None): "null", dict: "mapping", Any: "anything", Duration: "epochs or %"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(str(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_in_words(argument) for argument in arguments)
    if origin is Annotated:
        bounds = ", ".join(text for text in map(_bound, arguments[1:]) if text)
        return type_in_words(arguments[0]) + (f" ({bounds})" if bounds else "")
    if origin in (tuple, list, set, frozenset):
        if origin is tuple and Ellipsis not in arguments:
            return f"[{', '.join(type_in_words(argument) for argument in arguments)}]"
        return f"list of {type_in_words(arguments[0])}"
    if origin in (dict, Mapping, MutableMapping):
        return f"mapping of {type_in_words(arguments[0])} to {type_in_words(arguments[1])}"
    return words.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _bound(constraint: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}
    found = [
        f"{sign} {value:g}" for name, sign in signs.items() if (value := getattr(constraint, name, None)) is not None
    ]
    return ", ".join(found) if found else ", ".join(_bound(c) for c in getattr(constraint, "metadata", ()))


def hooks_of(cls: Any) -> list[dict[str, str]]:
    """The hooks that a class answers, each with the first line of what the hook is."""
    from ceph.hooks.specs import Specs

    found = []
    for name in dir(cls):
        if hasattr(getattr(cls, name, None), "ceph_impl"):
            spec = getattr(Specs, name, None)
            text = (spec.__doc__ or "").strip() if spec is not None else "(no such hook)"
            found.append({"name": name, "description": " ".join(text.split("\n\n", 1)[0].split())})
    return found


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
