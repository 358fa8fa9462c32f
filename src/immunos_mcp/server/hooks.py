"""Answers to Claude Code's hooks: a short line, a question to the user, or a denial.

The hooks are of the type that calls a tool of the running server, so no process is started. The
tool is not listed and costs no context; what it answers is read as the hook's JSON.

Whoever works waits for a hook, so each answers soon or says nothing: what is not known by then is
not said, and what could not be counted by then is counted afterwards.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import anyio

from immunos_mcp.assistants.claude_code.subagents import SubagentUsage
from immunos_mcp.assistants.looks import Look
from immunos_mcp.domain import GateChoice, Switch
from immunos_mcp.errors import ImmunosError, LedgerError
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.rules import gates
from immunos_mcp.rules.advice import estimated_tokens
from immunos_mcp.rules.gates import Attempt, Gated
from immunos_mcp.rules.status import measured_tokens
from immunos_mcp.server.notices import BudgetNotices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.router import Router
    from immunos_mcp.rules.gates import Standing, Verdict

ANSWER_SECONDS = 0.1
"""How long a hook may take."""

LATE_SECONDS = 0.3
"""How long after a turn its last response is in the transcript; 0.1 s was seen."""

LARGEST_CATCH_UP = 2 * 2**20
"""Most unread bytes that are read while somebody waits."""

MOST_FILES = 10_000
"""Files that are remembered as read; then all are forgotten."""

SILENCE = "{}"
"""The hook's JSON that changes nothing."""

logger = logging.getLogger(__name__)


class HookEvent(StrEnum):
    """The events that the plugin's hooks pass on, by Claude Code's names."""

    USER_PROMPT_SUBMIT = "UserPromptSubmit"
    PRE_TOOL_USE = "PreToolUse"
    PRE_MODEL_SWITCH = "PreModelSwitch"
    POST_TOOL_BATCH = "PostToolBatch"
    SUBAGENT_STOP = "SubagentStop"
    STOP = "Stop"


class HookCall(NamedTuple):
    """What a hook passes on; what does not belong to its event is empty.

    Attributes:
        event: what happened, or is about to.
        conversation: the client's id of the conversation; ``None``: not known.
        tool: the tool that is about to be called.
        agent: the id of the subagent that it happens in; empty: the conversation itself.
        transcript: path of the conversation's transcript.
        file: the file that the tool is about.
        is_part: whether the tool is to read a part of it only.
        from_model: the model in use before a switch.
        to_model: the model switched to.
    """

    event: HookEvent
    conversation: str | None = None
    tool: str = ""
    agent: str = ""
    transcript: str = ""
    file: str = ""
    is_part: bool = False
    from_model: str = ""
    to_model: str = ""


