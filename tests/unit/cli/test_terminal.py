"""How answers look on a terminal, laid out whole, and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from msgspec.structs import replace
from statuses import FRESH

from immunos_mcp.answers.history import LoggedDecision, SettingChange
from immunos_mcp.answers.models import ModelsAnswer
from immunos_mcp.answers.sessions import SessionSummary
from immunos_mcp.cli import settings_text, terminal
from immunos_mcp.domain import (
    ChangedBy,
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
from immunos_mcp.rules.settings import Settings, values

NOON = datetime(2026, 1, 15, 12, 0, 5, tzinfo=UTC)
USED = replace(
    FRESH,
    session_tokens=155_000,
    percent_used=77.5,
    warning_level=WarningLevel.WARNING,
    recommended_model="mixed",
    message="Running low.",
    kept_local_tokens=1_234,
    claude_tokens=TokenCounts(100_000, 50_000, 5_000, 9_000_000),
    decisions={Reason.TASK_CRITICAL: 2, Reason.DEFAULT_COMPLEX: 12},
    measured_tokens=150_000,
    reported_tokens=5_000,
    session_id=3,
    started_at=NOON.astimezone(timezone(timedelta(hours=9))),
    tokens_per_minute=1_250,
    minutes_to_auto_switch=20,
)


def test_the_status_of_a_session_that_nobody_used_is_laid_out() -> None:
    assert terminal.status(FRESH).splitlines() == [
        "Session default (not started)",
        "[--------------------] 0%  0 of 200,000 budget tokens  normal",
        "Claude       input 0, output 0, cache creation 0, cache reads 0",
        "Sources      0 measured, 0 reported",
        "Kept local   0 tokens",
        "Thresholds   warning 150,000, auto-switch 180,000",
        "Decisions    none",
        "Recommended  claude-sonnet-4.5. Budget is fine.",
    ]


def test_the_status_of_a_session_in_use_is_laid_out_in_utc() -> None:
    assert terminal.status(USED).splitlines() == [
        "Session default (since 2026-01-15 12:00 UTC)",
        "[###############-----] 77.5%  155,000 of 200,000 budget tokens  warning",
        "Claude       input 100,000, output 50,000, cache creation 5,000, cache reads 9,000,000",
        "Sources      150,000 measured, 5,000 reported",
        "Kept local   1,234 tokens",
        "Thresholds   warning 150,000, auto-switch 180,000 (in 20 min) at 1,250 tokens/min",
        "Decisions    task_critical 2, default_complex 12",
        "Recommended  mixed. Running low.",
    ]


def test_a_pace_below_both_thresholds_tells_both_times() -> None:
    soon = replace(USED, minutes_to_warning=3, minutes_to_auto_switch=1_500)
    (line,) = (line for line in terminal.status(soon).splitlines() if line.startswith("Thres"))
    assert line == (
        "Thresholds   warning 150,000 (in 3 min), auto-switch 180,000 (in 1,500 min) "
        "at 1,250 tokens/min"
    )


def test_the_plans_limits_are_shown_with_their_end() -> None:
    plan = (PlanUsage("five_hour", 12.5, NOON), PlanUsage("seven_day", 40.0, NOON))
    assert terminal.status(replace(FRESH, plan=plan)).splitlines()[-1] == (
        "Plan limits  five-hour 12.5% used (resets 2026-01-15 12:00 UTC), "
        "seven-day 40% used (resets 2026-01-15 12:00 UTC)"
    )


@pytest.mark.parametrize(
    ("lines", "files", "told"),
    [(2, None, "2 lines, 0 files"), (None, 1, "0 lines, 1 files"), (2, 1, "2 lines, 1 files")],
)
def test_a_project_and_what_could_not_be_read_come_last(
    lines: int | None, files: int | None, told: str
) -> None:
    bound = replace(FRESH, folder="/code/shop", unread_lines=lines, unread_files=files)
    assert terminal.status(bound).splitlines()[-2:] == [
        "Project      /code/shop",
        f"Unreadable   {told} of assistants' logs",
    ]


@pytest.mark.parametrize(
    ("tokens", "cells"),
    [(0, 0), (9_999, 0), (10_000, 1), (199_999, 19), (200_000, 20), (10**12, 20)],
)
def test_the_bar_fills_with_the_budget_and_never_overflows(tokens: int, cells: int) -> None:
    bar = terminal.status(replace(FRESH, session_tokens=tokens)).splitlines()[1].split(" ")[0]
    assert bar == f"[{'#' * cells}{'-' * (20 - cells)}]"


def sentences(
    model: str,
    reason: Reason,
    task: Task | None = None,
    settings: Settings | None = None,
    **more: Any,
) -> list[str]:
    provider = Provider.CLAUDE if model.startswith("claude") else Provider.OLLAMA
    figures: dict[str, Any] = {"warning_level": WarningLevel.NORMAL, "session_tokens": 0, **more}
    decision = Decision(model, provider, reason, **figures)
    logged = LoggedDecision(
        7, "work", NOON, task or Task("code_review", Classification.ROUTINE), decision, None
    )
    return terminal.routed(logged, settings or Settings()).splitlines()


CLAUDE, CODER = "claude-sonnet-4.5", "qwen2.5-coder:7b"
BY_CLAUDE, BY_CODER = f"Claude ({CLAUDE}) does this task: ", f"{CODER} (local) does this task: "
UNAVAILABLE = {"changed_by": ChangedBy.AVAILABILITY, "table_model": CODER}
POOR = {"changed_by": ChangedBy.TRACK_RECORD, "table_model": CODER}
TRIAL = (
    "This is a trial: record its outcome with `immunos-mcp outcome 7 success` or "
    "`immunos-mcp outcome 7 failure`."
)


@pytest.mark.parametrize(
    ("model", "reason", "more", "line"),
    [
        (CODER, Reason.TASK_OPTIMIZED, {}, f"{BY_CODER}code_review is mapped to it."),
        (CLAUDE, Reason.TASK_OPTIMIZED, {}, f"{BY_CLAUDE}code_review is mapped to it."),
        (CLAUDE, Reason.TASK_CRITICAL, {}, f"{BY_CLAUDE}critical tasks stay with Claude."),
        (
            CLAUDE,
            Reason.DEFAULT_COMPLEX,
            {},
            f"{BY_CLAUDE}code_review is not mapped to a local model.",
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            {**UNAVAILABLE, "remedy": "ollama serve"},
            (
                f"{BY_CLAUDE}code_review is mapped to {CODER}, but Ollama is not running. Start it with "
                "`ollama serve` and tasks like this go to the local model."
            ),
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            {**UNAVAILABLE, "remedy": f"ollama pull {CODER}"},
            (
                f"{BY_CLAUDE}code_review is mapped to {CODER}, which is not installed. Get it with "
                f"`ollama pull {CODER}` and tasks like this go to the local model."
            ),
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            {**UNAVAILABLE, "remedy": "immunos-mcp doctor"},
            (
                f"{BY_CLAUDE}code_review is mapped to {CODER}, but its engine does not respond as expected. "
                "Find out why with `immunos-mcp doctor`."
            ),
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            {**UNAVAILABLE, "remedy": "immunos-mcp models"},
            (
                f"{BY_CLAUDE}code_review is mapped to {CODER}, which no engine serves for text. "
                "See which models do with `immunos-mcp models`."
            ),
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            {**UNAVAILABLE, "remedy": "immunos-mcp config set cloud_models=on"},
            (
                f"{BY_CLAUDE}code_review is mapped to {CODER}, which runs in the cloud. Allow cloud "
                "models with `immunos-mcp config set cloud_models=on` and tasks like this go to the "
                "local model."
            ),
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            POOR,
            f"{BY_CLAUDE}code_review is mapped to {CODER}, which has failed too often at it.",
        ),
        (
            CLAUDE,
            Reason.TASK_OPTIMIZED,
            {**POOR, "trial": True},
            f"{BY_CLAUDE}code_review is mapped to {CODER}, but another model is being tried. {TRIAL}",
        ),
        (
            CODER,
            Reason.TASK_OPTIMIZED,
            {"trial": True},
            f"{BY_CODER}code_review is mapped to it. {TRIAL}",
        ),
        (
            CODER,
            Reason.TASK_OPTIMIZED,
            {"advised_model": CLAUDE},
            f"{BY_CODER}code_review is mapped to it. The track record suggests {CLAUDE} instead.",
        ),
        (
            CODER,
            Reason.TOKEN_BUDGET_EXCEEDED,
            {"session_tokens": 181_000, "available": True},
            (
                f"{BY_CODER}the budget has reached the auto-switch threshold "
                "(181,000 of 180,000 tokens)."
            ),
        ),
        (
            CODER,
            Reason.TOKEN_BUDGET_EXCEEDED,
            {"session_tokens": 181_000, "available": False, "remedy": f"ollama pull {CODER}"},
            (
                f"{BY_CODER}the budget has reached the auto-switch threshold "
                f"(181,000 of 180,000 tokens). The model is not installed. Get it with `ollama pull {CODER}`."
            ),
        ),
        (
            CODER,
            Reason.TOKEN_BUDGET_WARNING,
            {"session_tokens": 151_000},
            (
                f"{BY_CODER}the budget has reached the warning threshold (151,000 of 150,000 tokens), "
                "and from there routine tasks stay local."
            ),
        ),
        (
            CODER,
            Reason.PLAN_LIMIT_EXCEEDED,
            {"plan_used_percent": 96.5},
            f"{BY_CODER}96.5% of your plan's limit is used, and from 95% all tasks stay local.",
        ),
        (
            CODER,
            Reason.PLAN_LIMIT_WARNING,
            {"plan_used_percent": 80.0},
            f"{BY_CODER}80% of your plan's limit is used, and from 80% routine tasks stay local.",
        ),
    ],
)
def test_a_decision_is_explained_to_a_newcomer(
    model: str, reason: Reason, more: dict[str, Any], line: str
) -> None:
    limits = Settings(plan_warning_percent=80, plan_auto_switch_percent=95)
    assert sentences(model, reason, settings=limits, **more)[0] == line


@pytest.mark.parametrize(
    ("more", "used"),
    [
        ({}, "0 of 200,000 tokens (normal)"),
        ({"projected_tokens": 5}, "0 of 200,000 tokens (normal), 5 after this task"),
        (
            {"projected_tokens": 150_000, "projected_level": WarningLevel.WARNING},
            "0 of 200,000 tokens (normal), 150,000 after this task (warning)",
        ),
        (
            {"projected_tokens": 5, "projected_level": WarningLevel.NORMAL},
            "0 of 200,000 tokens (normal), 5 after this task",
        ),
    ],
)
def test_below_a_decision_is_how_much_of_the_budget_is_used(
    more: dict[str, Any], used: str
) -> None:
    assert sentences(CODER, Reason.TASK_OPTIMIZED, **more)[1:] == [
        f"Budget: {used}. Decision 7; explain it with `immunos-mcp explain 7`."
    ]


def test_a_decision_of_the_team_s_server_is_not_said_to_be_explained_here() -> None:
    decision = Decision(CLAUDE, Provider.CLAUDE, Reason.DEFAULT_COMPLEX, WarningLevel.NORMAL, 0)
    task = Task("essay", Classification.CREATIVE)
    logged = LoggedDecision(7, "work", NOON, task, decision, None)
    shown = terminal.routed(logged, Settings(), is_by_team=True)
    assert shown.endswith("Decision 7; the team's server made it.")


def test_settings_are_listed_one_a_line() -> None:
    settings = Settings(task_mappings={"debug": "m:1", "plan": "m:2"})
    assert settings_text.settings(values(settings)).splitlines() == [
        "token_warning_threshold = 150000",
        "token_auto_switch_threshold = 180000",
        "session_limit = 200000",
        "claude_model = claude-sonnet-4.5",
        "default_local_model = qwen2.5-coder:7b",
        "input_weight = 1",
        "output_weight = 1",
        "cache_creation_weight = 1",
        "cache_read_weight = 0",
        "session_window_minutes = 0",
        "plan_warning_percent = 0",
        "plan_auto_switch_percent = 0",
        "budgets = ",
        "reservations = off",
        "reservation_minutes = 30",
        "time_zone = system",
        "claude_classifications = critical",
        "counted_assistants = claude-code",
        "task_synonyms = off",
        "handover = on",
        "engines_allowed = any",
        "cloud_models = off",
        "remote_engine = off",
        "deny_agent_tool = off",
        "subagents_at_warning = tell",
        "subagents_at_critical = tell",
        "expensive_tools_at_warning = tell",
        "expensive_tools_at_critical = tell",
        "model_switches_at_warning = tell",
        "model_switches_at_critical = tell",
        "expensive_tools = WebFetch,WebSearch,Workflow",
        "subagent_token_ceiling = 0",
        "advice = on",
        "delegate_wait_seconds = 45",
        "largest_context = 32768",
        "mains_power_required = off",
        "free_memory_required = 0",
        "ladder = on",
        "track_record = on",
        "record_gain = 0.3",
        "record_half_life_days = 180",
        "record_local_rate = 0.75",
        "record_claude_rate = 0.9",
        "record_local_strength = 5",
        "record_claude_strength = 15",
        "record_horizon = 100",
        "record_retry_days = 30",
        "task_mappings.debug = m:1",
        "task_mappings.plan = m:2",
    ]


def test_changes_of_settings_are_tabled_with_what_was_not_set() -> None:
    changes = (
        SettingChange(NOON, "vscode 1.2", "session_limit", None, "300000"),
        SettingChange(NOON, "cli", "claude_model", "claude-x", None),
        SettingChange(NOON, "cli", "task_mappings.debug", None, "m:1"),
        SettingChange(NOON, "cli", "task_mappings.plan", "m:1", None),
    )
    assert settings_text.setting_changes(changes).splitlines() == [
        "time (UTC)           client      setting              before     after",
        "2026-01-15 12:00:05  vscode 1.2  session_limit        (default)  300000",
        "2026-01-15 12:00:05  cli         claude_model         claude-x   (default)",
        "2026-01-15 12:00:05  cli         task_mappings.debug  (none)     m:1",
        "2026-01-15 12:00:05  cli         task_mappings.plan   m:1        (none)",
    ]


LOGGED = LoggedDecision(
    12,
    "work",
    NOON,
    Task("debug", Classification.ROUTINE, 5),
    Decision("m:1", Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 1_500),
    None,
)


def test_decisions_are_tabled_with_their_outcome() -> None:
    closed = replace(LOGGED, decision_id=3, outcome=Outcome.FAILURE)
    assert terminal.decisions((LOGGED, closed)).splitlines() == [
        "id  time (UTC)           session  task   class    model  reason          tokens  outcome",
        "12  2026-01-15 12:00:05  work     debug  routine  m:1    task_optimized  1,500   -",
        "3   2026-01-15 12:00:05  work     debug  routine  m:1    task_optimized  1,500   failure",
    ]


def test_sessions_are_tabled_with_how_they_ended() -> None:
    ended = NOON + timedelta(hours=1)
    summaries = (
        SessionSummary(2, "work", ended, 0, 0, 0, 0),
        SessionSummary(1, "work", NOON, 180_001, 1_000, 12, 9, ended, "new day"),
    )
    assert terminal.sessions(summaries).splitlines() == [
        "id  session  start (UTC)          end (UTC)            tokens   kept local  decisions  reason",
        "2   work     2026-01-15 13:00:05  open                 0        0           0          -",
        "1   work     2026-01-15 12:00:05  2026-01-15 13:00:05  180,001  1,000       12         new day",
    ]


def test_a_table_of_nothing_is_its_header() -> None:
    assert terminal.decisions(()).split() == (
        [
            "id",
            "time",
            "(UTC)",
            "session",
            "task",
            "class",
            "model",
            "reason",
            "tokens",
            "outcome",
        ]
    )
    assert terminal.sessions(()) == (
        "id  session  start (UTC)  end (UTC)  tokens  kept local  decisions  reason"
    )
    assert settings_text.setting_changes(()) == "time (UTC)  client  setting  before  after"


def test_the_state_of_the_engine_is_told_in_words() -> None:
    answer = ModelsAnswer(EngineState.NOT_OLLAMA, "http://gpu:1", (), words="HTTP 404")
    assert terminal.models(answer).startswith("Ollama at http://gpu:1: not ollama (HTTP 404)\n")
