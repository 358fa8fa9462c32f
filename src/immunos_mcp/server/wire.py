"""Standard input and output as the protocol's wire, in place of the SDK's own two streams.

The SDK hands every line that it writes to a worker thread, and again to flush it, which costs more
than the answer; and it drops a message that is not valid JSON, so that its sender waits forever.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import anyio
from mcp_types import INVALID_REQUEST, PARSE_ERROR
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

GRACE_SECONDS = 5.0
"""How long requests under way may take when the client has closed the input."""

_NOTIFICATION = re.compile(r'\{"jsonrpc":"2\.0","method"|\{"method"')
_REQUEST_ID = re.compile(r'"id"\s*:\s*(-?[0-9]{1,18}|"[^"\\]{0,200}")')


class WireOutput:
    """Standard output for the protocol alone, written on the event loop's thread.

    A client that stops reading blocks this server, which has nobody else to serve.

    Attributes:
        unanswered: requests that were read and have no answer yet.
        has_sent: set once something was sent.
    """

    def __init__(self) -> None:
        self.unanswered = 0
        self.has_sent = anyio.Event()
        self._answered = anyio.Event()
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        os.set_blocking(self._file.fileno(), True)
        # Anything else printed to standard output must not end up between two messages.
        os.dup2(2, 1)

    async def write(self, text: str) -> None:
        """Buffer one line."""
        if self._file.closed:
            raise anyio.ClosedResourceError
        self._file.write(text)
        if not _NOTIFICATION.match(text):
            self.unanswered -= 1
            self._answered.set()

    async def flush(self) -> None:
        """Send what was buffered; once the client is gone, raise what makes the SDK stop writing."""
        if self._file.closed:
            raise anyio.ClosedResourceError
        try:
            self._file.flush()
        except OSError:
            # What it holds still would be tried again, and fail aloud, at the process's end.
            with suppress(OSError):
                self._file.close()
            raise anyio.ClosedResourceError from None
        self.has_sent.set()

    async def all_answered(self) -> None:
        """Wait until every request that was counted in ``unanswered`` has its answer."""
        while self.unanswered > 0:
            self._answered = anyio.Event()
            await self._answered.wait()


class WireInput:
    """Lines of standard input that are messages; any other that asks for an answer gets an error."""

    def __init__(self, output: WireOutput) -> None:
        self._lines = anyio.wrap_file(
            os.fdopen(sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False)
        )
        self._output = output

    async def __aiter__(self) -> AsyncIterator[str]:
        """Read until the client closes the input, and then until its requests are answered.

        The SDK cancels what is under way when the input ends, which would leave whoever pipes
        requests into the program without answers.
        """
        async for line in self._lines:
            try:
                message: Json = from_json(line)
            except ValueError as error:
                if line.strip():
                    found = _REQUEST_ID.search(line[:10_000]) or _REQUEST_ID.search(line[-10_000:])
                    request_id = json.loads(found[1]) if found else None
                    await self._reject(request_id, PARSE_ERROR, f"Parse error: {str(error)[:200]}")
                continue
            if _is_message(message):
                self._output.unanswered += _asks_for_an_answer(message)
                yield line
            else:
                request_id = message.get("id") if isinstance(message, dict) else None
                await self._reject(request_id, INVALID_REQUEST, "Invalid request")
        with anyio.move_on_after(GRACE_SECONDS):
            await self._output.all_answered()

    async def _reject(self, request_id: Json, code: int, text: str) -> None:
        known = isinstance(request_id, str | int) and not isinstance(request_id, bool)
        message = {
            "jsonrpc": "2.0",
            "id": request_id if known else None,
            "error": {"code": code, "message": text},
        }
        self._output.unanswered += 1
        await self._output.write(json.dumps(message) + "\n")
        await self._output.flush()


def _is_message(value: Json) -> bool:
    """Return whether a value has the shape of a JSON-RPC message, which the SDK then checks."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return False
    if isinstance(value.get("method"), str):
        return isinstance(value.get("params", {}), dict)
    return "method" not in value and ("result" in value or "error" in value)


def _asks_for_an_answer(message: Json) -> bool:
    return (
        isinstance(message, dict)
        and "method" in message
        and "id" in message
        and message["method"] != "subscriptions/listen"
    )
