"""The track record at work: what outcomes change in routing, where, and how it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import examples
import made_ledgers
import pytest
import strategies
import wire
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    Consultation,
    Engine,
    EngineState,
    Judge,
    LocalModel,
    Outcome,
    Reason,
    Task,
    TokenCounts,
)
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.history import history
from immunos_mcp.replay.records import RecordsSoFar
from immunos_mcp.router import Router
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.explanation import explain
from immunos_mcp.rules.models import CLAUDE_RECORD, shared_record_key
from immunos_mcp.rules.policy import decide
from immunos_mcp.rules.settings import Settings
from immunos_mcp.rules.track_record import Evidence, ModelRecord, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CLAUDE, CODER, SMALL = "claude-sonnet-4.5", "qwen2.5-coder:7b", "qwen2.5:1.5b"
SETTINGS = Settings(task_mappings={"debug": f"{CODER},{SMALL}"})
DEBUG = Task("debug", Classification.ROUTINE)
POOR = ModelRecord(Evidence(1, 30, NOW), Evidence(1, 30, NOW))
GOOD = ModelRecord(Evidence(30, 1, NOW, succeeded=True), Evidence(30, 1, NOW, succeeded=True))
ROUTE = ("route", "--task-type", "debug", "--classification", "routine")


def known(**models: ModelRecord) -> TaskRecord:
    names = {"coder": CODER, "small": SMALL}
    return TaskRecord({names.get(name, name): record for name, record in models.items()}, NOW)


def decided(record: TaskRecord | None, **changes: Any) -> tuple[str, ChangedBy | None]:
    decision = decide(replace(SETTINGS, **changes), Circumstances(0, record=record), DEBUG)
    return decision.model, decision.changed_by


def test_a_model_with_a_poor_record_is_passed_over_for_the_tasks_next_model_then_claude() -> None:
    assert decided(None) == (CODER, None)
    assert decided(known()) == (CODER, None)
    assert decided(known(coder=GOOD)) == (CODER, None)
    assert decided(known(coder=POOR)) == (SMALL, ChangedBy.TRACK_RECORD)
    assert decided(known(coder=POOR, small=POOR)) == (CLAUDE, ChangedBy.TRACK_RECORD)


def test_what_counts_is_what_claude_would_gain() -> None:
    assert decided(known(coder=POOR, small=POOR, claude=GOOD))[0] == CLAUDE
    bad = ModelRecord(Evidence(1, 60, NOW), Evidence(1, 60, NOW))
    assert decided(known(coder=POOR, small=POOR, claude=bad))[0] == CODER


def test_a_record_that_only_advises_leaves_the_decision_and_says_what_it_would_do() -> None:
    advising = replace(SETTINGS, track_record=Consultation.ADVISE)
    decision = decide(advising, Circumstances(0, record=known(coder=POOR)), DEBUG)
    assert (decision.model, decision.changed_by) == (CODER, None)
    assert (decision.advised_model, decision.trial) == (SMALL, None)
    content = decide(advising, Circumstances(0, record=known(coder=GOOD)), DEBUG)
    assert content.advised_model is None


def test_a_record_that_is_off_is_not_asked() -> None:
    assert decided(known(coder=POOR), track_record=Consultation.OFF) == (CODER, None)


@given(st.data(), strategies.settings(), strategies.tasks, st.floats(0, 99), st.floats(0, 99))
def test_the_record_changes_nothing_but_the_mapped_row(
    data: st.DataObject, settings: Settings, task: Task, successes: float, failures: float
) -> None:
    total = data.draw(strategies.totals_near(settings))
    evidence = Evidence(successes, failures, NOW)
    record = ModelRecord(evidence, evidence)
    models = {shared_record_key(model, settings): record for model in strategies.LOCALS}
    circumstances = Circumstances(total, record=TaskRecord(models, NOW))
    plain = decide(settings, Circumstances(total), task)
    asked = decide(settings, circumstances, task)
    assert asked.reason is plain.reason
    assert asked.warning_level is plain.warning_level
    if plain.reason is not Reason.TASK_OPTIMIZED:
        assert asked == plain
    if settings.track_record is not Consultation.ON:
        assert replace(asked, advised_model=None) == plain
    if asked.model != plain.model:
        assert (asked.changed_by, asked.table_model) == (ChangedBy.TRACK_RECORD, plain.model)


def test_availability_and_record_go_through_the_same_models() -> None:
    there = Engine(EngineState.UP, models={SMALL: LocalModel(SMALL)})
    circumstances = Circumstances(0, engine=there, record=known(small=POOR))
    decision = decide(SETTINGS, circumstances, DEBUG)
    assert (decision.model, decision.changed_by) == (CLAUDE, ChangedBy.AVAILABILITY)
    assert decision.remedy == f"ollama pull {CODER}"
    assert explain(SETTINGS, circumstances, DEBUG).steps == (
        f"{CODER} cannot run (ollama pull {CODER})",
        f"{SMALL}: 13% of debug expected to succeed (31 outcomes), 60% needed: passed over",
        f"it goes to {CLAUDE}",
    )


def test_a_record_is_explained_with_its_numbers_and_what_it_would_be_without() -> None:
    circumstances = Circumstances(0, record=known(coder=POOR, small=GOOD))
    told = explain(SETTINGS, circumstances, DEBUG)
    assert told.steps == (
        f"{CODER}: 13% of debug expected to succeed (31 outcomes), 60% needed: passed over",
        f"{SMALL}: 94% of debug expected to succeed (31 outcomes), 60% needed: kept",
        f"it goes to {SMALL}",
    )
    assert ("the track record were off", CODER) in {
        (other.when, other.model) for other in told.alternatives
    }


TIERS = {"debug": f"{CODER},haiku,sonnet"}


def test_tiers_that_a_mapping_names_have_records_of_their_own() -> None:
    def tiers(mapping: str = TIERS["debug"], **models: ModelRecord) -> tuple[str, ChangedBy | None]:
        return decided(known(**models), task_mappings={"debug": mapping})

    assert tiers(coder=POOR) == ("haiku", ChangedBy.TRACK_RECORD)
    assert tiers(coder=POOR, haiku=POOR) == ("sonnet", ChangedBy.TRACK_RECORD)
    # The last of them takes what the others leave, and a local model is compared with the next one.
    assert tiers(coder=POOR, haiku=POOR, sonnet=POOR)[0] == CODER
    assert tiers(coder=POOR, haiku=GOOD, sonnet=POOR)[0] == "haiku"
    assert tiers("haiku,sonnet", haiku=POOR) == ("sonnet", ChangedBy.TRACK_RECORD)
    assert tiers("haiku,sonnet", haiku=GOOD, sonnet=GOOD) == ("haiku", None)
    # What all of Claude's models did stands in for a tier of which nothing is known.
    assert tiers(coder=POOR, claude=POOR)[0] == CODER
    assert tiers("haiku,sonnet", haiku=POOR, claude=POOR)[0] == "haiku"
    # Where a mapping names none, they share one record.
    assert tiers(CODER, coder=POOR, sonnet=POOR)[0] == CLAUDE
    assert tiers(f"{CODER},{CLAUDE}", coder=POOR, sonnet=POOR)[0] == CLAUDE


def test_a_tier_that_is_passed_over_is_explained_like_any_model() -> None:
    circumstances = Circumstances(0, record=known(coder=POOR, haiku=POOR))
    assert explain(replace(SETTINGS, task_mappings=TIERS), circumstances, DEBUG).steps == (
        f"{CODER}: 13% of debug expected to succeed (31 outcomes), 60% needed: passed over",
        "haiku: 32% of debug expected to succeed (31 outcomes), 60% needed: passed over",
        "it goes to sonnet",
    )


class Days:
    """A router on a calendar."""

    def __init__(self, ledger: InlineSqliteLedger) -> None:
        self.now = NOW
        self.file = ledger.path
        self.router = Router(ledger, "default", lambda: self.now)
        run_sync(self.router.update_config({"task_mappings": {"debug": CODER}}, "test"))

    def do(self, outcome: str | None, task_type: str = "debug") -> tuple[str, bool | None]:
        """Route a task, and if the local model gets it, say what became of it."""
        answer = run_sync(self.router.route_task(task_type, "routine"))
        if outcome is not None and answer.model != CLAUDE:
            run_sync(self.router.outcomes.close(answer.decision_id, outcome))
        return answer.model, answer.trial


@pytest.fixture
def days(tmp_path: Path) -> Iterator[Days]:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        yield Days(ledger)


def test_a_failing_model_is_given_up_and_a_repaired_one_comes_back(days: Days) -> None:
    while days.do("failure")[0] == CODER:
        days.now += timedelta(hours=1)
    assert [days.do(None)[0] for _ in range(20)] == [CLAUDE] * 20
    days.now += timedelta(days=31)
    # One chance, whose outcome is awaited.
    assert days.do(None) == (CODER, True)
    assert days.do(None) == (CLAUDE, None)
    days.now += timedelta(days=31)
    # Repaired, it keeps getting tasks, as trials at first.
    answers = [days.do("success") for _ in range(12)]
    assert {model for model, _ in answers} == {CODER}
    assert [trial for _, trial in answers] == sorted(
        (trial for _, trial in answers), key=lambda trial: trial is None
    )
    assert answers[0][1] is True
    assert answers[-1][1] is None


def test_what_a_model_does_elsewhere_counts_for_little(days: Days) -> None:
    run_sync(days.router.update_config({"task_mappings": {"plan": CODER}}, "test"))
    for _ in range(12):
        days.do("failure")
    assert days.do(None)[0] == CLAUDE
    assert days.do(None, "plan") == (CODER, True)


def test_an_outcome_counts_for_the_model_that_did_the_task(days: Days) -> None:
    for _ in range(8):
        answer = run_sync(days.router.route_task("debug", "routine"))
        run_sync(
            days.router.record_usage(
                CLAUDE, 1, 1, decision_id=answer.decision_id, outcome="failure"
            )
        )
    # The local model did none of them.
    assert days.do(None) == (CODER, None)


def test_the_same_outcome_counts_once_and_another_one_is_refused(days: Days) -> None:
    answer = run_sync(days.router.route_task("debug", "routine"))
    for _ in range(30):
        run_sync(days.router.outcomes.close(answer.decision_id, "failure"))
    with pytest.raises(InvalidInputError, match="closed as failure"):
        run_sync(days.router.outcomes.close(answer.decision_id, "success"))
    assert days.do(None) == (CODER, None)


def delegated(days: Days, outcome: Outcome) -> int:
    answer = run_sync(days.router.route_task("debug", "routine"))
    run_sync(days.router.handover.record(CODER, TokenCounts(5), answer.decision_id, outcome))
    return answer.decision_id


def record_of(days: Days, model: str) -> list[tuple[Any, ...]]:
    return wire.rows(
        days.file,
        "SELECT successes, failures, faded_successes, faded_failures FROM immunos_mcp_record"
        " WHERE task_type = 'debug' AND model = ?",
        model,
    )


def test_an_answer_that_nobody_judged_teaches_nothing(days: Days) -> None:
    for _ in range(10):
        delegated(days, Outcome.SUCCESS)
        delegated(days, Outcome.FAILURE)
    assert record_of(days, CODER) == [(0, 0, 0.0, 0.0)]
    assert wire.rows(days.file, "SELECT count(*) FROM immunos_mcp_outcome") == [(0,)]


@pytest.mark.parametrize(
    ("model", "record"),
    [
        (None, "haiku"),
        ("claude-haiku-4-5-20251001", "haiku"),
        ("claude-sonnet-4.5", "sonnet"),
        ("claude-opus-4-8", "claude"),
        ("opus-of-mine:7b", "opus-of-mine:7b"),
    ],
)
def test_the_outcome_of_an_advised_tier_is_joined_to_the_one_that_did_the_task(
    days: Days, model: str | None, record: str
) -> None:
    run_sync(days.router.update_config({"task_mappings": {"debug": "haiku,sonnet"}}, "test"))
    answer = run_sync(days.router.route_task("debug", "routine"))
    assert (answer.model, answer.provider) == ("haiku", "claude")
    run_sync(days.router.record_usage(model, decision_id=answer.decision_id, outcome="failure"))
    assert [row[:2] for row in record_of(days, record)] == [(0, 1)]
    days.now += timedelta(minutes=1)
    # The user knows better; the record that has the outcome is corrected.
    run_sync(days.router.outcomes.close(answer.decision_id, "success"))
    assert [row[:2] for row in record_of(days, record)] == [(1, 0)]
    found = run_sync(days.router._ledger.read(history))  # pyright: ignore[reportPrivateUsage]
    known_then = RecordsSoFar(found.records)
    for outcome in found.outcomes():
        known_then.learn(outcome, SETTINGS)
    assert known_then.evidence()["debug", record].successes == 1


def test_a_judged_outcome_takes_the_place_of_one_that_nobody_judged(days: Days) -> None:
    decision_id = delegated(days, Outcome.SUCCESS)
    # Claude had to do it again, since the local model's work was no good.
    run_sync(days.router.record_usage(CLAUDE, 1, 1, decision_id=decision_id, outcome="failure"))
    assert record_of(days, CODER) == [(0, 1, 0.0, 1.0)]
    assert record_of(days, "claude") == [(0, 0, 0.0, 0.0)]
    with pytest.raises(InvalidInputError, match="closed as failure"):
        run_sync(days.router.outcomes.close(decision_id, "success", judge=Judge.ASSISTANT))


@pytest.mark.parametrize(
    ("earlier", "later"), [("check", "assistant"), ("check", "user"), ("assistant", "user")]
)
def test_a_judge_overrules_those_that_know_less(days: Days, earlier: str, later: str) -> None:
    decision_id = delegated(days, Outcome.SUCCESS)

    def judged(judge: str, outcome: str) -> None:
        run_sync(days.router.outcomes.close(decision_id, outcome, judge=Judge(judge)))

    judged(earlier, "success")
    days.now += timedelta(days=180)
    judged(later, "failure")
    assert record_of(days, CODER) == [(0, 1, 0.0, 1.0)]
    with pytest.raises(InvalidInputError, match="closed as failure"):
        judged(earlier, "success")
    judged(earlier, "failure")
    assert wire.rows(
        days.file,
        "SELECT outcome_source FROM immunos_mcp_decision WHERE decision_id = ?",
        decision_id,
    ) == [(later,)]


def test_three_judges_one_after_the_other_leave_the_last_word_alone_in_the_record(
    days: Days,
) -> None:
    decision_id = delegated(days, Outcome.SUCCESS)
    for judge, outcome in (
        (Judge.CHECK, "success"),
        (Judge.ASSISTANT, "failure"),
        (Judge.USER, "success"),
    ):
        run_sync(days.router.outcomes.close(decision_id, outcome, judge=judge))
    assert record_of(days, CODER) == [(1, 0, 1.0, 0.0)]
    assert wire.rows(
        days.file, "SELECT coalesce(outcome, 'decision') FROM immunos_mcp_outcome"
    ) == [("success",), ("failure",), ("decision",)]


def test_a_judgement_that_agrees_is_the_last_word(days: Days) -> None:
    decision_id = delegated(days, Outcome.SUCCESS)
    assert record_of(days, CODER) == [(0, 0, 0.0, 0.0)]
    run_sync(days.router.outcomes.close(decision_id, "success"))
    assert record_of(days, CODER) == [(1, 0, 1.0, 0.0)]
    with pytest.raises(InvalidInputError, match="closed as success"):
        run_sync(days.router.outcomes.close(decision_id, "failure"))


def test_what_nobody_judged_does_not_change_a_judgement(days: Days) -> None:
    answer = run_sync(days.router.route_task("debug", "routine"))
    run_sync(days.router.outcomes.close(answer.decision_id, "failure"))
    with pytest.raises(InvalidInputError, match="closed as failure"):
        run_sync(
            days.router.handover.record(CODER, TokenCounts(5), answer.decision_id, Outcome.SUCCESS)
        )


@examples.on_ledgers
@given(
    st.lists(
        st.tuples(
            st.sampled_from((CODER, SMALL, CLAUDE)),
            st.sampled_from(("success", "failure")),
            st.integers(0, 1000),
            st.floats(0, 100),
        ),
        max_size=12,
    )
)
def test_the_ledger_sums_up_what_became_of_tasks_by_model(
    tmp_path_factory: pytest.TempPathFactory, done: list[tuple[str, str, int, float]]
) -> None:
    file = tmp_path_factory.mktemp("record") / "ledger.db"
    made_ledgers.put(file, made_ledgers.empty())
    with InlineSqliteLedger(file) as ledger:
        days = Days(ledger)
        for model, outcome, tokens, seconds in done:
            answer = run_sync(days.router.route_task("debug", "routine"))
            run_sync(
                days.router.record_usage(
                    model,
                    tokens,
                    1,
                    decision_id=answer.decision_id,
                    outcome=outcome,
                    seconds=seconds,
                )
            )
    for kind in ("debug", ""):
        for model in (CODER, SMALL, CLAUDE):
            theirs = [each for each in done if each[0] == model]
            row = wire.rows(
                file,
                "SELECT successes, failures, tokens, seconds FROM immunos_mcp_record"
                " WHERE task_type = ? AND model = ?",
                kind,
                shared_record_key(model, SETTINGS),
            )
            if not theirs:
                assert row == []
                continue
            ((successes, failures, tokens, seconds),) = row
            assert successes == sum(each[1] == "success" for each in theirs)
            assert failures == sum(each[1] == "failure" for each in theirs)
            assert tokens == sum(each[2] + 1 for each in theirs)
            assert seconds == pytest.approx(sum(each[3] for each in theirs))


def test_an_outcome_names_the_model_whose_record_has_it(home: Path) -> None:
    wire.run(home, *ROUTE)
    of_claude = ("--model", CLAUDE, "--input", "10", "--output", "1", "--decision-id", "1")
    wire.run(home, "record", *of_claude, "--outcome", "success")
    assert wire.run_json(home, "outcome", "1", "success")["model"] == CLAUDE_RECORD


def test_what_an_explanation_rounds_still_tells_numbers_apart() -> None:
    many = ModelRecord(Evidence(1300, 1007, NOW), Evidence(1300, 1007, NOW))
    advising = replace(SETTINGS, record_gain=0.3605, track_record=Consultation.ADVISE)
    told = explain(advising, Circumstances(0, record=known(coder=many, small=GOOD)), DEBUG)
    assert told.steps[0] == (
        f"{CODER}: 56% of debug expected to succeed (2,307 outcomes), 54% needed: would be kept"
    )
    near = ModelRecord(Evidence(6, 7, NOW), Evidence(6, 7, NOW))
    told = explain(advising, Circumstances(0, record=known(coder=near, small=GOOD)), DEBUG)
    assert told.steps[0] == (
        f"{CODER}: 54.2% of debug expected to succeed (13 outcomes), 54.0% needed: would be kept"
    )


def test_an_outcome_is_kept_by_a_command(home: Path) -> None:
    wire.run(home, *ROUTE)
    done = wire.run(home, "outcome", "1", "failure", "--seconds", "2.5")
    assert (done.returncode, done.stdout) == (
        0,
        "Recorded failure of decision 1: qwen2.5-coder:7b at debug\n",
    )
    assert wire.run_json(home, "outcome", "1", "failure") == {
        "decision_id": 1,
        "outcome": "failure",
        "task_type": "debug",
        "model": CODER,
    }
    assert wire.rows(
        wire.ledger_path(home), "SELECT failures, seconds FROM immunos_mcp_record"
    ) == [(1, 2.5), (1, 2.5)]
    (logged,) = wire.run_json(home, "history")
    assert logged["outcome"] == "failure"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("7", "failure"), "decision_id: must be the id of an earlier decision (got 7)"),
        (("0", "failure"), "decision_id: must be the id of an earlier decision (got 0)"),
        (("1", "meh"), "outcome: must be success or failure (got 'meh')"),
        (("1", "failure", "--seconds", "-1"), "must be a number of seconds"),
        (
            ("1", "failure", "--seconds", "90000"),
            "seconds: must be a number from 0 to 86400 (got 90000.0)",
        ),
    ],
)
def test_an_outcome_that_cannot_be_taken_is_refused(
    home: Path, arguments: tuple[str, ...], words: str
) -> None:
    wire.run(home, *ROUTE)
    before = wire.dump(wire.ledger_path(home))
    done = wire.run(home, "outcome", *arguments)
    assert (done.returncode, words in done.stderr) == (2, True)
    assert "Outcome." not in done.stderr
    assert wire.dump(wire.ledger_path(home)) == before


def test_an_assistant_is_told_of_trials_and_of_models_passed_over(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        task = {"task_type": "debug", "classification": "routine"}
        result: dict[str, Any] = {}
        answers: list[dict[str, Any]] = []
        for _ in range(12):
            result = server.call("route_task", **task)
            answers.append(result["structuredContent"])
            server.answer(
                "record_usage",
                model=answers[-1]["model"],
                input_tokens=1,
                output_tokens=1,
                decision_id=answers[-1]["decision_id"],
                outcome="failure" if answers[-1]["model"] == CODER else "success",
            )
        assert answers[0]["model"] == CODER
        assert any(answer.get("trial") for answer in answers)
        assert (answers[-1]["model"], answers[-1]["changed_by"]) == (CLAUDE, "track_record")
        assert ", which fails too often. " in result["content"][0]["text"]
        server.answer("update_config", track_record="advise")
        advised = server.call("route_task", **task)
        assert advised["structuredContent"]["model"] == CODER
        assert advised["structuredContent"]["advised_model"] == CLAUDE
        assert f"The track record advises {CLAUDE}" in advised["content"][0]["text"]
        assert server.finish() == 0


def test_reading_the_record_costs_the_same_however_long_the_log_is(days: Days) -> None:
    for _ in range(3):
        days.do("failure")

    query = "EXPLAIN QUERY PLAN SELECT * FROM immunos_mcp_record WHERE task_type IN ('', 'debug')"
    assert [row[-1] for row in wire.rows(days.file, query)] == [
        "SEARCH immunos_mcp_record USING PRIMARY KEY (task_type=?)"
    ]


def test_the_constants_are_settings(days: Days) -> None:
    run_sync(days.router.update_config({"record_gain": 0, "record_local_rate": 0.5}, "test"))
    assert run_sync(days.router.get_config()) == Settings(record_gain=0.0, record_local_rate=0.5)
    with pytest.raises(
        InvalidInputError, match=r"record_gain: must be a number from 0 to 1 \(got 2\)"
    ):
        run_sync(days.router.update_config({"record_gain": 2}, "test"))


def test_what_another_process_learns_is_seen_at_the_next_decision(days: Days) -> None:
    assert days.do(None) == (CODER, None)
    with InlineSqliteLedger(days.file) as other:
        elsewhere = Router(other, "default", lambda: days.now)
        for _ in range(6):
            answer = run_sync(elsewhere.route_task("debug", "routine"))
            run_sync(
                elsewhere.record_usage(
                    CODER, 1, 1, decision_id=answer.decision_id, outcome="failure"
                )
            )
    assert days.do(None)[0] == CLAUDE


def test_what_a_process_learns_itself_is_seen_at_the_next_decision(days: Days) -> None:
    models = [days.do("failure")[0] for _ in range(8)]
    assert (models[0], models[-1]) == (CODER, CLAUDE)
