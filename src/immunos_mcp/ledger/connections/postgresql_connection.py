"""The connection that PostgreSQL's ledgers hand to operations.

Statements are sent without waiting for the answers of those before them: an operation waits only where it
looks at an answer.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from functools import lru_cache
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from msgspec.json import encode
from psycopg.adapt import Loader

from immunos_mcp.ledger.connections.postgresql_pipeline import Pipeline
from immunos_mcp.ledger.dialect import IN_LIST, IN_NUMBERS
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    import psycopg
    from psycopg.abc import Buffer

    from immunos_mcp.ledger.connections.postgresql_pipeline import Answer
    from immunos_mcp.ledger.dialect import Rows

STREAMED_ROWS = 2000

_FRAGMENTS = {
    # An array, so that an index finds each.
    IN_LIST: "= ANY (ARRAY(SELECT jsonb_array_elements_text(CAST(? AS jsonb))))",
    IN_NUMBERS: "= ANY (ARRAY(SELECT CAST(jsonb_array_elements_text(CAST(? AS jsonb)) AS bigint)))",
    # What is unique in a file is unique in a team.
    "ON CONFLICT (": "ON CONFLICT (team_id, ",
}


class _SumLoader(Loader):
    """Reads a sum of whole numbers, for which PostgreSQL has a type without a limit."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


def adapt(driver: psycopg.Connection) -> None:
    """Have a connection give the same values as SQLite."""
    driver.adapters.register_loader("numeric", _SumLoader)


class _StreamedRows:
    """Rows that stay in the database until somebody looks; ``Rows`` describes it."""

    rowcount = -1

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self._pipeline = pipeline
        self._fetching = f"FETCH FORWARD {STREAMED_ROWS} FROM {name}".encode()
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
        # It is not repeated, since a cursor of the same name may have other columns.
        self._ready.extend(self._pipeline.send(self._fetching, is_repeated=False))
        return bool(self._ready)


class PostgresqlConnection:
    """What operations need of PostgreSQL; ``Connection`` describes it."""

    def __init__(self, driver: psycopg.Connection) -> None:
        self.driver = driver
        self.pipeline = Pipeline(driver)
        self.is_remote = True
        self.last_uses: tuple[object, object] | None = None
        self.last_settings: str | None = None
        self.person_id: int | None = None
        self._ahead: dict[tuple[str, tuple[Any, ...]], Answer] = {}
        self._ids: dict[str, Answer] = {}
        self._transactions = 0
        self._streams = count()

    def begin(self) -> None:
        """Forget what was announced in the transaction before."""
        self._ahead.clear()
        self._ids.clear()
        self._transactions += 1

    def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /
    ) -> Rows:
        """Run a statement."""
        if self._ahead:
            sent = self._ahead.pop(_announced(statement, parameters), None)
            if sent is not None:
                return sent
        return self._sent(statement, parameters)

    def _sent(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> Answer:
        names, given = (), tuple(parameters)
        if isinstance(parameters, dict):
            names, given = given, tuple(parameters.values())
        text, is_repeated = _in_driver_s_words(statement, names)
        return self.pipeline.send(text, given, is_repeated=is_repeated)

    @contextmanager
    def without_pipeline(self) -> Generator[psycopg.Connection]:
        """Give the connection to a block that uses what the driver has besides statements."""
        self.pipeline.leave()
        yield self.driver
        self.pipeline.enter()

    def stream(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Rows:
        """Run a statement whose rows are fetched in portions."""
        name = f"immunos_mcp_stream_{next(self._streams)}"
        self.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {statement}", parameters)
        return _StreamedRows(self.pipeline, name)

    def ahead(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> None:
        """Send a statement, whose rows ``execute`` returns when it is to run this statement."""
        self._ahead[_announced(statement, parameters)] = self._sent(statement, parameters)

    def id_ahead(self, table: str, column: str, /) -> None:
        """Ask for the next id of a table, which ``added_id`` gives to the row that it adds."""
        asking = f"SELECT nextval('{TABLES_SCHEMA}.{table}_{column}_seq')"
        self._ids[column] = self.pipeline.send(asking.encode())

    def add_rows(self, table: str, columns: Mapping[str, Sequence[Any]], /) -> None:
        """Insert rows in one statement, which takes the database half as long as one for each."""
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if not rows:
            return
        names = ", ".join(columns)
        adding = (
            f"INSERT INTO {table} ({names}) SELECT {names}"  # noqa: S608  # constants
            f" FROM json_populate_recordset(CAST(NULL AS {table}), CAST($1 AS json))"
        )
        self.pipeline.send(adding.encode(), (_as_objects(rows),))

    def executemany(self, statement: str, parameters: Iterable[Sequence[Any]], /) -> None:
        """Run a statement with each of these parameters."""
        text, _ = _in_driver_s_words(statement)
        for each in parameters:
            self.pipeline.send(text, each)

    def added_id(self, column: str, statement: str, parameters: Sequence[Any], /) -> int:
        """Insert a row, and return the id that it got in a column."""
        announced = self._ids.pop(column, None)
        if announced is not None:
            (number,) = announced.fetchone()
            self.execute(_with_id(statement, column), (number, *parameters))
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

    def ensure_index(self, name: str) -> None:
        """Do nothing: all indexes are there from the beginning."""

    def drop_index(self, name: str) -> None:
        """Do nothing: all indexes stay."""

    def ensure_trigger(self, name: str, event: str, table: str, statement: str) -> None:
        """Do nothing: all triggers are there from the beginning."""

    def drop_trigger(self, name: str) -> None:
        """Do nothing: all triggers stay."""


@lru_cache
def _with_id(statement: str, column: str) -> str:
    """Return a statement that inserts a row, with the row's id as its first parameter."""
    return statement.replace("(", f"({column}, ", 1).replace("VALUES (", "VALUES (?, ", 1)


def _as_objects(rows: Sequence[Mapping[str, Any]]) -> str:
    encoded = encode(rows)
    if rb"\u0000" in encoded:
        # The one character that PostgreSQL refuses, or a text that looks like it.
        encoded = encode(
            [{name: _without_null(value) for name, value in row.items()} for row in rows]
        )
    return encoded.decode()


def _without_null(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _announced(
    statement: str, parameters: Sequence[Any] | Mapping[str, Any]
) -> tuple[str, tuple[Any, ...]]:
    named = isinstance(parameters, dict)
    return statement, tuple(parameters.values() if named else parameters)


@lru_cache(maxsize=512)
def _in_driver_s_words(statement: str, names: tuple[str, ...] = ()) -> tuple[bytes, bool]:
    """Return a statement in this database's words, and whether it may keep its plan.

    The plan of one that finds many rows, made while a table was small, would read all of it later.
    """
    is_repeated = IN_LIST not in statement and IN_NUMBERS not in statement
    for theirs, ours in _FRAGMENTS.items():
        statement = statement.replace(theirs, ours)
    for place, name in sorted(enumerate(names, 1), key=lambda each: -len(each[1])):
        statement = statement.replace(f":{name}", f"${place}")
    first, *others = statement.split("?")
    text = first + "".join(f"${place}{part}" for place, part in enumerate(others, 1))
    return text.encode(), is_repeated
