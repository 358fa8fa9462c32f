"""Models by name: whose they are, which a task type is mapped to, and whether one can run. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import EnginesAllowed, EngineState, Provider, Switch
from immunos_mcp.rules.names import canonical_model, is_cloud_model
from immunos_mcp.rules.obstacles import (
    ALLOW_CLOUD,
    LIST_MODELS,
    PULL,
    RUN_DOCTOR,
    SHOW_ALLOWED,
    START_OLLAMA,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from immunos_mcp.domain import Engine, LocalModel
    from immunos_mcp.rules.settings import Settings

OLLAMA = "ollama"
"""The name of the engine Ollama before a model's, as in ``ollama/tiny``."""

CLAUDE_RECORD = "claude"
"""Under this name Claude's models have one record together."""

_CLAUDE_NAME = r"(?i)claude|^[^:]*(?<![a-z])(?:opus|sonnet|haiku|fable|mythos)(?![a-z])[^:]*$"

_LOCAL_TAG = r"[^:]+:[^:/]+"
_HOSTED_TAG = (
    # Bedrock's versions, its resource names, and the variants of routers such as OpenRouter.
    r"(?i)[a-z0-9-]+\..*-v\d+:\d+(?:k)?|arn:.*|.*:(?:free|nitro|floor|online|extended|exacto|thinking|beta)"
)


class Availability(Struct, frozen=True):
    """Whether a local model can run.

    Attributes:
        can_run: ``None`` where the engine was not seen yet or is too slow to tell.
        remedy: the command that lets it run, if it cannot.
    """

    can_run: bool | None = None
    remedy: str | None = None


_UNKNOWN = Availability()


def provider_of(model: str, settings: Settings) -> Provider:
    """Return who does a task that is given to a model: Claude, or the local engine.

    Claude's are the model set as ``claude_model`` (whatever its name) and every model named after
    Claude or one of its families, in any form that APIs use. All others are local, and so is a
    name with a tag, such as ``magnum-opus:7b``, that only has a family's name in it.
    """
    if model == settings.claude_model or _is_named_after_claude(model):
        return Provider.CLAUDE
    return Provider.OLLAMA


def provider_of_usage(
    model: str, settings: Settings, installed: Collection[str] = frozenset()
) -> Provider:
    """Return whose tokens usage of a model is; unlike a task, it may come from anywhere.

    Claude's are those of ``provider_of``. Local are the models that the settings name, that the local
    engine has, or that have a tag as the engine writes it. Everything else is hosted by others.

    Args:
        model: as it was written down.
        settings: the current settings.
        installed: canonical names of the models that the local engine has.
    """
    if provider_of(model, settings) is Provider.CLAUDE:
        return Provider.CLAUDE
    is_local = (
        has_local_tag(model)
        or model in named_models(settings)
        or canonical_model(model) in installed
    )
    return Provider.OLLAMA if is_local else Provider.HOSTED


def has_local_tag(model: str) -> bool:
    """Return whether a name has a tag as local engines write them, such as ``qwen2.5-coder:7b``."""
    return re.fullmatch(_LOCAL_TAG, model) is not None and re.fullmatch(_HOSTED_TAG, model) is None


@lru_cache(maxsize=1024)
def _is_named_after_claude(model: str) -> bool:
    # Most are; compiling the pattern would take as long as reading the ledger.
    return "claude" in model or re.search(_CLAUDE_NAME, model) is not None


def shared_record_key(model: str, settings: Settings) -> str:
    """Return the name that a model's outcomes are recorded under where no tiers of Claude's are told apart."""
    if provider_of(model, settings) is Provider.CLAUDE:
        return CLAUDE_RECORD
    return canonical_model(model)


def mapped_models(task_type: str, settings: Settings) -> tuple[str, ...]:
    """Return the models that a task type is mapped to, in order; none where it is not mapped."""
    mapped = settings.task_mappings.get(task_type)
    return () if mapped is None else tuple(mapped.split(","))


def local_model(task_type: str, settings: Settings) -> str:
    """Return the model that keeps a task type local: the first local one that it is mapped to.

    A task type mapped to Claude alone, or to models that leave the machine where those are not
    allowed, has no local model of its own and gets the default one.
    """
    for model in mapped_models(task_type, settings):
        if provider_of(model, settings) is Provider.OLLAMA and not _is_forbidden(model, settings):
            return model
    return settings.default_local_model


def _is_forbidden(model: str, settings: Settings) -> bool:
    is_local_only = settings.engines_allowed is EnginesAllowed.THIS_MACHINE
    return (is_local_only or settings.cloud_models is Switch.OFF) and is_cloud_model(model)


def leaves_this_machine(model: str, engine: Engine) -> bool:
    """Return whether a task for a local model would be sent to another machine, or may be."""
    found = find_model(model, engine)
    is_passed_on = found is not None and engine.models[found].is_passed_on
    return (
        is_passed_on
        or is_cloud_model(model)
        or _named(engine_name(model, engine), engine).is_elsewhere
    )


