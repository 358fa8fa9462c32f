"""Session totals, updated in the same transaction as each record.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp.domain import Provider, Session, TokenCounts
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.ledger.sessions import SESSION_COLUMNS, session_of
from immunos_mcp.rules import pace
from immunos_mcp.rules.levels import budget_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings


def distribute(connection: Connection, additions: Sequence[Addition], settings: Settings) -> None:
    """Add tokens to every session they count in; those of hosted models count in none."""
    additions = [each for each in additions if each.provider is not Provider.HOSTED]
    if not additions:
        return
    moments = [addition.at for addition in additions]
    for session, ended_at in sessions_between(connection, min(moments), max(moments)):
        theirs = [addition for addition in additions if counts_in(addition, session, ended_at)]
        if theirs:
            add_to_totals(connection, session, theirs, settings)


class Addition(Struct, frozen=True):
    """Tokens to add to totals: a new record, the growth of one, or (negative) the removal of one."""

    counts: TokenCounts
    provider: Provider
    at: datetime
    folder: str | None
    is_measured: bool
    records: int


def add_to_totals(
    connection: Connection,
    session: Session,
    additions: Sequence[Addition],
    settings: Settings,
) -> Session:
    """Add tokens to one session's totals and pace; return what it is then."""
    claude = measured = local = TokenCounts()
    pace_now = session.pace
    for addition in additions:
        if addition.provider is Provider.OLLAMA:
            local += addition.counts
            continue
        claude += addition.counts
        if addition.is_measured:
            measured += addition.counts
        tokens = budget_tokens(addition.counts, settings)
        pace_now = pace.add(pace_now, tokens, addition.at)
    records = sum(addition.records for addition in additions)
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
            *by_kind(claude),
            *by_kind(measured),
            *by_kind(local),
            records,
            pace_now.tokens,
            None if pace_now.at is None else utc_text(pace_now.at),
            session.session_id,
        ),
    )
    return replace(
        session,
        claude=session.claude + claude,
        measured=session.measured + measured,
        local=session.local + local,
        pace=pace_now,
        usage_records=session.usage_records + records,
    )


def keep_budgets_up(connection: Connection, settings: Settings, moment: datetime) -> None:
    """Let the sums of budgets follow new usage, so that who only reads need not sum up anything."""
    if settings.budgets:
        from immunos_mcp.ledger.budget_uses import keep_up  # most ledgers have no budgets

        keep_up(connection, settings, moment)


def by_kind(counts: TokenCounts) -> tuple[int, int, int, int]:
    """Return the four kinds of tokens in the order of the columns."""
    return (
        counts.input_tokens,
        counts.output_tokens,
        counts.cache_creation_input_tokens,
        counts.cache_read_input_tokens,
    )


def sessions_between(
    connection: Connection, first: datetime, last: datetime
) -> list[tuple[Session, datetime | None]]:
    """Return the sessions open at any time between two moments, and when each ended."""
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS}, ended_at FROM immunos_mcp_session"  # noqa: S608  # a constant
        " WHERE (ended_at IS NULL OR ended_at > ?) AND started_at <= ?",
        (utc_text(first), utc_text(last)),
    ).fetchall()
    return [(session_of(row[:-1]), moment_of(row[-1])) for row in rows]


def counts_in(addition: Addition, session: Session, ended_at: datetime | None) -> bool:
    """Return whether tokens belong to a session that ended at some time, or has not ended."""
    assert session.started_at is not None
    if addition.at < session.started_at or (ended_at is not None and addition.at >= ended_at):
        return False
    if session.folder is None or addition.folder == session.folder:
        return True
    return addition.folder is not None and addition.folder.startswith(f"{session.folder}/")
