"""Any line of a transcript is usage, nothing, or a line to salvage, which never fails."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st
from mutations import json_values, mutated

from immunos_mcp.assistants.claude_code.usage_lines import salvage, usage_of
from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.logged_usage import MeasuredUsage

USAGE = {
    "input_tokens": 3,
    "output_tokens": 5,
    "cache_creation_input_tokens": 7,
    "cache_read_input_tokens": 11,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
    "server_tool_use": {"web_search_requests": 1},
}


def line(usage: object) -> bytes:
    entry = {
        "type": "assistant",
        "timestamp": "2026-01-15T12:00:00.000Z",
        "message": {"id": "msg_1", "model": "claude-x", "usage": usage},
        "cwd": "/p",
    }
    return json.dumps(entry).encode()


ORIGINALS = [line(USAGE), line(USAGE) + line(USAGE), b'{"type":"user"}', b""]


def read(content: bytes) -> tuple[MeasuredUsage, ...]:
    try:
        found = usage_of(content)
    except ValueError:
        found = salvage(content).usage
    return tuple(each for each in found if isinstance(each, MeasuredUsage))


def assert_countable(responses: tuple[MeasuredUsage, ...]) -> None:
    for response in responses:
        for count in response[3:7]:
            assert isinstance(count, int)
            assert 0 <= count <= 2 * MAXIMUM_TOKENS
        for text in (response.message_id, response.model):
            text.encode()


@given(mutated(ORIGINALS))
@example(b"[" * 100_000)
@example(line(USAGE).replace(b"claude-x", b"\\ud800"))
@example(line(USAGE).replace(b"2026-01-15", b"9999-99-99"))
def test_any_line_is_counted_or_left(content: bytes) -> None:
    assert_countable(read(content))


@given(json_values)
def test_any_usage_is_counted_or_left(usage: object) -> None:
    assert_countable(read(line(usage)))


counts = st.none() | st.integers(0, 1000)
parts = st.fixed_dictionaries(
    {}, optional={f"ephemeral_{time}_input_tokens": counts for time in ("5m", "1h")}
)
used = st.fixed_dictionaries(
    {},
    optional={
        **{name: counts for name in USAGE if name.endswith("_tokens")},
        "cache_creation": st.none() | parts,
    },
)


@given(used, st.lists(used, max_size=2))
def test_a_line_is_read_alike_whole_and_damaged(
    usage: dict[str, object], advisors: list[dict[str, object]]
) -> None:
    iterations = [{**each, "type": "advisor_message", "model": "claude-y"} for each in advisors]
    whole = line({**usage, "iterations": iterations})
    assert tuple(usage_of(whole)) == salvage(b"\0" + whole).usage
