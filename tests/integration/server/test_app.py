"""The MCP surface, through the official client of both protocol eras and on the wire."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

import mcp_types as types
import pytest
import wire
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError

import immunos_mcp
from immunos_mcp.domain import DEFAULT_TASK_MAPPINGS, MAXIMUM_TOKENS, Settings
from immunos_mcp.ledger.threaded import ThreadedSqliteLedger
from immunos_mcp.router import Router
from immunos_mcp.rules import settings as settings_rules
from immunos_mcp.server.app import build_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    Era = Literal["legacy", "auto"]

CLAUDE = "claude-sonnet-4.5"
CODER = "qwen2.5-coder:7b"
TASK = {"task_type": "code_review", "classification": "routine"}
NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}
CONFIG: wire.JsonObject = {
    "token_warning_threshold": 150_000,
    "token_auto_switch_threshold": 180_000,
    "session_limit": 200_000,
    "claude_model": CLAUDE,
    "default_local_model": CODER,
    "input_weight": 1.0,
    "output_weight": 1.0,
    "cache_creation_weight": 1.0,
    "cache_read_weight": 0.0,
    "session_window_minutes": 0,
    "plan_warning_percent": 0,
    "plan_auto_switch_percent": 0,
    "cloud_models": "off",
    "deny_agent_tool": "off",
    "delegate_wait_seconds": 45,
    "track_record": "on",
    "task_mappings": dict(DEFAULT_TASK_MAPPINGS),
}

RECORD_RULES: wire.JsonObject = {
    "record_gain": 0.3,
    "record_half_life_days": 180.0,
    "record_local_rate": 0.75,
    "record_claude_rate": 0.9,
    "record_local_strength": 5.0,
    "record_claude_strength": 15.0,
    "record_horizon": 100.0,
    "record_retry_days": 30.0,
}

ERAS = pytest.mark.parametrize("era", ["legacy", "auto"])


@asynccontextmanager
async def connected(home: Path, era: Era, **variables: str) -> AsyncGenerator[Client]:
    """Connect the official client to the real server, which must write nothing to its stderr."""
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "immunos_mcp"], env=wire.environment(home, **variables)
    )
    errors = home / f"stderr-{era}"
    with errors.open("w", encoding="utf-8") as log:
        async with Client(
            stdio_client(parameters, log),
            mode=era,
            client_info=types.Implementation(name="test-client", version="1.2"),
            cache=None,
            read_timeout_seconds=wire.TIMEOUT_SECONDS,
        ) as client:
            yield client
    assert errors.read_text(encoding="utf-8") == ""


@asynccontextmanager
async def in_process(file: Path, era: Era = "auto") -> AsyncGenerator[Client]:
    """Connect the official client to a server in this process."""
    async with ThreadedSqliteLedger(file) as ledger:
        server, _ = build_server(Router(ledger, "default"), "default")
        async with Client(server, mode=era, raise_exceptions=True, cache=None) as client:
            yield client


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


async def answer(client: Client, tool: str, **arguments: object) -> wire.JsonObject:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    structured = cast("wire.JsonObject", result.structured_content)
    assert type(structured) is dict
    line = text_of(result)
    assert "\n" not in line
    assert line.isprintable()
    return structured


async def read_json(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.TextResourceContents)
    assert (str(content.uri), content.mime_type) == (uri, "application/json")
    assert "\n" not in content.text
    return json.loads(content.text)


@pytest.mark.anyio
@ERAS
async def test_a_client_routes_and_records_across_both_thresholds_and_a_second_one_sees_it(
    home: Path, era: Era
) -> None:
    async with connected(home, era) as first, connected(home, "auto") as second:
        modern = era == "auto"
        assert (first.protocol_version == "2026-07-28") is modern
        routed = await answer(first, "route_task", **TASK, estimated_tokens=3000)
        assert routed == {
            "model": CODER,
            "provider": "ollama",
            "reason": "task_optimized",
            "warning_level": "normal",
            "session_tokens": 0,
            "decision_id": 1,
            "projected_tokens": 0,
        }
        recorded = await answer(
            first,
            "record_usage",
            model=CODER,
            input_tokens=2000,
            output_tokens=500,
            decision_id=1,
            outcome="success",
        )
        assert recorded == {
            "session_tokens": 0,
            "kept_local_tokens": 2500,
            "warning_level": "normal",
        }
        essay = {"task_type": "essay", "classification": "routine"}
        routed = await answer(first, "route_task", **essay, estimated_tokens=150_000)
        assert routed == {
            "model": CLAUDE,
            "provider": "claude",
            "reason": "default_complex",
            "warning_level": "normal",
            "session_tokens": 0,
            "decision_id": 2,
            "projected_tokens": 150_000,
            "projected_level": "warning",
        }
        usage = {"model": CLAUDE, "output_tokens": 0}
        below = await answer(
            first,
            "record_usage",
            **usage,
            input_tokens=100_000,
            cache_creation_input_tokens=49_999,
            cache_read_input_tokens=5_000_000,
        )
        assert below == {
            "session_tokens": 149_999,
            "kept_local_tokens": 2500,
            "warning_level": "normal",
        }
        assert (await answer(second, "route_task", **essay))["reason"] == "default_complex"
        warned = await answer(second, "record_usage", **usage, input_tokens=1)
        assert warned == {
            "session_tokens": 150_000,
            "kept_local_tokens": 2500,
            "warning_level": "warning",
            "crossed": "warning",
        }
        routed = await answer(first, "route_task", **essay)
        assert (routed["model"], routed["reason"]) == (CODER, "token_budget_warning")
        critical = {"task_type": "essay", "classification": "critical"}
        routed = await answer(second, "route_task", **critical)
        assert (routed["model"], routed["reason"]) == (CLAUDE, "task_critical")
        assert (await answer(first, "get_session_status"))["recommended_model"] == "mixed"
        switched = await answer(first, "record_usage", **usage, input_tokens=30_000)
        assert (switched["warning_level"], switched["crossed"]) == ("critical", "critical")
        routed = await answer(second, "route_task", **critical)
        assert (routed["model"], routed["reason"]) == (CODER, "token_budget_exceeded")

        status = await answer(second, "get_session_status")
        assert status == await answer(first, "get_session_status")
        assert status == await read_json(second, "immunos://status")
        assert status.pop("started_at").endswith("Z")
        assert status == {
            "session": "default",
            "session_id": 1,
            "session_tokens": 180_000,
            "measured_tokens": 0,
            "reported_tokens": 180_000,
            "session_limit": 200_000,
            "percent_used": 90.0,
            "warning_level": "critical",
            "token_warning_threshold": 150_000,
            "token_auto_switch_threshold": 180_000,
            "recommended_model": CODER,
            "message": "Budget used up: all tasks go to Ollama.",
            "kept_local_tokens": 2500,
            "claude_tokens": {
                "input_tokens": 130_001,
                "output_tokens": 0,
                "cache_creation_input_tokens": 49_999,
                "cache_read_input_tokens": 5_000_000,
            },
            "ollama_tokens": NO_TOKENS | {"input_tokens": 2000, "output_tokens": 500},
            "decisions": {
                "default_complex": 2,
                "task_critical": 1,
                "task_optimized": 1,
                "token_budget_exceeded": 1,
                "token_budget_warning": 1,
            },
        }
        assert await answer(first, "reset_session", reason="new day") == {
            "session_id": 2,
            "closed_session_id": 1,
            "closed_tokens": 180_000,
            "closed_kept_local_tokens": 2500,
            "closed_decisions": 6,
        }
        assert (await answer(second, "route_task", **essay))["reason"] == "default_complex"
    wire.assert_sound(wire.ledger_path(home))


@pytest.mark.anyio
@ERAS
async def test_a_client_is_told_who_the_server_is_and_how_to_use_it_well(
    home: Path, era: Era
) -> None:
    async with connected(home, era) as client:
        told = client.server_info
        assert told is not None
        assert (told.name, told.title, told.version) == (
            "immunos",
            "immunos: token budget router",
            immunos_mcp.__version__,
        )
        assert told.icons is not None
        (icon,) = told.icons
        assert icon.src.startswith("data:image/svg+xml;base64,")
        assert client.instructions is not None
        assert len(client.instructions.split()) <= 120
        for word in ("route_task", "record_usage", "obey", "decision_id"):
            assert word in client.instructions
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe
        assert capabilities.prompts is not None


@pytest.mark.anyio
@ERAS
async def test_five_tools_are_listed_each_with_annotations_and_both_schemas(
    tmp_path: Path, era: Era
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    hints = {
        name: (
            tool.annotations
            and (
                tool.annotations.read_only_hint,
                tool.annotations.destructive_hint,
                tool.annotations.idempotent_hint,
                tool.annotations.open_world_hint,
            )
        )
        for name, tool in tools.items()
    }
    assert hints == {
        "route_task": (False, False, False, False),
        "record_usage": (False, False, False, False),
        "get_session_status": (True, False, True, False),
        "reset_session": (False, True, False, False),
        "update_config": (False, True, True, False),
    }
    for tool in tools.values():
        assert tool.title
        assert tool.description
        assert len(tool.description) < 100
        assert tool.input_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        assert "session" in tool.input_schema["properties"]
        for argument in tool.input_schema["properties"].values():
            assert argument["type"] in {"string", "integer", "number", "boolean", "object"}
        assert tool.output_schema is not None
        assert tool.output_schema["type"] == "object"
    route = tools["route_task"].input_schema
    assert route["properties"]["classification"]["enum"] == ["routine", "creative", "critical"]
    assert route["required"] == ["task_type", "classification"]
    assert tools["record_usage"].input_schema["required"] == [
        "model",
        "input_tokens",
        "output_tokens",
    ]
    assert set(tools["update_config"].input_schema["properties"]) == {
        *(set(settings_rules.NAMES) - RECORD_RULES.keys()),
        "dry_run",
        "session",
    }
    assert "required" not in tools["update_config"].input_schema


@pytest.mark.anyio
@ERAS
async def test_the_resources_and_the_template_are_listed(tmp_path: Path, era: Era) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    assert [(str(resource.uri), resource.mime_type) for resource in resources] == [
        ("immunos://status", "application/json"),
        ("immunos://config", "application/json"),
    ]
    assert [(template.uri_template, template.mime_type) for template in templates] == [
        ("immunos://sessions/{name}/status", "application/json")
    ]


def test_starting_listing_and_looking_creates_no_session_and_not_even_a_file(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        for method in ("tools/list", "resources/list", "resources/templates/list", "ping"):
            assert "result" in server.request(method)
        assert server.request("tools/call", {"name": "no_such_tool"})["error"]["code"] == -32602
        server.refusal("route_task", task_type="", classification="routine")
        assert list(home.iterdir()) == []
        status = server.answer("get_session_status")
        assert "session_id" not in status
        assert "started_at" not in status
        server.request("resources/read", {"uri": "immunos://status"})
        server.request("resources/read", {"uri": "immunos://config"})
        server.answer("update_config", session_limit=300_000, dry_run=True)
        assert server.finish() == 0
    file = wire.ledger_path(home)
    assert wire.rows(file, "SELECT * FROM immunos_mcp_session") == []
    assert wire.rows(file, "SELECT * FROM settings") == []


@pytest.mark.anyio
@ERAS
@pytest.mark.parametrize(
    "name", ["a", "a/b", "größe 日本", "100%", "a?b#c", "a%2Fb", "status", "🦉 owl", "..", "a+b"]
)
async def test_a_named_session_s_status_is_read_under_its_percent_encoded_name(
    tmp_path: Path, era: Era, name: str
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        await answer(
            client, "record_usage", model="m:1", input_tokens=7, output_tokens=0, session=name
        )
        await answer(client, "route_task", **TASK)
        status = await read_json(client, f"immunos://sessions/{quote(name, safe='')}/status")
        assert (status["session"], status["kept_local_tokens"]) == (name, 7)
        assert status == await answer(client, "get_session_status", session=name)
        assert (await read_json(client, "immunos://status"))["kept_local_tokens"] == 0


@pytest.mark.anyio
async def test_the_settings_in_force_are_read_as_a_resource(tmp_path: Path) -> None:
    async with in_process(tmp_path / "ledger.db") as client:
        assert await read_json(client, "immunos://config") == CONFIG | RECORD_RULES
        await answer(client, "update_config", task_mappings={"größe": "m:1"}, input_weight=0.5)
        changed = (
            CONFIG
            | RECORD_RULES
            | {
                "input_weight": 0.5,
                "task_mappings": {**DEFAULT_TASK_MAPPINGS, "größe": "m:1"},
            }
        )
        assert await read_json(client, "immunos://config") == changed


@pytest.mark.anyio
@ERAS
@pytest.mark.parametrize(
    "uri",
    [
        "immunos://nothing",
        "immunos://status/",
        "immunos://sessions//status",
        "immunos://sessions/a/b/status",
        "immunos://sessions/a",
        "file:///etc/passwd",
        "immunos://" + "x" * 10_000,
    ],
)
async def test_an_unknown_resource_is_an_error_that_names_it(
    tmp_path: Path, era: Era, uri: str
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
    assert refused.value.code == types.INVALID_PARAMS
    assert refused.value.message.startswith(f"Unknown resource: '{uri[:50]}")
    assert len(refused.value.message) < 300


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["%00", "%20", "x" * 65, "%E2%80%8B", "%0A"])
async def test_a_session_name_that_cannot_be_taken_is_an_error_of_the_resource_too(
    tmp_path: Path, name: str
) -> None:
    async with in_process(tmp_path / "ledger.db") as client:
        with pytest.raises(MCPError, match=r"session: got .* takes 1 to 64 printable"):
            await client.read_resource(f"immunos://sessions/{name}/status")


@pytest.mark.anyio
@ERAS
async def test_an_unknown_tool_is_a_protocol_error_that_names_it(tmp_path: Path, era: Era) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("no_such_tool\n" + "x" * 1000)
    assert refused.value.code == types.INVALID_PARAMS
    assert refused.value.message.startswith("Unknown tool: 'no_such_tool\\nxxx")
    assert len(refused.value.message) < 100


@pytest.mark.anyio
async def test_changed_settings_are_answered_and_kept_with_the_name_of_the_client(
    home: Path,
) -> None:
    async with connected(home, "auto") as client:
        mappings = {**DEFAULT_TASK_MAPPINGS, "poetry": "llama3:8b"}
        del mappings["debug"]
        assert await answer(
            client,
            "update_config",
            warning_threshold=100_000,
            cache_read_weight=0.1,
            task_mappings={"Poetry": "llama3:8b", "debug": None},
        ) == {
            "changes": {
                "token_warning_threshold": {"before": 150_000, "after": 100_000},
                "cache_read_weight": {"before": 0.0, "after": 0.1},
                "task_mappings.debug": {"before": CODER},
                "task_mappings.poetry": {"after": "llama3:8b"},
            },
            "settings": CONFIG
            | {
                "token_warning_threshold": 100_000,
                "cache_read_weight": 0.1,
                "task_mappings": mappings,
            },
        }
        routed = await answer(client, "route_task", task_type="poetry", classification="creative")
        assert routed["model"] == "llama3:8b"
    history = wire.run_json(home, "config", "history")
    assert {change["client"] for change in history} == {"test-client 1.2"}
    assert len(history) == 4


@pytest.mark.anyio
async def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with in_process(file) as client:
        await answer(client, "record_usage", model=CLAUDE, input_tokens=1000, output_tokens=0)
        for task_type in ("essay", "debug", "essay"):
            await answer(client, "route_task", task_type=task_type, classification="routine")
        await answer(client, "route_task", task_type="essay", classification="routine", session="b")
        before = wire.dump(file)
        told = await answer(client, "update_config", token_warning_threshold=500, dry_run=True)
        assert wire.dump(file) == before
    assert told == {
        "changes": {"token_warning_threshold": {"before": 150_000, "after": 500}},
        "settings": CONFIG | {"token_warning_threshold": 500},
        "dry_run": True,
        "rehearsal": {
            "decisions": 3,
            "changed": 2,
            "moved_to_ollama": 2,
            "moved_to_claude": 0,
            "kept_tokens": 0,
            "spent_tokens": 0,
        },
    }


@pytest.mark.anyio
async def test_changing_nothing_answers_the_settings_in_force(tmp_path: Path) -> None:
    async with in_process(tmp_path / "ledger.db") as client:
        assert await answer(client, "update_config") == {"changes": {}, "settings": CONFIG}


@pytest.mark.anyio
async def test_a_repeat_says_that_it_is_one_and_a_null_argument_counts_as_not_given(
    tmp_path: Path,
) -> None:
    usage = {"model": CLAUDE, "input_tokens": 5, "output_tokens": 6, "request_id": "r1"}
    nulls = dict.fromkeys(
        ("cache_creation_input_tokens", "decision_id", "outcome", "session"), None
    )
    async with in_process(tmp_path / "ledger.db") as client:
        recorded = {"session_tokens": 11, "kept_local_tokens": 0, "warning_level": "normal"}
        assert await answer(client, "record_usage", **usage) == recorded
        repeat = await answer(client, "record_usage", **usage, **nulls)
        assert repeat == recorded | {"repeated": True}


@pytest.mark.anyio
async def test_every_answer_is_short_in_both_forms_and_holds_no_null(tmp_path: Path) -> None:
    calls: list[tuple[str, wire.JsonObject, int]] = [
        ("route_task", {**TASK, "estimated_tokens": 190_000}, 260),
        ("record_usage", {"model": CLAUDE, "input_tokens": 160_000, "output_tokens": 5}, 160),
        ("get_session_status", {}, 1000),
        ("reset_session", {}, 160),
        ("update_config", {"session_limit": 300_000}, 1200),
    ]
    async with in_process(tmp_path / "ledger.db") as client:
        for tool, arguments, longest in calls:
            result = await client.call_tool(tool, arguments)
            line = text_of(result)
            structured = json.dumps(result.structured_content, separators=(",", ":"))
            assert "null" not in structured
            assert "None" not in line
            assert len(structured) <= longest
            assert len(line) <= longest
            assert "\n" not in line


def test_the_session_of_calls_that_name_none_is_the_option_s(home: Path) -> None:
    with wire.ServerProcess(home, variables={"IMMUNOS_SESSION": "mine"}) as server:
        server.initialize()
        server.answer("record_usage", model=CLAUDE, input_tokens=5, output_tokens=0)
        server.answer("record_usage", model=CLAUDE, input_tokens=7, output_tokens=0, session="b")
        status = server.answer("get_session_status")
        assert (status["session"], status["session_tokens"]) == ("mine", 5)
        contents = server.request("resources/read", {"uri": "immunos://status"})["result"]
        assert json.loads(contents["contents"][0]["text"]) == status
        listed = wire.run_json(home, "history", "sessions")
        assert [session["session"] for session in listed] == ["b", "mine"]


@dataclass(frozen=True)
class Bad:
    """Values that one argument of a tool cannot take, beside arguments that are fine."""

    tool: str
    fine: wire.JsonObject
    name: str
    values: tuple[object, ...]
    takes: str


WORD = "x" * 10_000_000
COUNT = f"takes a whole number from 0 to {MAXIMUM_TOKENS}"
THRESHOLD = f"takes a whole number from 1 to {MAXIMUM_TOKENS}"
WEIGHT = "takes a number from 0 to 100 in steps of 0.001"
MODEL = "takes a model name"
DECISION = "takes the decision_id of a route_task answer"
LOCAL = "takes a local model, not one of Claude's"
PRINTABLE = "printable characters"
TEXT = "takes "
NO_LIST: list[object] = []
NO_OBJECT: dict[str, object] = {}

TOKENS: wire.JsonObject = {"model": CLAUDE, "input_tokens": 1, "output_tokens": 1}
KNOBS: wire.JsonObject = {"claude_model": "claude-opus-4.6"}
NUMBERS: tuple[object, ...] = (
    -1, 2**63, 2**70, -(2**70), 10**4000, MAXIMUM_TOKENS + 1, 1.5, 1e300, True, False, "5", "",
    NO_LIST, NO_OBJECT, [5], float("nan"), float("inf"),
)  # fmt: skip
PERCENT = "takes a whole percentage from 1 to 100, or 0 for off"
INVISIBLE: tuple[object, ...] = (
    "", " ", "\t", "a\x00b", "a\nb", "\x1b[31m", "\u202ea", "a\u200b", "\ufeff", "\ue000",
    "\U000e0001", "\u0378",
)  # fmt: skip
NO_TEXT: tuple[object, ...] = (5, 0.5, True, NO_LIST, NO_OBJECT)
NAMES: tuple[object, ...] = (*INVISIBLE, WORD, "x" * 65)
MODELS: tuple[object, ...] = ("", " ", "a b", "größe", "日本", "a\x00", "a\n", WORD, "x" * 201)
WEIGHTS: tuple[object, ...] = (
    -0.1, 100.001, 0.0001, 1e-9, 2**70, True, "1", NO_LIST, float("nan"), float("inf"),
)  # fmt: skip
MAPPINGS: tuple[object, ...] = (
    NO_LIST, "debug", 5, {"": "m:1"}, {"debug": ""}, {"debug": 5}, {"a\x00": "m:1"},
    {"debug": "a b"}, {"x" * 65: None}, {"debug": {"a": "b"}}, {WORD: "m:1"}, {"debug": WORD},
    {f"type {number}": "m:1" for number in range(300)},
)  # fmt: skip

BAD = (
    Bad("route_task", TASK, "classification",
        ("Routine", "urgent", "", "routine ", "ROUTINE", WORD, None, *NO_TEXT),
        "takes routine, creative or critical"),
    Bad("route_task", TASK, "task_type",
        (*NAMES, *NO_TEXT, None, "___", "?!", "🦉", "x_" * 33, "ﷺ" * 10),
        f"takes 1 to 64 {PRINTABLE}"),
    Bad("route_task", TASK, "estimated_tokens", NUMBERS, COUNT),
    Bad("route_task", TASK, "explain", (0, 1, "true", 1.0, NO_LIST), "takes true or false"),
    Bad("record_usage", TOKENS, "input_tokens", (*NUMBERS, None), COUNT),
    Bad("record_usage", TOKENS, "output_tokens", (*NUMBERS, None), COUNT),
    Bad("record_usage", TOKENS, "cache_creation_input_tokens", NUMBERS, COUNT),
    Bad("record_usage", TOKENS, "cache_read_input_tokens", NUMBERS, COUNT),
    Bad("record_usage", TOKENS, "model", (*MODELS, *NO_TEXT, None), MODEL),
    Bad("record_usage", TOKENS, "decision_id",
        (0, -1, 2, 2**63 - 1, 2**63, 2**70, 1.0, True, "1", NO_LIST, NO_OBJECT), DECISION),
    Bad("record_usage", {**TOKENS, "decision_id": 1}, "outcome",
        ("ok", "Success", "", WORD, *NO_TEXT), "takes success or failure"),
    Bad("record_usage", TOKENS, "outcome", ("success", "failure"), "takes a decision_id with it"),
    Bad("record_usage", TOKENS, "request_id", (*INVISIBLE, WORD, "x" * 201),
        f"takes 1 to 200 {PRINTABLE}"),
    Bad("record_usage", TOKENS, "request_id", NO_TEXT, TEXT),
    Bad("reset_session", {}, "reason", (*INVISIBLE, WORD, "x" * 501), f"takes 1 to 500 {PRINTABLE}"),
    Bad("reset_session", {}, "reason", NO_TEXT, TEXT),
    Bad("update_config", KNOBS, "token_warning_threshold", (*NUMBERS, 0), THRESHOLD),
    Bad("update_config", KNOBS, "token_auto_switch_threshold", (*NUMBERS, 0), THRESHOLD),
    Bad("update_config", KNOBS, "session_limit", (*NUMBERS, 0), THRESHOLD),
    Bad("update_config", KNOBS, "token_warning_threshold", (180_001,), "takes at most token_auto"),
    Bad("update_config", KNOBS, "token_auto_switch_threshold", (250_001,), "takes at most session"),
    Bad("update_config", KNOBS, "input_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "output_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "cache_creation_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "cache_read_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "session_window_minutes", (-1, 525_601, 2**70, 1.5, True, "5"),
        "takes a whole number of minutes from 0 (off) to 525600"),
    Bad("update_config", KNOBS, "plan_warning_percent", (-1, 101, 2**70, 1.5, True, "5"), PERCENT),
    Bad("update_config", {"plan_auto_switch_percent": 50}, "plan_warning_percent", (51,),
        "takes at most plan_auto_switch_percent, which is 50"),
    Bad("update_config", KNOBS, "deny_agent_tool", ("yes", True, 1, "", WORD), "takes on or off"),
    Bad("update_config", {}, "claude_model", (*MODELS, *NO_TEXT), MODEL),
    Bad("update_config", {}, "default_local_model", (*MODELS, *NO_TEXT), MODEL),
    Bad("update_config", {}, "default_local_model", (CLAUDE, "anthropic/haiku"), LOCAL),
    Bad("update_config", KNOBS, "task_mappings", MAPPINGS, TEXT),
    Bad("update_config", KNOBS, "dry_run", (0, 1, "true", "yes", 1.0, NO_LIST),
        "takes true or false"),
)  # fmt: skip
FINE: dict[str, wire.JsonObject] = {
    "route_task": TASK,
    "record_usage": TOKENS,
    "get_session_status": {},
    "reset_session": {},
    "update_config": {"session_limit": 300_000},
}


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}...{len(text)}"


@pytest.fixture(scope="module")
def wire_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[tuple[wire.ServerProcess, Path]]:
    home = tmp_path_factory.mktemp("home")
    with wire.ServerProcess(home) as server:
        server.initialize()
        server.answer("route_task", **TASK, session="other")
        server.answer("update_config", session_limit=250_000)
        yield server, wire.ledger_path(home)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.tool}.{bad.name}")
def test_bad_input_is_refused_by_name_in_a_short_line_and_changes_nothing(
    wire_server: tuple[wire.ServerProcess, Path], bad: Bad
) -> None:
    server, file = wire_server
    before = wire.dump(file)
    for value in bad.values:
        text = server.refusal(bad.tool, **{**bad.fine, bad.name: value})
        assert text.startswith(f"{bad.name}: got "), (shown(value), text)
        assert bad.takes in text, (shown(value), text)
        assert len(text) < 400
        assert text.isprintable(), text
        assert wire.dump(file) == before, shown(value)
    assert server.answer("get_session_status", session="other")["session_id"] == 1


@pytest.mark.parametrize("tool", FINE)
def test_a_bad_session_name_is_refused_by_every_tool(
    wire_server: tuple[wire.ServerProcess, Path], tool: str
) -> None:
    server, file = wire_server
    before = wire.dump(file)
    for value in (*NAMES, *NO_TEXT):
        text = server.refusal(tool, **FINE[tool], session=value)
        assert text.startswith("session: got "), (shown(value), text)
        assert ", takes " in text
        assert text.isprintable(), text
        assert wire.dump(file) == before, shown(value)


@pytest.mark.parametrize("tool", FINE)
def test_an_unknown_argument_is_refused_by_every_tool(
    wire_server: tuple[wire.ServerProcess, Path], tool: str
) -> None:
    server, file = wire_server
    before = wire.dump(file)
    for unknown in ("Session", "task", "__proto__", "a\nb", "", "größe", WORD, "\u202e"):
        text = server.refusal(tool, **{**FINE[tool], unknown: 1})
        name = unknown if len(unknown) < 65 and unknown.isprintable() else ascii(unknown[:64])
        assert text.startswith(f"{name}: got 1, takes no such argument; there are ")
        assert text.isprintable(), text
        assert len(text) < 500
        assert wire.dump(file) == before, shown(unknown)


def test_every_bad_argument_of_a_call_is_named_at_once(
    wire_server: tuple[wire.ServerProcess, Path],
) -> None:
    server, file = wire_server
    before = wire.dump(file)
    text = server.refusal(
        "update_config",
        session_limit=-1,
        input_weight="heavy",
        claude_model="a b",
        task_mappings={"debug": ""},
        nonsense=1,
    )
    for name in ("session_limit", "input_weight", "claude_model", "task_mappings", "nonsense"):
        assert f"{name}: got" in text
    assert wire.dump(file) == before


def test_missing_arguments_are_named(wire_server: tuple[wire.ServerProcess, Path]) -> None:
    server, _ = wire_server
    for tool, missing in (
        ("route_task", ["task_type", "classification"]),
        ("record_usage", ["model", "input_tokens", "output_tokens"]),
    ):
        text = server.refusal(tool)
        assert [part.partition(":")[0] for part in text.split("; ")] == missing
        assert text.count("got nothing") == len(missing)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("Code Review", "code_review"),
        ("codeReview", "code_review"),
        ("CODE-REVIEW", "code_review"),
        ("  code review  ", "code_review"),
        ("größe", "größe"),
        ("日本", "日本"),
        ("\uff43ode", "code"),
        ("cafe\u0301", "café"),
        ("x" * 64, "x" * 64),
    ],
)
@pytest.mark.anyio
async def test_odd_but_readable_text_is_taken_and_normalised(
    tmp_path: Path, given: str, normal: str
) -> None:
    file = tmp_path / "ledger.db"
    async with in_process(file) as client:
        await answer(client, "route_task", task_type=given, classification="routine")
    assert wire.rows(file, "SELECT task_type FROM immunos_mcp_decision") == [(normal,)]


@pytest.mark.anyio
async def test_the_largest_counts_are_taken_to_the_token(tmp_path: Path) -> None:
    async with in_process(tmp_path / "ledger.db") as client:
        most = {**TOKENS, "input_tokens": MAXIMUM_TOKENS, "output_tokens": MAXIMUM_TOKENS}
        for times in (1, 2):
            recorded = await answer(client, "record_usage", **most)
            assert recorded["session_tokens"] == 2 * times * MAXIMUM_TOKENS
        routed = await answer(client, "route_task", **TASK, estimated_tokens=MAXIMUM_TOKENS)
        assert routed["session_tokens"] == 4 * MAXIMUM_TOKENS


@pytest.mark.anyio
async def test_a_decision_is_closed_once(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    async with in_process(file) as client:
        decision_id = (await answer(client, "route_task", **TASK))["decision_id"]
        closing = {**TOKENS, "decision_id": decision_id}
        await answer(client, "record_usage", **closing, outcome="success")
        before = wire.dump(file)
        result = await client.call_tool("record_usage", {**closing, "outcome": "failure"})
        words = f"takes no other outcome: decision {decision_id} is closed as success"
        assert result.is_error
        assert text_of(result) == f"outcome: got 'failure', {words}"
        assert wire.dump(file) == before


@pytest.mark.anyio
async def test_tool_calls_of_one_client_may_overlap(tmp_path: Path) -> None:
    async with in_process(tmp_path / "ledger.db", "legacy") as client:
        answers = await asyncio.gather(
            *(answer(client, "record_usage", **TOKENS) for _ in range(40))
        )
        assert sorted(recorded["session_tokens"] for recorded in answers) == list(range(2, 82, 2))


def test_the_default_settings_are_the_ones_that_are_documented() -> None:
    assert settings_rules.values(Settings()) == CONFIG | RECORD_RULES
