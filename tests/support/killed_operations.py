"""Runs each operation that writes in a process that is killed meanwhile, or after its answer.

The argument is a folder with a ledger for each, named ``OPERATION-MOMENT``.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ledger_operations import OPERATIONS, WRITES

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.dialect import Connection

MOMENTS = ("changed", "complete", "answered")
"""After its first change, before its changes are committed, and once they are."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killer(moment: str) -> Callable[[str], None]:
    """Return what is told every statement before it runs, and ends the process at the moment."""
    has_changed = False

    def statement_starts(statement: str) -> None:
        nonlocal has_changed
        if statement == "COMMIT" or (moment == "changed" and has_changed):
            die()
        has_changed = statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))

    return statement_starts


def run_and_die(name: str, moment: str, file: Path) -> None:
    def watch(connection: Connection) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(killer(moment))

    with InlineSqliteLedger(file) as ledger:
        if moment != "answered":
            run_sync(ledger._run(watch))  # no transaction  # pyright: ignore[reportPrivateUsage]
        run_sync(OPERATIONS[name].on(ledger))
        die()


def main(folder: Path) -> None:
    for name in WRITES:
        for moment in MOMENTS:
            child = os.fork()
            if not child:
                run_and_die(name, moment, folder / f"{name}-{moment}")
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == signal.SIGKILL, (name, moment)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
