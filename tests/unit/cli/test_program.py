"""A parser built for one command alone says and takes what the parser of all commands does."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import pytest

import immunos_mcp.cli
from immunos_mcp.cli import program
from immunos_mcp.cli.command import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.cli.command import Command

ACTIONS = tuple(action.name for action in program.find("config").actions)
COMMAND_LINES = [
    (),
    *((name,) for name in program.MODULES),
    *(("config", action) for action in ACTIONS),
]
ENDINGS = [
    ("--help",),
    ("-h",),
    ("--hel",),
    ("--nothing",),
    ("--version",),
    ("--db",),
    ("--json=3",),
    ("--limit", "0"),
    ("--since", "now"),
    ("--classification", "urgent"),
    ("--telemetry",),
    ("one", "two", "three", "four"),
    ("--", "--help"),
    (),
]

Ended = tuple[object, str, str]


@cache
def whole_parser() -> program.ProgramParser:
    return program.ProgramParser(whole=True)


@pytest.fixture(autouse=True)
def _no_translations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for no translation of each message, as the program does not."""
    monkeypatch.setattr("argparse._", str)


@pytest.fixture
def parsed(capsys: pytest.CaptureFixture[str]) -> Callable[[bool, tuple[str, ...]], Ended]:
    """Parse with the parser of all commands or of one; return how it ended and what it said."""

    def parse(whole: bool, arguments: tuple[str, ...]) -> Ended:
        ended: object
        try:
            parser = whole_parser() if whole else program.ProgramParser()
            ended = vars(parser.parse_args(arguments))
        except UsageError as error:
            ended = (error.prog, str(error))
        except SystemExit as stopped:
            ended = stopped.code
        said = capsys.readouterr()
        return ended, said.out, said.err

    return parse


@pytest.mark.parametrize("command_line", COMMAND_LINES, ids=" ".join)
def test_a_commands_own_parser_says_what_the_parser_of_all_says(
    command_line: tuple[str, ...],
    parsed: Callable[[bool, tuple[str, ...]], Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for ending in ENDINGS:
        for arguments in ((*command_line, *ending), (*ending, *command_line)):
            assert parsed(False, arguments) == parsed(True, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("statu",),
        ("config", "nope"),
        ("--db", "status", "nope"),
        ("--json", "nope", "--help"),
    ],
)
def test_a_command_that_there_is_not_is_refused_alike(
    arguments: tuple[str, ...], parsed: Callable[[bool, tuple[str, ...]], Ended]
) -> None:
    ended, out, err = parsed(False, arguments)
    assert (ended, out, err) == parsed(True, arguments)
    assert (isinstance(ended, tuple), out, err) == (True, "", "")


@pytest.mark.parametrize(
    ("line", "prog", "message"),
    [
        ("statu", "", "unknown command 'statu' (did you mean status?)"),
        ("config gte", " config", "unknown action 'gte' (did you mean get?)"),
        (
            "config 9",
            " config",
            "unknown action '9' (known: get, set, projects, unset, preset, history)",
        ),
        ("--db", "", "--db: needs a value"),
        ("--json=3", "", "--json: takes no value (got '3')"),
        ("--no-delegat", "", "unknown option '--no-delegat' (did you mean --no-delegate?)"),
        ("status --sesion=a", " status", "unknown option '--sesion' (did you mean --session?)"),
        ("status --x", " status", "unknown option '--x'"),
        ("status extra", " status", "unexpected argument 'extra'"),
        (
            "route --task-type x --classification urgent",
            " route",
            "--classification: must be routine, creative or critical (got 'urgent')",
        ),
        (
            "route --task-type x --classification rutine",
            " route",
            (
                "--classification: must be routine, creative or critical "
                "(got 'rutine'; did you mean 'routine'?)"
            ),
        ),
        (
            "route",
            " route",
            (
                "--task-type: is required; "
                "--classification: is required; must be routine, creative or critical"
            ),
        ),
        ("outcome 7", " outcome", "outcome: is required; must be success or failure"),
        (
            "outcome 7 sucess",
            " outcome",
            "outcome: must be success or failure (got 'sucess'; did you mean 'success'?)",
        ),
        ("explain x", " explain", "DECISION: must be a whole number (got 'x')"),
        ("config unset", " config unset", "NAME: is required"),
        ("export --table", " export", "--table: needs at least one value"),
        ("sync", " sync", "--since or --all is required"),
        ("sync --all --since 2026-01-01", " sync", "--since: cannot be used with --all"),
        (
            "history --limit 0",
            " history",
            "--limit: must be a whole number from 1 to 1000000 (got '0')",
        ),
    ],
)
def test_a_wrong_command_line_is_explained_in_one_sentence(
    line: str, prog: str, message: str
) -> None:
    with pytest.raises(UsageError) as wrong:
        program.parse(line.split())
    assert (wrong.value.prog, str(wrong.value)) == (f"immunos-mcp{prog}", message)


def test_help_lists_every_command_with_what_it_does(
    parsed: Callable[[bool, tuple[str, ...]], Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = parsed(False, ("--help",))
    listed = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("    ")]
    commands = [line for line in listed if line[0] in program.MODULES]
    assert commands == [[name, program.find(name).help] for name in program.MODULES]


@pytest.mark.parametrize("name", program.MODULES)
def test_one_command_is_found_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    find = program.find

    def told(name: str) -> Command:
        found.append(name)
        return find(name)

    monkeypatch.setattr(program, "find", told)
    with pytest.raises(SystemExit):
        program.parse([name, "--help"])
    assert found == [name]


def test_every_command_is_in_the_module_that_it_is_looked_for_in() -> None:
    there: dict[str, str] = {}
    for module in iter_modules(immunos_mcp.cli.__path__):
        loaded = import_module(f"immunos_mcp.cli.{module.name}")
        commands: tuple[Command, ...] = getattr(loaded, "COMMANDS", ())
        there |= {command.name: module.name for command in commands}
    assert there == program.MODULES
