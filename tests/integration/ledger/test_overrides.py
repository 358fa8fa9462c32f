"""What is decided for now: what ends what, until when it holds, and who gets an allowance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from immunos_mcp.domain import PlanUsage
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.gates import Gates
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.overrides import (
    OverrideKind,
    end_overrides,
    read_overrides,
    set_override,
    take_allowance,
)
from immunos_mcp.ledger.plan_limits import record_plan_usage
from immunos_mcp.rules.gates import FOREVER, Overrides

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OFF, PAUSE, ALLOWANCE = OverrideKind


def test_what_contradicts_ends_and_everything_ends_at_its_time(tmp_path: Path) -> None:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:

        def decided(kind: OverrideKind, ends_at: datetime) -> Overrides:
            return run_sync(ledger.write(set_override, kind, ends_at, NOW))

        assert decided(ALLOWANCE, NOW + HOUR) == Overrides(allows_once=True)
        assert decided(PAUSE, NOW + HOUR) == Overrides(paused_until=NOW + HOUR)
        assert decided(OFF, FOREVER) == Overrides(off_until=FOREVER)
        assert decided(OFF, NOW + HOUR) == Overrides(off_until=NOW + HOUR)
        for moment, held in ((NOW + HOUR - timedelta(seconds=1), True), (NOW + HOUR, False)):
            found = run_sync(ledger.read(read_overrides, moment))
            assert (found.off_until is not None) is held
        assert run_sync(ledger.write(end_overrides, NOW)).off_until == NOW + HOUR
        assert run_sync(ledger.read(read_overrides, NOW)) == Overrides()


def test_of_many_at_once_one_alone_gets_the_allowance(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"

    def take(_caller: int) -> bool:
        with InlineSqliteLedger(file) as ledger:
            return run_sync(ledger.write(take_allowance, NOW))

    with InlineSqliteLedger(file) as ledger:
        run_sync(ledger.write(set_override, ALLOWANCE, NOW + HOUR, NOW))
        with ThreadPoolExecutor(8) as callers:
            assert sum(callers.map(take, range(24))) == 1
        assert run_sync(ledger.read(read_overrides, NOW)) == Overrides()


def test_a_pause_ends_when_the_plans_five_hours_do_or_when_it_is_said(tmp_path: Path) -> None:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        gates = Gates(ledger, "default", lambda: NOW)
        with pytest.raises(InvalidInputError, match="give --for or --until"):
            run_sync(gates.pause(None))
        with pytest.raises(InvalidInputError, match="must be a time in the future"):
            run_sync(gates.pause(NOW))
        plan = (PlanUsage("five_hour", 99.0, NOW + HOUR), PlanUsage("seven_day", 9.0, FOREVER))
        run_sync(ledger.write(record_plan_usage, plan, NOW))
        assert run_sync(gates.pause(None)).until == NOW + HOUR
        assert run_sync(gates.pause(2 * HOUR)).until == NOW + 2 * HOUR
        assert run_sync(gates.switch_off(None)).until is None


def test_what_a_clock_that_was_ahead_decided_for_a_time_does_not_hold(tmp_path: Path) -> None:
    later = NOW + timedelta(days=365)
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        for kind in OverrideKind:
            run_sync(ledger.write(set_override, kind, later + HOUR, later))
            assert run_sync(ledger.read(read_overrides, NOW)) == Overrides()
        run_sync(ledger.write(set_override, OFF, FOREVER, later))
        assert run_sync(ledger.read(read_overrides, NOW)) == Overrides(off_until=FOREVER)
