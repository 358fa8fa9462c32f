"""Usage that a client reports, and the decisions it closes.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp.domain import Provider, Session, Switch, TokenCounts
from immunos_mcp.errors import InvalidInputError, Problem, shown
from immunos_mcp.ledger import (
    decisions,
    engines,
    pushing,
    records,
    reservations,
    sessions,
    stored_settings,
)
from immunos_mcp.ledger.decisions import close_as, close_decision, find_decided
from immunos_mcp.ledger.engines import providers_of_usage
from immunos_mcp.ledger.moments import as_stored, utc_text
from immunos_mcp.ledger.people import is_others
from immunos_mcp.ledger.sessions import current_session, opened_session
from immunos_mcp.ledger.stored_settings import settings_in_force
from immunos_mcp.ledger.totals import Addition, add_to_totals, keep_budgets_up
from immunos_mcp.rules.claude_tiers import record_key
from immunos_mcp.rules.levels import budget_tokens

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.domain import Judge, Outcome, Usage
    from immunos_mcp.ledger.decisions import Decided
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.pushing import Reporter
    from immunos_mcp.ledger.stored_settings import InForce
    from immunos_mcp.rules.settings import Settings


DELEGATED = "delegated"
"""Source of usage that the local engine counted for a task handed over to it."""

_SELECT_REQUEST = (
    "SELECT counted, immunos_mcp_usage.person_id, session.name, model, input_tokens, output_tokens,"
    " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_usage"
    " JOIN immunos_mcp_session AS session USING (session_id) WHERE external_id = ?"
)
_SELECT_PRUNED_REQUEST = "SELECT counted FROM immunos_mcp_pruned_request WHERE external_id = ?"


class Recorded(Struct, frozen=True):
    """A session before and after one usage record, and whether that was repeated and counts."""

    settings: Settings
    before: Session
    after: Session
    repeated: bool
    counted: bool = True


def record_usage(
    connection: Connection,
    name: str,
    now: datetime,
    usage: Usage,
    source: str,
    *,
    is_measured: bool = False,
    reporter: Reporter | None = None,
) -> Recorded:
    """Add a usage record to the session and its totals, and close the decision it belongs to.

    A request id that was already recorded changes nothing. If the client's usage is measured, or pushed
    for the person who reports, all but local tokens are stored and not counted.

    Raises:
        InvalidInputError: the decision is unknown or closed with another outcome, or the request id was
            recorded with different usage.
    """
    # At the stored precision, as it is read again.
    now = as_stored(now)
    _look_ahead(connection, name, usage)
    if reporter is not None:
        pushing.look_ahead(connection, reporter)
    in_force = settings_in_force(connection)
    settings = in_force.settings
    usage, was_counted = _recorded_before(connection, name, usage)
    if was_counted is not None:
        session = current_session(connection, name, now, settings)
        return Recorded(settings, session, session, repeated=True, counted=was_counted)
    is_measured = is_measured or (reporter is not None and pushing.is_pushed(connection, reporter))
    decided = _attribute(connection, usage, now, in_force, is_measured=is_measured)
    provider = _provider(connection, usage, settings, source, decided)
    counted = not is_measured or provider is Provider.OLLAMA
    before = after = opened_session(connection, name, now, settings)
    row = (before.session_id, utc_text(now), provider, source, counted)
    _insert(connection, row, usage)
    if counted and provider is not Provider.HOSTED:
        addition = Addition(usage.counts, provider, now, None, is_measured=False, records=1)
        after = add_to_totals(connection, before, [addition], settings)
    keep_budgets_up(connection, settings, now)
    return Recorded(settings, before, after, repeated=False, counted=counted)


def _insert(
    connection: Connection, row: tuple[int | None, str, Provider, str, bool], usage: Usage
) -> None:
    """Store a usage record: its session, time, provider, source and whether it counts, and what is used."""
    connection.execute(
        "INSERT INTO immunos_mcp_usage (session_id, recorded_at, provider, source, counted, model,"
        " external_id, input_tokens, output_tokens, cache_creation_input_tokens,"
        " cache_read_input_tokens, decision_id, result_in_file, person_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *row,
            usage.model,
            usage.request_id,
            usage.counts.input_tokens,
            usage.counts.output_tokens,
            usage.counts.cache_creation_input_tokens,
            usage.counts.cache_read_input_tokens,
            usage.decision_id,
            1 if usage.in_file else None,
            connection.person_id,
        ),
    )


def _look_ahead(connection: Connection, name: str, usage: Usage) -> None:
    stored_settings.look_ahead(connection)
    sessions.look_ahead(connection, name)
    if usage.request_id is not None:
        connection.ahead(_SELECT_REQUEST, (usage.request_id,))
        connection.ahead(_SELECT_PRUNED_REQUEST, (usage.request_id,))
    engines.look_ahead(connection)
    if usage.decision_id is not None:
        decisions.look_ahead(connection, usage.decision_id)


def _provider(
    connection: Connection, usage: Usage, settings: Settings, source: str, decided: Decided | None
) -> Provider:
    """Return whose tokens these are; what a task was delegated or routed to needs no guess."""
    if source == DELEGATED:
        return Provider.OLLAMA
    if decided is not None and decided.model == usage.model:
        return Provider(decided.provider)
    return providers_of_usage(connection, (usage.model,), settings)[usage.model]


def record_outcome(
    connection: Connection,
    name: str,
    now: datetime,
    decision_id: int,
    outcome: Outcome,
    seconds: float | None,
    judge: Judge,
    model: str | None,
) -> Recorded:
    """Close a decision without recording usage; ``model`` did the task, if not the chosen one.

    Raises:
        InvalidInputError: the decision is unknown or closed with another outcome.
    """
    sessions.look_ahead(connection, name)
    close_decision(connection, decision_id, outcome, seconds, now, judge, model)
    settings = settings_in_force(connection).settings
    session = current_session(connection, name, now, settings)
    return Recorded(settings, session, session, repeated=False)


def _recorded_before(connection: Connection, name: str, usage: Usage) -> tuple[Usage, bool | None]:
    """Return usage under the request id that is stored, and whether its earlier record counted.

    ``None``: there is none. Assistants choose their ids themselves, so another person's may be the same.
    """
    if usage.request_id is None:
        return usage, None
    row = connection.execute(_SELECT_REQUEST, (usage.request_id,)).fetchone()
    if row is None:
        pruned = connection.execute(_SELECT_PRUNED_REQUEST, (usage.request_id,)).fetchone()
        return usage, None if pruned is None else bool(pruned[0])
    counted, person_id, *recorded = row
    if is_others(connection, person_id):
        own = replace(usage, request_id=f"{usage.request_id}#{connection.person_id}")
        return _recorded_before(connection, name, own)
    if (*recorded[:2], TokenCounts(*recorded[2:])) != (name, usage.model, usage.counts):
        message = (
            f"request_id: {shown(usage.request_id)} was already recorded with different usage;"
            " each response needs its own id"
        )
        raise InvalidInputError(Problem("request_id", usage.request_id, message=message))
    return usage, bool(counted)


def _attribute(
    connection: Connection, usage: Usage, now: datetime, in_force: InForce, *, is_measured: bool
) -> Decided | None:
    """Add usage to the figures of its decision, and close the decision if the usage has an outcome."""
    if usage.decision_id is None:
        return None
    decided = find_decided(connection, usage.decision_id)
    if usage.outcome is not None:
        # The outcome belongs to the model that did the task, even if the decision chose another.
        close_as(connection, decided, usage.model, usage.outcome, now, usage.judge, in_force)
    settings = in_force.settings
    key = record_key(usage.model, decided.task_type, settings)
    if settings.reservations is Switch.ON:
        tokens = budget_tokens(usage.counts, settings)
        reservations.release_reported(
            connection, usage.decision_id, tokens, is_measured=is_measured
        )
    seconds = usage.seconds or 0.0
    records.add_work(connection, decided.task_type, key, usage.counts.total, seconds)
    return decided
