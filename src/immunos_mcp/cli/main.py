"""The command line: serves MCP when called bare, and gives people and scripts the same powers.

Exit codes: 0 fine, 1 failed, 2 wrong usage. Only serving imports the MCP SDK, which takes most of
a second.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from immunos_mcp.cli import program
from immunos_mcp.cli.command import PROGRAM
from immunos_mcp.cli.safe_streams import make_safe
from immunos_mcp.errors import ImmunosError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with command-line arguments (``None``: the process's); return its code."""
    make_safe(sys.argv[1:] if arguments is None else arguments, os.environ)
    given = program.parse(arguments)
    try:
        if given.command is not None:
            return given.command.run(given)
        from immunos_mcp.cli.serving import serve

        return serve(given)
    except InvalidInputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ImmunosError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_FAILED
