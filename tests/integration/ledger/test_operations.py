"""What every ledger does, whatever engine is under it.

A new engine joins by one more ``Engine`` in ``engine``; it brings the two things that the contract
needs and no operation offers: reading usage records back, and storing a setting past the checks.
"""

from __future__ import annotations

import math
import tempfile
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import postgresql_server
import pytest
import wire
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.answers.history import LoggedDecision, SettingChange
from immunos_mcp.domain import (
    MAXIMUM_TOKENS,
    Classification,
    Decision,
    Judge,
    Outcome,
    Pace,
    PlanUsage,
    Provider,
    Reason,
    Session,
    SessionRecord,
    Task,
    TokenCounts,
    Usage,
    WarningLevel,
)
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, Problem
from immunos_mcp.ledger.changed_settings import (
    SettingsChanged,
    change_settings,
    setting_changes,
    unset_settings,
)
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.ledger.decisions import decide, newest_decisions
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.measured_usage import ReadingState, reading_state, unread_lines
from immunos_mcp.ledger.plan_limits import plan_usage, record_plan_usage
from immunos_mcp.ledger.reported_usage import Recorded, record_usage
from immunos_mcp.ledger.session_snapshots import session_snapshot
from immunos_mcp.ledger.session_start import open_session
from immunos_mcp.ledger.sessions import (
    NewestSessions,
    Reset,
    Revisions,
    bind_session,
    newest_sessions,
    remove_bindings,
    reset_session,
    session_revisions,
)
from immunos_mcp.ledger.stored_settings import effective_settings
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.rules.circumstances import SessionSnapshot
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, Settings
from immunos_mcp.rules.track_record import TaskRecord
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from immunos_mcp.ledger.connections.ledger import Ledger

pytestmark = pytest.mark.anyio

START = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
CLAUDE = "claude-sonnet-4.5"
LOCAL = "qwen2.5-coder:7b"
TASK = Task("code_review", Classification.ROUTINE, 3000)
DECISION = Decision(LOCAL, Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 0)
COUNTS = TokenCounts(1, 20, 300, 4000)
NOTHING = TokenCounts()


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def usage(
    counts: TokenCounts = COUNTS,
    model: str = CLAUDE,
    request_id: str | None = None,
    decision_id: int | None = None,
    outcome: Outcome | None = None,
) -> Usage:
    return Usage(model, counts, request_id, decision_id, outcome)


def always(decision: Decision = DECISION) -> Callable[[SessionSnapshot, Task], Decision]:
    return lambda _snapshot, _task: decision


class Engine(ABC):
    """A kind of ledger, on storage of its own that is empty at first."""

    @abstractmethod
    async def open(self, stack: AsyncExitStack) -> Ledger:
        """Open a ledger on the storage, as one more client, until the stack is closed."""

    @abstractmethod
    def usage_records(self) -> list[tuple[Any, ...]]:
        """Return the session's id and what the record holds, for each usage record, oldest first."""

    @abstractmethod
    def store_setting(self, name: str, text: str) -> None:
        """Put a setting where the ledger keeps them, unchecked."""


USAGE_RECORDS = (
    "SELECT session_id, recorded_at, model, provider, source, external_id, input_tokens,"
    " output_tokens, cache_creation_input_tokens, cache_read_input_tokens, decision_id"
    " FROM immunos_mcp_usage ORDER BY usage_id"
)


class SqliteEngine(Engine):
    def __init__(self, file: Path) -> None:
        self.file = file

    def usage_records(self) -> list[tuple[Any, ...]]:
        return wire.rows(
            self.file,
            USAGE_RECORDS,
        )

    def store_setting(self, name: str, text: str) -> None:
        wire.execute(self.file, f"INSERT INTO settings VALUES ('{name}', '{text}', '2026-01-01')")


class Inline(SqliteEngine):
    async def open(self, stack: AsyncExitStack) -> Ledger:
        return stack.enter_context(InlineSqliteLedger(self.file))


class Threaded(SqliteEngine):
    async def open(self, stack: AsyncExitStack) -> Ledger:
        return await stack.enter_async_context(ThreadedSqliteLedger(self.file))


class Postgresql(Engine):
    """Each on a schema of its own."""

    def __init__(self, _file: Path) -> None:
        self.address = postgresql_server.empty_ledger()

    async def open(self, stack: AsyncExitStack) -> Ledger:
        from immunos_mcp.ledger.connections.postgresql import InlinePostgresqlLedger

        return stack.enter_context(InlinePostgresqlLedger(self.address))

    def usage_records(self) -> list[tuple[Any, ...]]:
        return postgresql_server.rows(self.address, USAGE_RECORDS)

    def store_setting(self, name: str, text: str) -> None:
        postgresql_server.execute(
            self.address, "INSERT INTO settings VALUES (%s, %s, '2026-01-01')", (name, text)
        )


class PooledPostgresql(Postgresql):
    async def open(self, stack: AsyncExitStack) -> Ledger:
        from immunos_mcp.ledger.connections.postgresql import ThreadedPostgresqlLedger

        return await stack.enter_async_context(ThreadedPostgresqlLedger(self.address))


ENGINES = (
    Inline,
    Threaded,
    *(pytest.param(kind, marks=pytest.mark.postgres) for kind in (Postgresql, PooledPostgresql)),
)


@pytest.fixture(params=ENGINES, ids=lambda kind: kind.__name__)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return request.param(tmp_path / "ledger.db")


@pytest.fixture
async def stack() -> AsyncGenerator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


@pytest.fixture
async def ledger(engine: Engine, stack: AsyncExitStack) -> Ledger:
    return await engine.open(stack)


async def everything(ledger: Ledger, engine: Engine) -> tuple[object, ...]:
    return (
        await ledger.read(effective_settings),
        await ledger.read(newest_sessions, None, 1000),
        await ledger.read(newest_decisions, None, 1000),
        await ledger.read(setting_changes, 1000),
        await ledger.read(session_revisions),
        engine.usage_records(),
    )


