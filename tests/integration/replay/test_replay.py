"""Replay: the log decided again, exactly as it was under the settings of the time, or otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import examples
import pasts
import pytest
import wire
from hypothesis import given
from pasts import CLAUDE, CODER, SMALL, START, Past

from immunos_mcp.archive import Archive
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger import history
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.sqlite_file import connect
from immunos_mcp.ledger.decisions import newest_decisions
from immunos_mcp.replay import engine
from immunos_mcp.router import Router
from immunos_mcp.rules import policy

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from immunos_mcp.domain import Decision
    from immunos_mcp.replay.history import History


@contextmanager
def past_of(file: Path, **narrower: Any) -> Generator[History]:
    connection = connect(file, 5.0)
    connection.execute("BEGIN")
    yield history.history(connection, **narrower)
    connection.close()


def logged(file: Path, replayed: list[engine.Replayed]) -> list[tuple[object, ...]]:
    """Return what the ledger says of decisions that were replayed."""
    with InlineSqliteLedger(file) as ledger:
        entries = {
            entry.decision_id: entry
            for entry in run_sync(ledger.read(newest_decisions, None, 10**6))
        }
    return [as_logged(entries[one.past.decision_id].decision) for one in replayed]


def as_logged(decision: Decision) -> tuple[object, ...]:
    return (
        decision.model,
        decision.provider,
        decision.reason,
        decision.warning_level,
        decision.session_tokens,
        decision.available,
        decision.changed_by,
        decision.table_model,
        bool(decision.trial),
        decision.advised_model,
    )


def as_replayed(one: engine.Replayed) -> tuple[object, ...]:
    choice = one.choice
    return (
        choice.model,
        choice.provider,
        choice.reason,
        one.case.level,
        one.session_tokens,
        choice.available,
        choice.changed_by,
        choice.table_model,
        bool(choice.trial),
        choice.advised_model,
    )


@examples.on_ledgers
@given(pasts.steps)
def test_under_the_settings_of_the_time_every_decision_comes_out_as_it_was_logged(
    tmp_path_factory: pytest.TempPathFactory, lived: list[pasts.Step]
) -> None:
    past = Past(tmp_path_factory.mktemp("past") / "ledger.db")
    past.live([pasts.Route("debug", "routine", None, "default"), *lived])
    with past_of(past.file) as found:
        replayed = list(engine.replay(found, found.settings_of))
    assert [one.past.decision_id for one in replayed] == past.decision_ids
    assert [as_replayed(one) for one in replayed] == logged(past.file, replayed)


@examples.on_ledgers
@given(pasts.steps)
def test_replaying_a_part_comes_out_as_in_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lived: list[pasts.Step]
) -> None:
    past = Past(tmp_path_factory.mktemp("past") / "ledger.db")
    past.live([pasts.Route("debug", "routine", None, "work"), *lived])
    for narrower in ({"name": "work"}, {"newest": 3}, {"since": past.now}):
        with past_of(past.file, **narrower) as found:
            replayed = list(engine.replay(found, found.settings_of))
        assert [as_replayed(one) for one in replayed] == logged(past.file, replayed)


def test_a_trial_in_another_session_is_remembered_where_one_is_replayed_alone(
    tmp_path: Path,
) -> None:
    past = Past(tmp_path / "ledger.db")
    given_up = [
        pasts.Change({"task_mappings": {"debug": CODER}}),
        pasts.Streak("debug", "failure", 3),
        pasts.Report(0, "failure", CODER, 0),
    ]
    trial = pasts.Route("debug", "routine", None, "default")
    alone = pasts.Route("debug", "routine", None, "work")
    past.live([*given_up, pasts.Wait(40 * 86_400), trial, alone])
    with past_of(past.file, name="work") as found:
        (replayed,) = engine.replay(found, found.settings_of)
    assert replayed.choice.model == replayed.past.model == CLAUDE


@examples.on_ledgers
@given(pasts.steps)
def test_the_inputs_of_a_logged_decision_decide_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, lived: list[pasts.Step]
) -> None:
    past = Past(tmp_path_factory.mktemp("past") / "ledger.db")
    past.live([*lived, pasts.Route("code_review", "routine", 7, "default")])
    with past_of(past.file, only=past.decision_ids[-1]) as found:
        inputs = engine.inputs_of(found)
    assert inputs is not None
    decision = policy.decide(inputs.settings, inputs.circumstances, inputs.task)
    with InlineSqliteLedger(past.file) as ledger:
        (entry,) = run_sync(ledger.read(newest_decisions, None, 1))
    assert (decision.model, decision.reason, decision.trial, decision.changed_by) == (
        entry.decision.model,
        entry.decision.reason,
        entry.decision.trial,
        entry.decision.changed_by,
    )


@examples.on_ledgers
@given(pasts.steps, pasts.changes)
def test_figures_agree_with_what_is_listed(
    tmp_path_factory: pytest.TempPathFactory, lived: list[pasts.Step], change: pasts.Change
) -> None:
    past = Past(tmp_path_factory.mktemp("past") / "ledger.db")
    past.live([pasts.Route("debug", "routine", None, "default"), *lived])
    with InlineSqliteLedger(past.file) as ledger:
        archive = Archive(ledger, lambda: past.now)
        before = wire.dump(past.file)
        try:
            answer = run_sync(archive.replay(change.changes, most=1000))
        except InvalidInputError:
            return
        again = run_sync(archive.replay(change.changes, most=1000))
    assert answer == again
    assert wire.dump(past.file) == before
    assert answer.decisions == len(past.decision_ids)
    assert answer.changed == len(answer.differing)
    assert answer.moved_to_ollama + answer.moved_to_claude <= answer.changed
    assert sum(share.before for share in answer.models.values()) == answer.decisions
    assert sum(share.after for share in answer.models.values()) == answer.decisions
    assert all(each.before != each.after for each in answer.differing)


def test_a_lower_threshold_keeps_the_tokens_of_what_would_have_moved(home: Path) -> None:
    route = ("route", "--task-type", "essay", "--classification", "routine")
    for number in range(1, 5):
        wire.run_json(home, *route)
        wire.run(
            home, "record", "--model", CLAUDE, "--input", "50000", "--output", "0",
            "--decision-id", str(number), "--outcome", "success",
        )  # fmt: skip
    # The totals were 0, 50,000, 100,000 and 150,000: the last one was kept local.
    assert wire.run_json(home, "replay") == {
        "decisions": 4,
        "changed": 0,
        "moved_to_ollama": 0,
        "moved_to_claude": 0,
        "kept_tokens": 0,
        "spent_tokens": 0,
        "models": {CLAUDE: {"before": 3, "after": 3}, CODER: {"before": 1, "after": 1}},
        "crossings": wire.run_json(home, "replay")["crossings"],
        "differing": [],
    }
    answer = wire.run_json(home, "replay", "--set", "warning_threshold=60000")
    # The third would have stayed local with its 50,000: the fourth comes at 100,000, and stays too.
    assert (answer["changed"], answer["moved_to_ollama"]) == (1, 1)
    assert (answer["kept_tokens"], answer["spent_tokens"]) == (50_000, 0)
    assert answer["differing"] == [
        {
            "decision_id": 3,
            "task_type": "essay",
            "classification": "routine",
            "before": CLAUDE,
            "after": CODER,
            "reason": "token_budget_warning",
        }
    ]
    warning, critical = answer["crossings"]
    assert (warning["level"], critical["level"]) == ("warning", "critical")
    assert warning["after"] < warning["before"]
    assert "after" not in critical


def test_a_task_that_comes_back_to_claude_brings_its_tokens(home: Path) -> None:
    wire.run(home, "config", "set", "warning_threshold=1")
    wire.run(home, "record", "--model", CLAUDE, "--input", "10", "--output", "0")
    wire.run(home, "route", "--task-type", "essay", "--classification", "routine")
    wire.run(
        home, "record", "--model", CODER, "--input", "700", "--output", "77", "--decision-id", "1"
    )
    wire.run(
        home, "route", "--task-type", "essay", "--classification", "routine", "--tokens", "900"
    )
    answer = wire.run_json(home, "replay", "--set", "warning_threshold=150000")
    assert (answer["moved_to_claude"], answer["spent_tokens"]) == (2, 777 + 900)


def test_other_weights_are_applied_to_the_tokens_of_the_time(home: Path) -> None:
    wire.run(
        home, "record", "--model", CLAUDE, "--input", "1000", "--output", "0",
        "--cache-read", "200000",
    )  # fmt: skip
    wire.run(home, "route", "--task-type", "essay", "--classification", "creative")
    assert wire.run_json(home, "replay", "--set", "cache_read_weight=0.5")["changed"] == 0
    assert wire.run_json(home, "replay", "--set", "cache_read_weight=0.9")["changed"] == 1


def test_settings_that_do_not_fit_the_past_change_those_in_force(home: Path) -> None:
    wire.run(home, "config", "set", "warning_threshold=170000")
    wire.run(home, "route", "--task-type", "essay", "--classification", "routine")
    wire.run(home, "config", "set", "warning_threshold=1000")
    # 100,000 lies below the warning threshold of the time.
    answer = wire.run_json(home, "replay", "--set", "auto_switch_threshold=100000")
    assert (answer["decisions"], answer["changed"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "warning_threshold=190000"), "at most token_auto_switch_threshold"),
        (("--set", "nonsense=1"), "unknown setting 'nonsense' (known: "),
        (("--set", "session_limit"), "must be NAME=VALUE"),
        (("--since", "yesterday"), "must be a date or time"),
        (("--limit", "0"), "must be a whole number from 1"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    home: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = wire.run(home, "replay", *arguments)
    assert (done.returncode, words in done.stderr) == (2, True)


def test_a_session_and_a_time_narrow_the_replay(home: Path) -> None:
    route = ("--task-type", "essay", "--classification", "routine")
    wire.run(home, "route", *route)
    wire.run(home, "route", *route, "--session", "work")
    assert wire.run_json(home, "replay")["decisions"] == 2
    assert wire.run_json(home, "replay", "--session", "work")["decisions"] == 1
    assert wire.run_json(home, "replay", "--since", "2999-01-01")["decisions"] == 0


def test_a_replay_is_laid_out_for_people(home: Path) -> None:
    wire.run(home, "route", "--task-type", "debug", "--classification", "routine")
    shown = wire.run(home, "replay", "--set", "task_mappings.debug=" + SMALL).stdout.splitlines()
    assert shown == [
        "1 decisions, 1 would change: 0 from Claude to Ollama, 0 from Ollama to Claude",
        "Claude would have saved 0 budget tokens and spent 0 more",
        "",
        "model             decisions  with changes",
        "qwen2.5-coder:7b  1          0",
        "qwen2.5:1.5b      0          1",
        "",
        "id  task   class    before            after         reason",
        "1   debug  routine  qwen2.5-coder:7b  qwen2.5:1.5b  task_optimized",
    ]


def test_a_dry_run_replays_the_sessions_newest_decisions(tmp_path: Path) -> None:
    past = Past(tmp_path / "ledger.db")
    past.live(
        [
            pasts.Route("essay", "routine", 900, "default"),
            pasts.Route("essay", "routine", 900, "work"),
        ]
    )
    with InlineSqliteLedger(past.file) as ledger:
        router = Router(ledger, "default", lambda: START)
        changes = {"task_mappings": {"essay": CODER}}
        rehearsal = run_sync(router.update_config(changes, "test", dry_run=True)).rehearsal
    assert rehearsal is not None
    assert (rehearsal.decisions, rehearsal.moved_to_ollama, rehearsal.kept_tokens) == (1, 1, 900)
