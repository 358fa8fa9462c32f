"""Decisions: make and log them in one transaction, close them with their outcome, list them.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING

from msgspec import Struct, convert

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.domain import (
    UNJOINED,
    Classification,
    Consultation,
    Decision,
    Judge,
    Outcome,
    Provider,
    Switch,
    Task,
)
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger import (
    budget_uses,
    engines,
    records,
    reservations,
    sessions,
    stored_settings,
)
from immunos_mcp.ledger.budget_uses import ANYBODY, Caller
from immunos_mcp.ledger.moments import as_stored, moment_of, utc_text
from immunos_mcp.ledger.people import require_own
from immunos_mcp.ledger.plan_limits import plan_usage
from immunos_mcp.ledger.sessions import opened_session
from immunos_mcp.ledger.stored_settings import policy_id, settings_in_force
from immunos_mcp.ledger.totals import by_kind
from immunos_mcp.rules.budgets import uses_text
from immunos_mcp.rules.circumstances import SessionSnapshot
from immunos_mcp.rules.claude_tiers import record_key
from immunos_mcp.rules.ladder import models_tried
from immunos_mcp.rules.models import shared_record_key
from immunos_mcp.rules.project_settings import origins_text
from immunos_mcp.rules.task_types import as_meant

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.domain import JoinKey, Session
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.stored_settings import InForce
    from immunos_mcp.rules.settings import Settings


_NOT_LOGGED = {"decision_id", "projected_tokens", "projected_level", "remedy"}
"""Fields of a decision without a column: the id is the row's, the rest follows from what is logged."""

DECISION_COLUMNS = tuple(name for name in Decision.__struct_fields__ if name not in _NOT_LOGGED)
logged_of = attrgetter(*DECISION_COLUMNS)
"""Returns what is stored of a decision, in this order."""

ASKED_COLUMNS = (
    "task_type",
    "classification",
    "estimated_tokens",
    "given_task_type",
    "follows",
    "tried",
)
"""What ``asked`` returns."""

_INSERT_COLUMNS = (
    "session_id",
    "policy_id",
    "decided_at",
    *ASKED_COLUMNS,
    "folder",
    "setting_folders",
    "engine_id",
    "claude_input_tokens",
    "claude_output_tokens",
    "claude_cache_creation_input_tokens",
    "claude_cache_read_input_tokens",
    "budget_uses",
    "reserved_until",
    "join_key",
    "person_id",
    *DECISION_COLUMNS,
)
_INSERT = (
    f"INSERT INTO immunos_mcp_decision ({', '.join(_INSERT_COLUMNS)})"  # noqa: S608  # constants
    f" VALUES ({', '.join('?' * len(_INSERT_COLUMNS))})"
)
_LOGGED_COLUMNS = (
    "decision_id, session.name, decided_at, task_type, classification, estimated_tokens, "
    "given_task_type, follows, tried, outcome, " + ", ".join(DECISION_COLUMNS)
)


def decide(
    connection: Connection,
    name: str,
    now: datetime,
    task: Task,
    rule: Callable[[SessionSnapshot, Task], Decision],
    engine: str | None = None,
    caller: Caller = ANYBODY,
    key: JoinKey = UNJOINED,
    places: tuple[str, ...] = (),
) -> LoggedDecision:
    """Apply a pure rule to a task and the current session, and log the decision with its inputs.

    The rule gets the task with the task type that its word means under the current settings.
    ``engine`` is the engine that the rule uses, encoded by ``engines.engine_text``; ``caller`` is who
    asks, since some budgets are for one assistant or project; ``key`` joins the decision with the usage of
    its work; ``places`` are the folders that the call belongs to, whose settings hold.
    """
    # At the stored precision, so that a replay decides with the same time.
    now = as_stored(now)
    _look_ahead(connection, name, task)
    everywhere = settings_in_force(connection)
    session = opened_session(connection, name, now, everywhere.settings)
    places = (*places, *filter(None, (session.folder,)))
    in_force = everywhere.at(*places)
    settings, origins = in_force.settings, in_force.origins
    task = as_meant(task, settings)
    snapshot = _snapshot(connection, settings, session, task, caller, now)
    decision = rule(snapshot, task)
    reserved_until = None
    if decision.reserved_tokens is not None:
        reserved_until = reservations.expiry(settings, now)
    decision_id = connection.added_id(
        "decision_id",
        _INSERT,
        (
            session.session_id,
            policy_id(connection, in_force.line, now),
            utc_text(now),
            *asked(task),
            next(iter(places), None),
            origins_text(tuple(sorted(origins.items()))),
            None if engine is None else engines.engine_id(connection, engine),
            *by_kind(session.claude),
            uses_text(snapshot.budgets),
            reserved_until,
            key.text,
            connection.person_id,
            *logged_of(decision),
        ),
    )
    if reserved_until is not None:
        reservations.reserve(connection, decision_id, session, decision, now, reserved_until, key)
    if decision.trial:
        tried_model = record_key(decision.model, task.task_type, settings)
        records.remember_trial(connection, task.task_type, tried_model, now)
    count_reason(connection, session, decision)
    return LoggedDecision(decision_id, name, now, task, decision, None)


