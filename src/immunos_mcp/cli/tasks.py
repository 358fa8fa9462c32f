"""The command that lists delegated tasks, whatever process runs them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immunos_mcp.answers.delegation import TaskLine
from immunos_mcp.cli import terminal
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, on_ledger
from immunos_mcp.delegation.processes import state_of

if TYPE_CHECKING:
    from argparse import Namespace

    from immunos_mcp.router import Router

MOST_TASKS = 20


async def _tasks(router: Router, _given: Namespace) -> Answered:
    now = datetime.now(UTC)
    lines = tuple(
        TaskLine(
            f"d{task.decision_id}",
            task.model,
            state_of(task, now),
            task.tokens,
            task.begun_at,
            task.seen_at,
        )
        for task in await router.handover.newest_tasks(MOST_TASKS)
    )
    return Answered(lines, terminal.tasks(lines))


COMMANDS = (
    Command(
        "tasks",
        "list delegated tasks, and which of them are running, done or lost",
        "tasks",
        on_ledger(_tasks),
    ),
)
