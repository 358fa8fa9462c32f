"""Whether an answer is JSON, and has the structure that the caller asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from immunos_mcp.delegation.checks.subject import PASSED, unfenced
from immunos_mcp.errors import InvalidInputError, Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.delegation.checks.subject import Subject

FIELD = "schema"
LONGEST_SCHEMA = 20_000
"""Characters of a schema as JSON."""

_COSTLY = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "pattern", "patternProperties"})
"""Keywords with which a short schema takes for ever to check."""


def check_schema(schema: Mapping[str, Json]) -> None:
    """Check that an argument is a JSON schema that answers can be compared with.

    Raises:
        InvalidInputError: it is not.
    """
    from jsonschema import Draft202012Validator, SchemaError  # few tasks have a schema

    try:
        text = json.dumps(schema)
        costly = sorted(_COSTLY.intersection(_keywords(schema)))
        if costly:
            raise InvalidInputError(Problem(FIELD, text, f"a JSON schema without {costly[0]}"))
        if len(text) > LONGEST_SCHEMA:
            expected = f"a JSON schema of at most {LONGEST_SCHEMA} characters"
            raise InvalidInputError(Problem(FIELD, text, expected))
        Draft202012Validator.check_schema(schema)
    except RecursionError:
        message = f"{FIELD}: must be a JSON schema that is nested less deeply"
        raise InvalidInputError(Problem(FIELD, None, message=message)) from None
    except SchemaError as error:
        message = f"{FIELD}: must be a JSON schema ({shown(error.message)})"
        raise InvalidInputError(Problem(FIELD, None, message=message)) from None


def find(subject: Subject) -> str | None:
    """Return what is wrong with a JSON answer."""
    try:
        value = json.loads(unfenced(subject.text), parse_constant=_no_constant)
        return PASSED if subject.schema is None else _mismatch(value, subject.schema)
    except ValueError as error:
        return f"is not JSON ({error})"
    except RecursionError:
        return "is JSON nested too deeply"


def _mismatch(value: Json, schema: Mapping[str, Json]) -> str:
    from jsonschema import Draft202012Validator, ValidationError, validate

    try:
        validate(value, schema, cls=Draft202012Validator)
    except ValidationError as error:
        words = shown(error.message)
        return f"does not have the schema's structure at {error.json_path} ({words})"
    return PASSED


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


def _keywords(schema: Json | Mapping[str, Json]) -> Iterator[str]:
    """Yield all keys of a schema, those of named properties too: a property may not be called ``$ref``."""
    if isinstance(schema, list):
        for each in schema:
            yield from _keywords(each)
    elif not isinstance(schema, (str, int, float)) and schema is not None:
        for name, each in schema.items():
            if name == "properties" and isinstance(each, dict):
                for value in each.values():
                    yield from _keywords(value)
            else:
                yield name
                yield from _keywords(each)
