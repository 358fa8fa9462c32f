"""Which files a delegated task may read, and how it sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from immunos_mcp.delegation import material
from immunos_mcp.delegation.material import Document, check_output, numbered, read_material
from immunos_mcp.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, content in {
        "src/one.py": "a = 1\nb = 2\n",
        "src/deep/two.py": "c = 3",
        "src/picture.png": "\x00binary",
        ".env": "KEY=secret",
        "src/.env.local": "KEY=secret",
        "node_modules/x/index.py": "no",
        "README.md": "# größe\n",
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    (tmp_path / "outside.txt").write_text("outside", encoding="utf-8")
    return folder


def found(project: Path, *paths: str, allowed: tuple[Path, ...] = ()) -> list[str]:
    documents = read_material(paths, (project, *allowed)).documents
    return [document.name for document in documents]


def refusal(project: Path, *paths: str) -> str:
    with pytest.raises(InvalidInputError) as refused:
        read_material(paths, (project,))
    (problem,) = refused.value.problems
    assert problem.field == f"paths[{len(paths) - 1}]"
    return str(problem)


def test_files_are_named_relative_to_the_project_or_in_full(project: Path) -> None:
    assert found(project, "src/one.py", str(project / "README.md"), "src/one.py") == [
        "src/one.py",
        "README.md",
    ]


def test_a_pattern_finds_text_files_and_leaves_the_rest_out(project: Path) -> None:
    read = read_material(["**/*"], (project,))
    assert [each.name for each in read.documents] == ["README.md", "src/deep/two.py", "src/one.py"]
    assert read.left_out == 1
    assert read_material(["src/*", "src/.env*"], (project,)).left_out == 2


def test_lines_have_their_numbers(project: Path) -> None:
    (document,) = read_material(["src/one.py"], (project,)).documents
    assert document == Document("src/one.py", ("a = 1", "b = 2"))
    assert numbered(document) == ["1| a = 1", "2| b = 2"]
    assert numbered(Document("x", ("",) * 10))[0] == " 1| "


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../outside.txt", "inside an allowed folder"),
        ("/etc/passwd", "inside an allowed folder"),
        ("~/.ssh/id_rsa", "inside an allowed folder"),
        ("missing.py", "an existing file or a pattern"),
        ("src", "an existing file or a pattern"),
        ("*.nothing", "a pattern that matches files"),
        ("../*.txt", "a pattern inside an allowed folder"),
        ("/**", "a pattern inside an allowed folder"),
        ("src/../../*", "a pattern inside an allowed folder"),
        (".env", "secrets"),
        ("src/picture.png", "binary"),
    ],
)
def test_what_may_not_be_read_is_refused_by_its_place(project: Path, path: str, words: str) -> None:
    assert words in refusal(project, "README.md", path)


def test_a_link_is_what_it_leads_to(project: Path) -> None:
    (project / "link.txt").symlink_to(project.parent / "outside.txt")
    (project / "key.txt").symlink_to(project / ".env")
    assert "inside an allowed folder" in refusal(project, "link.txt")
    assert "secrets" in refusal(project, "key.txt")
    assert "a pattern that matches files" in refusal(project, "link*")


def test_a_file_that_was_allowed_by_itself_may_hold_anything_but_bytes(project: Path) -> None:
    outside = project.parent / "outside.txt"
    assert found(project, str(outside), allowed=(outside,)) == [str(outside)]
    assert found(project, ".env", allowed=(project / ".env",)) == [".env"]


def test_too_much_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "LARGEST_MATERIAL", 5)
    assert "at most" in refusal(project, "src/one.py")
    monkeypatch.undo()
    monkeypatch.setattr(material, "MOST_FILES", 1)
    assert "the limit is 1 files" in refusal(project, "src/**/*.py")


def test_text_in_another_encoding_is_refused(project: Path) -> None:
    (project / "latin.txt").write_bytes("größe".encode("latin-1"))
    assert "UTF-8" in refusal(project, "latin.txt")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("README.md", "this one exists"),
        ("../new.md", "inside an allowed folder"),
        ("/etc/new.md", "inside an allowed folder"),
        ("nowhere/new.md", "an existing folder"),
    ],
)
def test_a_result_goes_to_a_new_file_in_an_allowed_folder(
    project: Path, path: str, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        check_output(path, (project,))
    assert check_output("src/new.md", (project,)) == project.resolve() / "src" / "new.md"