async def test_a_session_that_nobody_used_stands_at_nothing_and_is_not_opened_by_asking(
    ledger: Ledger,
) -> None:
    seen = await ledger.read(session_snapshot, "default", START)
    assert seen == SessionSnapshot(Settings(), Session(None, "default"), decisions={})
    assert await ledger.read(newest_sessions, None, 10) == NewestSessions(Settings(), ())
    assert await ledger.read(session_revisions) == Revisions(Settings(), {})


async def test_the_first_decision_opens_the_session_and_its_rule_sees_it_as_it_stands(
    ledger: Ledger,
) -> None:
    seen: list[SessionSnapshot] = []

    def rule(snapshot: SessionSnapshot, _task: Task) -> Decision:
        seen.append(snapshot)
        return DECISION

    logged = await ledger.write(decide, "default", START, TASK, rule)
    opened = Session(1, "default", START)
    assert logged == LoggedDecision(1, "default", START, TASK, DECISION, None)
    assert seen == [SessionSnapshot(Settings(), opened, record=TaskRecord({}, START))]
    assert await ledger.read(session_snapshot, "default", after(1)) == SessionSnapshot(
        Settings(), opened, decisions={Reason.TASK_OPTIMIZED: 1}
    )
    assert await ledger.read(newest_decisions, "default", 10) == (logged,)


async def test_a_rule_sees_the_tokens_and_settings_that_were_stored_before_it(
    ledger: Ledger,
) -> None:
    recorded = await ledger.write(record_usage, "default", START, usage(), "reported")
    changed = await ledger.write(change_settings, {"session_limit": 190_000}, "test", START)
    seen: list[SessionSnapshot] = []

    def rule(snapshot: SessionSnapshot, _task: Task) -> Decision:
        seen.append(snapshot)
        return DECISION

    await ledger.write(decide, "default", after(1), TASK, rule)
    record = TaskRecord({}, after(1))
    assert seen == [SessionSnapshot(changed.after, recorded.after, record=record)]


async def test_what_the_rule_says_is_logged_word_for_word_with_what_was_asked(
    ledger: Ledger,
) -> None:
    asked = [
        Task("summarize", Classification.CRITICAL, None),
        Task("größe_2", Classification.CREATIVE, 0),
        Task("debug", Classification.ROUTINE, MAXIMUM_TOKENS),
    ]
    said = [
        Decision("m:1", Provider.OLLAMA, Reason.TOKEN_BUDGET_EXCEEDED, WarningLevel.CRITICAL, 9),
        Decision(CLAUDE, Provider.CLAUDE, Reason.TASK_CRITICAL, WarningLevel.WARNING, 0),
        Decision("m:2", Provider.OLLAMA, Reason.TOKEN_BUDGET_WARNING, WarningLevel.WARNING, 2**60),
    ]
    ids = [
        (await ledger.write(decide, "default", after(minute), task, always(decision))).decision_id
        for minute, (task, decision) in enumerate(zip(asked, said, strict=True))
    ]
    assert ids == sorted(set(ids))
    assert await ledger.read(newest_decisions, None, 10) == tuple(
        LoggedDecision(ids[minute], "default", after(minute), asked[minute], said[minute], None)
        for minute in (2, 1, 0)
    )
    assert (await ledger.read(session_snapshot, "default", after(3))).decisions == {
        Reason.TOKEN_BUDGET_EXCEEDED: 1,
        Reason.TASK_CRITICAL: 1,
        Reason.TOKEN_BUDGET_WARNING: 1,
    }


async def test_a_rule_that_raises_leaves_nothing_behind_and_the_ledger_usable(
    ledger: Ledger, engine: Engine
) -> None:
    class BrokenRuleError(Exception):
        pass

    def rule(_snapshot: SessionSnapshot, _task: Task) -> Decision:
        raise BrokenRuleError

    before = await everything(ledger, engine)
    with pytest.raises(BrokenRuleError):
        await ledger.write(decide, "default", START, TASK, rule)
    assert await everything(ledger, engine) == before
    decision_id = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    assert [entry.decision_id for entry in await ledger.read(newest_decisions, None, 10)] == [
        decision_id
    ]


async def test_a_rule_that_raises_leaves_an_outlived_session_open(
    ledger: Ledger, engine: Engine
) -> None:
    await ledger.write(record_usage, "default", START, usage(), "reported")
    await ledger.write(change_settings, {"session_window_minutes": 5}, "test", START)
    before = await everything(ledger, engine)

    def rule(_snapshot: SessionSnapshot, _task: Task) -> Decision:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ledger.write(decide, "default", after(60), TASK, rule)
    assert await everything(ledger, engine) == before


async def test_the_first_record_opens_the_session_and_adds_its_tokens_by_kind(
    ledger: Ledger, engine: Engine
) -> None:
    recorded = await ledger.write(
        record_usage, "default", START, usage(request_id="r1"), "reported"
    )
    opened = Session(1, "default", START)
    counted = replace(opened, claude=COUNTS, pace=Pace(321.0, START), usage_records=1)
    assert recorded == Recorded(Settings(), opened, counted, repeated=False, counted=True)
    assert await ledger.read(session_snapshot, "default", after(1)) == SessionSnapshot(
        Settings(), counted, decisions={}
    )
    assert engine.usage_records() == [
        (1, "2026-03-01T12:00:00.123Z", CLAUDE, "claude", "reported", "r1", 1, 20, 300, 4000, None)
    ]


async def test_local_tokens_are_kept_apart_and_have_no_pace(ledger: Ledger) -> None:
    first = await ledger.write(record_usage, "default", START, usage(model=LOCAL), "reported")
    assert first.after == Session(1, "default", START, NOTHING, COUNTS, Pace(), 1)
    second = await ledger.write(
        record_usage, "default", after(1), usage(TokenCounts(1, 1, 1, 1)), "reported"
    )
    assert second.before == first.after
    assert second.after == Session(
        1, "default", START, TokenCounts(1, 1, 1, 1), COUNTS, Pace(3.0, after(1)), 2
    )


