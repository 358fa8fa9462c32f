"""A ledger that cannot be used: clear words, nothing changed, and work again once it is mended.

Each failure goes through both ledgers, the command line and the server.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_ledgers
import pytest
import warm_starts
import wire
from ledger_operations import DECISION, NOW, OPERATIONS, TASK
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from transcript_lines import Answer, append, transcript

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.domain import (
    TokenCounts,
    Usage,
)
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.ledger.reported_usage import record_usage
from immunos_mcp.ledger.session_snapshots import session_snapshot
from immunos_mcp.router import Router
from immunos_mcp.server.app import build_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

    from immunos_mcp.ledger.connections.sqlite import SqliteLedger
    from immunos_mcp.ledger.dialect import Connection

    Mend = Callable[[], None]
    Break = Callable[[Path], Mend]

SHORT_TIMEOUT_SECONDS = 0.05
PAGE = 4096

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("route", "--task-type", "debug", "--classification", "routine"),
    ("record", "--model", "claude-x", "--input", "1", "--output", "2"),
    ("status",),
    ("reset",),
    ("config", "get"),
    ("config", "set", "session_limit=300000"),
    ("history",),
)
CALLS: dict[str, dict[str, object]] = {
    "route_task": {"task_type": "debug", "classification": "routine"},
    "record_usage": {"model": "claude-x", "input_tokens": 1, "output_tokens": 2},
    "get_session_status": {},
    "reset_session": {},
    "update_config": {"session_limit": 300_000},
}


@pytest.fixture(autouse=True)
def _ledgers_are_copied() -> None:
    """Make ledgers as the program does, not as other tests do."""


def populate(file: Path, records: int = 3) -> None:
    made_ledgers.put(file, populated(records))


@cache
def populated(records: int) -> bytes:
    def fill(ledger: InlineSqliteLedger) -> None:
        router = Router(ledger, "default")
        run_sync(router.update_config({"claude_model": "claude-opus-4.6"}, "test"))
        for number in range(records):
            run_sync(router.route_task("debug", "routine"))
            run_sync(router.record_usage("claude-x", number, 1, request_id=f"request-{number}"))

    return made_ledgers.made_by(fill)


def snapshot(file: Path) -> object:
    """Return what is on the disk: a folder's names, or the file and its log where it has one."""
    if file.is_dir():
        return sorted(entry.name for entry in file.iterdir())
    return {
        name: file.with_name(name).read_bytes()
        for name in (file.name, f"{file.name}-wal")
        if file.with_name(name).exists() and file.with_name(name).stat().st_size
    }


def put_folder(file: Path) -> Mend:
    file.mkdir(parents=True)
    return file.rmdir


def put_text(file: Path) -> Mend:
    file.parent.mkdir(parents=True)
    file.write_text("Dear diary, this is no database at all.\n" * 200)
    return file.unlink


def put_folder_that_is_a_file(file: Path) -> Mend:
    file.parent.parent.mkdir(parents=True)
    file.parent.write_text("no folder")
    return file.parent.unlink


def put_newer(file: Path) -> Mend:
    populate(file)
    newer = schema.LATEST + 1
    wire.execute(file, f"INSERT INTO immunos_mcp_schema_version VALUES ({newer}, '2030-01-01')")
    return lambda: wire.execute(
        file, f"DELETE FROM immunos_mcp_schema_version WHERE version = {newer}"
    )


BROKEN: dict[str, tuple[Break, str]] = {
    "a folder": (put_folder, "is a folder; choose a file with --db or IMMUNOS_DB"),
    "not a database": (
        put_text,
        "is not a SQLite database; choose another file with --db or IMMUNOS_DB",
    ),
    "in a folder that is a file": (put_folder_that_is_a_file, "cannot be created or opened"),
    "newer than the program": (
        put_newer,
        f"was written by a newer immunos-mcp (ledger version {schema.LATEST + 1}, ",
    ),
}


@pytest.fixture(params=BROKEN, ids=lambda name: name.replace(" ", "_"))
def broken(request: pytest.FixtureRequest, ledger_file: Path) -> tuple[Path, Mend, str]:
    make, words = BROKEN[request.param]
    return ledger_file, make(ledger_file), f"ledger {ledger_file} {words}"


