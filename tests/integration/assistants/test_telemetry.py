"""Claude Code's OpenTelemetry export: over real HTTP into a real server, and joined with transcripts."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st
from transcript_desks import AFTER, BEFORE, Desk
from transcript_lines import NOON, Answer, append, transcript

from immunos_mcp.assistants.claude_code import telemetry
from immunos_mcp.assistants.claude_code.telemetry import (
    LARGEST_BODY,
    MOST_CONNECTIONS,
    Export,
    read_export,
)
from immunos_mcp.domain import TokenCounts
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.logged_usage import RequestUsage
from immunos_mcp.options import Address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
    from pathlib import Path

HEADERS = {"Content-Type": "application/json"}


def event(name: str = "api_request", /, **attributes: object) -> dict[str, Any]:
    """Spell an event as Claude Code 2.1 does; ``None`` leaves an attribute out."""
    known: dict[str, object] = {
        "session.id": "1ef389d9-662d-4325-8ad8-764702c4841d",
        "event.name": name,
        "event.timestamp": "2026-01-15T12:00:00.000Z",
        "model": "claude-opus-4-8",
        "input_tokens": 10,
        "output_tokens": 50,
        "cache_read_tokens": 15_000,
        "cache_creation_tokens": 2_000,
        "cost_usd": 0.0213,
        "request_id": "req_1",
        "query_source": "generate_session_title",
        **attributes,
    }
    return {
        "timeUnixNano": "1795407737815000000",
        "body": {"stringValue": f"claude_code.{name}"},
        "attributes": [
            {"key": key, "value": spelled(value)}
            for key, value in known.items()
            if value is not None
        ],
        "droppedAttributesCount": 0,
    }


def spelled(value: object) -> dict[str, object]:
    kinds: dict[type, str] = {int: "intValue", float: "doubleValue", bool: "boolValue"}
    return {kinds.get(type(value), "stringValue"): value}


def export(*events: object) -> bytes:
    scope = {"scope": {"name": "com.anthropic.claude_code.events"}, "logRecords": list(events)}
    return json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": [scope]}]}).encode()


CONVERSATION = "1ef389d9-662d-4325-8ad8-764702c4841d"
REQUEST = RequestUsage(
    "req_1", NOON, "claude-opus-4-8", TokenCounts(10, 50, 2_000, 15_000), CONVERSATION
)


def test_an_api_request_is_read_and_other_events_are_not() -> None:
    body = export(event("user_prompt"), event(), event("assistant_response"))
    assert read_export(body) == Export((REQUEST,), unread=0)


def test_numbers_spelled_as_text_count_as_the_protocol_has_it() -> None:
    body = export(event(input_tokens="10", output_tokens="50"))
    assert read_export(body) == Export((REQUEST,), unread=0)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        *((name, None) for name in ("request_id", "model", "input_tokens", "cache_read_tokens")),
        *(("output_tokens", value) for value in (-1, 10**12 + 1, 1.5, True, "x", "", "9" * 30)),
        *(("request_id", value) for value in ("", "x" * 201, 5)),
        *(("event.timestamp", value) for value in ("yesterday", "2026-01-15T12:00:00", 5, None)),
        ("event.timestamp", "0001-01-01T00:00:00+14:00"),
        ("event.timestamp", "9999-12-31T23:59:59-14:00"),
        ("model", "half a pair: \ud800"),
        ("request_id", "\x1b]52;c;aGk=\x07"),
        ("output_tokens", 2**64),
    ],
)
def test_an_event_that_says_too_little_is_counted_as_unread(attribute: str, value: object) -> None:
    body = export(event(), event(**{attribute: value}))
    assert read_export(body) == Export((REQUEST,), unread=1)


nothing: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
json_values = st.recursive(
    nothing,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceLogs", "scopeLogs", "logRecords", "attributes", "key", "value"]
            ),
            inner,
        )
    ),
    max_leaves=25,
)


@given(json_values)
def test_any_json_is_read_or_refused_and_invents_nothing(value: Any) -> None:
    try:
        found = read_export(json.dumps(value).encode())
    except ValueError:
        assert not isinstance(value, dict)
    else:
        assert found == Export((), 0)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"null"])
def test_what_is_no_export_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_export(body)


class Listening:
    """A server that takes in telemetry on a port of its own."""

    def __init__(self, home: Path) -> None:
        with closing(socket.socket()) as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.home = home
        self.server = wire.ServerProcess(home, "--telemetry", f"127.0.0.1:{self.port}")

    def __enter__(self) -> Self:
        self.server.initialize()
        deadline = time.monotonic() + wire.TIMEOUT_SECONDS
        while True:
            try:
                with closing(socket.create_connection(("127.0.0.1", self.port))):
                    return self
            except ConnectionRefusedError:
                assert time.monotonic() < deadline

    def __exit__(self, *_exception: object) -> None:
        if self.server.process.poll() is None:
            assert self.server.finish() == 0
        self.server.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=wire.TIMEOUT_SECONDS)

    def post(
        self,
        body: bytes | Iterator[bytes],
        path: str = "/v1/logs",
        method: str = "POST",
        **headers: str,
    ) -> tuple[int, Any]:
        with closing(self.connection()) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**HEADERS, **named})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Generator[Listening]:
    with Listening(tmp_path_factory.mktemp("home")) as made:
        made.server.answer("route_task", task_type="x", classification="creative")
        yield made


def soon() -> str:
    return (datetime.now(UTC) + timedelta(minutes=1)).isoformat()


def test_a_chunked_export_counts_once_before_it_is_acknowledged(listening: Listening) -> None:
    before = listening.server.answer("get_session_status")["session_tokens"]
    body = export(event(request_id="req_chunked", **{"event.timestamp": soon()}))
    status: dict[str, Any] = {}
    for _ in range(2):
        pieces = iter([body[:7], body[7:100], body[100:]])
        assert listening.post(pieces) == (200, {})
        status = listening.server.answer("get_session_status")
        assert status["session_tokens"] - before == 2_060
    assert status["side_request_tokens"] == status["measured_tokens"]


def test_several_exports_go_over_one_connection(listening: Listening) -> None:
    with closing(listening.connection()) as connection:
        for path in ("/v1/logs", "/v1/metrics", "/v1/traces", "/v1/logs?x=1"):
            connection.request("POST", path, export(), HEADERS)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"{}")


def test_events_that_could_not_be_read_are_named_to_the_sender(listening: Listening) -> None:
    status, answer = listening.post(export(event(request_id=None)))
    assert (status, answer["partialSuccess"]["rejectedLogRecords"]) == (200, "1")


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/v1/logs", "POST", {"Origin": "http://example.com"}, 403),
        ("/v1/logs", "POST", {"Host": "example.com:4318"}, 403),
        ("/v1/logs", "POST", {"Content_Type": "text/plain"}, 415),
        ("/v1/logs", "POST", {"Content_Type": "application/x-protobuf"}, 415),
        ("/v1/logs", "POST", {"Content_Encoding": "gzip"}, 415),
        ("/v1/logs", "PUT", {}, 405),
        ("/", "POST", {}, 404),
    ],
)
def test_what_is_no_export_of_this_machine_is_refused(
    listening: Listening, path: str, method: str, headers: dict[str, str], status: int
) -> None:
    body = export(event(request_id="req_refused", **{"event.timestamp": soon()}))
    answered, answer = listening.post(body, path, method, **headers)
    assert (answered, set(answer)) == (status, {"message"})
    stored = "SELECT 1 FROM immunos_mcp_request_usage WHERE request_id = 'req_refused'"
    assert wire.rows(wire.ledger_path(listening.home), stored) == []


def test_a_broken_body_is_refused_with_words(listening: Listening) -> None:
    assert listening.post(b"{")[0] == 400


def test_a_body_that_is_too_large_is_refused_and_the_next_one_taken(listening: Listening) -> None:
    with closing(listening.connection()) as connection:
        connection.putrequest("POST", "/v1/logs")
        for name, value in HEADERS.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(2 * LARGEST_BODY))
        connection.endheaders()
        connection.send(b" " * (LARGEST_BODY + 1))
        assert connection.getresponse().status == 413
    assert listening.post(export()) == (200, {})


@pytest.mark.parametrize("noise", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"x" * 70_000])
def test_noise_is_answered_or_dropped_and_the_server_goes_on(
    listening: Listening, noise: bytes
) -> None:
    with closing(socket.create_connection(("127.0.0.1", listening.port))) as raw:
        raw.settimeout(wire.TIMEOUT_SECONDS)
        raw.sendall(noise)
        raw.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert raw.recv(100).startswith(b"HTTP/1.1 4")
    assert listening.post(export()) == (200, {})


@pytest.mark.parametrize(
    "request_line",
    [
        b"HEAD /v1/logs HTTP/1.1\r\n",
        b"HEAD / HTTP/1.0\r\n",
        b"CONNECT 127.0.0.1:4318 HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"TRACE /v1/logs HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
        b"POST /v1/logs HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n",
        b"POST /v1/logs HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n",
    ],
)
def test_a_request_of_any_method_is_answered_and_the_server_goes_on(
    listening: Listening, request_line: bytes
) -> None:
    with closing(socket.create_connection(("127.0.0.1", listening.port))) as raw:
        raw.settimeout(wire.TIMEOUT_SECONDS)
        raw.sendall(request_line + b"Host: 127.0.0.1\r\n\r\n")
        raw.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: raw.recv(1000), b""))
    assert received.startswith(b"HTTP/1.1 ")
    assert b"\r\n\r\n{" not in received or not request_line.startswith(b"HEAD")
    assert listening.post(export()) == (200, {})
    assert listening.server.answer("get_session_status")["session"] == "default"
    assert listening.server.stderr() == ""


def test_idle_connections_make_room_for_a_request(listening: Listening) -> None:
    idle = [
        socket.create_connection(("127.0.0.1", listening.port)) for _ in range(MOST_CONNECTIONS + 8)
    ]
    try:
        for _ in range(3):
            assert listening.post(export()) == (200, {})
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", b"POST /v1/logs HTTP/1.1\r\n"], ids=["nothing", "half"])
async def test_a_silent_connection_is_closed_in_time(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(telemetry, "REQUEST_SECONDS", 0.05)
    async with _serving(_no_store) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(sent)
        with anyio.fail_after(wire.TIMEOUT_SECONDS), pytest.raises(anyio.EndOfStream):
            await stream.receive()


@pytest.mark.anyio
async def test_an_unexpected_exception_ends_its_connection_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored: list[object] = []

    async def fails_once(requests: Sequence[RequestUsage]) -> None:
        stored.append(requests)
        if len(stored) == 1:
            raise ArithmeticError("made up")

    body = export(event())
    head = f"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    async with _serving(fails_once) as port:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(head.encode() + body)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(head.encode() + body)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "telemetry: internal error (ArithmeticError: made up)" in record.getMessage()


@asynccontextmanager
async def _serving(store: telemetry.Store) -> AsyncGenerator[int]:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(telemetry.serve, Address("127.0.0.1", port), store)
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            while True:
                with suppress(OSError):
                    async with await anyio.connect_tcp("127.0.0.1", port):
                        break
                await anyio.lowlevel.checkpoint()
        yield port
        tasks.cancel_scope.cancel()


async def _no_store(_requests: Sequence[RequestUsage]) -> None:
    raise AssertionError("nothing was sent")


@pytest.mark.slow
def test_a_second_server_takes_over_when_the_first_one_ends(tmp_path: Path) -> None:
    with Listening(tmp_path) as first:
        second = wire.ServerProcess(tmp_path, "--telemetry", f"127.0.0.1:{first.port}")
        with second:
            second.initialize()
            second.answer("route_task", task_type="x", classification="creative")
            assert first.post(export()) == (200, {})
            assert first.server.finish() == 0
            deadline = time.monotonic() + wire.TIMEOUT_SECONDS
            while True:
                try:
                    assert first.post(export(event(**{"event.timestamp": soon()}))) == (200, {})
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                else:
                    break
            assert second.answer("get_session_status")["session_tokens"] == 2_060
            assert second.finish() == 0


def test_a_ledger_that_cannot_be_used_makes_the_sender_keep_its_events(tmp_path: Path) -> None:
    with Listening(tmp_path) as listening:
        file = wire.ledger_path(tmp_path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"no ledger" * 1000)
        status, answer = listening.post(export(event()))
        assert status == 503
        assert "not a SQLite database" in answer["message"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.begin()
    made.now = AFTER
    yield made
    made.ledger.close()


def tell(desk: Desk, request_id: str, tokens: int, at: datetime = NOON) -> int:
    told = RequestUsage(request_id, at, "claude-opus-4-8", TokenCounts(tokens))
    return run_sync(desk.router.record_requests([told]))


@pytest.mark.parametrize("first", ["telemetry", "transcript"])
@pytest.mark.parametrize(("told", "written"), [(40, 40), (40, 1), (1, 40)])
def test_a_request_that_both_sources_have_counts_once_with_the_larger_numbers(
    desk: Desk, first: str, told: int, written: int
) -> None:
    def write() -> None:
        append(transcript(desk.projects), Answer("m1", written))
        desk.status()

    if first == "transcript":
        write()
    tell(desk, "req_m1", told)
    if first == "telemetry":
        assert desk.status().side_request_tokens == told
        write()
    status = desk.status()
    assert (status.session_tokens, status.side_request_tokens) == (max(told, written), None)
    assert tell(desk, "req_m1", told) == 0
    assert desk.tokens() == max(told, written)
    (summary,) = run_sync(desk.archive.list_sessions(1, None))
    assert summary.usage_records == 1


def test_a_request_that_no_transcript_has_counts_by_itself_and_is_shown(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 100))
    assert [tell(desk, "req_title", 7), tell(desk, "req_title", 7)] == [1, 0]
    status = desk.status()
    assert (status.session_tokens, status.measured_tokens) == (107, 107)
    assert status.side_request_tokens == 7


def test_a_request_from_before_the_session_counts_nowhere(desk: Desk) -> None:
    tell(desk, "req_old", 7, at=BEFORE - timedelta(seconds=1))
    assert (desk.tokens(), desk.status().side_request_tokens) == (0, None)


def test_a_session_of_one_project_counts_a_request_once_its_transcript_tells_the_project(
    desk: Desk,
) -> None:
    for name, folder in (("shop", "/home/dev/shop"), ("blog", "/home/dev/blog")):
        run_sync(desk.router.bindings.add(folder, name))
        desk.now = BEFORE
        desk.begin(name)
        desk.now = AFTER
    tell(desk, "req_m1", 40)
    assert (desk.tokens(), desk.tokens("shop"), desk.tokens("blog")) == (40, 0, 0)
    append(transcript(desk.projects), Answer("m1", 40, cwd="/home/dev/shop"))
    assert (desk.tokens(), desk.tokens("shop"), desk.tokens("blog")) == (40, 40, 0)


@pytest.mark.slow
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 50)), min_size=1, max_size=12
    )
)
def test_both_sources_in_any_order_give_the_largest_of_each_request(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int]]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.begin()
    desk.now = AFTER
    largest: dict[int, int] = {}
    reported: dict[int, int] = {}
    for is_told, request, tokens in steps:
        if is_told:
            # An event is sent once; a repeat of it never has other numbers.
            told = reported.setdefault(request, tokens)
            tell(desk, f"req_m{request}", told)
            largest[request] = max(largest.get(request, 0), told)
        else:
            append(transcript(desk.projects), Answer(f"m{request}", tokens))
            desk.status()
            largest[request] = max(largest.get(request, 0), tokens)
    assert desk.tokens() == sum(largest.values())
    desk.ledger.close()
