"""What a replay reads of the past, as the ledger keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from immunos_mcp.domain import Engine, TokenCounts
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.track_record import Evidence


class PastDecision(NamedTuple):
    """A decision as the ledger keeps it, with the numbers of what it was made from.

    Attributes:
        is_replayed: false where it only counts as the trial that it was.
        policy_id: the settings it was made with.
        engine_id: the local engine it was made in; ``None``: models were taken for granted.
        decided_at: UTC, ISO 8601.
        session_tokens: budget tokens of the session.
        input_tokens: of Claude in the session, like the three after it; ``None``: not known.
    """

    is_replayed: int
    decision_id: int
    session_id: int
    policy_id: int
    engine_id: int | None
    decided_at: str
    task_type: str
    classification: str
    estimated_tokens: int | None
    session_tokens: int
    plan_used_percent: float | None
    model: str
    provider: str
    changed_by: str | None
    table_model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_creation_input_tokens: int | None
    cache_read_input_tokens: int | None


class PastOutcome(NamedTuple):
    """An outcome, with the newest decision that was made without knowing it.

    Attributes:
        model: the name its record is kept under; ``None``: that of the decision's model.
        known_at: UTC, ISO 8601.
        corrected_at: when the opposite had become known, whose place it takes.
    """

    after_decision_id: int
    policy_id: int
    model: str | None
    task_type: str
    decided_model: str
    outcome: str
    known_at: str
    corrected_at: str | None


class PastWork(NamedTuple):
    """The tokens of the responses that belong to one decision, by whose they were."""

    decision_id: int
    claude: TokenCounts
    local: TokenCounts


class PastUsage(NamedTuple):
    """Tokens of Claude that count in sessions.

    Attributes:
        at: UTC, ISO 8601.
        session_id: the one session that it counts in; ``None``: all that were open then.
        folder: its project folder, where that is known.
    """

    at: str
    session_id: int | None
    folder: str | None
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int


@dataclass(frozen=True, slots=True)
class PastSession:
    """A session as it stands, with times in UTC, ISO 8601."""

    session_id: int
    name: str
    started_at: str
    ended_at: str | None
    folder: str | None
    claude: TokenCounts


@dataclass(frozen=True, slots=True)
class History:
    """What a ledger holds of the past; what is a function is read when it is called, from the start.

    Attributes:
        current: the settings in force.
        policies: the settings of each ``policy_id``.
        engines: the local engine of each ``engine_id``.
        records: the evidence, by task type (empty: all) and model, before everything that follows.
        decisions: in the order they were made.
        outcomes: in the order they became known.
        work: of decisions that responses belong to, by ``decision_id``, ascending.
        sessions: those that the replay is about.
        usage: that counts in any session, by time.
        pruned_before: where detail before that moment may be gone; ``None``: none is.
    """

    current: Settings
    policies: Mapping[int, Settings]
    engines: Mapping[int, Engine]
    records: Mapping[tuple[str, str], Evidence]
    decisions: Callable[[], Iterable[PastDecision]]
    outcomes: Callable[[], Iterable[PastOutcome]]
    work: Callable[[], Iterable[PastWork]]
    sessions: Callable[[], Sequence[PastSession]]
    usage: Callable[[], Iterable[PastUsage]]
    pruned_before: str | None = None
