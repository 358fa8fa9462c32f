"""Which response a line of a log belongs to, where the response's id alone does not tell.

Some gateways give all responses the same id, or some lines of a response none. And a side conversation
repeats its parent's responses under requests of its own.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from immunos_mcp.ledger.dialect import IN_LIST, list_parameter
from immunos_mcp.ledger.stored_usage import StoredUsage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from immunos_mcp.domain import TokenCounts
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.logged_usage import MeasuredUsage


TERMS = StoredUsage._fields[8:]
"""What a record has besides its tokens, most of which its price depends on."""

_COLUMNS = ", ".join(StoredUsage._fields)


class Identified(Struct, frozen=True):
    """Usage under the ids that it is stored with.

    Attributes:
        measured: the usage, without repeats that do not count.
        known: the stored responses with these ids.
        removed: stored responses that were removed, because they count under another id.
    """

    measured: Sequence[MeasuredUsage]
    known: dict[str, StoredUsage]
    removed: list[StoredUsage]


def identified(connection: Connection, measured: Sequence[MeasuredUsage]) -> Identified:
    """Find out which responses usage belongs to, comparing it with what is stored.

    - Usage with the same id and different requests is of different responses.
    - But what a side conversation has of them is a repeat, and its parent's numbers count.
    - Usage without an id is of the response that has one for the same request.
    """
    removed: list[StoredUsage] = []
    measured = _named(connection, measured, removed)
    known = _stored(connection, measured)
    unclear = _unclear(measured, known)
    if unclear:
        measured = _told_apart(connection, measured, unclear, known, removed)
        known = _stored(connection, measured)
    return Identified(measured, known, removed)


def index_requests(connection: Connection) -> None:
    """Make responses findable by request; few ledgers need that, so it takes no space in the others."""
    connection.ensure_index("immunos_mcp_measured_usage_request")


def _named(
    connection: Connection, measured: Sequence[MeasuredUsage], removed: list[StoredUsage]
) -> Sequence[MeasuredUsage]:
    """Give usage that stands for its request the id that other lines of the request have."""
    nameless = {each.request_id for each in measured if each.message_id == each.request_id}
    has_nameless = connection.execute(
        "SELECT 1 FROM immunos_mcp_measured_usage WHERE message_id = request_id LIMIT 1"
    ).fetchone()
    if not nameless and has_nameless is None:
        return measured
    names = {
        each.request_id: each.message_id
        for each in measured
        if each.request_id is not None and each.message_id != each.request_id
    }
    before = _take_back(connection, names, removed)
    names |= _stored_names(connection, nameless - names.keys())
    found: list[MeasuredUsage] = []
    for each in measured:
        usage = each._replace(message_id=names.get(each.request_id, each.message_id))
        earlier = before.get(each.request_id)
        if earlier is not None and earlier.total > usage.total:
            usage = usage.with_counts(earlier)
        found.append(usage if each.message_id == each.request_id or earlier else each)
    return found


def _take_back(
    connection: Connection, requests: Collection[str | None], removed: list[StoredUsage]
) -> dict[str | None, TokenCounts]:
    """Remove what is stored under these requests instead of an id; return its tokens."""
    rows = _removed(connection, requests)
    removed += rows
    return {row.message_id: row.counts for row in rows}


def _removed(connection: Connection, message_ids: Collection[str | None]) -> list[StoredUsage]:
    rows = connection.execute(
        f"DELETE FROM immunos_mcp_measured_usage WHERE message_id {IN_LIST} RETURNING {_COLUMNS}",  # noqa: S608  # constants
        (list_parameter(message_ids),),
    )
    return [StoredUsage(*row) for row in rows]


def _stored_names(
    connection: Connection, requests: Collection[str | None]
) -> dict[str | None, str]:
    if not requests:
        return {}
    index_requests(connection)
    rows = connection.execute(
        "SELECT request_id, message_id FROM immunos_mcp_measured_usage"  # noqa: S608  # a constant
        f" WHERE request_id {IN_LIST} AND message_id <> request_id",
        (list_parameter(requests),),
    )
    return dict(rows.fetchall())


def _stored(connection: Connection, measured: Sequence[MeasuredUsage]) -> dict[str, StoredUsage]:
    rows: Any = connection.execute(
        f"SELECT {_COLUMNS} FROM immunos_mcp_measured_usage WHERE message_id {IN_LIST}",  # noqa: S608  # constants
        (list_parameter(each.message_id for each in measured),),
    )
    return {row[0]: StoredUsage(*row) for row in rows}


def _unclear(measured: Sequence[MeasuredUsage], known: Mapping[str, StoredUsage]) -> frozenset[str]:
    """Return the ids that several requests have, or side conversations and others."""
    seen: dict[str, tuple[str | None, bool | None]] = {
        message_id: (row.request_id, None if row.is_sidechain is None else bool(row.is_sidechain))
        for message_id, row in known.items()
    }
    return frozenset(
        each.message_id
        for each in measured
        if seen.setdefault(each.message_id, (each.request_id, each.is_sidechain))
        != (each.request_id, each.is_sidechain)
    )


def _told_apart(
    connection: Connection,
    measured: Sequence[MeasuredUsage],
    unclear: Collection[str],
    known: Mapping[str, StoredUsage],
    removed: list[StoredUsage],
) -> Sequence[MeasuredUsage]:
    """Give usage of different requests different ids, and leave out repeats."""
    groups: defaultdict[str, list[MeasuredUsage]] = defaultdict(list)
    for each in measured:
        groups[each.message_id].append(each)
    found: list[MeasuredUsage] = []
    for message_id, group in groups.items():
        if message_id in unclear:
            found += _responses(connection, group, known.get(message_id), removed)
        else:
            found += group
    return found


def _responses(
    connection: Connection,
    group: Sequence[MeasuredUsage],
    stored: StoredUsage | None,
    removed: list[StoredUsage],
) -> list[MeasuredUsage]:
    """Return usage with the same id, each under the id of its response."""
    main = [each for each in group if each.request_id is not None and not each.is_sidechain]
    if main and stored is not None and stored.is_sidechain:
        # The parent's own line counts instead of its repeat.
        removed += _removed(connection, [stored.message_id])
        stored = None
    first = stored.request_id if stored is not None else None
    has_main = bool(main) or (first is not None and not (stored and stored.is_sidechain))
    if first is None and main:
        first = main[0].request_id
    # An earlier version did not note what it read, until that is read again.
    is_known = stored is None or stored.is_sidechain is not None
    is_known |= any(each.request_id == first for each in main)
    found: list[MeasuredUsage] = []
    for each in group:
        if each.is_sidechain and has_main and each.request_id != first:
            continue
        is_other = is_known and each.request_id not in {None, first} and not each.is_sidechain
        if is_other:
            found.append(each._replace(message_id=f"{each.message_id}#{each.request_id}"))
        elif has_main:
            found.append(each._replace(request_id=first, is_sidechain=False))
        else:
            found.append(each)
    return found
