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
    others = _identities_of_others(connection, measured)
    taken = _nameless_of_others(connection, measured)
    if not others and not taken:
        return measured
    told_apart = [
        _told_apart(usage, others, connection.person_id)
        for usage in measured
        if usage.request_id not in taken
    ]
    others = _identities_of_others(connection, told_apart)
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
    """Return totals without those of conversations whose totals another person pushed first."""
    if connection.person_id is None or not totals:
        return totals
    rows = connection.execute(
        "SELECT DISTINCT conversation FROM immunos_mcp_conversation_total"  # noqa: S608  # a constant
        f" WHERE conversation {IN_LIST} AND person_id <> ?",
        (list_parameter(each.conversation for each in totals), connection.person_id),
    )
    taken = {conversation for (conversation,) in rows}
    return [each for each in totals if each.conversation not in taken]


class _Identity(NamedTuple):
    """What a response has besides its id."""

    request_id: str | None
    conversation: str | None


def _told_apart(
    usage: MeasuredUsage, others: Mapping[str, _Identity], person_id: int | None
) -> MeasuredUsage:
    other = others.get(usage.message_id)
    if other is None or _is_same(usage, other):
        return usage
    suffix = usage.request_id or usage.conversation or person_id
    return usage._replace(message_id=f"{usage.message_id}#{suffix}")


def _is_same(usage: MeasuredUsage, other: _Identity) -> bool:
    if usage.request_id is not None or other.request_id is not None:
        return usage.request_id == other.request_id
    return usage.conversation == other.conversation


def _identities_of_others(
    connection: Connection, measured: Sequence[MeasuredUsage]
) -> dict[str, _Identity]:
    """Return the ids of responses that are another person's, each with what else it has."""
    if connection.person_id is None or not measured:
        return {}
    rows = connection.execute(
        "SELECT message_id, request_id, conversation FROM immunos_mcp_measured_usage"  # noqa: S608  # a constant
        f" WHERE message_id {IN_LIST} AND person_id <> ?",
        (list_parameter(each.message_id for each in measured), connection.person_id),
    )
    return {message_id: _Identity(*identity) for message_id, *identity in rows}


def _nameless_of_others(
    connection: Connection, measured: Sequence[MeasuredUsage]
) -> Collection[str | None]:
    """Return the requests of usage here whose response is another person's, where one of both has no id."""
    if connection.person_id is None or not measured:
        return ()
    requests = {each.request_id for each in measured if each.request_id is not None}
    rows = connection.execute(
        "SELECT request_id FROM immunos_mcp_measured_usage"  # noqa: S608  # a constant
        f" WHERE message_id {IN_LIST} AND message_id = request_id AND person_id <> ?",
        (list_parameter(requests), connection.person_id),
    )
    nameless = {each.request_id for each in measured if each.message_id == each.request_id}
    return {request for (request,) in rows} | _of_others(connection, nameless)


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
