"""The doctor: every mistake is seen and has a remedy, and looking changes nothing."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import wire
from ollama_server import Manner, Script, scripted_ollama
from transcript_lines import Answer, append, transcript

if TYPE_CHECKING:
    from pathlib import Path


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
    """Return a stand-in for the installed program, where the doctor's PATH finds it."""
    file = home / "bin" / "immunos-mcp"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\n", encoding="utf-8")
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
    assert found(findings, "hooks") == [("ok", "in place")]
    assert found(findings, "transcripts") == [("ok", "1, all readable")]
    ((_, telemetry),) = found(findings, "telemetry")
    assert telemetry == "off: titles and compaction, which are in no transcript, are not counted"


def test_the_report_for_people_has_a_line_a_finding_and_its_remedy_below(home: Path) -> None:
    (home / ".cursor").mkdir()
    ran = wire.run(home, "doctor", variables={"PATH": "/usr/bin:/bin"})
    assert "warn  cursor          found, not set up\n" in ran.stdout
    assert f"{'':<21} -> immunos-mcp install cursor\n" in ran.stdout


def test_an_entry_that_starts_no_program_is_a_failure(home: Path, program: Path) -> None:
    set_up(home, program, command="/gone/immunos-mcp")
    findings = diagnose(home, code=1)
    assert ("fail", "its entry starts '/gone/immunos-mcp', no program") in found(
        findings, "claude-code"
    )
    assert "immunos-mcp install claude-code" in remedies(findings, "claude-code")


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
        ("warn", "set up twice, as a plugin and by hand")
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
    assert found(diagnose(home), "telemetry") == [("ok", "on: side requests count too")]


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
    assert (words or "is sound") in seen
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "check", "verdict", "words"),
    [
        (
            "INSERT INTO immunos_mcp_schema_version VALUES (99, 'x')",
            "ledger",
            "fail",
            "of a newer immunos-mcp",
        ),
        (
            "INSERT INTO settings VALUES ('session_limit', 'many', 'x')",
            "settings",
            "fail",
            "session_limit: got 'many'",
        ),
        (
            "INSERT INTO immunos_mcp_transcript VALUES ('/x', 1, 1, 1, 1, 1, 7, '')",
            "transcripts",
            "warn",
            "7 lines of transcripts with usage could not be read",
        ),
        (
            "UPDATE immunos_mcp_session SET started_at = '2999-01-01T00:00:00.000Z'",
            "clock",
            "warn",
            "2999-01-01 00:00 UTC, which is to come",
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
    assert ("warn", "others may read it") in found(diagnose(home), "ledger")


def test_a_clock_that_is_behind_the_transcripts_is_said(home: Path) -> None:
    file = transcript(home / ".claude" / "projects")
    append(file, Answer("m1", 1, at=datetime.now(UTC) + timedelta(days=2)))
    later = time.time() + 86_400
    os.utime(file, (later, later))
    assert found(diagnose(home), "clock") == [("warn", "transcripts are from the future")]


def test_the_engine_is_looked_at_with_what_is_mapped_and_missing(home: Path) -> None:
    script = Script()
    with scripted_ollama(script) as where:
        findings = diagnose(home, IMMUNOS_OLLAMA_CHECK="on", OLLAMA_HOST=where)
        assert found(findings, "ollama") == [
            ("ok", f"0.33.0-rc2 at http://{where}, 2 models"),
            ("warn", "deepseek-r1:14b is mapped and cannot run"),
            ("warn", "qwen2.5:1.5b is mapped and cannot run"),
        ]
        assert "ollama pull qwen2.5:1.5b" in remedies(findings, "ollama")
        script.manner = Manner.LOCKED
        findings = diagnose(home, IMMUNOS_OLLAMA_CHECK="on", OLLAMA_HOST=where)
        assert found(findings, "ollama") == [("warn", f"http://{where}: refused (HTTP 401)")]


def test_transcripts_that_are_switched_off_are_said(home: Path) -> None:
    assert found(diagnose(home, IMMUNOS_TRANSCRIPTS="off"), "transcripts") == [
        ("warn", "not read: IMMUNOS_TRANSCRIPTS is off")
    ]
