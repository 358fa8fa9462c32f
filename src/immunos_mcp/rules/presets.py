"""Models of today by memory size, and which models are no longer of today. Pure."""

from __future__ import annotations

import re
from datetime import date, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.errors import InvalidInputError, Problem, any_of
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, MAPPINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from immunos_mcp.rules.setting_kinds import SettingChangeValue

OUTDATED_AFTER = timedelta(days=183)
"""How old a table of presets or prices may be: half a year."""


class Preset(Struct, frozen=True):
    """Models that fit together into so much memory.

    Attributes:
        code: the model for code, which is also the default local model.
        reasoning: the model for reasoning.
        short_tasks: the model for summaries and short questions.
        least_memory: the gigabytes of memory that a machine needs for them; ``None``: it is not
            proposed. About a quarter is left to the system, and systems report a little less than is
            built in.
        checked: the day on which somebody last checked that these are the models of today (ISO 8601).
        source: what says that the models fit, and where.
    """

    code: str
    reasoning: str
    short_tasks: str
    least_memory: int | None = None
    checked: str | None = None
    source: str | None = None

    @property
    def models(self) -> tuple[str, str, str]:
        """Return the models by kind of task."""
        return self.code, self.reasoning, self.short_tasks


_QWEN_3_8 = "https://unsloth.ai/docs/models/qwen3.8"
_CHECKED = "2026-11-28"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "default": Preset("qwen2.5-coder:7b", "deepseek-r1:14b", "qwen2.5:1.5b"),
        "8gb": Preset(
            *("qwen3.5:4b", "qwen3.5:4b", "qwen3.5:4b"),
            least_memory=11,
            checked=_CHECKED,
            source="3.4 GB: https://ollama.com/library/qwen3.5",
        ),
        "16gb": Preset(
            *("qwen3.5:9b", "qwen3.5:9b", "qwen3.5:4b"),
            least_memory=20,
            checked=_CHECKED,
            source=(
                "recommended by Ollama for 14 GB: "
                "https://github.com/ollama/ollama/blob/main/server/model_recommendations.go"
            ),
        ),
        "24gb": Preset(
            *("qwen3.8:27b", "qwen3.8:27b", "qwen3.5:4b"),
            least_memory=28,
            checked=_CHECKED,
            source=f"18 GB, needs Ollama 0.32.12: {_QWEN_3_8}",
        ),
        "32gb": Preset(
            *("qwen3.8:27b", "qwen3.8:27b", "qwen3.5:9b"),
            least_memory=40,
            checked=_CHECKED,
            source=f"18 GB and 7 GB together, needs Ollama 0.32.12: {_QWEN_3_8}",
        ),
        "48gb": Preset(
            *("qwen3.8:27b-q8_0", "qwen3.8:27b-q8_0", "qwen3.5:9b"),
            least_memory=60,
            checked=_CHECKED,
            source=f"30 GB and 7 GB together, needs Ollama 0.32.12: {_QWEN_3_8}",
        ),
    }
)
"""Presets, named after the memory of the graphics card, or of what it shares with the system.

Names are those of Ollama's library.
"""


def preset(name: str) -> dict[str, SettingChangeValue]:
    """Return the changes that a preset stands for: the default mappings' task types, other models.

    Raises:
        InvalidInputError: the preset does not exist.
    """
    if name not in PRESETS:
        raise InvalidInputError(Problem("preset", name, any_of(PRESETS)))
    models = dict(zip(PRESETS["default"].models, PRESETS[name].models, strict=True))
    mappings = {task_type: models[model] for task_type, model in DEFAULT_TASK_MAPPINGS.items()}
    return {"default_local_model": PRESETS[name].code, MAPPINGS: mappings}


class OldFamily(Struct, frozen=True):
    """A family of models that has a successor.

    Attributes:
        released: the month in which it came out.
        successor: the family that does the same today.
    """

    released: str
    successor: str


_FAMILY_AND_SIZE = r"(.+?)(?::.*|[-_]\d+(?:\.\d+)?b(?:[-_.:].*)?)?"
_CODE_OF_TODAY = "qwen3.5 or qwen3.8"

OLD_FAMILIES: Mapping[str, OldFamily] = MappingProxyType(
    {
        "codegemma": OldFamily("2024-04", "gemma4"),
        "codellama": OldFamily("2023-08", _CODE_OF_TODAY),
        "deepseek-coder": OldFamily("2023-11", _CODE_OF_TODAY),
        "deepseek-coder-v2": OldFamily("2024-06", _CODE_OF_TODAY),
        "deepseek-r1": OldFamily("2025-01", _CODE_OF_TODAY),
        "gemma": OldFamily("2024-02", "gemma4"),
        "gemma2": OldFamily("2024-06", "gemma4"),
        "gemma3": OldFamily("2025-03", "gemma4"),
        "llama2": OldFamily("2023-07", "gemma4"),
        "llama3": OldFamily("2024-04", "gemma4"),
        "llama3.1": OldFamily("2024-07", "gemma4"),
        "llama3.2": OldFamily("2024-09", "gemma4"),
        "llama3.3": OldFamily("2024-12", "gemma4"),
        "mistral": OldFamily("2023-09", "gemma4"),
        "phi3": OldFamily("2024-04", "gemma4"),
        "qwen2": OldFamily("2024-06", _CODE_OF_TODAY),
        "qwen2.5": OldFamily("2024-09", _CODE_OF_TODAY),
        "qwen2.5-coder": OldFamily("2024-09", _CODE_OF_TODAY),
        "qwen3": OldFamily("2025-04", _CODE_OF_TODAY),
        "qwq": OldFamily("2025-03", _CODE_OF_TODAY),
        "starcoder": OldFamily("2023-05", _CODE_OF_TODAY),
        "starcoder2": OldFamily("2024-02", _CODE_OF_TODAY),
    }
)
"""Families with successors, as of ``_CHECKED``. Ollama no longer offers most of them to coding agents
(https://github.com/ollama/ollama/blob/main/cmd/launch/deprecated_models.go, 2026-08)."""


def old_family(model: str) -> OldFamily | None:
    """Return the family of a model if it has a successor; ``None``: it has none that is known.

    Names are those of Ollama or of files (``qwen2.5-coder-7b-instruct.gguf``), also with an engine's or
    a publisher's name before them. A name that only begins alike, such as ``mistral-small``, is of
    another family.
    """
    found = re.fullmatch(_FAMILY_AND_SIZE, model.lower().rpartition("/")[2])
    return None if found is None else OLD_FAMILIES.get(found[1])


def is_outdated(checked: date, today: date) -> bool:
    """Return whether a table of that day is too old to be trusted."""
    return today - checked > OUTDATED_AFTER


def presets_checked() -> date:
    """Return the day of the preset that was checked longest ago."""
    return min(date.fromisoformat(each.checked) for each in PRESETS.values() if each.checked)
