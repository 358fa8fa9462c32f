"""A ledger's files are deleted, moved or replaced while they are open: no record goes into files without a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import pytest
import sdk_clients
import wire
from transcript_desks import BEFORE, Desk
from transcript_lines import NOON, Answer, transcript

from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from immunos_mcp.ledger.connections.sqlite import SqliteLedger

pytestmark = pytest.mark.anyio

READ = """
import json, sqlite3, sys
with sqlite3.connect(sys.argv[1]) as ledger:
    tokens = ledger.execute("SELECT input_tokens FROM immunos_mcp_usage ORDER BY usage_id")
    print(json.dumps([[each for (each,) in tokens], *ledger.execute("PRAGMA integrity_check").fetchone()]))
"""


BACK_UP = """
import sqlite3, sys
sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _ledgers_are_copied() -> None:
    """Make ledgers as the program does, not as other tests do."""


def stored(file: Path) -> tuple[list[int], str]:
    """Read a ledger in another process, as locks and indexes are shared within one."""
    done = subprocess.run(
        (sys.executable, "-c", READ, str(file)),
        check=True,
        capture_output=True,
        text=True,
        timeout=wire.TIMEOUT_SECONDS,
    )
    tokens, soundness = json.loads(done.stdout)
    return tokens, soundness


def back_up(file: Path) -> None:
    """Copy a ledger as SQLite does it, in another process."""
    backup = file.with_name("backup.db")
    command = (sys.executable, "-c", BACK_UP, str(file), str(backup))
    subprocess.run(command, check=True, timeout=wire.TIMEOUT_SECONDS)


def endings(file: Path, *names: str) -> list[str]:
    return [f"{file}{name}" for name in names]


def delete(*names: str) -> Callable[[Path], None]:
    def act(file: Path) -> None:
        for name in endings(file, *names):
            os.remove(name)  # noqa: PTH107  # a name

    return act


def move(*names: str) -> Callable[[Path], None]:
    def act(file: Path) -> None:
        for name in endings(file, *names):
            os.rename(name, name.replace("ledger.db", "old.db"))  # noqa: PTH104  # a name

    return act


def restore_backup(file: Path) -> None:
    """Put an earlier state in place of all files, as a restored backup does."""
    backup = file.with_name("backup.db")
    for name in endings(file, "-wal", "-shm"):
        os.remove(name)  # noqa: PTH107  # a name
    backup.replace(file)


def move_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))


KEPT = {
    "log": delete("-wal"),
    "index": delete("-shm"),
    "log and index": delete("-wal", "-shm"),
}
"""What leaves the database in place: nothing is lost."""
GONE = {
    "database": delete(""),
    "all": delete("", "-wal", "-shm"),
    "database moved": move(""),
    "all moved": move("", "-wal", "-shm"),
    "folder moved": move_folder,
}
"""What leaves no database: another one begins."""


@pytest.fixture(params=[InlineSqliteLedger, ThreadedSqliteLedger], ids=lambda kind: kind.__name__)
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[InlineSqliteLedger | ThreadedSqliteLedger]:
    folder = tmp_path / "folder"
    folder.mkdir()
    async with AsyncExitStack() as stack:
        opened = request.param(folder / "ledger.db")
        if isinstance(opened, ThreadedSqliteLedger):
            yield await stack.enter_async_context(opened)
        else:
            yield stack.enter_context(opened)


async def record(ledger: SqliteLedger, *numbers: int) -> None:
    """Record usage, and read after each, so that both connections are open."""
    router = Router(ledger, "default")
    for number in numbers:
        await router.record_usage("claude-x", number, 0)
        assert (await router.get_session_status()).session_tokens >= number


@pytest.mark.parametrize("event", KEPT)
async def test_what_was_stored_before_is_kept_where_the_database_is(
    ledger: SqliteLedger, event: str
) -> None:
    await record(ledger, 1, 2, 3)
    KEPT[event](ledger.path)
    await record(ledger, 11, 12)
    assert stored(ledger.path) == ([1, 2, 3, 11, 12], "ok")


