"""Whether parallel tasks keep a limit together: many processes ask at once, some are killed at random.

Each process routes tasks with exact estimates and reports the tokens of those that went to Claude. With
reservations the limit must never be exceeded, whoever is killed when; without them it may be, by as many
tasks as are open at once.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from side_by_side import Figure, argument_parser, report, temporary_home

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 200_000
TOKENS = 20_000
WORKER = """
import sys, time
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

file, tokens, tasks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with InlineSqliteLedger(file) as ledger:
    router = Router(ledger, "default")
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(tasks):
        answer = run_sync(router.route_task("essay", "creative", tokens))
        if answer.provider == "claude":
            time.sleep(0.01)
            run_sync(router.record_usage("claude-sonnet-4.5", tokens, 0, decision_id=answer.decision_id,
                outcome="success"))
"""


def run(folder: Path, name: str, processes: int, tasks: int, reservations: str, kills: int) -> int:
    """Return the tokens that were used of the limit."""
    file = folder / f"{name}.db"
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default")
        run_sync(router.update_config({"reservations": reservations}, "benchmark"))
        run_sync(router.open_session())
        workers = [
            subprocess.Popen(  # this file's own
                (sys.executable, "-c", WORKER, str(file), str(TOKENS), str(tasks)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(processes)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
            worker.stdin.close()
        for worker in random.sample(workers, kills):
            time.sleep(random.random() / 20)  # noqa: S311  # when it is killed does not matter
            worker.kill()
        for worker in workers:
            worker.wait()
        return run_sync(router.get_session_status()).session_tokens


def main() -> None:
    """Run both, and fail if the limit was exceeded with reservations."""
    parser = argument_parser(__doc__)
    parser.add_argument("--processes", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=3, help="tasks of each process")
    parser.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    with temporary_home() as home:
        used = {
            reservations: run(
                home, reservations, given.processes, given.tasks, reservations, given.kills
            )
            for reservations in ("off", "on")
        }
    report(
        [
            Figure(
                f"used of the limit, reservations {name}",
                tokens / LIMIT,
                "times",
                goal=1.0 if name == "on" else None,
            )
            for name, tokens in used.items()
        ],
        given.json,
    )
    if used["on"] > LIMIT:
        raise SystemExit(f"{used['on']} tokens were used of {LIMIT}")


if __name__ == "__main__":
    main()
