"""Serving MCP, which is what the program does without a command."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from immunos_mcp.cli.console import EXIT_FINE, chosen_options

if TYPE_CHECKING:
    from argparse import Namespace

_TERMINAL_HINT = """\
immunos-mcp is serving MCP on this terminal and waits for JSON-RPC from a client. Press Ctrl-C to stop.
To set up Ollama, models and your client step by step: immunos-mcp setup
To set up a client only: immunos-mcp install claude-code
For all commands: immunos-mcp --help
"""


def serve(given: Namespace) -> int:
    """Serve until the client closes the connection."""
    chosen = chosen_options(given)
    gc.enable()
    import anyio

    from immunos_mcp.server.app import serve_stdio

    if sys.stdin.isatty():
        print(_TERMINAL_HINT, file=sys.stderr, end="")
    anyio.run(serve_stdio, chosen)
    return EXIT_FINE
