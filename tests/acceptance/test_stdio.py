"""The wire of the real server: lines that are no messages, and how the server ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import wire

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602

TASK = {"task_type": "debug", "classification": "routine"}

pytestmark = pytest.mark.usefixtures("programs_start_at_once")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[wire.ServerProcess]:
    with wire.ServerProcess(tmp_path_factory.mktemp("home")) as process:
        process.initialize()
        yield process


@pytest.fixture
def own_server(home: Path) -> Generator[wire.ServerProcess]:
    with wire.ServerProcess(home) as process:
        process.initialize()
        yield process


def still_serves(server: wire.ServerProcess) -> None:
    """Check that the next answer is the next request's: nothing else was said in between."""
    before = len(server.heard)
    assert server.answer("get_session_status")["session"] == "default"
    assert server.heard[before:] == []


def call_line(number: int, arguments: bytes) -> bytes:
    return (
        b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"route_task",'
        b'"arguments":%b}}' % (number, arguments)
    )


UNPARSABLE = {
    "half an object": (b"{", None),
    "an object cut short": (b'{"jsonrpc":"2.0","id":9001,"method":"ping"', 9001),
    "words": (b"hello there", None),
    "invalid UTF-8": (b"\xff\xfe\x00", None),
    "single quotes": (b"{'id': 9002}", None),
    "a trailing comma": (b'{"jsonrpc":"2.0","id":"a-9003","method":"ping",}', "a-9003"),
    "two messages on a line": (b'{"id":9004} {"id":9005}', 9004),
    "a high surrogate alone": (
        call_line(9006, b'{"task_type":"\\ud800","classification":"routine"}'),
        9006,
    ),
    "a low surrogate alone": (
        call_line(9007, b'{"task_type":"a\\udc00b","classification":"routine"}'),
        9007,
    ),
    "a control character in a string": (b'{"id":9008,"method":"a\x00b"}', 9008),
    "brackets beyond any depth": (b"[" * 100_000, None),
    "a number of five thousand digits": (b'{"id":9009,"method":1' + b"0" * 5000 + b"}", 9009),
}


@pytest.mark.parametrize(
    ("line", "request_id"), UNPARSABLE.values(), ids=lambda value: str(value)[:20]
)
def test_a_line_that_is_no_json_is_answered_with_a_parse_error(
    server: wire.ServerProcess, line: bytes, request_id: int | str | None
) -> None:
    server.send_line(line)
    answer = server.receive()
    assert answer["error"].pop("message").startswith("Parse error: ")
    assert answer == {"jsonrpc": "2.0", "id": request_id, "error": {"code": PARSE_ERROR}}
    still_serves(server)


@pytest.mark.parametrize(
    "line",
    [b"", b"   ", b"\r", b"\t", b'{"jsonrpc":"2.0","method":"notifications/unheard_of"}'],
    ids=["empty", "blanks", "carriage return", "tab", "unknown notification"],
)
def test_a_line_that_asks_nothing_is_passed_over(server: wire.ServerProcess, line: bytes) -> None:
    server.send_line(line)
    still_serves(server)


@pytest.mark.parametrize(
    "line", [b"[]", b"42", b'"text"', b"null", b"true", b"{}", b"NaN", b"[1, 2]"]
)
def test_a_line_that_is_json_but_no_message_does_not_end_the_server(
    server: wire.ServerProcess, line: bytes
) -> None:
    server.send_line(line)
    assert server.answer("get_session_status")["session"] == "default"
    server.heard.clear()


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 7001, "method": 5},
        {"jsonrpc": "1.0", "id": 7001, "method": "ping"},
        {"id": 7001, "method": "ping"},
        {"jsonrpc": "2.0", "id": 7001, "method": "tools/call", "params": [1]},
        {"jsonrpc": "2.0", "id": 7001, "method": "tools/call", "params": "text"},
    ],
    ids=["method", "version", "no version", "params as a list", "params as text"],
)
def test_a_message_with_an_id_that_is_no_request_is_answered_as_invalid(
    server: wire.ServerProcess, message: wire.JsonObject
) -> None:
    server.send(message)
    # It may come after the answer to a later request.
    assert server.wait_for(7001)["error"]["code"] in {INVALID_REQUEST, INVALID_PARAMS}
    assert server.request("ping")["result"] == {}
    assert server.heard == []


def test_an_unknown_method_is_answered_with_an_error(server: wire.ServerProcess) -> None:
    assert server.request("no/such/method")["error"]["code"] == METHOD_NOT_FOUND
    still_serves(server)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": 5},
        {"name": "route_task", "arguments": [1]},
        {"name": "route_task", "arguments": "text"},
        {"name": "no_such_tool", "arguments": {}},
        {"name": "", "arguments": {}},
        {"name": "route_task\n", "arguments": TASK},
    ],
)
def test_a_call_that_is_none_is_answered_as_invalid(
    server: wire.ServerProcess, params: wire.JsonObject
) -> None:
    assert server.request("tools/call", params)["error"]["code"] == INVALID_PARAMS
    still_serves(server)


