"""What budgets' windows sum up to, without reading the log.

Where budgets are set, triggers note the quarters of an hour whose usage changed, whoever changed it. These
are summed up again before a window is looked at, and the windows' totals follow by the difference. Where
no budget was ever set there are no triggers, and nothing of this costs anything.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.spend_triggers import COLUMNS, KINDS, PLACE, QUARTER_OF, SCOPE, begin
from immunos_mcp.ledger.usage_groups import priced, sums
from immunos_mcp.rules import derived_prices
from immunos_mcp.rules.budgets import NANODOLLARS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.budget_windows import Span

QUARTER = timedelta(minutes=15)
NO_END = "9999-12-31T23:59:59.999Z"

_STATE = (
    "SELECT revision, EXISTS (SELECT 1 FROM immunos_mcp_person_spend_stale)"
    " FROM immunos_mcp_person_spend_revision"
)
"""Which sums there are, and whether usage has changed since; no row: nothing is summed up yet."""
_STALE = (
    "SELECT quarter_at FROM immunos_mcp_person_spend_stale WHERE quarter_at >="
    " coalesce((SELECT before FROM immunos_mcp_pruning), '') ORDER BY quarter_at"
)

_OF_SCOPE = "WHERE starts_at = ? AND ends_at = ? AND assistant = ? AND folder = ? AND person_id = ?"
_GROWTH = ", ".join(f"{name} = {name} + ?" for name in COLUMNS.split(", "))

_USED = f"""
    SELECT recorded_at AS at, model, {KINDS}, 1 AS usage_records, '' AS assistant, '' AS folder,
        '' AS agent, NULL AS speed, NULL AS service_tier, NULL AS region, NULL AS web_searches,
        NULL AS cache_1h_input_tokens, person_id
    FROM immunos_mcp_usage
    WHERE recorded_at >= :since AND recorded_at < :before AND counted = 1 AND provider <> 'ollama'
    UNION ALL
    SELECT measured_at, model, {KINDS}, 1, assistant, coalesce(folder, ''),
        coalesce(conversation, '') || coalesce('/' || agent, ''),
        speed, service_tier, region, web_searches, cache_1h_input_tokens, person_id
    FROM immunos_mcp_measured_usage
    WHERE measured_at >= :since AND measured_at < :before AND provider <> 'ollama'
    UNION ALL
    SELECT finished_at, model, {KINDS}, 1, 'claude-code', '', coalesce(conversation, ''),
        NULL, NULL, NULL, NULL, NULL, person_id
    FROM immunos_mcp_request_usage
    WHERE finished_at >= :since AND finished_at < :before AND provider <> 'ollama'
    UNION ALL
    SELECT used_at, model, {KINDS}, is_first, 'claude-code', coalesce(folder, ''), conversation,
        NULL, NULL, NULL, web_searches, cache_1h_input_tokens, person_id
    FROM immunos_mcp_side_usage
    WHERE used_at >= :since AND used_at < :before AND provider <> 'ollama'
"""  # noqa: S608  # constants


class Place(NamedTuple):
    """When, where and by whom something was used.

    Attributes:
        quarter_at: the quarter of an hour, as stored.
        person_id: 0: nobody that is known.
    """

    quarter_at: str
    assistant: str
    folder: str
    person_id: int = 0


class Spent(NamedTuple):
    """A sum of usage, in the order of the columns."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    nanodollars: int = 0
    unpriced: int = 0

    def plus(self, other: Spent, sign: int = 1) -> Spent:
        """Return the sum with another one, or the difference."""
        return Spent._make(one + sign * each for one, each in zip(self, other, strict=True))


_NOTHING = Spent()


class Scope(NamedTuple):
    """Whose usage a window sums up; empty or 0: everybody's, everywhere."""

    starts_at: str
    ends_at: str
    assistant: str = ""
    folder: str = ""
    person_id: int = 0

    def holds(self, place: Place) -> bool:
        """Return whether a place is in it as a whole."""
        return (
            self.starts_at <= place.quarter_at
            and _after(place.quarter_at) <= self.ends_at
            and self.counts(place)
        )

    def counts(self, place: Place) -> bool:
        """Return whether it counts this assistant, folder and person."""
        return (
            self.assistant in {"", place.assistant}
            and self.person_id in {0, place.person_id}
            and (not self.folder or f"{place.folder}/".startswith(f"{self.folder.rstrip('/')}/"))
        )


