"""What budgets and reservations cost a ``route_task`` call, beside a server without any.

One client for each server makes one call at a time, on both servers in turn. Each task is finished, untimed,
before the next one is routed, as reservations are released.
"""

from __future__ import annotations

import subprocess

from side_by_side import (
    ServerProcess,
    alternate,
    argument_parser,
    environment,
    immunos_command,
    median_against,
    report,
    temporary_home,
)

TASK = {"task_type": "essay", "classification": "creative", "estimated_tokens": 3000}
SETTINGS = (
    "budgets=daily=9999 usd/day; week=900M tokens/week spread; app=999 usd/month in /home/me/app",
    "reservations=on",
    "session_limit=1000000000",
)
USAGE = {"model": "claude-sonnet-4-5", "input_tokens": 1000, "output_tokens": 100}
WARM_UP_CALLS = 200


def timed(server: ServerProcess) -> float:
    """Route a task and finish it; return the seconds that routing took."""
    seconds, answer = server.timed_call("route_task", TASK)
    finished = {"decision_id": answer["decision_id"], "outcome": "success"}
    server.timed_call("record_usage", finished)
    return seconds


def main() -> None:
    """Compare both."""
    parser = argument_parser(__doc__)
    parser.add_argument("--calls", type=int, default=3000, help="calls of each server")
    given = parser.parse_args()
    with temporary_home() as home, temporary_home() as other:
        command = (*immunos_command(), "config", "set", *SETTINGS)
        subprocess.run(command, env=environment(home), stdout=subprocess.DEVNULL, check=True)
        with (
            ServerProcess(immunos_command(), home) as with_budgets,
            ServerProcess(immunos_command(), other) as without,
        ):
            for server in (with_budgets, without):
                server.timed_call("record_usage", USAGE)
                for _ in range(WARM_UP_CALLS):
                    timed(server)
            slow, plain = alternate(
                given.calls, lambda: timed(with_budgets), lambda: timed(without)
            )
    name = "route_task with three budgets and reservations, median"
    report([median_against(name, slow, plain, goal=1.05)], given.json)


if __name__ == "__main__":
    main()
