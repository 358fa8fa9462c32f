"""The doctor: every mistake is seen and has a remedy, and looking changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import wire
from ollama_server import Manner, Script, scripted_ollama
from other_logs import OpencodeDatabase, codex_head, codex_rollout, gemini_chat
from transcript_lines import Answer, append, transcript

from immunos_mcp.assistants import doctor
from immunos_mcp.assistants.claude_code.configuration import TELEMETRY
from immunos_mcp.assistants.findings import DoctorContext
from immunos_mcp.assistants.readiness import readiness
from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.engines import watch
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.options import Options
from immunos_mcp.router import Router
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def diagnose(home: Path, code: int = 0, **variables: str) -> list[dict[str, str]]:
    path = f"{home / 'bin'}:/usr/bin:/bin"
    ran = wire.run(home, "doctor", "--json", variables={"PATH": path, **variables})
    assert ran.returncode == code, ran.stderr
    return json.loads(ran.stdout)


def found(findings: list[dict[str, str]], check: str) -> list[tuple[str, str]]:
    return [(each["verdict"], each["seen"]) for each in findings if each["check"] == check]


def remedies(findings: list[dict[str, str]], check: str) -> list[str]:
    return [each.get("remedy", "") for each in findings if each["check"] == check]


@pytest.fixture
def program(home: Path) -> Path:
    """Return the installed program, where the doctor's PATH finds it."""
    file = home / "bin" / "immunos-mcp"
    file.parent.mkdir()
    start = f'#!/bin/sh\nexec {sys.executable} -m immunos_mcp "$@"\n'
    file.write_text(start, encoding="utf-8")
    file.chmod(0o755)
    return file


def set_up(home: Path, program: Path, **more: Any) -> Path:
    """Set Claude Code up by hand, as the installation does, and return its settings file."""
    wire.run(home, "install", "claude-code", "--yes")
    file = home / ".claude.json"
    held = json.loads(file.read_text(encoding="utf-8"))
    held["mcpServers"]["immunos"].update({"command": str(program), **more})
    file.write_text(json.dumps(held), encoding="utf-8")
    return home / ".claude" / "settings.json"


def change(file: Path, **members: Any) -> None:
    held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**held, **members}), encoding="utf-8")


def test_on_a_bare_machine_nothing_is_wrong_and_nothing_is_made(home: Path) -> None:
    findings = diagnose(home)
    assert [(each["check"], each["verdict"]) for each in findings] == [
        ("program", "warn"),
        ("transcripts", "ok"),
        ("ledger", "ok"),
        ("ollama", "ok"),
    ]
    assert list(home.iterdir()) == []


def test_a_machine_that_is_set_up_is_in_order(home: Path, program: Path) -> None:
    set_up(home, program)
    append(transcript(home / ".claude" / "projects"), Answer("m1", 1))
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    findings = diagnose(home)
    assert {each["verdict"] for each in findings} == {"ok"}
    assert found(findings, "hooks") == [("ok", "installed")]
    assert found(findings, "transcripts") == [("ok", "1 found, all readable")]
    ((_, telemetry),) = found(findings, "telemetry")
    assert telemetry == "off: requests outside transcripts (titles, compaction) are not counted"


def test_the_report_for_people_has_a_line_a_finding_and_its_remedy_below(home: Path) -> None:
    (home / ".cursor").mkdir()
    ran = wire.run(home, "doctor", variables={"PATH": "/usr/bin:/bin"})
    assert "warn  cursor          installed but not set up\n" in ran.stdout
    assert f"{'':<21} -> immunos-mcp install cursor\n" in ran.stdout


def test_an_entry_that_starts_no_program_is_a_failure(home: Path, program: Path) -> None:
    set_up(home, program, command="/gone/immunos-mcp")
    findings = diagnose(home, code=1)
    assert ("fail", "its entry starts '/gone/immunos-mcp', which was not found") in found(
        findings, "claude-code"
    )
    assert "immunos-mcp install claude-code" in remedies(findings, "claude-code")


def test_entries_of_another_shape_are_checked_too(home: Path, program: Path) -> None:
    config = home / ".config" / "opencode" / "opencode.json"
    config.parent.mkdir(parents=True)
    entry = {"type": "local", "command": [str(program)], "enabled": False}
    change(config, mcp={"immunos": entry})
    cline = home / ".cline" / "data" / "settings" / "cline_mcp_settings.json"
    cline.parent.mkdir(parents=True)
    transport = {"type": "stdio", "command": str(program), "env": {"IMMUNOS_TELEMETRY": "maybe"}}
    change(cline, mcpServers={"immunos": {"transport": transport}})
    findings = diagnose(home, code=1)
    assert found(findings, "opencode") == [("warn", "its entry is disabled")]
    ((verdict, seen),) = found(findings, "cline")
    assert (verdict, seen.split(":")[0]) == ("fail", "its entry is invalid")


