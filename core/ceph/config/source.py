"""One YAML 1.2 text -> values that know where they stand; what is wrong with the text is collected, with places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from ceph.config.words import Scalar, scalar, show, whole_text
from ceph.errors import Place, Problem

MAX_BYTES = 1_000_000
MAX_NODES = 20_000  # after aliases are followed: a bomb of nested aliases stops here
MAX_DEPTH = 24
SHOWN = 160  # columns of a line that are shown under an error

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_KINDS = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None), "map": dict, "seq": tuple}
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in _KINDS}
_PLAIN = "?"  # the tag of a word that means what words.scalar says

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Node:
    """A value, where it stands and which layer it came from; mappings and lists hold nodes.

    `unasked`: it names a plugin's file, and the user has not named the text that it stands in.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    origin: str = ""
    place: Place | None = None
    key_place: Place | None = None
    unasked: bool = False

    def plain(self) -> Any:
        """The value without places: dicts, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, *path: str | int) -> Node | None:
        """The node at this path, or None."""
        node: Node | None = self
        for part in path:
            value = node.value if node is not None else None
            if isinstance(value, Mapping):
                node = value.get(part) if isinstance(part, str) else None
            elif isinstance(value, tuple) and isinstance(part, int) and 0 <= part < len(value):
                node = value[part]
            else:
                return None
        return node


@dataclass(frozen=True)
class Source:
    """A parsed text: its root (a mapping, or any value for a fragment), and what is wrong with the text."""

    root: Node
    problems: tuple[Problem, ...] = ()
    broken: bool = False  # the text could not be read to its end: nothing can be said of keys that are missing


def parse_bytes(data: bytes, file: str, *, origin: str = "") -> Source:
    """Read the bytes of a file: UTF-8, with or without a byte order mark, up to 1 MB."""
    try:
        text = data.decode("utf-8-sig") if len(data) <= MAX_BYTES else ""
    except UnicodeDecodeError as error:
        head = data[: error.start].decode("utf-8-sig", "replace")
        what = f"the file is not UTF-8 text (byte {data[error.start]:#04x})"
        return _Reader(head, file, origin).refuse(what, head.count("\n"), len(head.rpartition("\n")[2]))
    if len(data) > MAX_BYTES:
        what = f"the file is larger than {MAX_BYTES // 1_000_000} MB: this is no config"
        return _Reader("", file, origin).refuse(what)
    return parse(text, file, origin=origin)


@lru_cache(maxsize=8)  # a run's config is asked for by training, evaluation and the report; what is read never changes
def parse(text: str, file: str, *, origin: str = "", before: str = "", at: tuple[str, ...] | None = None) -> Source:
    """Read one YAML text.

    `file` is the name shown in places; `origin` the provenance of every value (default: `file:line`);
    `before` is text that stood before it on its line (`train.lr=`) and is shown, but not read; a text that
    stands `at` a key may be any value, else the top level must be a mapping.
    """
    return _Reader(text, file, origin, before).read(at)


def dotted(path: Iterable[str | int]) -> str:
    """A path of keys and list positions as it is written in errors: `data.size[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _BoundsError(MarkedYAMLError):
    """YAML, but no config: nested too deep, too many values, an alias of nothing."""

    def __init__(self, what: str, mark: Any) -> None:
        super().__init__(problem=what, problem_mark=mark)


class _Composer(Composer):
    """ruamel's nodes within bounds; an alias has a place of its own, a plain word the tag `_PLAIN`."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self.count = self.level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        self.count += 1
        if self.count > MAX_NODES:
            raise _BoundsError(f"holds more than {MAX_NODES} values", event.start_mark)
        if self.level > MAX_DEPTH:
            raise _BoundsError(f"is nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if isinstance(event, AliasEvent):
            return self.alias(event)
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def alias(self, event: AliasEvent) -> Any:
        known = self.anchors.get(event.anchor)
        if known is None:
            raise _BoundsError(f"the alias *{event.anchor} has no anchor before it", event.start_mark)
        if known.end_mark is None:
            raise _BoundsError(f"the alias *{event.anchor} stands inside its own anchor", event.start_mark)
        node = copy(known)
        node.start_mark = self.parser.get_event().start_mark
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        event = self.parser.peek_event()
        node = super().compose_scalar_node(anchor)
        if event.tag is None or str(event.tag) == "!":  # ruamel has put a tag of its own, by rules that are not 1.2's
            node.tag = _PLAIN if event.tag is None and not event.style else "tag:yaml.org,2002:str"
        return node


@dataclass
class _Reader:
    """Turns ruamel's nodes into ours, and notes what is wrong with them."""

    text: str
    file: str
    origin: str = ""
    before: str = ""
    lines: list[str] = field(init=False)
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.lines = _BREAK.split(self.text)

    def read(self, at: tuple[str, ...] | None) -> Source:
        """The text's one document: a mapping, or any value where it stands `at` a key; an empty one is empty."""
        yaml = YAML(typ="rt", pure=True)
        yaml.Composer = _Composer
        try:
            tree = yaml.compose(self.text)
            root = self.value(tree, at or ()) if tree is not None else None
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = "; ".join(_one_line(str(part)) for part in (error.context, error.problem) if part)
            if error.problem == "but found another document":
                said = "a second document begins here; a config is one"
            elif not isinstance(error, _BoundsError):
                said = f"not YAML: {said}"
            return self.refuse(said, mark.line if mark else 0, mark.column if mark else 0)
        except ReaderError as error:
            head = _BREAK.split(self.text[: error.position])
            character = self.text[error.position : error.position + 1] or "\0"
            what = f"holds a character that no text may hold: U+{ord(character):04X}"
            return self.refuse(what, len(head) - 1, len(head[-1]))
        except Exception as error:  # noqa: BLE001 - malformed texts make the parser fail in ways of its own (IndexError, ...)
            return self.refuse(f"not YAML ({type(error).__name__})")
        unread = tree is not None and root is None
        if root is None or (at is None and root.value is None):
            empty = Node(None if at is not None else {}, self.origin or self.file, self.place(0, 0))
            return Source(empty, tuple(self.problems), broken=unread)
        if at is None and not isinstance(root.value, Mapping):
            what = "the file must hold keys and values (`train:` and below it `  epochs: 60`)"
            return self.refuse(what, tree.start_mark.line, tree.start_mark.column)
        return Source(root, tuple(self.problems))

    def refuse(self, what: str, line: int = 0, column: int = 0) -> Source:
        """Nothing, because the whole text is unreadable."""
        empty = Node({}, self.origin or self.file, self.place(0, 0))
        return Source(empty, (*self.problems, Problem(what, place=self.place(line, column))), broken=True)

    def place(self, line: int, column: int) -> Place:
        """A place from the parser's marks, which count from 0."""
        text = self.lines[line] if line < len(self.lines) else ""
        if line == 0:
            text, column = self.before + text, column + len(self.before)
        if self.before:  # an argument of the command line is one line, whatever it holds
            text, column, line = (text, column, 0) if line == 0 else (self.before + self.text, 0, 0)
        shown = "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text[:SHOWN])
        return Place(self.file, line + 1, column + 1, shown if column <= SHOWN else "")

    def mark(self, node: Any) -> Place:
        return self.place(node.start_mark.line, node.start_mark.column)

    def problem(self, what: str, path: Path, place: Place, hint: str = "") -> None:
        self.problems.append(Problem(what, dotted(path), place, hint))

    def value(self, node: Any, path: Path, key_place: Place | None = None) -> Node | None:
        """One value, however deep; None where it is wrong (the problem is noted)."""
        self.count += 1
        if self.count > MAX_NODES:
            raise _BoundsError(f"aliases make this more than {MAX_NODES} values", node.start_mark)
        if len(path) > MAX_DEPTH:
            raise _BoundsError(f"is nested deeper than {MAX_DEPTH} levels", node.start_mark)
        place, tag = self.mark(node), _TAGS.get(node.tag, node.tag)
        value: Any
        if isinstance(node, MappingNode):
            value = self.mapping(node, path)
        elif isinstance(node, SequenceNode):
            items = [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            value = tuple(item for item in items if item is not None)
        else:
            try:
                value = whole_text(node.value) if tag == "str" else scalar(node.value)
            except ValueError as error:
                self.problem(str(error), path, place)
                return None
        if tag == "float" and type(value) is int:
            value = float(value)
        if tag != _PLAIN and type(value) is not _KINDS.get(tag):
            known = f"is no {tag}, as its tag !!{tag} says"
            what = known if tag in _KINDS else f"the tag {_one_line(str(tag))} is not known here"
            self.problem(what, path, place, "write the value without a tag")
            return None
        if isinstance(node, SequenceNode) and len(value) < len(node.value):
            return None
        # A person looks for a value in the line of its key, also where it begins on the next.
        return Node(value, self.origin or f"{self.file}:{(key_place or place).line}", place, key_place)

    def mapping(self, node: Any, path: Path) -> dict[str, Node]:
        found: dict[str, Node] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            place, name = self.mark(key_node), self.value(key_node, path)
            key = name.value if name is not None else None
            if name is not None and not isinstance(key, str):
                what = "a key must be a name" + ("" if isinstance(key, (tuple, Mapping)) else f", not {show(key)}")
                self.problem(what, path, place, "put it in quotes if it is meant as text")
            inner = (*path, key if isinstance(key, str) else "?")
            value = self.value(value_node, inner, place)
            if not isinstance(key, str):
                continue
            if key in seen:
                self.problem(f"given twice; first in line {seen[key]}", inner, place)
            seen.setdefault(key, place.line)
            if value is not None:
                found.setdefault(key, value)
        return found


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
