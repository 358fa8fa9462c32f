"""What a replay answers: the JSON of ``replay --json``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from immunos_mcp.domain import Classification, Reason, WarningLevel


class ModelShare(Struct, frozen=True):
    """How many decisions chose a model, and how many would have."""

    before: int
    after: int


class Crossing(Struct, frozen=True):
    """When a session reached a level, and when it would have; ``None``: not at all.

    If a level was reached before records were pruned, its moment is the end of what was pruned.
    """

    session_id: int
    session: str
    level: WarningLevel
    before: datetime | None
    after: datetime | None


class DifferingDecision(Struct, frozen=True):
    """A decision that would have another model, and the reason it would have."""

    decision_id: int
    task_type: str
    classification: Classification
    before: str
    after: str
    reason: Reason


class ReplayAnswer(Struct, frozen=True):
    """What ``replay`` answers.

    Attributes:
        decisions: how many logged decisions were decided again.
        changed: how many of them would have another model.
        moved_to_ollama: of those, how many would move to Ollama.
        moved_to_claude: of those, how many would move to Claude.
        kept_tokens: budget tokens of Claude that decisions moved to Ollama would have saved.
        spent_tokens: budget tokens that decisions moved to Claude would have spent.
        models: how many decisions chose each model, and would have.
        crossings: the sessions that reached a threshold or would have, oldest first.
        differing: decisions that would have another model, oldest first, as many as requested.
    """

    decisions: int
    changed: int
    moved_to_ollama: int
    moved_to_claude: int
    kept_tokens: int
    spent_tokens: int
    models: Mapping[str, ModelShare]
    crossings: tuple[Crossing, ...]
    differing: tuple[DifferingDecision, ...]
