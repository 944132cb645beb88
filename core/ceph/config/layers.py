"""Where values come from: presets, files with `extends`, flags; each a tree of nodes, merged into one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ceph.config.source import MAX_BYTES, Node, Source, dotted, parse, parse_bytes
from ceph.config.words import show
from ceph.errors import Place, Problem, nearest
from ceph.files import read_bytes

PRESETS = Path(__file__).parent / "presets"
WEIGHTS = ("auto", "hub", "offline", "drawn", "none")  # words of model.weights; anything else is a file
CACHES = ("auto", "none")  # words of data.cache; anything else is a folder
PATHS: tuple[tuple[str, str, tuple[str, ...]], ...] = (  # sections, keys, and the words that are no paths there
    ("data", "path", ()),
    ("data", "films_table", ()),
    ("data", "unmarked", ()),
    ("data", "cache", CACHES),
    ("model", "weights", WEIGHTS),
)


@dataclass
class Layers:
    """The merged layers, lowest first, and every problem met while reading them."""

    root: Node = field(default_factory=lambda: Node({}, "default"))
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False  # a text could not be read to its end
    unasked: bool = False  # the user has not named these files: what they name as a plugin's file must be trusted

    def add(self, layer: Node) -> None:
        """Lay one more layer on top."""
        self.root = merge(self.root, layer)

    def add_source(self, source: Source, folder: Path, chain: tuple[str, ...] = ()) -> None:
        """Lay a text that was parsed, and below it what it extends; its relative paths start at `folder`."""
        self.problems += source.problems
        self.broken |= source.broken
        self.add_tree(source.root, folder, chain)

    def add_tree(self, tree: Node, folder: Path, chain: tuple[str, ...] = ()) -> None:
        """Lay a tree, and below it what its `extends` names."""
        tree, problems = normalise(tree, folder)
        self.problems += problems
        if self.unasked or any(is_of_run(Path(link)) for link in chain if os.sep in link):
            tree = unasked(tree)
        items = dict(tree.value) if isinstance(tree.value, Mapping) else {}
        base = items.pop("extends", None)
        if base is not None and base.value is not None:
            self.extend(base, folder, chain)
        self.add(replace(tree, value=items))

    def extend(self, base: Node, folder: Path, chain: tuple[str, ...]) -> None:
        """Lay the preset or the file that `extends: base` names."""
        name = base.value
        if not isinstance(name, str):
            self.fault(f"must be the name of a preset or a file, not {show(base.plain())}", "extends", base.place)
        elif is_file_name(name, (".yaml", ".yml")):
            try:
                path = folder / Path(name).expanduser()
            except RuntimeError as error:  # `~nobody` has no home
                self.fault(f"is no path: {error}", "extends", base.place)
            else:
                self.add_file(path, "extends", base.place, chain=chain)
        else:
            self.add_preset(name, "extends", base.place, chain=chain)

    def add_preset(self, name: str, key: str, place: Place | None, chain: tuple[str, ...] = ()) -> None:
        """Lay a preset by name."""
        names = preset_names()
        if name not in names:
            self.fault(f"there is no preset {name!r}", key, place, nearest(name, names))
            return
        link = f"preset {name}"
        if not self.cycle(link, key, place, chain):
            text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
            self.add_source(parse(text, link, origin=link), Path.cwd(), (*chain, link))

    def add_file(
        self, path: Path, key: str, place: Place | None, *, name: str = "", chain: tuple[str, ...] = ()
    ) -> None:
        """Lay a config file; `name` is how it is shown (default: relative to the current folder)."""
        path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links away from the file's own folder
        name = name or shown(path)
        try:
            data = read_bytes(path, MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            self.fault(f"cannot read the config {name}: {reason.lower()}", key, place)
            self.broken = True
            return
        if not self.cycle(str(path), key, place, chain, name):
            self.add_source(parse_bytes(data, name), path.parent, (*chain, str(path)))

    def cycle(self, link: str, key: str, place: Place | None, chain: tuple[str, ...], name: str = "") -> bool:
        """Whether `link` stands in the chain already; notes the problem."""
        if link not in chain:
            return False
        loop = [shown(Path(part)) if os.sep in part else part for part in (*chain[chain.index(link) :], link)]
        self.fault(f"{name or link} extends itself: {' -> '.join(loop)}", key, place)
        return True

    def add_settings(self, settings: Sequence[str]) -> None:
        """Lay every `--set KEY=VALUE`."""
        for setting in settings:
            key, equals, value = setting.partition("=")
            path = tuple(part.strip() for part in key.split("."))
            place = flag_place("--set", setting)
            if not equals or not all(path):
                self.fault(f"must be KEY=VALUE, not {setting!r}", "", place, "for example --set train.lr=1e-4")
                continue
            if path == ("extends",):
                self.fault("cannot be set here", "extends", place, "use --preset NAME")
                continue
            source = parse(value, "--set", origin="--set", before=f"{key}=", at=path)
            self.problems += source.problems
            if source.problems:
                continue
            tree, problems = normalise(nest(path, source.root, place), Path.cwd())
            self.problems += problems
            self.add(tree)

    def add_flag(self, flag: str, path: Sequence[str], value: Any, text: str) -> None:
        """Lay the value of one flag at a key."""
        place = flag_place(flag, text)
        tree, problems = normalise(nest(path, from_python(value, flag, place), place), Path.cwd())
        self.problems += problems
        self.add(tree)

    def fault(self, what: str, key: str, place: Place | None, hint: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(what, key, place, hint))


def preset_names() -> list[str]:
    """The presets that come with ceph."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def merge(below: Node, above: Node) -> Node:
    """Mappings are joined, key by key; anything else is replaced."""
    if not (isinstance(below.value, Mapping) and isinstance(above.value, Mapping)):
        return above
    joined = dict(below.value)
    for key, node in above.value.items():
        joined[key] = merge(joined[key], node) if key in joined else node
    # The place and origin of a mapping are those of the layer that first opened it: `--plugin x` keeps them.
    return replace(above if below.origin == "default" else below, value=joined)


