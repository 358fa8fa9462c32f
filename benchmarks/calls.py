"""Time of a ``route_task`` call, compared with a no-op tool on a server of the same SDK.

One client per server makes one call at a time, on both servers in turn. At the end the router's
server is killed, and every answered decision must be in the ledger.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from side_by_side import (
    NO_OP_TOOL,
    Figure,
    ServerProcess,
    alternate,
    argument_parser,
    immunos_command,
    ledger_path,
    median_against,
    no_op_command,
    percentile,
    report,
    temporary_home,
)

TASK = {"task_type": "code_review", "classification": "routine", "estimated_tokens": 3000}
WARM_UP_CALLS = 200


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--calls", type=int, default=4000, help="calls of each server")
    given = parser.parse_args()
    with temporary_home() as home:
        router = ServerProcess(immunos_command(), home)
        router.initialize()
        with ServerProcess(no_op_command(), home) as no_op:
            for _ in range(WARM_UP_CALLS):
                router.timed_call("route_task", TASK)
                no_op.timed_call(NO_OP_TOOL, TASK)
            routed, idle = alternate(
                given.calls,
                lambda: router.timed_call("route_task", TASK)[0],
                lambda: no_op.timed_call(NO_OP_TOOL, TASK)[0],
            )
        router.kill()
        with closing(sqlite3.connect(ledger_path(home))) as ledger:
            (logged,) = ledger.execute("SELECT count(*) FROM immunos_mcp_decision").fetchone()
    answered = WARM_UP_CALLS + given.calls + 1
    if logged != answered:
        raise SystemExit(f"{answered} decisions were answered, {logged} are in the ledger")
    share = 0.99
    figures = [
        median_against("route_task, median", routed, idle, goal=1.25),
        Figure(
            "route_task, 99th percentile",
            percentile(routed, share) * 1000,
            "ms",
            goal=1.5,
            reference=percentile(idle, share) * 1000,
        ),
    ]
    notes = [
        "reference: a no-op tool of the same SDK",
        f"all {logged} answered decisions are in the ledger after SIGKILL",
    ]
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
