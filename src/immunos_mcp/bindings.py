"""The use cases of sessions that count the usage of one project folder only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.sessions import BindAnswer
from immunos_mcp.ledger.sessions import bind_session, list_bindings, remove_bindings
from immunos_mcp.rules import names

if TYPE_CHECKING:
    from immunos_mcp.ledger.connections.ledger import Ledger


class Bindings:
    """Which sessions count the measured usage of one project folder only.

    A binding holds from a session's next start; the open session goes on as it is.
    """

    def __init__(self, ledger: Ledger, default_session: str) -> None:
        """Create the use cases; ``default_session`` is bound where none is named."""
        self._ledger = ledger
        self._default_session = default_session

    async def add(self, folder: str, session: str | None = None) -> BindAnswer:
        """Make a session count one folder only.

        Raises:
            InvalidInputError: the session's name is invalid.
        """
        name = self._default_session if session is None else names.check_session_name(session)
        await self._ledger.write(bind_session, name, folder)
        return BindAnswer(name, folder)

    async def all(self) -> tuple[BindAnswer, ...]:
        """Return all bindings, by session name."""
        return await self._ledger.read(list_bindings)

    async def remove(self, session: str | None) -> tuple[BindAnswer, ...]:
        """Let one session, or (``None``) each, count all projects; return what was removed.

        Raises:
            InvalidInputError: the session is not bound.
        """
        name = None if session is None else names.check_session_name(session)
        return await self._ledger.write(remove_bindings, name)
