"""The routing policy: pure functions from values to a decision.

No clock, no I/O and no randomness; the same values always give the same decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.answers.answers import Alternative, Explanation, RowExplanation
from immunos_mcp.domain import (
    ChangedBy,
    Circumstances,
    Classification,
    Consultation,
    Decision,
    EngineState,
    ModelRecord,
    Provider,
    Reason,
    Switch,
    WarningLevel,
)
from immunos_mcp.rules.names import canonical_model, is_cloud_model
from immunos_mcp.rules.track_record import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from immunos_mcp.domain import (
        Engine,
        PlanUsage,
        Settings,
        Task,
        TaskRecord,
        TokenCounts,
        Verdict,
        Weights,
    )

CLAUDE_RECORD = "claude"
"""Under this name Claude's models have one record together."""

_NO_RECORD = ModelRecord()

_CLAUDE_NAME = re.compile(
    r"claude|^[^:]*(?<![a-z])(?:opus|sonnet|haiku)(?![a-z])[^:]*$", re.IGNORECASE
)


def provider_of(model: str, settings: Settings) -> Provider:
    """Tell whose tokens a model spends.

    Claude's are the model set as ``claude_model`` (whatever its name) and every model named after
    Claude or one of its families, in any spelling that APIs use. All others are local, and so is a
    name with a tag, such as ``magnum-opus:7b``, that only has a family's name in it.
    """
    if model == settings.claude_model or _is_named_after_claude(model):
        return Provider.CLAUDE
    return Provider.OLLAMA


@lru_cache(maxsize=1024)
def _is_named_after_claude(model: str) -> bool:
    return _CLAUDE_NAME.search(model) is not None


def record_key(model: str, settings: Settings) -> str:
    """Return the name that a model's outcomes are kept under."""
    if provider_of(model, settings) is Provider.CLAUDE:
        return CLAUDE_RECORD
    return canonical_model(model)


def budget_tokens(counts: TokenCounts, weights: Weights) -> int:
    """Weigh the four kinds of tokens into budget tokens, rounded half up to a whole number.

    Weights count in thousandths, so that the sum is exact however large the counts are.
    """
    of_input, of_output, of_cache_creation, of_cache_read = in_thousandths(weights)
    thousandths = (
        counts.input_tokens * of_input
        + counts.output_tokens * of_output
        + counts.cache_creation_input_tokens * of_cache_creation
        + counts.cache_read_input_tokens * of_cache_read
    )
    return rounded(thousandths)


def in_thousandths(weights: Weights) -> tuple[int, int, int, int]:
    """Return what one token of each kind weighs, in thousandths."""
    return (
        round(weights.input_tokens * 1000),
        round(weights.output_tokens * 1000),
        round(weights.cache_creation_input_tokens * 1000),
        round(weights.cache_read_input_tokens * 1000),
    )


def rounded(thousandths: int) -> int:
    """Return whole budget tokens, rounded half up."""
    return (thousandths + 500) // 1000


def warning_level(session_tokens: int, settings: Settings) -> WarningLevel:
    """Place a session's budget tokens against the two thresholds."""
    if session_tokens >= settings.token_auto_switch_threshold:
        return WarningLevel.CRITICAL
    if session_tokens >= settings.token_warning_threshold:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL


def plan_used_percent(plan: Iterable[PlanUsage], settings: Settings) -> float | None:
    """Return how much of the fullest of the subscription's limits is used, in percent.

    ``None`` where nothing was reported, or where no setting looks at it.
    """
    if not settings.plan_warning_percent and not settings.plan_auto_switch_percent:
        return None
    return max((usage.used_percentage for usage in plan), default=None)


def plan_level(used_percent: float | None, settings: Settings) -> WarningLevel:
    """Place the use of the subscription's limit against its own two thresholds."""
    if used_percent is None:
        return WarningLevel.NORMAL
    if 0 < settings.plan_auto_switch_percent <= used_percent:
        return WarningLevel.CRITICAL
    if 0 < settings.plan_warning_percent <= used_percent:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL


