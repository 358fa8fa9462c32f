"""Statements on their way to PostgreSQL: sent without waiting for the answers of those before them.

A cursor of the driver takes longer for a short statement than the database does, and a team's lock is held
meanwhile. So this works on the layer below the cursors.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg import errors
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.waiting import Ready, Wait, wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGresult

_PREPARED = 400
_INTERRUPTIBLE_SECONDS = 0.5
_UNKNOWN, _LARGE_WHOLE, _WHOLE, _TEXT, _FRACTION = 0, 20, 23, 25, 701
_LARGE = 1 << 31
_NOT_DONE = (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED)


class Answer:
    """What a statement returns, once somebody looks; ``Rows`` describes it."""

    __slots__ = ("_pipeline", "_rows", "result")

    def __init__(self, pipeline: Pipeline) -> None:
        self.result: PGresult | None = None
        self._pipeline = pipeline
        self._rows: Iterator[Any] | None = None

    @property
    def rowcount(self) -> int:
        """The number of rows that it changed."""
        return self._arrived().command_tuples or 0

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
        if self._rows is None:
            self._rows = iter(self._pipeline.rows_of(self._arrived()))
        return self._rows

    def _arrived(self) -> PGresult:
        if self.result is None:
            self._pipeline.wait()
            assert self.result is not None
        return self.result


_Statement: TypeAlias = tuple[bytes, tuple[int, ...]]
"""What is prepared under one name: a text with certain types of parameters."""


class Pipeline:
    """The statements of one connection, in the order in which they are sent.

    Attributes:
        waits: how often it has waited for the database.
        is_reading: whether nobody has to wait for what it does. If somebody has to, the database gives up a
            transaction of which it hears nothing for too long.
    """

    def __init__(self, driver: psycopg.Connection) -> None:
        self.waits = 0
        self.is_reading = False
        self._connection = driver.pgconn
        self._values = Transformer(driver)
        # One for each answer that is to come; ``None`` for what ends an exchange.
        self._pending: deque[Answer | None] = deque()
        self._names: OrderedDict[_Statement, bytes | None] = OrderedDict()
        self._named = 0
        self._unsure: list[_Statement] = []
        self.enter()

    def enter(self) -> None:
        """Take the connection, which nothing else may use then."""
        self._connection.enter_pipeline_mode()

    def leave(self) -> None:
        """Give the connection back to the driver, once all answers have arrived."""
        self.wait()
        self._connection.exit_pipeline_mode()

    def send(
        self, text: bytes, parameters: Sequence[Any] = (), *, is_repeated: bool = True
    ) -> Answer:
        """Send a statement, with ``$1`` and so on for its parameters; it may wait in a buffer."""
        values, types = _encoded(parameters)
        statement = (text, types)
        name = self._name(statement) if is_repeated else None
        if name is None:
            self._connection.send_query_params(text, values, types)
        else:
            self._connection.send_query_prepared(name, values)
        return self._expected()

    def _name(self, statement: _Statement) -> bytes | None:
        """Return the name of a prepared statement; what is used for the first time is not prepared."""
        if statement not in self._names:
            self._names[statement] = None
            if len(self._names) > _PREPARED:
                self._forget_oldest()
            return None
        self._names.move_to_end(statement)
        name = self._names[statement]
        if name is None:
            self._named += 1
            name = self._names[statement] = b"immunos_%d" % self._named
            self._unsure.append(statement)
            self._connection.send_prepare(name, *statement)
            self._expected()
        return name

    def _forget_oldest(self) -> None:
        _, name = self._names.popitem(last=False)
        if name is not None:
            self.send(b"DEALLOCATE " + name, is_repeated=False)

    def _expected(self) -> Answer:
        answer = Answer(self)
        self._pending.append(answer)
        return answer

    def wait(self) -> None:
        """Wait until all answers have arrived.

        Raises:
            psycopg.Error: the first statement that failed, or the connection was lost.
        """
        if self.is_reading:
            self._connection.send_flush_request()
        else:
            self._end_exchange()
        self.waits += 1
        failure = self._exchanged()
        if failure is not None:
            for statement in self._unsure:
                self._names[statement] = None
        self._unsure.clear()
        if failure is not None:
            raise failure

    def commit(self) -> None:
        """End a transaction; nobody waits for the end of one that has only read.

        Raises:
            psycopg.Error: a statement failed, or the connection was lost.
        """
        is_answered = not self._pending
        self.send(b"COMMIT")
        if self.is_reading and is_answered:
            self._end_exchange()
        else:
            self.wait()

    def roll_back(self) -> None:
        """End a transaction that failed, whatever was sent in it.

        Raises:
            psycopg.Error: the connection was lost.
        """
        # After a failure, the database skips everything until an exchange ends.
        self._end_exchange()
        self.send(b"ROLLBACK", is_repeated=False)
        self._end_exchange()
        self._exchanged()

    def _end_exchange(self) -> None:
        self._connection.pipeline_sync()
        self._pending.append(None)

    def rows_of(self, result: PGresult) -> list[tuple[Any, ...]]:
        """Return the rows of a result, as the values that they are for."""
        self._values.set_pgresult(result)
        return self._values.load_rows(0, result.ntuples, tuple)

    def _exchanged(self) -> psycopg.Error | None:
        return wait(self._exchange(), self._connection.socket, _INTERRUPTIBLE_SECONDS)

    def _exchange(self) -> PQGen[psycopg.Error | None]:
        """Send what is in buffers and take all answers; return the first failure."""
        connection, pending = self._connection, self._pending
        while connection.flush():
            if (yield Wait.RW) & Ready.R:
                connection.consume_input()
        failure: psycopg.Error | None = None
        while pending:
            while connection.is_busy():
                yield Wait.R
                connection.consume_input()
            result, expected = connection.get_result(), pending[0]
            # An answer has an end of its own.
            if result is None or expected is None:
                pending.popleft()
            elif result.status in _NOT_DONE:
                failure = failure or self._failure(result)
            else:
                expected.result = result
        return failure

    def _failure(self, result: PGresult) -> psycopg.Error:
        if self._connection.status == ConnStatus.BAD:
            return psycopg.OperationalError(result.get_error_message())
        return errors.error_from_result(result)


def _encoded(parameters: Sequence[Any]) -> tuple[list[bytes | None], tuple[int, ...]]:
    """Return how values are sent, and their types."""
    values: list[bytes | None] = []
    types: list[int] = []
    for value in parameters:
        if value is None:
            values.append(None)
            types.append(_UNKNOWN)
        elif isinstance(value, str):
            encoded = value.encode()
            # There is one character that PostgreSQL refuses.
            values.append(encoded.replace(b"\0", b"\xef\xbf\xbd") if b"\0" in encoded else encoded)
            types.append(_TEXT)
        elif isinstance(value, int):
            # Truth values too, since the columns hold whole numbers.
            values.append(b"%d" % value)
            types.append(_WHOLE if -_LARGE <= value < _LARGE else _LARGE_WHOLE)
        elif isinstance(value, float):
            values.append(repr(float(value)).encode())
            types.append(_FRACTION)
        else:
            raise TypeError(f"no column holds a {type(value).__name__}")
    return values, tuple(types)
