"""Tasks whose answers fail a check, and the models behind the first one of their mapping."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import wire
from desks import CODER, desk_at
from ollama_server import Script, scripted_ollama

from immunos_mcp.domain import ChangedBy, Classification, Judge, Outcome, Provider
from immunos_mcp.errors import DelegationError, InvalidInputError
from immunos_mcp.ledger.history import history
from immunos_mcp.replay import engine
from immunos_mcp.reports.prices import list_prices
from immunos_mcp.rules.net_savings import FAILED, Conversation, Task, alone, handed_over

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from desks import Desk

    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.answers.report import RecordLine

SCHEMA = {"type": "object", "required": ["n"]}
RIGHT = ('{"n":', " 1}")
AROUND = Conversation()
MAPPING = {"code_review": f"{CODER},gone:1b,tiny,haiku"}


@pytest.fixture
def script() -> Script:
    return Script(words=("no", " JSON"), words_of={"tiny:latest": RIGHT})


@pytest.fixture
async def desk(tmp_path: Path, script: Script) -> AsyncGenerator[Desk]:
    with scripted_ollama(script) as where:
        async with desk_at(tmp_path, where) as made:
            await made.router.update_config({"task_mappings": MAPPING}, "test")
            yield made


async def logged(desk: Desk) -> list[LoggedDecision]:
    return [*reversed(await desk.archive.list_decisions(50, None))]


async def reported(desk: Desk) -> tuple[RecordLine, ...]:
    return (await desk.archive.report(None, list_prices(datetime.now(UTC)))).records


async def as_read(desk: Desk) -> list[tuple[str, int | None, tuple[str, ...], Outcome | None]]:
    return [
        (each.decision.model, each.task.follows, each.task.tried, each.outcome)
        for each in await logged(desk)
    ]


@pytest.mark.anyio
async def test_a_climb_is_one_hand_over_whose_result_went_into_a_file(desk: Desk) -> None:
    answer = await desk.delegate(schema=SCHEMA, output_path="n.json")
    await desk.delegate(schema=SCHEMA)
    await desk.router.outcomes.close(4, Outcome.FAILURE, judge=Judge.ASSISTANT)
    await desk.router.route_task("essay", Classification.ROUTINE)
    found = (await desk.archive.report(None, list_prices(datetime.now(UTC)))).savings
    assert found is not None
    assert (found.hand_overs, found.undone, found.verified, found.only_routed) == (2, 1, 1, 1)
    task = Task(0, answer.output_tokens or 0, in_file=True)
    assert found.gross_tokens == round(alone(task, AROUND))
    paid = handed_over(task, AROUND) + handed_over(FAILED, AROUND)
    assert found.hand_over_tokens == round(paid)


@pytest.mark.anyio
async def test_a_failed_check_goes_to_the_next_model_that_is_there_with_what_was_wrong(
    desk: Desk, script: Script
) -> None:
    answer = await desk.delegate(schema=SCHEMA, output_path="n.json")
    assert (answer.model, answer.decision_id, answer.passed_checks) == ("tiny", 2, "json")
    assert answer.message is not None
    assert answer.message.startswith(f"Tried: check json failed: {CODER}")
    assert (desk.folder / "n.json").read_text(encoding="utf-8") == '{"n": 1}\n'
    assert not (desk.folder / "n.json.unfinished").exists()
    assert "check json failed" in script.requests[1]["messages"][1]["content"]
    assert await as_read(desk) == [
        (CODER, None, (), Outcome.FAILURE),
        ("tiny", 1, (CODER,), Outcome.SUCCESS),
    ]
    # The tokens of each are its own, and the engine's.
    made = sum(output for _, output in script.finished)
    assert answer.output_tokens == len(RIGHT)
    assert (await desk.router.get_session_status()).kept_local_tokens == made + sum(
        asked for asked, _ in script.finished
    )


@pytest.mark.anyio
async def test_at_the_end_claude_gets_the_task_with_what_is_known(
    desk: Desk, script: Script
) -> None:
    script.words_of.clear()
    answer = await desk.delegate(schema=SCHEMA)
    assert (answer.model, answer.provider, answer.decision_id) == ("haiku", Provider.CLAUDE, 3)
    assert answer.message is not None
    assert "; check json failed: tiny" in answer.message
    assert answer.message.endswith("Give this task to a subagent with model haiku.")
    await desk.router.record_usage(decision_id=3, outcome="success")
    assert await as_read(desk) == [
        (CODER, None, (), Outcome.FAILURE),
        ("tiny", 1, (CODER,), Outcome.FAILURE),
        ("haiku", 2, (CODER, "tiny"), Outcome.SUCCESS),
    ]


@pytest.mark.anyio
async def test_a_task_at_which_a_subagent_failed_goes_on_to_the_next_tier(
    desk: Desk, script: Script
) -> None:
    script.words_of.clear()
    await desk.router.update_config({"task_mappings": {"code_review": "tiny,haiku,opus"}}, "test")
    first = await desk.delegate(schema=SCHEMA)
    assert first.message is not None
    assert first.message.endswith(
        "model haiku. If it fails, record that and call again with decision_id 2."
    )
    await desk.router.record_usage(decision_id=2, outcome="failure")
    second = await desk.delegate(decision_id=2)
    assert (second.model, second.decision_id) == ("opus", 3)
    assert second.message == "Give this task to a subagent with model opus."
    await desk.router.record_usage("claude-opus-4-8", decision_id=3, outcome="success")
    with pytest.raises(InvalidInputError, match="decision 3 is already closed as success"):
        await desk.delegate(decision_id=3)
    assert await as_read(desk) == [
        ("tiny", None, (), Outcome.FAILURE),
        ("haiku", 1, ("tiny",), Outcome.FAILURE),
        ("opus", 2, ("tiny", "haiku"), Outcome.SUCCESS),
    ]
    explained = (await desk.archive.explain_decision(3)).explanation
    assert explained.steps[0] == "tiny, haiku failed at it (decision 2)"
    records = {line.model: line for line in await reported(desk)}
    assert {name: (line.successes, line.failures) for name, line in records.items()} == {
        "tiny:latest": (0, 1),
        "haiku": (0, 1),
        "opus": (1, 0),
    }
    # More is expected of Claude's than of a local model, which failed as often.
    rates = [records[name].expected_success_rate for name in ("tiny:latest", "haiku", "opus")]
    assert rates == sorted(rates)
    assert rates[1] > rates[0] + 0.1
    found = await desk.router._ledger.read(history)  # pyright: ignore[reportPrivateUsage]
    again = [one.choice.model for one in engine.replay(found, found.settings_of)]
    assert again == ["tiny", "haiku", "opus"]


@pytest.mark.anyio
async def test_a_local_answer_that_its_reader_rejects_goes_on_as_well(desk: Desk) -> None:
    await desk.delegate()
    await desk.router.record_usage(decision_id=1, outcome="failure")
    answer = await desk.delegate(decision_id=1)
    assert (answer.model, answer.decision_id) == ("tiny", 2)
    await desk.router.record_usage(decision_id=2, outcome="failure")
    await desk.router.update_config({"task_mappings": {"code_review": CODER}}, "test")
    assert (await desk.delegate(decision_id=2)).provider is Provider.CLAUDE
    await desk.router.record_usage(decision_id=3, outcome="failure")
    with pytest.raises(DelegationError, match="no other model is mapped to code_review"):
        await desk.delegate(decision_id=3)


@pytest.mark.anyio
async def test_an_answer_that_was_cut_off_goes_on_only_where_a_local_model_is_left(
    desk: Desk, script: Script
) -> None:
    script.words = script.words_of["tiny:latest"] = ("a", " b", " c")
    answer = await desk.delegate(max_output_tokens=2)
    assert (answer.model, answer.cut_off, answer.local_output) == ("tiny", True, "a b")
    assert [outcome for *_, outcome in await as_read(desk)] == [Outcome.FAILURE, None]
    # A limit of the caller teaches nothing.
    assert (await desk.archive.explain_decision(2)).explanation.steps[0].startswith(CODER)
    found = await desk.router._ledger.read(history)  # pyright: ignore[reportPrivateUsage]
    assert not [*found.outcomes()]


@pytest.mark.anyio
@pytest.mark.parametrize("change", [{"ladder": "off"}, {"task_mappings": {"code_review": CODER}}])
async def test_without_a_ladder_the_failure_is_the_callers(
    desk: Desk, change: dict[str, str]
) -> None:
    await desk.router.update_config(change, "test")
    with pytest.raises(DelegationError, match="check json failed"):
        await desk.delegate(schema=SCHEMA)
    assert await as_read(desk) == [(CODER, None, (), Outcome.FAILURE)]


@pytest.mark.anyio
async def test_a_hard_budget_keeps_a_task_local_to_the_end(desk: Desk, script: Script) -> None:
    script.words_of.clear()
    await desk.router.record_usage("claude-sonnet-4.5", 190_000, 0)
    with pytest.raises(
        DelegationError, match=f"Tried: check json failed: {CODER}.*; .*tiny's answer"
    ):
        await desk.delegate(schema=SCHEMA)
    first, second = await logged(desk)
    assert (first.decision.reason, second.decision.reason) == ("token_budget_exceeded",) * 2
    assert second.decision.changed_by is ChangedBy.LADDER


@pytest.mark.anyio
async def test_a_fault_of_the_engine_does_not_climb(desk: Desk, script: Script) -> None:
    script.models["tiny:latest"] = 8
    with pytest.raises(DelegationError, match=f"Tried: check json failed: {CODER}.*context"):
        await desk.delegate(schema=SCHEMA, prompt="word " * 500)
    assert [outcome for *_, outcome in await as_read(desk)] == [Outcome.FAILURE, None]


def test_what_fails_the_users_command_climbs_on_the_command_line(home: Path) -> None:
    script = Script(words=("x", " = 3"), words_of={"tiny:latest": ("x", " = 2")})
    code = "import sys; sys.exit(0 if 'x = 2' in open(sys.argv[1]).read() else 'x is wrong')"
    command = ("delegate", "Set x", "--task-type", "code_generation", "--check", "two", "--json")
    with scripted_ollama(script) as where:
        variables = {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": where}
        wire.run(home, "checks", "add", "two", shlex.join((sys.executable, "-c", code, "{path}")))
        wire.run(home, "config", "set", f"task_mappings.code_generation={CODER},tiny,haiku,opus")
        done = wire.run(home, *command, "--output", "new.py", variables=variables)
        script.words_of.clear()
        failed = wire.run(home, *command, "--output", "other.py", variables=variables)
    answer = json.loads(done.stdout)
    assert (answer["model"], answer["passed_checks"], done.returncode) == ("tiny", "code, two", 0)
    fault = "'s answer fails it (exit code 1): x is wrong"
    assert answer["message"] == f"Tried: check two failed: {CODER}{fault}"
    assert (home / "new.py").read_text(encoding="utf-8") == "x = 2\n"
    assert (failed.returncode, failed.stdout) == (1, "")
    advised = json.loads(failed.stderr)
    assert (advised["model"], advised["decision_id"]) == ("haiku", 5)
    assert f"; check two failed: tiny{fault}. Give this task to a subagent" in advised["message"]
    assert "x is wrong" in script.requests[-1]["messages"][1]["content"]
    assert wire.rows(
        wire.ledger_path(home),
        "SELECT model, follows, outcome, outcome_source FROM immunos_mcp_decision",
    ) == [
        (CODER, None, "failure", "check"),
        ("tiny", 1, "success", "check"),
        (CODER, None, "failure", "check"),
        ("tiny", 3, "failure", "check"),
        ("haiku", 4, None, None),
    ]


@pytest.mark.anyio
async def test_attempts_are_replayed_as_they_were_decided(desk: Desk, script: Script) -> None:
    await desk.delegate(schema=SCHEMA)
    script.words_of.clear()
    await desk.delegate(schema=SCHEMA)
    await desk.router.record_usage("claude-sonnet-4.5", 190_000, 0)
    with pytest.raises(DelegationError):
        await desk.delegate(schema=SCHEMA)
    found = await desk.router._ledger.read(history)  # pyright: ignore[reportPrivateUsage]
    again = [one.choice for one in engine.replay(found, found.settings_of)]
    assert [(one.model, one.changed_by) for one in again] == [
        (one.decision.model, one.decision.changed_by) for one in await logged(desk)
    ]
    assert [one.model for one in again].count("tiny") == 3
