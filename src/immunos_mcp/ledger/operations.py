"""What the ledger can do, each a function that runs inside one transaction. The only SQL there is.

All take a ``sqlite3.Connection`` in an open transaction; none begins or ends one.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from immunos_mcp import pace
from immunos_mcp import settings as settings_rules
from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    Consultation,
    Decision,
    LoggedDecision,
    Outcome,
    Pace,
    PlanUsage,
    Provider,
    Reason,
    Session,
    SessionRecord,
    SettingChange,
    Settings,
    Task,
    TokenCounts,
    TranscriptPosition,
    WarningLevel,
)
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, Problem
from immunos_mcp.ledger import engines, records
from immunos_mcp.ledger.connection import utc_text
from immunos_mcp.policy import budget_tokens, provider_of, record_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Mapping, Sequence

    from immunos_mcp.domain import MeasuredUsage, RequestUsage, TaskRecord, Usage

WINDOW_REASON = "session window"
"""What a session that outlived its window was closed for."""

_NO_TOKENS = TokenCounts()

_SESSION_COLUMNS = """
    session_id, name, started_at,
    claude_input_tokens, claude_output_tokens,
    claude_cache_creation_input_tokens, claude_cache_read_input_tokens,
    local_input_tokens, local_output_tokens,
    local_cache_creation_input_tokens, local_cache_read_input_tokens,
    measured_input_tokens, measured_output_tokens,
    measured_cache_creation_input_tokens, measured_cache_read_input_tokens,
    usage_records, pace_tokens, pace_at, folder
"""
_DECISION_COLUMNS = """
    decision_id, session.name, decided_at, task_type, classification, estimated_tokens,
    model, provider, reason, warning_level, session_tokens, plan_used_percent,
    available, table_model, changed_by, trial, advised_model, outcome
"""
_POSITION_COLUMNS = ", ".join(TranscriptPosition._fields)
_MEASURED_COLUMNS = """
    message_id, measured_at, provider, folder,
    input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens
"""
_SELECT_SETTINGS = "SELECT key, value FROM settings"
_SELECT_OPEN_SESSION = (
    f"SELECT {_SESSION_COLUMNS} FROM immunos_mcp_session WHERE name = ? AND ended_at IS NULL"  # noqa: S608  # two constants
)


class Standing(NamedTuple):
    """What an operation saw: the settings in force and a session, with what belongs to it.

    Attributes:
        plan: the subscription's limits; a decision sees them only where the settings look at them.
        side_requests: tokens of the session that telemetry alone reported; a status alone sees them.
        record: what is known of the models at a task's type, where the settings let a decision ask.
    """

    settings: Settings
    session: Session
    plan: tuple[PlanUsage, ...] = ()
    side_requests: TokenCounts = _NO_TOKENS
    record: TaskRecord | None = None


class Recorded(NamedTuple):
    """A session around one usage record, whether the record was a repeat and whether it counts."""

    settings: Settings
    before: Session
    after: Session
    repeated: bool
    counted: bool = True


class ReadingState(NamedTuple):
    """What has to be read of transcripts, and how far each was.

    Attributes:
        since: usage before this moment belongs to no session; ``None``: there is no session yet.
        positions: how far each transcript was read, by path.
    """

    since: datetime | None
    positions: dict[str, TranscriptPosition]


class Reset(NamedTuple):
    """The session that was closed, if one was open, with its decisions, and the next one's id."""

    settings: Settings
    closed: Session | None
    closed_decisions: int
    session_id: int


class SettingsChanged(NamedTuple):
    """The settings in force before and after a change."""

    before: Settings
    after: Settings


