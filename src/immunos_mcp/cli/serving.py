"""Serving MCP, which is what the program does without a command."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from immunos_mcp import options
from immunos_mcp.server.opening import Opening, recorded_answers
from immunos_mcp.server.standard_streams import StandardInput, StandardOutput

if TYPE_CHECKING:
    from argparse import Namespace

_TERMINAL_HINT = """\
immunos-mcp is serving MCP on this terminal and waits for JSON-RPC from a client. Press Ctrl-C to stop.
To set up Ollama, models and your client step by step: immunos-mcp setup
To set up a client only: immunos-mcp install claude-code
For all commands: immunos-mcp --help
"""


QUIET_SECONDS = 0.5
"""How long the server waits to be needed. Loading it takes about as long, in which a client that
only asks what there is has gone."""


def serve(given: Namespace) -> int:
    """Serve until the client closes the connection."""
    chosen = options.read(os.environ, vars(given))
    gc.enable()
    if sys.stdin.isatty():
        print(_TERMINAL_HINT, file=sys.stderr, end="")
    answers = recorded_answers(delegate=chosen.delegate)
    output = StandardOutput()
    source = StandardInput(Opening(answers), output)
    source.start()
    if source.needs_server(QUIET_SECONDS):
        import anyio

        from immunos_mcp.server.app import serve_stdio

        anyio.run(partial(serve_stdio, chosen, source, output, is_recorded=answers is not None))
    return 0
