"""What a joined team's server does not have yet: whatever happens on the way, each response counts there once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self, TypeAlias

import examples
import wire
from hypothesis import example, given
from hypothesis import strategies as st

from immunos_mcp.domain import PlanUsage, TokenCounts
from immunos_mcp.gateway_messages import PushedPlanUsage, PushedRequest, PushedResponse, PushedTotal
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.ingestion import ingest, ingest_requests
from immunos_mcp.ledger.joined_team import JoinedTeam, join_team, leave_team, waiting_for_team
from immunos_mcp.ledger.plan_limits import record_plan_usage
from immunos_mcp.ledger.session_start import open_session
from immunos_mcp.ledger.unpushed import (
    Place,
    TeamUsage,
    Unpushed,
    forget_pushed,
    history_page,
    unpushed,
)
from immunos_mcp.logged_usage import ConversationTotal, MeasuredUsage, ModelTotal, RequestUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MODEL = "claude-sonnet-4-5"
RED = JoinedTeam("g", "https://budget.example.com", "red", "ada", NOW, NOW, sends_labels=True)

Logged: TypeAlias = "MeasuredUsage | ConversationTotal | RequestUsage | PlanUsage"
Steps: TypeAlias = "list[list[Logged] | str]"

CONVERSATIONS = ("one", "two", "fork")
RESPONSES = """
    SELECT message_id, measured_at, model, input_tokens, output_tokens, request_id, conversation,
        is_sidechain, cache_1h_input_tokens FROM immunos_mcp_measured_usage ORDER BY message_id
"""
SIDE_USAGE = """
    SELECT conversation, used_at, model, sum(input_tokens), sum(output_tokens)
    FROM immunos_mcp_side_usage GROUP BY 1, 2, 3
    HAVING sum(input_tokens) + sum(output_tokens) > 0 ORDER BY 1, 2, 3
"""
STATES = (
    RESPONSES,
    SIDE_USAGE,
    "SELECT request_id, finished_at, model, input_tokens FROM immunos_mcp_request_usage ORDER BY 1",
    "SELECT claude_input_tokens, claude_output_tokens FROM immunos_mcp_session",
    "SELECT plan_window, used_percentage FROM immunos_mcp_plan_usage ORDER BY 1",
)


def at(minute: int) -> datetime:
    return NOW + timedelta(minutes=minute)


def response(number: int, minute: int, size: int, conversation: str) -> MeasuredUsage:
    return MeasuredUsage(f"m{number}", at(minute), MODEL, size, size, conversation=conversation)


def total(conversation: str, minute: int, *tokens: int) -> ConversationTotal:
    models = (ModelTotal(MODEL, *tokens),) if tokens else ()
    began = int(NOW.timestamp() * 1000)
    return ConversationTotal(conversation, began, at(minute), models, at(minute))


FORKED: list[list[Logged]] = [
    [response(1, 1, 5, "one"), response(1, 1, 5, "fork"), response(2, 2, 50, "fork")],
    [total("one", 1, 41, 40), total("fork", 2, 81, 80)],
]
CONTINUED: list[list[Logged]] = [
    [total("one", 1, 41, 40), total("one", 2)],
    [response(2, 3, 50, "one"), total("one", 4, 120, 120)],
]

SIZES = st.integers(1, 50)
MINUTES = st.integers(1, 6)


@st.composite
def responses(draw: st.DrawFn) -> MeasuredUsage:
    number = draw(st.integers(1, 4))
    found = response(number, draw(MINUTES), draw(SIZES), draw(st.sampled_from(CONVERSATIONS)))
    return found._replace(
        folder="/home/ada/webshop", request_id=f"r{number}" if draw(st.booleans()) else None
    )


@st.composite
def requests(draw: st.DrawFn) -> RequestUsage:
    number, size = draw(MINUTES), draw(SIZES)
    counts = TokenCounts(size, size)
    conversation = draw(st.sampled_from(CONVERSATIONS))
    return RequestUsage(f"r{number}", at(number), MODEL, counts, conversation)


@st.composite
def totals(draw: st.DrawFn) -> ConversationTotal:
    minute = draw(MINUTES)
    tokens = () if draw(st.booleans()) else (40 * minute + draw(SIZES), 40 * minute)
    return total(draw(st.sampled_from(CONVERSATIONS)), minute, *tokens)


@st.composite
def plans(draw: st.DrawFn) -> PlanUsage:
    return PlanUsage("five_hour", draw(SIZES), at(300))


def logged(each: st.SearchStrategy[Logged]) -> st.SearchStrategy[list[Logged]]:
    return st.lists(each, min_size=1, max_size=3)


LOGGED = logged(responses()) | logged(requests()) | logged(totals()) | logged(plans())
HAPPENINGS = st.sampled_from(["push", "lose the answer", "change meanwhile"])


class Pair:
    """A developer's ledger and the team's."""

    def __init__(self, folder: str) -> None:
        self.files = (Path(folder, "own.db"), Path(folder, "team.db"))
        self.own, self.team = (InlineSqliteLedger(file) for file in self.files)
        self.minute = 0
        for ledger in (self.own, self.team):
            run_sync(ledger.write(open_session, "default", NOW))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.own.close()
        self.team.close()

    def join(self, since: datetime = NOW) -> None:
        run_sync(self.own.write(join_team, RED._replace(usage_from=since)))

    def store(self, rows: Sequence[Logged]) -> None:
        """Store what assistants logged."""
        self.minute += 1
        requests = [each for each in rows if isinstance(each, RequestUsage)]
        plan = [each for each in rows if isinstance(each, PlanUsage)]
        measured = [each for each in rows if isinstance(each, MeasuredUsage)]
        totals = [each for each in rows if isinstance(each, ConversationTotal)]
        if requests:
            run_sync(self.own.write(ingest_requests, requests))
        if measured or totals:
            run_sync(self.own.write(ingest, measured, (), totals))
        run_sync(self.own.write(record_plan_usage, plan, at(self.minute)))

    def next_part(self, most: int = 2) -> Unpushed:
        part = run_sync(self.own.read(unpushed, most))
        assert part is not None
        return part

    def receive(self, usage: TeamUsage, *, is_last: bool = True) -> None:
        """Store usage as the team's server does, from the messages that it gets."""
        run_sync(
            self.team.write(
                ingest,
                [PushedResponse.of(each).usage for each in usage.responses],
                (),
                [PushedTotal.of(each).total for each in usage.totals],
                reports=[PushedPlanUsage.of(each).report for each in usage.plan],
                is_last=is_last,
            )
        )
        if usage.requests:
            sent = [PushedRequest.of(each).usage for each in usage.requests]
            run_sync(self.team.write(ingest_requests, sent))

    def push(self, meanwhile: Callable[[], None] | None = None, most: int = 2) -> bool:
        """Push a part; return whether it was the last."""
        part = self.next_part(most)
        self.receive(part.usage, is_last=part.is_last)
        if meanwhile is not None:
            meanwhile()
        run_sync(self.own.write(forget_pushed, part.changes))
        return part.is_last

    def figures(self, *, which: int) -> list[list[tuple[object, ...]]]:
        return [wire.rows(self.files[which], statement) for statement in STATES]


