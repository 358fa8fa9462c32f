"""The track record: what outcomes make of a model, when it is passed over, and how it recovers."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.rules.settings import Settings
from immunos_mcp.rules.track_record import (
    Estimate,
    Evidence,
    ModelRecord,
    add,
    estimate_claude,
    estimate_local,
    interval,
    judge,
    tried,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "routing_quality.py"
START = datetime(2026, 1, 15, 12, tzinfo=UTC)
SETTINGS = Settings()
UNKNOWN = ModelRecord()

outcomes = st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=12)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


NOW = day(1000)


def gathered(
    seen: Iterable[tuple[bool, float]], settings: Settings = SETTINGS, start: Evidence | None = None
) -> Evidence:
    evidence = start or Evidence()
    for succeeded, days in seen:
        evidence = add(evidence, succeeded=succeeded, at=day(days), settings=settings)
    return evidence


def only_here(seen: Sequence[tuple[bool, float]]) -> ModelRecord:
    """Return the record of a model that did this one task type and no other."""
    evidence = gathered(seen)
    return ModelRecord(evidence, evidence)


def many(succeeded: bool, count: int, days: float = 1000) -> list[tuple[bool, float]]:
    return [(succeeded, days)] * count


# Evidence


@given(outcomes, st.randoms())
def test_outcomes_may_arrive_in_any_order(
    seen: list[tuple[bool, float]], shuffle: random.Random
) -> None:
    other = list(seen)
    shuffle.shuffle(other)
    first, second = gathered(seen), gathered(other)
    assert (first.at, first.succeeded) == (second.at, second.succeeded)
    assert first.successes == pytest.approx(second.successes)
    assert first.failures == pytest.approx(second.failures)


def test_an_outcome_counts_whole_at_first_and_half_after_the_half_life() -> None:
    settings = replace(SETTINGS, record_half_life_days=10)
    evidence = gathered([(True, 0), (False, 10)], settings)
    assert (evidence.successes, evidence.failures) == pytest.approx((0.5, 1.0))
    assert evidence == gathered([(False, 10), (True, 0)], settings)
    record = ModelRecord(evidence, evidence)
    assert estimate_local(record, settings, day(20)).outcomes == pytest.approx(0.75)


def test_what_is_kept_does_not_grow_with_the_outcomes() -> None:
    evidence = gathered((number % 3 == 0, number / 10) for number in range(5000))
    most = 10 / -math.expm1(-math.log(2) / SETTINGS.record_half_life_days)
    assert evidence.successes + evidence.failures < most


def test_the_newest_outcome_is_known_whichever_arrives_last() -> None:
    assert gathered([(False, 2), (True, 1)]).succeeded is False
    assert gathered([(True, 2), (False, 1)]).succeeded is True
    assert gathered([(True, 1), (False, 1)]).succeeded is False


# The estimate


@given(outcomes, outcomes, st.floats(0, 1000))
def test_a_success_never_lowers_the_estimate_and_a_failure_never_raises_it(
    here: list[tuple[bool, float]], elsewhere: list[tuple[bool, float]], at: float
) -> None:
    rates: list[float] = []
    for more in ([(False, at)], [], [(True, at)]):
        at_type = gathered([*here, *more])
        everywhere = gathered([*here, *elsewhere, *more])
        rates.append(estimate_local(ModelRecord(at_type, everywhere), SETTINGS, NOW).rate)
    assert rates[0] <= rates[1] + 1e-9
    assert rates[1] <= rates[2] + 1e-9
    assert 0 < rates[0] <= rates[2] < 1


@given(outcomes, outcomes)
def test_the_estimate_lies_between_what_was_seen_here_and_what_was_expected(
    here: list[tuple[bool, float]], elsewhere: list[tuple[bool, float]]
) -> None:
    at_type, everywhere = gathered(here), gathered([*here, *elsewhere])
    expected = estimate_local(ModelRecord(Evidence(), gathered(elsewhere)), SETTINGS, NOW).rate
    found = estimate_local(ModelRecord(at_type, everywhere), SETTINGS, NOW).rate
    total = at_type.successes + at_type.failures
    seen = at_type.successes / total if total else expected
    assert min(seen, expected) - 1e-9 <= found <= max(seen, expected) + 1e-9


def test_nothing_known_is_the_assumed_rate() -> None:
    assert estimate_local(UNKNOWN, SETTINGS, NOW) == Estimate(0.75, 5, 0)
    assert estimate_claude(UNKNOWN, SETTINGS, NOW) == Estimate(0.9, math.inf, 0)


def test_few_outcomes_move_little_and_many_decide() -> None:
    def after(failures: int) -> float:
        return estimate_local(only_here(many(False, failures)), SETTINGS, NOW).rate

    assert after(1) == pytest.approx(0.75 * 5 / 6)
    assert after(5) == pytest.approx(0.75 / 2)
    assert after(100) < 0.04


def test_a_new_task_type_starts_from_the_record_at_the_others() -> None:
    elsewhere = gathered([*many(True, 80), *many(False, 20)])
    found = estimate_local(ModelRecord(Evidence(), elsewhere), SETTINGS, NOW)
    assert found.rate == pytest.approx((80 + 7.5) / 110)
    assert (found.strength, found.outcomes) == (5, 0)


def test_the_record_at_a_task_type_is_not_counted_as_that_at_others_too() -> None:
    record = only_here(many(False, 20))
    assert estimate_local(record, SETTINGS, NOW).rate == pytest.approx(0.75 * 5 / 25)


def test_old_outcomes_give_way_to_what_was_assumed() -> None:
    record = only_here(many(False, 30, days=0))
    assert estimate_local(record, SETTINGS, day(0)).rate < 0.15
    assert estimate_local(record, SETTINGS, day(3000)).rate == pytest.approx(0.75, abs=0.01)


def test_a_moment_before_the_newest_outcome_sees_it_whole() -> None:
    record = only_here(many(False, 5, days=10))
    assert estimate_local(record, SETTINGS, day(9)) == estimate_local(record, SETTINGS, day(10))


# The interval


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_the_interval_holds_what_it_says(successes: int, failures: int, mass: float) -> None:
    """Of a Beta with whole parameters the distribution is a sum of binomial terms."""
    trials = successes + failures - 1

    def below(x: float) -> float:
        terms = range(successes, trials + 1)
        return sum(math.comb(trials, k) * x**k * (1 - x) ** (trials - k) for k in terms)

    total = successes + failures
    low, high = interval(Estimate(successes / total, total, 0), mass)
    assert below(low) == pytest.approx((1 - mass) / 2, abs=1e-5)
    assert below(high) == pytest.approx((1 + mass) / 2, abs=1e-5)


@given(st.floats(0, 1), st.floats(0.5, 1e6))
def test_an_interval_is_one_whatever_the_estimate(rate: float, strength: float) -> None:
    low, high = interval(Estimate(rate, strength, 0))
    assert 0 <= low <= high <= 1


def test_an_interval_narrows_with_outcomes_and_vanishes_where_the_rate_is_given() -> None:
    def width(count: int) -> float:
        record = only_here([*many(True, count), *many(False, count)])
        low, high = interval(estimate_local(record, SETTINGS, NOW))
        return high - low

    assert width(50) < width(5) < width(0)
    assert interval(estimate_claude(UNKNOWN, SETTINGS, NOW)) == (0.9, 0.9)


# The verdict


def test_a_model_that_nothing_is_known_of_keeps_its_tasks() -> None:
    verdict = judge(UNKNOWN, UNKNOWN, SETTINGS, NOW)
    assert (verdict.passed_over, verdict.trial) == (False, False)
    assert verdict.needed == pytest.approx(0.6)


def test_one_failure_passes_nobody_over_and_ten_do() -> None:
    assert not judge(only_here(many(False, 1)), UNKNOWN, SETTINGS, NOW).passed_over
    verdict = judge(only_here(many(False, 10)), UNKNOWN, SETTINGS, NOW)
    assert (verdict.passed_over, verdict.trial) == (True, False)


def test_a_model_that_does_well_keeps_its_tasks() -> None:
    record = only_here([*many(True, 16), *many(False, 4)])
    verdict = judge(record, UNKNOWN, SETTINGS, NOW)
    assert (verdict.passed_over, verdict.trial) == (False, False)


def test_failures_at_other_task_types_alone_leave_it_a_first_chance() -> None:
    elsewhere = gathered(many(False, 200))
    verdict = judge(ModelRecord(Evidence(), elsewhere), UNKNOWN, SETTINGS, NOW)
    assert (verdict.passed_over, verdict.trial) == (False, True)


def test_what_counts_is_what_claude_would_gain() -> None:
    half = only_here([*many(True, 20), *many(False, 20)])
    claude_well, claude_badly = only_here(many(True, 40)), only_here(many(False, 40))
    assert judge(half, UNKNOWN, SETTINGS, NOW).passed_over
    assert judge(half, claude_well, SETTINGS, NOW).passed_over
    verdict = judge(half, claude_badly, SETTINGS, NOW)
    assert (verdict.passed_over, verdict.trial) == (False, False)


def test_claude_is_never_tried_while_nobody_records_its_outcomes() -> None:
    for failures in range(40):
        record = only_here([*many(True, 20), *many(False, failures)])
        verdict = judge(record, UNKNOWN, SETTINGS, NOW)
        assert not (verdict.passed_over and verdict.trial)


def test_claude_is_tried_where_its_outcomes_could_change_the_choice_and_only_there() -> None:
    elsewhere = gathered([*many(True, 18), *many(False, 2)])
    claude = ModelRecord(Evidence(), elsewhere)
    doubtful = only_here([*many(True, 25), *many(False, 17)])
    good = only_here([*many(True, 39), *many(False, 1)])
    verdict = judge(doubtful, claude, SETTINGS, NOW)
    assert (verdict.passed_over, verdict.trial) == (True, True)
    waiting = ModelRecord(tried(Evidence(), NOW), elsewhere)
    assert not judge(doubtful, waiting, SETTINGS, NOW + timedelta(days=1)).trial
    assert judge(doubtful, waiting, SETTINGS, NOW + timedelta(days=30)).trial
    assert not judge(good, claude, SETTINGS, NOW).trial
    assert not judge(doubtful, claude, replace(SETTINGS, record_horizon=0), NOW).trial


def test_a_trial_has_to_be_expected_to_gain_more_than_it_costs() -> None:
    """What ten more outcomes are worth is integrated here, and in closed form in the rule."""
    record = only_here([*many(True, 20), *many(False, 20)])
    found = estimate_local(record, SETTINGS, NOW)
    spread = math.sqrt(
        found.rate * (1 - found.rate) / (found.strength + 1) * 10 / (found.strength + 10)
    )
    step = 0.002
    normal = [number * step for number in range(-3000, 3001)]
    seen: set[bool] = set()
    for shortfall in (number / 500 for number in range(1, 80)):
        improvement = (
            sum(max(0.0, spread * z - shortfall) * math.exp(-z * z / 2) for z in normal)
            * step
            / math.sqrt(2 * math.pi)
        )
        worth = SETTINGS.record_horizon * improvement / (10 * shortfall)
        settings = replace(
            SETTINGS, record_gain=SETTINGS.record_claude_rate - found.rate - shortfall
        )
        verdict = judge(record, UNKNOWN, settings, NOW)
        assert verdict.trial is (worth > 1), f"{shortfall}: {worth}"
        seen.add(verdict.trial)
    assert seen == {True, False}


def test_a_trial_that_waits_for_its_outcome_has_no_second() -> None:
    record = only_here([*many(True, 20), *many(False, 20)])
    settings = replace(SETTINGS, record_gain=0.37)
    assert judge(record, UNKNOWN, settings, NOW).trial
    waiting = replace(record, here=tried(record.here, NOW + timedelta(hours=1)))
    verdict = judge(waiting, UNKNOWN, settings, NOW + timedelta(hours=2))
    assert (verdict.passed_over, verdict.trial) == (True, False)


def test_the_better_known_of_the_two_gets_no_trial() -> None:
    local = only_here([*many(True, 50), *many(False, 50)])
    claude = only_here([*many(True, 12), *many(False, 3)])
    needed = estimate_claude(claude, SETTINGS, NOW).rate
    just_short = replace(
        SETTINGS, record_gain=needed - estimate_local(local, SETTINGS, NOW).rate - 0.001
    )
    assert judge(local, UNKNOWN, replace(just_short, record_claude_rate=needed), NOW).trial
    verdict = judge(local, claude, just_short, NOW)
    assert (verdict.passed_over, verdict.trial) == (True, False)


def test_a_model_that_is_passed_over_gets_one_trial_when_its_days_are_over() -> None:
    record = only_here(many(False, 10))
    before, then = NOW + timedelta(days=29.9), NOW + timedelta(days=30)
    assert judge(record, UNKNOWN, SETTINGS, before).passed_over
    verdict = judge(record, UNKNOWN, SETTINGS, then)
    assert (verdict.passed_over, verdict.trial) == (False, True)
    waiting = replace(record, here=tried(record.here, then))
    assert judge(waiting, UNKNOWN, SETTINGS, then).passed_over
    assert judge(waiting, UNKNOWN, SETTINGS, then + timedelta(days=29)).passed_over
    assert judge(waiting, UNKNOWN, SETTINGS, then + timedelta(days=30)).trial


def test_a_trial_that_succeeded_earns_the_next_and_one_that_failed_does_not() -> None:
    for succeeded in (True, False):
        here = gathered([(succeeded, 1000)], start=tried(gathered(many(False, 20, 990)), NOW))
        verdict = judge(ModelRecord(here, here), UNKNOWN, SETTINGS, NOW)
        assert verdict.trial is succeeded
        assert verdict.passed_over is not succeeded


class Worker:
    """A local model at its task type, routed by the rule, its outcomes recorded."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.record = UNKNOWN
        self.settings = settings

    def decide(self, now: datetime, *, succeeds: bool) -> bool:
        """Route a task; return whether the model got it."""
        verdict = judge(self.record, UNKNOWN, self.settings, now)
        if verdict.passed_over:
            return False
        here = tried(self.record.here, now) if verdict.trial else self.record.here
        here = add(here, succeeded=succeeds, at=now, settings=self.settings)
        self.record = ModelRecord(here, here)
        return True


