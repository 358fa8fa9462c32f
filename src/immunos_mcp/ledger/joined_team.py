"""The team whose server a ledger's usage is sent to, and the triggers that note what is to be sent.

The triggers exist only while a team is joined, so nothing of this costs anything before. They note
changes whoever makes them; ``unpushed.py`` reads what they noted.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.ledger.sessions import find_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.ledger.dialect import Connection


class JoinedTeam(NamedTuple):
    """The team that a ledger has joined.

    Attributes:
        gateway: what its server knows repeated reports of this ledger by.
        url: where the server is, without the path of the gateway.
        team: what it calls the team.
        person: whom the token belongs to.
        joined_at: when.
        usage_from: usage from before this time is not sent.
        sends_labels: whether the names of project folders are sent.
        reached_at: when the server last answered; ``None``: it has not since.
        failed_at: since when it has not; ``None``: it answers.
    """

    gateway: str
    url: str
    team: str
    person: str
    joined_at: datetime
    usage_from: datetime
    sends_labels: bool
    reached_at: datetime | None = None
    failed_at: datetime | None = None


class Waiting(NamedTuple):
    """The joined team, and how much it does not have yet.

    Attributes:
        team: which.
        rows: rows of usage, reports and outcomes.
    """

    team: JoinedTeam
    rows: int


_COLUMNS = "gateway, url, team, person, joined_at, usage_from, sends_labels, reached_at, failed_at"


def joined_team(connection: Connection) -> JoinedTeam | None:
    """Return the team that the ledger has joined; ``None``: none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM immunos_mcp_joined_team"  # noqa: S608  # constants
    ).fetchone()
    if row is None:
        return None
    gateway, url, team, person, joined_at, usage_from, sends_labels, reached_at, failed_at = row
    return JoinedTeam(
        gateway,
        url,
        team,
        person,
        datetime.fromisoformat(joined_at),
        datetime.fromisoformat(usage_from),
        bool(sends_labels),
        moment_of(reached_at),
        moment_of(failed_at),
    )


def waiting_for_team(connection: Connection) -> Waiting | None:
    """Return the joined team with how much it does not have yet; ``None``: none is joined."""
    team = joined_team(connection)
    if team is None:
        return None
    (rows,) = connection.execute("SELECT count(*) FROM immunos_mcp_unpushed").fetchone()
    return Waiting(team, rows)


def usage_from(connection: Connection, session: str, now: datetime) -> datetime:
    """Return from when usage would be sent: since the open session of a name began, or from now on."""
    found = find_open(connection, session)
    began = None if found is None else found.started_at
    return now if began is None else min(began, now)


def join_team(connection: Connection, team: JoinedTeam) -> JoinedTeam:
    """Note what is to be sent to a team's server from now on, and the usage since a time that there is.

    Joining the same server again only brings the names up to date. The team is returned as it is stored.

    Raises:
        InvalidInputError: another team's server is joined.
    """
    known = joined_team(connection)
    if known is None:
        connection.execute(
            "INSERT INTO immunos_mcp_joined_team (gateway, url, team, person, joined_at, usage_from,"
            " sends_labels, changes) VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (
                *team[:4],
                utc_text(team.joined_at),
                utc_text(team.usage_from),
                int(team.sends_labels),
            ),
        )
        for trigger in _triggers():
            connection.ensure_trigger(*trigger)
        _note_what_is_there(connection)
    elif known.url == team.url:
        connection.execute(
            "UPDATE immunos_mcp_joined_team SET team = ?, person = ?, sends_labels = ?,"
            " failed_at = NULL",
            (team.team, team.person, int(team.sends_labels)),
        )
    else:
        message = f"this ledger has joined {known.url} already; run `immunos-mcp leave` first"
        raise InvalidInputError(Problem("url", team.url, message=message))
    joined = joined_team(connection)
    assert joined is not None
    return joined


def leave_team(connection: Connection) -> Waiting | None:
    """Forget the joined team and what it does not have; return both, or ``None`` if there is none."""
    left = waiting_for_team(connection)
    for trigger in _triggers():
        connection.drop_trigger(trigger.name)
    for table in ("unpushed", "joined_team"):
        connection.execute(f"DELETE FROM immunos_mcp_{table}")  # noqa: S608  # constants
    # The next team has other decisions under these numbers.
    connection.execute(
        "UPDATE immunos_mcp_decision SET team_decision_id = -team_decision_id"
        " WHERE team_decision_id > 0"
    )
    return left


def note_contact(connection: Connection, now: datetime, *, is_reached: bool) -> None:
    """Store that the team's server has answered, or since when it has not."""
    if is_reached:
        connection.execute(
            "UPDATE immunos_mcp_joined_team SET reached_at = ?, failed_at = NULL", (utc_text(now),)
        )
    else:
        connection.execute("UPDATE immunos_mcp_joined_team SET failed_at = ?", (utc_text(now),))


