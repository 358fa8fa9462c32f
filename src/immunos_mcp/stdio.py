"""Standard input and output as the protocol's wire, in place of the SDK's own two streams.

The SDK hands every line that it writes to a worker thread, and again to flush it, which costs more
than the answer; and it drops a message that is no valid JSON, so that its sender waits for ever.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

import anyio
from mcp_types import PARSE_ERROR
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
    """Lines of standard input that are JSON; any other line is answered with a parse error."""

    def __init__(self, output: WireOutput) -> None:
        self._lines = anyio.wrap_file(
            os.fdopen(sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False)
        )
        self._output = output

    async def __aiter__(self) -> AsyncIterator[str]:
        """Read until the client closes the input."""
        async for line in self._lines:
            try:
                from_json(line)
            except ValueError as error:
                if line.strip():
                    await self._refuse(line, str(error))
            else:
                yield line

    async def _refuse(self, line: str, why: str) -> None:
        found = _REQUEST_ID.search(line[:10_000]) or _REQUEST_ID.search(line[-10_000:])
        message = {
            "jsonrpc": "2.0",
            "id": json.loads(found[1]) if found else None,
            "error": {"code": PARSE_ERROR, "message": f"Parse error: {why[:200]}"},
        }
        await self._output.write(json.dumps(message) + "\n")
        await self._output.flush()
