"""The status line: Claude Code runs this at every refresh and shows what it prints.

It never fails and never waits: an error becomes a short line. It also stores the plan's own usage,
for which Claude Code's input is the only local source.
"""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from immunos_mcp import options
from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.domain import PlanUsage, WarningLevel
from immunos_mcp.errors import ImmunosError, LedgerError
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.options import Flags

BUSY_TIMEOUT_SECONDS = 0.05
"""How long a refresh waits for other writers: a later one comes soon."""

LARGEST_CATCH_UP = 2 * 2**20
"""Most unread bytes that a refresh reads itself; more is left to the server or to ``sync``."""

BAR_CELLS = 10
_COLOURS = {WarningLevel.NORMAL: "32", WarningLevel.WARNING: "33", WarningLevel.CRITICAL: "31"}
_WINDOWS = {"five_hour": "5h", "seven_day": "7d"}

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


def main(
    source: TextIO = sys.stdin,
    environment: Mapping[str, str] = os.environ,
    flags: Flags = options.NO_FLAGS,
) -> int:
    """Print one line for the JSON that Claude Code gives on standard input; always returns 0."""
    status_input = _read(source)
    plan = plan_usage(status_input)
    try:
        chosen = options.read(environment, flags)
        with InlineSqliteLedger(chosen.database, BUSY_TIMEOUT_SECONDS) as ledger:
            with suppress(LedgerError):
                follower = transcript_follower(ledger, chosen, environment)
                _catch_up(Router(ledger, chosen.session, follower=follower), plan)
            answer = run_sync(Router(ledger, chosen.session).get_session_status())
    except ImmunosError as error:
        print(f"immunos: {str(error)[:200]}")
        return 0
    model = _part(status_input, "model", "display_name")
    shown_model = model if isinstance(model, str) and model.isprintable() else None
    print(line(answer, plan, shown_model, coloured=not environment.get("NO_COLOR")))
    return 0


def _catch_up(router: Router, plan: tuple[PlanUsage, ...]) -> None:
    if plan:
        run_sync(router.record_plan_usage(plan))
    run_sync(router.catch_up(LARGEST_CATCH_UP))


def line(
    answer: StatusAnswer, plan: tuple[PlanUsage, ...], model: str | None, *, coloured: bool
) -> str:
    """Format the line: bar, budget, level, time to the next threshold, kept local, plan, model."""
    cells = min(BAR_CELLS, answer.session_tokens * BAR_CELLS // answer.session_limit)
    bar = "█" * cells + "░" * (BAR_CELLS - cells)
    if coloured:
        bar = f"\x1b[{_COLOURS[answer.warning_level]}m{bar}\x1b[0m"
    parts = [f"{bar} {_short(answer.session_tokens)}/{_short(answer.session_limit)}"]
    parts.append(answer.warning_level)
    if answer.minutes_to_warning is not None:
        parts.append(f"warning in {_duration(answer.minutes_to_warning)}")
    elif answer.minutes_to_auto_switch is not None:
        parts.append(f"all local in {_duration(answer.minutes_to_auto_switch)}")
    if answer.kept_local_tokens:
        parts.append(f"{_short(answer.kept_local_tokens)} kept local")
    parts.extend(f"{_WINDOWS[usage.window]} {usage.used_percentage:.0f}%" for usage in plan)
    if model is not None:
        parts.append(model[:40])
    return " · ".join(parts)


def plan_usage(status_input: Json) -> tuple[PlanUsage, ...]:
    """Return the plan's usage in a status line's input, without what is unusable."""
    found: list[PlanUsage] = []
    for window in _WINDOWS:
        used = _number(_part(status_input, "rate_limits", window, "used_percentage"))
        resets_at = _number(_part(status_input, "rate_limits", window, "resets_at"))
        if used is None or resets_at is None or not (0 <= used <= 1000 and 0 < resets_at < 2**33):
            continue
        found.append(PlanUsage(window, used, datetime.fromtimestamp(int(resets_at), UTC)))
    return tuple(found)


def _read(source: TextIO) -> Json:
    try:
        value: Json = json.loads(source.read())
    except (ValueError, RecursionError):
        return None
    return value


def _part(value: Json, *path: str) -> Json:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Json) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _short(tokens: int) -> str:
    if tokens < 1000:
        return str(tokens)
    if tokens < 1_000_000:
        return f"{tokens / 1000:.0f}k"
    return f"{tokens / 1_000_000:.1f}M"


def _duration(minutes: int) -> str:
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 2880:
        return f"{minutes // 60} h"
    return f"{minutes // 1440} d"
