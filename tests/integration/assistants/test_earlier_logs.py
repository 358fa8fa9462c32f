"""The logs that earlier versions of Codex, the Gemini CLI and opencode wrote."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from other_homes import Home
from other_logs import (
    OpencodeDatabase,
    Response,
    codex_head,
    codex_rollout,
    codex_total,
    codex_turn,
    gemini_chat,
    gemini_document,
    gemini_message,
    opencode_file,
)
from transcript_lines import NOON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = Response("r1", 100, 40, 9, 4)
TWO = Response("r2", 220, 100, 15, 0, NOON + timedelta(minutes=1))
THREE = Response("r3", 330, 200, 21, 8, NOON + timedelta(minutes=2))
FOUR = Response("r4", 440, 300, 27, 2, NOON + timedelta(minutes=3))
YESTERDAY = NOON - timedelta(days=1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def counted(assistant: str, *responses: Response) -> list[tuple[str | int, ...]]:
    return [(assistant, *each.kinds) for each in responses]


def version_7(at: datetime, number: int = 0) -> str:
    """Return an id that has its time in it."""
    made = f"{int(at.timestamp() * 1000):012x}"
    return f"{made[:8]}-{made[8:]}-7000-8000-{number:012x}"


def test_a_gemini_document_counts_each_message_once_however_often_it_is_rewritten(
    place: Home,
) -> None:
    gemini_document(place.folder, ONE)
    assert place.sync().added == 1
    file = gemini_document(place.folder, ONE, TWO)
    (file.parent.parent / "logs.json").write_text('[{"tokens": 1}]')
    assert place.sync().added == 1
    # A later version goes on in a file of lines, which repeats what the document had.
    lines = [json.dumps(gemini_message(each)) + "\n" for each in (ONE, TWO, THREE)]
    with gemini_chat(place.folder, "s1", "4f2a").open("a", encoding="utf-8") as opened:
        opened.writelines(lines)
    assert place.sync().added == 1
    assert place.stored() == counted("gemini", ONE, TWO, THREE)
    assert place.rows("conversation")[0] == ("s1",)


def test_what_is_damaged_in_a_gemini_document_is_reported_and_all_else_counts(place: Home) -> None:
    file = gemini_document(place.folder, ONE, TWO)
    whole = file.read_text()
    file.write_text(whole[: whole.index('"thoughts"', whole.index('"r2"'))])
    assert place.sync().unread_lines == 1
    assert place.stored() == counted("gemini", ONE)
    file.write_text(whole)
    assert place.sync().unread_lines is None
    assert place.stored() == counted("gemini", ONE, TWO)


def test_opencodes_files_count_once_and_their_copy_in_a_database_never(place: Home) -> None:
    opencode_file(place.folder, "msg_1", ONE)
    opencode_file(place.folder, "msg_2", TWO)
    assert place.sync().added == 2
    opencode_file(place.folder, "msg_3", THREE)
    assert place.sync().added == 1
    database = OpencodeDatabase(place.folder)
    for name, each in {"msg_1": ONE, "msg_2": TWO, "msg_3": THREE, "msg_4": FOUR}.items():
        database.put(name, each)
    assert place.sync().added == 1
    assert place.stored() == counted("opencode", ONE, TWO, THREE, FOUR)


def test_all_steps_of_one_opencode_message_count(place: Home) -> None:
    opencode_file(place.folder, "msg_1", THREE, ONE, TWO)
    place.sync()
    assert place.stored() == [("opencode", 60 + 120 + 130, 9 + 15 + 21, 0, 40 + 100 + 200)]


def test_an_opencode_message_that_is_half_written_is_reported_until_it_is_whole(
    place: Home,
) -> None:
    file = opencode_file(place.folder, "msg_1", ONE)
    whole = file.read_text()
    file.write_text(whole[: whole.index('"reasoning"')])
    assert place.sync().unread_lines == 1
    file.write_text(whole)
    assert place.sync().unread_lines is None
    assert place.stored() == counted("opencode", ONE)


def test_old_codex_forks_of_forks_count_what_they_copy_once(place: Home) -> None:
    threads = [version_7(NOON + timedelta(minutes=minute)) for minute in (0, 10, 20)]
    turns = [version_7(NOON + timedelta(minutes=minute), 1) for minute in (1, 11, 21)]
    totals: list[str] = []
    responses = (ONE, TWO, THREE)
    for number, thread in enumerate(threads):
        forked = {"forked_from_id": threads[number - 1]} if number else {}
        totals += codex_turn(turns[number]), codex_total(*responses[: number + 1])
        text = [*codex_head(thread, "0.125.0", **forked), *totals]
        codex_rollout(place.folder, thread).write_text("".join(text))
    place.sync()
    assert place.stored() == counted("codex", ONE, TWO, THREE)


def test_old_codex_forks_without_ids_of_turns_follow_the_copied_beginnings(place: Home) -> None:
    head = codex_head("t1", "0.125.0")
    codex_rollout(place.folder, "t1").write_text("".join([*head, codex_total(ONE)]))
    lines = [*codex_head("t2", "0.125.0", forked_from_id="t1"), *head, codex_total(ONE)]
    lines.append(codex_total(ONE, TWO))
    codex_rollout(place.folder, "t2").write_text("".join(lines))
    lines = [*codex_head("t3", "0.125.0", forked_from_id="t2"), *lines[:4], codex_total(ONE)]
    lines.append(codex_total(ONE, THREE))
    codex_rollout(place.folder, "t3").write_text("".join(lines))
    place.sync()
    assert place.stored() == counted("codex", ONE, TWO, THREE)


def test_the_same_counts_in_two_old_codex_forks_are_two_responses(place: Home) -> None:
    for minute in (10, 20):
        at = NOON + timedelta(minutes=minute)
        head = codex_head(version_7(at), "0.125.0", forked_from_id="t1")
        text = "".join([*head, codex_turn(version_7(at, 1)), codex_total(ONE)])
        codex_rollout(place.folder, version_7(at)).write_text(text)
    place.sync()
    assert place.stored() == counted("codex", ONE, ONE)


def test_what_an_old_codex_fork_copies_of_yesterday_does_not_count_today(place: Home) -> None:
    place.begin()
    fork = version_7(NOON)
    old = [codex_turn(version_7(YESTERDAY, 1)), codex_total(ONE)]
    own = [codex_turn(version_7(NOON, 2)), codex_total(ONE, TWO)]
    head = codex_head(fork, "0.125.0", forked_from_id=version_7(YESTERDAY))
    codex_rollout(place.folder, fork).write_text("".join([*head, *old, *own]))
    assert place.status().other_assistants == {"codex": sum(TWO.kinds[:3])}
