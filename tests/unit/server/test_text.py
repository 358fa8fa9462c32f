"""Each answer as one line, for those who see no structured form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import statuses
import strategies
from hypothesis import given
from msgspec.structs import replace
from routed_tasks import routed

from immunos_mcp.answers.routing import RouteAnswer
from immunos_mcp.answers.settings import ConfigAnswer, Difference, DryRunEffect
from immunos_mcp.answers.usage import RecordAnswer
from immunos_mcp.domain import (
    ChangedBy,
    Provider,
    Reason,
    WarningLevel,
)
from immunos_mcp.rules import setting_changes
from immunos_mcp.rules.settings import Settings, values
from immunos_mcp.server import text

if TYPE_CHECKING:
    from immunos_mcp.answers.sessions import ResetAnswer
    from immunos_mcp.answers.status import StatusAnswer

ROUTE = RouteAnswer("m:1", Provider.OLLAMA, Reason.TOKEN_BUDGET_WARNING, WarningLevel.WARNING, 5, 9)
STATUS = statuses.status(
    session="work",
    session_tokens=5,
    session_limit=10,
    percent_used=50.0,
    token_warning_threshold=8,
    token_auto_switch_threshold=9,
    recommended_model="claude-x",
    message="Fine.",
    kept_local_tokens=7,
)
STANDS = (
    "Session work: 5 of 10 tokens (50.0%), normal. Fine. Recommended: claude-x. Kept local 7. "
    "Thresholds 8, 9"
)


def test_a_decision_without_an_estimate_has_no_projection() -> None:
    assert routed(ROUTE) == (
        "Use m:1 (ollama): token_budget_warning. Session 5 tokens, warning. decision_id 9"
    )


def test_a_decision_by_the_plans_limit_says_how_full_it_is() -> None:
    limited = replace(ROUTE, plan_used_percent=96.5, projected_tokens=9)
    assert routed(limited).endswith("decision_id 9. Plan limit 96.5% used. After it: 9, warning")


def test_a_projection_of_nothing_is_a_projection() -> None:
    assert routed(replace(ROUTE, projected_tokens=0)).endswith(
        "decision_id 9. After it: 0, warning"
    )


def test_a_projection_onto_another_level_names_that_level() -> None:
    critical = replace(ROUTE, projected_tokens=9, projected_level=WarningLevel.CRITICAL)
    assert routed(critical).endswith("decision_id 9. After it: 9, critical")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (
            RecordAnswer(5, 7, WarningLevel.NORMAL),
            "Recorded. Session 5 tokens, normal. Kept local 7",
        ),
        (
            RecordAnswer(5, 7, WarningLevel.CRITICAL, crossed=WarningLevel.CRITICAL),
            "Recorded. Session 5 tokens, critical (threshold crossed). Kept local 7",
        ),
        (
            RecordAnswer(5, 7, WarningLevel.NORMAL, repeated=True, counted=False),
            "Already recorded, nothing changed. Session 5 tokens, normal. Kept local 7",
        ),
    ],
)
def test_a_record_says_what_became_of_it(answer: RecordAnswer, line: str) -> None:
    assert text.recorded(answer) == line


@pytest.mark.parametrize(
    ("per_minute", "to_warning", "to_auto_switch", "pace"),
    [
        (None, None, None, ""),
        (0, None, None, ". 0 tokens/min"),
        (10, None, None, ". 10 tokens/min"),
        (10, None, 4, ". 10 tokens/min: auto-switch in 4 min"),
        (10, 3, 4, ". 10 tokens/min: warning in 3 min, auto-switch in 4 min"),
    ],
)
def test_a_status_says_as_much_of_the_pace_as_is_known(
    per_minute: int | None, to_warning: int | None, to_auto_switch: int | None, pace: str
) -> None:
    answer = replace(
        STATUS,
        tokens_per_minute=per_minute,
        minutes_to_warning=to_warning,
        minutes_to_auto_switch=to_auto_switch,
    )
    assert text.status(answer) == STANDS + pace


def test_changed_settings_are_told_without_those_in_force() -> None:
    answer = ConfigAnswer(
        {
            "session_limit": Difference(200_000, 300_000),
            "cache_read_weight": Difference(0.0, 0.125),
            "task_mappings.debug": Difference("m:1", None),
        },
        values(Settings()),
    )
    assert text.changed(answer) == (
        "Changed: session_limit 200000 -> 300000, cache_read_weight 0 -> 0.125, "
        "task_mappings.debug m:1 -> none"
    )
    assert text.changed(ConfigAnswer({}, {})) == "Changed: nothing"


def test_a_rehearsal_that_differs_nowhere_says_so() -> None:
    answer = ConfigAnswer({}, {}, dry_run=True, rehearsal=DryRunEffect(0, 0, 0, 0))
    assert text.changed(answer) == (
        "Would change: nothing. Of the last 0 decisions 0 would change: 0 to Ollama, 0 to Claude"
    )
    budget = replace(answer, changes={"budgets": Difference("", "daily=20 usd/day")})
    assert text.changed(budget).endswith("how far it was used is not logged")


def test_the_settings_in_force_are_told_with_task_types_by_model() -> None:
    assert text.configured(ConfigAnswer({}, setting_changes.notable_values(Settings()))) == (
        "Changed: nothing. In force: token_warning_threshold 150000, "
        "token_auto_switch_threshold 180000, session_limit 200000, claude_model claude-sonnet-4.5, "
        "default_local_model qwen2.5-coder:7b, input_weight 1, output_weight 1, "
        "cache_creation_weight 1, cache_read_weight 0, session_window_minutes 0, "
        "plan_warning_percent 0, plan_auto_switch_percent 0, cloud_models off, deny_agent_tool off, delegate_wait_seconds 45, track_record on, "
        "qwen2.5-coder:7b for code_scan/vulnerability_detection/code_review/code_generation/debug, "
        "deepseek-r1:14b for reasoning/planning/analysis/problem_solving, "
        "qwen2.5:1.5b for file_analysis/summarize/simple_question"
    )


@given(
    strategies.route_answers,
    strategies.record_answers,
    strategies.status_answers,
    strategies.reset_answers,
    strategies.config_answers,
)
def test_every_answer_is_one_line(
    route: RouteAnswer,
    record: RecordAnswer,
    status: StatusAnswer,
    reset: ResetAnswer,
    config: ConfigAnswer,
) -> None:
    lines = (
        routed(route),
        text.recorded(record),
        text.status(status),
        text.reset(reset),
    )
    # A setting's own text comes last, and may end as it likes.
    for line in (*lines, text.configured(config)):
        assert line.splitlines() == [line]
    assert not any(line.endswith(".") for line in lines)


CODER = "qwen2.5-coder:7b"
BY_CLAUDE = RouteAnswer(
    "claude-sonnet-4.5", Provider.CLAUDE, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 0, 7
)
STATE = "task_optimized. Session 0 tokens, normal. decision_id 7"
MAPPED = f"Do it yourself (Claude): code_review is mapped to {CODER}"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, f"Do it yourself (Claude): {STATE}"),
        ({"model": "haiku"}, f"Use a subagent with haiku (Claude): {STATE}"),
        (
            {"changed_by": ChangedBy.AVAILABILITY, "remedy": f"ollama pull {CODER}"},
            f"{MAPPED}, which is not installed (ollama pull {CODER}). {STATE}",
        ),
        (
            {"changed_by": ChangedBy.AVAILABILITY, "remedy": "ollama serve"},
            f"{MAPPED}, but Ollama is not running (ollama serve). {STATE}",
        ),
        ({"changed_by": ChangedBy.TRACK_RECORD}, f"{MAPPED}, which fails too often. {STATE}"),
        (
            {"changed_by": ChangedBy.TRACK_RECORD, "trial": True},
            f"{MAPPED}, and this one is tried instead. {STATE}. A trial: report its outcome",
        ),
        (
            {
                "provider": Provider.OLLAMA,
                "model": "m:1",
                "available": False,
                "remedy": "ollama serve",
            },
            f"Use m:1 (ollama): {STATE}. Ollama is not running (ollama serve)",
        ),
        (
            {"provider": Provider.OLLAMA, "model": "m:1", "advised_model": "claude-x"},
            f"Use m:1 (ollama): {STATE}. The track record advises claude-x",
        ),
    ],
)
def test_a_decision_says_who_does_the_task_and_why(more: dict[str, Any], line: str) -> None:
    answer = replace(BY_CLAUDE, **more)
    assert routed(answer, CODER if "changed_by" in more else None) == line


@given(strategies.route_answers)
def test_the_line_of_a_decision_holds_all_that_the_caller_needs(answer: RouteAnswer) -> None:
    line = routed(answer)
    for part in (answer.reason, answer.warning_level):
        assert part in line
    by_claude = answer.provider is Provider.CLAUDE
    who = "Do it yourself (Claude): " if by_claude else f"Use {answer.model} (ollama): "
    assert line.startswith(who)
    assert f"Session {answer.session_tokens} tokens" in line
    assert f"decision_id {answer.decision_id}" in line
    assert ("After it: " in line) == (answer.projected_tokens is not None)