def _look_ahead(connection: Connection, name: str, task: Task) -> None:
    stored_settings.look_ahead(connection)
    sessions.look_ahead(connection, name)
    records.look_ahead(connection, task.task_type)
    budget_uses.look_ahead(connection)
    connection.id_ahead("immunos_mcp_decision", "decision_id")


def asked(task: Task) -> tuple[object, ...]:
    """Return what is stored of a task, in the order of ``ASKED_COLUMNS``."""
    return (
        task.task_type,
        task.classification,
        task.estimated_tokens,
        task.given_task_type,
        task.follows,
        ",".join(task.tried) or None,
    )


def _snapshot(
    connection: Connection,
    settings: Settings,
    session: Session,
    task: Task,
    caller: Caller,
    now: datetime,
) -> SessionSnapshot:
    """Read only what the settings make a decision depend on."""
    if settings.reservations is Switch.ON:
        reservations.end_expired(connection, settings, session, now)
    uses_plan = settings.plan_warning_percent or settings.plan_auto_switch_percent
    plan = plan_usage(connection, now) if uses_plan else ()
    uses_record = (
        settings.track_record is not Consultation.OFF and task.task_type in settings.task_mappings
    )
    record = records.task_record(connection, task.task_type, now) if uses_record else None
    uses = (
        budget_uses.budget_uses(connection, settings, session, now, caller)
        if settings.budgets
        else ()
    )
    held_tokens = None
    if settings.reservations is Switch.ON:
        held_tokens, uses = reservations.held(connection, settings, session, task, uses, now)
    return SessionSnapshot(
        settings, session, plan, record=record, budgets=uses, held_tokens=held_tokens
    )


def count_reason(connection: Connection, session: Session, decision: Decision) -> None:
    """Count a decision in the figures of its session."""
    connection.execute(
        "INSERT INTO immunos_mcp_session_reason (session_id, reason, decisions) VALUES (?, ?, 1)"
        " ON CONFLICT (session_id, reason)"
        " DO UPDATE SET decisions = immunos_mcp_session_reason.decisions + 1",
        (session.session_id, decision.reason),
    )


class ClosedDecision(Struct, frozen=True):
    """A closed decision: its task type, and the model whose record has the outcome."""

    task_type: str
    model: str


def close_decision(
    connection: Connection,
    decision_id: int,
    outcome: Outcome,
    seconds: float | None,
    now: datetime,
    judge: Judge,
    model: str | None = None,
) -> ClosedDecision:
    """Record the outcome of a decision; ``model`` did the task, if not the chosen one.

    Raises:
        InvalidInputError: the decision is unknown, or closed with another outcome that the judge does
            not overrule.
    """
    stored_settings.look_ahead(connection)
    look_ahead(connection, decision_id)
    decided = find_decided(connection, decision_id)
    in_force = settings_in_force(connection)
    doer = model or decided.model
    other = close_as(connection, decided, doer, outcome, now, judge, in_force)
    key = record_key(doer, decided.task_type, in_force.settings)
    if decided.outcome is None and seconds:
        records.add_work(connection, decided.task_type, key, 0, seconds)
    return ClosedDecision(decided.task_type, doer if other is None or other == key else other)


class DecisionState(Struct, frozen=True):
    """The model, provider and outcome of a decision (``None``: it is open), and what failed before."""

    model: str
    provider: Provider
    outcome: Outcome | None
    tried: tuple[str, ...] = ()


