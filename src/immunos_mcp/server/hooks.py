"""Answers to Claude Code's hooks: one short line when the budget's state calls for it, or a denial.

The hooks are of the type that calls a tool of the running server, so no process is started. The
tool is not listed and costs no context; what it answers is read as the hook's JSON.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from immunos_mcp.assistants.looks import Look
from immunos_mcp.domain import WarningLevel
from immunos_mcp.errors import ImmunosError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.router import Router

NEAR_SHARE = 0.05
"""A threshold is near when less than this share of it is left."""

LATE_SECONDS = 0.3
"""How long after a turn its last response is in the transcript; 0.1 s was seen."""

SILENCE = "{}"
"""The hook's JSON that changes nothing."""

logger = logging.getLogger(__name__)


class HookEvent(StrEnum):
    """The events that the plugin's hooks pass on, by Claude Code's names."""

    USER_PROMPT_SUBMIT = "UserPromptSubmit"
    PRE_TOOL_USE = "PreToolUse"
    POST_TOOL_BATCH = "PostToolBatch"
    SUBAGENT_STOP = "SubagentStop"
    STOP = "Stop"


_RANKS = {WarningLevel.NORMAL: 0, WarningLevel.WARNING: 1, WarningLevel.CRITICAL: 2}


class BudgetNotices:
    """The notices about the budget in one conversation, none of which is given twice."""

    def __init__(self) -> None:
        self._noticed = (_RANKS[WarningLevel.NORMAL], False)

    def notice(self, status: StatusAnswer) -> str | None:
        """Return a line for the model if the budget got worse since the last call."""
        before = self._noticed
        self._noticed = (_RANKS[status.warning_level], _is_near(status))
        return _line(status) if self._noticed > before else None


class Hooks:
    """Answers the hooks of one conversation; ``catch_up_after_turns`` runs beside it."""

    def __init__(
        self,
        router: Router,
        on_caught_up: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Answer from a router.

        Args:
            router: the use cases.
            on_caught_up: called when the last response of a turn was counted.
            sleep: waits for some seconds.
        """
        self._router = router
        self._notices = BudgetNotices()
        self._on_caught_up = on_caught_up
        self._sleep = sleep
        self._turn_ended = anyio.Event()

    async def answer(self, event: HookEvent, conversation: str | None = None) -> str:
        """Return the hook's JSON; whatever the event, all usage written so far is counted.

        Args:
            event: what happened.
            conversation: the client's id of the conversation that it happened in.
        """
        look = Look(conversation)
        if event is HookEvent.PRE_TOOL_USE:
            denial = await self._router.refuse_agent(look)
            return SILENCE if denial is None else deny_subagent(denial.model, denial.message)
        status = await self._router.get_session_status(look=look)
        if event is HookEvent.USER_PROMPT_SUBMIT and _is_unlogged(status):
            with suppress(LedgerError):
                await self._router.open_session()
        if event is HookEvent.STOP:
            self._turn_ended.set()
        if event is not HookEvent.USER_PROMPT_SUBMIT:
            return SILENCE
        notice = self._notices.notice(status)
        return SILENCE if notice is None else _output(event, additionalContext=notice)

    async def catch_up_after_turns(self) -> None:
        """Count each turn's last response, which is written just after the hook ran."""
        while True:
            await self._turn_ended.wait()
            self._turn_ended = anyio.Event()
            await self._sleep(LATE_SECONDS)
            try:
                await self._router.catch_up(is_patient=False)
            except ImmunosError as error:
                logger.warning("cannot take over the turn's last response: %s", error)
            else:
                self._on_caught_up()


def _is_unlogged(status: StatusAnswer) -> bool:
    """Return whether no session is open, and there are no logs that one would begin with."""
    return status.session_id is None and status.not_counting is None


def deny_subagent(model: str, message: str) -> str:
    """Return the hook's JSON that denies a subagent and names the local model in its place."""
    reason = (
        f"{message} No subagents: have {model} do this, or do the least that is needed yourself."
    )
    return _output(
        HookEvent.PRE_TOOL_USE, permissionDecision="deny", permissionDecisionReason=reason
    )


def _output(event: HookEvent, **fields: str) -> str:
    output = {"hookEventName": event.value, **fields}
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
