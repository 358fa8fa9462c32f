"""What crosses the MCP boundary: strict arguments in, answers out that fit their schemas."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import pytest
import statuses
import strategies
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace
from mutations import json_values
from routed_tasks import routed

from immunos_mcp.answers.encoding import to_json, to_object
from immunos_mcp.answers.routing import RouteAnswer
from immunos_mcp.answers.sessions import ResetAnswer
from immunos_mcp.answers.settings import ConfigAnswer, Difference, DryRunEffect
from immunos_mcp.answers.status import StatusAnswer
from immunos_mcp.answers.usage import RecordAnswer
from immunos_mcp.domain import MAXIMUM_TOKENS, Provider, Reason, TokenCounts, WarningLevel
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.server import arguments, text
from immunos_mcp.server.tools import TOOLS

if TYPE_CHECKING:
    from msgspec import Struct
    from pydantic import BaseModel

ROUTE = {"task_type": "debug", "classification": "routine"}
RECORD = {"model": "m", "input_tokens": 1, "output_tokens": 2}

ESTIMATE = "estimated_tokens: must be a whole number from 0 to 1000000000000"

BAD: list[tuple[type[arguments.Arguments], dict[str, Any], str]] = [
    (arguments.RouteTaskArguments, {}, "task_type: is required; must be a task type of 1 to 64"),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "task_type": 5},
        "task_type: must be a task type of 1 to 64 printable characters, such as code_review (got 5)",
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "classification": "urgent"},
        "classification: must be routine, creative or critical (got 'urgent')",
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "classification": "Critcal"},
        "must be routine, creative or critical (got 'Critcal'; did you mean 'critical'?)",
    ),
    *(
        (
            arguments.RouteTaskArguments,
            {**ROUTE, "estimated_tokens": value},
            f"{ESTIMATE} (got {got})",
        )
        for value, got in (
            (-1, "-1"),
            (1.5, "1.5"),
            ("1.5", "'1.5'"),
            (True, "true"),
            (2**63, "9223372036854775808"),
            (10**400, "a whole number of 1329 bits"),
        )
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "priority": 1},
        (
            "priority: no such argument (the arguments are task_type, classification, estimated_tokens, "
            "explain, session)"
        ),
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "estimated_token": 1},
        "estimated_token: no such argument (did you mean estimated_tokens?)",
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "a\nb": 1},
        "'a\\nb': no such argument (the arguments",
    ),
    (
        arguments.RecordUsageArguments,
        {**RECORD, "outcome": "meh"},
        "outcome: must be success or failure (got 'meh')",
    ),
    (
        arguments.RecordUsageArguments,
        {**RECORD, "outcome": "failed"},
        "outcome: must be success or failure (got 'failed'; did you mean 'failure'?)",
    ),
    (
        arguments.RecordUsageArguments,
        {**RECORD, "decision_id": "seven"},
        "decision_id: must be the id of an earlier decision (got 'seven')",
    ),
    (arguments.ResetSessionArguments, {"reason": ["x"]}, "reason: must be text (got ['x'])"),
    (
        arguments.UpdateConfigArguments,
        {"dry_run": "yes"},
        "dry_run: must be true or false (got 'yes')",
    ),
    (
        arguments.UpdateConfigArguments,
        {"input_weight": float("nan")},
        "input_weight: must be a number from 0 to 100 in steps of 0.001 (got nan)",
    ),
    (
        arguments.UpdateConfigArguments,
        {"warning_threshold": 0},
        "warning_threshold: must be a whole",
    ),
    (
        arguments.UpdateConfigArguments,
        {"task_mappings": {"debug": 5}},
        "task_mappings: must be an object that maps each task type to a model",
    ),
    (
        arguments.UpdateConfigArguments,
        {"task_mappings": {"!": "m"}},
        "task_mappings.!: must be a task type of 1 to 64",
    ),
    (
        arguments.UpdateConfigArguments,
        {"task_mappings": {"!": "m", "debug": "a b", "plan": "m:1"}},
        (
            "task_mappings.!: must be a task type of 1 to 64 printable characters, such as "
            "code_review (got '!'); task_mappings.debug: must be a model name of 1 to 200 ASCII "
            "characters without spaces (got 'a b')"
        ),
    ),
    (
        arguments.UpdateConfigArguments,
        {"token_warning_threshold": 5, "warning_threshold": 6},
        "warning_threshold: cannot be used with token_warning_threshold, its full name",
    ),
    (
        arguments.UpdateConfigArguments,
        {"task_mappings": {"debug": "m:1", "Debug": "m:2"}},
        "task_mappings.Debug: conflicts with another entry for the task type debug",
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "priority": None},
        "priority: no such argument",
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "estimated_tokens": None},
        f"{ESTIMATE}, or left out (got null)",
    ),
    (
        arguments.RouteTaskArguments,
        {**ROUTE, "classification": None},
        "classification: must be routine, creative or critical (got null)",
    ),
    (
        arguments.UpdateConfigArguments,
        {"warning_threshold": None, "session": None},
        (
            "warning_threshold: must be a whole number from 1 to 1000000000000, or left out (got null);"
            " session: must be text, or left out (got null)"
        ),
    ),
    (
        arguments.DelegateTaskArguments,
        {"paths": "src/*.py"},
        "paths: must be a list of files or patterns (got 'src/*.py')",
    ),
    (
        arguments.UpdateConfigArguments,
        {"claude_model": "a b"},
        "claude_model: must be a model name",
    ),
]


@pytest.mark.parametrize(("model", "sent", "message"), BAD)
def test_a_bad_argument_is_named_with_what_it_must_be_and_what_was_sent(
    model: type[arguments.Arguments], sent: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        arguments.parse(model, sent)
    assert message in str(refused.value)


def test_every_bad_argument_of_a_call_is_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        arguments.parse(
            arguments.UpdateConfigArguments,
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
        arguments.parse(arguments.RouteTaskArguments, {**ROUTE, "classification": "x" * 10_000_000})
    assert len(str(refused.value)) < 300


def test_settings_are_taken_under_their_short_names_too() -> None:
    given = arguments.parse(
        arguments.UpdateConfigArguments,
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
        (arguments.RouteTaskArguments, ROUTE),
        (arguments.RecordUsageArguments, {**RECORD, "outcome": "success", "decision_id": 1}),
        (arguments.GetSessionStatusArguments, {}),
        (arguments.ResetSessionArguments, {"reason": "new day", "session": "x"}),
        (arguments.UpdateConfigArguments, {"task_mappings": {"debug": None}, "dry_run": True}),
    ],
)
def test_a_published_schema_takes_what_is_taken_and_refuses_unknown_fields(
    model: type[BaseModel], good: dict[str, Any]
) -> None:
    schema = arguments.input_schema(model)
    Draft202012Validator.check_schema(schema)
    validator: Any = Draft202012Validator(schema)
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "unknown": 1})
    assert "title" not in json.dumps(schema)


STATUS = statuses.status(
    session_tokens=5,
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
SCHEMAS: dict[type[Struct], Any] = {
    tool.answer_kind: tool.listing().output_schema for tool in TOOLS if tool.answer_kind is not None
}
"""The schema that clients are told of each kind of answer."""


def assert_fits(answer: Struct) -> None:
    """Check structured content against the tool's schema, and that ``--json`` is the same."""
    structured = to_object(answer)
    validator: Any = Draft202012Validator(SCHEMAS[type(answer)])
    validator.validate(structured)
    assert json.loads(to_json(answer)) == structured


