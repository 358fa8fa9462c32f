"""Many clients on one ledger: nothing fails, nothing is lost, nothing counts twice."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
import warm_starts
import wire

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from immunos_mcp.answers.sessions import ResetAnswer

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

SERVERS = 8
ROUNDS = 10
TASK = {"task_type": "debug", "classification": "routine"}
CLAUDE, LOCAL = "claude-sonnet-4.5", "qwen2.5-coder:7b"


def calls_of(number: int) -> Iterator[tuple[str, wire.JsonObject]]:
    """Return what one client calls: all record alike in pairs, so that one of each is a repeat."""
    for turn in range(ROUNDS):
        session = ("default", "other")[turn % 2]
        yield "route_task", {**TASK, "session": session}
        yield (
            "record_usage",
            {
                "model": CLAUDE,
                "input_tokens": number // 2 * 1000 + turn,
                "output_tokens": 1,
                "request_id": f"pair {number // 2} turn {turn}",
                "session": session,
            },
        )
        local = {"model": LOCAL, "input_tokens": 1, "output_tokens": number, "session": session}
        yield "record_usage", local
        yield "get_session_status", {"session": session}


def call_one_by_one(server: wire.ServerProcess, number: int) -> list[wire.JsonObject]:
    return [server.answer(tool, **arguments) for tool, arguments in calls_of(number)]


def call_all_at_once(server: wire.ServerProcess, number: int) -> list[wire.JsonObject]:
    ids = [server.post_call(tool, arguments) for tool, arguments in calls_of(number)]
    results = {message["id"]: message["result"] for message in (server.receive() for _ in ids)}
    assert not any(result.get("isError") for result in results.values()), results
    return [results[request_id]["structuredContent"] for request_id in ids]


def use(server: wire.ServerProcess, number: int, barrier: Barrier) -> list[wire.JsonObject]:
    server.initialize()
    barrier.wait(wire.TIMEOUT_SECONDS)
    call = call_all_at_once if number % 4 == 0 else call_one_by_one
    answers = call(server, number)
    assert (server.stderr(), server.heard) == ("", [])
    return answers


@pytest.mark.slow
def test_eight_servers_on_one_ledger_lose_nothing_and_count_nothing_twice(home: Path) -> None:
    barrier = Barrier(SERVERS)
    with ExitStack() as stack, ThreadPoolExecutor(SERVERS) as pool:
        servers = [stack.enter_context(wire.ServerProcess(home)) for _ in range(SERVERS)]
        numbers = range(SERVERS)
        answers = list(pool.map(partial(use, barrier=barrier), servers, numbers))
    acknowledged = {"claude": {"default": 0, "other": 0}, "local": {"default": 0, "other": 0}}
    decisions: list[int] = []
    repeats = 0
    for number in range(SERVERS):
        for (tool, arguments), answer in zip(calls_of(number), answers[number], strict=True):
            if tool == "route_task":
                decisions.append(answer["decision_id"])
            elif tool == "record_usage" and answer.get("repeated"):
                repeats += 1
            elif tool == "record_usage":
                kind = "claude" if arguments["model"] == CLAUDE else "local"
                tokens = arguments["input_tokens"] + arguments["output_tokens"]
                acknowledged[kind][arguments["session"]] += tokens
    assert sorted(decisions) == list(range(1, SERVERS * ROUNDS + 1))
    assert repeats == SERVERS // 2 * ROUNDS
    file = wire.ledger_path(home)
    wire.assert_sound(file)
    listed = wire.rows(
        file,
        "SELECT name, claude_input_tokens + claude_output_tokens,"
        " local_input_tokens + local_output_tokens, usage_records, ended_at"
        " FROM immunos_mcp_session ORDER BY name",
    )
    records = SERVERS * ROUNDS * 3 // 4
    assert listed == [
        (name, acknowledged["claude"][name], acknowledged["local"][name], records, None)
        for name in ("default", "other")
    ]
    claude = sum(pair * 1000 + turn + 1 for pair in range(SERVERS // 2) for turn in range(ROUNDS))
    assert sum(acknowledged["claude"].values()) == claude
    assert sum(acknowledged["local"].values()) == ROUNDS * sum(1 + n for n in range(SERVERS))


def test_totals_that_a_client_is_told_never_go_back_while_others_record(home: Path) -> None:
    barrier = Barrier(2)

    def record(server: wire.ServerProcess) -> list[int]:
        server.initialize()
        barrier.wait(wire.TIMEOUT_SECONDS)
        usage = {"model": CLAUDE, "input_tokens": 1, "output_tokens": 0}
        return [server.answer("record_usage", **usage)["session_tokens"] for _ in range(60)]

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        servers = [stack.enter_context(wire.ServerProcess(home)) for _ in range(2)]
        first, second = pool.map(record, servers)
    assert first == sorted(first)
    assert second == sorted(second)
    assert sorted(first + second) == list(range(1, 121))


def reset_and_record(file: Path, times: int, barrier: Barrier) -> list[ResetAnswer]:
    done: list[ResetAnswer] = []
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default")
        for _ in range(times):
            barrier.wait(wire.TIMEOUT_SECONDS)
            done.append(run_sync(router.reset_session()))
            run_sync(router.record_usage(CLAUDE, 1, 0))
    return done


@pytest.mark.parametrize("clients", [2, 4])
def test_clients_that_reset_at_once_leave_one_open_session_each_closed_once(
    tmp_path: Path, clients: int
) -> None:
    file = tmp_path / "ledger.db"
    times = 60
    barrier = Barrier(clients)
    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(reset_and_record, file, times, barrier) for _ in range(clients)]
        answers = [answer for future in futures for answer in future.result()]
    assert_each_session_was_opened_and_closed_once(
        file,
        [answer.session_id for answer in answers],
        [answer.closed_session_id for answer in answers],
        tokens=clients * times,
    )


RESET = """
import sys
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    router = Router(ledger, "default")
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(40):
        answer = run_sync(router.reset_session())
        print(answer.session_id, answer.closed_session_id or "-")
        run_sync(router.record_usage("claude-x", 1, 0))