def decision_state(connection: Connection, decision_id: int) -> DecisionState | None:
    """Return the state of a decision; ``None``: there is no such decision."""
    row = connection.execute(
        "SELECT model, provider, outcome, tried FROM immunos_mcp_decision WHERE decision_id = ?",
        (decision_id,),
    ).fetchone()
    if row is None:
        return None
    model, provider, outcome, tried = row
    known = None if outcome is None else Outcome(outcome)
    return DecisionState(model, Provider(provider), known, models_tried(tried))


def newest_decisions(
    connection: Connection,
    name: str | None,
    limit: int,
    up_to: int | None = None,
) -> tuple[LoggedDecision, ...]:
    """Return the newest decisions of a session name, or of all names up to an id, newest first."""
    # Sessions of one name follow each other, so the newest decisions are in the last session: with
    # this join order SQLite walks the indexes backwards and sorts nothing.
    if name is None:
        rows = connection.execute(
            f"SELECT {_LOGGED_COLUMNS} FROM immunos_mcp_decision"  # noqa: S608  # a constant
            " JOIN immunos_mcp_session AS session USING (session_id)"
            " WHERE decision_id <= coalesce(?, decision_id) ORDER BY decision_id DESC LIMIT ?",
            (up_to, limit),
        )
    else:
        rows = connection.execute(
            f"SELECT {_LOGGED_COLUMNS} FROM immunos_mcp_session AS session"  # noqa: S608  # a constant
            " CROSS JOIN immunos_mcp_decision AS decision"
            " WHERE session.name = ? AND decision.session_id = session.session_id"
            " ORDER BY session.session_id DESC, decision_id DESC LIMIT ?",
            (name, limit),
        )
    return tuple(
        LoggedDecision(
            decision_id,
            session,
            datetime.fromisoformat(decided_at),
            Task(
                task_type, Classification(classification), estimated_tokens, given_task_type, follows,
                models_tried(tried),
            ),
            convert(dict(zip(DECISION_COLUMNS, decided, strict=True)), Decision, strict=False),
            None if outcome is None else Outcome(outcome),
        )
        for (
            decision_id, session, decided_at, task_type, classification, estimated_tokens,
            given_task_type, follows, tried, outcome, *decided,
        ) in rows
    )  # fmt: skip


def logged_decision(connection: Connection, decision_id: int) -> LoggedDecision:
    """Return a decision.

    Raises:
        InvalidInputError: it does not exist or was pruned.
    """
    found = newest_decisions(connection, None, 1, decision_id)
    if not found or found[0].decision_id != decision_id:
        raise unknown_decision(connection, decision_id)
    return found[0]


class Decided(Struct, frozen=True):
    """The fields of a decision that are needed to close it."""

    decision_id: int
    task_type: str
    model: str
    provider: str
    outcome: str | None
    closed_at: str | None
    is_provisional: int | None
    outcome_source: str | None
    person_id: int | None


_SELECT_DECIDED = (
    f"SELECT {', '.join(Decided.__struct_fields__)} FROM immunos_mcp_decision"  # noqa: S608  # a constant
    " WHERE decision_id = ?"
)
_SELECT_TAUGHT = (
    "SELECT model FROM immunos_mcp_outcome WHERE decision_id = ? ORDER BY outcome_id DESC LIMIT 1"
)


def look_ahead(connection: Connection, decision_id: int) -> None:
    """Announce that a decision is about to be closed."""
    connection.ahead(_SELECT_DECIDED, (decision_id,))
    connection.ahead(_SELECT_TAUGHT, (decision_id,))


def find_decided(connection: Connection, decision_id: int) -> Decided:
    """Return the fields of a decision that are needed to close it.

    Raises:
        InvalidInputError: it does not exist or was pruned, or is not for whoever acts to close.
    """
    row = connection.execute(_SELECT_DECIDED, (decision_id,)).fetchone()
    if row is None:
        raise unknown_decision(connection, decision_id)
    decided = Decided(*row)
    require_own(connection, decided.person_id, decision_id)
    return decided


