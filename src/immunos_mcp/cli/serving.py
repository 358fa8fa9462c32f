"""Serving MCP, which the program does when no command is given."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from immunos_mcp.cli.console import EXIT_FINE, chosen_options

if TYPE_CHECKING:
    from argparse import Namespace

_TERMINAL_HINT = """\
immunos-mcp is serving MCP on this terminal and waits for a client to speak JSON-RPC; Ctrl-C ends it.
To use it, add it to a client instead. Claude Code:
  claude mcp add-json immunos '{"command":"immunos-mcp","alwaysLoad":true}'
For commands to type here: immunos-mcp --help
"""


def serve(given: Namespace) -> int:
    """Serve until the client is gone."""
    chosen = chosen_options(given)
    gc.enable()
    import anyio

    from immunos_mcp.server.app import serve_stdio

    if sys.stdin.isatty():
        print(_TERMINAL_HINT, file=sys.stderr, end="")
    anyio.run(serve_stdio, chosen)
    return EXIT_FINE
