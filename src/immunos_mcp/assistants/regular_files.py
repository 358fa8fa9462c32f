"""Opens files of other programs without ever waiting for a named pipe, a device or a socket."""

from __future__ import annotations

import errno
import os
from stat import S_ISREG
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def opener(path: str, flags: int) -> int:
    """Open a regular file; this is an ``opener`` of ``open()``.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    descriptor = os.open(path, flags | _NO_WAIT)
    if S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "Not a regular file", path)


def content(path: Path, most: int) -> bytes:
    """Return all that is in a regular file.

    Raises:
        OSError: it is something else, larger than ``most`` bytes, or cannot be read.
    """
    with open(path, "rb", opener=opener) as file:  # Path.open() takes no opener
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"Larger than {most >> 20} MiB", str(path))
    return found