def unknown_decision(connection: Connection, decision_id: int) -> InvalidInputError:
    """Return the error for the id of a decision that never existed or was pruned."""
    pruned = connection.execute(
        "SELECT 1 FROM immunos_mcp_pruning WHERE ? BETWEEN 1 AND first_decision_id - 1",
        (decision_id,),
    ).fetchone()
    if pruned is not None:
        message = f"decision_id: decision {decision_id} was pruned"
        return InvalidInputError(Problem("decision_id", decision_id, message=message))
    expected = "the id of an earlier decision"
    return InvalidInputError(Problem("decision_id", decision_id, expected))


_INSERT_OUTCOME = """
    INSERT INTO immunos_mcp_outcome (decision_id, after_decision_id, policy_id, model, corrected_at)
    SELECT ?, max(decision_id), ?, ?, ? FROM immunos_mcp_decision
"""


def close_as(
    connection: Connection,
    decided: Decided,
    model: str,
    outcome: Outcome,
    now: datetime,
    judge: Judge | None,
    in_force: InForce,
) -> str | None:
    """Close a decision, and teach its outcome to the record of the model that did the task.

    An outcome that nobody judged (``None``) teaches nothing, and gives way to any that is judged. A
    judge who overrules an earlier one replaces its outcome.

    Returns:
        The model whose record has the outcome, if it is stored with its name.

    Raises:
        InvalidInputError: the decision is closed with another outcome that stands.
    """
    if decided.outcome not in {None, outcome} and not _overrules(judge, decided):
        message = f"outcome: decision {decided.decision_id} is already closed as {decided.outcome}"
        raise InvalidInputError(Problem("outcome", outcome.value, message=message))
    if judge is None:
        if decided.outcome is None:
            _close(connection, decided, outcome, utc_text(now), None)
        return None
    # An earlier outcome that nobody judged is in no record.
    row = connection.execute(_SELECT_TAUGHT, (decided.decision_id,)).fetchone()
    is_taught, taught = row is not None, None if row is None else row[0]
    if decided.outcome == outcome and (is_taught or not decided.is_provisional):
        if _overrules(judge, decided):
            _close(connection, decided, outcome, decided.closed_at, judge)
        return taught
    settings = in_force.settings
    # What an outcome without the name of a record belongs to; a tier of Claude's is always named.
    unnamed = shared_record_key(decided.model, settings)
    # A judgement of closed work is of the original work, even if another model redid it.
    doer = model if decided.outcome is None else decided.model
    key = record_key(doer, decided.task_type, settings)
    corrected_at = None
    if is_taught:
        _correct(connection, decided)
        key = taught or unnamed
        corrected_at = decided.closed_at
    _close(connection, decided, outcome, utc_text(now), judge)
    name = None if key == unnamed else key
    policy = policy_id(connection, in_force.line, now)
    connection.execute(_INSERT_OUTCOME, (decided.decision_id, policy, name, corrected_at))
    records.learn(
        connection,
        decided.task_type,
        key,
        outcome,
        as_stored(now),
        settings,
        moment_of(corrected_at),
    )
    return name


def _overrules(judge: Judge | None, decided: Decided) -> bool:
    """Return whether a judge's outcome replaces the one that a closed decision has."""
    if judge is None or decided.is_provisional:
        return judge is not None
    judges = list(Judge)
    # Outcomes from before judges were stored came from assistants, as a rule.
    earlier = decided.outcome_source or Judge.ASSISTANT
    return judges.index(judge) > judges.index(Judge(earlier))


def _close(
    connection: Connection,
    decided: Decided,
    outcome: Outcome,
    closed_at: str | None,
    judge: Judge | None,
) -> None:
    connection.execute(
        "UPDATE immunos_mcp_decision SET outcome = ?, closed_at = ?, is_provisional = ?,"
        " outcome_source = ? WHERE decision_id = ?",
        (outcome, closed_at, 1 if judge is None else None, judge, decided.decision_id),
    )
    reservations.release(connection, decided.decision_id)


def _correct(connection: Connection, decided: Decided) -> None:
    """Store the outcome that a record has so far in the log, which needs it for a replay."""
    connection.execute(
        "UPDATE immunos_mcp_outcome SET outcome = ?, known_at = ?"
        " WHERE decision_id = ? AND outcome IS NULL",
        (decided.outcome, decided.closed_at, decided.decision_id),
    )
