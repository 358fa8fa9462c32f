"""The commands for ledgers on PostgreSQL: their tables, their teams, and how a ledger file gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp import options
from immunos_mcp.answers.databases import (
    CheckAnswer,
    CopyAnswer,
    ListedTeamAnswer,
    MigrateAnswer,
    TeamAnswer,
)
from immunos_mcp.answers.encoding import to_json
from immunos_mcp.cli import console
from immunos_mcp.cli.command import Command
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger.connections.opening import require_driver
from immunos_mcp.rules import names

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.database_address import DatabaseAddress


def _address(given: Namespace) -> DatabaseAddress:
    database = console.chosen_options(given).database
    if options.file_of(database) is not None:
        expected = "the address of a database, such as postgresql://HOST/DATABASE, for this command"
        raise InvalidInputError(Problem("--db", str(database), expected))
    return require_driver(database)


def _migrate(given: Namespace) -> int:
    address = _address(given)
    from immunos_mcp.ledger.connections.postgresql_migration import migrate

    before, after = migrate(address, given.grant_to)
    if before == after:
        text = f"ledger {address} has version {after} already"
    else:
        text = f"ledger {address} has version {after} now (before: {before or 'no tables'})"
    if given.grant_to is not None:
        text += f"\n{given.grant_to} may serve teams from it, and owns nothing"
    return _show(given, MigrateAnswer(str(address), before, after, given.grant_to), text)


def _add_team(given: Namespace) -> int:
    address = _address(given)
    from immunos_mcp.ledger.connections.postgresql_migration import add_team

    team_id = add_team(address, given.name)
    theirs = address._replace(team=given.name)
    text = f"team {given.name} has an empty ledger: {theirs}"
    return _show(given, TeamAnswer(str(theirs), given.name, team_id), text)


def _list_teams(given: Namespace) -> int:
    address = _address(given)
    from immunos_mcp.ledger.connections.postgresql_teams import list_teams

    teams = tuple(ListedTeamAnswer(*team) for team in list_teams(address))
    lines = [
        f"{team.team}: {team.people} people, since {team.created_at.astimezone():%Y-%m-%d %H:%M}"
        for team in teams
    ]
    return _show(given, teams, "\n".join(lines))


def _check(given: Namespace) -> int:
    address = _address(given)
    from immunos_mcp.ledger.connections.postgresql_check import check

    found = check(address)
    numbers = f"{found.decisions:,} decisions, {found.usage_records:,} usage records"
    lines = [f"ledger {address} answers: version {found.version}, {numbers}"]
    lines += [f"session {each} has less than the sum of its records" for each in found.wrong_totals]
    if found.unwalled is not None:
        lines.append(f"{found.unwalled}: row-level security does not hold this user back")
    answer = CheckAnswer(str(address), *found)
    shown = _show(given, answer, "\n".join(lines))
    return console.EXIT_FAILED if found.wrong_totals else shown


def _copy(given: Namespace) -> int:
    if not given.source.is_file():
        raise InvalidInputError(Problem("--from", str(given.source), "a ledger file"))
    given.db = given.to or given.db
    address = _address(given)
    from immunos_mcp.ledger.connections.postgresql_copy import copy

    person = None if given.person is None else names.check_session_name(given.person, "person")
    copied = copy(given.source, address, person)
    total = sum(copied.rows.values())
    text = (
        f"{total:,} rows of {given.source} are now in {address}, with the same counts and sums;"
        f" {copied.decisions:,} decisions replay alike"
    )
    text += "" if person is None else f"; they are {person}'s"
    return _show(given, CopyAnswer(str(address), dict(copied.rows), copied.decisions), text)


def _show(given: Namespace, answer: object, text: str) -> int:
    console.print_text(to_json(answer) if given.json else text)
    return console.EXIT_FINE


def _add_migrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--grant-to",
        metavar="ROLE",
        help="role of the database that servers and commands connect as",
    )


def _add_team_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def _add_copy_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", type=console.file, required=True, metavar="FILE",
        help="ledger file",
    )  # fmt: skip
    parser.add_argument("--to", metavar="ADDRESS", help="database (default: --db)")
    parser.add_argument(
        "--person",
        metavar="NAME",
        help="whose usage and decisions they are; added as a member unless the file has the person",
    )


_ACTIONS = (
    Command(
        "migrate",
        "create or upgrade the tables, as the user who will own them",
        "db migrate --db postgresql://owner@db.example.com/immunos --grant-to immunos_server",
        _migrate,
        _add_migrate_arguments,
    ),
    Command(
        "check",
        "check the tables, the stored totals and what the user may see",
        "db check --db postgresql://immunos_server@db.example.com/immunos",
        _check,
    ),
    Command(
        "copy",
        "copy a ledger file into a team that has none yet",
        "db copy --from ~/.immunos/db/immunos.db"
        " --to 'postgresql://owner@db.example.com/immunos?team=red'",
        _copy,
        _add_copy_arguments,
    ),
)

_TEAM_ACTIONS = (
    Command(
        "add",
        "add a team, whose ledger is at the address with ?team=NAME",
        "team add red --db postgresql://owner@db.example.com/immunos",
        _add_team,
        _add_team_arguments,
    ),
    Command(
        "list",
        "show all teams, to the owner of the tables",
        "team list --db postgresql://owner@db.example.com/immunos",
        _list_teams,
    ),
)

COMMANDS = (
    Command(
        "team",
        "manage the teams of a ledger on PostgreSQL",
        "team list --db postgresql://owner@db.example.com/immunos",
        _list_teams,
        actions=_TEAM_ACTIONS,
    ),
    Command(
        "db",
        "create, check and fill a ledger on PostgreSQL",
        "db check --db postgresql://immunos_server@db.example.com/immunos",
        _check,
        actions=_ACTIONS,
    ),
)
