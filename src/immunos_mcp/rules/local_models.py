"""Which local models the settings name, and which of them the local engine has. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.models import EngineLine, ModelLine, ModelsAnswer
from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.rules import engine_places, models

if TYPE_CHECKING:
    from immunos_mcp.rules.settings import Settings


def local_models(engine: Engine, settings: Settings) -> ModelsAnswer:
    """Return which local models are mapped, installed, loaded and missing."""
    named = models.named_models(settings)
    known = {models.find_model(model, engine) for model in named}
    others = [
        models.listed_name(name, installed)
        for name, installed in engine.models.items()
        if name not in known
    ]
    return ModelsAnswer(
        state=engine.state,
        address=engine.address,
        models=tuple(
            _model_line(model, named.get(model, ()), engine, settings)
            for model in (*named, *others)
        ),
        version=engine.version or None,
        words=engine.words or None,
        notice=engine_places.refusal(engine.address, settings)
        or engine_places.notice(engine.address),
        engines=tuple(_engine_line(other, settings) for other in engine.others) or None,
    )


def _engine_line(other: Engine, settings: Settings) -> EngineLine:
    return EngineLine(
        other.name,
        other.state,
        other.address,
        version=other.version or None,
        words=other.words or None,
        notice=engine_places.refusal(other.address, settings, other.name)
        or engine_places.notice(other.address, other.name),
    )


def _model_line(
    model: str, task_types: tuple[str, ...], engine: Engine, settings: Settings
) -> ModelLine:
    found = models.find_model(model, engine)
    remedy = models.availability(model, engine, settings).remedy
    if found is None:
        is_known = models.state_of(models.engine_name(model, engine), engine) is EngineState.UP
        return ModelLine(model, task_types, False if is_known else None, remedy=remedy)
    installed = engine.models[found]
    return ModelLine(
        model,
        task_types,
        installed=True,
        engine=installed.engine or None,
        loaded=installed.is_loaded,
        parameter_size=installed.parameter_size or None,
        size_bytes=installed.size_bytes or None,
        context_length=installed.context_length,
        remedy=remedy,
    )
