"""The tools, through the official client of both protocol eras."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mcp_types as types
import pytest
import wire
from mcp.shared.exceptions import MCPError
from sdk_clients import ERAS, Era, answer, connected, in_process, read_json, text_of
from settings_in_force import ADVANCED, CONFIG

from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.client import Client


CLAUDE = "claude-sonnet-4.5"
CODER = "qwen2.5-coder:7b"
TASK = {"task_type": "code_review", "classification": "routine"}
NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}
TOKENS: wire.JsonObject = {"model": CLAUDE, "input_tokens": 1, "output_tokens": 1}
ESSAY = {"task_type": "essay", "classification": "routine"}
CRITICAL = {"task_type": "essay", "classification": "critical"}
LOCAL_USAGE = {"model": CODER, "input_tokens": 2000, "output_tokens": 500}


async def spend(client: Client, tokens: int) -> wire.JsonObject:
    """Record input tokens of Claude."""
    return await answer(client, "record_usage", model=CLAUDE, input_tokens=tokens, output_tokens=0)


@pytest.mark.anyio
@ERAS
async def test_a_mapped_task_is_routed_to_its_local_model_and_would_not_use_the_budget(
    tmp_path: Path, era: Era
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        assert await answer(client, "route_task", **TASK, estimated_tokens=3000) == {
            "model": CODER,
            "provider": "ollama",
            "reason": "task_optimized",
            "warning_level": "normal",
            "session_tokens": 0,
            "decision_id": 1,
            "projected_tokens": 0,
        }


@pytest.mark.anyio
@ERAS
async def test_a_projection_onto_another_level_names_that_level(tmp_path: Path, era: Era) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        assert await answer(client, "route_task", **ESSAY, estimated_tokens=150_000) == {
            "model": CLAUDE,
            "provider": "claude",
            "reason": "default_complex",
            "warning_level": "normal",
            "session_tokens": 0,
            "decision_id": 1,
            "projected_tokens": 150_000,
            "projected_level": "warning",
        }


@pytest.mark.anyio
@ERAS
async def test_tokens_of_a_local_model_are_kept_beside_the_budget(tmp_path: Path, era: Era) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        await answer(client, "route_task", **TASK)
        closing = {"decision_id": 1, "outcome": "success"}
        assert await answer(client, "record_usage", **LOCAL_USAGE, **closing) == {
            "session_tokens": 0,
            "kept_local_tokens": 2500,
            "warning_level": "normal",
        }


@pytest.mark.anyio
@ERAS
async def test_an_outcome_is_recorded_without_tokens(tmp_path: Path, era: Era) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        await answer(client, "route_task", **TASK)
        recorded = {"session_tokens": 0, "kept_local_tokens": 0, "warning_level": "normal"}
        for _repeat in range(2):
            closing = {"decision_id": 1, "outcome": "failure"}
            assert await answer(client, "record_usage", **closing) == recorded
        other = await client.call_tool("record_usage", {"decision_id": 1, "outcome": "success"})
        assert other.is_error
        half = await client.call_tool("record_usage", {"decision_id": 1, "input_tokens": 5})
        assert text_of(half).startswith(
            "model: is required; must be a model name; output_tokens: is"
        )
        status = await answer(client, "get_session_status")
        assert status["decisions"] == {"task_optimized": 1}
        assert (status["claude_tokens"]["input_tokens"], status["kept_local_tokens"]) == (0, 0)


@pytest.mark.anyio
@ERAS
async def test_what_can_only_mean_one_value_is_taken_and_null_is_refused(
    tmp_path: Path, era: Era
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        routed = await answer(
            client, "route_task", **ESSAY, estimated_tokens="150000", explain="false"
        )
        assert routed["projected_tokens"] == 150_000
        mapped = await answer(
            client, "update_config", task_mappings='{"essay": ["m:1", "n:2"]}', session_limit=3e5
        )
        assert mapped["settings"]["session_limit"] == 300_000
        assert mapped["settings"]["task_mappings"]["essay"] == "m:1,n:2"
        refused = await client.call_tool("update_config", {"session_limit": None})
        assert text_of(refused) == (
            f"session_limit: must be a whole number from 1 to {MAXIMUM_TOKENS}, or left out (got null)"
        )
        assert await answer(client, "update_config") == {**mapped, "changes": {}}


@pytest.mark.anyio
@ERAS
async def test_the_record_that_crosses_a_threshold_says_so_and_cache_reads_cross_none(
    tmp_path: Path, era: Era
) -> None:
    below = {
        "model": CLAUDE,
        "input_tokens": 100_000,
        "output_tokens": 0,
        "cache_creation_input_tokens": 49_999,
        "cache_read_input_tokens": 5_000_000,
    }
    async with in_process(tmp_path / "ledger.db", era) as client:
        recorded = {"session_tokens": 149_999, "kept_local_tokens": 0, "warning_level": "normal"}
        assert await answer(client, "record_usage", **below) == recorded
        crossed = {"session_tokens": 150_000, "warning_level": "warning", "crossed": "warning"}
        assert await spend(client, 1) == recorded | crossed
        again = {"session_tokens": 150_001, "warning_level": "warning"}
        assert await spend(client, 1) == recorded | again
        crossed = {"session_tokens": 180_001, "warning_level": "critical", "crossed": "critical"}
        assert await spend(client, 30_000) == recorded | crossed


@pytest.mark.anyio
@ERAS
async def test_two_clients_share_one_budget_across_both_thresholds(home: Path, era: Era) -> None:
    async with connected(home, era) as first, connected(home, "auto") as second:
        await spend(first, 149_999)
        assert (await answer(second, "route_task", **ESSAY))["reason"] == "default_complex"
        await spend(second, 1)
        routed = await answer(first, "route_task", **ESSAY)
        assert (routed["model"], routed["reason"]) == (CODER, "token_budget_warning")
        routed = await answer(second, "route_task", **CRITICAL)
        assert (routed["model"], routed["reason"]) == (CLAUDE, "task_critical")
        assert (await answer(first, "get_session_status"))["recommended_model"] == "mixed"
        await spend(first, 30_000)
        routed = await answer(second, "route_task", **CRITICAL)
        assert (routed["model"], routed["reason"]) == (CODER, "token_budget_exceeded")
        await answer(first, "reset_session")
        assert (await answer(second, "route_task", **ESSAY))["reason"] == "default_complex"
    wire.assert_sound(wire.ledger_path(home))


@pytest.mark.anyio
@ERAS
async def test_a_status_has_every_figure_and_is_the_same_for_every_client_and_as_a_resource(
    home: Path, era: Era
) -> None:
    async with connected(home, era) as first, connected(home, "auto") as second:
        await answer(first, "route_task", **TASK)
        await answer(first, "record_usage", **LOCAL_USAGE, decision_id=1, outcome="success")
        await spend(second, 180_000)
        await answer(second, "route_task", **CRITICAL)
        status = await answer(second, "get_session_status")
        assert status == await answer(first, "get_session_status")
        assert status == await read_json(first, "immunos://status")
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
            "claude_tokens": NO_TOKENS | {"input_tokens": 180_000},
            "ollama_tokens": NO_TOKENS | {"input_tokens": 2000, "output_tokens": 500},
            "decisions": {"task_optimized": 1, "token_budget_exceeded": 1},
        }


@pytest.mark.anyio
@ERAS
async def test_a_reset_says_which_session_it_closed_with_its_figures(
    tmp_path: Path, era: Era
) -> None:
    async with in_process(tmp_path / "ledger.db", era) as client:
        await answer(client, "route_task", **TASK)
        await answer(client, "record_usage", **LOCAL_USAGE, decision_id=1, outcome="success")
        await spend(client, 5)
        assert await answer(client, "reset_session", reason="new day") == {
            "session_id": 2,
            "closed_session_id": 1,
            "closed_tokens": 5,
            "closed_kept_local_tokens": 2500,
            "closed_decisions": 1,
        }


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
    assert "required" not in tools["record_usage"].input_schema
    assert set(tools["update_config"].input_schema["properties"]) == {
        *(set(ROWS) - ADVANCED.keys()),
        "dry_run",
        "session",
    }
    assert "required" not in tools["update_config"].input_schema


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
async def test_a_repeat_says_that_it_is_one(tmp_path: Path) -> None:
    usage = {"model": CLAUDE, "input_tokens": 5, "output_tokens": 6, "request_id": "r1"}
    async with in_process(tmp_path / "ledger.db") as client:
        recorded = {"session_tokens": 11, "kept_local_tokens": 0, "warning_level": "normal"}
        assert await answer(client, "record_usage", **usage) == recorded
        repeat = await answer(client, "record_usage", **usage)
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
        assert result.is_error
        assert text_of(result) == f"outcome: decision {decision_id} is already closed as success"
        assert wire.dump(file) == before
