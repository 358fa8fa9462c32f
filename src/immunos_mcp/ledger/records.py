"""The track record of each model, stored beside the log so that reading it does not slow as the log grows.

Each function runs inside its caller's transaction and does not end it. Records are cached per
connection until one is written: reading them takes a tenth of a decision's time, and outcomes are
rarer than decisions. So only this module may write records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from msgspec import Struct

from immunos_mcp.domain import Outcome
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.rules import track_record
from immunos_mcp.rules.track_record import Evidence, ModelRecord, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings


EVERYWHERE = ""
"""The key for all task types together; no task type has this name."""

EVIDENCE_COLUMNS = "faded_successes, faded_failures, newest_at, newest_succeeded, tried_at"


_SELECT_TASK_RECORD = (
    f"SELECT task_type, model, {EVIDENCE_COLUMNS} FROM immunos_mcp_record"  # noqa: S608  # a constant
    " WHERE task_type IN (?, ?) ORDER BY task_type, model"
)
_SELECT_EVIDENCE = (
    f"SELECT {EVIDENCE_COLUMNS} FROM immunos_mcp_record WHERE task_type = ? AND model = ?"  # noqa: S608  # a constant
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


class _Cache(Struct):
    """The records that a connection has cached, by task type, and the change counter at that time."""

    foreign_changes: int
    models: dict[str, dict[str, ModelRecord]]


_caches: WeakKeyDictionary[Connection, _Cache] = WeakKeyDictionary()


def look_ahead(connection: Connection, task_type: str) -> None:
    """Announce that the records for a task type may be needed."""
    connection.ahead(_SELECT_TASK_RECORD, (EVERYWHERE, task_type))


def task_record(connection: Connection, task_type: str, now: datetime) -> TaskRecord:
    """Return the record of every model for a task type."""
    changes = connection.foreign_changes()
    cache = _caches.get(connection)
    if cache is None or cache.foreign_changes != changes:
        cache = _caches[connection] = _Cache(changes, {})
    models = cache.models.get(task_type)
    if models is None:
        models = cache.models[task_type] = _models(connection, task_type)
    return TaskRecord(models, now)


def _forget(connection: Connection) -> None:
    """Drop the cache: the connection is about to write."""
    _caches.pop(connection, None)


def _models(connection: Connection, task_type: str) -> dict[str, ModelRecord]:
    models: dict[str, ModelRecord] = {}
    # Ordered by key, so the records for all task types together come first.
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
    """Add an outcome to a model's record for a task type and to its record for all task types.

    With ``corrected_at`` it replaces the opposite outcome, which was added at that time.
    """
    _forget(connection)
    succeeded = outcome is Outcome.SUCCESS
    gone = 0 if corrected_at is None else 1
    for kind in (task_type, EVERYWHERE):
        connection.ahead(_SELECT_EVIDENCE, (kind, model))
    for kind in (task_type, EVERYWHERE):
        row = connection.execute(_SELECT_EVIDENCE, (kind, model)).fetchone()
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
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task_type, model) DO UPDATE SET"
            " successes = immunos_mcp_record.successes + excluded.successes,"
            " failures = immunos_mcp_record.failures + excluded.failures,"
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
    """Record that a model got a task as a trial, so that no other trial starts before its outcome."""
    _forget(connection)
    connection.execute(
        "INSERT INTO immunos_mcp_record (task_type, model, tried_at) VALUES (?, ?, ?)"
        " ON CONFLICT (task_type, model) DO UPDATE SET tried_at = excluded.tried_at",
        (task_type, model, utc_text(now)),
    )


def add_work(
    connection: Connection, task_type: str, model: str, tokens: int, seconds: float
) -> None:
    """Add a task's tokens and seconds to its model's figures, for the task type and for all of them."""
    connection.executemany(
        "INSERT INTO immunos_mcp_record (task_type, model, tokens, seconds) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (task_type, model) DO UPDATE SET"
        " tokens = immunos_mcp_record.tokens + excluded.tokens,"
        " seconds = immunos_mcp_record.seconds + excluded.seconds",
        [(kind, model, tokens, seconds) for kind in (task_type, EVERYWHERE)],
    )
