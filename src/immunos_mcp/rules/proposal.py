"""Which preset suits a machine. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.setup import PresetProposal, PresetReason
from immunos_mcp.rules.models import find_model, named_models, serving_instead
from immunos_mcp.rules.names import is_cloud_model
from immunos_mcp.rules.presets import PRESETS
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from immunos_mcp.domain import Engine

GIGABYTE = 2**30


def propose(memory_bytes: int | None, engine: Engine, settings: Settings) -> PresetProposal:
    """Return the preset that fits into memory, unless the models in force are there or were chosen.

    Args:
        memory_bytes: of the machine that the engine runs on; ``None``: not known.
        engine: the engine as it was found.
        settings: those in force.
    """
    named = _local(named_models(settings))
    missing = _missing(named, engine)
    if not missing:
        return PresetProposal(PresetReason.MODELS_INSTALLED)
    if _are_chosen(settings):
        return PresetProposal(PresetReason.MODELS_CHOSEN, pull=missing)
    if serving_instead(engine):
        return PresetProposal(PresetReason.OTHER_ENGINES)
    if memory_bytes is None:
        return PresetProposal(PresetReason.MEMORY_UNKNOWN)
    fitting = presets_that_fit(memory_bytes)
    if not fitting:
        return PresetProposal(PresetReason.MEMORY_TOO_SMALL)
    largest = fitting[0]
    return PresetProposal(
        PresetReason.FITS_MEMORY, largest, models_to_pull(largest, engine), fitting[1:]
    )


def presets_that_fit(memory_bytes: int) -> tuple[str, ...]:
    """Return the names of the presets that a machine has the memory for, the largest first."""
    needed = [(each.least_memory, name) for name, each in PRESETS.items() if each.least_memory]
    fitting = [name for least, name in sorted(needed) if memory_bytes >= least * GIGABYTE]
    return tuple(reversed(fitting))


def models_to_pull(preset: str, engine: Engine) -> tuple[str, ...]:
    """Return the models of a preset that are not installed."""
    return _missing(PRESETS[preset].models, engine)


def _local(names: Iterable[str]) -> list[str]:
    return [name for name in names if not is_cloud_model(name)]


def _missing(names: Iterable[str], engine: Engine) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if find_model(name, engine) is None)


def _are_chosen(settings: Settings) -> bool:
    default = Settings()
    return (settings.default_local_model, dict(settings.task_mappings)) != (
        default.default_local_model,
        dict(default.task_mappings),
    )
