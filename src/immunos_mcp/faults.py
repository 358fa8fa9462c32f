"""Bugs: the one line that names one to the user, and the background tasks that outlive them.

The traceback goes to the log, which a server writes to standard error.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import anyio

from immunos_mcp import __version__
from immunos_mcp.errors import bug_report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_RESTART_SECONDS = 1.0
LONGEST_RESTART_SECONDS = 300.0
"""Between these the wait before a restart doubles, so that a task that always fails fills no log."""

logger = logging.getLogger(__name__)


def report_bug(what: str, error: Exception) -> str:
    """Log the traceback of an unexpected exception; return the line for the user.

    After an upgrade, what a running server loads only now comes from the new version and may not fit:
    that is no bug, and the line says what to do instead.

    Args:
        what: what failed, as the beginning of the line.
        error: the exception.
    """
    newer = _installed_version()
    if newer in {None, __version__}:
        line = f"{what}: {bug_report(error)}"
    else:
        line = (
            f"{what}: immunos-mcp was upgraded from {__version__} to {newer}; restart this client"
        )
    logger.error("%s", line, exc_info=error)
    return line


def _installed_version() -> str | None:
    """Return the version that a start would run now; ``None``: it is not installed as a package."""
    from importlib.metadata import PackageNotFoundError, version  # only after a fault

    try:
        return version("immunos-mcp")
    except PackageNotFoundError:
        return None


def end_at_once(line: str) -> NoReturn:
    """End the process with a line on standard error, waiting for nothing: all answers are stored."""
    with suppress(OSError):
        print(f"immunos-mcp: {line}", file=sys.stderr, flush=True)
    os._exit(1)


async def keep_running(
    what: str,
    work: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> None:
    """Run a background task until it returns; after an unexpected exception it is started again.

    Args:
        what: the task, as the beginning of a line in the log.
        work: starts the task.
        sleep: waits for some seconds.
    """
    wait = FIRST_RESTART_SECONDS
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # the boundary of background tasks
            report_bug(what, error)
        else:
            return
        await sleep(wait)
        wait = min(2 * wait, LONGEST_RESTART_SECONDS)
