"""The use cases of the gates: judging what is about to happen, and what the user decides for now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.answers.gates import GatesAnswer
from immunos_mcp.domain import CLAUDE_CODE, GateChoice, HandoverChoice
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger.overrides import (
    OverrideKind,
    end_overrides,
    record_hook_texts,
    set_override,
    take_allowance,
)
from immunos_mcp.ledger.plan_limits import plan_usage
from immunos_mcp.ledger.session_snapshots import standing_snapshot
from immunos_mcp.rules import advice, gates
from immunos_mcp.rules.gates import FOREVER, Standing
from immunos_mcp.rules.status import budget_status, concerning, recommendation

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.domain import Engine
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.rules.gates import Attempt, Overrides, Verdict

ALLOWED = timedelta(days=1)
"""How long an allowance of one call waits for it."""


class Gates:
    """What happens when something expensive is begun, and what the user decides about it for now.

    Every method raises the ledger's errors as well; after an error nothing has changed.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: str,
        clock: Callable[[], datetime],
        engine: Callable[[], Engine] | None = None,
        places: tuple[str, ...] = (),
    ) -> None:
        """Create the use cases.

        Args:
            ledger: where everything is stored.
            session: the session whose level counts.
            clock: the time, aware.
            engine: returns the last known state of the local engine; ``None``: nothing is known.
            places: the folders that calls come from, whose settings hold.
        """
        self._ledger = ledger
        self._session = session
        self._clock = clock
        self._engine = engine
        self._places = places

    async def standing(self, *places: str) -> Standing:
        """Return what the gates go by, from what is stored; nothing is waited for.

        ``places`` are folders that the work belongs to beside those that calls come from.
        """
        now = self._clock()
        there = (*self._places, *places)
        snapshot = await self._ledger.read(standing_snapshot, self._session, now, there)
        folder = next(iter(there), snapshot.session.folder)
        snapshot = replace(snapshot, assistant=CLAUDE_CODE, folder=folder)
        recommended, settings = recommendation(snapshot), snapshot.settings
        is_forbidden = settings.handover is HandoverChoice.NEVER
        return Standing(
            recommended.level,
            recommended.message,
            None if is_forbidden else settings.default_local_model,
            settings,
            snapshot.overrides,
            is_open=snapshot.session.session_id is not None,
            budgets=tuple(budget_status(each, now) for each in concerning(snapshot)),
        )

    async def judge(self, attempt: Attempt, standing: Standing) -> Verdict | None:
        """Return whether to tell, ask or deny; an allowance of one call is used up instead."""
        verdict = gates.judge(attempt, standing)
        if verdict is None or verdict.choice is GateChoice.TELL:
            return verdict
        if not standing.overrides.allows_once:
            return verdict
        taken = await self._ledger.write_soon(take_allowance, self._clock())
        return None if taken else verdict

    def advice_on_file(self, path: str, size: int, standing: Standing) -> str | None:
        """Return a line about reading a whole file; ``None``: there is nothing to say."""
        if standing.local_model is None:
            return None
        engine = None if self._engine is None else self._engine()
        return advice.on_large_file(path, size, standing.settings, engine)

    async def switch_off(self, duration: timedelta | None) -> GatesAnswer:
        """Switch the gates off for some time, or (``None``) until ``switch_on``; ends a pause."""
        now = self._clock()
        ends_at = FOREVER if duration is None else now + duration
        return _answer(await self._ledger.write(set_override, OverrideKind.OFF, ends_at, now))

    async def switch_on(self) -> GatesAnswer:
        """Let the settings alone count again; return what was decided until now."""
        return _answer(await self._ledger.write(end_overrides, self._clock()))

    async def allow_once(self) -> GatesAnswer:
        """Let the next call through that would be asked about or denied, within a day."""
        now = self._clock()
        ends_at = now + ALLOWED
        return _answer(await self._ledger.write(set_override, OverrideKind.ALLOWANCE, ends_at, now))

    async def pause(self, until: datetime | timedelta | None) -> GatesAnswer:
        """Deny prompts and tools until some time, or (``None``) until the plan's five hours begin anew.

        Raises:
            InvalidInputError: the time is not in the future, or the plan's limits are not known.
        """
        now = self._clock()
        ends_at = now + until if isinstance(until, timedelta) else until
        if ends_at is None:
            plan = await self._ledger.read(plan_usage, now)
            ends_at = next((each.resets_at for each in plan if each.window == "five_hour"), None)
            if ends_at is None:
                message = "the plan's five hours are not known: give --for or --until"
                raise InvalidInputError(Problem("--until", None, message=message))
        if ends_at <= now:
            raise InvalidInputError(Problem("--until", str(until), "a time in the future"))
        return _answer(await self._ledger.write(set_override, OverrideKind.PAUSE, ends_at, now))

    async def record_texts(self, texts: int, tokens: int) -> None:
        """Count what hooks said.

        Raises:
            LedgerBusyError: another program writes to the ledger for more than a moment.
        """
        await self._ledger.write_soon(record_hook_texts, texts, tokens, self._clock())


def _answer(overrides: Overrides) -> GatesAnswer:
    until = overrides.off_until or overrides.paused_until
    return GatesAnswer(
        off=overrides.off_until is not None,
        paused=overrides.paused_until is not None,
        allows_once=overrides.allows_once,
        until=None if until is None or until >= FOREVER else until,
    )
