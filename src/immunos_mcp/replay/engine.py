"""Logged tasks run through the policy again, in their order: pure functions of a history.

Under the settings of the time every decision comes out as it was logged: the history holds whatever a
decision was made from, the local engine and the order in which outcomes became known included. Under
other settings, tasks that would have gone elsewhere take their tokens along: the session's later
decisions are made at the total that would have been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.answers.answers import Rehearsal
from immunos_mcp.domain import (
    ChangedBy,
    Circumstances,
    Classification,
    Evidence,
    ModelRecord,
    Outcome,
    Provider,
    Reason,
    Task,
    TaskRecord,
    TokenCounts,
    WarningLevel,
)
from immunos_mcp.rules import policy, track_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from immunos_mcp.domain import Engine, Settings
    from immunos_mcp.rules.policy import Case, Choice

_NO_EVIDENCE = Evidence()
END_OF_TIME = "9999"
CROSSED_LEVELS = (WarningLevel.WARNING, WarningLevel.CRITICAL)


class PastDecision(NamedTuple):
    """A decision as the ledger keeps it, with the numbers of what it was made from.

    Attributes:
        is_replayed: false where it only counts as the trial that it was.
        policy_id: the settings it was made with.
        engine_id: the local engine it was made in; ``None``: models were taken for granted.
        decided_at: UTC, ISO 8601.
        session_tokens: budget tokens of the session.
        input_tokens: of Claude in the session, like the three after it; ``None``: not known.
    """

    is_replayed: int
    decision_id: int
    session_id: int
    policy_id: int
    engine_id: int | None
    decided_at: str
    task_type: str
    classification: str
    estimated_tokens: int | None
    session_tokens: int
    plan_used_percent: float | None
    model: str
    provider: str
    changed_by: str | None
    table_model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_creation_input_tokens: int | None
    cache_read_input_tokens: int | None


class PastOutcome(NamedTuple):
    """An outcome, with the newest decision that was made without knowing it.

    Attributes:
        model: the name its record is kept under; ``None``: that of the decision's model.
        known_at: UTC, ISO 8601.
        corrected_at: when the opposite had become known, whose place it takes.
    """

    after_decision_id: int
    policy_id: int
    model: str | None
    task_type: str
    decided_model: str
    outcome: str
    known_at: str
    corrected_at: str | None


class PastWork(NamedTuple):
    """The tokens of the responses that belong to one decision, by whose they were."""

    decision_id: int
    claude: TokenCounts
    local: TokenCounts


class PastUsage(NamedTuple):
    """Tokens of Claude that count in sessions.

    Attributes:
        at: UTC, ISO 8601.
        session_id: the one session that it counts in; ``None``: all that were open then.
        folder: its project folder, where that is known.
    """

    at: str
    session_id: int | None
    folder: str | None
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int


@dataclass(frozen=True, slots=True)
class PastSession:
    """A session as it stands, with times in UTC, ISO 8601."""

    session_id: int
    name: str
    started_at: str
    ended_at: str | None
    folder: str | None
    claude: TokenCounts


@dataclass(frozen=True, slots=True)
class History:
    """What a ledger holds of the past; what is a function is read when it is called, from the start.

    Attributes:
        current: the settings in force.
        policies: the settings of each ``policy_id``.
        engines: the local engine of each ``engine_id``.
        records: the evidence, by task type (empty: all) and model, before everything that follows.
        decisions: in the order they were made.
        outcomes: in the order they became known.
        work: of decisions that responses belong to, by ``decision_id``, ascending.
        sessions: those that the replay is about.
        usage: that counts in any session, by time.
        pruned_before: where detail before that moment may be gone; ``None``: none is.
    """

    current: Settings
    policies: Mapping[int, Settings]
    engines: Mapping[int, Engine]
    records: Mapping[tuple[str, str], Evidence]
    decisions: Callable[[], Iterable[PastDecision]]
    outcomes: Callable[[], Iterable[PastOutcome]]
    work: Callable[[], Iterable[PastWork]]
    sessions: Callable[[], Sequence[PastSession]]
    usage: Callable[[], Iterable[PastUsage]]
    pruned_before: str | None = None


@dataclass(frozen=True, slots=True)
class ModelShare:
    """How many decisions named a model, and how many would have."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """When a session reached a level, and when it would have; ``None``: not at all.

    Of a level that was reached in what was pruned no more is known than that: it has the moment up
    to which was pruned.
    """

    session_id: int
    session: str
    level: WarningLevel
    before: datetime | None
    after: datetime | None


@dataclass(frozen=True, slots=True)
class DifferingDecision:
    """A decision that would have named another model, and the reason it would have had."""

    decision_id: int
    task_type: str
    classification: Classification
    before: str
    after: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """What ``replay`` answers.

    Attributes:
        decisions: how many logged decisions were decided again.
        changed: how many of them would have named another model.
        moved_to_ollama: of those, how many would have left Claude.
        moved_to_claude: of those, how many would have come to Claude.
        kept_tokens: budget tokens of Claude that those would have kept which would have left it.
        spent_tokens: budget tokens that those would have spent which would have come to it.
        models: how many decisions each model was named by, and would have been.
        crossings: the sessions that reached a threshold or would have, oldest first.
        differing: decisions that would have named another model, oldest first, as many as asked for.
    """

    decisions: int
    changed: int
    moved_to_ollama: int
    moved_to_claude: int
    kept_tokens: int
    spent_tokens: int
    models: Mapping[str, ModelShare]
    crossings: tuple[Crossing, ...]
    differing: tuple[DifferingDecision, ...]


class Replayed(NamedTuple):
    """A decision and what would have been decided, at which total of its session."""

    past: PastDecision
    case: Case
    session_tokens: int
    choice: Choice


class _Known(Mapping[str, ModelRecord]):
    """The records at a task type as they stand, each put together when it is asked for."""

    def __init__(self, here: dict[str, Evidence], everywhere: dict[str, Evidence]) -> None:
        self._here = here
        self._everywhere = everywhere

    def __getitem__(self, model: str) -> ModelRecord:
        here, everywhere = self._here.get(model), self._everywhere.get(model)
        if here is None and everywhere is None:
            raise KeyError(model)
        return ModelRecord(here or _NO_EVIDENCE, everywhere or _NO_EVIDENCE)

    def __iter__(self) -> Iterator[str]:
        return iter({*self._here, *self._everywhere})

    def __len__(self) -> int:
        return len({*self._here, *self._everywhere})


class _Records:
    """What was known of the models at some point of the history."""

    def __init__(self, evidence: Mapping[tuple[str, str], Evidence]) -> None:
        self._here: dict[str, dict[str, Evidence]] = {}
        for (task_type, model), known in evidence.items():
            self._here.setdefault(task_type, {})[model] = known
        self._everywhere = self._here.setdefault("", {})

    def evidence(self) -> dict[tuple[str, str], Evidence]:
        return {
            (task_type, model): known
            for task_type, models in self._here.items()
            for model, known in models.items()
        }

    def learn(self, past: PastOutcome, settings: Settings) -> None:
        model = past.model or policy.record_key(past.decided_model, settings)
        succeeded = past.outcome == Outcome.SUCCESS
        at = datetime.fromisoformat(past.known_at)
        for kind in (self._here.setdefault(past.task_type, {}), self._everywhere):
            known = kind.get(model, _NO_EVIDENCE)
            if past.corrected_at is not None:
                earlier = datetime.fromisoformat(past.corrected_at)
                known = track_record.take_back(
                    known, succeeded=not succeeded, at=earlier, rules=settings.record_rules
                )
            kind[model] = track_record.add(
                known, succeeded=succeeded, at=at, rules=settings.record_rules
            )

    def remember_trial(self, task_type: str, model: str, at: datetime) -> None:
        here = self._here.setdefault(task_type, {})
        here[model] = track_record.tried(here.get(model, _NO_EVIDENCE), at)

    def at(self, task_type: str, now: datetime) -> TaskRecord:
        return TaskRecord(_Known(self._here.get(task_type, {}), self._everywhere), now)


class _Work:
    """The tokens that decisions took, found in the order of the decisions; read only if asked."""

    def __init__(self, read: Callable[[], Iterable[PastWork]]) -> None:
        self._read = read
        self._rest: Iterator[PastWork] | None = None
        self._next: PastWork | None = None

    def of(self, decision_id: int) -> PastWork | None:
        if self._rest is None:
            self._rest = iter(self._read())
            self._next = next(self._rest, None)
        while self._next is not None and self._next.decision_id < decision_id:
            self._next = next(self._rest, None)
        found = self._next
        return found if found is not None and found.decision_id == decision_id else None


def replay(
    history: History, settings_of: Callable[[int], Settings], shifts: Shifts | None = None
) -> Iterator[Replayed]:
    """Decide each logged task again, with what was known when it came.

    Args:
        history: the past.
        settings_of: the settings to decide with, by the ``policy_id`` of those of the time.
        shifts: told what moves, and says by how much totals differ; ``None``: totals are as logged.
    """
    records = _Records(history.records)
    # Cases that differ in nothing that rows look at have one choice, unless a record is asked.
    known: dict[tuple[object, ...], tuple[Case, Choice, bool]] = {}
    weighed_alike: dict[int, bool] = {}
    for past in _learning(history, records, settings_of):
        policy_id, task_type = past.policy_id, past.task_type
        settings = settings_of(policy_id)
        if policy_id not in weighed_alike:
            weighed_alike[policy_id] = settings.weights == history.policies[policy_id].weights
        total = past.session_tokens
        if not weighed_alike[policy_id]:
            total = _weighed_again(past, settings)
        if shifts is not None:
            total = max(0, total + shifts.totals.get(past.session_id, 0))
        level = policy.warning_level(total, settings)
        plan_level = policy.plan_level(past.plan_used_percent, settings)
        key = (policy_id, past.engine_id, level, plan_level, past.classification, task_type)
        found = known.get(key)
        if found is None:
            found = known[key] = _first_choice(past, total, settings, history.engines)
        case, choice, consults = found
        if consults:
            now = datetime.fromisoformat(past.decided_at)
            engine = None if past.engine_id is None else history.engines[past.engine_id]
            choice = policy.choose(case, engine, records.at(task_type, now))
            if choice.trial:
                model = policy.record_key(choice.model, settings)
                records.remember_trial(task_type, model, now)
        if shifts is not None and choice.provider != past.provider:
            shifts.move(past, choice.provider, settings)
        yield Replayed(past, case, total, choice)


def _learning(
    history: History, records: _Records, settings_of: Callable[[int], Settings]
) -> Iterator[PastDecision]:
    """Yield the decisions to replay, when the records hold what was known by then."""
    outcomes = iter(history.outcomes())
    outcome = next(outcomes, None)
    for past in history.decisions():
        while outcome is not None and outcome.after_decision_id < past.decision_id:
            records.learn(outcome, settings_of(outcome.policy_id))
            outcome = next(outcomes, None)
        if past.is_replayed:
            yield past
        else:
            model = policy.record_key(past.model, settings_of(past.policy_id))
            moment = datetime.fromisoformat(past.decided_at)
            records.remember_trial(past.task_type, model, moment)


def records_before(history: History) -> dict[tuple[str, str], Evidence]:
    """Return what was known of every model, by task type, when the first decision to replay came."""
    records = _Records(history.records)
    next(iter(_learning(history, records, history.policies.__getitem__)), None)
    return records.evidence()


def recall(history: History) -> tuple[Settings, Circumstances, Task] | None:
    """Return what the history's first decision to replay was made from; ``None``: there is none."""
    records = _Records(history.records)
    for past in _learning(history, records, history.policies.__getitem__):
        settings = history.policies[past.policy_id]
        engine = None if past.engine_id is None else history.engines[past.engine_id]
        record = records.at(past.task_type, datetime.fromisoformat(past.decided_at))
        task = Task(past.task_type, Classification(past.classification), past.estimated_tokens)
        circumstances = Circumstances(past.session_tokens, past.plan_used_percent, engine, record)
        return settings, circumstances, task
    return None


