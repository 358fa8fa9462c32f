"""Values of the domain for hypothesis: arbitrary, and valid by construction."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.answers.routing import RouteAnswer
from immunos_mcp.answers.sessions import ResetAnswer
from immunos_mcp.answers.settings import ConfigAnswer, Difference, DryRunEffect
from immunos_mcp.answers.status import StatusAnswer
from immunos_mcp.answers.usage import RecordAnswer
from immunos_mcp.domain import (
    MAXIMUM_TOKENS,
    Classification,
    Consultation,
    EnginesAllowed,
    GateChoice,
    HandoverChoice,
    Provider,
    Reason,
    Switch,
    Task,
    TokenCounts,
    WarningLevel,
)
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

CLAUDES: tuple[str, ...] = (
    "claude-sonnet-4.5",
    "claude-opus-4-8",
    "Claude",
    "anthropic/claude-3-haiku",
    "us.anthropic.claude-sonnet-4-20250514-v1:0",
    "opus",
    "SONNET-4",
    "haiku",
)
LOCALS: tuple[str, ...] = (
    "qwen2.5-coder:7b",
    "llama3:8b",
    "gpt-oss:20b",
    "deepseek-r1:14b",
    "octopus",
    "x",
)
PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {**dict.fromkeys(CLAUDES, Provider.CLAUDE), **dict.fromkeys(LOCALS, Provider.OLLAMA)}
)
"""Model names and whose tokens they spend, whatever the settings' Claude model, unless it is one."""

TASK_TYPES: tuple[str, ...] = ("code_review", "debug", "essay", "unheard_of")

tokens = st.integers(0, MAXIMUM_TOKENS)
thresholds = st.lists(st.integers(1, MAXIMUM_TOKENS), min_size=3, max_size=3).map(sorted)
counts = st.builds(TokenCounts, tokens, tokens, tokens, tokens)
thousandths = st.integers(0, 100_000)
weight = thousandths.map(lambda number: number / 1000)
weights = {
    "input_weight": weight,
    "output_weight": weight,
    "cache_creation_weight": weight,
    "cache_read_weight": weight,
}
millionths = st.integers(10_000, 990_000).map(lambda number: number / 1_000_000)
record_constants = {
    "record_gain": millionths,
    "record_half_life_days": st.integers(1, 3650).map(float),
    "record_local_rate": millionths,
    "record_claude_rate": millionths,
    "record_local_strength": st.integers(1, 1000).map(float),
    "record_claude_strength": st.integers(1, 1000).map(float),
    "record_horizon": st.integers(0, 100_000).map(float),
    "record_retry_days": st.integers(1, 3650).map(float),
}
mappings: st.SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(TASK_TYPES), st.sampled_from((*CLAUDES, *LOCALS))
)
tasks = st.builds(
    Task, st.sampled_from(TASK_TYPES), st.sampled_from(Classification), st.none() | tokens
)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # the zone is given beside
words = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=20)


