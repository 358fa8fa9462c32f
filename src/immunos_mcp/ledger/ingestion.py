"""Storing usage that clients themselves recorded, in transcripts and telemetry.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from immunos_mcp.domain import CLAUDE_CODE, Provider, Switch, TokenCounts
from immunos_mcp.ledger.dialect import IN_LIST, list_parameter
from immunos_mcp.ledger.engines import providers_of_usage
from immunos_mcp.ledger.identities import TERMS, identified, index_requests
from immunos_mcp.ledger.measured_usage import pruned_before
from immunos_mcp.ledger.moments import as_stored, utc_text
from immunos_mcp.ledger.plan_limits import record_plan_usage
from immunos_mcp.ledger.side_usage import settle, store_totals, unsettle
from immunos_mcp.ledger.stored_settings import effective_settings
from immunos_mcp.ledger.totals import (
    Addition,
    by_kind,
    distribute,
    keep_budgets_up,
    sessions_between,
)
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.identities import Identified
    from immunos_mcp.ledger.stored_usage import StoredUsage
    from immunos_mcp.logged_usage import (
        ConversationTotal,
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
    for report in reports:
        record_plan_usage(connection, (report.usage,), report.at)
    settings = effective_settings(connection)
    oldest = pruned_before(connection)
    if oldest is not None:
        measured = [usage for usage in measured if usage.at >= oldest]
    found = identified(connection, measured)
    news = _news(found)
    additions = [_taken_back(each) for each in found.removed]
    additions += _take_back_all_requests(connection, news, found.known)
    growth = _store_growth(connection, news.grown, found.known)
    additions += [each for assistant, each in growth if _has_totals(assistant, each.provider)]
    if settings.reservations is Switch.ON:
        from immunos_mcp.ledger.reservations import release_used  # off unless it is switched on

        release_used(connection, found, (*news.fresh.values(), *news.grown.values()), settings)
    additions += _store_fresh(connection, news.fresh.values(), settings)
    store_totals(connection, totals, oldest)
    _note_changed_conversations(connection, news, found.removed)
    if is_last:
        additions += settle(connection, settings)
    distribute(connection, additions, settings)
    connection.executemany(
        f"INSERT INTO immunos_mcp_transcript ({_POSITION_COLUMNS})"  # noqa: S608  # constants
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        f" ON CONFLICT (path) DO UPDATE SET {_POSITION_UPDATES}",
        positions,
    )
    new = len(news.fresh) + len(growth)
    if is_last and new:
        keep_budgets_up(connection, settings, max(usage.at for usage in found.measured))
    return new


class _News(Struct, frozen=True):
    """Usage that is not stored as it is, by response.

    Attributes:
        fresh: responses that are not stored.
        grown: what is read of stored ones, whether they have grown or not.
        copied: conversations, each with the id of a response that another one had first.
    """

    fresh: dict[str, MeasuredUsage]
    grown: dict[str, MeasuredUsage]
    copied: set[tuple[str, str]]


def _news(identified_usage: Identified) -> _News:
    known = identified_usage.known
    news = _News({}, {}, set())
    for usage in identified_usage.measured:
        found = news.grown if usage.message_id in known else news.fresh
        earlier = found.get(usage.message_id)
        first = known.get(usage.message_id)
        has = first.conversation if first is not None else earlier and earlier.conversation
        if usage.conversation is not None and has is not None and has != usage.conversation:
            news.copied.add((usage.conversation, usage.message_id))
        if earlier is None:
            found[usage.message_id] = usage
        elif usage.total > earlier.total:
            # It stays with the conversation that had it first.
            conversation = earlier.conversation or usage.conversation
            found[usage.message_id] = usage._replace(conversation=conversation)
    return news


def _take_back_all_requests(
    connection: Connection, news: _News, known: Mapping[str, StoredUsage]
) -> list[Addition]:
    """Remove telemetry requests of new responses, and of those whose request is only known now."""
    additions = _take_back_requests(connection, news.fresh)
    late = {
        message_id: usage
        for message_id, usage in news.grown.items()
        if usage.request_id is not None and known[message_id].request_id is None
    }
    if late:
        additions += _take_back_requests(connection, late)
        news.grown.update(late)
    return additions


def _store_growth(
    connection: Connection, grown: Mapping[str, MeasuredUsage], known: Mapping[str, StoredUsage]
) -> list[tuple[str, Addition]]:
    """Store what known responses lacked; return by how much each has grown, with its assistant."""
    _complete(connection, grown.values(), known)
    return [
        (usage.assistant, addition)
        for usage in grown.values()
        for addition in _grow(connection, known[usage.message_id], usage.counts)
    ]


def _store_fresh(
    connection: Connection, fresh: Collection[MeasuredUsage], settings: Settings
) -> list[Addition]:
    """Store new responses; return what they add to sessions."""
    providers = _providers(connection, fresh, settings)
    _add_measured(connection, fresh, providers)
    # On a first import, most history falls in no session and adds to no total.
    if not _is_covered(connection, fresh):
        return []
    return [
        _addition(usage, provider)
        for usage in fresh
        if _has_totals(usage.assistant, provider := providers[usage.assistant, usage.model])
    ]


def _note_changed_conversations(
    connection: Connection, news: _News, removed: Collection[StoredUsage]
) -> None:
    connection.executemany(
        "INSERT INTO immunos_mcp_copied_response (conversation, message_id) VALUES (?, ?)"
        " ON CONFLICT DO NOTHING",
        sorted(news.copied),
    )
    changed = (*news.fresh.values(), *news.grown.values(), *removed)
    unsettle(
        connection,
        {usage.conversation for usage in changed if usage.conversation}
        | {conversation for conversation, _ in news.copied},
    )


def ingest_requests(connection: Connection, requests: Sequence[RequestUsage]) -> int:
    """Store usage that telemetry reported; return the number of new or grown requests.

    A request whose response is in a transcript counts as that response, with the larger of the two
    numbers. Any other request counts on its own until a transcript reports it, in every session that
    was open when it finished and is not bound to a folder.
    """
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
            " conversation, person_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                request.request_id,
                utc_text(request.at),
                request.model,
                provider,
                *by_kind(request.counts),
                request.conversation,
                connection.person_id,
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
    if not fresh:
        return
    # Sorted by id, because ids are random and neighbours share a page.
    values = zip(*sorted(fresh), strict=True)
    fields: dict[str, Sequence[Any]] = dict(zip(MeasuredUsage._fields, values, strict=True))
    moments, side_conversations = fields.pop("at"), fields.pop("is_sidechain")
    del fields["calls"]
    models = zip(fields["assistant"], fields["model"], strict=True)
    connection.add_rows(
        "immunos_mcp_measured_usage",
        {
            **fields,
            "measured_at": list(map(utc_text, moments)),
            "provider": [providers[each].value for each in models],
            "is_sidechain": [None if each is None else int(each) for each in side_conversations],
            "person_id": [connection.person_id] * len(fresh),
        },
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

    If telemetry had the larger numbers, the response gets them, unless they are another person's.
    """
    if connection.execute("SELECT 1 FROM immunos_mcp_request_usage LIMIT 1").fetchone() is None:
        return []
    from immunos_mcp.ledger.people import is_others  # only where there is telemetry

    messages = {usage.request_id: message_id for message_id, usage in fresh.items()}
    rows = connection.execute(
        f"DELETE FROM immunos_mcp_request_usage WHERE request_id {IN_LIST}"  # noqa: S608  # a constant
        " RETURNING request_id, finished_at, provider, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens, person_id",
        (list_parameter(messages),),
    ).fetchall()
    taken_back: list[Addition] = []
    for request_id, finished_at, provider, *kinds, person_id in rows:
        message_id, counts = messages[request_id], TokenCounts(*kinds)
        is_larger = counts.total > fresh[message_id].total
        if is_larger and not is_others(connection, person_id):
            fresh[message_id] = fresh[message_id].with_counts(counts)
        at = datetime.fromisoformat(finished_at)
        back = TokenCounts() - counts
        taken_back.append(
            Addition(back, Provider(provider), at, None, is_measured=True, records=-1)
        )
    return taken_back
