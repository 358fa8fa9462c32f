"""Cost of the track record per decision, and the speed of a replay.

Two servers on two ledgers with the same outcomes, one with the track record on and one with it off,
get the same calls in turn. Then the router makes a log with outcomes, which is replayed.
"""

from __future__ import annotations

import gc
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from side_by_side import (
    Figure,
    ServerProcess,
    alternate,
    argument_parser,
    immunos_command,
    ledger_path,
    median_against,
    report,
    temporary_home,
)

from immunos_mcp.archive import Archive
from immunos_mcp.domain import Provider
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS

if TYPE_CHECKING:
    from pathlib import Path

TASK_TYPES = (*DEFAULT_TASK_MAPPINGS, "translate", "essay")
CLASSIFICATIONS = ("routine", "routine", "creative", "critical")
TASK = {"task_type": "code_review", "classification": "routine", "estimated_tokens": 3000}
SECONDS_BETWEEN = 20
SHARE_REPORTED = 0.7
WARM_UP_CALLS = 200
REPLAYS = 5


def make_log(file: Path, decisions: int) -> None:
    """Make a log with the router: tasks of all kinds, most with an outcome."""
    dice = random.Random(1)  # noqa: S311  # the same log every time
    rates = {task_type: dice.uniform(0.3, 1) for task_type in TASK_TYPES}
    # Both servers answer the measured task alike.
    rates[str(TASK["task_type"])] = 0.95
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default", lambda: now)
        for _ in range(decisions):
            now += timedelta(seconds=SECONDS_BETWEEN)
            task_type = dice.choice(TASK_TYPES)
            answer = run_sync(router.route_task(task_type, dice.choice(CLASSIFICATIONS)))
            if dice.random() < SHARE_REPORTED:
                rate = 0.9 if answer.provider is Provider.CLAUDE else rates[task_type]
                run_sync(
                    router.record_usage(
                        answer.model,
                        dice.randrange(3000),
                        dice.randrange(500),
                        decision_id=answer.decision_id,
                        outcome="success" if dice.random() < rate else "failure",
                    )
                )
            if dice.random() < 1 / 300:
                run_sync(router.reset_session())


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--calls", type=int, default=4000, help="calls of each server")
    parser.add_argument("--decisions", type=int, default=50_000, help="decisions to replay")
    given = parser.parse_args()
    with temporary_home() as home:
        learning, plain = home / "learning", home / "plain"
        for folder, switch in ((learning, "on"), (plain, "off")):
            folder.mkdir()
            make_log(ledger_path(folder), 300)
            with InlineSqliteLedger(ledger_path(folder)) as ledger:
                router = Router(ledger, "default")
                run_sync(router.update_config({"track_record": switch}, "benchmark"))
                run_sync(router.reset_session())
        with (
            ServerProcess(immunos_command(), learning) as with_record,
            ServerProcess(immunos_command(), plain) as without,
        ):
            for _ in range(WARM_UP_CALLS):
                with_record.timed_call("route_task", TASK)
                without.timed_call("route_task", TASK)
            routed, reference = alternate(
                given.calls,
                lambda: with_record.timed_call("route_task", TASK)[0],
                lambda: without.timed_call("route_task", TASK)[0],
            )
        file = home / "log.db"
        make_log(file, given.decisions)
        speeds: list[float] = []
        # As every command does.
        gc.disable()
        with InlineSqliteLedger(file) as ledger:
            archive = Archive(ledger)
            for _ in range(REPLAYS):
                start = time.perf_counter()
                answer = run_sync(archive.replay({}))
                speeds.append(answer.decisions / (time.perf_counter() - start))
                if answer.changed:
                    raise SystemExit(f"{answer.changed} decisions differ from the log")
    figures = [
        median_against("route_task with the track record, median", routed, reference, goal=1.05),
        Figure("decisions replayed, best of five", max(speeds), "a second", 1e5, at_least=True),
    ]
    report(figures, given.json, ["reference: the same with track_record off"])


if __name__ == "__main__":
    main()
