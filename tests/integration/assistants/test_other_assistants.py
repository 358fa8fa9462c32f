"""The logs of Codex, the Gemini CLI and opencode: each response counts once, where the settings say."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from other_homes import Home
from other_logs import (
    FOLDER,
    OpencodeDatabase,
    Response,
    codex_head,
    codex_record,
    codex_rollout,
    codex_total,
    gemini_chat,
    gemini_message,
)
from transcript_lines import NOON

from immunos_mcp.assistants.opencode import messages
from immunos_mcp.assistants.other_logs import OtherLogs
from immunos_mcp.ledger.connections.inline import run_sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ONE = Response("r1", 100, 40, 9, 4)
TWO = Response("r2", 220, 100, 15, 0, NOON + timedelta(minutes=1))
THREE = Response("r3", 330, 200, 21, 8, NOON + timedelta(minutes=2))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.ledger.close()


def append(file: Path, *lines: str) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.writelines(lines)


def codex(*responses: Response) -> list[tuple[Any, ...]]:
    return [("codex", *each.kinds) for each in responses]


def gemini(*responses: Response) -> list[tuple[Any, ...]]:
    return [("gemini", *each.kinds) for each in responses]


def opencode(*responses: Response) -> list[tuple[Any, ...]]:
    return [("opencode", *each.kinds) for each in responses]


def test_a_codex_response_counts_by_its_record_whatever_the_totals_repeat(place: Home) -> None:
    file = codex_rollout(place.folder)
    lines = [codex_record(ONE), codex_total(ONE), codex_total(ONE), codex_record(TWO)]
    append(file, *codex_head(), *lines, codex_total(ONE, TWO))
    assert place.sync().added == 2
    assert place.sync().added == 0
    assert place.stored() == codex(ONE, TWO)


def test_a_codex_fork_goes_on_from_its_parents_total_which_does_not_count_again(
    place: Home,
) -> None:
    append(codex_rollout(place.folder), *codex_head(), codex_record(ONE), codex_total(ONE))
    fork = codex_rollout(place.folder, "t2")
    # Interrupted at once, the fork first repeats its parent's total.
    head = codex_head("t2", forked_from_id="t1", history_mode="paginated")
    append(fork, *head, codex_total(ONE), codex_record(TWO, "t2", "t2"), codex_total(ONE, TWO))
    place.sync()
    assert place.stored() == codex(ONE, TWO)


def test_old_codex_files_count_by_steps_of_their_total_and_copied_history_once(
    place: Home,
) -> None:
    parent = codex_rollout(place.folder)
    counts = [codex_total(ONE), codex_total(ONE), codex_total(ONE, TWO)]
    append(parent, *codex_head(version="0.125.0"), *counts)
    fork = codex_rollout(place.folder, "t2")
    head = codex_head("t2", "0.125.0", forked_from_id="t1")
    append(fork, *head, *counts, codex_total(ONE, TWO, THREE))
    place.sync()
    assert place.stored() == codex(ONE, TWO, THREE)


def test_an_old_codex_file_that_a_new_version_resumes_counts_each_response_once(
    place: Home,
) -> None:
    file = codex_rollout(place.folder)
    append(file, *codex_head(version="0.125.0"), codex_total(ONE))
    place.begin()
    assert place.status().other_assistants == {"codex": 69}
    append(file, codex_total(ONE), codex_record(TWO), codex_total(ONE, TWO))
    place.status()
    assert place.stored() == codex(ONE, TWO)


def test_a_codex_record_has_the_model_and_folder_of_its_turn_even_when_read_alone(
    place: Home,
) -> None:
    file = codex_rollout(place.folder)
    append(file, *codex_head(model="gpt-y"))
    place.begin()
    place.status()
    append(file, codex_record(ONE, "t1", "root"))
    run_sync(place.another_router().get_session_status())
    place.ledger.close()
    with closing(sqlite3.connect(place.folder / "ledger.db")) as connection:
        (row,) = connection.execute(
            "SELECT message_id, model, folder, conversation, provider FROM immunos_mcp_measured_usage"
        )
    assert row == ("codex:r1", "gpt-y", FOLDER, "root", "hosted")


def test_a_gemini_message_counts_once_however_often_its_lines_and_history_repeat_it(
    place: Home,
) -> None:
    file = gemini_chat(place.folder)
    message = json.dumps(gemini_message(ONE)) + "\n"
    resumed = json.dumps({"$set": {"messages": [gemini_message(ONE), gemini_message(TWO)]}}) + "\n"
    append(file, message, message, resumed)
    place.sync()
    assert place.stored() == gemini(ONE, TWO)
    with closing(sqlite3.connect(place.folder / "ledger.db")) as connection:
        rows = connection.execute(
            "SELECT message_id, model, folder, conversation FROM immunos_mcp_measured_usage"
        ).fetchall()
    assert rows[0] == ("gemini:r1", "gemini-x", FOLDER, "s1")


def test_opencode_counts_a_message_once_it_is_complete_and_its_copy_in_a_fork_never(
    place: Home,
) -> None:
    database = OpencodeDatabase(place.folder)
    database.put("msg_1", ONE, is_complete=False)
    place.begin()
    status = place.status()
    assert (status.other_assistants, status.unread_lines) == (None, None)
    database.put("msg_1", ONE, updated=NOON + timedelta(minutes=3))
    assert place.status().other_assistants == {"opencode": 69}
    database.put("msg_9", ONE, "ses_fork", updated=NOON + timedelta(minutes=5))
    database.put("msg_2", TWO, "ses_fork", updated=NOON + timedelta(minutes=5))
    run_sync(place.another_router().get_session_status())
    assert place.stored() == opencode(ONE, TWO)


def test_opencode_2_counts_once_what_it_continues_copies_and_forks(place: Home) -> None:
    database = OpencodeDatabase(place.folder)
    database.put("msg_1", ONE)
    place.sync()
    database.put_new("msg_1", ONE)
    database.put_new("msg_2", TWO)
    database.put_new("msg_9", TWO, "ses_fork")
    database.put_new("msg_3", THREE, "ses_fork")
    database.put_new("msg_8", ONE, "ses_fork", is_spelled_out=True)
    place.sync()
    assert place.stored() == opencode(ONE, TWO, THREE)
    assert set(place.rows("model, folder")) == {("big-x", FOLDER)}
    with closing(sqlite3.connect(database.file)) as connection:
        connection.execute("DROP TABLE message")
    database.put_new("msg_4", replace(ONE, at=NOON + timedelta(minutes=3)))
    assert place.sync().added == 1


@pytest.mark.parametrize("name", ["mine.db", "/elsewhere/mine.db"])
def test_opencodes_database_is_found_under_the_name_that_its_variable_has(
    tmp_path: Path, name: str
) -> None:
    database = OpencodeDatabase(tmp_path)
    place = database.file.parent / name.replace("/elsewhere", str(tmp_path))
    database.file.rename(place)
    named = name.replace("/elsewhere", str(tmp_path))
    variables = {"XDG_DATA_HOME": str(tmp_path / ".local" / "share"), "OPENCODE_DB": named}
    found = OtherLogs(variables).by_assistant()["opencode"].changed({}, None)
    assert [each.path for each in found] == [str(place)]


def test_reading_opencodes_database_leaves_nothing_behind(place: Home) -> None:
    database = OpencodeDatabase(place.folder)
    database.put("msg_1", ONE)
    before = sorted(database.file.parent.iterdir())
    place.sync()
    assert sorted(database.file.parent.iterdir()) == before


def test_opencode_is_read_while_its_changes_are_in_the_log_only(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise what has just changed is read again anyway.
    monkeypatch.setattr(messages, "SETTLING_NS", -(10**12))
    database = OpencodeDatabase(place.folder)
    with closing(sqlite3.connect(database.file)) as held:
        held.execute("SELECT count(*) FROM message").fetchall()
        database.put("msg_1", ONE)
        place.begin()
        assert place.status().other_assistants == {"opencode": 69}
        database.put("msg_2", TWO)
        assert place.status().other_assistants == {"opencode": 204}


def test_a_database_that_cannot_be_read_is_reported(place: Home) -> None:
    database = OpencodeDatabase(place.folder)
    database.file.write_bytes(b"no database at all" * 100)
    place.begin()
    assert place.status().unread_files == 1


@pytest.mark.parametrize(
    "damaged",
    [
        codex_record(ONE)[:-30] + "\n",
        codex_record(ONE).replace('"input_tokens": 100', '"input_tokens": -1'),
        codex_record(ONE).replace('"response_id": "r1"', '"response_id": ""'),
        codex_record(ONE).replace("2026-01-15T12", "some day"),
    ],
)
def test_a_damaged_codex_line_is_reported_and_all_else_counts(place: Home, damaged: str) -> None:
    append(codex_rollout(place.folder), *codex_head(), damaged, codex_record(TWO))
    answer = place.sync()
    assert (answer.unread_lines, place.stored()) == (1, codex(TWO))


def test_a_torn_line_before_a_whole_one_costs_only_itself(place: Home) -> None:
    torn = codex_record(ONE)[:-30]
    append(codex_rollout(place.folder), *codex_head(), "\0\0" + codex_record(THREE))
    append(codex_rollout(place.folder), torn, codex_record(TWO))
    message = json.dumps(gemini_message(ONE))
    append(gemini_chat(place.folder), message[:-9], json.dumps(gemini_message(TWO)) + "\n")
    answer = place.sync()
    assert answer.unread_lines == 2
    assert sorted(place.stored()) == sorted(codex(TWO, THREE) + gemini(TWO))


def test_a_damaged_row_is_reported_once(place: Home) -> None:
    database = OpencodeDatabase(place.folder)
    database.put_text("msg_1", '{"role": "assistant", "tokens"')
    place.begin()
    assert place.status().unread_lines == 1
    database.put("msg_2", TWO)
    assert place.status().unread_lines == 1
    assert place.stored() == opencode(TWO)


def test_a_row_that_is_no_text_costs_only_itself(place: Home) -> None:
    database = OpencodeDatabase(place.folder)
    database.put("msg_2", TWO)
    with closing(sqlite3.connect(database.file)) as connection, connection:
        connection.execute(
            "INSERT INTO message VALUES ('msg_0', 5, 0, 1700000000000,"
            " CAST(x'ff' AS TEXT) || '{\"role\": \"assistant\"}')"
        )
        connection.execute(
            "INSERT INTO message VALUES ('msg_1', 5, 0, 'some day', '\"assistant\"')"
        )
    answer = place.sync()
    assert (answer.unread_files, answer.unread_lines, answer.added) == (None, 1, 1)
    assert place.stored() == opencode(TWO)


def test_other_assistants_count_in_the_budget_only_where_the_setting_names_them(
    place: Home,
) -> None:
    file, chat = codex_rollout(place.folder), gemini_chat(place.folder)
    append(file, *codex_head(model="claude-opus-4-8"), codex_record(ONE))
    append(chat, json.dumps(gemini_message(ONE)) + "\n")
    place.begin()
    status = place.status()
    assert (status.session_tokens, status.kept_local_tokens) == (0, 0)
    assert status.other_assistants == {"codex": 69, "gemini": 69}
    changes = {"counted_assistants": "gemini,claude-code"}
    run_sync(place.router.update_config(changes, "test"))
    assert place.status().session_tokens == 0
    append(file, codex_record(TWO))
    append(chat, json.dumps(gemini_message(THREE)) + "\n")
    status = place.status()
    assert (status.session_tokens, status.measured_tokens) == (151, 151)
    assert status.other_assistants == {"codex": 204, "gemini": 220}


def test_a_look_opens_the_session_where_only_another_assistant_has_logs(place: Home) -> None:
    assert place.status().session_id is None
    append(codex_rollout(place.folder), *codex_head())
    assert place.status().session_id is not None
    append(codex_rollout(place.folder), codex_record(ONE))
    assert place.status().other_assistants == {"codex": 69}


def test_the_session_begins_with_the_active_conversation_of_whoever_has_one(place: Home) -> None:
    append(codex_rollout(place.folder), *codex_head(), codex_record(ONE))
    place.now = NOON + timedelta(minutes=1)
    status = place.status()
    assert status.started_at == NOON
    assert status.other_assistants == {"codex": 69}


def test_what_another_assistant_does_with_a_local_model_is_not_kept_local(place: Home) -> None:
    append(codex_rollout(place.folder), *codex_head(model="qwen2.5-coder:7b"), codex_record(ONE))
    place.begin()
    status = place.status()
    assert (status.session_tokens, status.kept_local_tokens) == (0, 0)
    assert status.other_assistants == {"codex": 69}


@pytest.mark.parametrize("client", ["codex-mcp-client 0.171", "gemini-cli-mcp-client", "opencode"])
def test_a_measured_assistants_own_report_is_kept_and_not_counted(place: Home, client: str) -> None:
    def report() -> bool | None:
        recording = place.router.record_usage(
            model="gpt-x", input_tokens=5, output_tokens=0, client=client
        )
        return run_sync(recording).counted

    assert report() is None, "it has no logs yet"
    append(codex_rollout(place.folder), *codex_head())
    gemini_chat(place.folder)
    OpencodeDatabase(place.folder)
    assert report() is False


def test_a_session_bound_to_a_folder_shows_others_usage_there_only(place: Home) -> None:
    append(codex_rollout(place.folder), *codex_head(), codex_record(ONE))
    run_sync(place.router.bindings.add("/home/dev/other"))
    place.begin()
    assert place.status().other_assistants is None
