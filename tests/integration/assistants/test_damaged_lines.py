"""Lines that are damaged or unusual: what can be counted counts once, the rest is reported."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transcript_desks import AFTER, Desk
from transcript_lines import Answer, append, transcript

from immunos_mcp.assistants import bulk_reading, json_objects, transcript_reading
from immunos_mcp.assistants.claude_code import usage_lines
from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.nesting import MOST_LEVELS
from immunos_mcp.assistants.transcripts import Batch, Transcript, TranscriptFolders
from immunos_mcp.domain import MAXIMUM_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from immunos_mcp.logged_usage import MeasuredUsage
    from immunos_mcp.transcript_position import TranscriptPosition


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.begin()
    made.now = AFTER
    yield made
    made.ledger.close()


def seen(desk: Desk, *lines: bytes) -> tuple[int, int | None]:
    """Return the tokens and unread lines, which an import must find too."""
    transcript(desk.projects).write_bytes(b"\n".join(lines) + b"\n")
    status = desk.status()
    (found,) = TranscriptFolders((desk.projects,), FORMAT).changed({}, None)
    (portion,) = bulk_reading.read_portions([(found, None)], FORMAT, None)
    imported = sum({usage.message_id: usage.total for usage in portion.usage}.values())
    assert (imported, portion.positions[-1].unread_lines or None) == (
        status.session_tokens,
        status.unread_lines,
    )
    return status.session_tokens, status.unread_lines


def line(message_id: str = "m", tokens: int = 10) -> bytes:
    return Answer(message_id, tokens).line().encode()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    record = json.loads(line())
    change(record)
    return json.dumps(record).encode()


HALF = line("half")[:250]
NESTED = b'{"a":' * 1200 + b"1" + b"}" * 1200

READABLE: dict[str, tuple[bytes, int]] = {
    "NULs before": (b"\0" * 300 + line(), 10),
    "NULs after": (line() + b"\0" * 900, 10),
    "two glued": (line("m1") + line("m2"), 20),
    "glued by NULs": (line("m1") + b"\0" * 20 + line("m2"), 20),
    "a byte order mark": (b"\xef\xbb\xbf" + line(), 10),
    "half an emoji": (line().replace(b"it says", b"a \\ud83d and"), 10),
    "half an emoji in a name": (line().replace(b"/home/dev", b"/home/\\ud83d"), 10),
    "bytes that are not UTF-8": (line().replace(b"it says", b"caf\xe9"), 10),
    "such bytes in a name": (line().replace(b"/home/dev", b"/home/caf\xe9"), 10),
    "control characters": (line().replace(b"it says", b"\0\1\t"), 10),
    "no id": (changed(lambda record: record["message"].pop("id")), 10),
    "a null id": (changed(lambda record: record["message"].update(id=None)), 10),
    "an empty id": (changed(lambda record: record["message"].update(id="")), 10),
    "a number for an id": (changed(lambda record: record["message"].update(id=7)), 10),
    "a long id": (line("x" * 5000), 10),
    "no model": (changed(lambda record: record["message"].pop("model")), 10),
    "a null model": (changed(lambda record: record["message"].update(model=None)), 10),
    "a list for a folder": (changed(lambda record: record.update(cwd=[])), 10),
    "a number for a request": (changed(lambda record: record.update(requestId=1)), 10),
    "counts as text": (line().replace(b'"input_tokens": 10', b'"input_tokens": "10"'), 10),
    "counts as floats": (line().replace(b'"input_tokens": 10', b'"input_tokens": 10.0'), 10),
    "a cache split without its sum": (
        changed(
            lambda record: record["message"].update(
                usage={
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": 300,
                        "ephemeral_1h_input_tokens": 40,
                    }
                }
            )
        ),
        340,
    ),
    "a cache split beside its sum": (
        changed(
            lambda record: record["message"]["usage"].update(
                cache_creation_input_tokens=40, cache_creation={"ephemeral_1h_input_tokens": 40}
            )
        ),
        50,
    ),
    "less deep nesting": (
        changed(lambda record: record.update(x=1)).replace(b"1}", b"[" * 400 + b"]" * 400 + b"}"),
        10,
    ),
}
UNREADABLE: dict[str, tuple[bytes, int]] = {
    "deep nesting": (changed(lambda record: record.update(x=1)).replace(b"1}", NESTED + b"}"), 0),
    "deep nesting in lists": (
        changed(lambda record: record.update(x=1)).replace(
            b"1}", b"[" * 90_000 + b"]" * 90_000 + b"}"
        ),
        0,
    ),
    "nesting without an end": (line()[:-1] + b',"x":' + b"[" * 90_000, 0),
    "half a record, then a whole one": (HALF + line("m1"), 10),
    "a whole record, then half a one": (line("m1") + HALF, 10),
    "half a record around a whole one": (
        line("half")[:200] + line("m1") + line("half")[200:],
        10,
    ),
    "half a record with NULs, then a whole one": (HALF + b"\0" * 40 + line("m1"), 10),
    "cut before a value": (b'{"type":"assistant","message":' + line("m1"), 10),
    "cut in a list": (b'{"type":"assistant","content":[' + line("m1"), 10),
    "cut at a backslash": (b'{"type":"assistant","text":"a\\' + line("m1"), 10),
    "cut in a number": (b'{"type":"assistant","usage":{"input_tokens":1' + line("m1"), 10),
    "a count below zero": (line().replace(b'"input_tokens": 10', b'"input_tokens": -10'), 0),
    "half a token": (line().replace(b'"input_tokens": 10', b'"input_tokens": 10.5'), 0),
    "true for a count": (line().replace(b'"input_tokens": 10', b'"input_tokens": true'), 0),
    "words for a count": (line().replace(b'"input_tokens": 10', b'"input_tokens": "ten"'), 0),
    "too large a count": (
        line().replace(b'"input_tokens": 10', f'"input_tokens": {MAXIMUM_TOKENS + 1}'.encode()),
        0,
    ),
    "a count of 5000 digits": (
        line().replace(b'"input_tokens": 10', b'"input_tokens": 1' + b"0" * 5000),
        0,
    ),
    "infinitely many": (line().replace(b'"input_tokens": 10', b'"input_tokens": Infinity'), 0),
    "no time": (changed(lambda record: record.pop("timestamp")), 0),
    "a number for a time": (changed(lambda record: record.update(timestamp=1)), 0),
    "a readable one glued to one that is not": (
        line("m1") + line().replace(b'"input_tokens": 10', b'"input_tokens": -1'),
        10,
    ),
}
OTHERS: dict[str, bytes] = {
    "deep nesting in a tool's output": b'{"type":"user","x":{"usage":1,"by":"assistant"},"y":'
    + NESTED
    + b"}",
    "a record in a tool's output": b'\0{"type":"user","toolUseResult":' + line() + b"}",
    "NULs alone": b"\0" * 500,
    "NULs around another kind": b'\0{"type":"user","usage":{"usage":1}}\0',
}


@pytest.mark.parametrize("name", READABLE)
def test_what_can_be_read_counts(desk: Desk, name: str) -> None:
    unusual, tokens = READABLE[name]
    assert seen(desk, line("before", 1), unusual, line("after", 2)) == (tokens + 3, None)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_reported_and_all_else_counts(desk: Desk, name: str) -> None:
    damaged, tokens = UNREADABLE[name]
    assert seen(desk, line("before", 1), damaged, line("after", 2)) == (tokens + 3, 1)


@pytest.mark.parametrize("name", OTHERS)
def test_damage_without_a_response_is_passed_over(desk: Desk, name: str) -> None:
    assert seen(desk, line("before", 1), OTHERS[name], line("after", 2)) == (3, None)


def test_a_response_without_a_name_counts_once_for_its_request_and_else_for_its_line(
    desk: Desk,
) -> None:
    def nameless(request: str | None, uuid: str, tokens: int) -> bytes:
        def change(record: dict[str, Any]) -> None:
            del record["message"]["id"]
            record |= {"requestId": request, "uuid": uuid}
            record["message"]["usage"]["input_tokens"] = tokens

        return changed(change)

    blocks = nameless("r1", "u1", 10), nameless("r1", "u2", 10)
    others = nameless(None, "u3", 200), nameless(None, "u4", 200)
    assert seen(desk, *blocks, *others, *others) == (410, None)


def test_a_last_line_without_its_end_counts_once_it_is_whole(desk: Desk) -> None:
    file = transcript(desk.projects)
    file.write_bytes(line("m1") + b"\n" + line("m2")[:-5])
    assert desk.tokens() == 10
    file.write_bytes(line("m1") + b"\n" + line("m2"))
    assert desk.tokens() == 20
    append(file, "", Answer("m3", 5))
    assert desk.status().session_tokens == 25
    assert desk.status().unread_lines is None


@pytest.mark.parametrize("levels", [MOST_LEVELS, MOST_LEVELS + 1])
def test_how_deep_a_line_may_be_nested_does_not_depend_on_who_reads_it(levels: int) -> None:
    inner = b"[" * (levels - 1) + b"]" * (levels - 1)
    nested = changed(lambda record: record.update(x=1)).replace(b"1}", inner + b"}")

    def read(depth: int) -> tuple[int, bool]:
        if depth:
            return read(depth - 1)
        try:
            return len(usage_lines.usage_of(nested)), True
        except ValueError:
            salvaged = usage_lines.salvage(nested)
            return len(salvaged.usage), salvaged.is_whole

    expected = (1, True) if levels <= MOST_LEVELS else (0, False)
    assert [read(depth) for depth in (0, 100, 200, 300)] == [expected] * 4


def test_finding_objects_takes_time_in_proportion_to_the_text() -> None:
    def is_record(_outline: object) -> bool:
        return False

    for hostile in ('"' * 200_000, '{"\\"' * 90_000, '{"a":' * 90_000, '{"a":"{' * 90_000):
        found = json_objects.find_objects(hostile, is_record)
        assert found.objects == ()


PADDING = st.sampled_from([b"", b"\0", b"\0" * 70, b"\xef\xbb\xbf", b"  "])
CHANGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: text,
    lambda text: text.replace(b"it says", b"\\ud83d"),
    lambda text: text.replace(b"it says", b"caf\xe9 {"),
    lambda text: text.replace(b'"output_tokens": 0', b'"output_tokens": "0"'),
    lambda text: text.replace(b'"output_tokens": 0', b'"output_tokens": 0.0'),
    lambda text: text.replace(b'"model"', b'"modell"'),
)
TEXTS = st.sampled_from(["", "{", '"', '{"type":"assistant"', "}}", "[[", "\\", "\0", "é😀"])


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[bytes, dict[str, int], int]:
    """Return a file, the tokens of its whole records by id, and how many lines lost one."""
    content, whole, lost = bytearray(), dict[str, int](), 0
    for number in range(draw(st.integers(0, 8))):
        is_torn = False
        for part in range(draw(st.integers(1, 3))):
            name, tokens = f"m{number}.{part}", draw(st.integers(0, 10**6))
            record = json.loads(Answer(name, tokens).line())
            record["message"]["content"] = [{"type": "text", "text": f"it says {draw(TEXTS)}"}]
            spelled = draw(st.sampled_from(CHANGES))(json.dumps(record).encode())
            content += draw(PADDING)
            if draw(st.integers(0, 3)):
                whole[name] = tokens
                content += spelled
            else:
                # Behind the role: what is torn before it cannot be told from anything else.
                begin = spelled.index(b'"assistant", "model') + 12
                content += spelled[: draw(st.integers(begin, len(spelled) - 1))]
                is_torn = True
        content += draw(PADDING) + b"\n"
        lost += is_torn and b'"usage":' in content[content.rfind(b"\n", 0, -1) + 1 :]
    return bytes(content), whole, lost


def read_all(file: Path, position: TranscriptPosition | None) -> Iterator[Batch]:
    status = file.stat()
    found = Transcript(str(file), status.st_ino, status.st_size, status.st_mtime_ns)
    return transcript_reading.read(found, FORMAT, position)


def largest(found: dict[str, int], usage: tuple[MeasuredUsage, ...]) -> None:
    for each in usage:
        found[each.message_id] = max(each.total, found.get(each.message_id, 0))


@settings(max_examples=60)
@given(file=damaged_files(), cuts=st.lists(st.integers(0, 6000), max_size=6))
def test_reading_as_a_damaged_file_grows_finds_the_same_as_reading_it_at_once(
    file: tuple[bytes, dict[str, int], int], cuts: list[int]
) -> None:
    content, whole, lost = file
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one.jsonl"
        at_once: dict[str, int] = {}
        growing: dict[str, int] = {}
        position: TranscriptPosition | None = None
        for end in (*sorted(cuts), len(content)):
            path.write_bytes(content[:end])
            for batch in read_all(path, position):
                largest(growing, batch.usage)
                position = batch.position
        (batch,) = read_all(path, None)
        largest(at_once, batch.usage)
    assert position is not None
    assert (growing, position.unread_lines) == (at_once, batch.position.unread_lines)
    assert (at_once, batch.position.unread_lines) == (whole, lost)
