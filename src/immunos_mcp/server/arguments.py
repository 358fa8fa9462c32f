"""The arguments of the tools, and their schemas.

Arguments are strict: no text for numbers, no fractions, no unknown fields. ``null`` for an optional
argument counts as not given, since some clients always send every argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

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
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules import names
from immunos_mcp.rules.setting_kinds import (
    Choice,
    ModelName,
    Number,
    TaskMappings,
    WholeNumber,
)
from immunos_mcp.rules.settings import ROWS, SHORT_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

    from immunos_mcp.rules.setting_kinds import Kind, SettingChangeValue
    from immunos_mcp.rules.settings import Row

JsonObject = dict[str, Any]
"""A JSON object on its way in or out; what it holds is checked by a schema, not by a type."""

ArgumentsModel = TypeVar("ArgumentsModel", bound=BaseModel)


def _checked_model(name: str) -> str:
    try:
        return names.check_model_name(name)
    except InvalidInputError as refused:
        raise PydanticCustomError(
            "refused", "{expected}", {"expected": refused.problems[0].expected}
        ) from None


def _refusing(name: str, kind: Number | TaskMappings) -> Callable[[object], object]:
    """Return the kind's check for pydantic, which collects what it refuses."""

    def check(value: object) -> object:
        try:
            return kind.check(name, value)
        except InvalidInputError as refused:
            expected = ", ".join(
                f"for {each.field} {each.expected}" if each.field != name else each.expected
                for each in refused.problems[:5]
            )
            raise PydanticCustomError("refused", "{expected}", {"expected": expected}) from None

    return check


Nothing = SkipJsonSchema[None]
Tokens = Annotated[int, Field(ge=0, le=MAXIMUM_TOKENS)]
ModelNameArgument = Annotated[str, AfterValidator(_checked_model)]
Session = Annotated[str | Nothing, Field(description="Budget session name")]


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
    estimated_tokens: Annotated[
        Tokens | Nothing, Field(description="Tokens the task would cost you")
    ] = None
    explain: bool | Nothing = None
    session: Session = None


class RecordUsageArguments(Arguments):
    """Arguments of ``record_usage``."""

    model: str
    input_tokens: Tokens
    output_tokens: Tokens
    cache_creation_input_tokens: Tokens | Nothing = None
    cache_read_input_tokens: Tokens | Nothing = None
    decision_id: Annotated[int | Nothing, Field(description="From route_task")] = None
    outcome: Annotated[
        Literal["success", "failure"] | Nothing, Field(description="Closes decision_id")
    ] = None
    request_id: Annotated[str | Nothing, Field(description="Unique; makes repeats harmless")] = None
    session: Session = None


class DelegateTaskArguments(Arguments):
    """Arguments of ``delegate_task``."""

    prompt: Annotated[str | Nothing, Field(description="What to do")] = None
    task_type: str | Nothing = None
    classification: Literal["routine", "creative", "critical"] | Nothing = None
    paths: Annotated[
        list[str] | Nothing,
        Field(description="Files or globs it is about; do not read them yourself"),
    ] = None
    instructions: str | Nothing = None
    decision_id: Annotated[int | Nothing, Field(description="From route_task")] = None
    max_output_tokens: int | Nothing = None
    output_path: Annotated[str | Nothing, Field(description="New file for the result")] = None
    handle: Annotated[str | Nothing, Field(description="Alone: wait for an earlier task")] = None
    session: Session = None


class GetSessionStatusArguments(Arguments):
    """Arguments of ``get_session_status``."""

    session: Session = None


class ResetSessionArguments(Arguments):
    """Arguments of ``reset_session``."""

    reason: str | Nothing = None
    session: Session = None


class HookArguments(Arguments):
    """Arguments of the unlisted tool that Claude Code's hooks call."""

    event: Literal["UserPromptSubmit", "PreToolUse", "PostToolBatch", "SubagentStop", "Stop"]


def _settings_arguments() -> type[Arguments]:
    """Return arguments with an optional one for each setting but the advanced ones."""
    fields: dict[str, Any] = {
        name: (Annotated[_type(name, row.kind) | Nothing, _field(name, row)], None)
        for name, row in ROWS.items()
        if not row.is_advanced
    }
    return create_model("SettingsArguments", __base__=Arguments, **fields)


