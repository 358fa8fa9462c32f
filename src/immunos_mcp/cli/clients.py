"""Commands that set up clients and diagnose problems."""

from __future__ import annotations

import io
import os
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp import options
from immunos_mcp.answers.encoding import to_json
from immunos_mcp.assistants import doctor, install, registry
from immunos_mcp.assistants.configuration import Launch, Setup
from immunos_mcp.assistants.findings import DoctorContext, Finding, Verdict
from immunos_mcp.cli import program
from immunos_mcp.cli.command import PROGRAM, BadArgument, Command
from immunos_mcp.cli.console import EXIT_FAILED, EXIT_FINE, chosen_options
from immunos_mcp.errors import InvalidInputError, LedgerError, Problem
from immunos_mcp.options import ENGINE_OPTIONS, LEDGER_OPTIONS, SERVING_OPTIONS, TOKEN
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    from immunos_mcp.assistants.install import Plan
    from immunos_mcp.options import Options, Row


def _install(given: Namespace) -> int:
    # Reject options that the client's server would reject.
    chosen_options(given)
    client = given.client
    assistant = registry.assistant(client)
    if given.url and not assistant.takes_url:
        named = ", ".join(each for each in registry.NAMES if registry.assistant(each).takes_url)
        message = f"--url: {client} cannot be set up for a server over HTTP; these can: {named}"
        raise InvalidInputError(Problem("--url", given.url, message=message))
    setup = Setup(
        own_launch(given),
        os.environ,
        telemetry=given.telemetry_export or given.uninstall,
        url="" if given.uninstall else given.url or "",
        is_removal=given.uninstall,
    )
    files = assistant.configurations(setup)
    planned = install.plan_uninstall if given.uninstall else install.plan_install
    plan = planned(assistant, files)
    if not given.json:
        for text in (*(change.difference() for change in plan.changes), *plan.notes):
            print(text)
    if plan.changes and not (given.print or given.yes or _is_confirmed(given)):
        print(f"{PROGRAM}: nothing was changed", file=sys.stderr)
        return EXIT_FAILED
    backups = () if given.print else install.apply(plan)
    if given.json:
        print(_install_json(given, plan, backups))
    elif not plan.changes:
        print(f"{client} is {'not set up' if given.uninstall else 'already set up'}")
    elif not given.print:
        for backup in backups:
            print(f"Backup: {backup}")
        print(f"{client} is {'no longer set up' if given.uninstall else 'set up'}; {_next(given)}")
    return EXIT_FINE


def _next(given: Namespace) -> str:
    """Return what is left to do."""
    if not given.url or given.uninstall:
        return "restart it"
    if given.client == "vscode":
        return "restart it, and enter the token when it asks"
    return f"set {TOKEN} to your token where it is started, and restart it"


def _install_json(given: Namespace, plan: Plan, backups: Sequence[Path]) -> str:
    changed = tuple(str(change.file) for change in plan.changes)
    return to_json(
        {
            "client": plan.assistant,
            "changed": () if given.print else changed,
            "would_change": changed if given.print else None,
            "backups": tuple(map(str, backups)),
            "notes": plan.notes,
        }
    )


