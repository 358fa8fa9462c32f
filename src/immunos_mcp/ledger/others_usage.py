"""Which pushed usage is another person's already: knowing an id changes nobody else's figures.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger.dialect import IN_LIST, list_parameter
from immunos_mcp.ledger.identities import index_requests

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.logged_usage import ConversationTotal, MeasuredUsage, RequestUsage


def without_others_responses(
    connection: Connection, measured: Sequence[MeasuredUsage]
) -> Sequence[MeasuredUsage]:
    """Return usage without responses that another person pushed first.

    Responses of one request are the same; where neither has a request, those of one conversation are.
    Another response whose id somebody used already, by chance or to keep it out, gets one of its own.
    """
    found = _of_other_people(connection, measured)
    taken = _taken_requests(connection, measured, found)
    others = {each.message_id: each for each in found}
    if not others and not taken:
        return measured
    told_apart = [
        _told_apart(usage, others, connection.person_id)
        for usage in measured
        if usage.request_id not in taken
    ]
    others = {each.message_id for each in _of_other_people(connection, told_apart)}
    return [usage for usage in told_apart if usage.message_id not in others]


def without_others_requests(
    connection: Connection, requests: Sequence[RequestUsage]
) -> Sequence[RequestUsage]:
    """Return requests without those whose response another person pushed."""
    taken = _of_others(connection, {each.request_id for each in requests})
    return [each for each in requests if each.request_id not in taken]


def without_others_totals(
    connection: Connection, totals: Sequence[ConversationTotal]
) -> Sequence[ConversationTotal]:
    """Return totals without those that another person pushed first: of that conversation, since that time."""
    if connection.person_id is None or not totals:
        return totals
    rows = connection.execute(
        "SELECT DISTINCT conversation, start_ms FROM immunos_mcp_conversation_total"  # noqa: S608  # a constant
        f" WHERE conversation {IN_LIST} AND person_id <> ?",
        (list_parameter(each.conversation for each in totals), connection.person_id),
    )
    taken = {(conversation, start_ms) for conversation, start_ms in rows}
    return [each for each in totals if (each.conversation, each.start_ms) not in taken]


class _Stored(NamedTuple):
    """What tells whether a stored response is the same as another."""

    message_id: str
    request_id: str | None
    conversation: str | None


def _told_apart(
    usage: MeasuredUsage, others: Mapping[str, _Stored], person_id: int | None
) -> MeasuredUsage:
    other = others.get(usage.message_id)
    if other is None or _is_same(usage, other):
        return usage
    suffix = usage.request_id or usage.conversation or person_id
    return usage._replace(message_id=f"{usage.message_id}#{suffix}")


def _is_same(usage: MeasuredUsage, other: _Stored) -> bool:
    if usage.request_id is not None or other.request_id is not None:
        return usage.request_id == other.request_id
    return usage.conversation == other.conversation


def _of_other_people(connection: Connection, measured: Sequence[MeasuredUsage]) -> list[_Stored]:
    """Return responses of other people that have the id of a response or request here."""
    if connection.person_id is None or not measured:
        return []
    ids = {each.message_id for each in measured} | {each.request_id for each in measured}
    rows = connection.execute(
        "SELECT message_id, request_id, conversation FROM immunos_mcp_measured_usage"  # noqa: S608  # a constant
        f" WHERE message_id {IN_LIST} AND person_id <> ?",
        (list_parameter(filter(None, ids)), connection.person_id),
    )
    return [_Stored(*row) for row in rows]


def _taken_requests(
    connection: Connection, measured: Sequence[MeasuredUsage], found: Sequence[_Stored]
) -> Collection[str | None]:
    """Return the requests of usage here whose response is another person's, where one of both has no id."""
    nameless = {each.request_id for each in measured if each.message_id == each.request_id}
    theirs = {each.request_id for each in found if each.message_id == each.request_id}
    return theirs | _of_others(connection, nameless)


def _of_others(connection: Connection, requests: Collection[str | None]) -> set[str | None]:
    """Return those of the requests whose response is another person's."""
    if connection.person_id is None or not requests:
        return set()
    index_requests(connection)
    rows = connection.execute(
        "SELECT request_id FROM immunos_mcp_measured_usage"  # noqa: S608  # a constant
        f" WHERE request_id {IN_LIST} AND person_id <> ?",
        (list_parameter(requests), connection.person_id),
    )
    return {request for (request,) in rows}
