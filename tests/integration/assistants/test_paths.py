"""Files and folders with odd names, times and rights: read and counted, or reported by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import warm_starts
import wire
from transcript_desks import AFTER, Desk
from transcript_lines import Answer, append, transcript

from immunos_mcp.answers.usage import SyncAnswer
from immunos_mcp.assistants import config_files, transcript_reading, transcripts
from immunos_mcp.assistants.claude_code.transcripts import config_folders

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.begin()
    made.now = AFTER
    yield made
    made.ledger.close()


def odd_file(desk: Desk) -> Path:
    folder = Path(os.fsdecode(os.fsencode(desk.projects) + b"/-caf\xe9"))
    folder.mkdir()
    return folder / os.fsdecode(b"one\xff.jsonl")


def test_names_that_are_not_utf_8_are_read_once(desk: Desk) -> None:
    file = odd_file(desk)
    append(file, Answer("m1", 10))
    assert desk.tokens() == 10
    append(file, Answer("m2", 5), '{"type":"assistant","message":{"usage":')
    assert desk.tokens() == 15
    assert desk.status().unread_lines == 1
    assert desk.sync_all() == SyncAnswer(transcripts=0, added=0, unread_lines=1)


def test_names_that_are_not_utf_8_are_imported_by_several_processes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from immunos_mcp.assistants import bulk_reading

    monkeypatch.setattr(bulk_reading, "PARALLEL_BYTES", 1)
    monkeypatch.setattr(bulk_reading, "TASK_BYTES", 1)
    append(odd_file(desk), Answer("m1", 10))
    append(transcript(desk.projects), Answer("m2", 5))
    assert desk.sync_all() == SyncAnswer(transcripts=2, added=2)
    assert desk.sync_all() == SyncAnswer(transcripts=0, added=0)


def put_back(path: Path, times: os.stat_result) -> None:
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_that_comes_in_the_tick_of_the_last_look_is_found(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    before = file.parent.stat()
    assert desk.tokens() == 10
    append(file.with_name("two.jsonl"), Answer("m2", 5))
    put_back(file.parent, before)
    assert desk.tokens() == 15


def test_a_file_that_comes_in_the_tick_of_an_old_folder_is_found(desk: Desk) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    os.utime(file.parent, (10**9, 10**9))
    before = file.parent.stat()
    assert desk.tokens() == 10
    append(file.with_name("two.jsonl"), Answer("m2", 5))
    put_back(file.parent, before)
    assert desk.tokens() == 15


@pytest.mark.parametrize("who", ["the same process", "another process"])
def test_a_change_within_a_tick_that_keeps_the_size_is_found(desk: Desk, who: str) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    before = file.stat()
    assert desk.tokens() == 10
    file.write_text(Answer("m2", 25).line() + "\n", encoding="utf-8")
    put_back(file, before)
    assert file.stat().st_size == before.st_size
    if who == "another process":
        desk.router = desk.another_router()
    assert desk.tokens() == 35


def test_on_a_file_system_that_counts_seconds_no_change_is_missed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = transcript(desk.projects)
    append(file, Answer("m1", 10))
    real, second = os.stat, file.stat().st_mtime_ns // 10**9

    def coarse(path: str, **how: bool) -> os.stat_result:
        status = real(path, **how)
        whole = [*status[:7], second, second, second]
        extra = {"st_mtime_ns": second * 10**9, "st_ctime_ns": second * 10**9}
        return os.stat_result(whole, extra)

    monkeypatch.setattr(os, "stat", coarse)
    assert desk.tokens() == 10
    file.write_text(Answer("m2", 25).line() + "\n", encoding="utf-8")
    append(file.with_name("two.jsonl"), Answer("m3", 7))
    assert desk.tokens() == 42


def test_what_has_settled_is_not_opened_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    append(transcript(desk.projects), Answer("m1", 10))
    monkeypatch.setattr(transcripts, "SETTLING_NS", -(10**10))
    assert desk.tokens() == 10
    monkeypatch.delattr(transcript_reading, "read")
    assert desk.tokens() == 10


@pytest.mark.parametrize("field", ["st_ino", "st_mtime_ns"])
def test_numbers_of_a_file_system_beyond_63_bits_can_be_stored(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    append(transcript(desk.projects), Answer("m1", 10))
    real = os.stat

    class Status:
        def __init__(self, path: str, **how: bool) -> None:
            self._real = real(path, **how)

        def __getattr__(self, name: str) -> object:
            known = getattr(self._real, name)
            return 2**64 - 1 - known % 2**20 if name == field else known

    monkeypatch.setattr(os, "stat", Status)
    assert desk.tokens() == 10
    assert desk.tokens() == 10


CLOSED = """
import os, sys
from immunos_mcp.cli import main
def refuse(real):
    def call(path, *given, **named):
        if str(path).startswith(sys.argv[1]):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *given, **named)
    return call
