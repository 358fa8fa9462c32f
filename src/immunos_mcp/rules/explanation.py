"""The explanation of a decision, by the rows and steps that decide. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.answers.routing import SPEND_REASONS, Alternative, Explanation, RowExplanation
from immunos_mcp.domain import Classification, Consultation, HandoverChoice, Reason
from immunos_mcp.rules.levels import warning_level
from immunos_mcp.rules.policy import ROWS, choose, examine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.domain import Task
    from immunos_mcp.rules.circumstances import Circumstances
    from immunos_mcp.rules.policy import Case, Choice, Considered
    from immunos_mcp.rules.settings import Settings


def explain(settings: Settings, circumstances: Circumstances, task: Task) -> Explanation:
    """Explain the answer of ``policy.decide``, and which single changes would give another."""
    case = examine(settings, circumstances, task)
    choice = choose(case, circumstances.engine, circumstances.record)
    return Explanation(
        tuple(_rows(case, choice)),
        tuple(_steps(case, choice)),
        tuple(_alternatives(case, circumstances, choice)),
    )


def _rows(case: Case, choice: Choice) -> Iterator[RowExplanation]:
    for row in ROWS:
        is_off = case.budget is None and row.reason in SPEND_REASONS
        applies = row.applies(case)
        if is_off or (row.reason is Reason.HANDOVER_FORBIDDEN and not applies):
            continue
        yield RowExplanation(row.reason, applies, row.why(case))
        if row.reason is choice.reason:
            return


def _alternatives(
    case: Case, circumstances: Circumstances, choice: Choice
) -> Iterator[Alternative]:
    for when, settings, otherwise, task in _changes(case, circumstances):
        other = choose(examine(settings, otherwise, task), otherwise.engine, otherwise.record)
        if other.model != choice.model:
            yield Alternative(when, other.model, other.reason)


def _changes(
    case: Case, circumstances: Circumstances
) -> Iterator[tuple[str, Settings, Circumstances, Task]]:
    """Yield the single changes to try, as text and as inputs of the policy.

    They are the other classifications, the other warning levels, the task type being mapped to nothing,
    every model being there, and the track record being off.
    """
    settings, task = case.settings, case.task
    for other in Classification:
        if other is not task.classification:
            changed = replace(task, classification=other)
            yield f"the task were {other}", settings, circumstances, changed
    if settings.handover is HandoverChoice.NEVER:
        changed_settings = replace(settings, handover=HandoverChoice.ON)
        yield "handover were on", changed_settings, circumstances, task
    if case.budget is not None:
        yield "no budget were set", replace(settings, budgets=""), circumstances, task
    for total in (0, settings.token_warning_threshold, settings.token_auto_switch_threshold):
        if warning_level(total, settings) is not case.level:
            elsewhere = replace(circumstances, session_tokens=total)
            yield f"the session were at {total}", settings, elsewhere, task
    mappings = {
        kind: models for kind, models in settings.task_mappings.items() if kind != task.task_type
    }
    unmapped = replace(settings, task_mappings=mappings)
    yield f"{task.task_type} were not mapped", unmapped, circumstances, task
    yield "every model could run", settings, replace(circumstances, engine=None), task
    without_record = replace(settings, track_record=Consultation.OFF)
    yield "the track record were off", without_record, circumstances, task


def _steps(case: Case, choice: Choice) -> Iterator[str]:
    """Yield what happened after the table, model by model."""
    if case.task.tried:
        yield f"{', '.join(case.task.tried)} failed at it (decision {case.task.follows})"
    if not case.fits and choice.reason is not Reason.HANDOVER_FORBIDDEN:
        estimate, held = case.task.estimated_tokens, case.held_tokens
        yield f"{estimate} tokens do not fit beside {held} reserved ones"
    for considered in choice.considered:
        if considered.availability.can_run is False:
            hard = "" if choice.reason is Reason.TASK_OPTIMIZED else "; the budget is hard"
            yield f"{considered.model} cannot run ({considered.availability.remedy}){hard}"
        yield from _judgement(case, considered)
    if choice.advised_model is not None:
        yield f"the track record advises {choice.advised_model}"
    elif choice.table_model is not None:
        yield f"it goes to {choice.model}"


def _judgement(case: Case, considered: Considered) -> Iterator[str]:
    verdict = considered.verdict
    if verdict is None:
        return
    passed = "passed over" if verdict.passed_over else "kept"
    if case.settings.track_record is Consultation.ADVISE:
        passed = f"would be {passed}"
    expected, needed = _apart(verdict.own.rate, verdict.needed)
    outcomes = f"{round(verdict.own.outcomes, 1):,}".removesuffix(".0")
    yield (
        f"{considered.model}: {expected} of {case.task.task_type} expected to succeed "
        f"({outcomes} outcomes), {needed} needed: {passed}"
        f"{' as a trial' if verdict.trial else ''}"
    )


def _apart(one: float, other: float) -> tuple[str, str]:
    """Format two rates with as many digits as it takes to distinguish them."""
    digits = 0
    while digits < 3 and one != other and f"{one:.{digits}%}" == f"{other:.{digits}%}":
        digits += 1
    return f"{one:.{digits}%}", f"{other:.{digits}%}"
