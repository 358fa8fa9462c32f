"""Edits of configuration files as text, so that comments, order and layout of the rest stay. Pure.

JSON is taken as editors write it: with comments and trailing commas. Every edit is checked by reading
its result: it must hold what was there before and the change, nothing else.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[{}\[\]:,]|[^\s{}\[\]:,"/]+|\s+|.', re.DOTALL
)
_INDENT = re.compile(r"\n([ \t]+)\S")


class DocumentError(ImmunosError):
    """A configuration file cannot be read, or not be changed without touching something else."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(slots=True)
class _Node:
    """A value and where it stands; of an object also its members, each with its key's place."""

    value: Json
    start: int
    end: int = 0
    members: dict[str, tuple[int, _Node]] = field(default_factory=dict[str, "tuple[int, _Node]"])


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        found = (_Token(match.group(), match.start()) for match in _TOKEN.finditer(text))
        self._tokens = [
            token
            for token in found
            if not token.text.isspace() and not token.text.startswith(("//", "/*"))
        ]
        self._next = 0

    def read(self) -> _Node:
        root = self._value()
        if self._next < len(self._tokens):
            raise self._refusal("the end of the file")
        return root

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _take(self, *wanted: str) -> _Token:
        if self._next >= len(self._tokens) or (wanted and self._peek() not in wanted):
            raise self._refusal(" or ".join(wanted) or "a value")
        self._next += 1
        return self._tokens[self._next - 1]

    def _refusal(self, wanted: str) -> DocumentError:
        at = self._tokens[self._next].start if self._next < len(self._tokens) else len(self._text)
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        return DocumentError(f"line {line}, column {column}: no JSON: takes {wanted} here")

    def _value(self) -> _Node:
        if self._peek() == "{":
            return self._object()
        if self._peek() == "[":
            return self._list()
        return self._scalar()

    def _scalar(self) -> _Node:
        token = self._take()
        try:
            value: Json = json.loads(token.text)
        except ValueError:
            self._next -= 1
            raise self._refusal("a value") from None
        return _Node(value, token.start, token.end)

    def _object(self) -> _Node:
        values: dict[str, Json] = {}
        node = _Node(values, self._take("{").start)
        while self._peek() != "}":
            key = self._scalar()
            if not isinstance(key.value, str) or key.value in values:
                self._next -= 1
                raise self._refusal("a name that is new in its object")
            self._take(":")
            member = self._value()
            values[key.value] = member.value
            node.members[key.value] = (key.start, member)
            if self._peek() != "}":
                self._take(",")
        node.end = self._take("}").end
        return node

    def _list(self) -> _Node:
        values: list[Json] = []
        node = _Node(values, self._take("[").start)
        while self._peek() != "]":
            values.append(self._value().value)
            if self._peek() != "]":
                self._take(",")
        node.end = self._take("]").end
        return node


def read_json(text: str) -> dict[str, Json]:
    """Return what a JSON document holds; an empty one holds nothing.

    Raises:
        DocumentError: it is not JSON, or no object; the place is named.
    """
    return cast("dict[str, Json]", _root(text).value)


def _root(text: str) -> _Node:
    if not text.strip():
        return _Node({}, 0, len(text))
    try:
        root = _Reader(text).read()
    except RecursionError:
        raise DocumentError("nested too deeply") from None
    if not isinstance(root.value, dict):
        raise DocumentError("line 1, column 1: takes an object here")
    return root


def set_json(text: str, path: tuple[str, ...], value: Json) -> str:
    """Return a JSON document with a member set, its containers made where they are missing.

    Raises:
        DocumentError: the document cannot be read, or something on the way is no object.
    """
    if not text.strip():
        text = "{}\n"
    root = _root(text)
    wanted = _with(root.value, path, value)
    if wanted == root.value:
        return text
    node, depth = root, 0
    while depth < len(path) - 1 and path[depth] in node.members:
        node = node.members[path[depth]][1]
        depth += 1
    unit = (match := _INDENT.search(text)) and match.group(1)
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    changed = _set_member(text, node, path[depth], value, depth, unit or "  ")
    return _checked(changed, wanted)


def _with(value: Json, path: tuple[str, ...], member: Json) -> Json:
    if not path:
        return member
    if not isinstance(value, dict):
        raise DocumentError(f"takes an object around {path[0]}")
    return {**value, path[0]: _with(value.get(path[0], {}), path[1:], member)}


