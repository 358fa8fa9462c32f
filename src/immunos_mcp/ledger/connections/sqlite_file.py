"""Prepares a SQLite file: private permissions, WAL mode, migrations; translates its failures."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from immunos_mcp.errors import LedgerBusyError, LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.open_files import OpenFiles
from immunos_mcp.ledger.connections.sqlite_connection import SqliteConnection
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

_RETRY_SECONDS = 0.01


def connect(path: Path, busy_timeout_seconds: float) -> SqliteConnection:
    """Open a ledger; create the file, its folder and its tables if they are missing.

    The connection is in autocommit mode, may be used from another thread, and waits
    ``busy_timeout_seconds`` for other writers.

    Raises:
        LedgerError: the file cannot be used; the message has the reason and the fix.
    """
    with translated(path):
        try:
            _make_private(path)
        except OSError as error:
            raise LedgerError(
                f"ledger {path} cannot be created or opened ({error.strerror}); "
                "choose another file with --db or IMMUNOS_DB"
            ) from error
        connection = sqlite3.connect(
            path,
            timeout=busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
            factory=SqliteConnection,
        )
        try:
            refuse_newer(connection, path)
            _configure(connection, busy_timeout_seconds)
            _migrate(connection, path)
            connection.open_files = OpenFiles(path)
        except BaseException:
            connection.close()
            raise
    return connection


def let_go(connection: sqlite3.Connection) -> None:
    """Save what only an open connection still has: a log that was deleted under its hands."""
    files = cast("SqliteConnection", connection).open_files
    if files.has_lost_its_log_alone():
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _make_private(path: Path) -> None:
    if path.is_dir():
        raise LedgerError(f"ledger {path} is a folder; choose a file with --db or IMMUNOS_DB")
    if not path.exists():
        missing = [folder for folder in path.parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _configure(connection: SqliteConnection, busy_timeout_seconds: float) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    deadline = time.monotonic() + busy_timeout_seconds
    while mode != "wal":
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            # SQLite does not wait here by itself when several processes create the same file.
            busy = _primary_code(error) == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            break
    # In WAL mode this survives a crash of the process and never corrupts the file; only a power cut
    # can lose the last commits. A full sync would add the disk's latency to every call.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a ledger; 0: it does not have our tables yet."""
    known = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (schema.VERSION_TABLE,)
    ).fetchone()
    if known is None:
        return 0
    (version,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM immunos_mcp_schema_version"
    ).fetchone()
    return int(version)


def _migrate(connection: SqliteConnection, path: Path) -> None:
    version = version_of(connection)
    while version < schema.LATEST:
        with transaction(connection, "BEGIN IMMEDIATE"):
            version = version_of(connection)
            if _has_no_tables(connection):
                _apply(connection, schema.definitions(schema.LATEST), path)
                mark_versions(connection, schema.LATEST)
                version = schema.LATEST
            elif version < schema.LATEST:
                _apply(connection, schema.STEPS[version], path)
                version += 1
                connection.execute(
                    "INSERT INTO immunos_mcp_schema_version (version, applied_at) VALUES (?, ?)",
                    (version, utc_text(datetime.now(UTC))),
                )
    refuse_newer(connection, path)


def _has_no_tables(connection: SqliteConnection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def _apply(connection: SqliteConnection, step: Sequence[str], path: Path) -> None:
    try:
        for statement in step:
            connection.execute(statement)
    except sqlite3.OperationalError as error:
        # The step's tables are there already, or those it changes are not; otherwise it is a bug.
        if not re.search("already exists|duplicate column|no such (table|column)", str(error)):
            raise
        raise LedgerError(f"ledger {path} {_REMEDIES[sqlite3.SQLITE_CORRUPT]} ({error})") from error


def mark_versions(connection: sqlite3.Connection, version: int) -> None:
    """Mark all steps up to a version as applied, as far as they are not, and no others."""
    connection.execute(
        "DELETE FROM immunos_mcp_schema_version WHERE version NOT BETWEEN 1 AND ?", (version,)
    )
    now = utc_text(datetime.now(UTC))
    connection.executemany(
        "INSERT OR IGNORE INTO immunos_mcp_schema_version (version, applied_at) VALUES (?, ?)",
        [(step, now) for step in range(1, version + 1)],
    )


def refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    """Raise ``LedgerError`` if a newer version of this program wrote a ledger.

    A newer version marks every step that it applies; a mark that stands alone is a damaged row.
    """
    version = version_of(connection)
    if version <= schema.LATEST:
        return
    from immunos_mcp.ledger import soundness  # only after a failure

    found = soundness.find_version_problem(connection, version)
    if found is not None:
        raise LedgerError(f"ledger {path} {_REMEDIES[sqlite3.SQLITE_CORRUPT]} ({found})")
    raise LedgerError(
        f"ledger {path} was written by a newer immunos-mcp (ledger version {version}, this "
        f"program supports {schema.LATEST}); upgrade immunos-mcp, and restart clients that run it"
    )


@contextmanager
def transaction(connection: SqliteConnection, begin: str) -> Generator[None]:
    """Run a block in one transaction; either all of its changes are stored or none."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def busy_timeout(connection: SqliteConnection, seconds: float, usual: float) -> Generator[None]:
    """Let a block wait for other programs for some seconds instead of the usual ones."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(usual * 1000)}")


def _primary_code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


REPAIR = "run `immunos-mcp doctor --repair`, which keeps a copy"
"""What to do about a damaged ledger."""

_REMEDIES: dict[int, str] = {
    sqlite3.SQLITE_BUSY: "is locked by another program; try again, or stop that program",
    sqlite3.SQLITE_LOCKED: "is locked by another program; try again, or stop that program",
    sqlite3.SQLITE_READONLY: "cannot be written; give this user write access to it and its folder",
    sqlite3.SQLITE_PERM: "cannot be written; give this user write access to it and its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; give this user access to it and its folder",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space and try again",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk and its free space, then retry",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; choose another file with --db or IMMUNOS_DB",
    sqlite3.SQLITE_CORRUPT: f"is damaged; {REPAIR}",
}


_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


@contextmanager
def translated(path: Path, connection: SqliteConnection | None = None) -> Generator[None]:
    """Turn failures of the file into a ``LedgerError``; all other errors pass through.

    Text that is not UTF-8 counts as damage, though SQLite's error for it has no code. Any other error
    is a bug, unless the connection shows a value in the ledger that explains it.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = _primary_code(error)
        if not code and isinstance(error, sqlite3.OperationalError):
            code = sqlite3.SQLITE_CORRUPT
        remedy = _REMEDIES.get(code)
        if remedy is None:
            _blame_the_file(path, connection, error)
            raise
        kind = LedgerBusyError if code in _BUSY else LedgerError
        raise kind(f"ledger {path} {remedy} ({error})") from error
    except UnicodeDecodeError as error:
        # It was decoding what is stored; what is about to be stored is encoded.
        damaged = _REMEDIES[sqlite3.SQLITE_CORRUPT]
        raise LedgerError(f"ledger {path} {damaged} ({error})") from error
    except (ValueError, LookupError) as error:
        _blame_the_file(path, connection, error)
        raise


def _blame_the_file(path: Path, connection: SqliteConnection | None, error: Exception) -> None:
    """Report a ledger that holds what this program never writes; return if there is no such thing."""
    if connection is None:
        return
    from immunos_mcp.ledger import soundness  # only after a failure

    with translated(path):
        found = soundness.find_problem(connection)
    if found is not None:
        raise LedgerError(f"ledger {path} {_REMEDIES[sqlite3.SQLITE_CORRUPT]} ({found})") from error
