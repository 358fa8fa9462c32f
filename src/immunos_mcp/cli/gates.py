"""The commands ``off``, ``on``, ``allow`` and ``pause``: what the user decides about the gates for now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from immunos_mcp.cli.command import BadArgument, Command
from immunos_mcp.cli.console import Answered, moment, on_ledger
from immunos_mcp.rules.formatting import minute

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.answers.gates import GatesAnswer
    from immunos_mcp.router import Router

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=366)


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    duration = timedelta(0) if found is None else int(found[1]) * _UNITS[found[2]]
    if timedelta(0) < duration <= _LONGEST:
        return duration
    raise BadArgument(text, "a time such as 30m, 2h or 1d, up to 366d")


def _time(text: str) -> datetime:
    """Parse a time of day, which is the next such one here, or a date and time."""
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text) is None:
        return moment(text)
    try:
        hour, minutes = map(int, text.split(":"))
        of_day = time(hour, minutes)
    except ValueError:
        raise BadArgument(text, "a time such as 14:30 or 2026-11-01T09:00") from None
    now = datetime.now().astimezone()
    day = now.date() if of_day > now.time() else now.date() + timedelta(days=1)
    return datetime.combine(day, of_day).astimezone(UTC)


def _until(answer: GatesAnswer) -> str:
    back = "`immunos-mcp on`"
    return (
        f"until {back}" if answer.until is None else f"until {minute(answer.until)} UTC or {back}"
    )


async def _off(router: Router, given: Namespace) -> Answered:
    answer = await router.gates.switch_off(given.duration)
    return Answered(answer, f"Nothing is asked, denied or said by hooks {_until(answer)}")


async def _on(router: Router, _given: Namespace) -> Answered:
    answer = await router.gates.switch_on()
    if answer.paused:
        return Answered(answer, "The pause has ended; the settings count again")
    held = answer.off or answer.allows_once
    return Answered(answer, "The settings count again" if held else "The settings count already")


async def _allow(router: Router, _given: Namespace) -> Answered:
    answer = await router.gates.allow_once()
    return Answered(answer, "The next denial is lifted, once, within a day")


async def _pause(router: Router, given: Namespace) -> Answered:
    answer = await router.gates.pause(given.until or given.duration)
    return Answered(answer, f"Claude Code's prompts and tools are denied {_until(answer)}")


def _add_for(parser: ArgumentParser) -> None:
    help_text = "how long, such as 30m, 2h or 1d"
    parser.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help=help_text)


def _add_allow_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--once", action="store_true", required=True, help="one call, and whatever comes first"
    )


def _add_pause_arguments(parser: ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--for", dest="duration", type=_duration, metavar="TIME", help="how long, such as 30m or 2h"
    )
    choice.add_argument(
        "--until",
        type=_time,
        metavar="TIME",
        help="such as 14:30; without it, until the plan's five hours begin anew",
    )


COMMANDS = (
    Command(
        "off",
        "let hooks ask, deny and say nothing for now",
        "off --for 2h",
        on_ledger(_off),
        _add_for,
    ),
    Command("on", "let the settings count again after off or pause", "on", on_ledger(_on)),
    Command(
        "allow",
        "lift the next denial of a hook",
        "allow --once",
        on_ledger(_allow),
        _add_allow_arguments,
    ),
    Command(
        "pause",
        "deny Claude Code's prompts and tools for a time",
        "pause --until 14:30",
        on_ledger(_pause),
        _add_pause_arguments,
    ),
)
