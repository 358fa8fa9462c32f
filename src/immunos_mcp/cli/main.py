"""The command line: serves MCP when called bare, and gives people and scripts the same powers.

Exit codes: 0 fine, 1 failed, 2 wrong usage. Only serving imports the MCP SDK, which takes most of
a second.
"""

from __future__ import annotations

import io
import sys
import traceback
from typing import TYPE_CHECKING

from immunos_mcp.cli import program
from immunos_mcp.cli.command import PROGRAM
from immunos_mcp.errors import ImmunosError, InvalidInputError, bug_report

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with command-line arguments (``None``: the process's); return its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter shows its number.
            stream.reconfigure(errors="backslashreplace")
    given = None
    try:
        given = program.parse(arguments)
        return _run(given)
    except Exception as error:  # noqa: BLE001  # the one boundary of commands
        if given is not None and given.debug:
            traceback.print_exc()
        return _failed(error)


def _run(given: Namespace) -> int:
    if given.command is not None:
        return given.command.run(given)
    from immunos_mcp.cli.serving import serve

    return serve(given)


def _failed(error: Exception) -> int:
    """Say in one line what went wrong; return the exit code."""
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has seen enough.
        return EXIT_FAILED
    words = str(error) if isinstance(error, ImmunosError) else f"{bug_report(error)} (see --debug)"
    print(f"{PROGRAM}: {words}", file=sys.stderr)
    return EXIT_USAGE if isinstance(error, InvalidInputError) else EXIT_FAILED