def test_a_missing_always_load_and_missing_hooks_are_seen(home: Path, program: Path) -> None:
    settings = set_up(home, program, alwaysLoad=False)
    held = json.loads(settings.read_text(encoding="utf-8"))
    del held["hooks"]["Stop"]
    settings.write_text(json.dumps(held), encoding="utf-8")
    findings = diagnose(home)
    assert [verdict for verdict, _ in found(findings, "alwaysLoad")] == ["warn"]
    ((verdict, seen),) = found(findings, "hooks")
    assert (verdict, seen.split(":")[0]) == ("warn", "missing for Stop")


def test_plugin_and_entry_together_are_one_too_many(home: Path, program: Path) -> None:
    settings = set_up(home, program)
    change(settings, enabledPlugins={"immunos@immunos": True})
    assert found(diagnose(home), "claude-code") == [
        ("warn", "set up twice, as a plugin and in its configuration")
    ]
    change(home / ".claude.json", mcpServers={})
    assert found(diagnose(home), "claude-code") == [("ok", "set up as a plugin")]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (None, "warn"),
        ({"type": "command", "command": "mine.sh"}, "warn"),
        ({"type": "command", "command": "/x/immunos-mcp statusline"}, "ok"),
    ],
)
def test_the_status_line_is_looked_at(
    home: Path, program: Path, line: dict[str, str] | None, verdict: str
) -> None:
    settings = set_up(home, program)
    change(settings, statusLine=line)
    assert [each for each, _ in found(diagnose(home), "status line")] == [verdict]


def test_telemetry_that_is_switched_on_in_part_is_seen(home: Path, program: Path) -> None:
    settings = set_up(home, program)
    change(settings, env={"IMMUNOS_TELEMETRY": "on", "CLAUDE_CODE_ENABLE_TELEMETRY": "1"})
    ((verdict, seen),) = found(diagnose(home), "telemetry")
    assert verdict == "warn"
    assert "OTEL_LOGS_EXPORTER" in seen
    wire.run(home, "install", "claude-code", "--yes", "--telemetry")
    assert found(diagnose(home), "telemetry") == [
        ("ok", "on: requests outside transcripts count too")
    ]


def test_a_configuration_that_cannot_be_read_hides_nothing_else(home: Path) -> None:
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").write_text("{broken", encoding="utf-8")
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text("x = ", encoding="utf-8")
    findings = diagnose(home, code=1)
    assert [verdict for verdict, _ in found(findings, "cursor")] == ["fail"]
    assert [verdict for verdict, _ in found(findings, "codex")] == ["fail"]
    assert found(findings, "ledger") != []


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no ledger" * 1000, "not a SQLite database"), (b"", None)],
)
def test_a_ledger_that_is_none_is_a_failure_and_an_empty_one_is_not(
    home: Path, content: bytes, words: str | None
) -> None:
    file = wire.ledger_path(home)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    file.chmod(0o600)
    findings = diagnose(home, code=0 if words is None else 1)
    ((verdict, seen),) = found(findings, "ledger")
    assert verdict == ("ok" if words is None else "fail")
    assert (words or "is intact") in seen
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "check", "verdict", "words"),
    [
        (
            f"INSERT INTO immunos_mcp_schema_version VALUES ({schema.LATEST + 1}, 'x')",
            "ledger",
            "fail",
            "written by a newer immunos-mcp",
        ),
        (
            "INSERT INTO settings VALUES ('session_limit', 'many', 'x')",
            "settings",
            "fail",
            "session_limit: must be a whole number from 1 to",
        ),
        (
            "INSERT INTO immunos_mcp_transcript VALUES ('/x', 1, 1, 1, 1, 1, 7, '', '', 1)",
            "transcripts",
            "warn",
            "7 transcript lines with usage could not be read, or repeat the id of another response: /x",
        ),
        (
            "UPDATE immunos_mcp_session SET started_at = '2999-01-01T00:00:00.000Z'",
            "clock",
            "warn",
            "a session began in the future, at 2999-01-01 00:00 UTC",
        ),
    ],
)
def test_what_is_wrong_in_a_ledger_is_said(
    home: Path, statement: str, check: str, verdict: str, words: str
) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    wire.execute(wire.ledger_path(home), statement)
    findings = diagnose(home, code=1 if verdict == "fail" else 0)
    assert any(each == verdict and words in seen for each, seen in found(findings, check))


