"""The settings as tools and resources show them while nobody has changed any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS

if TYPE_CHECKING:
    import wire

CLAUDE = "claude-sonnet-4.5"
CODER = "qwen2.5-coder:7b"
CONFIG: wire.JsonObject = {
    "token_warning_threshold": 150_000,
    "token_auto_switch_threshold": 180_000,
    "session_limit": 200_000,
    "claude_model": CLAUDE,
    "default_local_model": CODER,
    "input_weight": 1.0,
    "output_weight": 1.0,
    "cache_creation_weight": 1.0,
    "cache_read_weight": 0.0,
    "session_window_minutes": 0,
    "plan_warning_percent": 0,
    "plan_auto_switch_percent": 0,
    "cloud_models": "off",
    "deny_agent_tool": "off",
    "delegate_wait_seconds": 45,
    "track_record": "on",
    "task_mappings": dict(DEFAULT_TASK_MAPPINGS),
}
ADVANCED: wire.JsonObject = {
    "ladder": "on",
    "reservations": "off",
    "reservation_minutes": 30,
    "time_zone": "system",
    "claude_classifications": "critical",
    "counted_assistants": "claude-code",
    "task_synonyms": "off",
    "handover": "on",
    "engines_allowed": "any",
    "remote_engine": "off",
    **dict.fromkeys(
        (
            f"{gated}_at_{level}"
            for gated in ("subagents", "expensive_tools", "model_switches")
            for level in ("warning", "critical")
        ),
        "tell",
    ),
    "expensive_tools": "WebFetch,WebSearch,Workflow",
    "subagent_token_ceiling": 0,
    "advice": "on",
    "largest_context": 32_768,
    "mains_power_required": "off",
    "free_memory_required": 0,
    "record_gain": 0.3,
    "record_half_life_days": 180.0,
    "record_local_rate": 0.75,
    "record_claude_rate": 0.9,
    "record_local_strength": 5.0,
    "record_claude_strength": 15.0,
    "record_horizon": 100.0,
    "record_retry_days": 30.0,
}
EMPTY: wire.JsonObject = {"budgets": ""}
