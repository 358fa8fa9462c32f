"""How well a model does a kind of task, and whether to pass it over: pure.

The estimate is Beta-Binomial shrinkage (parametric empirical Bayes; Morris, "Parametric Empirical
Bayes Inference", JASA 78, 1983): outcomes at a task type are added to a Beta prior whose mean is the
model's rate at all other task types, so that few outcomes count for little. Outcomes fade
exponentially with age (discounted counts; Garivier and Moulines, "On Upper-Confidence Bound
Policies for Switching Bandit Problems", ALT 2011), so two totals for each task type and model are the
whole state. The totals are linear: outcomes may arrive in any order.

Trials follow the knowledge gradient over a batch, KG(*) (Frazier and Powell, "Paradoxes in Learning
and the Marginal Value of Information", Decision Analysis 7, 2010), with a chance every so many days
besides. Nothing is random: the same evidence at the same moment gives the same verdict.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from immunos_mcp.rules.settings import Settings

OVERALL_STRENGTH = 10.0
"""How many outcomes the assumed rate counts for against those that were seen anywhere."""

TRIAL_OUTCOMES = 10
"""How many outcomes a trial is judged by: one alone could hardly ever change the choice."""

_LEAST_PARAMETER = 1e-9
_MOST_STEPS = 10_000
_SECONDS_OF_A_DAY = 86_400
_ROOT_OF_2 = math.sqrt(2)
_ROOT_OF_2_PI = math.sqrt(2 * math.pi)


class Evidence(Struct, frozen=True):
    """A model's outcomes, at one task type or overall.

    Attributes:
        successes: each weighed down by its age at ``at``.
        failures: likewise.
        at: the moment of the newest outcome; ``None`` before the first.
        succeeded: whether the newest outcome was a success.
        tried_at: when a task was last given to the model as a trial.
    """

    successes: float = 0.0
    failures: float = 0.0
    at: datetime | None = None
    succeeded: bool = False
    tried_at: datetime | None = None


class ModelRecord(Struct, frozen=True):
    """A model's outcomes at one task type, and at all task types together, that one included."""

    here: Evidence = Evidence()
    everywhere: Evidence = Evidence()


class Estimate(Struct, frozen=True):
    """How often a model is expected to succeed: a Beta distribution.

    Attributes:
        rate: its mean, from 0 to 1.
        strength: how many outcomes it stands on, those that were assumed included; infinite where
            the rate is taken as given.
        outcomes: how many of them were seen at this task type, each weighed by its age.
    """

    rate: float
    strength: float
    outcomes: float


class Verdict(Struct, frozen=True):
    """What the track record makes of a model at a task type, beside the Claude model behind it.

    Attributes:
        passed_over: whether the task should go to another model.
        trial: whether that is so only to learn more: the record alone says the opposite.
        own: what is expected of the model.
        claude: what is expected of the Claude model behind it.
        needed: the success rate from which the record alone keeps the model.
    """

    passed_over: bool
    trial: bool
    own: Estimate
    claude: Estimate
    needed: float


class TaskRecord(Struct, frozen=True):
    """What outcomes say of each model at a task type, at the moment of a decision.

    Attributes:
        models: by the name that ``claude_tiers.record_key`` gives a model; others have no record yet.
        now: the moment.
    """

    models: Mapping[str, ModelRecord]
    now: datetime


def _weight(earlier: datetime, later: datetime, settings: Settings) -> float:
    days = (later - earlier).total_seconds() / _SECONDS_OF_A_DAY
    return 0.5 ** (days / settings.record_half_life_days)


def add(evidence: Evidence, *, succeeded: bool, at: datetime, settings: Settings) -> Evidence:
    """Return evidence with an outcome of a moment, earlier ones included.

    Of outcomes at the same moment a failure counts as the newest.
    """
    newest, last, age = evidence.at, succeeded, 1.0
    successes, failures = evidence.successes, evidence.failures
    if newest is None or at > newest:
        if newest is not None:
            fading = _weight(newest, at, settings)
            successes *= fading
            failures *= fading
        newest = at
    elif at == newest:
        last = succeeded and evidence.succeeded
    else:
        last = evidence.succeeded
        age = _weight(at, newest, settings)
    if succeeded:
        successes += age
    else:
        failures += age
    return Evidence(successes, failures, newest, last, evidence.tried_at)


def take_back(evidence: Evidence, *, succeeded: bool, at: datetime, settings: Settings) -> Evidence:
    """Return evidence without an outcome that was added at a moment, and that turned out otherwise."""
    weight = 1.0
    if evidence.at is not None and at < evidence.at:
        weight = _weight(at, evidence.at, settings)
    successes, failures = evidence.successes, evidence.failures
    if succeeded:
        successes = max(0.0, successes - weight)
    else:
        failures = max(0.0, failures - weight)
    return replace(evidence, successes=successes, failures=failures)


def tried(evidence: Evidence, at: datetime) -> Evidence:
    """Return evidence that remembers a trial given at a moment.

    Until its outcome is known, or the days of ``record_retry_days`` are over, no other trial is made.
    """
    return Evidence(
        evidence.successes, evidence.failures, evidence.at, evidence.succeeded, tried_at=at
    )


def _faded(evidence: Evidence, now: datetime, settings: Settings) -> tuple[float, float]:
    if evidence.at is None:
        return 0.0, 0.0
    if now <= evidence.at:
        return evidence.successes, evidence.failures
    fading = _weight(evidence.at, now, settings)
    return evidence.successes * fading, evidence.failures * fading