def mapped_models(task_type: str, settings: Settings) -> tuple[str, ...]:
    """Return the models that a task type is mapped to, in order; none where it is not mapped."""
    mapped = settings.task_mappings.get(task_type)
    return () if mapped is None else tuple(mapped.split(","))


def local_model(task_type: str, settings: Settings) -> str:
    """Name the model that keeps a task type local: the first that it is mapped to and that does.

    A task type mapped to Claude alone, or to models that leave the machine where those are not
    allowed, has no local model of its own and gets the default one.
    """
    for model in mapped_models(task_type, settings):
        if provider_of(model, settings) is Provider.OLLAMA and not _is_forbidden(model, settings):
            return model
    return settings.default_local_model


def _is_forbidden(model: str, settings: Settings) -> bool:
    return settings.cloud_models is Switch.OFF and is_cloud_model(model)


def can_run(model: str, engine: Engine, settings: Settings) -> tuple[bool | None, str | None]:
    """Tell whether a local model can run now, and if not, the command that lets it.

    ``None`` where the engine was not seen yet or is too slow to tell.
    """
    if _is_forbidden(model, settings):
        return False, "immunos-mcp config set cloud_models=on"
    if engine.state in {EngineState.UNKNOWN, EngineState.SLOW}:
        return None, None
    if engine.state is not EngineState.UP:
        return False, "ollama serve" if engine.state is EngineState.DOWN else "immunos-mcp doctor"
    installed = engine.models.get(canonical_model(model))
    if installed is None:
        return False, f"ollama pull {model}"
    fit = installed.capabilities is None or "completion" in installed.capabilities
    return fit, None if fit else "immunos-mcp models"


class Case(NamedTuple):
    """What the rows of the table look at.

    Attributes:
        session_tokens: the session's budget tokens.
        plan_used_percent: how full the subscription's limit is, where it is looked at.
        level: where the session stands against its thresholds.
        plan_level: where the subscription's own limit stands against its.
        task: what is to be done.
        settings: the settings in force.
    """

    session_tokens: int
    plan_used_percent: float | None
    level: WarningLevel
    plan_level: WarningLevel
    task: Task
    settings: Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the policy's table.

    Attributes:
        reason: the word that the decision carries.
        applies: whether the row fits a case.
        model: the model it chooses.
        why: what it looks at in a case, in words and numbers.
    """

    reason: Reason
    applies: Callable[[Case], bool]
    model: Callable[[Case], str]
    why: Callable[[Case], str]


def _local(case: Case) -> str:
    return local_model(case.task.task_type, case.settings)


def _claude(case: Case) -> str:
    return case.settings.claude_model


def _is_routine(case: Case) -> bool:
    return case.task.classification is Classification.ROUTINE


def _against(name: str, threshold: int, case: Case) -> str:
    sign = ">=" if case.session_tokens >= threshold else "<"
    return f"{case.session_tokens} tokens {sign} {name} {threshold}"


def _plan_against(name: str, threshold: int, case: Case) -> str:
    if not threshold:
        return f"{name} is off"
    if case.plan_used_percent is None:
        return "the plan's limits are not known"
    sign = ">=" if case.plan_used_percent >= threshold else "<"
    return f"{case.plan_used_percent:g} % of the plan {sign} {name} {threshold}"


def _classed(case: Case) -> str:
    return f"the task is {case.task.classification}"


def _mapped(case: Case) -> str:
    models = mapped_models(case.task.task_type, case.settings)
    return f"{case.task.task_type} is mapped to {', '.join(models) or 'nothing'}"


ROWS: tuple[Row, ...] = (
    Row(
        Reason.TOKEN_BUDGET_EXCEEDED,
        lambda case: case.level is WarningLevel.CRITICAL,
        _local,
        lambda case: _against("auto-switch", case.settings.token_auto_switch_threshold, case),
    ),
    Row(
        Reason.PLAN_LIMIT_EXCEEDED,
        lambda case: case.plan_level is WarningLevel.CRITICAL,
        _local,
        lambda case: _plan_against("auto-switch", case.settings.plan_auto_switch_percent, case),
    ),
    Row(
        Reason.TOKEN_BUDGET_WARNING,
        lambda case: case.level is WarningLevel.WARNING and _is_routine(case),
        _local,
        lambda case: (
            f"{_against('warning', case.settings.token_warning_threshold, case)}, {_classed(case)}"
        ),
    ),
    Row(
        Reason.PLAN_LIMIT_WARNING,
        lambda case: case.plan_level is WarningLevel.WARNING and _is_routine(case),
        _local,
        lambda case: (
            f"{_plan_against('warning', case.settings.plan_warning_percent, case)}, {_classed(case)}"
        ),
    ),
    Row(
        Reason.TASK_CRITICAL,
        lambda case: case.task.classification is Classification.CRITICAL,
        _claude,
        _classed,
    ),
    Row(
        Reason.TASK_OPTIMIZED,
        lambda case: case.task.task_type in case.settings.task_mappings,
        lambda case: mapped_models(case.task.task_type, case.settings)[0],
        _mapped,
    ),
    Row(Reason.DEFAULT_COMPLEX, lambda _case: True, _claude, lambda _case: "nothing else applies"),
)
"""The policy's table; the first row that applies decides, and the order is a contract."""