def _set_member(text: str, node: _Node, name: str, value: Json, depth: int, unit: str) -> str:
    is_flat = "\n" not in text[node.start : node.end] and bool(node.members)
    lead = "" if is_flat else unit * (depth + 1)
    spelled = json.dumps(value, indent=None if is_flat else unit, ensure_ascii=False)
    spelled = spelled.replace("\n", f"\n{lead}")
    if name in node.members:
        _, known = node.members[name]
        return text[: known.start] + spelled + text[known.end :]
    member = f"{json.dumps(name)}: {spelled}"
    inside_end = node.end - 1
    tail = node.start + 1 + len(text[node.start + 1 : inside_end].rstrip())
    before_tail = text[:tail]
    if node.members:
        last_end = max(each.end for _, each in node.members.values())
        if "," not in _without_comments(text[last_end:tail]):
            before_tail = f"{text[:last_end]},{text[last_end:tail]}"
    if is_flat:
        return f"{before_tail} {member}{text[tail:]}"
    closing = (
        text[tail:] if "\n" in text[tail:inside_end] else f"\n{unit * depth}{text[inside_end:]}"
    )
    return f"{before_tail}\n{lead}{member}{closing}"


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def remove_json(text: str, path: tuple[str, ...]) -> str:
    """Return a JSON document without a member; one that is not there is no error.

    Raises:
        DocumentError: the document cannot be read.
    """
    root = _root(text)
    node = root
    for name in path[:-1]:
        if name not in node.members:
            return text
        node = node.members[name][1]
    if path[-1] not in node.members:
        return text
    start, member = node.members[path[-1]]
    start = len(text[:start].rstrip())
    end = member.end
    following = re.match(r"(?:\s|//[^\n]*|/\*.*?\*/)*,", text[end:], re.DOTALL)
    if following:
        end += following.end()
    elif text[start - 1] == ",":
        start -= 1
    return _checked(text[:start] + text[end:], _without(root.value, path))


def _without(value: Json, path: tuple[str, ...]) -> Json:
    assert isinstance(value, dict)
    if len(path) == 1:
        return {name: member for name, member in value.items() if name != path[0]}
    return {**value, path[0]: _without(value[path[0]], path[1:])}


def _checked(changed: str, wanted: Json) -> str:
    if _root(changed).value != wanted:
        raise DocumentError("cannot be changed without touching something else")
    return changed


def read_toml(text: str) -> dict[str, Json]:
    """Return what a TOML document holds.

    Raises:
        DocumentError: it is not TOML; the place is named.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"no TOML: {error}") from None


def set_toml_table(text: str, path: tuple[str, ...], table: Mapping[str, Json]) -> str:
    """Return a TOML document with a table of plain values set, at its end.

    Raises:
        DocumentError: the document cannot be read, or spells the table in a way of its own.
    """
    wanted = _with(read_toml(text), path, dict(table))
    rest = remove_toml_table(text, path).rstrip()
    lines = [
        f"[{'.'.join(path)}]",
        *(f"{name} = {json.dumps(each)}" for name, each in table.items()),
    ]
    changed = (f"{rest}\n\n" if rest else "") + "\n".join(lines) + "\n"
    if read_toml(changed) != wanted:
        raise DocumentError("cannot be changed without touching something else")
    return changed


def remove_toml_table(text: str, path: tuple[str, ...]) -> str:
    """Return a TOML document without a table; one that is not there is no error.

    Raises:
        DocumentError: the document cannot be read, or spells the table in a way of its own.
    """
    document = read_toml(text)
    parent: Json = document
    for name in path[:-1]:
        parent = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(parent, dict) or path[-1] not in parent:
        return text
    header = re.escape(".".join(path))
    block = re.compile(
        rf"^[ \t]*\[{header}\][^\n]*\n(?:(?![ \t]*\[)[^\n]*(?:\n|\Z))*", re.MULTILINE
    )
    changed = block.sub("", text, count=1)
    wanted = _without(document, path)
    left = read_toml(changed)
    if left not in (wanted, _without(document, path[:-1]) if len(parent) == 1 else wanted):
        raise DocumentError("cannot be changed without touching something else")
    return changed