@pytest.fixture(params=["inline", "threaded"])
async def ledger(request: pytest.FixtureRequest, ledger_file: Path) -> AsyncGenerator[SqliteLedger]:
    if request.param == "inline":
        with InlineSqliteLedger(ledger_file, SHORT_TIMEOUT_SECONDS) as inline:
            yield inline
    else:
        async with ThreadedSqliteLedger(ledger_file, SHORT_TIMEOUT_SECONDS) as threaded:
            yield threaded


@pytest.fixture
async def client(ledger_file: Path) -> AsyncGenerator[Client]:
    async with ThreadedSqliteLedger(ledger_file, SHORT_TIMEOUT_SECONDS) as ledger:
        server, _ = build_server(Router(ledger, "default"), "default")
        async with Client(server, mode="legacy", raise_exceptions=True) as connected:
            yield connected


async def refusal(client: Client, tool: str) -> str:
    result = await client.call_tool(tool, CALLS[tool])
    assert (result.is_error, result.structured_content) == (True, None)
    (content,) = result.content
    assert content.type == "text"
    return content.text


async def works(client: Client) -> None:
    for tool, arguments in CALLS.items():
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content


def one_line(text: str, start: str) -> None:
    assert text.startswith(start)
    assert "Traceback" not in text
    assert text.count("\n") <= 1


def drive(ledger: SqliteLedger) -> list[Coroutine[Any, Any, object]]:
    """Run the operations that need no decision in the ledger, and leave none out of its totals."""
    others = {"close_decision", "record_outcome", "logged_decision", "prune"}
    each = [operation for name, operation in OPERATIONS.items() if name not in others]
    return [it.on(ledger, NOW + timedelta(minutes=after)) for after, it in enumerate(each)]


@pytest.mark.anyio
async def test_every_operation_on_a_broken_ledger_says_what_is_wrong_and_changes_nothing(
    broken: tuple[Path, Mend, str], ledger: SqliteLedger
) -> None:
    file, _, words = broken
    before = snapshot(file)
    for operation in drive(ledger):
        with pytest.raises(LedgerError) as refused:
            await operation
        one_line(str(refused.value), words)
        assert snapshot(file) == before


@pytest.mark.anyio
async def test_a_ledger_that_was_mended_is_used_at_the_next_call(
    broken: tuple[Path, Mend, str], ledger: SqliteLedger
) -> None:
    _, mend, words = broken
    with pytest.raises(LedgerError) as refused:
        await OPERATIONS["decide"].on(ledger)
    one_line(str(refused.value), words)
    mend()
    for operation in drive(ledger):
        await operation


def test_every_command_on_a_broken_ledger_fails_with_one_clear_line(
    broken: tuple[Path, Mend, str], home: Path
) -> None:
    file, mend, words = broken
    before = snapshot(file)
    for command in COMMANDS:
        done = wire.run(home, *command)
        assert (done.returncode, done.stdout) == (1, "")
        one_line(done.stderr, f"immunos-mcp: {words}")
        assert snapshot(file) == before
    mend()
    assert wire.run(home, *COMMANDS[0]).returncode == 0


@pytest.mark.anyio
async def test_every_tool_on_a_broken_ledger_answers_with_a_clear_error_and_works_once_mended(
    broken: tuple[Path, Mend, str], client: Client
) -> None:
    file, mend, words = broken
    before = snapshot(file)
    for tool in CALLS:
        one_line(await refusal(client, tool), words)
        assert snapshot(file) == before
    assert len((await client.list_tools()).tools) == 5
    mend()
    await works(client)


@pytest.mark.anyio
async def test_a_resource_of_a_broken_ledger_is_an_error_in_words(
    broken: tuple[Path, Mend, str], client: Client
) -> None:
    _, mend, words = broken
    for uri in ("immunos://status", "immunos://config", "immunos://sessions/a/status"):
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
        one_line(refused.value.message, words)
    mend()
    await client.read_resource("immunos://status")


FAIL_TO_OPEN = """
import asyncio, sys
from pathlib import Path
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.ledger.stored_settings import effective_settings

async def fail() -> None:
    async with ThreadedSqliteLedger(Path(sys.argv[1])) as ledger:
        try:
            await ledger.read(effective_settings)
        except LedgerError:
            return

for _ in range(300):
    asyncio.run(fail())
"""


