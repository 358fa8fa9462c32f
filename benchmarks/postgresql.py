"""A ledger on PostgreSQL: decisions of eight processes, pushed usage, and the copy of a ledger file.

Decisions are compared with psycopg's plain transaction, which adds to a counter, in alternating rounds:
those of one team with a counter that all add to, those of eight teams with a counter for each. The
database is filled, so it must be one that nobody needs; its user must be allowed to create tables.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from multiprocessing import Pool
from statistics import median
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from side_by_side import Figure, argument_parser, report, temporary_home

from immunos_mcp.database_address import DatabaseAddress, parse
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.postgresql import Acting, InlinePostgresqlLedger
from immunos_mcp.ledger.connections.postgresql_copy import copy
from immunos_mcp.ledger.connections.postgresql_migration import migrate
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLERS = 8
ROUNDS = 7
SECONDS = 1.0
FIRST_TEAM = 1000
PUSHED = 500
COPIED = 100_000

_calls: dict[tuple[str, int], Callable[[], object]] = {}


def run(kind: str, caller: int, address: DatabaseAddress, until: float) -> int:
    """Call again and again until a time, in a process of the pool; return how often."""
    call = _calls.get((kind, caller))
    if call is None:
        call = _calls[kind, caller] = _caller(kind, caller, address)
        call()
    calls = 0
    while time.time() < until:
        call()
        calls += 1
    return calls


def _caller(kind: str, caller: int, address: DatabaseAddress) -> Callable[[], object]:
    if kind.startswith("counter"):
        connection = psycopg.connect(address.text)
        row = caller if kind == "counters" else 0

        def add() -> None:
            connection.execute("UPDATE benchmark SET added = added + 1 WHERE place = %s", (row,))
            connection.commit()

        return add
    team = FIRST_TEAM + (caller if kind == "teams" else 0)
    router = Router(InlinePostgresqlLedger(address, Acting(team)), "default")
    return lambda: run_sync(router.route_task("debug", "routine"))


def rates(address: DatabaseAddress) -> dict[str, list[float]]:
    """Return calls per second of all callers together, by what was called, of each round."""
    found: dict[str, list[float]] = {"counter": [], "team": [], "counters": [], "teams": []}
    with ExitStack() as stack:
        # A process each, so that a caller keeps its connections.
        processes = [stack.enter_context(Pool(1)) for _ in range(CALLERS)]
        for number in range(ROUNDS + 1):
            for kind, of_kind in found.items():
                until = time.time() + SECONDS
                asked = [
                    process.apply_async(run, (kind, caller, address, until))
                    for caller, process in enumerate(processes)
                ]
                calls = sum(each.get() for each in asked)
                # In the first round, connections are opened.
                if number:
                    of_kind.append(calls / SECONDS)
    return found


def responses(number: int) -> list[MeasuredUsage]:
    """Return as many responses of the last days."""
    now = datetime.now(UTC)
    return [
        MeasuredUsage(uuid4().hex, now - timedelta(seconds=place), "claude-sonnet-4-5", 10)
        for place in range(number)
    ]


def pushes(address: DatabaseAddress) -> list[float]:
    """Return how many responses are stored per second, in each round."""
    found: list[float] = []
    with InlinePostgresqlLedger(address, Acting(FIRST_TEAM + CALLERS)) as ledger:
        for number in range(ROUNDS):
            if number == 1:
                # As the database does by itself within a minute.
                with psycopg.connect(address.text, autocommit=True) as connection:
                    connection.execute("ANALYZE")
            pushed = responses(PUSHED)
            began = time.perf_counter()
            run_sync(ledger.write(ingest, pushed))
            found.append(PUSHED / (time.perf_counter() - began))
    return found


def copied(address: DatabaseAddress, folder: Path) -> float:
    """Return how many rows are copied per second."""
    file = folder / "ledger.db"
    with InlineSqliteLedger(file) as ledger:
        for _ in range(COPIED // 10_000):
            run_sync(ledger.write(ingest, responses(10_000)))
    name = f"benchmark-{uuid4().hex}"
    with psycopg.connect(address.text, autocommit=True) as connection:
        connection.execute("SET search_path = immunos_mcp")
        connection.execute("SELECT set_config('immunos.team_name', %s, false)", (name,))
        connection.execute(
            "INSERT INTO immunos_mcp_team (name, created_at) VALUES (%s, '')", (name,)
        )
    began = time.perf_counter()
    rows = sum(copy(file, address._replace(team=name)).rows.values())
    return rows / (time.perf_counter() - began)


def figures(address: DatabaseAddress) -> list[Figure]:
    """Take all figures."""
    found = {kind: median(of_kind) for kind, of_kind in rates(address).items()}
    with temporary_home() as folder:
        copied_rows = copied(address, folder)
    return [
        Figure(
            "decisions of one team, 8 processes; plain transactions on one row",
            found["team"], "per s", 0.8, found["counter"], at_least=True,
        ),
        Figure(
            "decisions of 8 teams, 8 processes; plain transactions on 8 rows",
            found["teams"], "per s", 0.6, found["counters"], at_least=True,
        ),
        Figure("responses pushed", median(pushes(address)), "per s", 5_000, at_least=True),
        Figure("rows copied from a file", copied_rows, "per s", 30_000, at_least=True),
    ]  # fmt: skip


def main() -> int:
    """Fill a database, and print the figures."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--address", required=True, help="postgresql:// address of a database to fill"
    )
    given = parser.parse_args()
    address = parse(given.address)
    if address is None:
        parser.error("--address: must be the address of a database")
    migrate(address)
    with psycopg.connect(address.text, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS benchmark (place int PRIMARY KEY, added bigint)"
        )
        connection.execute("DELETE FROM benchmark")
        connection.execute("INSERT INTO benchmark SELECT generate_series(0, 7), 0")
    report(figures(address), given.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