def _field(name: str, row: Row) -> FieldInfo:
    names_taken = None if row.short_name is None else AliasChoices(name, row.short_name)
    return Field(description=row.argument_description, validation_alias=names_taken)


def _type(name: str, kind: Kind) -> Any:
    match kind:
        case WholeNumber():
            return Annotated[int, Field(ge=kind.lowest, le=kind.highest)]
        case Number():
            return Annotated[float, AfterValidator(_refusing(name, kind))]
        case Choice():
            return Literal[tuple(choice.value for choice in kind.choices)]
        case ModelName():
            return ModelNameArgument
        case TaskMappings():
            entry = WithJsonSchema({"type": ["string", "array", "null"]})
            models = Annotated[str | list[str] | None, entry]
            return Annotated[dict[str, models], AfterValidator(_refusing(name, kind))]


class UpdateConfigArguments(_settings_arguments()):
    """Arguments of ``update_config``: the settings under their own names, and how to apply them."""

    dry_run: Annotated[bool | Nothing, Field(description="Only show the effect")] = None
    session: Session = None

    def changes(self) -> dict[str, SettingChangeValue]:
        """Return the settings that were given."""
        given = self.model_dump(include=set(ROWS))
        return {name: value for name, value in given.items() if value is not None}


_COUNT = f"a whole number from 0 to {MAXIMUM_TOKENS}"
_TEXT = "text"
_TAKES: Mapping[str, str] = {
    "task_type": names.TASK_TYPE_TAKES,
    "classification": "routine, creative or critical",
    "estimated_tokens": _COUNT,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "cache_creation_input_tokens": _COUNT,
    "cache_read_input_tokens": _COUNT,
    "decision_id": "the decision_id of a route_task answer",
    "outcome": "success or failure",
    "model": "a model name",
    "dry_run": "true or false",
    "explain": "true or false",
    "paths": "a list of files or patterns",
    "max_output_tokens": "a whole number",
    "event": "UserPromptSubmit, PreToolUse, PostToolBatch, SubagentStop or Stop",
    **{
        name: "a model name" if isinstance(row.kind, ModelName) else row.kind.expected
        for name, row in ROWS.items()
    },
}


def parse(model: type[ArgumentsModel], arguments: Mapping[str, object]) -> ArgumentsModel:
    """Check a call's arguments.

    Raises:
        InvalidInputError: it names every argument that cannot be taken, what it got and what it takes.
    """
    known = {*model.model_fields, *SHORT_NAMES}
    given = {
        name: value for name, value in arguments.items() if value is not None or name not in known
    }
    takes_names = f"no such argument; there are {', '.join(model.model_fields)}"
    unspeakable = [name for name in given if not name.isascii() and not names.is_printable(name)]
    if unspeakable:
        raise InvalidInputError(
            *(Problem(_short(name), given[name], takes_names) for name in unspeakable)
        )
    twice = [
        Problem(short, given[short], f"nothing beside {name}, which is the same")
        for short, name in SHORT_NAMES.items()
        if model is UpdateConfigArguments and short in given and name in given
    ]
    if twice:
        raise InvalidInputError(*twice)
    try:
        return model.model_validate(given)
    except ValidationError as refused:
        problems: dict[str, Problem] = {}
        for error in refused.errors(include_url=False, include_context=False):
            field = str(error["loc"][0])
            if error["type"] == "extra_forbidden":
                problems[field] = Problem(_short(field), given[field], takes_names)
            else:
                name = SHORT_NAMES.get(field, field)
                takes = error["msg"] if error["type"] == "refused" else _TAKES.get(name, _TEXT)
                problems.setdefault(field, Problem(field, given.get(field), takes))
        raise InvalidInputError(*problems.values()) from None


def _short(field: str) -> str:
    return field if len(field) <= 64 and names.is_printable(field) else ascii(field[:64])


def _trimmed(schema: JsonObject) -> JsonObject:
    """Drop generated titles, null defaults and the upper bound of counts, at every depth."""
    trimmed: JsonObject = {}
    for key, value in schema.items():
        if key == "title" or (key == "default" and value is None):
            continue
        if key == "maximum" and value == MAXIMUM_TOKENS:
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
    schema = _trimmed(model.model_json_schema(by_alias=False))
    schema.pop("description", None)
    return schema
