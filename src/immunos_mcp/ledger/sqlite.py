"""The ledger on a SQLite file, through aiosqlite.

Each operation is one transaction and one trip to the connection's thread: a trip costs about as
much as all of an operation's SQL. Operations of one process queue on that thread; operations of
several processes wait for each other in SQLite.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar, cast

import aiosqlite

from immunos_mcp.ledger import operations
from immunos_mcp.ledger.connection import connect, transaction, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from immunos_mcp.domain import (
        Decision,
        LoggedDecision,
        Reason,
        SessionRecord,
        SettingChange,
        Settings,
        Task,
        Usage,
    )
    from immunos_mcp.ledger.operations import Recorded, Reset, SettingsChanged, Standing
    from immunos_mcp.settings import SettingChangeValue

Result = TypeVar("Result")

BUSY_TIMEOUT_SECONDS = 30.0
"""How long an operation waits for other programs that are writing to the ledger."""


class _Connection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function in its thread.

    aiosqlite offers this to its subclasses only, and without types.
    """

    async def in_thread(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` on the SQLite connection, in turn with all other calls."""
        result = await self._execute(work, self._conn)  # pyright: ignore[reportUnknownMemberType]
        return cast("Result", result)


class SqliteLedger:
    """A ledger in one SQLite file, opened at the first operation.

    Every operation raises ``LedgerError`` when the file cannot be used, and
    ``InvalidStoredSettingsError`` when it holds settings that cannot; a later call tries anew. Times are
    aware. All operations may be called from several tasks at once.
    """

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self.path = path
        self._busy_timeout_seconds = busy_timeout_seconds
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let queued operations finish and close the file; closing twice is harmless."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def standing(self, name: str, now: datetime) -> tuple[Standing, dict[Reason, int]]:
        """Return a session as it is with its decisions by reason; opens and writes nothing."""
        return await self._read(lambda connection: operations.standing(connection, name, now))

    async def decide(
        self, name: str, now: datetime, task: Task, rule: Callable[[Standing], Decision]
    ) -> tuple[int, Decision]:
        """Let a pure rule decide a task on the session as it stands; log it and return its id."""
        return await self._write(
            lambda connection: operations.decide(connection, name, now, task, rule)
        )

    async def record(self, name: str, now: datetime, usage: Usage, source: str) -> Recorded:
        """Add a usage record to the session's totals and close the decision it belongs to.

        Raises:
            InvalidInputError: the decision is unknown or closed otherwise, or the request id stands
                for other usage. Nothing was changed.
        """
        return await self._write(
            lambda connection: operations.record(connection, name, now, usage, source)
        )

    async def reset(self, name: str, now: datetime, reason: str | None) -> Reset:
        """Close the open session of a name, if there is one, and open the next."""
        return await self._write(lambda connection: operations.reset(connection, name, now, reason))

    async def settings(self) -> Settings:
        """Return the settings in force."""
        return await self._read(operations.effective_settings)

    async def change_settings(
        self, changes: Mapping[str, SettingChangeValue], client: str, now: datetime
    ) -> SettingsChanged:
        """Apply all changes or none, and keep who changed what.

        Raises:
            InvalidInputError: it names every field that cannot be taken.
        """
        return await self._write(
            lambda connection: operations.change_settings(connection, changes, client, now)
        )

    async def unset_settings(
        self, names: tuple[str, ...], client: str, now: datetime
    ) -> SettingsChanged:
        """Return some settings to their defaults, and keep who did.

        Raises:
            InvalidInputError: there is no such setting.
        """
        return await self._write(
            lambda connection: operations.unset_settings(connection, names, client, now)
        )

    async def setting_changes(self, limit: int) -> tuple[SettingChange, ...]:
        """Return the newest changes of settings, newest first."""
        return await self._read(lambda connection: operations.setting_changes(connection, limit))

    async def decisions(self, name: str | None, limit: int) -> tuple[LoggedDecision, ...]:
        """Return the newest decisions of a session name, or of all, newest first."""
        return await self._read(lambda connection: operations.decisions(connection, name, limit))

    async def sessions(
        self, name: str | None, limit: int
    ) -> tuple[Settings, tuple[SessionRecord, ...]]:
        """Return the settings and the newest sessions of a name, or of all, newest first."""
        return await self._read(lambda connection: operations.sessions(connection, name, limit))

    async def revisions(self) -> tuple[Settings, dict[str, tuple[int, ...]]]:
        """Return the settings and, for each open session, figures that change with its status."""
        return await self._read(operations.revisions)

    async def _read(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._run("BEGIN", operation)

    async def _write(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._run("BEGIN IMMEDIATE", operation)

    async def _run(self, begin: str, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = self._connection or await self._open()
        return await connection.in_thread(partial(self._in_transaction, begin, operation))

    async def _open(self) -> _Connection:
        async with self._opening:
            if self._connection is None:
                opener = partial(connect, self.path, self._busy_timeout_seconds)
                self._connection = cast(
                    "_Connection", await _Connection(opener, iter_chunk_size=64)
                )
            return self._connection

    def _in_transaction(
        self,
        begin: str,
        operation: Callable[[sqlite3.Connection], Result],
        connection: sqlite3.Connection,
    ) -> Result:
        with translated(self.path), transaction(connection, begin):
            return operation(connection)
