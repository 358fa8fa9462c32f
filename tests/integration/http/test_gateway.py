"""What developers' own servers push and pass on, counted once, and for whoever's token it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import postgresql_server
import pytest
import wire
from http_servers import ANYWHERE, client_of, connected, put_a_folder_in_place_of, serving
from sdk_clients import answer

from immunos_mcp.domain import EngineState, Outcome, PlanUsage, TokenCounts
from immunos_mcp.gateway_messages import (
    LARGEST_REQUEST,
    PATH,
    GatewayReply,
    GatewayRequest,
    HandedOverTask,
    PassedCall,
    PushedPlanUsage,
    PushedRequest,
    PushedResponse,
    PushedTotal,
    PushedUsage,
    SentEngine,
)
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.logged_usage import (
    ConversationTotal,
    MeasuredUsage,
    ModelTotal,
    PlanReport,
    RequestUsage,
)
from immunos_mcp.people import People

if TYPE_CHECKING:
    import httpx2

    from immunos_mcp.database_address import DatabaseAddress

pytestmark = pytest.mark.anyio

WITH_TOKENS = ANYWHERE._replace(needs_tokens=True)
TASK = {"task_type": "debug", "classification": "routine"}
ASSISTANTS = ("claude-code", "codex")
VERSION = 1
LATELY = datetime.now(UTC) - timedelta(minutes=10)
"""When pushed usage was written; its session is opened by pushing it."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, ledger_file: Path) -> Path | DatabaseAddress:
    if request.param == "sqlite":
        return ledger_file
    return postgresql_server.as_server(postgresql_server.empty_ledger())


def header_of(database: Path | DatabaseAddress, name: str, role: str = "member") -> dict[str, str]:
    with inline_ledger(database) as ledger:
        run_sync(People(ledger).add(name, role))
        token = run_sync(People(ledger).create_token(name, "test", None)).token
    return {"authorization": f"Bearer {token}"}


def response(number: int, **more: Any) -> PushedResponse:
    usage = MeasuredUsage(
        f"msg_{number}",
        LATELY,
        "claude-sonnet-4-5",
        10,
        20,
        0,
        500,
        "/home/ada/webshop",
        f"r{number}",
    )
    return PushedResponse.of(usage._replace(**more))


async def sent(
    client: httpx2.AsyncClient, message: GatewayRequest, header: dict[str, str]
) -> GatewayReply:
    answered = await client.post(PATH, content=msgspec.json.encode(message), headers=header)
    assert answered.status_code == 200, answered.text
    return msgspec.json.decode(answered.content, type=GatewayReply)


def pushing(*responses: PushedResponse, **more: Any) -> GatewayRequest:
    return GatewayRequest(VERSION, ASSISTANTS, PushedUsage(responses), **more)


def calling(tool: Any, arguments: dict[str, Any], **more: Any) -> GatewayRequest:
    return GatewayRequest(VERSION, call=PassedCall(tool, arguments, "claude-code 2.1.332", **more))


async def test_usage_counts_once_whoever_pushes_it_and_before_the_call_is_answered(
    database: Path | DatabaseAddress,
) -> None:
    ada, eve = header_of(database, "ada"), header_of(database, "eve", "lead")
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        whose = (await client.get(PATH, headers=eve)).json()
        assert whose == {"team": "default", "person": "eve", "role": "lead", "version": VERSION}
        status = PassedCall("get_session_status")
        first = await sent(client, pushing(response(1), response(2), call=status), ada)
        assert (first.person, first.role, first.new) == ("ada", "member", 2)
        assert first.answer is not None
        assert first.answer["session_tokens"] == 60
        again = await sent(client, pushing(response(2), response(3), call=status), eve)
        assert (again.new, again.answer and again.answer["session_tokens"]) == (1, 90)
        grown = pushing(response(3, output_tokens=25), call=status)
        assert ((await sent(client, grown, eve)).answer or {})["session_tokens"] == 95


