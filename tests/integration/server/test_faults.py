"""What an unexpected exception does: it ends one call, one task, or the whole process at once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import warm_starts
import wire
from sdk_clients import in_process, text_of
from transcript_lines import Answer, append, transcript

from immunos_mcp.ledger.connections.sqlite import BUSY_TIMEOUT_SECONDS
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_a_bug_in_a_tool_is_a_tool_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_arguments: object, **_named: object) -> None:
        raise ZeroDivisionError("made up\nby a test")

    async with in_process(tmp_path / "ledger.db") as client:
        with monkeypatch.context() as patched:
            patched.setattr(Router, "reset_session", fails)
            result = await client.call_tool("reset_session", {})
        assert result.is_error
        assert text_of(result) == (
            "reset_session: internal error (ZeroDivisionError: made up by a test); this is a bug,"
            " please report it at https://github.com/immunos-mcp/immunos-mcp/issues"
        )
        assert not (await client.call_tool("reset_session", {})).is_error
    (record,) = [each for each in caplog.records if each.name == "immunos_mcp.faults"]
    assert record.exc_info is not None


DYING = """
import sys
from immunos_mcp.server import standard_streams, wire
from immunos_mcp.__main__ import main

def fails(*_arguments):
    raise ZeroDivisionError("made up")

{patch} = fails
main()
"""


@pytest.mark.parametrize(
    "patch",
    ["wire.Wire._send_all", "wire.Wire._run_for", "standard_streams.StandardInput._take"],
)
def test_a_server_that_cannot_go_on_ends_at_once_and_says_why(home: Path, patch: str) -> None:
    program = warm_starts.running(DYING.format(patch=patch))
    with wire.ServerProcess(home, program=program) as server:
        server.post("tools/call", {"name": "get_session_status", "arguments": {}})
        try:
            code = server.process.wait(wire.TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail("the server waits for more input")
        assert code == 1
        assert server.stderr().splitlines()[-1].startswith("immunos-mcp: ")
        assert "this is a bug, please report it at https://github.com/" in server.stderr()


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}',
        b'{"jsonrpc":"2.0","id":9001,"method":"tools/call","params":{"name":"\\udc00"}}',
        b'{"jsonrpc":"2.0","id":9001,"method":"resources/read","params":{"uri":"immunos://\\u0000"}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1]}}',
        b'{"jsonrpc":"2.0","id":9001,"result":{}}',
        b'{"jsonrpc":"2.0","id":[],"error":{}}',
    ],
)
def test_no_line_ends_the_server(home: Path, line: bytes) -> None:
    with wire.ServerProcess(home) as server:
        server.send_line(line)
        server.initialize()
        server.send_line(line)
        assert server.answer("get_session_status")["session"] == "default"
        assert server.finish() == 0


@pytest.mark.slow
def test_a_status_does_not_wait_for_a_write_that_waits_for_another_program(
    home: Path, ledger_file: Path
) -> None:
    log = transcript(home / ".claude" / "projects")
    with wire.ServerProcess(home) as server:
        server.initialize()
        task = {"task_type": "debug", "classification": "routine"}
        server.answer("route_task", **task)
        with closing(sqlite3.connect(ledger_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            append(log, Answer("m1", 7, at=datetime.now(UTC)))
            waiting = server.post_call("route_task", task)
            for _ in range(2):
                assert server.answer("get_session_status")["session_tokens"] == 0
            assert "result" in server.request("resources/read", {"uri": "immunos://status"})
            assert "result" in server.request("resources/read", {"uri": "immunos://config"})
            assert server.heard == []
            other.execute("ROLLBACK")
        assert server.wait_for(waiting)["result"]["structuredContent"]["decision_id"] == 2
        assert server.answer("get_session_status")["session_tokens"] == 7


def test_a_status_on_the_command_line_does_not_wait_for_another_program(
    home: Path, ledger_file: Path
) -> None:
    wire.run_json(home, "route", "--task-type", "debug", "--classification", "routine")
    append(transcript(home / ".claude" / "projects"), Answer("m1", 7, at=datetime.now(UTC)))
    with closing(sqlite3.connect(ledger_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert wire.run_json(home, "status")["session_tokens"] == 0
        assert time.monotonic() - begun < BUSY_TIMEOUT_SECONDS / 2
        other.execute("ROLLBACK")
    assert wire.run_json(home, "status")["session_tokens"] == 7


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_server_whose_answers_nobody_reads_ends_although_its_input_is_open(
    home: Path, is_loaded: bool
) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        if is_loaded:
            server.answer("get_session_status")
        server.stdout.close()
        server.post("ping")
        assert server.process.wait(wire.TIMEOUT_SECONDS) == 0
        assert server.stderr() == ""


def test_a_byte_order_mark_before_the_first_message_is_ignored(home: Path) -> None:
    ping = {"jsonrpc": "2.0", "id": "first", "method": "ping"}
    with wire.ServerProcess(home) as server:
        server.send_line(b"\xef\xbb\xbf" + json.dumps(ping).encode())
        assert server.wait_for("first")["result"] == {}
        assert server.finish() == 0