def test_a_server_that_ends_after_a_failed_opening_ends_without_a_traceback(home: Path) -> None:
    done = wire.run(home, str(home), program=(sys.executable, "-c", FAIL_TO_OPEN))
    assert (done.returncode, done.stderr) == (0, "")


DAMAGED = "is damaged; run `immunos-mcp doctor --repair`, which keeps a copy"


def damage_a_page(file: Path) -> None:
    """Overwrite the page that the table of decisions starts at."""
    ((page,),) = wire.rows(
        file, "SELECT rootpage FROM sqlite_schema WHERE name = 'immunos_mcp_decision'"
    )
    whole = bytearray(file.read_bytes())
    whole[(page - 1) * PAGE : page * PAGE] = b"\xa5" * PAGE
    file.write_bytes(whole)


def damage_text(file: Path) -> None:
    wire.execute(file, "UPDATE immunos_mcp_decision SET task_type = CAST(x'ff41' AS TEXT)")


def damage_word(file: Path) -> None:
    wire.execute(file, "UPDATE immunos_mcp_decision SET reason = 'no such reason'")


def damage_time(file: Path) -> None:
    wire.execute(file, "UPDATE immunos_mcp_decision SET decided_at = 'once upon a time'")


def damage_schema(file: Path) -> None:
    """Overwrite some of the text that the tables are made from."""
    whole = file.read_bytes()
    at = whole.index(b"CREATE TABLE immunos_mcp_decision")
    file.write_bytes(whole[: at + 8] + b"\xfb\xae\xff\x00" + whole[at + 12 :])


DAMAGES = (damage_a_page, damage_text, damage_word, damage_time, damage_schema)


@pytest.fixture(params=DAMAGES, ids=lambda damage: damage.__name__)
def damaged_file(request: pytest.FixtureRequest, ledger_file: Path) -> Path:
    populate(ledger_file, records=300)
    request.param(ledger_file)
    return ledger_file