async def test_whoever_knows_an_id_changes_nothing_of_another_person(
    database: Path | DatabaseAddress,
) -> None:
    ada, eve = header_of(database, "ada"), header_of(database, "eve")
    models = (ModelTotal("claude-haiku-4-5", 70), ModelTotal("claude-sonnet-4-5", 10, 20, 0, 500))
    total = ConversationTotal("c1", 1_750_000_000_000, LATELY, models, LATELY)
    more = total._replace(models=(ModelTotal("claude-haiku-4-5", 10**6),))
    nameless = {"message_id": "r9", "request_id": "r9", "conversation": "c1"}
    request = RequestUsage("r1", LATELY, "claude-sonnet-4-5", TokenCounts(10**6), None)
    stolen = (
        PushedUsage(responses=(response(1, input_tokens=10**6, speed="fast"),)),
        PushedUsage(responses=(response(9, input_tokens=10**6),)),
        PushedUsage(requests=(PushedRequest.of(request),)),
        PushedUsage(totals=(PushedTotal.of(more),)),
        PushedUsage(totals=(PushedTotal.of(more._replace(at=datetime.now(UTC))),)),
        PushedUsage(totals=(PushedTotal.of(total._replace(models=(), at=datetime.now(UTC))),)),
    )
    status = PassedCall("get_session_status")
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        own = PushedUsage((response(1), response(2, **nameless)), totals=(PushedTotal.of(total),))
        first = await sent(client, GatewayRequest(VERSION, ASSISTANTS, own, call=status), ada)
        for usage in stolen:
            again = await sent(client, GatewayRequest(VERSION, ASSISTANTS, usage, call=status), eve)
            assert again.new == 0, usage
            assert (again.answer or {})["claude_tokens"] == (first.answer or {})["claude_tokens"]
        # Some gateways give all responses the same id; requests tell them apart, however often they come.
        same = pushing(response(1, request_id="r5"), response(1, request_id="r6"), call=status)
        for new in (2, 0):
            reply = await sent(client, same, eve)
            assert reply.new == new
            assert (reply.answer or {})["session_tokens"] == 60 + 70 + 60
        # The owner's own response still grows.
        grown = pushing(response(1, output_tokens=25), call=status)
        assert ((await sent(client, grown, ada)).answer or {})["session_tokens"] == 195


async def test_whoever_knows_an_id_first_does_not_keep_its_owner_out(
    database: Path | DatabaseAddress,
) -> None:
    eve, ada, bob = (header_of(database, name) for name in ("eve", "ada", "bob"))
    nothing = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}
    request = RequestUsage("r4", LATELY, "claude-sonnet-4-5", TokenCounts(10**6), None)
    total = ConversationTotal(
        "c9", 1_750_000_000_000, LATELY, (ModelTotal("claude-haiku-4-5", 70),), LATELY
    )
    first = PushedUsage(
        (
            response(1, request_id=None, **nothing),
            response(2, request_id="r7", **nothing),
            response(3, request_id=None, conversation="c1", **nothing),
        ),
        (PushedRequest.of(request),),
        (PushedTotal.of(total._replace(start_ms=1, models=(ModelTotal("claude-haiku-4-5"),))),),
    )
    responses = (response(1), response(2), response(3, request_id=None, conversation="c2"))
    usage = PushedUsage((*responses, response(4)), totals=(PushedTotal.of(total),))
    own = GatewayRequest(VERSION, ASSISTANTS, usage, call=PassedCall("get_session_status"))
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        await sent(client, GatewayRequest(VERSION, ASSISTANTS, first), eve)
        for new in (4, 0):
            reply = await sent(client, own, ada)
            assert (reply.new, (reply.answer or {})["session_tokens"]) == (new, 4 * 30 + 70)
        # Two people who read the same logs have the same responses.
        assert (await sent(client, own, bob)).new == 0


async def test_a_member_reports_on_own_decisions_only(database: Path | DatabaseAddress) -> None:
    ada, eve, lea = (header_of(database, *who) for who in (("ada",), ("eve",), ("lea", "lead")))
    judged = {"decision_id": 1, "outcome": "failure"}
    used = {"model": "qwen2.5-coder:7b", "input_tokens": 70, "output_tokens": 7}
    task = HandedOverTask("h1", 1, "qwen2.5-coder:7b", 70, 30, Outcome.FAILURE)
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        await sent(client, calling("route_task", TASK), ada)
        for arguments in (judged, {**judged, **used}, {**used, "decision_id": 1}):
            refused = await sent(client, calling("record_usage", arguments), eve)
            assert "decision 1 is another person's" in (refused.error or ""), arguments
        handed = await sent(client, GatewayRequest(VERSION, handed_over=(task,)), eve)
        assert "decision 1 is another person's" in handed.refused["h1"]
        assert stored(database, "SELECT outcome FROM immunos_mcp_decision") == "[(None,)]"
        assert stored(database, "SELECT count(*) FROM immunos_mcp_usage") == "[(0,)]"
        for header, outcome in ((ada, "success"), (lea, "success")):
            call = calling("record_usage", {"decision_id": 1, "outcome": outcome})
            assert (await sent(client, call, header)).error is None


