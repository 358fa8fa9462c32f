"""The ledger of a command: SQLite on the caller's thread, without an event loop.

An event loop and a thread would double the time of a command that reads one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from immunos_mcp.errors import LedgerError, LedgerReplacedError
from immunos_mcp.ledger.connections.sqlite import BUSY_TIMEOUT_SECONDS, SqliteLedger
from immunos_mcp.ledger.connections.sqlite_file import connect, let_go

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from immunos_mcp.ledger.connections.sqlite_connection import SqliteConnection

Result = TypeVar("Result")


class InlineSqliteLedger(SqliteLedger):
    """A ledger whose operations wait only for SQLite; close it after use."""

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        super().__init__(path, busy_timeout_seconds)
        self._connection: SqliteConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _run(self, work: Callable[[SqliteConnection], Result]) -> Result:
        """Run ``work`` on the calling thread."""
        if self._connection is None:
            self._connection = connect(self.path, self.busy_timeout_seconds)
        try:
            return work(self._connection)
        except LedgerReplacedError:
            let_go(self._connection)
            self.close()
            self.replacements += 1
            self._connection = connect(self.path, self.busy_timeout_seconds)
            return work(self._connection)
        except LedgerError:
            self.close()
            raise


def run_sync(use_case: Coroutine[Any, Any, Result]) -> Result:
    """Run a use case on an inline ledger to completion, without an event loop.

    Raises:
        RuntimeError: the use case awaited something other than an inline ledger.
    """
    try:
        use_case.send(None)
    except StopIteration as done:
        return done.value
    use_case.close()
    raise RuntimeError("a use case on an inline ledger must not await anything else")