class Hooks:
    """Answers the hooks of one client; the two other methods run beside it."""

    def __init__(
        self,
        router: Router,
        on_caught_up: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Answer from a router.

        Args:
            router: the use cases.
            on_caught_up: called when the last response of a turn was counted.
            sleep: waits for some seconds.
            answer_seconds: how long an answer may take.
        """
        self._router = router
        self._notices = BudgetNotices()
        self._on_caught_up = on_caught_up
        self._sleep = sleep
        self._answer_seconds = answer_seconds
        self._turn_ended = anyio.Event()
        self._look: Look | None = None
        self._subagents = SubagentUsage()
        self._told: set[tuple[str | None, Gated, str]] = set()
        self._seen_files: set[tuple[str | None, str, str]] = set()
        self._texts = self._tokens = 0
        self._spoke = anyio.Event()

    async def answer(self, call: HookCall) -> str:
        """Return the hook's JSON, in time or not at all; usage written so far is counted."""
        said = SILENCE
        with anyio.move_on_after(self._answer_seconds) as scope:
            said = await self._answer(call)
        if scope.cancelled_caught:
            self._look_later(call)
        return said

    def _look_later(self, call: HookCall) -> None:
        """Have the session opened, and what was written counted, after the answer."""
        self._look = Look(call.conversation, LARGEST_CATCH_UP)
        self._turn_ended.set()

    async def _answer(self, call: HookCall) -> str:
        if call.event in {HookEvent.PRE_TOOL_USE, HookEvent.PRE_MODEL_SWITCH}:
            # Without the ledger nothing can be judged, and nothing is held up.
            with suppress(LedgerError):
                return await self._before(call)
            return SILENCE
        if call.event is HookEvent.USER_PROMPT_SUBMIT:
            return await self._prompted(call)
        await self._count(call)
        if call.event is HookEvent.STOP:
            self._turn_ended.set()
        return SILENCE

    async def _prompted(self, call: HookCall) -> str:
        standing = await self._router.gates.standing()
        if standing.overrides.paused_until is not None:
            reason = gates.paused(standing.overrides.paused_until)
            return _json({"decision": "block", "reason": reason})
        status = await self._count(call)
        if _is_unlogged(status):
            with suppress(LedgerError):
                await self._router.open_session()
        if standing.settings.advice is Switch.OFF or standing.overrides.off_until is not None:
            return SILENCE
        standing = await self._router.gates.standing()
        notice = self._notices.notice(status, standing, utc_now())
        return SILENCE if notice is None else self._tell(call.event, notice)

    async def _count(self, call: HookCall) -> StatusAnswer:
        """Count what was written; what takes long is counted afterwards."""
        look = Look(call.conversation, LARGEST_CATCH_UP)
        status = await self._router.get_session_status(look=look)
        if status.not_counting is not None:
            self._turn_ended.set()
        return status

    async def _before(self, call: HookCall) -> str:
        standing = await self._router.gates.standing(*_places(call))
        if not standing.is_open:
            self._look_later(call)
        attempt = self._attempt(call, standing)
        verdict = await self._router.gates.judge(attempt, standing)
        if verdict is not None and verdict.choice is not GateChoice.TELL:
            return self._refuse(call.event, verdict)
        if verdict is not None and attempt.gated is not None:
            told = (call.conversation, attempt.gated, standing.level.value)
            if told not in self._told:
                self._told.add(told)
                return self._tell(call.event, verdict.text)
        advice = self._advice(call, standing)
        return SILENCE if advice is None else self._tell(call.event, advice)

    def _attempt(self, call: HookCall, standing: Standing) -> Attempt:
        if call.event is HookEvent.PRE_MODEL_SWITCH:
            is_dearer = gates.is_dearer(call.from_model, call.to_model)
            return Attempt(Gated.MODEL_SWITCH if is_dearer else None, call.to_model)
        tokens = None
        if call.agent and standing.settings.subagent_token_ceiling:
            usage = self._subagents.usage_of(call.transcript, call.agent)
            tokens = measured_tokens(usage, standing.settings)
        return Attempt(gates.gated_tool(call.tool, standing.settings), call.tool, tokens)

    def _advice(self, call: HookCall, standing: Standing) -> str | None:
        """Return a line about the file that is about to be read, once for each."""
        if call.tool != "Read" or not call.file:
            return None
        seen = (call.conversation, call.agent, call.file)
        is_new = seen not in self._seen_files
        if len(self._seen_files) >= MOST_FILES:
            self._seen_files.clear()
        self._seen_files.add(seen)
        is_off = standing.settings.advice is Switch.OFF or standing.overrides.off_until
        if not is_new or call.is_part or is_off:
            return None
        try:
            size = os.stat(call.file).st_size  # noqa: PTH116  # a text from outside
        except (OSError, ValueError):
            return None
        return self._router.gates.advice_on_file(call.file, size, standing)

    def _tell(self, event: HookEvent, text: str) -> str:
        if event is HookEvent.PRE_MODEL_SWITCH:
            # No model reads this one.
            return _json({"systemMessage": text})
        return self._said(event, text, {"additionalContext": text})

    def _refuse(self, event: HookEvent, verdict: Verdict) -> str:
        fields = {
            "permissionDecision": verdict.choice.value,
            "permissionDecisionReason": verdict.text,
        }
        return self._said(event, verdict.text, fields)

    def _said(self, event: HookEvent, text: str, fields: dict[str, str]) -> str:
        self._texts += 1
        self._tokens += estimated_tokens(text)
        self._spoke.set()
        return _json({"hookSpecificOutput": {"hookEventName": event.value, **fields}})

    async def record_texts(self) -> None:
        """Count what the hooks say, after they have said it."""
        while True:
            await self._spoke.wait()
            self._spoke = anyio.Event()
            texts, tokens, self._texts, self._tokens = self._texts, self._tokens, 0, 0
            try:
                await self._router.gates.record_texts(texts, tokens)
            except ImmunosError as error:
                logger.warning("cannot count what hooks said: %s", error)

    async def catch_up_after_turns(self) -> None:
        """Do what no hook waits for: count each turn's last response, which is written just after, and look."""
        while True:
            await self._turn_ended.wait()
            self._turn_ended = anyio.Event()
            await self._sleep(LATE_SECONDS)
            look, self._look = self._look, None
            try:
                if look is not None:
                    await self._router.get_session_status(look=look)
                await self._router.catch_up(is_patient=False)
            except ImmunosError as error:
                logger.warning("cannot take over the turn's last response: %s", error)
            else:
                self._on_caught_up()


def _places(call: HookCall) -> tuple[str, ...]:
    """Return the folder of the file that is about to be read: its settings count as well."""
    if call.tool != "Read" or not call.file or "\0" in call.file:
        return ()
    return (os.path.realpath(os.path.join(call.file, "..")),)  # noqa: PTH118  # a text from outside


def _is_unlogged(status: StatusAnswer) -> bool:
    """Return whether no session is open, and there are no logs that one would begin with."""
    return status.session_id is None and status.not_counting is None


def _json(output: dict[str, object]) -> str:
    return json.dumps(output, separators=(",", ":"))