async def test_request_ids_are_of_the_person_who_reports(database: Path | DatabaseAddress) -> None:
    ada, eve = header_of(database, "ada"), header_of(database, "eve")
    used = {"model": "claude-sonnet-4-5", "input_tokens": 10, "output_tokens": 0}
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        for header, tokens in ((ada, 10), (eve, 20), (ada, 20), (eve, 20)):
            call = calling("record_usage", {**used, "request_id": "1"})
            reply = await sent(client, call, header)
            assert (reply.error, (reply.answer or {})["session_tokens"]) == (None, tokens)
        other = calling("record_usage", {**used, "input_tokens": 11, "request_id": "1"})
        assert "recorded with different usage" in ((await sent(client, other, eve)).error or "")


async def test_all_kinds_of_usage_are_stored_as_those_of_local_logs_are(
    database: Path | DatabaseAddress,
) -> None:
    ada = header_of(database, "ada")
    conversation, start = "c-1", int((LATELY - timedelta(seconds=0.5)).timestamp() * 1000)
    total = ConversationTotal(
        conversation,
        start,
        LATELY,
        (ModelTotal("claude-sonnet-4-5", 100, 200), ModelTotal("claude-haiku-4-5", 1, 2)),
        LATELY,
        "/a/webshop",
    )
    telemetry = RequestUsage("r9", LATELY, "claude-haiku-4-5", TokenCounts(1, 2), conversation)
    plan = PlanReport(LATELY, PlanUsage("five_hour", 41.5, LATELY + timedelta(hours=3)))
    usage = PushedUsage(
        (response(1, conversation=conversation),),
        (PushedRequest.of(telemetry),),
        (PushedTotal.of(total),),
        (PushedPlanUsage.of(plan),),
    )
    message = GatewayRequest(VERSION, ASSISTANTS, usage, call=PassedCall("get_session_status"))
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        reply = await sent(client, message, ada)
        assert reply.answer is not None
        assert reply.new == 2
        # The conversation's total, of which the response is a part, and the request beside it.
        assert reply.answer["session_tokens"] == 100 + 200 + 1 + 2
        assert reply.answer["plan"][0]["used_percentage"] == 41.5
        assert ((await sent(client, message, ada)).answer or {})["session_tokens"] == 303


async def test_a_call_is_decided_with_the_developers_engine_and_label(
    database: Path | DatabaseAddress,
) -> None:
    ada = header_of(database, "ada")
    down = SentEngine(EngineState.DOWN, {})
    up = SentEngine(EngineState.UP, {"qwen2.5-coder:7b": ("qwen2.5-coder:7b", 5, True)})
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        routed = await sent(client, calling("route_task", TASK, engine=up, label="webshop"), ada)
        assert routed.answer is not None
        assert routed.answer["available"] is True
        assert routed.text is not None
        assert routed.logged is not None
        assert routed.settings is None
        asked_in = stored(database, "SELECT folder FROM immunos_mcp_decision")
        assert asked_in == str([("webshop",)])
        asked = calling("route_task", TASK, engine=down, wants_settings=True)
        other = await sent(client, asked, ada)
        assert other.answer is not None
        assert other.answer["model"] == "claude-sonnet-4.5"
        assert other.settings is not None
        assert other.settings["handover"] == "on"
        failed = calling("route_task", TASK, follows=1, tried=("qwen2.5-coder:7b",))
        assert (await sent(client, failed, ada)).logged is not None
        task = HandedOverTask("h1", routed.logged.decision_id, "qwen2.5-coder:7b", 70, 30)
        unknown = HandedOverTask("h2", 99, "qwen2.5-coder:7b")
        handed = GatewayRequest(
            VERSION, handed_over=(task, unknown), call=PassedCall("get_session_status")
        )
        for _ in range(2):
            done = await sent(client, handed, ada)
            assert [*done.refused] == ["h2"]
            assert done.answer is not None
            assert done.answer["kept_local_tokens"] == 100


