"""Writes the table of faults in explanation/limits.md, with counts from the tests: ``python docs/faults.py``.

A test compares the page with what this writes, so that no count can be out of date.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FunctionType, ModuleType

PAGE = Path(__file__).parent / "explanation" / "limits.md"
TESTS = Path(__file__).parents[1] / "tests"
BEGIN, END = "<!-- Written by docs/faults.py -->\n", "<!-- end -->\n"


class Row(NamedTuple):
    """A kind of fault.

    Attributes:
        kind: its name.
        files: the test files; each parametrised case of a test is an input.
        happens: what the program does.
    """

    kind: str
    files: tuple[str, ...]
    happens: str


ROWS = (
    Row(
        "a ledger that is locked, read-only, on a full disk; a process that is killed; a clock that was set"
        " back; two versions at once",
        ("integration/ledger/test_every_operation.py",),
        "the right answer or an error in words; nothing is half-stored, and the same call works later",
    ),
    Row(
        "a ledger that is a folder, no database, newer or out of reach",
        ("integration/ledger/test_failures.py",),
        "an error that says what to do; nothing is changed",
    ),
    Row(
        "a damaged ledger",
        ("integration/ledger/test_repair.py",),
        "`doctor --repair` copies it, keeps what is readable and says what is lost",
    ),
    Row(
        "the ledger, `-wal` or `-shm` deleted, moved or replaced under a server",
        ("integration/ledger/test_replaced_files.py",),
        "the next call opens what is there now; nothing is acknowledged that is in no file with a name",
    ),
    Row(
        "damaged lines in transcripts",
        ("integration/assistants/test_damaged_lines.py", "unit/assistants/test_usage_lines.py"),
        "what can be counted is counted, the rest is reported as unread lines",
    ),
    Row(
        "paths that are not UTF-8, missing homes, unexpanded variables, coarse times",
        ("integration/assistants/test_paths.py",),
        "files are read, or reported by name",
    ),
    Row(
        "configuration files of clients",
        ("integration/assistants/test_client_files.py", "unit/assistants/test_any_document.py"),
        "edited without loss, or refused and left as they are",
    ),
    Row(
        "streams, counts and addresses of engines",
        (
            "integration/engines/test_hostile_engine.py",
            "unit/engines/test_responses.py",
            "acceptance/test_remote_engine.py",
        ),
        "that task's error; a count that cannot be true is not counted",
    ),
    Row(
        "requests over HTTP: hosts, origins, bodies, tokens, options that would open too much",
        ("integration/http/test_serving.py",),
        "refused with a status and a line of JSON; the next request is answered",
    ),
    Row(
        "lines, ids and openings of the protocol",
        (
            "integration/server/test_wire.py",
            "unit/server/test_opening.py",
            "integration/server/test_any_line.py",
        ),
        "answered with an error; the next line is read",
    ),
    Row(
        "arguments of tools",
        ("integration/server/test_bad_arguments.py",),
        "an error that names the argument; nothing is changed",
    ),
    Row(
        "files that hold secrets",
        ("unit/delegation/test_secrets.py",),
        "not read, by name, place or content; what only looks like one is",
    ),
    Row(
        "files and destinations of tasks",
        ("unit/delegation/test_material.py",),
        "refused by name, before anything is routed",
    ),
    Row(
        "text from outside on terminals and in tables",
        ("acceptance/test_outside_text.py",),
        "what a terminal obeys or a spreadsheet runs is replaced",
    ),
    Row(
        "encodings, closed streams, interrupts and readers that are gone",
        ("acceptance/test_output.py", "acceptance/test_status_line.py"),
        "no traceback; the status line prints its line",
    ),
    Row(
        "bugs in a tool, and in reading or answering messages",
        ("integration/server/test_faults.py",),
        "a tool error of one line that says where to report it; where no message can be read or answered"
        " any more, the server exits with code 1 and one line",
    ),
)


class Tried(NamedTuple):
    """What the tests of a kind try: single inputs, and properties of random ones."""

    inputs: int
    properties: int


def tried(row: Row) -> Tried:
    """Count the inputs of a kind in its tests."""
    inputs = properties = 0
    for name in row.files:
        module = _loaded(TESTS / name)
        for test in _tests(module):
            if getattr(test, "is_hypothesis_test", False):
                properties += 1
            else:
                inputs += _cases(test) * getattr(module, "inputs_of", _one)(test)
    return Tried(inputs, properties)


def _loaded(file: Path) -> ModuleType:
    for folder in (str(TESTS / "support"), str(TESTS)):
        if folder not in sys.path:
            sys.path.append(folder)
    name = f"counted_{file.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _tests(module: ModuleType) -> Iterator[FunctionType]:
    for name, found in vars(module).items():
        if name.startswith("test_") and callable(found):
            yield found


def _cases(test: FunctionType) -> int:
    marks = getattr(test, "pytestmark", ())
    return math.prod(len(mark.args[1]) for mark in marks if mark.name == "parametrize")


def _one(_test: FunctionType) -> int:
    return 1


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| What fails | Inputs tried | What happens |", "| --- | --- | --- |"]
    for row in ROWS:
        inputs, properties = tried(row)
        count = f"{inputs}" if inputs else ""
        random = f"{properties} sets of random ones" if properties else ""
        told = ", ".join(filter(None, (count, random.replace("1 sets", "1 set"))))
        lines.append(f"| {row.kind} | {told} | {row.happens} |")
    return "\n".join([*lines, ""])


def written(page: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
