"""Which folders of a client delegated tasks may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from immunos_mcp.server.project_folders import narrow_enough, project_folders, root_folders

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def linked_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home that is a link to the folder that it really is."""
    (tmp_path / "disk" / "homes" / "dev" / "project").mkdir(parents=True)
    (tmp_path / "home").symlink_to(tmp_path / "disk" / "homes" / "dev")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_home_by_any_name_its_parents_and_the_disk_are_no_project(
    linked_home: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    (tmp_path / "link").symlink_to(disk / "homes")
    for folder in (
        linked_home, disk / "homes" / "dev", disk / "homes", disk, tmp_path, tmp_path / "link",
        linked_home / "project" / "..", "/", "//", "/root/..",
    ):  # fmt: skip
        assert project_folders({"CLAUDE_PROJECT_DIR": str(folder)}) == (), folder
        assert narrow_enough(root_folders([f"file://{folder}"])) == (), folder


def test_a_folder_below_a_home_is_a_project(linked_home: Path) -> None:
    for project in (linked_home / "project", linked_home.resolve() / "project"):
        assert project_folders({"CLAUDE_PROJECT_DIR": str(project)}) == (project,)
        assert narrow_enough(root_folders([f"file://{project}"])) == (project,)


@pytest.mark.parametrize("given", ["relative", "${CLAUDE_PROJECT_DIR}"])
def test_a_relative_project_folder_is_none(linked_home: Path, given: str) -> None:
    assert linked_home
    assert project_folders({"CLAUDE_PROJECT_DIR": given}) == ()


@pytest.mark.parametrize(
    "uri", ["file:///a%00b", "file:", "file://[", "http:///x", "relative", "", "file:x"]
)
def test_a_root_that_is_no_folder_is_left_out(uri: str) -> None:
    assert root_folders([uri]) == ()


def test_a_root_whose_name_is_not_utf_8_is_kept() -> None:
    (folder,) = root_folders(["file:///srv/caf%E9"])
    assert bytes(folder) == b"/srv/caf\xe9"
