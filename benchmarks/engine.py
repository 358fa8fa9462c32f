"""Cost of the local engine: decisions while it is up, down or hanging, and delegating a task.

Measures ``route_task`` on three servers whose engines are up, down, and accepting without ever
answering, each against a no-op tool; then ``delegate_task`` against the same request sent directly to
the engine, which is llama.cpp with a tiny model behind the tests' Ollama-like server. At last it measures both, and
the processor time of the client, beside an engine that makes 100 tokens a second.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from side_by_side import (
    NO_OP_TOOL,
    Figure,
    ServerProcess,
    alternate,
    argument_parser,
    immunos_command,
    no_op_command,
    percentile,
    report,
    temporary_home,
)

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import anyio
import httpx2
from llama_engine import TRAINED_CONTEXT, LlamaEngine, make_tiny_model
from ollama_server import Manner, Script, scripted_ollama

from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.protocol import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from multiprocessing.connection import Connection

TASK = {"task_type": "code_review", "classification": "routine"}
MODEL = "qwen2.5-coder:7b"
MOST_TOKENS = 400
WARM_UP_CALLS = 200
PACED_TOKENS = 1_024
"""As many as an answer may have unless somebody says otherwise."""

PACE = 0.01
"""Seconds for a token of the paced engine."""


def routed(home: Path, host: str, calls: int) -> tuple[list[float], list[float]]:
    """Return seconds of ``route_task`` with an engine, and of the no-op tool in turn."""
    home.mkdir()
    os.environ["OLLAMA_HOST"] = host
    with (
        ServerProcess((*immunos_command(), "--ollama-check", "on"), home) as router,
        ServerProcess(no_op_command(), home) as no_op,
    ):
        for _ in range(WARM_UP_CALLS):
            router.timed_call("route_task", TASK)
            no_op.timed_call(NO_OP_TOOL, TASK)
        return alternate(
            calls,
            lambda: router.timed_call("route_task", TASK)[0],
            lambda: no_op.timed_call(NO_OP_TOOL, TASK)[0],
        )


def straight(host: str, request: dict[str, object]) -> float:
    """Return the seconds that the engine takes for a request sent to it directly."""
    start = time.perf_counter()
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.request("POST", "/api/chat", json.dumps(request))
        connection.getresponse().read()
    return time.perf_counter() - start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--calls", type=int, default=2000, help="decisions with each engine")
    parser.add_argument("--tasks", type=int, default=15, help="delegated tasks")
    parser.add_argument(
        "--paced-tasks", type=int, default=3, help="tasks of 10 s with the paced engine"
    )
    given = parser.parse_args()
    with temporary_home() as home:
        figures = [
            *decisions(home, given.calls),
            *handovers(home, given.tasks),
            *paced(home, given.paced_tasks),
        ]
    notes = ["references: the engine being up; a no-op tool; the same request sent to the engine"]
    report(figures, given.json, notes)


def decisions(home: Path, calls: int) -> list[Figure]:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{found.getsockname()[1]}"
    with scripted_ollama(Script()) as host:
        up, idle = routed(home / "up", host, calls)
    down, idle_beside_down = routed(home / "down", nobody, calls)
    with scripted_ollama(Script(manner=Manner.HANGING)) as host:
        hanging, idle_beside_hanging = routed(home / "hanging", host, calls)

    def against_idle(samples: Sequence[float], beside: Sequence[float]) -> float:
        return statistics.median(samples) / statistics.median(beside)

    figures = [
        Figure(
            f"route_task, engine {what}, against a no-op, over the same with it up",
            against_idle(samples, beside),
            "",
            goal=1.05,
            reference=against_idle(up, idle),
        )
        for what, samples, beside in (
            ("down", down, idle_beside_down),
            ("hanging", hanging, idle_beside_hanging),
        )
    ]
    for what, samples, beside in (
        ("up", up, idle),
        ("down", down, idle_beside_down),
        ("hanging", hanging, idle_beside_hanging),
    ):
        figures.append(
            Figure(
                f"route_task, engine {what}, 99th percentile",
                percentile(samples, 0.99) * 1000,
                "ms",
                goal=1.5,
                reference=percentile(beside, 0.99) * 1000,
            )
        )
    return figures


def handovers(home: Path, tasks: int) -> list[Figure]:
    model = home / "tiny.gguf"
    make_tiny_model(model)
    script = Script(models={MODEL: TRAINED_CONTEXT}, llama=LlamaEngine(model))
    given = {"prompt": "Review this", "task_type": "code_review", "max_output_tokens": MOST_TOKENS}
    with scripted_ollama(script) as host:
        os.environ["OLLAMA_HOST"] = host
        folder = home / "handed"
        folder.mkdir()
        command = (*immunos_command(), "--ollama-check", "on")
        with ServerProcess(command, folder) as server:
            server.timed_call("delegate_task", given)
            request = script.requests[-1]
            handed, direct = alternate(
                tasks,
                lambda: server.timed_call("delegate_task", given)[0],
                lambda: straight(host, request),
            )
            started: list[float] = []
            for _ in range(tasks):
                seen, start = len(script.requests), time.perf_counter()
                server.send_call("delegate_task", given)
                while len(script.requests) == seen:
                    time.sleep(0.0002)
                started.append(time.perf_counter() - start)
                server.receive()
    return [
        Figure(
            f"delegate_task of {MOST_TOKENS} tokens, against the engine itself",
            statistics.median(handed) * 1000,
            "ms",
            goal=1.03,
            reference=statistics.median(direct) * 1000,
        ),
        Figure(
            "from the call until the engine has the request",
            statistics.median(started) * 1000,
            "ms",
            goal=15,
        ),
    ]


def serve_paced(channel: Connection) -> None:
    """Run the paced engine and tell how long its chats took, until the other side of the channel wants no more."""
    words = tuple(f"word{number} " for number in range(PACED_TOKENS))
    script = Script(models={MODEL: TRAINED_CONTEXT}, words=words, pace=PACE)
    with scripted_ollama(script) as host:
        channel.send(host)
        while channel.recv():
            channel.send(script.seconds)


@contextmanager
def paced_engine() -> Generator[tuple[str, Connection]]:
    """Run the paced engine in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_paced, args=(there,))
    process.start()
    try:
        yield here.recv(), here
    finally:
        here.send(False)
        process.join()


