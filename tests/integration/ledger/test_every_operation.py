"""Every operation of the ledger while the file cannot be used as usual.

Each either gives the right answer or an error in words; nothing is half-stored, and the same operation
works once the trouble is over.
"""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import killed_operations
import pytest
import wire
from ledger_operations import NOW, OPERATIONS, WRITES, filled, run_by_the_program

from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger import schema, soundness
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from ledger_operations import Operation

    from immunos_mcp.ledger.connections.sqlite import SqliteLedger
    from immunos_mcp.ledger.dialect import Connection

SHORT_TIMEOUT_SECONDS = 0.01

LOCKED = "is locked by another program; try again, or stop that program"
UNWRITABLE = "cannot be written; give this user write access to it and its folder"
NO_SPACE = "cannot be read or written; check the disk and its free space, then retry"
NEWER = f"was written by a newer immunos-mcp (ledger version {schema.LATEST + 1}, this"


class Right(NamedTuple):
    """What an operation answers where nothing is wrong, and what the ledger holds then."""

    answer: object
    content: list[str]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = filled(tmp_path_factory.mktemp("original") / "ledger.db")
    wire.execute(file, "PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@pytest.fixture(scope="module")
def right(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Right]:
    folder = tmp_path_factory.mktemp("right")
    return {name: _right(original, folder / name, each) for name, each in OPERATIONS.items()}


def _right(original: Path, file: Path, operation: Operation) -> Right:
    shutil.copyfile(original, file)
    with InlineSqliteLedger(file) as ledger:
        answer = run_sync(operation.on(ledger))
    return Right(answer, wire.dump(file))


def test_every_operation_that_the_program_runs_is_tried() -> None:
    known = {(name, each.writes) for name, each in OPERATIONS.items()}
    assert known == run_by_the_program(), "OPERATIONS has a row for each operation, and no other"


def test_what_is_tried_as_a_write_changes_the_ledger(
    original: Path, right: dict[str, Right]
) -> None:
    before = wire.dump(original)
    changing = {name for name in OPERATIONS if right[name].content != before}
    assert changing == {*WRITES} - {"preview_prune"}


class Fault(NamedTuple):
    """Something that is wrong with a ledger's file.

    Attributes:
        of: causes it on a ledger, while its block runs.
        kind: the kind of ledger.
        words: what operations say about it.
        readers_too: whether it concerns operations that only read.
    """

    of: Callable[[SqliteLedger], AbstractAsyncContextManager[None]]
    kind: str
    words: str
    readers_too: bool = False


@asynccontextmanager
async def locked(ledger: SqliteLedger) -> AsyncGenerator[None]:
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO settings VALUES ('theirs', 'x', 'now')")
        yield


@asynccontextmanager
async def locked_against_readers(ledger: SqliteLedger) -> AsyncGenerator[None]:
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO settings VALUES ('theirs', 'x', 'now')")
        yield


@asynccontextmanager
async def read_only(ledger: SqliteLedger) -> AsyncGenerator[None]:
    await _on_connection(ledger, "PRAGMA query_only = ON")
    yield


@asynccontextmanager
async def full_disk(ledger: SqliteLedger) -> AsyncGenerator[None]:
    """Let every write to a file fail, once the ledger is open."""
    await _on_connection(ledger, "SELECT count(*) FROM settings")
    with no_space():
        yield


@contextmanager
def no_space() -> Generator[None]:
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))


async def _on_connection(ledger: SqliteLedger, statement: str) -> None:
    def run(connection: Connection) -> None:
        connection.execute(statement).fetchall()

    await ledger._run(run)  # pyright: ignore[reportPrivateUsage]  # no transaction


FAULTS: dict[str, Fault] = {
    "locked": Fault(locked, "threaded", LOCKED),
    "locked against readers": Fault(locked_against_readers, "inline", LOCKED, readers_too=True),
    "read-only": Fault(read_only, "threaded", UNWRITABLE),
    "full disk": Fault(full_disk, "inline", NO_SPACE),
}


@asynccontextmanager
async def opened(kind: str, file: Path) -> AsyncGenerator[SqliteLedger]:
    if kind == "inline":
        with InlineSqliteLedger(file, SHORT_TIMEOUT_SECONDS) as inline:
            yield inline
    else:
        async with ThreadedSqliteLedger(file, SHORT_TIMEOUT_SECONDS) as threaded:
            yield threaded


