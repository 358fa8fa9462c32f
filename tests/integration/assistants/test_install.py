"""Setting clients up and undoing it, as its user runs it: a process in a home of its own."""

from __future__ import annotations

import difflib
import json
import os
import pty
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import wire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_documents import objects

from immunos_mcp.assistants import config_files, install, registry
from immunos_mcp.assistants.claude_code.configuration import TELEMETRY
from immunos_mcp.assistants.claude_code.hooks import HOOK_EVENTS, hook_group
from immunos_mcp.assistants.config_files import FileChange, InstallError
from immunos_mcp.assistants.configuration import Configuration, Launch, Setup, command_line

PLUGIN_HOOKS = Path(__file__).parents[3] / "plugin" / "hooks" / "hooks.json"
FILES = {
    "claude-code": (".claude.json", ".claude/settings.json"),
    "claude-desktop": (".config/Claude/claude_desktop_config.json",),
    "vscode": (".config/Code/User/mcp.json",),
    "cursor": (".cursor/mcp.json",),
    "codex": (".codex/config.toml",),
    "opencode": (".config/opencode/opencode.json",),
    "gemini": (".gemini/settings.json",),
    "qwen": (".qwen/settings.json",),
    "copilot": (".copilot/mcp-config.json",),
    "cline": (".cline/data/settings/cline_mcp_settings.json",),
}
CLAUDE_CODE = registry.assistant("claude-code")
CURSOR = registry.assistant("cursor")
SETUP = Setup(Launch("/bin/immunos-mcp"), {})
linux = pytest.mark.parametrize("client", FILES)
shapes = pytest.mark.parametrize("client", ["claude-code", "codex", "opencode", "cline"])


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


def started(home: Path, client: str) -> list[str]:
    return command_line(entry(home, client))


def test_the_plugin_and_the_installation_have_the_same_hooks() -> None:
    plugin: dict[str, Any] = {}
    for file in PLUGIN_HOOKS.parent.glob("*.json"):
        plugin |= json.loads(file.read_text(encoding="utf-8"))["hooks"]
    assert plugin == {event: [hook_group(event, "plugin:immunos:immunos")] for event in HOOK_EVENTS}


@linux
def test_a_client_is_set_up_once_and_undone_to_the_last_byte(home: Path, client: str) -> None:
    before, before_folders = tree(home), folders(home)
    shown = run(home, client, "--yes").stdout
    assert all(f"+++ {home / file}" in shown for file in FILES[client])
    assert set(tree(home)) == {*FILES[client], f".immunos/installed/{client}.json"}
    set_up = tree(home)
    assert Path(started(home, client)[0]).is_absolute()
    assert entry(home, client).get("alwaysLoad") is (True if client == "claude-code" else None)
    assert run(home, client, "--yes").stdout == f"{client} is already set up\n"
    assert tree(home) == set_up
    assert run(home, client, "--uninstall", "--yes").stdout.endswith(
        f"{client} is no longer set up; restart it\n"
    )
    assert (tree(home), folders(home)) == (before, before_folders)
    assert run(home, client, "--uninstall", "--yes").stdout == f"{client} is not set up\n"


@shapes
def test_printing_changes_nothing(home: Path, client: str) -> None:
    assert "immunos" in run(home, client, "--print").stdout
    assert tree(home) == {}


@pytest.mark.parametrize("place", [0, 1, 4, 5, 40, 99, 100])
def test_the_change_that_is_shown_is_exact(tmp_path: Path, place: int) -> None:
    lines = [f'"{number}": 1' for number in range(100)]
    changed = [*lines[:place], '"new": 2', *lines[place + 1 :]]
    file = tmp_path / "mcp.json"
    for before, after in ((lines, changed), (changed, lines), (lines, lines[: max(1, place)])):
        was, wanted = ("\n".join(each).encode() + b"\n" for each in (before, after))
        shown = FileChange(file, was, wanted).difference()
        assert shown.splitlines() == list(
            difflib.unified_diff(before, after, str(file), str(file), lineterm="")
        )


def test_folders_that_are_made_are_private(home: Path) -> None:
    run(home, "vscode", "--yes")
    assert {folder.stat().st_mode & 0o777 for folder in folders(home)} == {0o700}
    record = home / ".immunos" / "installed" / "vscode.json"
    assert record.stat().st_mode & 0o777 == 0o600


