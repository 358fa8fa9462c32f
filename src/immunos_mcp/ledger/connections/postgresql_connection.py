"""The connection that PostgreSQL's ledgers hand to operations.

Statements are sent without waiting for the answers of those before them: an operation waits only where it
looks at an answer.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from psycopg.adapt import Loader
from psycopg.types.numeric import IntDumper
from psycopg.types.string import StrDumper

from immunos_mcp.ledger.dialect import IN_LIST, IN_NUMBERS
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import psycopg
    from psycopg.abc import Buffer

    from immunos_mcp.ledger.dialect import Rows

STREAMED_ROWS = 2000

_FRAGMENTS = {
    # An array, so that an index finds each.
    IN_LIST: "= ANY (ARRAY(SELECT jsonb_array_elements_text(CAST(? AS jsonb))))",
    IN_NUMBERS: "= ANY (ARRAY(SELECT CAST(jsonb_array_elements_text(CAST(? AS jsonb)) AS bigint)))",
    # What is unique in a file is unique in a team.
    "ON CONFLICT (": "ON CONFLICT (team_id, ",
}


class _TruthDumper(IntDumper):
    """Stores truth values as the whole numbers that the columns hold."""

    def dump(self, obj: Any) -> Buffer | None:
        return super().dump(int(obj))


class _TextDumper(StrDumper):
    """Stores text without the one character that PostgreSQL refuses."""

    def dump(self, obj: str) -> Buffer | None:
        return (obj.replace("\0", "\ufffd") if "\0" in obj else obj).encode()


class _SumLoader(Loader):
    """Reads a sum of whole numbers, for which PostgreSQL has a type without a limit."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


def adapt(driver: psycopg.Connection) -> None:
    """Have a connection take and give the same values as SQLite."""
    driver.adapters.register_dumper(str, _TextDumper)
    driver.adapters.register_dumper(bool, _TruthDumper)
    driver.adapters.register_loader("numeric", _SumLoader)


class PostgresqlRows:
    """What a statement returns, once somebody looks."""

    __slots__ = ("_cursor", "_pipeline")

    def __init__(self, cursor: psycopg.Cursor, pipeline: psycopg.Pipeline) -> None:
        self._cursor = cursor
        self._pipeline = pipeline

    @property
    def rowcount(self) -> int:
        """The number of rows that it changed."""
        self._pipeline.sync()
        return self._cursor.rowcount

    def fetchone(self) -> Any:
        """Return the next row, or ``None``."""
        return self._cursor.fetchone()

    def fetchmany(self, size: int, /) -> list[Any]:
        """Return the next rows."""
        return self._cursor.fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return self._cursor.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


class _StreamedRows:
    """Rows that stay in the database until somebody looks; ``Rows`` describes it."""

    rowcount = -1

    def __init__(self, connection: PostgresqlConnection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._ready: deque[Any] = deque()

    def fetchone(self) -> Any:
        """Return the next row, or ``None``."""
        return next(iter(self), None)

    def fetchmany(self, size: int, /) -> list[Any]:
        """Return the next rows."""
        return list(islice(self, size))

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        while self._ready or self._fetch():
            yield self._ready.popleft()

    def _fetch(self) -> bool:
        fetching = f"FETCH FORWARD {STREAMED_ROWS} FROM {self._name}"
        self._ready.extend(self._connection.execute(fetching).fetchall())
        return bool(self._ready)


class PostgresqlConnection:
    """What operations need of PostgreSQL; ``Connection`` describes it."""

    def __init__(self, driver: psycopg.Connection) -> None:
        self.driver = driver
        self.last_uses: tuple[object, object] | None = None
        self.last_settings: str | None = None
        self._ahead: dict[tuple[str, tuple[Any, ...]], PostgresqlRows] = {}
        self._ids: dict[str, PostgresqlRows] = {}
        self._transactions = 0
        self._pipeline: psycopg.Pipeline | None = None
        self._streams = count()

    def begin(self, pipeline: psycopg.Pipeline) -> None:
        """Begin a transaction, whose statements go through a pipeline."""
        self._pipeline = pipeline
        self._ahead.clear()
        self._ids.clear()
        self._transactions += 1

    def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /
    ) -> Rows:
        """Run a statement."""
        if self._ahead and not isinstance(parameters, dict):
            sent = self._ahead.pop((statement, tuple(parameters)), None)
            if sent is not None:
                return sent
        return self._sent(statement, parameters)

    def _sent(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any]
    ) -> PostgresqlRows:
        assert self._pipeline is not None
        cursor = self.driver.execute(_adapted(statement, parameters), parameters)
        return PostgresqlRows(cursor, self._pipeline)

    def stream(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Rows:
        """Run a statement whose rows are fetched in portions."""
        name = f"immunos_mcp_stream_{next(self._streams)}"
        self.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {statement}", parameters)
        return _StreamedRows(self, name)

    def id_ahead(self, table: str, column: str, /) -> None:
        """Ask for the next id of a table, which ``added_id`` gives to the row that it adds."""
        self._ids[column] = self._sent(
            f"SELECT nextval('{TABLES_SCHEMA}.{table}_{column}_seq')", ()
        )

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> None:
        """Run a statement with each of these parameters."""
        every = list(parameters)
        if every:
            self.driver.cursor().executemany(_adapted(statement, every[0]), every)

    def added_id(self, column: str, statement: str, parameters: Sequence[Any], /) -> int:
        """Insert a row, and return the id that it got in a column."""
        announced = self._ids.pop(column, None)
        if announced is not None:
            (number,) = announced.fetchone()
            given = statement.replace("(", f"({column}, ", 1).replace("VALUES (", "VALUES (?, ", 1)
            self.execute(given, (number, *parameters))
            return int(number)
        (added,) = self.execute(f"{statement} RETURNING {column}", parameters).fetchone()
        return int(added)

    def foreign_changes(self) -> int:
        """Return the number of the transaction, since others may have committed before it."""
        return self._transactions

    def change_mark(self) -> tuple[int, int]:
        """Return how much the database has written so far."""
        (written,) = self.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        return int(written), 0

    def ahead(self, statement: str, parameters: Sequence[Any] = (), /) -> None:
        """Send a statement, whose rows ``execute`` returns when it is to run this statement."""
        self._ahead[statement, tuple(parameters)] = self._sent(statement, parameters)

    def ensure_index(self, name: str) -> None:
        """Do nothing: all indexes are there from the beginning."""

    def drop_index(self, name: str) -> None:
        """Do nothing: all indexes stay."""

    def ensure_trigger(self, name: str, event: str, table: str, statement: str) -> None:
        """Do nothing: all triggers are there from the beginning."""


def _adapted(statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> bytes:
    names = tuple(parameters) if isinstance(parameters, dict) else ()
    return _in_driver_s_words(statement, names)


@lru_cache(maxsize=512)
def _in_driver_s_words(statement: str, names: tuple[str, ...]) -> bytes:
    """Return a statement with this database's fragments and the driver's placeholders."""
    for theirs, ours in _FRAGMENTS.items():
        statement = statement.replace(theirs, ours)
    statement = statement.replace("%", "%%")
    for name in sorted(names, key=len, reverse=True):
        statement = statement.replace(f":{name}", f"%({name})s")
    return statement.replace("?", "%s").encode()
