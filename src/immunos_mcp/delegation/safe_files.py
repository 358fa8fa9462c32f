"""Opens files and folders without following a link, so that what was checked is what is read or written.

A path is resolved once and checked; then it is opened from its allowed folder, component by component.
A folder that is swapped for a link in between cannot be opened.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.options import expanded
from immunos_mcp.rules.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

LONGEST_PATH = 4_096

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FILE = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | getattr(os, "O_CLOEXEC", 0)

IS_SUPPORTED = bool(_NO_LINK) and os.open in os.supports_dir_fd


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder; ``Path.is_dir`` raises where a name is too long."""
    return os.path.isdir(path)  # noqa: PTH112


class Place(NamedTuple):
    """A path in an allowed folder, without links as far as it was resolved.

    Attributes:
        root: the allowed folder; if only the file itself was allowed, the folder it is in.
        parts: the names from there to the path.
        is_named: whether exactly this path was allowed.
        is_in_folder: whether the path is in an allowed folder.
    """

    root: Path
    parts: tuple[str, ...]
    is_named: bool = False
    is_in_folder: bool = True

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.root.joinpath(*self.parts)


class AllowedPaths:
    """The folders and files that a task may use.

    Raises:
        InvalidInputError: this system cannot open files without following links.
    """

    def __init__(self, allowed: Sequence[Path], field: str) -> None:
        if not IS_SUPPORTED:
            message = f"{field}: not supported on this system, which cannot open files safely"
            raise InvalidInputError(Problem(field, None, message=message))
        self._paths = [resolved(each) for each in allowed]
        folders = [path for path in self._paths if is_folder(path)]
        self._base = folders[0] if folders else Path.cwd()

    def whole(self, given: str, field: str) -> Path:
        """Return a path that a caller gave, relative to the first allowed folder unless absolute.

        Raises:
            InvalidInputError: it is no path.
        """
        try:
            is_path = b"\0" not in os.fsencode(given) and 0 < len(given) <= LONGEST_PATH
        except UnicodeEncodeError:
            is_path = False
        if not is_path:
            expected = f"a path of 1 to {LONGEST_PATH} characters, none of them NUL"
            raise InvalidInputError(Problem(field, given, expected))
        return self._base / expanded(given, field)

    def place_of(self, path: Path) -> Place | None:
        """Return where a path without links is; ``None``: outside."""
        is_named = path in self._paths
        for folder in self._paths:
            if path != folder and path.is_relative_to(folder):
                return Place(folder, path.relative_to(folder).parts, is_named)
        if is_named and is_folder(path):
            return Place(path, ())
        return Place(path.parent, (path.name,), is_named, is_in_folder=False) if is_named else None

    def listed(self) -> str:
        """Return the allowed paths as the end of a message."""
        listed = ", ".join(printable(str(path)) for path in self._paths)
        return listed or "none yet; allow one with --allow-path"


def resolved(path: Path) -> Path:
    """Return a path without links, as far as there are any now: those that appear later are not followed."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(os.path.normpath(path))


@contextmanager
def opened_folder(root: Path, parts: Sequence[str]) -> Generator[int]:
    """Open a folder component by component.

    Raises:
        OSError: it cannot be opened, or a component is a link.
    """
    with ExitStack() as stack:
        folder = os.open(root, _FOLDER | _NO_LINK)
        stack.callback(os.close, folder)
        for part in parts:
            folder = os.open(part, _FOLDER | _NO_LINK, dir_fd=folder)
            stack.callback(os.close, folder)
        yield folder


def open_to_read(place: Place) -> int:
    """Open a regular file.

    Raises:
        OSError: it cannot be opened, is no regular file, or a component is a link.
    """
    *folders, name = place.parts
    with opened_folder(place.root, folders) as folder:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        descriptor = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def create(place: Place) -> int:
    """Create a file, for this user only to begin with, and open it for writing.

    Raises:
        OSError: it exists or cannot be created, or a component is a link.
    """
    *folders, name = place.parts
    with opened_folder(place.root, folders) as folder:
        return os.open(name, _NEW_FILE, 0o666, dir_fd=folder)


def is_there(place: Place) -> bool:
    """Return whether there is anything at a path."""
    *folders, name = place.parts
    try:
        with opened_folder(place.root, folders) as folder:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def create_draft(place: Place) -> int:
    """Create a file and lock it; one that nobody has locked is a draft whose writer has ended, and replaced.

    Raises:
        OSError: it cannot be created, or its writer still writes it.
    """
    import fcntl

    *folders, name = place.parts
    with opened_folder(place.root, folders) as folder:
        try:
            abandoned = os.open(name, os.O_WRONLY | _NO_LINK, dir_fd=folder)
        except FileNotFoundError:
            abandoned = None
        if abandoned is not None:
            try:
                fcntl.flock(abandoned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(abandoned)
    descriptor = create(place)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def rename(place: Place, new: Place) -> bool:
    """Give a file another name in its folder; return whether that name was free."""
    *folders, old_name = place.parts
    new_name = new.parts[-1]
    try:
        with opened_folder(place.root, folders) as folder:
            os.link(old_name, new_name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            os.unlink(old_name, dir_fd=folder)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no links.
        if is_there(new):
            return False
        with opened_folder(place.root, folders) as folder:
            os.rename(old_name, new_name, src_dir_fd=folder, dst_dir_fd=folder)
    return True


def is_still(place: Place, descriptor: int) -> bool:
    """Return whether a path still names the file that is open."""
    *folders, name = place.parts
    try:
        with opened_folder(place.root, folders) as folder:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def remove(place: Place, descriptor: int) -> None:
    """Delete the file that is open, if its path still names it."""
    *folders, name = place.parts
    with opened_folder(place.root, folders) as folder:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if os.path.samestat(found, os.fstat(descriptor)):
            os.unlink(name, dir_fd=folder)
