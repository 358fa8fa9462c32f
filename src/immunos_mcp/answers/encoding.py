"""The JSON of answers: one form for the tools, the resources and ``--json``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias, cast

from msgspec import Struct

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


OBEYED_BY_TERMINALS = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
"""Control characters beside line ends and tabs, and those that change the direction of text."""


def to_json(value: object) -> str:
    """Encode an answer as one line of JSON."""
    import json

    return escaped_json(json.dumps(to_plain(value), separators=(",", ":"), ensure_ascii=False))


def escaped_json(text: str) -> str:
    """Return JSON with whatever a terminal would obey as an escape, which means the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub(OBEYED_BY_TERMINALS, lambda found: f"\\u{ord(found[0]):04x}", text)


def to_object(answer: Struct) -> dict[str, Json]:
    """Return an answer as a JSON object; one that omits defaults has no member for an empty one."""
    fields = ((name, getattr(answer, name)) for name in answer.__struct_fields__)
    if answer.__struct_config__.omit_defaults:
        return _object((name, value) for name, value in fields if value != ())
    return _object(fields)


def to_plain(value: object) -> Json:
    """Return an answer as JSON has it: times in UTC, and nothing where a value is ``None``.

    Raises:
        TypeError: JSON has no such value.
    """
    if isinstance(value, str):
        return str(value)  # a member of an enumeration is its word
    if isinstance(value, int | float):
        return value
    if isinstance(value, Struct):
        return to_object(value)
    if isinstance(value, Mapping):
        return _object(cast("Mapping[str, object]", value).items())
    if isinstance(value, tuple):
        return [to_plain(item) for item in cast("tuple[object, ...]", value)]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"no JSON for {type(value).__name__}")


def _object(entries: Iterable[tuple[str, object]]) -> dict[str, Json]:
    return {str(name): to_plain(value) for name, value in entries if value is not None}
