"""What the model is told at a prompt: one line when the budget got worse, and else nothing."""

from __future__ import annotations

import json

import pytest

from immunos_mcp.answers.answers import StatusAnswer
from immunos_mcp.domain import TokenCounts, WarningLevel
from immunos_mcp.server.hooks import HookEvent, HookTeller


def status(tokens: int) -> StatusAnswer:
    level = WarningLevel.NORMAL
    if tokens >= 150_000:
        level = WarningLevel.WARNING
    if tokens >= 180_000:
        level = WarningLevel.CRITICAL
    return StatusAnswer(
        session="default",
        session_tokens=tokens,
        session_limit=200_000,
        percent_used=tokens / 2000,
        warning_level=level,
        token_warning_threshold=150_000,
        token_auto_switch_threshold=180_000,
        recommended_model="mixed",
        message="Routine tasks go to Ollama.",
        kept_local_tokens=0,
        claude_tokens=TokenCounts(tokens),
        ollama_tokens=TokenCounts(),
        decisions={},
        measured_tokens=tokens,
        reported_tokens=0,
    )


def told(teller: HookTeller, tokens: int) -> str | None:
    answer = json.loads(teller.answer(HookEvent.USER_PROMPT_SUBMIT, status(tokens)))
    if not answer:
        return None
    assert answer["hookSpecificOutput"]["hookEventName"] == "UserPromptSubmit"
    return answer["hookSpecificOutput"]["additionalContext"]


def test_nothing_is_said_while_the_budget_is_fine() -> None:
    teller = HookTeller()
    assert [told(teller, tokens) for tokens in (0, 100_000, 142_500)] == [None, None, None]


def test_a_threshold_that_is_near_is_said_once() -> None:
    teller = HookTeller()
    assert told(teller, 145_000) == (
        "Token budget: 145000 of 200000, normal. Routine tasks go to Ollama. "
        "5000 tokens to the next threshold."
    )
    assert told(teller, 146_000) is None


def test_each_level_is_said_once_when_it_is_reached() -> None:
    teller = HookTeller()
    assert told(teller, 150_000) == (
        "Token budget: 150000 of 200000, warning. Routine tasks go to Ollama."
    )
    assert told(teller, 155_000) is None
    assert told(teller, 190_000) == (
        "Token budget: 190000 of 200000, critical. Routine tasks go to Ollama."
    )
    assert told(teller, 195_000) is None


def test_after_a_reset_the_levels_are_said_again() -> None:
    teller = HookTeller()
    assert told(teller, 190_000) is not None
    assert told(teller, 0) is None
    assert told(teller, 190_000) is not None


@pytest.mark.parametrize(
    "event", [event for event in HookEvent if event is not HookEvent.USER_PROMPT_SUBMIT]
)
def test_other_events_say_nothing_and_do_not_use_up_what_a_prompt_would_say(
    event: HookEvent,
) -> None:
    teller = HookTeller()
    assert teller.answer(event, status(190_000)) == "{}"
    assert told(teller, 190_000) is not None
