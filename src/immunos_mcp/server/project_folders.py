"""Which folders a client may open to delegated tasks: a project's, never all of a home or of the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def project_folders(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the project's folder: the one a client names, else the one it started the server in."""
    try:
        folder = Path(environment.get("CLAUDE_PROJECT_DIR") or Path.cwd())
    except OSError:
        # The folder that the server was started in is gone.
        return ()
    return narrow_enough([folder])


def root_folders(uris: Iterable[str]) -> tuple[Path, ...]:
    """Return the folders that a client's roots name, however wide."""
    folders: list[Path] = []
    for uri in uris:
        try:
            parts = urlsplit(uri)
        except ValueError:
            continue
        path = unquote_to_bytes(parts.path)
        if parts.scheme == "file" and path.startswith(b"/") and b"\0" not in path:
            folders.append(Path(os.fsdecode(path)))
    return tuple(folders)


def narrow_enough(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Leave out folders that are, or contain, a home of this user, whatever links lead there."""
    homes = [os.path.realpath(home) for home in _homes()]
    return tuple(
        folder
        for folder in folders
        if folder.is_absolute()
        and (place := Path(os.path.realpath(folder))) != Path(place.anchor)
        and not any(Path(home).is_relative_to(place) for home in homes)
    )


def _homes() -> set[str]:
    homes = {os.path.expanduser("~")}  # noqa: PTH111  # Path.home() raises where there is none
    try:
        import pwd

        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):
        pass  # not a POSIX system, or a user without an entry
    return {home for home in homes if os.path.isabs(home)}  # noqa: PTH117  # texts
