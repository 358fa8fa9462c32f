"""Receives Claude Code's OpenTelemetry export of API requests over loopback HTTP.

Transcripts do not have the client's requests outside the conversation (titles, compaction). If the
export is on, every finished request arrives here as an ``api_request`` event in OTLP/HTTP JSON. Only
the counts, the model, the time and the request id of an event are stored.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import anyio
import h11

from immunos_mcp.domain import TokenCounts
from immunos_mcp.errors import ImmunosError
from immunos_mcp.faults import report_bug
from immunos_mcp.logged_usage import RequestUsage
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from anyio.abc import SocketStream

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.options import Address


EVENT = "api_request"
UNREADABLE = "set OTEL_EXPORTER_OTLP_PROTOCOL=http/json and no compression"
LOGS_PATH = b"/v1/logs"
OTHER_PATHS = frozenset({b"/v1/metrics", b"/v1/traces"})
"""Signals that the same client setting may also send; they are acknowledged and ignored."""

LARGEST_BODY = 8 * 2**20
LARGEST_HEADERS = 16 * 2**10
MOST_TOKENS = 10**9
"""Largest count of one request: beyond any context, and the sum of all requests still fits 64 bits."""

YEARS = range(2000, 3000)
"""Years of a request: at the calendar's ends a time has no neighbours to compare it with."""

REQUEST_SECONDS = 30.0
"""Longest time from the first byte of a request to the end of its reply."""

IDLE_SECONDS = 60.0
"""Longest time between two requests on one connection."""

MOST_CONNECTIONS = 32
"""Open connections; when another comes, the one that was silent the longest is closed."""

RETRY_SECONDS = 2.0
"""How long a server waits between attempts to bind an address that is in use."""

_LONGEST_NAME = 200
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """The requests in one export, and the number of events that could not be read."""

    requests: tuple[RequestUsage, ...]
    unread: int


def read_export(body: bytes) -> Export:
    """Parse the ``api_request`` events of an OTLP ``ExportLogsServiceRequest`` in JSON.

    Raises:
        ValueError: the body is not such a request.
    """
    try:
        export: Json = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    requests: list[RequestUsage] = []
    unread = 0
    for record in _records(export):
        attributes = _attributes(record)
        if attributes.get("event.name") != EVENT:
            continue
        try:
            requests.append(_request(attributes))
        except ValueError:
            unread += 1
    return Export(tuple(requests), unread)


def acknowledged(export: Export) -> Json:
    """Return what a client is answered that sent an export, once it is stored."""
    if not export.unread:
        return {}
    message = f"{EVENT} events without a request id, a model, a time or counts"
    return {"partialSuccess": {"rejectedLogRecords": str(export.unread), "errorMessage": message}}


def is_readable(content_type: str, encoding: str) -> bool:
    """Return whether a body of this type and encoding can be read."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" and encoding in {"", "identity"}


def _records(export: Json) -> Iterator[Json]:
    if not isinstance(export, dict):
        raise ValueError("not an object")  # noqa: TRY004  # the content, not an argument
    for resource in _list(export, "resourceLogs"):
        for scope in _list(resource, "scopeLogs"):
            yield from _list(scope, "logRecords")


def _list(value: Json, name: str) -> list[Json]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _attributes(record: Json) -> dict[str, Json]:
    attributes: dict[str, Json] = {}
    for attribute in _list(record, "attributes"):
        if isinstance(attribute, dict):
            name, value = attribute.get("key"), attribute.get("value")
            if isinstance(name, str) and isinstance(value, dict) and len(value) == 1:
                (attributes[name],) = value.values()
    return attributes


def _request(attributes: dict[str, Json]) -> RequestUsage:
    finished = datetime.fromisoformat(_text(attributes, "event.timestamp"))
    if finished.tzinfo is None or finished.year not in YEARS:
        raise ValueError("a timestamp has no time zone, or is out of range")
    return RequestUsage(
        request_id=_text(attributes, "request_id"),
        at=finished.astimezone(UTC),
        model=_text(attributes, "model"),
        counts=TokenCounts(
            _count(attributes, "input_tokens"),
            _count(attributes, "output_tokens"),
            _count(attributes, "cache_creation_tokens"),
            _count(attributes, "cache_read_tokens"),
        ),
        conversation=_name(attributes.get("session.id")),
    )


def _text(attributes: dict[str, Json], name: str) -> str:
    value = _name(attributes.get(name))
    if value is None:
        raise ValueError(f"{name} is not a name")
    return value


def _name(value: Json) -> str | None:
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and is_printable(value):
        return value
    return None


def _count(attributes: dict[str, Json], name: str) -> int:
    value = attributes.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        # OTLP encodes 64-bit numbers as text; Claude Code's exporter does not.
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return value
    raise ValueError(f"{name} is not a count")


Store: TypeAlias = "Callable[[Sequence[RequestUsage]], Awaitable[object]]"


async def serve(address: Address, store: Store) -> None:
    """Receive exports at a loopback address until cancelled.

    Several servers may have the same address: one binds it, the others retry until it is free.

    Args:
        address: where to listen, on a loopback host.
        store: stores requests before they are acknowledged; if it raises ``ImmunosError``, the client
            gets a failure and sends them again.
    """
    is_logged = False
    while True:
        try:
            listener = await anyio.create_tcp_listener(
                local_host=address.host, local_port=address.port
            )
        except OSError as error:
            if not is_logged:
                logger.info("telemetry: %s:%s: %s", address.host, address.port, error.strerror)
            is_logged = True
            await anyio.sleep(RETRY_SECONDS)
            continue
        async with listener:
            await listener.serve(_Connections(store).converse)


class _Connections:
    """The open connections, each in a task whose failure ends that connection only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[_Conversation, anyio.CancelScope] = {}

    async def converse(self, stream: SocketStream) -> None:
        while len(self._open) >= MOST_CONNECTIONS:
            most_silent = min(self._open, key=lambda each: each.heard_at)
            self._open.pop(most_silent).cancel()
        conversation = _Conversation(stream, self._store)
        try:
            with anyio.CancelScope() as scope:
                self._open[conversation] = scope
                await conversation.run()
        except Exception as error:  # noqa: BLE001  # the boundary of a connection
            report_bug("telemetry", error)
        finally:
            self._open.pop(conversation, None)
            with anyio.CancelScope(shield=True):
                await stream.aclose()


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: Json


