"""The official client, connected to the real server or to one in this process."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import mcp_types as types
import pytest
import wire
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.router import Router
from immunos_mcp.server.app import build_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


Era: TypeAlias = Literal["legacy", "auto"]

ERAS = pytest.mark.parametrize("era", ["legacy", "auto"])
"""The handshake, and whatever is newest."""


@asynccontextmanager
async def connected(home: Path, era: Era, **variables: str) -> AsyncGenerator[Client]:
    """Connect the official client to the real server, which must write nothing to its stderr."""
    program, *arguments = wire.PROGRAM
    parameters = StdioServerParameters(
        command=program, args=arguments, env=wire.environment(home, **variables)
    )
    errors = home / f"stderr-{era}"
    with errors.open("w", encoding="utf-8") as log:
        async with Client(
            stdio_client(parameters, log),
            mode=era,
            client_info=types.Implementation(name="test-client", version="1.2"),
            cache=None,
            read_timeout_seconds=wire.TIMEOUT_SECONDS,
        ) as client:
            yield client
    assert errors.read_text(encoding="utf-8") == ""


@asynccontextmanager
async def in_process(file: Path, era: Era = "auto") -> AsyncGenerator[Client]:
    """Connect the official client to a server in this process."""
    async with ThreadedSqliteLedger(file) as ledger:
        server, _ = build_server(Router(ledger, "default"), "default")
        async with Client(server, mode=era, raise_exceptions=True, cache=None) as client:
            yield client


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


async def answer(client: Client, tool: str, **arguments: object) -> wire.JsonObject:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    structured = cast("wire.JsonObject", result.structured_content)
    assert type(structured) is dict
    line = text_of(result)
    assert "\n" not in line
    assert line.isprintable()
    return structured


async def read_json(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.TextResourceContents)
    assert (str(content.uri), content.mime_type) == (uri, "application/json")
    assert "\n" not in content.text
    return json.loads(content.text)