def test_a_ledger_that_others_may_read_is_said(home: Path) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    wire.ledger_path(home).chmod(0o644)
    assert found(diagnose(home), "ledger file") == [("warn", "other users can read it")]


def test_a_clock_that_is_behind_the_transcripts_is_said(home: Path) -> None:
    file = transcript(home / ".claude" / "projects")
    append(file, Answer("m1", 1, at=datetime.now(UTC) + timedelta(days=2)))
    later = time.time() + 86_400
    os.utime(file, (later, later))
    assert found(diagnose(home), "clock") == [("warn", "some transcripts are dated in the future")]


def test_the_engine_is_looked_at_with_what_is_mapped_and_missing(home: Path) -> None:
    script = Script()
    with scripted_ollama(script) as where:
        findings = diagnose(home, IMMUNOS_OLLAMA_CHECK="on", OLLAMA_HOST=where)
        assert found(findings, "ollama") == [
            ("ok", f"Ollama 0.33.0-rc2 at http://{where}, 2 models"),
            ("warn", "deepseek-r1:14b is configured but unavailable"),
            ("warn", "qwen2.5:1.5b is configured but unavailable"),
        ]
        assert "ollama pull qwen2.5:1.5b" in remedies(findings, "ollama")
        script.manner = Manner.LOCKED
        findings = diagnose(home, IMMUNOS_OLLAMA_CHECK="on", OLLAMA_HOST=where)
        assert found(findings, "ollama") == [
            ("warn", f"Ollama refuses access (http://{where}: HTTP 401)")
        ]
        script.manner = Manner.ANOTHER_SERVICE
        findings = diagnose(home, IMMUNOS_OLLAMA_CHECK="on", OLLAMA_HOST=where)
        assert remedies(findings, "ollama") == ["set Ollama's address in OLLAMA_HOST"]