def _first_choice(
    past: PastDecision, total: int, settings: Settings, engines: Mapping[int, Engine]
) -> tuple[Case, Choice, bool]:
    task = Task(past.task_type, Classification(past.classification), past.estimated_tokens)
    case = policy.examine(settings, Circumstances(total, past.plan_used_percent), task)
    engine = None if past.engine_id is None else engines[past.engine_id]
    choice = policy.choose(case, engine, None)
    return case, choice, policy.consults_record(case, choice)


def _weighed_again(past: PastDecision, settings: Settings) -> int:
    if past.input_tokens is None:
        return past.session_tokens
    counts = TokenCounts(
        past.input_tokens,
        past.output_tokens or 0,
        past.cache_creation_input_tokens or 0,
        past.cache_read_input_tokens or 0,
    )
    return policy.budget_tokens(counts, settings.weights)


class Shifts:
    """How far the sessions' totals would lie from those logged, as tasks move.

    A task that leaves Claude takes the budget tokens along that its responses cost; one that comes to
    Claude brings those of its local responses. Where no response names the decision, the estimate that
    was given stands in.

    Attributes:
        totals: budget tokens to add to each session's total from here on.
        moves: what was added when, by session.
        kept_tokens: budget tokens that left Claude.
        spent_tokens: tokens that came to it.
    """

    def __init__(self, history: History) -> None:
        self.totals: dict[int, int] = {}
        self.moves: dict[int, list[tuple[str, int]]] = {}
        self.kept_tokens = 0
        self.spent_tokens = 0
        self._work = _Work(history.work)

    def move(self, past: PastDecision, provider: Provider, settings: Settings) -> None:
        """Take a decision's tokens along to another provider."""
        work = self._work.of(past.decision_id)
        counts = None
        if work is not None:
            counts = work.claude if provider is Provider.OLLAMA else work.local
        if counts is None or not counts.total:
            tokens = past.estimated_tokens or 0
        else:
            tokens = policy.budget_tokens(counts, settings.weights)
        if provider is Provider.OLLAMA:
            self.kept_tokens += tokens
            tokens = -tokens
        else:
            self.spent_tokens += tokens
        if tokens:
            self.totals[past.session_id] = self.totals.get(past.session_id, 0) + tokens
            self.moves.setdefault(past.session_id, []).append((past.decided_at, tokens))


