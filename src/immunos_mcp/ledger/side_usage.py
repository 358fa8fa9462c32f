"""Side usage: what an assistant's own total of a conversation has beyond its responses and requests.

Conversations that began at the same moment are one family: a conversation and its forks, which
continue its total. Settling a family compares what is stored, in whatever order it was read, and adds
the difference to what was booked before; so settling it again changes nothing.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import Provider, TokenCounts
from immunos_mcp.ledger.dialect import IN_LIST, list_parameter
from immunos_mcp.ledger.engines import providers_of_usage
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.totals import Addition
from immunos_mcp.rules.side_usage import Covered, Place, State, residuals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.logged_usage import ConversationTotal
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.side_usage import Counts

_COUNTS = (
    "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
    " cache_1h_input_tokens, web_searches"
)
_NONE: Counts = (0, 0, 0, 0, 0, 0)


def store_totals(
    connection: Connection, totals: Sequence[ConversationTotal], pruned_before: datetime | None
) -> None:
    """Store conversations' totals, and where another program continued a conversation."""
    for total in totals:
        if not total.models:
            _close(connection, total)
            continue
        is_pruned = pruned_before is not None and (total.first_at or total.at) < pruned_before
        connection.executemany(
            "INSERT INTO immunos_mcp_conversation_total (conversation, start_ms, total_at, first_at,"  # noqa: S608  # constants
            f" folder, person_id, is_partial, is_settled, model, {_COUNTS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (conversation, start_ms, total_at, model)"
            f" DO UPDATE SET is_settled = 0, {_LARGER}"
            " first_at = CASE WHEN immunos_mcp_conversation_total.first_at < excluded.first_at"
            "  OR excluded.first_at IS NULL"
            "  THEN immunos_mcp_conversation_total.first_at ELSE excluded.first_at END,"
            " folder = coalesce(immunos_mcp_conversation_total.folder, excluded.folder),"
            " is_partial = CASE WHEN immunos_mcp_conversation_total.is_partial = 2"
            "  OR immunos_mcp_conversation_total.is_partial < excluded.is_partial"
            "  THEN immunos_mcp_conversation_total.is_partial ELSE excluded.is_partial END",
            [
                (
                    total.conversation,
                    total.start_ms,
                    utc_text(total.at),
                    None if total.first_at is None else utc_text(total.first_at),
                    total.folder,
                    connection.person_id,
                    2 if is_pruned else int(total.is_partial),
                    *model,
                )
                for model in total.models
            ],
        )


_LARGER = "".join(
    f" {name} = CASE WHEN immunos_mcp_conversation_total.{name} > excluded.{name}"
    f" THEN immunos_mcp_conversation_total.{name} ELSE excluded.{name} END,"
    for name in _COUNTS.replace(",", "").split()
)


def _close(connection: Connection, total: ConversationTotal) -> None:
    # Of several people who share a ledger, everybody closes their own.
    connection.execute(
        "UPDATE immunos_mcp_conversation_total SET next_at = :at, is_settled = 0"
        " WHERE conversation = :conversation AND total_at < :at"
        " AND (next_at IS NULL OR next_at > :at) AND coalesce(person_id, CAST(:person_id AS BIGINT), 0)"
        " = coalesce(CAST(:person_id AS BIGINT), person_id, 0)",
        {
            "conversation": total.conversation,
            "at": utc_text(total.at),
            "person_id": connection.person_id,
        },
    )


def unsettle(connection: Connection, conversations: Collection[str]) -> None:
    """Have the families of these conversations settled again, since they have other usage now."""
    if conversations and _has_totals(connection):
        connection.execute(
            "UPDATE immunos_mcp_conversation_total SET is_settled = 0"  # noqa: S608  # a constant
            f" WHERE is_settled = 1 AND conversation {IN_LIST}",
            (list_parameter(conversations),),
        )


def _has_totals(connection: Connection) -> bool:
    found = connection.execute("SELECT 1 FROM immunos_mcp_conversation_total LIMIT 1").fetchone()
    return found is not None


def settle(connection: Connection, settings: Settings) -> list[Addition]:
    """Book the side usage of all families with news; return what it adds to sessions."""
    families = connection.execute(
        "SELECT DISTINCT start_ms FROM immunos_mcp_conversation_total WHERE is_settled = 0"
    ).fetchall()
    if not families:
        return []
    # Only this needs the index, so it takes no space where there are no totals.
    connection.ensure_index("immunos_mcp_measured_usage_conversation")
    additions: list[Addition] = []
    for (start_ms,) in families:
        additions += _settle_family(connection, start_ms, settings)
    connection.execute(
        "UPDATE immunos_mcp_conversation_total SET is_settled = 1 WHERE is_settled = 0"
    )
    return additions


