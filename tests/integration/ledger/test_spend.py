"""The sums of budgets' windows are those of the log, however it came about."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from examples import on_ledgers
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import TokenCounts, Usage
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.of_person import LedgerOfPerson
from immunos_mcp.ledger.ingestion import ingest, ingest_requests
from immunos_mcp.ledger.pruning import prune
from immunos_mcp.ledger.reported_usage import record_usage
from immunos_mcp.ledger.spend import (
    NO_END,
    Scope,
    Spent,
    read_spent,
    refresh,
    spent_in,
)
from immunos_mcp.ledger.spend_triggers import triggers
from immunos_mcp.logged_usage import MeasuredUsage, RequestUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.dialect import Connection

    Step = Callable[[Connection, list[Scope]], object]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOLDERS = (None, "/a", "/a/b", "/ab", "shop")
ASSISTANTS = ("claude-code", "codex")
MODELS = ("claude-sonnet-4-5", "gpt-5.6", "a-model-nobody-knows")

minutes = st.integers(0, 600)
numbers = st.integers(0, 30)
tokens = st.integers(0, 400_000)
persons = st.sampled_from((None, 1, 2))


def response(
    number: int,
    minute: int,
    model: str,
    used: int,
    folder: str | None,
    assistant: str,
    speed: str | None,
) -> MeasuredUsage:
    at = NOON + timedelta(minutes=minute)
    return MeasuredUsage(
        f"m{number}",
        at,
        model,
        used,
        folder=folder,
        request_id=f"r{number}",
        assistant=assistant,
        speed=speed,
    )


def request(number: int, minute: int, used: int) -> RequestUsage:
    at = NOON + timedelta(minutes=minute)
    return RequestUsage(f"r{number}", at, MODELS[0], TokenCounts(used))


def scope(ends: list[str], assistant: str, folder: str, person: int) -> Scope:
    return Scope(min(ends), max(ends), assistant, folder, person)


def open_scope(start: str) -> Scope:
    return Scope(start, NO_END)


responses = st.builds(
    response,
    numbers,
    minutes,
    st.sampled_from(MODELS),
    tokens,
    st.sampled_from(FOLDERS),
    st.sampled_from(ASSISTANTS),
    st.sampled_from([None, "fast"]),
)
edges = st.integers(0, 700).map(
    lambda minute: (NOON + timedelta(minutes=minute - 30)).isoformat()[:19] + ".000Z"
)
scopes = st.builds(
    scope,
    st.lists(edges, min_size=2, max_size=2, unique=True),
    st.sampled_from(["", *ASSISTANTS]),
    st.sampled_from(["", "/a", "shop"]),
    persons.map(lambda person: person or 0),
) | st.builds(open_scope, edges)


def measure(some: list[MeasuredUsage]) -> Step:
    return lambda connection, _: ingest(connection, some)


def ask(some: list[RequestUsage]) -> Step:
    return lambda connection, _: ingest_requests(connection, some)


def record(minute: int) -> Step:
    usage, at = Usage(MODELS[0], TokenCounts(7, 8, 9, 10)), NOON + timedelta(minutes=minute)
    return lambda connection, _: record_usage(connection, "default", at, usage, "reported")


def by(person: int | None, step: Step) -> Step:
    def acting(connection: Connection, known: list[Scope]) -> None:
        connection.person_id = person
        step(connection, known)
        connection.person_id = None

    return acting


def look(connection: Connection, known: list[Scope]) -> None:
    refresh(connection)
    spent_in(connection, known)


stored = st.one_of(
    st.lists(responses, min_size=1, max_size=4).map(measure),
    st.lists(st.builds(request, numbers, minutes, tokens), min_size=1, max_size=2).map(ask),
    minutes.map(record),
)
steps = st.lists(st.builds(by, persons, stored) | st.just(look), max_size=10)


def anew(connection: Connection, known: list[Scope]) -> list[Spent]:
    """Return the sums of a ledger that begins to count only now."""
    connection.execute("DELETE FROM immunos_mcp_person_spend_revision")
    found = read_spent(connection, known)
    return [found[scope] for scope in known]


@on_ledgers
@given(steps, st.lists(scopes, min_size=1, max_size=4))
def test_sums_that_follow_changes_are_the_sums_of_the_log(
    done: list[Step], known: list[Scope]
) -> None:
    def work(connection: Connection) -> None:
        refresh(connection)
        for step in done:
            step(connection, known)
        seen = read_spent(connection, known)
        assert read_spent(connection, known) == seen
        refresh(connection)
        found = spent_in(connection, known)
        assert found == seen == spent_in(connection, known)
        kept = [found[scope] for scope in known]
        from_log = anew(connection, known)
        # Groups without a price are counted by quarter of an hour, so an edge may count one twice.
        assert [each[:5] for each in kept] == [each[:5] for each in from_log]
        assert [each[5] > 0 for each in kept] == [each[5] > 0 for each in from_log]

    with (
        tempfile.TemporaryDirectory() as folder,
        InlineSqliteLedger(Path(folder, "l.db")) as ledger,
    ):
        run_sync(ledger.write(work))


def test_what_an_earlier_program_summed_up_is_taken_over_and_goes_on(tmp_path: Path) -> None:
    later = MeasuredUsage("m2", NOON, MODELS[0], 20)
    of_ada = MeasuredUsage("m3", NOON + timedelta(hours=1), MODELS[0], 300)
    everybody_s = Scope("2026-03-01T00:00:00.000Z", "2026-04-01T00:00:00.000Z")
    hers = everybody_s._replace(person_id=1)

    def as_earlier(connection: Connection) -> None:
        counts = "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens"
        columns = f"{counts}, nanodollars, unpriced"
        connection.execute("DELETE FROM immunos_mcp_person_spend_total WHERE person_id <> 0")
        for name, key in (
            ("spend", "quarter_at, assistant, folder"),
            ("spend_stale", "quarter_at"),
            ("spend_total", "starts_at, ends_at, assistant, folder"),
            ("spend_revision", "revision_id, revision"),
        ):
            shown = f"{key}, {columns}" if name in {"spend", "spend_total"} else key
            connection.execute(
                f"INSERT INTO immunos_mcp_{name} SELECT {shown} FROM immunos_mcp_person_{name}"
            )
            connection.execute(f"DELETE FROM immunos_mcp_person_{name}")
        for trigger in triggers():
            connection.drop_trigger(trigger.name)
            name, note = (
                each.replace("_by_person", "").replace("_person_", "_")
                for each in (trigger.name, trigger.statement)
            )
            connection.ensure_trigger(name, trigger.event, trigger.table, note)

    def summed(connection: Connection) -> list[int]:
        refresh(connection)
        found = spent_in(connection, [everybody_s, hers])
        return [found[everybody_s].input_tokens, found[hers].input_tokens]

    with InlineSqliteLedger(tmp_path / "l.db") as ledger:
        run_sync(ledger.write(ingest, [MeasuredUsage("m1", NOON, MODELS[0], 1)]))
        run_sync(ledger.write(summed))
        run_sync(ledger.write(as_earlier))
        run_sync(ledger.write(ingest, [later]))
        run_sync(LedgerOfPerson(ledger, 1).write(ingest, [of_ada]))
        assert run_sync(ledger.write(summed)) == [321, 300]
        run_sync(ledger.write(ingest, [MeasuredUsage("m4", NOON, MODELS[0], 1000)]))
        assert run_sync(ledger.write(summed)) == [1321, 300]

        def left(connection: Connection) -> int:
            return connection.execute(
                "SELECT (SELECT count(*) FROM immunos_mcp_spend_stale)"
                " + (SELECT count(*) FROM immunos_mcp_spend)"
            ).fetchone()[0]

        assert run_sync(ledger.read(left)) == 0


def test_a_request_whose_response_is_found_later_counts_there_alone(tmp_path: Path) -> None:
    later = NOON + timedelta(hours=1)
    asked = RequestUsage("r", NOON, MODELS[0], TokenCounts(500))
    answered = MeasuredUsage("m", later, MODELS[0], 1000, request_id="r")
    spans = [Scope("2026-03-01T12:00:00.000Z", f"2026-03-01T{end}:00:00.000Z") for end in (13, 15)]

    def counted(connection: Connection) -> list[int]:
        refresh(connection)
        found = spent_in(connection, spans)
        return [found[span].input_tokens for span in spans]

    with InlineSqliteLedger(tmp_path / "l.db") as ledger:
        run_sync(ledger.write(ingest_requests, [asked]))
        assert run_sync(ledger.write(counted)) == [500, 500]
        run_sync(ledger.write(ingest, [answered]))
        assert run_sync(ledger.write(counted)) == [0, 1000]


def test_what_is_pruned_still_counts(tmp_path: Path) -> None:
    usage = MeasuredUsage("m", NOON, MODELS[0], 1000)
    march = Scope("2026-03-01T00:00:00.000Z", "2026-04-01T00:00:00.000Z")
    with InlineSqliteLedger(tmp_path / "l.db") as ledger:
        run_sync(ledger.write(refresh))
        run_sync(ledger.write(ingest, [usage]))
        run_sync(ledger.write(refresh))
        before = run_sync(ledger.write(spent_in, [march]))
        run_sync(ledger.write(prune, NOON + timedelta(days=10)))
        run_sync(ledger.write(refresh))
        assert run_sync(ledger.write(spent_in, [march])) == before
        assert before == {march: Spent(1000, nanodollars=3_000_000)}


def test_nothing_is_noted_where_no_budget_is_set(tmp_path: Path) -> None:
    with InlineSqliteLedger(tmp_path / "l.db") as ledger:
        run_sync(ledger.write(ingest, [MeasuredUsage("m", NOON, MODELS[0], 1000)]))

        def noted(connection: Connection) -> int:
            return connection.execute(
                "SELECT (SELECT count(*) FROM sqlite_schema WHERE name LIKE '%_by_person')"
                " + (SELECT count(*) FROM immunos_mcp_person_spend_stale)"
            ).fetchone()[0]

        assert run_sync(ledger.read(noted)) == 0
