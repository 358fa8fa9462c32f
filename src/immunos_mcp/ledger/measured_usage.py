"""Usage that the client itself recorded, in transcripts and telemetry.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from immunos_mcp.domain import (
    CLAUDE_CODE,
    Provider,
    Session,
    Switch,
    TokenCounts,
)
from immunos_mcp.ledger import reservations
from immunos_mcp.ledger.dialect import IN_LIST, list_parameter
from immunos_mcp.ledger.engines import providers_of_usage
from immunos_mcp.ledger.moments import as_stored, moment_of, utc_text
from immunos_mcp.ledger.plan_limits import record_plan_usage
from immunos_mcp.ledger.stored_settings import effective_settings
from immunos_mcp.ledger.totals import Addition, by_kind, distribute, sessions_between
from immunos_mcp.logged_usage import TranscriptPosition
from immunos_mcp.rules.policy import budget_tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.identities import StoredUsage
    from immunos_mcp.logged_usage import (
        ConversationTotal,
        MeasuredUsage,
        PlanReport,
        RequestUsage,
    )
    from immunos_mcp.rules.settings import Settings

    _Providers = Mapping[tuple[str, str], Provider]

_POSITION_COLUMNS = ", ".join(TranscriptPosition._fields)
_POSITION_UPDATES = ", ".join(
    f"{name} = excluded.{name}" for name in TranscriptPosition._fields[1:]
)

_MEASURED_COLUMNS = """
    message_id, measured_at, provider, folder,
    input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens
"""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far ahead of the clock a session may begin before the clock must have been wrong."""


class ReadingState(NamedTuple):
    """From when usage matters, and how far each transcript has been read.

    Attributes:
        since: usage before this time belongs to no session; ``None``: there is no session yet.
        positions: how far each transcript has been read without leaving out anything since then, by path.
        is_ahead: whether an open session begins in the future, or its pace does, as they do after the
            clock was ahead.
    """

    since: datetime | None
    positions: dict[str, TranscriptPosition]
    is_ahead: bool = False


def reading_state(connection: Connection, now: datetime) -> ReadingState:
    """Return how far transcripts have been read, and back to when they matter: the oldest session that may grow.

    A closed session may still grow for a day, because responses can be written late.
    """
    (since,) = connection.execute(
        "SELECT min(started_at) FROM immunos_mcp_session WHERE ended_at IS NULL OR ended_at > ?",
        (utc_text(now - timedelta(days=1)),),
    ).fetchone()
    oldest = moment_of(since)
    # A reading that left out what a session opened later counts from earlier on starts again.
    rows = connection.execute(
        f"SELECT {_POSITION_COLUMNS} FROM immunos_mcp_transcript"  # noqa: S608  # a constant
        " WHERE CAST(:oldest AS TEXT) IS NULL OR left_out_before <= :oldest",
        {"oldest": None if oldest is None else oldest.isoformat()},
    )
    positions = {row[0]: TranscriptPosition._make(row) for row in rows}
    (is_ahead,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM immunos_mcp_session WHERE ended_at IS NULL"
        " AND (started_at > :ahead OR pace_at > :ahead))",
        {"ahead": utc_text(now + CLOCK_TOLERANCE)},
    ).fetchone()
    return ReadingState(oldest, positions, bool(is_ahead))


def forget_future(connection: Connection, now: datetime) -> None:
    """Let open sessions that begin in the future begin now, since the clock was ahead when they began.

    What was left out because of such a session is read again.
    """
    ahead = utc_text(now + CLOCK_TOLERANCE)
    connection.execute(
        "UPDATE immunos_mcp_session SET started_at = ? WHERE ended_at IS NULL AND started_at > ?",
        (utc_text(now), ahead),
    )
    connection.execute(
        "UPDATE immunos_mcp_session SET pace_tokens = 0, pace_at = NULL"
        " WHERE ended_at IS NULL AND pace_at > ?",
        (ahead,),
    )
    connection.execute("DELETE FROM immunos_mcp_transcript WHERE left_out_before > ?", (ahead,))


