"""Whether parallel tasks keep a limit together: many processes ask at once, some are killed at random.

Each process routes tasks with exact estimates and reports the tokens of those that went to Claude. With
reservations the limit must never be exceeded, whoever is killed when; without them it may be, by as many
tasks as are open at once. With ``--litellm`` the same is done with a limit in dollars, and once more through
LiteLLM's proxy.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import litellm_budget
from side_by_side import Figure, argument_parser, report, temporary_home

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from immunos_mcp.answers.status import StatusAnswer

CLAUDE = "claude-sonnet-4-5"
LIMIT = 200_000
TOKENS = 20_000
LIMIT_USD = 0.002
SMALL_TOKENS, USD_PER_TOKEN = 15, 0.000_015
"""What a task generates there, at the list price of that model; each costs a ninth of the limit."""

WORKER = """
import sys, time
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

file, model, tokens, tasks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with InlineSqliteLedger(file) as ledger:
    router = Router(ledger, "default")
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(tasks):
        answer = run_sync(router.route_task("essay", "creative", tokens))
        if answer.provider == "claude":
            time.sleep(0.01)
            run_sync(router.record_usage(model, 0, tokens, decision_id=answer.decision_id,
                outcome="success"))
"""


class Crowd(NamedTuple):
    """How many processes ask at once, for how many tasks each, and how many of them are killed."""

    processes: int
    tasks: int
    kills: int

    def ask(self, command: Sequence[str]) -> None:
        """Let them all start, ask at once, and end."""
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(self.processes)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
            worker.stdin.close()
        for worker in random.sample(workers, self.kills):
            time.sleep(random.random() / 20)  # noqa: S311  # when it is killed does not matter
            worker.kill()
        for worker in workers:
            worker.wait()


def used(file: Path, crowd: Crowd, tokens: int, **settings: str) -> StatusAnswer:
    """Return the status of a ledger after a crowd has asked."""
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default")
        run_sync(router.update_config(settings, "benchmark"))
        run_sync(router.open_session())
        crowd.ask((sys.executable, "-c", WORKER, str(file), CLAUDE, str(tokens), str(crowd.tasks)))
        return run_sync(router.get_session_status())


def in_dollars(home: Path, crowd: Crowd) -> float:
    """Return the times of a limit in dollars that is used."""
    budgets = f"all={LIMIT_USD} usd/day"
    answer = used(home / "usd.db", crowd, SMALL_TOKENS, budgets=budgets, reservations="on")
    assert answer.budgets is not None
    return (answer.budgets[0].used or 0) / LIMIT_USD


def in_litellm(home: Path, crowd: Crowd, program: str) -> float:
    """Return the times of the same limit that LiteLLM's proxy lets through."""
    with litellm_budget.upstream(SMALL_TOKENS) as upstream:
        configuration = litellm_budget.CONFIGURATION.format(
            upstream=upstream.server_port, usd_per_token=USD_PER_TOKEN, limit_usd=LIMIT_USD
        )
        with litellm_budget.proxy(program, home, configuration) as url:
            crowd.ask(litellm_budget.worker(url, crowd.tasks))
        return upstream.calls * SMALL_TOKENS * USD_PER_TOKEN / LIMIT_USD


def main() -> None:
    """Run both, and fail if the limit was exceeded with reservations."""
    parser = argument_parser(__doc__)
    parser.add_argument("--processes", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=3, help="tasks of each process")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument(
        "--litellm", metavar="PROGRAM", help="the litellm with its proxy's packages"
    )
    given = parser.parse_args()
    crowd = Crowd(given.processes, given.tasks, given.kills)
    with temporary_home() as home:
        times = {
            f"reservations {name}": used(
                home / f"{name}.db", crowd, TOKENS, reservations=name
            ).session_tokens
            / LIMIT
            for name in ("off", "on")
        }
        if given.litellm is not None:
            times[f"{LIMIT_USD} dollars, reservations on"] = in_dollars(home, crowd)
            times[f"{LIMIT_USD} dollars, LiteLLM"] = in_litellm(home, crowd, given.litellm)
    figures = [
        Figure(f"used of the limit, {name}", used, "times", 1.0 if name.endswith("on") else None)
        for name, used in times.items()
    ]
    report(figures, given.json)
    if "missed" in {figure.verdict for figure in figures}:
        raise SystemExit("the limit was exceeded")


if __name__ == "__main__":
    main()