ANSWERS: list[tuple[Struct, str]] = [
    (
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
            "Do it yourself (Claude): task_critical. Session 5 tokens, normal. decision_id 9. "
            "After it: 15, warning"
        ),
    ),
    (
        RouteAnswer("m:1", Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 5, 9, 5),
        "Use m:1 (ollama): task_optimized. Session 5 tokens, normal. decision_id 9. After it: 5, normal",
    ),
    (
        RecordAnswer(5, 0, WarningLevel.WARNING, crossed=WarningLevel.WARNING),
        "Recorded. Session 5 tokens, warning (threshold crossed). Kept local 0",
    ),
    (
        RecordAnswer(5, 0, WarningLevel.NORMAL, repeated=True),
        "Already recorded, nothing changed. Session 5 tokens, normal. Kept local 0",
    ),
    (
        RecordAnswer(5, 0, WarningLevel.NORMAL, counted=False),
        "Stored, not counted: your usage is already measured. Session 5 tokens, normal. Kept local 0",
    ),
    (
        STATUS,
        (
            "Session default: 5 of 200000 tokens (0.0%), normal. Budget is fine. Recommended: "
            "claude-sonnet-4.5. Kept local 7. Thresholds 150000, 180000. 10 tokens/min: warning in "
            "15000 min, auto-switch in 18000 min"
        ),
    ),
    (ResetAnswer(4), "Session 4 opened; no session was open"),
    (
        ResetAnswer(4, 3, 10, 20, 30),
        "Session 4 opened. Session 3 closed at 10 tokens, 20 kept local, 30 decisions",
    ),
    (
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
        ConfigAnswer({}, {"session_limit": 9}, dry_run=True, rehearsal=DryRunEffect(9, 3, 2, 1)),
        (
            "Would change: nothing. Of the last 9 decisions 3 would change: 2 to Ollama, 1 to Claude. "
            "In force: session_limit 9"
        ),
    ),
]


