"""What the joined team does not have yet, and a whole history for a team that is not joined.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from immunos_mcp.domain import Judge, Outcome, PlanUsage, TokenCounts
from immunos_mcp.ledger.dialect import IN_LIST, IN_NUMBERS, list_parameter
from immunos_mcp.ledger.joined_team import joined_team
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.ledger.reported_usage import DELEGATED
from immunos_mcp.logged_usage import (
    ConversationTotal,
    MeasuredUsage,
    ModelTotal,
    PlanReport,
    RequestUsage,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.joined_team import JoinedTeam


class Change(NamedTuple):
    """A row that the team does not have as it is; the number differs after each change of the row."""

    kind: str
    row_key: str
    number: int


class TeamUsage(NamedTuple):
    """Usage on its way to a team.

    Attributes:
        responses: what assistants logged; a copy that a fork has follows its original.
        requests: what telemetry reported.
        totals: assistants' own totals of conversations.
        plan: the subscriptions' limits.
    """

    responses: tuple[MeasuredUsage, ...] = ()
    requests: tuple[RequestUsage, ...] = ()
    totals: tuple[ConversationTotal, ...] = ()
    plan: tuple[PlanReport, ...] = ()

    def is_empty(self) -> bool:
        """Return whether there is nothing."""
        return not any(self)


class Unpushed(NamedTuple):
    """The oldest part of what the joined team does not have.

    Attributes:
        team: the joined team.
        usage: what is to be sent.
        handed_over: what local models did by decisions of the team.
        report: the oldest report of a client, or outcome; ``None``: there is none.
        changes: the noted changes that usage and tasks have.
        is_last: whether this is all usage.
    """

    team: JoinedTeam
    usage: TeamUsage
    handed_over: tuple[TeamReport, ...]
    report: TeamReport | None
    changes: tuple[Change, ...]
    is_last: bool


class TeamReport(NamedTuple):
    """What a client reported, or how a task turned out, on its way to a team.

    Attributes:
        changes: the noted changes that it has.
        model: the model that answered; of an outcome alone, the one that did the task.
        counts: the tokens by kind; ``None``: only the outcome is reported.
        request_id: what the server knows a repeat by.
        team_decision_id: the team's decision that it belongs to; ``None``: none.
        outcome: how that task turned out, if somebody judged it.
        judge: who did.
        session: the session name here.
        in_file: whether the result of a task that was handed over went into a file.
        is_delegated: whether the local engine counted it, for a task that was handed over to it.
    """

    changes: tuple[Change, ...]
    model: str
    counts: TokenCounts | None = None
    request_id: str | None = None
    team_decision_id: int | None = None
    outcome: Outcome | None = None
    judge: Judge | None = None
    session: str = ""
    in_file: bool = False
    is_delegated: bool = False


MOST_TASKS = 100
"""Tasks of local models that are returned at once."""

_IS_REPORT = "kind IN ('report', 'outcome')"


def unpushed(connection: Connection, most: int) -> Unpushed | None:
    """Return what the joined team does not have, oldest first; ``None``: none is joined."""
    team = joined_team(connection)
    if team is None:
        return None
    rows = connection.execute(
        "SELECT kind, row_key, change FROM immunos_mcp_unpushed"  # noqa: S608  # a constant
        f" WHERE NOT ({_IS_REPORT}) ORDER BY change LIMIT ?",
        (most + 1,),
    ).fetchall()
    changes = tuple(Change(*row) for row in rows[:most])
    tasks = tuple(_delegated(connection))
    told = (change for task in tasks for change in task.changes)
    return Unpushed(
        team,
        _usage(connection, changes, team.usage_from),
        tuple(task for task in tasks if task.team_decision_id is not None),
        _next_report(connection, {change.row_key for task in tasks for change in task.changes[1:]}),
        (*changes, *told),
        len(rows) <= most,
    )


def forget_pushed(connection: Connection, changes: Sequence[Change]) -> None:
    """Forget changes that the team has now; rows that changed again meanwhile stay noted."""
    for each in changes:
        connection.execute(
            "DELETE FROM immunos_mcp_unpushed WHERE kind = ? AND row_key = ? AND change = ?", each
        )


def _usage(connection: Connection, changes: Iterable[Change], since: datetime) -> TeamUsage:
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for each in changes:
        keys[each.kind].append(each.row_key)
    originals, copies = _copies(connection, keys["copy"])
    return TeamUsage(
        (*_responses(connection, keys["response"]), *originals, *copies),
        _requests(connection, keys["request"]),
        _totals(connection, map(int, keys["total"]), since),
        _plan(connection, keys["plan"]),
    )


_RESPONSE_COLUMNS = ", ".join(
    f"used.{name}"
    for name in (
        "message_id",
        "measured_at",
        "model",
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "folder",
        "request_id",
        "assistant",
        "conversation",
        "cache_1h_input_tokens",
        "speed",
        "service_tier",
        "region",
        "web_searches",
        "is_sidechain",
        "agent",
    )
)


def _response(row: tuple[Any, ...]) -> MeasuredUsage:
    usage = MeasuredUsage(row[0], datetime.fromisoformat(row[1]), *row[2:])
    sidechain = usage.is_sidechain
    return usage._replace(is_sidechain=None if sidechain is None else bool(sidechain))


def newest_response(connection: Connection) -> MeasuredUsage | None:
    """Return the newest response that an assistant logged; ``None``: there is none."""
    row = connection.execute(
        f"SELECT {_RESPONSE_COLUMNS} FROM immunos_mcp_measured_usage AS used"  # noqa: S608  # constants
        " ORDER BY used.measured_at DESC, used.message_id LIMIT 1"
    ).fetchone()
    return None if row is None else _response(row)


def _responses(connection: Connection, keys: Sequence[str]) -> tuple[MeasuredUsage, ...]:
    if not keys:
        return ()
    rows = connection.execute(
        f"SELECT {_RESPONSE_COLUMNS} FROM immunos_mcp_measured_usage AS used"  # noqa: S608  # constants
        f" WHERE used.message_id {IN_LIST} ORDER BY used.message_id",
        (list_parameter(keys),),
    )
    return tuple(map(_response, rows))


def _copies(
    connection: Connection, keys: Sequence[str]
) -> tuple[list[MeasuredUsage], list[MeasuredUsage]]:
    """Return the originals of copied responses, and the copies, each of the conversation that has it."""
    originals: list[MeasuredUsage] = []
    copies: list[MeasuredUsage] = []
    for conversation, _, message_id in (key.partition(" ") for key in keys):
        found = _responses(connection, (message_id,))
        originals += found
        copies += (each._replace(conversation=conversation) for each in found)
    return originals, copies


def _requests(connection: Connection, keys: Sequence[str]) -> tuple[RequestUsage, ...]:
    if not keys:
        return ()
    rows = connection.execute(
        "SELECT request_id, finished_at, model, conversation, input_tokens, output_tokens,"  # noqa: S608  # constants
        " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_request_usage"
        f" WHERE request_id {IN_LIST} ORDER BY request_id",
        (list_parameter(keys),),
    )
    return tuple(
        RequestUsage(
            request_id, datetime.fromisoformat(at), model, TokenCounts(*kinds), conversation
        )
        for request_id, at, model, conversation, *kinds in rows
    )


def _plan(connection: Connection, keys: Sequence[str]) -> tuple[PlanReport, ...]:
    if not keys:
        return ()
    rows = connection.execute(
        "SELECT reported_at, plan_window, used_percentage, resets_at FROM immunos_mcp_plan_usage"  # noqa: S608  # constants
        f" WHERE plan_window {IN_LIST} ORDER BY plan_window",
        (list_parameter(keys),),
    )
    return tuple(
        PlanReport(
            datetime.fromisoformat(at), PlanUsage(window, used, datetime.fromisoformat(resets_at))
        )
        for at, window, used, resets_at in rows
    )


def _totals(
    connection: Connection, families: Iterable[int], since: datetime
) -> tuple[ConversationTotal, ...]:
    """Return all totals of families of conversations, and after them where each was continued.

    Of a total that also covers what is not sent, nobody there can tell what it has beyond responses.
    """
    keys = list_parameter(families)
    rows = connection.execute(
        "SELECT conversation, start_ms, total_at, first_at, folder, is_partial, next_at, model,"  # noqa: S608  # constants
        " input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,"
        " cache_1h_input_tokens, web_searches FROM immunos_mcp_conversation_total"
        f" WHERE start_ms {IN_NUMBERS} ORDER BY start_ms, total_at, conversation, model",
        (keys,),
    )
    states: dict[tuple[str, int, str], ConversationTotal] = {}
    ends: dict[tuple[str, int, str], ConversationTotal] = {}
    for conversation, start_ms, at, first_at, folder, is_partial, next_at, *model in rows:
        key = (conversation, start_ms, at)
        total = states.get(key) or ConversationTotal(
            conversation,
            start_ms,
            datetime.fromisoformat(at),
            (),
            moment_of(first_at),
            folder,
            bool(is_partial) or (first_at or at) < utc_text(since),
        )
        states[key] = total._replace(models=(*total.models, ModelTotal(*model)))
        if next_at is not None:
            end = datetime.fromisoformat(next_at)
            ends[key] = ConversationTotal(conversation, start_ms, end)
    return (*states.values(), *ends.values())


_NOTED_REPORTS = """
    SELECT noted.kind, noted.row_key, noted.change FROM immunos_mcp_unpushed AS noted
    LEFT JOIN immunos_mcp_usage AS used
        ON noted.kind = 'report' AND used.usage_id = CAST(noted.row_key AS BIGINT)
