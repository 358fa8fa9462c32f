"""Cost of three budgets on a ledger with a million measured responses, compared with one of a thousand.

Both ledgers have half a year of one person's work in three projects, with the same budgets and reservations. A
server on each, and two commands, get the same calls in turn. Before each status a response is recorded, so
that something has to be summed up again. Setting the first budget sums up all history, which is shown apart.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from budgets import SETTINGS, TASK, USAGE, timed
from growth import compare
from side_by_side import (
    Figure,
    ServerProcess,
    argument_parser,
    environment,
    immunos_command,
    ledger_path,
    report,
    temporary_home,
)

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

FEW = 1000
SPAN = timedelta(days=180)
PLACES = (
    ("/home/me/app", "claude-sonnet-4-5"),
    ("/home/me/app/web", "claude-opus-4-5"),
    ("/home/me/site", "claude-haiku-4-5"),
)
HOOK = {"event": "PreToolUse", "session_id": "c", "tool": "Task"}
COLUMNS = (
    "message_id, measured_at, model, provider, input_tokens, output_tokens,"
    " cache_creation_input_tokens, cache_read_input_tokens, folder, request_id, assistant,"
    " conversation, cache_1h_input_tokens"
)


def responses(rows: int) -> Generator[tuple[object, ...]]:
    """Return rows of measured usage, the same every time."""
    dice, now = random.Random(1), datetime.now(UTC)  # noqa: S311  # the same ledger every time
    for row in range(rows):
        folder, model = dice.choice(PLACES)
        yield (
            f"msg_{row:032x}", utc_text(now - SPAN * (1 - row / rows)), model, "claude",
            dice.randrange(5000), dice.randrange(2000), dice.randrange(3000), dice.randrange(90_000),
            folder, f"req_{row}", "claude-code", f"conversation {row // 200}", 0,
        )  # fmt: skip


def make_ledger(home: Path, rows: int) -> float:
    """Fill a ledger and set its budgets; return the CPU seconds that the setting took."""
    file = ledger_path(home)
    with InlineSqliteLedger(file) as ledger:
        run_sync(Router(ledger, "default", lambda: datetime.now(UTC) - SPAN).open_session())
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            f"INSERT INTO immunos_mcp_measured_usage ({COLUMNS})"  # noqa: S608  # constants
            f" VALUES ({', '.join('?' * 13)})",
            responses(rows),
        )
    before = _children_seconds()
    command = (*immunos_command(), "config", "set", *SETTINGS)
    subprocess.run(command, env=environment(home), stdout=subprocess.DEVNULL, check=True)
    return _children_seconds() - before


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Caller:
    """A server on one ledger, and the calls that are measured on it."""

    def __init__(self, server: ServerProcess, home: Path) -> None:
        self._server = server
        self._home = home

    def route_task(self) -> float:
        """Route a task, and finish it untimed."""
        return timed(self._server)

    def record_usage(self) -> float:
        """Report a response."""
        return self._server.timed_call("record_usage", USAGE)[0]

    def status(self) -> float:
        """Ask for a status after a response."""
        self.record_usage()
        return self._server.timed_call("get_session_status", {})[0]

    def hook(self) -> float:
        """Let a hook be answered before a tool."""
        self._server.send_call("claude_code_hook", HOOK)
        start = time.perf_counter()
        self._server.receive()
        return time.perf_counter() - start

    def check(self) -> float:
        """Check a budget as a script does."""
        return self._command(b"", "check", "--budget", "daily")

    def status_line(self) -> float:
        """Refresh the status line."""
        return self._command(b'{"session_id": "c"}', "statusline")

    def _command(self, given: bytes, *arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            (*immunos_command(), *arguments),
            env=environment(self._home),
            input=given,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - start


def compared(homes: Sequence[Path], calls: int, starts: int) -> list[Figure]:
    """Return the figures of both ledgers."""
    with (
        ServerProcess(immunos_command(), homes[0]) as full_server,
        ServerProcess(immunos_command(), homes[1]) as small_server,
    ):
        full, small = Caller(full_server, homes[0]), Caller(small_server, homes[1])
        for server in (full_server, small_server):
            server.timed_call("route_task", TASK)
        return [
            compare("route_task", calls, full.route_task, small.route_task),
            compare("record_usage", calls, full.record_usage, small.record_usage),
            compare("get_session_status", calls, full.status, small.status),
            compare("a hook before a tool", calls, full.hook, small.hook),
            compare("immunos-mcp check", starts, full.check, small.check),
            compare("immunos-mcp statusline", starts, full.status_line, small.status_line),
        ]


def main() -> None:
    """Compare both."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="measured responses")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind")
    parser.add_argument("--starts", type=int, default=25, help="runs of each command")
    given = parser.parse_args()
    with temporary_home() as home:
        homes = home / "full", home / "small"
        seconds: list[float] = []
        for folder, rows in zip(homes, (given.rows, FEW), strict=True):
            folder.mkdir()
            seconds.append(make_ledger(folder, rows))
        figures = compared(homes, given.calls, given.starts)
    figures.append(Figure("setting the first budget, CPU time", seconds[0] * 1000, "ms"))
    notes = [f"{given.rows} measured responses of half a year; reference: {FEW}"]
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