@pytest.mark.parametrize("answer", [answer for answer, _ in ANSWERS])
def test_an_answer_fits_its_schema_and_has_no_nulls(answer: Struct) -> None:
    assert_fits(answer)
    assert "null" not in to_json(answer)


@pytest.mark.parametrize(("answer", "line"), ANSWERS)
def test_an_answer_is_said_in_one_line(answer: Struct, line: str) -> None:
    say: dict[type[Struct], Any] = {
        RouteAnswer: routed,
        RecordAnswer: text.recorded,
        StatusAnswer: text.status,
        ResetAnswer: text.reset,
        ConfigAnswer: text.configured,
    }
    assert say[type(answer)](answer) == line


GOOD: dict[type[arguments.Arguments], dict[str, Any]] = {
    arguments.RouteTaskArguments: {
        **ROUTE,
        "estimated_tokens": 5,
        "explain": True,
        "session": "work",
    },
    arguments.RecordUsageArguments: {
        **RECORD,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
        "decision_id": 7,
        "outcome": "failure",
        "request_id": "r1",
        "session": "work",
    },
    arguments.GetSessionStatusArguments: {"session": "work"},
    arguments.ResetSessionArguments: {"reason": "new day", "session": "work"},
    arguments.UpdateConfigArguments: {
        "token_warning_threshold": 1,
        "token_auto_switch_threshold": 2,
        "session_limit": 3,
        "claude_model": "claude-x",
        "default_local_model": "llama3:8b",
        "input_weight": 1,
        "output_weight": 0.5,
        "cache_creation_weight": 100,
        "cache_read_weight": 0.001,
        "session_window_minutes": 300,
        "plan_warning_percent": 80,
        "plan_auto_switch_percent": 95,
        "budgets": "daily=20 usd/day",
        "cloud_models": "off",
        "delegate_wait_seconds": 30,
        "deny_agent_tool": "on",
        "track_record": "advise",
        "task_mappings": {"debug": "m:1", "plan": None},
        "dry_run": False,
        "session": "work",
    },
    arguments.DelegateTaskArguments: {
        "prompt": "Do it",
        "task_type": "debug",
        "classification": "routine",
        "paths": ["a.py"],
        "instructions": "Be brief",
        "decision_id": 7,
        "max_output_tokens": 50,
        "output_path": "out.md",
        "schema": {"type": "object"},
        "checks": ["code"],
        "handle": "d7",
        "session": "work",
    },
    arguments.HookArguments: {
        "event": "PreToolUse",
        "session_id": "5f0e",
        "tool": "Read",
        "agent": "a1",
        "transcript": "/t.jsonl",
        "file": "/a.py",
        "offset": "1",
        "limit": "2",
        "from_model": "a",
        "to_model": "b",
    },
}
FIELDS = [(model, field) for model, given in GOOD.items() for field in given]
COUNT = "a whole number from 0 to 1000000000000"
THRESHOLD = "a whole number from 1 to 1000000000000"
WEIGHT = "a number from 0 to 100 in steps of 0.001"
WINDOW = "a whole number of minutes from 0 (off) to 525600"
PERCENT = "a whole percentage from 1 to 100, or 0 for off"
NO_NUMBERS: tuple[Any, ...] = (
    True, "", [5], {"x": 5}, float("nan"), float("inf"), " 5", "5 ", "4,000", "4e3", "+5", "05", "0x5",
    "NaN", "Infinity", "true", "null", "five", "\u0665", "5" * 5000, "[5]", "1e999",
)  # fmt: skip
NO_WHOLE_NUMBERS: tuple[Any, ...] = (
    *NO_NUMBERS, 1.5, -1, 10**12 + 1, 2**63, 10**400, 1e300, 1e13, "1.5", "5.0", "-1", "9" * 18,
)  # fmt: skip
COUNTS = {
    arguments.RouteTaskArguments: ["estimated_tokens"],
    arguments.RecordUsageArguments: [
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    ],
}
THRESHOLDS = ["token_warning_threshold", "token_auto_switch_threshold", "session_limit"]
WEIGHTS = ["input_weight", "output_weight", "cache_creation_weight", "cache_read_weight"]
NUMBERS: list[tuple[type[arguments.Arguments], str, str, tuple[Any, ...]]] = [
    *(
        (model, field, COUNT, NO_WHOLE_NUMBERS)
        for model, names in COUNTS.items()
        for field in names
    ),
    *(
        (arguments.UpdateConfigArguments, field, THRESHOLD, (*NO_WHOLE_NUMBERS, 0))
        for field in THRESHOLDS
    ),
    *(
        (
            arguments.UpdateConfigArguments,
            field,
            WEIGHT,
            (*NO_NUMBERS, -0.1, 100.001, 0.0005, 10**400),
        )
        for field in WEIGHTS
    ),
    (
        arguments.UpdateConfigArguments,
        "session_window_minutes",
        WINDOW,
        (*NO_WHOLE_NUMBERS, 525_601),
    ),
    *(
        (arguments.UpdateConfigArguments, field, PERCENT, (*NO_WHOLE_NUMBERS, 101))
        for field in ("plan_warning_percent", "plan_auto_switch_percent")
    ),
]


