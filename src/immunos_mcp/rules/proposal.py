"""Which preset suits a machine. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from immunos_mcp.answers.setup import PresetProposal, PresetReason
from immunos_mcp.rules.models import find_model, named_models
from immunos_mcp.rules.names import is_cloud_model
from immunos_mcp.rules.setting_changes import PRESETS
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from immunos_mcp.domain import Engine

GIGABYTE = 2**30

SMALLEST_MEMORY: Mapping[str, int] = MappingProxyType(
    {"32gb": 40, "24gb": 28, "16gb": 20, "8gb": 11}
)
"""Gigabytes that a machine needs for each preset, largest first.

A preset is named after the memory that its models need at most. About a quarter of the machine's is
left to the system, and systems report a little less than is built in.
"""


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
    if memory_bytes is None:
        return PresetProposal(PresetReason.MEMORY_UNKNOWN)
    preset = _largest_that_fits(memory_bytes)
    if preset is None:
        return PresetProposal(PresetReason.MEMORY_TOO_SMALL)
    return PresetProposal(PresetReason.FITS_MEMORY, preset, _missing(PRESETS[preset], engine))


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


def _largest_that_fits(memory_bytes: int) -> str | None:
    fitting = (name for name, least in SMALLEST_MEMORY.items() if memory_bytes >= least * GIGABYTE)
    return next(fitting, None)
