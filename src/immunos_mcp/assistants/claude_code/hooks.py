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
HOOK_MATCHERS: dict[str, str | None] = {
    "UserPromptSubmit": None,
    "PreToolUse": "Agent|Task",
    "PostToolBatch": None,
    "SubagentStop": None,
    "Stop": None,
}
"""The Claude Code events that call the router, and the tools that an event is limited to."""


def hook_group(event: str, server: str = NAME) -> dict[str, Json]:
    """Return the hook group of an event: one call of the running server."""
    hook: dict[str, Json] = {
        "type": "mcp_tool",
        "server": server,
        "tool": HOOK_TOOL,
        # Claude Code fills in the id of the conversation.
        "input": {"event": event, "session_id": "${session_id}"},
        "timeout": HOOK_SECONDS,
    }
    matcher = HOOK_MATCHERS[event]
    group: dict[str, Json] = {} if matcher is None else {"matcher": matcher}
    return {**group, "hooks": [hook]}


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
