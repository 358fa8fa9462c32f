"""A ledger's file: how it is made, brought up to date, and refused when it is newer."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import warm_starts
import wire
from msgspec.structs import replace

from immunos_mcp.domain import Classification, Task, TokenCounts, Usage
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.changed_settings import change_settings
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.ledger.reported_usage import record_usage
from immunos_mcp.ledger.sessions import reset_session
from immunos_mcp.ledger.stored_settings import effective_settings
from immunos_mcp.router import Router
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from immunos_mcp.ledger.dialect import Connection

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEXT_STEP = (
    "ALTER TABLE immunos_mcp_usage ADD COLUMN cost REAL",
    "CREATE TABLE immunos_mcp_extra (extra_id INTEGER PRIMARY KEY) STRICT",
)
FROZEN = (
    "f0a78fc8c12f404b586e8d02d7d8c7c97b3ce7e28c6d542750400fefd0915876",
    "44b4e6d5bd43b6ad06417ad12beef21396cd4f5faeb001e2a990cc047319a65a",
    "9db12348d9e56b15d453ad413263f72dc0ba90c27f2eccf069b67f9da933a628",
    "6625e7238cf9c6082e81a1ba36cfaae46a94fe47b435a0e1f8e83820386a6853",
    "021196819ace21d88b3c7083023e7d39b34b8f222f7f55f1681a6497293b977e",
    "a889a4e12756b0f1bd8a70c9bcc7466ab2910a48e94aae76d904db1e62f51dcc",
    "523bd5f1339fe3dbeb76a7576926637fee5602d166f267ea2f8b502c6164cfa4",
    "6d042512b2fba4c9e2aabc91ea905645898d6f4eade4ed22967e4680c85a5568",
    "68633c6d37433d0f60e823210130081a7b68f993ef3c94b1ae415fd8fd3b6bd8",
    "039542ef4d8d0c6aaa5ca2aaf2517623dab5fe5fc0447403fdea76eda982e600",
    "abfec68c607763f99d8a55db8d35a3d43a1c202ff281e8d4fba284310a913b7b",
    "de7af8cc99d0a1bc233639a5a2d181239af58f84d7ef2c6a30ee90355f7ef6ac",
    "d4683fcab91a5d371a568a8efa0e41b4a5bc82d36269238ec1b943a1d04e2cdf",
    "f66d5fdb895a5f310d7179f22e038d38a9e70bd7914149cfc112fa13386f6f3b",
    "3ab0b406b4a686567b87f5b12d5e077c27f55e53443382760dfd844788993a2a",
    "1e75472a8dd2e8155fe0d8ae7381e5b089257f16c2871c22144aca42a9ef3910",
    "a335666826c91fde27e13df3953bb532298e84978c84d24f4c1a0f7fbcc8c21f",
    "b4b35a62e9b12fbf3688bba70d57af4c80c2287c6771d8d86d88a4aff9c92250",
    "14d124fe04b646f11beb10a4672f3cf5c4980736f73c0f83bfb3cd899c06a599",
    "29a944f830127cb4ad6086744b6d3374218ac1d6acdb4167f7c91cb1abd3ba03",
    "33b2869f30b87855f4ecfb5f491a5e00e43964870610312515536d3d88989929",
    "34ef189fb70c8d9b813987149f38810f1b71fa5a7f88b337553b4559a142cc69",
    "774323a084fcec91aca47496e38aa6a48474167b63396f183ffa369126525866",
)
"""SHA-256 of each step's statements. A step that has landed never changes: ledgers have it."""

SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"