def problems(model: type[arguments.Arguments], sent: dict[str, Any]) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInputError) as refused:
        arguments.parse(model, sent)
    return refused.value.problems


def is_taken(model: type[arguments.Arguments], sent: dict[str, Any]) -> bool:
    try:
        arguments.parse(model, sent)
    except InvalidInputError:
        return False
    return True


@pytest.mark.parametrize("model", GOOD)
def test_every_argument_is_taken_as_it_is_and_every_field_is_tried(
    model: type[arguments.Arguments],
) -> None:
    assert arguments.parse(model, GOOD[model]).model_dump(by_alias=True) == GOOD[model]
    assert set(GOOD[model]) == set(arguments.argument_names(model))


@pytest.mark.parametrize(("model", "field", "expected", "bad"), NUMBERS)
def test_a_number_that_cannot_be_taken_is_named_with_what_it_got(
    model: type[arguments.Arguments], field: str, expected: str, bad: tuple[Any, ...]
) -> None:
    found = [problems(model, {**GOOD[model], field: value}) for value in bad]
    assert found == [(Problem(field, value, expected),) for value in bad]


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_null_is_refused_by_name_and_an_argument_may_be_left_out_if_it_is_not_required(
    model: type[arguments.Arguments], field: str
) -> None:
    (problem,) = problems(model, {**GOOD[model], field: None})
    assert (problem.field, problem.got) == (field, None)
    assert str(problem).startswith(f"{field}: must be ")
    assert str(problem).endswith("(got null)")
    left = {name: value for name, value in GOOD[model].items() if name != field}
    if field in arguments.input_schema(model).get("required", []):
        assert str(*problems(model, left)).startswith(f"{field}: is required")
    else:
        assert arguments.parse(model, left).model_dump(by_alias=True)[field] is None