async def test_whose_tokens_they_are_follows_the_settings_of_the_moment(
    ledger: Ledger,
) -> None:
    await ledger.write(record_usage, "default", START, usage(model="house:1"), "reported")
    await ledger.write(change_settings, {"claude_model": "house:1"}, "test", START)
    recorded = await ledger.write(
        record_usage, "default", START, usage(model="house:1"), "reported"
    )
    assert (recorded.after.claude, recorded.after.local) == (COUNTS, COUNTS)


async def test_what_a_measured_client_reports_of_claude_is_kept_and_not_counted(
    ledger: Ledger, engine: Engine
) -> None:
    decision_id = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    closing = usage(decision_id=decision_id, outcome=Outcome.SUCCESS)
    recorded = await ledger.write(
        record_usage, "default", START, closing, "reported", is_measured=True
    )
    opened = Session(1, "default", START)
    assert recorded == Recorded(Settings(), opened, opened, repeated=False, counted=False)
    assert len(engine.usage_records()) == 1
    assert [entry.outcome for entry in await ledger.read(newest_decisions, None, 10)] == [
        Outcome.SUCCESS
    ]
    local = await ledger.write(
        record_usage, "default", START, usage(model=LOCAL), "reported", is_measured=True
    )
    assert (local.counted, local.after.local) == (True, COUNTS)


async def test_the_pace_follows_the_weights_and_decays_with_time(ledger: Ledger) -> None:
    weights = {"input_weight": 2.0, "output_weight": 0.5, "cache_read_weight": 0.25}
    await ledger.write(change_settings, {**weights, "cache_creation_weight": 0}, "test", START)
    first = await ledger.write(record_usage, "default", START, usage(), "reported")
    assert first.after.pace == Pace(1012.0, START)
    second = await ledger.write(record_usage, "default", after(10), usage(), "reported")
    assert second.after.pace.at == after(10)
    assert second.after.pace.tokens == pytest.approx(1012.0 + 1012.0 / math.e)


async def test_counts_as_large_as_are_taken_add_up_exactly(ledger: Ledger) -> None:
    most = TokenCounts(MAXIMUM_TOKENS, MAXIMUM_TOKENS, MAXIMUM_TOKENS, MAXIMUM_TOKENS)
    for times in (1, 2, 3):
        recorded = await ledger.write(record_usage, "default", START, usage(most), "reported")
        assert recorded.after.claude == TokenCounts(*[times * MAXIMUM_TOKENS] * 4)


async def test_a_record_of_nothing_is_a_record(ledger: Ledger) -> None:
    recorded = await ledger.write(record_usage, "default", START, usage(NOTHING), "reported")
    assert recorded.after == Session(1, "default", START, pace=Pace(0.0, START), usage_records=1)


async def test_equal_records_without_a_request_id_all_count(ledger: Ledger) -> None:
    for times in (1, 2, 3):
        recorded = await ledger.write(record_usage, "default", START, usage(), "reported")
        total = TokenCounts(times, 20 * times, 300 * times, 4000 * times)
        assert (recorded.after.usage_records, recorded.after.claude) == (times, total)
        assert not recorded.repeated


async def test_a_repeated_request_id_changes_nothing_and_says_so(
    ledger: Ledger, engine: Engine
) -> None:
    decision_id = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    first = await ledger.write(record_usage, "default", START, usage(request_id="r1"), "reported")
    before = await everything(ledger, engine)
    for decision, outcome in ((None, None), (decision_id, Outcome.SUCCESS)):
        again = usage(request_id="r1", decision_id=decision, outcome=outcome)
        repeat = await ledger.write(record_usage, "default", after(5), again, "reported")
        assert repeat == Recorded(Settings(), first.after, first.after, repeated=True, counted=True)
        assert await everything(ledger, engine) == before


async def test_a_repeat_after_a_reset_does_not_count_towards_the_new_session(
    ledger: Ledger, engine: Engine
) -> None:
    await ledger.write(record_usage, "default", START, usage(request_id="r1"), "reported")
    await ledger.write(reset_session, "default", after(1), None)
    before = await everything(ledger, engine)
    repeat = await ledger.write(
        record_usage, "default", after(2), usage(request_id="r1"), "reported"
    )
    opened = Session(2, "default", after(1))
    assert repeat == Recorded(Settings(), opened, opened, repeated=True, counted=True)
    assert await everything(ledger, engine) == before


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("default", usage(model="claude-opus-4.6", request_id="r1")),
        ("default", usage(replace(COUNTS, input_tokens=2), request_id="r1")),
        ("default", usage(replace(COUNTS, output_tokens=2), request_id="r1")),
        ("default", usage(replace(COUNTS, cache_creation_input_tokens=2), request_id="r1")),
        ("default", usage(replace(COUNTS, cache_read_input_tokens=2), request_id="r1")),
        ("other", usage(request_id="r1")),
    ],
    ids=["model", "input", "output", "cache creation", "cache read", "session"],
)
async def test_a_request_id_that_stands_for_other_usage_is_refused(
    ledger: Ledger, engine: Engine, name: str, other: Usage
) -> None:
    await ledger.write(record_usage, "default", START, usage(request_id="r1"), "reported")
    before = await everything(ledger, engine)
    with pytest.raises(InvalidInputError) as refused:
        await ledger.write(record_usage, name, START, other, "reported")
    assert str(refused.value) == (
        "request_id: 'r1' was already recorded with different usage; each response needs its own id"
    )
    assert await everything(ledger, engine) == before


