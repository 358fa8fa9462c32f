"""Edits JSON files as text, so that comments, order and layout of the rest stay. Pure.

Comments and trailing commas are allowed, as in many editors. Every edit is verified by parsing its
result, which must have the earlier content and the change, nothing else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from immunos_mcp.assistants.documents import DocumentError, with_member, without_member

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json

IMPLIES_CONTAINERS: bool = False

_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[{}\[\]:,]|[^\s{}\[\]:,"/]+|\s+|.', re.DOTALL
)
_INDENT = re.compile(r"\n([ \t]+)\S")


@dataclass(frozen=True, slots=True)
class _Token:
    """A token; whitespace and comments are skipped."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(slots=True)
class _Node:
    """A value and its position; for an object also its members."""

    value: Json
    start: int
    end: int = 0
    members: dict[str, _Member] = field(default_factory=dict[str, "_Member"])


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object: the start of its key, and its value."""

    start: int
    node: _Node


class _Reader:
    """Parses JSON with comments and trailing commas, and records the positions of values."""

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
        return DocumentError(f"line {line}, column {column}: invalid JSON, expected {wanted}")

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
                raise self._refusal("a key that is unique in its object")
            self._take(":")
            member = self._value()
            values[key.value] = member.value
            node.members[key.value] = _Member(key.start, member)
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


_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def _strict(text: str) -> dict[str, Json] | None:
    """Parse a document of standard JSON; ``None``: it has comments or the like, or is broken.

    Python's own parser is a hundred times as fast, and a client's file may have many megabytes.
    """
    try:
        value: Json = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def lenience(text: str) -> str | None:
    """Return what a parser of plain JSON refuses in a document; ``None``: it takes the document."""
    if text.startswith("\ufeff"):
        return "a byte order mark"
    if not text.strip() or _strict(text) is not None:
        return None
    tokens = [match.group() for match in _TOKEN.finditer(text)]
    if any(token.startswith(("//", "/*")) for token in tokens):
        return "a comment"
    if not {"NaN", "Infinity", "-Infinity"}.isdisjoint(tokens):
        return "a number that JSON does not have, such as NaN"
    return "a comma before a closing bracket"


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is no JSON")


def _unique(members: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(members)
    if len(document) < len(members):
        raise ValueError("a key occurs twice")
    return document


def _strict_node(text: str, start: int, path: tuple[str, ...]) -> _Node:
    """Return the position of an object in standard JSON, and of its members along a path."""
    document, end = cast("tuple[dict[str, Json], int]", _DECODER.raw_decode(text, start))
    node = _Node(document, start, end)
    at = _after_space(text, start + 1)
    while text[at] == '"':
        key_start = at
        name, at = cast("tuple[str, int]", _DECODER.raw_decode(text, at))
        at = _after_space(text, _after_space(text, at) + 1)
        value, value_end = cast("tuple[Json, int]", _DECODER.raw_decode(text, at))
        if path and name == path[0] and isinstance(value, dict):
            member = _strict_node(text, at, path[1:])
        else:
            member = _Node(value, at, value_end)
        node.members[name] = _Member(key_start, member)
        at = _after_space(text, value_end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return node


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def read(text: str) -> dict[str, Json]:
    """Parse a JSON document; an empty one is an empty object.

    Raises:
        DocumentError: it is not a JSON object; the message has the position.
    """
    document = _strict(text)
    return cast("dict[str, Json]", _root(text).value) if document is None else document


def _root(text: str, path: tuple[str, ...] | None = None) -> _Node:
    """Return the positions of a document's members, at least of those along the path."""
    if not text.strip():
        return _Node({}, 0, len(text))
    if path is not None and _strict(text) is not None:
        return _strict_node(text, _after_space(text, 0), path)
    try:
        root = _Reader(text).read()
    except RecursionError:
        raise DocumentError("nested too deeply") from None
    if not isinstance(root.value, dict):
        raise DocumentError("line 1, column 1: expected an object")
    return root


def put(text: str, path: tuple[str, ...], value: Json) -> str:
    """Return a JSON document with a member set, creating missing containers.

    Raises:
        DocumentError: the document cannot be parsed, or something on the path is not an object.
    """
    if not text.strip():
        text = "{}\n"
    root = _root(text, path)
    wanted = with_member(root.value, path, value)
    if wanted == root.value:
        return text
    node, depth = root, 0
    while depth < len(path) - 1 and path[depth] in node.members:
        node = node.members[path[depth]].node
        depth += 1
    unit = (match := _INDENT.search(text)) and match.group(1)
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    changed = _set_member(text, node, path[depth], value, depth, unit or "  ")
    return _checked(changed, wanted)


def _set_member(text: str, node: _Node, name: str, value: Json, depth: int, unit: str) -> str:
    is_flat = "\n" not in text[node.start : node.end] and bool(node.members)
    lead = "" if is_flat else unit * (depth + 1)
    encoded = json.dumps(value, indent=None if is_flat else unit, ensure_ascii=False)
    encoded = encoded.replace("\n", f"\n{lead}")
    if name in node.members:
        known = node.members[name].node
        return text[: known.start] + encoded + text[known.end :]
    member = f"{json.dumps(name)}: {encoded}"
    inside_end = node.end - 1
    tail = node.start + 1 + len(text[node.start + 1 : inside_end].rstrip())
    before_tail = text[:tail]
    if node.members:
        last_end = max(each.node.end for each in node.members.values())
        if "," not in _blanked(text[last_end:tail]):
            before_tail = f"{text[:last_end]},{text[last_end:tail]}"
    if is_flat:
        return f"{before_tail} {member}{text[tail:]}"
    closing = (
        text[tail:] if "\n" in text[tail:inside_end] else f"\n{unit * depth}{text[inside_end:]}"
    )
    return f"{before_tail}\n{lead}{member}{closing}"


def _blanked(text: str) -> str:
    """Replace the comments in text between tokens with blanks of the same length."""
    return re.sub(
        r"//[^\n]*|/\*.*?\*/", lambda found: " " * len(found.group()), text, flags=re.DOTALL
    )


def remove(text: str, path: tuple[str, ...]) -> str:
    """Return a JSON document without a member, if it has it.

    Raises:
        DocumentError: the document cannot be parsed.
    """
    root = _root(text, path)
    node = root
    for name in path[:-1]:
        if name not in node.members:
            return text
        node = node.members[name].node
    if path[-1] not in node.members:
        return text
    found = node.members[path[-1]]
    start, end = found.start, found.node.end
    before = [each.node.end for each in node.members.values() if each.node.end <= start]
    text_start, start = start, len(text[:start].rstrip())
    following = re.match(r"(?:\s|//[^\n]*|/\*.*?\*/)*,", text[end:], re.DOTALL)
    if following:
        end += following.end()
    elif before:
        comma = max(before) + _blanked(text[max(before) : text_start]).index(",")
        return _checked(
            text[:comma] + text[comma + 1 : max(start, comma + 1)] + text[end:],
            without_member(root.value, path),
        )
    return _checked(text[:start] + text[end:], without_member(root.value, path))


def _checked(changed: str, wanted: Json) -> str:
    if read(changed) != wanted:
        raise DocumentError("cannot be edited without changing something else")
    return changed
