"""What the commands share: running a use case, printing its answer, and the types of arguments."""

from __future__ import annotations

import _signal  # `signal` takes 5 ms to import  # pyright: ignore[reportMissingModuleSource]  # built in
import io
import os
import re
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp import options
from immunos_mcp.answers.encoding import to_json
from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.cli.command import PROGRAM, BadArgument
from immunos_mcp.errors import InvalidInputError, OutputError, Problem
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.router import Router
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from immunos_mcp.archive import Archive
    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.domain import Engine
    from immunos_mcp.ledger.connections.ledger import InlineLedger

CLIENT = f"{PROGRAM} command line"
EXIT_FINE, EXIT_FAILED = 0, 1


class Answered(Struct, frozen=True):
    """An answer, its text for a person, the exit code, and what a person should know besides."""

    answer: object
    text: str
    exit_code: int = EXIT_FINE
    note: str | None = None


UseCase: TypeAlias = "Callable[[Router, Namespace], Coroutine[Any, Any, Answered]]"
"""Runs on a router with the parsed arguments."""

ArchiveUseCase: TypeAlias = "Callable[[Archive, Namespace], Coroutine[Any, Any, Answered | None]]"
"""Runs on an archive with the parsed arguments; ``None``: it has printed its answer itself."""


def on_ledger(
    use_case: UseCase,
    *,
    needs_engine: bool = False,
    asks_team: bool = False,
    own: str | None = None,
) -> Callable[[Namespace], int]:
    """Make a command's ``run`` out of a use case of the router.

    Args:
        use_case: what the command does.
        needs_engine: whether it needs the current state of the local engine.
        asks_team: whether the team's server does it, where one is joined.
        own: what it shows or changes of this ledger that a joined team has as well; told to whoever joined one.
    """

    def run(given: Namespace) -> int:
        chosen = chosen_options(given)
        with _ledger(chosen) as ledger:
            engine = _engine_now(chosen) if needs_engine else None
            follower = transcript_follower(ledger, chosen)
            is_own = not asks_team or vars(given).get("local")
            token_file = None if is_own else options.team_token_file(chosen.database)
            kind: Callable[..., Router] = Router
            if token_file is not None:
                kind = _gateway(ledger, token_file, follower)
            router = kind(
                ledger,
                chosen.session,
                follower=follower,
                engine=None if engine is None else lambda: engine,
                # A name that was typed may be a typing error.
                opened_by_looks=options.configured_session(os.environ),
                places=options.working_folders(os.environ),
            )
            answered = run_sync(use_case(router, given))
            if own is not None and is_own:
                answered = _noted(answered, ledger, chosen, own)
        return _show(answered, given)

    return run


def _noted(answered: Answered, ledger: InlineLedger, chosen: options.Options, own: str) -> Answered:
    """Add that an answer is of this ledger alone, if that has joined a team."""
    if options.team_token_file(chosen.database) is None:
        return answered
    from immunos_mcp.ledger.joined_team import joined_team

    team = run_sync(ledger.read(joined_team))
    if team is None:
        return answered
    note = f"these are {own} of your own ledger, not those of team {team.team} at {team.url}"
    return replace(answered, note=note)


def _gateway(
    ledger: InlineLedger, token_file: Path, follower: Follower | None
) -> Callable[..., Router]:
    # Few have joined a team.
    from immunos_mcp.gateway.opening import brief_team
    from immunos_mcp.gateway.router import GatewayRouter

    return partial(GatewayRouter, brief_team(ledger, token_file, follower))


def on_opened_ledger(
    use_case: Callable[[InlineLedger, Namespace], Coroutine[Any, Any, Answered]],
    own: str,
) -> Callable[[Namespace], int]:
    """Make a command's ``run`` out of what is done with a ledger alone; ``own`` is as for ``on_ledger``."""

    def run(given: Namespace) -> int:
        chosen = chosen_options(given)
        with _ledger(chosen) as ledger:
            answered = run_sync(use_case(ledger, given))
            answered = _noted(answered, ledger, chosen, own)
        return _show(answered, given)

    return run


