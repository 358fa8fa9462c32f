"""Explanations: each row with the numbers it saw, and what would have had to differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import strategies
import wire
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.answers.routing import SPEND_REASONS, Alternative, RowExplanation
from immunos_mcp.domain import Classification, Engine, EngineState, HandoverChoice, Reason, Task
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.explanation import explain
from immunos_mcp.rules.policy import ROWS, decide
from immunos_mcp.rules.settings import Settings
from immunos_mcp.server import text

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(task_mappings={"code_review": "qwen2.5-coder:7b"})
REVIEW = Task("code_review", Classification.ROUTINE)


def test_each_row_tells_the_numbers_that_it_saw_up_to_the_one_that_decided() -> None:
    told = explain(
        SETTINGS, Circumstances(155_000), replace(REVIEW, classification=Classification.CRITICAL)
    )
    assert told.rows == (
        RowExplanation(
            Reason.TOKEN_BUDGET_EXCEEDED, applies=False, why="155000 tokens < auto-switch 180000"
        ),
        RowExplanation(Reason.PLAN_LIMIT_EXCEEDED, applies=False, why="auto-switch is off"),
        RowExplanation(
            Reason.TOKEN_BUDGET_WARNING,
            applies=False,
            why="155000 tokens >= warning 150000, the task is critical",
        ),
        RowExplanation(
            Reason.PLAN_LIMIT_WARNING, applies=False, why="warning is off, the task is critical"
        ),
        RowExplanation(Reason.TASK_CRITICAL, applies=True, why="the task is critical"),
    )
    local, budget, mapped = (
        "qwen2.5-coder:7b",
        Reason.TOKEN_BUDGET_WARNING,
        Reason.TASK_OPTIMIZED,
    )
    assert told.alternatives == (
        Alternative("the task were routine", local, budget),
        Alternative("the task were creative", local, mapped),
        Alternative("the session were at 180000", local, Reason.TOKEN_BUDGET_EXCEEDED),
    )


def test_the_plans_limit_is_told_with_its_numbers() -> None:
    settings = replace(SETTINGS, plan_warning_percent=80, plan_auto_switch_percent=95)
    told = explain(settings, Circumstances(0, 90.5), REVIEW)
    assert told.rows[1].why == "90.5% of the plan < auto-switch 95"
    assert told.rows[-1] == RowExplanation(
        Reason.PLAN_LIMIT_WARNING,
        applies=True,
        why="90.5% of the plan >= warning 80, the task is routine",
    )
    assert (
        explain(settings, Circumstances(0), REVIEW).rows[1].why == "the plan's limits are unknown"
    )


@pytest.mark.parametrize(
    ("total", "step"),
    [
        (0, "qwen2.5-coder:7b cannot run (ollama serve); it goes to claude-sonnet-4.5"),
        (180_000, "qwen2.5-coder:7b cannot run (ollama serve); the budget is hard"),
    ],
)
def test_what_the_engine_changed_is_told_as_a_step(total: int, step: str) -> None:
    circumstances = Circumstances(total, engine=Engine(EngineState.DOWN))
    assert "; ".join(explain(SETTINGS, circumstances, REVIEW).steps) == step


@given(st.data())
def test_an_explanation_agrees_with_the_decision(data: st.DataObject) -> None:
    settings = data.draw(strategies.settings())
    task = data.draw(strategies.tasks)
    total = data.draw(strategies.totals_near(settings))
    circumstances = Circumstances(total, data.draw(st.none() | st.integers(0, 120).map(float)))
    decision, told = decide(settings, circumstances, task), explain(settings, circumstances, task)
    assert [row.applies for row in told.rows] == [False] * (len(told.rows) - 1) + [True]
    assert told.rows[-1].reason is decision.reason
    hidden = {*SPEND_REASONS}
    if settings.handover is HandoverChoice.ON:
        hidden.add(Reason.HANDOVER_FORBIDDEN)
    shown = [row.reason for row in ROWS if row.reason not in hidden]
    assert [row.reason for row in told.rows] == shown[: len(told.rows)]
    assert all(other.model != decision.model for other in told.alternatives)


def test_a_decision_is_explained_under_the_settings_of_its_time(home: Path) -> None:
    route = ("route", "--task-type", "code_review", "--classification", "routine")
    wire.run(home, *route)
    wire.run(home, "config", "set", "token_warning_threshold=1", "--json")
    answer = wire.run_json(home, "explain", "1")
    assert (answer["model"], answer["reason"]) == ("qwen2.5-coder:7b", "task_optimized")
    assert answer["explanation"]["rows"][2]["why"] == (
        "0 tokens < warning 150000, the task is routine"
    )
    shown = wire.run(home, "explain", "1").stdout.splitlines()
    assert shown[1] == "no   token_budget_exceeded  0 tokens < auto-switch 180000"
    assert shown[-1].startswith("if code_review were not mapped: claude-sonnet-4.5")
    refused = wire.run(home, "explain", "2")
    assert (refused.returncode, "(got 2)" in refused.stderr) == (2, True)


def test_a_decision_explains_itself_when_asked_and_is_logged_as_any_other(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        task = {"task_type": "code_review", "classification": "critical"}
        plain = server.answer("route_task", **task)
        result = server.call("route_task", **task, explain=True)
        told = result["structuredContent"]
        explanation = told.pop("explanation")
        assert told == {**plain, "decision_id": 2}
        assert explanation["rows"][-1] == {
            "reason": "task_critical",
            "applies": True,
            "why": "the task is critical",
        }
        assert "task_critical yes (the task is critical)" in result["content"][0]["text"]
        assert server.finish() == 0


def test_an_explanation_is_one_line_of_text() -> None:
    told = explain(SETTINGS, Circumstances(0, engine=Engine(EngineState.DOWN)), REVIEW)
    line = text.explained(told)
    assert "\n" not in line
    assert "task_optimized yes (code_review is mapped to qwen2.5-coder:7b)" in line


def test_a_word_that_means_a_task_type_is_shown_beside_it(tmp_path: Path) -> None:
    wire.run(tmp_path, "config", "set", "task_synonyms=on")
    told = wire.run(
        tmp_path, "route", "--task-type", "Bug Fix", "--classification", "routine", "--json"
    )
    answer = json.loads(told.stdout)
    assert (answer["task_type"], answer["reason"]) == ("debug", "task_optimized")
    shown = wire.run(tmp_path, "explain", str(answer["decision_id"])).stdout
    assert "routine debug (bug_fix) -> " in shown
    assert "debug (bug_fix)" in wire.run(tmp_path, "history").stdout
    plain = wire.run(
        tmp_path, "route", "--task-type", "debug", "--classification", "routine", "--json"
    )
    assert "task_type" not in json.loads(plain.stdout)