async def test_a_refused_call_says_why_and_keeps_the_usage(
    database: Path | DatabaseAddress,
) -> None:
    ada = header_of(database, "ada")
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        for tool, arguments, words in (
            ("route_task", {"task_type": "debug"}, "classification: is required"),
            ("reset_session", {}, "a member may reset only"),
            ("update_config", {"session_limit": 5}, "a member may only try changes"),
        ):
            call = calling(tool, arguments).call
            message = GatewayRequest(VERSION, (), PushedUsage((response(1),)), call=call)
            reply = await sent(client, message, ada)
            assert reply.answer is None
            assert words in (reply.error or "")
        figures = (await client.get("/metrics", headers=ada)).text
        of_call = 'failed="yes",method="gateway",team="default",tool="reset_session"'
        assert f"immunos_mcp_calls_total{{{of_call}}} 1.0" in figures
        assert (await sent(client, pushing(response(1)), ada)).new == 0


async def test_what_an_assistant_reports_itself_is_not_counted_beside_what_is_pushed(
    database: Path | DatabaseAddress,
) -> None:
    ada, eve = header_of(database, "ada"), header_of(database, "eve")
    usage = {"model": "claude-sonnet-4-5", "input_tokens": 10, "output_tokens": 20}

    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:

        async def reported(header: dict[str, str], number: int) -> tuple[bool, int]:
            """Report a response over MCP and the next through the gateway."""
            agent = {**header, "user_agent": "claude-code/2.1.332"}
            async with connected(served.url, "legacy", **agent) as direct:
                over_mcp = await answer(direct, "record_usage", **usage, request_id=f"q{number}")
            passed = calling("record_usage", {**usage, "request_id": f"q{number + 1}"})
            through = (await sent(client, passed, header)).answer
            assert through is not None
            assert over_mcp.get("counted") == through.get("counted")
            return over_mcp.get("counted", True), through["session_tokens"]

        await sent(client, pushing(response(1)), ada)
        assert await reported(ada, 1) == (False, 30)
        assert await reported(eve, 3) == (True, 90), "nobody pushes what this person uses"
        other = {**usage, "request_id": "q5"}
        passed = GatewayRequest(VERSION, call=PassedCall("record_usage", other, "somebody 1.0"))
        counted = (await sent(client, passed, ada)).answer
        assert counted is not None
        assert counted["session_tokens"] == 120, "what it uses is in no log that is pushed"
        await sent(client, GatewayRequest(VERSION, leaves=True), ada)
        assert await reported(ada, 6) == (True, 180)


MALFORMED: list[tuple[bytes, int, str]] = [
    (b"", 422, "no JSON"),
    (b"[" * 100_000, 422, "Expected object"),
    (b'{"usage":{}}', 422, "version"),
    (b'{"version":2}', 422, "version: must be 1"),
    (b'{"version":1,"path":"/home/ada"}', 422, "unknown field path"),
    (b'{"version":1,"usage":{"responses":[{"message_id":"m"}]}}', 422, "$.usage.responses[0]"),
    (b'{"version":1,"call":{"tool":"delegate_task"}}', 422, "$.call.tool"),
    (b'{"version":1,"call":{"tool":"route_task","label":"/home/ada"}}', 422, "$.call.label"),
    (b'{"version":1,"call":{"tool":"route_task","engine":{"state":"up"}}}', 422, "$.call.engine"),
    *(
        (b'{"version":1,%s}' % (field % number), 422, words)
        for number in (b"-1", b"9223372036854775808", b"1" + b"0" * 30)
        for field, words in (
            (b'"call":{"tool":"route_task","follows":%s}', "$.call.follows"),
            (b'"handed_over":[{"request_id":"h","decision_id":%s,"model":"m"}]', "decision_id"),
        )
    ),
    (b'{"version":1,"assistants":["a\\u202e"]}', 422, "assistants: must be without invisible"),
    (b" " * (LARGEST_REQUEST + 1), 413, "larger than"),
]
RESPONSE = '{"version":1,"usage":{"responses":[{"message_id":"m","model":"x",%s}]}}'
ODD = (
    '"at":"2026-03-01T12:00:00"',
    '"at":"0001-01-01T00:00:00+14:00"',
    '"at":"9999-12-31T23:59:59-14:00"',
    '"at":"2026-03-01T12:00:00Z","input_tokens":-1',
    '"at":"2026-03-01T12:00:00Z","input_tokens":1e30',
    '"at":"2026-03-01T12:00:00Z","input_tokens":true',
    '"at":"2026-03-01T12:00:00Z","label":"a/b"',
    '"at":"2026-03-01T12:00:00Z","label":"a\\\\b"',
    '"at":"2026-03-01T12:00:00Z","conversation":"a\\u0000"',
    '"at":"2026-03-01T12:00:00Z","text":"a prompt"',
)


