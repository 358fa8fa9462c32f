"""The ledger of a server: SQLite on threads of its own, through aiosqlite.

An operation is one trip to a thread, because a trip costs about as much as all of its SQL. Writes
queue there; reads have a thread of their own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Self, TypeVar, cast

import aiosqlite

from immunos_mcp.errors import LedgerBusyError, LedgerError, LedgerReplacedError
from immunos_mcp.ledger.connections.of_person import LedgerOfPerson
from immunos_mcp.ledger.connections.sqlite import (
    BUSY_TIMEOUT_SECONDS,
    SOON_SECONDS,
    SqliteLedger,
)
from immunos_mcp.ledger.connections.sqlite_file import connect, let_go

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from immunos_mcp.ledger.connections.sqlite_connection import SqliteConnection

Result = TypeVar("Result")


class _ConnectionThread(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function in its thread.

    aiosqlite offers this only to subclasses, and untyped.
    """

    async def in_thread(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work`` on the SQLite connection, after all earlier calls."""
        result = await self._execute(work, self._conn)  # pyright: ignore[reportUnknownMemberType]
        return cast("Result", result)


class _OpenedOnUse:
    """A connection in a thread of its own, opened when it is first needed."""

    def __init__(self, path: Path, busy_timeout_seconds: float) -> None:
        self._path = path
        self._busy_timeout_seconds = busy_timeout_seconds
        self._connection: _ConnectionThread | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Let queued operations finish and close the file; closing twice is harmless."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.in_thread(let_go)
            await connection.close()

    async def run(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work`` in the connection's thread, after all earlier calls."""
        connection = self._connection or await self._open()
        try:
            return await connection.in_thread(work)
        except (LedgerBusyError, LedgerReplacedError):
            raise
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
                return connect(self._path, self._busy_timeout_seconds)
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


class ThreadedSqliteLedger(SqliteLedger):
    """A ledger whose operations several tasks may call at once; close it after use.

    Reads have a connection of their own, so that they do not queue behind a write that waits for
    another program.
    """

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        super().__init__(path, busy_timeout_seconds)
        self._writing = _OpenedOnUse(path, busy_timeout_seconds)
        self._reading = _OpenedOnUse(path, busy_timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    def for_person(self, person_id: int) -> LedgerOfPerson:
        """Return the same ledger, for what one of its people does."""
        return LedgerOfPerson(self, person_id)

    async def close(self) -> None:
        """Let queued operations finish and close the file; closing twice is harmless."""
        await self._reading.close()
        await self._writing.close()

    async def _run(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work`` in the writing connection's thread, after all earlier calls."""
        return await self._run_on(self._writing, work)

    async def _run_reading(self, work: Callable[[SqliteConnection], Result]) -> Result:
        return await self._run_on(self._reading, work)

    async def _run_on(
        self, thread: _OpenedOnUse, work: Callable[[SqliteConnection], Result]
    ) -> Result:
        try:
            return await thread.run(work)
        except LedgerReplacedError:
            # Both, since connections of one process share what they know of the files.
            await self.close()
            self.replacements += 1
            return await thread.run(work)

    async def _run_soon(self, work: Callable[[SqliteConnection], Result]) -> Result:
        # An earlier write of this process may be what takes long.
        try:
            async with asyncio.timeout(2 * SOON_SECONDS):
                return await self._run_on(self._writing, work)
        except TimeoutError:
            raise LedgerBusyError(f"ledger {self.path} is being written for too long") from None
