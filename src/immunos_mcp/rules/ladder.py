"""The ladder: which model of a mapping tries a task again that others failed at. Pure.

A mapping is an ordered list from cheap to strong. After a failure come the models behind the one that failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import Provider, Switch
from immunos_mcp.errors import DelegationError
from immunos_mcp.rules.models import availability, mapped_models, provider_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.domain import Decision, Engine, Task
    from immunos_mcp.rules.settings import Settings

SUBAGENT_MODELS = ("haiku", "sonnet", "opus")
"""What Claude Code calls the models of its subagents."""


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
        DelegationError: none is left, since the budget keeps the task local.
    """
    if decision.model in task.tried:
        raise DelegationError(f"no other local model is mapped to {task.task_type}")
    return decision


def models_tried(stored: str | None) -> tuple[str, ...]:
    """Return the models of a stored list with commas."""
    return tuple(stored.split(",")) if stored else ()


def advice(model: str) -> str:
    """Return who is to do a task that goes to Claude's ``model``, as a sentence."""
    if model in SUBAGENT_MODELS:
        return f"Give this task to a subagent with model {model}."
    return "Do this task yourself."


def faults_text(faults: Sequence[tuple[str, str]]) -> str:
    """Return what was wrong with the answers of models that failed, in few words; each fault names its model."""
    return f"Tried: {'; '.join(fault[:200] for _, fault in faults)}" if faults else ""