def ingest(
    connection: Connection,
    measured: Sequence[MeasuredUsage],
    positions: Sequence[TranscriptPosition] = (),
    totals: Sequence[ConversationTotal] = (),
    *,
    reports: Sequence[PlanReport] = (),
    is_last: bool = True,
) -> int:
    """Store measured usage and the transcript positions; return the number of new or grown responses.

    Each response counts once in every session that was open when it was written (and that is bound
    to its folder, or to none). A known response changes nothing unless its numbers have grown; then
    the totals grow by the difference. What a conversation's own total has beyond them is booked once
    all is read (``is_last``).
    """
    # Most looks find nothing to store, and need neither of these.
    from immunos_mcp.ledger.identities import identified
    from immunos_mcp.ledger.side_usage import settle, store_totals, unsettle

    for report in reports:
        record_plan_usage(connection, (report.usage,), report.at)
    settings = effective_settings(connection)
    oldest = pruned_before(connection)
    if oldest is not None:
        measured = [usage for usage in measured if usage.at >= oldest]
    measured, known, removed = identified(connection, measured)
    additions = [_taken_back(each) for each in removed]
    fresh: dict[str, MeasuredUsage] = {}
    grown: dict[str, MeasuredUsage] = {}
    copied: set[tuple[str, str]] = set()
    for usage in measured:
        found = grown if usage.message_id in known else fresh
        earlier = found.get(usage.message_id)
        first = known.get(usage.message_id)
        has = first.conversation if first is not None else earlier and earlier.conversation
        if usage.conversation is not None and has is not None and has != usage.conversation:
            copied.add((usage.conversation, usage.message_id))
        if earlier is None or usage.total > earlier.total:
            found[usage.message_id] = usage
    additions += _take_back_requests(connection, fresh)
    late = {
        message_id: usage
        for message_id, usage in grown.items()
        if usage.request_id is not None and known[message_id].request_id is None
    }
    if late:
        additions += _take_back_requests(connection, late)
        grown |= late
    _complete(connection, grown.values(), known)
    growth = [
        (usage.assistant, addition)
        for usage in grown.values()
        for addition in _grow(connection, known[usage.message_id], usage.counts)
    ]
    new = len(fresh) + len(growth)
    additions += [each for assistant, each in growth if _has_totals(assistant, each.provider)]
    if settings.reservations is Switch.ON:
        new_usage = [*fresh.values(), *grown.values()]
        _release(connection, measured, new_usage, known, settings)
    providers = _providers(connection, fresh.values(), settings)
    _add_measured(connection, fresh.values(), providers)
    # On a first import, most history falls in no session and adds to no total.
    if additions or _is_covered(connection, fresh.values()):
        additions += (
            _addition(usage, provider)
            for usage in fresh.values()
            if _has_totals(usage.assistant, provider := providers[usage.assistant, usage.model])
        )
    store_totals(connection, totals, oldest)
    connection.executemany(
        "INSERT INTO immunos_mcp_copied_response (conversation, message_id) VALUES (?, ?)"
        " ON CONFLICT DO NOTHING",
        sorted(copied),
    )
    news = (*fresh.values(), *grown.values())
    unsettle(
        connection,
        {usage.conversation for usage in (*news, *removed) if usage.conversation}
        | {conversation for conversation, _ in copied},
    )
    if is_last:
        additions += settle(connection, settings)
    distribute(connection, additions, settings)
    connection.executemany(
        f"INSERT INTO immunos_mcp_transcript ({_POSITION_COLUMNS})"  # noqa: S608  # constants
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        f" ON CONFLICT (path) DO UPDATE SET {_POSITION_UPDATES}",
        positions,
    )
    return new


def ingest_requests(connection: Connection, requests: Sequence[RequestUsage]) -> int:
    """Store usage that telemetry reported; return the number of new or grown requests.

    A request whose response is in a transcript counts as that response, with the larger of the two
    numbers. Any other request counts on its own until a transcript reports it, in every session that
    was open when it finished and is not bound to a folder.
    """
    from immunos_mcp.ledger.identities import index_requests
    from immunos_mcp.ledger.side_usage import settle, unsettle

    index_requests(connection)
    settings = effective_settings(connection)
    oldest = pruned_before(connection)
    providers = providers_of_usage(connection, {each.model for each in requests}, settings)
    additions: list[Addition] = []
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
        provider = providers[request.model]
        added = connection.execute(
            "INSERT INTO immunos_mcp_request_usage (request_id, finished_at, model, provider,"
            " input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
            " conversation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                request.request_id,
                utc_text(request.at),
                request.model,
                provider,
                *by_kind(request.counts),
                request.conversation,
            ),
        )
        if added.rowcount:
            at = as_stored(request.at)
            additions.append(
                Addition(request.counts, provider, at, None, is_measured=True, records=1)
            )
    new = len(additions)
    unsettle(connection, {each.conversation for each in requests if each.conversation})
    additions += settle(connection, settings)
    distribute(connection, additions, settings)
    return new


def pruned_before(connection: Connection) -> datetime | None:
    """Return the time before which usage is ignored because it was pruned into totals."""
    row = connection.execute("SELECT before FROM immunos_mcp_pruning").fetchone()
    return None if row is None else datetime.fromisoformat(row[0])


def index_moments(connection: Connection) -> None:
    """Make measured usage findable by time, where that is looked for at each end of a session's window."""
    connection.ensure_index("immunos_mcp_measured_usage_moment")


