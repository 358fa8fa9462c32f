"""Which of Claude Code's conversations a program still runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from immunos_mcp.assistants import regular_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LARGEST = 2**20

_START_FIELD = 19
"""The place of a process's start in ``/proc/PID/stat``, counted after its name, which may have spaces."""


class _Session(Struct):
    pid: int = 0
    sessionId: str = ""  # noqa: N815  # the file's names, here and below
    procStart: str | None = None  # noqa: N815


_decode = Decoder(_Session).decode


def running_conversations(folders: Iterable[Path]) -> frozenset[str]:
    """Return the ids of the conversations that a program on this machine runs.

    Each program keeps a file in Claude Code's folder, which outlives it if it is killed.
    """
    sessions = (each for folder in folders for each in _sessions(folder / "sessions"))
    return frozenset(each.sessionId for each in sessions if _is_running(each))


def _sessions(folder: Path) -> Iterator[_Session]:
    for file in folder.glob("*.json"):
        try:
            yield _decode(regular_files.content(file, LARGEST))
        except (OSError, DecodeError, RecursionError):
            continue


def _is_running(session: _Session) -> bool:
    if session.pid <= 0:
        return False
    try:
        os.kill(session.pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    # Another program may have got the number since.
    start = _start(session.pid)
    return start is None or session.procStart is None or start == session.procStart


def _start(pid: int) -> str | None:
    """Return when a process began, as Linux counts it; ``None``: that is not known."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[_START_FIELD]
    except (OSError, IndexError):
        return None
