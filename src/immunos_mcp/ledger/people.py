"""People, the hashes of their tokens, and what was done to both and by whom.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, TypeVar

from immunos_mcp.answers.people import AuditEntry, PersonAnswer, TokenAnswer
from immunos_mcp.errors import InvalidInputError, Problem, unknown
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.rules.roles import Person, Role

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

ID_CHARACTERS = 12
"""Of a token's hash, as the token's name; statements say the number too."""


class Deed(NamedTuple):
    """Something that is done, as the audit tells it.

    Attributes:
        at: when.
        action: what, as a word or two.
        detail: to what.
        person_id: by whom; ``None``: at the ledger itself.
    """

    at: datetime
    action: str
    detail: str
    person_id: int | None = None


def audited(
    connection: Connection,
    deed: Deed,
    operation: Callable[Concatenate[Connection, Parameters], Result],
    *arguments: Parameters.args,
    **named: Parameters.kwargs,
) -> Result:
    """Run an operation, and note it in the audit together with what it changes."""
    result = operation(connection, *arguments, **named)
    connection.execute(
        "INSERT INTO immunos_mcp_audit (at, person_id, action, detail) VALUES (?, ?, ?, ?)",
        (utc_text(deed.at), deed.person_id, deed.action, deed.detail),
    )
    return result


def is_others(connection: Connection, person_id: int | None) -> bool:
    """Return whether a row of a person (``None``: nobody's) is another's than whoever acts."""
    return person_id is not None and connection.person_id not in {None, person_id}


def require_own(connection: Connection, person_id: int | None, decision_id: int) -> None:
    """Check that whoever acts may report on a person's decision: members only on their own.

    Raises:
        InvalidInputError: it is another's.
    """
    if not is_others(connection, person_id):
        return
    (role,) = connection.execute(
        "SELECT role FROM immunos_mcp_person WHERE person_id = ?", (connection.person_id,)
    ).fetchone()
    if role == Role.MEMBER:
        message = (
            f"decision_id: decision {decision_id} is another person's; only a lead or an admin may"
            " report on it"
        )
        raise InvalidInputError(Problem("decision_id", decision_id, message=message))


def add_person(connection: Connection, name: str, role: Role, now: datetime) -> PersonAnswer:
    """Add a person, or give one that is there the role and enable them again."""
    changed = connection.execute(
        "UPDATE immunos_mcp_person SET role = ?, disabled_at = NULL WHERE name = ?", (role, name)
    )
    if not changed.rowcount:
        connection.execute(
            "INSERT INTO immunos_mcp_person (name, role, created_at) VALUES (?, ?, ?)",
            (name, role, utc_text(now)),
        )
    return _person(connection, name)


def disable_person(connection: Connection, name: str, now: datetime) -> PersonAnswer:
    """Let none of a person's tokens be good any more.

    Raises:
        InvalidInputError: there is no such person.
    """
    _person(connection, name)
    connection.execute(
        "UPDATE immunos_mcp_person SET disabled_at = ? WHERE name = ? AND disabled_at IS NULL",
        (utc_text(now), name),
    )
    return _person(connection, name)


def list_people(connection: Connection) -> tuple[PersonAnswer, ...]:
    """Return everybody, by name."""
    rows = connection.execute(
        "SELECT name, role, created_at, disabled_at FROM immunos_mcp_person ORDER BY name"
    )
    return tuple(_person_of(*row) for row in rows)


def add_token(
    connection: Connection,
    name: str,
    sha256: str,
    label: str,
    expires_at: datetime | None,
    now: datetime,
) -> TokenAnswer:
    """Store the hash of a person's new token.

    Raises:
        InvalidInputError: there is no such person, or the person is disabled.
    """
    if _person(connection, name).disabled_at is not None:
        message = f"person: {name} is disabled; enable with `immunos-mcp person add {name}`"
        raise InvalidInputError(Problem("person", name, message=message))
    connection.execute(
        "INSERT INTO immunos_mcp_token (sha256, person_id, label, created_at, expires_at)"
        " SELECT CAST(? AS TEXT), person_id, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT)"
        " FROM immunos_mcp_person WHERE name = ? ON CONFLICT (sha256) DO NOTHING",
        (
            sha256,
            label,
            utc_text(now),
            None if expires_at is None else utc_text(expires_at),
            name,
        ),
    )
    return TokenAnswer(sha256[:ID_CHARACTERS], name, label, now, expires_at)


def revoke_token(connection: Connection, token_id: str, now: datetime) -> TokenAnswer:
    """Let a token be good no more.

    Raises:
        InvalidInputError: there is no such token.
    """
    found = [each for each in list_tokens(connection) if each.token_id == token_id]
    if not found:
        known = [each.token_id for each in list_tokens(connection)]
        raise InvalidInputError(unknown("token", "token", token_id, known))
    connection.execute(
        "UPDATE immunos_mcp_token SET revoked_at = ?"
        " WHERE substr(sha256, 1, 12) = ? AND revoked_at IS NULL",
        (utc_text(now), token_id),
    )
    return next(each for each in list_tokens(connection) if each.token_id == token_id)


def list_tokens(connection: Connection) -> tuple[TokenAnswer, ...]:
    """Return all tokens, oldest first."""
    rows = connection.execute(
        "SELECT substr(sha256, 1, 12), name, label, token.created_at, expires_at,"
        " revoked_at FROM immunos_mcp_token AS token"
        " JOIN immunos_mcp_person AS person ON person.person_id = token.person_id"
        " ORDER BY token.created_at, sha256"
    )
    return tuple(
        TokenAnswer(
            token_id, name, label, _known_moment(at), moment_of(expires), moment_of(revoked)
        )
        for token_id, name, label, at, expires, revoked in rows
    )


_OWNED = (
    "decision",
    "reservation",
    "usage",
    "measured_usage",
    "request_usage",
    "side_usage",
    "conversation_total",
)
"""Tables whose rows may be a person's."""


def give_to(connection: Connection, name: str, now: datetime) -> None:
    """Let everything that is nobody's be a person's, who is added as a member if need be."""
    if person_named(connection, name) is None:
        add_person(connection, name, Role.MEMBER, now)
    person = person_named(connection, name)
    assert person is not None, "they may act now"
    for table in _OWNED:
        connection.execute(
            f"UPDATE immunos_mcp_{table} SET person_id = ? WHERE person_id IS NULL",  # noqa: S608  # constants
            (person.person_id,),
        )
    connection.execute(
        "INSERT INTO immunos_mcp_person_plan_usage (person_id, plan_window, used_percentage,"
        " resets_at, reported_at) SELECT CAST(? AS BIGINT), plan_window, used_percentage, resets_at,"
        " reported_at FROM immunos_mcp_plan_usage WHERE true"
        " ON CONFLICT (person_id, plan_window) DO NOTHING",
        (person.person_id,),
    )
    connection.execute("DELETE FROM immunos_mcp_plan_usage")
    # They are made again, by person, when a budget is looked at.
    for table in (*schema.SUMS, *schema.EARLIER_SUMS):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  # constants


def token_holder(connection: Connection, sha256: str, now: datetime) -> Person | None:
    """Return whose token it is whose hash is given; ``None``: nobody's, or it is not good any more."""
    row = connection.execute(
        "SELECT person.person_id, name, role FROM immunos_mcp_token AS token"
        " JOIN immunos_mcp_person AS person ON person.person_id = token.person_id"
        " WHERE sha256 = ? AND revoked_at IS NULL AND disabled_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > ?)",
        (sha256, utc_text(now)),
    ).fetchone()
    return None if row is None else Person(row[0], row[1], Role(row[2]))


def person_named(connection: Connection, name: str) -> Person | None:
    """Return the person who has a name; ``None``: nobody has, or the person is disabled."""
    row = connection.execute(
        "SELECT person_id, name, role FROM immunos_mcp_person"
        " WHERE name = ? AND disabled_at IS NULL",
        (name,),
    ).fetchone()
    return None if row is None else Person(row[0], row[1], Role(row[2]))


def list_deeds(connection: Connection, limit: int) -> tuple[AuditEntry, ...]:
    """Return the newest entries of the audit, newest first."""
    rows = connection.execute(
        "SELECT at, action, detail, name FROM immunos_mcp_audit AS audit"
        " LEFT JOIN immunos_mcp_person AS person ON person.person_id = audit.person_id"
        " ORDER BY audit_id DESC LIMIT ?",
        (limit,),
    )
    return tuple(
        AuditEntry(_known_moment(at), action, detail, name) for at, action, detail, name in rows
    )


def _person(connection: Connection, name: str) -> PersonAnswer:
    people = list_people(connection)
    found = next((each for each in people if each.name == name), None)
    if found is None:
        raise InvalidInputError(unknown("person", "person", name, [each.name for each in people]))
    return found


def _person_of(name: str, role: str, created_at: str, disabled_at: str | None) -> PersonAnswer:
    return PersonAnswer(name, role, _known_moment(created_at), moment_of(disabled_at))


def _known_moment(text: str) -> datetime:
    moment = moment_of(text)
    assert moment is not None, "the column is never empty"
    return moment