def test_who_uses_another_engine_alone_hears_of_its_models_and_not_how_to_install_ollama(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Engine(EngineState.UP, "http://127.0.0.1:8080", name="llama")
    own = {"own:latest": LocalModel("own", engine="llama")}
    seen = Engine(EngineState.DOWN, "http://127.0.0.1:1", models=own, others=(other,))

    def probe_now(_options: Options) -> Engine:
        return seen

    monkeypatch.setattr(watch, "probe_now", probe_now)
    database = home / "immunos.db"
    chosen = Options(database, "default", ollama_check=True)
    context = DoctorContext(chosen, {}, lambda _arguments, _environment: chosen)
    (told,) = (each for each in doctor.diagnose(context) if each.check == "ollama")
    assert told.seen.startswith("no engine serves qwen2.5-coder:7b, deepseek-r1:14b")
    assert told.remedy is not None
    assert "immunos-mcp config set default_local_model=own " in told.remedy
    with InlineSqliteLedger(database) as ledger:
        mapped: dict[str, str | None] = dict.fromkeys(DEFAULT_TASK_MAPPINGS, "own")
        change = {"default_local_model": "own", "task_mappings": mapped}
        run_sync(Router(ledger, "default").update_config(change, "test"))
    (told,) = (each for each in doctor.diagnose(context) if each.check in {"ollama", "models"})
    assert (told.verdict, told.remedy) == ("ok", None)


def test_other_assistants_logs_are_found_and_what_cannot_be_read_is_said(home: Path) -> None:
    assert not [each for each in diagnose(home) if each["check"].startswith("logs of")]
    codex_rollout(home).write_text("".join(codex_head()), encoding="utf-8")
    chat = gemini_chat(home)
    OpencodeDatabase(home)
    chat.chmod(0)
    findings = diagnose(home, 0 if os.access(chat, os.R_OK) else 1)
    assert found(findings, "logs of codex") == [("ok", "1 found, all readable")]
    assert found(findings, "logs of opencode") == [("ok", "1 found, all readable")]
    if not os.access(chat, os.R_OK):
        seen = f"1 cannot be read, such as {chat}"
        assert found(findings, "logs of gemini") == [("fail", seen)]


def test_folders_that_nobody_can_look_into_are_said(home: Path) -> None:
    # Like a folder without access, which the superuser has: it is not known what is behind it.
    closed = [home / name for name in (".claude", ".codex", ".local", ".pi")]
    for folder in closed:
        folder.symlink_to(folder)
    findings = diagnose(home, 1)
    for check, place in (
        ("transcripts", ".claude/projects"),
        ("logs of codex", ".codex"),
        ("logs of opencode", ".local/share/opencode"),
        ("logs of pi", ".pi/agent/sessions"),
    ):
        ((verdict, seen),) = found(findings, check)
        assert (verdict, str(home / place) in seen) == ("fail", True)
    assert wire.run_json(home, "status")["unread_files"] >= 3


def test_conversations_whose_total_is_missing_are_said(home: Path) -> None:
    now = datetime.now(UTC)
    files = home / ".claude" / "projects"
    for name, age in (("one", 1), ("two", 2), ("old", 24 * 8)):
        said = Answer(name, 5, at=now - timedelta(hours=age)).line()
        line = json.dumps({**json.loads(said), "sessionId": name})
        append(transcript(files, f"p/{name}.jsonl"), line)
    wire.run(home, "sync", "--all")
    ((verdict, seen),) = found(diagnose(home), "side requests")
    assert verdict == "ok"
    assert seen.startswith("2 conversations of the last 7 days without a total after the last")
    used = {"claude-opus-4-8": {"inputTokens": 5, "cacheCreationInputTokens": 0}}
    total = {"type": "cost-state", "sessionId": "one", "startTime": 1, "modelUsage": used}
    append(files / "p" / "one.jsonl", json.dumps(total))
    wire.run(home, "sync", "--all")
    ((_, seen),) = found(diagnose(home), "side requests")
    assert seen.startswith("1 conversation of")


@pytest.mark.parametrize("is_its_program", [True, False])
def test_a_conversation_that_still_runs_is_told_from_one_that_was_killed(
    home: Path, *, is_its_program: bool
) -> None:
    line = Answer("one", 5, at=datetime.now(UTC)).line()
    line = json.dumps({**json.loads(line), "sessionId": "one"})
    append(transcript(home / ".claude" / "projects", "p/one.jsonl"), line)
    wire.run(home, "sync", "--all")
    # The number of a killed program may belong to another one now.
    own = Path("/proc/self/stat")
    start = own.read_text().rpartition(")")[2].split()[19] if own.exists() else None
    process = {"pid": os.getpid(), "sessionId": "one", "procStart": start}
    gone = {**process, "procStart": "1"} if start else {**process, "pid": 2**30}
    sessions = home / ".claude" / "sessions"
    sessions.mkdir()
    (sessions / "1.json").write_text(json.dumps(process if is_its_program else gone))
    (sessions / "2.json").write_text('{"pid": ')
    findings = diagnose(home)
    ((_, seen),) = found(findings, "side requests")
    assert seen.startswith(
        "1 conversation still running" if is_its_program else "1 conversation of"
    )
    ((_, seen),) = found(findings, "unlogged")
    assert "--no-session-persistence" in seen


def test_transcripts_that_are_switched_off_are_said(home: Path) -> None:
    assert found(diagnose(home, IMMUNOS_TRANSCRIPTS="off"), "transcripts") == [
        ("warn", "not read: IMMUNOS_TRANSCRIPTS is off")
    ]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o755, "other users can open its folder"),
        (0o777, "other users can write to its folder"),
        (0o700, None),
    ],
)
def test_a_folder_that_is_open_to_others_is_said(home: Path, mode: int, words: str | None) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    folder = wire.ledger_path(home).parent
    folder.chmod(mode)
    findings = diagnose(home)
    assert found(findings, "ledger file") == ([] if words is None else [("warn", words)])
    assert remedies(findings, "ledger file") == ([] if words is None else [f"chmod 700 {folder}"])


@pytest.mark.parametrize("is_in_use", [False, True])
def test_looking_at_a_ledger_leaves_its_folder_as_it_is(home: Path, *, is_in_use: bool) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    file = wire.ledger_path(home)
    with closing(sqlite3.connect(file)) as connection:
        if is_in_use:
            connection.execute("UPDATE immunos_mcp_session SET started_at = '2999-01-01T00:00:00Z'")
            connection.commit()
        else:
            connection.close()
        before = held(file.parent)
        assert len(before) == (3 if is_in_use else 1)
        assert bool(found(diagnose(home), "clock")) is is_in_use
        assert held(file.parent) == before


