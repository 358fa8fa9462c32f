"""The server over HTTP, met by the official client in both eras, and by hostile senders."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import wire
from http_servers import (
    ANYWHERE,
    asking,
    client_of,
    connected,
    put_a_folder_in_place_of,
    serving,
)
from sdk_clients import ERAS, answer, read_json

from immunos_mcp.cli import program
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.http import connection, guards, options
from immunos_mcp.http import serving as serving_module
from immunos_mcp.router import Router

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from sdk_clients import Era

pytestmark = pytest.mark.anyio

TASK = {"task_type": "debug", "classification": "routine"}
TOOLS = ["route_task", "record_usage", "get_session_status", "reset_session", "update_config"]


@ERAS
async def test_a_client_calls_the_tools_and_reads_the_resources(
    ledger_file: Path, era: Era
) -> None:
    async with serving(ledger_file) as served, connected(served.url, era) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
        routed = await answer(client, "route_task", **TASK)
        assert routed["model"] == "qwen2.5-coder:7b"
        status = await answer(client, "get_session_status")
        assert status["decisions"] == {"task_optimized": 1}
        assert (await read_json(client, "immunos://status"))["decisions"] == {"task_optimized": 1}
        assert "session_limit" in await read_json(client, "immunos://config")


async def test_only_the_newer_era_is_offered_subscriptions(ledger_file: Path) -> None:
    eras: tuple[tuple[Era, bool], ...] = (("legacy", False), ("auto", True))
    async with serving(ledger_file) as served:
        for era, offered in eras:
            async with connected(served.url, era) as client:
                assert client.server_capabilities.resources is not None
                assert bool(client.server_capabilities.resources.subscribe) is offered


async def test_a_client_of_the_newer_era_hears_of_a_change_that_another_process_made(
    ledger_file: Path, home: Path
) -> None:
    async with (
        serving(ledger_file) as served,
        connected(served.url, "auto") as client,
        client.listen(resource_subscriptions=["immunos://status"]) as changes,
    ):
        await anyio.to_thread.run_sync(
            lambda: wire.run_json(
                home, "record", "--model", "claude-x", "--input", "5", "--output", "0"
            )
        )
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            changed: Any = await anext(aiter(changes))
        assert changed.uri == "immunos://status"


async def test_a_client_without_a_handshake_is_known_by_its_user_agent(ledger_file: Path) -> None:
    change = asking("tools/call", name="update_config", arguments={"session_limit": 300_000})
    async with (
        serving(ledger_file) as served,
        client_of(served.url, user_agent="claude-code/2.1.332 (cli)") as client,
    ):
        assert (await client.post("/mcp", json=change)).status_code == 200
    (row,) = wire.rows(ledger_file, "SELECT DISTINCT client FROM immunos_mcp_setting_change")
    assert row == ("claude-code 2.1.332",)


HOSTILE: list[tuple[str, dict[str, str], bytes, int]] = [
    ("POST", {"host": "evil.example"}, b"{}", 421),
    ("POST", {"host": "evil.example:4780"}, b"{}", 421),
    ("POST", {"host": "127.0.0.1.evil.example"}, b"{}", 421),
    ("POST", {"host": "127.0.0.1@evil.example"}, b"{}", 421),
    ("POST", {"host": "[::1"}, b"{}", 421),
    ("POST", {"host": "\xff"}, b"{}", 421),
    ("POST", {"origin": "https://evil.example"}, b"{}", 403),
    ("POST", {"origin": "null"}, b"{}", 403),
    ("POST", {"origin": "http://localhost.evil.example"}, b"{}", 403),
    ("POST", {"content-type": "text/plain"}, b"{}", 400),
    ("POST", {"content-type": "application/x-www-form-urlencoded"}, b"a=b", 400),
    ("POST", {"accept": "text/html"}, b"{}", 406),
    ("POST", {}, b"", 400),
    ("POST", {}, b"{", 400),
    ("POST", {}, b"[]", 400),
    ("POST", {}, b"null", 400),
    ("POST", {}, b"\xff\xfe", 400),
    ("POST", {}, b"[" * 100_000, 400),
    ("POST", {}, b'{"jsonrpc":"2.0","id":' + b"9" * 10_000 + b',"method":"ping"}', 400),
    (
        "POST",
        {"mcp-protocol-version": "1999-01-01"},
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        400,
    ),
    (
        "POST",
        {"mcp-protocol-version": "2026-07-28"},
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        400,
    ),
    ("POST", {}, b" " * (guards.LARGEST_BODY + 1), 413),
    ("GET", {"accept": "text/event-stream"}, b"", 405),
    ("DELETE", {"mcp-session-id": "1"}, b"", 405),
    ("PUT", {}, b"{}", 405),
    ("OPTIONS", {"origin": "https://evil.example"}, b"", 403),
]


async def test_hostile_requests_are_refused_and_the_next_one_is_answered(ledger_file: Path) -> None:
    async with serving(ledger_file) as served, client_of(served.url) as client:
        for method, headers, body, status in HOSTILE:
            latin = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
            refused = await client.request(method, "/mcp", headers=latin, content=body)
            assert refused.status_code == status, (method, headers, body[:40])
            assert "Traceback" not in refused.text
        assert (await client.post("/mcp", json=asking("ping"))).json()["result"] == {}
        assert (await client.get("/nothing")).status_code == 404
        far = await client.get("/report", params={"since": "9999-12-31T23:59-14:00"})
        assert far.status_code == 400


SMUGGLED = [
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
    (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        400,
    ),
    (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    (
        b"POST http://evil.example/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        404,
    ),
    (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000, 400),
    (b"A" * 60_000 + b" /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
]


async def test_smuggled_requests_are_refused_and_leave_no_text_of_theirs_in_the_log(
    ledger_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immunos_mcp.http.requests")
    open_to_all = ANYWHERE._replace(is_behind_proxy=True)
    async with serving(ledger_file, open_to_all) as served:
        for sent, status in SMUGGLED:
            assert await answered(served.url, sent) == status, sent[:80]
        async with client_of(served.url, x_forwarded_for="\x1bevil" * 1000) as client:
            assert (await client.post("/mcp", json=asking("ping"))).status_code == 200
    fields: list[dict[str, object]] = [
        vars(each)["fields"] for each in caplog.records if each.message == "request"
    ]
    assert [(each["method"], each["from"]) for each in fields[-2:]] == [
        ("other", "127.0.0.1"),
        ("POST", "other"),
    ]


async def answered(url: str, sent: bytes) -> int:
    """Return the status that bytes are answered with."""
    async with await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2])) as stream:
        await stream.send(sent)
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            return int((await stream.receive()).split()[1])


async def test_idle_connections_make_room_for_others(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immunos_mcp.http.serving.MOST_CONNECTIONS", 4)
    async with serving(ledger_file) as served, AsyncExitStack() as idle:
        port = int(served.url.rpartition(":")[2])
        for _ in range(8):
            stream = await idle.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await stream.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")


def inputs_of(test: object) -> int:
    """Return how many inputs a test tries, for the table of faults."""
    many: dict[object, int] = {
        test_hostile_requests_are_refused_and_the_next_one_is_answered: len(HOSTILE) + 1,
        test_smuggled_requests_are_refused_and_leave_no_text_of_theirs_in_the_log: len(SMUGGLED),
    }
    return many.get(test, 1)


async def test_a_bug_is_told_as_one_without_its_traceback(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(ledger_file) as served, client_of(served.url) as client:
        monkeypatch.setattr("immunos_mcp.router.Router.decide_task", None)
        call = asking("tools/call", name="route_task", arguments=TASK)
        result = (await client.post("/mcp", json=call)).json()["result"]
    assert result["isError"] is True
    assert "please report it" in result["content"][0]["text"]


async def test_a_sender_that_is_too_slow_is_let_go(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.05)
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.05)
    slow_body = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{"
    async with serving(ledger_file) as served:
        for sent, heard in (
            (b"", b""),
            (b"POST /mcp HTTP/1.1\r\nHost: ", b""),
            (slow_body, b"408"),
        ):
            async with await anyio.connect_tcp(
                "127.0.0.1", int(served.url.rpartition(":")[2])
            ) as stream:
                await stream.send(sent)
                received = b""
                with anyio.fail_after(wire.TIMEOUT_SECONDS):
                    async for part in stream:
                        received += part
                assert received.startswith(b"HTTP/1.1 " + heard if heard else b"")
                assert bool(received) is bool(heard)


async def test_probes_may_come_by_any_name_and_the_log_says_why_the_ledger_cannot_be_used(
    ledger_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "immunos_mcp.http.requests")
    async with (
        serving(ledger_file) as served,
        client_of(served.url, host="10.0.0.7:4780") as client,
    ):
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).json() == {"status": "ok"}
        put_a_folder_in_place_of(ledger_file)
        broken = await client.get("/readyz")
        assert broken.status_code == 503
        assert str(ledger_file) not in broken.text
        assert (await client.get("/healthz")).status_code == 200
        named = {"host": served.url.removeprefix("http://")}
        call = asking("tools/call", name="route_task", arguments=TASK)
        assert (await client.post("/mcp", json=call, headers=named)).json()["result"]["isError"]
    faults = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    reason = f"ledger {ledger_file} "
    assert [each[: each.index(reason)] for each in faults] == ["not ready: ", "route_task: "]
    fields: dict[str, object] = vars(caplog.records[-1])["fields"]
    assert (fields["tool"], fields["status"], fields["failed"]) == ("route_task", 200, True)


async def test_an_answer_is_not_kept_until_the_client_confirms_its_headers(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []

    class Connection(connection.TimedConnection):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
            super().connection_made(transport)
            connected = transport.get_extra_info("socket")
            at_once.append(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(serving_module, "TimedConnection", Connection)
    async with serving(ledger_file) as served, client_of(served.url) as client:
        await client.get("/healthz")
    assert at_once == [1]


async def test_metrics_count_requests_and_calls(ledger_file: Path) -> None:
    async with serving(ledger_file) as served, client_of(served.url) as client:
        for arguments in (TASK, {}):
            call = asking("tools/call", name="route_task", arguments=arguments)
            await client.post("/mcp", json=call)
        await client.post("/mcp", json=asking("tools/call", name="made up", arguments={}))
        await client.get("/made/up")
        figures = (await client.get("/metrics")).text.splitlines()
    for failed, count in (("no", "1.0"), ("yes", "1.0")):
        of_call = f'failed="{failed}",method="tools/call",team="",tool="route_task"'
        assert f"immunos_mcp_calls_total{{{of_call}}} {count}" in figures
    assert 'immunos_mcp_request_seconds_count{path="/mcp",status="200",team=""} 3.0' in figures
    assert 'immunos_mcp_request_seconds_count{path="other",status="404",team=""} 1.0' in figures
    assert not any("made" in line for line in figures)


async def test_at_a_signal_requests_under_way_are_answered_first(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_end = anyio.Event(), anyio.Event()
    original = Router.get_session_status

    async def slow(router: Router, session: str | None = None) -> object:
        began.set()
        await may_end.wait()
        return await original(router, session)

    monkeypatch.setattr(Router, "get_session_status", slow)
    answers: list[wire.JsonObject] = []

    async def ask(url: str) -> None:
        async with client_of(url) as client:
            call = asking("tools/call", name="get_session_status", arguments={})
            answers.append((await client.post("/mcp", json=call)).json())

    async with (
        serving(ledger_file) as served,
        connected(served.url, "auto") as listener,
        listener.listen(resource_subscriptions=["immunos://status"]) as changes,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ask, served.url)
        await began.wait()
        served.end()
        assert [change async for change in changes] == []
        assert answers == []
        may_end.set()
    assert answers[0]["result"]["isError"] is False


async def test_at_a_signal_a_request_that_a_proxy_has_just_sent_is_answered(
    ledger_file: Path,
) -> None:
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serving(ledger_file, ANYWHERE._replace(is_behind_proxy=True)) as served:
        port = int(served.url.rpartition(":")[2])
        async with await anyio.connect_tcp("127.0.0.1", port) as kept:
            await kept.send(asked)
            assert b"close" not in (await kept.receive()).lower()
            served.end()
            with suppress(OSError):
                while True:
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
            await kept.send(asked)
            answer = (await kept.receive()).lower()
            assert answer.startswith(b"http/1.1 200")
            assert b"connection: close" in answer


def test_the_program_says_where_it_serves_and_logs_requests_as_json_without_secrets(
    home: Path,
) -> None:
    command = [*wire.PROGRAM, "serve", "--http", "127.0.0.1:0", "--no-tokens"]
    with subprocess.Popen(
        command, env=wire.environment(home), stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        try:
            told = process.stderr.readline().strip()
            url = told.removeprefix("immunos-mcp: serving MCP at ").removesuffix("/mcp")
            anyio.run(_call_with_secrets, url)
            line = json.loads(process.stderr.readline())
        finally:
            process.kill()
    assert {**line, "at": "", "milliseconds": 0} == {
        "at": "",
        "level": "info",
        "event": "request",
        "method": "POST",
        "path": "/mcp",
        "status": 200,
        "milliseconds": 0,
        "call": "tools/call",
        "tool": "route_task",
        "from": "127.0.0.1",
    }


async def _call_with_secrets(url: str) -> None:
    call = asking("tools/call", name="route_task", arguments=TASK)
    async with client_of(url, authorization="Bearer secret") as client:
        sent = await client.post("/mcp?token=secret", json=call, headers={"cookie": "token=secret"})
        assert sent.status_code == 200


REFUSED = [
    ((), "--http: is required"),
    (("--http", "here"), "--http: must be an address and a port"),
    (("--http", "127.0.0.1:99999"), "--http: must be an address and a port"),
    (("--http", "0.0.0.0:0"), "0.0.0.0 can be reached from elsewhere and needs --certificate"),
    (("--http", "[::]:0"), ":: can be reached from elsewhere"),
    (("--http", "0.0.0.0:0", "--behind-proxy"), "--allowed-host: is required here"),
    (
        ("--http", "127.0.0.1:0", "--behind-proxy", "--allowed-host", "a", "--no-tokens"),
        "--no-tokens: cannot be used here",
    ),
    (("--http", "127.0.0.1:0", "--allowed-host", "https://a"), "--allowed-host: must be a host"),
    (("--http", "127.0.0.1:0", "--key", "k.pem"), "--key: needs --certificate"),
    (("--http", "127.0.0.1:0", "--certificate", "c.pem"), "/c.pem cannot be read (No such file"),
    (("--http", "127.0.0.1:0", "--certificate", __file__), f"without a password ({__file__}: "),
    (
        ("--http", "127.0.0.1:0", "--certificate", __file__, "--key", "k.pem"),
        "/k.pem cannot be read (No such file",
    ),
    (("--http", "127.0.0.1:0", "--rate-limit", "many"), "--rate-limit: must be a whole number"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_would_open_the_server_further_than_was_said_is_refused(
    arguments: tuple[str, ...], words: str
) -> None:
    given = program.parse(["serve", *arguments])
    with pytest.raises(InvalidInputError, match=re.escape(words)):
        options.read({}, vars(given))


def test_an_address_that_is_taken_is_told_in_words(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = wire.run(home, "serve", "--http", address, "--no-tokens")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"immunos-mcp: cannot listen at {address}: Address already in use\n"
