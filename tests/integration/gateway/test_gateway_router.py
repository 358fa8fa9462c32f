"""The use cases of a joined team, against its real server: who decides, and what arrives there once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest
import wire
from desks import CODER
from http_servers import ANYWHERE, serving
from msgspec.structs import replace
from ollama_server import Script, scripted_ollama

from immunos_mcp.archive import Archive
from immunos_mcp.delegation.request import DelegationRequest
from immunos_mcp.delegation.tasks import AWAY, Delegations
from immunos_mcp.domain import Outcome, Provider, TokenCounts
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.several import Engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.errors import InvalidInputError, LedgerError, NotAllowedError
from immunos_mcp.gateway.connection import NotUnderstoodError, TeamAwayError, TeamConnection
from immunos_mcp.gateway.membership import write_token
from immunos_mcp.gateway.router import GatewayRouter
from immunos_mcp.gateway.team import CallRefusedError, Team
from immunos_mcp.gateway_messages import LARGEST_REQUEST
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.joined_team import JoinedTeam, join_team, leave_team, waiting_for_team
from immunos_mcp.ledger.session_start import open_session
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.people import People
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from immunos_mcp.gateway_messages import GatewayReply
    from immunos_mcp.ledger.dialect import Connection

pytestmark = pytest.mark.anyio

WITH_TOKENS = ANYWHERE._replace(needs_tokens=True)
SUMS = """
    SELECT count(*), sum(input_tokens), sum(output_tokens), sum(cache_read_input_tokens)
    FROM immunos_mcp_measured_usage
"""


def now() -> datetime:
    return datetime.now(UTC)


class Wire:
    """The connection to a server, which a test can cut, and whose answers it can lose."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = TeamConnection(url, token)
        self.asked = 0
        self.is_cut = False
        self.loses_answers = False

    async def ask(self, body: bytes, seconds: float) -> GatewayReply:
        self.asked += 1
        if self.is_cut:
            raise TeamAwayError("cut")
        reply = await self._connection.ask(body, max(seconds, wire.TIMEOUT_SECONDS))
        if self.loses_answers:
            raise TeamAwayError("the answer was lost")
        return reply

    async def close(self) -> None:
        await self._connection.close()


class Developer:
    """A developer's ledger that has joined a team.

    Attributes:
        ledger: the ledger.
        wire: the connection to the team's server.
        passed: how much later it is than the clock says.
        team: what the use cases ask.
        router: the use cases.
    """

    def __init__(self, ledger: InlineSqliteLedger, url: str, token: str) -> None:
        self.ledger = ledger
        self.passed = timedelta(0)
        self.url = url
        self.wire = Wire(url, token)
        token_file = ledger.path.with_name("token")
        write_token(token_file, token)
        run_sync(ledger.write(open_session, "default", now() - timedelta(minutes=30)))
        self.join()
        self.team = Team(
            ledger, token_file, lambda _url, _token: self.wire, lambda: ("claude-code",), self.clock
        )
        self.router = GatewayRouter(self.team, ledger, "default", self.clock)

    def join(self) -> None:
        hour_ago = now() - timedelta(hours=1)
        team = JoinedTeam("g", self.url, "default", "ada", now(), hour_ago, sends_labels=True)
        run_sync(self.ledger.write(join_team, team))

    def clock(self) -> datetime:
        return now() + self.passed

    def log(self, number: int, tokens: int = 10) -> None:
        """Log a response, or that it has grown."""
        usage = MeasuredUsage(
            f"m{number}", now(), "claude-sonnet-4-5", tokens, tokens, folder="/home/ada/webshop"
        )
        run_sync(self.ledger.write(ingest, [usage]))

    @property
    def waiting(self) -> int:
        found = run_sync(self.ledger.read(waiting_for_team))
        assert found is not None
        return found.rows


@pytest.fixture
def server_file(tmp_path: Path) -> Path:
    (tmp_path / "server").mkdir()
    return tmp_path / "server" / "ledger.db"


