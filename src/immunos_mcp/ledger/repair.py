"""Recovers what is readable of a damaged ledger, after copying it.

Rows are read from a scratch copy, around pages that cannot be read, into a new database. SQLite's backup
then puts that in the ledger's place, in one transaction on the same file.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger import schema, soundness
from immunos_mcp.ledger.connections.sqlite_file import (
    mark_versions,
    refuse_newer,
    translated,
    version_of,
)
from immunos_mcp.ledger.leaf_pages import leaf_pages, page_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.ledger.leaf_pages import LeafPage

BUSY_TIMEOUT_SECONDS = 5.0
MOST_FAILURES = 20_000
"""Attempts to read rows between damaged pages; each costs a few microseconds."""

_UNRECOGNISABLE = (
    "immunos_mcp_binding",
    "immunos_mcp_pruned_request",
    "immunos_mcp_session_reason",
)
"""Tables whose rows look like those of another table or of an index."""

_BESIDE = ("", "-wal")
"""What is added to a database's name in the names of its files; the ``-shm`` file is derived."""


class Repaired(NamedTuple):
    """What a repair did.

    Attributes:
        copy: the copy of the ledger as it was; ``None``: it was intact.
        kept: the number of rows kept.
        lost: what was lost, in words.
    """

    copy: Path | None
    kept: int = 0
    lost: tuple[str, ...] = ()


def repair(path: Path) -> Repaired:
    """Recover a ledger if it is damaged.

    Raises:
        LedgerError: it is in use, was written by a newer version, is no database, or cannot be copied;
            nothing was changed.
    """
    with translated(path), ExitStack() as stack:
        ledger = stack.enter_context(closing(_connect(path)))
        is_locked = _lock(ledger)
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            if _find_version_problem(ledger) is None:
                refuse_newer(ledger, path)
            if is_locked and _is_intact(ledger):
                return Repaired(None)
        copy = _copied(path, stack)
        folder = stack.enter_context(TemporaryDirectory(dir=path.parent, prefix=f".{path.name}."))
        scratch, file = Path(folder, "scratch.db"), Path(folder, "new.db")
        for suffix in _BESIDE:
            _copy(Path(f"{copy}{suffix}"), Path(f"{scratch}{suffix}"))
        kept, lost = _rebuilt(scratch, file)
        if is_locked:
            with closing(sqlite3.connect(file)) as new:
                new.backup(ledger)
        else:
            file.chmod(path.stat().st_mode & 0o777)
            file.replace(path)
            Path(f"{path}-wal").unlink(missing_ok=True)
    return Repaired(copy, kept, lost)


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise LedgerError(f"ledger {path} does not exist; there is nothing to repair")
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)


def _lock(ledger: sqlite3.Connection) -> bool:
    """Keep all other programs out until the connection is closed.

    Returns:
        Whether that was possible: not where the file is so damaged that no program can open it.
    """
    ledger.execute("PRAGMA locking_mode = EXCLUSIVE")
    try:
        ledger.execute("BEGIN EXCLUSIVE")
        ledger.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        return False
    return True


def _is_intact(ledger: sqlite3.Connection) -> bool:
    (found,) = ledger.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok" or _find_version_problem(ledger) is not None:
        return False
    return version_of(ledger) != schema.LATEST or soundness.find_problem(ledger) is None


def _find_version_problem(ledger: sqlite3.Connection) -> str | None:
    return soundness.find_version_problem(ledger, version_of(ledger))


def _copied(path: Path, stack: ExitStack) -> Path:
    """Copy a ledger beside itself.

    The files stay open: closing one would give up the locks that this process holds on it.
    """
    copy = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
    try:
        for suffix in _BESIDE:
            source = Path(f"{path}{suffix}")
            if not source.exists():
                continue
            target = Path(f"{copy}{suffix}")
            target.touch(mode=0o600, exist_ok=False)
            with target.open("wb") as stream:
                shutil.copyfileobj(stack.enter_context(source.open("rb")), stream)
    except OSError as error:
        for suffix in _BESIDE:
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
        raise LedgerError(
            f"ledger {path} cannot be copied ({error.strerror}); nothing was changed"
        ) from error
    return copy


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copyfile(source, target)


def _rebuilt(scratch: Path, file: Path) -> tuple[int, tuple[str, ...]]:
    version = _restore_schema(scratch)
    pages = leaf_pages(scratch.read_bytes())
    has_list = _has_list_of_tables(scratch)
    if not has_list:
        pages = _give_list_of_tables(scratch, version, pages)
    with closing(sqlite3.connect(scratch, isolation_level=None)) as damaged:
        damaged.execute("PRAGMA writable_schema = ON")
        damaged.text_factory = soundness.as_text
        with closing(schema.empty(version, str(file))) as new:
            salvaged = _Salvage(damaged, new, pages, has_list=has_list).run()
            mark_versions(new, version)
            new.execute("PRAGMA journal_mode = WAL")
    return salvaged