def paced(home: Path, tasks: int) -> list[Figure]:
    given = {"prompt": "Review this", "task_type": "code_review", "max_output_tokens": PACED_TOKENS}
    with paced_engine() as (host, channel):
        os.environ["OLLAMA_HOST"] = host
        folder = home / "paced"
        folder.mkdir()
        with ServerProcess((*immunos_command(), "--ollama-check", "on"), folder) as server:
            handed = [server.timed_call("delegate_task", given)[0] for _ in range(tasks + 1)][1:]
        channel.send(True)
        engines_own = channel.recv()[1:]
        ours, piece_by_piece = anyio.run(processor_seconds, host, tasks)
    return [
        Figure(
            f"delegate_task of {PACED_TOKENS:,} tokens at 100 tokens a second, against the engine's own time",
            statistics.median(handed) * 1000,
            "ms",
            goal=1.01,
            reference=statistics.median(engines_own) * 1000,
        ),
        Figure(
            "processor time of the client for a token, against reading piece by piece",
            ours / PACED_TOKENS * 1e6,
            "us",
            goal=0.6,
            reference=piece_by_piece / PACED_TOKENS * 1e6,
        ),
    ]


async def processor_seconds(host: str, times: int) -> tuple[float, float]:
    """Return the processor time of a chat with the paced engine, by our client and piece by piece."""
    request = ChatRequest(
        model=MODEL,
        messages=({"role": "user", "content": "Review this"},),
        num_ctx=TRAINED_CONTEXT,
        num_predict=PACED_TOKENS,
        silence_seconds=60,
    )
    body = {"model": MODEL, "messages": list(request.messages), "stream": True}
    ours: list[float] = []
    others: list[float] = []
    async with Ollama(address(host)) as engine, httpx2.AsyncClient(trust_env=False) as plain:
        for _ in range(times):
            start = time.process_time()
            await engine.chat(request, lambda _piece: None)
            ours.append(time.process_time() - start)
            start = time.process_time()
            async with plain.stream("POST", f"http://{host}/api/chat", json=body) as response:
                async for line in response.aiter_lines():
                    json.loads(line)
            others.append(time.process_time() - start)
    return statistics.median(ours), statistics.median(others)


if __name__ == "__main__":
    main()
