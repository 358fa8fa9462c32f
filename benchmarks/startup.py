"""Start-up time of the server and of a command.

The server is timed until the opening and the first call are answered, against a bare server of the
same SDK; the command is ``immunos-mcp status``, against an empty Python program. Pairs are measured
in turn, each start in a new process, on a ledger with an open session.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from side_by_side import (
    NO_OP_TOOL,
    ServerProcess,
    alternate,
    argument_parser,
    environment,
    immunos_command,
    median_against,
    no_op_command,
    report,
    temporary_home,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ROUTE = ("route", "--task-type", "code_review", "--classification", "routine")
NOTHING = (sys.executable, "-c", "pass")


STATELESS = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}
TASK = {"task_type": "code_review", "classification": "routine"}


def seconds_until(
    command: Sequence[str], home: Path, reached: Callable[[ServerProcess], object]
) -> float:
    """Start a server and return the seconds until a client has reached what it wants."""
    start = time.perf_counter()
    server = ServerProcess(command, home)
    reached(server)
    seconds = time.perf_counter() - start
    server.close()
    return seconds


def discovered(server: ServerProcess) -> None:
    server.send("server/discover", STATELESS)
    server.receive()


def listed(server: ServerProcess) -> None:
    server.initialize()
    server.send("tools/list", {})
    server.receive()


def called(tool: str) -> Callable[[ServerProcess], object]:
    def call(server: ServerProcess) -> None:
        server.initialize()
        server.timed_call(tool, TASK)

    return call


MOMENTS: tuple[
    tuple[str, Callable[[ServerProcess], object], Callable[[ServerProcess], object], float], ...
] = (
    ("initialize is answered", ServerProcess.initialize, ServerProcess.initialize, 0.3),
    ("server/discover is answered", discovered, discovered, 0.3),
    ("tools/list is answered", listed, listed, 0.35),
    ("the first call is answered", called("route_task"), called(NO_OP_TOOL), 1.15),
)
"""What a client waits for: how we get there, how the bare server does, and the ratio to be reached."""


def seconds_to_run(command: Sequence[str], home: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment(home), stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--starts", type=int, default=25, help="starts of each kind")
    given = parser.parse_args()
    with temporary_home() as home:
        seconds_to_run((*immunos_command(), *ROUTE), home)
        figures = [
            median_against(
                f"start until {moment}",
                *alternate(
                    given.starts,
                    partial(seconds_until, immunos_command(), home, ours),
                    partial(seconds_until, no_op_command(), home, bare),
                ),
                goal=goal,
            )
            for moment, ours, bare, goal in MOMENTS
        ]
        status, nothing = alternate(
            given.starts,
            lambda: seconds_to_run((*immunos_command(), "status"), home),
            lambda: seconds_to_run(NOTHING, home),
        )
    figures.append(median_against("immunos-mcp status", status, nothing, goal=8))
    notes = ["references: a bare server of the same SDK; python -c pass"]
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