def _has_list_of_tables(scratch: Path) -> bool:
    with closing(sqlite3.connect(scratch)) as damaged:
        damaged.execute("PRAGMA writable_schema = ON")
        try:
            listed = damaged.execute(
                "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"
            ).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            return False
    # Another table's page in its place has other values.
    return all(isinstance(value, str) for row in listed for value in row)


def _give_list_of_tables(scratch: Path, version: int, pages: Sequence[LeafPage]) -> list[LeafPage]:
    """Put the pages of a database behind those of an empty ledger; return their new numbers."""
    content = scratch.read_bytes()
    size = page_size(content)
    start = scratch.with_name("start.db")
    with closing(schema.empty(version, str(start), size)):
        pass
    begin = bytearray(start.read_bytes())
    added = len(begin) // size
    begin[28:32] = (added + len(content) // size).to_bytes(4, "big")
    scratch.write_bytes(bytes(begin) + content[: len(content) // size * size])
    return [page._replace(number=page.number + added) for page in pages]


def _restore_schema(scratch: Path) -> int:
    """Put back the definitions of our tables, and return the ledger's version."""
    with closing(sqlite3.connect(scratch, isolation_level=None)) as damaged:
        damaged.execute("PRAGMA writable_schema = ON")
        version = 0
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            version = version_of(damaged)
            if version > schema.LATEST or _find_version_problem(damaged) is not None:
                version = 0
        version = version or schema.LATEST
        with closing(schema.empty(version)) as expected, suppress(sqlite3.DatabaseError):
            for name, sql in expected.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"
            ).fetchall():
                damaged.execute(
                    "UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ?",
                    (sql, name),
                )
    return version


class _Salvage:
    """Copies what is readable from a damaged database to a new one."""

    def __init__(
        self,
        damaged: sqlite3.Connection,
        new: sqlite3.Connection,
        pages: Sequence[LeafPage],
        *,
        has_list: bool,
    ) -> None:
        """Prepare for copying.

        Args:
            damaged: what is read.
            new: an empty ledger.
            pages: the pages of ``damaged`` that hold rows.
            has_list: whether its own list of tables says which rows are whose.
        """
        self._damaged = damaged
        self._new = new
        self._pages = pages
        self._has_list = has_list
        self._fewest: dict[str, int] = {}
        for version in range(1, schema.LATEST + 1):
            # Rows keep the columns that their table had when they were written.
            for table, columns in schema.made(version).columns.items():
                self._fewest.setdefault(table, len(columns))
        self._kept = 0
        self._lost: list[str] = []

    def run(self) -> tuple[int, tuple[str, ...]]:
        """Copy all tables; return the number of rows kept, and what was lost."""
        self._new.execute("PRAGMA foreign_keys = OFF")
        self._new.execute("BEGIN")
        made = self._new.execute("SELECT type, name FROM sqlite_schema").fetchall()
        known = {name for _, name in made}
        ours = [name for kind, name in made if kind == "table"]
        definitions = self._definitions()
        others = [
            name
            for kind, name, sql in definitions
            if kind == "table" and name not in ours and self._define(kind, name, sql)
        ]
        for table in (*ours, *others):
            if table not in schema.DERIVED:
                self._copy_table(table)
        if not self._has_list:
            self._lost += ["the list of tables", *(f"all of {name}" for name in _UNRECOGNISABLE)]
        self._drop_orphans()
        # Only now, since triggers would run while rows are copied.
        for kind, name, sql in definitions:
            if kind != "table" and name not in known:
                self._define(kind, name, sql)
        self._new.execute("COMMIT")
        return self._kept, tuple(self._lost)

    def _definitions(self) -> list[tuple[str, str, str]]:
        """Return the kinds, names and definitions of what is in the file."""
        try:
            return self._damaged.execute(
                "SELECT type, name, sql FROM sqlite_schema"
                " WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            self._lost.append(f"the list of tables ({error})")
            return []

    def _define(self, kind: str, name: str, sql: str) -> bool:
        """Create something of another program in the new file; return whether that was possible."""
        if not sql.upper().startswith("CREATE "):
            # Anything else could end the transaction, or write to other files.
            self._lost.append(f"the {kind} {name} (no definition)")
            return False
        try:
            self._new.execute(sql)
        except (sqlite3.Error, ValueError) as error:
            self._lost.append(f"the {kind} {name} ({error})")
            return False
        return True

    def _copy_table(self, table: str) -> None:
        known = set(soundness.columns_of(self._new, table))
        try:
            present = soundness.columns_of(self._damaged, table)
        except sqlite3.DatabaseError:
            present = ()
        columns = [each for each in present if each in known]
        if not columns:
            self._lost.append(f"all of {table}")
            return
        reader = _Reader(self._damaged, table, columns)
        kept, unusable = self._add(table, columns, reader.rows())
        is_ours = table.startswith(schema.PREFIX) or table == "settings"
        is_told = is_ours and table not in (*_UNRECOGNISABLE, schema.VERSION_TABLE)
        if is_told and (reader.gaps or not self._has_list):
            for page in self._pages:
                is_possible = self._fewest[table] <= page.columns <= len(columns)
                if is_possible and page.has_row_ids == reader.has_row_ids:
                    # The rows of other tables do not fit.
                    kept += self._add(table, columns, reader.rows_on(page.number))[0]
        self._kept += kept
        if unusable:
            self._lost.append(f"{unusable} unreadable rows of {table}")
        if reader.gaps:
            self._lost.append(f"rows of {table} on damaged pages ({kept} were kept)")

    def _add(
        self, table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]
    ) -> tuple[int, int]:
        """Add rows to a new table; return how many are new, and how many are no rows of it."""
        names = ", ".join(map(_quoted, columns))
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT OR IGNORE INTO {_quoted(table)} ({names}) VALUES ({marks})"  # noqa: S608  # quoted names
        kept = unusable = 0
        for stored in rows:
            row = tuple(map(_as_stored, stored))
            if soundness.problem(table, columns, row) is not None:
                unusable += 1
                continue
            try:
                kept += max(0, self._new.execute(insert, row).rowcount)
            except sqlite3.DatabaseError:
                unusable += 1
        return kept, unusable

    def _drop_orphans(self) -> None:
        """Clear references to rows that are gone; drop the rows that cannot do without."""
        while gone := self._new.execute(
            'SELECT DISTINCT "table", parent, fkid FROM pragma_foreign_key_check'
        ).fetchall():
            for table, parent, reference in gone:
                self._drop_orphans_of(table, parent, reference)

    def _drop_orphans_of(self, table: str, parent: str, reference: int) -> None:
        column, key = self._new.execute(
            'SELECT "from", "to" FROM pragma_foreign_key_list(?) WHERE id = ?', (table, reference)
        ).fetchone()
        (is_needed,) = self._new.execute(
            'SELECT "notnull" FROM pragma_table_info(?) WHERE name = ?', (table, column)
        ).fetchone()
        name, own = _quoted(table), _quoted(column)
        change = f"DELETE FROM {name}" if is_needed else f"UPDATE {name} SET {own} = NULL"  # noqa: S608  # quoted names
        count = self._new.execute(
            f"{change} WHERE {own} NOT IN (SELECT {_quoted(key)} FROM {_quoted(parent)})"  # noqa: S608  # quoted names
        ).rowcount
        if is_needed:
            self._kept -= count
            self._lost.append(f"{count} rows of {table} whose row of {parent} is gone")
        else:
            self._lost.append(f"{count} references from {table} to {parent}")


class _Reader:
    """Reads the rows of a table, around those that cannot be read.

    Attributes:
        columns: the columns, quoted and joined.
        gaps: whether some rows could not be read.
    """

    def __init__(self, damaged: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        self.columns = ", ".join(_quoted(column) for column in columns)
        self.gaps = False
        self._damaged = damaged
        self._name = table
        self._table = _quoted(table)

    def rows_on(self, page: int) -> Iterator[tuple[Any, ...]]:
        """Return the rows on one page, as if the table had no other."""
        with suppress(sqlite3.DatabaseError):
            self._damaged.execute(
                "UPDATE sqlite_schema SET rootpage = ? WHERE type = 'table' AND name = ?",
                (page, self._name),
            )
            self._damaged.execute("PRAGMA writable_schema = RESET")
            self._damaged.execute("PRAGMA writable_schema = ON")
            yield from self._damaged.execute(
                f"SELECT {self.columns} FROM {self._table} NOT INDEXED"  # noqa: S608  # quoted names
            )

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Return the readable rows: from both ends to the damage, then in between."""
        key = "rowid" if self.has_row_ids else self.columns.partition(", ")[0]
        select = f"SELECT {key}, {self.columns} FROM {self._table}"  # noqa: S608  # quoted names
        ends: list[Any] = []
        for order in ("", " DESC"):
            reached = None
            try:
                for row in self._damaged.execute(f"{select} ORDER BY {key}{order}"):
                    reached = row[0]
                    yield row[1:]
            except sqlite3.DatabaseError:
                self.gaps = True
                ends.append(reached)
            else:
                return
        if self.has_row_ids and None not in ends:
            yield from self._between(f"{select} WHERE rowid BETWEEN ? AND ?", *ends)

    @cached_property
    def has_row_ids(self) -> bool:
        """Whether the table has row ids."""
        try:
            self._damaged.execute(f"SELECT rowid FROM {self._table} LIMIT 0")  # noqa: S608  # a quoted name
        except sqlite3.DatabaseError:
            return False
        return True

    def _between(self, select: str, before: int, behind: int) -> Iterator[tuple[Any, ...]]:
        """Read rows by their ids; a range that cannot be read, in halves."""
        waiting, failures = [(before + 1, behind - 1)], 0
        while waiting and failures < MOST_FAILURES:
            first, last = waiting.pop()
            try:
                for row_id, *row in self._damaged.execute(select, (first, last)):
                    first = row_id + 1
                    yield tuple(row)
            except sqlite3.DatabaseError:
                failures += 1
                if first < last:
                    middle = (first + last) // 2
                    waiting += [(middle + 1, last), (first, middle)]


def _as_stored(value: Any) -> Any:
    """Return a value that can be stored: bytes that are not UTF-8 become replacement characters."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