def nest(path: Sequence[str], leaf: Node, place: Place | None) -> Node:
    """The tree that holds only `leaf`, at `path`."""
    for key in reversed(path):
        leaf = Node({key: replace(leaf, key_place=place)}, leaf.origin, place)
    return leaf


def from_python(value: Any, origin: str, place: Place | None = None) -> Node:
    """Plain Python values as nodes; a Path becomes an absolute path's text. Raises TypeError for anything else."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a config must be str")
        return Node({key: from_python(item, origin, place) for key, item in value.items()}, origin, place)
    if isinstance(value, (list, tuple)):
        return Node(tuple(from_python(item, origin, place) for item in value), origin, place)
    if isinstance(value, os.PathLike):
        return Node(os.path.abspath(os.fspath(value)), origin, place)  # noqa: PTH100 - does not follow links
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"a config holds finite numbers only, not {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return Node(value, origin, place)
    raise TypeError(f"a config holds plain values only, not a {type(value).__name__}")


def normalise(tree: Node, folder: Path) -> tuple[Node, list[Problem]]:
    """An empty section is an empty mapping, and paths are absolute: relative ones start at `folder`."""
    problems: list[Problem] = []
    if not isinstance(tree.value, Mapping):
        return tree, problems
    top = {key: _open(node) if key != "extends" else node for key, node in tree.value.items()}
    plugins = top.get("plugins")
    if plugins is not None and isinstance(plugins.value, Mapping):
        names = {
            name: _absolute(_open(node), "from", folder, (), ("plugins", name), problems)
            for name, node in plugins.value.items()
        }
        top["plugins"] = replace(plugins, value=names)
    for section, key, words in PATHS:
        if section in top:
            top[section] = _absolute(top[section], key, folder, words, (section,), problems)
    for section, key in (("data", "path"), ("evaluate", "also")):
        whole = top.get(section)
        if whole is not None and isinstance(whole.value, Mapping) and (node := whole.at(key)) is not None:
            listed = _absolute_each(node, folder, (section, key), problems)
            top[section] = replace(whole, value={**whole.value, key: listed})
    return replace(tree, value=top), problems


def is_of_run(config: Path) -> bool:
    """Whether a config lies in a run folder."""
    from ceph.runfolder.place import CHECKPOINTS, ENVIRONMENT, STATE  # with numpy

    return any((config.parent / name).exists() for name in (STATE, ENVIRONMENT, CHECKPOINTS))


def unasked(tree: Node) -> Node:
    """The tree with every plugin's file marked as one that the user has not named."""
    plugins = tree.at("plugins")
    if plugins is None or not isinstance(plugins.value, Mapping) or not isinstance(tree.value, Mapping):
        return tree
    names = {
        name: replace(node, value={**node.value, "from": replace(file, unasked=True)})
        if isinstance(node.value, Mapping) and (file := node.at("from")) is not None
        else node
        for name, node in plugins.value.items()
    }
    return replace(tree, value={**tree.value, "plugins": replace(plugins, value=names)})