@pytest.mark.parametrize(("model", "field"), FIELDS)
@pytest.mark.parametrize("value", [[1], {"x": 1}, [[["deep"]]], [None]])
def test_a_list_or_an_object_in_place_of_an_argument_is_named(
    model: type[arguments.Arguments], field: str, value: object
) -> None:
    sent = {**GOOD[model], field: [value] if field == "schema" else value}
    (problem,) = problems(model, sent)
    assert (problem.field, problem.got) == (field, sent[field])
    assert len(str(problem)) < 300


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_a_megabyte_is_refused_in_a_short_line(
    model: type[arguments.Arguments], field: str
) -> None:
    huge = "x" * 1_000_000
    for sent in ({**GOOD[model], field: [[huge]]}, {**GOOD[model], huge: 1}):
        with pytest.raises(InvalidInputError) as refused:
            arguments.parse(model, sent)
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize("model", GOOD)
@pytest.mark.parametrize("name", ["unheard_of", "", "Session", "a b", "\u202e", "\U0001f525"])
def test_an_unknown_argument_is_named_with_those_there_are(
    model: type[arguments.Arguments], name: str
) -> None:
    (problem,) = problems(model, {**GOOD[model], name: "x"})
    assert problem.field.isprintable()
    known = ", ".join(arguments.argument_names(model))
    assert (problem.got, problem.expected) == ("x", f"one of {known}")
    hint = f"did you mean {problem.nearest}?" if problem.nearest else f"the arguments are {known}"
    assert str(problem) == f"{problem.field}: no such argument ({hint})"


def test_an_unknown_argument_with_half_a_character_is_named_too() -> None:
    (problem,) = problems(arguments.RouteTaskArguments, {**ROUTE, "\ud800": 1})
    assert (problem.field, problem.got) == ("'\\ud800'", 1)


def test_a_number_too_long_to_be_written_is_named_inside_an_object_too() -> None:
    (problem,) = problems(arguments.UpdateConfigArguments, {"task_mappings": {"debug": 10**5000}})
    assert str(problem).startswith("task_mappings: must be ")
    assert len(str(problem)) < 300


def test_a_setting_given_under_both_its_names_is_refused() -> None:
    both = {"warning_threshold": 5, "token_warning_threshold": 6}
    (problem,) = problems(arguments.UpdateConfigArguments, both)
    assert (problem.field, problem.got) == ("warning_threshold", 5)


def test_a_threshold_is_refused_under_the_name_it_was_given() -> None:
    assert problems(arguments.UpdateConfigArguments, {"auto_switch_threshold": "x"}) == (
        Problem("auto_switch_threshold", "x", THRESHOLD),
    )


@pytest.mark.parametrize(
    ("model", "field", "words"),
    [
        (arguments.RouteTaskArguments, "classification", "routine, creative or critical"),
        (arguments.RecordUsageArguments, "outcome", "success or failure"),
        (
            arguments.HookArguments,
            "event",
            "UserPromptSubmit, PreToolUse, PreModelSwitch, PostToolBatch, SubagentStop or Stop",
        ),
    ],
)
def test_a_word_outside_the_closed_ones_is_refused_with_all_of_them(
    model: type[arguments.Arguments], field: str, words: str
) -> None:
    for value in ("", "Routine", "SUCCESS", "stop ", 1, False):
        (problem,) = problems(model, {**GOOD[model], field: value})
        assert replace(problem, nearest=None) == Problem(field, value, words)
    for word in words.replace(" or ", ", ").split(", "):
        assert getattr(arguments.parse(model, {**GOOD[model], field: word}), field) == word


