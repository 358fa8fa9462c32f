"""The text of a decision, from its answer alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.answers.routing import RouteAnswer, RoutedTask
from immunos_mcp.domain import Classification, Decision, Task
from immunos_mcp.server import text

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def routed(answer: RouteAnswer, table_model: str | None = None) -> str:
    """Return the text of a code review that was answered like this."""
    fields: dict[str, Any] = {name: getattr(answer, name) for name in Decision.__struct_fields__}
    decision = replace(Decision(**fields), decision_id=None, table_model=table_model)
    task = Task("code_review", Classification.ROUTINE)
    logged = LoggedDecision(answer.decision_id, "default", NOON, task, decision, None)
    return text.routed(RoutedTask(answer, logged))