class _Trigger(NamedTuple):
    name: str
    event: str
    table: str
    statement: str


_TOTALS = "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens"
_NEW_TOTALS = ", ".join(f"new.{name}" for name in _TOTALS.split(", "))
_OLD_TOTALS = _NEW_TOTALS.replace("new.", "old.")


def _triggers() -> Iterator[_Trigger]:
    """Return the triggers that note which rows the team does not have as they are."""
    for kind, table, key, condition in (
        ("response", "measured_usage", "new.message_id", "new.measured_at >= usage_from"),
        ("request", "request_usage", "new.request_id", "new.finished_at >= usage_from"),
        ("total", "conversation_total", _text("new.start_ms"), "new.total_at >= usage_from"),
        ("plan", "plan_usage", "new.plan_window", "new.reported_at >= usage_from"),
    ):
        for event in ("insert", "update"):
            # Totals are settled again whenever their conversation has news, which changes none of them.
            is_news = ""
            if kind == "total" and event == "update":
                is_news = (
                    f" AND (({_NEW_TOTALS}) <> ({_OLD_TOTALS}) OR new.is_partial <> old.is_partial"
                    " OR coalesce(new.next_at, '') <> coalesce(old.next_at, ''))"
                )
            yield _trigger(kind, event, table, key, condition + is_news)
    copied = (
        "EXISTS (SELECT 1 FROM immunos_mcp_measured_usage AS used"
        " WHERE used.message_id = new.message_id AND used.measured_at >= usage_from)"
    )
    yield _trigger("copy", "insert", "copied_response", COPY_KEY.format("new."), copied)
    yield _trigger("report", "insert", "usage", _text("new.usage_id"), "1 = 1")
    judged = (
        "new.team_decision_id > 0 AND new.outcome_source IS NOT NULL"
        " AND (coalesce(old.outcome, '') <> new.outcome OR old.outcome_source IS NULL)"
    )
    yield _trigger("outcome", "update", "decision", _text("new.decision_id"), judged)


COPY_KEY = "{0}conversation || ' ' || {0}message_id"
"""What a copied response is noted by; an assistant's ids of conversations have no spaces."""


def _text(number: str) -> str:
    return f"CAST({number} AS TEXT)"


def _trigger(kind: str, event: str, table: str, key: str, condition: str) -> _Trigger:
    # Whatever the statement does about conflicts would also be done about those of an insertion here.
    statement = (
        f"UPDATE immunos_mcp_joined_team SET changes = changes + 1 WHERE {condition};"  # noqa: S608  # constants
        f" DELETE FROM immunos_mcp_unpushed WHERE kind = '{kind}' AND row_key = {key}"
        f" AND EXISTS (SELECT 1 FROM immunos_mcp_joined_team WHERE {condition});"
        " INSERT INTO immunos_mcp_unpushed (kind, row_key, change)"
        f" SELECT '{kind}', {key}, changes FROM immunos_mcp_joined_team WHERE {condition}"
    )
    return _Trigger(
        f"immunos_mcp_unpushed_{table}_{event}", event, f"immunos_mcp_{table}", statement
    )


_THERE = f"""
    SELECT 'response' AS kind, message_id AS row_key FROM immunos_mcp_measured_usage
        WHERE measured_at >= (SELECT usage_from FROM immunos_mcp_joined_team)
    UNION ALL SELECT 'request', request_id FROM immunos_mcp_request_usage
        WHERE finished_at >= (SELECT usage_from FROM immunos_mcp_joined_team)
    UNION ALL SELECT DISTINCT 'total', {_text("start_ms")} FROM immunos_mcp_conversation_total
        WHERE total_at >= (SELECT usage_from FROM immunos_mcp_joined_team)
    UNION ALL SELECT 'copy', {COPY_KEY.format("copied.")}
        FROM immunos_mcp_copied_response AS copied
        JOIN immunos_mcp_measured_usage AS used ON used.message_id = copied.message_id
        WHERE used.measured_at >= (SELECT usage_from FROM immunos_mcp_joined_team)
    UNION ALL SELECT 'plan', plan_window FROM immunos_mcp_plan_usage
        WHERE reported_at >= (SELECT usage_from FROM immunos_mcp_joined_team)
"""  # noqa: S608  # constants


def _note_what_is_there(connection: Connection) -> None:
    """Note the usage that is stored already; reports are sent from now on."""
    connection.execute(
        "INSERT INTO immunos_mcp_unpushed (kind, row_key, change)"  # noqa: S608  # constants
        f" SELECT kind, row_key, row_number() OVER (ORDER BY kind, row_key) FROM ({_THERE}) AS there"
    )
    connection.execute(
        "UPDATE immunos_mcp_joined_team SET changes = (SELECT count(*) FROM immunos_mcp_unpushed)"
    )
