"""What clients send for an argument, read as the type that its schema names.

For JSON Schema 5.0 is an integer. Some clients send numbers, booleans, lists and objects as text at times,
and the same again on retry: text with exactly one reading is accepted.
"""

from __future__ import annotations

import json
import re
from types import UnionType
from typing import Annotated, Literal, NoReturn, Union, cast, get_args, get_origin

_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,18})?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}

LONGEST_JSON = 2**20
"""Characters of a list or an object that is sent as text."""


def type_named_by(annotation: object) -> object:
    """Return the type that a field takes, without ``None`` and without what annotates it."""
    origin = get_origin(annotation)
    if origin is Literal:
        return str
    if origin in {Annotated, Union, UnionType}:
        return type_named_by(get_args(annotation)[0])
    return origin or annotation


def read_as(kind: object, value: object) -> object:
    """Return what a value means for a type; a value that means nothing else is returned unchanged."""
    if isinstance(value, float):
        return int(value) if kind is int and value.is_integer() else value
    if kind is dict:
        return _read_object(value)
    return _read_text(kind, value) if isinstance(value, str) else value


def _read_object(value: object) -> object:
    """Read an object, whose entries may be lists sent as text."""
    found = _json(value, dict)
    if not isinstance(found, dict):
        return found
    entries = cast("dict[object, object]", found)
    return {name: _json(entry, list) for name, entry in entries.items()}


def _read_text(kind: object, text: str) -> object:
    if kind is int:
        return int(text) if _WHOLE_NUMBER.fullmatch(text) else text
    if kind is float:
        return float(text) if _NUMBER.fullmatch(text) else text
    if kind is bool:
        return _BOOLEANS.get(text, text)
    return _json(text, list) if kind is list else text


def _json(value: object, kind: type) -> object:
    """Return the list or the object that a text holds; otherwise the value itself."""
    if not isinstance(value, str) or len(value) > LONGEST_JSON:
        return value
    try:
        found: object = json.loads(value, parse_constant=_refuse, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, kind) else value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name that is there twice has no single meaning")
    return found
