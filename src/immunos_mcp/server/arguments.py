"""The arguments of the tools, and their schemas.

What a schema allows is accepted, and what it forbids is refused, ``null`` too, except for text that can
only mean one value (``argument_values``).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args

from msgspec.structs import replace
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.errors import InvalidInputError, Problem, nearest
from immunos_mcp.rules import names
from immunos_mcp.rules.setting_kinds import (
    Budgets,
    Choice,
    ModelName,
    Number,
    TaskMappings,
    TaskSynonyms,
    TimeZone,
    ToolNames,
    WholeNumber,
    Words,
)
from immunos_mcp.rules.settings import ROWS, SHORT_NAMES
from immunos_mcp.server.argument_values import read_as, type_named_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydantic.fields import FieldInfo

    from immunos_mcp.rules.setting_kinds import Kind, SettingChangeValue
    from immunos_mcp.rules.settings import Row

JsonObject = dict[str, Any]
"""A JSON object on its way in or out; what it holds is checked by a schema, not by a type."""

ArgumentsModel = TypeVar("ArgumentsModel", bound=BaseModel)


def _check_of(
    name: str,
    kind: Number | ModelName | Words | ToolNames | TaskMappings | TaskSynonyms | Budgets | TimeZone,
) -> Callable[[object], object]:
    """Return the kind's check for pydantic, which collects the problems of all arguments."""

    def check(value: object) -> object:
        try:
            return kind.check(name, value)
        except InvalidInputError as error:
            raise _collected(error) from None

    return check


def _collected(error: InvalidInputError) -> PydanticCustomError:
    return PydanticCustomError("problems", "invalid", {"problems": error.problems[:MOST_PROBLEMS]})


MOST_PROBLEMS = 5
"""Problems of one argument that an error names; a mapping may have hundreds."""

Nothing = SkipJsonSchema[None]
Tokens = Annotated[int, Field(ge=0, le=MAXIMUM_TOKENS)]


class Arguments(BaseModel):
    """Base of the tools' arguments."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class RouteTaskArguments(Arguments):
    """Arguments of ``route_task``."""

    task_type: Annotated[str, Field(description="Such as code_review, debug, planning, summarize")]
    classification: Annotated[
        Literal["routine", "creative", "critical"],
        Field(description="critical: mistakes would be costly"),
    ]
    estimated_tokens: Annotated[Tokens | Nothing, Field(description="What it would cost you")] = (
        None
    )
    explain: bool | Nothing = None
    # The other tools' argument of this name is the same: a reader of all needs to be told once.
    session: Annotated[str | Nothing, Field(description="Budget session name")] = None


class RecordUsageArguments(Arguments):
    """Arguments of ``record_usage``."""

    model: str | Nothing = None
    input_tokens: Tokens | Nothing = None
    output_tokens: Tokens | Nothing = None
    cache_creation_input_tokens: Tokens | Nothing = None
    cache_read_input_tokens: Tokens | Nothing = None
    decision_id: Annotated[int | Nothing, Field(description="From route_task")] = None
    outcome: Annotated[
        Literal["success", "failure"] | Nothing,
        Field(description="Closes decision_id; needs no tokens"),
    ] = None
    request_id: Annotated[str | Nothing, Field(description="Makes repeats harmless")] = None
    session: str | Nothing = None


class DelegateTaskArguments(Arguments):
    """Arguments of ``delegate_task``."""

    prompt: str | Nothing = None
    task_type: str | Nothing = None
    classification: Literal["routine", "creative", "critical"] | Nothing = None
    paths: Annotated[
        list[str] | Nothing,
        Field(description="Files or globs; do not read them yourself"),
    ] = None
    instructions: str | Nothing = None
    decision_id: Annotated[int | Nothing, Field(description="From route_task")] = None
    max_output_tokens: int | Nothing = None
    output_path: Annotated[str | Nothing, Field(description="New file for the result")] = None
    # Pydantic's own models have a method of the name.
    answer_schema: Annotated[
        dict[str, Any] | Nothing,
        Field(alias="schema", description="For the answer"),
    ] = None
    checks: Annotated[
        list[str] | Nothing,
        Field(description="code, patch, citations, quotes or the user's own"),
    ] = None
    handle: Annotated[str | Nothing, Field(description="Alone: wait for an earlier task")] = None
    session: str | Nothing = None


class GetSessionStatusArguments(Arguments):
    """Arguments of ``get_session_status``."""

    session: str | Nothing = None


class ResetSessionArguments(Arguments):
    """Arguments of ``reset_session``."""

    reason: str | Nothing = None
    session: str | Nothing = None


class HookArguments(Arguments):
    """Arguments of the unlisted tool that Claude Code's hooks call."""

    event: Literal[
        "UserPromptSubmit",
        "PreToolUse",
        "PreModelSwitch",
        "PostToolBatch",
        "SubagentStop",
        "Stop",
    ]
    session_id: str | Nothing = None
    tool: str | Nothing = None
    agent: str | Nothing = None
    transcript: str | Nothing = None
    file: str | Nothing = None
    offset: str | Nothing = None
    limit: str | Nothing = None
    from_model: str | Nothing = None
    to_model: str | Nothing = None