async def test_a_record_closes_its_decision_with_its_outcome(
    ledger: Ledger, engine: Engine
) -> None:
    left_open = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    failed = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    succeeded = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    for decision_id, outcome in (
        (left_open, None),
        (failed, Outcome.FAILURE),
        (succeeded, Outcome.SUCCESS),
    ):
        closing = usage(decision_id=decision_id, outcome=outcome)
        await ledger.write(record_usage, "default", after(1), closing, "reported")
    assert {
        entry.decision_id: entry.outcome for entry in await ledger.read(newest_decisions, None, 10)
    } == {
        left_open: None,
        failed: Outcome.FAILURE,
        succeeded: Outcome.SUCCESS,
    }
    assert [record[-1] for record in engine.usage_records()] == [left_open, failed, succeeded]


async def test_a_decision_closed_again_alike_is_harmless_and_the_tokens_count(
    ledger: Ledger,
) -> None:
    decision_id = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    for records, outcome in ((1, Outcome.FAILURE), (2, Outcome.FAILURE), (3, None)):
        closing = usage(decision_id=decision_id, outcome=outcome)
        recorded = await ledger.write(record_usage, "default", START, closing, "reported")
        assert recorded.after.usage_records == records
    assert [entry.outcome for entry in await ledger.read(newest_decisions, None, 10)] == [
        Outcome.FAILURE
    ]


@pytest.mark.parametrize(
    ("first", "second"), [(Outcome.SUCCESS, Outcome.FAILURE), (Outcome.FAILURE, Outcome.SUCCESS)]
)
async def test_a_decision_cannot_be_closed_again_otherwise_and_its_tokens_are_not_counted(
    ledger: Ledger, engine: Engine, first: Outcome, second: Outcome
) -> None:
    decision_id = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    await ledger.write(
        record_usage, "default", START, usage(decision_id=decision_id, outcome=first), "reported"
    )
    before = await everything(ledger, engine)
    closing = usage(decision_id=decision_id, outcome=second)
    with pytest.raises(InvalidInputError) as refused:
        await ledger.write(record_usage, "default", START, closing, "reported")
    message = f"outcome: decision {decision_id} is already closed as {first}"
    assert str(refused.value) == message
    assert await everything(ledger, engine) == before


@pytest.mark.parametrize("outcome", [None, Outcome.SUCCESS])
async def test_an_unknown_decision_is_refused_and_opens_no_session(
    ledger: Ledger, engine: Engine, outcome: Outcome | None
) -> None:
    decision_id = (await ledger.write(decide, "default", START, TASK, always())).decision_id
    before = await everything(ledger, engine)
    for unknown in (decision_id + 1, 2**63 - 1):
        closing = usage(decision_id=unknown, outcome=outcome)
        with pytest.raises(InvalidInputError) as refused:
            await ledger.write(record_usage, "other", START, closing, "reported")
        expected = "the id of an earlier decision"
        assert refused.value.problems == (Problem("decision_id", unknown, expected),)
    assert await everything(ledger, engine) == before


async def test_a_reset_closes_the_open_session_with_its_figures_and_opens_the_next(
    ledger: Ledger,
) -> None:
    await ledger.write(decide, "default", START, TASK, always())
    await ledger.write(
        decide, "default", START, TASK, always(replace(DECISION, reason=Reason.TASK_CRITICAL))
    )
    recorded = await ledger.write(record_usage, "default", START, usage(), "reported")
    done = await ledger.write(reset_session, "default", after(7), "new day")
    assert done == Reset(Settings(), recorded.after, 2, 2)
    assert await ledger.read(newest_sessions, None, 10) == NewestSessions(
        Settings(),
        (
            SessionRecord(Session(2, "default", after(7)), 0, None, None),
            SessionRecord(recorded.after, 2, after(7), "new day"),
        ),
    )
    assert await ledger.read(session_snapshot, "default", after(8)) == SessionSnapshot(
        Settings(), Session(2, "default", after(7)), decisions={}
    )
    assert len(await ledger.read(newest_decisions, "default", 10)) == 2


async def test_a_response_is_in_one_session_though_the_clocks_of_those_who_reset_differ(
    ledger: Ledger,
) -> None:
    for seconds in (0, 10, 9):
        await ledger.write(reset_session, "default", START + timedelta(seconds=seconds), None)
    response = MeasuredUsage("msg-1", START + timedelta(seconds=9.5), "claude-x", 7)
    await ledger.write(ingest, [response])
    found = (await ledger.read(newest_sessions, "default", 10)).sessions
    assert [each.session.claude.input_tokens for each in found] == [0, 0, 7]
    assert [each.ended_at for each in found] == [None, *[START + timedelta(seconds=10)] * 2]


async def test_a_reset_with_nothing_open_opens_a_session(ledger: Ledger) -> None:
    assert await ledger.write(reset_session, "default", START, None) == Reset(
        Settings(), None, 0, 1
    )
    assert await ledger.read(newest_sessions, None, 10) == NewestSessions(
        Settings(),
        (SessionRecord(Session(1, "default", START), 0, None, None),),
    )


async def test_sessions_of_different_names_know_nothing_of_each_other(
    ledger: Ledger,
) -> None:
    names = ("default", "Default", "default ", "größe", "日本", "a/b", "%")
    for position, name in enumerate(names):
        await ledger.write(decide, name, START, TASK, always())
        for _ in range(position):
            await ledger.write(record_usage, name, START, usage(TokenCounts(1)), "reported")
    await ledger.write(reset_session, "Default", after(1), None)
    for position, name in enumerate(names):
        snapshot = await ledger.read(session_snapshot, name, after(2))
        if name == "Default":
            assert (snapshot.session.claude, snapshot.decisions) == (NOTHING, {})
        else:
            assert snapshot.session.claude == TokenCounts(position)
            assert snapshot.decisions == {Reason.TASK_OPTIMIZED: 1}
        assert [entry.session for entry in await ledger.read(newest_decisions, name, 10)] == [name]
    assert [
        record.session.name for record in (await ledger.read(newest_sessions, "größe", 10)).sessions
    ] == ["größe"]


