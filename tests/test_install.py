"""Setting clients up and undoing it, as its user runs it: a process in a home of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_documents import objects

from immunos_mcp.clients import install
from immunos_mcp.clients.entries import (
    HOOK_MATCHERS,
    TELEMETRY,
    Client,
    Launch,
    configurations,
    hook_group,
)
from immunos_mcp.clients.install import InstallError

PLUGIN_HOOKS = Path(__file__).parent.parent / "plugin" / "hooks" / "hooks.json"
FILES = {
    "claude-code": (".claude.json", ".claude/settings.json"),
    "claude-desktop": (".config/Claude/claude_desktop_config.json",),
    "vscode": (".config/Code/User/mcp.json",),
    "cursor": (".cursor/mcp.json",),
    "codex": (".codex/config.toml",),
}
linux = pytest.mark.parametrize("client", FILES)


def run(home: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    ran = wire.run(home, "install", *arguments)
    assert ran.returncode == code, ran.stderr
    return ran


def tree(home: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*") if file.is_file()
    }


def folders(home: Path) -> set[Path]:
    return {folder for folder in home.rglob("*") if folder.is_dir()}


def read(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    return tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)


def entry(home: Path, client: str) -> dict[str, Any]:
    held = read(home / FILES[client][0])
    return next(iter(held.values()))["immunos"]


def test_the_plugin_and_the_installation_have_the_same_hooks() -> None:
    plugin = json.loads(PLUGIN_HOOKS.read_text(encoding="utf-8"))["hooks"]
    assert plugin == {
        event: [hook_group(event, "plugin:immunos:immunos")] for event in HOOK_MATCHERS
    }


@linux
def test_a_client_is_set_up_once_and_undone_to_the_last_byte(home: Path, client: str) -> None:
    before, before_folders = tree(home), folders(home)
    shown = run(home, client, "--yes").stdout
    assert all(f"+++ {home / file}" in shown for file in FILES[client])
    assert set(tree(home)) == {*FILES[client], f".immunos/installed/{client}.json"}
    set_up = tree(home)
    started = entry(home, client)
    assert Path(started["command"]).is_absolute()
    assert started.get("alwaysLoad") is (True if client == "claude-code" else None)
    assert run(home, client, "--yes").stdout == f"{client} is set up already\n"
    assert tree(home) == set_up
    assert run(home, client, "--uninstall", "--yes").stdout.endswith(f"{client} is as it was\n")
    assert (tree(home), folders(home)) == (before, before_folders)
    assert run(home, client, "--uninstall", "--yes").stdout == f"{client} is not set up\n"


@linux
def test_printing_changes_nothing(home: Path, client: str) -> None:
    assert "immunos" in run(home, client, "--print").stdout
    assert tree(home) == {}


def test_where_nobody_can_be_asked_nothing_is_applied_unasked(home: Path) -> None:
    refused = run(home, "cursor", code=2)
    assert "--yes to apply it or --print only to see it" in refused.stderr
    assert tree(home) == {}


@pytest.mark.parametrize(
    ("said", "code", "is_set_up"), [("y", 0, True), ("n", 1, False), ("", 1, False)]
)
def test_on_a_terminal_it_asks_first(home: Path, said: str, code: int, is_set_up: bool) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "immunos_mcp", "install", "cursor"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=wire.environment(home),
    )
    os.write(controller, f"{said}\n".encode())
    shown, _ = process.communicate(timeout=wire.TIMEOUT_SECONDS)
    os.close(controller)
    os.close(terminal)
    assert b"Apply? [y/N]" in shown
    assert (process.returncode, bool(tree(home))) == (code, is_set_up)


def test_what_is_there_is_kept_and_backed_up(home: Path) -> None:
    file = home / ".claude" / "settings.json"
    file.parent.mkdir()
    stop = {"hooks": [{"type": "command", "command": "notify"}]}
    mine = {"statusLine": {"type": "command", "command": "mine"}, "hooks": {"Stop": [stop]}}
    file.write_text(json.dumps(mine), encoding="utf-8")
    file.chmod(0o640)
    ran = run(home, "claude-code", "--yes")
    assert "statusLine is set already and stays as it is" in ran.stdout
    held = read(file)
    assert held["statusLine"] == mine["statusLine"]
    assert held["hooks"]["Stop"] == [stop, hook_group("Stop")]
    assert file.stat().st_mode & 0o777 == 0o640
    backup = file.with_name("settings.json.immunos-backup")
    assert read(backup) == mine
    run(home, "claude-code", "--uninstall", "--yes")
    assert tree(home) == {".claude/settings.json": json.dumps(mine).encode()}


def test_what_others_changed_since_stays_when_ours_is_taken_out(home: Path) -> None:
    run(home, "claude-code", "--yes")
    file = home / ".claude" / "settings.json"
    held = read(file)
    held["model"] = "opus"
    held["hooks"]["Stop"].append({"hooks": []})
    file.write_text(json.dumps(held), encoding="utf-8")
    run(home, "claude-code", "--uninstall", "--yes")
    assert set(tree(home)) == {".claude/settings.json"}
    assert read(file) == {"hooks": {"Stop": [{"hooks": []}]}, "model": "opus"}


@linux
def test_an_older_entry_of_ours_is_brought_up_to_date_and_its_own_settings_stay(
    home: Path, client: str
) -> None:
    run(home, client, "--yes")
    file = home / FILES[client][0]
    text = file.read_text(encoding="utf-8")
    command = json.dumps(entry(home, client)["command"])
    file.write_text(text.replace(command, '"/old/immunos-mcp"'), encoding="utf-8")
    run(home, client, "--yes", "--session", "work")
    assert entry(home, client)["args"] == ["--session", "work"]
    assert entry(home, client)["command"] != "/old/immunos-mcp"


@linux
def test_another_programs_entry_of_our_name_is_not_touched(home: Path, client: str) -> None:
    run(home, client, "--yes")
    file = home / FILES[client][0]
    command = json.dumps(entry(home, client)["command"])
    text = file.read_text(encoding="utf-8").replace(command, '"/usr/bin/other"')
    file.write_text(text, encoding="utf-8")
    refused = run(home, client, "--yes", code=1)
    assert "immunos is another program's; rename or remove it first" in refused.stderr
    assert file.read_text(encoding="utf-8") == text
    run(home, client, "--uninstall", "--yes")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("content", [b"{broken", b"\xff\xfe", b"[]"])
def test_a_file_that_cannot_be_read_refuses_all_files_with_what_to_put_there(
    home: Path, content: bytes
) -> None:
    file = home / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_bytes(content)
    refused = run(home, "claude-code", "--yes", code=1)
    assert str(file) in refused.stderr
    assert "othing was changed" in refused.stderr
    assert tree(home) == {".claude/settings.json": content}


def test_a_linked_file_is_written_through_its_link(home: Path) -> None:
    real = home / "dotfiles" / "mcp.json"
    real.parent.mkdir()
    real.write_text('{"mcpServers": {}}', encoding="utf-8")
    link = home / ".cursor" / "mcp.json"
    link.parent.mkdir()
    link.symlink_to(real)
    run(home, "cursor", "--yes")
    assert link.is_symlink()
    assert "immunos" in read(real)["mcpServers"]
    run(home, "cursor", "--uninstall", "--yes")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == '{"mcpServers": {}}'


@pytest.mark.parametrize("content", [b'\xef\xbb\xbf{\r\n  "a": 1\r\n}\r\n', b'{"a": 1}'])
def test_marks_and_line_ends_of_windows_stay(home: Path, content: bytes) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_bytes(content)
    run(home, "cursor", "--yes")
    written = file.read_bytes()
    assert written.startswith(content[:3])
    assert (b"\r\n" in written, b"\n" in written.replace(b"\r\n", b"")) == (
        b"\r\n" in content,
        False,
    )


def test_telemetry_is_switched_on_only_when_asked_and_taken_out_again(home: Path) -> None:
    file = home / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text('{"env": {"OTEL_LOGS_EXPORTER": "console"}}', encoding="utf-8")
    shown = run(home, "claude-code", "--yes", "--telemetry").stdout
    assert "OTEL_LOGS_EXPORTER is set already and stays as it is" in shown
    assert read(file)["env"] == {**TELEMETRY, "OTEL_LOGS_EXPORTER": "console"}
    held = read(file)
    file.write_text(json.dumps({**held, "model": "opus"}), encoding="utf-8")
    run(home, "claude-code", "--uninstall", "--yes")
    assert read(file) == {"env": {"OTEL_LOGS_EXPORTER": "console"}, "model": "opus"}


def test_a_folder_of_its_own_for_claude_code_is_honoured(home: Path) -> None:
    ran = wire.run(
        home,
        *("install", "claude-code", "--yes", "--json"),
        variables={"CLAUDE_CONFIG_DIR": str(home / "cc")},
    )
    assert json.loads(ran.stdout) == {
        "client": "claude-code",
        "changed": [str(home / "cc" / ".claude.json"), str(home / "cc" / "settings.json")],
        "backups": [],
        "notes": [],
    }


def test_a_file_that_changes_between_the_plan_and_its_writing_is_not_overwritten(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    files = configurations(Client.CURSOR, Launch("/bin/immunos-mcp"), {})
    plan = install.plan_install(files)
    files[0].file.parent.mkdir()
    files[0].file.write_text("{}", encoding="utf-8")
    with pytest.raises(InstallError, match="just been changed by someone else"):
        install.apply(Client.CURSOR, plan)
    assert tree(home) == {".cursor/mcp.json": b"{}"}


def test_of_several_files_all_are_written_or_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    files = configurations(Client.CLAUDE_CODE, Launch("/bin/immunos-mcp"), {})
    plan = install.plan_install(files)
    files[1].file.parent.mkdir()
    write = install._write  # pyright: ignore[reportPrivateUsage]

    def fail_at_the_second(file: Path, content: bytes | None) -> None:
        if file == files[1].file and content is not None:
            raise PermissionError(13, "Permission denied", str(file))
        write(file, content)

    monkeypatch.setattr(install, "_write", fail_at_the_second)
    with pytest.raises(InstallError, match="Permission denied; nothing was changed"):
        install.apply(Client.CLAUDE_CODE, plan)
    assert not files[0].file.exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=objects, foreign=st.none() | st.dictionaries(st.just("z"), st.integers(), min_size=1))
def test_whatever_a_file_held_comes_back_and_what_came_since_stays(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    held: dict[str, Any],
    foreign: dict[str, int] | None,
) -> None:
    servers = held.get("mcpServers", {})
    if not isinstance(servers, dict) or "immunos" in servers:
        held = {**held, "mcpServers": {"x": 1}}
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    files = configurations(Client.CURSOR, Launch("/bin/immunos-mcp"), {})
    file = files[0].file
    file.parent.mkdir()
    before = json.dumps(held).encode()
    file.write_bytes(before)
    install.apply(Client.CURSOR, install.plan_install(files))
    assert install.plan_install(files).changes == ()
    if foreign is not None:
        file.write_bytes(json.dumps({**read(file), **foreign}).encode())
    install.apply(Client.CURSOR, install.plan_uninstall(Client.CURSOR, files), uninstall=True)
    if foreign is None:
        assert file.read_bytes() == before
    else:
        wanted = {**held, **foreign}
        if wanted.get("mcpServers") == {}:
            wanted.pop("mcpServers")
        assert read(file) == wanted
