"""Cost of a ledger with a million decisions and a million usage records, compared with an empty one.

The full ledger is created by the project and filled with SQL: half a year of work, three fifths of it
in the open session, the rest in closed sessions and in the open sessions of named agents. The other
ledger has the same sessions and settings but no rows. A server on each ledger, and two commands, get
the same calls in turn. Finally, the router makes decisions, and the file size is measured before and
after.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from side_by_side import (
    Figure,
    ServerProcess,
    alternate,
    argument_parser,
    environment,
    immunos_command,
    ledger_path,
    median_against,
    report,
    temporary_home,
)

from immunos_mcp.domain import Classification
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.router import Router
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

GOAL = 1.1
BYTES_GOAL = 250
SESSION, UNUSED = "default", "nobody"
CLOSED_SESSIONS = 50
AGENT_SESSIONS = 200
SHARE_CLOSED, SHARE_AGENTS = 0.2, 0.2
SPAN = timedelta(days=180)
ENDLESS = 1_000_000_000_000
"""Thresholds of both ledgers, chosen so that the same policy row decides in both."""
CLAUDE = Settings().claude_model
MODELS = (*sorted(set(DEFAULT_TASK_MAPPINGS.values())), CLAUDE)
TASK_TYPES = (*DEFAULT_TASK_MAPPINGS, "translate")
TASK = {"task_type": "code_review", "classification": "routine", "estimated_tokens": 3000}
USAGE = {
    "model": CLAUDE,
    "input_tokens": 1200,
    "output_tokens": 300,
    "cache_creation_input_tokens": 2000,
    "cache_read_input_tokens": 40_000,
    "outcome": "success",
}


def agent(number: int) -> str:
    return f"agent-{number}"


def make_ledger(file: Path, rows: int) -> None:
    """Create a ledger with the project and fill it with rows of each kind."""
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, SESSION)
        for number in range(CLOSED_SESSIONS):
            run_sync(router.reset_session(f"end of week {number}"))
        for number in range(AGENT_SESSIONS):
            run_sync(router.reset_session(session=agent(number)))
        run_sync(
            router.update_config(
                {
                    "token_warning_threshold": ENDLESS,
                    "token_auto_switch_threshold": ENDLESS,
                    "session_limit": ENDLESS,
                },
                "benchmark",
            )
        )
        run_sync(router.route_task("code_review", "routine"))
    if rows:
        with closing(sqlite3.connect(file)) as connection:
            _fill(connection, rows)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill(connection: sqlite3.Connection, rows: int) -> None:
    connection.execute("PRAGMA cache_size = -1000000")
    sessions = [row[0] for row in connection.execute("SELECT session_id FROM immunos_mcp_session")]
    (policy_id,) = connection.execute("SELECT policy_id FROM immunos_mcp_policy").fetchone()
    (current,) = connection.execute(
        "SELECT session_id FROM immunos_mcp_session WHERE name = ? AND ended_at IS NULL",
        (SESSION,),
    ).fetchone()
    dice = random.Random(1)  # noqa: S311  # the same ledger every time
    with connection:
        connection.executemany(
            "INSERT INTO immunos_mcp_decision (decision_id, session_id, policy_id, decided_at,"
            " task_type, classification, estimated_tokens, session_tokens, model, provider, reason,"
            " warning_level, outcome, closed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'normal', 'success', ?)",
            _decisions(rows, policy_id, current, sessions, dice),
        )
        connection.executemany(
            "INSERT INTO immunos_mcp_usage (session_id, recorded_at, model, provider, source,"
            " external_id, input_tokens, output_tokens, cache_creation_input_tokens,"
            " cache_read_input_tokens, decision_id) VALUES (?, ?, ?, ?, 'reported', ?, ?, ?, ?, ?, ?)",
            _usage_records(rows, current, sessions, dice),
        )
        _add_up(connection)


def _session_of(row: int, rows: int, current: int, sessions: list[int]) -> int:
    closed, agents = sessions[: CLOSED_SESSIONS - 1], sessions[CLOSED_SESSIONS:]
    share = row / rows
    if share < SHARE_CLOSED:
        return closed[int(share / SHARE_CLOSED * len(closed))]
    if row % 100 < 100 * SHARE_AGENTS / (1 - SHARE_CLOSED):
        return agents[row // 100 % len(agents)]
    return current


def _moment(row: int, rows: int) -> str:
    return utc_text(datetime.now(UTC) - SPAN * (1 - row / rows))


def _decisions(
    rows: int, policy_id: int, current: int, sessions: list[int], dice: random.Random
) -> Generator[tuple[object, ...]]:
    classifications = tuple(Classification)
    for row in range(rows):
        task_type = dice.choice(TASK_TYPES)
        classification = dice.choice(classifications)
        model, provider, reason = CLAUDE, "claude", "default_complex"
        if classification is Classification.CRITICAL:
            reason = "task_critical"
        elif task_type in DEFAULT_TASK_MAPPINGS:
            model, provider = DEFAULT_TASK_MAPPINGS[task_type], "ollama"
            reason = "task_optimized"
        moment = _moment(row, rows)
        yield (
            row + 2,
            _session_of(row, rows, current, sessions),
            policy_id,
            moment,
            task_type,
            classification.value,
            dice.randrange(20_000) if row % 2 else None,
            row * 1000,
            model,
            provider,
            reason,
            moment,
        )


def _usage_records(
    rows: int, current: int, sessions: list[int], dice: random.Random
) -> Generator[tuple[object, ...]]:
    for row in range(rows):
        model = dice.choice(MODELS)
        is_claude = model == CLAUDE
        yield (
            _session_of(row, rows, current, sessions),
            _moment(row, rows),
            model,
            "claude" if is_claude else "ollama",
            f"msg_{dice.getrandbits(128):032x}",
            dice.randrange(5000),
            dice.randrange(2000),
            dice.randrange(10_000) if is_claude else 0,
            dice.randrange(100_000) if is_claude else 0,
            row + 2,
        )


def _add_up(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO immunos_mcp_session_reason (session_id, reason, decisions)"
        " SELECT session_id, reason, count(*) FROM immunos_mcp_decision WHERE true"
        " GROUP BY session_id, reason ON CONFLICT DO UPDATE SET decisions = excluded.decisions"
    )
    totals = connection.execute(
        "SELECT session_id, provider, count(*), sum(input_tokens), sum(output_tokens),"
        " sum(cache_creation_input_tokens), sum(cache_read_input_tokens)"
        " FROM immunos_mcp_usage GROUP BY session_id, provider"
    ).fetchall()
    update = {
        "claude": "UPDATE immunos_mcp_session SET usage_records = usage_records + ?,"
        " claude_input_tokens = ?, claude_output_tokens = ?,"
        " claude_cache_creation_input_tokens = ?, claude_cache_read_input_tokens = ?"
        " WHERE session_id = ?",
        "ollama": "UPDATE immunos_mcp_session SET usage_records = usage_records + ?,"
        " local_input_tokens = ?, local_output_tokens = ?,"
        " local_cache_creation_input_tokens = ?, local_cache_read_input_tokens = ?"
        " WHERE session_id = ?",
    }
    for session_id, provider, *figures in totals:
        connection.execute(update[provider], (*figures, session_id))


class Caller:
    """A server on one ledger, and the calls that are measured on it."""

    def __init__(self, server: ServerProcess, home: Path) -> None:
        self._server = server
        self._home = home
        self._decision_id = 0
        self._agents = itertools.cycle(agent(number) for number in range(AGENT_SESSIONS))

    def route_task(self) -> float:
        """Ask for a decision."""
        seconds, answer = self._server.timed_call("route_task", TASK)
        self._decision_id = answer["decision_id"]
        return seconds

    def record_usage(self) -> float:
        """Ask for a decision, then report its usage; only the report is timed."""
        self.route_task()
        usage = {
            **USAGE,
            "decision_id": self._decision_id,
            "request_id": f"msg_{uuid.uuid4().hex}",
        }
        return self._server.timed_call("record_usage", usage)[0]

    def get_session_status(self) -> float:
        """Ask for the status of the large session."""
        return self._server.timed_call("get_session_status", {})[0]

    def reset_session(self) -> float:
        """Reset a session that has decisions and usage, a different one each time."""
        return self._server.timed_call("reset_session", {"session": next(self._agents)})[0]

    def update_config(self) -> float:
        """Run a dry run for a session name without decisions."""
        change = {"session_limit": ENDLESS, "dry_run": True, "session": UNUSED}
        return self._server.timed_call("update_config", change)[0]

    def status_command(self) -> float:
        """Show the status of the large session."""
        return self._command("status")

    def history_command(self) -> float:
        """Show the decisions of a session name without any."""
        return self._command("history", "--session", UNUSED)

    def _command(self, *arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            (*immunos_command(), *arguments),
            check=True,
            env=environment(self._home),
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def compare(what: str, times: int, full: Callable[[], float], empty: Callable[[], float]) -> Figure:
    return median_against(what, *alternate(times, full, empty), goal=GOAL)


def file_bytes(file: Path) -> int:
    """Return the size of a ledger after a checkpoint of its write-ahead log."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.stat().st_size


