"""The gates' rule: what is told, asked and denied at which level, and what stands above it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from statuses import status

from immunos_mcp.answers.status import BudgetStatus
from immunos_mcp.domain import Engine, EngineState, GateChoice, LocalModel, Switch, WarningLevel
from immunos_mcp.rules import advice, gates
from immunos_mcp.rules.formatting import printable
from immunos_mcp.rules.gates import FOREVER, Attempt, Gated, Overrides, Standing
from immunos_mcp.rules.settings import Settings
from immunos_mcp.server.notices import BudgetNotices

if TYPE_CHECKING:
    from immunos_mcp.rules.gates import Verdict

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=2)
NORMAL, WARNING, CRITICAL = WarningLevel
TELL, ASK, DENY = GateChoice
NOTHING_DECIDED = Overrides()
NAMES = {
    Gated.SUBAGENT: "subagents",
    Gated.EXPENSIVE_TOOL: "expensive_tools",
    Gated.MODEL_SWITCH: "model_switches",
}


def standing(
    level: WarningLevel, overrides: Overrides = NOTHING_DECIDED, **settings: object
) -> Standing:
    return Standing(level, "Message.", "local:7b", Settings(**settings), overrides)  # type: ignore[arg-type]


def choice(verdict: Verdict | None) -> GateChoice | None:
    return None if verdict is None else verdict.choice


@given(
    st.sampled_from(Gated),
    st.sampled_from(WarningLevel),
    st.fixed_dictionaries(
        {
            f"{name}_at_{level}": st.sampled_from(GateChoice)
            for name in NAMES.values()
            for level in ("warning", "critical")
        }
    ),
)
def test_at_each_threshold_the_choice_for_what_is_begun_counts(
    gated: Gated, level: WarningLevel, choices: dict[str, GateChoice]
) -> None:
    verdict = gates.judge(Attempt(gated, "It"), standing(level, NOTHING_DECIDED, **choices))
    assert choice(verdict) is choices.get(f"{NAMES[gated]}_at_{level}")
    if verdict is not None:
        assert verdict.text.startswith("Message. ")
        is_hint = verdict.choice is TELL
        assert ("immunos-mcp allow --once" in verdict.text) is not is_hint
        assert not is_hint or advice.estimated_tokens(verdict.text) <= advice.MOST_TOKENS


def test_other_tools_are_nobodys_business() -> None:
    assert gates.judge(Attempt(None, "Edit"), standing(CRITICAL)) is None


@pytest.mark.parametrize(
    ("tool", "gated"),
    [
        ("Agent", Gated.SUBAGENT),
        ("Task", Gated.SUBAGENT),
        ("WebSearch", None),
        ("mcp__x__y", Gated.EXPENSIVE_TOOL),
        ("Edit", None),
        ("", None),
    ],
)
def test_the_setting_names_the_expensive_tools(tool: str, gated: Gated | None) -> None:
    assert gates.gated_tool(tool, Settings(expensive_tools="Workflow,mcp__x__y")) is gated
    assert gates.gated_tool("Workflow", Settings(expensive_tools="none")) is None


def test_deny_agent_tool_means_to_deny_subagents_at_the_auto_switch_threshold() -> None:
    agent = Attempt(Gated.SUBAGENT, "Agent")
    on = Switch.ON
    assert choice(gates.judge(agent, standing(CRITICAL, deny_agent_tool=on))) is DENY
    assert choice(gates.judge(agent, standing(WARNING, deny_agent_tool=on))) is TELL
    web = Attempt(Gated.EXPENSIVE_TOOL, "WebSearch")
    assert choice(gates.judge(web, standing(CRITICAL, deny_agent_tool=on))) is TELL


@pytest.mark.parametrize("level", WarningLevel)
@pytest.mark.parametrize("gated", [None, *Gated])
def test_a_pause_denies_everything_and_off_nothing(
    level: WarningLevel, gated: Gated | None
) -> None:
    attempt = Attempt(gated, "It", agent_tokens=10)
    limits = {"subagents_at_critical": DENY, "subagent_token_ceiling": 10}
    paused = gates.judge(attempt, standing(level, Overrides(paused_until=LATER), **limits))
    assert choice(paused) is DENY
    assert paused is not None
    assert "until 2026-11-28 14:00 UTC" in paused.text
    assert gates.judge(attempt, standing(level, Overrides(off_until=FOREVER), **limits)) is None


@pytest.mark.parametrize(("tokens", "is_denied"), [(None, False), (99, False), (100, True)])
def test_a_subagent_is_stopped_at_its_ceiling(tokens: int | None, is_denied: bool) -> None:
    attempt = Attempt(None, "Bash", tokens)
    verdict = gates.judge(attempt, standing(NORMAL, subagent_token_ceiling=100))
    assert (choice(verdict) is DENY) is is_denied
    assert gates.judge(attempt, standing(NORMAL)) is None


@pytest.mark.parametrize(
    ("before", "after", "is_dearer"),
    [
        ("claude-haiku-4-5", "claude-opus-4-8", True),
        ("claude-sonnet-4.5", "claude-opus-4-8", True),
        ("claude-opus-4-8", "claude-haiku-4-5", False),
        ("claude-sonnet-4.5", "claude-sonnet-5", False),
        ("claude-sonnet-4.5", "else", False),
        ("else", "claude-opus-4-8", False),
    ],
)
def test_only_a_switch_to_a_dearer_family_is_one(before: str, after: str, is_dearer: bool) -> None:
    assert gates.is_dearer(before, after) is is_dearer


@pytest.mark.parametrize("gated", Gated)
def test_where_nothing_is_handed_over_no_denial_names_a_local_model(gated: Gated) -> None:
    for level in (WARNING, CRITICAL):
        choices = dict.fromkeys(
            (f"{name}_at_{each}" for name in NAMES.values() for each in ("warning", "critical")),
            GateChoice.DENY if level is CRITICAL else GateChoice.TELL,
        )
        forbidden = replace(standing(level, NOTHING_DECIDED, **choices), local_model=None)
        verdict = gates.judge(Attempt(gated, "WebSearch"), forbidden)
        assert verdict is not None
        assert "None" not in verdict.text
        assert "have " not in verdict.text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (Overrides(), None),
        (Overrides(off_until=FOREVER), "off until `immunos-mcp on`"),
        (Overrides(paused_until=LATER), "paused until 2026-11-28 14:00 UTC"),
        (Overrides(allows_once=True), "the next denial is lifted once"),
    ],
)
def test_a_status_says_what_was_decided_for_now(overrides: Overrides, words: str | None) -> None:
    assert gates.summary(overrides) == words


def engine(*, loaded: bool = True, capabilities: tuple[str, ...] = ("completion",)) -> Engine:
    model = LocalModel("qwen2.5:1.5b", capabilities=frozenset(capabilities), is_loaded=loaded)
    return Engine(EngineState.UP, models={"qwen2.5:1.5b": model})


def test_a_large_file_is_worth_a_line_if_a_fit_model_is_loaded() -> None:
    line = advice.on_large_file("/a/big.py", 48_000, Settings(), engine())
    assert line == (
        "big.py is about 12k tokens. "
        "If a summary or review of it is enough, delegate_task has qwen2.5:1.5b read it."
    )
    for path, size, seen in (
        ("/a/big.py", 39_999, engine()),
        ("/a/big.png", 48_000, engine()),
        ("/a/big.py", 48_000, None),
        ("/a/big.py", 48_000, engine(loaded=False)),
        ("/a/big.py", 48_000, engine(capabilities=("embedding",))),
        ("/a/big.py", 48_000, Engine(EngineState.DOWN)),
    ):
        assert advice.on_large_file(path, size, Settings(), seen) is None


@given(st.text(min_size=1, max_size=300), st.integers(0, 2**40))
def test_a_line_about_a_file_costs_forty_tokens_at_most(name: str, size: int) -> None:
    line = advice.on_large_file(f"/a/{name}", size, Settings(), engine())
    assert line is None or (advice.estimated_tokens(line) <= 40 and printable(line) == line)


def test_a_budget_that_will_not_last_as_long_as_its_window_is_worth_a_line() -> None:
    settings = Settings(session_window_minutes=300)
    running = status(started_at=NOW - timedelta(hours=1), minutes_to_auto_switch=40)
    assert advice.on_short_budget(running, settings, NOW) == (
        "At this pace the token budget is used up in 40 min, and its window ends in 4 h."
    )
    lasting = status(started_at=NOW - timedelta(hours=1), minutes_to_auto_switch=240)
    assert advice.on_short_budget(lasting, settings, NOW) is None
    assert advice.on_short_budget(running, Settings(), NOW) is None
    assert advice.on_short_budget(status(), settings, NOW) is None


def test_of_budgets_that_will_not_last_the_first_to_go_is_worth_a_line() -> None:
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def budget(name: str, hours: int | None) -> BudgetStatus:
        gone_at = None if hours is None else noon + timedelta(hours=hours)
        ends_at = noon + timedelta(hours=40)
        return BudgetStatus(name, "", NORMAL, gone_at=gone_at, ends_at=ends_at)

    found = (budget("lasts", None), budget("second", 9), budget("first", 8))
    soonest = advice.first_gone(found)
    assert soonest == found[2]
    assert soonest is not None
    line = advice.on_gone_budget(soonest)
    assert line.startswith("At this pace the budget first is used up ")
    assert advice.estimated_tokens(line) <= advice.MOST_TOKENS
    assert advice.first_gone(found[:1]) is None
    notices, going = BudgetNotices(), replace(standing(NORMAL), budgets=found)
    assert notices.notice(status(), going, noon) == line
    assert notices.notice(status(), going, noon) is None
    assert notices.notice(status(), standing(NORMAL), noon) is None
