"""What the user decided for now above the settings of the gates, and what hooks said.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.ledger.moments import CLOCK_TOLERANCE, utc_text
from immunos_mcp.rules.gates import FOREVER, Overrides

if TYPE_CHECKING:
    from immunos_mcp.ledger.dialect import Connection


class OverrideKind(StrEnum):
    """What can be decided."""

    OFF = "off"
    PAUSE = "pause"
    ALLOWANCE = "allowance"


class HookTexts(Struct, frozen=True):
    """What hooks said to models.

    Attributes:
        texts: how many lines, questions and denials.
        tokens: what they cost, estimated.
    """

    texts: int
    tokens: int


NO_TEXTS = HookTexts(0, 0)

_EXCLUDED = {
    OverrideKind.OFF: (OverrideKind.PAUSE, OverrideKind.ALLOWANCE),
    OverrideKind.PAUSE: (OverrideKind.OFF, OverrideKind.ALLOWANCE),
    OverrideKind.ALLOWANCE: (),
}
"""What ends when another thing is decided."""


_SELECT_HELD = (
    "SELECT kind, ends_at FROM immunos_mcp_override"
    " WHERE ends_at > ? AND (set_at <= ? OR ends_at >= ?)"
)


def _held_at(now: datetime) -> tuple[str, str, str]:
    return utc_text(now), utc_text(now + CLOCK_TOLERANCE), utc_text(FOREVER)


def look_ahead(connection: Connection, now: datetime) -> None:
    """Announce that ``read_overrides`` is needed."""
    connection.ahead(_SELECT_HELD, _held_at(now))


def read_overrides(connection: Connection, now: datetime) -> Overrides:
    """Return what holds now; what was decided for a time by a clock that was ahead does not."""
    rows = connection.execute(_SELECT_HELD, _held_at(now))
    ends: dict[str, datetime] = {kind: datetime.fromisoformat(ends_at) for kind, ends_at in rows}
    return Overrides(
        ends.get(OverrideKind.OFF),
        ends.get(OverrideKind.PAUSE),
        OverrideKind.ALLOWANCE in ends,
    )


def set_override(
    connection: Connection, kind: OverrideKind, ends_at: datetime, now: datetime
) -> Overrides:
    """Decide something for now, in place of what contradicts it; return what holds then."""
    for excluded in _EXCLUDED[kind]:
        connection.execute("DELETE FROM immunos_mcp_override WHERE kind = ?", (excluded,))
    connection.execute(
        "INSERT INTO immunos_mcp_override (kind, set_at, ends_at) VALUES (?, ?, ?)"
        " ON CONFLICT (kind) DO UPDATE SET set_at = excluded.set_at, ends_at = excluded.ends_at",
        (kind, utc_text(now), utc_text(ends_at)),
    )
    return read_overrides(connection, now)


def end_overrides(connection: Connection, now: datetime) -> Overrides:
    """Let the settings alone count again; return what held until now."""
    held = read_overrides(connection, now)
    connection.execute("DELETE FROM immunos_mcp_override")
    return held


def take_allowance(connection: Connection, now: datetime) -> bool:
    """Use up the allowance of one call; of several callers one alone gets it."""
    taken = connection.execute(
        "DELETE FROM immunos_mcp_override WHERE kind = ? AND ends_at > ?",
        (OverrideKind.ALLOWANCE, utc_text(now)),
    )
    return taken.rowcount == 1


def record_hook_texts(connection: Connection, texts: int, tokens: int, now: datetime) -> None:
    """Count what hooks said on a day."""
    connection.execute(
        "INSERT INTO immunos_mcp_hook_text (day, texts, tokens) VALUES (?, ?, ?) ON CONFLICT (day)"
        " DO UPDATE SET texts = immunos_mcp_hook_text.texts + excluded.texts,"
        " tokens = immunos_mcp_hook_text.tokens + excluded.tokens",
        (utc_text(now)[:10], texts, tokens),
    )


def hook_texts(connection: Connection, since: datetime | None) -> HookTexts:
    """Return what hooks said from a day on (``None``: ever)."""
    day = "" if since is None else utc_text(since)[:10]
    row = connection.execute(
        "SELECT coalesce(sum(texts), 0), coalesce(sum(tokens), 0) FROM immunos_mcp_hook_text"
        " WHERE day >= ?",
        (day,),
    ).fetchone()
    return HookTexts(*row)
