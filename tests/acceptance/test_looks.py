"""The first look at a budget opens its session, back to where the conversation began."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import wire
from transcript_lines import Answer, append, transcript

from immunos_mcp.assistants.claude_code.hooks import HOOK_TOOL
from immunos_mcp.server.hooks import HookEvent

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

Entry: TypeAlias = Callable[[Path, "str | None"], object]
PROCESSES = 8
NOW = datetime.now(UTC).replace(microsecond=0)
ACTIVE, OTHER, IDLE = NOW - timedelta(hours=30), NOW - timedelta(hours=2), NOW - timedelta(days=9)


def converse(home: Path) -> None:
    """Write three conversations: one since yesterday, one of today, and one that ended last week."""
    projects = home / ".claude" / "projects"
    for name, began, tokens in (("old", ACTIVE, 100), ("new", OTHER, 20), ("idle", IDLE, 3)):
        file = transcript(projects, f"-p/{name}.jsonl")
        nested = {
            "type": "file-history-snapshot",
            "snapshot": {"timestamp": "2020-01-01T00:00:00Z"},
        }
        append(file, json.dumps(nested))
        # What was queued meanwhile is written before the first prompt.
        for kind, minutes in (("queue-operation", 5), ("user", 0)):
            at = began + timedelta(minutes=minutes)
            append(file, json.dumps({"type": kind, "timestamp": at.isoformat()}))
        append(file, Answer(name, tokens, at=began + timedelta(minutes=1)))
    os.utime(projects / "-p" / "idle.jsonl", (IDLE.timestamp(), IDLE.timestamp()))


@contextmanager
def serving(home: Path) -> Generator[wire.ServerProcess]:
    with wire.ServerProcess(home) as server:
        server.initialize()
        yield server


def status_line(home: Path, conversation: str | None) -> str:
    given = {} if conversation is None else {"session_id": conversation}
    return subprocess.run(
        [*wire.PROGRAM, "statusline"],
        input=json.dumps(given),
        env=wire.environment(home, NO_COLOR="1"),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=wire.TIMEOUT_SECONDS,
    ).stdout


def status(home: Path, _conversation: str | None = None) -> Any:
    return wire.run_json(home, "status")


def tool(home: Path, _conversation: str | None) -> None:
    with serving(home) as server:
        server.answer("get_session_status")


def route(home: Path, _conversation: str | None) -> None:
    with serving(home) as server:
        server.answer("route_task", task_type="debug", classification="routine")


def resource(home: Path, _conversation: str | None) -> None:
    with serving(home) as server:
        assert "result" in server.request("resources/read", {"uri": "immunos://status"})


def hook_of(event: HookEvent) -> Entry:
    def hook(home: Path, conversation: str | None) -> None:
        given = {"event": event.value}
        with serving(home) as server:
            server.call(HOOK_TOOL, **given, session_id=conversation or "${session_id}")
            # A hook answers in time; opening and counting may come after its answer.
            deadline = time.monotonic() + wire.TIMEOUT_SECONDS
            while not sessions(home):
                assert time.monotonic() < deadline
            server.answer("get_session_status")

    return hook


def sessions(home: Path) -> list[tuple[Any, ...]]:
    if not wire.is_made(wire.ledger_path(home)):
        return []
    columns = "name, started_at, claude_input_tokens, ended_at IS NULL"
    return wire.rows(wire.ledger_path(home), f"SELECT {columns} FROM immunos_mcp_session")


def began(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


HOOKS: list[Entry] = [hook_of(event) for event in HookEvent]


@pytest.mark.parametrize("look", [status, tool, route, resource, status_line, *HOOKS])
def test_a_look_opens_the_session_at_the_beginning_of_the_active_conversations(
    home: Path, look: Entry
) -> None:
    converse(home)
    look(home, None)
    assert sessions(home) == [("default", began(ACTIVE), 120, 1)]
    wire.assert_sound(wire.ledger_path(home))


@pytest.mark.parametrize("look", [status_line, *HOOKS])
@pytest.mark.parametrize(
    ("conversation", "since", "tokens"), [("new", OTHER, 20), ("idle", IDLE, 123)]
)
def test_a_look_that_names_a_conversation_opens_the_session_at_its_beginning(
    home: Path, look: Entry, conversation: str, since: datetime, tokens: int
) -> None:
    converse(home)
    look(home, conversation)
    assert sessions(home) == [("default", began(since), tokens, 1)]


def test_a_conversation_without_lines_counts_from_its_first_response_on(home: Path) -> None:
    file = transcript(home / ".claude" / "projects", "-p/slow.jsonl")
    append(file, json.dumps({"type": "mode"}))
    status_line(home, "slow")
    append(file, Answer("m1", 7, at=datetime.now(UTC) - timedelta(seconds=20)))
    assert status(home)["session_tokens"] == 7


def test_where_no_conversation_is_active_the_session_begins_now(home: Path) -> None:
    converse(home)
    for name in ("old", "new"):
        (home / ".claude" / "projects" / "-p" / f"{name}.jsonl").unlink()
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert datetime.fromisoformat(status(home)["started_at"]) >= before
    assert status(home)["measured_tokens"] == 0


def test_what_was_imported_before_counts_from_the_beginning_on(home: Path) -> None:
    converse(home)
    wire.run(home, "sync", "--all")
    assert sessions(home) == []
    assert status(home)["session_tokens"] == 120
    wire.assert_sound(wire.ledger_path(home))


def test_what_was_left_out_for_a_later_session_is_read_again(home: Path) -> None:
    converse(home)
    wire.run(home, "reset", "--session", "shop")
    assert wire.run_json(home, "status", "--session", "shop")["session_tokens"] == 0
    assert status(home)["session_tokens"] == 120
    wire.assert_sound(wire.ledger_path(home))


def test_a_reset_starts_at_its_own_moment(home: Path) -> None:
    converse(home)
    wire.run(home, "reset")
    shown = status(home)
    assert (shown["session_tokens"], shown["measured_tokens"]) == (0, 0)


def test_a_name_that_was_typed_opens_nothing_and_the_status_says_so(home: Path) -> None:
    converse(home)
    shown = wire.run_json(home, "status", "--session", "shpo")
    assert sessions(home) == []
    assert "measured_tokens" not in shown
    assert shown["not_counting"].startswith("no session of this name is open")
    with serving(home) as server:
        answer = server.answer("get_session_status", session="shpo")
        assert answer["not_counting"] == shown["not_counting"]
    assert sessions(home) == []
    wire.run(home, "status", variables={"IMMUNOS_SESSION": "shop"})
    assert [name for name, *_ in sessions(home)] == ["shop"]


@pytest.mark.parametrize(
    "variables", [{"IMMUNOS_TRANSCRIPTS": "off"}, {"CLAUDE_CONFIG_DIR": "/no"}]
)
def test_where_no_logs_are_read_a_look_opens_nothing(home: Path, variables: dict[str, str]) -> None:
    converse(home)
    done = wire.run(home, "status", "--json", variables=variables)
    assert sessions(home) == []
    shown = json.loads(done.stdout)
    assert (shown["measured_tokens"], shown.get("not_counting")) == (0, None)


def test_a_client_that_only_lists_opens_nothing(home: Path) -> None:
    converse(home)
    with serving(home) as server:
        for method in ("tools/list", "prompts/list", "resources/list"):
            assert "result" in server.request(method)
        assert server.finish() == 0
    assert not wire.ledger_path(home).exists()


def test_processes_that_look_at_once_open_one_session(home: Path) -> None:
    converse(home)
    looks: list[Entry] = [status, status_line] * (PROCESSES // 2)
    with ThreadPoolExecutor(PROCESSES) as pool:
        running = [pool.submit(look, home, None) for look in looks]
        for each in running:
            each.result(wire.TIMEOUT_SECONDS)
    status(home)
    assert sessions(home) == [("default", began(ACTIVE), 120, 1)]
    wire.assert_sound(wire.ledger_path(home))


@contextmanager
def locked(home: Path) -> Generator[None]:
    with closing(sqlite3.connect(wire.ledger_path(home), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("event", HookEvent)
def test_a_hook_does_not_wait_for_a_locked_ledger(home: Path, event: HookEvent) -> None:
    status(home)
    converse(home)
    with serving(home) as server, locked(home):
        server.call("get_session_status")
        begin = time.monotonic()
        hook_event = server.call(HOOK_TOOL, event=event.value, session_id="new")
        assert time.monotonic() - begin < 5
        assert hook_event["content"][0]["text"] == "{}"


def test_a_look_at_a_locked_ledger_says_what_is_not_counted(home: Path) -> None:
    status(home)
    projects = home / ".claude" / "projects"
    append(transcript(projects), Answer("m1", 12_000, at=datetime.now(UTC)))
    with locked(home):
        shown = status(home)
        line = status_line(home, None)
        text = wire.run(home, "status").stdout
    assert shown["not_counting"] == "another program is writing to the ledger"
    assert (shown["uncounted_tokens"], shown.get("measured_tokens")) == (12_000, None)
    assert line == "not counting yet · 12k measured today\n"
    assert "not counting yet; 12,000 tokens measured today" in text
    assert sessions(home) == []
    assert status(home)["session_tokens"] == 12_000
    append(transcript(projects), Answer("m2", 1_000, at=datetime.now(UTC)))
    with locked(home):
        shown = status(home)
        line = status_line(home, None)
    assert (shown["session_tokens"], shown.get("uncounted_tokens")) == (12_000, None)
    assert shown["not_counting"] == "another program is writing to the ledger"
    assert line == "░░░░░░░░░░ 12k/200k · normal · not up to date\n"


def test_with_a_window_the_session_begins_with_the_newest_one(home: Path) -> None:
    converse(home)
    wire.run(home, "config", "set", "session_window_minutes=700")
    status_line(home, "old")
    assert sessions(home) == [("default", began(ACTIVE + timedelta(minutes=1400)), 20, 1)]