def stored_settings(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the settings that somebody set, as stored."""
    return dict(connection.execute(_SELECT_SETTINGS).fetchall())


@lru_cache(maxsize=16)
def _parsed_settings(rows: tuple[tuple[str, str], ...]) -> tuple[Settings, str]:
    settings = settings_rules.from_stored(dict(rows))
    return settings, settings_rules.stored_form(settings)


def _effective(connection: sqlite3.Connection) -> tuple[Settings, str]:
    return _parsed_settings(tuple(connection.execute(_SELECT_SETTINGS)))


def effective_settings(connection: sqlite3.Connection) -> Settings:
    """Return the settings in force, freshly read.

    Raises:
        InvalidStoredSettingsError: the ledger holds settings that cannot be used.
    """
    return _effective(connection)[0]


def standing(
    connection: sqlite3.Connection, name: str, now: datetime
) -> tuple[Standing, dict[Reason, int]]:
    """Return a session as it is, with its decisions by reason; nothing is opened or written."""
    settings = effective_settings(connection)
    session = _current(connection, name, now, settings)
    plan, side_requests = plan_usage(connection, now), _side_requests(connection, session)
    seen = Standing(settings, session, plan, side_requests)
    return seen, _decisions_by_reason(connection, session.session_id)


def open_session(connection: sqlite3.Connection, name: str, now: datetime) -> None:
    """Open a session under a name unless one is open."""
    _open(connection, name, now, effective_settings(connection))


def decide(
    connection: sqlite3.Connection,
    name: str,
    now: datetime,
    task: Task,
    rule: Callable[[Standing], Decision],
    read_records: records.ReadRecords,
    engine: str | None = None,
) -> tuple[int, Decision]:
    """Let a rule decide a task on the session as it stands, and log the decision with its inputs.

    The engine is the one that the rule sees, as ``engines.to_text`` spells it.
    """
    # As it is logged, so that a replay judges by the same moment.
    now = datetime.fromisoformat(utc_text(now))
    settings, canonical = _effective(connection)
    session = _open(connection, name, now, settings)
    looks_at_plan = settings.plan_warning_percent or settings.plan_auto_switch_percent
    plan = plan_usage(connection, now) if looks_at_plan else ()
    asks_record = (
        settings.track_record is not Consultation.OFF and task.task_type in settings.task_mappings
    )
    record = None
    if asks_record:
        record = read_records.task_record(connection, task.task_type, now)
    decision = rule(Standing(settings, session, plan, record=record))
    decision_id = connection.execute(
        "INSERT INTO immunos_mcp_decision (session_id, policy_id, decided_at, task_type,"
        " classification, estimated_tokens, session_tokens, model, provider, reason, warning_level,"
        " plan_used_percent, available, table_model, changed_by, trial, advised_model, engine_id,"
        " claude_input_tokens, claude_output_tokens, claude_cache_creation_input_tokens,"
        " claude_cache_read_input_tokens)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session.session_id,
            _policy_id(connection, canonical, now),
            utc_text(now),
            task.task_type,
            task.classification,
            task.estimated_tokens,
            decision.session_tokens,
            decision.model,
            decision.provider,
            decision.reason,
            decision.warning_level,
            decision.plan_used_percent,
            decision.available,
            decision.table_model,
            decision.changed_by,
            decision.trial,
            decision.advised_model,
            None if engine is None else engines.engine_id(connection, engine),
            *_kinds(session.claude),
        ),
    ).lastrowid
    assert decision_id is not None
    if decision.trial:
        tried_model = record_key(decision.model, settings)
        records.remember_trial(connection, task.task_type, tried_model, now)
        read_records.forget()
    connection.execute(
        "INSERT INTO immunos_mcp_session_reason (session_id, reason, decisions) VALUES (?, ?, 1)"
        " ON CONFLICT DO UPDATE SET decisions = decisions + 1",
        (session.session_id, decision.reason),
    )
    return decision_id, decision


def record(
    connection: sqlite3.Connection,
    name: str,
    now: datetime,
    usage: Usage,
    source: str,
    *,
    is_measured: bool = False,
) -> Recorded:
    """Add a usage record to the session and its totals, and close the decision it belongs to.

    A request id that was recorded before changes nothing. Claude's tokens of a client whose usage
    is measured are kept without being counted.

    Raises:
        InvalidInputError: the decision is unknown or closed otherwise, or the request id stands for
            other usage.
    """
    settings = effective_settings(connection)
    was_counted = _recorded_before(connection, name, usage)
    if was_counted is not None:
        session = _current(connection, name, now, settings)
        return Recorded(settings, session, session, repeated=True, counted=was_counted)
    _attribute(connection, usage, now)
    provider = provider_of(usage.model, settings)
    counted = not (is_measured and provider is Provider.CLAUDE)
    before = _open(connection, name, now, settings)
    connection.execute(
        "INSERT INTO immunos_mcp_usage (session_id, recorded_at, model, provider, source,"
        " external_id, input_tokens, output_tokens, cache_creation_input_tokens,"
        " cache_read_input_tokens, decision_id, counted)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            before.session_id,
            utc_text(now),
            usage.model,
            provider,
            source,
            usage.request_id,
            usage.counts.input_tokens,
            usage.counts.output_tokens,
            usage.counts.cache_creation_input_tokens,
            usage.counts.cache_read_input_tokens,
            usage.decision_id,
            counted,
        ),
    )
    if counted:
        addition = _Addition(usage.counts, provider, now, None, is_measured=False, records=1)
        _add_to_totals(connection, before, [addition], settings)
    after = _find_open(connection, name)
    assert after is not None
    return Recorded(settings, before, after, repeated=False, counted=counted)


def close_decision(
    connection: sqlite3.Connection,
    decision_id: int,
    outcome: Outcome,
    seconds: float | None,
    now: datetime,
) -> tuple[str, str]:
    """Keep what became of a decision; return its task type and model.

    Raises:
        InvalidInputError: the decision is unknown or closed otherwise.
    """
    decided = _decided(connection, decision_id)
    _close_as(connection, decided, decided.model, outcome, now, is_judged=True)
    if decided.outcome is None and seconds:
        key = record_key(decided.model, effective_settings(connection))
        records.add_work(connection, decided.task_type, key, 0, seconds)
    return decided.task_type, decided.model


def reading_state(connection: sqlite3.Connection, now: datetime) -> ReadingState:
    """Return what has to be read of transcripts: back to the oldest session that may still grow.

    A session may grow for a day after it was closed: responses are written down late.
    """
    (since,) = connection.execute(
        "SELECT min(started_at) FROM immunos_mcp_session WHERE ended_at IS NULL OR ended_at > ?",
        (utc_text(now - timedelta(days=1)),),
    ).fetchone()
    rows = connection.execute(
        f"SELECT {_POSITION_COLUMNS} FROM immunos_mcp_transcript"  # noqa: S608  # a constant
    )
    positions = {row[0]: TranscriptPosition._make(row) for row in rows}
    return ReadingState(_moment(since), positions)


def ingest(
    connection: sqlite3.Connection,
    measured: Sequence[MeasuredUsage],
    positions: Sequence[TranscriptPosition],
) -> int:
    """Take over measured usage and how far its transcripts were read; return what was new of it.

    Each response counts once in every session that was open when it was written down (and is bound
    to its folder, if to any). A response that is known already changes nothing unless its numbers
    have grown; then the totals grow by the difference.
    """
    settings = effective_settings(connection)
    oldest = _pruned_before(connection)
    if oldest is not None:
        measured = [usage for usage in measured if usage.at >= oldest]
    known = _measured_before(connection, measured)
    fresh: dict[str, MeasuredUsage] = {}
    grown: dict[str, MeasuredUsage] = {}
    for usage in measured:
        found = grown if usage.message_id in known else fresh
        earlier = found.get(usage.message_id)
        if earlier is None or usage.total > earlier.total:
            found[usage.message_id] = usage
    additions = [
        addition
        for usage in grown.values()
        for addition in _grow(connection, known[usage.message_id], usage.counts)
    ]
    new = len(fresh) + len(additions)
    additions += _take_back_requests(connection, fresh)
    _add_measured(connection, fresh.values(), settings)
    # History that no session covers, as a first import finds it, adds to nothing.
    if additions or _is_covered(connection, fresh.values()):
        additions += (_addition(usage, settings) for usage in fresh.values())
    _distribute(connection, additions, settings)
    connection.executemany(
        f"INSERT OR REPLACE INTO immunos_mcp_transcript ({_POSITION_COLUMNS})"  # noqa: S608  # a constant
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        positions,
    )
    return new


def ingest_requests(connection: sqlite3.Connection, requests: Sequence[RequestUsage]) -> int:
    """Take over usage that telemetry reported; return what was new of it.

    A request whose response a transcript carries counts there, with the larger numbers of the two.
    Any other counts by itself, in every session that was open when it had finished and is bound to
    no folder, until a transcript brings it.
    """
    # Only this join needs the index; who has no telemetry is spared its space.
    connection.execute(
        "CREATE INDEX IF NOT EXISTS immunos_mcp_measured_usage_request"
        " ON immunos_mcp_measured_usage (request_id) WHERE request_id IS NOT NULL"
    )
    settings = effective_settings(connection)
    oldest = _pruned_before(connection)
    additions: list[_Addition] = []
    for request in requests:
        if oldest is not None and request.at < oldest:
            continue
        known = connection.execute(
            f"SELECT {_MEASURED_COLUMNS} FROM immunos_mcp_measured_usage WHERE request_id = ?",  # noqa: S608  # a constant
            (request.request_id,),
        ).fetchone()
        if known is not None:
            additions.extend(_grow(connection, known, request.counts))
            continue
        provider = provider_of(request.model, settings)
        added = connection.execute(
            "INSERT INTO immunos_mcp_request_usage (request_id, finished_at, model, provider,"
            " input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                request.request_id,
                utc_text(request.at),
                request.model,
                provider,
                *_kinds(request.counts),
            ),
        )
        if added.rowcount:
            at = datetime.fromisoformat(utc_text(request.at))
            additions.append(
                _Addition(request.counts, provider, at, None, is_measured=True, records=1)
            )
    _distribute(connection, additions, settings)
    return len(additions)


def _pruned_before(connection: sqlite3.Connection) -> datetime | None:
    """Return the moment from which on usage is taken; what is older was summed up, and is known."""
    row = connection.execute("SELECT before FROM immunos_mcp_pruning").fetchone()
    return None if row is None else datetime.fromisoformat(row[0])


def _distribute(
    connection: sqlite3.Connection, additions: Sequence[_Addition], settings: Settings
) -> None:
    """Add tokens to every session that they count in."""
    if not additions:
        return
    moments = [addition.at for addition in additions]
    for session, ended_at in _sessions_between(connection, min(moments), max(moments)):
        theirs = [addition for addition in additions if _counts_in(addition, session, ended_at)]
        if theirs:
            _add_to_totals(connection, session, theirs, settings)


def _side_requests(connection: sqlite3.Connection, session: Session) -> TokenCounts:
    if session.started_at is None or session.folder is not None:
        return TokenCounts()
    row = connection.execute(
        "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),"
        " coalesce(sum(cache_creation_input_tokens), 0), coalesce(sum(cache_read_input_tokens), 0)"
        " FROM immunos_mcp_request_usage WHERE finished_at >= ? AND provider = 'claude'",
        (utc_text(session.started_at),),
    ).fetchone()
    return TokenCounts(*row)


def record_plan_usage(
    connection: sqlite3.Connection, plan: Sequence[PlanUsage], now: datetime
) -> None:
    """Keep what the subscription's limits were last reported as; a repeat writes nothing."""
    connection.executemany(
        "INSERT INTO immunos_mcp_plan_usage (plan_window, used_percentage, resets_at, reported_at)"
        " VALUES (?, ?, ?, ?) ON CONFLICT (plan_window) DO UPDATE SET"
        " used_percentage = excluded.used_percentage, resets_at = excluded.resets_at,"
        " reported_at = excluded.reported_at"
        " WHERE used_percentage <> excluded.used_percentage OR resets_at <> excluded.resets_at",
        [
            (usage.window, usage.used_percentage, utc_text(usage.resets_at), utc_text(now))
            for usage in plan
        ],
    )


def plan_usage(connection: sqlite3.Connection, now: datetime) -> tuple[PlanUsage, ...]:
    """Return the subscription's limits as last reported, without windows that have ended."""
    rows = connection.execute(
        "SELECT plan_window, used_percentage, resets_at FROM immunos_mcp_plan_usage"
        " WHERE resets_at > ? ORDER BY plan_window",
        (utc_text(now),),
    )
    return tuple(
        PlanUsage(window, used_percentage, datetime.fromisoformat(resets_at))
        for window, used_percentage, resets_at in rows
    )


def unread_lines(connection: sqlite3.Connection) -> int:
    """Return how many lines of transcripts should carry usage and could not be read."""
    (lines,) = connection.execute(
        "SELECT coalesce(sum(unread_lines), 0) FROM immunos_mcp_transcript WHERE unread_lines > 0"
    ).fetchone()
    return int(lines)


def bind(connection: sqlite3.Connection, name: str, folder: str | None) -> None:
    """Let a session name count one project folder's measured usage alone, or (``None``) all again.

    It holds from the name's next session on, so that every session's total means one thing.
    """
    if folder is None:
        connection.execute("DELETE FROM immunos_mcp_binding WHERE session_name = ?", (name,))
    else:
        connection.execute(
            "INSERT OR REPLACE INTO immunos_mcp_binding (session_name, folder) VALUES (?, ?)",
            (name, folder),
        )


def reset(connection: sqlite3.Connection, name: str, now: datetime, reason: str | None) -> Reset:
    """Close the open session of a name, if there is one, and open the next."""
    settings = effective_settings(connection)
    session = _find_open(connection, name)
    closed_decisions = 0
    if session is not None:
        closed_decisions = sum(_decisions_by_reason(connection, session.session_id).values())
        _close(connection, session, now, reason)
    return Reset(settings, session, closed_decisions, _begin(connection, name, now))


def change_settings(
    connection: sqlite3.Connection,
    changes: Mapping[str, settings_rules.SettingChangeValue],
    client: str,
    now: datetime,
) -> SettingsChanged:
    """Apply changes to the settings in force and keep what was changed, when and by which client.

    Raises:
        InvalidInputError: it names every field that cannot be taken.
        InvalidStoredSettingsError: the ledger's other settings cannot be used.
    """
    stored = stored_settings(connection)
    changed, updated = _changed(stored, changes)
    _store(connection, stored, updated, client, now)
    return changed


def preview_settings(
    connection: sqlite3.Connection, changes: Mapping[str, settings_rules.SettingChangeValue]
) -> SettingsChanged:
    """Say what ``change_settings`` would do, without doing it; it raises the same."""
    return _changed(stored_settings(connection), changes)[0]


def _changed(
    stored: Mapping[str, str], changes: Mapping[str, settings_rules.SettingChangeValue]
) -> tuple[SettingsChanged, dict[str, str]]:
    wanted = {settings_rules.full_name(name): value for name, value in changes.items()}
    usable = {
        name: text
        for name, text in stored.items()
        if name == settings_rules.MAPPINGS or name not in wanted
    }
    before = settings_rules.from_stored(usable if _is_broken(stored) else stored)
    applied = settings_rules.apply(before, changes)
    values = settings_rules.values(applied)
    updated = dict(stored)
    for name in wanted:
        if name != settings_rules.MAPPINGS or applied.task_mappings != before.task_mappings:
            updated[name] = settings_rules.to_text(values[name])
    return SettingsChanged(before, settings_rules.from_stored(updated)), updated


def unset_settings(
    connection: sqlite3.Connection, names: tuple[str, ...], client: str, now: datetime
) -> SettingsChanged:
    """Forget what was set under some names, so that their defaults hold again.

    A name such as ``task_mappings.debug`` removes that one mapping.

    Raises:
        InvalidInputError: there is no such setting.
        InvalidStoredSettingsError: what would be left in the ledger cannot be used.
    """
    stored = stored_settings(connection)
    prefix = f"{settings_rules.MAPPINGS}."
    unmapped = {name.removeprefix(prefix): None for name in names if name.startswith(prefix)}
    unwanted = {settings_rules.full_name(name) for name in names if not name.startswith(prefix)}
    updated = {name: text for name, text in stored.items() if name not in unwanted}
    if unmapped:
        mapped = settings_rules.from_stored(updated)
        left = settings_rules.apply(mapped, {settings_rules.MAPPINGS: unmapped})
        if left.task_mappings != mapped.task_mappings:
            updated[settings_rules.MAPPINGS] = settings_rules.to_text(left.task_mappings)
    after = settings_rules.from_stored(updated)
    before = after if _is_broken(stored) else settings_rules.from_stored(stored)
    _store(connection, stored, updated, client, now)
    return SettingsChanged(before, after)


def _is_broken(stored: Mapping[str, str]) -> bool:
    try:
        settings_rules.from_stored(stored)
    except InvalidStoredSettingsError:
        return True
    return False


def _store(
    connection: sqlite3.Connection,
    stored: Mapping[str, str],
    updated: Mapping[str, str],
    client: str,
    now: datetime,
) -> None:
    for name in settings_rules.NAMES:
        was, text = stored.get(name), updated.get(name)
        if was == text:
            continue
        if text is None:
            connection.execute("DELETE FROM settings WHERE key = ?", (name,))
        else:
            connection.execute(
                "INSERT INTO settings (key, value, updated_at) VALUES (?, ?, ?) ON CONFLICT (key)"
                " DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
                (name, text, utc_text(now)),
            )
        connection.executemany(
            "INSERT INTO immunos_mcp_setting_change"
            " (changed_at, client, setting, value_before, value_after) VALUES (?, ?, ?, ?, ?)",
            [
                (utc_text(now), client, setting, before, after)
                for setting, before, after in settings_rules.text_changes(name, was, text)
            ],
        )


def setting_changes(connection: sqlite3.Connection, limit: int) -> tuple[SettingChange, ...]:
    """Return the newest changes of settings, newest first."""
    rows = connection.execute(
        "SELECT changed_at, client, setting, value_before, value_after"
        " FROM immunos_mcp_setting_change ORDER BY change_id DESC LIMIT ?",
        (limit,),
    )
    return tuple(
        SettingChange(datetime.fromisoformat(changed_at), client, setting, before, after)
        for changed_at, client, setting, before, after in rows
    )


def decision(
    connection: sqlite3.Connection, decision_id: int
) -> tuple[str, Provider, Outcome | None] | None:
    """Return a decision's model, whose it is and what became of it; ``None``: there is none."""
    row = connection.execute(
        "SELECT model, provider, outcome FROM immunos_mcp_decision WHERE decision_id = ?",
        (decision_id,),
    ).fetchone()
    if row is None:
        return None
    model, provider, outcome = row
    return model, Provider(provider), None if outcome is None else Outcome(outcome)


def settings_of(connection: sqlite3.Connection, decision_id: int) -> Settings | None:
    """Return the settings that a decision was made with; ``None``: there is no such decision.

    Raises:
        InvalidStoredSettingsError: the ledger spells them in a way that nobody stored.
    """
    row = connection.execute(
        "SELECT settings FROM immunos_mcp_decision JOIN immunos_mcp_policy USING (policy_id)"
        " WHERE decision_id = ?",
        (decision_id,),
    ).fetchone()
    return None if row is None else settings_rules.from_canonical(row[0])


def decisions(
    connection: sqlite3.Connection,
    name: str | None,
    limit: int,
    up_to: int | None = None,
) -> tuple[LoggedDecision, ...]:
    """Return the newest decisions of a session name, or of all up to an id, newest first."""
    # Sessions of one name follow each other, so that the newest decisions are the last session's:
    # with the join held in this order SQLite walks indexes backwards and sorts nothing.
    if name is None:
        rows = connection.execute(
            f"SELECT {_DECISION_COLUMNS} FROM immunos_mcp_decision"  # noqa: S608  # a constant
            " JOIN immunos_mcp_session AS session USING (session_id)"
            " WHERE decision_id <= coalesce(?, decision_id) ORDER BY decision_id DESC LIMIT ?",
            (up_to, limit),
        )
    else:
        rows = connection.execute(
            f"SELECT {_DECISION_COLUMNS} FROM immunos_mcp_session AS session"  # noqa: S608  # a constant
            " CROSS JOIN immunos_mcp_decision USING (session_id) WHERE session.name = ?"
            " ORDER BY session_id DESC, decision_id DESC LIMIT ?",
            (name, limit),
        )
    return tuple(
        LoggedDecision(
            decision_id,
            session,
            datetime.fromisoformat(decided_at),
            Task(task_type, Classification(classification), estimated_tokens),
            Decision(
                model,
                Provider(provider),
                Reason(reason),
                WarningLevel(level),
                session_tokens,
                plan_used_percent=plan_used_percent,
                available=None if available is None else bool(available),
                table_model=table_model,
                changed_by=None if changed_by is None else ChangedBy(changed_by),
                trial=bool(trial) or None,
                advised_model=advised_model,
            ),
            Outcome(outcome) if outcome is not None else None,
        )
        for (
            decision_id, session, decided_at, task_type, classification, estimated_tokens,
            model, provider, reason, level, session_tokens, plan_used_percent,
            available, table_model, changed_by, trial, advised_model, outcome,
        ) in rows
    )  # fmt: skip


def sessions(
    connection: sqlite3.Connection, name: str | None, limit: int
) -> tuple[Settings, tuple[SessionRecord, ...]]:
    """Return the settings in force and the newest sessions of a name, or of all, newest first."""
    settings = effective_settings(connection)
    rows = connection.execute(
        f"SELECT {_SESSION_COLUMNS}, ended_at, end_reason,"  # noqa: S608  # two constants
        " (SELECT coalesce(sum(decisions), 0) FROM immunos_mcp_session_reason AS reason"
        "  WHERE reason.session_id = immunos_mcp_session.session_id)"
        " FROM immunos_mcp_session WHERE ?1 IS NULL OR name = ?1"
        " ORDER BY session_id DESC LIMIT ?2",
        (name, limit),
    )
    return settings, tuple(
        SessionRecord(_session(row[:-3]), row[-1], _moment(row[-3]), row[-2]) for row in rows
    )


def revisions(connection: sqlite3.Connection) -> tuple[Settings, dict[str, tuple[int, ...]]]:
    """Return what tells whether a status or the settings changed, by name of open session."""
    settings = effective_settings(connection)
    rows = connection.execute(
        "SELECT name, session.session_id, usage_records, coalesce(sum(decisions), 0),"
        " claude_input_tokens, claude_output_tokens, claude_cache_creation_input_tokens,"
        " claude_cache_read_input_tokens, local_input_tokens + local_output_tokens"
        " FROM immunos_mcp_session AS session"
        " LEFT JOIN immunos_mcp_session_reason USING (session_id)"
        " WHERE ended_at IS NULL GROUP BY session.session_id"
    )
    return settings, {name: tuple(figures) for name, *figures in rows}


def _policy_id(connection: sqlite3.Connection, canonical: str, now: datetime) -> int:
    row = connection.execute(
        "SELECT policy_id FROM immunos_mcp_policy WHERE settings = ?", (canonical,)
    ).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO immunos_mcp_policy (settings, first_used_at) VALUES (?, ?)"
            " RETURNING policy_id",
            (canonical, utc_text(now)),
        ).fetchone()
    return int(row[0])


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _session(row: tuple[Any, ...]) -> Session:
    (session_id, name, started_at, *counts, usage_records, pace_tokens, pace_at, folder) = row
    return Session(
        session_id,
        name,
        datetime.fromisoformat(started_at),
        TokenCounts(*counts[:4]),
        TokenCounts(*counts[4:8]),
        Pace(pace_tokens, _moment(pace_at)),
        usage_records,
        TokenCounts(*counts[8:]),
        folder,
    )