def measured_since(connection: Connection, since: datetime) -> Iterator[Addition]:
    """Return the stored usage from a time on that sessions have a total of."""
    rows = connection.execute(
        "SELECT measured_at, provider, folder, 1, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens"
        " FROM immunos_mcp_measured_usage WHERE measured_at >= :since"
        "  AND (provider = 'claude' OR provider = 'ollama' AND assistant = 'claude-code')"
        " UNION ALL SELECT finished_at, provider, NULL, 1, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens"
        " FROM immunos_mcp_request_usage WHERE finished_at >= :since AND provider <> 'hosted'"
        " UNION ALL SELECT used_at, provider, folder, is_first, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens"
        " FROM immunos_mcp_side_usage WHERE used_at >= :since AND provider <> 'hosted'",
        {"since": utc_text(since)},
    )
    for at, provider, folder, records, *kinds in rows:
        moment = datetime.fromisoformat(at)
        counts = TokenCounts(*kinds)
        yield Addition(
            counts, Provider(provider), moment, folder, is_measured=True, records=records
        )


def side_request_tokens(connection: Connection, session: Session) -> TokenCounts:
    """Return the tokens of a session that no response has: from telemetry and conversations' totals."""
    if session.started_at is None:
        return TokenCounts()
    row = connection.execute(
        "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),"
        " coalesce(sum(cache_creation_input_tokens), 0), coalesce(sum(cache_read_input_tokens), 0)"
        " FROM (SELECT input_tokens, output_tokens, cache_creation_input_tokens,"
        "  cache_read_input_tokens FROM immunos_mcp_request_usage"
        "  WHERE finished_at >= :since AND provider = 'claude' AND CAST(:folder AS TEXT) IS NULL"
        " UNION ALL SELECT input_tokens, output_tokens, cache_creation_input_tokens,"
        "  cache_read_input_tokens FROM immunos_mcp_side_usage"
        "  WHERE used_at >= :since AND provider = 'claude'"
        "  AND (CAST(:folder AS TEXT) IS NULL OR folder = :folder"
        "   OR substr(folder, 1, length(:folder) + 1) = :folder || '/')) AS side",
        {"since": utc_text(session.started_at), "folder": session.folder},
    ).fetchone()
    return TokenCounts(*row)


def unread_lines(connection: Connection) -> int:
    """Return the number of transcript lines with usage that could not be read."""
    (lines,) = connection.execute(
        "SELECT coalesce(sum(unread_lines), 0) FROM immunos_mcp_transcript WHERE unread_lines > 0"
    ).fetchone()
    return int(lines)


def _release(
    connection: Connection,
    measured: Sequence[MeasuredUsage],
    new: Collection[MeasuredUsage],
    known: Mapping[str, StoredUsage],
    settings: Settings,
) -> None:
    """Join reservations with the calls in responses, and release what new usage used of them."""
    providers = providers_of_usage(connection, {usage.model for usage in new}, settings)
    calling = [_measured(usage, 0) for usage in measured if usage.calls]
    for usage in new:
        if providers[usage.model] is not Provider.OLLAMA:
            before = known.get(usage.message_id)
            growth = usage.counts if before is None else usage.counts - before.counts
            calling.append(_measured(usage, budget_tokens(growth, settings)))
    reservations.release_measured(connection, calling)


def _measured(usage: MeasuredUsage, tokens: int) -> reservations.Measured:
    thread = usage.agent or usage.conversation
    return reservations.Measured(thread, usage.at, tokens, usage.calls)


def _taken_back(stored: StoredUsage) -> Addition:
    return Addition(
        TokenCounts() - stored.counts,
        Provider(stored.provider),
        datetime.fromisoformat(stored.measured_at),
        stored.folder,
        is_measured=True,
        records=-1,
    )


def _add_measured(
    connection: Connection, fresh: Collection[MeasuredUsage], providers: _Providers
) -> None:
    connection.executemany(
        "INSERT INTO immunos_mcp_measured_usage (message_id, measured_at, model, provider,"
        " input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
        " folder, request_id, assistant, conversation, cache_1h_input_tokens, speed, service_tier,"
        " region, web_searches, is_sidechain)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                usage.message_id,
                utc_text(usage.at),
                usage.model,
                providers[usage.assistant, usage.model],
                *usage[3:17],
            )
            # Sorted by id, because ids are random and neighbours share a page.
            for usage in sorted(fresh)
        ],
    )


def _providers(
    connection: Connection, fresh: Collection[MeasuredUsage], settings: Settings
) -> _Providers:
    """Return whose tokens the usage of each assistant's models is.

    What other assistants use of hosted models counts like Claude's where the settings name the assistant,
    and in no session otherwise, not even if the model is Claude.
    """
    used = {(usage.assistant, usage.model) for usage in fresh}
    by_model = providers_of_usage(connection, {model for _, model in used}, settings)
    counted = settings.counted_assistants.split(",")
    return {
        (assistant, model): (
            by_model[model]
            if assistant == CLAUDE_CODE or by_model[model] is Provider.OLLAMA
            else Provider.CLAUDE
            if assistant in counted
            else Provider.HOSTED
        )
        for assistant, model in used
    }


