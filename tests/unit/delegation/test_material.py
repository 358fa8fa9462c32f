"""Which files a delegated task may read, and how it sees them."""

from __future__ import annotations

import glob
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from immunos_mcp.delegation import material, patterns, safe_files
from immunos_mcp.delegation.destination import check_output
from immunos_mcp.delegation.material import Document, numbered, read_material
from immunos_mcp.errors import InvalidInputError


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


def test_lines_are_numbered_as_editors_number_them(project: Path) -> None:
    (project / "odd.txt").write_bytes("a\u2028b\x0cc\r\nd\x85\re\n\nf".encode())
    (document,) = read_material(["odd.txt"], (project,)).documents
    assert document.lines == ("a\u2028b\x0cc", "d\x85", "e", "", "f")


@pytest.mark.parametrize(
    "path",
    ["", "a\x00b", "a\x00*", "x" * 5000, "half a pair \ud800", "~\x00", "x" * 300 + "*"],
)
def test_what_is_no_path_is_refused(project: Path, path: str) -> None:
    assert refusal(project, path).startswith("paths[0]: must be ")
    with pytest.raises(InvalidInputError, match="output_path: must be "):
        check_output(path + "/" + path, (project,))


def test_a_name_that_no_file_can_have_is_refused_in_words(project: Path) -> None:
    assert "cannot be read (File name too long)" in refusal(project, "x" * 300)
    for path in ("x" * 300 + "/y", "x" * 300 + "/*", "x" * 4000):
        assert refusal(project, path).startswith("paths[0]: ")


def test_links_that_lead_in_circles_are_no_files(project: Path) -> None:
    (project / "a.txt").symlink_to("b.txt")
    (project / "b.txt").symlink_to("a.txt")
    assert "existing file" in refusal(project, "a.txt")
    assert found(project, "*.*") == ["README.md"]


def test_names_that_are_not_utf_8_are_read_and_shown_as_far_as_they_can_be(project: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n.md")
    (project / name).write_text("x", encoding="utf-8")
    assert found(project, name) == ["caf??.md"]
    assert found(project, "caf*") == ["caf??.md"]


def test_workspaces_that_link_one_another_are_searched_in_no_time(project: Path) -> None:
    packages = [project / "packages" / name for name in "abc"]
    for package in packages:
        (package / "modules").mkdir(parents=True)
        (package / "index.js").write_text("x", encoding="utf-8")
    for package in packages:
        for other in packages:
            (package / "modules" / other.name).symlink_to(other)
    assert found(project, "packages/**/*.js") == [f"packages/{name}/index.js" for name in "abc"]
    assert found(project, "packages/a/modules/b/*.js") == ["packages/b/index.js"]


def test_a_pattern_matches_as_the_glob_module_does(project: Path) -> None:
    for pattern in (
        "**",
        "**/*.py",
        "src/**/*.py",
        "*/*.py",
        "s?c/[o]*.py",
        "**/deep/**/two*",
        "*.md/**",
    ):
        expected = [
            os.path.relpath(match, project)
            for match in glob.glob(str(project / pattern), recursive=True)  # noqa: PTH207  # the model
            if Path(match).is_file() and not match.endswith("png") and "node_modules" not in match
        ]
        if expected:
            assert sorted(found(project, pattern)) == sorted(expected), pattern
        else:
            assert "a pattern that matches files" in refusal(project, pattern)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MOST_ENTRIES", 3, "more than 3 files and folders"),
        ("DEEPEST", 0, "nested more than 0 deep"),
        ("SEARCH_SECONDS", -1.0, "took longer than"),
    ],
)
def test_a_search_has_limits(
    project: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, words: str
) -> None:
    monkeypatch.setattr(patterns, limit, value)
    refused = refusal(project, "**/*.py")
    assert words in refused
    assert refused.endswith("name fewer files, or use a narrower pattern")


def test_binary_files_count_towards_what_may_be_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "MOST_READ", 10)
    assert "MiB to read" in refusal(project, "src/**")


