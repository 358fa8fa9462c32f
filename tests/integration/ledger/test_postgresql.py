"""What is particular to a ledger on PostgreSQL; ``test_operations.py`` has what every ledger does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ledger_operations
import postgresql_server
import psycopg
import pytest

from immunos_mcp.database_address import DatabaseAddress
from immunos_mcp.domain import PlanUsage, TokenCounts, Usage
from immunos_mcp.errors import InvalidInputError, LedgerBusyError, LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.history import replay
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.reported_usage import record_usage
from immunos_mcp.ledger.sessions import list_bindings, newest_sessions
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
    from immunos_mcp.ledger.dialect import Connection

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

COLUMNS = (
    "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default, collation_name"
    " FROM information_schema.columns WHERE table_schema LIKE 'immunos%' ORDER BY 1, 2, 3"
)
INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname LIKE 'immunos%' ORDER BY 1"
WAITING = "SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"


@pytest.fixture
def address() -> DatabaseAddress:
    return postgresql_server.empty_ledger()


def test_every_operation_gives_what_it_gives_on_sqlite(
    address: DatabaseAddress, tmp_path: Path
) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    file = ledger_operations.filled(tmp_path / "ledger.db")
    with InlineSqliteLedger(file) as sqlite, InlinePostgresqlLedger(address) as postgresql:
        run_sync(ledger_operations.fill(postgresql))
        for name, operation in ledger_operations.OPERATIONS.items():
            expected, found = (run_sync(_given(operation, it)) for it in (sqlite, postgresql))
            # Groups of usage come in any order.
            assert sorted(repr(found)) == sorted(repr(expected)), name


async def _given(operation: ledger_operations.Operation, ledger: Ledger) -> object:
    try:
        return await operation.on(ledger)
    except InvalidInputError as error:
        return str(error)


def test_migrated_tables_are_those_of_a_new_ledger(
    address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    from immunos_mcp.ledger.connections.postgresql_migration import Migrated, migrate

    upgraded = postgresql_server.empty_database()
    latest = schema.LATEST
    for version in (latest - 4, latest):
        monkeypatch.setattr(schema, "LATEST", version)
        migrated = migrate(upgraded)
    assert migrated == Migrated(latest - 4, latest)
    for query in (COLUMNS, INDEXES):
        assert postgresql_server.rows(upgraded, query) == postgresql_server.rows(address, query)


@pytest.mark.parametrize("is_writing", [False, True])
async def test_a_ledger_goes_on_after_the_database_dropped_its_connections(
    address: DatabaseAddress, is_writing: bool
) -> None:
    from immunos_mcp.ledger.connections.postgresql import ThreadedPostgresqlLedger

    async with ThreadedPostgresqlLedger(address) as ledger:
        run = ledger.write if is_writing else ledger.read
        assert await run(list_bindings) == ()
        dropped = postgresql_server.rows(
            address,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'",
        )
        assert dropped
        assert await run(list_bindings) == ()


def test_writers_at_once_lose_nothing(address: DatabaseAddress) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    def record(client: int) -> None:
        with InlinePostgresqlLedger(address) as ledger:
            for number in range(5):
                usage = Usage("claude-x", TokenCounts(1, 0, 0, 0), f"{client}-{number}")
                now = ledger_operations.NOW
                run_sync(ledger.write(record_usage, "default", now, usage, "reported"))

    writers = [threading.Thread(target=record, args=(client,)) for client in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with InlinePostgresqlLedger(address) as ledger:
        (found,) = run_sync(ledger.read(newest_sessions, None, 10)).sessions
    assert (found.session.claude.input_tokens, found.session.usage_records) == (20, 20)


def test_a_write_that_can_be_put_off_does_not_wait_for_long(address: DatabaseAddress) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    with InlinePostgresqlLedger(address) as first, InlinePostgresqlLedger(address) as second:
        run_sync(second.read(list_bindings))

        def meanwhile(connection: Connection) -> None:
            list_bindings(connection)  # waits for the lock
            with pytest.raises(LedgerBusyError, match="is busy"):
                run_sync(second.write_soon(list_bindings))

        run_sync(first.write(meanwhile))
        assert run_sync(second.write_soon(list_bindings)) == ()


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    ledger = InlinePostgresqlLedger(DatabaseAddress("postgresql://me:secret@127.0.0.1:1/team"))
    with pytest.raises(LedgerError) as raised:
        run_sync(ledger.read(list_bindings))
    assert "ledger postgresql://127.0.0.1:1/team cannot be used" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_tables_that_are_missing_or_old_are_not_touched_but_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_migration import migrate

    empty = postgresql_server.empty_database()
    latest = schema.LATEST
    for version, found in ((None, "has no tables yet"), (latest - 1, "is older than this program")):
        if version is not None:
            monkeypatch.setattr(schema, "LATEST", version)
            migrate(empty)
            monkeypatch.setattr(schema, "LATEST", latest)
        with InlinePostgresqlLedger(empty) as ledger, pytest.raises(LedgerError) as raised:
            run_sync(ledger.read(list_bindings))
        assert found in str(raised.value)
        assert "run `immunos-mcp db migrate` first" in str(raised.value)
    monkeypatch.setattr(schema, "LATEST", latest - 2)
    with pytest.raises(LedgerError, match="was written by a newer immunos-mcp"):
        migrate(empty)


def test_a_server_goes_on_while_the_tables_are_migrated_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_migration import Migrated, migrate

    latest = schema.LATEST
    monkeypatch.setattr(schema, "LATEST", latest - 1)
    server = postgresql_server.as_server(postgresql_server.empty_database())
    owner = server._replace(text=server.text.partition("&options")[0])
    with InlinePostgresqlLedger(server) as ledger, ThreadPoolExecutor(1) as other:
        run_sync(ledger.read(list_bindings))
        with psycopg.connect(owner.text) as reader:
            reader.execute(b"SELECT FROM immunos_mcp.immunos_mcp_usage")
            monkeypatch.setattr(schema, "LATEST", latest)
            migrated = other.submit(migrate, owner)
            while not postgresql_server.rows(owner, WAITING):
                pass
            # The migration has locked one of them already, and would wait for ever for the first.
            reader.execute(b"SELECT FROM immunos_mcp.immunos_mcp_measured_usage")
            reader.execute(b"SELECT FROM immunos_mcp.settings")
        assert migrated.result() == Migrated(latest - 1, latest)
        monkeypatch.setattr(schema, "LATEST", latest - 1)
        ledger.close()
        assert run_sync(ledger.read(list_bindings)) == ()
    with InlinePostgresqlLedger(server) as late, pytest.raises(LedgerError, match="by a newer"):
        run_sync(late.read(list_bindings))


def test_a_copy_is_the_same_and_goes_on(address: DatabaseAddress, tmp_path: Path) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_copy import copy

    file = ledger_operations.filled(tmp_path / "ledger.db")
    copied = copy(file, address)
    assert (copied.decisions, copied.rows["decision"], copied.rows["usage"]) == (3, 3, 3)
    with InlineSqliteLedger(file) as sqlite, InlinePostgresqlLedger(address) as postgresql:
        for name, operation in ledger_operations.OPERATIONS.items():
            expected, found = (run_sync(_given(operation, it)) for it in (sqlite, postgresql))
            # Groups of usage come in any order.
            assert sorted(repr(found)) == sorted(repr(expected)), name


def test_a_copy_may_be_a_person_s(address: DatabaseAddress, tmp_path: Path) -> None:
    from immunos_mcp.ledger.connections.postgresql import Acting, InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_copy import copy

    file, now = ledger_operations.filled(tmp_path / "ledger.db"), ledger_operations.NOW

    def used(ledger: Ledger) -> dict[str, float | None]:
        status = run_sync(Router(ledger, "default", lambda: now).get_session_status())
        plan = {each.window: each.used_percentage for each in status.plan or ()}
        return {each.name: each.used for each in status.budgets or ()} | plan

    with InlineSqliteLedger(file) as sqlite:
        response = MeasuredUsage("m", now - timedelta(hours=1), "gpt-5", 100)
        run_sync(sqlite.write(ingest, [response]))
        router = Router(sqlite, "default", lambda: now)
        run_sync(router.record_plan_usage([PlanUsage("five_hour", 42.0, now + timedelta(hours=1))]))
        run_sync(router.update_config({"budgets": "own=900 tokens/week each"}, "test"))
        assert used(sqlite) == {"own/ada": 0, "five_hour": 42.0}
    copy(file, address, "bob")
    people = dict(postgresql_server.rows(address, "SELECT name, person_id FROM immunos_mcp_person"))
    for name, expected in (
        ("ada", {"own": 0}),
        ("bob", {"own": 106, "five_hour": 42.0}),
    ):
        with InlinePostgresqlLedger(address, Acting(1, people[name])) as own:
            assert used(own) == expected
    with InlinePostgresqlLedger(address) as ledger:
        assert used(ledger) == {"own/ada": 0, "own/bob": 106}
        assert run_sync(ledger.write(replay, lambda past: len([*past.decisions()]))) == 3


def test_a_copy_goes_nowhere_where_anything_is_stored(
    address: DatabaseAddress, tmp_path: Path
) -> None:
    from immunos_mcp.ledger.connections.postgresql_copy import copy

    file = ledger_operations.filled(tmp_path / "ledger.db")
    postgresql_server.execute(address, "INSERT INTO settings VALUES ('session_limit', '7', '')")
    with pytest.raises(LedgerError, match="is not empty: team 'default' has rows in settings"):
        copy(file, address)


def test_a_copy_that_would_differ_is_not_stored(tmp_path: Path) -> None:
    from immunos_mcp.ledger.connections.postgresql_copy import copy

    address = postgresql_server.another_ledger()
    for statement in (
        (
            "CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.input_tokens = NEW.input_tokens + 1; RETURN NEW; END $$"
        ),
        (
            "CREATE TRIGGER changed BEFORE INSERT ON immunos_mcp_usage"
            " FOR EACH ROW EXECUTE FUNCTION changed()"
        ),
    ):
        postgresql_server.execute(address, statement)
    with pytest.raises(LedgerError, match="would differ from the file in immunos_mcp_usage"):
        copy(ledger_operations.filled(tmp_path / "ledger.db"), address)
    for table in ("usage", "decision", "session"):
        found = postgresql_server.rows(address, f"SELECT count(*) FROM immunos_mcp_{table}")
        assert found == [(0,)]


def one_call(router: Router) -> None:
    """Do all that an assistant does for one task, as often as it takes to know it by heart."""
    decided = run_sync(router.route_task("debug", "critical", 10))
    run_sync(router.record_usage("claude-x", 10, 1))
    run_sync(router.record_usage("claude-x", 10, 1, None, None, decided.decision_id, "success"))
    run_sync(router.get_session_status())


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, {"route_task": 2, "record_usage": 2, "with an outcome": 3, "get_session_status": 2}),
        (
            {"budgets": "daily=1 usd/day; mine=10000 tokens/session", "reservations": "on"},
            {"route_task": 4, "record_usage": 4, "with an outcome": 5, "get_session_status": 4},
        ),
    ],
    ids=["as it comes", "with budgets"],
)
def test_no_call_waits_for_the_database_often(
    address: DatabaseAddress, settings: dict[str, Any], most: dict[str, int]
) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    with InlinePostgresqlLedger(address) as ledger:
        router = Router(ledger, "default")
        run_sync(router.update_config(settings, "test"))
        for _ in range(2):
            one_call(router)
        counting = WaitsOf(ledger)
        decided = counting("route_task", router.route_task("debug", "critical", 10))
        counting("record_usage", router.record_usage("claude-x", 10, 1))
        reported = router.record_usage("claude-x", 1, 1, None, None, decided.decision_id, "success")
        counting("with an outcome", reported)
        counting("get_session_status", router.get_session_status())
    assert counting.waits == most


class WaitsOf:
    """Runs use cases, and notes how often each waits for the database."""

    def __init__(self, ledger: InlinePostgresqlLedger) -> None:
        self.waits: dict[str, int] = {}
        self._ledger = ledger

    def __call__(self, name: str, use_case: Coroutine[Any, Any, Any]) -> Any:
        before = self._so_far()
        result = run_sync(use_case)
        self.waits[name] = self._so_far() - before
        return result

    def _so_far(self) -> int:
        link = self._ledger._link  # pyright: ignore[reportPrivateUsage]  # nobody else counts
        return link.connection(0).pipeline.waits


def test_whoever_stops_in_the_middle_of_a_transaction_keeps_nobody_waiting_for_ever(
    address: DatabaseAddress,
) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    attempts: list[int] = []
    with InlinePostgresqlLedger(address) as first, InlinePostgresqlLedger(address) as second:

        def stop(connection: Connection) -> int:
            attempts.append(1)
            if len(attempts) == 1:
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = '20ms'")
                list_bindings(connection)  # waits for the lock
                # Until the database takes the lock away, this one cannot have it.
                run_sync(second.write(list_bindings))
            return len(list_bindings(connection))

        assert run_sync(first.write(stop)) == 0
    assert len(attempts) == 2


def test_pushed_usage_is_stored_as_it_is_whatever_it_contains(address: DatabaseAddress) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    usage = MeasuredUsage("msg-1", ledger_operations.NOW, "claude-x", 1 << 40)
    pushed = [
        usage._replace(folder='/a \\u0000 "b"', is_sidechain=True, speed=""),
        usage._replace(message_id="msg-2", folder="/a\0b", is_sidechain=False, speed="fast"),
    ]

    def stored(connection: Connection) -> list[tuple[Any, ...]]:
        return connection.execute(
            "SELECT message_id, input_tokens, folder, is_sidechain, speed"
            " FROM immunos_mcp_measured_usage ORDER BY message_id"
        ).fetchall()

    with InlinePostgresqlLedger(address) as ledger:
        assert run_sync(ledger.write(ingest, pushed)) == 2
        assert run_sync(ledger.read(stored)) == [
            ("msg-1", 1 << 40, '/a \\u0000 "b"', 1, ""),
            ("msg-2", 1 << 40, "/a\ufffdb", 0, "fast"),
        ]


def test_what_reservations_hold_back_is_the_same_as_in_a_file(
    address: DatabaseAddress, tmp_path: Path
) -> None:
    from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

    def held(ledger: Ledger) -> list[tuple[int, ...]]:
        router = Router(ledger, "default", lambda: ledger_operations.NOW)
        run_sync(router.update_config({"reservations": "on"}, "test"))
        ids = [
            run_sync(router.route_task("debug", "critical", tokens)).decision_id
            for tokens in (100, 200, 300)
        ]
        run_sync(router.record_usage("claude-x", 30, 1, decision_id=ids[0]))
        run_sync(router.record_usage("claude-x", 30, 1, None, None, ids[1], "success"))
        return run_sync(ledger.read(reserved))

    def reserved(connection: Connection) -> list[tuple[int, ...]]:
        return connection.execute(
            "SELECT decision_id, tokens FROM immunos_mcp_reservation ORDER BY decision_id"
        ).fetchall()

    with InlineSqliteLedger(tmp_path / "ledger.db") as sqlite:
        expected = held(sqlite)
    with InlinePostgresqlLedger(address) as postgresql:
        assert held(postgresql) == expected == [(1, 69), (3, 300)]
