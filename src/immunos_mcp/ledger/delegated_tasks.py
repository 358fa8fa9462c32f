"""The delegated tasks of all processes: how each stands, as the process that runs it last said.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from immunos_mcp.domain import DelegatedTask, TaskState
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from immunos_mcp.ledger.dialect import Connection

_COLUMNS = "decision_id, model, state, process, begun_at, seen_at, tokens"


def note_task(connection: Connection, task: DelegatedTask) -> None:
    """Store how a task stands now."""
    connection.execute(
        f"INSERT INTO immunos_mcp_delegated_task ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # a constant
        " ON CONFLICT (decision_id) DO UPDATE SET model = excluded.model, state = excluded.state,"
        " process = excluded.process, begun_at = excluded.begun_at, seen_at = excluded.seen_at,"
        " tokens = excluded.tokens",
        (
            task.decision_id,
            task.model,
            task.state,
            task.process,
            utc_text(task.begun_at),
            utc_text(task.seen_at),
            task.tokens,
        ),
    )


def find_task(connection: Connection, decision_id: int) -> DelegatedTask | None:
    """Return the task that was delegated by a decision."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM immunos_mcp_delegated_task WHERE decision_id = ?",  # noqa: S608  # a constant
        (decision_id,),
    ).fetchone()
    return None if row is None else _task(row)


def newest_tasks(connection: Connection, most: int) -> tuple[DelegatedTask, ...]:
    """Return the newest tasks, newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM immunos_mcp_delegated_task ORDER BY decision_id DESC LIMIT ?",  # noqa: S608  # a constant
        (most,),
    )
    return tuple(map(_task, rows))


def _task(row: tuple[int, str, str, str, str, str, int]) -> DelegatedTask:
    decision_id, model, state, process, begun_at, seen_at, tokens = row
    begun, seen = map(datetime.fromisoformat, (begun_at, seen_at))
    return DelegatedTask(decision_id, model, TaskState(state), process, begun, seen, tokens)