"""


def _delegated(connection: Connection) -> Iterator[TeamReport]:
    rows = connection.execute(
        f"{_NOTED_REPORTS} WHERE used.source = '{DELEGATED}' ORDER BY noted.change LIMIT ?",
        (MOST_TASKS,),
    ).fetchall()
    return (_report(connection, Change(*row)) for row in rows)


def _next_report(connection: Connection, told: Container[str]) -> TeamReport | None:
    """Return the oldest report; ``told`` are decisions whose outcome is sent with a task."""
    rows = connection.execute(
        f"{_NOTED_REPORTS} WHERE noted.{_IS_REPORT}"
        f" AND (used.source IS NULL OR used.source <> '{DELEGATED}')"
        " ORDER BY noted.change LIMIT ?",
        (MOST_TASKS + 1,),
    ).fetchall()
    for change in (Change(*row) for row in rows):
        if change.kind == "report":
            return _report(connection, change)
        if change.row_key not in told:
            return _outcome(connection, change)
    return None


def _report(connection: Connection, change: Change) -> TeamReport:
    row = connection.execute(
        "SELECT used.recorded_at, used.model, used.external_id, used.decision_id, session.name,"
        " used.result_in_file, used.counted, used.source, used.input_tokens, used.output_tokens,"
        " used.cache_creation_input_tokens, used.cache_read_input_tokens, team.gateway FROM immunos_mcp_usage AS used"
        " JOIN immunos_mcp_session AS session USING (session_id)"
        " CROSS JOIN immunos_mcp_joined_team AS team WHERE used.usage_id = ?",
        (int(change.row_key),),
    ).fetchone()
    if row is None:
        return TeamReport((change,), "")
    at, model, request_id, decision_id, session, in_file, counted, source, *kinds, gateway = row
    # Numbers come again where a copy of the ledger was put back.
    number = f"{change.number}-{''.join(filter(str.isdecimal, at))}"
    report = TeamReport(
        (change,),
        model,
        # What is not counted here is not counted there: the client's logs have it.
        TokenCounts(*kinds) if counted else None,
        request_id or f"{gateway}-{number}",
        session=session,
        in_file=bool(in_file),
        is_delegated=source == DELEGATED,
    )
    return _with_decision(connection, report, decision_id)


def _outcome(connection: Connection, change: Change) -> TeamReport:
    """Return an outcome, with the report that it came with if there is one."""
    row = connection.execute(
        f"{_NOTED_REPORTS} WHERE used.decision_id = ? ORDER BY noted.change DESC LIMIT 1",
        (int(change.row_key),),
    ).fetchone()
    if row is not None:
        return _report(connection, Change(*row))
    (session,) = connection.execute(
        "SELECT session.name FROM immunos_mcp_decision JOIN immunos_mcp_session AS session"
        " USING (session_id) WHERE decision_id = ?",
        (int(change.row_key),),
    ).fetchone() or ("",)
    alone = TeamReport((change,), "", session=session)
    return _with_decision(connection, alone, int(change.row_key))


def _with_decision(
    connection: Connection, report: TeamReport, decision_id: int | None
) -> TeamReport:
    """Add the team's decision that a report belongs to, and its outcome if that is to be sent too."""
    row = connection.execute(
        "SELECT decided.team_decision_id, decided.model, decided.outcome, decided.outcome_source,"
        " noted.change FROM immunos_mcp_decision AS decided LEFT JOIN immunos_mcp_unpushed AS noted"
        " ON noted.kind = 'outcome' AND noted.row_key = CAST(decided.decision_id AS TEXT)"
        " WHERE decided.decision_id = ? AND decided.team_decision_id > 0",
        (decision_id,),
    ).fetchone()
    if row is None:
        return report
    team_decision_id, model, outcome, judge, noted = row
    report = report._replace(team_decision_id=team_decision_id, model=report.model or model)
    # That a local model answered is told with its usage, even if nobody judged the answer.
    if outcome is None or (noted is None and not report.is_delegated):
        return report
    told = () if noted is None else (Change("outcome", str(decision_id), noted),)
    return report._replace(
        changes=tuple(dict.fromkeys((*report.changes, *told))),
        outcome=Outcome(outcome),
        judge=None if judge is None else Judge(judge),
    )