def test_where_nobody_can_be_asked_nothing_is_applied_unasked(home: Path) -> None:
    refused = run(home, "cursor", code=2)
    assert "install needs --yes to apply the changes, or --print to show them" in refused.stderr
    assert tree(home) == {}


def on_a_terminal(home: Path, said: bytes, *arguments: str) -> tuple[int, bytes, bytes]:
    """Run the program with somebody at its input; return its code, output and errors."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*wire.PROGRAM, *arguments],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=wire.environment(home),
    )
    os.write(controller, said)
    shown, errors = process.communicate(timeout=wire.TIMEOUT_SECONDS)
    os.close(controller)
    os.close(terminal)
    return process.returncode, shown, errors


@pytest.mark.parametrize(
    ("said", "code", "is_set_up"),
    [(b"y\n", 0, True), (b"n\n", 1, False), (b"\n", 1, False), (b"\x04", 1, False)],
)
def test_on_a_terminal_it_asks_first(home: Path, said: bytes, code: int, is_set_up: bool) -> None:
    done, shown, errors = on_a_terminal(home, said, "install", "cursor")
    assert b"Apply? [y/N]" in shown
    assert b"Traceback" not in errors
    assert (done, bool(tree(home))) == (code, is_set_up)


def test_what_is_there_is_kept_and_backed_up(home: Path) -> None:
    file = home / ".claude" / "settings.json"
    file.parent.mkdir()
    stop = {"hooks": [{"type": "command", "command": "notify"}]}
    mine = {"statusLine": {"type": "command", "command": "mine"}, "hooks": {"Stop": [stop]}}
    file.write_text(json.dumps(mine), encoding="utf-8")
    file.chmod(0o640)
    ran = run(home, "claude-code", "--yes")
    assert "statusLine is already set and stays unchanged" in ran.stdout
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


@shapes
def test_an_older_entry_of_ours_is_brought_up_to_date_and_its_own_settings_stay(
    home: Path, client: str
) -> None:
    run(home, client, "--yes")
    file = home / FILES[client][0]
    text = file.read_text(encoding="utf-8")
    command = json.dumps(started(home, client)[0])
    file.write_text(text.replace(command, '"/old/immunos-mcp"'), encoding="utf-8")
    run(home, client, "--yes", "--session", "work")
    assert started(home, client)[1:] == ["--session", "work"]
    assert started(home, client)[0] != "/old/immunos-mcp"


@shapes
def test_another_programs_entry_of_our_name_is_not_touched(home: Path, client: str) -> None:
    run(home, client, "--yes")
    file = home / FILES[client][0]
    command = json.dumps(started(home, client)[0])
    text = file.read_text(encoding="utf-8").replace(command, '"/usr/bin/other"')
    file.write_text(text, encoding="utf-8")
    refused = run(home, client, "--yes", code=1)
    assert "immunos belongs to another program; rename or remove it first" in refused.stderr
    assert file.read_text(encoding="utf-8") == text
    refused = run(home, client, "--uninstall", "--yes", code=1)
    assert "immunos belongs to another program; rename or remove it first" in refused.stderr
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("server", "is_ours"),
    [
        ({"command": "immunos-mcp"}, True),
        ({"command": "C:\\\\bin\\\\immunos-mcp.exe", "args": ["--session", "x"]}, True),
        ({"command": "/venv/bin/python3", "args": ["-m", "immunos_mcp"]}, True),
        ({"command": "uvx", "args": ["immunos-mcp"]}, True),
        ({"command": "/home/me/immunos-mcp/other.sh"}, False),
        ({"command": "python3", "args": ["/src/immunos_mcp/other.py", "immunos_mcp"]}, False),
        ({"command": "node", "args": ["immunos-mcp"]}, False),
        ({"url": "http://127.0.0.1/immunos-mcp"}, False),
        ("immunos-mcp", False),
    ],
)
def test_an_entry_is_ours_by_the_program_that_it_starts(
    home: Path, server: Any, is_ours: bool
) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    before = json.dumps({"mcpServers": {"immunos": server}}).encode()
    file.write_bytes(before)
    run(home, "cursor", "--yes", code=0 if is_ours else 1)
    assert (file.read_bytes() != before) is is_ours


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


@shapes
def test_what_is_to_be_put_there_by_hand_is_what_would_have_been_written(
    home: Path, client: str
) -> None:
    run(home, client, "--yes")
    wanted = [(home / file, (home / file).read_text(encoding="utf-8")) for file in FILES[client]]
    run(home, client, "--uninstall", "--yes")
    broken = wanted[-1][0]
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text('a =\n"', encoding="utf-8")
    refused = run(home, client, "--yes", code=1)
    assert re.search(rf"{re.escape(str(broken))}: .*line 1, column", refused.stderr)
    for file, text in wanted:
        assert f"\n{file}:\n{text}" in refused.stderr


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
    assert "OTEL_LOGS_EXPORTER is already set and stays unchanged" in shown
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


@pytest.mark.parametrize("is_removal", [False, True])
def test_a_file_that_changes_between_the_plan_and_its_writing_is_not_overwritten(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, is_removal: bool
) -> None:
    monkeypatch.setenv("HOME", str(home))
    files = CURSOR.configurations(SETUP)
    plan = install.plan_install(CURSOR, files)
    if is_removal:
        install.apply(plan)
        plan = install.plan_uninstall(CURSOR, files)
    files[0].file.parent.mkdir(exist_ok=True)
    files[0].file.write_text("{}", encoding="utf-8")
    before = tree(home)
    with pytest.raises(InstallError, match="just changed by another program"):
        install.apply(plan)
    assert tree(home) == before
    assert before[".cursor/mcp.json"] == b"{}"


def test_of_several_files_all_are_written_or_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    files = CLAUDE_CODE.configurations(SETUP)
    plan = install.plan_install(CLAUDE_CODE, files)
    files[1].file.parent.mkdir()
    write = config_files.write

    def fail_at_the_second(file: Path, content: bytes | None) -> None:
        if file == files[1].file and content is not None:
            raise PermissionError(13, "Permission denied", str(file))
        write(file, content)

    monkeypatch.setattr(config_files, "write", fail_at_the_second)
    with pytest.raises(InstallError, match="Permission denied; nothing was changed"):
        install.apply(plan)
    assert tree(home) == {}
    assert folders(home) == {files[1].file.parent}


def test_json_is_one_line_and_asks_nobody(home: Path) -> None:
    refused = run(home, "cursor", "--json", code=2)
    assert (refused.stdout, "with --json" in refused.stderr) == ("", True)
    code, shown, errors = on_a_terminal(home, b"y\n", "install", "cursor", "--json")
    assert (code, shown, b"with --json" in errors) == (2, b"", True)
    file = str(home / ".cursor" / "mcp.json")
    told = json.loads(run(home, "cursor", "--json", "--print").stdout)
    assert (told["changed"], told["would_change"]) == ([], [file])
    assert tree(home) == {}
    told = json.loads(run(home, "cursor", "--json", "--yes").stdout)
    assert (told["changed"], "would_change" in told) == ([file], False)


def test_where_the_plugin_is_only_the_status_line_is_added(home: Path) -> None:
    file = home / ".claude" / "settings.json"
    file.parent.mkdir()
    mine = {"enabledPlugins": {"immunos@immunos": True}}
    file.write_text(json.dumps(mine), encoding="utf-8")
    ran = run(home, "claude-code", "--yes")
    assert "The plugin is installed and provides the server and its hooks" in ran.stdout
    held = read(file)
    assert held.pop("statusLine")["command"].endswith("immunos-mcp statusline")
    assert held == mine
    assert not (home / ".claude.json").exists()
    assert run(home, "claude-code", "--yes").stdout.endswith("claude-code is already set up\n")


def test_each_configuration_folder_of_claude_code_is_undone_by_itself(home: Path) -> None:
    other = {"CLAUDE_CONFIG_DIR": str(home / "other")}
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text('{ "model": "x" }', encoding="utf-8")
    before = tree(home)
    run(home, "claude-code", "--yes")
    first = tree(home)
    assert wire.run(home, "install", "claude-code", "--yes", variables=other).returncode == 0
    undo = ("install", "claude-code", "--uninstall", "--yes")
    assert wire.run(home, *undo, variables=other).returncode == 0
    record = ".immunos/installed/claude-code.json"
    assert {**tree(home), record: b""} == {**first, record: b""}
    run(home, "claude-code", "--uninstall", "--yes")
    assert tree(home) == before


@shapes
def test_what_was_changed_between_two_installations_stays_and_all_of_ours_goes(
    home: Path, client: str
) -> None:
    run(home, client, "--yes")
    file = home / FILES[client][0]
    text = file.read_text(encoding="utf-8")
    added = (
        text + "\n# theirs\n[theirs]\na = 1\n"
        if client == "codex"
        else json.dumps({**json.loads(text), "theirs": {"a": 1}})
    )
    file.write_text(added, encoding="utf-8")
    run(home, client, "--yes", "--session", "work")
    run(home, client, "--uninstall", "--yes")
    assert set(tree(home)) == {FILES[client][0]}
    assert read(file) == {"theirs": {"a": 1}}


def test_another_ones_copy_of_the_same_name_is_not_overwritten(home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{"a": 1}', encoding="utf-8")
    file.with_name("mcp.json.immunos-backup").write_text("theirs", encoding="utf-8")
    before = tree(home)
    shown = run(home, "cursor", "--yes").stdout
    assert f"Backup: {file}.immunos-backup-2\n" in shown
    run(home, "cursor", "--uninstall", "--yes")
    assert tree(home) == before


def test_a_copy_that_was_changed_is_neither_put_back_nor_removed(home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{ "a": 1 }', encoding="utf-8")
    run(home, "cursor", "--yes")
    copy = file.with_name("mcp.json.immunos-backup")
    copy.write_text("changed", encoding="utf-8")
    run(home, "cursor", "--uninstall", "--yes")
    assert set(tree(home)) == {".cursor/mcp.json", ".cursor/mcp.json.immunos-backup"}
    assert (read(file), copy.read_text(encoding="utf-8")) == ({"a": 1}, "changed")


def test_the_copy_of_a_file_that_its_user_deleted_is_left_to_them(home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{"a": 1}', encoding="utf-8")
    run(home, "cursor", "--yes")
    file.unlink()
    run(home, "cursor", "--uninstall", "--yes")
    assert tree(home) == {".cursor/mcp.json.immunos-backup": b'{"a": 1}'}


def test_a_hook_of_ours_that_is_there_twice_is_there_once_afterwards(home: Path) -> None:
    file = home / ".claude" / "settings.json"
    run(home, "claude-code", "--yes")
    held = read(file)
    held["hooks"]["Stop"] *= 2
    file.write_text(json.dumps(held), encoding="utf-8")
    run(home, "claude-code", "--yes")
    assert read(file)["hooks"]["Stop"] == [hook_group("Stop")]


def test_hooks_of_others_in_a_group_with_ours_stay(home: Path) -> None:
    file = home / ".claude" / "settings.json"
    run(home, "claude-code", "--yes")
    held = read(file)
    theirs = {"type": "command", "command": "notify"}
    held["hooks"]["Stop"][0]["hooks"].append(theirs)
    file.write_text(json.dumps(held), encoding="utf-8")
    run(home, "claude-code", "--yes")
    assert read(file)["hooks"]["Stop"] == [{"hooks": [theirs]}, hook_group("Stop")]
    run(home, "claude-code", "--uninstall", "--yes")
    assert read(file) == {"hooks": {"Stop": [{"hooks": [theirs]}]}}


def test_the_server_is_started_with_the_options_that_were_given(home: Path) -> None:
    run_ = wire.run(
        home,
        *("--no-delegate", "--telemetry", "on", "--allow-path", "shop"),
        *("install", "claude-code", "--yes", "--db", "x y.db", "--ollama-host", "box:1"),
    )
    assert run_.returncode == 0
    ledger = ["--db", str(home / "x y.db")]
    assert entry(home, "claude-code")["args"] == [
        *ledger,
        *("--ollama-host", "box:1", "--telemetry", "on", "--no-delegate"),
        *("--allow-path", str(home / "shop")),
    ]
    line = read(home / ".claude" / "settings.json")["statusLine"]["command"]
    assert shlex.split(line)[1:] == [*ledger, "statusline"]
    shown = subprocess.run(
        ["/bin/sh", "-c", line],
        input="{}",
        env=wire.environment(home),
        capture_output=True,
        encoding="utf-8",
        timeout=wire.TIMEOUT_SECONDS,
        check=True,
    )
    assert "0/200k" in shown.stdout
    assert (home / "x y.db").exists()


def test_the_change_of_one_long_line_is_shown_laid_out(home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"long": "x" * 1000, **dict.fromkeys("abcd", 1)}), encoding="utf-8")
    shown = run(home, "cursor", "--print").stdout
    assert '+    "immunos": {\n' in shown
    assert "xxxx" not in shown


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    server=objects,
    hooks=st.dictionaries(
        st.sampled_from([*HOOK_EVENTS, "Other"]),
        st.lists(
            st.fixed_dictionaries({"hooks": st.lists(st.just({"type": "command"}), max_size=2)}),
            max_size=2,
        ),
    )
    | st.none(),
    rest=st.dictionaries(st.sampled_from(["model", "env", "statusLine"]), objects, max_size=3),
    indent=st.none() | st.just(4),
    is_foreign=st.booleans(),
    is_repeated=st.booleans(),
)
def test_whatever_claude_code_had_comes_back_and_what_came_since_stays(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    server: dict[str, Any],
    hooks: dict[str, Any] | None,
    rest: dict[str, Any],
    indent: int | None,
    is_foreign: bool,
    is_repeated: bool,
) -> None:
    servers = server.get("mcpServers", {})
    if not isinstance(servers, dict) or "immunos" in servers:
        server = {**server, "mcpServers": {}}
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    before = [server, rest if hooks is None else {**rest, "hooks": hooks}]

    def files(session: str) -> tuple[Configuration, ...]:
        launch = Launch("/bin/immunos-mcp", ("--session", session))
        return CLAUDE_CODE.configurations(Setup(launch, {}))

    (home / ".claude").mkdir()
    for each, held in zip(files("a"), before, strict=True):
        each.file.write_text(json.dumps(held, indent=indent), encoding="utf-8")
    was = tree(home)
    install.apply(install.plan_install(CLAUDE_CODE, files("a")))
    if is_foreign:
        for each in files("a"):
            held = {**read(each.file), "foreign": 1}
            each.file.write_text(json.dumps(held), encoding="utf-8")
    if is_repeated:
        install.apply(install.plan_install(CLAUDE_CODE, files("b")))
        assert install.plan_install(CLAUDE_CODE, files("b")).changes == ()
    install.apply(install.plan_uninstall(CLAUDE_CODE, files("a")))
    if is_foreign:
        assert [read(each.file) for each in files("a")] == [
            {**held, "foreign": 1} for held in before
        ]
        assert set(tree(home)) == set(was)
    else:
        assert tree(home) == was


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
    files = CURSOR.configurations(SETUP)
    file = files[0].file
    file.parent.mkdir()
    before = json.dumps(held).encode()
    file.write_bytes(before)
    install.apply(install.plan_install(CURSOR, files))
    assert install.plan_install(CURSOR, files).changes == ()
    if foreign is not None:
        file.write_bytes(json.dumps({**read(file), **foreign}).encode())
    install.apply(install.plan_uninstall(CURSOR, files))
    if foreign is None:
        assert file.read_bytes() == before
    else:
        assert read(file) == {**held, **foreign}


INLINE = [
    b'mcp_servers = { other = { command = "o" } } # c\r\nx = 1',
    b'\xef\xbb\xbfmcp_servers.other.command = "o"\nx = 1\n\n\n',
    b"mcp_servers = {}",
    b'[mcp_servers]\nother.command = "o" # c\n\n[tui]',
    b'mcp_servers = { immunos = { command = "/old/immunos-mcp", enabled = true }, o = {} }\n',
    b'mcp_servers.immunos = { command = "immunos-mcp" }\n# end',
    b'[mcp_servers]\nimmunos.command = "immunos-mcp"\nimmunos.args = [\n  "--session", "x",\n]\n',
]


@pytest.mark.parametrize("before", INLINE)
def test_codex_is_set_up_whichever_way_its_servers_are_spelled(
    home: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setenv("HOME", str(home))
    codex = registry.assistant("codex")
    files = codex.configurations(SETUP)
    files[0].file.parent.mkdir()
    files[0].file.write_bytes(before)
    held = tomllib.loads(before.decode("utf-8-sig"))["mcp_servers"]
    install.apply(install.plan_install(codex, files))
    written = files[0].file.read_bytes()
    entry: dict[str, Any] = {"command": "/bin/immunos-mcp", "args": [], "required": True}
    ours: dict[str, Any] = {**held.get("immunos", {}), **entry}
    there = tomllib.loads(written.decode("utf-8-sig"))["mcp_servers"]
    assert there == {**held, "immunos": ours}
    assert (written[:3], b"\r\n" in written) == (before[:3], b"\r\n" in before)
    assert install.plan_install(codex, files).changes == ()
    install.apply(install.plan_uninstall(codex, files))
    assert tree(home) == {".codex/config.toml": before}


def test_opencode_is_set_up_in_the_file_whose_entries_win_and_its_comments_stay(home: Path) -> None:
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True)
    (folder / "opencode.json").write_text("{}", encoding="utf-8")
    file = folder / "opencode.jsonc"
    before = '{\n  // mine\n  "mcp": {"other": {"type": "remote"}},\n}\n'
    file.write_text(before, encoding="utf-8")
    run(home, "opencode", "--yes")
    assert "// mine" in file.read_text(encoding="utf-8")
    assert (folder / "opencode.json").read_text(encoding="utf-8") == "{}"
    run(home, "opencode", "--uninstall", "--yes")
    assert file.read_text(encoding="utf-8") == before


URL = "https://budget.example.com/mcp"
OVER_HTTP: dict[str, dict[str, Any]] = {
    "claude-code": {
        "mcpServers": {
            "immunos": {
                "type": "http",
                "url": URL,
                "headers": {"Authorization": "Bearer ${IMMUNOS_TOKEN}"},
                "alwaysLoad": True,
            }
        }
    },
    "cursor": {
        "mcpServers": {
            "immunos": {"url": URL, "headers": {"Authorization": "Bearer ${env:IMMUNOS_TOKEN}"}}
        }
    },
    "vscode": {
        "servers": {
            "immunos": {
                "type": "http",
                "url": URL,
                "headers": {"Authorization": "Bearer ${input:immunos-token}"},
            }
        },
        "inputs": [
            {
                "type": "promptString",
                "id": "immunos-token",
                "description": "immunos-mcp token",
                "password": True,
            }
        ],
    },
}


@pytest.mark.parametrize("client", OVER_HTTP)
def test_a_client_is_set_up_for_a_server_over_http_and_back(home: Path, client: str) -> None:
    file = home / FILES[client][0]
    run(home, client, "--url", URL, "--yes")
    assert json.loads(file.read_text()) == OVER_HTTP[client]
    assert run(home, client, "--url", URL, "--yes").stdout.endswith("already set up\n")
    other = URL.replace("budget", "other")
    run(home, client, "--url", other, "--yes")
    assert json.loads(file.read_text()) == json.loads(
        json.dumps(OVER_HTTP[client]).replace(URL, other)
    )
    local = run(home, client, "--yes", code=1)
    assert "uses a server over HTTP; undo that setup first" in local.stderr
    run(home, client, "--uninstall", "--yes")
    assert not file.exists()
    run(home, client, "--yes")
    remote = run(home, client, "--url", URL, "--yes", code=1)
    assert "starts a server; undo that setup first" in remote.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("codex", "--url", URL), "these can: claude-code"),
        (("cursor", "--url", "http://budget.example.com/mcp"), "--url: must be an https address"),
        (("cursor", "--url", "https://me:secret@budget.example.com"), "must be an https address"),
    ],
)
def test_a_server_over_http_must_be_safe_and_known_to_the_client(
    home: Path, arguments: tuple[str, ...], words: str
) -> None:
    refused = run(home, *arguments, "--yes", code=2)
    assert words in refused.stderr
    assert tree(home) == {}