async def test_decisions_and_sessions_are_listed_newest_first_as_many_as_asked(
    ledger: Ledger,
) -> None:
    for minute, name in enumerate(("a", "b", "a", "b", "a")):
        await ledger.write(decide, name, after(minute), TASK, always())
        await ledger.write(reset_session, name, after(minute), None)
    assert [entry.decided_at for entry in await ledger.read(newest_decisions, None, 3)] == [
        after(4),
        after(3),
        after(2),
    ]
    assert [entry.decided_at for entry in await ledger.read(newest_decisions, "b", 10)] == [
        after(3),
        after(1),
    ]
    records = (await ledger.read(newest_sessions, None, 2)).sessions
    assert [(record.session.name, record.ended_at) for record in records] == [
        ("a", None),
        ("b", None),
    ]
    records = (await ledger.read(newest_sessions, "b", 10)).sessions
    assert [(record.decisions, record.ended_at) for record in records] == [
        (0, None),
        (1, after(3)),
        (1, after(1)),
    ]


async def test_without_a_window_a_session_never_ends_by_itself(ledger: Ledger) -> None:
    recorded = await ledger.write(record_usage, "default", START, usage(), "reported")
    snapshot = await ledger.read(session_snapshot, "default", after(60 * 24 * 365))
    assert snapshot.session == recorded.after


@pytest.mark.parametrize("write", ["record", "decide"])
async def test_a_session_that_reached_its_window_gives_way_to_the_next_at_the_next_write(
    ledger: Ledger, engine: Engine, write: str
) -> None:
    await ledger.write(change_settings, {"session_window_minutes": 300}, "test", START)
    recorded = await ledger.write(record_usage, "default", START, usage(), "reported")
    in_force = recorded.settings
    at_last, at_end = after(300) - timedelta(milliseconds=1), after(300)
    assert (await ledger.read(session_snapshot, "default", at_last)).session == recorded.after
    before = await everything(ledger, engine)
    assert await ledger.read(session_snapshot, "default", at_end) == SessionSnapshot(
        in_force, Session(None, "default"), decisions={}
    )
    assert await everything(ledger, engine) == before
    if write == "record":
        next_one = await ledger.write(record_usage, "default", at_end, usage(), "reported")
        assert next_one.before == Session(2, "default", at_end)
        assert next_one.after.claude == COUNTS
        decisions = 0
    else:
        await ledger.write(decide, "default", at_end, TASK, always())
        decisions = 1
    snapshot = await ledger.read(session_snapshot, "default", at_end)
    assert await ledger.read(newest_sessions, None, 10) == NewestSessions(
        in_force,
        (
            SessionRecord(snapshot.session, decisions, None, None),
            SessionRecord(recorded.after, 0, at_end, "session window"),
        ),
    )


async def test_just_before_its_window_a_session_goes_on(ledger: Ledger) -> None:
    await ledger.write(change_settings, {"session_window_minutes": 1}, "test", START)
    await ledger.write(record_usage, "default", START, usage(), "reported")
    recorded = await ledger.write(
        record_usage, "default", after(1) - timedelta(milliseconds=1), usage(), "reported"
    )
    assert (recorded.after.session_id, recorded.after.usage_records) == (1, 2)


async def test_a_repeat_reported_after_the_window_opens_nothing(
    ledger: Ledger, engine: Engine
) -> None:
    await ledger.write(change_settings, {"session_window_minutes": 1}, "test", START)
    await ledger.write(record_usage, "default", START, usage(request_id="r1"), "reported")
    before = await everything(ledger, engine)
    repeat = await ledger.write(
        record_usage, "default", after(9), usage(request_id="r1"), "reported"
    )
    none_open = Session(None, "default")
    assert (repeat.before, repeat.after, repeat.repeated) == (none_open, none_open, True)
    assert await everything(ledger, engine) == before


async def test_settings_are_the_defaults_until_somebody_sets_them(ledger: Ledger) -> None:
    assert await ledger.read(effective_settings) == Settings()
    assert await ledger.read(setting_changes, 10) == ()


async def test_changed_settings_hold_for_every_client_and_are_kept_with_who_when_and_what(
    ledger: Ledger, engine: Engine, stack: AsyncExitStack
) -> None:
    other = await engine.open(stack)
    assert await other.read(effective_settings) == Settings()
    done = await ledger.write(
        change_settings,
        {
            "token_warning_threshold": 100,
            "cache_read_weight": 0.1,
            "task_mappings": {"Translate Text": "qwen2.5:7b", "debug": None},
        },
        "Claude Code 2.1",
        START,
    )
    mappings = {**DEFAULT_TASK_MAPPINGS, "translate_text": "qwen2.5:7b"}
    del mappings["debug"]
    changed = replace(
        Settings(),
        token_warning_threshold=100,
        cache_read_weight=0.1,
        task_mappings=mappings,
    )
    assert done == SettingsChanged(Settings(), changed)
    assert await other.read(effective_settings) == changed
    assert (await other.read(session_snapshot, "default", START)).settings == changed
    client = "Claude Code 2.1"
    assert set(await other.read(setting_changes, 10)) == {
        SettingChange(START, client, "token_warning_threshold", None, "100"),
        SettingChange(START, client, "cache_read_weight", None, "0.1"),
        SettingChange(START, client, "task_mappings.debug", LOCAL, None),
        SettingChange(START, client, "task_mappings.translate_text", None, "qwen2.5:7b"),
    }


async def test_the_history_of_settings_is_newest_first_as_much_as_asked(
    ledger: Ledger,
) -> None:
    for minute, limit in enumerate((300_000, 400_000, 500_000)):
        await ledger.write(
            change_settings, {"session_limit": limit}, f"client {minute}", after(minute)
        )
    assert await ledger.read(setting_changes, 2) == (
        SettingChange(after(2), "client 2", "session_limit", "400000", "500000"),
        SettingChange(after(1), "client 1", "session_limit", "300000", "400000"),
    )