os.scandir, os.stat = refuse(os.scandir), refuse(os.stat)
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("what", ["-home-dev-shop", "-home-dev-shop/one.jsonl"])
def test_what_cannot_be_opened_is_reported_by_name(home: Path, what: str) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    closed = str(transcript(home / ".claude" / "projects").parents[1] / what)
    append(transcript(home / ".claude" / "projects"), Answer("m1", 10))
    program = (*warm_starts.running(CLOSED), closed)
    status = wire.run(home, "status", "--json", program=program)
    assert '"unread_files":1' in status.stdout, status.stderr
    doctor = wire.run(home, "doctor", program=program)
    assert doctor.returncode == 1
    assert f"cannot be opened, such as {closed}" in doctor.stdout


def test_links_are_named_by_the_doctor(home: Path) -> None:
    outside = transcript(home / "disk2", "-moved/s1.jsonl")
    append(outside, Answer("m1", 10))
    projects = home / ".claude" / "projects"
    projects.mkdir(parents=True)
    (projects / "-moved").symlink_to(outside.parent)
    (projects / "-gone").symlink_to(home / "disk3")
    done = wire.run(home, "doctor")
    assert f"links are not followed, such as {projects}/-gone" in done.stdout
    assert "1 found, all readable" in done.stdout
    status = wire.run_json(home, "status")
    assert (status["session_tokens"], status["unread_files"]) == (10, 1)


def test_the_configuration_folder_is_taken_in_every_form(tmp_path: Path) -> None:
    def folders(text: str) -> tuple[str, ...]:
        return tuple(map(str, config_folders({"CLAUDE_CONFIG_DIR": text})))

    assert folders("/a") == ("/a",)
    assert folders("/a/") == ("/a",)
    assert folders("/a, /b") == ("/a, /b", "/a", "/b")
    assert folders("~/x")[-1] == str(Path.home() / "x")
    assert config_folders({})[0] == Path.home() / ".claude"
    assert tmp_path.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{home}/A,{home}/B", "is a list, not one folder"),
        ("{home}/gone", "is not a folder"),
        ("A", "is relative, so it is another folder in every project"),
    ],
)
def test_a_configuration_folder_that_is_not_one_is_a_warning(
    home: Path, text: str, words: str
) -> None:
    append(transcript(home / "A" / "projects"), Answer("m1", 10))
    value = text.format(home=home)
    done = wire.run(home, "doctor", variables={"CLAUDE_CONFIG_DIR": value})
    assert f"warn  CLAUDE_CONFIG_DIR {value!r} {words}" in " ".join(done.stdout.split(" ")).replace(
        "  ", "  "
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("IMMUNOS_DB", "${CLAUDE_PROJECT_DIR}/.immunos/x.db"),
        ("IMMUNOS_DB", "$HOME/x.db"),
        ("IMMUNOS_DB", "%APPDATA%/x.db"),
        ("IMMUNOS_SESSION", "${workspaceFolderBasename}"),
        ("IMMUNOS_TELEMETRY", "${PORT}"),
        ("OLLAMA_HOST", "${OLLAMA_HOST}"),
        ("IMMUNOS_ALLOWED_PATHS", "/tmp:${workspaceFolder}"),
    ],
)
def test_a_variable_that_nobody_replaced_is_refused_by_name(
    home: Path, variable: str, text: str
) -> None:
    for arguments in (["status"], ["route", "--task-type", "x", "--classification", "routine"]):
        done = wire.run(home, *arguments, variables={variable: text})
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"immunos-mcp: {variable}: ")
    assert list(home.iterdir()) == []


