"""The file that a task's result is written to as it arrives.

Until it is complete it has ``.unfinished`` after its name, so that one which never was tells so and does not
block the next attempt.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from immunos_mcp.delegation import safe_files
from immunos_mcp.rules.formatting import encodable

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.delegation.safe_files import Place

UNFINISHED = ".unfinished"


class ResultFile:
    """A new file that grows with a result, so that what arrived is kept even if the task fails.

    Raises:
        OSError: the file exists or cannot be created, or another task is writing it.
    """

    def __init__(self, place: Place) -> None:
        self._finished = place
        *folders, name = place.parts
        self._place = place._replace(parts=(*folders, f"{name}{UNFINISHED}"))
        if safe_files.is_there(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._file = open(safe_files.create_draft(self._place), "w", encoding="utf-8")  # noqa: PTH123, SIM115  # a descriptor, closed by complete() or abandon()
        self._has_begun = False

    @property
    def path(self) -> Path:
        """Where the file is until it is complete."""
        return self._place.path

    def add(self, text: str) -> None:
        """Append a piece and flush it; leading whitespace of the result is dropped."""
        if not self._has_begun:
            text = text.lstrip()
            self._has_begun = bool(text)
        self._file.write(encodable(text))
        self._file.flush()

    def complete(self, text: str) -> bool:
        """Replace the pieces with the final result; return whether the file is in its place under its name."""
        self._file.seek(0)
        self._file.write(encodable(text) + "\n")
        self._file.truncate()
        self._file.flush()
        descriptor = self._file.fileno()
        try:
            return safe_files.is_still(self._place, descriptor) and safe_files.rename(
                self._place, self._finished
            )
        finally:
            self._file.close()

    def abandon(self, *, keep: bool) -> bool:
        """Close the file of a task that failed; return whether there is a file with what arrived.

        Args:
            keep: keep the file if it is not empty.
        """
        # Pieces may not fit on the disk, and the file may be gone.
        with suppress(OSError):
            self._file.flush()
        is_kept = False
        with suppress(OSError):
            descriptor = self._file.fileno()
            if keep and os.fstat(descriptor).st_size > 0:
                is_kept = safe_files.is_still(self._place, descriptor)
            else:
                safe_files.remove(self._place, descriptor)
        with suppress(OSError):
            self._file.close()
        return is_kept