def grown(rows: Iterable[Logged]) -> list[Logged]:
    """Return responses as they are logged a moment later."""
    return [
        each._replace(output_tokens=each.output_tokens + 100)
        for each in rows
        if isinstance(each, MeasuredUsage)
    ]


@examples.on_ledgers
@given(st.lists(LOGGED | HAPPENINGS, max_size=8))
@example([[MeasuredUsage("m1", at(1), MODEL, 5, 5)], "change meanwhile"])
@example([[MeasuredUsage("m1", at(1), MODEL, 5, 5)], "lose the answer"])
@example([*FORKED])
@example([*CONTINUED])
def test_the_team_has_what_the_developer_has_whatever_happens_on_the_way(
    steps: Steps,
) -> None:
    with TemporaryDirectory() as folder, Pair(folder) as pair:
        pair.join()
        newest: list[Logged] = []
        for step in steps:
            if not isinstance(step, str):
                pair.store(step)
                newest = step
            elif step == "push":
                pair.push()
            elif step == "lose the answer":
                part = pair.next_part()
                pair.receive(part.usage, is_last=part.is_last)
            else:
                pair.push(partial(pair.store, grown(newest)))
        while not pair.push():
            pass
        assert pair.figures(which=1) == pair.figures(which=0)
        waiting = run_sync(pair.own.read(waiting_for_team))
        assert waiting is not None
        assert waiting.rows == 0


@examples.on_ledgers
@given(st.lists(LOGGED, max_size=8))
@example([*FORKED])
def test_a_history_is_read_in_parts_without_a_team(steps: list[list[Logged]]) -> None:
    with TemporaryDirectory() as folder, Pair(folder) as pair:
        for step in steps:
            pair.store(step)
        place: Place | None = Place()
        while place is not None:
            page = run_sync(pair.own.read(history_page, place, None, 2))
            place = page.next_place
            pair.receive(page.usage, is_last=place is None)
        assert pair.figures(which=1) == pair.figures(which=0)


def test_what_was_used_before_joining_is_not_sent(tmp_path: Path) -> None:
    with Pair(str(tmp_path)) as pair:
        earlier, later = (MeasuredUsage(f"m{minute}", at(minute), MODEL, 1) for minute in (1, 9))
        pair.store([earlier, later])
        pair.join(since=at(5))
        assert pair.next_part(9).usage.responses == (later,)
        # An import of more history sends none of it either.
        pair.store([MeasuredUsage("m2", at(2), MODEL, 1)])
        assert pair.next_part(9).usage.responses == (later,)


def test_leaving_restores_the_ledger_as_if_it_had_never_joined(tmp_path: Path) -> None:
    with Pair(str(tmp_path)) as pair:
        pair.store([MeasuredUsage("m1", at(1), MODEL, 1)])
        before = wire.dump(pair.files[0])
        pair.join()
        assert wire.dump(pair.files[0]) != before
        run_sync(pair.own.write(leave_team))
        assert wire.dump(pair.files[0]) == before