SAMPLES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 5, MAXIMUM_TOKENS, 1.5, -0.5, 5.0, -0.0, 1e12, "", "5", "-1", "0.5",
    "true", "false", " 5", "4,000", "4e3", "yes", "NaN", "null", "x", "routine", "Routine", "success",
    "Stop", [], ["x"], {}, {"debug": "m:1"}, {"debug": None}, {"debug": 5}, {"debug": ["m:1"]}, "[]",
    '["x", "y"]', "[1]", "{}", '{"debug": "m:1"}', '{"debug": ["m:1"]}', '{"debug": null}',
    '{"debug": "m:1", "debug": "m:2"}', "[NaN]", '["x"', "[" * 100_000,
)  # fmt: skip


def fits_unpublished_bounds(name: str, value: object) -> bool:
    """Tell whether a value is inside the bounds that are only told when they are broken."""
    if name in WEIGHTS:
        return not isinstance(value, int | float) or 0 <= value <= 100
    if name in {"claude_model", "default_local_model"} and isinstance(value, str):
        return re.fullmatch("[!-~]{1,200}", value) is not None
    if name == "budgets" and isinstance(value, str):
        return value not in SAMPLES or not value.strip()  # none is a budget
    return True


READ_AS = {"integer": int, "number": int | float, "boolean": bool, "array": list, "object": dict}
"""The Python types of what JSON text means for each type of a schema."""


def unambiguous(text: str, kind: str) -> Any:
    """Return what a text means for a type of a schema, if it can only mean one thing; else itself."""
    if text in {"4e3", '{"debug": "m:1", "debug": "m:2"}', "[NaN]", "NaN"}:
        return text
    try:
        meant = json.loads(text) if text.strip() == text else text
    except (ValueError, RecursionError):
        return text
    has_type = kind in READ_AS and isinstance(meant, READ_AS[kind])
    return meant if has_type and (kind == "boolean" or not isinstance(meant, bool)) else text


def meant(model: type[arguments.Arguments], sent: dict[str, Any]) -> dict[str, Any]:
    """Return a call with each text for a value of another type replaced by that value."""
    kinds = {
        name: schema.get("type", "")
        for name, schema in published(model).schema["properties"].items()
    }
    return {
        name: unambiguous(value, kinds.get(name, "")) if isinstance(value, str) else value
        for name, value in sent.items()
    }


@cache
def published(model: type[arguments.Arguments]) -> Any:
    """Return what checks calls against the schema, which takes long to make."""
    return Draft202012Validator(arguments.input_schema(model))


def fits_schema(model: type[arguments.Arguments], sent: dict[str, Any]) -> bool:
    understood = meant(model, sent)
    return published(model).is_valid(understood) and all(
        fits_unpublished_bounds(name, value) for name, value in understood.items()
    )


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_one_argument_of_any_kind_is_taken_exactly_when_the_published_schema_fits_it(
    model: type[arguments.Arguments], field: str
) -> None:
    calls = [{**GOOD[model], field: value} for value in SAMPLES]
    assert [is_taken(model, call) for call in calls] == [fits_schema(model, call) for call in calls]


@given(
    st.sampled_from(list(GOOD)),
    st.dictionaries(st.integers(0, 12), st.sampled_from(SAMPLES), max_size=3),
    st.sets(st.integers(0, 12), max_size=2),
    st.booleans(),
)
def test_what_is_taken_fits_the_published_schema_and_what_does_not_fit_is_refused(
    model: type[arguments.Arguments], changed: dict[int, Any], left_out: set[int], is_strange: bool
) -> None:
    sent = dict(GOOD[model])
    names = list(sent)
    for position in left_out:
        sent.pop(names[position % len(names)], None)
    for position, value in changed.items():
        sent[names[position % len(names)]] = value
    if is_strange:
        sent["unheard_of"] = 1
    assert is_taken(model, sent) == fits_schema(model, sent)