def test_a_flag_with_such_a_variable_is_refused_too(home: Path) -> None:
    done = wire.run(home, "status", "--db", "${userHome}/x.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("immunos-mcp: --db: ")


HOMELESS = """
import os, pwd, sys
os.environ.pop("HOME")
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
from immunos_mcp.cli import main, status_line
sys.exit(status_line.main() if sys.argv[1:] == ["statusline"] else main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "route --task-type x --classification routine",
        "doctor",
        "sync --all",
        "checks list",
        "tasks",
    ],
)
def test_without_a_home_a_ledger_given_is_enough(tmp_path: Path, command: str) -> None:
    done = wire.run(
        tmp_path,
        *command.split(),
        program=warm_starts.running(HOMELESS),
        variables={"IMMUNOS_DB": str(tmp_path / "i.db")},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("command", ["status", "install codex --yes", "setup --yes", "doctor"])
def test_without_a_home_and_without_a_ledger_commands_say_so(tmp_path: Path, command: str) -> None:
    done = wire.run(tmp_path, *command.split(), program=warm_starts.running(HOMELESS))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("immunos-mcp: IMMUNOS_DB: ")
    assert done.stderr.count("\n") == 1


def test_without_a_home_clients_cannot_be_set_up(tmp_path: Path) -> None:
    for command in ("install codex --yes", "setup --yes"):
        done = wire.run(
            tmp_path,
            *command.split(),
            program=warm_starts.running(HOMELESS),
            variables={"IMMUNOS_DB": str(tmp_path / "i.db")},
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("immunos-mcp: HOME: is required")


def test_without_a_home_the_status_line_says_so(tmp_path: Path) -> None:
    done = wire.run(tmp_path, "statusline", program=warm_starts.running(HOMELESS))
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert done.stdout.startswith("immunos: IMMUNOS_DB: ")


def test_pipes_in_place_of_files_are_not_waited_for(home: Path) -> None:
    for name in (
        ".claude/projects/-p/one.jsonl",
        ".claude.json",
        ".claude/settings.json",
        ".codex/sessions/2026/11/28/rollout-2026-11-28T08-00-00-x.jsonl",
        ".codex/config.toml",
        ".gemini/tmp/abc/chats/session-1.json",
        ".gemini/tmp/abc/.project_root",
        ".pi/agent/sessions/p/one.jsonl",
        ".local/share/opencode/opencode.db",
        ".cline/data/sessions/one/one.messages.json",
        ".cursor/mcp.json",
    ):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(file)
    status = wire.run(home, "status")
    assert (status.returncode, status.stderr) == (0, "")
    doctor = wire.run(home, "doctor", "--ollama-check", "off").stdout
    for name in (".claude.json", ".codex/config.toml", ".cursor/mcp.json"):
        assert f"{home / name}: Not a regular file" in doctor
    refused = wire.run(home, "install", "codex", "--yes")
    assert (refused.returncode, "Not a regular file" in refused.stderr) == (1, True)


def test_a_huge_configuration_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / ".claude.json"
    with file.open("wb") as sparse:
        sparse.truncate(2**34)
    with pytest.raises(config_files.InstallError, match=r"\.claude\.json: Larger than 64 MiB"):
        config_files.read(file)