async def test_setting_what_is_set_already_leaves_no_line_in_the_history(
    ledger: Ledger,
) -> None:
    await ledger.write(change_settings, {"session_limit": 300_000}, "test", START)
    done = await ledger.write(change_settings, {"session_limit": 300_000}, "test", after(1))
    assert done.before == done.after
    assert len(await ledger.read(setting_changes, 10)) == 1


async def test_one_bad_field_refuses_all_changes_and_every_bad_field_is_named(
    ledger: Ledger, engine: Engine
) -> None:
    before = await everything(ledger, engine)
    with pytest.raises(InvalidInputError) as refused:
        await ledger.write(
            change_settings,
            {
                "claude_model": "claude-opus-4.6",
                "session_limit": 0,
                "input_weight": -1,
                "task_mappings": {"debug": "a model"},
            },
            "test",
            START,
        )
    assert [problem.field for problem in refused.value.problems] == [
        "session_limit",
        "input_weight",
        "task_mappings.debug",
    ]
    with pytest.raises(InvalidInputError, match="token_warning_threshold"):
        await ledger.write(change_settings, {"token_auto_switch_threshold": 100_000}, "test", START)
    with pytest.raises(InvalidInputError, match="no_such_setting"):
        await ledger.write(
            change_settings, {"session_limit": 300_000, "no_such_setting": 1}, "test", START
        )
    assert await everything(ledger, engine) == before


async def test_settings_that_are_unset_return_to_their_defaults_with_a_line_in_the_history(
    ledger: Ledger,
) -> None:
    changed = await ledger.write(
        change_settings,
        {"session_limit": 300_000, "task_mappings": {"debug": "m:1", "translate": "m:2"}},
        "test",
        START,
    )
    done = await ledger.write(
        unset_settings, ("session_limit", "task_mappings.translate"), "other", after(1)
    )
    mappings = {**DEFAULT_TASK_MAPPINGS, "debug": "m:1"}
    assert done == SettingsChanged(changed.after, replace(Settings(), task_mappings=mappings))
    assert await ledger.read(effective_settings) == done.after
    assert set(await ledger.read(setting_changes, 2)) == {
        SettingChange(after(1), "other", "session_limit", "300000", None),
        SettingChange(after(1), "other", "task_mappings.translate", "m:2", None),
    }
    done = await ledger.write(unset_settings, ("task_mappings",), "other", after(2))
    assert (done.after, await ledger.read(effective_settings)) == (Settings(), Settings())


async def test_unsetting_an_unknown_setting_is_refused_and_changes_nothing(
    ledger: Ledger, engine: Engine
) -> None:
    await ledger.write(change_settings, {"session_limit": 300_000}, "test", START)
    before = await everything(ledger, engine)
    with pytest.raises(InvalidInputError, match="no_such_setting"):
        await ledger.write(unset_settings, ("session_limit", "no_such_setting"), "test", START)
    assert await everything(ledger, engine) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("session_limit", "plenty"),
        ("token_warning_threshold", "-1"),
        ("input_weight", "nan"),
        ("claude_model", ""),
        ("task_mappings", "[1]"),
        ("task_mappings", "{"),
    ],
)
async def test_stored_settings_that_cannot_be_used_stop_every_use_and_can_be_mended(
    ledger: Ledger, engine: Engine, name: str, text: str
) -> None:
    await ledger.write(record_usage, "default", START, usage(), "reported")
    engine.store_setting(name, text)
    uses: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: ledger.read(effective_settings),
        lambda: ledger.read(session_revisions),
        lambda: ledger.read(newest_sessions, None, 1),
        lambda: ledger.read(session_snapshot, "default", START),
        lambda: ledger.write(decide, "default", START, TASK, always()),
        lambda: ledger.write(record_usage, "default", START, usage(), "reported"),
        lambda: ledger.write(reset_session, "default", START, None),
    )
    for use in uses:
        with pytest.raises(InvalidStoredSettingsError, match=name):
            await use()
    assert len(engine.usage_records()) == 1
    done = await ledger.write(unset_settings, (name,), "test", START)
    assert (done.after, await ledger.read(effective_settings)) == (Settings(), Settings())


async def test_a_stored_setting_that_cannot_be_used_is_mended_by_setting_it(
    ledger: Ledger, engine: Engine
) -> None:
    assert await ledger.read(effective_settings) == Settings()
    engine.store_setting("session_limit", "plenty")
    done = await ledger.write(change_settings, {"session_limit": 300_000}, "test", START)
    assert (
        done.after
        == await ledger.read(effective_settings)
        == replace(Settings(), session_limit=300_000)
    )
    assert await ledger.read(setting_changes, 1) == (
        SettingChange(START, "test", "session_limit", "plenty", "300000"),
    )


async def test_revisions_tell_when_the_status_of_an_open_session_changed_and_whose(
    ledger: Ledger,
) -> None:
    await ledger.write(reset_session, "a", START, None)
    await ledger.write(reset_session, "b", START, None)
    changes: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: ledger.write(record_usage, "a", START, usage(), "reported"),
        lambda: ledger.write(record_usage, "a", START, usage(model=LOCAL), "reported"),
        lambda: ledger.write(decide, "a", START, TASK, always()),
        lambda: ledger.write(reset_session, "a", START, None),
    )
    revisions = await ledger.read(session_revisions)
    before = revisions.sessions
    assert (revisions.settings, set(before)) == (Settings(), {"a", "b"})
    for change in changes:
        await change()
        now = (await ledger.read(session_revisions)).sessions
        assert now["a"] != before["a"]
        assert now["b"] == before["b"]
        before = now
    await ledger.read(session_snapshot, "a", START)
    await ledger.write(record_usage, "a", START, usage(request_id="r1"), "reported")
    before = (await ledger.read(session_revisions)).sessions
    await ledger.write(record_usage, "a", START, usage(request_id="r1"), "reported")
    assert (await ledger.read(session_revisions)).sessions == before
    done = await ledger.write(change_settings, {"session_limit": 300_000}, "test", START)
    assert (await ledger.read(session_revisions)).settings == done.after