class Considered(NamedTuple):
    """A local model that the steps after the table looked at, and what they found.

    Attributes:
        model: the model.
        available: whether it can run; ``None``: not known.
        remedy: the command that lets it run, where it cannot.
        verdict: what its record says, where that was asked.
    """

    model: str
    available: bool | None
    remedy: str | None
    verdict: Verdict | None


class Choice(NamedTuple):
    """What the table and the steps after it come to; the fields are those of ``Decision``.

    Attributes:
        considered: the local models that were looked at, in order.
    """

    reason: Reason
    model: str
    provider: Provider
    available: bool | None = None
    changed_by: ChangedBy | None = None
    table_model: str | None = None
    remedy: str | None = None
    trial: bool = False
    advised_model: str | None = None
    considered: tuple[Considered, ...] = ()


def decide(settings: Settings, circumstances: Circumstances, task: Task) -> Decision:
    """Choose the model for a task in given circumstances, and say which row chose it."""
    case = examine(settings, circumstances, task)
    return conclude(case, choose(case, circumstances.engine, circumstances.record))


def choose(case: Case, engine: Engine | None, record: TaskRecord | None) -> Choice:
    """Find the first row that applies, and take the steps after the table."""
    row = next(row for row in ROWS if row.applies(case))
    model, settings = row.model(case), case.settings
    provider = provider_of(model, settings)
    if provider is Provider.CLAUDE:
        return Choice(row.reason, model, provider)
    if row.reason is not Reason.TASK_OPTIMIZED:
        # The budget is hard: the local choice stands, whatever is found.
        available, remedy = _availability(model, engine, settings)
        considered = (Considered(model, available, remedy, None),)
        return Choice(row.reason, model, provider, available, remedy=remedy, considered=considered)
    if settings.track_record is Consultation.OFF or record is None:
        return _walk(case, engine, None)
    with_record = _walk(case, engine, record)
    if settings.track_record is Consultation.ON:
        return with_record
    without = _walk(case, engine, None)
    advised = with_record.model if with_record.model != without.model else None
    return without._replace(advised_model=advised, considered=with_record.considered)


def consults_record(case: Case, choice: Choice) -> bool:
    """Tell whether another record could have made another choice."""
    return (
        choice.reason is Reason.TASK_OPTIMIZED
        and bool(choice.considered)
        and case.settings.track_record is not Consultation.OFF
    )


