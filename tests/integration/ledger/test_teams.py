"""Teams in one database: none sees another's rows, whichever of the two walls is left."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import ledger_operations
import postgresql_server
import pytest
from ledger_operations import NOW, OPERATIONS

from immunos_mcp.domain import Judge, Outcome
from immunos_mcp.errors import InvalidInputError, LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.decisions import close_decision
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA, TEAM_TABLE, VIEWS_SCHEMA
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.people import People

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.connections.postgresql import Acting, InlinePostgresqlLedger
    from immunos_mcp.ledger.dialect import Connection

    Open = Callable[[Acting], InlinePostgresqlLedger]

pytestmark = [pytest.mark.postgres]

TABLES = sorted({*schema.made(schema.LATEST).columns, TEAM_TABLE} - {schema.VERSION_TABLE})
RED, BLUE = 1, 2
NEITHER_TAKES_BACK = {"prune", "end_overrides", "take_allowance", "forget_told", "remove_bindings"}


@pytest.fixture(scope="module")
def address() -> DatabaseAddress:
    """The address of two teams' ledgers: ``default`` has used everything, ``blue`` nothing."""
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_migration import add_team

    owner = postgresql_server.another_ledger()
    add_team(owner, "blue")
    served = postgresql_server.as_server(owner)
    with InlinePostgresqlLedger(served) as ledger:
        run_sync(ledger_operations.fill(ledger))
        for name, operation in OPERATIONS.items():
            if operation.writes and name not in NEITHER_TAKES_BACK:
                run_sync(operation.on(ledger))
        for table, rows in seen(ledger, VIEWS_SCHEMA).items():
            if not rows:
                postgresql_server.execute(owner, any_row(table))
    return served


def any_row(table: str) -> str:
    from immunos_mcp.ledger.connections.postgresql_schema import column_kinds

    kinds = column_kinds()[table]
    values = ", ".join(
        "'2026-01-01T00:00:00.000Z'" if kind == "TEXT" else "0" for kind in kinds.values()
    )
    return f"INSERT INTO {table} ({', '.join(kinds)}) VALUES ({values})"


@pytest.fixture
def open_as(address: DatabaseAddress) -> Iterator[Open]:
    """Open the ledger of a team, or of a person of it."""
    from contextlib import ExitStack

    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    with ExitStack() as stack:
        yield lambda acting: stack.enter_context(InlinePostgresqlLedger(address, acting))


def team(team_id: int, person_id: int | None = None) -> Acting:
    from immunos_mcp.ledger.connections.postgresql import Acting

    return Acting(team_id, person_id)


def seen(ledger: InlinePostgresqlLedger, place: str) -> dict[str, int]:
    """Return how many rows of each table a team sees."""

    def count(connection: Connection) -> dict[str, int]:
        return {
            table: connection.execute(f"SELECT count(*) FROM {place}.{table}").fetchone()[0]
            for table in TABLES
        }

    return run_sync(ledger.read(count))


@pytest.mark.parametrize("place", [VIEWS_SCHEMA, TABLES_SCHEMA])
def test_a_team_sees_only_its_own_rows_also_in_the_tables_behind_the_filter(
    open_as: Open, place: str
) -> None:
    assert 0 not in seen(open_as(team(RED)), place).values()
    assert seen(open_as(team(BLUE)), place) == {
        **dict.fromkeys(TABLES, 0),
        f"{schema.PREFIX}team": 1,
    }


def test_the_filter_alone_is_enough_for_the_owner_of_the_database(address: DatabaseAddress) -> None:
    """A superuser is not held back by row-level security."""
    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    superuser = DatabaseAddress(address.text.partition("&options=")[0])
    with InlinePostgresqlLedger(superuser, team(BLUE)) as ledger:
        assert sum(seen(ledger, VIEWS_SCHEMA).values()) == 1
        assert sum(seen(ledger, TABLES_SCHEMA).values()) > 20


def test_nobody_writes_into_another_team(open_as: Open) -> None:
    red, blue = open_as(team(RED)), open_as(team(BLUE))
    before = seen(red, TABLES_SCHEMA)

    def take_all(connection: Connection) -> None:
        for table in set(TABLES) - {f"{schema.PREFIX}team"}:
            connection.execute(f"UPDATE {TABLES_SCHEMA}.{table} SET team_id = {BLUE}")
            connection.execute(f"DELETE FROM {TABLES_SCHEMA}.{table}")

    def give(connection: Connection) -> None:
        connection.execute(
            f"INSERT INTO {TABLES_SCHEMA}.settings (key, value, updated_at, team_id)"
            f" VALUES ('session_limit', '1', '', {RED})"
        ).fetchone()

    run_sync(blue.write(take_all))
    with pytest.raises(LedgerError, match="row-level security policy"):
        run_sync(blue.write(give))
    assert seen(red, TABLES_SCHEMA) == before


def test_a_transaction_that_names_no_team_sees_nothing(address: DatabaseAddress) -> None:
    import psycopg

    with psycopg.connect(address.text) as connection:
        for table in TABLES:
            row = connection.execute(f"SELECT count(*) FROM {TABLES_SCHEMA}.{table}".encode())
            assert row.fetchone() == (0,), table
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                f"ALTER TABLE {TABLES_SCHEMA}.settings NO FORCE ROW LEVEL SECURITY".encode()
            )


