"""The logs of Qwen Code, Copilot CLI, pi and the Cline CLI: each response counts once, whatever happens to them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from examples import on_ledgers
from hypothesis import given
from hypothesis import strategies as st
from other_homes import Home
from other_logs import (
    FOLDER,
    Response,
    cline_document,
    cline_message,
    cline_messages,
    codex_head,
    codex_record,
    codex_rollout,
    copilot_event,
    copilot_events,
    copilot_record,
    copilot_start,
    gemini_chat,
    gemini_message,
    pi_message,
    pi_session,
    qwen_chat,
    qwen_response,
)
from transcript_lines import NOON

from immunos_mcp.ledger.connections.inline import run_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ONE = Response("r1", 100, 40, 9, 4)
TWO = Response("r2", 220, 100, 15, 0, NOON + timedelta(minutes=1))
THREE = Response("r3", 330, 200, 21, 8, NOON + timedelta(minutes=2))

RECORDS: dict[str, Callable[[Response], str]] = {
    "codex": codex_record,
    "gemini": lambda response: json.dumps(gemini_message(response)) + "\n",
    "qwen": qwen_response,
    "copilot": copilot_record,
    "pi": pi_message,
}
"""The lines that each assistant writes of a response."""

MARKS = {
    "codex": "token_usage_record",
    "gemini": "tokens",
    "qwen": "qwen-code.api_response",
    "copilot": "session.usage_record",
    "pi": "usage",
}


def begun(folder: Path, assistant: str) -> Path:
    """Begin a log, and return its file."""
    if assistant == "gemini":
        return gemini_chat(folder)
    if assistant == "pi":
        return pi_session(folder)
    file = {"codex": codex_rollout, "qwen": qwen_chat, "copilot": copilot_events}[assistant](folder)
    heads = {"codex": codex_head(), "copilot": [copilot_start()]}
    file.write_text("".join(heads.get(assistant, ())), encoding="utf-8")
    return file


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def append(file: Path, *lines: str) -> None:
    with file.open("a", encoding="utf-8", errors="surrogatepass") as opened:
        opened.writelines(lines)


def counted(assistant: str, *responses: Response) -> list[tuple[Any, ...]]:
    return [(assistant, *each.kinds) for each in responses]


@pytest.mark.parametrize(
    ("assistant", "model", "conversation"),
    [("qwen", "qwen-x", "q1"), ("copilot", "copilot-x", "c1"), ("pi", "pi-x", "p1")],
)
def test_a_response_has_its_model_project_and_conversation(
    place: Home, assistant: str, model: str, conversation: str
) -> None:
    file = begun(place.folder, assistant)
    append(file, RECORDS[assistant](ONE), RECORDS[assistant](TWO))
    assert (place.sync().added, place.sync().added) == (2, 0)
    rows = place.rows("message_id, assistant, model, folder, conversation, provider")
    assert rows[0] == (f"{assistant}:r1", assistant, model, FOLDER, conversation, "hosted")
    assert place.stored() == counted(assistant, ONE, TWO)


def test_a_cline_document_counts_with_its_subagents_and_once_however_often_it_is_rewritten(
    place: Home,
) -> None:
    file, agent = cline_messages(place.folder), cline_messages(place.folder, "agent_1")
    file.write_text(cline_document(cline_message(ONE)), encoding="utf-8")
    place.begin()
    assert place.status().other_assistants == {"cline": 69}
    file.write_text(cline_document(cline_message(ONE), cline_message(TWO)), encoding="utf-8")
    agent.write_text(cline_document(cline_message(THREE)), encoding="utf-8")
    place.sync()
    assert place.stored() == counted("cline", ONE, TWO, THREE)
    rows = place.rows("message_id, model, folder, conversation")
    assert set(rows) == {(f"cline:r{n}", "cline-x", FOLDER, "s1") for n in (1, 2, 3)}


def test_copilots_sums_at_each_exit_do_not_count(place: Home) -> None:
    usage = {"inputTokens": 900, "outputTokens": 9, "cacheReadTokens": 0, "cacheWriteTokens": 0}
    sums = copilot_event("shutdown", {"modelMetrics": {"copilot-x": {"usage": usage}}})
    append(begun(place.folder, "copilot"), copilot_record(ONE), sums, copilot_record(TWO), sums)
    assert place.sync().unread_lines is None
    assert place.stored() == counted("copilot", ONE, TWO)


def test_a_copilot_session_that_is_resumed_elsewhere_has_the_new_folder_from_then_on(
    place: Home,
) -> None:
    file = begun(place.folder, "copilot")
    append(file, copilot_record(ONE))
    place.begin()
    place.status()
    append(file, copilot_event("resume", {"context": {"cwd": "/elsewhere"}}))
    run_sync(place.another_router().get_session_status())
    append(file, copilot_record(TWO))
    run_sync(place.another_router().get_session_status())
    assert place.rows("folder") == [(FOLDER,), ("/elsewhere",)]


def test_a_pi_fork_copies_lines_that_count_once(place: Home) -> None:
    append(begun(place.folder, "pi"), pi_message(ONE), pi_message(TWO, "l2", responseId=None))
    fork = pi_session(place.folder, "p2", parentSession="p1")
    copied = [pi_message(ONE), pi_message(TWO, "l2", responseId=None)]
    append(fork, *copied, pi_message(THREE, "l2", responseId=None))
    place.sync()
    assert place.stored() == counted("pi", ONE, TWO, THREE)


@pytest.mark.parametrize("assistant", ["codex", "qwen", "copilot", "pi"])
def test_ids_of_a_few_digits_repeat_and_are_told_apart_by_their_time(
    place: Home, assistant: str
) -> None:
    same = [replace(each, name="chatcmpl-7") for each in (ONE, TWO, ONE)]
    append(begun(place.folder, assistant), *map(RECORDS[assistant], same))
    place.sync()
    assert place.stored() == counted(assistant, ONE, TWO)


@pytest.mark.parametrize("assistant", RECORDS)
def test_what_used_no_tokens_is_no_response(place: Home, assistant: str) -> None:
    append(begun(place.folder, assistant), RECORDS[assistant](Response("r0", 0, 0, 0, 0)))
    answer = place.sync()
    assert (answer.added, answer.unread_lines) == (0, None)


DAMAGE: dict[str, Callable[[str, str], str]] = {
    "cut": lambda line, _mark: line[: len(line) * 9 // 10] + "\n",
    "negative": lambda line, _mark: line.replace(": 100", ": -100", 1).replace(": 60", ": -60", 1),
    "huge": lambda line, _mark: line.replace(": 100", f": {10**30}", 1).replace(
        ": 60", ": 1e999", 1
    ),
    "words": lambda line, _mark: line.replace("2026-01-15T12:00", "long ago"),
    "nested": lambda line, mark: '{"a":' * 2000 + f'"{mark}"' + "}" * 2000 + "\n" + line[:0],
    "half a pair": lambda line, mark: '{"\ud800": "' + mark + '"' + line[1 : len(line) // 2] + "\n",
}


@pytest.mark.parametrize("assistant", RECORDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_line_costs_only_itself(place: Home, assistant: str, damage: str) -> None:
    record = RECORDS[assistant]
    damaged = DAMAGE[damage](record(ONE).split("\n")[0] + "\n", MARKS[assistant])
    append(begun(place.folder, assistant), record(TWO), damaged, record(THREE))
    answer = place.sync()
    assert place.stored() == counted(assistant, TWO, THREE)
    # What is too deep to be read may be anything, such as a tool's output.
    assert answer.unread_lines == (None if damage == "nested" else 1)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "mark": lambda line: "\ufeff" + line,
    "padding": lambda line: "\0" * 40 + line,
    "glued": lambda line: '{"torn": {"half": "' + line,
    "half a pair": lambda line: line.replace("}\n", ', "odd": "\\ud800"}\n'),
    "other numbers": lambda line: line.replace(": 100", ': "100"', 1).replace(": 9", ": 9.0", 1),
}


@pytest.mark.parametrize("assistant", RECORDS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_line_that_can_be_read_counts_however_it_is_spelled(
    place: Home, assistant: str, spelling: str
) -> None:
    lines = RECORDS[assistant](ONE).split("\n")
    lines[0] = SPELLINGS[spelling](lines[0] + "\n").removesuffix("\n")
    append(begun(place.folder, assistant), "\n".join(lines), RECORDS[assistant](TWO))
    place.sync()
    assert place.stored() == counted(assistant, ONE, TWO)


COUNT = '"outputTokens": 15'
DEEP = "[" * 900 + "]" * 900
CLINE_DAMAGE: dict[str, tuple[Callable[[str], str], list[Response]]] = {
    "cut": (lambda text: text[:-80], [ONE]),
    "mark": (lambda text: "\ufeff" + text, [ONE, TWO]),
    "words": (lambda text: text.replace(COUNT, '"outputTokens": "many"'), [ONE]),
    "id": (lambda text: text.replace('"id": "r2"', '"id": 2'), [ONE]),
    "half a pair": (lambda text: text.replace('"role": 1}', "\\ud800"), [ONE, TWO]),
    "no text": (lambda text: text.replace('"role": 1}', "\ud800"), [ONE, TWO]),
    "torn": (lambda text: text.replace(COUNT, f"15: {DEEP}"), [ONE]),
    "nested": (lambda text: text.replace(COUNT, f'"x": {DEEP}'), [ONE]),
}


@pytest.mark.parametrize(("damaged", "left"), CLINE_DAMAGE.values(), ids=CLINE_DAMAGE)
def test_what_is_damaged_in_a_cline_document_costs_only_itself(
    place: Home, damaged: Callable[[str], str], left: list[Response]
) -> None:
    file = cline_messages(place.folder)
    whole = cline_document(cline_message(ONE), cline_message(TWO))
    file.write_text(damaged(whole), encoding="utf-8", errors="surrogatepass")
    answer = place.sync()
    assert place.stored() == counted("cline", *left)
    assert answer.unread_lines == (None if len(left) == 2 else 1)
    file.write_text(whole, encoding="utf-8")
    assert place.sync().unread_lines is None
    assert place.stored() == counted("cline", ONE, TWO)


def test_logs_that_are_copied_moved_or_gone_change_no_count(place: Home) -> None:
    for assistant, record in RECORDS.items():
        file = begun(place.folder, assistant)
        append(file, record(ONE), record(TWO))
        file.with_name(f"copy-{file.name}").write_bytes(file.read_bytes())
    place.begin()
    assert place.sync().by_assistant == dict.fromkeys(sorted(RECORDS), 2)
    shown = place.status().other_assistants
    assert shown == dict.fromkeys(sorted(RECORDS), 69 + 135)
    for file in [*place.folder.rglob("*.jsonl")]:
        file.rename(file.with_name(f"old-{file.name}"))
    assert place.status().other_assistants == shown
    for file in [*place.folder.rglob("*.jsonl")]:
        file.unlink()
    status = run_sync(place.another_router().get_session_status())
    assert (status.other_assistants, status.unread_files) == (shown, None)


@on_ledgers
@given(
    is_counted=st.booleans(),
    order=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 4000), max_size=5),
)
def test_each_response_counts_once_in_any_order_and_however_its_log_arrives(
    *, is_counted: bool, order: Sequence[int], cuts: Sequence[int]
) -> None:
    made = [
        Response(f"r{n}", 100 + 13 * n, 10 * n, 8 + n, n, NOON + timedelta(seconds=n))
        for n in range(5)
    ]
    written = [made[n] for n in order]
    logs = {name: "".join(map(record, written)).encode() for name, record in RECORDS.items()}
    expected = sum(sum(each.kinds[:3]) for each in {each.name: each for each in written}.values())
    with tempfile.TemporaryDirectory() as folder:
        place = Home(Path(folder))
        names = sorted([*RECORDS, "cline"])
        if is_counted:
            changes = {"counted_assistants": f"claude-code,{','.join(names)}"}
            run_sync(place.router.update_config(changes, "test"))
        place.begin()
        files = {name: begun(place.folder, name) for name in RECORDS}
        document = cline_messages(place.folder)
        ends = [*sorted(cuts), 10**9]
        for step, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
            for name, file in files.items():
                with file.open("ab") as opened:
                    opened.write(logs[name][start:end])
            so_far = written[: len(written) * step // len(ends)]
            text = cline_document(*map(cline_message, so_far))
            document.write_text(text, encoding="utf-8")
            run_sync(place.another_router().get_session_status())
        status = place.status()
        assert place.sync().added == 0
        place.ledger.close()
    assert status.other_assistants == dict.fromkeys(names, expected)
    assert status.session_tokens == (len(names) * expected if is_counted else 0)
    assert status.unread_lines is None