_with_any_thresholds = st.builds(
    Settings,
    task_mappings=mappings,
    claude_model=st.sampled_from(["claude-sonnet-4.5", "gpt-5", "sonnet"]),
    default_local_model=st.sampled_from(LOCALS),
    session_window_minutes=st.integers(0, 525_600),
    plan_warning_percent=st.integers(0, 50),
    plan_auto_switch_percent=st.just(0) | st.integers(50, 100),
    delegate_wait_seconds=st.integers(1, 3600),
    counted_assistants=st.sampled_from(["claude-code", "claude-code,codex,opencode"]),
    budgets=st.just(""),
    reservations=st.sampled_from(Switch),
    reservation_minutes=st.integers(1, 1440),
    time_zone=st.sampled_from(["system", "Europe/Berlin"]),
    claude_classifications=st.sampled_from(["critical", "creative,critical"]),
    task_synonyms=st.sampled_from(["off", "on", "on,translate=summarize"]),
    largest_context=st.integers(4096, 4_194_304),
    mains_power_required=st.sampled_from(Switch),
    free_memory_required=st.integers(0, 4_194_304),
    handover=st.sampled_from([*[HandoverChoice.ON] * 3, HandoverChoice.NEVER]),
    engines_allowed=st.sampled_from(EnginesAllowed),
    cloud_models=st.sampled_from(Switch),
    remote_engine=st.sampled_from(Switch),
    deny_agent_tool=st.sampled_from(Switch),
    ladder=st.sampled_from(Switch),
    subagents_at_warning=st.sampled_from(GateChoice),
    subagents_at_critical=st.sampled_from(GateChoice),
    expensive_tools_at_warning=st.sampled_from(GateChoice),
    expensive_tools_at_critical=st.sampled_from(GateChoice),
    model_switches_at_warning=st.sampled_from(GateChoice),
    model_switches_at_critical=st.sampled_from(GateChoice),
    expensive_tools=st.sampled_from(["WebSearch", "WebFetch,mcp__x__y"]),
    subagent_token_ceiling=st.just(0) | st.integers(1, 10**6),
    advice=st.sampled_from(Switch),
    track_record=st.sampled_from(Consultation),
    **weights,
    **record_constants,
)


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    warning, auto_switch, limit = draw(thresholds)
    # Made anew for each example, the strategies would take as long as what they draw.
    return replace(
        draw(_with_any_thresholds),
        token_warning_threshold=warning,
        token_auto_switch_threshold=auto_switch,
        session_limit=limit,
    )


def totals_near(known: Settings) -> st.SearchStrategy[int]:
    """Return session totals of which many lie at a threshold."""
    warning, auto_switch = known.token_warning_threshold, known.token_auto_switch_threshold
    edges = sorted({max(0, edge + step) for edge in (warning, auto_switch) for step in (-1, 0, 1)})
    return st.sampled_from(edges) | tokens


levels = st.sampled_from(WarningLevel)
ids = st.integers(1, 2**63 - 1)
route_answers = st.builds(
    RouteAnswer,
    words,
    st.sampled_from((Provider.CLAUDE, Provider.OLLAMA)),
    st.sampled_from(Reason),
    levels,
    tokens,
    ids,
    st.none() | tokens,
    st.none() | levels,
)
record_answers = st.builds(
    RecordAnswer,
    tokens,
    tokens,
    levels,
    st.none() | levels,
    st.sampled_from([None, True]),
    st.sampled_from([None, False]),
)
status_answers = st.builds(
    StatusAnswer,
    session=words,
    session_tokens=tokens,
    session_limit=st.integers(1, MAXIMUM_TOKENS),
    percent_used=st.integers(0, 10**6).map(lambda number: number / 10),
    warning_level=levels,
    token_warning_threshold=tokens,
    token_auto_switch_threshold=tokens,
    recommended_model=words,
    message=words,
    kept_local_tokens=tokens,
    claude_tokens=counts,
    ollama_tokens=counts,
    decisions=st.dictionaries(st.sampled_from(Reason), tokens),
    measured_tokens=tokens,
    reported_tokens=tokens,
    session_id=st.none() | ids,
    started_at=st.none() | moments,
    tokens_per_minute=st.none() | tokens,
    minutes_to_warning=st.none() | tokens,
    minutes_to_auto_switch=st.none() | tokens,
    folder=st.none() | words,
    unread_lines=st.none() | tokens,
    unread_files=st.none() | tokens,
)
reset_answers = st.builds(
    ResetAnswer, ids, st.none() | ids, st.none() | tokens, st.none() | tokens, st.none() | tokens
)
plain = tokens | weight | words
config_answers = st.builds(
    ConfigAnswer,
    st.dictionaries(words, st.builds(Difference, st.none() | plain, st.none() | plain)),
    st.dictionaries(words, plain | st.dictionaries(words, words)),
    st.sampled_from([None, True]),
    st.none() | st.builds(DryRunEffect, tokens, tokens, tokens, tokens),
)