OLD_IMMUNOS = (
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 1234",
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL)",
    "INSERT INTO settings VALUES ('token_warning_threshold', '100000', '2025-12-01 10:00:00')",
    "INSERT INTO settings VALUES ('token_auto_switch_threshold', '120000', '2025-12-01 10:00:00')",
    """INSERT INTO settings VALUES (
        'task_mappings', '{"code_review": "codellama:13b", "poetry": "llama3:8b"}', 'long ago'
    )""",
    "INSERT INTO settings VALUES ('theme', 'dark', '2025-12-01 10:00:00')",
    "CREATE TABLE sessions (id TEXT PRIMARY KEY, started REAL, note)",
    "INSERT INTO sessions VALUES ('s1', 1.5, x'00ff')",
    "CREATE TABLE session (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)",
    "INSERT INTO session (name) VALUES ('default'), ('größe')",
    "CREATE TABLE usage (session TEXT REFERENCES sessions (id), tokens INTEGER)",
    "INSERT INTO usage VALUES ('s1', 10), ('nobody', 20)",
    "CREATE TABLE decisions (id INTEGER PRIMARY KEY, model TEXT)",
    "INSERT INTO decisions VALUES (1, 'llama3:8b')",
    "CREATE INDEX decisions_model ON decisions (model)",
    "CREATE TABLE meta (version INTEGER)",
    "INSERT INTO meta VALUES (99)",
    "CREATE TABLE schema_version (version INTEGER)",
    "INSERT INTO schema_version VALUES (99)",
    "CREATE TABLE policy (a)",
    "CREATE VIEW totals AS SELECT session, sum(tokens) AS tokens FROM usage GROUP BY 1",
    "CREATE TRIGGER log AFTER INSERT ON usage BEGIN INSERT INTO meta VALUES (1); END",
)


@pytest.fixture(autouse=True)
def _ledgers_are_copied() -> None:
    """Make ledgers as the program does, not as other tests do."""


def opened(file: Path) -> None:
    with InlineSqliteLedger(file) as ledger:
        run_sync(ledger.read(effective_settings))


def used(file: Path) -> None:
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default")
        answer = run_sync(router.route_task("code_review", "routine"))
        run_sync(
            router.record_usage("claude-x", 1, 2, decision_id=answer.decision_id, outcome="success")
        )
        run_sync(router.update_config({"session_limit": 300_000}, "test"))
        run_sync(router.reset_session("why"))


def versions(file: Path) -> list[int]:
    return [
        version
        for (version,) in wire.rows(
            file, "SELECT version FROM immunos_mcp_schema_version ORDER BY 1"
        )
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def newer_program(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, NEXT_STEP))
        patch.setattr(schema, "LATEST", schema.LATEST + 1)
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "ledger"
    folder.mkdir()
    return folder / "ledger.db"


def test_the_latest_version_is_the_number_of_steps(file: Path) -> None:
    opened(file)
    assert len(schema.STEPS) == schema.LATEST
    assert versions(file) == list(range(1, schema.LATEST + 1))


def apply_steps(file: Path, version: int) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for number, step in enumerate(schema.STEPS[:version], start=1):
            for statement in step:
                connection.execute(statement)
            connection.execute("INSERT INTO immunos_mcp_schema_version VALUES (?, '')", (number,))
        connection.commit()


@pytest.mark.parametrize("version", range(1, schema.LATEST + 1))
def test_a_fresh_ledger_equals_one_that_every_step_was_applied_to(file: Path, version: int) -> None:
    step_by_step = file.with_name("step_by_step.db")
    apply_steps(step_by_step, version)
    opened(step_by_step)
    opened(file)
    assert wire.rows(step_by_step, SCHEMA) == wire.rows(file, SCHEMA)
    assert versions(step_by_step) == versions(file)


def test_the_figures_of_a_ledger_of_version_1_hold(file: Path) -> None:
    apply_steps(file, 1)
    wire.execute(
        file,
        "INSERT INTO settings VALUES ('session_limit', '400000', '2026-01-01')",
        "INSERT INTO immunos_mcp_session (name, started_at, claude_input_tokens,"
        " local_output_tokens, usage_records, pace_tokens, pace_at)"
        " VALUES ('default', '2026-03-01T11:00:00.000Z', 700, 80, 2, 700, '2026-03-01T11:00:00.000Z')",
        "INSERT INTO immunos_mcp_usage VALUES (1, 1, '2026-03-01T11:00:00.000Z', 'claude-x',"
        " 'claude', 'reported', 'r1', 700, 0, 0, 0, NULL)",
        "INSERT INTO immunos_mcp_usage VALUES (2, 1, '2026-03-01T11:00:00.000Z', 'm:1',"
        " 'ollama', 'reported', NULL, 0, 80, 0, 0, NULL)",
    )
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default", lambda: NOW)
        status = run_sync(router.get_session_status())
        assert (status.session_tokens, status.kept_local_tokens) == (700, 80)
        assert (status.measured_tokens, status.reported_tokens) == (0, 700)
        assert status.session_limit == 400_000
        assert run_sync(router.record_usage("claude-x", 700, 0, request_id="r1")).repeated
        assert run_sync(router.record_usage("claude-x", 1, 0)).session_tokens == 701
    wire.assert_sound(file)