def test_a_search_that_nobody_waits_for_ends(project: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(InvalidInputError, match="the call was cancelled"):
        read_material(["**/*.py"], (project,), stop)


def test_what_is_no_regular_file_is_neither_opened_nor_waited_for(project: Path) -> None:
    os.mkfifo(project / "pipe.txt")
    assert "an existing file" in refusal(project, "pipe.txt")
    assert found(project, "*") == ["README.md"]


@pytest.mark.parametrize("is_folder", [True, False], ids=["a folder", "a file"])
def test_what_is_swapped_for_a_link_while_it_is_read_leads_nowhere(
    project: Path, *, is_folder: bool
) -> None:
    """A thread swaps what is read for a link to the outside and back all the time."""
    outside, inside, aside = project.parent / "outside", project / "sub", project / "aside"
    for folder, text in ((outside, "outside"), (inside, "inside")):
        folder.mkdir()
        (folder / "x.txt").write_text(text, encoding="utf-8")
    if not is_folder:
        inside, outside = inside / "x.txt", outside / "x.txt"
    done = Event()

    def swap() -> None:
        while not done.is_set():
            inside.rename(aside)
            inside.symlink_to(outside)
            inside.unlink()
            aside.rename(inside)

    thread = Thread(target=swap)
    thread.start()
    read: set[str] = set()
    written = 0
    deadline = time.monotonic() + 60
    try:
        for number in itertools.count():
            has_met = read and (written or not is_folder)
            if (number > 500 and has_met) or time.monotonic() > deadline:
                break
            for path in ("sub/x.txt", "sub/*.txt"):
                with suppress(InvalidInputError):
                    read.update(
                        line
                        for document in read_material([path], (project,)).documents
                        for line in document.lines
                    )
            if is_folder:
                with suppress(InvalidInputError, OSError):
                    os.close(safe_files.create(check_output(f"sub/{number}.md", (project,))))
                    written += 1
    finally:
        done.set()
        thread.join()
    assert read == {"inside"}
    assert [each.name for each in (project.parent / "outside").iterdir()] == ["x.txt"]
    assert written or not is_folder


OBEYED = """
podfile Package.swift build.sbt Berksfile manage.py go.mod tsconfig.json pnpm-workspace.yaml nx.json main.tf
Chart.yaml wrangler.toml ansible.cfg renovate.json requirements-dev.txt Session.vim x.reg crush.json premake5.lua
.git/hooks/pre-commit .git/config src/.git/hooks/x .claude/settings.json .claude/commands/x.md .mcp.json
.cursor/rules/x.mdc .cursor/mcp.json .vscode/tasks.json .vscode/settings.json .idea/workspace.xml
.github/workflows/x.yml .github/copilot-instructions.md .gitlab-ci.yml .circleci/config.yml CLAUDE.md
claude.local.md AGENTS.md src/AGENTS.override.md GEMINI.md .cursorrules .windsurfrules .clinerules .bashrc
.zshrc .profile .envrc .npmrc .pre-commit-config.yaml .husky/pre-commit .devcontainer/devcontainer.json
Makefile makefile GNUmakefile src/rules.mk justfile Taskfile.yml package.json setup.py conftest.py
src/sitecustomize.py x.pth Jenkinsfile azure-pipelines.yml Dockerfile docker-compose.yml compose.yaml
CMakeLists.txt build.gradle pom.xml Rakefile Gemfile gulpfile.js webpack.config.js vite.config.ts
eslint.config.mjs build.rs Cargo.toml x.code-workspace x.desktop x.service x.plist mcp.json tasks.json
node_modules/x/index.js hooks/post-commit .gitattributes .gitmodules .gitignore .editorconfig .ssh/config
""".split()  # noqa: SIM905  # a list of so many quotes is hard to read


@pytest.mark.parametrize("path", OBEYED)
def test_a_result_goes_to_no_file_that_other_programs_obey(project: Path, path: str) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(InvalidInputError, match="no other program runs or follows"):
        check_output(path, (project,))
    file = project / path
    assert check_output(path, (project, file)).path == file.resolve()


@pytest.mark.parametrize(
    "path", ["result.md", "src/new_module.py", "docs.txt", "notes.json", "x.ts", "report.html"]
)
def test_a_result_may_go_to_any_other_file(project: Path, path: str) -> None:
    assert check_output(path, (project,)).parts == tuple(path.split("/"))


def test_a_link_to_a_folder_that_is_obeyed_is_that_folder(project: Path) -> None:
    (project / ".github" / "workflows").mkdir(parents=True)
    (project / "flows").symlink_to(project / ".github" / "workflows")
    with pytest.raises(InvalidInputError, match="no other program runs or follows"):
        check_output("flows/x.yml", (project,))


def test_where_files_cannot_be_opened_safely_there_are_none(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_files, "IS_SUPPORTED", False)
    assert read_material([], (project,)).documents == ()
    with pytest.raises(InvalidInputError, match="paths: not supported on this system"):
        read_material(["README.md"], (project,))
    with pytest.raises(InvalidInputError, match="output_path: not supported on this system"):
        check_output("new.md", (project,))


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
    assert check_output("src/new.md", (project,)).path == project.resolve() / "src" / "new.md"
