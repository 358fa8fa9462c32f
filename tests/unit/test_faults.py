"""Background tasks outlive a bug, and a bug is named as one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from immunos_mcp import __version__
from immunos_mcp.faults import (
    FIRST_RESTART_SECONDS,
    LONGEST_RESTART_SECONDS,
    keep_running,
    report_bug,
)

if TYPE_CHECKING:
    from pathlib import Path

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


async def test_a_fault_after_an_upgrade_says_to_restart_instead_of_reporting_a_bug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upgraded = tmp_path / "immunos_mcp-99.0.dist-info"
    upgraded.mkdir()
    (upgraded / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: immunos-mcp\nVersion: 99.0\n", encoding="utf-8"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    line = report_bug("route_task", ImportError("cannot import name 'x'"))
    assert line == (
        f"route_task: immunos-mcp was upgraded from {__version__} to 99.0; restart this client"
    )
