"""Retention: detail goes, totals stay to the token, and what stays can still be replayed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import examples
import pasts
import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st
from pasts import CLAUDE, START, Past

from immunos_mcp.archive import Archive
from immunos_mcp.domain import Judge, TokenCounts, WarningLevel
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger import history
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.sqlite_file import connect
from immunos_mcp.ledger.ingestion import ingest, ingest_requests
from immunos_mcp.logged_usage import MeasuredUsage, RequestUsage
from immunos_mcp.replay import engine
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path

USAGE = """
    SELECT provider, model, source, counted, sum(input_tokens), sum(output_tokens),
        sum(cache_creation_input_tokens), sum(cache_read_input_tokens), sum(records) FROM (
    SELECT provider, model, source, counted, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens, 1 AS records FROM immunos_mcp_usage
    UNION ALL SELECT provider, model, 'measured', 1, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens, 1 FROM immunos_mcp_measured_usage
    UNION ALL SELECT provider, model, 'telemetry', 1, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens, 1 FROM immunos_mcp_request_usage
    UNION ALL SELECT provider, model, 'side', 1, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens, is_first FROM immunos_mcp_side_usage
    UNION ALL SELECT provider, model, replace(source, ', batch', ''), counted, input_tokens,
        output_tokens, cache_creation_input_tokens, cache_read_input_tokens, usage_records
        FROM immunos_mcp_pruned_usage)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
