"""pydantic's complaints as plain sentences: at which key, in which place, with the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ceph.config.source import Node, dotted
from ceph.config.words import show
from ceph.errors import Place, Problem, nearest

Path = tuple[str | int, ...]

# What the value must be, by pydantic's name of the error; {x} are taken from the error's context.
EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_unicode": "text",
    "path_type": "a path",
    "none_required": "null",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "text of at least {min_length} character(s)",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


@dataclass(frozen=True)
class Fault:
    """One of pydantic's errors with its path in the config, without the tags of unions."""

    path: Path
    details: ErrorDetails

    @property
    def kind(self) -> str:
        """The error's name, as pydantic calls it."""
        return self.details["type"]

    @property
    def context(self) -> dict[str, Any]:
        """Bounds, choices and the like."""
        return self.details.get("ctx", {})


def problems_of(
    error: ValidationError,
    tree: Node,
    model: type[BaseModel],
    at: tuple[str, ...] = (),
    *,
    also: Mapping[str, str] | None = None,
) -> list[Problem]:
    """The problems that a validation of `tree.at(*at)` by `model` met, one a key.

    `also` gives hints for unknown names that the model cannot know of (name -> what was meant).
    """
    groups: dict[Path, list[Fault]] = {}
    for details in error.errors(include_url=False):
        fault = Fault(_path(details, tree.at(*at)), details)
        groups.setdefault(fault.path, []).append(fault)
    return [
        problem for path, faults in groups.items() for problem in _problems(path, faults, tree, model, at, also or {})
    ]


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> dict[str, Any]:
    """The fields of the model that validates this path; empty where no model does."""
    models = [model]
    for part in path:
        found: list[type[BaseModel]] = []
        for each in models:
            named = each.model_fields.get(str(part)) if isinstance(part, str) else None
            found += list(_models_in(named.annotation)) if named is not None else []
        models = found or ([] if isinstance(part, str) else models)
    return {name: info for each in models for name, info in each.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _path(details: ErrorDetails, tree: Node | None) -> Path:
    """The part of pydantic's location that exists in the tree: it also names branches of unions."""
    path: list[str | int] = []
    node = tree
    location = details["loc"]
    for index, part in enumerate(location):
        below = node.at(part) if node is not None else None
        last = index == len(location) - 1
        if below is not None or (last and details["type"] in ("missing", "extra_forbidden")):
            path.append(part)
            node = below
        elif node is None or _is_field_of_default(node, part):
            path.append(part)
            node = None
    return tuple(path)


def _is_field_of_default(node: Node, part: str | int) -> bool:
    # A default that fails its own check is not in the tree; its name is an identifier, a union's branch is a type.
    return isinstance(node.value, Mapping) and isinstance(part, str) and part.isidentifier() and part not in _BRANCHES


_BRANCHES = {"int", "float", "str", "bool", "none", "list", "tuple", "dict", "constrained"}


def _problems(
    path: Path, faults: list[Fault], tree: Node, model: type[BaseModel], at: tuple[str, ...], also: Mapping[str, str]
) -> Iterator[Problem]:
    node, key = tree.at(*at, *path), dotted((*at, *path))
    first = faults[0]
    if first.kind == "extra_forbidden":
        where = node.key_place or node.place if node is not None else None
        name, valid = str(path[-1]), set(fields_at(model, path[:-1]))
        valid |= {"extends"} if not at and len(path) == 1 else set()
        meant = also.get(key, "")
        hint = f"did you mean '{meant}'?" if meant else nearest(name, valid) or "no keys are valid here"
        yield Problem("unknown key", key, where, hint)
        return
    if first.kind == "missing":
        above = tree.at(*at, *path[:-1])
        place = (above.key_place or above.place) if above else None
        yield Problem("is missing; it has no default", key, place, f"--set {key}=VALUE")
        return
    if first.kind == "cross_check":
        keys = [
            dotted((*at, *path, name)) if i == 0 or "." not in name else name
            for i, name in enumerate(first.context["keys"])
        ]
        yield Problem(str(first.context["what"]), keys[0], _first_place(tree, keys))
        return
    value = node.plain() if node is not None else first.details["input"]
    yield Problem(
        _sentence(faults, value),
        key,
        node.place if node is not None else _first_place(tree, [key]),
        _hint(faults, value),
    )


def _first_place(tree: Node, keys: Sequence[str]) -> Place | None:
    """The place of the first of these keys that somebody wrote."""
    nodes = (tree.at(*key.split(".")) for key in keys)
    return next((node.place for node in nodes if node is not None and node.place), None)


def _sentence(faults: Sequence[Fault], value: Any) -> str:
    expected: list[str] = []
    said: list[str] = []
    for fault in faults:
        phrase = EXPECTED.get(fault.kind)
        if phrase is None:
            said.append(_own_words(fault))
            continue
        context = {k: f"{v:g}" if isinstance(v, float) else v for k, v in fault.context.items()}
        expected.append(phrase.format_map(_Known(context)))
    if not expected:
        return "; ".join(dict.fromkeys(said))
    actual = show(value)
    lengths = [fault.context.get("actual_length") for fault in faults if fault.kind in ("too_short", "too_long")]
    if lengths and lengths[0] is not None:
        actual = f"of {lengths[0]}"
    return f"must be {_either(list(dict.fromkeys(expected)))}, not {actual}"


def _either(choices: list[str]) -> str:
    """`a, b or c`, also where a choice is itself such a list."""
    flat = [part for choice in choices for part in (_choices(choice) if choice.startswith("'") else [choice])]
    return f"{', '.join(flat[:-1])} or {flat[-1]}" if len(flat) > 1 else flat[0]


def _choices(expected: str) -> list[str]:
    return re.findall(r"'[^']*'", expected) or [expected]


def _own_words(fault: Fault) -> str:
    """What a validator said, without pydantic's lead."""
    error = fault.context.get("error")
    text = str(error) if isinstance(error, Exception) and str(error) else fault.details["msg"]
    text = " ".join(text.split())
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _hint(faults: Sequence[Fault], value: Any) -> str:
    kinds = {fault.kind for fault in faults}
    if isinstance(value, str):
        names = [
            n.strip("'") for f in faults if f.kind in ("literal_error", "enum") for n in _choices(f.context["expected"])
        ]
        near = nearest(value, names) if names else ""
        return near if near.startswith("did") else ""
    if "string_type" in kinds and isinstance(value, (bool, int, float)):
        return f"put it in quotes if it is meant as text: '{show(value)}'"
    return ""


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"({key})"
