"""The use cases of handing a task over to a local model: which decision it belongs to, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import Judge, Outcome, TokenCounts, Usage
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger.decisions import decision_state, logged_decision
from immunos_mcp.ledger.delegated_tasks import find_task, newest_tasks, note_task
from immunos_mcp.ledger.reported_usage import DELEGATED, record_usage
from immunos_mcp.rules import inputs, names

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.domain import DelegatedTask
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.decisions import DecisionState


class Handover:
    """Decisions whose task a local model does.

    Every method raises the ledger's errors as well; after an error nothing has changed.
    """

    def __init__(self, ledger: Ledger, default_session: str, clock: Callable[[], datetime]) -> None:
        """Create the use cases; ``default_session`` is that of tasks that name none."""
        self._ledger = ledger
        self._default_session = default_session
        self._clock = clock

    async def unfinished_decision(self, decision_id: int) -> DecisionState:
        """Return a decision whose task is not done: it is open, or was closed as a failure.

        Raises:
            InvalidInputError: the decision does not exist or is closed as a success.
        """
        found = await self._decision(decision_id)
        if found is None:
            raise inputs.unknown_decision(decision_id)
        if found.outcome is Outcome.SUCCESS:
            message = f"decision {decision_id} is already closed as {found.outcome}"
            raise InvalidInputError(Problem("decision_id", decision_id, message=message))
        return found

    async def decided(self, decision_id: int) -> LoggedDecision:
        """Return a decision as it was logged."""
        return await self._ledger.read(logged_decision, decision_id)

    async def outcome(self, decision_id: int) -> Outcome | None:
        """Return the outcome of a decision; ``None``: it is open.

        Raises:
            InvalidInputError: the decision does not exist.
        """
        found = await self._decision(decision_id)
        if found is None:
            expected = "the handle of a delegate_task answer"
            raise InvalidInputError(Problem("handle", f"d{decision_id}", expected))
        return found.outcome

    async def _decision(self, decision_id: int) -> DecisionState | None:
        if not inputs.is_id(decision_id):
            return None
        return await self._ledger.read(decision_state, decision_id)

    async def note_task(self, task: DelegatedTask) -> None:
        """Store how a delegated task stands, for other processes."""
        await self._ledger.write(note_task, task)

    async def find_task(self, decision_id: int) -> DelegatedTask | None:
        """Return the task that was delegated by a decision, whatever process runs it."""
        return await self._ledger.read(find_task, decision_id)

    async def newest_tasks(self, most: int) -> tuple[DelegatedTask, ...]:
        """Return the newest delegated tasks, newest first."""
        return await self._ledger.read(newest_tasks, most)

    async def record(
        self,
        model: str,
        counts: TokenCounts,
        decision_id: int,
        outcome: Outcome | None,
        session: str | None = None,
        seconds: float | None = None,
        judge: Judge | None = None,
        *,
        in_file: bool = False,
        request_id: str | None = None,
    ) -> int:
        """Record the usage and outcome of a task; return the session's tokens kept local.

        Without a judge the outcome only means that the model answered: it teaches nothing, and one that
        is reported later replaces it. A ``request_id`` makes repeats harmless.
        """
        usage = Usage(
            model,
            counts,
            request_id,
            decision_id=decision_id,
            outcome=outcome,
            seconds=seconds,
            judge=judge,
            in_file=in_file,
        )
        name = self._default_session if session is None else names.check_session_name(session)
        recorded = await self._ledger.write(record_usage, name, self._clock(), usage, DELEGATED)
        return recorded.after.local.total