@pytest.mark.parametrize("event", GONE)
async def test_another_ledger_begins_where_the_database_is_gone(
    ledger: SqliteLedger, event: str
) -> None:
    await record(ledger, 1, 2, 3)
    GONE[event](ledger.path)
    await record(ledger, 11, 12)
    assert stored(ledger.path) == ([11, 12], "ok")


async def test_a_read_is_of_the_file_that_is_there(ledger: SqliteLedger) -> None:
    await record(ledger, 1, 2, 3)
    delete("", "-wal", "-shm")(ledger.path)
    assert (await Router(ledger, "default").get_session_status()).session_tokens == 0


async def test_a_restored_backup_is_gone_on_with(ledger: SqliteLedger) -> None:
    await record(ledger, 1, 2)
    await ledger.compact()
    stored(ledger.path)
    back_up(ledger.path)
    await record(ledger, 3)
    restore_backup(ledger.path)
    await record(ledger, 11)
    assert stored(ledger.path) == ([1, 2, 11], "ok")


async def test_a_link_that_leads_elsewhere_is_followed(
    ledger: SqliteLedger, tmp_path: Path
) -> None:
    file = ledger.path
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    file.parent.rmdir()
    file.parent.symlink_to(tmp_path / "one")
    await record(ledger, 1)
    file.parent.unlink()
    file.parent.symlink_to(tmp_path / "other")
    await record(ledger, 11)
    assert stored(tmp_path / "one" / "ledger.db")[0] == [1]
    assert stored(tmp_path / "other" / "ledger.db") == ([11], "ok")


async def test_what_is_replaced_while_it_is_written_is_not_acknowledged(
    ledger: SqliteLedger,
) -> None:
    await record(ledger, 1)

    def replaced_meanwhile(connection: object) -> None:
        assert connection is not None
        move("", "-wal", "-shm")(ledger.path)

    with pytest.raises(LedgerError, match="nothing was stored in the file that is there now"):
        await ledger.write(replaced_meanwhile)
    await record(ledger, 11)
    assert stored(ledger.path) == ([11], "ok")


async def test_a_ledger_that_cannot_be_made_again_is_an_error_in_words(
    ledger: SqliteLedger,
) -> None:
    await record(ledger, 1)
    shutil.rmtree(ledger.path.parent)
    ledger.path.parent.write_text("in the way", encoding="utf-8")
    with pytest.raises(LedgerError, match="cannot be created or opened"):
        await Router(ledger, "default").record_usage("claude-x", 11, 0)
    ledger.path.parent.unlink()
    await record(ledger, 12)
    assert stored(ledger.path) == ([12], "ok")


def test_measured_usage_comes_back_by_reading_it_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.begin()
    desk.now = NOON + timedelta(hours=1)
    written = transcript(desk.projects)
    written.write_text(f"{Answer('m1', 30).line()}\n", encoding="utf-8")
    assert desk.tokens() == 30
    for name in endings(desk.ledger.path, "", "-wal", "-shm"):
        os.remove(name)  # noqa: PTH107  # a name
    desk.now = BEFORE
    desk.begin()
    desk.now = NOON + timedelta(hours=1)
    assert desk.tokens() == 30


async def test_a_running_server_acknowledges_only_what_the_named_file_has(tmp_path: Path) -> None:
    """At eight moments everything of the ledger is deleted, while four tasks record at once."""
    file = wire.ledger_path(tmp_path)
    acknowledged: set[int] = set()
    async with sdk_clients.connected(tmp_path, "auto") as client:
        for round_ in range(8):
            acknowledged.clear()

            async def call(number: int) -> None:
                arguments = {"model": "claude-x", "input_tokens": number, "output_tokens": 0}
                answer = await client.call_tool("record_usage", arguments)
                if not answer.is_error:
                    acknowledged.add(number)

            for number in range(round_ * 100, round_ * 100 + 9):
                await call(number + 1)
            delete("", "-wal", "-shm")(file)
            acknowledged.clear()
            async with anyio.create_task_group() as calls:
                for number in range(4):
                    calls.start_soon(call, round_ * 100 + 50 + number)
            tokens, soundness = stored(file)
            assert (set(tokens), soundness) == (acknowledged, "ok")
            assert len(tokens) == len(acknowledged) == 4
