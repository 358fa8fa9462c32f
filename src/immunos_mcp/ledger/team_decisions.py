"""Decisions that a team's server made, as this ledger keeps them.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.ledger.decisions import (
    ASKED_COLUMNS,
    DECISION_COLUMNS,
    asked,
    count_reason,
    logged_of,
)
from immunos_mcp.ledger.joined_team import note_contact
from immunos_mcp.ledger.moments import as_stored, utc_text
from immunos_mcp.ledger.sessions import opened_session
from immunos_mcp.ledger.stored_settings import policy_id, settings_in_force
from immunos_mcp.ledger.unpushed import forget_pushed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.domain import Decision, JoinKey, Task
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.unpushed import Change

_COLUMNS = (
    "session_id",
    "policy_id",
    "decided_at",
    *ASKED_COLUMNS,
    "folder",
    "join_key",
    "team_decision_id",
    *DECISION_COLUMNS,
)
_INSERT = (
    f"INSERT INTO immunos_mcp_decision ({', '.join(_COLUMNS)})"  # noqa: S608  # constants
    f" VALUES ({', '.join('?' * len(_COLUMNS))})"
)


class TeamDecision(NamedTuple):
    """A decision of the team's server.

    Attributes:
        session: the session name here.
        task: what was asked; ``follows`` is a decision's number here.
        decision: what was answered.
        number: the team's number of it.
        key: joins it with the usage of its work.
        folder: the project folder that the call came from.
    """

    session: str
    task: Task
    decision: Decision
    number: int
    key: JoinKey
    folder: str | None


def store_team_answer(
    connection: Connection,
    now: datetime,
    pushed: Sequence[Change],
    made: TeamDecision | None = None,
) -> LoggedDecision | None:
    """Note that the team's server has answered, forget what it has now, and log the decision it made.

    The decision is logged under a number of this ledger's own. A replay leaves it out, since it was made
    with settings and totals that are not here. The settings that hold here are those by which its outcome
    is taught to this ledger's own record.
    """
    forget_pushed(connection, pushed)
    note_contact(connection, now, is_reached=True)
    return None if made is None else _log(connection, as_stored(now), made)


def _log(connection: Connection, now: datetime, made: TeamDecision) -> LoggedDecision:
    in_force = settings_in_force(connection)
    session = opened_session(connection, made.session, now, in_force.settings)
    task = made.task
    decision_id = connection.added_id(
        "decision_id",
        _INSERT,
        (
            session.session_id,
            policy_id(connection, in_force.line, now),
            utc_text(now),
            *asked(task),
            made.folder,
            made.key.text,
            made.number,
            *logged_of(made.decision),
        ),
    )
    count_reason(connection, session, made.decision)
    return LoggedDecision(decision_id, made.session, now, task, made.decision, None)


def team_decision_id(connection: Connection, decision_id: int) -> int | None:
    """Return the joined team's number of a decision.

    ``None``: it was made here, or by a team that was left, or there is none.
    """
    number = _number(connection, decision_id)
    return number if number is not None and number > 0 else None


def is_of_left_team(connection: Connection, decision_id: int) -> bool:
    """Return whether the server of a team that was left made a decision."""
    return (_number(connection, decision_id) or 0) < 0


def _number(connection: Connection, decision_id: int) -> int | None:
    row = connection.execute(
        "SELECT team_decision_id FROM immunos_mcp_decision WHERE decision_id = ?", (decision_id,)
    ).fetchone()
    return None if row is None else row[0]
