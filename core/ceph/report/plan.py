"""What `ceph plan` prints: the training loop with the answering plugins in it, who alone may answer, what is set."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ceph.hooks import specs
from ceph.hooks.specs import VERBS

WIDTH = 80
_GLUE = "\xa0"  # holds a name and its version in one line
_INDENT = 4  # of the loop in the docstring of ceph.hooks.specs
_HOOK = re.compile(rf"\b({'|'.join(VERBS)})\(")


@dataclass(frozen=True)
class PlannedPlugin:
    """A plugin that is on, the hooks that it answers, and the plugins that it does not go together with."""

    name: str
    version: str
    description: str
    hooks: tuple[str, ...]
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """A value that is not the default, as it would be written, and where it came from."""

    key: str
    value: str
    origin: str


def plan_text(trains: str, plugins: Sequence[PlannedPlugin], settings: Sequence[Setting]) -> str:
    """The whole page, in lines of at most 80 columns where names and paths allow it; `plugins` are sorted by name.

    `trains` says in a line or two what is trained.
    """
    labels = {p.name: f"{p.name}{_GLUE}{p.version}" for p in plugins}
    answers = {hook: [p.name for p in plugins if hook in p.hooks] for hook in VERBS}
    asked = [(hook, VERBS[hook], ", ".join(labels[n] for n in names)) for hook, names in answers.items() if names]
    parts = [
        _wrapped(trains),
        _section("plugins", [(labels[p.name], p.description) for p in plugins], "none; the core trains alone"),
        _section("who answers each hook", asked, "nobody"),
        _section("exclusive", list(_exclusive(plugins, answers)), "nothing"),
        _section("settings that are not default", [(s.key, s.origin, s.value) for s in settings], "none"),
        "the loop (<- who answers; a hook without a name is the core's alone):\n" + "\n".join(loop(answers)),
        _wrapped("Nothing was read, built or trained; what depends on the films is checked by `ceph run --dry-run`."),
    ]
    return "\n\n".join(parts).replace(_GLUE, " ") + "\n"


def loop(answers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The loop of `ceph.hooks.specs`, a line each; below a hook that plugins answer, their names in order."""
    (text,) = (block for block in (specs.__doc__ or "").split("\n\n") if "dataset_formats()" in block)
    for line in text.splitlines():
        code, *note = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        indent = " " * (len(line) - len(line.lstrip()) - _INDENT + 2)
        hooks = _HOOK.findall(code)
        yield f"{indent}{code}" + (f"  # {note[0]}" if note and not hooks else "")
        for hook in hooks:
            if answers.get(hook):
                names = (" * " if VERBS[hook] == "product" else ", ").join(answers[hook])
                yield f"{indent}  <- {f'{hook}: ' if len(hooks) > 1 else ''}{names}"


def _exclusive(plugins: Sequence[PlannedPlugin], answers: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    one = [hook for hook, verb in VERBS.items() if verb == "one"]
    for hook in one:
        if answers[hook]:
            yield hook, f"only {answers[hook][0]} may; a second plugin that answers it is refused"
    for plugin in plugins:
        if plugin.conflicts:
            yield plugin.name, f"does not go together with {', '.join(plugin.conflicts)}"
    yield "free", ", ".join(hook for hook in one if not answers[hook])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _section(title: str, rows: Sequence[Sequence[str]], empty: str) -> str:
    if not rows:
        return f"{title}: {empty}"
    sizes = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]) - 1)]
    lines = [f"{title}:"]
    for row in rows:
        head = "  " + "".join(f"{cell:<{size}}" for cell, size in zip(row, sizes, strict=False))
        room = WIDTH - len(head)
        if room < 24 < len(row[-1]):  # the rest of the line is too narrow: begin below
            lines.append(head.rstrip())
            head, room = " " * 6, WIDTH - 6
        wrapped = textwrap.wrap(row[-1], room, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{head}{wrapped[0]}".rstrip())
        lines += [" " * len(head) + more for more in wrapped[1:]]
    return "\n".join(lines)
