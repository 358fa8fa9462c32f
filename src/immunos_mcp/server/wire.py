"""Both eras of the protocol on one pair of standard streams.

One run of the SDK's server keeps to the era of its first request, and a client that is unsure sends
both openings. So there is a run for each era, and one reader that gives each message to the one it
is for.

The SDK's own streams are not used: they hand every line to a worker thread, and again to flush it,
which costs more than the answer; and they drop a message that is no valid JSON, so that its sender
waits for ever.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import anyio
import anyio.lowlevel
import mcp_types as mcp
from mcp.shared.message import SessionMessage
from pydantic import ValidationError
from pydantic_core import from_json

from immunos_mcp.server.opening import ACKNOWLEDGED, LISTEN, SUBSCRIPTION_KEY, VERSION_KEY
from immunos_mcp.server.standard_streams import LONGEST_LINE

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.server.lowlevel import Server

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.server.opening import JsonObject, RequestId
    from immunos_mcp.server.standard_streams import Line, StandardInput, StandardOutput

GRACE_SECONDS = 5.0
"""How long requests under way may take when the client has closed the input."""

_REQUEST_ID = re.compile(rb'"id"\s*:\s*(-?[0-9]{1,18}|"[^"\\]{0,200}")')
_CANCELLED = "notifications/cancelled"


Run: TypeAlias = "MemoryObjectSendStream[SessionMessage | Exception]"
"""One run of the server, as where its client's messages go in."""