def held(folder: Path) -> dict[str, bytes]:
    """Return what a ledger's folder holds; readers mark themselves in the memory they share."""
    return {
        each.name: b"" if each.suffix == ".db-shm" else each.read_bytes()
        for each in folder.iterdir()
    }


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE immunos_mcp_transcript",
        "UPDATE immunos_mcp_session SET started_at = 'soon'",
        "UPDATE immunos_mcp_session SET started_at = '2026-01-01T00:00:00'",
    ],
)
def test_a_ledger_that_somebody_tampered_with_is_a_failure_and_hides_nothing(
    home: Path, statement: str
) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    wire.execute(wire.ledger_path(home), statement)
    wire.ledger_path(home).chmod(0o644)
    findings = diagnose(home, code=1)
    assert [verdict for verdict, _ in found(findings, "ledger")] == ["fail"]
    assert found(findings, "ledger file") == [("warn", "other users can read it")]


def test_a_ledger_with_a_damaged_mark_of_its_version_is_damaged_and_not_newer(home: Path) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    wire.execute(wire.ledger_path(home), "INSERT INTO immunos_mcp_schema_version VALUES (99, 'x')")
    ((verdict, seen),) = found(diagnose(home, code=1), "ledger")
    assert verdict == "fail"
    assert "it is marked as version 99, but not as each version before" in seen


def test_an_older_ledger_is_sound(home: Path) -> None:
    file = wire.ledger_path(home)
    file.parent.mkdir(parents=True)
    with closing(schema.empty(1, str(file))) as older:
        older.execute("INSERT INTO immunos_mcp_schema_version VALUES (1, '2026-01-01')")
    ((verdict, seen),) = found(diagnose(home), "ledger")
    assert (verdict, seen.partition(" is ")[2]) == (
        "ok",
        "intact (version 1); the next call migrates it",
    )


def looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch, check: str, database: Path | None = None
) -> list[tuple[str, str]]:
    """Look in this process, so that what the system says can be made up."""
    monkeypatch.setenv("HOME", str(home))
    chosen = Options(database or home / "shop" / "immunos.db", "default", ollama_check=False)

    def parse_options(_arguments: Sequence[str], _environment: Mapping[str, str]) -> Options:
        return chosen

    findings = doctor.diagnose(DoctorContext(chosen, {}, parse_options))
    return [(each.verdict.value, each.seen) for each in findings if each.check == check]


def test_a_ledger_that_cannot_be_written_is_a_failure(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def access(place: object, mode: int) -> bool:
        return place != home or mode != os.W_OK

    monkeypatch.setattr(os, "access", access)
    assert looked_at(home, monkeypatch, "ledger file") == [("fail", f"{home} is not writable")]


def test_a_disk_that_is_nearly_full_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_usage(_folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=5 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert looked_at(home, monkeypatch, "ledger file") == [("warn", "only 5 MB free on its disk")]


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/scratch\\040here tmpfs rw 0 0
//box/share /mnt/share cifs rw 0 0
//box/share /mnt/local cifs rw 0 0
/dev/sdb1 /mnt/local ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me/.immunos", "nfs4"),
        ("/home/me/scratch here/x", "tmpfs"),
        ("/home2", "ext4"),
        ("/mnt/share", "cifs"),
        ("/mnt/local/x", "ext4"),
    ],
)
def test_the_file_system_of_a_folder_is_known(tmp_path: Path, folder: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert doctor.file_system(Path(folder), mounts) == kind
    assert doctor.file_system(Path(folder), tmp_path / "none") is None


def test_a_ledger_on_a_network_is_a_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_at(home, monkeypatch, "ledger file") == []

    def file_system(_folder: Path) -> str:
        return "nfs4"

    monkeypatch.setattr(doctor, "file_system", file_system)
    assert looked_at(home, monkeypatch, "ledger file") == [
        ("fail", "it is on a network file system (nfs4)")
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"args": ["--nonsense"]}, "unknown option '--nonsense'"),
        ({"args": ["--db"]}, "--db: needs a value"),
        ({"args": ["status"]}, "serves only without a command (got status)"),
        ({"args": ["--help"]}, "prints something and exits"),
        ({"args": ["--session", "a\nb"]}, "--session: must be 1 to 64"),
        (
            {"env": {"IMMUNOS_TRANSCRIPTS": "maybe"}},
            "IMMUNOS_TRANSCRIPTS: must be on or off (got 'maybe')",
        ),
    ],
)
def test_arguments_that_the_server_would_refuse_are_a_failure(
    home: Path, program: Path, more: dict[str, Any], words: str
) -> None:
    set_up(home, program, **more)
    findings = diagnose(home, code=1)
    (said,) = (seen for verdict, seen in found(findings, "claude-code") if verdict == "fail")
    assert said.startswith("its entry is invalid: ")
    assert words in said