def _open(node: Node) -> Node:
    return replace(node, value={}) if node.value is None else node


def _absolute_each(node: Node, folder: Path, path: tuple[str | int, ...], problems: list[Problem]) -> Node:
    """The list or mapping of sets with their paths made absolute."""

    def one(part: Node, place: str | int) -> Node:
        if isinstance(part.value, str):
            alone = Node({"path": part}, part.origin, part.place)
            return _absolute(alone, "path", folder, (), (*path, place), problems).at("path") or part
        return _absolute(part, "path", folder, (), (*path, place), problems)

    if isinstance(node.value, Mapping):
        return replace(node, value={name: one(part, name) for name, part in node.value.items()})
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(one(part, place) for place, part in enumerate(node.value)))
    return node


def _absolute(
    section: Node, key: str, folder: Path, words: Iterable[str], path: tuple[str | int, ...], problems: list[Problem]
) -> Node:
    """The section with the path at `key` made absolute, unless it is one of the `words`."""
    words = tuple(words)
    node = section.at(key)
    if node is None or not isinstance(node.value, str) or not isinstance(section.value, Mapping):
        return section
    text = node.value
    if text in words or not text:
        return section
    if "\0" in text:
        problems.append(Problem("a path cannot hold a NUL character", dotted((*path, key)), node.place))
        return section
    if words and not is_file_name(text):
        what = f"must be {', '.join(words)} or a path, not {text!r}"
        hint = nearest(text, words)
        hint = hint if hint.startswith("did") else f"write a path with a slash: ./{text}"
        problems.append(Problem(what, dotted((*path, key)), node.place, hint))
        return section
    try:
        absolute = os.path.abspath(folder / Path(text).expanduser())  # noqa: PTH100 - does not follow links
    except (OSError, RuntimeError, ValueError) as error:
        problems.append(Problem(f"is no path: {error}", dotted((*path, key)), node.place))
        return section
    return replace(section, value={**section.value, key: replace(node, value=absolute)})


def is_file_name(text: str, suffixes: tuple[str, ...] = ()) -> bool:
    """Whether a word is meant as a path: it has a slash or a suffix (one of `suffixes`, where given)."""
    suffix = Path(text).suffix
    return (
        "/" in text or "\\" in text or text.startswith(("~", ".")) or (suffix in suffixes if suffixes else bool(suffix))
    )


def flag_place(flag: str, text: str) -> Place:
    """A place on the command line: the flag, and what was given to it."""
    return Place(flag, 1, 1, "".join(c if c.isprintable() else "?" for c in text[:160]))


def shown(path: Path) -> str:
    """A path relative to the current folder if it lies below it, else as it is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