def rehearse(history: History, settings_of: Callable[[int], Settings]) -> Rehearsal:
    """Say in figures what other settings would have made of the history."""
    answer, _ = _sum_up(history, settings_of, most=0)
    return answer


def replay_and_tell(
    history: History,
    settings_of: Callable[[int], Settings],
    change: Callable[[Settings], Settings],
    most: int,
) -> ReplayAnswer:
    """Say what other settings would have made of the history, with what differs.

    Args:
        history: the past.
        settings_of: the settings to decide with.
        change: the same for settings that decided nothing.
        most: how many differing decisions are listed.
    """
    figures, told = _sum_up(history, settings_of, most)
    return ReplayAnswer(
        decisions=figures.decisions,
        changed=figures.changed,
        moved_to_ollama=figures.moved_to_ollama,
        moved_to_claude=figures.moved_to_claude,
        kept_tokens=figures.kept_tokens,
        spent_tokens=figures.spent_tokens,
        models={
            model: ModelShare(told.before[model], told.after[model])
            for model in sorted({*told.before, *told.after})
        },
        crossings=tuple(_crossings(history, told, settings_of, change)),
        differing=tuple(told.differing),
    )


class _Told:
    """What a replay comes to, beside its figures."""

    def __init__(self, shifts: Shifts) -> None:
        self.shifts = shifts
        self.before: Counter[str] = Counter()
        self.after: Counter[str] = Counter()
        self.differing: list[DifferingDecision] = []
        self.last_policy: dict[int, int] = {}


