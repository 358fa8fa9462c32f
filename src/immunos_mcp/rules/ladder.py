"""The ladder: which model of a mapping tries a task again that others failed at. Pure.

A mapping is an ordered list from cheap to strong. After a failure come the models behind the one that failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import CLAUDE_TIERS, Provider, Switch
from immunos_mcp.errors import DelegationError
from immunos_mcp.rules.claude_tiers import stronger
from immunos_mcp.rules.models import availability, mapped_models, provider_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.domain import Decision, Engine, Task
    from immunos_mcp.rules.settings import Settings


_YOURSELF = "Do this task yourself."
_SUBAGENT = "Give this task to a subagent with model"


def rungs(task: Task, settings: Settings) -> tuple[str, ...]:
    """Return the mapped models that may still try a task; of local ones none where the ladder is off."""
    models = mapped_models(task.task_type, settings)
    places = [models.index(model) for model in task.tried if model in models]
    rest = [model for model in models[max(places, default=-1) + 1 :] if model not in task.tried]
    if settings.ladder is Switch.OFF:
        rest = [model for model in rest if provider_of(model, settings) is Provider.CLAUDE]
    return tuple(rest)


def local_rungs(task: Task, engine: Engine | None, settings: Settings) -> Iterator[str]:
    """Yield the local ones of the rungs that may run, in order."""
    for model in rungs(task, settings):
        is_local = provider_of(model, settings) is Provider.OLLAMA
        if is_local and availability(model, engine, settings).can_run is not False:
            yield model


def untried(decision: Decision, task: Task) -> Decision:
    """Return a decision for a model that did not fail at the task.

    Raises:
        DelegationError: none is left, which of local models is so where the budget keeps the task local.
    """
    if decision.model in task.tried:
        kind = "other" if decision.provider is Provider.CLAUDE else "other local"
        raise DelegationError(f"no {kind} model is mapped to {task.task_type}")
    return decision


def models_tried(stored: str | None) -> tuple[str, ...]:
    """Return the models of a stored list with commas."""
    return tuple(stored.split(",")) if stored else ()


def advice(model: str, decision_id: int, task_type: str, settings: Settings) -> str:
    """Return who is to do a task that goes to Claude's ``model``, in one or two sentences."""
    if model not in CLAUDE_TIERS:
        return _YOURSELF
    who = f"{_SUBAGENT} {model}."
    mapped = mapped_models(task_type, settings)
    if model not in mapped or not stronger(model, mapped, settings):
        return who
    return f"{who} If it fails, record that and call again with decision_id {decision_id}."


def without_advice(message: str) -> str:
    """Return what an answer says before its advice, which only Claude can follow."""
    return message.partition(_YOURSELF)[0].partition(_SUBAGENT)[0].strip()


def faults_text(faults: Sequence[tuple[str, str]]) -> str:
    """Return what was wrong with the answers of models that failed, in few words; each fault names its model."""
    return f"Tried: {'; '.join(fault[:200] for _, fault in faults)}" if faults else ""