def _find_open(connection: sqlite3.Connection, name: str) -> Session | None:
    row = connection.execute(_SELECT_OPEN_SESSION, (name,)).fetchone()
    return None if row is None else _session(row)


def _outlived(session: Session, settings: Settings, now: datetime) -> bool:
    if not settings.session_window_minutes or session.started_at is None:
        return False
    return now - session.started_at >= timedelta(minutes=settings.session_window_minutes)


def _begin(connection: sqlite3.Connection, name: str, now: datetime) -> int:
    session_id = connection.execute(
        "INSERT INTO immunos_mcp_session (name, started_at, folder) VALUES (?1, ?2,"
        " (SELECT folder FROM immunos_mcp_binding WHERE session_name = ?1))",
        (name, utc_text(now)),
    ).lastrowid
    assert session_id is not None
    return session_id


def _close(
    connection: sqlite3.Connection, session: Session, now: datetime, reason: str | None
) -> None:
    connection.execute(
        "UPDATE immunos_mcp_session SET ended_at = ?, end_reason = ? WHERE session_id = ?",
        (utc_text(now), reason, session.session_id),
    )


def _current(
    connection: sqlite3.Connection, name: str, now: datetime, settings: Settings
) -> Session:
    session = _find_open(connection, name)
    if session is None or _outlived(session, settings, now):
        return Session(None, name)
    return session