def availability(model: str, engine: Engine | None, settings: Settings) -> Availability:
    """Return whether a local model can run now, and if not, the command that fixes it.

    Without an engine (``None``) nothing is known.
    """
    if engine is None:
        return _UNKNOWN
    if settings.engines_allowed is EnginesAllowed.THIS_MACHINE:
        if leaves_this_machine(model, engine):
            return Availability(can_run=False, remedy=SHOW_ALLOWED)
    elif _is_forbidden(model, settings):
        return Availability(can_run=False, remedy=ALLOW_CLOUD)
    if find_model(model, engine) is None:
        state = state_of(engine_name(model, engine), engine)
        if state in {EngineState.UNKNOWN, EngineState.SLOW}:
            return _UNKNOWN
    remedy = _remedy(model, engine)
    return Availability(can_run=remedy is None, remedy=remedy)


def _remedy(model: str, engine: Engine) -> str | None:
    """Return the command that lets a model run; ``None``: it can."""
    found = find_model(model, engine)
    if found is not None:
        capabilities = engine.models[found].capabilities
        is_fit = capabilities is None or "completion" in capabilities
        return None if is_fit else LIST_MODELS
    name = engine_name(model, engine)
    state = state_of(name, engine)
    if name != OLLAMA:
        return LIST_MODELS if state is EngineState.UP else RUN_DOCTOR
    if state is not EngineState.UP:
        return START_OLLAMA if state is EngineState.DOWN else RUN_DOCTOR
    return f"{PULL} {model.removeprefix(f'{OLLAMA}/')}"


def find_model(model: str, engine: Engine) -> str | None:
    """Return the canonical name of an installed model; ``None``: no engine has it.

    The name of its engine may stand before it, as in ``llamacpp/tiny``.
    """
    canonical = canonical_model(model)
    name = _named_engine(model, engine)
    if name is not None:
        for candidate in (canonical, canonical_model(model.partition("/")[2])):
            installed = engine.models.get(candidate)
            if installed is not None and (installed.engine or OLLAMA) == name:
                return candidate
    return canonical if canonical in engine.models else None


def _named_engine(model: str, engine: Engine) -> str | None:
    name, slash, _ = model.lower().partition("/")
    known = {OLLAMA, *(other.name for other in engine.others)} if slash else set[str]()
    return name if name in known else None


def engine_name(model: str, engine: Engine) -> str:
    """Return the name of the engine that a model is on, or would be on if it were installed."""
    found = find_model(model, engine)
    if found is not None:
        return engine.models[found].engine or OLLAMA
    return _named_engine(model, engine) or OLLAMA


def is_without_ollama(engine: Engine, settings: Settings) -> bool:
    """Return whether Ollama is down and not needed: other engines have all models of the settings."""
    if engine.state is not EngineState.DOWN or not engine.others:
        return False
    return all(engine_name(model, engine) != OLLAMA for model in named_models(settings))


def serving_instead(engine: Engine) -> tuple[str, ...]:
    """Return the models of other engines where Ollama is down."""
    if engine.state is not EngineState.DOWN:
        return ()
    return tuple(listed_name(name, each) for name, each in engine.models.items() if each.engine)


def state_of(name: str, engine: Engine) -> EngineState:
    """Return the state of one of the engines."""
    return _named(name, engine).state


def _named(name: str, engine: Engine) -> Engine:
    return next((other for other in engine.others if other.name == name), engine)


def listed_name(canonical: str, installed: LocalModel) -> str:
    """Return the name to call an installed model by: with its engine's where another has the same name."""
    if canonical_model(installed.name) == canonical:
        return installed.name
    return f"{installed.engine or OLLAMA}/{installed.name}"


def fallback_models(model: str, engine: Engine, settings: Settings) -> list[str]:
    """Return installed models fit for a mapped one's role: other sizes of it, then what is trusted.

    Of other sizes the largest comes first, of equal ones the one in memory. Trusted is what the settings name for any task.
    """
    family = canonical_model(model).rpartition(":")[0]
    sizes = [
        (name, installed)
        for name, installed in engine.models.items()
        if name.rpartition(":")[0] == family and not is_cloud_model(name)
    ]
    sizes.sort(key=lambda each: (-each[1].size_bytes, not each[1].is_loaded, each[1].name))
    return [
        *(listed_name(name, installed) for name, installed in sizes),
        settings.default_local_model,
    ]


def loaded_among_equals(models: Mapping[str, LocalModel]) -> list[str]:
    """Return the loaded models that ``fallback_models`` prefers for that, in order of their names."""
    equals: dict[tuple[str, int], list[str]] = {}
    for name, installed in models.items():
        equals.setdefault((name.rpartition(":")[0], installed.size_bytes), []).append(name)
    rivals = (name for names in equals.values() if len(names) > 1 for name in names)
    return sorted(name for name in rivals if models[name].is_loaded)


def named_models(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the local models that the settings name, each with the task types it is for."""
    named: dict[str, list[str]] = {}
    for task_type in settings.task_mappings:
        for model in mapped_models(task_type, settings):
            if provider_of(model, settings) is Provider.OLLAMA:
                named.setdefault(model, []).append(task_type)
    named.setdefault(settings.default_local_model, []).append("default")
    return {model: tuple(task_types) for model, task_types in named.items()}