@given(st.integers(1, 60), st.integers(1, 40))
def test_a_repaired_model_is_used_again_and_keeps_its_tasks(failures: int, per_day: int) -> None:
    worker = Worker()
    worker.record = only_here([(False, number / per_day) for number in range(failures)])
    repaired = failures / per_day
    decisions = 31 * per_day + 2 * failures
    used = [
        worker.decide(day(repaired + number / per_day), succeeds=True)
        for number in range(decisions)
    ]
    assert used.index(True) <= 30 * per_day
    assert all(used[used.index(True) :])
    assert not judge(worker.record, UNKNOWN, SETTINGS, day(repaired + decisions / per_day)).trial


@given(st.integers(10, 30))
def test_a_model_that_stays_bad_gets_little(per_day: int) -> None:
    worker = Worker()
    used = [worker.decide(day(number / per_day), succeeds=False) for number in range(60 * per_day)]
    assert 1 <= sum(used[per_day:]) <= 3


@given(outcomes, outcomes, outcomes, outcomes, st.floats(-1, 1))
def test_the_same_evidence_at_the_same_moment_gives_the_same_verdict(
    local: list[tuple[bool, float]],
    local_elsewhere: list[tuple[bool, float]],
    claude: list[tuple[bool, float]],
    claude_elsewhere: list[tuple[bool, float]],
    gain: float,
) -> None:
    settings = replace(SETTINGS, record_gain=gain)

    def verdict() -> object:
        of_local = ModelRecord(gathered(local), gathered([*local, *local_elsewhere]))
        of_claude = ModelRecord(gathered(claude), gathered([*claude, *claude_elsewhere]))
        return judge(of_local, of_claude, settings, NOW)

    assert verdict() == verdict()