def _open(connection: sqlite3.Connection, name: str, now: datetime, settings: Settings) -> Session:
    session = _find_open(connection, name)
    if session is not None and _outlived(session, settings, now):
        _close(connection, session, now, WINDOW_REASON)
        session = None
    if session is None:
        _begin(connection, name, now)
        session = _find_open(connection, name)
        assert session is not None
    return session


def _decisions_by_reason(
    connection: sqlite3.Connection, session_id: int | None
) -> dict[Reason, int]:
    rows = connection.execute(
        "SELECT reason, decisions FROM immunos_mcp_session_reason WHERE session_id = ?",
        (session_id,),
    )
    return {Reason(reason): count for reason, count in rows}


def _recorded_before(connection: sqlite3.Connection, name: str, usage: Usage) -> bool | None:
    """Tell whether an earlier record of the same request counted; ``None``: there is none."""
    if usage.request_id is None:
        return None
    row = connection.execute(
        "SELECT counted, session.name, model, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_usage"
        " JOIN immunos_mcp_session AS session USING (session_id) WHERE external_id = ?",
        (usage.request_id,),
    ).fetchone()
    if row is None:
        pruned = connection.execute(
            "SELECT counted FROM immunos_mcp_pruned_request WHERE external_id = ?",
            (usage.request_id,),
        ).fetchone()
        return None if pruned is None else bool(pruned[0])
    recorded = (row[1], row[2], TokenCounts(*row[3:]))
    if recorded != (name, usage.model, usage.counts):
        takes = "an id of its own for each response; this one was recorded with other usage"
        raise InvalidInputError(Problem("request_id", usage.request_id, takes))
    return bool(row[0])


