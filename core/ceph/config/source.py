"""One YAML 1.2 text -> values that know where they stand; what is wrong with the text is collected, with places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ceph.config.words import Scalar, scalar, show, whole_text
from ceph.errors import Place, Problem

MAX_BYTES = 1_000_000
MAX_NODES = 20_000  # after aliases are followed: a bomb of nested aliases stops here
MAX_DEPTH = 24
SHOWN = 160  # columns of a line that are shown under an error

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass(frozen=True)
class Node:
    """A value, where it stands and which layer it came from; mappings and lists hold nodes."""

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    origin: str = ""
    place: Place | None = None
    key_place: Place | None = None

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
        return _Reader(head, file, origin, "", []).refuse(what, head.count("\n"), len(head.rpartition("\n")[2]))
    if len(data) > MAX_BYTES:
        what = f"the file is larger than {MAX_BYTES // 1_000_000} MB: this is no config"
        return _Reader("", file, origin, "", []).refuse(what, 0, 0)
    return parse(text, file, origin=origin)


def parse(text: str, file: str, *, origin: str = "", before: str = "", at: tuple[str, ...] | None = None) -> Source:
    """Read one YAML text.

    `file` is the name shown in places; `origin` the provenance of every value (default: `file:line`);
    `before` is text that stood before it on its line (`train.lr=`) and is shown, but not read; a text that
    stands `at` a key may be any value, else the top level must be a mapping.
    """
    return _Reader(text, file, origin, before, list(at or ())).read(fragment=at is not None)


def dotted(path: Iterable[str | int]) -> str:
    """A path of keys and list positions as it is written in errors: `data.size[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _UnreadableError(Exception):
    """The text cannot be read further."""

    def __init__(self, what: str, place: Place, hint: str = "") -> None:
        super().__init__(what)
        self.problem = Problem(what, place=place, hint=hint)


@dataclass
class _Reader:
    """Turns the parser's events into nodes, within bounds on depth and number."""

    text: str
    file: str
    origin: str
    before: str
    path: list[str | int]
    lines: list[str] = field(init=False)
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, tuple[Node | None, int] | None] = field(default_factory=dict)  # None: still being read
    count: int = 0

    def __post_init__(self) -> None:
        self.lines = _BREAK.split(self.text)

    def read(self, *, fragment: bool) -> Source:
        empty = Node(None if fragment else {}, self.origin or self.file, self.place(0, 0))
        try:
            root = self.document()
        except _UnreadableError as error:
            return Source(empty, (*self.problems, error.problem), broken=True)
        if root is None or (not fragment and root.value is None):
            return Source(empty, tuple(self.problems), broken=root is None)
        if not fragment and not isinstance(root.value, Mapping):
            what = "the file must hold keys and values (`train:` and below it `  epochs: 60`)"
            return Source(empty, (*self.problems, Problem(what, place=root.place)), broken=True)
        return Source(root, tuple(self.problems))

    def refuse(self, what: str, line: int, column: int) -> Source:
        """Nothing, because the whole text is unreadable."""
        place = self.place(line, column)
        return Source(Node({}, self.origin or self.file, place), (Problem(what, place=place),), broken=True)

    def place(self, line: int, column: int) -> Place:
        """A place from the parser's marks, which count from 0."""
        text = self.lines[line] if line < len(self.lines) else ""
        if line == 0:
            text, column = self.before + text, column + len(self.before)
        if self.before:  # an argument of the command line is one line, whatever it holds
            text, column, line = (text, column, 0) if line == 0 else (self.before + self.text, 0, 0)
        shown = "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text[:SHOWN])
        return Place(self.file, line + 1, column + 1, shown if column <= SHOWN else "")

    def events(self) -> Iterator[Any]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError
        from ruamel.yaml.reader import ReaderError

        try:
            yield from YAML(typ="rt", pure=True).parse(self.text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = "; ".join(str(part).strip() for part in (error.context, error.problem) if part)
            raise _UnreadableError(
                f"not YAML: {_one_line(what)}", self.place(mark.line, mark.column) if mark else self.place(0, 0)
            ) from None
        except ReaderError as error:
            head = _BREAK.split(self.text[: error.position])
            character = self.text[error.position : error.position + 1] or "\0"
            what = f"holds a character that no text may hold: U+{ord(character):04X}"
            raise _UnreadableError(what, self.place(len(head) - 1, len(head[-1]))) from None
        except (_UnreadableError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 - malformed texts make the parser fail in ways of its own (IndexError, ...)
            raise _UnreadableError(f"not YAML ({type(error).__name__})", self.place(0, 0)) from None

    def document(self) -> Node | None:
        """The one document of the text; an empty text is a null."""
        from ruamel.yaml import events as e

        root: Node | None = Node(None, self.origin or self.file, self.place(0, 0))
        stream, documents = self.events(), 0
        for event in stream:
            if isinstance(event, e.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _UnreadableError("a second document begins here; a config is one", self.mark(event))
                root = self.value(next(stream), stream, 0, None)
        return root

    def problem(self, what: str, place: Place, hint: str = "") -> None:
        self.problems.append(Problem(what, dotted(self.path), place, hint))

    def inside(self, part: str | int, event: Any, stream: Iterator[Any], depth: int, key: Place | None) -> Node | None:
        self.path.append(part)
        node = self.value(event, stream, depth + 1, key)
        self.path.pop()
        return node

    def mark(self, event: Any) -> Place:
        return self.place(event.start_mark.line, event.start_mark.column)

    def node(self, value: Any, event: Any, key_place: Place | None) -> Node:
        place = self.mark(event)
        # A person looks for a value in the line of its key, also where it begins on the next.
        return Node(value, self.origin or f"{self.file}:{(key_place or place).line}", place, key_place)

    def value(self, event: Any, stream: Iterator[Any], depth: int, key_place: Place | None) -> Node | None:
        """One value, however deep; None where it is wrong (the problem is noted)."""
        from ruamel.yaml import events as e

        self.count += 1
        if depth > MAX_DEPTH:
            raise _UnreadableError(f"is nested deeper than {MAX_DEPTH} levels", self.mark(event))
        if isinstance(event, e.AliasEvent):
            return self.alias(event, key_place)
        before, anchor = self.count, event.anchor
        if anchor:
            self.anchors[anchor] = None
        if isinstance(event, e.MappingStartEvent):
            node = self.mapping(event, stream, depth, key_place)
        elif isinstance(event, e.SequenceStartEvent):
            node = self.sequence(event, stream, depth, key_place)
        else:
            node = self.scalar(event, key_place)
        if self.count > MAX_NODES:
            raise _UnreadableError(f"holds more than {MAX_NODES} values", self.mark(event))
        if anchor:
            self.anchors[anchor] = (node, self.count - before + 1)
        return node

    def alias(self, event: Any, key_place: Place | None) -> Node | None:
        if event.anchor not in self.anchors:
            raise _UnreadableError(f"the alias *{event.anchor} has no anchor before it", self.mark(event))
        known = self.anchors[event.anchor]
        if known is None:
            raise _UnreadableError(f"the alias *{event.anchor} stands inside its own anchor", self.mark(event))
        node, size = known
        self.count += size
        if self.count > MAX_NODES:
            raise _UnreadableError(f"aliases make this more than {MAX_NODES} values", self.mark(event))
        return replace(node, place=self.mark(event), key_place=key_place) if node is not None else None

    def mapping(self, event: Any, stream: Iterator[Any], depth: int, key_place: Place | None) -> Node | None:
        from ruamel.yaml import events as e

        found: dict[str, Node] = {}
        seen: dict[str, int] = {}
        for key_event in stream:
            if isinstance(key_event, e.MappingEndEvent):
                break
            place, key_node = self.mark(key_event), self.value(key_event, stream, depth + 1, None)
            key = key_node.value if key_node is not None else None
            if key_node is not None and not isinstance(key, str):
                what = "a key must be a name" + ("" if isinstance(key, (tuple, Mapping)) else f", not {show(key)}")
                self.problem(what, place, "put it in quotes if it is meant as text")
            node = self.inside(key if isinstance(key, str) else "?", next(stream), stream, depth, place)
            if not isinstance(key, str):
                continue
            if key in seen:
                self.path.append(key)
                self.problem(f"given twice; first in line {seen[key]}", place)
                self.path.pop()
            seen.setdefault(key, place.line)
            if node is not None:
                found.setdefault(key, node)
        if self.tag(event) not in (None, "map"):
            self.unknown_tag(event)
            return None
        return self.node(found, event, key_place)

    def sequence(self, event: Any, stream: Iterator[Any], depth: int, key_place: Place | None) -> Node | None:
        from ruamel.yaml import events as e

        items: list[Node | None] = []
        for item in stream:
            if isinstance(item, e.SequenceEndEvent):
                break
            items.append(self.inside(len(items), item, stream, depth, None))
        if self.tag(event) not in (None, "seq"):
            self.unknown_tag(event)
            return None
        whole = [item for item in items if item is not None]
        return self.node(tuple(whole), event, key_place) if len(whole) == len(items) else None

    def scalar(self, event: Any, key_place: Place | None) -> Node | None:
        tag, text = self.tag(event), str(event.value)
        plain = tag is None and event.style in (None, "")
        try:
            value = scalar(text) if plain or tag not in (None, "str") else whole_text(text)
        except ValueError as error:
            self.problem(str(error), self.mark(event))
            return None
        if tag == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        kinds: dict[str | None, type] = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
        if tag is not None and type(value) is not kinds.get(tag):
            self.unknown_tag(event)
            return None
        return self.node(value, event, key_place)

    def tag(self, event: Any) -> str | None:
        """The short name of an explicit tag; None where there is none; the tag itself where it is unknown."""
        tag = getattr(event, "tag", None)
        if tag is None:
            return None
        return "str" if str(tag) == "!" else _TAGS.get(str(tag), str(tag))

    def unknown_tag(self, event: Any) -> None:
        tag = self.tag(event)
        known = tag in _TAGS.values()
        what = f"is no {tag}, as its tag !!{tag} says" if known else f"the tag {_one_line(str(tag))} is not known here"
        self.problem(what, self.mark(event), "write the value without a tag")


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
