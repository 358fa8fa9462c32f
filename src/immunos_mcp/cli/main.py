"""The command line: serves MCP without a command; the commands are for people and scripts.

Exit codes: 0 fine, 1 failed, 2 wrong usage. Only serving imports the MCP SDK, which takes most of
a second.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.cli import program
from immunos_mcp.cli.command import PROGRAM, UsageError
from immunos_mcp.cli.safe_streams import make_safe
from immunos_mcp.errors import ImmunosError, InvalidInputError, bug_report, shown
from immunos_mcp.options import OLLAMA_HOST

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from immunos_mcp.errors import Problem

EXIT_FAILED, EXIT_USAGE = 1, 2

LONGEST_SENT = 200
"""Characters of a rejected value that the JSON of an error repeats in full."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with command-line arguments (``None``: the process's); return its code."""
    make_safe(sys.argv[1:] if arguments is None else arguments, os.environ)
    given = None
    try:
        given = program.parse(arguments)
        return _run(given)
    except Exception as error:  # noqa: BLE001  # the one boundary of commands
        if given is not None and given.debug:
            import traceback

            traceback.print_exc()
        if not isinstance(error, BrokenPipeError):
            # Whoever read the output has seen enough, and needs no error.
            show_error(error, sys.argv[1:] if arguments is None else arguments)
        return EXIT_USAGE if isinstance(error, InvalidInputError) else EXIT_FAILED


def _run(given: Namespace) -> int:
    if given.command is not None:
        try:
            return given.command.run(given)
        except InvalidInputError as error:
            if isinstance(error, UsageError):
                raise
            told = [_in_commands_words(problem, given) for problem in error.problems]
            raise InvalidInputError(*told) from error
    from immunos_mcp.cli.serving import serve

    return serve(given)


def _in_commands_words(problem: Problem, given: Namespace) -> Problem:
    """Return a problem as it is for somebody who typed a command instead of calling a tool."""
    if problem.field == OLLAMA_HOST.variable and given.ollama_host is not None:
        return replace(problem, field=OLLAMA_HOST.flag)
    return problem


def show_error(error: Exception, arguments: Sequence[str]) -> None:
    """Print an error on standard error: as text, or as a line of JSON if ``--json`` was given."""
    text = str(error) if isinstance(error, ImmunosError) else f"{bug_report(error)} (see --debug)"
    if "--json" in arguments:
        print(_in_json(error, text), file=sys.stderr)
    elif isinstance(error, UsageError):
        print(f"{error.prog}: {text}\nTry '{error.prog} --help'.", file=sys.stderr)
    else:
        print(f"{PROGRAM}: {text}", file=sys.stderr)


def _in_json(error: Exception, text: str) -> str:
    described: dict[str, object] = {"message": text}
    if isinstance(error, InvalidInputError):
        described["problems"] = [
            {
                "field": problem.field,
                **({} if problem.got is None else {"got": _sent(problem.got)}),
                **({"expected": problem.expected} if problem.expected else {}),
                **({} if problem.nearest is None else {"nearest": problem.nearest}),
            }
            for problem in error.problems
        ]
    import json  # only where something failed

    return json.dumps({"error": described}, separators=(",", ":"))


def _sent(value: object) -> str | int:
    """Return a value as it was sent, or as messages show it where it is long or not a scalar."""
    if isinstance(value, str) and len(value) <= LONGEST_SENT:
        return value
    return value if isinstance(value, int) and value.bit_length() <= 128 else shown(value)