def _attribute(connection: sqlite3.Connection, usage: Usage, now: datetime) -> None:
    """Add usage to the figures of the decision it belongs to, and close that if it says so."""
    if usage.decision_id is None:
        return
    decided = _decided(connection, usage.decision_id)
    if usage.outcome is not None:
        # Whoever did the task has the outcome, whatever the decision had said.
        _close_as(connection, decided, usage.model, usage.outcome, now, is_judged=usage.is_judged)
    key = record_key(usage.model, effective_settings(connection))
    seconds = usage.seconds or 0.0
    records.add_work(connection, decided.task_type, key, usage.counts.total, seconds)


class _Decided(NamedTuple):
    """A decision, as far as its closing looks at it."""

    decision_id: int
    task_type: str
    model: str
    outcome: str | None
    closed_at: str | None
    is_provisional: int | None


def _decided(connection: sqlite3.Connection, decision_id: int) -> _Decided:
    row = connection.execute(
        "SELECT decision_id, task_type, model, outcome, closed_at, is_provisional"
        " FROM immunos_mcp_decision"
        " WHERE decision_id = ?",
        (decision_id,),
    ).fetchone()
    if row is None:
        takes = "the decision_id of a route_task answer"
        raise InvalidInputError(Problem("decision_id", decision_id, takes))
    return _Decided(*row)