@asynccontextmanager
async def developers(
    server_file: Path, *names: str, role: str = "member"
) -> AsyncGenerator[list[Developer]]:
    tokens: list[str] = []
    with InlineSqliteLedger(server_file) as ledger:
        people = People(ledger)
        for name in names:
            run_sync(people.add(name, role))
            tokens.append(run_sync(people.create_token(name, "test", None)).token)
    async with serving(server_file, WITH_TOKENS) as served:
        made: list[Developer] = []
        for name, token in zip(names, tokens, strict=True):
            file = server_file.parent.with_name(name) / "ledger.db"
            file.parent.mkdir()
            made.append(Developer(InlineSqliteLedger(file), served.url, token))
        try:
            yield made
        finally:
            for each in made:
                each.ledger.close()
                with anyio.CancelScope(shield=True):
                    await each.team.close()


async def test_two_developers_have_one_budget(server_file: Path) -> None:
    async with developers(server_file, "ada", "bob") as (ada, bob):
        ada.log(1, 95_000)
        first = await ada.router.route_task("planning", "creative")
        assert (first.session_tokens, first.offline) == (190_000, None)
        # Bob has used nothing himself.
        second = await bob.router.route_task("planning", "creative")
        assert (second.session_tokens, second.provider) == (190_000, Provider.OLLAMA)
        assert second.reason == "token_budget_exceeded"
        status = await bob.router.get_session_status()
        assert (status.session_tokens, status.measured_tokens) == (190_000, 190_000)
        # Each has numbers of its own for the team's decisions.
        assert (first.decision_id, second.decision_id) == (1, 1)
        recorded = await bob.router.record_usage(
            second.model, 70, 7, decision_id=second.decision_id, outcome="success"
        )
        assert recorded.kept_local_tokens == 77
    outcomes = "SELECT decision_id, outcome FROM immunos_mcp_decision ORDER BY decision_id"
    assert wire.rows(server_file, outcomes) == [(1, None), (2, "success")]


async def test_usage_arrives_once_though_answers_are_lost_and_requests_repeated(
    server_file: Path,
) -> None:
    async with developers(server_file, "ada") as (ada,):
        ada.log(1)
        ada.wire.loses_answers = True
        decided_here = await ada.router.route_task("debug", "routine")
        assert decided_here.offline
        ada.log(2)
        ada.log(1, 30)
        ada.passed = timedelta(minutes=1)
        reported = await ada.router.record_usage("claude-x", 5, 5)
        assert (reported.offline, reported.session_tokens) == (True, 90)
        ada.wire.loses_answers = False
        ada.passed = timedelta(minutes=2)
        decided = await ada.router.route_task("debug", "routine")
        assert decided.offline is None
        # What was reported is told with the next report, under the same id as before.
        told = await ada.router.record_usage("claude-x", 1, 1)
        assert told.session_tokens == 92
        assert ada.waiting == 0
        own, theirs = (wire.rows(file, SUMS) for file in (ada.ledger.path, server_file))
        assert own == theirs == [(2, 40, 40, 0)]
        reports = "SELECT count(*), sum(input_tokens) FROM immunos_mcp_usage"
        assert wire.rows(server_file, reports) == [(2, 6)]


async def test_a_server_that_is_away_is_not_asked_again_for_half_a_minute(
    server_file: Path,
) -> None:
    async with developers(server_file, "ada") as (ada,):
        ada.wire.is_cut = True
        for _ in range(3):
            answer = await ada.router.route_task("debug", "routine")
            assert (answer.offline, answer.session_tokens) == (True, 0)
        assert ada.wire.asked == 1
        # A look at the status does not ask either, and shows this ledger's own figures.
        assert (await ada.router.get_session_status()).offline
        with pytest.raises(TeamAwayError, match="is asked again soon"):
            await ada.router.reset_session()
        assert ada.wire.asked == 1
        ada.log(1)
        # Until it is sent, it counts here.
        assert (await ada.router.route_task("debug", "routine")).session_tokens == 20
        ada.wire.is_cut = False
        ada.passed = timedelta(seconds=31)
        back = await ada.router.route_task("debug", "routine")
        assert (back.offline, back.session_tokens, ada.waiting) == (None, 20, 0)
        replayed = "SELECT count(*), count(team_decision_id) FROM immunos_mcp_decision"
        assert wire.rows(ada.ledger.path, replayed) == [(5, 1)]