def scope_of(span: Span, assistant: str | None, folder: str | None, person_id: int = 0) -> Scope:
    """Return a window as it is stored."""
    end = NO_END if span.end is None else utc_text(span.end)
    return Scope(utc_text(span.start), end, assistant or "", folder or "", person_id)


def look_ahead(connection: Connection, scopes: Iterable[Scope] = ()) -> None:
    """Announce that sums are brought up to date, and that those of windows are needed."""
    connection.ahead(_STATE)
    connection.ahead(_STALE)
    for scope in scopes:
        connection.ahead(_SELECT_TOTAL, scope)


def refresh(connection: Connection) -> int:
    """Bring the stored sums up to date, and return their revision; begins counting if necessary."""
    state = connection.execute(_STATE).fetchone()
    if state is not None and not state[1]:
        return int(state[0])
    stale = stale_quarters(connection)
    if state is None:
        begin(connection)
        stale = stale_quarters(connection)
    _look_ahead_at_log(connection, stale)
    before, now = _stored(connection, stale), _counted(connection, stale)
    connection.executemany(
        "DELETE FROM immunos_mcp_person_spend WHERE quarter_at = ?",
        [(quarter,) for quarter in stale],
    )
    connection.executemany(
        f"INSERT INTO immunos_mcp_person_spend ({PLACE}, {COLUMNS})"  # noqa: S608  # constants
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*place, *spent) for place, spent in now.items()],
    )
    _move_totals(connection, stale, before, now)
    connection.execute("DELETE FROM immunos_mcp_person_spend_stale")
    revision = int.from_bytes(os.urandom(7))
    connection.execute(
        "INSERT INTO immunos_mcp_person_spend_revision (revision_id, revision) VALUES (1, ?)"
        " ON CONFLICT (revision_id) DO UPDATE SET revision = excluded.revision",
        (revision,),
    )
    return revision


def stale_quarters(connection: Connection) -> tuple[str, ...]:
    """Return the quarters of an hour whose sums are out of date, without those that were pruned."""
    return tuple(quarter for (quarter,) in connection.execute(_STALE))


_SELECT_STORED = (
    f"SELECT {PLACE}, {COLUMNS} FROM immunos_mcp_person_spend"  # noqa: S608  # constants
    " WHERE quarter_at = ?"
)
_SELECT_WINDOWS = (
    f"SELECT {SCOPE} FROM immunos_mcp_person_spend_total"  # noqa: S608  # constants
    " WHERE starts_at < ? AND ends_at > ?"
)
_FEW_QUARTERS = 100
"""For more than these, one pass over the log is faster than as many parts of it."""


def _look_ahead_at_log(connection: Connection, quarters: tuple[str, ...]) -> None:
    """Announce all that ``refresh`` reads of quarters of an hour, in ascending order."""
    if not connection.is_remote or not 0 < len(quarters) <= _FEW_QUARTERS:
        return
    for quarter in quarters:
        connection.ahead(_SELECT_STORED, (quarter,))
        connection.ahead(_summing("''"), {"since": quarter, "before": _after(quarter)})
    connection.ahead(_SELECT_WINDOWS, (_after(quarters[-1]), quarters[0]))


def _stored(connection: Connection, quarters: Iterable[str]) -> dict[Place, Spent]:
    return {
        Place(*row[:4]): Spent(*row[4:])
        for quarter in quarters
        for row in connection.execute(_SELECT_STORED, (quarter,))
    }


def _counted(connection: Connection, quarters: tuple[str, ...]) -> dict[Place, Spent]:
    """Return what the log has for quarters of an hour, in ascending order."""
    if len(quarters) > _FEW_QUARTERS:
        wanted = set(quarters)
        found = _summed(connection, quarters[0], _after(quarters[-1]))
        return {place: spent for place, spent in found.items() if place.quarter_at in wanted}
    return {
        place: spent
        for quarter in quarters
        for place, spent in _summed(connection, quarter, _after(quarter)).items()
    }


def used_by_quarter(
    connection: Connection, since: datetime, before: datetime, assistant: str
) -> list[tuple[datetime, Spent]]:
    """Return what an assistant used in each quarter of an hour that has any, by time, from the log."""
    found: defaultdict[str, Spent] = defaultdict(Spent)
    for place, spent in _summed(connection, utc_text(since), utc_text(before)).items():
        if place.assistant == assistant:
            found[place.quarter_at] = found[place.quarter_at].plus(spent)
    return [(datetime.fromisoformat(quarter), found[quarter]) for quarter in sorted(found)]