_PAGES: Mapping[str, str] = {
    "response": (
        "SELECT message_id, '' FROM immunos_mcp_measured_usage"
        " WHERE message_id > :after AND measured_at >= :since ORDER BY message_id LIMIT :most"
    ),
    "copy": (
        "SELECT copied.conversation, copied.message_id FROM immunos_mcp_copied_response AS copied"
        " JOIN immunos_mcp_measured_usage AS used ON used.message_id = copied.message_id"
        " WHERE (copied.conversation, copied.message_id) > (:after, :after_second)"
        " AND used.measured_at >= :since"
        " ORDER BY copied.conversation, copied.message_id LIMIT :most"
    ),
    "request": (
        "SELECT request_id, '' FROM immunos_mcp_request_usage"
        " WHERE request_id > :after AND finished_at >= :since ORDER BY request_id LIMIT :most"
    ),
    "total": (
        "SELECT DISTINCT start_ms, '' FROM immunos_mcp_conversation_total"
        " WHERE start_ms > CAST(:after AS BIGINT) AND total_at >= :since"
        " ORDER BY start_ms LIMIT :most"
    ),
    "plan": (
        "SELECT plan_window, '' FROM immunos_mcp_plan_usage"
        " WHERE plan_window > :after AND reported_at >= :since ORDER BY plan_window LIMIT :most"
    ),
}
"""The keys of each kind of rows after a given one."""

_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """How far a history was read: a kind of rows, and the last key of it."""

    kind: str = "response"
    after: str = ""
    after_second: str = ""


class Page(NamedTuple):
    """A part of a history, and where the next one begins; ``None``: this is the last."""

    usage: TeamUsage
    next_place: Place | None


def history_page(connection: Connection, place: Place, since: datetime | None, most: int) -> Page:
    """Return the next part of all usage since a time (``None``: all), whether a team is joined or not."""
    earliest = since or _ALWAYS
    rows = connection.execute(
        _PAGES[place.kind],
        {
            "after": place.after or ("-1" if place.kind == "total" else ""),
            "after_second": place.after_second,
            "since": utc_text(earliest),
            "most": most,
        },
    ).fetchall()
    keys = [f"{first} {second}" if second else str(first) for first, second in rows]
    usage = _usage(connection, (Change(place.kind, key, 0) for key in keys), earliest)
    if len(rows) == most:
        first, second = rows[-1]
        return Page(usage, Place(place.kind, str(first), second))
    kinds = [*_PAGES]
    later = kinds[kinds.index(place.kind) + 1 :]
    return Page(usage, Place(later[0]) if later else None)