def test_every_table_and_index_of_ours_has_a_name_of_its_own_and_every_table_is_strict(
    file: Path,
) -> None:
    opened(file)
    tables = wire.rows(file, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main'")
    ours = [(name, strict) for name, strict in tables if not name.startswith("sqlite_")]
    assert all(strict for _, strict in ours)
    names = {name for _, name, _, _ in wire.rows(file, SCHEMA) if not name.startswith("sqlite_")}
    assert {name for name in names if not name.startswith("immunos_mcp_")} == {"settings"}


def test_the_settings_table_has_the_shape_that_earlier_scripts_use(file: Path) -> None:
    opened(file)
    assert wire.rows(
        file, 'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', "settings"
    ) == [
        ("key", "TEXT", 1, 1),
        ("value", "TEXT", 1, 0),
        ("updated_at", "TEXT", 1, 0),
    ]


def pragma(connection: Connection, name: str) -> tuple[object, ...]:
    return connection.execute(f"PRAGMA {name}").fetchone()


def test_a_ledger_survives_any_crash_of_its_process_and_checks_its_references(file: Path) -> None:
    with InlineSqliteLedger(file) as ledger:
        pragmas = {
            name: run_sync(ledger.read(pragma, name))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": ("wal",),
        "synchronous": (1,),
        "foreign_keys": (1,),
        "busy_timeout": (30_000,),
    }


def test_opening_again_changes_nothing(file: Path) -> None:
    used(file)
    before = wire.dump(file)
    opened(file)
    assert wire.dump(file) == before


@pytest.mark.usefixtures("newer_program")
def test_an_older_ledger_is_brought_up_to_date_with_all_that_it_holds(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "LATEST", schema.LATEST - 1)
        used(file)
    tables = ("session", "session_reason", "decision", "policy", "setting_change")
    before = [wire.rows(file, f"SELECT * FROM immunos_mcp_{table}") for table in tables]
    usage = wire.rows(file, "SELECT *, NULL FROM immunos_mcp_usage")
    opened(file)
    assert versions(file) == list(range(1, schema.LATEST + 1))
    assert [wire.rows(file, f"SELECT * FROM immunos_mcp_{table}") for table in tables] == before
    assert wire.rows(file, "SELECT * FROM immunos_mcp_usage") == usage
    fresh = file.with_name("fresh.db")
    opened(fresh)
    columns = "SELECT name FROM pragma_table_info('immunos_mcp_usage')"
    assert wire.rows(file, columns) == wire.rows(fresh, columns)


def test_a_step_that_fails_leaves_the_ledger_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(file)
    before = wire.dump(file)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", (*schema.STEPS, (*NEXT_STEP, "NOT SQL")))
        patch.setattr(schema, "LATEST", schema.LATEST + 1)
        with pytest.raises(sqlite3.OperationalError, match="syntax error"):
            opened(file)
    assert wire.dump(file) == before
    opened(file)


def newer(file: Path, journal_mode: str) -> None:
    used(file)
    wire.execute(
        file,
        *NEXT_STEP,
        f"INSERT INTO immunos_mcp_schema_version VALUES ({schema.LATEST + 1}, '2030-01-01')",
        f"PRAGMA journal_mode = {journal_mode}",
    )


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.anyio
async def test_a_newer_ledger_is_refused_with_words_and_left_byte_for_byte(
    file: Path, journal_mode: str
) -> None:
    newer(file, journal_mode)
    before = contents(file.parent)
    words = (
        f"ledger {file} was written by a newer immunos-mcp (ledger version {schema.LATEST + 1}, "
        f"this program supports {schema.LATEST}); upgrade immunos-mcp, and restart clients that run it"
    )
    with InlineSqliteLedger(file) as inline, pytest.raises(LedgerError) as refused:
        run_sync(inline.write(reset_session, "default", NOW, None))
    assert str(refused.value) == words
    async with ThreadedSqliteLedger(file) as threaded:
        with pytest.raises(LedgerError) as refused:
            await threaded.write(reset_session, "default", NOW, None)
    assert str(refused.value) == words
    assert contents(file.parent) == before


def test_a_ledger_that_becomes_newer_while_it_waits_to_migrate_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer(file, "wal")
    before = wire.dump(file)
    monkeypatch.setattr(schema, "LATEST", 0)
    with pytest.raises(LedgerError, match="upgrade immunos-mcp"):
        opened(file)
    assert wire.dump(file) == before


def others(file: Path) -> list[str]:
    return [statement for statement in wire.dump(file) if "immunos_mcp_" not in statement]


def test_a_file_of_an_earlier_immunos_opens_and_its_settings_hold(file: Path) -> None:
    wire.execute(file, *OLD_IMMUNOS)
    with InlineSqliteLedger(file) as ledger:
        assert run_sync(ledger.read(effective_settings)) == replace(
            Settings(),
            token_warning_threshold=100_000,
            token_auto_switch_threshold=120_000,
            task_mappings={"code_review": "codellama:13b", "poetry": "llama3:8b"},
        )
        router = Router(ledger, "default")
        assert run_sync(router.route_task("code review", "creative")).model == "codellama:13b"
        assert run_sync(router.route_task("debug", "creative")).model == "claude-sonnet-4.5"
        run_sync(router.record_usage("claude-x", 100_000, 0))
        assert run_sync(router.route_task("poetry", "routine")).reason == "token_budget_warning"


def test_all_else_in_a_file_of_an_earlier_immunos_is_left_alone(file: Path) -> None:
    wire.execute(file, *OLD_IMMUNOS)
    before = others(file)
    opened(file)
    assert others(file) == before
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default")
        answer = run_sync(router.route_task("debug", "routine"))
        run_sync(router.record_usage("claude-x", 1, 1, decision_id=answer.decision_id))
        run_sync(router.reset_session("why"))
    assert others(file) == before
    assert wire.rows(file, "PRAGMA user_version") == [(7,)]
    assert wire.rows(file, "PRAGMA application_id") == [(1234,)]


def test_a_setting_changed_in_a_file_of_an_earlier_immunos_is_read_by_its_scripts(
    file: Path,
) -> None:
    wire.execute(file, *OLD_IMMUNOS)
    with InlineSqliteLedger(file) as ledger:
        changes = {"token_warning_threshold": 90_000, "task_mappings": {"debug": "m:1"}}
        run_sync(ledger.write(change_settings, changes, "test", NOW))
    stored = {key: value for key, value, _ in wire.rows(file, "SELECT * FROM settings")}
    assert json.loads(stored.pop("task_mappings")) == {
        "code_review": "codellama:13b",
        "poetry": "llama3:8b",
        "debug": "m:1",
    }
    assert stored == {
        "token_warning_threshold": "90000",
        "token_auto_switch_threshold": "120000",
        "theme": "dark",
    }


def test_an_empty_file_becomes_a_ledger(file: Path) -> None:
    file.touch()
    opened(file)
    assert versions(file) == list(range(1, schema.LATEST + 1))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_the_folder_and_every_file_are_for_their_owner_alone(tmp_path: Path, mask: int) -> None:
    file = tmp_path / "new" / "db" / "ledger.db"
    before = os.umask(mask)
    try:
        with InlineSqliteLedger(file) as ledger:
            run_sync(ledger.write(reset_session, "default", NOW, None))
            modes = {entry.name: mode(entry) for entry in file.parent.iterdir()}
    finally:
        os.umask(before)
    assert mode(file.parent) == 0o700
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    opened(folder / "ledger.db")
    assert (mode(folder), mode(folder / "ledger.db")) == (0o755, 0o600)


OPEN_AND_RECORD = """
import sys
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

print("ready", flush=True)
sys.stdin.readline()
with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    print(run_sync(Router(ledger, "default").record_usage("claude-x", 1, 0)).session_tokens)
raise SystemExit
"""


@pytest.mark.parametrize("kind", ["missing", "old"])
def test_sixteen_processes_open_a_new_ledger_at_once(home: Path, kind: str) -> None:
    file = wire.ledger_path(home)
    if kind == "old":
        file.parent.mkdir(parents=True)
        wire.execute(file, *OLD_IMMUNOS)
    processes = [
        subprocess.Popen(
            [*warm_starts.running(OPEN_AND_RECORD), str(file)],
            env=wire.environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(16)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    done = [subprocess_end(process) for process in start_together(processes)]
    assert sorted(done) == sorted((0, f"{tokens}\n", "") for tokens in range(1, 17))
    assert versions(file) == list(range(1, schema.LATEST + 1))
    wire.assert_sound(file)


def start_together(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def subprocess_end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=wire.TIMEOUT_SECONDS)
    return process.returncode, out, err


def test_a_ledger_holds_what_it_was_given_in_the_columns_that_say_so(file: Path) -> None:
    task = Task("debug", Classification.ROUTINE, 5)
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default", lambda: NOW)
        decision = run_sync(router.route_task(task.task_type, "routine", 5))
        usage = Usage("m:1", TokenCounts(1, 2, 3, 4), "r1", decision.decision_id, None)
        run_sync(ledger.write(record_usage, "default", NOW, usage, "reported"))
    moment = "2026-03-01T12:00:00.000Z"
    assert wire.rows(file, "SELECT * FROM immunos_mcp_decision") == [
        (
            1, 1, 1, moment, "debug", "routine", 5, 0, "qwen2.5-coder:7b", "ollama",
            "task_optimized", "normal", None, None, None, None, None, None,
            None, None, None, None, 0, 0, 0, 0, None, None, None, None, None, None, None, None, None, None, None,
            None, None, None, None,
        )
    ]  # fmt: skip
    assert wire.rows(file, "SELECT * FROM immunos_mcp_usage") == [
        (1, 1, moment, "m:1", "ollama", "reported", "r1", 1, 2, 3, 4, 1, 1, None, None)
    ]
    ((policy,),) = wire.rows(file, "SELECT settings FROM immunos_mcp_policy")
    assert json.loads(policy)["token_warning_threshold"] == 150_000


def test_decisions_under_the_same_settings_share_one_policy_row_and_others_get_their_own(
    file: Path,
) -> None:
    with InlineSqliteLedger(file) as ledger:
        router = Router(ledger, "default")
        for limit in (300_000, 300_000, 400_000, 300_000):
            run_sync(router.update_config({"session_limit": limit}, "test"))
            run_sync(router.route_task("debug", "routine"))
    policies = dict(wire.rows(file, "SELECT policy_id, settings FROM immunos_mcp_policy"))
    used_by = wire.rows(file, "SELECT policy_id FROM immunos_mcp_decision ORDER BY decision_id")
    assert [json.loads(policies[policy])["session_limit"] for (policy,) in used_by] == [
        300_000,
        300_000,
        400_000,
        300_000,
    ]
    assert len(policies) == 2


def test_migrations_are_frozen() -> None:
    digests = tuple(
        hashlib.sha256("\0".join(statements).encode()).hexdigest() for statements in schema.STEPS
    )
    assert digests[: len(FROZEN)] == FROZEN, "a step has changed that ledgers have already applied"
    assert len(digests) == len(FROZEN), "add the digest of the new step to FROZEN"


def test_migrations_only_add_so_that_a_server_of_an_older_version_can_go_on() -> None:
    adding = re.compile(
        r"CREATE (TABLE|INDEX|UNIQUE INDEX) immunos_mcp_\w+\b"
        # Sums that nothing older looks at, and what keeps them whoever writes.
        r"|INSERT INTO immunos_mcp_other_usage .* SELECT|CREATE TRIGGER immunos_mcp_other_usage_"
        r"|ALTER TABLE immunos_mcp_\w+ ADD COLUMN \w+ (TEXT|INTEGER|REAL)( NOT NULL DEFAULT .+)?$"
    )
    for statement in itertools.chain.from_iterable(schema.STEPS[1:]):
        words = " ".join(statement.split())
        assert adding.match(words), words


OLDER = """
import sys
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    router = Router(ledger, "default")
    for number in (1, 2):
        run_sync(router.record_usage("claude-x", number, 0))
        print(run_sync(router.get_session_status()).session_tokens, flush=True)
        sys.stdin.readline()
"""


def test_a_program_that_has_the_ledger_open_goes_on_after_a_newer_one_migrated_it(
    file: Path,
) -> None:
    older = subprocess.Popen(
        (sys.executable, "-c", OLDER, str(file)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with older:
        assert older.stdin is not None
        assert older.stdout is not None
        assert older.stdout.readline() == "1\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "STEPS", (*schema.STEPS, NEXT_STEP))
            patch.setattr(schema, "LATEST", schema.LATEST + 1)
            with InlineSqliteLedger(file) as ledger:
                run_sync(Router(ledger, "default").record_usage("claude-x", 10, 0))
        older.stdin.write("\n")
        older.stdin.flush()
        assert older.stdout.readline() == "13\n"
    assert older.returncode == 0
