"""What a hook of Claude Code is told: one short line when the budget's state calls for it, or a no.

The hooks are of the type that calls a tool of the running server, so no process is started. The
tool is not listed and costs no context; what it answers is read as the hook's JSON.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING

from immunos_mcp.domain import WarningLevel

if TYPE_CHECKING:
    from immunos_mcp.answers.answers import StatusAnswer

NEAR_SHARE = 0.05
"""A threshold is near when less than this share of it is left."""


class HookEvent(StrEnum):
    """The events that the plugin's hooks pass on, by Claude Code's names."""

    USER_PROMPT_SUBMIT = "UserPromptSubmit"
    PRE_TOOL_USE = "PreToolUse"
    POST_TOOL_BATCH = "PostToolBatch"
    SUBAGENT_STOP = "SubagentStop"
    STOP = "Stop"


_RANKS = {WarningLevel.NORMAL: 0, WarningLevel.WARNING: 1, WarningLevel.CRITICAL: 2}


class HookTeller:
    """Remembers what the model of this conversation was told, so that nothing is said twice."""

    def __init__(self) -> None:
        self._told = (_RANKS[WarningLevel.NORMAL], False)

    def answer(self, event: HookEvent, status: StatusAnswer) -> str:
        """Return the hook's JSON: a line for the model where a prompt finds the budget worse."""
        if event is not HookEvent.USER_PROMPT_SUBMIT:
            return "{}"
        told, self._told = self._told, (_RANKS[status.warning_level], _is_near(status))
        if self._told <= told:
            return "{}"
        return _output(event, additionalContext=_line(status))


def deny_agent(model: str, message: str) -> str:
    """Return the hook's JSON that refuses a subagent and names the local model in its place."""
    reason = (
        f"{message} No subagents: have {model} do this, or do the least that is needed yourself."
    )
    return _output(
        HookEvent.PRE_TOOL_USE, permissionDecision="deny", permissionDecisionReason=reason
    )


def _output(event: HookEvent, **told: str) -> str:
    output = {"hookEventName": event.value, **told}
    return json.dumps({"hookSpecificOutput": output}, separators=(",", ":"))


def _next_threshold(status: StatusAnswer) -> int | None:
    if status.warning_level is WarningLevel.NORMAL:
        return status.token_warning_threshold
    if status.warning_level is WarningLevel.WARNING:
        return status.token_auto_switch_threshold
    return None


def _is_near(status: StatusAnswer) -> bool:
    threshold = _next_threshold(status)
    return threshold is not None and threshold - status.session_tokens < threshold * NEAR_SHARE


def _line(status: StatusAnswer) -> str:
    line = (
        f"Token budget: {status.session_tokens} of {status.session_limit}, "
        f"{status.warning_level}. {status.message}"
    )
    threshold = _next_threshold(status)
    if threshold is None or not _is_near(status):
        return line
    return f"{line} {threshold - status.session_tokens} tokens to the next threshold."