def measured(
    message_id: str,
    minute: float,
    counts: TokenCounts = COUNTS,
    model: str = CLAUDE,
    folder: str | None = "/code/shop",
) -> MeasuredUsage:
    return MeasuredUsage(message_id, after(minute), model, folder=folder).with_counts(counts)


async def test_a_session_is_opened_unless_one_is_open(ledger: Ledger) -> None:
    await ledger.write(open_session, "default", START)
    await ledger.write(open_session, "default", after(1))
    assert await ledger.read(newest_sessions, None, 10) == NewestSessions(
        Settings(),
        (SessionRecord(Session(1, "default", START), 0, None, None),),
    )


async def test_measured_usage_counts_in_every_session_that_was_open_then_and_in_no_other(
    ledger: Ledger,
) -> None:
    await ledger.write(open_session, "a", START)
    await ledger.write(open_session, "b", after(10))
    await ledger.write(reset_session, "a", after(20), None)
    new = await ledger.write(
        ingest,
        [
            measured("m1", -1, TokenCounts(1)),
            measured("m2", 0, TokenCounts(10)),
            measured("m3", 15, TokenCounts(100)),
            measured("m4", 20, TokenCounts(1000)),
            measured("m5", 21, TokenCounts(0, 7), model=LOCAL),
        ],
    )
    assert new == 5
    records = (await ledger.read(newest_sessions, None, 10)).sessions
    assert {
        record.session.session_id: (
            record.session.claude,
            record.session.measured,
            record.session.local,
            record.session.usage_records,
        )
        for record in records
    } == {
        1: (TokenCounts(110), TokenCounts(110), NOTHING, 2),
        2: (TokenCounts(1100), TokenCounts(1100), TokenCounts(0, 7), 3),
        3: (TokenCounts(1000), TokenCounts(1000), TokenCounts(0, 7), 2),
    }


async def test_a_measured_response_counts_once_with_the_largest_total_seen_for_it(
    ledger: Ledger, engine: Engine
) -> None:
    await ledger.write(open_session, "default", START)
    assert await ledger.write(ingest, [measured("m1", 1, TokenCounts(5, 1))]) == 1
    grown = [measured("m1", 2, TokenCounts(5, 9)), measured("m1", 3, TokenCounts(5, 4))]
    assert await ledger.write(ingest, grown) == 1
    before = await everything(ledger, engine)
    assert await ledger.write(ingest, grown) == 0
    assert await everything(ledger, engine) == before
    session = (await ledger.read(session_snapshot, "default", after(4))).session
    assert (session.claude, session.measured, session.usage_records) == (
        TokenCounts(5, 9),
        TokenCounts(5, 9),
        1,
    )


async def test_a_bound_session_counts_its_folder_alone_from_its_next_start_on(
    ledger: Ledger,
) -> None:
    await ledger.write(open_session, "shop", START)
    await ledger.write(bind_session, "shop", "/code/shop")
    await ledger.write(reset_session, "shop", after(10), None)
    elsewhere = [None, "/code", "/code/shopping", "/code/shop", "/code/shop/web"]
    for minute in (5, 15):
        await ledger.write(
            ingest,
            [
                measured(f"{minute} {folder}", minute, TokenCounts(10**position), folder=folder)
                for position, folder in enumerate(elsewhere)
            ],
        )
    await ledger.write(remove_bindings, "shop")
    await ledger.write(reset_session, "shop", after(20), None)
    records = (await ledger.read(newest_sessions, None, 10)).sessions
    assert [(record.session.folder, record.session.claude.input_tokens) for record in records] == [
        (None, 0),
        ("/code/shop", 11_000),
        (None, 11_111),
    ]


async def test_how_far_transcripts_were_read_is_kept_for_every_client(
    ledger: Ledger, engine: Engine, stack: AsyncExitStack
) -> None:
    first = TranscriptPosition(
        "/a.jsonl", 1, 100, 10**18, 90, 2**32 - 1, 2, "2026-01-01T00:00:00+00:00"
    )
    second = TranscriptPosition("/b.jsonl", 2**40, -1, 0, 0, 0, 0)
    assert await ledger.read(reading_state, START) == ReadingState(None, {})
    for position in (first, second):
        await ledger.write(ingest, [], [position])
    await ledger.write(ingest, [], [first, second._replace(size=5)])
    await ledger.write(open_session, "default", START)
    other = await engine.open(stack)
    assert await other.read(reading_state, after(1)) == ReadingState(
        START, {first.path: first, second.path: second._replace(size=5)}
    )
    assert await other.read(unread_lines) == 2


async def test_transcripts_are_read_back_to_the_oldest_session_that_may_still_grow(
    ledger: Ledger,
) -> None:
    await ledger.write(open_session, "a", START)
    await ledger.write(reset_session, "a", after(10), None)
    day = 24 * 60
    assert (await ledger.read(reading_state, after(10 + day - 1))).since == START
    assert (await ledger.read(reading_state, after(10 + day))).since == after(10)


async def test_the_plan_s_limits_are_kept_as_last_reported_until_their_window_ends(
    ledger: Ledger,
) -> None:
    five_hour = PlanUsage("five_hour", 12.5, after(60))
    seven_day = PlanUsage("seven_day", 80.0, after(6000))
    assert await ledger.read(plan_usage, START) == ()
    await ledger.write(
        record_plan_usage, [replace(five_hour, used_percentage=1.0), seven_day], START
    )
    await ledger.write(record_plan_usage, [five_hour], START)
    assert await ledger.read(plan_usage, after(59)) == (five_hour, seven_day)
    assert await ledger.read(plan_usage, after(60)) == (seven_day,)


