"""The status line: Claude Code runs this at every refresh and shows what it prints.

It never fails and never waits: an error becomes a short line. It also stores the plan's own usage,
for which Claude Code's input is the only local source.
"""

from __future__ import annotations

import math
import os
import re
import select
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.json import decode

from immunos_mcp import options
from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.assistants.looks import Look
from immunos_mcp.domain import PlanUsage, WarningLevel
from immunos_mcp.errors import ImmunosError, LedgerError, bug_report
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.options import Flags

BUSY_TIMEOUT_SECONDS = 0.05
"""How long a refresh waits for other writers: a later one comes soon."""

LARGEST_CATCH_UP = 8 * 2**20
"""Most unread bytes that a refresh reads itself; more is left to the server or to ``status``."""

LARGEST_INPUT = 16 * 2**20
INPUT_SECONDS = 2.0
"""How long a refresh waits for its input, which the client writes at once."""

BAR_CELLS = 10
_COLOURS = {WarningLevel.NORMAL: "32", WarningLevel.WARNING: "33", WarningLevel.CRITICAL: "31"}
_WINDOWS = {"five_hour": "5h", "seven_day": "7d"}

_PLAIN_SIGNS = str.maketrans("█░·", "#-|")
_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,15})?"


def main(environment: Mapping[str, str] = os.environ, flags: Flags = options.NO_FLAGS) -> int:
    """Print one line for the JSON that Claude Code gives on standard input; returns 0 whatever happens."""
    _print(_line(read_input(_received(sys.stdin)), environment, flags))
    return 0


def _line(status_input: Json, environment: Mapping[str, str], flags: Flags) -> str:
    plan = plan_usage(status_input, utc_now())
    try:
        chosen = options.read(environment, flags)
        with inline_ledger(chosen.database, BUSY_TIMEOUT_SECONDS) as ledger:
            follower = transcript_follower(ledger, chosen, environment)
            router = Router(ledger, chosen.session, follower=follower, places=_places(status_input))
            with suppress(LedgerError):
                run_sync(router.record_plan_usage(plan))
            answer = run_sync(router.get_session_status(look=_look(status_input)))
    except ImmunosError as error:
        from immunos_mcp.rules.formatting import printable

        return f"immunos: {printable(str(error)[:200])}"
    except Exception as error:  # noqa: BLE001  # the one boundary of this command
        return f"immunos: {bug_report(error)[:200]}"
    model = _part(status_input, "model", "display_name")
    shown_model = model if isinstance(model, str) and model.isprintable() else None
    return line(answer, plan, shown_model, coloured=not environment.get("NO_COLOR"))


def _received(source: TextIO) -> bytes:
    """Return what is on standard input, up to a limit in bytes and in time."""
    received = bytearray()
    deadline = time.monotonic() + INPUT_SECONDS
    with suppress(OSError, ValueError):
        while len(received) < LARGEST_INPUT and not source.isatty():
            if os.name == "posix":
                patience = max(0.0, deadline - time.monotonic())
                if not select.select([source], [], [], patience)[0]:
                    break
            piece = os.read(source.fileno(), 2**16)
            if not piece:
                break
            received += piece
    return bytes(received)


