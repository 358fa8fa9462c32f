"""What crosses the MCP boundary: strict arguments in, answers out that fit their schemas."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from immunos_mcp import contracts, terminal, wording
from immunos_mcp.domain import (
    ConfigAnswer,
    Difference,
    Provider,
    Reason,
    RecordAnswer,
    Rehearsal,
    ResetAnswer,
    RouteAnswer,
    StatusAnswer,
    TokenCounts,
    WarningLevel,
)
from immunos_mcp.errors import InvalidInputError

if TYPE_CHECKING:
    from pydantic import BaseModel

ROUTE = {"task_type": "debug", "classification": "routine"}
RECORD = {"model": "m", "input_tokens": 1, "output_tokens": 2}

BAD: list[tuple[type[contracts.Arguments], dict[str, Any], str]] = [
    (contracts.RouteTaskArguments, {}, "task_type: got nothing, takes 1 to 64"),
    (contracts.RouteTaskArguments, {**ROUTE, "task_type": 5}, "task_type: got 5, takes 1 to 64"),
    (
        contracts.RouteTaskArguments,
        {**ROUTE, "classification": "urgent"},
        "classification: got 'urgent', takes routine, creative or critical",
    ),
    (
        contracts.RouteTaskArguments,
        {**ROUTE, "estimated_tokens": -1},
        "estimated_tokens: got -1, takes a whole number from 0 to 1000000000000",
    ),
    (contracts.RouteTaskArguments, {**ROUTE, "estimated_tokens": 1.5}, "estimated_tokens: got 1.5"),
    (contracts.RouteTaskArguments, {**ROUTE, "estimated_tokens": "5"}, "estimated_tokens: got '5'"),
    (
        contracts.RouteTaskArguments,
        {**ROUTE, "estimated_tokens": True},
        "estimated_tokens: got true",
    ),
    (
        contracts.RouteTaskArguments,
        {**ROUTE, "estimated_tokens": 2**63},
        "estimated_tokens: got 9223372036854775808",
    ),
    (
        contracts.RouteTaskArguments,
        {**ROUTE, "estimated_tokens": 10**400},
        "estimated_tokens: got a whole number of 1329 bits",
    ),
    (
        contracts.RouteTaskArguments,
        {**ROUTE, "priority": 1},
        "priority: got 1, takes no such argument; there are task_type, classification",
    ),
    (contracts.RouteTaskArguments, {**ROUTE, "a\nb": 1}, "'a\\nb': got 1, takes no such argument"),
    (contracts.RecordUsageArguments, {"model": "m"}, "output_tokens: got nothing"),
    (
        contracts.RecordUsageArguments,
        {**RECORD, "outcome": "meh"},
        "outcome: got 'meh', takes success",
    ),
    (contracts.RecordUsageArguments, {**RECORD, "decision_id": "7"}, "decision_id: got '7'"),
    (contracts.ResetSessionArguments, {"reason": ["x"]}, "reason: got ['x'], takes text"),
    (
        contracts.UpdateConfigArguments,
        {"dry_run": "yes"},
        "dry_run: got 'yes', takes true or false",
    ),
    (
        contracts.UpdateConfigArguments,
        {"input_weight": float("nan")},
        "input_weight: got nan, takes a number from 0 to 100",
    ),
    (contracts.UpdateConfigArguments, {"warning_threshold": 0}, "warning_threshold: got 0, takes"),
    (
        contracts.UpdateConfigArguments,
        {"task_mappings": {"debug": 5}},
        "task_mappings: got {'debug': 5}, takes an object of task type",
    ),
    (
        contracts.UpdateConfigArguments,
        {"task_mappings": {"!": "m"}},
        "task_mappings: got {'!': 'm'}, takes for task_mappings.! 1 to 64",
    ),
    (contracts.UpdateConfigArguments, {"claude_model": "a b"}, "claude_model: got 'a b', takes"),
]


@pytest.mark.parametrize(("model", "arguments", "message"), BAD)
def test_a_bad_argument_is_named_with_what_it_got_and_what_it_takes(
    model: type[contracts.Arguments], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        contracts.parse(model, arguments)
    assert message in str(refused.value)


def test_every_bad_argument_of_a_call_is_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        contracts.parse(
            contracts.UpdateConfigArguments,
            {"session_limit": -1, "claude_model": "", "input_weight": 101, "nonsense": 1},
        )
    assert {problem.field for problem in refused.value.problems} == {
        "session_limit",
        "claude_model",
        "input_weight",
        "nonsense",
    }


def test_a_huge_string_is_not_sent_back() -> None:
    with pytest.raises(InvalidInputError) as refused:
        contracts.parse(contracts.RouteTaskArguments, {**ROUTE, "classification": "x" * 10_000_000})
    assert len(str(refused.value)) < 300


def test_null_counts_as_not_given() -> None:
    given = contracts.parse(
        contracts.RouteTaskArguments, {**ROUTE, "estimated_tokens": None, "session": None}
    )
    assert given == contracts.RouteTaskArguments(task_type="debug", classification="routine")


def test_settings_are_taken_under_their_short_names_too() -> None:
    given = contracts.parse(
        contracts.UpdateConfigArguments,
        {"warning_threshold": 5, "token_auto_switch_threshold": 6, "task_mappings": {"a b": None}},
    )
    assert given.changes() == {
        "token_warning_threshold": 5,
        "token_auto_switch_threshold": 6,
        "task_mappings": {"a_b": None},
    }


@pytest.mark.parametrize(
    ("model", "good"),
    [
        (contracts.RouteTaskArguments, ROUTE),
        (contracts.RecordUsageArguments, {**RECORD, "outcome": "success", "decision_id": 1}),
        (contracts.GetSessionStatusArguments, {}),
        (contracts.ResetSessionArguments, {"reason": "new day", "session": "x"}),
        (contracts.UpdateConfigArguments, {"task_mappings": {"debug": None}, "dry_run": True}),
    ],
)
def test_a_published_schema_takes_what_is_taken_and_refuses_unknown_fields(
    model: type[BaseModel], good: dict[str, Any]
) -> None:
    schema = contracts.input_schema(model)
    Draft202012Validator.check_schema(schema)
    validator: Any = Draft202012Validator(schema)
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "unknown": 1})
    assert "title" not in json.dumps(schema)


STATUS = StatusAnswer(
    session="default",
    session_tokens=5,
    session_limit=200_000,
    percent_used=0.0,
    warning_level=WarningLevel.NORMAL,
    token_warning_threshold=150_000,
    token_auto_switch_threshold=180_000,
    recommended_model="claude-sonnet-4.5",
    message="Budget is fine.",
    kept_local_tokens=7,
    claude_tokens=TokenCounts(5),
    ollama_tokens=TokenCounts(7),
    decisions={Reason.TASK_OPTIMIZED: 2},
    measured_tokens=4,
    reported_tokens=1,
    session_id=3,
    started_at=datetime(2026, 1, 15, 12, 0, 0, 250_000, tzinfo=UTC),
    tokens_per_minute=10,
    minutes_to_warning=15_000,
    minutes_to_auto_switch=18_000,
)
ANSWERS: list[tuple[contracts.Answer, object, str]] = [
    (
        contracts.ROUTE,
        RouteAnswer(
            "claude-x",
            Provider.CLAUDE,
            Reason.TASK_CRITICAL,
            WarningLevel.NORMAL,
            5,
            9,
            15,
            WarningLevel.WARNING,
        ),
        (
            "Use claude-x (claude): task_critical. Session 5 tokens, normal. decision_id 9. "
            "After it: 15, warning"
        ),
    ),
    (
        contracts.ROUTE,
        RouteAnswer("m:1", Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 5, 9, 5),
        "Use m:1 (ollama): task_optimized. Session 5 tokens, normal. decision_id 9. After it: 5, normal",
    ),
    (
        contracts.RECORD,
        RecordAnswer(5, 0, WarningLevel.WARNING, crossed=WarningLevel.WARNING),
        "Recorded. Session 5 tokens, warning (threshold crossed). Kept local 0",
    ),
    (
        contracts.RECORD,
        RecordAnswer(5, 0, WarningLevel.NORMAL, repeated=True),
        "Already recorded, nothing changed. Session 5 tokens, normal. Kept local 0",
    ),
    (
        contracts.RECORD,
        RecordAnswer(5, 0, WarningLevel.NORMAL, counted=False),
        "Kept, not counted: your usage is measured. Session 5 tokens, normal. Kept local 0",
    ),
    (
        contracts.STATUS,
        STATUS,
        (
            "Session default: 5 of 200000 tokens (0.0 %), normal. Budget is fine. Recommended: "
            "claude-sonnet-4.5. Kept local 7. Thresholds 150000, 180000. 10 tokens a minute: warning in "
            "15000 min, auto-switch in 18000 min"
        ),
    ),
    (contracts.RESET, ResetAnswer(4), "Session 4 opened; none was open"),
    (
        contracts.RESET,
        ResetAnswer(4, 3, 10, 20, 30),
        "Session 4 opened. Session 3 closed at 10 tokens, 20 kept local, 30 decisions",
    ),
    (
        contracts.CONFIG,
        ConfigAnswer(
            {"input_weight": Difference(1.0, 0.5), "task_mappings.a": Difference(None, "m:1")},
            {"input_weight": 0.5, "task_mappings": {"a": "m:1", "b": "m:1"}},
        ),
        (
            "Changed: input_weight 1 -> 0.5, task_mappings.a none -> m:1. "
            "In force: input_weight 0.5, m:1 for a/b"
        ),
    ),
    (
        contracts.CONFIG,
        ConfigAnswer({}, {"session_limit": 9}, dry_run=True, rehearsal=Rehearsal(9, 3, 2, 1)),
        (
            "Would change: nothing. Of the last 9 decisions 3 would differ: 2 to Ollama, 1 to Claude. "
            "In force: session_limit 9"
        ),
    ),
]


@pytest.mark.parametrize(("form", "answer", "_line"), ANSWERS)
def test_an_answer_fits_its_schema_has_no_nulls_and_is_the_command_lines_json(
    form: contracts.Answer, answer: object, _line: str
) -> None:
    dumped = form.dump(answer)
    validator: Any = Draft202012Validator(form.schema)
    validator.validate(dumped)
    assert "null" not in form.dump_json(answer)
    assert json.loads(form.dump_json(answer)) == dumped == json.loads(terminal.to_json(answer))


@pytest.mark.parametrize(("form", "answer", "line"), ANSWERS)
def test_an_answer_is_said_in_one_line(form: contracts.Answer, answer: Any, line: str) -> None:
    say: dict[contracts.Answer, Any] = {
        contracts.ROUTE: wording.routed,
        contracts.RECORD: wording.recorded,
        contracts.STATUS: wording.status,
        contracts.RESET: wording.reset,
        contracts.CONFIG: wording.configured,
    }
    assert say[form](answer) == line
