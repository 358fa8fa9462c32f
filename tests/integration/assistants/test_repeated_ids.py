"""Responses whose ids gateways repeat or leave out, and those that side conversations repeat, count once each."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import examples
import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st
from transcript_desks import AFTER, Desk
from transcript_lines import NOON

from immunos_mcp.domain import TokenCounts
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.ingestion import ingest_requests
from immunos_mcp.logged_usage import RequestUsage

if TYPE_CHECKING:
    from datetime import timedelta

MAIN, FORK, SIDE = "-p/one.jsonl", "-p/two.jsonl", "-p/one/subagents/agent-a.jsonl"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.begin()
    desk.now = AFTER
    return desk


def line(
    message_id: str | None,
    request: str | None,
    tokens: int,
    *,
    after: timedelta | None = None,
    side: bool = False,
    conversation: str = "one",
) -> str:
    at = NOON if after is None else NOON + after
    entry = {
        "type": "assistant",
        "isSidechain": side,
        "message": {
            "id": message_id,
            "model": "claude-x",
            "usage": {"input_tokens": tokens, "output_tokens": 1},
        },
        "requestId": request,
        "uuid": "u",
        "timestamp": at.isoformat(),
        "sessionId": conversation,
    }
    return json.dumps(entry) + "\n"


def append(desk: Desk, name: str, *lines: str) -> None:
    path = desk.projects / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write("".join(lines).encode())


def test_what_cannot_be_told_apart_without_requests_is_reported(desk: Desk) -> None:
    append(desk, MAIN, *(line("ocgo", None, tokens) for tokens in (1000, 1000, 2000)))
    assert desk.status().unread_lines == 1
    append(desk, MAIN, line("ocgo", None, 3000))
    status = desk.status()
    assert (status.session_tokens, status.unread_lines) == (3001, 2)


def test_a_prompt_that_only_the_last_line_knows_is_no_repetition(desk: Desk) -> None:
    append(desk, MAIN, line("m1", None, 0), line("m1", None, 2000))
    status = desk.status()
    assert (status.session_tokens, status.unread_lines) == (2001, None)


def test_responses_of_a_side_conversation_that_cannot_be_told_apart_are_reported(
    desk: Desk,
) -> None:
    append(desk, SIDE, line("ocgo", "r1", 5, side=True), line("ocgo", "r2", 7, side=True))
    assert desk.status().unread_lines == 1


def test_a_response_whose_request_shows_late_takes_over_what_telemetry_has(desk: Desk) -> None:
    append(desk, MAIN, line("m1", None, 10))
    assert desk.tokens() == 11
    request = RequestUsage("r1", NOON, "claude-x", TokenCounts(input_tokens=30), "one")
    run_sync(desk.ledger.write(ingest_requests, [request]))
    append(desk, MAIN, line("m1", "r1", 20))
    assert desk.tokens() == 30


class Response(NamedTuple):
    """A response with the lines that have its id, and those that have none."""

    message_id: str
    has_id: list[bool]
    tokens: int
    is_forked: bool
    is_replayed: bool


responses = st.builds(
    Response,
    message_id=st.sampled_from(["ocgo", "m1", "m2"]),
    has_id=st.lists(st.booleans(), min_size=1, max_size=3),
    tokens=st.integers(1, 1000),
    is_forked=st.booleans(),
    is_replayed=st.booleans(),
)


def written(all_responses: list[Response]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {MAIN: [], FORK: [], SIDE: []}
    for number, each in enumerate(all_responses):
        for step, has_id in enumerate(each.has_id):
            message_id = each.message_id if has_id else None
            tokens = each.tokens * (step + 1)
            files[MAIN].append(line(message_id, f"r{number}", tokens))
            if each.is_forked:
                files[FORK].append(line(message_id, f"r{number}", tokens, conversation="two"))
            # A line without an id is no repeat of anything that it could be compared with.
            if each.is_replayed and has_id:
                files[SIDE].append(line(message_id, f"side{number}", tokens, side=True))
    return files


@examples.on_ledgers
@given(st.lists(responses, max_size=6), st.data())
def test_each_response_counts_once_in_whatever_order_and_portions_it_is_read(
    all_responses: list[Response], data: st.DataObject
) -> None:
    unread = {name: lines for name, lines in written(all_responses).items() if lines}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        desk = Desk(folder)
        stack.enter_context(desk.ledger)
        desk.begin()
        desk.now = AFTER
        while unread:
            name = data.draw(st.sampled_from(sorted(unread)))
            number = data.draw(st.integers(1, len(unread[name])))
            append(desk, name, *unread[name][:number])
            unread[name] = unread[name][number:]
            if not unread[name]:
                del unread[name]
            if data.draw(st.booleans()):
                desk.tokens()
        expected = sum(each.tokens * len(each.has_id) + 1 for each in all_responses)
        assert desk.tokens() == expected
        wire.assert_sound(folder / "ledger.db")
        wire.execute(folder / "ledger.db", "DELETE FROM immunos_mcp_transcript")
        desk.sync_all()
        assert desk.tokens() == expected
        wire.assert_sound(folder / "ledger.db")
