"""The routing policy against an independent statement of it."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import product

import hypothesis
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.domain import (
    Classification,
    Decision,
    HandoverChoice,
    PlanUsage,
    Provider,
    Reason,
    Task,
    TokenCounts,
    WarningLevel,
)
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.levels import budget_tokens, plan_level, plan_used_percent, warning_level
from immunos_mcp.rules.models import local_model, provider_of
from immunos_mcp.rules.policy import ROWS, decide
from immunos_mcp.rules.recommendation import Recommendation, recommend
from immunos_mcp.rules.settings import Settings

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
    decision = decide(SETTINGS, Circumstances(total), Task(task_type, classification))
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
    decision = decide(settings, Circumstances(total), Task("task", classification))
    if total >= auto_switch:
        assert (decision.provider, decision.reason) == (
            Provider.OLLAMA,
            Reason.TOKEN_BUDGET_EXCEEDED,
        )
    elif classification is Classification.CRITICAL:
        assert decision.provider is Provider.CLAUDE
    assert decision == decide(settings, Circumstances(total), Task("task", classification))


def test_a_task_for_claude_is_projected_with_its_level() -> None:
    decision = decide(
        SETTINGS, Circumstances(W - 10), Task("unheard_of", Classification.CREATIVE, 10)
    )
    assert (decision.projected_tokens, decision.projected_level) == (W, WarningLevel.WARNING)


def test_a_task_that_stays_local_leaves_the_projection_where_the_session_is() -> None:
    decision = decide(
        SETTINGS, Circumstances(W - 10), Task("code_review", Classification.ROUTINE, 10)
    )
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


@pytest.mark.parametrize(
    "model",
    [
        "octopus:7b",
        "magnum-opus:7b",
        "opus-mt:latest",
        "qwen2.5-coder:7b",
        "gpt-oss:20b",
        "haikuist",
    ],
)
def test_other_models_are_local(model: str) -> None:
    assert provider_of(model, SETTINGS) is Provider.OLLAMA


def test_the_model_set_as_claudes_counts_as_claudes_whatever_its_name() -> None:
    assert provider_of("gpt-5", Settings(claude_model="gpt-5")) is Provider.CLAUDE


def test_a_task_type_mapped_to_claude_stays_local_on_the_default_local_model() -> None:
    assert local_model("essay", SETTINGS) == "qwen2.5-coder:7b"
    assert local_model("code_review", SETTINGS) == "qwen2.5-coder:7b"


@given(counts=strategies.counts, settings=strategies.settings())
def test_budget_tokens_are_the_exact_weighted_sum_rounded_half_up(
    counts: TokenCounts, settings: Settings
) -> None:
    exact = sum(
        (
            Fraction(round(weight * 1000), 1000) * count
            for weight, count in (
                (settings.input_weight, counts.input_tokens),
                (settings.output_weight, counts.output_tokens),
                (settings.cache_creation_weight, counts.cache_creation_input_tokens),
                (settings.cache_read_weight, counts.cache_read_input_tokens),
            )
        ),
        Fraction(0),
    )
    assert budget_tokens(counts, settings) == (exact + Fraction(1, 2)).__floor__()


def test_cache_reads_weigh_nothing_by_default() -> None:
    assert budget_tokens(TokenCounts(1, 10, 100, 1000), Settings()) == 111


@pytest.mark.parametrize(
    ("level", "model", "words"),
    [
        (WarningLevel.NORMAL, "claude-sonnet-4.5", "done best"),
        (WarningLevel.WARNING, "mixed", "routine tasks go to Ollama"),
        (WarningLevel.CRITICAL, "qwen2.5-coder:7b", "all tasks go to Ollama"),
    ],
)
def test_each_level_recommends_its_model(level: WarningLevel, model: str, words: str) -> None:
    recommended = recommend(level, SETTINGS)
    assert recommended.model == model
    assert words in recommended.message


def test_levels_begin_exactly_at_their_thresholds() -> None:
    levels = [warning_level(total, SETTINGS) for total in (W - 1, W, A - 1, A)]
    assert levels == ["normal", "warning", "warning", "critical"]


def is_claudes(model: str, settings: Settings) -> bool:
    return model == settings.claude_model or strategies.PROVIDERS[model] is Provider.CLAUDE


def stated_level(tokens: int, settings: Settings) -> WarningLevel:
    if tokens >= settings.token_auto_switch_threshold:
        return WarningLevel.CRITICAL
    if tokens >= settings.token_warning_threshold:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL


def stated_choice(settings: Settings, total: int, task: Task) -> tuple[str, str]:
    """Return model and reason as the policy's description says of any settings, row by row."""
    if settings.handover == "never":
        mapped = settings.task_mappings.get(task.task_type, settings.claude_model)
        model = mapped if is_claudes(mapped, settings) else settings.claude_model
        return model, "handover_forbidden"
    return stated_where_tasks_are_handed_over(settings, total, task)