class Wire:
    """The messages of one client, and the runs of the server that answer them.

    Attributes:
        has_sent: set once something was sent.
    """

    def __init__(self, source: StandardInput, output: StandardOutput) -> None:
        self.has_sent = anyio.Event()
        if output.has_sent:
            self.has_sent.set()
        self._source = source
        self._output = output
        self._owners: dict[RequestId, Run] = {}
        self._awaited: set[RequestId] = set()
        self._answered_before: set[RequestId] = set()
        self._acknowledged_before: set[RequestId] = set()
        self._answered = anyio.Event()

    async def serve(self, server: Server[dict[str, Any]]) -> None:
        """Serve until the client closes its end, and what it asked for is answered.

        The SDK cancels what is under way when its input ends, which would leave whoever pipes
        requests into the program without answers.
        """
        async with anyio.create_task_group() as tasks:
            handshake, stateless = self._begin(server, tasks), self._begin(server, tasks)
            async for line in self._source.lines():
                message = self._message(line)
                if message is None:
                    # Lines without messages keep nobody from an answer, however many there are.
                    await anyio.lowlevel.checkpoint()
                else:
                    run = self._run_for(message, line, handshake, stateless)
                    await run.send(SessionMessage(message))
            with anyio.move_on_after(GRACE_SECONDS):
                while self._awaited:
                    self._answered = anyio.Event()
                    await self._answered.wait()
            for run in (handshake, stateless):
                await run.aclose()

    def _begin(self, server: Server[dict[str, Any]], tasks: TaskGroup) -> Run:
        inbox, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        written, outbox = anyio.create_memory_object_stream[SessionMessage](0)
        tasks.start_soon(server.run, read, written, server.create_initialization_options())
        tasks.start_soon(self._send_all, outbox)
        return inbox

    def _message(self, line: Line) -> mcp.JSONRPCMessage | None:
        """Return the message in a line; where there is none, its sender is told so."""
        try:
            if not line.is_whole:
                raise ValueError(f"a message has at most {LONGEST_LINE} bytes")  # noqa: TRY301
            value: Json = from_json(line.text.decode(errors="replace"))
        except ValueError as error:
            if line.text.strip():
                problem = f"Parse error: {str(error)[:200]}"
                self._refuse(_id_in(line.text), mcp.PARSE_ERROR, problem)
            return None
        try:
            if _is_message(value):
                request_id = value.get("id")
                if isinstance(request_id, float):
                    # The SDK takes the request for a notification, and 1.0 is the same number as 1.
                    value = {**value, "id": int(request_id)}
                return mcp.jsonrpc_message_adapter.validate_python(value, by_name=False)
        except ValidationError:
            pass
        request_id = value.get("id") if isinstance(value, dict) else None
        self._refuse(request_id, mcp.INVALID_REQUEST, "Invalid request")
        return None

    def _run_for(
        self, message: mcp.JSONRPCMessage, line: Line, handshake: Run, stateless: Run
    ) -> Run:
        """Return the run that a message is for, and remember it for the answer."""
        if isinstance(message, mcp.JSONRPCRequest):
            meta = (message.params or {}).get("_meta")
            is_stateless = isinstance(meta, dict) and VERSION_KEY in meta
            run = stateless if is_stateless and message.method != "initialize" else handshake
            self._owners[message.id] = run
            self._expect(message, line)
            return run
        if isinstance(message, mcp.JSONRPCNotification) and message.method == _CANCELLED:
            request_id = (message.params or {}).get("requestId")
            if isinstance(request_id, int | str) and not isinstance(request_id, bool):
                # The SDK answers no request that was cancelled in time.
                self._awaited.discard(request_id)
                return self._owners.pop(request_id, handshake)
        return handshake

    def _expect(self, request: mcp.JSONRPCRequest, line: Line) -> None:
        if request.method == LISTEN:
            # A listener that was cancelled may have left its id unacknowledged.
            self._acknowledged_before.discard(request.id)
            if line.is_answered:
                self._acknowledged_before.add(request.id)
        elif line.is_answered:
            self._answered_before.add(request.id)
        else:
            self._awaited.add(request.id)

    async def _send_all(self, outbox: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with outbox:
            async for sent in outbox:
                if not self._is_answered_before(sent.message):
                    self._send(_encoded(sent.message))
                self._answered.set()

    def _is_answered_before(self, message: mcp.JSONRPCMessage) -> bool:
        """Settle the request that a message answers; return whether it was answered early."""
        if isinstance(message, mcp.JSONRPCNotification):
            if message.method != ACKNOWLEDGED:
                return False
            meta = cast("JsonObject", (message.params or {}).get("_meta", {}))
            request_id, before = meta.get(SUBSCRIPTION_KEY), self._acknowledged_before
        elif isinstance(message, mcp.JSONRPCResponse | mcp.JSONRPCError):
            request_id, before = message.id, self._answered_before
            if request_id is not None:
                self._owners.pop(request_id, None)
                self._awaited.discard(request_id)
        else:
            return False
        if not isinstance(request_id, int | str) or request_id not in before:
            return False
        before.remove(request_id)
        return True

    def _refuse(self, request_id: Json, code: int, text: str) -> None:
        is_known = isinstance(request_id, str | int | float) and not isinstance(request_id, bool)
        # JSON has no infinity, which 1e400 is read as.
        is_known &= not isinstance(request_id, float) or isfinite(request_id)
        error = {"code": code, "message": text}
        message = {"jsonrpc": "2.0", "id": request_id if is_known else None, "error": error}
        self._send(json.dumps(message).encode())

    def _send(self, line: bytes) -> None:
        self._output.send(line + b"\n")
        self.has_sent.set()


def _encoded(message: mcp.JSONRPCMessage) -> bytes:
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    except ValueError:
        # Half of a surrogate pair has no UTF-8, and many clients reject its escape.
        dumped = json.dumps(
            message.model_dump(by_alias=True, exclude_unset=True), ensure_ascii=False
        )
        return dumped.encode(errors="replace")


def _id_in(text: bytes) -> Json:
    """Return what looks like the id in a line that is no JSON; ``None``: nothing does."""
    found = _REQUEST_ID.search(text, 0, 10_000) or _REQUEST_ID.search(text[-10_000:])
    try:
        return None if found is None else from_json(found[1])
    except ValueError:
        return None


def _is_id(value: Json) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())


def _is_message(value: Json) -> TypeGuard[JsonObject]:
    """Return whether a value has the shape of a JSON-RPC message, which the SDK then checks."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return False
    if isinstance(value.get("method"), str):
        # The SDK treats a request whose id it cannot read as a notification.
        return _is_id(value.get("id", 0)) and isinstance(value.get("params", {}), dict)
    return "method" not in value and ("result" in value or "error" in value)
