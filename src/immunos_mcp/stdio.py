"""Standard input and output as the protocol's wire, in place of the SDK's own two streams.

The SDK hands every line that it writes to a worker thread, and again to flush it, which costs more
than the answer; and it drops a message that is no valid JSON, so that its sender waits for ever.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, TypeAlias

import anyio
from mcp_types import INVALID_REQUEST, PARSE_ERROR
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_REQUEST_ID = re.compile(r'"id"\s*:\s*(-?[0-9]{1,18}|"[^"\\]{0,200}")')


class WireOutput:
    """Standard output for the protocol alone, written on the event loop's thread.

    A client that stops reading blocks this server, which has nobody else to serve.
    """

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        # Whatever else prints to standard output must not end up between two messages.
        os.dup2(2, 1)

    async def write(self, text: str) -> None:
        """Take one line."""
        self._file.write(text)

    async def flush(self) -> None:
        """Send what was taken; once the client is gone, the SDK is told so and stops writing."""
        try:
            self._file.flush()
        except BrokenPipeError:
            raise anyio.ClosedResourceError from None


class WireInput:
    """Lines of standard input that are messages; any other that asks for an answer gets an error."""

    def __init__(self, output: WireOutput) -> None:
        self._lines = anyio.wrap_file(
            os.fdopen(sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False)
        )
        self._output = output

    async def __aiter__(self) -> AsyncIterator[str]:
        """Read until the client closes the input."""
        async for line in self._lines:
            try:
                message: Json = from_json(line)
            except ValueError as error:
                if line.strip():
                    found = _REQUEST_ID.search(line[:10_000]) or _REQUEST_ID.search(line[-10_000:])
                    request_id = json.loads(found[1]) if found else None
                    await self._refuse(request_id, PARSE_ERROR, f"Parse error: {str(error)[:200]}")
                continue
            if _is_message(message):
                yield line
            else:
                request_id = message.get("id") if isinstance(message, dict) else None
                await self._refuse(request_id, INVALID_REQUEST, "Invalid request")

    async def _refuse(self, request_id: Json, code: int, text: str) -> None:
        known = isinstance(request_id, str | int) and not isinstance(request_id, bool)
        message = {
            "jsonrpc": "2.0",
            "id": request_id if known else None,
            "error": {"code": code, "message": text},
        }
        await self._output.write(json.dumps(message) + "\n")
        await self._output.flush()


def _is_message(value: Json) -> bool:
    """Tell whether a value has the outline of a JSON-RPC message, which the SDK then checks."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return False
    if isinstance(value.get("method"), str):
        return isinstance(value.get("params", {}), dict)
    return "method" not in value and ("result" in value or "error" in value)
