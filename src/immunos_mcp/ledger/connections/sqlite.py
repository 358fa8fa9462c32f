"""A ledger in one SQLite file: runs operations, each in one transaction.

SQLite makes transactions of several processes wait for each other. Subclasses decide which thread an
operation runs on: ``threaded.py`` for a server, ``inline.py`` for a command.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from immunos_mcp.errors import LedgerError, LedgerReplacedError
from immunos_mcp.ledger.connections.sqlite_file import (
    busy_timeout,
    transaction,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from immunos_mcp.ledger.connections.sqlite_connection import SqliteConnection
    from immunos_mcp.ledger.dialect import Connection

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

BUSY_TIMEOUT_SECONDS = 30.0
"""How long a transaction waits for other programs writing to the ledger."""

WRITING = "BEGIN IMMEDIATE"
"""Begins a transaction that may write."""

SOON_SECONDS = 1.0
"""How long a transaction waits that can be put off."""


class SqliteLedger(ABC):
    """A ledger in one SQLite file, opened on first use.

    Every method raises ``LedgerError`` if the file cannot be used, and whatever its operation raises.
    In both cases nothing has changed, and a later call tries again.
    """

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self.path = path
        self.busy_timeout_seconds = busy_timeout_seconds
        self.replacements = 0
        """How often the files turned out to be others; what was cached of them is out of date then."""

    async def read(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run a read-only operation on one snapshot."""
        return await self._run_reading(
            lambda connection: self._transact(
                connection, "BEGIN", lambda: operation(connection, *arguments, **named)
            )
        )

    async def write(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run an operation that may write; either all of its changes are stored or none."""
        return await self._run(
            lambda connection: self._transact(
                connection, WRITING, lambda: operation(connection, *arguments, **named)
            )
        )

    async def write_soon(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Like ``write``, but wait ``SOON_SECONDS`` at most for other writers.

        If they take longer, the operation may still run later, so it must be one that may be repeated.

        Raises:
            LedgerBusyError: they take longer.
        """

        def hastily(connection: SqliteConnection) -> Result:
            patience = min(SOON_SECONDS, self.busy_timeout_seconds)
            with busy_timeout(connection, patience, self.busy_timeout_seconds):
                return self._transact(
                    connection,
                    WRITING,
                    lambda: operation(connection, *arguments, **named),
                )

        return await self._run_soon(hastily)

    async def compact(self) -> None:
        """Return the space of deleted rows to the file system."""

        def vacuum(connection: SqliteConnection) -> None:
            with translated(self.path):
                connection.execute("VACUUM")

        await self._run(vacuum)

    async def _run_reading(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work``, which only reads."""
        return await self._run(work)

    async def _run_soon(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work``, which waits for other programs no longer than ``SOON_SECONDS``."""
        return await self._run(work)

    @abstractmethod
    async def _run(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work`` on the open connection, in turn with all other calls."""

    def _transact(
        self, connection: SqliteConnection, begin: str, operation: Callable[[], Result]
    ) -> Result:
        files = connection.open_files
        with translated(self.path, connection):
            if not files.are_in_place():
                raise LedgerReplacedError(
                    f"ledger {self.path} was deleted, moved or replaced while it was open; try again"
                )
            with transaction(connection, begin):
                result = operation()
        if begin == WRITING and not files.are_in_place():
            raise LedgerError(
                f"ledger {self.path} was deleted, moved or replaced meanwhile: nothing was stored in the"
                " file that is there now; try again"
            )
        return result
