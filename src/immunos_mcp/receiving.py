"""The use cases of what a developer's own server, the gateway, pushes to its team's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import CLAUDE_CODE, TokenCounts
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger.connections.repeating import write_repeatable
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.pushed_usage import Pushed, store_pushed
from immunos_mcp.ledger.pushing import NOBODY, end_pushing
from immunos_mcp.ledger.session_start import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from immunos_mcp.gateway_messages import HandedOverTask, PushedUsage
    from immunos_mcp.handover import Handover
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.logged_usage import RequestUsage


class PushedSession:
    """The session that is open once usage was pushed.

    Attributes:
        name: what clients call it.
        open_until: when it ends by itself, as far as this process knows.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.open_until = NEVER


class Receiver:
    """Stores what one person's gateway pushes; every method raises the ledger's errors."""

    def __init__(
        self,
        ledger: Ledger,
        session: PushedSession,
        person_id: int = NOBODY,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Store in a ledger what a person pushes.

        Args:
            ledger: the ledger of the person's team, for what the person does.
            session: the team's session.
            person_id: who pushes.
            clock: the time, aware.
        """
        self._ledger = ledger
        self._session = session
        self._person_id = person_id
        self._clock = clock

    async def store(self, usage: PushedUsage, assistants: Sequence[str]) -> int:
        """Store usage, all or none; return how many responses and requests were new or had grown."""
        pushed = Pushed(
            [each.usage for each in usage.responses],
            [each.usage for each in usage.requests],
            [each.total for each in usage.totals],
            [each.report for each in usage.plan],
            usage.is_last,
        )
        return await self._store(pushed, assistants)

    async def _store(self, pushed: Pushed, assistants: Sequence[str]) -> int:
        now = self._clock()
        opens = None if now < self._session.open_until else self._session.name
        stored = await write_repeatable(
            self._ledger, store_pushed, pushed, self._person_id, assistants, now, opens
        )
        if stored.open_until is not None:
            self._session.open_until = stored.open_until
        return stored.new

    async def store_requests(self, requests: Sequence[RequestUsage]) -> int:
        """Store what Claude Code's telemetry reports; return how many requests were new or had grown."""
        return await self._store(Pushed(requests=requests), (CLAUDE_CODE,))

    async def end(self) -> None:
        """Let what assistants report for the person count again."""
        await self._ledger.write(end_pushing, self._person_id)


async def record_handed_over(
    handover: Handover, tasks: Sequence[HandedOverTask]
) -> Mapping[str, str]:
    """Record tasks that a developer's own models did; return why some were refused, by request.

    Raises:
        LedgerError: the ledger cannot be used; recording all of them again is harmless.
    """
    refused: dict[str, str] = {}
    for task in tasks:
        try:
            await handover.record(
                task.model,
                TokenCounts(task.input_tokens, task.output_tokens),
                task.decision_id,
                task.outcome,
                task.session,
                task.seconds,
                task.judge,
                in_file=task.in_file,
                request_id=task.request_id,
            )
        except InvalidInputError as error:
            refused[task.request_id] = str(error)
    return refused
