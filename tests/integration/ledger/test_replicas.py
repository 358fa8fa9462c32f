"""Several servers on one database: nothing is lost or counted twice, whatever goes away meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import postgresql_server
import pytest

from immunos_mcp.domain import TokenCounts
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.history import replay
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.pruning import prune
from immunos_mcp.ledger.sessions import newest_sessions
from immunos_mcp.ledger.stored_settings import effective_settings
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.people import People
from immunos_mcp.replay.engine import replay as replayed
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.connections.ledger import ThreadedLedger
    from immunos_mcp.replay.history import History

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

REPLICAS, CALLERS, ROUNDS = 2, 8, 12
MODEL = "claude-sonnet-4.5"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def address() -> DatabaseAddress:
    return postgresql_server.empty_ledger()


async def opened(address: DatabaseAddress, stack: AsyncExitStack) -> ThreadedLedger:
    from immunos_mcp.ledger.connections.postgresql import ThreadedPostgresqlLedger

    return await stack.enter_async_context(ThreadedPostgresqlLedger(address))


async def totals(ledger: ThreadedLedger) -> tuple[TokenCounts, int, int]:
    (found,) = (await ledger.read(newest_sessions, None, 10)).sessions
    return found.session.claude, found.session.usage_records, found.decisions


def differences(history: History) -> tuple[int, int]:
    """Return how many decisions were replayed, and how many of them came out otherwise."""
    alike = [
        (each.past.model, each.past.session_tokens) == (each.choice.model, each.session_tokens)
        for each in replayed(history, history.settings_of)
    ]
    return len(alike), alike.count(False)


async def test_a_log_of_many_callers_through_two_servers_replays_without_a_difference(
    address: DatabaseAddress,
) -> None:
    async def call(router: Router, caller: int) -> None:
        for turn in range(ROUNDS):
            decided = await router.route_task("debug", "routine")
            # Decisions change as the budget fills up, and settings change meanwhile.
            await router.record_usage(
                MODEL, 10, 1, request_id=f"{caller} {turn}", decision_id=decided.decision_id,
                outcome="failure" if caller == 1 else "success",
            )  # fmt: skip
            if turn % 5 == caller % 5:
                await router.update_config({"session_limit": 10_000 + turn}, "test")

    async with AsyncExitStack() as stack:
        ledgers = [await opened(address, stack) for _ in range(REPLICAS)]
        limits = {"token_warning_threshold": 300, "token_auto_switch_threshold": 700}
        await Router(ledgers[0], "default").update_config({**limits, "track_record": "on"}, "test")
        callers = (call(Router(ledgers[it % REPLICAS], "default"), it) for it in range(CALLERS))
        await asyncio.gather(*callers)
        calls = CALLERS * ROUNDS
        assert await totals(ledgers[0]) == (TokenCounts(10 * calls, calls, 0, 0), calls, calls)
        assert await ledgers[1].read(replay, differences) == (calls, 0)


MANY, TURNS, SEED = 32, 3, 20261128


async def test_whatever_many_callers_do_at_once_every_total_stays_exact(
    address: DatabaseAddress,
) -> None:
    shared = [MeasuredUsage(f"shared-{number}", utc_now(), MODEL, 7) for number in range(40)]
    recorded: list[int] = []
    pushed: set[str] = set()

    async def call(ledger: ThreadedLedger, caller: int) -> None:
        router, chance = Router(ledger, "default"), Random(f"{SEED} {caller}")
        for turn in range(TURNS):
            decided = await router.route_task("debug", chance.choice(["routine", "critical"]), 50)
            outcome = chance.choice([None, "success", "failure"])
            await router.record_usage(MODEL, 10, 1, None, None, decided.decision_id, outcome)
            recorded.append(decided.decision_id)
            match chance.choice(["push", "push", "reset", "configure", "prune", "look"]):
                case "push":
                    # What several gateways have, and what was written while others reset the session.
                    own = MeasuredUsage(f"{caller} {turn}", utc_now(), MODEL, 7)
                    responses = [*chance.sample(shared, 5), own]
                    pushed.update(each.message_id for each in responses)
                    await ledger.write(ingest, responses)
                case "reset":
                    await router.reset_session(f"by {caller}")
                case "configure":
                    limit = chance.randrange(1000, 5000)
                    await router.update_config({"token_auto_switch_threshold": limit}, "test")
                case "prune":
                    await ledger.write(prune, utc_now() - timedelta(days=1))
                case _:
                    await router.get_session_status()

    async with AsyncExitStack() as stack:
        ledgers = [await opened(address, stack) for _ in range(REPLICAS)]
        before = Router(ledgers[0], "default", lambda: utc_now() - timedelta(days=3))
        settings = {"token_warning_threshold": 500, "track_record": "on", "reservations": "on"}
        await before.update_config({**settings, "budgets": "daily=1 usd/day"}, "test")
        for _ in range(5):
            await before.route_task("debug", "routine")
            await before.record_usage(MODEL, 10, 1)
        callers = (call(ledgers[it % REPLICAS], it) for it in range(MANY))
        await asyncio.gather(*callers)
        sessions = (await ledgers[0].read(newest_sessions, None, 1000)).sessions
        used = sum((each.session.claude for each in sessions), TokenCounts())
        counts = 5 + len(recorded)
        assert used == TokenCounts(10 * counts + 7 * len(pushed), counts, 0, 0)
        assert sum(each.session.usage_records for each in sessions) == counts + len(pushed)
        assert sum(each.decisions for each in sessions) == counts
        replayed_decisions, different = await ledgers[1].read(replay, differences)
        assert different == 0
        assert replayed_decisions in {len(recorded), counts}


async def test_reservations_of_two_people_keep_their_limits_and_the_team_s_together(
    address: DatabaseAddress,
) -> None:
    chance = random.Random(7)  # another order of calls each time, but the same tasks

    async def work(router: Router, estimates: list[int]) -> None:
        for number, estimate in enumerate(estimates):
            decided = await router.route_task("essay", "creative", estimate)
            if decided.provider == "claude" and number % 2:
                await router.record_usage(MODEL, estimate, 0, decision_id=decided.decision_id)

    async with AsyncExitStack() as stack:
        ledgers = [await opened(address, stack) for _ in range(REPLICAS)]
        for name in ("ada", "bob"):
            await People(ledgers[0]).add(name, "member")
        team = Router(ledgers[0], "default")
        budgets = "own=8000 tokens/day each switch 100; all=15000 tokens/day switch 100"
        await team.update_config({"budgets": budgets, "reservations": "on"}, "test")
        await ledgers[1].read(effective_settings)
        callers = [
            Router(ledger.for_person(person), "default")
            for person in (1, 1, 1, 2)
            for ledger in ledgers
        ]
        some = ([chance.choice((500, 900, 2500)) for _ in range(10)] for _ in callers)
        await asyncio.gather(*(work(*each) for each in zip(callers, some, strict=True)))
        both = (
            "SELECT person_id, sum(tokens) FROM (SELECT person_id, tokens FROM immunos_mcp_reservation"
            " UNION ALL SELECT person_id, input_tokens FROM immunos_mcp_usage) AS t GROUP BY 1"
        )
        taken = dict(postgresql_server.rows(address, both))
        assert taken.keys() == {1, 2}
        assert max(taken.values()) <= 8_000
        # What is left is less than the largest task.
        assert 15_000 - 2500 < sum(taken.values()) <= 15_000
        decisions, changed = await ledgers[0].read(replay, differences)
        assert (decisions, changed) == (len(callers) * 10, 0)


async def test_a_restart_of_the_database_under_load_fails_no_read_and_doubles_nothing(
    address: DatabaseAddress,
) -> None:
    is_over = asyncio.Event()
    slowest = [0.0]
    failures: list[str] = []

    async def watch(router: Router) -> int:
        reads = 0
        while not is_over.is_set():
            await router.get_session_status()
            reads += 1
        return reads

    async def record(router: Router, caller: int) -> int:
        number = 0
        while not is_over.is_set():
            began = time.monotonic()
            try:
                await router.record_usage(MODEL, 10, 1, request_id=f"{caller} {number}")
            except LedgerError as error:
                failures.append(str(error))
            else:
                number += 1
            slowest.append(time.monotonic() - began)
        return number

    async with AsyncExitStack() as stack:
        ledgers = [await opened(address, stack) for _ in range(REPLICAS)]
        routers = [Router(ledger, "default") for ledger in ledgers]
        await asyncio.gather(*(router.get_session_status() for router in routers))
        readers = [asyncio.create_task(watch(router)) for router in routers]
        writers = [asyncio.create_task(record(routers[it % 2], it)) for it in range(4)]
        for _ in range(2):
            await asyncio.to_thread(postgresql_server.restart)
            # Everybody is at work again.
            await asyncio.gather(*(router.get_session_status() for router in routers))
        is_over.set()
        reads, recorded = await asyncio.gather(*readers), sum(await asyncio.gather(*writers))
        assert min(reads) > 0
        assert max(slowest) < 5 + 4  # a busy machine takes longer to restart
        assert all("ledger postgresql:///" in failure for failure in failures), failures
        # What failed was tried again under the same id, so nothing can be there twice or be missing.
        assert await totals(ledgers[0]) == (TokenCounts(10 * recorded, recorded, 0, 0), recorded, 0)