def _sum_up(
    history: History, settings_of: Callable[[int], Settings], most: int
) -> tuple[Rehearsal, _Told]:
    shifts = Shifts(history)
    told = _Told(shifts)
    decisions = changed = moved_to_ollama = moved_to_claude = 0
    pairs: Counter[tuple[str, str]] = Counter()
    last_policy = told.last_policy
    for past, _case, _total, choice in replay(history, settings_of, shifts):
        decisions += 1
        last_policy[past.session_id] = past.policy_id
        model = _logged_model(past)
        pairs[model, choice.model] += 1
        if choice.model == model:
            continue
        changed += 1
        if choice.provider != past.provider:
            moved_to_ollama += choice.provider is Provider.OLLAMA
            moved_to_claude += choice.provider is Provider.CLAUDE
        if len(told.differing) < most:
            told.differing.append(
                DifferingDecision(
                    past.decision_id,
                    past.task_type,
                    Classification(past.classification),
                    model,
                    choice.model,
                    choice.reason,
                )
            )
    for (before, after), count in pairs.items():
        told.before[before] += count
        told.after[after] += count
    figures = Rehearsal(
        decisions,
        changed,
        moved_to_ollama,
        moved_to_claude,
        shifts.kept_tokens,
        shifts.spent_tokens,
    )
    return figures, told


def _logged_model(past: PastDecision) -> str:
    # Early ledgers do not hold the engine that changed a choice: what the table chose is compared.
    if past.engine_id is None and past.changed_by == ChangedBy.AVAILABILITY:
        return past.table_model or past.model
    return past.model