def _is_confirmed(given: Namespace) -> bool:
    if given.json or not sys.stdin.isatty():
        where = "with --json" if given.json else "without a terminal to ask on"
        message = f"install needs --yes to apply the changes, or --print to show them, {where}"
        raise InvalidInputError(Problem("install", None, message=message))
    try:
        return input("Apply? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        print()
        return False


def own_launch(given: Namespace) -> Launch:
    """Return how a client starts this program: with full paths, since desktop clients have no PATH."""
    here = Path(sys.argv[0])
    if here.stem == PROGRAM and here.parent != Path() and here.exists():
        found = str(here)
    else:
        beside = str(Path(sys.executable).parent)
        found = shutil.which(PROGRAM, path=beside) or shutil.which(PROGRAM)
    _refuse_password(chosen_options(given))
    flags = _passed_on(given, LEDGER_OPTIONS)
    serving_flags = _passed_on(given, ENGINE_OPTIONS + SERVING_OPTIONS)
    if found is None:
        return Launch(sys.executable, ("-m", "immunos_mcp", *flags), serving_flags)
    return Launch(str(Path(found).absolute()), flags, serving_flags)


def _refuse_password(chosen: Options) -> None:
    """Reject a password in an address, which would be shown, and readable in the client's settings."""
    database = chosen.database
    if not isinstance(database, Path) and database.has_password:
        message = "--db: must have no password here; put it in ~/.pgpass, where the server finds it"
        raise InvalidInputError(Problem("--db", None, message=message))


def _passed_on(given: Namespace, rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(word for option in rows for word in option.arguments(vars(given)))


def _add_install_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("client", choices=registry.NAMES)
    parser.add_argument(
        "--print", action="store_true", help="show the changes without applying them"
    )
    parser.add_argument("--yes", action="store_true", help="apply the changes without asking")
    parser.add_argument("--uninstall", action="store_true", help="undo the setup")
    parser.add_argument(
        "--url",
        type=_server_url,
        metavar="URL",
        help="claude-code, cursor, vscode: use the server over HTTP at this address",
    )
    parser.add_argument(
        "--telemetry",
        dest="telemetry_export",
        action="store_true",
        help="claude-code: also send its OpenTelemetry export to the router",
    )


def _server_url(text: str) -> str:
    from immunos_mcp.http.options import is_safe_url

    if is_safe_url(text) and "@" not in text and is_printable(text) and " " not in text:
        return text
    raise BadArgument(text, "an https address, such as https://budget.example.com/mcp")


def _doctor(given: Namespace) -> int:
    chosen = chosen_options(given)
    if given.repair:
        file = options.file_of(chosen.database)
        if file is None:
            message = "--repair: is for ledger files; a database is repaired with its own programs"
            raise InvalidInputError(Problem("--repair", None, message=message))
        return _repair(file, given)
    context = DoctorContext(chosen, os.environ, options_of)
    findings = (*doctor.diagnose(context), *_team_findings(chosen))
    print(to_json(findings) if given.json else doctor.report(findings))
    return EXIT_FAILED if doctor.has_failed(findings) else EXIT_FINE


def _team_findings(chosen: Options) -> tuple[Finding, ...]:
    token_file = options.team_token_file(chosen.database)
    if token_file is None:
        return ()
    # Few have joined a team.
    from immunos_mcp.gateway.findings import team_finding
    from immunos_mcp.ledger.connections.inline import run_sync
    from immunos_mcp.ledger.connections.opening import inline_ledger

    try:
        with inline_ledger(chosen.database) as ledger:
            return (run_sync(team_finding(ledger, token_file)),)
    except LedgerError as error:
        return (Finding("team", Verdict.FAIL, str(error)),)


def _repair(database: Path, given: Namespace) -> int:
    from immunos_mcp.ledger.repair import repair  # few runs need it

    done = repair(database)
    if given.json:
        copy = None if done.copy is None else str(done.copy)
        print(to_json({"copy": copy, "kept_rows": done.kept, "lost": done.lost}))
    elif done.copy is None:
        print(f"ledger {database} is intact; nothing was changed")
    else:
        print(f"ledger {database} is repaired: {done.kept} rows were kept")
        print("\n".join(f"lost: {each}" for each in done.lost or ("nothing",)))
        print(f"As it was before: {done.copy}")
        if done.lost:
            print(f"SQLite's own program may find more in it: sqlite3 {done.copy} .recover")
    return EXIT_FINE


def _add_doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--repair",
        action="store_true",
        help="copy a damaged ledger, then recover what is readable of it",
    )


def options_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Return the options of a server that is started with these arguments.

    Raises:
        InvalidInputError: it would not start.
    """
    try:
        with redirect_stdout(io.StringIO()):
            given = program.parse(arguments)
    except SystemExit:
        message = f"args: {PROGRAM} {' '.join(arguments)} prints something and exits"
        raise InvalidInputError(Problem("args", " ".join(arguments), message=message)) from None
    if given.command is not None:
        message = f"args: {PROGRAM} serves only without a command (got {given.command.name})"
        raise InvalidInputError(Problem("args", " ".join(arguments), message=message))
    return options.read(environment, vars(given))


COMMANDS = (
    Command(
        "install",
        "set up a client, or undo its setup",
        "install claude-code --print",
        _install,
        _add_install_arguments,
    ),
    Command(
        "doctor",
        "diagnose problems and suggest fixes",
        "doctor",
        _doctor,
        _add_doctor_arguments,
    ),
)
