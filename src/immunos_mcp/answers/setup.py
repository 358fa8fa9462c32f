"""What ``setup`` found on a machine, and what it did there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from immunos_mcp.domain import EngineState


class StepState(StrEnum):
    """How far a step of the setup came."""

    PROPOSED = "proposed"
    DONE = "done"
    DECLINED = "declined"
    NOT_NEEDED = "not_needed"
    FAILED = "failed"
    NOT_REACHED = "not_reached"


class ClientStep(Struct, frozen=True):
    """One client on this machine.

    Attributes:
        client: its name, as ``install`` takes it.
        state: how far its setup came.
        files: the files that were changed, or would be.
        backups: the files as they were before.
        message: why nothing was done, where that needs a reason.
    """

    client: str
    state: StepState
    files: tuple[str, ...] = ()
    backups: tuple[str, ...] = ()
    message: str | None = None


class PresetReason(StrEnum):
    """Why a preset is proposed, or none."""

    FITS_MEMORY = "fits_memory"
    MODELS_INSTALLED = "models_installed"
    MODELS_CHOSEN = "models_chosen"
    OTHER_ENGINES = "other_engines"
    MEMORY_UNKNOWN = "memory_unknown"
    MEMORY_TOO_SMALL = "memory_too_small"


class PresetProposal(Struct, frozen=True):
    """The preset that suits a machine.

    Attributes:
        reason: why this one, or none.
        preset: its name; absent where none is proposed.
        pull: models that are not installed: of the preset, or of the settings where those stay.
        smaller: other presets that fit, the largest first.
    """

    reason: PresetReason
    preset: str | None = None
    pull: tuple[str, ...] = ()
    smaller: tuple[str, ...] = ()


class PresetStep(Struct, frozen=True):
    """The step that applies a preset.

    Attributes:
        state: how far it came.
        reason: why this preset was proposed, or none.
        name: the preset's; absent where none was proposed.
        message: why it failed.
    """

    state: StepState
    reason: PresetReason
    name: str | None = None
    message: str | None = None


class SynonymsStep(Struct, frozen=True):
    """The step that lets synonyms of the task types mean them.

    Attributes:
        state: how far it came.
        message: why it failed.
    """

    state: StepState
    message: str | None = None


class OllamaFound(Struct, frozen=True):
    """The local engine as it was found.

    Attributes:
        state: whether it answers; ``unknown`` where it was not asked.
        installed: whether its program is on this machine's PATH.
        address: where it was looked for.
        models: how many models it has.
        others: the state of each engine beside it.
    """

    state: EngineState
    installed: bool
    address: str | None = None
    models: int | None = None
    others: Mapping[str, EngineState] | None = None


class SetupAnswer(Struct, frozen=True):
    """What ``setup`` found and did.

    Attributes:
        dry_run: true when nothing was changed.
        clients: each client that was found.
        ollama: the local engine.
        preset: the step that applies a preset.
        synonyms: the step that switches the setting ``task_synonyms`` on.
        pull: the commands that install the models still missing.
        doctor: what ``doctor`` found afterwards, as it prints it; absent on a dry run.
        memory_bytes: this machine's memory; absent where the system does not say.
    """

    dry_run: bool
    clients: tuple[ClientStep, ...]
    ollama: OllamaFound
    preset: PresetStep
    synonyms: SynonymsStep
    pull: tuple[str, ...]
    doctor: tuple[Struct, ...] | None = None
    memory_bytes: int | None = None
