"""The hooks in Claude Code's settings, which call a tool of the running server. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.encoding import Json

HOOK_TOOL = "claude_code_hook"
"""The tool that the hooks call; it is not listed, so it costs no context."""

HOOK_SECONDS = 5
HOOK_EVENTS = (
    "UserPromptSubmit",
    "PreToolUse",
    "PreModelSwitch",
    "PostToolBatch",
    "SubagentStop",
    "Stop",
)
"""The Claude Code events that call the router; one that a version does not know is ignored there."""

_FACTS: dict[str, tuple[str, str]] = {
    "tool": ("PreToolUse", "tool_name"),
    "agent": ("PreToolUse", "agent_id"),
    "transcript": ("PreToolUse", "transcript_path"),
    "file": ("PreToolUse", "tool_input.file_path"),
    "offset": ("PreToolUse", "tool_input.offset"),
    "limit": ("PreToolUse", "tool_input.limit"),
    "from_model": ("PreModelSwitch", "from_model"),
    "to_model": ("PreModelSwitch", "to_model"),
}
"""What Claude Code fills in for one of the events only, and its name there; nothing if it has none."""


def hook_group(event: str, server: str = NAME) -> dict[str, Json]:
    """Return the hook group of an event: one call of the running server."""
    hook: dict[str, Json] = {
        "type": "mcp_tool",
        "server": server,
        "tool": HOOK_TOOL,
        "input": hook_input(event),
        "timeout": HOOK_SECONDS,
    }
    # Without a matcher it is for every tool, as a pause and the ceiling of subagents are.
    return {"hooks": [hook]}


def hook_input(event: str) -> dict[str, Json]:
    """Return the arguments of an event's call; Claude Code fills in what is in braces."""
    facts: dict[str, Json] = {
        name: f"${{{field}}}" for name, (its, field) in _FACTS.items() if its == event
    }
    return {"event": event, "session_id": "${session_id}", **facts}


def without_our_hooks(groups: Sequence[Json]) -> list[Json]:
    """Return an event's hook groups without our hooks; groups with no other hooks are dropped."""
    left: list[Json] = []
    for group in groups:
        hooks = group.get("hooks") if isinstance(group, dict) else None
        if not isinstance(group, dict) or not isinstance(hooks, list):
            left.append(group)
            continue
        others = [hook for hook in hooks if not _is_ours(hook)]
        if others or not hooks:
            left.append(group if others == hooks else {**group, "hooks": others})
    return left


def _is_ours(hook: Json) -> bool:
    """Return whether a hook calls our server."""
    return isinstance(hook, dict) and (hook.get("server"), hook.get("tool")) == (NAME, HOOK_TOOL)
