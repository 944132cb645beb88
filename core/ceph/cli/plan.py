"""`ceph plan`: who answers which hook, where in the loop, and what is not default, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ceph.cli import options
from ceph.errors import ConfigError

if TYPE_CHECKING:
    from ceph.config.load import Resolved
    from ceph.report.plan import Setting

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph plan                                                  the embedded synthetic set",
        "ceph plan ceph.yaml --plugin weighted-loss --plugin hard-mining",
        "ceph plan --preset quick --plugin multi-scale --plugin ./my_idea.py",
        "ceph plan ceph.yaml --batch                                how large train.batch_size may be here",
    )
)
@options.with_config(reading=True)
def plan(
    resolved: Resolved,
    batch: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--batch", help="Find the largest batch that trains on this device, by trying: minutes.")
    ] = False,
) -> None:
    """Show what a run would do, and who does it. It takes what `ceph run` takes; without --batch no film is read."""
    typer.echo(describe(resolved), nl=False)
    if batch:
        from textwrap import fill

        from ceph.report.plan import WIDTH
        from ceph.tools.largest_batch import largest_batch

        found = largest_batch(resolved)
        typer.echo("\n" + fill(f"largest batch: {found}" + f"; {found.remedy}" * bool(found.remedy), WIDTH))


def describe(resolved: Resolved) -> str:
    """The page of a config. Raises ConfigError where its plugins cannot be asked or do not go together."""
    from ceph.hooks.misuse import find_misuse, hooks_of
    from ceph.report.plan import PlannedPlugin, plan_text

    problems = find_misuse(resolved.create_plugins(), {name: p.version for name, p in resolved.plugins.items()})
    if problems:
        raise ConfigError(problems)
    plugins = [
        PlannedPlugin(name, p.version, _first_line(cls.__doc__), hooks_of(cls), tuple(cls.conflicts))
        for name, p in sorted(resolved.plugins.items())
        for cls in (p.plugin_class,)
    ]
    data, train = resolved.config.data, resolved.config.train
    where = data.place if data.path else "the embedded synthetic set"
    trains = (
        f"{train.epochs} epochs of {resolved.config.model.backbone} on {where}: "
        f"{train.batch_size} films a batch, {data.size[0]} x {data.size[1]} px, loss {resolved.config.loss.name}, "
        f"seed {train.seed}"
    )
    return plan_text(trains, plugins, list(changed(resolved)))


def changed(resolved: Resolved) -> Iterator[Setting]:
    """The settings that differ from their defaults, of plugins too, with where each came from."""
    from pydantic_core import to_jsonable_python

    from ceph.config.dump import flow
    from ceph.config.models import Config
    from ceph.config.source import dotted
    from ceph.report.plan import Setting

    defaults = Config().model_dump(mode="json")
    for name, plugin in resolved.plugins.items():
        fields = plugin.plugin_class.config_model().model_fields
        given = {info.alias or key: info.get_default(call_default_factory=True) for key, info in fields.items()}
        defaults["plugins"][name] = to_jsonable_python(given, fallback=lambda _: None)
    for path, value in _leaves(resolved.config.model_dump(mode="json")):
        if value != _at(defaults, path):
            key = dotted(path)
            yield Setting(key, flow(value), resolved.provenance.get(key, ""))


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return ...
        values = values[key]
    return values


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0].strip()
