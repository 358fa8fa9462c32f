"""What outcomes say of each model, kept beside the log: reading it costs the same however long that is.

Each function runs inside a transaction that its caller began, and ends none. What was read is kept
for the connection until somebody writes a record: reading takes a tenth of a decision's time, and
outcomes are rarer than decisions. So nothing but this module may write to the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from msgspec import Struct

from immunos_mcp.domain import Outcome
from immunos_mcp.ledger.dialect import Connection, foreign_changes
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.rules import track_record
from immunos_mcp.rules.track_record import Evidence, ModelRecord, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.rules.settings import Settings


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
        moment_of(newest_at),
        newest_succeeded == 1,
        moment_of(tried_at),
    )


class _Read(Struct):
    """What a connection read of the records, by task type, and when."""

    foreign_changes: int
    models: dict[str, dict[str, ModelRecord]]


_read: WeakKeyDictionary[Connection, _Read] = WeakKeyDictionary()


def task_record(connection: Connection, task_type: str, now: datetime) -> TaskRecord:
    """Return what is known of every model at a task type."""
    changes = foreign_changes(connection)
    read = _read.get(connection)
    if read is None or read.foreign_changes != changes:
        read = _read[connection] = _Read(changes, {})
    models = read.models.get(task_type)
    if models is None:
        models = read.models[task_type] = _models(connection, task_type)
    return TaskRecord(models, now)


def _forget(connection: Connection) -> None:
    """Read anew from now on: the connection itself writes."""
    _read.pop(connection, None)


def _models(connection: Connection, task_type: str) -> dict[str, ModelRecord]:
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
    connection: Connection,
    task_type: str,
    model: str,
    outcome: Outcome,
    now: datetime,
    settings: Settings,
    corrected_at: datetime | None = None,
) -> None:
    """Add an outcome to a model's record at a task type and at all.

    With ``corrected_at`` it takes the place of its opposite, which was added at that moment.
    """
    _forget(connection)
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
                before, succeeded=not succeeded, at=corrected_at, settings=settings
            )
        after = track_record.add(before, succeeded=succeeded, at=now, settings=settings)
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


def remember_trial(connection: Connection, task_type: str, model: str, now: datetime) -> None:
    """Keep that a task was given to a model as a trial, so that its outcome is awaited."""
    _forget(connection)
    connection.execute(
        "INSERT INTO immunos_mcp_record (task_type, model, tried_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET tried_at = excluded.tried_at",
        (task_type, model, utc_text(now)),
    )


def add_work(
    connection: Connection, task_type: str, model: str, tokens: int, seconds: float
) -> None:
    """Add what a decision's task took to its model's figures at the task type and at all."""
    connection.executemany(
        "INSERT INTO immunos_mcp_record (task_type, model, tokens, seconds) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens,"
        " seconds = seconds + excluded.seconds",
        [(kind, model, tokens, seconds) for kind in (task_type, EVERYWHERE)],
    )
