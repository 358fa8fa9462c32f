"""The file that a task's result is written to as it arrives."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ResultFile:
    """A new file that grows with a result, so that what arrived is kept even if the task fails.

    Raises:
        OSError: the file exists or cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("x", encoding="utf-8")
        self._has_begun = False

    def add(self, text: str) -> None:
        """Append a piece and flush it; leading whitespace of the result is dropped."""
        if not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        self._file.write(text)
        self._file.flush()

    def complete(self, text: str) -> None:
        """Replace the pieces with the final result."""
        with self._file:
            self._file.seek(0)
            self._file.write(text + "\n")
            self._file.truncate()

    def abandon(self, *, keep: bool) -> bool:
        """Close the file of a task that failed; return whether the file was kept.

        Args:
            keep: keep the file if it is not empty.
        """
        # Closing may fail to flush pieces that did not fit on the disk.
        with suppress(OSError):
            self._file.close()
        if keep and self.path.stat().st_size > 0:
            return True
        self.path.unlink()
        return False
