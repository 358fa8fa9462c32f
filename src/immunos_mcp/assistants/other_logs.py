"""The logs of the assistants other than Claude Code, each loaded once there are any."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from immunos_mcp.options import NoHomeError, home_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.assistants.transcripts import TranscriptSource

_MODULES = {
    "codex": "rollouts",
    "gemini": "chats",
    "opencode": "messages",
    "qwen": "chats",
    "copilot": "events",
    "cline": "messages",
    "pi": "sessions",
}


class OtherLogs:
    """Looks for logs at each call: an assistant may be installed while a server runs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._places = _places(environment)
        self._found: dict[str, TranscriptSource] = {}

    def sources(self) -> Sequence[TranscriptSource]:
        """Return the logs that there are."""
        for name, place in self._places.items():
            if name not in self._found and os.path.exists(place):  # noqa: PTH110  # at each call
                module = import_module(f"immunos_mcp.assistants.{name}.{_MODULES[name]}")
                self._found[name] = cast("Callable[[str], TranscriptSource]", module.source)(place)
        return tuple(self._found.values())

    def by_assistant(self) -> Mapping[str, TranscriptSource]:
        """Return the logs that there are, by the assistant's name."""
        self.sources()
        return self._found

    def hidden(self) -> Mapping[str, str]:
        """Return the places that cannot be looked at, where there may be logs, by the assistant's name."""
        unknown = self._places.keys() - self._found.keys()
        return {name: place for name in unknown if _is_hidden(place := self._places[name])}


def _is_hidden(place: str) -> bool:
    try:
        os.stat(place)  # noqa: PTH116  # at each status
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return False


def _places(environment: Mapping[str, str]) -> dict[str, str]:
    """Return where each assistant's logs are, if it has any."""
    places = {
        "codex": _in(environment, "CODEX_HOME", "", ".codex"),
        "gemini": _in(environment, "GEMINI_CLI_HOME", ".gemini/tmp"),
        "opencode": _opencode(environment),
        "qwen": _in(environment, "QWEN_HOME", "projects", ".qwen"),
        "copilot": _in(environment, "COPILOT_HOME", "session-state", ".copilot"),
        "cline": _in(environment, "CLINE_DATA_DIR", "sessions", ".cline/data"),
        "pi": _in(environment, "PI_CODING_AGENT_DIR", "sessions", ".pi/agent"),
    }
    return {name: place for name, place in places.items() if place is not None}


def _opencode(environment: Mapping[str, str]) -> str | None:
    """Return opencode's folder, or the database that a variable names, in that folder if need be."""
    folder = _in(environment, "XDG_DATA_HOME", "opencode", ".local/share")
    database = environment.get("OPENCODE_DB")
    return os.path.join(folder or "", database) if database else folder  # noqa: PTH118  # text


def _in(environment: Mapping[str, str], variable: str, path: str, usual: str = "") -> str | None:
    """Return a path in the folder that a variable names, or else in the usual one at home."""
    folder = environment.get(variable)
    try:
        return str(Path(folder) / path if folder else home_folder() / usual / path)
    except NoHomeError:
        return None