def on_archive(
    use_case: ArchiveUseCase, *, covers_all_sessions: bool = False
) -> Callable[[Namespace], int]:
    """Make a command's ``run`` out of a use case of the archive.

    Args:
        use_case: what the command does.
        covers_all_sessions: whether it covers the whole ledger, so that it rejects ``--session``.
    """

    def run(given: Namespace) -> int:
        from immunos_mcp.archive import Archive

        chosen = chosen_options(given)
        if covers_all_sessions and given.session is not None:
            name = given.command.name
            message = f"--session cannot be used with `{name}`, which covers all sessions"
            raise InvalidInputError(Problem("--session", given.session, message=message))
        with _ledger(chosen) as ledger:
            archive = Archive(ledger, follower=transcript_follower(ledger, chosen))
            answered = run_sync(use_case(archive, given))
        return EXIT_FINE if answered is None else _show(answered, given)

    return run


def _ledger(chosen: options.Options) -> InlineLedger:
    broken_pipe: int | None = getattr(_signal, "SIGPIPE", None)
    if broken_pipe is not None:
        _signal.signal(broken_pipe, _signal.SIG_DFL)
    return inline_ledger(chosen.database)


def _show(answered: Answered, given: Namespace) -> int:
    print_text(to_json(answered.answer) if given.json else answered.text)
    if answered.note is not None and not given.json:
        print(f"{PROGRAM}: {answered.note}", file=sys.stderr)
    return answered.exit_code


def chosen_options(given: Namespace) -> options.Options:
    """Return the options of a command line in this process's environment."""
    return options.read(os.environ, vars(given))


def _engine_now(chosen: options.Options) -> Engine | None:
    if not chosen.ollama_check:
        return None
    from immunos_mcp.engines import watch

    return watch.probe_now(chosen)


def print_text(text: str) -> None:
    """Print a text.

    Raises:
        OutputError: standard output cannot be written.
    """
    try:
        print(text)
    except OSError as error:
        raise OutputError.of_standard_output(error) from error


def use_utf_8() -> None:
    """Write UTF-8, which other programs expect, whatever the terminal's locale is."""
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding="utf-8")


def path(text: str) -> Path:
    """Parse a path, with ``~`` for a home."""
    try:
        return options.expanded(text, "path")
    except InvalidInputError as error:
        (problem,) = error.problems
        raise BadArgument(text, problem.expected) from None


def folder(text: str) -> str:
    """Parse an existing folder."""
    found = path(text).resolve()
    if text and found.is_dir() and is_printable(str(found)):
        return str(found)
    raise BadArgument(text, "an existing folder with a printable name")


def former_folder(text: str) -> str:
    """Parse a folder that may be gone."""
    found = os.path.realpath(path(text))
    if text and is_printable(found):
        return found
    raise BadArgument(text, "a folder with a printable name")


def file(text: str) -> Path:
    """Parse a file, which may not exist yet."""
    if text and is_printable(text):
        return path(text).absolute()
    raise BadArgument(text, "a file with a printable name")


def moment(text: str) -> datetime:
    """Parse a date or a time; without a zone it is local."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "a date or time, such as 2026-11-01 or 2026-11-01T09:00+01:00"
        raise BadArgument(text, expected) from None


def whole_number(text: str) -> int:
    """Parse a whole number of any size that can be read quickly."""
    if re.fullmatch(r"[+-]?[0-9]{1,100}", text):
        return int(text)
    raise BadArgument(text, "a whole number")


def percent(text: str) -> int:
    """Parse a whole percentage."""
    number = whole_number(text.removesuffix("%"))
    if 0 <= number <= 100:
        return number
    raise BadArgument(text, "a whole percentage from 0 to 100")


def seconds(text: str) -> float:
    """Parse a number of seconds."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    raise BadArgument(text, "a number of seconds")


def limit(text: str) -> int:
    """Parse how many to list."""
    number = whole_number(text)
    if 1 <= number <= 1_000_000:
        return number
    raise BadArgument(text, "a whole number from 1 to 1000000")


def add_token_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of everything that is sent to a server."""
    parser.add_argument(
        "--token-file",
        type=file,
        metavar="FILE",
        help=f"file with the token; else {options.TOKEN} has it, or it is asked for",
    )
    parser.add_argument("--no-labels", action="store_true", help="send no names of project folders")
