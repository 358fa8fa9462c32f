"""Commands for a developer whose team has a server: join and leave it, and send usage to it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import (
    EXIT_FAILED,
    EXIT_FINE,
    add_token_arguments,
    chosen_options,
    print_text,
)
from immunos_mcp.errors import ImmunosError, InvalidInputError, Problem
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.options import TOKEN, file_of, token_file_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from pathlib import Path

    from immunos_mcp.gateway.joining import Offer
    from immunos_mcp.gateway.team import Team
    from immunos_mcp.ledger.connections.ledger import InlineLedger


def _join(given: Namespace) -> int:
    from immunos_mcp.gateway import joining
    from immunos_mcp.gateway.connection import BriefConnection
    from immunos_mcp.gateway.membership import server_url
    from immunos_mcp.ledger.moments import utc_now

    chosen = chosen_options(given)
    token_file = _token_file(given)
    url = server_url(given.url)
    token = _token(given)
    identity = BriefConnection(url, token).identity(joining.FIRST_SECONDS)
    with inline_ledger(chosen.database) as ledger:
        offered = run_sync(
            joining.offer(
                ledger, url, identity, chosen.session, utc_now(), sends_labels=not given.no_labels
            )
        )
        if not given.json and not offered.is_renewal:
            print_text(joining.preview(offered))
        if not (given.yes or offered.is_renewal or _is_confirmed(given)):
            print("immunos-mcp: nothing was changed", file=sys.stderr)
            return EXIT_FAILED
        _store(ledger, token_file, token, offered)
        new = _pushed(_team(ledger, token_file, given))
    return _joined(given, offered, new)


def _store(ledger: InlineLedger, token_file: Path, token: str, offered: Offer) -> None:
    from immunos_mcp.gateway.membership import write_token
    from immunos_mcp.ledger.joined_team import join_team

    is_new = not token_file.exists()
    write_token(token_file, token)
    try:
        run_sync(ledger.write(join_team, offered.team))
    except ImmunosError:
        if is_new:
            token_file.unlink(missing_ok=True)
        raise


def _joined(given: Namespace, offered: Offer, new: int | None) -> int:
    from immunos_mcp.gateway.joining import JoinAnswer

    team = offered.team
    answer = JoinAnswer(
        team.url,
        team.team,
        team.person or None,
        offered.role,
        team.usage_from,
        team.sends_labels,
        new,
    )
    sent = "its server cannot be reached now, and gets your usage later"
    if new is not None:
        sent = f"{new:,} responses were new to it"
    who = f" as {team.person}" if team.person else ""
    begins = "Joined already" if offered.is_renewal else "Joined"
    renewed = "; the token was replaced" if offered.is_renewal else ""
    return _shown(
        given,
        answer,
        f"{begins}: team {team.team}{who}{renewed}; {sent}. Restart your assistants.",
    )


def _leave(given: Namespace) -> int:
    from immunos_mcp.gateway import joining
    from immunos_mcp.gateway.membership import remove_token
    from immunos_mcp.ledger.joined_team import joined_team, leave_team

    token_file = _token_file(given)
    with inline_ledger(chosen_options(given).database) as ledger:
        if run_sync(ledger.read(joined_team)) is not None and token_file.exists():
            team = _team(ledger, token_file, given)
            _pushed(team)
            _say_goodbye(team)
        left = run_sync(ledger.write(leave_team))
        remove_token(token_file)
    if left is None:
        print("immunos-mcp: this ledger has joined no team", file=sys.stderr)
        return EXIT_FAILED
    answer = joining.JoinAnswer(left.team.url, left.team.team, unsent=left.rows or None)
    lost = f"; {left.rows:,} rows of usage were never sent to it" if left.rows else ""
    text = f"Left team {left.team.team}{lost}. Your own ledger has everything. Restart your assistants."
    return _shown(given, answer, text)


def _pushed(team: Team) -> int | None:
    """Send what waits; return how much was new, or ``None`` where the server cannot be reached."""
    try:
        return run_sync(team.push_all())
    except ImmunosError as error:
        print(f"immunos-mcp: {error}", file=sys.stderr)
        return None


def _say_goodbye(team: Team) -> None:
    try:
        run_sync(team.end())
    except ImmunosError as error:
        print(f"immunos-mcp: the team's server was not told: {error}", file=sys.stderr)


def sync_to(given: Namespace) -> int:
    """Import usage from logs, and send it to a server, whether its team is joined or not."""
    from immunos_mcp.archive import Archive
    from immunos_mcp.cli.detail import imported
    from immunos_mcp.gateway import joining
    from immunos_mcp.gateway.connection import BriefConnection
    from immunos_mcp.gateway.membership import server_url
    from immunos_mcp.ledger.joined_team import joined_team

    chosen = chosen_options(given)
    url, token = server_url(given.to), _token(given)
    since = None if given.all else given.since
    with inline_ledger(chosen.database) as ledger:
        follower = transcript_follower(ledger, chosen)
        answered = run_sync(imported(Archive(ledger, follower=follower), given))
        joined = run_sync(ledger.read(joined_team))
        if joined is not None and joined.url == url:
            _pushed(_team(ledger, _token_file(given), given))
        new = run_sync(
            joining.send_history(
                ledger,
                BriefConnection(url, token),
                () if follower is None else follower.assistants(),
                since,
                sends_labels=not given.no_labels,
            )
        )
    answer = joining.SentAnswer(url, new, answered.answer)
    return _shown(given, answer, f"{answered.text}\nSent to {url}: {new:,} were new there")


def _team(ledger: InlineLedger, token_file: Path, given: Namespace) -> Team:
    from immunos_mcp.gateway.opening import brief_team
    from immunos_mcp.ledger.moments import utc_now

    follower = transcript_follower(ledger, chosen_options(given))
    if follower is not None:
        run_sync(follower.catch_up(utc_now()))
    return brief_team(ledger, token_file, follower)


def _token_file(given: Namespace) -> Path:
    database = file_of(chosen_options(given).database)
    if database is None:
        message = "--db: must be a file here; a team's database is served, not joined"
        raise InvalidInputError(Problem("--db", None, message=message))
    return token_file_of(database)


def _token(given: Namespace) -> str:
    """Return the token: of the file that was named, else of the environment, else as it is typed."""
    from immunos_mcp.gateway.membership import checked_token

    if given.token_file is not None:
        try:
            return checked_token(given.token_file.read_text(encoding="ascii"), "--token-file")
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or "it is no text"
            message = f"--token-file: {given.token_file} cannot be read ({words})"
            raise InvalidInputError(Problem("--token-file", None, message=message)) from None
    if TOKEN in os.environ:
        return checked_token(os.environ[TOKEN], TOKEN)
    if not sys.stdin.isatty():
        message = f"token: is required; give it in a file (--token-file) or in {TOKEN}"
        raise InvalidInputError(Problem("token", None, message=message))
    from getpass import getpass

    return checked_token(getpass("Token: "), "token")


def _is_confirmed(given: Namespace) -> bool:
    if given.json or not sys.stdin.isatty():
        where = "with --json" if given.json else "without a terminal to ask on"
        message = f"join needs --yes {where}"
        raise InvalidInputError(Problem("join", None, message=message))
    try:
        return input("Join? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        print()
        return False


def _shown(given: Namespace, answer: object, text: str) -> int:
    from immunos_mcp.answers.encoding import to_json

    print_text(to_json(answer) if given.json else text)
    return EXIT_FINE


def _add_join_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL")
    add_token_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="join without asking")


COMMANDS = (
    Command(
        "join",
        "let a team's server decide, and send your usage to it",
        "join https://budget.example.com",
        _join,
        _add_join_arguments,
    ),
    Command("leave", "leave the team, and decide by your own ledger alone", "leave", _leave),
)