class _Conversation:
    """One connection of a client: requests and replies in turn, until either side closes it.

    Attributes:
        heard_at: when the client last sent something.
    """

    def __init__(self, stream: SocketStream, store: Store) -> None:
        self.heard_at = anyio.current_time()
        self._stream = stream
        self._store = store
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEADERS)
        self._has_body = True

    async def run(self) -> None:
        """Answer requests until the connection ends, or is silent or slow for too long."""
        try:
            while await self._has_begun():
                is_kept = False
                with anyio.move_on_after(REQUEST_SECONDS):
                    is_kept = await self._answer_one()
                if not is_kept:
                    return
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the client has gone

    async def _has_begun(self) -> bool:
        """Wait for the first bytes of a request."""
        if self._http.trailing_data[0]:
            return True
        with anyio.move_on_after(IDLE_SECONDS):
            await self._receive()
            return True
        return False

    async def _answer_one(self) -> bool:
        """Answer a request; return whether the connection may be used for another."""
        request = await self._next()
        if not isinstance(request, h11.Request):
            return False
        self._has_body = request.method != b"HEAD"
        reply = _refusal(request)
        if reply is None:
            body = await self._body()
            if body is None:
                reply = _Reply(413, {"message": f"more than {LARGEST_BODY} bytes"})
            else:
                reply = await self._reply(request, body)
        await self._send(reply)
        return self._http.our_state is h11.DONE is self._http.their_state

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            with anyio.move_on_after(REQUEST_SECONDS), suppress(anyio.BrokenResourceError):
                await self._send(_Reply(error.error_status_hint, {"message": str(error)}))

    async def _body(self) -> bytes | None:
        body = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
            if len(body) > LARGEST_BODY:
                return None
        return bytes(body)

    async def _reply(self, request: h11.Request, body: bytes) -> _Reply:
        if request.target.partition(b"?")[0] in OTHER_PATHS:
            return _Reply(200, {})
        try:
            export = read_export(body)
        except ValueError as error:
            return _Reply(400, {"message": f"not OTLP logs in JSON: {error}"})
        if export.requests:
            try:
                await self._store(export.requests)
            except ImmunosError as error:
                logger.warning("telemetry: %s", error)
                return _Reply(503, {"message": str(error)})
        return _Reply(200, acknowledged(export))

    async def _next(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                go_ahead = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send(self._http.send(go_ahead) or b"")
            await self._receive()

    async def _receive(self) -> None:
        try:
            received = await self._stream.receive()
        except anyio.EndOfStream:
            received = b""
        self.heard_at = anyio.current_time()
        self._http.receive_data(received)

    async def _send(self, reply: _Reply) -> None:
        body = json.dumps(reply.body, separators=(",", ":")).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        head = self._http.send(h11.Response(status_code=reply.status, headers=headers)) or b""
        sent = b""
        if self._has_body:
            sent = self._http.send(h11.Data(data=body)) or b""
        end = self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send(head + sent + end)


def _refusal(request: h11.Request) -> _Reply | None:
    """Reject requests that are not exports, and requests that a web page may have sent."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
    host = headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if "origin" in headers or name.lower() not in _LOOPBACK_NAMES:
        return _Reply(403, {"message": "only programs on this machine may send telemetry"})
    path = request.target.partition(b"?")[0]
    if path != LOGS_PATH and path not in OTHER_PATHS:
        return _Reply(404, {"message": "send logs to /v1/logs"})
    if request.method != b"POST":
        return _Reply(405, {"message": "use POST"})
    if not is_readable(headers.get("content-type", ""), headers.get("content-encoding", "")):
        return _Reply(415, {"message": UNREADABLE})
    return None
