"""What the ledger can do, each a function that runs inside one transaction. The only SQL there is.

All take a ``sqlite3.Connection`` in an open transaction; none begins or ends one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from immunos_mcp import pace
from immunos_mcp import settings as settings_rules
from immunos_mcp.domain import (
    Classification,
    Decision,
    LoggedDecision,
    Outcome,
    Pace,
    Provider,
    Reason,
    Session,
    SessionRecord,
    SettingChange,
    Settings,
    Task,
    TokenCounts,
    WarningLevel,
)
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, Problem
from immunos_mcp.ledger.connection import utc_text
from immunos_mcp.policy import budget_tokens, provider_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from immunos_mcp.domain import Usage

WINDOW_REASON = "session window"
"""What a session that outlived its window was closed for."""

_SESSION_COLUMNS = """
    session_id, name, started_at,
    claude_input_tokens, claude_output_tokens,
    claude_cache_creation_input_tokens, claude_cache_read_input_tokens,
    local_input_tokens, local_output_tokens,
    local_cache_creation_input_tokens, local_cache_read_input_tokens,
    usage_records, pace_tokens, pace_at
"""
_DECISION_COLUMNS = """
    decision_id, session.name, decided_at, task_type, classification, estimated_tokens,
    model, provider, reason, warning_level, session_tokens, outcome
"""
_SELECT_SETTINGS = "SELECT key, value FROM settings"
_SELECT_OPEN_SESSION = (
    f"SELECT {_SESSION_COLUMNS} FROM immunos_mcp_session WHERE name = ? AND ended_at IS NULL"  # noqa: S608  # two constants
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What an operation saw or left: the settings in force and a session."""

    settings: Settings
    session: Session


@dataclass(frozen=True, slots=True)
class Recorded:
    """A session around one usage record, and whether the record was a repeat."""

    settings: Settings
    before: Session
    after: Session
    repeated: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The session that was closed, if one was open, with its decisions, and the next one's id."""

    settings: Settings
    closed: Session | None
    closed_decisions: int
    session_id: int


@dataclass(frozen=True, slots=True)
class SettingsChanged:
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
    return Standing(settings, session), _decisions_by_reason(connection, session.session_id)


def decide(
    connection: sqlite3.Connection,
    name: str,
    now: datetime,
    task: Task,
    rule: Callable[[Standing], Decision],
) -> tuple[int, Decision]:
    """Let a rule decide a task on the session as it stands, and log the decision with its inputs."""
    settings, canonical = _effective(connection)
    session = _open(connection, name, now, settings)
    decision = rule(Standing(settings, session))
    decision_id = connection.execute(
        "INSERT INTO immunos_mcp_decision (session_id, policy_id, decided_at, task_type,"
        " classification, estimated_tokens, session_tokens, model, provider, reason, warning_level)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        ),
    ).lastrowid
    assert decision_id is not None
    connection.execute(
        "INSERT INTO immunos_mcp_session_reason (session_id, reason, decisions) VALUES (?, ?, 1)"
        " ON CONFLICT DO UPDATE SET decisions = decisions + 1",
        (session.session_id, decision.reason),
    )
    return decision_id, decision


def record(
    connection: sqlite3.Connection, name: str, now: datetime, usage: Usage, source: str
) -> Recorded:
    """Add a usage record to the session and its totals, and close the decision it belongs to.

    A request id that was recorded before changes nothing.

    Raises:
        InvalidInputError: the decision is unknown or closed otherwise, or the request id stands for
            other usage.
    """
    settings = effective_settings(connection)
    if usage.request_id is not None and _is_repeat(connection, name, usage):
        session = _current(connection, name, now, settings)
        return Recorded(settings, session, session, repeated=True)
    _close_decision(connection, usage, now)
    provider = provider_of(usage.model, settings)
    before = _open(connection, name, now, settings)
    connection.execute(
        "INSERT INTO immunos_mcp_usage (session_id, recorded_at, model, provider, source,"
        " external_id, input_tokens, output_tokens, cache_creation_input_tokens,"
        " cache_read_input_tokens, decision_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        ),
    )
    after = _add_to_totals(connection, before, usage.counts, provider, settings, now)
    return Recorded(settings, before, after, repeated=False)


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
    wanted = {settings_rules.full_name(name): value for name, value in changes.items()}
    before = settings_rules.from_stored(
        {
            name: text
            for name, text in stored.items()
            if name == settings_rules.MAPPINGS or name not in wanted
        }
        if _is_broken(stored)
        else stored
    )
    applied = settings_rules.values(settings_rules.apply(before, changes))
    updated = dict(stored)
    for name in wanted:
        updated[name] = settings_rules.to_text(applied[name])
    after = settings_rules.from_stored(updated)
    _store(connection, stored, updated, client, now)
    return SettingsChanged(before, after)


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
        left = settings_rules.apply(
            settings_rules.from_stored(updated), {settings_rules.MAPPINGS: unmapped}
        )
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


