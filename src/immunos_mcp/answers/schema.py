"""The JSON schema of an answer, as a tool publishes it; ``encoding`` makes what it describes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

Schema = dict[str, Any]
"""A JSON schema; what it holds is for the client that reads it."""

_PLAIN: Mapping[object, Schema] = MappingProxyType(
    {
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number"},
        str: {"type": "string"},
        NoneType: {"type": "null"},
        datetime: {"format": "date-time", "type": "string"},
    }
)


def answer_schema(answer: type[msgspec.Struct]) -> Schema:
    """Return the schema of an answer, with that of each value in it under ``$defs``."""
    definitions: dict[str, Schema] = {}
    schema = _object_schema(answer, definitions)
    known = {name: definitions[name] for name in sorted(definitions)}
    return {"$defs": known, **schema} if known else schema


def _object_schema(kind: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    types = get_type_hints(kind)
    # What is always ``None`` is never there.
    fields = [each for each in msgspec.structs.fields(kind) if types[each.name] is not NoneType]
    properties = {
        field.name: {**_default(field), **_schema(types[field.name], definitions)}
        for field in fields
    }
    required = [field.name for field in fields if field.required]
    schema: Schema = {"properties": properties, "type": "object"}
    return (
        {"properties": properties, "required": required, "type": "object"} if required else schema
    )


def _default(field: msgspec.structs.FieldInfo) -> Schema:
    # What is None is left out of an answer: no default that a reader would have to fill in.
    is_useful = not field.required and field.default is not None
    return {"default": field.default} if is_useful else {}


def _schema(kind: Any, definitions: dict[str, Schema]) -> Schema:
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return {"anyOf": [_schema(each, definitions) for each in arguments]}
    if origin is tuple:
        return {"items": _schema(arguments[0], definitions), "type": "array"}
    if origin is Mapping:
        key, value = arguments
        return _mapping_schema(key, value, definitions)
    return _reference(kind, definitions)


def _mapping_schema(key: Any, value: Any, definitions: dict[str, Schema]) -> Schema:
    schema: Schema = {"additionalProperties": _schema(value, definitions)}
    if key is not str:
        schema["propertyNames"] = _schema(key, definitions)
    return {**schema, "type": "object"}


def _reference(kind: type[StrEnum | msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # its place, should it hold itself
        definitions[kind.__name__] = _definition(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _definition(kind: type[StrEnum | msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    # No descriptions: some clients show the model this schema too, which pays for every word.
    if issubclass(kind, StrEnum):
        return {"enum": [member.value for member in kind], "type": "string"}
    return _object_schema(kind, definitions)
