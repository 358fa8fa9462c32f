"""The Claude Code plugin: what its files promise, and the unlisted tool that its hooks call."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import wire
from transcript_lines import Answer, append, transcript

from immunos_mcp import __version__
from immunos_mcp.assistants.claude_code.hooks import HOOK_TOOL, hook_input
from immunos_mcp.server.hooks import HookEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

PROJECT = Path(__file__).parents[2]
PLUGIN = PROJECT / "plugin"


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def hooks() -> Iterator[tuple[str, dict[str, Any]]]:
    more = PLUGIN / read(PLUGIN / ".claude-plugin" / "plugin.json")["hooks"]
    common = read(PLUGIN / "hooks" / "hooks.json")["hooks"]
    # Versions without the event would reject a file that has it, and all its hooks.
    assert "PreModelSwitch" not in common
    for event, groups in {**common, **read(more)["hooks"]}.items():
        for group in groups:
            for hook in group["hooks"]:
                yield event, hook


def test_the_plugin_has_the_programs_version() -> None:
    assert read(PLUGIN / ".claude-plugin" / "plugin.json")["version"] == __version__


def test_each_hook_calls_the_unlisted_tool_of_the_plugins_server_with_its_event() -> None:
    plugin = read(PLUGIN / ".claude-plugin" / "plugin.json")["name"]
    (server,) = read(PLUGIN / ".mcp.json")["mcpServers"]
    assert {event for event, _ in hooks()} == set(HookEvent)
    for event, hook in hooks():
        assert (hook["type"], hook["server"]) == ("mcp_tool", f"plugin:{plugin}:{server}")
        assert (hook["tool"], hook["input"]) == (
            HOOK_TOOL,
            hook_input(event),
        )


def test_the_example_and_the_plugin_start_the_same_server() -> None:
    example = read(PROJECT / "mcp.json.example")
    assert example == read(PLUGIN / ".mcp.json")
    assert example["mcpServers"]["immunos"]["alwaysLoad"] is True


def hook(server: wire.ServerProcess, event: str, **facts: str) -> Any:
    called = {"name": HOOK_TOOL, "arguments": {"event": event, **facts}}
    (content,) = server.request("tools/call", called)["result"]["content"]
    return json.loads(content["text"])


def in_time(answer: Callable[[], Any]) -> Any:
    """Return what is answered once it is: a hook that takes too long says nothing."""
    deadline = time.monotonic() + wire.TIMEOUT_SECONDS
    while not (found := answer()):
        assert time.monotonic() < deadline
    return found


def test_hooks_begin_the_session_keep_it_exact_and_speak_when_it_runs_low(home: Path) -> None:
    file = transcript(home / ".claude" / "projects")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    with wire.ServerProcess(home) as server:
        server.initialize()
        listed = server.request("tools/list")["result"]["tools"]
        assert HOOK_TOOL not in {tool["name"] for tool in listed}
        assert hook(server, "UserPromptSubmit") == {}
        append(file, Answer("m1", 150_000, at=soon))
        assert hook(server, "PostToolBatch") == {}
        measured = (
            "SELECT measured_input_tokens FROM immunos_mcp_session WHERE measured_input_tokens"
        )
        assert in_time(lambda: wire.is_made(wire.ledger_path(home)))
        assert in_time(lambda: wire.rows(wire.ledger_path(home), measured)) == [(150_000,)]
        said = in_time(lambda: hook(server, "UserPromptSubmit"))
        assert said["hookSpecificOutput"] == {
            "hookEventName": "UserPromptSubmit",
            "additionalContext": "Token budget: 150000 of 200000, warning. "
            "Budget is running low: routine tasks go to Ollama.",
        }
        assert hook(server, "UserPromptSubmit") == {}


def test_a_turns_last_response_is_taken_over_although_it_is_written_after_the_hook(
    home: Path,
) -> None:
    file = transcript(home / ".claude" / "projects")
    measured = "SELECT measured_input_tokens FROM immunos_mcp_session"
    deadline = time.monotonic() + wire.TIMEOUT_SECONDS
    with wire.ServerProcess(home) as server:
        server.initialize()
        hook(server, "UserPromptSubmit")
        assert hook(server, "Stop") == {}
        append(file, Answer("m1", 10, at=datetime.now(UTC) + timedelta(minutes=1)))
        while wire.rows(wire.ledger_path(home), measured) != [(10,)]:
            assert time.monotonic() < deadline
        assert server.finish() == 0


def test_an_event_that_is_unknown_is_refused(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        assert server.refusal(HOOK_TOOL, event="Nonsense") == (
            "event: must be UserPromptSubmit, PreToolUse, PreModelSwitch, PostToolBatch, SubagentStop "
            "or Stop "
            "(got 'Nonsense')"
        )


def test_subagents_are_denied_only_where_that_is_on_and_everything_stays_local(home: Path) -> None:
    def starts() -> Any:
        return hook(server, "PreToolUse", tool="Agent", session_id="c")

    with wire.ServerProcess(home) as server:
        server.initialize()
        usage = {"model": "claude-x", "input_tokens": 180_000, "output_tokens": 0}
        assert starts() == {}
        server.answer("record_usage", **usage)
        told = in_time(starts)["hookSpecificOutput"]
        assert told["additionalContext"].startswith("Budget used up")
        assert starts() == {}
        server.answer("update_config", deny_agent_tool="on", default_local_model="llama3:8b")
        denied = in_time(starts)["hookSpecificOutput"]
        assert denied["permissionDecision"] == "deny"
        assert denied["permissionDecisionReason"] == (
            "Budget used up: all tasks go to Ollama. No subagents: have llama3:8b do this, or do "
            "the least that is needed yourself. The user can allow it with "
            "`immunos-mcp allow --once` or `immunos-mcp off --for 2h` in a terminal."
        )
        wire.run(home, "allow", "--once")
        assert starts() == {}
        in_time(starts)
        wire.run(home, "off")
        assert starts() == {}
        wire.run(home, "on")
        in_time(starts)
        server.answer("reset_session")
        assert starts() == {}
        assert server.finish() == 0


def test_a_ledger_that_cannot_be_used_is_said_to_a_hook_too(home: Path) -> None:
    with wire.ServerProcess(home, "--db", str(home)) as server:
        server.initialize()
        assert "is a folder" in server.refusal(HOOK_TOOL, event="Stop")


def test_claude_codes_own_report_is_kept_without_being_counted(home: Path) -> None:
    (home / ".claude" / "projects").mkdir(parents=True)
    client = {"name": "claude-code", "version": "2.1.197"}
    with wire.ServerProcess(home) as server:
        server.request(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client},
        )
        server.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        usage = {"model": "claude-x", "input_tokens": 5, "output_tokens": 6}
        assert server.answer("record_usage", **usage) == {
            "session_tokens": 0,
            "kept_local_tokens": 0,
            "warning_level": "normal",
            "counted": False,
        }