def stated_where_tasks_are_handed_over(
    settings: Settings, total: int, task: Task
) -> tuple[str, str]:
    """Return the same where ``handover`` is on."""
    local = settings.task_mappings.get(task.task_type, settings.default_local_model)
    if is_claudes(local, settings):
        local = settings.default_local_model
    if total >= settings.token_auto_switch_threshold:
        return local, "token_budget_exceeded"
    if total >= settings.token_warning_threshold and task.classification == "routine":
        return local, "token_budget_warning"
    if task.classification == "critical":
        return settings.claude_model, "task_critical"
    if task.classification in settings.claude_classifications:
        return settings.claude_model, "task_reserved"
    if task.task_type in settings.task_mappings:
        return settings.task_mappings[task.task_type], "task_optimized"
    return settings.claude_model, "default_complex"


@given(st.data(), strategies.settings(), strategies.tasks)
def test_any_task_under_any_settings_is_decided_as_stated(
    data: st.DataObject, settings: Settings, task: Task
) -> None:
    total = data.draw(strategies.totals_near(settings))
    model, reason = stated_choice(settings, total, task)
    provider = Provider.CLAUDE if is_claudes(model, settings) else Provider.OLLAMA
    projected = None
    if task.estimated_tokens is not None:
        projected = total + (task.estimated_tokens if provider is Provider.CLAUDE else 0)
    assert decide(settings, Circumstances(total), task) == Decision(
        model,
        provider,
        Reason(reason),
        stated_level(total, settings),
        total,
        projected_tokens=projected,
        projected_level=None if projected is None else stated_level(projected, settings),
    )


@pytest.mark.parametrize("classification", Classification)
@pytest.mark.parametrize(
    ("mapped", "local"),
    [(None, "default:1"), ("llama3:8b", "llama3:8b"), ("opus", "default:1"), ("own", "default:1")],
)
def test_past_the_auto_switch_threshold_a_task_goes_to_its_own_local_model_else_to_the_default(
    mapped: str | None, local: str, classification: Classification
) -> None:
    settings = Settings(
        task_mappings={} if mapped is None else {"task": mapped},
        claude_model="own",
        default_local_model="default:1",
    )
    assert decide(settings, Circumstances(A), Task("task", classification)) == Decision(
        local, Provider.OLLAMA, Reason.TOKEN_BUDGET_EXCEEDED, WarningLevel.CRITICAL, A
    )


def test_a_critical_task_goes_to_claude_below_the_auto_switch_threshold() -> None:
    assert decide(
        SETTINGS, Circumstances(A - 1), Task("code_review", Classification.CRITICAL)
    ) == Decision(
        "claude-sonnet-4.5", Provider.CLAUDE, Reason.TASK_CRITICAL, WarningLevel.WARNING, A - 1
    )


def test_with_equal_thresholds_there_is_no_warning_between_normal_and_critical() -> None:
    settings = Settings(token_warning_threshold=100, token_auto_switch_threshold=100)
    levels = [warning_level(total, settings) for total in (0, 99, 100, 101)]
    assert levels == ["normal", "normal", "critical", "critical"]


@hypothesis.settings(max_examples=20)
@given(strategies.settings(), strategies.tasks, st.sampled_from(TOTALS), st.booleans())
def test_where_nothing_may_be_handed_over_no_state_of_anything_hands_a_task_over(
    settings: Settings, task: Task, total: int, has_reservations: bool
) -> None:
    forbidden = replace(settings, handover=HandoverChoice.NEVER)
    circumstances = Circumstances(total, 120.0, held_tokens=10**12 if has_reservations else None)
    decision = decide(forbidden, circumstances, task)
    assert (decision.provider, decision.reason) == (Provider.CLAUDE, Reason.HANDOVER_FORBIDDEN)
    assert decision.warning_level is warning_level(total, settings)


