"""The command that serves MCP over HTTP."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from immunos_mcp.cli.command import Command, add_option
from immunos_mcp.cli.console import EXIT_FINE, chosen_options
from immunos_mcp.http import options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _serve(given: Namespace) -> int:
    http = options.read(os.environ, vars(given))
    chosen = chosen_options(given)
    gc.enable()
    import anyio

    from immunos_mcp.http.log_lines import log_to_standard_error
    from immunos_mcp.http.serving import serve_http

    log_to_standard_error()
    anyio.run(serve_http, chosen, http, _tell)
    return EXIT_FINE


def _tell(url: str) -> None:
    print(f"immunos-mcp: serving MCP at {url}/mcp", file=sys.stderr, flush=True)


def _add_arguments(parser: ArgumentParser) -> None:
    for option in options.HTTP_OPTIONS:
        add_option(parser, option)


COMMANDS = (
    Command(
        "serve",
        "serve MCP over HTTP, to several clients or to other machines",
        "serve --http 127.0.0.1:4780",
        _serve,
        _add_arguments,
    ),
)
