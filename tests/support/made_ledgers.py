"""Ledgers that were made once and are copied, since making the tables takes longer than most tests."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from immunos_mcp.ledger.connections import sqlite_file
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


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


_making = Lock()


def copy_new_ones(patched: pytest.MonkeyPatch) -> None:
    """Let what opens a ledger that is not there find a copy of an empty one."""
    make_private = sqlite_file._make_private  # pyright: ignore[reportPrivateUsage]
    made = empty()

    def make(path: Path) -> None:
        with _making:  # or another thread might open a part of it
            is_new = not path.exists()
            make_private(path)
            if is_new:
                path.write_bytes(made)

    patched.setattr(sqlite_file, "_make_private", make)


@cache
def empty() -> bytes:
    """Return a ledger that has all its tables and no rows."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        sqlite_file.connect(file, 30).close()
        return file.read_bytes()
