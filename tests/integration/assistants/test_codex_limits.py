"""The limits of a Codex plan: shown while they last, and deciding where Codex counts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from other_homes import Home
from other_logs import Response, codex_head, codex_limits, codex_record, codex_rollout, codex_total
from transcript_lines import NOON

from immunos_mcp.domain import PlanUsage
from immunos_mcp.ledger.connections.inline import run_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from immunos_mcp.rules.setting_kinds import SettingChangeValue

ONE = Response("r1")
TWO = Response("r2", at=NOON + timedelta(minutes=1))
RESET = NOON + timedelta(hours=4)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def log(place: Home, *limits: dict[str, Any], thread: str = "t1") -> None:
    lines = [
        codex_record(each, thread) + codex_total(each, **limit)
        for each, limit in zip((ONE, TWO), limits, strict=False)
    ]
    place.now = max(place.now, TWO.at)
    with codex_rollout(place.folder, thread).open("a", encoding="utf-8") as file:
        file.writelines([*codex_head(thread), *lines])


def plan(place: Home) -> dict[str, float]:
    return {each.window: each.used_percentage for each in place.status().plan or ()}


def test_the_last_limits_are_shown_until_they_are_reset(place: Home) -> None:
    place.begin()
    log(place, codex_limits(20.5, 60), codex_limits(23.5))
    shown = place.status().plan
    assert shown == (
        PlanUsage("codex_five_hour", 23.5, RESET),
        PlanUsage("codex_seven_day", 60, RESET),
    )
    place.now = RESET
    assert place.status().plan is None


def test_older_limits_that_are_read_later_change_nothing(place: Home) -> None:
    log(place, {}, codex_limits(30), thread="t2")
    place.sync()
    log(place, codex_limits(20, 10))
    place.sync()
    assert plan(place) == {"codex_five_hour": 30, "codex_seven_day": 10}


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        (codex_limits(None), {}),
        ({"rate_limits": None}, {}),
        ({"rate_limits": [1]}, {}),
        (codex_limits(-1, 12), {"codex_seven_day": 12}),
        (codex_limits(float("nan"), 12), {"codex_seven_day": 12}),
        (codex_limits(5, primary={"used_percent": "5", "resets_at": 1}), {}),
        (codex_limits(5, limit_id="codex_other"), {"codex_other_five_hour": 5}),
        (codex_limits(5, limit_id="\ud800" * 999), {"codex_five_hour": 5}),
        (
            codex_limits(
                5, primary={"used_percent": 5, "window_minutes": 60, "resets_at": 1_900_000_000}
            ),
            {"codex_60_minutes": 5},
        ),
        (codex_limits(5, primary={"used_percent": 5, "resets_at": 10**18}), {}),
    ],
)
def test_limits_that_cannot_be_read_are_left_out_and_cost_no_response(
    place: Home, limits: dict[str, Any], shown: dict[str, float]
) -> None:
    log(place, limits)
    assert place.sync().added == 1
    assert plan(place) == shown


@pytest.mark.parametrize("is_counted", [False, True])
def test_codexs_limits_decide_only_where_codex_counts(place: Home, *, is_counted: bool) -> None:
    changes: dict[str, SettingChangeValue]
    changes = {"plan_warning_percent": 50, "plan_auto_switch_percent": 90}
    if is_counted:
        changes["counted_assistants"] = "claude-code,codex"
    run_sync(place.router.update_config(changes, "test"))
    place.begin()
    log(place, codex_limits(95))
    decided = run_sync(place.router.route_task("other", "creative"))
    assert decided.reason == ("plan_limit_exceeded" if is_counted else "default_complex")
    assert decided.plan_used_percent == (95 if is_counted else None)
