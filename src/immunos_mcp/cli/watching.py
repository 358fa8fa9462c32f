"""The command ``watch``: a live screen of budgets, usage and decisions."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp import options
from immunos_mcp.answers.encoding import to_json
from immunos_mcp.answers.watch import WatchAnswer
from immunos_mcp.archive import Archive
from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import EXIT_FINE, chosen_options, print_text, use_utf_8
from immunos_mcp.errors import LedgerBusyError, LedgerError, OutputError
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.router import Router
from immunos_mcp.rules.kept_local import kept_local_usd

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from immunos_mcp.answers.watch import UsageToday
    from immunos_mcp.cli.frame import Painter
    from immunos_mcp.cli.live_screen import LiveScreen
    from immunos_mcp.ledger.connections.ledger import InlineLedger

TICK_SECONDS = 1.0
NEWEST_DECISIONS = 50
BUSY_TIMEOUT_SECONDS = 0.25
"""How long a key may wait for another program that has locked the ledger."""

SHARE_OF_TIME = 200
"""Reading that takes a second is done once in so many seconds at most."""


class Rhythm:
    """Says when something may be done again that must take a small part of the time only."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def is_due(self) -> bool:
        """Return whether it may be done now."""
        return time.monotonic() >= self._next_at

    def took(self, seconds: float) -> None:
        """Put the next time off by how long this one took."""
        self._next_at = time.monotonic() + SHARE_OF_TIME * seconds


class View(NamedTuple):
    """What is shown.

    Attributes:
        seen: what was last read; ``None``: nothing yet.
        trouble: why it may be out of date.
    """

    seen: WatchAnswer | None = None
    trouble: str | None = None


class Watcher:
    """Looks at a ledger, and reads it only where something has changed."""

    def __init__(
        self, ledger: InlineLedger, file: Path | None, router: Router, archive: Archive,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:  # fmt: skip
        self._ledger, self._file = ledger, file
        self._router, self._archive = router, archive
        self._clock = clock
        self._mark: tuple[object, ...] | None = None
        self._today: UsageToday | None = None
        self._today_mark: tuple[object, ...] | None = None
        self._logs, self._day = Rhythm(), Rhythm()
        self.view = View()

    def look(self) -> View:
        """Return what is to be shown now."""
        if self._file is not None and not self._file.exists():
            self._ledger.close()
            self._mark = None
            trouble = f"there is no ledger {self._file}; it is created when a client starts"
            self.view = View(None, trouble)
            return self.view
        try:
            self._take_over_logs()
            self._read_changes()
        except LedgerError as error:
            # The next connection counts changes anew.
            self._mark = None
            self.view = self.view._replace(trouble=str(error))
        return self.view

    def _take_over_logs(self) -> None:
        if not self._logs.is_due():
            return
        began = time.monotonic()
        with suppress(LedgerBusyError):  # the status says so
            run_sync(self._router.catch_up(is_patient=False))
        self._logs.took(time.monotonic() - began)

    def _read_changes(self) -> None:
        now = self._clock()
        # Paces and windows move on though nothing changes.
        minute = now.replace(second=0, microsecond=0)
        mark = (*run_sync(self._archive.change_mark()), minute)
        is_new = mark != self._mark or self.view.trouble is not None
        is_day_new = mark != self._today_mark and self._day.is_due()
        if not is_new and not is_day_new:
            return
        if is_day_new or self._today is None:
            began = time.monotonic()
            self._today = run_sync(self._archive.usage_today())
            self._today_mark = mark
            self._day.took(time.monotonic() - began)
        status = run_sync(self._router.get_session_status())
        settings = run_sync(self._router.get_config())
        decisions = run_sync(self._archive.list_decisions(NEWEST_DECISIONS, None))
        kept_local = kept_local_usd(status.ollama_tokens, settings, now)
        self._mark = mark
        self.view = View(WatchAnswer(now, status, self._today, decisions, kept_local))


def _watch(given: Namespace) -> int:
    chosen = chosen_options(given)
    is_snapshot = given.once or given.json
    if not is_snapshot and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise OutputError("watch needs a terminal; use `immunos-mcp watch --once` without one")
    painter = None if given.json else _painter()
    with inline_ledger(chosen.database, BUSY_TIMEOUT_SECONDS) as ledger:
        follower = transcript_follower(ledger, chosen)
        watcher = Watcher(
            ledger,
            options.file_of(chosen.database),
            Router(
                ledger,
                chosen.session,
                follower=follower,
                opened_by_looks=options.configured_session(os.environ),
                places=options.working_folders(os.environ),
            ),
            Archive(ledger, follower=follower),
        )
        if painter is None or is_snapshot:
            return _show_once(watcher.look(), painter)
        from immunos_mcp.cli.live_screen import LiveScreen

        with LiveScreen() as screen:
            _run(watcher, painter, screen)
    return EXIT_FINE


def _painter() -> Painter:
    try:
        from immunos_mcp.cli.frame import Painter
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("rich"):
            raise
        raise OutputError(
            "watch needs the package rich; install it with `pip install 'immunos-mcp[watch]'`,"
            " or use `immunos-mcp watch --json`"
        ) from None
    return Painter(has_colours="NO_COLOR" not in os.environ)


def _show_once(view: View, painter: Painter | None) -> int:
    if view.seen is None:
        raise LedgerError(view.trouble or "the ledger cannot be read")
    if painter is None:
        print_text(to_json(view.seen))
        return EXIT_FINE
    use_utf_8()
    width, height = _size()
    lines = painter.plain(view.seen, view.trouble, width, height)
    print_text("\n".join(line.rstrip() for line in lines).rstrip())
    return EXIT_FINE


def _size() -> tuple[int, int]:
    from shutil import get_terminal_size

    width, height = get_terminal_size()
    return width, height - 1


def _run(watcher: Watcher, painter: Painter, screen: LiveScreen) -> None:
    while True:
        view = watcher.look()
        width, height = screen.size()
        screen.show(painter.lines(view.seen, view.trouble, width, height))
        if screen.wait(TICK_SECONDS):
            return


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--once", action="store_true", help="print the screen once, also without a terminal"
    )


COMMANDS = (
    Command(
        "watch",
        "watch budgets, usage and decisions live; q quits",
        "watch",
        _watch,
        _add_arguments,
    ),
)