def _print(text: str) -> None:
    """Print a line in the encoding of standard output; plainer signs stand in for missing ones."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        encoded = text.encode(encoding)
    except UnicodeEncodeError:
        encoded = text.translate(_PLAIN_SIGNS).encode(encoding, "replace")
    sys.stdout.buffer.write(encoded + "\n".encode(encoding))


def _look(status_input: Json) -> Look:
    conversation = _part(status_input, "session_id")
    return Look(conversation if isinstance(conversation, str) else None, LARGEST_CATCH_UP)


def _places(status_input: Json) -> tuple[str, ...]:
    """Return the folder that the client works in, without links."""
    given = _part(status_input, "workspace", "project_dir") or _part(status_input, "cwd")
    if not isinstance(given, str) or "\0" in given or not given.isprintable():
        return ()
    return (os.path.realpath(given),)


def line(
    answer: StatusAnswer, plan: tuple[PlanUsage, ...], model: str | None, *, coloured: bool
) -> str:
    """Format the line: bar, budget, level, time to the next threshold, kept local, others, plan, model."""
    if answer.uncounted_tokens is None:
        parts = [_budget(answer, coloured=coloured), str(answer.warning_level)]
    else:
        parts = ["not counting yet", f"{_short(answer.uncounted_tokens)} measured today"]
    if answer.uncounted_tokens is None and answer.not_counting is not None:
        parts.append("not up to date")
    if answer.minutes_to_warning is not None:
        parts.append(f"warning in {_duration(answer.minutes_to_warning)}")
    elif answer.minutes_to_auto_switch is not None:
        parts.append(f"all local in {_duration(answer.minutes_to_auto_switch)}")
    parts.extend(_tightest(answer))
    if answer.gates is not None:
        parts.append(f"gates: {answer.gates}")
    if answer.kept_local_tokens:
        parts.append(f"{_short(answer.kept_local_tokens)} kept local")
    others = (answer.other_assistants or {}).items()
    parts.extend(f"{name} {_short(tokens)}" for name, tokens in others if tokens)
    parts.extend(f"{_WINDOWS[usage.window]} {usage.used_percentage:.0f}%" for usage in plan)
    if model is not None:
        parts.append(model[:40])
    return " · ".join(parts)


def _tightest(answer: StatusAnswer) -> Iterator[str]:
    """Yield the fullest of the budgets beside the session's own, if any is known."""
    known = [each for each in answer.budgets or () if each.percent_used is not None]
    if known:
        fullest = max(known, key=lambda each: each.percent_used or 0)
        least = ">" if fullest.at_least else ""
        gone = "" if fullest.gone_at is None else f", gone {fullest.gone_at.astimezone():%a %H:%M}"
        yield f"{fullest.name} {least}{fullest.percent_used:.0f}%{gone}"


def _budget(answer: StatusAnswer, *, coloured: bool) -> str:
    cells = min(BAR_CELLS, answer.session_tokens * BAR_CELLS // answer.session_limit)
    bar = "█" * cells + "░" * (BAR_CELLS - cells)
    if coloured:
        bar = f"\x1b[{_COLOURS[answer.warning_level]}m{bar}\x1b[0m"
    return f"{bar} {_short(answer.session_tokens)}/{_short(answer.session_limit)}"


def plan_usage(status_input: Json, now: datetime) -> tuple[PlanUsage, ...]:
    """Return the plan's usage in a status line's input, without what is unusable or expired."""
    found: list[PlanUsage] = []
    for window in _WINDOWS:
        used = _number(_part(status_input, "rate_limits", window, "used_percentage"))
        resets_at = _number(_part(status_input, "rate_limits", window, "resets_at"))
        if used is None or resets_at is None or not (0 <= used <= 1000 and 0 < resets_at < 2**33):
            continue
        usage = PlanUsage(window, used, datetime.fromtimestamp(int(resets_at), UTC))
        if usage.resets_at > now:
            found.append(usage)
    return tuple(found)


def read_input(received: bytes) -> Json:
    """Return the last whole object in the input; ``None``: there is none."""
    try:
        value: Json = decode(received)
    except (ValueError, RecursionError):
        return _salvaged(received)
    return value


def _salvaged(received: bytes) -> Json:
    """Return what is in input that is not quite JSON, or the last whole object in it."""
    import json

    from immunos_mcp.assistants import json_objects

    try:
        value: Json = json.loads(received)
    except (ValueError, RecursionError):
        text = json_objects.decoded(received)
        objects = json_objects.find_objects(text, lambda _outline: False).objects
        return objects[-1] if objects else None
    return value


def _part(value: Json, *path: str) -> Json:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Json) -> float | None:
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        value = float(value)
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
