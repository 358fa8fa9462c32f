"""A bounded copy of a project, in which a command may do what it likes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.delegation.patterns import IGNORED_FOLDERS
from immunos_mcp.delegation.secrets import is_secret_place

if TYPE_CHECKING:
    from collections.abc import Generator
    from threading import Event

MOST_ENTRIES = 20_000
MOST_BYTES = 256 * 2**20

_CHUNK = 2**20
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class CopyLimitError(Exception):
    """A project is too large, or nobody waits any more; the message is the end of a sentence."""


@contextmanager
def scratch_folder() -> Generator[Path]:
    """Create a folder for this user only, and delete it afterwards with whatever is in it then."""
    folder = Path(tempfile.mkdtemp(prefix="immunos-check-"))
    try:
        yield folder
    finally:
        _delete(folder)


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # What ran in it may have taken away permissions.
        for path, _folders, _files in os.walk(folder):
            Path(path).chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def copy_project(project: Path, target: Path, stop: Event) -> None:
    """Copy a project's regular files, but secrets, version control and installed packages.

    Links are neither followed nor copied, and what cannot be read is left out.

    Raises:
        CopyLimitError: there is too much.
        OSError: the copy cannot be written.
    """
    _Copying(project, target, stop).run()


class _Copying:
    """One copy, and what is left of its limits."""

    def __init__(self, project: Path, target: Path, stop: Event) -> None:
        self._project = project
        self._target = target
        self._stop = stop
        self._entries = MOST_ENTRIES
        self._bytes = MOST_BYTES

    def run(self) -> None:
        for path, folders, files, descriptor in os.fwalk(self._project):
            here = self._target / Path(path).relative_to(self._project)
            here.mkdir(exist_ok=True)
            folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
            self._spend(entries=len(folders) + len(files))
            for name in files:
                if not is_secret_place(Path(path, name)):
                    self._copy(name, descriptor, here / name)

    def _copy(self, name: str, folder: int, target: Path) -> None:
        try:
            # A device or a pipe that was opened could act or block.
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return
            descriptor = os.open(name, _FILE, dir_fd=folder)
        except OSError:
            return
        with open(descriptor, "rb", buffering=0) as source:  # noqa: PTH123  # a descriptor
            mode = os.fstat(source.fileno()).st_mode
            if not stat.S_ISREG(mode):
                return
            with target.open("xb") as copy:
                while chunk := source.read(_CHUNK):
                    self._spend(size=len(chunk))
                    copy.write(chunk)
        target.chmod(0o700 if mode & 0o100 else 0o600)

    def _spend(self, entries: int = 0, size: int = 0) -> None:
        self._entries -= entries
        self._bytes -= size
        if self._stop.is_set():
            raise CopyLimitError("nobody waits for it")
        if self._entries < 0:
            raise CopyLimitError(f"the project has more than {MOST_ENTRIES} files and folders")
        if self._bytes < 0:
            raise CopyLimitError(f"the project has more than {MOST_BYTES >> 20} MiB")