DECISIONS = """
    SELECT reason, provider, model, changed, sum(decisions), sum(successes), sum(failures) FROM (
    SELECT reason, provider, model, coalesce(changed_by, '') AS changed, 1 AS decisions, outcome IS 'success' AS successes,
        outcome IS 'failure' AS failures FROM immunos_mcp_decision
    UNION ALL SELECT reason, provider, model, changed_by, decisions, successes, failures
        FROM immunos_mcp_pruned_decision)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
TOTALS = (
    USAGE,
    DECISIONS,
    "SELECT * FROM immunos_mcp_session ORDER BY 1",
    "SELECT * FROM immunos_mcp_session_reason ORDER BY 1, 2",
    "SELECT * FROM immunos_mcp_record ORDER BY 1, 2",
    "SELECT * FROM settings",
)


def totals(file: Path) -> list[list[tuple[Any, ...]]]:
    return [wire.rows(file, query) for query in TOTALS]


def prune(past: Past, keep_days: int) -> Any:
    with InlineSqliteLedger(past.file) as ledger:
        return run_sync(Archive(ledger, lambda: past.now).prune(keep_days))


def assert_replays(file: Path) -> list[int]:
    connection = connect(file, 5.0)
    connection.execute("BEGIN")
    found = history.history(connection)
    replayed = list(engine.replay(found, found.settings_of))
    trials = dict(connection.execute("SELECT decision_id, trial IS 1 FROM immunos_mcp_decision"))
    assert [(one.choice.model, bool(one.choice.trial)) for one in replayed] == [
        (one.past.model, bool(trials[one.past.decision_id])) for one in replayed
    ]
    connection.close()
    return [one.past.decision_id for one in replayed]


@pytest.mark.slow
@examples.on_ledgers
@given(pasts.steps, pasts.steps, st.integers(1, 40), st.integers(1, 40))
def test_whatever_is_pruned_every_total_stays_and_the_rest_can_be_replayed(
    tmp_path_factory: pytest.TempPathFactory,
    earlier: list[pasts.Step],
    later: list[pasts.Step],
    first: int,
    second: int,
) -> None:
    past = Past(tmp_path_factory.mktemp("past") / "ledger.db")
    past.live([pasts.Route("debug", "routine", None, "default"), *earlier])
    for keep_days in (first, second):
        before = totals(past.file)
        pruned = prune(past, keep_days)
        assert totals(past.file) == before
        assert prune(past, keep_days).decisions == 0
        left = assert_replays(past.file)
        assert left[-1:] == past.decision_ids[-1:]
        days = (past.now - timedelta(days=keep_days)).date()
        assert pruned.before.date() == days
        past.live([pasts.Wait(86_400 * 10.0), *later])
        assert_replays(past.file)
    assert wire.rows(past.file, "PRAGMA integrity_check") == [("ok",)]
    assert wire.rows(past.file, "PRAGMA foreign_key_check") == []


def test_old_rows_go_and_young_ones_stay(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    past.live(
        [
            pasts.Streak("debug", "success", 3),
            pasts.Spend(100, 0, "default"),
            pasts.Wait(86_400 * 50.0),
            pasts.Streak("debug", "success", 2),
            pasts.Spend(50, 0, "default"),
        ]
    )
    assert prune(past, 30).decisions == 3
    counts = [
        wire.rows(past.file, f"SELECT count(*) FROM immunos_mcp_{table}")[0][0]
        for table in ("decision", "outcome", "usage", "pruned_decision", "pruned_usage")
    ]
    assert counts == [2, 2, 1, 1, 1]


def test_an_old_decision_whose_outcome_came_late_stays_for_the_replay(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    route = pasts.Route("debug", "routine", None, "default")
    late = [pasts.Report(back, "failure", None, 0) for back in range(1, 5)]
    past.live([*[route] * 6, pasts.Wait(86_400 * 50.0), route, *late, route, route])
    ((model,),) = wire.rows(
        past.file, "SELECT model FROM immunos_mcp_decision WHERE decision_id = 9"
    )
    assert model == CLAUDE
    assert prune(past, 30).decisions == 2
    assert assert_replays(past.file) == [7, 8, 9]


def test_a_pruning_that_keeps_more_than_an_earlier_one_changes_nothing(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    # The usage is young, and so its old decision stays.
    young_usage = pasts.Report(0, "failure", None, 0, judge=None)
    past.live(
        [*[pasts.Streak("debug", "failure", 1)] * 2, pasts.Route("debug", "routine", None, "work")]
    )
    past.live([pasts.Wait(86_400 * 20.0), young_usage, pasts.Streak("debug", "failure", 3)])
    assert prune(past, 5).decisions == 2
    before = wire.dump(past.file)
    assert prune(past, 60).decisions == 0
    assert wire.dump(past.file) == before
    assert_replays(past.file)


def test_no_id_is_given_twice_after_everything_is_old(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    past.live([pasts.Streak("debug", "success", 3), pasts.Wait(86_400 * 50.0)])
    prune(past, 30)
    past.live([pasts.Route("debug", "routine", None, "default")])
    assert past.decision_ids == [1, 2, 3, 4]


def test_what_was_pruned_does_not_count_again(tmp_path: Path) -> None:
    old = MeasuredUsage("m1", START, CLAUDE, 7)
    request = RequestUsage("r1", START, CLAUDE, TokenCounts(5))
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        now = START
        router = Router(ledger, "default", lambda: now)
        run_sync(router.open_session())
        run_sync(ledger.write(ingest, [old]))
        run_sync(ledger.write(ingest_requests, [request]))
        run_sync(router.record_usage(CLAUDE, 11, 0, request_id="id"))
        run_sync(router.reset_session())
        now += timedelta(days=10)
        run_sync(router.reset_session())
        run_sync(Archive(ledger, lambda: now).prune(2))
        before = totals(ledger.path)
        assert wire.rows(
            ledger.path, "SELECT sum(usage_records) FROM immunos_mcp_pruned_usage"
        ) == [(3,)]
        run_sync(ledger.write(ingest, [old]))
        run_sync(ledger.write(ingest_requests, [request]))
        assert run_sync(router.record_usage(CLAUDE, 11, 0, request_id="id")).repeated
        assert totals(ledger.path) == before


def test_a_response_written_around_a_pruning_is_known_when_its_last_line_comes_back(
    tmp_path: Path,
) -> None:
    midnight = datetime(2026, 1, 8, tzinfo=UTC)
    first = MeasuredUsage("m1", midnight - timedelta(milliseconds=1), CLAUDE, 7)
    last = first._replace(at=midnight + timedelta(milliseconds=1))
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        run_sync(ledger.write(ingest, [first]))
        # Not at midnight: the detail is cut there all the same.
        run_sync(Archive(ledger, lambda: midnight + timedelta(days=1, hours=1)).prune(1))
        before = totals(ledger.path)
        assert run_sync(ledger.write(ingest, [last])) == 0
        assert totals(ledger.path) == before


def assert_near(found: datetime | None, moment: datetime) -> None:
    assert found is not None
    assert abs(found - moment) < timedelta(minutes=10)


def test_what_a_session_had_reached_before_is_known_to_a_replay(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    day = pasts.Wait(86_400.0)
    route = pasts.Route("essay", "creative", None, "default")
    past.live([route, pasts.Spend(100_000, 0, "default"), *[day] * 9])
    past.live([pasts.Spend(55_000, 0, "default"), *[day] * 5, pasts.Spend(30_000, 0, "default")])
    past.live([day, route])
    pruned_before: datetime = prune(past, 4).before
    for changes, warning in (
        ({}, pruned_before),
        ({"token_warning_threshold": 20_000}, pruned_before),
        ({"token_warning_threshold": 175_000}, START + timedelta(days=14)),
    ):
        with InlineSqliteLedger(past.file) as ledger:
            answer = run_sync(Archive(ledger).replay(changes))
        found = {crossing.level: crossing.after for crossing in answer.crossings}
        assert_near(found[WarningLevel.WARNING], warning)
        assert_near(found[WarningLevel.CRITICAL], START + timedelta(days=14))


def test_a_decision_that_stays_keeps_its_usage(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    past.live(
        [
            pasts.Streak("debug", "failure", 3),
            pasts.Route("debug", "routine", None, "default"),
            pasts.Report(0, "success", CLAUDE, 7_000, judge=Judge.ASSISTANT),
            pasts.Wait(86_400 * 20.0),
        ]
    )

    def kept() -> int:
        with InlineSqliteLedger(past.file) as ledger:
            return run_sync(Archive(ledger).replay({"track_record": "off"})).kept_tokens

    before = kept()
    assert before > 0
    assert prune(past, 5).decisions == 3
    assert kept() == before


def test_what_was_pruned_or_lost_what_it_was_made_from_is_not_explained(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    young_usage = pasts.Report(0, "failure", None, 0, judge=None)
    route = pasts.Route("debug", "routine", None, "default")
    past.live([*[pasts.Streak("debug", "failure", 1)] * 3, route, pasts.Wait(86_400 * 20.0)])
    past.live([young_usage, route])
    prune(past, 5)
    with InlineSqliteLedger(past.file) as ledger:
        router, archive = Router(ledger, "default"), Archive(ledger)
        for decision_id, message in (
            (1, "decision 1 was pruned"),
            (4, "pruned"),
            (6, "must be the id of an earlier decision (got 6)"),
        ):
            with pytest.raises(InvalidInputError, match=re.escape(message)):
                run_sync(archive.explain_decision(decision_id))
        with pytest.raises(InvalidInputError, match="decision 1 was pruned"):
            run_sync(router.outcomes.close(1, "success"))
        assert run_sync(archive.explain_decision(5)).decision_id == 5


def test_a_rehearsal_says_how_much_and_changes_nothing(home: Path) -> None:
    wire.run(home, "route", "--task-type", "debug", "--classification", "routine")
    file = wire.ledger_path(home)
    wire.execute(file, "UPDATE immunos_mcp_decision SET decided_at = '2020-01-01T00:00:00.000Z'")
    wire.run(home, "route", "--task-type", "debug", "--classification", "routine")
    before = wire.dump(file)
    answer = wire.run_json(home, "prune", "--keep-days", "30", "--dry-run")
    assert (answer["decisions"], answer["usage_records"], answer["dry_run"]) == (1, 0, True)
    assert wire.dump(file) == before
    done = wire.run(home, "prune", "--keep-days", "30")
    assert "Compacted 1 decisions and 0 usage records from before" in done.stdout
    assert [entry["decision_id"] for entry in wire.run_json(home, "history")] == [2]


@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_a_pruning_without_room_says_so_and_changes_nothing(
    home: Path, how: tuple[str, ...]
) -> None:
    wire.run(home, "record", "--model", "m", "--input", "1", "--output", "0")
    file = wire.ledger_path(home)
    wire.execute(
        file,
        "INSERT INTO immunos_mcp_usage (session_id, recorded_at, model, provider, source, input_tokens,"
        " output_tokens, cache_creation_input_tokens, cache_read_input_tokens)"
        " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)"
        " SELECT 1, '2026-01-02T00:00:00.000Z', 'm', 'ollama', 'reported', i, 0, 0, 0 FROM n",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    )
    before = totals(file)
    little = ("sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", *wire.AS_INSTALLED)
    done = wire.run(home, "prune", "--keep-days", "1", *how, program=little)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"immunos-mcp: ledger {file} cannot be read or written; check the disk"
    )
    assert totals(file) == before


@pytest.mark.parametrize("days", ["0", "-1", "36501", "x", "1.5"])
def test_days_that_cannot_be_kept_are_refused(home: Path, days: str) -> None:
    done = wire.run(home, "prune", f"--keep-days={days}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be a whole number" in done.stderr


@pytest.mark.parametrize("is_dry_run", [False, True])
def test_records_are_cut_at_midnight_utc_whatever_the_time_and_zone(
    tmp_path: Path, is_dry_run: bool
) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    now = datetime(2026, 1, 10, 2, 30, 7, 123_456, tzinfo=india)
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        pruned = run_sync(Archive(ledger, lambda: now).prune(1, dry_run=is_dry_run))
    assert pruned.before == datetime(2026, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_days_out_of_range_change_nothing(tmp_path: Path, days: int) -> None:
    past = Past(tmp_path / "ledger.db")
    past.live([pasts.Route("debug", "routine", None, "default")])
    before = wire.dump(past.file)
    with pytest.raises(InvalidInputError, match="keep_days"):
        prune(past, days)
    assert wire.dump(past.file) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from immunos_mcp.ledger import pruning
from immunos_mcp.archive import Archive
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync

delete = pruning._prune_decisions
def die(connection, first):
    delete(connection, first)
    os.kill(os.getpid(), signal.SIGKILL)
pruning._prune_decisions = die
with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    run_sync(Archive(ledger).prune(1))
"""


def test_a_pruning_that_is_killed_has_not_happened(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    past.live([pasts.Streak("debug", "success", 3), pasts.Spend(100, 0, "default")])
    before = wire.dump(past.file)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(past.file)],
        env=wire.environment(tmp_path),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert wire.dump(past.file) == before
    wire.assert_sound(past.file)
