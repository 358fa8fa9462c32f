"""What other assistants used since a session began is what the log says, however it came about."""

from __future__ import annotations

import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import examples
import postgresql_server
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import Session, TokenCounts
from immunos_mcp.ledger import other_usage, schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.sqlite_file import mark_versions
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.other_usage import tokens_of_others
from immunos_mcp.ledger.pruning import prune
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.dialect import Connection

    Step = Callable[[Connection], object]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASSISTANTS = ("claude-code", "codex", "gemini-cli")
FOLDERS = (None, "/a", "/a/b", "/ab")
BEFORE = next(
    version
    for version in range(schema.LATEST)
    if other_usage.TABLE in schema.made(version + 1).columns
)
"""The last version without sums."""

minutes = st.integers(0, 400)


def response(
    number: int, minute: int, used: int, assistant: str, folder: str | None, is_named: bool
) -> MeasuredUsage:
    at = NOON + timedelta(minutes=minute, milliseconds=minute % 3)
    # Some have their request's id until a line with their own is read.
    message = f"m{number}" if is_named else f"r{number}"
    return MeasuredUsage(
        message, at, "gpt-5", used, 1, folder=folder, assistant=assistant, request_id=f"r{number}"
    )


responses = st.builds(
    response,
    st.integers(0, 12),
    minutes,
    st.integers(0, 1000),
    st.sampled_from(ASSISTANTS),
    st.sampled_from(FOLDERS),
    st.booleans(),
)


def read(some: list[MeasuredUsage]) -> Step:
    return lambda connection: ingest(connection, some)


def pruned(days: int) -> Step:
    return lambda connection: prune(connection, NOON + timedelta(days=days))


steps = st.lists(
    st.lists(responses, min_size=1, max_size=5).map(read) | st.sampled_from([1, 3]).map(pruned),
    min_size=1,
    max_size=8,
)


def by_log(connection: Connection, session: Session) -> dict[str, TokenCounts]:
    """Add up the log itself."""
    rows = connection.execute(
        "SELECT assistant, folder, input_tokens, output_tokens FROM immunos_mcp_measured_usage"
        " WHERE assistant <> 'claude-code' AND measured_at >= ?",
        (utc_text(session.started_at or NOON),),
    )
    found: dict[str, TokenCounts] = {}
    for assistant, folder, used, written in rows:
        if session.folder is None or f"{folder}/".startswith(f"{session.folder}/"):
            known = found.get(assistant, TokenCounts())
            found[assistant] = known + TokenCounts(used, written)
    return found


def agree(connection: Connection, minute: int) -> None:
    for folder in FOLDERS:
        begin = NOON + timedelta(minutes=minute)
        session = Session(1, "default", begin, folder=folder)
        assert tokens_of_others(connection, session) == by_log(connection, session)


@examples.on_ledgers
@given(steps, minutes)
def test_what_others_used_is_what_the_log_says(done: list[Step], minute: int) -> None:
    def work(connection: Connection) -> None:
        for step in done:
            step(connection)
            agree(connection, minute)

    with (
        tempfile.TemporaryDirectory() as folder,
        InlineSqliteLedger(Path(folder, "l.db")) as ledger,
    ):
        run_sync(ledger.write(work))


@pytest.mark.parametrize("responses_read", [1, 39, 40, 41, 80, 95])
def test_any_number_of_responses_is_stored_once_and_summed_up(
    tmp_path: Path, responses_read: int
) -> None:
    # They are stored several at once, and the rest one by one.
    found = [
        response(number, number, number, ASSISTANTS[number % 3], "/a", True)
        for number in range(responses_read)
    ]

    def work(connection: Connection) -> list[tuple[str, int, str]]:
        assert ingest(connection, found) == responses_read
        agree(connection, 0)
        return connection.execute(
            "SELECT message_id, input_tokens, assistant FROM immunos_mcp_measured_usage"
        ).fetchall()

    with InlineSqliteLedger(tmp_path / "l.db") as ledger:
        stored = run_sync(ledger.write(work))
    assert sorted(stored) == sorted(
        (each.message_id, each.input_tokens, each.assistant) for each in found
    )


SOME = [
    response(number, 7 * number, number, assistant, folder, True)
    for number, (assistant, folder) in enumerate(
        (assistant, folder) for assistant in ASSISTANTS for folder in FOLDERS
    )
]
GROWN = [each._replace(input_tokens=5000) for each in SOME[::2]]


def store_row(connection: Connection, usage: MeasuredUsage) -> None:
    """Store a response as every version of the program can."""
    connection.execute(
        "INSERT INTO immunos_mcp_measured_usage (message_id, measured_at, model, provider, folder,"
        " assistant, input_tokens, output_tokens, cache_creation_input_tokens,"
        " cache_read_input_tokens) VALUES (?, ?, ?, 'hosted', ?, ?, ?, ?, 0, 0)",
        (
            usage.message_id,
            utc_text(usage.at),
            usage.model,
            usage.folder,
            usage.assistant,
            usage.input_tokens,
            usage.output_tokens,
        ),
    )


def goes_on(ledger: Ledger) -> None:
    """Look at what was stored, let some of it grow, and look again."""

    def work(connection: Connection) -> None:
        agree(connection, 30)
        ingest(connection, GROWN)
        agree(connection, 30)
        prune(connection, NOON + timedelta(days=3))
        agree(connection, 30)

    run_sync(ledger.write(work))


def test_an_earlier_ledger_is_summed_up_once(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with closing(schema.empty(BEFORE, str(file))) as earlier:
        mark_versions(earlier, BEFORE)
        for usage in SOME:
            store_row(earlier, usage)  # type: ignore[arg-type]  # all that it needs
    with InlineSqliteLedger(file) as ledger:
        goes_on(ledger)


@pytest.mark.postgres
def test_teams_of_an_earlier_database_are_summed_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from immunos_mcp.ledger.connections.postgresql import Acting, InlinePostgresqlLedger
    from immunos_mcp.ledger.connections.postgresql_migration import add_team, migrate

    latest, address = schema.LATEST, postgresql_server.empty_database()
    monkeypatch.setattr(schema, "LATEST", BEFORE)
    migrate(address)
    acting = [Acting(1), Acting(add_team(address, "blue"))]
    for each, some in zip(acting, (SOME, SOME[:-2]), strict=True):
        with InlinePostgresqlLedger(address, each) as ledger:

            def fill(connection: Connection, some: list[MeasuredUsage] = some) -> None:
                connection.execute("SET LOCAL immunos.noting = off")
                for usage in some:
                    store_row(connection, usage)

            run_sync(ledger.write(fill))
    monkeypatch.setattr(schema, "LATEST", latest)
    server = postgresql_server.as_server(address)
    for each in acting:
        with InlinePostgresqlLedger(server, each) as ledger:
            goes_on(ledger)
