"""Why a local model cannot run, and the command that fixes it. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

OLLAMA_DOWNLOAD = "https://ollama.com/download"
START_OLLAMA = "ollama serve"
PULL = "ollama pull"
RUN_DOCTOR = "immunos-mcp doctor"
LIST_MODELS = "immunos-mcp models"
ALLOW_CLOUD = "immunos-mcp config set cloud_models=on"
SHOW_ALLOWED = "immunos-mcp config get engines_allowed"


def mapping_command(model: str) -> str:
    """Return the command that gives code reviews, and what is not mapped, to a model."""
    return f"immunos-mcp config set default_local_model={model} task_mappings.code_review={model}"


class Obstacle(Struct, frozen=True):
    """What keeps a local model from running, in the phrases that answers are written with.

    Attributes:
        clause: follows the model's name and a comma.
        sentence: stands alone, without a full stop.
        advice: what the command does for the user, up to the command.
        is_fixed: whether the command alone removes it.
    """

    clause: str
    sentence: str
    advice: str
    is_fixed: bool = False


_OBSTACLES: Mapping[str, Obstacle] = MappingProxyType(
    {
        START_OLLAMA: Obstacle(
            "but Ollama is not running", "Ollama is not running", "Start it with", is_fixed=True
        ),
        RUN_DOCTOR: Obstacle(
            "but its engine does not respond as expected",
            "Its engine does not respond as expected",
            "Find out why with",
        ),
        LIST_MODELS: Obstacle(
            "which no engine serves for text",
            "No engine serves the model for text",
            "See which models do with",
        ),
        ALLOW_CLOUD: Obstacle(
            "which runs in the cloud",
            "The model runs in the cloud",
            "Allow cloud models with",
            is_fixed=True,
        ),
        SHOW_ALLOWED: Obstacle(
            "which is not on this machine, as engines_allowed demands",
            "The model is not on this machine, as engines_allowed demands",
            "See the setting with",
        ),
    }
)
_NOT_INSTALLED = Obstacle(
    "which is not installed", "The model is not installed", "Get it with", is_fixed=True
)
_UNKNOWN = Obstacle("which cannot run now", "The model cannot run now", "Fix that with")


def obstacle(remedy: str) -> Obstacle:
    """Return what a remedy removes."""
    if remedy.startswith(f"{PULL} "):
        return _NOT_INSTALLED
    return _OBSTACLES.get(remedy, _UNKNOWN)