def decisions(
    connection: sqlite3.Connection, name: str | None, limit: int
) -> tuple[LoggedDecision, ...]:
    """Return the newest decisions of a session name, or of all, newest first."""
    # Sessions of one name follow each other, so that the newest decisions are the last session's:
    # with the join held in this order SQLite walks indexes backwards and sorts nothing.
    if name is None:
        rows = connection.execute(
            f"SELECT {_DECISION_COLUMNS} FROM immunos_mcp_decision"  # noqa: S608  # a constant
            " JOIN immunos_mcp_session AS session USING (session_id)"
            " ORDER BY decision_id DESC LIMIT ?",
            (limit,),
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
                model, Provider(provider), Reason(reason), WarningLevel(level), session_tokens
            ),
            Outcome(outcome) if outcome is not None else None,
        )
        for (
            decision_id, session, decided_at, task_type, classification, estimated_tokens,
            model, provider, reason, level, session_tokens, outcome,
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
        "SELECT name, session.session_id, usage_records, coalesce(sum(decisions), 0)"
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
    (session_id, name, started_at, *counts, usage_records, pace_tokens, pace_at) = row
    return Session(
        session_id,
        name,
        datetime.fromisoformat(started_at),
        TokenCounts(*counts[:4]),
        TokenCounts(*counts[4:]),
        Pace(pace_tokens, _moment(pace_at)),
        usage_records,
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
        "INSERT INTO immunos_mcp_session (name, started_at) VALUES (?, ?)", (name, utc_text(now))
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


def _is_repeat(connection: sqlite3.Connection, name: str, usage: Usage) -> bool:
    row = connection.execute(
        "SELECT session.name, model, input_tokens, output_tokens, cache_creation_input_tokens,"
        " cache_read_input_tokens FROM immunos_mcp_usage"
        " JOIN immunos_mcp_session AS session USING (session_id) WHERE external_id = ?",
        (usage.request_id,),
    ).fetchone()
    if row is None:
        return False
    recorded = (row[0], row[1], TokenCounts(*row[2:]))
    if recorded != (name, usage.model, usage.counts):
        takes = "an id of its own for each response; this one was recorded with other usage"
        raise InvalidInputError(Problem("request_id", usage.request_id, takes))
    return True


def _close_decision(connection: sqlite3.Connection, usage: Usage, now: datetime) -> None:
    if usage.decision_id is None:
        return
    row = connection.execute(
        "SELECT outcome FROM immunos_mcp_decision WHERE decision_id = ?", (usage.decision_id,)
    ).fetchone()
    if row is None:
        takes = "the decision_id of a route_task answer"
        raise InvalidInputError(Problem("decision_id", usage.decision_id, takes))
    if usage.outcome is None or row[0] == usage.outcome:
        return
    if row[0] is not None:
        takes = f"no other outcome: decision {usage.decision_id} is closed as {row[0]}"
        raise InvalidInputError(Problem("outcome", usage.outcome.value, takes))
    connection.execute(
        "UPDATE immunos_mcp_decision SET outcome = ?, closed_at = ? WHERE decision_id = ?",
        (usage.outcome, utc_text(now), usage.decision_id),
    )


def _add_to_totals(
    connection: sqlite3.Connection,
    session: Session,
    added: TokenCounts,
    provider: Provider,
    settings: Settings,
    now: datetime,
) -> Session:
    counts = (
        added.input_tokens,
        added.output_tokens,
        added.cache_creation_input_tokens,
        added.cache_read_input_tokens,
    )
    if provider is Provider.CLAUDE:
        pace_now = pace.add(session.pace, budget_tokens(added, settings.weights), now)
        connection.execute(
            "UPDATE immunos_mcp_session SET"
            " claude_input_tokens = claude_input_tokens + ?,"
            " claude_output_tokens = claude_output_tokens + ?,"
            " claude_cache_creation_input_tokens = claude_cache_creation_input_tokens + ?,"
            " claude_cache_read_input_tokens = claude_cache_read_input_tokens + ?,"
            " usage_records = usage_records + 1, pace_tokens = ?, pace_at = ?"
            " WHERE session_id = ?",
            (*counts, pace_now.tokens, _text(pace_now.at), session.session_id),
        )
    else:
        connection.execute(
            "UPDATE immunos_mcp_session SET"
            " local_input_tokens = local_input_tokens + ?,"
            " local_output_tokens = local_output_tokens + ?,"
            " local_cache_creation_input_tokens = local_cache_creation_input_tokens + ?,"
            " local_cache_read_input_tokens = local_cache_read_input_tokens + ?,"
            " usage_records = usage_records + 1 WHERE session_id = ?",
            (*counts, session.session_id),
        )
    after = _find_open(connection, session.name)
    assert after is not None
    return after


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
