"""The file that takes a task's result while it comes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ResultFile:
    """A new file that grows with a result: what came is there, whatever becomes of the rest.

    Raises:
        OSError: the file is there already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("x", encoding="utf-8")
        self._has_begun = False

    def add(self, text: str) -> None:
        """Take the next piece, for everybody to read; blanks before the first word are left out."""
        if not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        self._file.write(text)
        self._file.flush()

    def complete(self, text: str) -> None:
        """Leave the whole result, as it is handed back, in place of the pieces."""
        with self._file:
            self._file.seek(0)
            self._file.write(text + "\n")
            self._file.truncate()

    def abandon(self, *, keep: bool) -> bool:
        """Close a file whose result will not come; return whether it stays.

        Args:
            keep: whether what came is worth keeping, if anything did.
        """
        # Pieces that the disk did not take may be waiting still.
        with suppress(OSError):
            self._file.close()
        if keep and self.path.stat().st_size > 0:
            return True
        self.path.unlink()
        return False