def _close_as(
    connection: sqlite3.Connection,
    decided: _Decided,
    model: str,
    outcome: Outcome,
    now: datetime,
    *,
    is_judged: bool,
) -> None:
    """Close a decision, unless it is, and add its outcome to the record of the model that did it.

    An outcome that somebody judged takes the place of one that nobody did.
    """
    is_closed = decided.outcome is not None
    may_change = bool(decided.is_provisional) and is_judged
    if is_closed and decided.outcome != outcome and not may_change:
        takes = f"no other outcome: decision {decided.decision_id} is closed as {decided.outcome}"
        raise InvalidInputError(Problem("outcome", outcome.value, takes))
    if is_closed and decided.outcome == outcome:
        if may_change:
            connection.execute(
                "UPDATE immunos_mcp_decision SET is_provisional = NULL WHERE decision_id = ?",
                (decided.decision_id,),
            )
        return
    settings, canonical = _effective(connection)
    own = record_key(decided.model, settings)
    key = record_key(model, settings)
    corrected_at = None
    if is_closed:
        # It is the work that was looked at, whoever did it again.
        key = _correct(connection, decided) or own
        corrected_at = decided.closed_at
    connection.execute(
        "UPDATE immunos_mcp_decision SET outcome = ?, closed_at = ?, is_provisional = ?"
        " WHERE decision_id = ?",
        (outcome, utc_text(now), None if is_judged else 1, decided.decision_id),
    )
    connection.execute(
        "INSERT INTO immunos_mcp_outcome"
        " (decision_id, after_decision_id, policy_id, model, corrected_at)"
        " SELECT ?, max(decision_id), ?, ?, ? FROM immunos_mcp_decision",
        (
            decided.decision_id,
            _policy_id(connection, canonical, now),
            None if key == own else key,
            corrected_at,
        ),
    )
    at = datetime.fromisoformat(utc_text(now))
    records.learn(
        connection,
        decided.task_type,
        key,
        outcome,
        at,
        settings.record_rules,
        _moment(corrected_at),
    )