def test_the_order_of_the_rows_and_their_words_are_the_contract() -> None:
    assert [row.reason.value for row in ROWS] == [
        "handover_forbidden",
        "token_budget_exceeded",
        "plan_limit_exceeded",
        "spend_limit_exceeded",
        "token_budget_warning",
        "plan_limit_warning",
        "spend_limit_warning",
        "task_critical",
        "task_reserved",
        "task_optimized",
        "default_complex",
    ]


PLAN = replace(SETTINGS, plan_warning_percent=80, plan_auto_switch_percent=95)


def stated_with_plan(
    total: int, used: float | None, task_type: str, classification: str
) -> tuple[str, str, str]:
    """Return what the description says: rows 1 and 2 also apply for the plan, each after its own."""
    model, reason, level = stated(total, task_type, classification)
    if used is None or reason == "token_budget_exceeded":
        return model, reason, level
    if used >= 95:
        return "qwen2.5-coder:7b", "plan_limit_exceeded", level
    if used >= 80 and classification == "routine" and reason != "token_budget_warning":
        return "qwen2.5-coder:7b", "plan_limit_warning", level
    return model, reason, level


@pytest.mark.parametrize("used", [None, 0.0, 79.9, 80.0, 94.9, 95.0, 120.0])
@pytest.mark.parametrize(
    ("total", "task_type", "classification"),
    list(product((0, W, A), ("code_review", "essay", "unheard_of"), Classification)),
)
def test_the_plans_own_limit_decides_as_stated(
    total: int, used: float | None, task_type: str, classification: Classification
) -> None:
    decision = decide(PLAN, Circumstances(total, used), Task(task_type, classification))
    model, reason, level = stated_with_plan(total, used, task_type, classification)
    assert (decision.model, decision.reason, decision.warning_level) == (model, reason, level)
    assert decision.plan_used_percent == used


@pytest.mark.parametrize(
    ("warning", "auto_switch", "used", "level"),
    [
        (0, 0, 100.0, "normal"),
        (80, 0, 100.0, "warning"),
        (0, 95, 94.0, "normal"),
        (0, 95, 95.0, "critical"),
        (80, 95, None, "normal"),
    ],
)
def test_a_plan_threshold_that_is_off_never_applies(
    warning: int, auto_switch: int, used: float | None, level: str
) -> None:
    settings = Settings(plan_warning_percent=warning, plan_auto_switch_percent=auto_switch)
    assert plan_level(used, settings) == level


def test_the_fullest_of_the_plans_limits_counts_and_only_where_a_setting_looks() -> None:
    reset = datetime(2026, 3, 1, tzinfo=UTC)
    plan = (PlanUsage("five_hour", 30.0, reset), PlanUsage("seven_day", 90.5, reset))
    assert plan_used_percent(plan, PLAN) == 90.5
    assert plan_used_percent((), PLAN) is None
    assert plan_used_percent(plan, SETTINGS) is None


def test_a_plan_that_runs_low_is_recommended_for_after_the_budget() -> None:
    normal, warning, critical = WarningLevel
    assert recommend(normal, PLAN, critical).model == "qwen2.5-coder:7b"
    assert recommend(normal, PLAN, warning) == Recommendation(
        "mixed",
        "Plan limit is getting close: routine tasks go to Ollama.",
        warning,
    )
    assert (
        recommend(warning, PLAN, critical).message
        == "Plan limit is almost reached: all tasks go to Ollama."
    )
    assert recommend(critical, PLAN, warning).message == "Budget used up: all tasks go to Ollama."


def test_a_critical_task_is_projected_across_both_thresholds_at_once() -> None:
    decision = decide(SETTINGS, Circumstances(0), Task("code_review", Classification.CRITICAL, A))
    assert decision == Decision(
        "claude-sonnet-4.5",
        Provider.CLAUDE,
        Reason.TASK_CRITICAL,
        WarningLevel.NORMAL,
        0,
        projected_tokens=A,
        projected_level=WarningLevel.CRITICAL,
    )