def _summed(connection: Connection, since: str, before: str) -> dict[Place, Spent]:
    """Return what the log has from one stored time up to another."""
    found: defaultdict[Place, Spent] = defaultdict(Spent)
    for place, _, _, spent in _by_model(connection, since, before, "''"):
        found[place] = found[place].plus(spent)
    return found


class UsedBy(NamedTuple):
    """What a model used somewhere in a quarter of an hour; ``agent`` is empty where it is not known.

    It is a conversation, or that and its subagent, by the assistant's own ids with a slash between them.
    """

    place: Place
    model: str
    agent: str
    spent: Spent


def used_by_agent(connection: Connection, since: datetime, before: datetime) -> list[UsedBy]:
    """Return what the log has in a span by place, model and agent; some occur several times."""
    return list(_by_model(connection, utc_text(since), utc_text(before), "agent"))


@lru_cache
def _summing(agent: str) -> str:
    quarter = QUARTER_OF.format("at")
    return (
        f"SELECT {quarter}, assistant, folder, coalesce(person_id, 0), model, {agent},"  # noqa: S608  # constants and numbers
        f" {sums(derived_prices.long_inputs())}"
        f" FROM ({_USED}) AS used GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    )


def _by_model(connection: Connection, since: str, before: str, agent: str) -> Iterator[UsedBy]:
    rows = connection.execute(_summing(agent), {"since": since, "before": before}).fetchall()
    for quarter_at, assistant, folder, person_id, model, whose, *measures in rows:
        at = datetime.fromisoformat(quarter_at)
        usage = priced(model, at, derived_prices.long_inputs(), *measures)
        cost = derived_prices.cost(usage)
        spent = Spent(
            usage.counts.input_tokens,
            usage.counts.output_tokens,
            usage.counts.cache_creation_input_tokens,
            usage.counts.cache_read_input_tokens,
            round(cost.usd * NANODOLLARS),
            int(cost.is_at_least),
        )
        yield UsedBy(Place(quarter_at, assistant, folder, person_id), model, whose, spent)


def _move_totals(
    connection: Connection,
    quarters: tuple[str, ...],
    before: Mapping[Place, Spent],
    now: Mapping[Place, Spent],
) -> None:
    """Let the totals of windows follow changed quarters; those that a window's edge cuts are dropped."""
    changes = {
        place: now.get(place, _NOTHING).plus(before.get(place, _NOTHING), -1)
        for place in {*before, *now}
    }
    if not changes:
        return
    rows = connection.execute(_SELECT_WINDOWS, (_after(quarters[-1]), quarters[0])).fetchall()
    for scope in map(Scope._make, rows):
        theirs = [(place, change) for place, change in changes.items() if _touches(scope, place)]
        if any(not scope.holds(place) for place, _ in theirs):
            connection.execute(f"DELETE FROM immunos_mcp_person_spend_total {_OF_SCOPE}", scope)  # noqa: S608  # a constant
            continue
        change = _NOTHING
        for _, each in theirs:
            change = change.plus(each)
        if any(change):
            connection.execute(
                f"UPDATE immunos_mcp_person_spend_total SET {_GROWTH} {_OF_SCOPE}",  # noqa: S608  # constants
                (*change, *scope),
            )


def _touches(scope: Scope, place: Place) -> bool:
    is_apart = _after(place.quarter_at) <= scope.starts_at or place.quarter_at >= scope.ends_at
    return not is_apart and scope.counts(place)


def spent_in(connection: Connection, scopes: Collection[Scope]) -> dict[Scope, Spent]:
    """Return windows' sums, which ``refresh`` has brought up to date, and store them."""
    found = _totals(connection, scopes)
    for scope, spent in _by_quarters(connection, set(scopes) - found.keys(), {}, ()).items():
        found[scope] = spent
        # Windows that had ended when this one began are not looked at again, nor are closed sessions.
        connection.execute(
            "DELETE FROM immunos_mcp_person_spend_total WHERE ends_at < ? OR ends_at = ? AND starts_at"
            " NOT IN (SELECT started_at FROM immunos_mcp_session WHERE ended_at IS NULL)",
            (scope.starts_at, NO_END),
        )
        connection.execute(
            f"INSERT INTO immunos_mcp_person_spend_total ({SCOPE}, {COLUMNS})"  # noqa: S608  # constants
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*scope, *found[scope]),
        )
    return found


_SELECT_TOTAL = f"SELECT {COLUMNS} FROM immunos_mcp_person_spend_total {_OF_SCOPE}"  # noqa: S608  # constants