def bytes_each(file: Path, count: int) -> tuple[float, float]:
    """Return what a decision adds to the file, as made and once its outcome is known.

    The outcome comes with a usage record, so the same records are made without one to subtract.
    """

    def growth(step: Callable[[Router, int], None]) -> float:
        before = file_bytes(file)
        with InlineSqliteLedger(file) as ledger:
            router = Router(ledger, SESSION)
            for number in range(count):
                step(router, number)
        return (file_bytes(file) - before) / count

    def decide(router: Router, number: int) -> int:
        answer = run_sync(
            router.route_task(
                TASK_TYPES[number % len(TASK_TYPES)],
                list(Classification)[number % len(Classification)],
                number if number % 2 else None,
            )
        )
        return answer.decision_id

    def only_decide(router: Router, number: int) -> None:
        decide(router, number)

    def only_record(router: Router, _number: int) -> None:
        run_sync(router.record_usage(CLAUDE, 1200, 300))

    def decide_and_record(router: Router, number: int) -> None:
        decision_id = decide(router, number)
        run_sync(router.record_usage(CLAUDE, 1200, 300, decision_id=decision_id, outcome="success"))

    return growth(only_decide), growth(decide_and_record) - growth(only_record)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="decisions, and usage records")
    parser.add_argument("--calls", type=int, default=1500, help="calls of each kind")
    parser.add_argument("--starts", type=int, default=25, help="runs of the command")
    parser.add_argument("--decisions", type=int, default=20_000, help="decisions for the file size")
    given = parser.parse_args()
    with temporary_home() as home:
        homes = home / "full", home / "empty"
        for folder, rows in zip(homes, (given.rows, 0), strict=True):
            folder.mkdir()
            make_ledger(ledger_path(folder), rows)
        megabytes = file_bytes(ledger_path(homes[0])) / 1e6
        with (
            ServerProcess(immunos_command(), homes[0]) as full_server,
            ServerProcess(immunos_command(), homes[1]) as empty_server,
        ):
            full, empty = Caller(full_server, homes[0]), Caller(empty_server, homes[1])
            resets = min(given.calls, AGENT_SESSIONS - 1)
            figures = [
                compare("route_task", given.calls, full.route_task, empty.route_task),
                compare("record_usage", given.calls, full.record_usage, empty.record_usage),
                compare(
                    "get_session_status",
                    given.calls,
                    full.get_session_status,
                    empty.get_session_status,
                ),
                compare("reset_session", resets, full.reset_session, empty.reset_session),
                compare(
                    "immunos-mcp status", given.starts, full.status_command, empty.status_command
                ),
                compare(
                    "update_config dry run, unused session",
                    min(given.calls, 100),
                    full.update_config,
                    empty.update_config,
                ),
                compare(
                    "immunos-mcp history, unused session",
                    given.starts,
                    full.history_command,
                    empty.history_command,
                ),
            ]
        made, closed = bytes_each(home / "weighed.db", given.decisions)
    figures += [
        Figure("a decision on disk", made, "bytes", goal=BYTES_GOAL),
        Figure("a decision on disk, with its outcome", closed, "bytes", goal=BYTES_GOAL),
    ]
    notes = [
        f"full: {given.rows} decisions and as many usage records, {megabytes:.0f} MB",
        "reference: the same sessions without them",
    ]
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
