"""Servers that ``http_calls.py`` compares: ``bare`` Starlette, the SDK's ``sdk`` and ours with a ``no-op`` tool.

Each prints its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

import mcp_types as mcp
import uvicorn
from mcp.server.lowlevel import Server
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from immunos_mcp.http.application import build_application
from immunos_mcp.http.connection import TimedConnection
from immunos_mcp.http.options import HttpOptions
from immunos_mcp.http.teams import Setup, Teams
from immunos_mcp.ledger.connections.opening import team_ledgers
from immunos_mcp.options import LOOPBACK_HOSTS, Address, default_database
from immunos_mcp.server.app import BuiltHttpServer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

ANSWER = {"model": "none", "reason": "no_op", "decision_id": 1}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"task_type": {"type": "string"}}}


async def _bare(request: Request) -> Response:
    await request.body()
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":{"decision_id":1}}}'
    return Response(body, media_type="application/json")


def bare() -> ASGIApp:
    """Return an application that reads the body and answers with constant JSON."""
    return Starlette(routes=[Route("/mcp", _bare, methods=["POST"])])


def no_op_server() -> Server[dict[str, Any]]:
    """Return a server of the SDK with one tool that does nothing."""

    async def call_tool(_context: object, _params: mcp.CallToolRequestParams) -> mcp.CallToolResult:
        return mcp.CallToolResult(content=[], structured_content=ANSWER)

    async def list_tools(
        _context: object, _params: mcp.PaginatedRequestParams | None
    ) -> mcp.ListToolsResult:
        return mcp.ListToolsResult(tools=[mcp.Tool(name="no_op", input_schema=SCHEMA)])

    server: Server[dict[str, Any]] = Server(
        "no-op",
        on_call_tool=call_tool,
        on_list_tools=list_tools,
        get_tool_input_schema=lambda _name: None,
    )
    server.middleware.clear()
    return server


def sdk() -> ASGIApp:
    """Return the SDK's own application around the no-op server."""
    return no_op_server().streamable_http_app(json_response=True, stateless_http=True)


def ours() -> ASGIApp:
    """Return our application around the no-op server."""
    teams = Teams(team_ledgers(default_database(), every_team=False), Setup("default"))
    options = HttpOptions(Address("127.0.0.1", 0), LOOPBACK_HOSTS, needs_tokens=False)
    built = BuiltHttpServer(no_op_server(), lambda: None)
    return build_application(options, built, teams).run


def main() -> None:
    """Serve what the first argument names."""
    application = {"bare": bare, "sdk": sdk, "no-op": ours}[sys.argv[1]]()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        application, http=TimedConnection, access_log=False, log_config=None, ws="none"
    )
    asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    main()
