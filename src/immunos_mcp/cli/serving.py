"""Serving MCP, which the program does when no command is given."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from immunos_mcp import options
from immunos_mcp.errors import ImmunosError
from immunos_mcp.server.opening import Opening, recorded_answers
from immunos_mcp.server.standard_streams import StandardInput, StandardOutput

if TYPE_CHECKING:
    from argparse import Namespace

_TERMINAL_HINT = """\
immunos-mcp is serving MCP on this terminal and waits for a client to speak JSON-RPC; Ctrl-C ends it.
To use it, add it to a client instead. Claude Code:
  claude mcp add-json immunos '{"command":"immunos-mcp","alwaysLoad":true}'
For commands to type here: immunos-mcp --help
"""


QUIET_SECONDS = 0.5
"""How long the server waits to be needed. Loading it takes about as long, in which a client that
only asks what there is has gone."""


def serve(given: Namespace) -> int:
    """Serve until the client is gone."""
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

        from immunos_mcp.faults import end_at_once, report_bug
        from immunos_mcp.server.app import serve_stdio

        try:
            anyio.run(partial(serve_stdio, chosen, source, output, is_recorded=answers is not None))
        except ImmunosError:
            raise
        except Exception as error:  # noqa: BLE001  # what no other boundary stopped
            end_at_once(report_bug("server", error))
    return 0
