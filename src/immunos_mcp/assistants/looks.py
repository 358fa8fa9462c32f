"""A look at a session, such as a status or a hook: the first one opens the session.

A look never waits long for other programs and never fails because the ledger cannot be written: it
says what is not counted instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp.errors import LedgerBusyError, LedgerError
from immunos_mcp.ledger.session_snapshots import session_snapshot
from immunos_mcp.ledger.session_start import NEVER, open_session, open_until

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.rules.circumstances import SessionSnapshot

BUSY = "another program is writing to the ledger"
TOO_MUCH = "there is much to read; run `immunos-mcp status`"
NOT_OPENED = "no session of this name is open; its first task, record or reset opens one"


class Look(Struct, frozen=True):
    """What a look knows.

    Attributes:
        conversation: the assistant's id of the conversation it belongs to; ``None``: not known.
        largest: the most bytes of transcripts that it reads; ``None``: no limit.
    """

    conversation: str | None = None
    largest: int | None = None


class Seen(Struct, frozen=True):
    """What a look saw: the session, and why some usage is not counted; ``None``: all of it is."""

    snapshot: SessionSnapshot
    obstacle: str | None


class Looks:
    """Opens one session at the first look, and takes over what was logged at each one.

    Any other name may be a typing error, so a look opens no session under it.

    Attributes:
        follower: reads what was logged.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: str,
        follower: Follower,
        places: tuple[str, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._places = places
        self._session = session
        self.follower = follower
        self._open_until = NEVER

    async def look(self, name: str, now: datetime, look: Look) -> Seen:
        """Open the session if need be, count what was logged, and return the session."""
        seen = await self._look(name, now, look)
        if seen.snapshot.session.session_id is not None or seen.obstacle is not None:
            return seen
        if not self.follower.exist():
            return seen
        if name != self._session:
            return replace(seen, obstacle=NOT_OPENED)
        # It was open at the last look, in a ledger that was since replaced, or in a longer window.
        self._open_until = NEVER
        return await self._look(name, now, look)

    async def open(
        self, name: str, now: datetime, conversation: str | None = None, *, is_patient: bool = True
    ) -> None:
        """Open the session that looks open, if it is meant and assistants log their usage here.

        It begins with the conversation's first line, or that of the first active conversation.

        Raises:
            LedgerError: it cannot be opened.
        """
        if name != self._session or now < self._open_until or not self.follower.exist():
            return
        self._open_until = await self._ledger.read(open_until, name, now)
        if now < self._open_until:
            return
        write = self._ledger.write if is_patient else self._ledger.write_soon
        since = self.follower.beginning(now, conversation) or now
        self._open_until = await write(open_session, name, now, since)
        self.follower.look_back()

    async def _look(self, name: str, now: datetime, look: Look) -> Seen:
        obstacle = await self._catch_up(name, now, look)
        snapshot = await self._ledger.read(session_snapshot, name, now, self._places)
        return Seen(snapshot, obstacle)

    async def _catch_up(self, name: str, now: datetime, look: Look) -> str | None:
        try:
            await self.open(name, now, look.conversation, is_patient=False)
            is_complete = await self.follower.catch_up(now, look.largest, is_patient=False)
        except LedgerBusyError:
            return BUSY
        except LedgerError as error:
            return str(error)
        return None if is_complete else TOO_MUCH
