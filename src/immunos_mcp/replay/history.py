"""The logged past that a replay reads, as stored in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from immunos_mcp.domain import Engine, TokenCounts
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.track_record import Evidence


class PastDecision(NamedTuple):
    """A logged decision, with references to its inputs.

    Attributes:
        is_replayed: false: it only counts as a trial.
        policy_id: the settings it was made with.
        engine_id: the state of the local engine; ``None``: models were assumed to be available.
        decided_at: UTC, ISO 8601.
        session_tokens: budget tokens of the session.
        input_tokens: Claude tokens of the session, as are the next three; ``None``: unknown.
        budget_uses: how far budgets were used, as JSON; ``None``: none was set.
        held_tokens: what open reservations held back; ``None``: reservations were off.
        follows: the decision whose model failed at the task; ``None``: it is the first.
        tried: the models that failed at it, with commas; ``None``: none did.
        folder: the folder that the call came from, if known.
        setting_folders: the folder of each setting that a project folder had of its own, as JSON;
            ``None``: none had.
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
    budget_uses: str | None = None
    held_tokens: int | None = None
    follows: int | None = None
    tried: str | None = None
    folder: str | None = None
    setting_folders: str | None = None


SettingsOf: TypeAlias = "Callable[[int, str | None, str | None], Settings]"
"""Returns the settings to decide with, by ``policy_id``, ``folder`` and ``setting_folders`` of a decision."""


class PastOutcome(NamedTuple):
    """An outcome, with the newest decision made before it was known.

    Attributes:
        model: the name of its track record; ``None``: that of the decision's model.
        known_at: UTC, ISO 8601.
        corrected_at: when the opposite outcome that it replaces became known.
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
    """The tokens of the responses to one decision, by provider."""

    decision_id: int
    claude: TokenCounts
    local: TokenCounts


class PastUsage(NamedTuple):
    """Claude tokens that count in sessions.

    Attributes:
        at: UTC, ISO 8601.
        session_id: the only session that it counts in; ``None``: all that were open then.
        folder: its project folder, if known.
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
    """A session, with times in UTC, ISO 8601."""

    session_id: int
    name: str
    started_at: str
    ended_at: str | None
    folder: str | None
    claude: TokenCounts


@dataclass(frozen=True, slots=True)
class History:
    """The logged past; each call of an attribute that is a function reads it from the start.

    Attributes:
        current: the current settings.
        policies: the settings of each ``policy_id``.
        engines: the local engine of each ``engine_id``.
        records: the evidence before all of the following, by task type (empty: all) and model.
        decisions: in the order they were made.
        outcomes: in the order they became known.
        work: the tokens of decisions that have responses, by ascending ``decision_id``.
        sessions: the replayed sessions.
        usage: all usage that counts in a session, by time.
        pruned_before: details before this time may be gone; ``None``: all are there.
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

    def settings_of(
        self, policy_id: int, _folder: str | None = None, _setting_folders: str | None = None
    ) -> Settings:
        """Return the settings that a decision was made with."""
        return self.policies[policy_id]