def _has_totals(assistant: str, provider: Provider) -> bool:
    """Return whether sessions have a total of such usage; what others did locally was not kept local here."""
    return assistant == CLAUDE_CODE or provider is not Provider.OLLAMA


def tokens_of_others(connection: Connection, session: Session) -> dict[str, TokenCounts]:
    """Return what assistants other than Claude Code used since a session began, in its folder if it has one."""
    if session.started_at is None:
        return {}
    rows = connection.execute(
        "SELECT assistant, sum(input_tokens), sum(output_tokens),"
        " sum(cache_creation_input_tokens), sum(cache_read_input_tokens)"
        " FROM immunos_mcp_measured_usage WHERE assistant <> 'claude-code' AND measured_at >= :since"
        " AND (CAST(:folder AS TEXT) IS NULL OR folder = :folder"
        "  OR substr(folder, 1, length(:folder) + 1) = :folder || '/')"
        " GROUP BY assistant ORDER BY assistant",
        {"since": utc_text(session.started_at), "folder": session.folder},
    )
    return {assistant: TokenCounts(*kinds) for assistant, *kinds in rows}


def _is_covered(connection: Connection, fresh: Collection[MeasuredUsage]) -> bool:
    if not fresh:
        return False
    moments = [usage.at for usage in fresh]
    return bool(sessions_between(connection, min(moments), max(moments)))


def _addition(usage: MeasuredUsage, provider: Provider) -> Addition:
    at = as_stored(usage.at)
    return Addition(usage.counts, provider, at, usage.folder, is_measured=True, records=1)


def _complete(
    connection: Connection, read_again: Collection[MeasuredUsage], known: Mapping[str, StoredUsage]
) -> None:
    """Give known responses the terms that they lack, and those of their later lines if they grew."""
    if not read_again:
        return
    from immunos_mcp.ledger.identities import TERMS

    changed: list[tuple[Any, ...]] = []
    for usage in read_again:
        before = known[usage.message_id]
        stored, found = before[-len(TERMS) :], tuple(getattr(usage, term) for term in TERMS)
        newer, older = (found, stored) if usage.total > before.counts.total else (stored, found)
        terms = tuple(
            other if term is None else term for term, other in zip(newer, older, strict=True)
        )
        # A response stays with the conversation that had it first.
        terms = (stored[0] or found[0], *terms[1:])
        if terms != stored:
            changed.append((*terms, usage.message_id))
    connection.executemany(
        f"UPDATE immunos_mcp_measured_usage SET {', '.join(f'{term} = ?' for term in TERMS)}"  # noqa: S608  # constants
        " WHERE message_id = ?",
        changed,
    )


def _grow(connection: Connection, known: tuple[Any, ...], counts: TokenCounts) -> list[Addition]:
    message_id, measured_at, provider, folder = known[:4]
    before = TokenCounts(*known[4:8])
    if counts.total <= before.total:
        return []
    connection.execute(
        "UPDATE immunos_mcp_measured_usage SET input_tokens = ?, output_tokens = ?,"
        " cache_creation_input_tokens = ?, cache_read_input_tokens = ? WHERE message_id = ?",
        (*by_kind(counts), message_id),
    )
    at = datetime.fromisoformat(measured_at)
    return [Addition(counts - before, Provider(provider), at, folder, is_measured=True, records=0)]


def _take_back_requests(connection: Connection, fresh: dict[str, MeasuredUsage]) -> list[Addition]:
    """Remove telemetry requests whose responses are about to count instead.

    If telemetry had the larger numbers, the response gets them.
    """
    if connection.execute("SELECT 1 FROM immunos_mcp_request_usage LIMIT 1").fetchone() is None:
        return []
    messages = {usage.request_id: message_id for message_id, usage in fresh.items()}
    rows = connection.execute(
        f"DELETE FROM immunos_mcp_request_usage WHERE request_id {IN_LIST}"  # noqa: S608  # a constant
        " RETURNING request_id, finished_at, provider, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens",
        (list_parameter(messages),),
    ).fetchall()
    taken_back: list[Addition] = []
    for request_id, finished_at, provider, *kinds in rows:
        message_id, counts = messages[request_id], TokenCounts(*kinds)
        if counts.total > fresh[message_id].total:
            fresh[message_id] = fresh[message_id].with_counts(counts)
        at = datetime.fromisoformat(finished_at)
        back = TokenCounts() - counts
        taken_back.append(
            Addition(back, Provider(provider), at, None, is_measured=True, records=-1)
        )
    return taken_back