def test_classifications_can_be_reserved_for_claude_below_the_thresholds() -> None:
    reserving = replace(SETTINGS, claude_classifications="creative,critical")

    def reason(total: int, classification: Classification) -> str:
        task = Task("code_review", classification)
        return decide(reserving, Circumstances(total), task).reason

    assert reason(0, Classification.CREATIVE) == "task_reserved"
    assert reason(W, Classification.CREATIVE) == "task_reserved"
    assert reason(A, Classification.CREATIVE) == "token_budget_exceeded"
    assert reason(0, Classification.CRITICAL) == "task_critical"
    assert reason(0, Classification.ROUTINE) == "task_optimized"


def test_an_estimate_of_nothing_is_an_estimate() -> None:
    decision = decide(SETTINGS, Circumstances(W), Task("unheard_of", Classification.CREATIVE, 0))
    assert (decision.projected_tokens, decision.projected_level) == (W, WarningLevel.WARNING)


@pytest.mark.parametrize(
    "model",
    [
        "claude_3",
        "CLAUDE-3-5-SONNET",
        "anthropic.claude-v2:1",
        "claude-sonnet-4@20250514",
        "openrouter/anthropic/claude-opus-4",
        "opus4",
        "sonnet3.5",
        "Haiku",
        "eu.opus-4",
    ],
)
def test_claudes_families_are_known_in_the_spellings_of_apis(model: str) -> None:
    assert provider_of(model, SETTINGS) is Provider.CLAUDE


@pytest.mark.parametrize(
    "model", ["octopus", "opuscule:1b", "sonnets", "haikus:2b", "llama3:8b", "gpt-5", "clau-de"]
)
def test_a_familys_name_inside_another_word_is_not_claudes(model: str) -> None:
    assert provider_of(model, SETTINGS) is Provider.OLLAMA


def test_the_model_set_as_claudes_is_known_by_its_exact_name_alone() -> None:
    settings = Settings(claude_model="gpt-5")
    found = {model: provider_of(model, settings) for model in ("gpt-5", "gpt-5-mini", "GPT-5")}
    assert found == {"gpt-5": "claude", "gpt-5-mini": "ollama", "GPT-5": "ollama"}


def weighing(
    of_input: float = 1, of_output: float = 1, of_creation: float = 1, of_read: float = 0
) -> Settings:
    return Settings(
        input_weight=of_input,
        output_weight=of_output,
        cache_creation_weight=of_creation,
        cache_read_weight=of_read,
    )


@pytest.mark.parametrize(
    ("counts", "settings", "tokens"),
    [
        (TokenCounts(), weighing(), 0),
        (TokenCounts(1), weighing(0.5), 1),
        (TokenCounts(1), weighing(0.499), 0),
        (TokenCounts(3), weighing(0.5), 2),
        (TokenCounts(1, 1), weighing(0.25, 0.25), 1),
        (TokenCounts(0, 0, 0, 10**18 + 1), weighing(0, 0, 0, 1), 10**18 + 1),
        (TokenCounts(10**30 + 1, 7), weighing(100, 0.001), 100 * 10**30 + 100),
        (TokenCounts(10**12), weighing(0.001), 10**9),
        (TokenCounts(1000, 1000, 1000, 1000), weighing(1.001, 1.009, 2.003, 4.011), 8024),
        (TokenCounts(0, 10**6, 0, 0), weighing(0, 1.001, 0, 0), 1_001_000),
    ],
)
def test_budget_tokens_at_halves_and_beyond_what_floats_can_hold(
    counts: TokenCounts, settings: Settings, tokens: int
) -> None:
    assert budget_tokens(counts, settings) == tokens


def test_the_recommendation_names_the_models_of_the_settings() -> None:
    settings = Settings(claude_model="claude-x", default_local_model="llama3:8b")
    assert [recommend(level, settings) for level in WarningLevel] == [
        Recommendation("claude-x", "Budget is fine: tasks go where they are done best."),
        Recommendation(
            "mixed", "Budget is running low: routine tasks go to Ollama.", WarningLevel.WARNING
        ),
        Recommendation(
            "llama3:8b", "Budget used up: all tasks go to Ollama.", WarningLevel.CRITICAL
        ),
    ]
    forbidden = replace(settings, handover=HandoverChoice.NEVER)
    assert {recommend(level, forbidden).model for level in WarningLevel} == {"claude-x"}
    assert recommend(WarningLevel.CRITICAL, forbidden).message == (
        "Budget used up: do only what is needed, since nothing is handed over here."
    )