def _settings_arguments() -> type[Arguments]:
    """Return arguments with an optional one for each setting but the advanced ones."""
    fields: dict[str, Any] = {
        name: (Annotated[_type(name, row.kind) | Nothing, _field(name, row)], None)
        for name, row in ROWS.items()
        if not row.is_advanced
    }
    return create_model("SettingsArguments", __base__=Arguments, **fields)


def _field(name: str, row: Row) -> FieldInfo:
    accepted = None if row.short_name is None else AliasChoices(name, row.short_name)
    return Field(description=row.argument_description, validation_alias=accepted)


def _type(name: str, kind: Kind) -> Any:
    match kind:
        case WholeNumber():
            return Annotated[int, Field(ge=kind.lowest, le=kind.highest)]
        case Number():
            return Annotated[float, AfterValidator(_check_of(name, kind))]
        case Choice():
            return Literal[tuple(choice.value for choice in kind.choices)]
        case ModelName() | Words() | ToolNames() | TaskSynonyms() | Budgets() | TimeZone():
            return Annotated[str, AfterValidator(_check_of(name, kind))]
        case TaskMappings():
            entry = WithJsonSchema({"type": ["string", "array", "null"]})
            models = Annotated[str | list[str] | None, entry]
            return Annotated[dict[str, models], AfterValidator(_check_of(name, kind))]


class UpdateConfigArguments(_settings_arguments()):
    """Arguments of ``update_config``: the settings under their own names, and how to apply them."""

    dry_run: Annotated[bool | Nothing, Field(description="Only show the effect")] = None
    session: str | Nothing = None

    def changes(self) -> dict[str, SettingChangeValue]:
        """Return the settings that were given."""
        given = self.model_dump(include=set(ROWS))
        return {name: value for name, value in given.items() if value is not None}


_FIELDS = {**SHORT_NAMES, "schema": "answer_schema"}
"""The fields of arguments that may be given, or have to be, under another name."""

_COUNT = f"a whole number from 0 to {MAXIMUM_TOKENS}"
_TEXT = "text"
_EXPECTED: Mapping[str, str] = {
    "task_type": names.TASK_TYPE,
    "classification": "routine, creative or critical",
    "estimated_tokens": _COUNT,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "cache_creation_input_tokens": _COUNT,
    "cache_read_input_tokens": _COUNT,
    "decision_id": "the id of an earlier decision",
    "outcome": "success or failure",
    "model": "a model name",
    "dry_run": "true or false",
    "explain": "true or false",
    "paths": "a list of files or patterns",
    "max_output_tokens": "a whole number",
    "answer_schema": "a JSON schema",
    "checks": "a list of checks",
    "event": "UserPromptSubmit, PreToolUse, PreModelSwitch, PostToolBatch, SubagentStop or Stop",
    **{
        name: "a model name" if isinstance(row.kind, ModelName) else row.kind.expected
        for name, row in ROWS.items()
    },
}