class _Climb:
    """A session's total as its usage arrives, and when it reached its thresholds."""

    def __init__(
        self, session: PastSession, settings: Settings, moves: Sequence[tuple[str, int]]
    ) -> None:
        self.session = session
        self.settings = settings
        self.reached: dict[WarningLevel, str] = {}
        self._moves = list(reversed(moves))
        self._moved = 0
        self._weights = policy.in_thousandths(settings.weights)
        self._thousandths = 0

    def begin_at(self, counts: TokenCounts, moment: str) -> None:
        """Start from tokens of which no more is known than that they were there by a moment."""
        self._add(counts)
        self._look(moment)

    def may_reach(self) -> bool:
        """Tell whether the session can have reached a threshold at all."""
        most = policy.budget_tokens(self.session.claude, self.settings.weights)
        most += sum(max(0, tokens) for _, tokens in self._moves)
        return most >= self.settings.token_warning_threshold

    def take_until(self, moment: str) -> None:
        while self._moves and self._moves[-1][0] <= moment:
            at, tokens = self._moves.pop()
            self._moved += tokens
            self._look(at)

    def has_ended(self, moment: str) -> bool:
        return self.session.ended_at is not None and moment >= self.session.ended_at

    def covers(self, folder: str | None) -> bool:
        own = self.session.folder
        return own is None or (folder is not None and f"{folder}/".startswith(f"{own}/"))

    def take(self, usage: PastUsage) -> None:
        self.take_until(usage.at)
        self._add(usage)
        self._look(usage.at)

    def _add(self, counts: PastUsage | TokenCounts) -> None:
        of_input, of_output, of_cache_creation, of_cache_read = self._weights
        self._thousandths += (
            counts.input_tokens * of_input
            + counts.output_tokens * of_output
            + counts.cache_creation_input_tokens * of_cache_creation
            + counts.cache_read_input_tokens * of_cache_read
        )

    def _look(self, at: str) -> None:
        total = policy.rounded(self._thousandths) + self._moved
        level = policy.warning_level(total, self.settings)
        if level is not WarningLevel.NORMAL:
            self.reached.setdefault(WarningLevel.WARNING, at)
        if level is WarningLevel.CRITICAL:
            self.reached.setdefault(WarningLevel.CRITICAL, at)


def _arrivals(
    pairs: Sequence[tuple[_Climb, _Climb]], usage: Iterable[PastUsage]
) -> Iterator[tuple[PastUsage, Sequence[tuple[_Climb, _Climb]]]]:
    """Yield usage and the sessions that it counts in; the pairs are in order of their starts."""
    by_session = {pair[0].session.session_id: pair for pair in pairs}
    waiting = list(reversed(pairs))
    current: list[tuple[_Climb, _Climb]] = []
    for used in usage:
        while waiting and waiting[-1][0].session.started_at <= used.at:
            current.append(waiting.pop())
        if any(pair[0].has_ended(used.at) for pair in current):
            current = [pair for pair in current if not pair[0].has_ended(used.at)]
        if used.session_id is None:
            theirs = [pair for pair in current if pair[0].covers(used.folder)]
        else:
            theirs = [by_session[used.session_id]] if used.session_id in by_session else []
        yield used, theirs


def _climb(pairs: Sequence[tuple[_Climb, _Climb]], history: History) -> None:
    if history.pruned_before is not None:
        left = {pair[0].session.session_id: TokenCounts() for pair in pairs}
        for used, theirs in _arrivals(pairs, history.usage()):
            for before, _ in theirs:
                left[before.session.session_id] += TokenCounts(*used[3:])
        for pair in pairs:
            session = pair[0].session
            moment = min(history.pruned_before, session.ended_at or END_OF_TIME)
            for climb in pair:
                climb.begin_at(session.claude - left[session.session_id], moment)
    for used, theirs in _arrivals(pairs, history.usage()):
        for before, after in theirs:
            before.take(used)
            after.take(used)
    for before, after in pairs:
        before.take_until(END_OF_TIME)
        after.take_until(END_OF_TIME)


def _crossings(
    history: History,
    told: _Told,
    settings_of: Callable[[int], Settings],
    change: Callable[[Settings], Settings],
) -> Iterator[Crossing]:
    """Yield when sessions reached their thresholds, and when they would have."""
    pairs: list[tuple[_Climb, _Climb]] = []
    for session in history.sessions():
        policy_id = told.last_policy.get(session.session_id)
        before = history.current if policy_id is None else history.policies[policy_id]
        after = change(history.current) if policy_id is None else settings_of(policy_id)
        moves = told.shifts.moves.get(session.session_id, [])
        pair = (_Climb(session, before, ()), _Climb(session, after, moves))
        if pair[0].may_reach() or pair[1].may_reach():
            pairs.append(pair)
    if pairs:
        _climb(pairs, history)
    for before, after in pairs:
        for level in CROSSED_LEVELS:
            was, would = before.reached.get(level), after.reached.get(level)
            if was or would:
                yield Crossing(
                    before.session.session_id,
                    before.session.name,
                    level,
                    None if was is None else datetime.fromisoformat(was),
                    None if would is None else datetime.fromisoformat(would),
                )