READINGS: list[tuple[type[arguments.Arguments], str, object, object]] = [
    (arguments.RouteTaskArguments, "estimated_tokens", "4000", 4000),
    (arguments.RouteTaskArguments, "estimated_tokens", 5.0, 5),
    (arguments.RouteTaskArguments, "estimated_tokens", -0.0, 0),
    (arguments.RouteTaskArguments, "explain", "true", True),
    (arguments.RecordUsageArguments, "decision_id", "7", 7),
    (arguments.UpdateConfigArguments, "session_limit", "300000", 300_000),
    (arguments.UpdateConfigArguments, "input_weight", "0.5", 0.5),
    (arguments.UpdateConfigArguments, "dry_run", "false", False),
    (arguments.UpdateConfigArguments, "task_mappings", '{"debug":"m:1"}', {"debug": "m:1"}),
    (
        arguments.UpdateConfigArguments,
        "task_mappings",
        {"debug": '["m:1","n:2"]'},
        {"debug": "m:1,n:2"},
    ),
    (arguments.DelegateTaskArguments, "paths", '["a.py", "b.py"]', ["a.py", "b.py"]),
    (arguments.DelegateTaskArguments, "checks", '["code"]', ["code"]),
    (arguments.DelegateTaskArguments, "prompt", "[1]", "[1]"),
    (arguments.DelegateTaskArguments, "prompt", "true", "true"),
    (arguments.DelegateTaskArguments, "max_output_tokens", "50", 50),
    (arguments.ResetSessionArguments, "reason", "5", "5"),
]


@pytest.mark.parametrize(("model", "field", "sent", "read"), READINGS)
def test_a_value_is_read_as_the_type_of_its_argument(
    model: type[arguments.Arguments], field: str, sent: object, read: object
) -> None:
    taken = getattr(arguments.parse(model, {**GOOD[model], field: sent}), field)
    assert (taken, type(taken)) == (read, type(read))


PUBLISHED = {
    arguments.RouteTaskArguments: ["task_type", "classification"],
    arguments.RecordUsageArguments: [],
    arguments.GetSessionStatusArguments: [],
    arguments.ResetSessionArguments: [],
    arguments.UpdateConfigArguments: [],
    arguments.DelegateTaskArguments: [],
    arguments.HookArguments: ["event"],
}


@pytest.mark.parametrize(("model", "required"), PUBLISHED.items())
def test_a_published_schema_lists_every_argument_flat_and_closed(
    model: type[arguments.Arguments], required: list[str]
) -> None:
    schema = arguments.input_schema(model)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == arguments.argument_names(model)
    assert schema.get("required", []) == required
    spelled = json.dumps(schema)
    assert [
        word for word in ("$ref", "$defs", "anyOf", "default", "title") if f'"{word}"' in spelled
    ] == []


ANSWERED = [
    strategies.route_answers,
    strategies.record_answers,
    strategies.status_answers,
    strategies.reset_answers,
    strategies.config_answers,
]


def holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(holds_null(item) for item in cast("dict[str, Any]", value).values())
    return value is None


@pytest.mark.parametrize("answers", ANSWERED)
@given(data=st.data())
def test_any_answer_fits_its_schema_and_is_the_command_lines_json(
    answers: st.SearchStrategy[Struct], data: st.DataObject
) -> None:
    answer = data.draw(answers)
    assert_fits(answer)
    assert not holds_null(to_object(answer))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=[kind.__name__ for kind in SCHEMAS])
def test_an_output_schema_is_an_object_without_what_nobody_need_read(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert '"title"' not in json.dumps(schema)
    assert '"description"' not in json.dumps(schema)
    assert '"default": null' not in json.dumps(schema)


@given(st.sampled_from(list(GOOD)), st.data())
def test_whatever_is_sent_is_taken_or_refused_in_a_short_line(
    model: type[arguments.Arguments], data: st.DataObject
) -> None:
    names = st.sampled_from([*arguments.argument_names(model), "warning_threshold"]) | st.text(
        max_size=8
    )
    sent = data.draw(st.dictionaries(names, json_values | st.text(), max_size=4))
    try:
        arguments.parse(model, {**GOOD[model], **sent})
    except InvalidInputError as error:
        refused = error
    else:
        return
    assert refused.problems
    assert str(refused).isprintable()
    assert len(str(refused)) < 600 * len(refused.problems)