async def test_what_one_client_stored_every_other_reads_at_its_next_call(
    ledger: Ledger, engine: Engine, stack: AsyncExitStack
) -> None:
    other = await engine.open(stack)
    for turn in range(1, 4):
        for client in (ledger, other):
            await client.write(decide, "default", START, TASK, always())
            await client.write(record_usage, "default", START, usage(TokenCounts(1)), "reported")
        snapshot = await ledger.read(session_snapshot, "default", START)
        assert snapshot.session.claude == TokenCounts(2 * turn)
        assert snapshot.decisions == {Reason.TASK_OPTIMIZED: 2 * turn}
        assert await ledger.read(session_snapshot, "default", START) == await other.read(
            session_snapshot, "default", START
        )
    assert await everything(ledger, engine) == await everything(other, engine)


async def test_calls_that_are_made_all_at_once_are_all_done(
    ledger: Ledger, engine: Engine, stack: AsyncExitStack
) -> None:
    clients = (ledger, await engine.open(stack))
    totals: list[int] = []

    async def record(client: Ledger) -> None:
        recorded = await client.write(
            record_usage, "default", START, usage(TokenCounts(1)), "reported"
        )
        totals.append(recorded.after.claude.input_tokens)

    async with anyio.create_task_group() as tasks:
        for turn in range(60):
            tasks.start_soon(record, clients[turn % 2])
    assert sorted(totals) == list(range(1, 61))


async def test_everything_is_there_after_closing_and_opening_again(
    ledger: Ledger, engine: Engine
) -> None:
    await ledger.write(decide, "default", START, TASK, always())
    await ledger.write(record_usage, "default", START, usage(request_id="r1"), "reported")
    await ledger.write(change_settings, {"session_limit": 300_000}, "test", START)
    before = await everything(ledger, engine)
    async with AsyncExitStack() as stack:
        again = await engine.open(stack)
        assert await everything(again, engine) == before
    async with AsyncExitStack() as stack:
        again = await engine.open(stack)
        repeat = await again.write(
            record_usage, "default", START, usage(request_id="r1"), "reported"
        )
        assert repeat.repeated
        assert await everything(again, engine) == before


@dataclass
class Model:
    """What a ledger ought to hold, worked out the slow way."""

    open_id: dict[str, int] = field(default_factory=dict[str, int])
    claude: dict[int, list[TokenCounts]] = field(default_factory=dict[int, list[TokenCounts]])
    local: dict[int, list[TokenCounts]] = field(default_factory=dict[int, list[TokenCounts]])
    decided: dict[int, list[Reason]] = field(default_factory=dict[int, list[Reason]])
    requests: dict[str, tuple[str, Usage]] = field(default_factory=dict[str, tuple[str, Usage]])

    def begin(self, name: str) -> int:
        session_id = len(self.claude) + 1
        self.open_id[name] = session_id
        self.claude[session_id], self.local[session_id], self.decided[session_id] = [], [], []
        return session_id

    def current(self, name: str) -> int:
        return self.open_id.get(name) or self.begin(name)

    def totals(self, session_id: int) -> tuple[TokenCounts, TokenCounts, int, int]:
        def total(of: list[TokenCounts]) -> TokenCounts:
            return TokenCounts(
                sum(counts.input_tokens for counts in of),
                sum(counts.output_tokens for counts in of),
                sum(counts.cache_creation_input_tokens for counts in of),
                sum(counts.cache_read_input_tokens for counts in of),
            )

        claude, local = self.claude[session_id], self.local[session_id]
        return (
            total(claude),
            total(local),
            len(claude) + len(local),
            len(self.decided[session_id]),
        )


NAMES = st.sampled_from(("a", "b"))
ONE_COUNT = st.integers(0, 9)
STEPS = st.one_of(
    st.tuples(
        NAMES,
        st.builds(
            Usage,
            st.sampled_from((CLAUDE, LOCAL)),
            st.builds(TokenCounts, ONE_COUNT, ONE_COUNT, ONE_COUNT, ONE_COUNT),
            st.none() | st.sampled_from(("r1", "r2", "r3")),
            decision_id=st.none(),
            outcome=st.none(),
            seconds=st.none(),
            judge=st.just(Judge.ASSISTANT),
        ),
    ),
    st.tuples(NAMES, st.sampled_from(Reason)),
    st.tuples(NAMES, st.none()),
)


async def follow(
    ledger: Ledger, steps: list[tuple[str, Usage | Reason | None]], model: Model
) -> None:
    for name, step in steps:
        if step is None:
            model.open_id.pop(name, None)
            expected = model.begin(name)
            assert (await ledger.write(reset_session, name, START, None)).session_id == expected
        elif isinstance(step, Reason):
            model.decided[model.current(name)].append(step)
            await ledger.write(decide, name, START, TASK, always(replace(DECISION, reason=step)))
        elif step.request_id is not None and step.request_id in model.requests:
            if model.requests[step.request_id] == (name, step):
                assert (await ledger.write(record_usage, name, START, step, "reported")).repeated
            else:
                with pytest.raises(InvalidInputError):
                    await ledger.write(record_usage, name, START, step, "reported")
        else:
            counted = model.claude if step.model == CLAUDE else model.local
            counted[model.current(name)].append(step.counts)
            assert not (await ledger.write(record_usage, name, START, step, "reported")).repeated
            if step.request_id is not None:
                model.requests[step.request_id] = (name, step)


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.__name__)
@settings(deadline=None, max_examples=40)
@given(steps=st.lists(STEPS, max_size=25))
async def test_totals_are_the_sums_of_what_was_recorded_whatever_was_called_in_whatever_order(
    kind: type[SqliteEngine], steps: list[tuple[str, Usage | Reason | None]]
) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            ledger = await kind(Path(folder) / "ledger.db").open(stack)
            await follow(ledger, steps, model)
            records = (await ledger.read(newest_sessions, None, 1000)).sessions
    assert {
        record.session.session_id: (
            record.session.claude,
            record.session.local,
            record.session.usage_records,
            record.decisions,
        )
        for record in records
    } == {session_id: model.totals(session_id) for session_id in model.claude}
    assert {
        record.session.name: record.session.session_id
        for record in records
        if record.ended_at is None
    } == model.open_id