async def test_what_is_malformed_is_refused_by_name_and_stores_nothing(ledger_file: Path) -> None:
    ada = header_of(ledger_file, "ada")
    odd = [((RESPONSE % each).encode(), 422, "usage.responses[0]") for each in ODD]
    async with serving(ledger_file, WITH_TOKENS) as served, client_of(served.url) as client:
        for body, status, words in (*MALFORMED, *odd):
            refused = await client.post(PATH, content=body, headers=ada)
            assert (refused.status_code, words in refused.json()["error"]) == (status, True), (
                body[:99],
                refused.text,
            )
        many = pushing(*map(response, range(2001)))
        body = msgspec.json.encode(many)
        assert (await client.post(PATH, content=body, headers=ada)).status_code == 422
        for method in ("GET", "POST"):
            assert (await client.request(method, PATH, content=b"{}")).status_code == 401
        assert (await sent(client, pushing(response(1)), ada)).new == 1


async def test_where_the_ledger_is_away_a_gateway_is_told_to_come_again(ledger_file: Path) -> None:
    ada = header_of(ledger_file, "ada")
    async with serving(ledger_file, WITH_TOKENS) as served, client_of(served.url) as client:
        await sent(client, pushing(), ada)
        put_a_folder_in_place_of(ledger_file)
        body = msgspec.json.encode(pushing(response(1)))
        refused = await client.post(PATH, content=body, headers=ada)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert str(ledger_file) not in refused.text


def exported(*requests: tuple[str, int], **more: Any) -> dict[str, Any]:
    """Return an export of Claude Code's telemetry, of requests with so many input tokens."""
    records = [
        {
            "event.name": "api_request",
            "event.timestamp": LATELY.isoformat(),
            "request_id": request_id,
            "model": "claude-haiku-4-5",
            "input_tokens": tokens,
            "output_tokens": 0,
            "cache_read_tokens": 0,
            "cache_creation_tokens": 0,
            "user.email": "ada@example.com",
            **more,
        }
        for request_id, tokens in requests
    ]
    spelled = [
        [{"key": key, "value": {"stringValue": str(value)}} for key, value in record.items()]
        for record in records
    ]
    logs = [{"attributes": attributes} for attributes in spelled]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}


async def test_telemetry_adds_the_requests_that_no_log_has(
    database: Path | DatabaseAddress,
) -> None:
    ada = header_of(database, "ada")
    status = PassedCall("get_session_status", {}, "claude-code 2.1.332")
    usage = {"model": "claude-sonnet-4-5", "input_tokens": 1, "output_tokens": 1}
    async with serving(database, WITH_TOKENS) as served, client_of(served.url) as client:
        logs = exported(("r1", 7), ("r2", 100))
        assert (await client.post("/v1/logs", json=logs)).status_code == 401
        for _ in range(2):
            assert (await client.post("/v1/logs", json=logs, headers=ada)).json() == {}
        # The response of one of them is pushed, with its own numbers.
        counted = (await sent(client, pushing(response(1), call=status), ada)).answer
        assert counted is not None
        assert counted["session_tokens"] == 30 + 100
        reported = (await sent(client, calling("record_usage", usage), ada)).answer
        assert reported is not None
        assert reported["counted"] is False
        broken = await client.post("/v1/logs", json=exported(("r3", 1), model=""), headers=ada)
        assert broken.json()["partialSuccess"]["rejectedLogRecords"] == "1"
        other = {**ada, "content-type": "application/x-protobuf"}
        assert (await client.post("/v1/logs", content=b"x", headers=other)).status_code == 415
        assert (await client.post("/v1/logs", content=b"[", headers=ada)).status_code == 400
        assert (await client.post("/v1/traces", content=b"{}", headers=ada)).json() == {}
    assert "ada@example.com" not in stored(database, "SELECT * FROM immunos_mcp_request_usage")


def stored(database: Path | DatabaseAddress, query: str) -> str:
    """Return what a query finds in a ledger."""
    if isinstance(database, Path):
        return str(wire.rows(database, query))
    superuser = database._replace(text=database.text.partition("&options=")[0])
    return str(postgresql_server.rows(superuser, query))
