"""Checks a ledger on PostgreSQL without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA

if TYPE_CHECKING:
    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.dialect import Connection

_KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Checked(NamedTuple):
    """What a check found.

    Attributes:
        version: the version of the tables.
        decisions: the number of the team's decisions.
        usage_records: the number of its usage records, reported and measured.
        wrong_totals: sessions whose totals are less than the sum of what was reported in them.
        unwalled: why row-level security does not hold the user back; ``None``: it does.
    """

    version: int
    decisions: int
    usage_records: int
    wrong_totals: tuple[int, ...]
    unwalled: str | None


def check(address: DatabaseAddress) -> Checked:
    """Check the ledger of a team, in one snapshot.

    Raises:
        LedgerError: it cannot be used.
    """
    with InlinePostgresqlLedger(address) as ledger:
        return run_sync(ledger.read(_check))


def _check(connection: Connection) -> Checked:
    (decisions,) = connection.execute("SELECT count(*) FROM immunos_mcp_decision").fetchone()
    (records,) = connection.execute(
        "SELECT (SELECT count(*) FROM immunos_mcp_usage)"
        " + (SELECT count(*) FROM immunos_mcp_measured_usage)"
    ).fetchone()
    return Checked(
        schema.LATEST, decisions, records, _wrong_totals(connection), _unwalled(connection)
    )


def _wrong_totals(connection: Connection) -> tuple[int, ...]:
    """Return sessions that used less than what is recorded in them; pruned records still count."""
    sums = ", ".join(f"sum({kind}) AS {kind}" for kind in _KINDS)
    is_less = " OR ".join(
        f"session.claude_{kind} + session.local_{kind} < recorded.{kind}" for kind in _KINDS
    )
    rows = connection.execute(
        "SELECT session_id FROM immunos_mcp_session AS session JOIN"  # noqa: S608  # constants
        f" (SELECT session_id, {sums} FROM immunos_mcp_usage WHERE counted = 1 GROUP BY session_id)"
        f" AS recorded USING (session_id) WHERE {is_less} ORDER BY session_id"
    )
    return tuple(session_id for (session_id,) in rows)


def _unwalled(connection: Connection) -> str | None:
    bypasses, owns = connection.execute(
        "SELECT rolsuper OR rolbypassrls, EXISTS (SELECT 1 FROM pg_class"
        " WHERE relnamespace = CAST(? AS regnamespace) AND relowner = pg_roles.oid)"
        " FROM pg_roles WHERE rolname = current_user",
        (TABLES_SCHEMA,),
    ).fetchone()
    if bypasses:
        return "this user may bypass it"
    return "this user owns the tables, and could remove it" if owns else None