@pytest.mark.parametrize("ask", ["route", "status"])
async def test_what_was_reported_meanwhile_is_told_before_the_next_question(
    server_file: Path, ask: str
) -> None:
    async with developers(server_file, "ada") as (ada,):
        decided = await ada.router.route_task("debug", "routine")
        ada.wire.is_cut = True
        await ada.router.record_usage("claude-x", 7, 0)
        await ada.router.outcomes.close(decided.decision_id, "success")
        ada.wire.is_cut = False
        ada.passed = timedelta(minutes=1)
        if ask == "route":
            answer = await ada.router.route_task("debug", "routine")
        else:
            answer = await ada.router.get_session_status()
        assert (answer.offline, answer.session_tokens, ada.waiting) == (None, 7, 0)
    outcomes = "SELECT outcome FROM immunos_mcp_decision WHERE decision_id = 1"
    assert wire.rows(server_file, outcomes) == [("success",)]


async def test_many_reports_do_not_make_a_server_that_answers_look_away(
    server_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with developers(server_file, "ada") as (ada,):
        ada.wire.is_cut = True
        for number in range(3):
            await ada.router.record_usage("claude-x", number, 1)
        ada.wire.is_cut = False
        ada.passed = timedelta(minutes=1)
        monkeypatch.setattr("immunos_mcp.gateway.team.CALL_SECONDS", 0.0)
        for waiting in (3, 3):
            assert (await ada.router.get_session_status()).offline is None
            assert ada.waiting == waiting
        monkeypatch.undo()
        assert (await ada.router.get_session_status()).session_tokens == 3 + 3
        assert ada.waiting == 0


async def test_a_ledger_that_cannot_be_written_hides_no_figures_of_the_team(
    server_file: Path,
) -> None:
    async with developers(server_file, "eve", role="lead") as (eve,):
        eve.log(1)
        await eve.router.record_usage("claude-x", 7, 0)
        eve.log(2)
        await make_read_only(eve.ledger)
        status = await eve.router.get_session_status()
        assert (status.offline, status.session_tokens, eve.waiting) == (None, 47, 1)
        await make_read_only(eve.ledger)
        changed = await eve.router.update_config({"session_limit": 500_000}, "test")
        assert (changed.settings["session_limit"], eve.waiting) == (500_000, 1)
        await make_read_only(eve.ledger)
        with pytest.raises(LedgerError, match=r"cannot be written"):
            await eve.router.route_task("debug", "routine")
        await make_read_only(eve.ledger)
        eve.wire.is_cut = True
        assert (await eve.router.get_session_status()).offline
        eve.wire.is_cut = False
        assert await eve.team.push_all() == 0
        assert (eve.waiting, wire.rows(server_file, SUMS)) == (0, [(2, 20, 20, 0)])


async def make_read_only(ledger: InlineSqliteLedger) -> None:
    """Let the next write fail; after that, the ledger is opened again."""

    def run(connection: Connection) -> None:
        connection.execute("PRAGMA query_only = ON")

    await ledger._run(run)  # pyright: ignore[reportPrivateUsage]  # no transaction


async def test_a_decision_of_a_team_that_was_left_is_not_the_next_team_s(
    server_file: Path,
) -> None:
    async with developers(server_file, "ada") as (ada,):
        left = await ada.router.route_task("debug", "routine")
        follows = (await ada.router.route_task("debug", "routine")).decision_id
        run_sync(ada.ledger.write(leave_team))
        words = "the server of a team that this ledger has left made it"
        with pytest.raises(InvalidInputError, match=words):
            await Archive(ada.ledger).explain_decision(left.decision_id)
        # The next team has a decision of that number, too.
        ada.join()
        await ada.router.outcomes.close(left.decision_id, "failure")
        await ada.router.record_usage("claude-x", 7, 1, decision_id=follows, outcome="failure")
        own = await ada.router.decide_task("debug", "routine", follows=follows, tried=("tiny",))
        assert not own.is_by_team
        assert ada.waiting == 0
    assert wire.rows(server_file, "SELECT outcome FROM immunos_mcp_decision") == [(None,), (None,)]
    reported = "SELECT input_tokens, decision_id FROM immunos_mcp_usage"
    assert wire.rows(server_file, reported) == [(7, None)]


async def test_what_a_role_does_not_allow_is_refused_and_nothing_is_done_here_instead(
    server_file: Path,
) -> None:
    async with developers(server_file, "ada") as (ada,):
        with pytest.raises(CallRefusedError, match="a member may only try changes with dry_run"):
            await ada.router.update_config({"session_limit": 500_000}, "test")
        with pytest.raises(CallRefusedError, match="a member may reset only"):
            await ada.router.reset_session("mine")
        tried = await ada.router.update_config({"session_limit": 500_000}, "test", dry_run=True)
        assert tried.dry_run
        assert (await ada.router.get_config()).session_limit == 200_000
        sessions = "SELECT count(*) FROM immunos_mcp_session WHERE ended_at IS NOT NULL"
        assert wire.rows(ada.ledger.path, sessions) == [(0,)]
        assert wire.rows(ada.ledger.path, "SELECT count(*) FROM settings") == [(0,)]


async def test_a_lead_changes_the_team_s_settings_and_session(server_file: Path) -> None:
    async with developers(server_file, "eve", role="lead") as (eve,):
        changed = await eve.router.update_config(
            {"session_limit": 500_000, "task_mappings": {"debug": None}}, "test"
        )
        assert changed.settings["session_limit"] == 500_000
        theirs = await eve.router.get_config()
        assert (theirs.session_limit, "debug" in theirs.task_mappings) == (500_000, False)
        unset = await eve.router.unset_config(("session_limit",), "test")
        assert unset.changes["session_limit"].after == 200_000
        eve.log(1)
        assert (await eve.router.get_session_status()).session_tokens == 20
        done = await eve.router.reset_session("new day")
        assert done.closed_tokens == 20
        assert (await eve.router.get_session_status()).session_tokens == 0


async def test_what_an_assistant_reports_of_itself_is_not_counted_beside_its_logs(
    server_file: Path,
) -> None:
    async with developers(server_file, "ada") as (ada,):
        ada.log(1)
        # Its own server knows that its logs are read.
        ada.router.is_measured = lambda client: client.startswith("claude-code")  # pyright: ignore[reportAttributeAccessIssue]
        answer = await ada.router.record_usage("claude-x", 10, 10, client="claude-code 2.1.332")
        assert (answer.counted, answer.session_tokens) == (False, 20)
        assert wire.rows(server_file, "SELECT count(*) FROM immunos_mcp_usage") == [(0,)]


async def test_a_request_that_is_too_large_says_how_much_a_proxy_must_let_pass(
    server_file: Path,
) -> None:
    async with developers(server_file, "ada") as (ada,):
        with pytest.raises(NotUnderstoodError, match="a proxy before it must let 2 MiB pass"):
            await ada.wire.ask(b" " * (LARGEST_REQUEST + 1), wire.TIMEOUT_SECONDS)


async def test_a_token_that_was_revoked_says_what_to_do(server_file: Path) -> None:
    async with developers(server_file, "ada") as (ada,):
        wire.execute(server_file, "UPDATE immunos_mcp_token SET revoked_at = created_at")
        words = r"does not accept the token.*run `immunos-mcp join http://127.0.0.1:\d+` again"
        with pytest.raises(NotAllowedError, match=words):
            await ada.router.route_task("debug", "routine")
        ada.ledger.path.with_name("token").unlink()
        with pytest.raises(NotAllowedError, match="is missing"):
            await ada.router.route_task("debug", "routine")


async def test_a_task_that_a_local_model_did_reaches_the_team(server_file: Path) -> None:
    async with developers(server_file, "ada") as (ada,):
        first = await ada.router.decide_task("debug", "routine")
        assert first.is_by_team
        number = first.answer.decision_id
        await ada.router.handover.record(
            first.answer.model, TokenCounts(70, 7), number, Outcome.FAILURE, in_file=True
        )
        # The next model is the team's to choose, too.
        second = await ada.router.decide_task(
            "debug", "routine", follows=number, tried=(first.answer.model,)
        )
        assert second.answer.offline is None
        tasks = "SELECT decision_id, source, input_tokens, result_in_file FROM immunos_mcp_usage"
        assert wire.rows(server_file, tasks) == [(1, "delegated", 70, 1)]
        followed = "SELECT follows, tried FROM immunos_mcp_decision ORDER BY decision_id"
        expected = [(None, None), (1, first.answer.model)]
        assert wire.rows(server_file, followed) == expected
        assert wire.rows(ada.ledger.path, followed) == expected


async def test_a_task_is_handed_over_here_by_the_team_s_mapping_and_told_to_the_team(
    server_file: Path,
) -> None:
    with InlineSqliteLedger(server_file) as ledger:
        mapping = {"task_mappings": {"code_review": f"{CODER},tiny"}}
        await Router(ledger, "default").update_config(mapping, "test")
    script = Script(words=("no", " JSON"), words_of={"tiny:latest": ('{"n":', " 1}")})
    with scripted_ollama(script) as where:
        async with (
            developers(server_file, "ada") as (ada,),
            Engines(Ollama(address(where))) as engines,
            anyio.create_task_group() as tasks,
        ):
            watch = EngineWatch(engines)
            router = GatewayRouter(ada.team, ada.ledger, "default", ada.clock, engine=watch.current)
            delegations = Delegations(router, engines, watch)
            tasks.start_soon(delegations.run)
            request = DelegationRequest(
                prompt="Do it",
                task_type="code_review",
                classification="routine",
                schema={"type": "object", "required": ["n"]},
            )
            done = await delegations.delegate(request, ())
            assert (done.model, done.local_output) == ("tiny", '{"n": 1}')
            ada.wire.is_cut = True
            alone = await delegations.delegate(replace(request, schema=None), ())
            assert AWAY in (alone.message or "")
            tasks.cancel_scope.cancel()
    tried = "SELECT model, follows, tried, outcome FROM immunos_mcp_decision ORDER BY decision_id"
    expected = [(CODER, None, None, "failure"), ("tiny", 1, CODER, "success")]
    assert wire.rows(server_file, tried) == expected
    used = "SELECT model, source FROM immunos_mcp_usage ORDER BY usage_id"
    assert wire.rows(server_file, used) == [(CODER, "delegated"), ("tiny", "delegated")]


async def test_without_labels_nothing_of_a_folder_is_sent(
    server_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with developers(server_file, "ada") as (ada,):
        sent: list[bytes] = []

        async def ask(body: bytes, _seconds: float) -> GatewayReply:
            sent.append(body)
            raise TeamAwayError("away")

        monkeypatch.setattr(ada.wire, "ask", ask)
        router = GatewayRouter(
            ada.team, ada.ledger, "default", ada.clock, folder="/home/ada/webshop"
        )
        ada.log(1)
        await router.route_task("debug", "routine")
        wire.execute(
            ada.ledger.path,
            "UPDATE immunos_mcp_joined_team SET sends_labels = 0, failed_at = NULL",
        )
        await router.route_task("debug", "routine")
    with_labels, without = sent
    assert with_labels.count(b"webshop") == 2
    assert b"webshop" not in without
    assert b"/home" not in with_labels


async def test_a_row_that_no_server_takes_does_not_hold_up_the_others(server_file: Path) -> None:
    async with developers(server_file, "ada") as (ada,):
        run_sync(
            ada.ledger.write(ingest, [MeasuredUsage("x" * 300, now(), "claude-sonnet-4-5", 1)])
        )
        ada.log(1)
        assert (await ada.router.route_task("debug", "routine")).offline is None
        assert (ada.waiting, wire.rows(server_file, SUMS)) == (0, [(1, 10, 10, 0)])


async def test_a_long_absence_is_made_up_for_in_parts(
    server_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immunos_mcp.gateway.team.MOST_RESPONSES", 2)
    async with developers(server_file, "ada") as (ada,):
        for number in range(5):
            ada.log(number)
        assert await ada.team.push_all() == 5
        assert (ada.waiting, ada.wire.asked) == (0, 3)
