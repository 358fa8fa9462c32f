"""Exact accounting: transcripts on disk in, totals of sessions out, through the router."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import wire
from hypothesis import given, settings
from hypothesis import strategies as st
from transcript_desks import AFTER, BEFORE, Desk
from transcript_lines import NOON, Answer, append, transcript

from immunos_mcp.answers.usage import SyncAnswer
from immunos_mcp.archive import Archive
from immunos_mcp.assistants import bulk_reading, marked_lines
from immunos_mcp.assistants.claude_code.transcripts import transcript_folders
from immunos_mcp.assistants.looks import TOO_MUCH, Look
from immunos_mcp.domain import PlanUsage, TokenCounts
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.begin()
    made.now = AFTER
    yield made
    made.ledger.close()


def test_a_response_written_on_several_lines_counts_once(desk: Desk) -> None:
    answer = Answer("m1", 4, 87, 18_211, 500)
    append(transcript(desk.projects), answer, answer, answer)
    status = desk.status()
    assert (status.session_tokens, status.measured_tokens, status.reported_tokens) == (
        4 + 87 + 18_211,
        4 + 87 + 18_211,
        0,
    )
    assert status.claude_tokens == TokenCounts(4, 87, 18_211, 500)


def test_of_a_responses_lines_the_one_with_the_largest_total_counts(desk: Desk) -> None:
    append(
        transcript(desk.projects),
        Answer("m1", output_tokens=1),
        Answer("m1", output_tokens=90),
        Answer("m1", output_tokens=40),
    )
    assert desk.tokens() == 90


@pytest.mark.parametrize("looks", [(1,), (1, 2), (1, 2, 3), (2, 3), (3,)])
def test_a_response_is_dated_by_its_first_line_and_has_the_model_of_its_largest(
    desk: Desk, looks: tuple[int, ...]
) -> None:
    midnight = NOON + timedelta(minutes=10)
    for number, (model, tokens) in enumerate(
        [("claude-fable-5", 20), ("claude-opus-4-8", 500), ("claude-sonnet-4-6", 400)]
    ):
        at = midnight + timedelta(seconds=number - 0.5)
        append(transcript(desk.projects), Answer("m1", 10, tokens, at=at, model=model))
        if number + 1 in looks:
            desk.status()
    desk.status()
    rows = wire.rows(
        desk.projects.parent / "ledger.db",
        "SELECT measured_at, model, output_tokens FROM immunos_mcp_measured_usage",
    )
    assert rows == [("2026-01-15T12:09:59.500Z", "claude-opus-4-8", 500)]


def test_a_response_whose_numbers_grow_later_corrects_the_totals(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", output_tokens=1))
    assert desk.tokens() == 1
    append(file, Answer("m1", output_tokens=900))
    assert desk.tokens() == 900
    append(file, Answer("m1", output_tokens=2))
    assert desk.tokens() == 900


def test_a_fork_that_copies_old_lines_adds_nothing_but_its_own(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 10), Answer("m2", 20))
    fork = transcript(desk.projects, "-home-dev-shop/fork.jsonl")
    append(fork, Answer("m1", 10), Answer("m2", 20), Answer("m3", 5))
    assert desk.tokens() == 35


def test_transcripts_of_subagents_count(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 10))
    append(transcript(desk.projects, "-p/one/subagents/agent-1.jsonl"), Answer("m2", 7))
    assert desk.tokens() == 17


def test_a_half_written_last_line_waits_for_its_end(desk: Desk) -> None:
    file = transcript(desk.projects)
    line = Answer("m1", 10).line()
    file.write_text(line[:200], encoding="utf-8")
    assert desk.tokens() == 0
    file.write_text(f"{line}\n", encoding="utf-8")
    status = desk.status()
    assert (status.session_tokens, status.unread_lines) == (10, None)


def test_a_transcript_that_shrank_is_read_anew(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10), Answer("m2", 20))
    assert desk.tokens() == 30
    file.write_text(Answer("m3", 5).line() + "\n", encoding="utf-8")
    assert desk.tokens() == 35


def test_a_transcript_that_was_replaced_by_a_longer_one_is_read_anew(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    assert desk.tokens() == 10
    other = desk.projects / "other"
    append(other, Answer("m2", 20), Answer("m3", 30))
    other.replace(file)
    assert desk.tokens() == 60


def test_a_transcript_that_was_rewritten_in_place_is_read_anew(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    assert desk.tokens() == 10
    with file.open("r+", encoding="utf-8") as stream:
        stream.write(Answer("m2", 2000).line() + "\n" + Answer("m3", 3).line() + "\n")
    assert desk.tokens() == 2013


def test_usage_from_before_the_session_does_not_count(desk: Desk) -> None:
    early = Answer("m1", 10, at=BEFORE - timedelta(seconds=1))
    append(transcript(desk.projects), early, Answer("m2", 20, at=BEFORE))
    assert desk.tokens() == 20


def test_usage_written_down_late_counts_in_the_session_it_belongs_to(desk: Desk) -> None:
    desk.now = NOON + timedelta(minutes=1)
    closing_answer = run_sync(desk.router.reset_session())
    append(transcript(desk.projects), Answer("m1", 10, at=NOON))
    assert desk.tokens() == 0
    sessions = {entry.session_id: entry for entry in run_sync(desk.archive.list_sessions(9, None))}
    assert closing_answer.closed_session_id is not None
    assert sessions[closing_answer.closed_session_id].session_tokens == 10


def test_a_look_after_a_window_opens_the_next_session_where_the_window_ended(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    run_sync(desk.router.update_config({"session_window_minutes": 60}, "test"))
    file = transcript(desk.projects)
    append(file, Answer("m1", 10, at=NOON))
    desk.now = NOON + timedelta(minutes=30)
    assert (desk.tokens(), desk.status().started_at) == (10, NOON)
    append(file, Answer("m2", 20, at=NOON + timedelta(minutes=59)))
    append(file, Answer("m3", 30, at=NOON + timedelta(minutes=61)))
    desk.now = NOON + timedelta(minutes=70)
    assert (desk.tokens(), desk.status().started_at) == (30, NOON + timedelta(minutes=60))
    wire.assert_sound(desk.ledger.path)
    append(file, Answer("m4", 40, at=NOON + timedelta(minutes=125)))
    run_sync(desk.another_router().catch_up())
    desk.now = NOON + timedelta(minutes=130)
    assert desk.tokens() == 0
    wire.assert_sound(desk.ledger.path)
    totals = {
        each.session_id: each.session_tokens
        for each in run_sync(desk.archive.list_sessions(9, None))
    }
    assert totals == {1: 30, 2: 70, 3: 0}
    desk.ledger.close()


def test_every_open_session_counts_all_projects(desk: Desk) -> None:
    desk.now = BEFORE
    desk.begin("other")
    desk.now = AFTER
    append(transcript(desk.projects), Answer("m1", 10))
    assert (desk.tokens(), desk.tokens("other")) == (10, 10)


def test_a_session_bound_to_a_project_counts_that_project_alone(desk: Desk) -> None:
    desk.now = BEFORE
    run_sync(desk.router.bindings.add("/home/dev/shop", "shop"))
    desk.begin("shop")
    desk.now = AFTER
    for number, folder in enumerate(
        ("/home/dev/shop", "/home/dev/shop/api", "/home/dev/shopping", "/home/dev")
    ):
        file = transcript(desk.projects, f"{folder.replace('/', '-')}/one.jsonl")
        append(file, Answer(f"m{number}", 2**number, cwd=folder))
    assert (desk.tokens("shop"), desk.tokens()) == (3, 15)
    assert desk.status("shop").folder == "/home/dev/shop"


def test_a_conversation_belongs_to_its_first_folder_with_its_subagents_and_wherever_its_shell_goes(
    desk: Desk,
) -> None:
    desk.now = BEFORE
    run_sync(desk.router.bindings.add("/home/dev/shop", "shop"))
    desk.begin("shop")
    desk.now = AFTER
    main = transcript(desk.projects, "-home-dev-shop/one.jsonl")
    append(main, '{"type": "user", "message": {"cwd": "/wrong"}, "cwd": "/home/dev/shop"}')
    append(main, Answer("m1", 1, cwd="/home/dev/other"))
    agent = transcript(desk.projects, "-home-dev-shop/one/subagents/workflows/w/agent-1.jsonl")
    append(agent, Answer("m2", 2, cwd="/tmp"))
    assert desk.tokens("shop") == 3
    append(main, Answer("m3", 4, cwd="/"))
    append(agent, Answer("m4", 8, cwd="/"))
    assert desk.tokens("shop") == 15
    alone = transcript(desk.projects, "-home-dev-shop/lost/subagents/agent-2.jsonl")
    append(alone, Answer("m5", 16, cwd="/home/dev/shop"), Answer("m6", 32, cwd="/tmp"))
    assert desk.tokens("shop") == 63


def test_tokens_of_a_local_model_in_a_transcript_are_kept_local(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 10, 5, model="qwen2.5-coder:7b"))
    status = desk.status()
    assert (status.session_tokens, status.kept_local_tokens) == (0, 15)


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"assistant","message":{"usage":',
        '{"type":"assistant","message":{"id":"x","model":"claude-x","usage":{"input_tokens":"9"}}}',
        '{"type":"assistant","message":{"model":"claude-x","usage":{"input_tokens":9}}}',
        (
            '{"type":"assistant","message":{"id":"x","model":"claude-x","usage":{"input_tokens":-9}},'
            '"timestamp":"2026-01-15T12:00:00Z"}'
        ),
        (
            '{"type":"assistant","message":{"id":"x","model":"claude-x","usage":{"input_tokens":9}},'
            '"timestamp":"yesterday"}'
        ),
        '{"type":"assistant","message":"usage","usage":1}',
        Answer("x", 9).line().replace("2026-01-15T12:00:00.000Z", "9999-12-31T23:59:59-10:00"),
        Answer("x", 9).line().replace("2026-01-15T12:00:00.000Z", "0001-01-01T00:00:00+10:00"),
    ],
)
def test_a_line_that_should_carry_usage_and_cannot_be_read_is_counted_not_guessed(
    desk: Desk, line: str
) -> None:
    append(transcript(desk.projects), Answer("m1", 10), line, Answer("m2", 20))
    status = desk.status()
    assert (status.session_tokens, status.unread_lines) == (30, 1)


def test_lines_of_other_kinds_and_broken_bytes_are_passed_over(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(
        file,
        "",
        "not json",
        '{"type":"user","toolUseResult":{"usage":{"input_tokens":5},"by":"assistant"}}',
        Answer("m0", 99, model="<synthetic>"),
        '{"type":"assistant","message":{"id":"x","content":[{"usage":1}]}}',
    )
    with file.open("ab") as stream:
        stream.write(b"\xff\xfe\x00 broken\n")
    append(file, Answer("m1", 10))
    status = desk.status()
    assert (status.session_tokens, status.kept_local_tokens) == (10, 0)
    assert status.unread_lines is None


def test_a_project_moved_to_another_disk_and_linked_back_is_counted_once(
    desk: Desk, tmp_path: Path
) -> None:
    outside = transcript(tmp_path / "disk", "p/one.jsonl")
    append(outside, Answer("m1", 10))
    append(transcript(tmp_path / "disk", "p/one/subagents/agent-1.jsonl"), Answer("m2", 20))
    (desk.projects / "linked").symlink_to(outside.parent)
    (desk.projects / "linked again").symlink_to(desk.projects / "linked")
    (outside.parent / "back").symlink_to(desk.projects)
    status = desk.status()
    assert (status.session_tokens, status.unread_files) == (30, None)
    append(outside, Answer("m3", 30))
    assert desk.tokens() == 60
    assert wire.rows(desk.ledger.path, "SELECT count(*) FROM immunos_mcp_transcript") == [(2,)]


def test_other_links_are_not_followed(desk: Desk, tmp_path: Path) -> None:
    outside = transcript(tmp_path / "outside", "p/one.jsonl")
    append(outside, Answer("m1", 10))
    transcript(desk.projects, "p/two.jsonl").symlink_to(outside)
    (desk.projects / "p" / "deeper").symlink_to(outside.parent)
    status = desk.status()
    assert (status.session_tokens, status.unread_files) == (0, None)


@pytest.mark.parametrize("target", [".", "..", "/", "nowhere"])
def test_a_link_that_leads_above_or_nowhere_is_reported(desk: Desk, target: str) -> None:
    (desk.projects / "linked").symlink_to(target)
    assert (desk.status().session_tokens, desk.status().unread_files) == (0, 1)
    (desk.projects / "linked").unlink()
    assert desk.status().unread_files is None


def test_more_folders_behind_links_than_are_listed_are_reported(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immunos_mcp.assistants.transcripts.MOST_LINKED_FOLDERS", 3)
    append(transcript(desk.projects, "p/own.jsonl"), Answer("m0", 1))
    for number in range(5):
        append(transcript(tmp_path / "disk", f"{number}/one.jsonl"), Answer(f"m{number + 1}", 10))
    (desk.projects / "linked").symlink_to(tmp_path / "disk")
    status = desk.status()
    assert (status.session_tokens, status.unread_files) == (21, 3)


def test_a_transcript_that_is_no_file_is_passed_over(desk: Desk) -> None:
    os.mkfifo(transcript(desk.projects, "p/pipe.jsonl"))
    (desk.projects / "p" / "folder.jsonl").mkdir()
    append(transcript(desk.projects), Answer("m1", 10))
    assert desk.tokens() == 10


def test_what_was_read_is_known_to_every_process(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    assert desk.tokens() == 10
    append(file, Answer("m2", 20))
    other = desk.another_router()
    assert run_sync(other.get_session_status()).session_tokens == 30
    assert desk.tokens() == 30


def test_reading_a_transcript_again_any_number_of_times_changes_nothing(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10), Answer("m2", 20))
    for _ in range(3):
        os.utime(file)
        assert desk.tokens() == 30
    assert desk.sync_all() == SyncAnswer(transcripts=0, added=0)
    assert desk.tokens() == 30


def test_sync_takes_over_history_that_no_session_counts_and_a_second_run_adds_nothing(
    desk: Desk,
) -> None:
    old = Answer("m1", 10, at=BEFORE - timedelta(days=30))
    append(transcript(desk.projects), old, replace(old, message_id="m2"), Answer("m3", 7))
    assert desk.sync_all() == SyncAnswer(transcripts=1, added=3)
    assert desk.sync_all() == SyncAnswer(transcripts=0, added=0)
    assert desk.tokens() == 7


def test_a_second_sync_reads_what_is_new_or_was_left_out_before_and_nothing_else(
    desk: Desk,
) -> None:
    days = [Answer(f"m{day}", 10, at=NOON - timedelta(days=day)) for day in range(5)]
    old, new = transcript(desk.projects, "p/old.jsonl"), transcript(desk.projects, "p/new.jsonl")
    append(old, *reversed(days))
    append(new, Answer("n0", 1))
    assert desk.tokens() == 11

    def sync(days_back: float) -> SyncAnswer:
        since = NOON - timedelta(days=days_back)
        return run_sync(desk.archive.sync(since, lambda _read, _total: None))

    assert sync(2.5) == SyncAnswer(transcripts=1, added=2)
    assert sync(2.5) == SyncAnswer(transcripts=0, added=0)
    assert sync(1.5) == SyncAnswer(transcripts=0, added=0)
    assert sync(-9) == SyncAnswer(transcripts=0, added=0)
    append(new, Answer("n1", 1, at=NOON - timedelta(days=9)))
    assert sync(3.5) == SyncAnswer(transcripts=2, added=1)
    assert desk.sync_all() == SyncAnswer(transcripts=2, added=2)
    assert desk.sync_all() == SyncAnswer(transcripts=0, added=0)
    append(old, Answer("m9", 1))
    assert desk.sync_all() == SyncAnswer(transcripts=1, added=1)


def test_a_sync_never_leaves_out_what_an_open_session_counts(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 10))
    later = NOON + timedelta(days=1)
    answer = run_sync(desk.archive.sync(later, lambda _read, _total: None))
    assert answer == SyncAnswer(transcripts=1, added=1)
    assert desk.tokens() == 10


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 999), st.integers(0, 9)),
        max_size=40,
    ),
    block=st.integers(64, 2000),
    portion=st.integers(1, 3000),
    hours_back=st.none() | st.integers(0, 9),
)
def test_an_import_finds_the_same_however_it_is_cut_into_blocks_portions_and_processes(
    lines: list[tuple[int, int, int, int]], block: int, portion: int, hours_back: int | None
) -> None:
    since = None if hours_back is None else NOON - timedelta(hours=hours_back)
    largest: dict[str, int] = {}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(marked_lines, "BLOCK_BYTES", block)
        patch.setattr(marked_lines, "_spare_buffers", [])
        patch.setattr(bulk_reading, "TASK_BYTES", portion)
        patch.setattr(bulk_reading, "PORTION_RECORDS", portion % 7)
        patch.setattr(bulk_reading, "PARALLEL_BYTES", 1)
        patch.setattr(os, "cpu_count", lambda: 3)
        desk = Desk(Path(folder))
        for file, message, tokens, hours in lines:
            at = NOON - timedelta(hours=hours)
            append(
                transcript(desk.projects, f"p/{file}.jsonl"), Answer(f"m{message}", tokens, at=at)
            )
            if since is None or at >= since:
                largest[f"m{message}"] = max(largest.get(f"m{message}", 0), tokens)
        run_sync(desk.archive.sync(since, lambda _read, _total: None))
        desk.ledger.close()
        with closing(sqlite3.connect(Path(folder) / "ledger.db")) as connection:
            stored = connection.execute(
                "SELECT message_id, input_tokens FROM immunos_mcp_measured_usage"
            ).fetchall()
    assert dict(stored) == largest


def test_readers_in_other_processes_end_when_the_importer_is_killed(home: Path) -> None:
    for number in range(12):
        append(
            transcript(home / ".claude" / "projects", f"p/{number}.jsonl"),
            *(Answer(f"{number} {line}", 1) for line in range(500)),
        )
    program = (
        "import os, signal, sys\n"
        "from immunos_mcp.cli import detail, main as cli\n"
        "from immunos_mcp.assistants import bulk_reading\n"
        "bulk_reading.PARALLEL_BYTES = bulk_reading.TASK_BYTES = 1\n"
        "bulk_reading.PORTION_RECORDS = 100\n"
        "os.cpu_count = lambda: 3\n"
        "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if sys.argv[1] == 'kill': detail._no_progress = kill\n"
        "sys.exit(cli.main(['sync', '--all']))\n"
    )

    def sync(how: str) -> subprocess.CompletedProcess[bytes]:
        # Readers hold the output's pipe: it ends only when all of them have.
        return subprocess.run(
            [sys.executable, "-c", program, how],
            env=wire.environment(home),
            capture_output=True,
            timeout=wire.TIMEOUT_SECONDS,
            check=False,
        )

    killed = sync("kill")
    assert (killed.returncode, killed.stderr) == (-9, b"")
    stored = "SELECT count(*) FROM immunos_mcp_measured_usage"
    ((after_kill,),) = wire.rows(wire.ledger_path(home), stored)
    assert 0 < after_kill < 6000
    assert sync("finish").returncode == 0
    assert wire.rows(wire.ledger_path(home), stored) == [(6000,)]
    wire.assert_sound(wire.ledger_path(home))


def test_more_responses_than_fit_a_batch_are_all_taken_over(desk: Desk) -> None:
    append(transcript(desk.projects), *(Answer(f"m{n}", 1) for n in range(4321)))
    assert desk.tokens() == 4321


def test_claude_code_reporting_its_own_usage_is_kept_and_not_counted_twice(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 10))
    answer = run_sync(
        desk.router.record_usage(
            model="claude-x", input_tokens=10, output_tokens=0, client="claude-code 2.1.197"
        )
    )
    assert (answer.session_tokens, answer.counted) == (10, False)
    local = run_sync(
        desk.router.record_usage(
            model="llama3:8b", input_tokens=3, output_tokens=0, client="claude-code 2.1.197"
        )
    )
    assert (local.session_tokens, local.kept_local_tokens, local.counted) == (10, 3, None)


def test_another_clients_report_counts_beside_what_is_measured(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 10))
    run_sync(
        desk.router.record_usage(
            model="claude-x", input_tokens=5, output_tokens=0, client="claude-desktop 1"
        )
    )
    status = desk.status()
    assert (status.session_tokens, status.measured_tokens, status.reported_tokens) == (15, 10, 5)


answers = st.builds(
    Answer,
    message_id=st.sampled_from([f"m{n}" for n in range(6)]),
    input_tokens=st.integers(0, 1000),
    output_tokens=st.integers(0, 1000),
    cache_creation=st.integers(0, 1000),
    cache_read=st.integers(0, 1000),
)
steps = st.lists(
    st.tuples(st.sampled_from(["a.jsonl", "b.jsonl", "s/subagents/c.jsonl"]), answers),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps, looks=st.sets(st.integers(0, 25)))
def test_totals_are_the_sum_of_each_responses_largest_line_however_it_arrives(
    steps: list[tuple[str, Answer]], looks: set[int]
) -> None:
    largest: dict[str, TokenCounts] = {}
    with TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        desk.begin()
        desk.now = AFTER
        for number, (name, answer) in enumerate(steps):
            append(transcript(desk.projects, f"p/{name}"), answer)
            counts = TokenCounts(
                answer.input_tokens, answer.output_tokens, answer.cache_creation, answer.cache_read
            )
            known = largest.get(answer.message_id)
            if known is None or counts.total > known.total:
                largest[answer.message_id] = counts
            if number in looks:
                desk.status()
        run_sync(desk.another_router().get_session_status())
        assert desk.status().claude_tokens.total == sum(c.total for c in largest.values())
        desk.ledger.close()
        with closing(sqlite3.connect(Path(folder) / "ledger.db")) as connection:
            assert (
                connection.execute(
                    "SELECT measured_input_tokens, measured_output_tokens, usage_records"
                    " FROM immunos_mcp_session"
                ).fetchone()
                == connection.execute(
                    "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), count(*)"
                    " FROM immunos_mcp_measured_usage"
                ).fetchone()
            )


def test_a_transcript_that_cannot_be_read_is_counted_and_read_once_it_can(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    with monkeypatch.context() as broken:

        def refuse(*_arguments: object, **_named: object) -> object:
            raise PermissionError(13, "Permission denied")

        broken.setattr("builtins.open", refuse)
        status = desk.status()
    assert (status.session_tokens, status.unread_files) == (0, 1)
    status = desk.status()
    assert (status.session_tokens, status.unread_files) == (10, None)


def test_transcripts_that_are_not_to_be_read_are_not(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(tmp_path / "config")}
    on = Options(tmp_path / "x.db", "default")
    off = Options(tmp_path / "x.db", "default", read_transcripts=False)
    assert transcript_folders(off, environment) is None
    append(transcript(tmp_path / "config" / "projects"), Answer("m1", 10))
    folders = transcript_folders(on, environment)
    assert folders is not None
    assert folders.exist()
    assert [Path(found.path).name for found in folders.changed({}, None)] == ["one.jsonl"]


def test_more_unread_bytes_than_a_look_may_take_are_left_to_others(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))

    def tokens(largest: int) -> tuple[int, str | None]:
        status = run_sync(desk.router.get_session_status(look=Look(largest=largest)))
        return status.session_tokens, status.not_counting

    assert tokens(100) == (0, TOO_MUCH)
    assert tokens(100_000) == (10, None)
    append(file, Answer("m2", 20))
    assert tokens(file.stat().st_size - 100) == (30, None)
    assert run_sync(Archive(desk.ledger).sync(None, lambda _read, _total: None)) == SyncAnswer(0, 0)


def test_a_line_too_long_to_hold_is_passed_over_and_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marked_lines, "LONGEST_LINE", 1000)
    monkeypatch.setattr(marked_lines, "BLOCK_BYTES", 500)
    monkeypatch.setattr(marked_lines, "_spare_buffers", [])
    file = transcript(desk.projects)
    append(file, Answer("m1", 10), "x" * 2500, Answer("m2", 20), "x" * 900)
    status = desk.status()
    assert (status.session_tokens, status.unread_lines) == (30, 1)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("x" * 2500)
    assert desk.tokens() == 30
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n")
    append(file, Answer("m3", 40))
    status = desk.status()
    assert (status.session_tokens, status.unread_lines) == (70, 2)


@pytest.mark.parametrize(("hours", "tokens"), [(23, 10), (25, 0)])
def test_a_file_whose_time_lies_up_to_a_day_behind_the_session_is_read(
    desk: Desk, hours: float, tokens: int
) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    behind = (BEFORE - timedelta(hours=hours)).timestamp()
    os.utime(file, (behind, behind))
    assert desk.tokens() == tokens


def test_what_watchers_compare_changes_with_every_total(desk: Desk) -> None:
    file = transcript(desk.projects)
    seen = [run_sync(desk.router.list_revisions()).sessions["default"]]
    for answer in (Answer("m1", 10), Answer("m1", 510), Answer("m2", cache_read=5)):
        append(file, answer)
        seen.append(run_sync(desk.router.list_revisions()).sessions["default"])
    assert len(set(seen)) == 4


def test_usage_after_a_session_was_closed_does_not_count_in_it(desk: Desk) -> None:
    desk.now = NOON
    run_sync(desk.router.reset_session())
    desk.now = AFTER
    append(
        transcript(desk.projects),
        Answer("m1", 1, at=NOON - timedelta(milliseconds=1)),
        Answer("m2", 2, at=NOON),
    )
    assert desk.tokens() == 2
    first = run_sync(desk.archive.list_sessions(9, None))[1]
    assert (first.session_tokens, first.usage_records) == (1, 1)


def test_a_repeat_of_a_report_that_is_kept_says_again_that_it_does_not_count(desk: Desk) -> None:
    for repeated in (None, True):
        answer = run_sync(
            desk.router.record_usage(
                model="claude-x",
                input_tokens=10,
                output_tokens=0,
                request_id="r1",
                client="claude-code 2.1.197",
            )
        )
        assert (answer.repeated, answer.counted) == (repeated, False)


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=400)])
@pytest.mark.parametrize("who", ["the same server", "another process"])
def test_a_clock_that_was_ahead_once_does_not_silence_measurement(
    tmp_path: Path, ahead: timedelta, who: str
) -> None:
    desk = Desk(tmp_path)
    file = transcript(desk.projects)
    append(file, Answer("early", 1, at=NOON))
    desk.now = NOON + ahead
    desk.begin()
    assert desk.tokens() == 0
    desk.now = NOON + timedelta(minutes=1)
    if who == "another process":
        desk.router = desk.another_router()
    assert desk.tokens() == 0
    append(file, Answer("m1", 10, at=NOON + timedelta(minutes=2)))
    desk.now = NOON + timedelta(minutes=3)
    assert desk.tokens() == 10
    assert desk.status().started_at == NOON + timedelta(minutes=1)
    desk.ledger.close()


def test_what_was_left_out_while_the_clock_was_ahead_counts_later(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    file = transcript(desk.projects)
    desk.now = NOON + timedelta(hours=2)
    desk.begin()
    append(file, Answer("m1", 10, at=NOON + timedelta(minutes=2)))
    assert desk.tokens() == 0
    desk.now = NOON + timedelta(minutes=1)
    assert desk.tokens() == 10
    desk.ledger.close()


def test_what_a_plan_reported_while_the_clock_was_ahead_is_forgotten(desk: Desk) -> None:
    def report(percent: float) -> None:
        usage = PlanUsage("five_hour", percent, desk.now + timedelta(hours=5))
        run_sync(desk.router.record_plan_usage([usage]))

    desk.now = NOON + timedelta(days=400)
    report(95.0)
    desk.now = NOON
    run_sync(desk.router.catch_up())
    assert run_sync(desk.router.get_session_status()).plan is None
    report(10.0)
    plan = run_sync(desk.router.get_session_status()).plan or ()
    assert [each.used_percentage for each in plan] == [10]


def test_a_pace_measured_while_the_clock_was_ahead_is_forgotten(desk: Desk) -> None:
    append(transcript(desk.projects), Answer("m1", 100_000, at=AFTER + timedelta(days=1)))
    assert desk.tokens() == 100_000
    append(transcript(desk.projects), Answer("m2", 50_000, at=AFTER))
    assert desk.status().session_tokens == 150_000
    assert (desk.status().tokens_per_minute or 0) > 100


WITH_TERMS = (
    '{"type":"assistant","timestamp":"2026-11-20T12:00:00.000Z","requestId":"r1","sessionId":"c1",'
    '"cwd":"/home/dev/shop","message":{"id":"m1","type":"message","role":"assistant",'
    '"model":"claude-opus-4-6","usage":{"input_tokens":3,"output_tokens":%d,'
    '"cache_creation_input_tokens":100,"cache_read_input_tokens":0,"cache_creation":'
    '{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d},"speed":"fast",'
    '"service_tier":"standard","inference_geo":"us","server_tool_use":{"web_search_requests":2}}}}'
)
TERMS = "cache_1h_input_tokens, speed, service_tier, region, web_searches, conversation"


def stored_terms(desk: Desk) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(desk.ledger.path)) as connection:
        return connection.execute(
            f"SELECT output_tokens, {TERMS} FROM immunos_mcp_measured_usage"  # a constant
        ).fetchall()


def forget_terms(desk: Desk) -> None:
    """Leave the ledger as a version that kept no terms would have."""
    lost = ", ".join(f"{term} = NULL" for term in TERMS.split(", "))
    with closing(sqlite3.connect(desk.ledger.path)) as connection, connection:
        connection.execute(f"UPDATE immunos_mcp_measured_usage SET {lost}")  # constants
        connection.execute("UPDATE immunos_mcp_transcript SET has_price_terms = 0")


def test_a_response_that_grows_gets_what_its_later_lines_say_about_the_price(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, WITH_TERMS % (1, 100, 0))
    assert desk.tokens() == 104
    append(file, WITH_TERMS % (5, 40, 60))
    assert desk.tokens() == 108
    assert stored_terms(desk) == [(5, 60, "fast", "standard", "us", 2, "c1")]


def test_syncing_all_completes_records_of_earlier_versions_once_and_counts_nothing_twice(
    desk: Desk,
) -> None:
    append(transcript(desk.projects), WITH_TERMS % (5, 40, 60))
    tokens = desk.tokens()
    forget_terms(desk)
    assert desk.sync_all().added == 0
    assert stored_terms(desk) == [(5, 60, "fast", "standard", "us", 2, "c1")]
    assert desk.tokens() == tokens
    with closing(sqlite3.connect(desk.ledger.path)) as connection:
        read = connection.execute("SELECT has_price_terms FROM immunos_mcp_transcript").fetchall()
    assert read == [(1,)]
