"""The routing policy against an independent statement of it."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import (
    Classification,
    Decision,
    LoggedDecision,
    Provider,
    Reason,
    Rehearsal,
    Settings,
    Task,
    TokenCounts,
    WarningLevel,
    Weights,
)
from immunos_mcp.policy import (
    budget_tokens,
    decide,
    local_model,
    provider_of,
    recommend,
    rehearse,
    warning_level,
)

W, A = 150_000, 180_000
SETTINGS = Settings(task_mappings={"code_review": "qwen2.5-coder:7b", "essay": "claude-opus-4-8"})
MODELS = {"code_review": "qwen2.5-coder:7b", "essay": "claude-opus-4-8"}
TOTALS = (0, 1, W - 1, W, W + 1, A - 1, A, A + 1, 10**12)


def stated(total: int, task_type: str, classification: str) -> tuple[str, str, str]:
    """Return model, reason and level as the policy's description says, row by row."""
    level = "critical" if total >= 180_000 else "warning" if total >= 150_000 else "normal"
    local = "qwen2.5-coder:7b"
    if total >= 180_000:
        return local, "token_budget_exceeded", level
    if total >= 150_000 and classification == "routine":
        return local, "token_budget_warning", level
    if classification == "critical":
        return "claude-sonnet-4.5", "task_critical", level
    if task_type in MODELS:
        return MODELS[task_type], "task_optimized", level
    return "claude-sonnet-4.5", "default_complex", level


@pytest.mark.parametrize(
    ("total", "task_type", "classification"),
    list(product(TOTALS, ("code_review", "essay", "unheard_of"), Classification)),
)
def test_the_whole_table_is_as_stated(
    total: int, task_type: str, classification: Classification
) -> None:
    decision = decide(SETTINGS, total, Task(task_type, classification))
    model, reason, level = stated(total, task_type, classification)
    provider = Provider.CLAUDE if model.startswith("claude") else Provider.OLLAMA
    assert decision == Decision(model, provider, Reason(reason), WarningLevel(level), total)


@given(
    total=st.integers(0, 10**12),
    thresholds=st.lists(st.integers(1, 10**12), min_size=3, max_size=3).map(sorted),
    classification=st.sampled_from(Classification),
    mapped=st.none() | st.sampled_from(["llama3:8b", "claude-opus-4-8"]),
)
def test_past_the_auto_switch_threshold_nothing_goes_to_claude(
    total: int, thresholds: list[int], classification: Classification, mapped: str | None
) -> None:
    warning, auto_switch, limit = thresholds
    settings = Settings(
        token_warning_threshold=warning,
        token_auto_switch_threshold=auto_switch,
        session_limit=limit,
        task_mappings={} if mapped is None else {"task": mapped},
    )
    decision = decide(settings, total, Task("task", classification))
    if total >= auto_switch:
        assert (decision.provider, decision.reason) == (
            Provider.OLLAMA,
            Reason.TOKEN_BUDGET_EXCEEDED,
        )
    elif classification is Classification.CRITICAL:
        assert decision.provider is Provider.CLAUDE
    assert decision == decide(settings, total, Task("task", classification))


def test_a_task_for_claude_is_projected_with_its_level() -> None:
    decision = decide(SETTINGS, W - 10, Task("unheard_of", Classification.CREATIVE, 10))
    assert (decision.projected_tokens, decision.projected_level) == (W, WarningLevel.WARNING)


def test_a_task_that_stays_local_leaves_the_projection_where_the_session_is() -> None:
    decision = decide(SETTINGS, W - 10, Task("code_review", Classification.ROUTINE, 10))
    assert (decision.projected_tokens, decision.projected_level) == (W - 10, WarningLevel.NORMAL)


@pytest.mark.parametrize(
    "model",
    [
        "claude-sonnet-4.5",
        "Claude",
        "anthropic/claude-3-haiku",
        "us.anthropic.claude-sonnet-4-v1:0",
        "opus",
        "opus-4",
        "SONNET",
    ],
)
def test_models_named_after_claude_are_claudes(model: str) -> None:
    assert provider_of(model, SETTINGS) is Provider.CLAUDE


@pytest.mark.parametrize("model", ["octopus:7b", "qwen2.5-coder:7b", "gpt-oss:20b", "haikuist"])
def test_other_models_are_local(model: str) -> None:
    assert provider_of(model, SETTINGS) is Provider.OLLAMA


def test_the_model_set_as_claudes_counts_as_claudes_whatever_its_name() -> None:
    assert provider_of("gpt-5", Settings(claude_model="gpt-5")) is Provider.CLAUDE


def test_a_task_type_mapped_to_claude_stays_local_on_the_default_local_model() -> None:
    assert local_model("essay", SETTINGS) == "qwen2.5-coder:7b"
    assert local_model("code_review", SETTINGS) == "qwen2.5-coder:7b"


counts = st.builds(TokenCounts, *[st.integers(0, 10**12)] * 4)
weights = st.builds(Weights, *[st.integers(0, 100_000).map(lambda n: n / 1000)] * 4)


@given(counts=counts, weights=weights)
def test_budget_tokens_are_the_exact_weighted_sum_rounded_half_up(
    counts: TokenCounts, weights: Weights
) -> None:
    exact = sum(
        (
            Fraction(round(getattr(weights, kind) * 1000), 1000) * getattr(counts, kind)
            for kind in Weights.__slots__
        ),
        Fraction(0),
    )
    assert budget_tokens(counts, weights) == (exact + Fraction(1, 2)).__floor__()


def test_cache_reads_weigh_nothing_by_default() -> None:
    assert budget_tokens(TokenCounts(1, 10, 100, 1000), Weights()) == 111


@pytest.mark.parametrize(
    ("level", "model", "words"),
    [
        (WarningLevel.NORMAL, "claude-sonnet-4.5", "done best"),
        (WarningLevel.WARNING, "mixed", "routine tasks go to Ollama"),
        (WarningLevel.CRITICAL, "qwen2.5-coder:7b", "all tasks go to Ollama"),
    ],
)
def test_each_level_recommends_its_model(level: WarningLevel, model: str, words: str) -> None:
    recommended, message = recommend(level, SETTINGS)
    assert recommended == model
    assert words in message


def test_levels_begin_exactly_at_their_thresholds() -> None:
    levels = [warning_level(total, SETTINGS) for total in (W - 1, W, A - 1, A)]
    assert levels == ["normal", "warning", "warning", "critical"]


def test_a_rehearsal_counts_what_would_differ_and_where_it_would_go() -> None:
    def logged(total: int, task: Task) -> LoggedDecision:
        decision = decide(SETTINGS, total, task)
        return LoggedDecision(1, "default", datetime.now(UTC), task, decision, None)

    routine, creative = Classification.ROUTINE, Classification.CREATIVE
    history = [
        logged(100, Task("code_review", routine)),
        logged(100, Task("unheard_of", routine)),
        logged(100, Task("unheard_of", creative)),
        logged(A, Task("unheard_of", creative)),
    ]
    changed = Settings(token_warning_threshold=100, task_mappings={"code_review": "llama3:8b"})
    assert rehearse(history, changed) == Rehearsal(4, 2, moved_to_ollama=1, moved_to_claude=0)
    later = Settings(
        token_warning_threshold=A + 1, token_auto_switch_threshold=A + 1, session_limit=A + 1
    )
    assert rehearse(history, later) == Rehearsal(4, 1, moved_to_ollama=0, moved_to_claude=1)
