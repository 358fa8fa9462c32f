"""The limits of a Codex plan, as Codex notes them beside its token counts. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immunos_mcp.assistants.documents import member
from immunos_mcp.assistants.recorded_values import moment, text
from immunos_mcp.domain import PlanUsage
from immunos_mcp.logged_usage import PlanReport

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json

LIMITS = ("primary", "secondary")

_WINDOWS = {300: "five_hour", 10_080: "seven_day"}
_NAME = re.compile(r"codex(?:_[a-z0-9_]{1,40})?")
_LATEST = 2**33


def reports(written_at: Json, limits: Json) -> tuple[PlanReport, ...]:
    """Return the limits that can be read; there are none if the reply from the API had none."""
    found = [
        _usage(member(limits, ("limit_id",)), name, member(limits, (name,))) for name in LIMITS
    ]
    try:
        return tuple(PlanReport(moment(written_at), usage) for usage in found if usage is not None)
    except ValueError:
        return ()


def _usage(limit: Json, name: str, part: Json) -> PlanUsage | None:
    used, resets_at = (_number(member(part, (key,))) for key in ("used_percent", "resets_at"))
    if used is None or resets_at is None or not (0 <= used <= 1000 and 0 < resets_at < _LATEST):
        return None
    minutes = _number(member(part, ("window_minutes",)))
    window = _WINDOWS.get(int(minutes), f"{minutes:.0f}_minutes") if minutes else name
    known = text(limit) or "codex"
    owner = known if _NAME.fullmatch(known) else "codex"
    return PlanUsage(f"{owner}_{window}", used, datetime.fromtimestamp(int(resets_at), UTC))


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LATEST else None
