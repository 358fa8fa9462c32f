"""Start-up time of the server and of a command.

The server is timed until ``initialize`` is answered, against a bare server of the same SDK; the
command is ``immunos-mcp status``, against an empty Python program. Pairs are measured in turn, each
start in a new process, on a ledger with an open session.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from side_by_side import (
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
    from collections.abc import Sequence
    from pathlib import Path

ROUTE = ("route", "--task-type", "code_review", "--classification", "routine")
NOTHING = (sys.executable, "-c", "pass")


def seconds_until_initialized(command: Sequence[str], home: Path) -> float:
    start = time.perf_counter()
    server = ServerProcess(command, home)
    server.initialize()
    seconds = time.perf_counter() - start
    server.close()
    return seconds


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
        serving, bare = alternate(
            given.starts,
            lambda: seconds_until_initialized(immunos_command(), home),
            lambda: seconds_until_initialized(no_op_command(), home),
        )
        status, nothing = alternate(
            given.starts,
            lambda: seconds_to_run((*immunos_command(), "status"), home),
            lambda: seconds_to_run(NOTHING, home),
        )
    figures = [
        median_against("start until initialize is answered", serving, bare, goal=1.1),
        median_against("immunos-mcp status", status, nothing, goal=8),
    ]
    notes = ["references: a bare server of the same SDK; python -c pass"]
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