@pytest.mark.anyio
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_reported_by_the_operations_it_concerns_and_they_work_afterwards(
    original: Path, right: dict[str, Right], tmp_path: Path, fault: str
) -> None:
    cause, kind, words, readers_too = FAULTS[fault]
    for name, operation in OPERATIONS.items():
        file = tmp_path / name
        shutil.copyfile(original, file)
        async with opened(kind, file) as ledger:
            async with cause(ledger):
                if operation.writes or readers_too:
                    with pytest.raises(LedgerError) as error:
                        await operation.on(ledger)
                    assert_line(str(error.value), f"ledger {file} {words}")
                else:
                    assert await operation.on(ledger) == right[name].answer
            assert await operation.on(ledger) == right[name].answer
        # What was refused has left nothing behind.
        assert wire.dump(file) == right[name].content


def assert_line(text: str, start: str) -> None:
    assert text.startswith(start)
    assert "\n" not in text


def test_a_killed_operation_is_stored_whole_or_not_at_all_and_works_afterwards(
    original: Path, right: dict[str, Right], tmp_path: Path
) -> None:
    before = wire.dump(original)
    files = {
        (name, moment): tmp_path / f"{name}-{moment}"
        for name in WRITES
        for moment in killed_operations.MOMENTS
    }
    for file in files.values():
        shutil.copyfile(original, file)
    done = subprocess.run(
        [sys.executable, killed_operations.__file__, tmp_path], check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    for (name, moment), file in files.items():
        if moment == "answered":
            assert wire.dump(file) == right[name].content
            continue
        assert wire.dump(file) == before, (name, moment)
        assert _right(file, tmp_path / "again", OPERATIONS[name]) == right[name]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_clock_that_was_set_back_stops_no_operation(
    original: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "ledger.db"
    shutil.copyfile(original, file)
    with InlineSqliteLedger(file) as ledger:
        for moment in (NOW, NOW - timedelta(days=400), NOW + timedelta(minutes=1)):
            run_sync(OPERATIONS[name].on(ledger, moment))
    if name != "prune":
        # Which leaves totals without the records that they are the sums of.
        wire.assert_sound(file)
    with closing(sqlite3.connect(file)) as connection:
        assert soundness.find_problem(connection) is None


def test_operations_go_on_with_a_ledger_that_a_newer_version_has_upgraded_meanwhile(
    original: Path, tmp_path: Path
) -> None:
    upgraded, usual = tmp_path / "upgraded", tmp_path / "usual"
    shutil.copyfile(original, upgraded)
    shutil.copyfile(original, usual)
    with InlineSqliteLedger(upgraded) as ledger, InlineSqliteLedger(usual) as other:
        run_sync(_on_connection(ledger, "SELECT count(*) FROM settings"))
        upgrade(upgraded)
        # Others need what pruning removes.
        for name in sorted(OPERATIONS, key="prune".__eq__):
            operation = OPERATIONS[name]
            assert run_sync(operation.on(ledger)) == run_sync(operation.on(other))
    after = wire.dump(upgraded)
    for operation in OPERATIONS.values():
        with InlineSqliteLedger(upgraded) as ledger, pytest.raises(LedgerError) as error:
            run_sync(operation.on(ledger))
        assert_line(str(error.value), f"ledger {upgraded} {NEWER}")
    assert wire.dump(upgraded) == after


def upgrade(file: Path) -> None:
    """Add what a step may add: a column to each table, and a table."""
    tables = [
        table for table in schema.made(schema.LATEST).columns if table.startswith(schema.PREFIX)
    ]
    wire.execute(
        file,
        "BEGIN",
        *(f"ALTER TABLE {table} ADD COLUMN added_later TEXT" for table in tables),
        "CREATE TABLE immunos_mcp_added_later (content TEXT) STRICT",
        "INSERT INTO immunos_mcp_schema_version (version, applied_at)"
        f" VALUES ({schema.LATEST + 1}, '2030-01-01')",
        "COMMIT",
    )


def inputs_of(test: Callable[..., None]) -> int:
    """Return how many operations one case of a test tries, for the documentation's table of faults."""
    if test is test_a_killed_operation_is_stored_whole_or_not_at_all_and_works_afterwards:
        return len(WRITES) * len(killed_operations.MOMENTS)
    tries_all = (
        test_a_fault_is_reported_by_the_operations_it_concerns_and_they_work_afterwards,
        test_operations_go_on_with_a_ledger_that_a_newer_version_has_upgraded_meanwhile,
    )
    return len(OPERATIONS) if test in tries_all else 1
