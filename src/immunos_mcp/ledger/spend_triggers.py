"""How it is noted of which quarters of an hour usage changed, and how that begins.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.ledger.dialect import Connection

_LOGS = (
    ("immunos_mcp_usage", "recorded_at"),
    ("immunos_mcp_measured_usage", "measured_at"),
    ("immunos_mcp_request_usage", "finished_at"),
    ("immunos_mcp_side_usage", "used_at"),
)
QUARTER_OF = (
    "substr({0}, 1, 14) || CASE WHEN substr({0}, 15, 2) < '15' THEN '00'"
    " WHEN substr({0}, 15, 2) < '30' THEN '15' WHEN substr({0}, 15, 2) < '45' THEN '30'"
    " ELSE '45' END || ':00.000Z'"
)
KINDS = "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens"
COLUMNS = f"{KINDS}, nanodollars, unpriced"
PLACE = "quarter_at, assistant, folder, person_id"
SCOPE = "starts_at, ends_at, assistant, folder, person_id"


def begin(connection: Connection) -> None:
    """Note changes of usage from now on, and all quarters whose usage is not summed up."""
    for table in schema.SUMS:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  # constants
    are_adopted = _adopt(connection)
    for trigger in triggers():
        connection.ensure_trigger(*trigger)
    for table, column in _LOGS:
        connection.ensure_index(f"{table}_at")
        connection.execute(
            "INSERT INTO immunos_mcp_person_spend_stale"  # noqa: S608  # constants
            f" SELECT DISTINCT {QUARTER_OF.format(column)} FROM {table}"
            f" WHERE {'person_id IS NOT NULL' if are_adopted else 'true'} ON CONFLICT DO NOTHING"
        )


def _adopt(connection: Connection) -> bool:
    """Take over what an earlier program summed up for nobody in particular; return whether there was any."""
    sums, stale, totals, revision = schema.EARLIER_SUMS
    if connection.execute(f"SELECT 1 FROM {revision}").fetchone() is None:  # noqa: S608  # a constant
        return False
    for name, columns, table in (
        ("person_spend", PLACE, sums),
        ("person_spend_total", SCOPE, totals),
    ):
        connection.execute(
            f"INSERT INTO {schema.PREFIX}{name} ({columns}, {COLUMNS})"  # noqa: S608  # constants
            f" SELECT {columns.replace('person_id', '0')}, {COLUMNS} FROM {table}"
        )
    connection.execute(f"INSERT INTO immunos_mcp_person_spend_stale SELECT quarter_at FROM {stale}")  # noqa: S608  # a constant
    for table in schema.EARLIER_SUMS:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  # constants
    for name in earlier_triggers():
        connection.drop_trigger(name)
    return True


class Trigger(NamedTuple):
    """A statement that runs after each row of a table that is inserted, updated or deleted."""

    name: str
    event: str
    table: str
    statement: str


def triggers() -> Iterator[Trigger]:
    """Return the triggers that note the quarters of an hour whose usage changes."""
    for table, column in _LOGS:
        changes = [("insert", "new"), ("update", "new")]
        # Only requests are taken back; other rows are deleted when they are pruned, and keep counting.
        changes += [("delete", "old")] if table == "immunos_mcp_request_usage" else []
        for event, row in changes:
            quarter = QUARTER_OF.format(f"{row}.{column}")
            note = (
                f"INSERT INTO immunos_mcp_person_spend_stale SELECT {quarter} WHERE NOT EXISTS"  # noqa: S608  # constants
                f" (SELECT 1 FROM immunos_mcp_person_spend_stale WHERE quarter_at = {quarter})"
            )
            yield Trigger(f"{table}_{event}_by_person", event, table, note)


def earlier_triggers() -> Iterator[str]:
    """Return the names of the triggers of earlier programs, which noted quarters for themselves."""
    return (each.name.removesuffix("_by_person") for each in triggers())


def as_earlier(note: str) -> str:
    """Return what a trigger of an earlier program does, of what ours does."""
    return note.replace(schema.SUMS[1], schema.EARLIER_SUMS[1])