@given(outcomes, outcomes, st.floats(-1, 1), st.floats(0, 0.5))
def test_a_higher_demand_on_claude_never_takes_a_task_from_a_local_model(
    local: list[tuple[bool, float]],
    claude: list[tuple[bool, float]],
    gain: float,
    more: float,
) -> None:
    def passed_over(demand: float) -> bool:
        verdict = judge(
            only_here(local), only_here(claude), replace(SETTINGS, record_gain=demand), NOW
        )
        return verdict.passed_over is not verdict.trial

    assume(passed_over(gain + more))
    assert passed_over(gain)


# The benchmark


def tasks_file(folder: Path, types: int, each: int) -> Path:
    """Write tasks that the strong model does nine in ten of, and the weak one as the type has it."""
    rates: defaultdict[str, float] = defaultdict(float)
    for number in range(types):
        rates[f"type_{number}"] = 0.2 if number % 2 else 0.9
    file = folder / "tasks.csv"
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("task_type", "weak_correct", "strong_correct"))
        for name, rate in rates.items():
            for number in range(each):
                position = number / each
                writer.writerow((name, int(position < rate), int(number % 10 != 0)))
    return file


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_the_benchmark_finds_a_learning_router_better_than_chance(tmp_path: Path) -> None:
    file = tasks_file(tmp_path, types=6, each=100)
    done = benchmark(str(file), "--json", "--seeds", "2")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    routers = {name: figures["apgr"] for name, figures in answer["routers"].items()}
    assert (answer["tasks"], answer["task_types"], answer["seeds"]) == (600, 6, 2)
    assert routers["random"] == pytest.approx(0.5, abs=0.06)
    for learning in ("apgr_local_outcomes", "apgr_both_outcomes"):
        assert 0.6 < answer[learning] <= routers["knows_both_rates"] + 0.01
    assert routers["knows_both_rates"] < routers["knows_every_answer"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b\n", "(got ['a', 'b'])"),
        ("task_type,weak_correct,strong_correct\nx,1,yes\n", "must be 0 or 1 (got 'yes')"),
        ("task_type,weak_correct,strong_correct\nx,1,1\n", "strong model must solve more tasks"),
    ],
)
def test_the_benchmark_says_what_a_file_has_to_be_like(
    tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text(content, encoding="utf-8")
    done = benchmark(str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