def _walk(case: Case, engine: Engine | None, record: TaskRecord | None) -> Choice:
    """Go through the models of a mapped task until one can run and is not passed over.

    They are the mapped ones in order, where the first cannot run installed ones of the same kind,
    and Claude.
    """
    settings = case.settings
    models = mapped_models(case.task.task_type, settings)
    table_model, first = models[0], _availability(models[0], engine, settings)
    if engine is not None and first[0] is False:
        models = (*models, *_akin(table_model, case, engine))
    considered: list[Considered] = []
    changed_by: ChangedBy | None = None
    model, available, trial = settings.claude_model, None, False
    for candidate in dict.fromkeys(models):
        if provider_of(candidate, settings) is Provider.CLAUDE:
            model = candidate
            break
        can, remedy = _availability(candidate, engine, settings)
        verdict = None if record is None or can is False else _judge(candidate, record, settings)
        considered.append(Considered(candidate, can, remedy, verdict))
        if can is False:
            changed_by = changed_by or ChangedBy.AVAILABILITY
            continue
        trial = verdict is not None and verdict.trial
        if verdict is None or not verdict.passed_over:
            model, available = candidate, can
            break
        changed_by = changed_by or ChangedBy.TRACK_RECORD
        if trial:
            break
    is_changed = model != table_model
    return Choice(
        Reason.TASK_OPTIMIZED,
        model,
        provider_of(model, settings),
        available,
        changed_by if is_changed else None,
        table_model if is_changed else None,
        first[1],
        trial,
        considered=tuple(considered),
    )


def _availability(
    model: str, engine: Engine | None, settings: Settings
) -> tuple[bool | None, str | None]:
    return (None, None) if engine is None else can_run(model, engine, settings)


def _judge(model: str, record: TaskRecord, settings: Settings) -> Verdict:
    local = record.models.get(canonical_model(model), _NO_RECORD)
    claude = record.models.get(CLAUDE_RECORD, _NO_RECORD)
    return judge(local, claude, settings.record_rules, record.now)


def conclude(case: Case, choice: Choice) -> Decision:
    """Put a choice and the figures of its case together."""
    projected_tokens = projected_level = None
    if case.task.estimated_tokens is not None:
        spent = case.task.estimated_tokens if choice.provider is Provider.CLAUDE else 0
        projected_tokens = case.session_tokens + spent
        projected_level = warning_level(projected_tokens, case.settings)
    return Decision(
        model=choice.model,
        provider=choice.provider,
        reason=choice.reason,
        warning_level=case.level,
        session_tokens=case.session_tokens,
        projected_tokens=projected_tokens,
        projected_level=projected_level,
        plan_used_percent=case.plan_used_percent,
        available=choice.available,
        changed_by=choice.changed_by,
        table_model=choice.table_model,
        remedy=choice.remedy,
        trial=choice.trial or None,
        advised_model=choice.advised_model,
    )


def examine(settings: Settings, circumstances: Circumstances, task: Task) -> Case:
    """Put together what the rows look at."""
    session_tokens, used_percent = circumstances.session_tokens, circumstances.plan_used_percent
    return Case(
        session_tokens,
        used_percent,
        warning_level(session_tokens, settings),
        plan_level(used_percent, settings),
        task,
        settings,
    )


def explain(settings: Settings, circumstances: Circumstances, task: Task) -> Explanation:
    """Tell how ``decide`` comes to its answer, and which single change would give another.

    The changes tried are the other classifications, the other warning levels, the task type being
    mapped to nothing, every model being there, and the track record being off.
    """
    case = examine(settings, circumstances, task)
    decision = choose(case, circumstances.engine, circumstances.record)
    rows: list[RowExplanation] = []
    for row in ROWS:
        rows.append(RowExplanation(row.reason, row.applies(case), row.why(case)))
        if row.reason is decision.reason:
            break
    unmapped = {
        task_type: model
        for task_type, model in settings.task_mappings.items()
        if task_type != task.task_type
    }
    warning, auto_switch = settings.token_warning_threshold, settings.token_auto_switch_threshold
    tried = [
        *(
            (f"the task were {other}", settings, circumstances, task._replace(classification=other))
            for other in Classification
            if other is not task.classification
        ),
        *(
            (
                f"the session were at {total}",
                settings,
                circumstances._replace(session_tokens=total),
                task,
            )
            for total in (0, warning, auto_switch)
            if warning_level(total, settings) is not case.level
        ),
        (
            f"{task.task_type} were not mapped",
            settings._replace(task_mappings=unmapped),
            circumstances,
            task,
        ),
        ("every model could run", settings, circumstances._replace(engine=None), task),
        (
            "the track record were off",
            settings._replace(track_record=Consultation.OFF),
            circumstances,
            task,
        ),
    ]
    alternatives: list[Alternative] = []
    for when, other_settings, other_circumstances, other_task in tried:
        other = decide(other_settings, other_circumstances, other_task)
        if other.model != decision.model:
            alternatives.append(Alternative(when, other.model, other.reason))
    return Explanation(tuple(rows), tuple(_steps(case, decision)), tuple(alternatives))