def _correct(connection: sqlite3.Connection, decided: _Decided) -> str | None:
    """Let the log keep what was known of an outcome that changes; return whose record it was in."""
    row = connection.execute(
        "UPDATE immunos_mcp_outcome SET outcome = ?, known_at = ? WHERE decision_id = ?"
        " RETURNING model",
        (decided.outcome, decided.closed_at, decided.decision_id),
    ).fetchone()
    return None if row is None else row[0]


class _Addition(NamedTuple):
    """Tokens to be added to totals: a record's, what one has grown by, or (negative) one taken back."""

    counts: TokenCounts
    provider: Provider
    at: datetime
    folder: str | None
    is_measured: bool
    records: int


def _add_to_totals(
    connection: sqlite3.Connection,
    session: Session,
    additions: Sequence[_Addition],
    settings: Settings,
) -> None:
    claude = measured = local = TokenCounts()
    pace_now = session.pace
    for addition in additions:
        if addition.provider is Provider.OLLAMA:
            local += addition.counts
            continue
        claude += addition.counts
        if addition.is_measured:
            measured += addition.counts
        tokens = budget_tokens(addition.counts, settings.weights)
        pace_now = pace.add(pace_now, tokens, addition.at)
    connection.execute(
        "UPDATE immunos_mcp_session SET"
        " claude_input_tokens = claude_input_tokens + ?,"
        " claude_output_tokens = claude_output_tokens + ?,"
        " claude_cache_creation_input_tokens = claude_cache_creation_input_tokens + ?,"
        " claude_cache_read_input_tokens = claude_cache_read_input_tokens + ?,"
        " measured_input_tokens = measured_input_tokens + ?,"
        " measured_output_tokens = measured_output_tokens + ?,"
        " measured_cache_creation_input_tokens = measured_cache_creation_input_tokens + ?,"
        " measured_cache_read_input_tokens = measured_cache_read_input_tokens + ?,"
        " local_input_tokens = local_input_tokens + ?,"
        " local_output_tokens = local_output_tokens + ?,"
        " local_cache_creation_input_tokens = local_cache_creation_input_tokens + ?,"
        " local_cache_read_input_tokens = local_cache_read_input_tokens + ?,"
        " usage_records = usage_records + ?, pace_tokens = ?, pace_at = ?"
        " WHERE session_id = ?",
        (
            *_kinds(claude),
            *_kinds(measured),
            *_kinds(local),
            sum(addition.records for addition in additions),
            pace_now.tokens,
            None if pace_now.at is None else utc_text(pace_now.at),
            session.session_id,
        ),
    )


