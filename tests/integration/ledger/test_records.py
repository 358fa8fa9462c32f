"""What outcomes say of models: each decision sees whatever was known when it was made."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import wire
from msgspec.structs import replace

from immunos_mcp.domain import (
    Classification,
    Decision,
    Judge,
    Outcome,
    Provider,
    Reason,
    Task,
    WarningLevel,
)
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.decisions import close_decision, decide
from immunos_mcp.rules.track_record import TaskRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.rules.circumstances import SessionSnapshot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOCAL = "qwen2.5-coder:7b"
TASK = Task("code_review", Classification.ROUTINE)
DECISION = Decision(LOCAL, Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 0)


class Records:
    """Makes decisions on a ledger and keeps what each of them saw."""

    def __init__(self, ledger: InlineSqliteLedger) -> None:
        self.ledger = ledger
        self.seen: list[TaskRecord | None] = []

    def decide(self, now: datetime = NOW, decision: Decision = DECISION) -> LoggedDecision:
        def rule(snapshot: SessionSnapshot, _task: Task) -> Decision:
            self.seen.append(snapshot.record)
            return decision

        return run_sync(self.ledger.write(decide, "default", now, TASK, rule))

    def close(self, decision_id: int, outcome: Outcome) -> None:
        run_sync(self.ledger.write(close_decision, decision_id, outcome, None, NOW, Judge.USER))

    def known(self) -> list[tuple[float, float]]:
        """Return what each decision saw of the model's successes and failures at the task type."""
        return [
            (record.models[LOCAL].here.successes, record.models[LOCAL].here.failures)
            if record is not None and LOCAL in record.models
            else (0, 0)
            for record in self.seen
        ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def records(file: Path) -> Iterator[Records]:
    with InlineSqliteLedger(file) as ledger:
        yield Records(ledger)


def test_the_next_decision_sees_an_outcome_that_this_process_reported(records: Records) -> None:
    first, second = records.decide(), records.decide()
    records.close(first.decision_id, Outcome.SUCCESS)
    records.decide()
    records.close(second.decision_id, Outcome.FAILURE)
    records.decide()
    assert records.known() == [(0, 0), (0, 0), (1, 0), (1, 1)]


CLOSE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from immunos_mcp.domain import Judge, Outcome
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.decisions import close_decision

with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    run_sync(ledger.write(close_decision, int(sys.argv[2]), Outcome.FAILURE, None, now, Judge.USER))
"""


def test_the_next_decision_sees_an_outcome_that_another_process_reported(
    records: Records, file: Path, home: Path
) -> None:
    first = records.decide()
    program = (sys.executable, "-c", CLOSE)
    done = wire.run(home, str(file), str(first.decision_id), program=program)
    assert (done.returncode, done.stderr) == (0, "")
    records.decide()
    assert records.known() == [(0, 0), (0, 1)]


def test_the_next_decision_sees_that_a_model_is_being_tried(records: Records) -> None:
    records.decide()
    records.decide(decision=replace(DECISION, trial=True))
    records.decide()
    record = records.seen[-1]
    assert record is not None
    assert record.models[LOCAL].here.tried_at == NOW


def test_an_outcome_that_is_refused_is_seen_by_nobody(records: Records) -> None:
    first = records.decide()
    records.close(first.decision_id, Outcome.SUCCESS)
    with pytest.raises(InvalidInputError, match="closed as success"):
        records.close(first.decision_id, Outcome.FAILURE)
    records.decide()
    assert records.known() == [(0, 0), (1, 0)]


def test_a_decision_judges_by_the_moment_that_is_logged(records: Records) -> None:
    logged = records.decide(NOW + timedelta(microseconds=999_999))
    assert logged.decided_at == NOW + timedelta(milliseconds=999)
    assert records.seen == [TaskRecord({}, logged.decided_at)]
