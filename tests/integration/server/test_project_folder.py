"""Which folder delegated tasks may read: the project's, and never all of a home or of the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import wire
from ollama_server import Script, scripted_ollama

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

REFUSED = "inside an allowed folder: none"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def where(script: Script) -> Generator[str]:
    with scripted_ollama(script) as address:
        yield address


@pytest.mark.parametrize("is_named", [True, False], ids=["CLAUDE_PROJECT_DIR", "started there"])
@pytest.mark.parametrize("project", ["home", "/"])
def test_nothing_of_a_home_folder_is_read_by_a_server_of_the_home_folder_or_of_the_root(
    home: Path, where: str, script: Script, project: str, *, is_named: bool
) -> None:
    notes = home / "notes.txt"
    notes.write_text("private", encoding="utf-8")
    folder = str(home) if project == "home" else project
    variables = {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": where}
    if is_named:
        variables["CLAUDE_PROJECT_DIR"] = folder
    with wire.ServerProcess(home, variables=variables, folder=folder) as server:
        server.initialize()
        for path in ("notes.txt", str(notes), "home/notes.txt", "**/notes.txt"):
            refusal = server.refusal(
                "delegate_task", prompt="Sum up", task_type="code_review", paths=[path]
            )
            assert REFUSED in refusal
    assert script.requests == []


@pytest.mark.parametrize("is_named", [True, False], ids=["CLAUDE_PROJECT_DIR", "started there"])
def test_a_file_of_the_project_is_read(
    home: Path, where: str, script: Script, *, is_named: bool
) -> None:
    project = home / "project"
    project.mkdir()
    (project / "notes.txt").write_text("shared", encoding="utf-8")
    variables = {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": where}
    if is_named:
        variables["CLAUDE_PROJECT_DIR"] = str(project)
    folder = str(home if is_named else project)
    with wire.ServerProcess(home, variables=variables, folder=folder) as server:
        server.initialize()
        server.answer(
            "delegate_task", prompt="Sum up", task_type="code_review", paths=["notes.txt"]
        )
    assert "shared" in str(script.requests)
