"""The supported assistants: one folder each, loaded on demand."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.assistants.configuration import Assistant, Configuration

NAMES = (
    "claude-code",
    "claude-desktop",
    "vscode",
    "cursor",
    "codex",
    "opencode",
    "gemini",
    "qwen",
    "copilot",
    "cline",
)
"""All assistants, in the order of help and the doctor; folder names have underscores for hyphens."""


def assistant(name: str) -> Assistant:
    """Return the assistant with one of the ``NAMES``."""
    folder = name.replace("-", "_")
    module = import_module(f"immunos_mcp.assistants.{folder}.assistant")
    return cast("Assistant", module.ASSISTANT)


def is_found(assistant: Assistant, files: Sequence[Configuration]) -> bool:
    """Tell whether an assistant is on this machine: the folder of its settings, or its command."""
    folder = files[-1].file.parent
    return os.path.isdir(folder) or shutil.which(assistant.program) is not None  # noqa: PTH112  # never raises
