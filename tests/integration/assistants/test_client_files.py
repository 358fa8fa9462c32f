"""Clients' configuration files in odd places and spellings."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import wire

from immunos_mcp.assistants import config_files
from immunos_mcp.assistants.json_edit import lenience

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse_replacing(
    monkeypatch: pytest.MonkeyPatch, code: int, *, even_in_place: bool = False
) -> None:
    def replace(_self: Path, target: Path) -> Path:
        raise OSError(code, os.strerror(code), str(_self), None, str(target))

    monkeypatch.setattr(Path, "replace", replace)
    if even_in_place:

        def fail(_stream: object, _content: bytes) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(config_files, "_rewrite", fail)


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EACCES])
def test_a_file_that_cannot_be_replaced_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    file = tmp_path / ".claude.json"
    file.write_text('{"a": "long enough to leave something behind"}')
    before = file.stat()
    refuse_replacing(monkeypatch, code)
    config_files.write(file, b"{}")
    assert file.read_bytes() == b"{}"
    assert (file.stat().st_ino, file.stat().st_mode) == (before.st_ino, before.st_mode)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_at_all_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".claude.json"
    file.write_text("{}")
    refuse_replacing(monkeypatch, errno.EROFS, even_in_place=True)
    with pytest.raises(OSError, match="Read-only file system") as refused:
        config_files.write(file, b'{"a": 1}')
    assert refused.value.errno == errno.EROFS
    assert file.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [file]


def test_a_new_file_that_cannot_be_made_is_named_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_replacing(monkeypatch, errno.EBUSY)
    with pytest.raises(OSError, match="busy") as refused:
        config_files.write(tmp_path / "new.json", b"{}")
    assert refused.value.filename == str(tmp_path / "new.json")


LENIENT: dict[str, tuple[bytes, str]] = {
    "a mark": (b'\xef\xbb\xbf{"a":1}', "a byte order mark"),
    "a comma": (b'{\n "a": 1,\n}\n', "a comma before a closing bracket"),
    "a block comment": (b'{\n /* block */\n "a": 1\n}\n', "a comment"),
    "a line comment": (b'{\n // "x"\n "a": 1\n}\n', "a comment"),
}


@pytest.mark.parametrize("name", LENIENT)
@pytest.mark.parametrize("place", [".claude.json", ".claude/settings.json"])
def test_what_claude_code_cannot_read_is_not_called_fine(home: Path, name: str, place: str) -> None:
    content, words = LENIENT[name]
    (home / ".claude").mkdir()
    (home / place).write_bytes(content)
    doctor = wire.run(home, "doctor")
    seen = f"{home / place}: the client cannot read this file: it has {words}"
    assert f"fail  claude-code     {seen}\n" in doctor.stdout
    assert doctor.returncode == 1
    done = wire.run(home, "install", "claude-code", "--yes")
    assert f"Claude Code cannot read this file: it has {words}" in done.stdout


def test_plain_json_is_plain_and_vs_code_may_have_comments(home: Path) -> None:
    file = home / ".config" / "Code" / "User" / "mcp.json"
    file.parent.mkdir(parents=True)
    file.write_text('{\n // servers\n "servers": {},\n}\n')
    done = wire.run(home, "install", "vscode", "--yes")
    assert "cannot read" not in done.stdout
    assert "cannot read" not in wire.run(home, "doctor").stdout
    for text in ("", "{}", '{"a": "// no comment, }"}', json.dumps({"a": [1]})):
        assert lenience(text) is None
    for text in ('{"a": NaN}', '{"a": [-Infinity, 1]}'):
        assert lenience(text) == "a number that JSON does not have, such as NaN"


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "a folder": lambda file: file.mkdir(),
    "a loop": lambda file: file.symlink_to(file),
    "Latin-1": lambda file: file.write_bytes(b'{"caf\xe9": 1}'),
    "deep": lambda file: file.write_text('{"a":' * 100_000),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_reported(home: Path, name: str) -> None:
    (home / ".claude").mkdir()
    UNREADABLE[name](home / ".claude.json")
    for command in (["doctor"], ["install", "claude-code", "--yes"], ["setup", "--yes"]):
        done: Any = wire.run(home, *command)
        assert "Traceback" not in done.stderr
        assert str(home / ".claude.json") in done.stdout + done.stderr