def restore(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        file.with_name(name).unlink(missing_ok=True)
    populate(file)


@pytest.mark.anyio
async def test_a_damaged_ledger_is_refused_in_words_by_what_meets_the_damage(
    damaged_file: Path, ledger: SqliteLedger
) -> None:
    before = snapshot(damaged_file)
    with pytest.raises(LedgerError) as refused:
        await OPERATIONS["newest_decisions"].on(ledger)
    one_line(str(refused.value), f"ledger {damaged_file} {DAMAGED}")
    assert snapshot(damaged_file) == before


def test_operations_on_a_damaged_ledger_work_or_fail_in_words(damaged_file: Path) -> None:
    with InlineSqliteLedger(damaged_file) as ledger:
        for operation in OPERATIONS.values():
            try:
                run_sync(operation.on(ledger))
            except LedgerError as error:
                one_line(str(error), f"ledger {damaged_file} {DAMAGED}")


def test_a_command_that_meets_damage_fails_with_one_clear_line(
    damaged_file: Path, home: Path
) -> None:
    before = snapshot(damaged_file)
    done = wire.run(home, "history", "--limit", "1000")
    assert (done.returncode, done.stdout) == (1, "")
    one_line(done.stderr, f"immunos-mcp: ledger {damaged_file} {DAMAGED}")
    assert snapshot(damaged_file) == before


@pytest.mark.anyio
async def test_a_tool_that_meets_damage_says_so_and_the_server_works_with_the_restored_copy(
    damaged_file: Path, client: Client
) -> None:
    rehearsal = {"session_limit": 300_000, "dry_run": True}
    result = await client.call_tool("update_config", rehearsal)
    assert result.is_error
    (content,) = result.content
    assert content.type == "text"
    one_line(content.text, f"ledger {damaged_file} {DAMAGED}")
    restore(damaged_file)
    assert not (await client.call_tool("update_config", rehearsal)).is_error
    await works(client)
    assert len(wire.rows(damaged_file, "SELECT * FROM immunos_mcp_decision")) == 4


@contextmanager
def held(file: Path) -> Generator[sqlite3.Connection]:
    """Hold the lock for writing, as another program would."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO settings VALUES ('theirs', 'x', 'now')")
        yield connection


LOCKED = "is locked by another program; try again, or stop that program"


@pytest.mark.anyio
async def test_a_ledger_locked_while_it_is_made_says_that_it_is_locked(
    ledger_file: Path, ledger: SqliteLedger
) -> None:
    ledger_file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(ledger_file, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (a)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError) as refused:
            await OPERATIONS["decide"].on(ledger)
        one_line(str(refused.value), f"ledger {ledger_file} {LOCKED}")
    await OPERATIONS["decide"].on(ledger)


@pytest.mark.anyio
async def test_a_tool_says_that_the_ledger_is_locked_and_works_once_it_is_not(
    ledger_file: Path, client: Client
) -> None:
    populate(ledger_file)
    before = wire.dump(ledger_file)
    with held(ledger_file):
        for tool in CALLS:
            if tool == "get_session_status":
                assert not (await client.call_tool(tool, {})).is_error
            else:
                one_line(await refusal(client, tool), f"ledger {ledger_file} {LOCKED}")
    assert wire.dump(ledger_file) == before
    await works(client)


def test_a_new_ledger_is_made_once_whoever_holds_its_file_lets_go(ledger_file: Path) -> None:
    ledger_file.parent.mkdir(parents=True)
    with (
        closing(sqlite3.connect(ledger_file, isolation_level=None)) as other,
        InlineSqliteLedger(ledger_file, wire.TIMEOUT_SECONDS) as ledger,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("CREATE TABLE theirs (a)")
        other.execute("BEGIN IMMEDIATE")
        decided = pool.submit(run_sync, OPERATIONS["decide"].on(ledger))
        with pytest.raises(TimeoutError):
            decided.result(0.2)
        other.execute("ROLLBACK")
        logged = LoggedDecision(1, "default", NOW, TASK, DECISION, None)
        assert decided.result(wire.TIMEOUT_SECONDS) == logged


UNMEASURED = ("env", "-u", "COVERAGE_PROCESS_START", "-u", "COVERAGE_PROCESS_CONFIG")
"""Coverage writes files too, and cannot where the program may not."""


def at_once(preparation: str, *, serving: bool = False) -> tuple[str, ...]:
    """Return what ``launched`` does, forked where that can be; for what may follow the imports."""
    is_measured = any(name.startswith("COVERAGE_") for name in os.environ)
    if is_measured or not hasattr(os, "pidfd_open"):
        return launched(preparation, serving=serving)
    return warm_starts.command(f"import os, resource\n{preparation}\n{GIVE_UP_RIGHTS}")


GIVE_UP_RIGHTS = """
if 'user' in globals() and os.getuid() == 0:
    os.setgroups([]), os.setgid(user), os.setuid(user)
"""


def launched(preparation: str, *, serving: bool = False) -> tuple[str, ...]:
    """Return a command that prepares its process and then is the program.

    What it imports is imported before it gives up rights that reading the imports may need.
    """
    code = (
        "import argparse, os, resource, sys\n"
        "argparse.ArgumentParser().add_subparsers()\n"
        "argparse.ArgumentParser().format_help()\n"
        "from immunos_mcp.cli.program import MODULES, find\n"
        "from immunos_mcp.ledger.connections import sqlite\n"
        f"{preparation}\n"
        "import immunos_mcp.cli.serving, immunos_mcp.cli.status_line\n"
        f"{'import immunos_mcp.server.app' if serving else '[find(name) for name in MODULES]'}\n"
        "from immunos_mcp.cli.main import main\n"
        f"{GIVE_UP_RIGHTS}"
        "raise SystemExit(main())\n"
    )
    return (*UNMEASURED, sys.executable, "-c", code)


IMPATIENT = launched(f"sqlite.BUSY_TIMEOUT_SECONDS = {SHORT_TIMEOUT_SECONDS}")
NOBODY = "user = 65534; import gettext, locale, shutil"


def small_disk(size: int) -> tuple[str, ...]:
    return at_once(f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))")


def test_a_command_on_a_locked_ledger_fails_with_one_clear_line(
    ledger_file: Path, home: Path
) -> None:
    populate(ledger_file)
    before = wire.dump(ledger_file)
    with held(ledger_file):
        done = wire.run(home, *COMMANDS[1], program=IMPATIENT)
    assert (done.returncode, done.stdout) == (1, "")
    one_line(done.stderr, f"immunos-mcp: ledger {ledger_file} {LOCKED}")
    assert wire.dump(ledger_file) == before


def test_a_command_waits_for_whoever_is_writing(ledger_file: Path, home: Path) -> None:
    populate(ledger_file)
    with held(ledger_file) as other:
        process = subprocess.Popen(
            [*wire.AS_INSTALLED, *COMMANDS[1]], env=wire.environment(home), stdout=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        other.execute("ROLLBACK")
        out, _ = process.communicate(timeout=wire.TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert out.startswith(b"Recorded. Session 9 tokens, normal.")


@pytest.fixture
def public_file() -> Generator[Path]:
    """A ledger in a folder that every user can come to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "db" / "ledger.db"
        file.parent.mkdir()
        populate(file)
        yield file
        file.parent.chmod(0o700)


def set_modes(file: Path, folder_mode: int, file_mode: int) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        with suppress(FileNotFoundError):
            file.with_name(name).chmod(file_mode)
    file.parent.chmod(folder_mode)


NO_ACCESS = "cannot be (opened; give this user|written; give this user write) access to it and its"
READ_ONLY = pytest.mark.parametrize(
    ("folder_mode", "file_mode", "words"),
    [
        (0o555, 0o444, NO_ACCESS),
        (0o777, 0o444, "cannot be written; give this user write access to it and its folder"),
        (0o777, 0o000, NO_ACCESS),
        (0o000, 0o444, r"cannot be created or opened \(Permission denied\); choose another"),
    ],
    ids=["read-only folder", "read-only file", "unreadable file", "unreadable folder"],
)


@READ_ONLY
def test_a_command_without_the_right_to_write_fails_with_one_clear_line(
    home: Path, public_file: Path, folder_mode: int, file_mode: int, words: str
) -> None:
    before = public_file.read_bytes()
    set_modes(public_file, folder_mode, file_mode)
    done = wire.run(home, *COMMANDS[1], "--db", str(public_file), program=at_once(NOBODY))
    set_modes(public_file, 0o777, 0o666)
    assert (done.returncode, done.stdout) == (1, "")
    one_line(done.stderr, "immunos-mcp: ")
    assert re.match(f"immunos-mcp: ledger {public_file} {words}", done.stderr)
    assert public_file.read_bytes() == before


@pytest.mark.parametrize("command", [("status", "--json"), ("statusline",)])
def test_a_look_without_the_right_to_write_says_what_is_not_counted(
    home: Path, public_file: Path, command: tuple[str, ...]
) -> None:
    wire.execute(public_file, "UPDATE immunos_mcp_session SET ended_at = started_at")
    before = public_file.read_bytes()
    logs = transcript(public_file.parent.parent / "claude" / "projects")
    append(logs, Answer("m1", 12_000, at=datetime.now(UTC)))
    variables = {"CLAUDE_CONFIG_DIR": str(logs.parents[2]), "NO_COLOR": "1"}
    set_modes(public_file, 0o777, 0o444)
    arguments = (*command, "--db", str(public_file))
    done = wire.run(home, *arguments, program=at_once(NOBODY), variables=variables)
    set_modes(public_file, 0o777, 0o666)
    assert (done.returncode, done.stderr) == (0, "")
    if command == ("statusline",):
        assert done.stdout == "not counting yet · 12k measured today\n"
    else:
        shown = json.loads(done.stdout)
        assert (shown["uncounted_tokens"], shown.get("measured_tokens")) == (12_000, None)
        one_line(shown["not_counting"], f"ledger {public_file} cannot be written; give this user")
    assert public_file.read_bytes() == before


@pytest.mark.anyio
async def test_a_look_that_finds_the_disk_full_says_what_is_not_counted(
    ledger_file: Path, ledger: SqliteLedger, tmp_path: Path
) -> None:
    file = transcript(tmp_path / "projects")
    append(file, *(Answer(f"a long id {number} {'x' * 150}", 1, at=NOW) for number in range(500)))
    follower = Follower(ledger, TranscriptFolders((tmp_path / "projects",), FORMAT))
    router = Router(ledger, "new", clock=lambda: NOW, follower=follower)

    def fill(connection: Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await ledger._run(fill)  # pyright: ignore[reportPrivateUsage]  # no transaction
    status = await router.get_session_status()
    assert status.not_counting is not None
    one_line(status.not_counting, f"ledger {ledger_file} cannot grow: the disk is full")


@READ_ONLY
def test_a_server_without_the_right_to_write_says_so_and_works_once_it_has_it(
    home: Path, public_file: Path, folder_mode: int, file_mode: int, words: str
) -> None:
    before = public_file.read_bytes()
    set_modes(public_file, folder_mode, file_mode)
    program = at_once(NOBODY, serving=True)
    with wire.ServerProcess(home, "--db", str(public_file), program=program) as server:
        server.initialize()
        for tool in ("record_usage", "route_task"):
            text = server.refusal(tool, **CALLS[tool])
            one_line(text, "ledger ")
            assert re.match(f"ledger {public_file} {words}", text)
        set_modes(public_file, 0o777, 0o666)
        assert public_file.read_bytes() == before
        assert server.answer("record_usage", **CALLS["record_usage"])["session_tokens"] == 9
        assert server.finish() == 0


@pytest.mark.anyio
async def test_a_write_that_finds_the_disk_full_says_so_and_changes_nothing(
    ledger_file: Path, ledger: SqliteLedger
) -> None:
    populate(ledger_file)

    def fill(connection: Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await ledger._run(fill)  # pyright: ignore[reportPrivateUsage]  # no transaction
    refused = None
    before = wire.dump(ledger_file)
    for number in range(1000):
        before = wire.dump(ledger_file)
        usage = Usage("claude-x", TokenCounts(1), f"a long request id {number} {'x' * 150}")
        try:
            await ledger.write(record_usage, "default", NOW, usage, "reported")
        except LedgerError as error:
            refused = str(error)
            break
    words = f"ledger {ledger_file} cannot grow: the disk is full; free some space and try again"
    one_line(refused or "", words)
    assert wire.dump(ledger_file) == before
    await ledger.read(session_snapshot, "default", NOW)
    for operation in drive(ledger):
        await operation
    wire.assert_sound(ledger_file)


NO_SPACE = "cannot be read or written; check the disk and its free space, then retry"


def test_a_command_on_a_full_disk_fails_with_one_clear_line(home: Path, ledger_file: Path) -> None:
    populate(ledger_file)
    before = wire.dump(ledger_file)
    done = wire.run(home, *COMMANDS[1], program=small_disk(2 * PAGE))
    assert (done.returncode, done.stdout) == (1, "")
    one_line(done.stderr, f"immunos-mcp: ledger {ledger_file} {NO_SPACE}")
    assert wire.dump(ledger_file) == before


def test_a_ledger_that_could_not_be_made_for_a_full_disk_is_made_when_there_is_space(
    home: Path, ledger_file: Path
) -> None:
    done = wire.run(home, *COMMANDS[1], program=small_disk(10 * PAGE))
    assert (done.returncode, done.stdout) == (1, "")
    one_line(done.stderr, f"immunos-mcp: ledger {ledger_file} {NO_SPACE}")
    assert wire.rows(ledger_file, "SELECT name FROM sqlite_schema") == []
    assert wire.run_json(home, *COMMANDS[1])["session_tokens"] == 3


def test_a_server_on_a_full_disk_loses_nothing_it_answered_and_works_once_there_is_space(
    home: Path, ledger_file: Path
) -> None:
    populate(ledger_file)
    with wire.ServerProcess(home, program=small_disk(64 * PAGE)) as server:
        server.initialize()
        answered = [3]
        failure: wire.JsonObject = {}
        for _ in range(1000):
            result = server.call("route_task", **CALLS["route_task"])
            if result["isError"]:
                failure = result
                break
            answered.append(result["structuredContent"]["decision_id"])
        one_line(failure["content"][0]["text"], f"ledger {ledger_file} {NO_SPACE}")
        assert len(answered) > 5
        assert answered == list(range(3, 3 + len(answered)))
        stored = wire.rows(ledger_file, "SELECT max(decision_id) FROM immunos_mcp_decision")
        assert stored == [(answered[-1],)]
        server.answer("get_session_status")
        wire.execute(ledger_file, "PRAGMA wal_checkpoint (TRUNCATE)")
        answer = server.answer("route_task", **CALLS["route_task"])
        assert answer["decision_id"] == answered[-1] + 1
        assert server.finish() == 0
    wire.assert_sound(ledger_file)
