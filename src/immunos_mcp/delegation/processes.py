"""Which process runs a task, and whether it still can."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.domain import TaskState

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.domain import DelegatedTask

SILENCE = timedelta(seconds=30)
"""A process that said nothing of its task for so long has ended, or its machine sleeps."""

_GOING_ON = frozenset({TaskState.WAITING, TaskState.RUNNING})


def this_process() -> str:
    """Return the name of this process: its host and number."""
    return f"{platform.node()}:{os.getpid()}"


def state_of(task: DelegatedTask, now: datetime) -> TaskState:
    """Return how a task stands, knowing whether its process still runs."""
    if task.state in _GOING_ON and (now - task.seen_at > SILENCE or _has_ended(task.process)):
        return TaskState.LOST
    return task.state


def is_going_on(state: TaskState) -> bool:
    """Return whether a task is not over."""
    return state in _GOING_ON


def _has_ended(process: str) -> bool:
    """Return whether a process of this machine is known to have ended."""
    host, _, number = process.rpartition(":")
    if host != platform.node() or os.name != "posix":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    # In a container nobody may ask what became of a process.
    with suppress(OSError):
        return b") Z " in Path("/proc", number, "stat").read_bytes()
    return False
