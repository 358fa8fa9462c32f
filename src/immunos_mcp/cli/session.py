"""Commands for the budget session: status, reset, history, status line and project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.cli import terminal
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, folder, limit, on_archive, on_ledger
from immunos_mcp.options import LEDGER_OPTIONS

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.archive import Archive
    from immunos_mcp.router import Router


async def _status(router: Router, _given: Namespace) -> Answered:
    answer = await router.get_session_status()
    return Answered(answer, terminal.status(answer))


def _status_line(given: Namespace) -> int:
    from immunos_mcp.cli import status_line

    # The status line never fails, so it gets only the options that it uses.
    flags = {option.name: vars(given)[option.name] for option in LEDGER_OPTIONS}
    return status_line.main(flags=flags)


async def _reset(router: Router, given: Namespace) -> Answered:
    from immunos_mcp.server import text

    answer = await router.reset_session(given.reason)
    return Answered(answer, text.reset(answer))


def _add_reset_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", help="reason to record with the closed session")


async def _history(archive: Archive, given: Namespace) -> Answered:
    if given.what == "decisions":
        logged = await archive.list_decisions(given.limit, given.session)
        return Answered(logged, terminal.decisions(logged))
    summaries = await archive.list_sessions(given.limit, given.session)
    return Answered(summaries, terminal.sessions(summaries))


def _add_history_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=["decisions", "sessions"], default="decisions")
    parser.add_argument("--limit", type=limit, default=20, metavar="N")


async def _bind(router: Router, given: Namespace) -> Answered:
    if given.folder is not None:
        bound = await router.bindings.add(given.folder)
        text = f"Session {bound.session} will count only {bound.folder} from its next start"
        return Answered(bound, text)
    if given.remove is None and not given.all:
        bindings = await router.bindings.all()
        return Answered(bindings, terminal.bindings(bindings))
    name = given.session if given.all else given.remove
    removed = await router.bindings.remove(name)
    return Answered(removed, terminal.removed_bindings(removed))


def _add_bind_arguments(parser: ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "folder",
        nargs="?",
        type=folder,
        metavar="FOLDER",
        help="project folder; omit it to show which sessions are bound to one",
    )
    choice.add_argument(
        "--remove", metavar="NAME", help="let the session of this name count all projects again"
    )
    choice.add_argument(
        "--all",
        action="store_true",
        help="let every session, or that of --session, count all projects again",
    )


COMMANDS = (
    Command(
        "status",
        "show how much of the budget is used",
        "status --json",
        on_ledger(_status, asks_team=True),
    ),
    Command(
        "reset",
        "close the session and open a new one",
        'reset --reason "new day"',
        on_ledger(_reset, asks_team=True),
        _add_reset_arguments,
    ),
    Command(
        "history",
        "list the newest decisions or sessions",
        "history sessions --limit 5",
        on_archive(_history),
        _add_history_arguments,
    ),
    Command(
        "statusline",
        "print Claude Code's status line from the JSON on standard input",
        "statusline < input.json",
        _status_line,
    ),
    Command(
        "bind",
        "make a session count the usage of one project only, or show which do",
        "bind --session shop ~/code/shop",
        on_ledger(_bind),
        _add_bind_arguments,
    ),
)
