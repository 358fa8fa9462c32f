"""Commands of the user that check answers: in a copy, without a shell, with limits."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path, PurePosixPath
from threading import Event
from typing import TYPE_CHECKING

import pytest
from desks import desk_at
from ollama_server import Script, scripted_ollama

from immunos_mcp.cli.main import main
from immunos_mcp.delegation.checks import allowed, command, project_copy, trial
from immunos_mcp.delegation.checks.allowed import Allowed
from immunos_mcp.domain import Outcome
from immunos_mcp.errors import BadAnswerError, DelegationError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from desks import Desk

DIFF = "--- a/one.py\n+++ b/one.py\n@@ -1 +1 @@\n-x = 1\n+x = 2"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "one.py").write_text("x = 1\n", encoding="utf-8")
    return folder


def python(code: str) -> str:
    return shlex.join((sys.executable, "-c", code, "{path}"))


def tried(project: Path, code: str, text: str = "y = 3", output: str | None = "new.py") -> None:
    place = None if output is None else PurePosixPath(output)
    what = trial.Trial(text, "tiny", (Allowed("mine", python(code), project),), place)
    trial.run(what, Event())


def said(project: Path, code: str, text: str = "y = 3", output: str | None = "new.py") -> str:
    """Return what a command printed, which failed for this reason alone."""
    with pytest.raises(BadAnswerError) as caught:
        tried(project, f"import os, sys; {code}; sys.exit(1)", text, output)
    return str(caught.value)


def test_the_answer_is_in_the_output_file_of_the_copy_and_the_project_is_left_alone(
    project: Path,
) -> None:
    tried(project, "import sys; assert open(sys.argv[1]).read() == 'y = 3\\n'; open('one.py', 'w')")
    assert (project / "one.py").read_text(encoding="utf-8") == "x = 1\n"
    assert [path.name for path in project.iterdir()] == ["one.py"]


def test_a_diff_is_applied_to_the_copy_and_names_the_file(project: Path) -> None:
    code = "import sys; assert (sys.argv[1], open('one.py').read()) == ('./one.py', 'x = 2\\n')"
    tried(project, code, DIFF, None)
    with pytest.raises(BadAnswerError, match="no unified diff"):
        tried(project, code, "Done!", None)


@pytest.mark.parametrize("name", ["../out.py", "/tmp/out.py", "a/../../out.py", ".", "one.py/x"])
def test_a_diff_cannot_leave_the_copy(project: Path, name: str) -> None:
    diff = f"--- /dev/null\n+++ {name}\n@@ -0,0 +1 @@\n+x"
    with pytest.raises(BadAnswerError, match=r"outside the project|no file there|exists"):
        tried(project, "pass", diff, None)
    assert not (project.parent / "out.py").exists()


def test_a_name_that_looks_like_an_option_is_none(project: Path) -> None:
    assert "./-x.py" in said(project, "print(sys.argv[1])", output="-x.py")


def test_a_command_gets_no_secret_no_home_no_input_and_no_relative_programs(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "hidden")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:.:bin")
    (project / ".env").write_text("KEY=1", encoding="utf-8")
    (project / ".git").mkdir()
    words = said(
        project,
        "print(sorted(os.environ), os.listdir(os.environ['HOME']), sys.stdin.read(),"
        " sorted(os.listdir()), [p for p in os.environ['PATH'].split(':') if p[0] != '/'])",
    )
    assert "API_KEY" not in words
    assert "[] " in words
    assert "['new.py', 'one.py']" in words
    assert words.endswith("[]; do the task yourself, or delegate it with more exact instructions")
    assert [path.name for path in home.iterdir()] == []


def test_links_pipes_and_what_cannot_be_read_are_left_out(project: Path) -> None:
    (project / "link").symlink_to("/etc")
    (project / "file").symlink_to("/etc/passwd")
    os.mkfifo(project / "pipe")
    (project / "shut").mkdir(mode=0)
    (project / "shut.py").write_text("", encoding="utf-8")
    (project / "shut.py").chmod(0)
    words = said(project, "print(sorted(os.listdir()))")
    assert not any(name in words for name in ("'link'", "'file'", "'pipe'"))


@pytest.mark.parametrize(("limit", "words"), [("MOST_ENTRIES", "files"), ("MOST_BYTES", "MiB")])
def test_a_project_that_is_too_large_is_not_the_models_fault(
    project: Path, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    monkeypatch.setattr(project_copy, limit, 0)
    with pytest.raises(trial.TrialError, match=f"project has more than 0 {words}"):
        tried(project, "pass")


def test_a_program_that_is_not_there_is_not_the_models_fault(project: Path) -> None:
    what = trial.Trial("x", "tiny", (Allowed("mine", "no-such-program", project),), None)
    with pytest.raises(trial.TrialError, match="no program no-such-program"):
        trial.run(what._replace(output=PurePosixPath("new.py")), Event())


def ended(tmp_path: Path, code: str, seconds: float = 20.0) -> command.CommandEnd:
    words = (sys.executable, "-c", code)
    variables = command.environment(tmp_path, os.environ)
    return command.run(sys.executable, words, tmp_path, variables, Event(), seconds)


def test_a_command_ends_with_its_code_and_the_end_of_its_output(tmp_path: Path) -> None:
    end = ended(tmp_path, "print('a' * 9_000 + 'b'); raise SystemExit(3)")
    assert (end.code, end.why_stopped, len(end.output)) == (3, "", command.KEPT_OUTPUT)
    assert end.output.endswith("ab\n")


def test_endless_output_is_stopped(tmp_path: Path) -> None:
    end = ended(tmp_path, "import os\nwhile True: os.write(1, b'x' * 65536)")
    assert (end.code, end.why_stopped) == (None, "wrote more than 8 MiB")


LIMITED = """
import resource
try:
    bytearray(5 * 2**30)