def _estimate(
    record: ModelRecord, assumed_rate: float, strength: float, settings: Settings, now: datetime
) -> Estimate:
    successes, failures = _faded(record.here, now, settings)
    all_successes, all_failures = _faded(record.everywhere, now, settings)
    elsewhere_successes = max(0.0, all_successes - successes)
    elsewhere = elsewhere_successes + max(0.0, all_failures - failures)
    prior = (elsewhere_successes + OVERALL_STRENGTH * assumed_rate) / (elsewhere + OVERALL_STRENGTH)
    outcomes = successes + failures
    total = outcomes + strength
    return Estimate((successes + strength * prior) / total, total, outcomes)


def estimate_local(record: ModelRecord, settings: Settings, now: datetime) -> Estimate:
    """Return what is expected of a local model at the record's task type."""
    return _estimate(
        record, settings.record_local_rate, settings.record_local_strength, settings, now
    )


def estimate_claude(record: ModelRecord, settings: Settings, now: datetime) -> Estimate:
    """Return what is expected of Claude at the record's task type.

    As long as no outcome of Claude was recorded anywhere, that is the assumed rate, taken as given.
    """
    if record.everywhere.at is None:
        return Estimate(settings.record_claude_rate, math.inf, 0.0)
    return _estimate(
        record, settings.record_claude_rate, settings.record_claude_strength, settings, now
    )


def _variance(estimate: Estimate) -> float:
    return estimate.rate * (1 - estimate.rate) / (estimate.strength + 1)


def _is_worth_a_trial(
    challenger: Estimate, favourite: Estimate, shortfall: float, horizon: float
) -> bool:
    """Return whether outcomes of the challenger are expected to gain more than they cost.

    Each of ``TRIAL_OUTCOMES`` tasks costs the shortfall; what they teach serves ``horizon`` tasks.
    Trials go to the less known of the two only, since the other has little left to teach; a rate
    that is taken as given has nothing.
    """
    variance = _variance(challenger)
    if variance < _variance(favourite):
        return False
    change = math.sqrt(variance * TRIAL_OUTCOMES / (challenger.strength + TRIAL_OUTCOMES))
    if change <= 0:
        return False
    distance = shortfall / change
    density = math.exp(-distance * distance / 2) / _ROOT_OF_2_PI
    improvement = change * (density - distance * math.erfc(distance / _ROOT_OF_2) / 2)
    return horizon * improvement > TRIAL_OUTCOMES * shortfall


def _is_answered(evidence: Evidence) -> bool:
    tried_at = evidence.tried_at
    return tried_at is None or (evidence.at is not None and evidence.at >= tried_at)


def _is_overdue(evidence: Evidence, settings: Settings, now: datetime) -> bool:
    moments = [moment for moment in (evidence.at, evidence.tried_at) if moment is not None]
    if not moments:
        return True
    return (now - max(moments)).total_seconds() >= settings.record_retry_days * _SECONDS_OF_A_DAY


def judge(
    own: ModelRecord,
    claude: ModelRecord,
    settings: Settings,
    now: datetime,
    estimate_own: Callable[[ModelRecord, Settings, datetime], Estimate] = estimate_local,
) -> Verdict:
    """Return whether a task should pass a model over, for the Claude model behind it.

    It should where that one's expected success rate is higher by more than ``settings.record_gain``. As long as
    no outcome of it was recorded anywhere, that is where the model's own is below
    ``settings.record_claude_rate - settings.record_gain``.

    Whichever of the two the record speaks against gets the task as a trial where that is expected to
    gain more than it costs; the one behind only if outcomes of it are recorded at all. The model gets
    it also if it was never tried at the task type, if its last outcome was a success, and if it had
    neither outcome nor trial for ``settings.record_retry_days``. While a trial's outcome is awaited, only the
    passing of those days makes another.

    A verdict that is a trial and is followed has to be remembered by ``tried``, for the model that
    gets the task. ``estimate_own`` is ``estimate_claude`` where the model is Claude's too.
    """
    of_own = estimate_own(own, settings, now)
    of_claude = estimate_claude(claude, settings, now)
    needed = of_claude.rate - settings.record_gain
    shortfall = needed - of_own.rate
    if shortfall > 0:
        trial = _is_overdue(own.here, settings, now) or (
            _is_answered(own.here)
            and (
                own.here.succeeded
                or _is_worth_a_trial(of_own, of_claude, shortfall, settings.record_horizon)
            )
        )
        return Verdict(not trial, trial, of_own, of_claude, needed)
    trial = _is_worth_a_trial(of_claude, of_own, -shortfall, settings.record_horizon) and (
        _is_answered(claude.here) or _is_overdue(claude.here, settings, now)
    )
    return Verdict(trial, trial, of_own, of_claude, needed)


def interval(estimate: Estimate, mass: float = 0.9) -> tuple[float, float]:
    """Return the equal-tailed credible interval of a success rate.

    The bounds hold ``mass`` of the Beta distribution, to six decimals; of a rate that is taken as
    given both are that rate. It takes a hundred times as long as a verdict: for reports.
    """
    if estimate.strength == math.inf:
        return estimate.rate, estimate.rate
    a = estimate.rate * estimate.strength
    b = estimate.strength - a
    if min(a, b) < _LEAST_PARAMETER:
        return estimate.rate, estimate.rate
    tail = (1 - mass) / 2
    return _quantile(tail, a, b), _quantile(1 - tail, a, b)


def _quantile(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        if _beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(1 - x, b, a)
    if x <= 0:
        return 0.0
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logarithm + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    numerator, denominator, fraction = 1.0, 0.0, 1.0
    for step in range(_MOST_STEPS):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        denominator = 1 / ((1 + term * denominator) or tiny)
        numerator = (1 + term / numerator) or tiny
        fraction *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-12:
            break
    return front * (fraction - 1)