def _steps(case: Case, choice: Choice) -> Iterable[str]:
    """Tell what came after the table, model by model."""
    for considered in choice.considered:
        model, verdict = considered.model, considered.verdict
        if considered.available is False:
            hard = "" if choice.reason is Reason.TASK_OPTIMIZED else "; the budget is hard"
            yield f"{model} cannot run ({considered.remedy}){hard}"
        if verdict is None:
            continue
        passed = "passed over" if verdict.passed_over else "kept"
        if case.settings.track_record is Consultation.ADVISE:
            passed = f"would be {passed}"
        expected, needed = _apart(verdict.local.rate, verdict.needed)
        outcomes = f"{round(verdict.local.outcomes, 1):,}".removesuffix(".0")
        yield (
            f"{model}: {expected} of {case.task.task_type} expected to succeed "
            f"({outcomes} outcomes), {needed} needed: {passed}"
            f"{' as a trial' if verdict.trial else ''}"
        )
    if choice.advised_model is not None:
        yield f"the track record advises {choice.advised_model}"
    elif choice.table_model is not None:
        yield f"it goes to {choice.model}"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Spell two rates with as many digits as tell them apart."""
    digits = 0
    while digits < 3 and one != other and f"{one:.{digits}%}" == f"{other:.{digits}%}":
        digits += 1
    return f"{one:.{digits}%}", f"{other:.{digits}%}"


def _akin(model: str, case: Case, engine: Engine) -> list[str]:
    """Return installed models fit for a mapped one's role: other sizes of it, then what is trusted.

    Of other sizes the largest comes first. Trusted is what the settings name for any task.
    """
    family = canonical_model(model).rpartition(":")[0]
    sizes = [
        installed
        for name, installed in engine.models.items()
        if name.rpartition(":")[0] == family and not is_cloud_model(name)
    ]
    sizes.sort(key=lambda installed: (-installed.size_bytes, installed.name))
    return [*(installed.name for installed in sizes), case.settings.default_local_model]


def named_models(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the local models that the settings name, each with the task types it is for."""
    named: dict[str, list[str]] = {}
    for task_type in settings.task_mappings:
        for model in mapped_models(task_type, settings):
            if provider_of(model, settings) is Provider.OLLAMA:
                named.setdefault(model, []).append(task_type)
    named.setdefault(settings.default_local_model, []).append("default")
    return {model: tuple(task_types) for model, task_types in named.items()}


def recommend(
    level: WarningLevel, settings: Settings, plan: WarningLevel = WarningLevel.NORMAL
) -> tuple[str, str]:
    """Name the model that the budget's and the plan's level recommend, and say so in words."""
    if level is WarningLevel.CRITICAL:
        return settings.default_local_model, "Budget used up: all tasks go to Ollama."
    if plan is WarningLevel.CRITICAL:
        return settings.default_local_model, "Plan limit near: all tasks go to Ollama."
    if level is WarningLevel.WARNING:
        return "mixed", "Budget is running low: routine tasks go to Ollama."
    if plan is WarningLevel.WARNING:
        return "mixed", "Plan limit is coming near: routine tasks go to Ollama."
    return settings.claude_model, "Budget is fine: tasks go where they are done best."
