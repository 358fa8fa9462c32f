"""Notices that a ledger's files were deleted, moved or replaced while they are open.

SQLite goes on writing into the files that it opened, whatever has become of their names: what is stored
then is in a file that nobody will open again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_LOG = 1


class OpenFiles:
    """The files of an open ledger: the database, its write-ahead log and the log's index."""

    def __init__(self, path: Path) -> None:
        self._names = tuple(f"{path}{ending}" for ending in ("", "-wal", "-shm"))
        self._opened = [_identity(name) for name in self._names]

    def are_in_place(self) -> bool:
        """Return whether the names still lead to the files that were opened; takes microseconds."""
        for position, name in enumerate(self._names):
            found, opened = _identity(name), self._opened[position]
            if opened is None:
                # SQLite makes the log and its index when it first needs them.
                self._opened[position] = found
            elif found != opened:
                return False
        return True

    def has_lost_its_log_alone(self) -> bool:
        """Return whether the log was deleted, nobody has begun another, and the database is there."""
        database, log = _identity(self._names[0]), _identity(self._names[_LOG])
        return database == self._opened[0] and log is None


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116  # at each call
    except OSError:
        return None
    return found.st_dev, found.st_ino
