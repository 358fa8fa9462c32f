"""The ledger of a server: SQLite on its own thread, through aiosqlite.

An operation is one trip to that thread, because a trip costs about as much as all of its SQL.
Operations queue there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Self, TypeVar, cast

import aiosqlite

from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.connections.sqlite import BUSY_TIMEOUT_SECONDS, SqliteLedger
from immunos_mcp.ledger.connections.sqlite_file import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from immunos_mcp.ledger.dialect import Connection

Result = TypeVar("Result")


class _ConnectionThread(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function in its thread.

    aiosqlite offers this only to subclasses, and untyped.
    """

    async def in_thread(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` on the SQLite connection, after all earlier calls."""
        result = await self._execute(work, self._conn)  # pyright: ignore[reportUnknownMemberType]
        return cast("Result", result)


class ThreadedSqliteLedger(SqliteLedger):
    """A ledger whose operations several tasks may call at once; close it after use."""

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        super().__init__(path, busy_timeout_seconds)
        self._connection: _ConnectionThread | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let queued operations finish and close the file; closing twice is harmless."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _run(self, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in the connection's thread, after all earlier calls."""
        connection = self._connection or await self._open()
        try:
            return await connection.in_thread(work)
        except LedgerError:
            # The fix may be a new file at the same path, so the next call opens it again.
            if self._connection is connection:
                await self.close()
            raise

    async def _open(self) -> _ConnectionThread:
        async with self._opening:
            if self._connection is None:
                self._connection = await self._opened()
            return self._connection

    async def _opened(self) -> _ConnectionThread:
        failures: list[LedgerError] = []

        def opener() -> sqlite3.Connection:
            try:
                return connect(self.path, self.busy_timeout_seconds)
            except LedgerError as error:
                # If opening fails, aiosqlite leaves its thread running past the event loop; closing an
                # open connection ends it.
                failures.append(error)
                return sqlite3.connect(":memory:", check_same_thread=False)

        opening = _ConnectionThread(opener, iter_chunk_size=64)
        connection = cast("_ConnectionThread", await opening)
        if failures:
            await connection.close()
            raise failures[0]
        return connection
