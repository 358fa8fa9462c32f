"""The local models as they are shown."""

from __future__ import annotations

from msgspec import Struct

from immunos_mcp.domain import EngineState


class ModelLine(Struct, frozen=True):
    """A local model as it is shown.

    Attributes:
        model: its name.
        task_types: what it is mapped for, in order of the settings; ``default`` for the rest.
        installed: whether the engine has it; absent where that is not known.
        loaded: whether it is in memory.
        parameter_size: as the engine reports it.
        size_bytes: on disk.
        context_length: most tokens it accepts, if the listing says so.
        remedy: the command that lets it run, if it cannot.
        engine: the engine that has it; absent: Ollama.
    """

    model: str
    task_types: tuple[str, ...] = ()
    installed: bool | None = None
    loaded: bool | None = None
    parameter_size: str | None = None
    size_bytes: int | None = None
    context_length: int | None = None
    remedy: str | None = None
    engine: str | None = None


class EngineLine(Struct, frozen=True):
    """An engine beside Ollama, as it is shown.

    Attributes:
        engine: its name.
        state: whether it responds.
        address: where it is.
        version: its version, if it says so.
        words: what is wrong with it.
        notice: that tasks leave this machine, and whether they are encrypted.
    """

    engine: str
    state: EngineState
    address: str
    version: str | None = None
    words: str | None = None
    notice: str | None = None


class ModelsAnswer(Struct, frozen=True):
    """What ``models`` answers: the engines, and each model that is mapped or installed.

    Attributes:
        state: whether Ollama responds.
        address: where it is.
        models: the models.
        version: its version.
        words: what is wrong with it.
        notice: that tasks leave this machine, and whether they are encrypted.
        engines: the engines beside Ollama.
    """

    state: EngineState
    address: str
    models: tuple[ModelLine, ...]
    version: str | None = None
    words: str | None = None
    notice: str | None = None
    engines: tuple[EngineLine, ...] | None = None