def test_a_client_that_counts_elsewhere_is_said_with_how_to_look_there(
    home: Path, program: Path
) -> None:
    set_up(home, program, args=["--session", "shop"], env={"IMMUNOS_DB": str(home / "x.db")})
    findings = diagnose(home)
    assert ("ok", f"uses session shop in {home / 'x.db'}, not the one checked here") in (
        found(findings, "claude-code")
    )
    assert f"check it: immunos-mcp doctor --db {home / 'x.db'} --session shop" in (
        remedies(findings, "claude-code")
    )


def test_another_programs_entry_of_our_name_is_a_failure(home: Path, program: Path) -> None:
    set_up(home, program, command="/bin/true")
    ((verdict, seen),) = found(diagnose(home, code=1), "claude-code")
    assert (verdict, seen) == (
        "fail",
        f"mcpServers.immunos in {home / '.claude.json'} belongs to another program",
    )


def test_an_entry_that_starts_the_program_through_a_runner_is_in_order(
    home: Path, program: Path
) -> None:
    (program.parent / "uvx").symlink_to(program)
    set_up(home, program, command="uvx", args=["--from", "git+x", "immunos-mcp"])
    assert found(diagnose(home), "claude-code") == [
        ("ok", "its entry starts uvx --from git+x immunos-mcp")
    ]


def test_hooks_count_in_whatever_group_they_are(home: Path, program: Path) -> None:
    settings = set_up(home, program)
    held = json.loads(settings.read_text(encoding="utf-8"))
    held["hooks"]["Stop"][0]["hooks"].append({"type": "command", "command": "notify"})
    held["hooks"]["PreToolUse"][0]["matcher"] = "Agent|Task"
    settings.write_text(json.dumps(held), encoding="utf-8")
    ((verdict, seen),) = found(diagnose(home), "hooks")
    assert (verdict, seen.split(":")[0]) == ("warn", "missing for PreToolUse")


@pytest.mark.parametrize(
    ("variables", "verdict", "words"),
    [
        ({}, "ok", "on: requests outside transcripts count too"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4999"}, "ok", "on"),
        ({"OTEL_LOGS_EXPORTER": "console"}, "warn", "sent elsewhere: OTEL_LOGS_EXPORTER=console"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "warn", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": None}, "warn", "ENDPOINT not set"),
    ],
)
def test_telemetry_counts_as_on_only_when_it_reaches_the_router(
    home: Path, program: Path, variables: dict[str, str | None], verdict: str, words: str
) -> None:
    settings = set_up(home, program)
    change(settings, env={**TELEMETRY, **variables})
    ((found_verdict, seen),) = found(diagnose(home), "telemetry")
    assert found_verdict == verdict
    assert words in seen


def test_telemetry_may_be_switched_on_in_the_servers_own_entry(home: Path, program: Path) -> None:
    settings = set_up(home, program, args=["--telemetry", "on"])
    exported = {name: text for name, text in TELEMETRY.items() if name != "IMMUNOS_TELEMETRY"}
    change(settings, env=exported)
    assert found(diagnose(home), "telemetry") == [
        ("ok", "on: requests outside transcripts count too")
    ]


def test_a_server_that_does_not_answer_is_a_failure(home: Path, program: Path) -> None:
    set_up(home, program)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    findings = diagnose(home, code=1)
    assert found(findings, "claude-code")[0] == (
        "fail",
        f"its entry starts {program}, which does not answer",
    )


@pytest.mark.parametrize(
    ("patience", "verdict", "waits"),
    [(None, "ok", ""), (30.0, "ok", " (it waits 30 s)"), (0.0, "warn", " (it waits 0 s)")],
)
def test_a_server_is_compared_with_its_clients_patience(
    home: Path, program: Path, patience: float | None, verdict: str, waits: str
) -> None:
    seen = readiness("codex", [str(program)], wire.environment(home), patience)
    assert (seen.check, seen.verdict, seen.remedy is None) == ("codex", verdict, verdict == "ok")
    shown = rf"its entry starts {program}, ready after [0-9]+\.[0-9] s"
    assert re.fullmatch(shown + re.escape(waits), seen.seen)
    assert not wire.ledger_path(home).exists()