def _settle_family(connection: Connection, start_ms: int, settings: Settings) -> list[Addition]:
    states, owners = _states(connection, start_ms)
    covered = _covered(connection, {state.conversation for state in states}, start_ms)
    booked = _booked(connection, start_ms)
    additions: list[Addition] = []
    models = {model for state in states for model in state.models}
    providers = providers_of_usage(connection, models, settings)
    for place, counts in residuals(states, covered).items():
        before = booked.get(place, _Booked(None, _NONE))
        difference = tuple(new - old for new, old in zip(counts, before.counts, strict=True))
        if not any(difference):
            continue
        records = int(before.provider is None)
        provider = before.provider or providers[place.model]
        owner = owners.get(place.conversation, _NOT_KNOWN)
        connection.execute(
            "INSERT INTO immunos_mcp_side_usage (used_at, conversation, start_ms, model, provider,"  # noqa: S608  # a constant
            f" folder, person_id, is_first, {_COUNTS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                place.at,
                place.conversation,
                start_ms,
                place.model,
                provider,
                owner.folder,
                owner.person_id,
                records,
                *difference,
            ),
        )
        at = datetime.fromisoformat(place.at)
        tokens = TokenCounts(*difference[:4])
        additions.append(
            Addition(tokens, provider, at, owner.folder, is_measured=True, records=records)
        )
    return additions


class _Owner(Struct, frozen=True):
    """Whose a conversation is, and in which project folder."""

    folder: str | None
    person_id: int | None


_NOT_KNOWN = _Owner(None, None)


def _states(connection: Connection, start_ms: int) -> tuple[list[State], dict[str, _Owner]]:
    models: defaultdict[tuple[str, str], dict[str, Counts]] = defaultdict(dict)
    ends: dict[tuple[str, str], str | None] = {}
    frozen: set[tuple[str, str]] = set()
    owners: dict[str, _Owner] = {}
    rows = connection.execute(
        "SELECT conversation, total_at, next_at, folder, person_id, is_partial, model,"  # noqa: S608  # a constant
        f" {_COUNTS} FROM immunos_mcp_conversation_total WHERE start_ms = ?"
        " ORDER BY total_at, conversation",
        (start_ms,),
    )
    for conversation, at, next_at, folder, person_id, is_partial, model, *counts in rows:
        place = (conversation, at)
        models[place][model] = tuple(counts)
        ends[place] = next_at
        known = owners.get(conversation, _NOT_KNOWN)
        owners[conversation] = _Owner(known.folder or folder, known.person_id or person_id)
        if is_partial:
            frozen.add(place)
    states = [
        State(*place, ends[place], models[place], is_whole=place not in frozen) for place in models
    ]
    return states, owners


def _covered(
    connection: Connection, conversations: Collection[str], start_ms: int
) -> list[Covered]:
    """Return the responses and requests of conversations since their family began."""
    members = list_parameter(sorted(conversations))
    counts = (
        "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
        " coalesce(cache_1h_input_tokens, 0), coalesce(web_searches, 0)"
    )
    in_forks = "CASE WHEN is_sidechain = 1 OR agent IS NOT NULL THEN 0 ELSE 1 END"
    rows = connection.execute(
        f"SELECT message_id, conversation, measured_at, model, {counts}, {in_forks}"  # noqa: S608  # constants
        f" FROM immunos_mcp_measured_usage WHERE conversation {IN_LIST}"
        f" UNION ALL SELECT message_id, copied.conversation, measured_at, model, {counts}, {in_forks}"
        " FROM immunos_mcp_copied_response AS copied JOIN immunos_mcp_measured_usage"
        f"  USING (message_id) WHERE copied.conversation {IN_LIST}"
        " UNION ALL SELECT request_id, conversation, finished_at, model, input_tokens,"
        " output_tokens, cache_creation_input_tokens, cache_read_input_tokens, 0, 0, 0"
        f" FROM immunos_mcp_request_usage WHERE conversation {IN_LIST}",
        (members, members, members),
    )
    begin = utc_text(datetime.fromtimestamp(start_ms / 1000, UTC))
    return [
        Covered(identity, conversation, at, model, tuple(kinds), bool(is_copied))
        for identity, conversation, at, model, *kinds, is_copied in rows
        if at >= begin
    ]


class _Booked(Struct, frozen=True):
    provider: Provider | None
    counts: Counts


def _booked(connection: Connection, start_ms: int) -> Mapping[Place, _Booked]:
    sums = ", ".join(f"sum({name})" for name in _COUNTS.replace(",", "").split())
    rows: Iterable[tuple[str, ...]] = connection.execute(
        f"SELECT conversation, used_at, model, max(provider), {sums}"  # noqa: S608  # constants
        " FROM immunos_mcp_side_usage WHERE start_ms = ? GROUP BY 1, 2, 3",
        (start_ms,),
    )
    return {
        Place(conversation, at, model): _Booked(Provider(provider), tuple(counts))
        for conversation, at, model, provider, *counts in rows
    }