def parse(model: type[ArgumentsModel], given: Mapping[str, object]) -> ArgumentsModel:
    """Check a call's arguments.

    Raises:
        InvalidInputError: it names every invalid argument, what it must be and what it was.
    """
    unprintable = [name for name in given if not name.isascii() and not names.is_printable(name)]
    if unprintable:
        raise InvalidInputError(*(_no_such(name, given[name], model) for name in unprintable))
    twice = [
        Problem(short, given[short], message=f"{short}: cannot be used with {name}, its full name")
        for short, name in SHORT_NAMES.items()
        if model is UpdateConfigArguments and short in given and name in given
    ]
    if twice:
        raise InvalidInputError(*twice)
    try:
        return model.model_validate({name: _read(model, name, given[name]) for name in given})
    except ValidationError as invalid:
        raise InvalidInputError(*_problems(invalid, model, given)) from None


_NULL = object()
"""Stands for null, which no schema allows: to a model, ``None`` is an argument that is left out."""


def _read(model: type[BaseModel], name: str, value: object) -> object:
    field = model.model_fields.get(_FIELDS.get(name, name))
    if field is None:
        return value
    return _NULL if value is None else read_as(type_named_by(field.annotation), value)


def _problems(
    invalid: ValidationError, model: type[BaseModel], given: Mapping[str, object]
) -> Iterable[Problem]:
    """Return what is wrong with each argument, in the order found."""
    found: dict[str, tuple[Problem, ...]] = {}
    for error in invalid.errors(include_url=False):
        field = str(error["loc"][0])
        if error["type"] == "problems":
            found[field] = tuple(
                replace(each, field=field) if each.field == SHORT_NAMES.get(field) else each
                for each in error.get("ctx", {})["problems"]
            )
        elif error["type"] == "extra_forbidden":
            found[field] = (_no_such(field, given[field], model),)
        else:
            found.setdefault(field, (_problem(field, given, model),))
    return chain.from_iterable(found.values())


def _problem(field: str, given: Mapping[str, object], model: type[BaseModel]) -> Problem:
    name = _FIELDS.get(field, field)
    expected = _EXPECTED.get(name, _TEXT)
    argument = model.model_fields[name]
    if field in given and given[field] is None:
        choice = "" if argument.is_required() else ", or left out"
        message = f"{field}: must be {expected}{choice} (got null)"
        return Problem(field, None, expected, message=message)
    got = given.get(field)
    return Problem(field, got, expected, nearest(got, _literals(argument.annotation)))


def _literals(annotation: object) -> Iterator[str]:
    """Yield the strings that an annotation lists."""
    for each in get_args(annotation):
        if isinstance(each, str):
            yield each
        else:
            yield from _literals(each)


def argument_names(model: type[BaseModel]) -> list[str]:
    """Return the names of a model's arguments as its schema lists them."""
    return ["schema" if name == _FIELDS["schema"] else name for name in model.model_fields]


def _no_such(field: str, got: object, model: type[BaseModel]) -> Problem:
    known = argument_names(model)
    close = nearest(field, known)
    hint = f"the arguments are {', '.join(known)}" if close is None else f"did you mean {close}?"
    shown_name = _short(field)
    message = f"{shown_name}: no such argument ({hint})"
    return Problem(shown_name, got, f"one of {', '.join(known)}", close, message)


def _short(field: str) -> str:
    return field if len(field) <= 64 and names.is_printable(field) else ascii(field[:64])


def _trimmed(schema: JsonObject) -> JsonObject:
    """Drop generated titles, what holds anyway and the upper bound of counts, at every depth."""
    trimmed: JsonObject = {}
    for key, value in schema.items():
        if key == "title" or (key == "default" and value is None):
            continue
        if (key, value) in (("maximum", MAXIMUM_TOKENS), ("additionalProperties", True)):
            continue
        if key in {"properties", "$defs"}:
            trimmed[key] = {name: _trimmed(node) for name, node in value.items()}
        elif isinstance(value, dict):
            trimmed[key] = _trimmed(cast("JsonObject", value))
        else:
            trimmed[key] = value
    return trimmed


def input_schema(model: type[BaseModel]) -> JsonObject:
    """Return the JSON schema of a tool's arguments without what a model need not read."""
    schema = _trimmed(model.model_json_schema())
    schema.pop("description", None)
    return schema