def _totals(connection: Connection, scopes: Collection[Scope]) -> dict[Scope, Spent]:
    rows = [(scope, connection.execute(_SELECT_TOTAL, scope)) for scope in scopes]
    found = ((scope, row.fetchone()) for scope, row in rows)
    return {scope: Spent(*row) for scope, row in found if row is not None}


def has_totals(connection: Connection, scopes: Collection[Scope]) -> bool:
    """Return whether windows' sums are stored, up to date or not."""
    return len(_totals(connection, scopes)) == len(scopes)


def read_spent(connection: Connection, scopes: Collection[Scope]) -> dict[Scope, Spent]:
    """Return windows' sums without writing anything."""
    look_ahead(connection, scopes)
    state = connection.execute(_STATE).fetchone()
    if state is None:
        return {scope: _by_log(connection, scope) for scope in scopes}
    if not state[1]:
        found = _totals(connection, scopes)
        return found | _by_quarters(connection, set(scopes) - found.keys(), {}, ())
    stale = stale_quarters(connection)
    _look_ahead_at_log(connection, stale)
    return _by_quarters(connection, scopes, _counted(connection, stale), stale)


def _by_log(connection: Connection, scope: Scope) -> Spent:
    """Return a window's sum where nothing is counted yet."""
    spent = _NOTHING
    for place, each in _summed(connection, scope.starts_at, scope.ends_at).items():
        if scope.counts(place):
            spent = spent.plus(each)
    return spent


def _by_quarters(
    connection: Connection,
    scopes: Collection[Scope],
    fresh: Mapping[Place, Spent],
    stale: tuple[str, ...],
) -> dict[Scope, Spent]:
    """Return windows' sums from quarters of an hour, and from the log where their edges cut one.

    Args:
        connection: in a transaction.
        scopes: the windows.
        fresh: what stale quarters have.
        stale: the quarters whose stored sums are out of date.
    """
    for scope in scopes if connection.is_remote else ():
        connection.ahead(_SELECT_QUARTERS, _quarters_in(scope))
        for since, before in _edges(scope):
            connection.ahead(_summing("''"), {"since": since, "before": before})
    outdated = frozenset(stale)
    return {scope: _whole(connection, scope, fresh, outdated) for scope in scopes}


_SELECT_QUARTERS = (
    f"SELECT {PLACE}, {COLUMNS} FROM immunos_mcp_person_spend"  # noqa: S608  # constants
    " WHERE quarter_at >= :first AND quarter_at < :last"
    " AND (:assistant = '' OR assistant = :assistant)"
    " AND (:person = 0 OR person_id = :person)"
)


def _whole(
    connection: Connection, scope: Scope, fresh: Mapping[Place, Spent], outdated: Collection[str]
) -> Spent:
    rows = connection.execute(_SELECT_QUARTERS, _quarters_in(scope))
    stored = ((Place(*row[:4]), Spent(*row[4:])) for row in rows)
    parts = [
        spent for place, spent in stored if place.quarter_at not in outdated and scope.counts(place)
    ]
    parts += [spent for place, spent in fresh.items() if scope.holds(place)]
    for since, before in _edges(scope):
        found = _summed(connection, since, before)
        parts += [spent for place, spent in found.items() if scope.counts(place)]
    return Spent._make(map(sum, zip(*parts, strict=True))) if parts else _NOTHING


def _quarters_in(scope: Scope) -> dict[str, str | int]:
    first, last = _quarter_from(scope.starts_at), _quarter_until(scope.ends_at)
    return {
        "first": first,
        "last": last,
        "assistant": scope.assistant,
        "person": scope.person_id,
    }


def _edges(scope: Scope) -> Iterator[tuple[str, str]]:
    """Return the parts of a window in which it has no whole quarter of an hour."""
    first, last = _quarter_from(scope.starts_at), _quarter_until(scope.ends_at)
    for since, before in (
        (scope.starts_at, min(first, scope.ends_at)),
        (max(last, first), scope.ends_at),
    ):
        if since < before and before != NO_END:
            yield since, before


def _after(quarter_at: str) -> str:
    return utc_text(datetime.fromisoformat(quarter_at) + QUARTER)


def _quarter_until(at: str) -> str:
    """Return the last edge of a quarter of an hour that is not after a time."""
    if at == NO_END:
        return at
    moment = datetime.fromisoformat(at)
    return utc_text(moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0))


def _quarter_from(at: str) -> str:
    """Return the first edge of a quarter of an hour that is not before a time."""
    edge = _quarter_until(at)
    return edge if edge == at else _after(edge)
