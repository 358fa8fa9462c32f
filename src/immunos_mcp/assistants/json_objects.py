"""Finds the whole JSON objects in text that is not one document: padded, glued or torn. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple, cast

from msgspec import Struct

from immunos_mcp.assistants.nesting import MOST_LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from immunos_mcp.answers.encoding import Json

_LONGEST_NUMBER = 40
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]]", re.DOTALL)
_AFTER_STRING = re.compile(r"\s*(?:([:])|[,}\]]|\Z)")


class Found(NamedTuple):
    """The objects in a text, and what is left of it.

    Attributes:
        objects: the whole objects, in order.
        rest: the pieces of text between them that are part of no whole object.
        too_deep: the whole objects that are nested too deeply to be read.
    """

    objects: tuple[dict[str, Json], ...]
    rest: tuple[str, ...]
    too_deep: tuple[Outline, ...]


class Outline(Struct):
    """An object in a text, before it is decoded.

    Attributes:
        start: where it begins.
        end: where it ends.
        text: the text that it is in.
        keys: its own keys, each with the place where its value begins.
        levels: how deeply it is nested.
        value: the object itself, unless it is nested too deeply.
    """

    start: int
    text: str
    keys: dict[str, int] = {}  # copied for each, as the other one
    end: int = 0
    levels: int = 1
    value: dict[str, Json] = {}

    def close(self, end: int, levels: int) -> bool:
        """Note where it ends, and decode it; return whether it is an object indeed."""
        self.end, self.levels = end, levels
        if levels > MOST_LEVELS:
            return True
        try:
            value: Json = json.loads(
                self.text[self.start : end], strict=False, parse_int=_whole_number
            )
        except ValueError:
            return False
        self.value = cast("dict[str, Json]", value)
        return True

    def has(self, key: str, value: str) -> bool:
        """Return whether a key's value begins with this text."""
        at = self.keys.get(key)
        return at is not None and self.text[at:].lstrip().startswith(value)


def decoded(line: bytes | bytearray) -> str:
    """Return a line's text; bytes that are not UTF-8 become replacement characters."""
    return line.decode("utf-8-sig", "replace")


def levels(line: bytes | bytearray) -> int:
    """Return how deeply the values in a line are nested, at most."""
    deepest = level = 0
    for match in _TOKEN.finditer(decoded(line)):
        level += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match.group(), 0)
        deepest = max(deepest, level)
    return deepest


def find_objects(text: str, is_record: Callable[[Outline], bool]) -> Found:
    """Find the whole objects in a text.

    Args:
        text: one line, or several that were glued together.
        is_record: decides whether an object inside a torn one is a record of its own. Two writers
            without a lock leave such lines.
    """
    objects: list[dict[str, Json]] = []
    rest: list[str] = []
    too_deep: list[Outline] = []
    at = 0
    for outline in _Scan(text, is_record).whole_objects():
        if outline.levels > MOST_LEVELS:
            too_deep.append(outline)
        else:
            objects.append(outline.value)
        rest.append(text[at : outline.start])
        at = outline.end
    rest.append(text[at:])
    return Found(tuple(objects), tuple(rest), tuple(too_deep))


def _whole_number(digits: str) -> int | float:
    # Python refuses to convert thousands of digits.
    return int(digits) if len(digits) < _LONGEST_NUMBER else float("inf")


class _Scan:
    """One pass over a text that matches brackets, and starts again where a torn object ends."""

    def __init__(self, text: str, is_record: Callable[[Outline], bool]) -> None:
        self._text = text
        self._is_record = is_record
        self._open: list[Outline | None] = []
        self._deepest = 0
        self._whole: list[Outline] = []

    def whole_objects(self) -> Iterator[Outline]:
        """Return the whole objects that are in no other whole one, in order."""
        at = 0
        while (match := self._next_token(at)) is not None:
            at = match.end()
            symbol = match.group()
            if symbol[0] == '"':
                at = self._take_string(match)
            elif symbol in "{[":
                self._open.append(Outline(match.start(), self._text) if symbol == "{" else None)
                self._deepest = max(self._deepest, len(self._open))
            else:
                self._close(symbol, at)
        return iter(self._whole)

    def _next_token(self, at: int) -> re.Match[str] | None:
        if not self._open:
            at = self._text.find("{", at)
            self._deepest = 0
        return None if at < 0 else _TOKEN.search(self._text, at)

    def _take_string(self, match: re.Match[str]) -> int:
        """Note a key, and return where to go on: in the string, if it swallowed a record's start."""
        after = _AFTER_STRING.match(self._text, match.end())
        if after is None:
            self._open.clear()
            brace = self._text.rfind("{", match.start(), match.end())
            return brace if brace >= 0 else match.end()
        current = self._open[-1]
        if after[1] and current is not None:
            current.keys[match.group()[1:-1]] = after.end()
        return match.end()

    def _close(self, bracket: str, end: int) -> None:
        current = self._open.pop()
        if (current is None) != (bracket == "]"):
            self._open.clear()
        elif current is not None:
            is_part = self._open and not self._is_record(current)
            if not is_part and current.close(end, self._deepest - len(self._open)):
                while self._whole and self._whole[-1].start > current.start:
                    self._whole.pop()
                self._whole.append(current)