raise SystemExit
"""


def test_processes_that_reset_at_once_leave_one_open_session_each_closed_once(home: Path) -> None:
    file = home / "ledger.db"
    processes = [
        subprocess.Popen(
            [*warm_starts.running(RESET), str(file)],
            env=wire.environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    opened: list[int] = []
    closed: list[int | None] = []
    for process in processes:
        out, err = process.communicate(timeout=wire.TIMEOUT_SECONDS)
        assert (process.returncode, err) == (0, "")
        for line in out.splitlines():
            first, second = line.split()
            opened.append(int(first))
            closed.append(None if second == "-" else int(second))
    assert_each_session_was_opened_and_closed_once(file, opened, closed, tokens=160)


def assert_each_session_was_opened_and_closed_once(
    file: Path, opened: list[int], closed: list[int | None], tokens: int
) -> None:
    last = len(opened)
    assert sorted(opened) == list(range(1, last + 1))
    assert sorted(session or 0 for session in closed) == list(range(last))
    sessions = "FROM immunos_mcp_session"
    assert wire.rows(file, f"SELECT session_id {sessions} WHERE ended_at IS NULL") == [(last,)]
    assert wire.rows(file, f"SELECT count(*), sum(claude_input_tokens) {sessions}") == [
        (last, tokens)
    ]
    wire.assert_sound(file)


def test_two_servers_that_reset_at_once_leave_one_open_session(home: Path) -> None:
    barrier = Barrier(2)

    def reset(server: wire.ServerProcess) -> list[wire.JsonObject]:
        server.initialize()
        answers: list[wire.JsonObject] = []
        for _ in range(30):
            barrier.wait(wire.TIMEOUT_SECONDS)
            answers.append(server.answer("reset_session"))
        return answers

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        servers = [stack.enter_context(wire.ServerProcess(home)) for _ in range(2)]
        answers = [answer for done in pool.map(reset, servers) for answer in done]
    assert_each_session_was_opened_and_closed_once(
        wire.ledger_path(home),
        [answer["session_id"] for answer in answers],
        [answer.get("closed_session_id") for answer in answers],
        tokens=0,
    )


def test_commands_beside_a_server_share_its_session(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        usage = {"model": CLAUDE, "input_tokens": 5, "output_tokens": 0}
        for turn in range(1, 4):
            server.answer("record_usage", **usage)
            recorded = wire.run_json(
                home, "record", "--model", CLAUDE, "--input", "5", "--output", "0"
            )
            assert recorded["session_tokens"] == 10 * turn
            status = wire.run_json(home, "status")
            assert status == server.answer("get_session_status")