except MemoryError:
    print('no memory')
try:
    with open('big', 'wb') as file:
        file.truncate(2**29)
except OSError as error:
    print(error.strerror)
threads, hard = resource.getrlimit(resource.RLIMIT_NPROC)
print(1_000 < threads < 100_000, threads == hard)
"""


def test_memory_files_and_processes_of_a_command_are_limited(tmp_path: Path) -> None:
    assert ended(tmp_path, LIMITED).output == "no memory\nFile too large\nTrue True\n"


FORKS = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        os.close(1); os.close(2)
        os.fork()
        time.sleep(60)
"""


@pytest.mark.parametrize("code", [f"{FORKS}\ntime.sleep(60)", FORKS])
def test_children_in_the_background_end_with_the_command(tmp_path: Path, code: str) -> None:
    begun = time.monotonic()
    ended(tmp_path, code, seconds=1.0)
    assert time.monotonic() - begun < 15
    mine = str(tmp_path)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert mine not in str((process / "cwd").readlink())
        except OSError:
            continue


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("code", "pytest", "name: must be"),
        ("Tests", "pytest", "name: must be"),
        ("tests", "", "command: must be a program"),
        ("tests", "'", "cannot be split"),
        ("tests", "{path}", "a program first"),
        ("tests", "a\nb", "printable"),
    ],
)
def test_what_cannot_be_allowed_is_rejected(
    project: Path, name: str, words: str, expected: str
) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        allowed.add(project, name, words)
    assert allowed.commands(project) == {}


def test_commands_are_kept_by_project_for_this_user_only(project: Path, home: Path) -> None:
    added = allowed.add(project, "tests", "pytest -q {path}")
    assert allowed.commands(project) == {"tests": added}
    assert allowed.commands(home) == {}
    assert allowed.store().stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidInputError, match="did you mean tests"):
        allowed.remove(project, "test")
    allowed.remove(project, "tests")
    assert allowed.commands(project) == {}
    allowed.store().unlink()
    os.mkfifo(allowed.store())
    with pytest.raises(InvalidInputError, match="Not a regular file"):
        allowed.commands(project)
    allowed.store().unlink()
    allowed.store().write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="correct or delete it"):
        allowed.commands(project)


@pytest.fixture
def script() -> Script:
    return Script(words=("x", " = 2"))


@pytest.fixture
async def desk(tmp_path: Path, script: Script) -> AsyncGenerator[Desk]:
    with scripted_ollama(script) as where:
        async with desk_at(tmp_path, where) as made:
            yield made


@pytest.mark.anyio
async def test_a_delegated_task_is_judged_by_the_users_command(desk: Desk) -> None:
    code = "import sys; sys.exit(open(sys.argv[1]).read() != 'x = 2\\n')"
    allowed.add(desk.folder, "two", python(code))
    answer = await desk.delegate(output_path="new.txt", checks=["two"])
    assert answer.passed_checks == "two"
    allowed.add(desk.folder, "never", python("raise SystemExit('no good')"))
    with pytest.raises(DelegationError, match=r"check never failed: .*exit code 1.*no good"):
        await desk.delegate(output_path="other.txt", checks=["two", "never"])
    logged = await desk.archive.list_decisions(9, None)
    assert [entry.outcome for entry in logged] == [Outcome.FAILURE, Outcome.SUCCESS]


@pytest.mark.anyio
async def test_names_are_looked_up_before_anything_is_done(desk: Desk, script: Script) -> None:
    allowed.add(desk.folder, "tests", "pytest")
    with pytest.raises(InvalidInputError, match=r"unknown check 'test' .*did you mean tests"):
        await desk.delegate(checks=["test"])
    assert script.requests == []


def test_the_command_line_says_that_it_allows_model_written_code(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--project", str(project))
    assert main(["checks", "add", "tests", "pytest -q {path}", *place]) == 0
    told = capsys.readouterr()
    assert told.out == f"tests is allowed in {project}: pytest -q {{path}}\n"
    assert "execute code that a local model wrote, with your rights" in told.err
    assert main(["checks", "list", *place, "--json"]) == 0
    assert f'[{{"name":"tests","command":"pytest -q {{path}}","project":"{project}"}}]' in (
        capsys.readouterr().out
    )
    assert main(["checks", "remove", "tests", *place]) == 0
    assert allowed.commands(project) == {}
