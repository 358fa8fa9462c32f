"""A damaged ledger is copied, and what is readable of it is recovered in its place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import made_ledgers
import pytest
import wire

from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.repair import repair
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = 4096
RECORDS = 400


@pytest.fixture(scope="module")
def made() -> bytes:
    def fill(ledger: InlineSqliteLedger) -> None:
        router = Router(ledger, "default")
        run_sync(router.update_config({"session_limit": 300_000}, "test"))
        for number in range(RECORDS):
            run_sync(router.route_task("debug", "routine"))
            run_sync(router.record_usage("claude-x", 1, 1, None, None, number + 1))

    return made_ledgers.made_by(fill)


@pytest.fixture
def file(tmp_path: Path, made: bytes) -> Path:
    file = tmp_path / "ledger.db"
    made_ledgers.put(file, made)
    return file


def count(file: Path, table: str) -> int:
    ((found,),) = wire.rows(file, f"SELECT count(*) FROM {table}")
    return found


def assert_works(file: Path) -> None:
    assert wire.rows(file, "PRAGMA integrity_check") == [("ok",)]
    assert wire.rows(file, "PRAGMA foreign_key_check") == []
    assert wire.rows(file, "PRAGMA journal_mode") == [("wal",)]
    assert repair(file).copy is None
    with InlineSqliteLedger(file) as ledger:
        assert run_sync(Router(ledger, "default").route_task("debug", "routine")).decision_id


def overwrite(file: Path, start: int, content: bytes) -> None:
    whole = bytearray(file.read_bytes())
    whole[start : start + len(content)] = content
    file.write_bytes(whole)


def leaf_of_decisions(file: Path) -> int:
    """Return the number of a leaf page in the middle of the table of decisions."""
    ((root,),) = wire.rows(
        file, "SELECT rootpage FROM sqlite_schema WHERE name = 'immunos_mcp_decision'"
    )
    page = file.read_bytes()[(root - 1) * PAGE : root * PAGE]
    cells = int.from_bytes(page[3:5], "big")
    assert page[0] == 5, "an interior page"
    cell = int.from_bytes(page[12 + cells // 2 * 2 : 14 + cells // 2 * 2], "big")
    return int.from_bytes(page[cell : cell + 4], "big")


def test_an_intact_ledger_is_left_alone(file: Path) -> None:
    before = wire.dump(file)
    assert repair(file) == (None, 0, ())
    assert wire.dump(file) == before
    assert list(file.parent.iterdir()) == [file]


def test_a_damaged_page_costs_only_what_was_on_it(file: Path) -> None:
    overwrite(file, (leaf_of_decisions(file) - 1) * PAGE, b"\xa5" * PAGE)
    damaged = file.read_bytes()
    done = repair(file)
    assert done.copy is not None
    assert done.copy.read_bytes() == damaged
    assert done.copy.stat().st_mode & 0o777 == 0o600
    kept = count(file, "immunos_mcp_decision")
    assert RECORDS - 100 < kept < RECORDS
    assert count(file, "immunos_mcp_usage") == RECORDS
    assert done.lost == (
        f"rows of immunos_mcp_decision on damaged pages ({kept} were kept)",
        f"{RECORDS - kept} references from immunos_mcp_usage to immunos_mcp_decision",
    )
    assert_works(file)


def test_a_destroyed_root_of_a_table_costs_nothing_but_itself(file: Path) -> None:
    ((root,),) = wire.rows(
        file, "SELECT rootpage FROM sqlite_schema WHERE name = 'immunos_mcp_decision'"
    )
    overwrite(file, (root - 1) * PAGE, b"\xa5" * PAGE)
    assert repair(file).lost == (
        f"rows of immunos_mcp_decision on damaged pages ({RECORDS} were kept)",
    )
    assert count(file, "immunos_mcp_decision") == count(file, "immunos_mcp_usage") == RECORDS
    assert_works(file)


def test_without_its_list_of_tables_a_ledger_keeps_the_rows_that_can_be_told_apart(
    file: Path,
) -> None:
    query = "SELECT * FROM {} ORDER BY 1"
    tables = ("decision", "usage", "session", "policy", "setting_change", "record")
    before = [wire.rows(file, query.format(f"immunos_mcp_{table}")) for table in tables]
    overwrite(file, 100, b"\xa5" * (PAGE - 100))
    assert repair(file).lost[0] == "the list of tables"
    assert [wire.rows(file, query.format(f"immunos_mcp_{table}")) for table in tables] == before
    assert_works(file)


CHANGES: dict[str, tuple[str, int]] = {
    "text that is not UTF-8": (
        "UPDATE immunos_mcp_decision SET task_type = CAST(x'ff41' AS TEXT) WHERE decision_id < 5",
        RECORDS,
    ),
    "unknown words": (
        "UPDATE immunos_mcp_decision SET reason = 'none' WHERE decision_id < 5",
        RECORDS - 4,
    ),
    "no times": (
        "UPDATE immunos_mcp_decision SET decided_at = 'once' WHERE decision_id < 5",
        RECORDS - 4,
    ),
    "a missing table": ("DROP TABLE immunos_mcp_binding", RECORDS),
    "a missing parent": ("DELETE FROM immunos_mcp_policy", 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_values_that_cannot_be_right_cost_their_rows(file: Path, name: str) -> None:
    statement, kept = CHANGES[name]
    wire.execute(file, "PRAGMA foreign_keys = OFF", statement)
    assert repair(file).copy is not None
    assert count(file, "immunos_mcp_decision") == kept
    assert_works(file)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_of_a_file_that_was_cut_off_the_rest_is_kept(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share) // PAGE * PAGE])
    done = repair(file)
    assert done.lost
    assert_works(file)


def test_a_destroyed_definition_of_a_table_costs_nothing(file: Path) -> None:
    at = file.read_bytes().index(b"CREATE TABLE immunos_mcp_decision")
    overwrite(file, at + 8, b"\xfb\xae\xff\x00")
    assert repair(file).lost == ()
    assert count(file, "immunos_mcp_decision") == RECORDS
    assert_works(file)


def test_a_list_of_tables_that_lists_something_else_is_none(file: Path) -> None:
    content = file.read_bytes()
    assert content[100] == 5, "the list has more than one page"
    cell = int.from_bytes(content[112:114], "big")
    listing = int.from_bytes(content[cell : cell + 4], "big")
    leaf = leaf_of_decisions(file)
    overwrite(file, (listing - 1) * PAGE, content[(leaf - 1) * PAGE : leaf * PAGE])
    done = repair(file)
    assert "the list of tables" in done.lost
    assert count(file, "immunos_mcp_decision") == RECORDS
    assert count(file, "immunos_mcp_usage") == RECORDS
    assert_works(file)


def test_the_tables_of_other_programs_are_kept(file: Path) -> None:
    wire.execute(
        file,
        "CREATE TABLE theirs (a, b)",
        "CREATE INDEX theirs_a ON theirs (a)",
        "INSERT INTO theirs VALUES (x'00ff', 'text'), (1, NULL), (2.5, '')",
        "UPDATE immunos_mcp_decision SET reason = 'none' WHERE decision_id = 1",
    )
    before = wire.rows(file, "SELECT * FROM theirs")
    assert repair(file).copy is not None
    assert wire.rows(file, "SELECT * FROM theirs") == before
    assert wire.rows(file, "SELECT sql FROM sqlite_schema WHERE name = 'theirs_a'") != []


MARKS: dict[str, str] = {
    "too new": "INSERT INTO immunos_mcp_schema_version VALUES (99, 'x')",
    "another number": f"UPDATE immunos_mcp_schema_version SET version = 8192 WHERE version = {schema.LATEST}",
    "negative": "UPDATE immunos_mcp_schema_version SET version = -1 WHERE version = 2",
    "none": "DELETE FROM immunos_mcp_schema_version",
    "no table": "DROP TABLE immunos_mcp_schema_version",
    "too old": "DELETE FROM immunos_mcp_schema_version WHERE version > 1",
}


@pytest.mark.parametrize("name", MARKS)
def test_damaged_marks_of_versions_cost_nothing_but_themselves(file: Path, name: str) -> None:
    wire.execute(file, MARKS[name])
    before = wire.dump(file)
    if name != "negative":
        words = "is damaged; run `immunos-mcp doctor --repair`"
        with InlineSqliteLedger(file) as ledger, pytest.raises(LedgerError, match=words):
            run_sync(Router(ledger, "default").get_session_status())
        assert wire.dump(file) == before
    assert repair(file).copy is not None
    assert count(file, "immunos_mcp_decision") == count(file, "immunos_mcp_usage") == RECORDS
    marks = wire.rows(file, "SELECT version FROM immunos_mcp_schema_version ORDER BY 1")
    assert marks == [(step,) for step in range(1, schema.LATEST + 1)]
    assert_works(file)


def test_triggers_of_other_programs_are_kept_and_do_not_run_during_the_repair(file: Path) -> None:
    wire.execute(
        file,
        "CREATE TABLE theirs (a)",
        "CREATE TABLE log (a)",
        "INSERT INTO theirs VALUES (1), (2)",
        "CREATE TRIGGER noted AFTER INSERT ON theirs BEGIN"
        " INSERT INTO log VALUES (new.a); DELETE FROM immunos_mcp_usage; END",
        "CREATE TRIGGER emptied BEFORE INSERT ON immunos_mcp_decision BEGIN"
        " DELETE FROM settings; END",
        "CREATE INDEX by_model ON immunos_mcp_decision (model)",
        "CREATE VIEW spent AS SELECT sum(input_tokens) FROM immunos_mcp_usage",
        "UPDATE immunos_mcp_decision SET reason = 'none' WHERE decision_id = 1",
    )
    theirs = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'immunos%' ORDER BY name"
    before = wire.rows(file, theirs)
    settings = wire.rows(file, "SELECT * FROM settings")
    assert repair(file).lost == (
        "1 unreadable rows of immunos_mcp_decision",
        "1 references from immunos_mcp_usage to immunos_mcp_decision",
    )
    assert wire.rows(file, "SELECT * FROM log") == []
    assert wire.rows(file, "SELECT * FROM settings") == settings
    assert count(file, "immunos_mcp_usage") == RECORDS
    assert wire.rows(file, theirs) == before


def test_no_definition_in_a_ledger_reaches_another_file(file: Path) -> None:
    elsewhere = file.with_name("elsewhere.db")
    commands = ("COMMIT", f"ATTACH '{elsewhere}' AS other", "CREATE TABLE other.mine (x)")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany(
            "INSERT INTO sqlite_schema VALUES ('view', ?, ?, 0, ?)",
            [(f"odd{number}", "odd", sql) for number, sql in enumerate(commands)],
        )
    done = repair(file)
    assert not elsewhere.exists()
    assert count(file, "immunos_mcp_decision") == RECORDS
    assert "the view odd0 (no definition)" in done.lost
    assert_works(file)


def test_an_older_ledger_stays_as_old(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    with closing(schema.empty(2, str(file))) as old:
        old.execute("INSERT INTO immunos_mcp_schema_version VALUES (1, 'x'), (2, 'x')")
        old.execute("INSERT INTO immunos_mcp_binding VALUES ('a', '/a')")
    overwrite(file, file.read_bytes().index(b"CREATE TABLE immunos_mcp_usage") + 8, b"\xfb\xff")
    assert repair(file).copy is not None
    assert count(file, "immunos_mcp_schema_version") == 2
    assert count(file, "immunos_mcp_binding") == 1


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: file.unlink(), "does not exist; there is nothing to repair"),
    "no database": (lambda file: file.write_text("Dear diary. " * 900), "is not a SQLite database"),
    "newer": (
        lambda file: wire.execute(
            file, f"INSERT INTO immunos_mcp_schema_version VALUES ({schema.LATEST + 1}, '2030')"
        ),
        "was written by a newer immunos-mcp",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_repaired_is_left_alone(file: Path, name: str) -> None:
    change, words = REFUSED[name]
    change(file)
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(LedgerError, match=words):
        repair(file)
    assert (file.read_bytes() if file.exists() else None) == before
    assert [each.name for each in file.parent.iterdir()] in ([], [file.name])


def test_a_ledger_in_use_is_not_repaired(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("immunos_mcp.ledger.repair.BUSY_TIMEOUT_SECONDS", 0.05)
    with closing(sqlite3.connect(file)) as other:
        other.execute("SELECT * FROM settings").fetchall()
        with pytest.raises(LedgerError, match="is locked by another program"):
            repair(file)


def test_without_space_for_the_copy_nothing_is_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(file, (leaf_of_decisions(file) - 1) * PAGE, b"\xa5" * PAGE)
    before = file.read_bytes()

    def full(*_streams: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(LedgerError, match="cannot be copied"):
        repair(file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_the_command_says_what_was_done(home: Path) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    ledger = wire.ledger_path(home)
    done = wire.run(home, "doctor", "--repair")
    assert (done.returncode, done.stdout) == (
        0,
        f"ledger {ledger} is intact; nothing was changed\n",
    )
    wire.execute(ledger, "UPDATE immunos_mcp_decision SET reason = 'none'")
    broken = wire.run(home, "history")
    assert broken.returncode == 1
    assert "run `immunos-mcp doctor --repair`, which keeps a copy" in broken.stderr
    assert "reason of immunos_mcp_decision is 'none'" in broken.stderr
    found = wire.run(home, "doctor")
    assert found.returncode == 1
    assert f"-> immunos-mcp doctor --repair --db {ledger}" in found.stdout
    done = wire.run(home, "doctor", "--repair")
    assert done.returncode == 0
    assert "lost: 1 unreadable rows of immunos_mcp_decision\n" in done.stdout
    assert "As it was before: " in done.stdout
    assert wire.run(home, "history").returncode == 0
    assert wire.run_json(home, "doctor", "--repair") == {"kept_rows": 0, "lost": []}


def test_the_moment_of_the_copy_is_in_its_name(file: Path) -> None:
    wire.execute(file, "UPDATE immunos_mcp_decision SET reason = 'none'")
    copy = repair(file).copy
    assert copy is not None
    assert f".damaged-{datetime.now(UTC):%Y%m}" in copy.name