def test_every_operation_of_a_team_does_what_it_does_in_a_ledger_of_its_own(
    open_as: Open,
) -> None:
    """What another team stored changes no answer."""
    green, blue = open_as(team(3)), open_as(team(BLUE))
    for name, operation in OPERATIONS.items():
        if not operation.writes and name not in {"export", "change_mark"}:
            assert run_sync(_answer(operation, green)) == run_sync(_answer(operation, blue)), name


async def _answer(operation: ledger_operations.Operation, ledger: InlinePostgresqlLedger) -> object:
    try:
        return await operation.on(ledger)
    except InvalidInputError as error:
        return str(error)


def test_another_team_s_decision_is_unknown(open_as: Open) -> None:
    with pytest.raises(InvalidInputError, match="decision_id: must be the id of an earlier"):
        run_sync(
            open_as(team(BLUE)).write(close_decision, 1, Outcome.SUCCESS, None, NOW, Judge.USER)
        )


def test_a_response_counts_once_in_each_team_whoever_pushes_it(open_as: Open) -> None:
    pushed = [MeasuredUsage("msg-1", NOW, "claude-x", 7)]

    def who(connection: Connection) -> list[tuple[int, int | None]]:
        return connection.execute(
            "SELECT input_tokens, person_id FROM immunos_mcp_measured_usage"
            " WHERE message_id = 'msg-1'"
        ).fetchall()

    for acting in (team(4, 1), team(4), team(5)):
        run_sync(open_as(acting).write(ingest, pushed))
    assert run_sync(open_as(team(4)).read(who)) == [(7, 1)]
    assert run_sync(open_as(team(5)).read(who)) == [(7, None)]


def test_a_team_is_added_once_and_by_the_owner_alone(address: DatabaseAddress) -> None:
    from immunos_mcp.ledger.connections.postgresql_migration import add_team, migrate

    owner = address._replace(text=address.text.partition("&options=")[0])
    assert add_team(owner, "yellow") > BLUE
    with pytest.raises(InvalidInputError, match="there is a team yellow already"):
        add_team(owner, "yellow")
    for work in (lambda: add_team(address, "black"), lambda: migrate(address)):
        with pytest.raises(
            LedgerError, match=r"let this user do that .* connect as the owner of its"
        ):
            work()
    stranger = postgresql_server.as_role(owner, "immunos_test_stranger")
    with pytest.raises(
        LedgerError, match="opened to this user; connect as the owner of its tables"
    ):
        add_team(stranger, "black")


def test_only_the_owner_lists_the_teams_and_sees_none_of_their_rows() -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_migration import add_team, migrate
    from immunos_mcp.ledger.connections.postgresql_teams import list_teams

    database = postgresql_server.empty_database()
    owner = postgresql_server.as_role(database, "immunos_test_owner")
    migrate(owner)
    add_team(owner, "blue")
    with InlinePostgresqlLedger(owner, team(BLUE)) as ledger:
        run_sync(People(ledger).add("ada", "member"))
        assert sum(seen(ledger, TABLES_SCHEMA).values()) > 0
    assert [(each.name, each.people) for each in list_teams(owner)] == [("blue", 1), ("default", 0)]
    with InlinePostgresqlLedger(owner, team(0)) as ledger:
        assert sum(seen(ledger, TABLES_SCHEMA).values()) == 0
    served = postgresql_server.as_server(database)
    with pytest.raises(LedgerError, match="lists its teams only to the owner"):
        list_teams(served)


@pytest.mark.anyio
async def test_a_team_that_waits_for_its_lock_holds_up_no_other(address: DatabaseAddress) -> None:
    from immunos_mcp.ledger.connections.postgresql import CONNECTIONS, LOCKS
    from immunos_mcp.ledger.connections.postgresql_link import open_driver
    from immunos_mcp.ledger.connections.postgresql_teams import PostgresqlTeams

    async with PostgresqlTeams(address) as teams:
        red, blue = await teams.named("default"), await teams.named("blue")
        assert red is not None
        assert blue is not None
        async with anyio.create_task_group() as tasks:
            with closing(open_driver(address)) as other:
                other.execute(b"BEGIN")
                other.execute(b"SELECT pg_advisory_xact_lock(%s)", (LOCKS + RED,))
                for _ in range(CONNECTIONS):
                    tasks.start_soon(_write, red.ledger)
                await anyio.wait_all_tasks_blocked()
                # Less than the first team may wait for its lock.
                with anyio.fail_after(4):
                    await _write(blue.ledger)


def test_a_team_that_is_not_there_is_named(address: DatabaseAddress) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    with (
        InlinePostgresqlLedger(address._replace(team="grey")) as ledger,
        pytest.raises(LedgerError, match="has no team 'grey'"),
    ):
        run_sync(ledger.read(_nothing))


def _nothing(_connection: Connection) -> None:
    """Read nothing."""


async def _write(ledger: Ledger) -> None:
    """Wait for the team's lock."""
    await ledger.write(_nothing)
