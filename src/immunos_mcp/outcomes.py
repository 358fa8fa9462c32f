"""The use cases of how routed tasks turned out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.usage import OutcomeAnswer
from immunos_mcp.domain import Judge, Outcome
from immunos_mcp.ledger.decisions import close_decision
from immunos_mcp.ledger.reported_usage import record_outcome
from immunos_mcp.rules import inputs, names
from immunos_mcp.rules.status import recorded_usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.answers.usage import RecordAnswer
    from immunos_mcp.ledger.connections.ledger import Ledger


class Outcomes:
    """How routed tasks turned out, where nothing is said of the tokens that they took.

    Every method raises the ledger's errors as well, and ``InvalidInputError`` where the decision does
    not exist, it has another outcome that the judge does not overrule, or the seconds are not from 0 to a
    day; after an error nothing has changed.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        """Create the use cases of a ledger."""
        self._ledger = ledger
        self._clock = clock

    async def close(
        self,
        decision_id: int,
        outcome: str,
        seconds: float | None = None,
        judge: Judge = Judge.USER,
    ) -> OutcomeAnswer:
        """Record whether a routed task succeeded."""
        known = inputs.member(Outcome, "outcome", outcome)
        closed = await self._ledger.write(
            close_decision,
            inputs.checked_decision_id(decision_id),
            known,
            inputs.checked_seconds(seconds),
            self._clock(),
            judge,
        )
        return OutcomeAnswer(decision_id, known, closed.task_type, closed.model)

    async def record(
        self,
        session: str,
        decision_id: int,
        outcome: str,
        seconds: float | None,
        judge: Judge,
        model: str | None,
    ) -> RecordAnswer:
        """Do the same, and return the state of a session; ``model`` did the task, if it is known."""
        done = await self._ledger.write(
            record_outcome,
            session,
            self._clock(),
            inputs.checked_decision_id(decision_id),
            inputs.member(Outcome, "outcome", outcome),
            inputs.checked_seconds(seconds),
            judge,
            None if model is None else names.check_model_name(model),
        )
        return recorded_usage(
            done.before, done.after, done.settings, is_repeat=done.repeated, is_counted=done.counted
        )
