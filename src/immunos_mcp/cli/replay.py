"""The command that replays the log with other settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.cli import terminal
from immunos_mcp.cli.assignments import assignments
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, limit, moment, on_archive

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.archive import Archive


async def _replay(archive: Archive, given: Namespace) -> Answered:
    changes = assignments(given.assignments)
    answer = await archive.replay(changes, given.since, given.session, given.limit)
    return Answered(answer, terminal.replayed(answer))


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="setting to change from its value at the time; may be repeated",
    )
    parser.add_argument("--since", type=moment, metavar="TIME", help="leave out earlier decisions")
    parser.add_argument(
        "--limit", type=limit, default=20, metavar="N", help="how many changed decisions to list"
    )


COMMANDS = (
    Command(
        "replay",
        "replay logged tasks with other settings, changing nothing",
        "replay --set auto_switch_threshold=160000 --since 2026-11-01",
        on_archive(_replay),
        _add_arguments,
    ),
)