def test_requests_sent_all_at_once_are_all_answered(server: wire.ServerProcess) -> None:
    before = server.answer("get_session_status")["decisions"].get("task_optimized", 0)
    ids = [server.post_call("route_task", TASK) for _ in range(50)]
    answers = [server.receive() for _ in ids]
    assert sorted(answer["id"] for answer in answers) == ids
    decided = {answer["result"]["structuredContent"]["decision_id"] for answer in answers}
    assert len(decided) == 50
    assert server.answer("get_session_status")["decisions"] == {"task_optimized": before + 50}


def test_a_line_of_ten_megabytes_is_read(server: wire.ServerProcess) -> None:
    text = server.refusal("route_task", task_type="x" * 10_000_000, classification="routine")
    assert text.startswith("task_type: must be a task type of 1 to 64 printable")
    assert len(text) < 200
    still_serves(server)


def test_text_outside_ascii_goes_both_ways_whatever_the_locale(home: Path) -> None:
    name = "größe 日本 🦉"
    with wire.ServerProcess(home, variables={"LC_ALL": "C", "PYTHONUTF8": "0"}) as server:
        server.initialize()
        line = {"name": "get_session_status", "arguments": {"session": name}}
        number = server.post("ping")
        server.send_line(
            json.dumps(
                {"jsonrpc": "2.0", "id": 500, "method": "tools/call", "params": line},
                ensure_ascii=False,
            ).encode()
        )
        server.wait_for(number)
        assert server.wait_for(500)["result"]["structuredContent"]["session"] == name


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("state", ["idle", "used", "subscribed", "listening to nobody"])
def test_a_signal_ends_the_server_at_once_and_silently_with_its_input_open(
    home: Path, name: str, state: str
) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        if state != "idle":
            server.answer("route_task", **TASK)
        if state == "subscribed":
            server.request("resources/subscribe", {"uri": "immunos://status"})
        if state == "listening to nobody":
            server.stdout.close()
            server.post("ping")
        sent = time.monotonic()
        server.process.send_signal(signal.Signals[name])
        code = server.process.wait(wire.TIMEOUT_SECONDS)
        assert time.monotonic() - sent < 1
        assert (code, server.stderr()) == (-signal.Signals[name], "")
    if state == "used":
        assert wire.rows(wire.ledger_path(home), "SELECT count(*) FROM immunos_mcp_decision") == [
            (1,)
        ]


def test_closing_its_input_ends_the_server_with_0(own_server: wire.ServerProcess) -> None:
    own_server.answer("route_task", **TASK)
    assert (own_server.finish(), own_server.stderr()) == (0, "")
    with pytest.raises(wire.ServerGoneError):
        own_server.receive()


def test_input_that_closes_while_calls_are_under_way_loses_nothing_that_was_answered(
    home: Path, own_server: wire.ServerProcess
) -> None:
    ids = [own_server.post_call("route_task", TASK) for _ in range(200)]
    answers = [own_server.receive() for _ in range(20)]
    own_server.stdin.close()
    with suppress(wire.ServerGoneError):
        while True:
            answers.append(own_server.receive())
    assert (own_server.process.wait(wire.TIMEOUT_SECONDS), own_server.stderr()) == (0, "")
    assert {answer["id"] for answer in answers} <= set(ids)
    results = [answer["result"] for answer in answers if "result" in answer]
    answered = {result["structuredContent"]["decision_id"] for result in results}
    assert len(results) >= 20
    stored = wire.rows(wire.ledger_path(home), "SELECT decision_id FROM immunos_mcp_decision")
    assert len(answered) == len(results)
    assert answered <= {decision_id for (decision_id,) in stored}
    wire.assert_sound(wire.ledger_path(home))


def test_a_client_that_goes_away_while_subscribed_leaves_no_traceback(
    own_server: wire.ServerProcess,
) -> None:
    own_server.request("resources/subscribe", {"uri": "immunos://status"})
    own_server.post_call("route_task", TASK)
    own_server.stdout.close()
    own_server.post_call("route_task", TASK)
    own_server.post("ping")
    assert (own_server.finish(), own_server.stderr()) == (0, "")


def test_closing_its_output_gives_no_traceback(own_server: wire.ServerProcess) -> None:
    own_server.answer("route_task", **TASK)
    own_server.stdout.close()
    for _ in range(3):
        own_server.post_call("route_task", TASK)
    own_server.send_line(b"no json")
    assert (own_server.finish(), own_server.stderr()) == (0, "")


def test_input_that_is_closed_before_anything_was_said_ends_the_server_with_0(home: Path) -> None:
    done = wire.run(home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []


def test_requests_that_are_piped_in_are_all_answered_before_the_program_ends(home: Path) -> None:
    call = {"name": "route_task", "arguments": {"task_type": "debug", "classification": "routine"}}
    messages: list[wire.JsonObject] = [
        {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": wire.HANDSHAKE_VERSION,
                "capabilities": {},
                "clientInfo": wire.CLIENT_INFO,
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        *({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": call} for n in range(1, 9)),
    ]
    done = subprocess.run(
        wire.PROGRAM,
        input="".join(f"{json.dumps(message)}\n" for message in messages),
        env=wire.environment(home),
        capture_output=True,
        encoding="utf-8",
        timeout=wire.TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(json.loads(line)["id"] for line in done.stdout.splitlines()) == list(range(9))
