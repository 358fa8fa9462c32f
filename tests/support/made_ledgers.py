"""Ledgers that were made once and are copied, since making the tables takes longer than most tests."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.ledger.connections.sqlite_file import connect

if TYPE_CHECKING:
    from collections.abc import Callable


def put(file: Path, made: bytes) -> None:
    """Write a ledger where the program would make one, with the rights that it would give it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        stream.write(made)


def made_by(fill: Callable[[InlineSqliteLedger], object]) -> bytes:
    """Return the ledger that ``fill`` leaves."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        with InlineSqliteLedger(file) as ledger:
            fill(ledger)
        return file.read_bytes()


@cache
def empty() -> bytes:
    """Return a ledger that has all its tables and no rows."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        connect(file, 30).close()
        return file.read_bytes()
