"""Servers over HTTP in this process, and clients of theirs."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import wire
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from immunos_mcp.http.options import HttpOptions
from immunos_mcp.http.serving import serve_http
from immunos_mcp.options import LOOPBACK_HOSTS, Address, Options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from sdk_clients import Era

    from immunos_mcp.database_address import DatabaseAddress

ANYWHERE = HttpOptions(Address("127.0.0.1", 0), LOOPBACK_HOSTS, needs_tokens=False)
JSON = {"content-type": "application/json", "accept": "application/json"}


class Served:
    """A server that runs.

    Attributes:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._is_ending = False

    def end(self) -> None:
        """End it as a service manager does."""
        if not self._is_ending:
            self._is_ending = True
            os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def serving(
    file: Path | DatabaseAddress, http: HttpOptions = ANYWHERE
) -> AsyncGenerator[Served]:
    """Serve a ledger in this process, and end without leaving anything."""
    options = Options(file, "default", read_transcripts=False, ollama_check=False)
    send, receive = anyio.create_memory_object_stream[str](1)
    has_ended = anyio.Event()

    async def serve() -> None:
        await serve_http(options, http, send.send_nowait)
        has_ended.set()

    async with send, receive, anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            served = Served(await receive.receive())
        try:
            yield served
        finally:
            # If a test fails, too: threads that are left would keep the process.
            with anyio.CancelScope(shield=True):
                served.end()
                await has_ended.wait()


def client_of(url: str, **headers: str) -> httpx2.AsyncClient:
    """Return a plain client that sends such headers with each request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.AsyncClient(base_url=url, headers={**JSON, **named}, timeout=wire.TIMEOUT_SECONDS)


def asking(method: str, **params: Any) -> wire.JsonObject:
    """Return a request of the handshake era."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@asynccontextmanager
async def connected(url: str, era: Era, **headers: str) -> AsyncGenerator[Client]:
    """Connect the official client."""
    async with client_of(url, **headers) as sender:
        transport = streamable_http_client(f"{url}/mcp", http_client=sender)
        async with Client(transport, mode=era, cache=None) as client:
            yield client


def put_a_folder_in_place_of(ledger_file: Path) -> None:
    """Make a ledger one that no server can use."""
    for suffix in ("", "-wal", "-shm"):
        ledger_file.with_name(ledger_file.name + suffix).unlink()
    ledger_file.mkdir()
