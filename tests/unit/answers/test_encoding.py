"""The JSON of answers: nothing where nothing is known, times in UTC, and what the schemas say."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace
from pydantic import TypeAdapter

from immunos_mcp.answers.delegation import DelegateAnswer
from immunos_mcp.answers.encoding import to_json, to_object
from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.answers.routing import RouteAnswer
from immunos_mcp.answers.schema import answer_schema
from immunos_mcp.answers.settings import ConfigAnswer
from immunos_mcp.answers.status import EngineStatus, StatusAnswer
from immunos_mcp.domain import (
    Classification,
    Decision,
    EngineState,
    Outcome,
    PlanUsage,
    Provider,
    Reason,
    Task,
    TokenCounts,
    WarningLevel,
)

if TYPE_CHECKING:
    from msgspec import Struct

NOON = datetime(2026, 1, 15, 12, 0, 5, tzinfo=UTC)
LOGGED = LoggedDecision(
    12,
    "work",
    NOON,
    Task("debug", Classification.ROUTINE, 5),
    Decision("m:1", Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 1500),
    None,
)

plan_usages = st.builds(
    PlanUsage, strategies.words, st.floats(0, 100), strategies.moments.map(lambda at: at)
)
whole_statuses = st.builds(
    replace,
    strategies.status_answers,
    plan=st.none() | st.lists(plan_usages, max_size=3).map(tuple),
    ollama=st.none()
    | st.builds(
        EngineStatus,
        st.sampled_from(EngineState),
        st.none() | st.lists(strategies.words, max_size=3).map(tuple),
    ),
)
delegate_answers = st.builds(
    DelegateAnswer,
    strategies.words,
    st.sampled_from(Provider),
    strategies.ids,
    local_output=st.none() | strategies.words,
    input_tokens=st.none() | strategies.tokens,
    seconds=st.none() | st.floats(0, 1e6),
    cut_off=st.none() | st.booleans(),
)
answers = st.one_of(
    strategies.route_answers,
    strategies.record_answers,
    strategies.reset_answers,
    strategies.config_answers,
    whole_statuses,
    delegate_answers,
)


def without_nulls(value: object) -> object:
    """Return a value of plain JSON with every entry that is null left out, at any depth."""
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value).items()
        return {key: without_nulls(item) for key, item in entries if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in cast("list[object]", value)]
    return value


def fields_of(value: object) -> object:
    """Return an answer as nested dictionaries of Python values, in the order of its fields."""
    names = cast("tuple[str, ...] | None", getattr(value, "__struct_fields__", None))
    if names is not None:
        return {name: fields_of(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {key: fields_of(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, tuple):
        return [fields_of(item) for item in cast("tuple[object, ...]", value)]
    return value


@given(answers)
def test_an_answer_is_spelled_as_pydantic_spells_its_fields_without_nulls(answer: Struct) -> None:
    independently = TypeAdapter[Any](Any).dump_python(fields_of(answer), mode="json")
    assert to_json(answer) == json.dumps(
        without_nulls(independently), separators=(",", ":"), ensure_ascii=False
    )


@given(answers)
def test_an_answer_fits_the_schema_of_its_kind(answer: Struct) -> None:
    validator: Any = Draft202012Validator(answer_schema(type(answer)))
    validator.validate(json.loads(to_json(answer)))
    validator.validate(to_object(answer))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (RouteAnswer, {"model": "m"}),
        (StatusAnswer, {"session": 5}),
        (ConfigAnswer, {"changes": {"a": {"before": []}}, "settings": {}}),
        (ConfigAnswer, {"changes": {}, "settings": {"a": {"b": 1}}}),
    ],
)
def test_a_schema_refuses_what_is_no_such_answer(kind: type[Struct], answer: object) -> None:
    validator: Any = Draft202012Validator(answer_schema(kind))
    assert not validator.is_valid(answer)


def test_a_schema_names_what_is_always_there_and_defaults_that_are_told() -> None:
    schema = answer_schema(StatusAnswer)
    assert "session_tokens" in schema["required"]
    assert "folder" not in schema["required"]
    assert schema["properties"]["folder"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    counts = schema["$defs"]["TokenCounts"]["properties"]
    assert counts["input_tokens"] == {"default": 0, "type": "integer"}
    assert schema["properties"]["decisions"] == {
        "additionalProperties": {"type": "integer"},
        "propertyNames": {"$ref": "#/$defs/Reason"},
        "type": "object",
    }


def test_zeros_of_token_counts_are_told() -> None:
    assert to_json(TokenCounts(5)) == (
        '{"input_tokens":5,"output_tokens":0,"cache_creation_input_tokens":0,'
        '"cache_read_input_tokens":0}'
    )


def test_members_of_enumerations_become_plain_text() -> None:
    told = to_object(EngineStatus(EngineState.UP))
    assert type(told["state"]) is str
    assert told == {"state": "up"}


def test_json_is_one_line_without_blanks_and_nulls_in_utc() -> None:
    assert to_json((LOGGED, replace(LOGGED, outcome=Outcome.SUCCESS))) == (
        '[{"decision_id":12,"session":"work","decided_at":"2026-01-15T12:00:05Z",'
        '"task":{"task_type":"debug","classification":"routine","estimated_tokens":5},'
        '"decision":{"model":"m:1","provider":"ollama","reason":"task_optimized",'
        '"warning_level":"normal","session_tokens":1500}},'
        '{"decision_id":12,"session":"work","decided_at":"2026-01-15T12:00:05Z",'
        '"task":{"task_type":"debug","classification":"routine","estimated_tokens":5},'
        '"decision":{"model":"m:1","provider":"ollama","reason":"task_optimized",'
        '"warning_level":"normal","session_tokens":1500},"outcome":"success"}]'
    )
    elsewhere = replace(LOGGED, decided_at=NOON.astimezone(timezone(timedelta(hours=-5))))
    assert to_json(elsewhere) == to_json(LOGGED)


def test_json_keeps_letters_readable_and_false_and_zero() -> None:
    assert to_json({"größe": 0, "aus": False, "nichts": None, "leer": ""}) == (
        '{"größe":0,"aus":false,"leer":""}'
    )


@given(st.dictionaries(strategies.words, strategies.plain, max_size=5))
def test_json_reads_back_as_it_was(values: dict[str, Any]) -> None:
    assert json.loads(to_json(values)) == values


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, {"x": b"bytes"}, (1, [2]), date(2026, 1, 1), Decimal(1)]
)
def test_a_value_that_is_no_answer_is_a_bug(value: object) -> None:
    with pytest.raises(TypeError, match="no JSON for"):
        to_json(value)
