"""Text from outside, printed by the real program: nothing in it reaches a terminal as a command."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
import wire
from ollama_server import Script, scripted_ollama

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

EVIL = "\x1b[2J\x1b]52;c;aGk=\x07\x9b31m\u202egnp.exe\x7f"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\x7f", "\r")


@pytest.fixture
def script() -> Script:
    return Script(words=("safe ", EVIL, "\r\nfamily 👨\u200d👩\u200d👧 naïve"))


@pytest.fixture
def where(script: Script) -> Generator[str]:
    with scripted_ollama(script) as address:
        yield address


def printed(home: Path, where: str, *arguments: str) -> str:
    variables = {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": where, "PYTHONIOENCODING": "utf-8"}
    done = wire.run(home, *arguments, variables=variables)
    text = done.stdout + done.stderr
    assert not [each for each in OBEYED if each in text], ascii(text)
    assert "Traceback" not in text
    return text


TASK = ("--task-type", "code_review")


def test_a_models_text_is_shown_without_what_a_terminal_obeys(home: Path, where: str) -> None:
    text = printed(home, where, "delegate", "Do it", *TASK)
    assert text.startswith("safe ?[2J?]52;c;aGk=??31m?gnp.exe?\nfamily 👨\u200d👩\u200d👧 naïve\n")
    answer: Any = json.loads(printed(home, where, "delegate", "Do it", *TASK, "--json"))
    assert answer["local_output"].startswith(f"safe {EVIL}")


def test_names_and_errors_of_an_engine_are_shown_as_one_line(
    home: Path, where: str, script: Script
) -> None:
    script.models = {f"a{EVIL}": 4096, "good:latest": 4096}
    lines = printed(home, where, "models").splitlines()
    assert [line for line in lines if line.startswith("good:latest ")]
    printed(home, where, "models", "--json")
    printed(home, where, "doctor")
    printed(home, f"127.0.0.1:1/{EVIL}", "models")
    printed(home, where, "delegate", "x", *TASK, "--path", f"/{EVIL}")
    printed(home, where, "status", "--session", EVIL)
    printed(home, where, EVIL)


def test_the_status_line_shows_errors_and_names_without_what_a_terminal_obeys(home: Path) -> None:
    for name, value in (("IMMUNOS_DB", f"/{EVIL}/x.db"), ("IMMUNOS_SESSION", EVIL)):
        done = wire.run(home, "statusline", variables={name: value, "PYTHONIOENCODING": "utf-8"})
        assert done.returncode == 0
        assert not [each for each in OBEYED if each in done.stdout + done.stderr]


def test_a_cell_of_a_table_is_run_by_no_spreadsheet(home: Path, where: str) -> None:
    evil = ("=HYPERLINK(1)", "+1", "-1+1", "@SUM(1)", " =1+1")
    for number, model in enumerate(evil):
        name = model.strip().replace(" ", "")
        wire.run_json(
            home,
            "record",
            f"--model={name}",
            "--input",
            "1",
            "--output",
            "1",
            "--request-id",
            f"={number}",
        )
    for command in (
        ("report", "--format", "csv"),
        ("export", "--format", "csv", "--table", "usage"),
    ):
        text = printed(home, where, *command)
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert "'=HYPERLINK(1)" in cells
        assert not [cell for cell in cells if cell.lstrip()[:1] in {"=", "+", "@"}]
        assert not [cell for cell in cells if cell.startswith("-1")]
