"""Tasks that another process runs: what the ledger knows of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from immunos_mcp.answers.delegation import DelegateAnswer
from immunos_mcp.delegation.processes import is_going_on, state_of
from immunos_mcp.domain import Provider, TaskState
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from immunos_mcp.router import Router

    Progress = Callable[[int, str], Awaitable[None]]

LOOK_SECONDS = 1.0


async def collected_elsewhere(
    router: Router, decision_id: int, progress: Progress | None
) -> DelegateAnswer:
    """Wait for the end of a task that this process does not run, as long as a call waits, and say how it stands.

    Raises:
        InvalidInputError: there is no such task.
        DelegationError: it is over; its text went to the process that ran it.
    """
    outcome = await router.handover.outcome(decision_id)
    settings = await router.get_config()
    give_up_at = anyio.current_time() + settings.delegate_wait_seconds
    while True:
        task = await router.handover.find_task(decision_id)
        if task is None:
            raise _is_over(decision_id, "was lost" if outcome is None else f"ended ({outcome})")
        state = state_of(task, datetime.now(UTC))
        if not is_going_on(state):
            is_lost = state in {TaskState.LOST, TaskState.CANCELLED}
            raise _is_over(decision_id, f"was {state}" if is_lost else str(state))
        if anyio.current_time() >= give_up_at:
            break
        if progress is not None:
            told = f"{task.model}: {task.tokens} tokens, {state} in another process"
            await progress(task.tokens, told)
        await anyio.sleep(LOOK_SECONDS)
    message = (
        f"{state} in another process: {task.tokens} tokens so far. Its text goes to that process; call"
        " delegate_task with this handle to wait for its end."
    )
    handle = f"d{decision_id}"
    return DelegateAnswer(task.model, Provider.OLLAMA, decision_id, handle=handle, message=message)


def _is_over(decision_id: int, how: str) -> DelegationError:
    return DelegationError(
        f"task d{decision_id} {how} and its text is not available here: another process ran it, the server"
        " was restarted, or the task is too old. An output_path has the text; otherwise delegate the task"
        " again"
    )
