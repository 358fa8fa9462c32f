"""What a replay answers: the JSON of ``replay --json``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from immunos_mcp.domain import Classification, Reason, WarningLevel


class ModelShare(Struct, frozen=True):
    """How many decisions named a model, and how many would have."""

    before: int
    after: int


class Crossing(Struct, frozen=True):
    """When a session reached a level, and when it would have; ``None``: not at all.

    Of a level that was reached in what was pruned no more is known than that: it has the moment up
    to which was pruned.
    """

    session_id: int
    session: str
    level: WarningLevel
    before: datetime | None
    after: datetime | None


class DifferingDecision(Struct, frozen=True):
    """A decision that would have named another model, and the reason it would have had."""

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
        changed: how many of them would have named another model.
        moved_to_ollama: of those, how many would have left Claude.
        moved_to_claude: of those, how many would have come to Claude.
        kept_tokens: budget tokens of Claude that those would have kept which would have left it.
        spent_tokens: budget tokens that those would have spent which would have come to it.
        models: how many decisions each model was named by, and would have been.
        crossings: the sessions that reached a threshold or would have, oldest first.
        differing: decisions that would have named another model, oldest first, as many as asked for.
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
