"""kill -9 at any moment: what was acknowledged is there, once, and the ledger is sound."""

from __future__ import annotations

import random
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import warm_starts
import wire

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

WRITER = """
import sys
from itertools import count
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

file, start = Path(sys.argv[1]), int(sys.argv[2])
with InlineSqliteLedger(file) as ledger:
    router = Router(ledger, "default")
    for number in count(start):
        decision = run_sync(router.route_task("debug", "routine"))
        print("decision", decision.decision_id, flush=True)
        run_sync(router.record_usage(
            "claude-x", number, 1, decision_id=decision.decision_id, outcome="success",
            request_id=f"request {number}",
        ))
        print("request", number, flush=True)
        if number % 7 == 0:
            print("reset", run_sync(router.reset_session("every seventh")).session_id, flush=True)
        if number % 11 == 0:
            run_sync(router.update_config({"session_limit": 1_000_000 + number}, "writer"))
            print("limit", 1_000_000 + number, flush=True)
"""


def acknowledged_by(process: subprocess.Popen[str], lines: int) -> list[tuple[str, int]]:
    """Read so many acknowledgements, kill the process, and return all that it still got out."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said.extend(process.stdout.readlines())
        assert process.stderr.read() == ""
    process.wait(wire.TIMEOUT_SECONDS)
    words = [line.split() for line in said if line.endswith("\n")]
    return [(kind, int(number)) for kind, number in words]


def column(file: Path, query: str) -> set[object]:
    return {value for (value,) in wire.rows(file, query)}


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_it_acknowledged(home: Path) -> None:
    file = home / "ledger.db"
    moments = random.Random(20260301)
    acknowledged: dict[str, set[object]] = {"decision": set(), "request": set(), "reset": set()}
    start = 1
    for _ in range(14):
        process = subprocess.Popen(
            [*warm_starts.running(WRITER), str(file), str(start)],
            env=wire.environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = acknowledged_by(process, moments.randrange(1, 120))
        for kind, number in said:
            acknowledged.setdefault(kind, set()).add(number)
        wire.assert_sound(file)
        assert acknowledged["decision"] <= column(
            file, "SELECT decision_id FROM immunos_mcp_decision"
        )
        stored = column(file, "SELECT external_id FROM immunos_mcp_usage")
        assert {f"request {number}" for number in acknowledged["request"]} <= stored
        assert acknowledged["reset"] <= column(file, "SELECT session_id FROM immunos_mcp_session")
        closed = column(
            file,
            "SELECT decision_id FROM immunos_mcp_usage JOIN immunos_mcp_decision"
            " USING (decision_id) WHERE outcome = 'success'",
        )
        assert closed == column(file, "SELECT decision_id FROM immunos_mcp_usage")
        limits = [number for kind, number in said if kind == "limit"]
        if limits:
            stored_limit = int(wire.rows(file, "SELECT value FROM settings")[0][0])
            assert stored_limit >= limits[-1]
        start = 1 + max(int(str(name).split()[1]) for name in stored | {f"request {start}"})
    assert len(acknowledged["request"]) > 100


@pytest.mark.slow
def test_a_request_repeated_after_a_kill_counts_once(home: Path) -> None:
    file = wire.ledger_path(home)
    usage = {"model": "claude-x", "input_tokens": 10, "output_tokens": 0}
    for kill_after in (1, 13, 29):
        with wire.ServerProcess(home) as server:
            server.initialize()
            ids = [
                server.post_call("record_usage", {**usage, "request_id": f"request {number}"})
                for number in range(30)
            ]
            answered = [ids.index(server.receive()["id"]) for _ in range(kill_after)]
        stored = column(file, "SELECT external_id FROM immunos_mcp_usage")
        assert {f"request {number}" for number in answered} <= stored
        wire.assert_sound(file)
    with wire.ServerProcess(home) as server:
        server.initialize()
        for number in range(30):
            server.answer("record_usage", **usage, request_id=f"request {number}")
        assert server.answer("get_session_status")["session_tokens"] == 300
        assert server.finish() == 0
    wire.assert_sound(file)


@pytest.mark.slow
def test_a_killed_server_loses_nothing_that_it_answered(home: Path) -> None:
    file = wire.ledger_path(home)
    moments = random.Random(11)
    decisions: set[object] = set()
    tokens = 0
    for _ in range(4):
        with wire.ServerProcess(home) as server:
            server.initialize()
            for number in range(1, moments.randrange(5, 50)):
                task = {"task_type": "debug", "classification": "routine"}
                decisions.add(server.answer("route_task", **task)["decision_id"])
                usage = {"model": "claude-x", "input_tokens": number, "output_tokens": 0}
                tokens = server.answer("record_usage", **usage)["session_tokens"]
            in_flight = {"model": "claude-x", "input_tokens": 1, "output_tokens": 0}
            server.post_call("record_usage", in_flight)
            server.process.kill()
            server.process.wait(wire.TIMEOUT_SECONDS)
            assert wire.run_json(home, "status")["session_tokens"] - tokens in {0, 1}
        assert decisions == column(file, "SELECT decision_id FROM immunos_mcp_decision")
        wire.assert_sound(file)


@pytest.mark.parametrize("attempt", range(3))
def test_a_program_killed_while_it_makes_the_ledger_leaves_one_that_the_next_can_use(
    home: Path, attempt: int
) -> None:
    moments = random.Random(attempt)
    file = wire.ledger_path(home)
    stored = 0
    for _ in range(6):
        process = subprocess.Popen(
            [*wire.AS_INSTALLED, "record", "--model", "claude-x", "--input", "1", "--output", "0"],
            env=wire.environment(home),
            stdout=subprocess.PIPE,
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.02, 0.08))
        process.kill()
        process.communicate(timeout=wire.TIMEOUT_SECONDS)
        stored = stored_records(file)
    recorded = wire.run_json(home, "record", "--model", "claude-x", "--input", "1", "--output", "0")
    assert recorded["session_tokens"] == stored + 1
    wire.assert_sound(file)


def stored_records(file: Path) -> int:
    """Count the usage records of a ledger that may be half made, which must be sound."""
    if not file.exists() or not wire.rows(file, "SELECT 1 FROM sqlite_schema"):
        return 0
    wire.assert_sound(file)
    return len(wire.rows(file, "SELECT 1 FROM immunos_mcp_usage"))
