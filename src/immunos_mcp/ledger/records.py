"""What outcomes say of each model, kept beside the log: reading it costs the same however long that is.

All functions take a ``sqlite3.Connection`` in an open transaction; none begins or ends one.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from immunos_mcp.domain import Evidence, ModelRecord, Outcome, TaskRecord
from immunos_mcp.ledger.connection import utc_text
from immunos_mcp.rules import track_record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from immunos_mcp.domain import RecordRules

EVERYWHERE = ""
"""Stands for all task types together; no task type is spelled so."""

EVIDENCE_COLUMNS = "faded_successes, faded_failures, newest_at, newest_succeeded, tried_at"


_SELECT_TASK_RECORD = (
    f"SELECT task_type, model, {EVIDENCE_COLUMNS} FROM immunos_mcp_record"  # noqa: S608  # a constant
    " WHERE task_type IN (?, ?) ORDER BY task_type, model"
)
_NONE = Evidence()


def evidence(row: Sequence[Any]) -> Evidence:
    """Build evidence from the columns of ``EVIDENCE_COLUMNS``."""
    successes, failures, newest_at, newest_succeeded, tried_at = row
    return Evidence(
        successes,
        failures,
        newest_at and datetime.fromisoformat(newest_at),
        newest_succeeded == 1,
        tried_at and datetime.fromisoformat(tried_at),
    )


class ReadRecords:
    """What was read of the records, for as long as nobody writes to them.

    Reading takes a tenth of a decision's time, and outcomes are rarer than decisions.
    """

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._models: dict[str, dict[str, ModelRecord]] = {}

    def task_record(
        self, connection: sqlite3.Connection, task_type: str, now: datetime
    ) -> TaskRecord:
        """Return what is known of every model at a task type."""
        # SQLite counts what other connections commit; our own writers call ``forget``.
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or connection is not self._connection:
            self._connection, self._version = connection, version
            self._models.clear()
        models = self._models.get(task_type)
        if models is None:
            models = self._models[task_type] = _models(connection, task_type)
        return TaskRecord(models, now)

    def forget(self) -> None:
        """Read anew from now on: the connection itself has written."""
        self._models.clear()


def _models(connection: sqlite3.Connection, task_type: str) -> dict[str, ModelRecord]:
    models: dict[str, ModelRecord] = {}
    # In order of the key: what is known of all task types together comes first.
    for kind, model, *columns in connection.execute(_SELECT_TASK_RECORD, (EVERYWHERE, task_type)):
        known = evidence(columns)
        if kind:
            earlier = models.get(model)
            models[model] = ModelRecord(known, _NONE if earlier is None else earlier.everywhere)
        else:
            models[model] = ModelRecord(_NONE, known)
    return models


def learn(
    connection: sqlite3.Connection,
    task_type: str,
    model: str,
    outcome: Outcome,
    now: datetime,
    rules: RecordRules,
    corrected_at: datetime | None = None,
) -> None:
    """Add an outcome to a model's record at a task type and at all.

    With ``corrected_at`` it takes the place of its opposite, which was added at that moment.
    """
    succeeded = outcome is Outcome.SUCCESS
    gone = 0 if corrected_at is None else 1
    for kind in (task_type, EVERYWHERE):
        row = connection.execute(
            f"SELECT {EVIDENCE_COLUMNS} FROM immunos_mcp_record"  # noqa: S608  # a constant
            " WHERE task_type = ? AND model = ?",
            (kind, model),
        ).fetchone()
        before = Evidence() if row is None else evidence(row)
        if corrected_at is not None:
            before = track_record.take_back(
                before, succeeded=not succeeded, at=corrected_at, rules=rules
            )
        after = track_record.add(before, succeeded=succeeded, at=now, rules=rules)
        assert after.at is not None
        connection.execute(
            "INSERT INTO immunos_mcp_record (task_type, model, successes, failures,"
            " faded_successes, faded_failures, newest_at, newest_succeeded)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " successes = successes + excluded.successes, failures = failures + excluded.failures,"
            " faded_successes = excluded.faded_successes, faded_failures = excluded.faded_failures,"
            " newest_at = excluded.newest_at, newest_succeeded = excluded.newest_succeeded",
            (
                kind,
                model,
                1 if succeeded else -gone,
                -gone if succeeded else 1,
                after.successes,
                after.failures,
                utc_text(after.at),
                after.succeeded,
            ),
        )


def remember_trial(
    connection: sqlite3.Connection, task_type: str, model: str, now: datetime
) -> None:
    """Keep that a task was given to a model as a trial, so that its outcome is awaited."""
    connection.execute(
        "INSERT INTO immunos_mcp_record (task_type, model, tried_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET tried_at = excluded.tried_at",
        (task_type, model, utc_text(now)),
    )


def add_work(
    connection: sqlite3.Connection, task_type: str, model: str, tokens: int, seconds: float
) -> None:
    """Add what a decision's task took to its model's figures at the task type and at all."""
    connection.executemany(
        "INSERT INTO immunos_mcp_record (task_type, model, tokens, seconds) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens,"
        " seconds = seconds + excluded.seconds",
        [(kind, model, tokens, seconds) for kind in (task_type, EVERYWHERE)],
    )
