"""Arguments that cannot be taken: named in one short line, and nothing has changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import wire

from immunos_mcp.domain import MAXIMUM_TOKENS

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


CLAUDE = "claude-sonnet-4.5"
TASK = {"task_type": "code_review", "classification": "routine"}


@dataclass(frozen=True)
class Bad:
    """Values that one argument of a tool cannot take, beside arguments that are fine."""

    tool: str
    fine: wire.JsonObject
    name: str
    values: tuple[object, ...]
    expected: str


WORD = "x" * 1_000_000
COUNT = f"must be a whole number from 0 to {MAXIMUM_TOKENS}"
THRESHOLD = f"must be a whole number from 1 to {MAXIMUM_TOKENS}"
WEIGHT = "must be a number from 0 to 100 in steps of 0.001"
MODEL = "must be a model name"
DECISION = "must be the id of an earlier decision"
LOCAL = "must be a local model, not one of Claude's"
PRINTABLE = "printable characters"
TEXT = "must be "
NO_LIST: list[object] = []
NO_OBJECT: dict[str, object] = {}
HANDED: wire.JsonObject = {"prompt": "Do it", "task_type": "debug"}
TOKENS: wire.JsonObject = {"model": CLAUDE, "input_tokens": 1, "output_tokens": 1}
KNOBS: wire.JsonObject = {"claude_model": "claude-opus-4.6"}
NUMBERS: tuple[object, ...] = (
    -1, 2**63, 2**70, -(2**70), 10**4000, MAXIMUM_TOKENS + 1, 1.5, 1e300, True, False, "", None, "-1",
    NO_LIST, NO_OBJECT, [5], float("nan"), float("inf"), "1.5", " 4,000 ", "4e3", "05", "null", "[5]",
)  # fmt: skip
PERCENT = "must be a whole percentage from 1 to 100, or 0 for off"
INVISIBLE: tuple[object, ...] = (
    "", " ", "\t", "a\x00b", "a\nb", "\x1b[31m", "\u202ea", "a\u200b", "\ufeff", "\ue000",
    "\U000e0001", "\u0378",
)  # fmt: skip
NO_TEXT: tuple[object, ...] = (5, 0.5, True, NO_LIST, NO_OBJECT, None)
NAMES: tuple[object, ...] = (*INVISIBLE, WORD, "x" * 65)
MODELS: tuple[object, ...] = ("", " ", "a b", "größe", "日本", "a\x00", "a\n", WORD, "x" * 201)
WEIGHTS: tuple[object, ...] = (
    -0.1, 100.001, 0.0001, 1e-9, 2**70, True, "1e1", "NaN", NO_LIST, float("nan"), float("inf"), None,
)  # fmt: skip
MAPPINGS: tuple[object, ...] = (
    NO_LIST, "debug", 5, None, "[]", '{"debug": "m:1"', '{"debug": 5}', {"": "m:1"}, {"debug": ""}, {"debug": 5}, {"a\x00": "m:1"},
    {"debug": "a b"}, {"x" * 65: None}, {"debug": {"a": "b"}}, {WORD: "m:1"}, {"debug": WORD},
    {f"type {number}": "m:1" for number in range(300)},
)  # fmt: skip
BAD = (
    Bad("route_task", TASK, "classification",
        ("Routine", "urgent", "", "routine ", "ROUTINE", WORD, *NO_TEXT),
        "must be routine, creative or critical"),
    Bad("route_task", TASK, "task_type",
        (*NAMES, *NO_TEXT, "___", "?!", "🦉", "x_" * 33, "ﷺ" * 10),
        f"must be a task type of 1 to 64 {PRINTABLE}"),
    Bad("route_task", TASK, "estimated_tokens", NUMBERS, COUNT),
    Bad("route_task", TASK, "explain", (0, 1, "True", "1", "yes", None, 1.0, NO_LIST), "must be true or false"),
    Bad("record_usage", TOKENS, "input_tokens", NUMBERS, COUNT),
    Bad("record_usage", TOKENS, "output_tokens", NUMBERS, COUNT),
    Bad("record_usage", TOKENS, "cache_creation_input_tokens", NUMBERS, COUNT),
    Bad("record_usage", TOKENS, "cache_read_input_tokens", NUMBERS, COUNT),
    Bad("record_usage", TOKENS, "model", (*MODELS, *NO_TEXT), MODEL),
    Bad("record_usage", TOKENS, "decision_id",
        (0, -1, 2, 2**63 - 1, 2**63, 2**70, 2.0, True, "2", "one", NO_LIST, NO_OBJECT, None), DECISION),
    Bad("record_usage", {**TOKENS, "decision_id": 1}, "outcome",
        ("ok", "Success", "", WORD, *NO_TEXT), "must be success or failure"),
    Bad("record_usage", TOKENS, "outcome", ("success", "failure"), "needs a decision_id"),
    Bad("record_usage", TOKENS, "request_id", (*INVISIBLE, WORD, "x" * 201),
        f"must be 1 to 200 {PRINTABLE}"),
    Bad("record_usage", TOKENS, "request_id", NO_TEXT, TEXT),
    Bad("reset_session", {}, "reason", (*INVISIBLE, WORD, "x" * 501), f"must be 1 to 500 {PRINTABLE}"),
    Bad("reset_session", {}, "reason", NO_TEXT, TEXT),
    Bad("update_config", KNOBS, "token_warning_threshold", (*NUMBERS, 0), THRESHOLD),
    Bad("update_config", KNOBS, "token_auto_switch_threshold", (*NUMBERS, 0), THRESHOLD),
    Bad("update_config", KNOBS, "session_limit", (*NUMBERS, 0), THRESHOLD),
    Bad("update_config", KNOBS, "token_warning_threshold", (180_001,), "must be at most token_auto"),
    Bad("update_config", KNOBS, "token_auto_switch_threshold", (250_001,), "must be at most session"),
    Bad("update_config", KNOBS, "input_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "output_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "cache_creation_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "cache_read_weight", WEIGHTS, WEIGHT),
    Bad("update_config", KNOBS, "session_window_minutes", (-1, 525_601, 2**70, 1.5, True, "5.0", None),
        "must be a whole number of minutes from 0 (off) to 525600"),
    Bad("update_config", KNOBS, "plan_warning_percent", (-1, 101, 2**70, 1.5, True, "5%", None), PERCENT),
    Bad("update_config", {"plan_auto_switch_percent": 50}, "plan_warning_percent", (51,),
        "must be at most plan_auto_switch_percent, which is 50"),
    Bad("update_config", KNOBS, "deny_agent_tool", ("yes", True, 1, "", WORD, None), "must be on or off"),
    Bad("update_config", {}, "claude_model", (*MODELS, *NO_TEXT), MODEL),
    Bad("update_config", {}, "default_local_model", (*MODELS, *NO_TEXT), MODEL),
    Bad("update_config", {}, "default_local_model", (CLAUDE, "anthropic/haiku"), LOCAL),
    Bad("update_config", KNOBS, "task_mappings", MAPPINGS[:-1], TEXT),
    Bad("update_config", KNOBS, "task_mappings", MAPPINGS[-1:], "at most 200 task types"),
    Bad("delegate_task", HANDED, "paths", ("a.py", "[1]", "['a']", [None], [5], None), "must be a list"),
    Bad("delegate_task", HANDED, "max_output_tokens", (1.5, "5e1", True, None), "must be a whole number"),
    Bad("delegate_task", HANDED, "max_output_tokens", (0, "0", 32_769.0, 2**70),
        "must be a whole number from 1 to 32768"),
    Bad("delegate_task", HANDED, "instructions", NO_TEXT, TEXT),
    Bad("delegate_task", HANDED, "output_path", NO_TEXT, TEXT),
    Bad("delegate_task", {}, "handle", ("d", "x", "d1e3", *NO_TEXT), TEXT),
    Bad("update_config", KNOBS, "dry_run", (0, 1, "TRUE", "yes", 1.0, NO_LIST, None),
        "must be true or false"),
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
        assert text.startswith((f"{bad.name}: ", f"{bad.name}.")), (shown(value), text)
        assert bad.expected in text, (shown(value), text)
        assert len(text) < 400
        assert text.isprintable(), text
    assert wire.dump(file) == before
    assert server.answer("get_session_status", session="other")["session_id"] == 1


@pytest.mark.parametrize("tool", FINE)
def test_a_bad_session_name_is_refused_by_every_tool(
    wire_server: tuple[wire.ServerProcess, Path], tool: str
) -> None:
    server, file = wire_server
    before = wire.dump(file)
    for value in (*NAMES, *NO_TEXT):
        text = server.refusal(tool, **FINE[tool], session=value)
        assert text.startswith("session: must be "), (shown(value), text)
        assert " (got " in text
        assert text.isprintable(), text
    assert wire.dump(file) == before


@pytest.mark.parametrize("tool", FINE)
def test_an_unknown_argument_is_refused_by_every_tool(
    wire_server: tuple[wire.ServerProcess, Path], tool: str
) -> None:
    server, file = wire_server
    before = wire.dump(file)
    for unknown in ("Session", "task", "__proto__", "a\nb", "", "größe", WORD, "\u202e"):
        text = server.refusal(tool, **{**FINE[tool], unknown: 1})
        name = unknown if len(unknown) < 65 and unknown.isprintable() else ascii(unknown[:64])
        assert text.startswith(f"{name}: no such argument (")
        assert text.isprintable(), text
        assert len(text) < 500
    assert wire.dump(file) == before


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
    for name in ("session_limit", "input_weight", "claude_model", "task_mappings.debug"):
        assert f"{name}: must be" in text
    assert "nonsense: no such argument" in text
    assert wire.dump(file) == before


def test_missing_arguments_are_named(wire_server: tuple[wire.ServerProcess, Path]) -> None:
    server, _ = wire_server
    for tool, missing in (
        ("route_task", ["task_type", "classification"]),
        ("record_usage", ["model", "input_tokens", "output_tokens"]),
    ):
        text = server.refusal(tool)
        assert [part.partition(":")[0] for part in re.split("; (?!must)", text)] == missing
        assert text.count(": is required; must be ") == len(missing)
