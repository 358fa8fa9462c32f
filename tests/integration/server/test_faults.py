"""What an unexpected exception does: it ends one call, one task, or the whole process at once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import wire
from sdk_clients import in_process, text_of

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
            "reset_session failed because of a bug in immunos-mcp"
            " (ZeroDivisionError: 'made up\\nby a test');"
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
    program = (sys.executable, "-c", DYING.format(patch=patch))
    with wire.ServerProcess(home, program=program) as server:
        server.post("tools/call", {"name": "get_session_status", "arguments": {}})
        try:
            code = server.process.wait(wire.TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail("the server waits for more input")
        assert code == 1
        assert server.stderr().splitlines()[-1].startswith("immunos-mcp: ")
        assert "please report it at https://github.com/" in server.stderr()


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
