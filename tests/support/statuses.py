"""A status as the router answers it, with the fields that a test is about changed."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from immunos_mcp.answers.status import StatusAnswer
from immunos_mcp.domain import TokenCounts, WarningLevel

FRESH = StatusAnswer(
    session="default",
    session_tokens=0,
    session_limit=200_000,
    percent_used=0.0,
    warning_level=WarningLevel.NORMAL,
    token_warning_threshold=150_000,
    token_auto_switch_threshold=180_000,
    recommended_model="claude-sonnet-4.5",
    message="Budget is fine.",
    kept_local_tokens=0,
    claude_tokens=TokenCounts(),
    ollama_tokens=TokenCounts(),
    decisions={},
    measured_tokens=0,
    reported_tokens=0,
)
"""Of a session that nobody used yet."""


def status(**changes: Any) -> StatusAnswer:
    """Return the status of an unused session with some fields changed."""
    return replace(FRESH, **changes)