def _kinds(counts: TokenCounts) -> tuple[int, int, int, int]:
    return (
        counts.input_tokens,
        counts.output_tokens,
        counts.cache_creation_input_tokens,
        counts.cache_read_input_tokens,
    )


def _measured_before(
    connection: sqlite3.Connection, measured: Sequence[MeasuredUsage]
) -> dict[str, tuple[Any, ...]]:
    rows = connection.execute(
        f"SELECT {_MEASURED_COLUMNS} FROM immunos_mcp_measured_usage"  # noqa: S608  # a constant
        " WHERE message_id IN (SELECT value FROM json_each(?))",
        (json.dumps([usage.message_id for usage in measured]),),
    )
    return {row[0]: row for row in rows}


def _add_measured(
    connection: sqlite3.Connection, fresh: Collection[MeasuredUsage], settings: Settings
) -> None:
    providers = {model: provider_of(model, settings) for model in {usage.model for usage in fresh}}
    connection.executemany(
        "INSERT INTO immunos_mcp_measured_usage (message_id, measured_at, model, provider,"
        " input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
        " folder, request_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (usage[0], utc_text(usage.at), usage.model, providers[usage.model], *usage[3:])
            # In the order of their ids, which are random: neighbours share a page.
            for usage in sorted(fresh)
        ],
    )


def _is_covered(connection: sqlite3.Connection, fresh: Collection[MeasuredUsage]) -> bool:
    if not fresh:
        return False
    moments = [usage.at for usage in fresh]
    return bool(_sessions_between(connection, min(moments), max(moments)))


def _addition(usage: MeasuredUsage, settings: Settings) -> _Addition:
    at = datetime.fromisoformat(utc_text(usage.at))
    provider = provider_of(usage.model, settings)
    return _Addition(usage.counts, provider, at, usage.folder, is_measured=True, records=1)


def _grow(
    connection: sqlite3.Connection, known: tuple[Any, ...], counts: TokenCounts
) -> list[_Addition]:
    message_id, measured_at, provider, folder, *kinds = known
    before = TokenCounts(*kinds)
    if counts.total <= before.total:
        return []
    connection.execute(
        "UPDATE immunos_mcp_measured_usage SET input_tokens = ?, output_tokens = ?,"
        " cache_creation_input_tokens = ?, cache_read_input_tokens = ? WHERE message_id = ?",
        (*_kinds(counts), message_id),
    )
    at = datetime.fromisoformat(measured_at)
    return [_Addition(counts - before, Provider(provider), at, folder, is_measured=True, records=0)]


def _take_back_requests(
    connection: sqlite3.Connection, fresh: dict[str, MeasuredUsage]
) -> list[_Addition]:
    """Remove what telemetry reported of requests whose responses are about to count instead.

    Where telemetry had the larger numbers, the response takes them over.
    """
    if connection.execute("SELECT 1 FROM immunos_mcp_request_usage LIMIT 1").fetchone() is None:
        return []
    messages = {usage.request_id: message_id for message_id, usage in fresh.items()}
    rows = connection.execute(
        "DELETE FROM immunos_mcp_request_usage WHERE request_id IN (SELECT value FROM json_each(?))"
        " RETURNING request_id, finished_at, provider, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens",
        (json.dumps([*messages]),),
    ).fetchall()
    taken_back: list[_Addition] = []
    for request_id, finished_at, provider, *kinds in rows:
        message_id, counts = messages[request_id], TokenCounts(*kinds)
        if counts.total > fresh[message_id].total:
            fresh[message_id] = fresh[message_id].with_counts(counts)
        at = datetime.fromisoformat(finished_at)
        back = TokenCounts() - counts
        taken_back.append(
            _Addition(back, Provider(provider), at, None, is_measured=True, records=-1)
        )
    return taken_back


def _sessions_between(
    connection: sqlite3.Connection, first: datetime, last: datetime
) -> list[tuple[Session, datetime | None]]:
    rows = connection.execute(
        f"SELECT {_SESSION_COLUMNS}, ended_at FROM immunos_mcp_session"  # noqa: S608  # a constant
        " WHERE (ended_at IS NULL OR ended_at > ?) AND started_at <= ?",
        (utc_text(first), utc_text(last)),
    ).fetchall()
    return [(_session(row[:-1]), _moment(row[-1])) for row in rows]


def _counts_in(addition: _Addition, session: Session, ended_at: datetime | None) -> bool:
    assert session.started_at is not None
    if addition.at < session.started_at or (ended_at is not None and addition.at >= ended_at):
        return False
    if session.folder is None or addition.folder == session.folder:
        return True
    return addition.folder is not None and addition.folder.startswith(f"{session.folder}/")
