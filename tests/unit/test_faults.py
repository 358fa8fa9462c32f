"""Background tasks outlive a bug, and a bug is named as one."""

from __future__ import annotations

import pytest

from immunos_mcp.faults import FIRST_RESTART_SECONDS, LONGEST_RESTART_SECONDS, keep_running

pytestmark = pytest.mark.anyio


async def test_a_background_task_is_started_again_after_ever_longer_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits: list[float] = []

    async def work() -> None:
        if len(waits) < 12:
            raise OverflowError("made up \x1b[2J")

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    await keep_running("Counting", work, sleep)
    assert waits[:3] == [
        FIRST_RESTART_SECONDS,
        2 * FIRST_RESTART_SECONDS,
        4 * FIRST_RESTART_SECONDS,
    ]
    assert waits[-1] == LONGEST_RESTART_SECONDS
    first = caplog.records[0]
    assert first.exc_info is not None
    assert first.getMessage() == (
        "Counting: internal error (OverflowError: made up \\x1b[2J); this is a bug,"
        " please report it at https://github.com/immunos-mcp/immunos-mcp/issues"
    )
