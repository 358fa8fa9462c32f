"""The gates: what happens when something expensive is begun while the budget is low. Pure.

They act through the hooks of a client that has some. What ``route_task`` answers does not depend on them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import CLAUDE_TIERS, GateChoice, Switch, WarningLevel

if TYPE_CHECKING:
    from immunos_mcp.answers.status import BudgetStatus
    from immunos_mcp.rules.settings import Settings

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
"""The end of an override that holds until it is taken back."""

SUBAGENT_TOOLS = frozenset({"Agent", "Task"})
"""What Claude Code calls the tool that starts a subagent, now and in earlier versions."""

WAY_OUT = "The user can allow it with `immunos-mcp allow --once` or `immunos-mcp off --for 2h` in a terminal."


class Gated(StrEnum):
    """What the gates are for."""

    SUBAGENT = "subagent"
    EXPENSIVE_TOOL = "expensive_tool"
    MODEL_SWITCH = "model_switch"


class Overrides(Struct, frozen=True):
    """What the user decided for now, above the settings.

    Attributes:
        off_until: until when the gates are off; ``None``: they are on.
        paused_until: until when work is paused; ``None``: it is not.
        allows_once: whether the next call that would be asked about or denied is let through.
    """

    off_until: datetime | None = None
    paused_until: datetime | None = None
    allows_once: bool = False


class Attempt(Struct, frozen=True):
    """What is about to happen.

    Attributes:
        gated: what the gates are for; ``None``: any other call of a tool.
        name: the tool, or the model that is switched to.
        agent_tokens: budget tokens of the subagent that attempts it; ``None``: it is none.
    """

    gated: Gated | None
    name: str
    agent_tokens: int | None = None


class Standing(Struct, frozen=True):
    """What the gates go by.

    Attributes:
        level: that of the tightest limit.
        message: what the level means, as a sentence.
        local_model: the model to use instead; ``None``: nothing is handed over.
        settings: the settings in force.
        overrides: what the user decided for now.
        is_open: whether the session is open, and counts.
        budgets: the budgets beside the session's own that concern the work.
    """

    level: WarningLevel
    message: str
    local_model: str | None
    settings: Settings
    overrides: Overrides = Overrides()
    is_open: bool = True
    budgets: tuple[BudgetStatus, ...] = ()


class Verdict(Struct, frozen=True):
    """What the gates answer, and the text for it."""

    choice: GateChoice
    text: str


def gated_tool(tool: str, settings: Settings) -> Gated | None:
    """Return what a call of a tool is to the gates; ``None``: they do not care."""
    if tool in SUBAGENT_TOOLS:
        return Gated.SUBAGENT
    return Gated.EXPENSIVE_TOOL if tool in settings.expensive_tools.split(",") else None


def is_dearer(before: str, after: str) -> bool:
    """Return whether a model is of a dearer family than another; of unknown ones none is."""
    ranks = [
        next((rank for rank, family in enumerate(CLAUDE_TIERS) if family in model.lower()), None)
        for model in (before, after)
    ]
    return None not in ranks and ranks[0] < ranks[1]  # type: ignore[operator]


def judge(attempt: Attempt, standing: Standing) -> Verdict | None:
    """Return whether to tell, ask or deny; ``None``: nothing is said.

    An allowance is not taken into account: who acts on the verdict uses it up.
    """
    if standing.overrides.off_until is not None:
        return None
    if standing.overrides.paused_until is not None:
        return Verdict(GateChoice.DENY, paused(standing.overrides.paused_until))
    ceiling = standing.settings.subagent_token_ceiling
    if ceiling and attempt.agent_tokens is not None and attempt.agent_tokens >= ceiling:
        return Verdict(GateChoice.DENY, _over_ceiling(attempt.agent_tokens, ceiling))
    if attempt.gated is None or standing.level is WarningLevel.NORMAL:
        return None
    return _at_level(attempt.gated, attempt.name, standing)


def _at_level(gated: Gated, name: str, standing: Standing) -> Verdict:
    choice = _choice(gated, standing)
    instead = _instead(gated, name, standing.local_model)
    match choice:
        case GateChoice.TELL:
            hint = _hint(gated, name, standing.local_model)
            return Verdict(choice, f"{standing.message} {hint}")
        case GateChoice.ASK:
            return Verdict(choice, f"{standing.message} Go on anyway? If not: {instead} {WAY_OUT}")
        case GateChoice.DENY:
            return Verdict(choice, f"{standing.message} {instead} {WAY_OUT}")


def paused(until: datetime) -> str:
    """Return why nothing goes on during a pause."""
    return (
        f"Work is paused {ending(until)}: stop here and say so. "
        "The user can end the pause with `immunos-mcp on` in a terminal."
    )


def ending(until: datetime) -> str:
    """Return until when something holds."""
    from immunos_mcp.rules.formatting import minute

    return "until `immunos-mcp on`" if until >= FOREVER else f"until {minute(until)} UTC"


def summary(overrides: Overrides) -> str | None:
    """Return what the user decided for now, in words; ``None``: nothing."""
    parts: list[str] = []
    if overrides.off_until is not None:
        parts.append(f"off {ending(overrides.off_until)}")
    if overrides.paused_until is not None:
        parts.append(f"paused {ending(overrides.paused_until)}")
    if overrides.allows_once:
        parts.append("the next denial is lifted once")
    return ", ".join(parts) or None


def _choice(gated: Gated, standing: Standing) -> GateChoice:
    settings = standing.settings
    at_warning, at_critical = {
        Gated.SUBAGENT: (settings.subagents_at_warning, settings.subagents_at_critical),
        Gated.EXPENSIVE_TOOL: (
            settings.expensive_tools_at_warning,
            settings.expensive_tools_at_critical,
        ),
        Gated.MODEL_SWITCH: (
            settings.model_switches_at_warning,
            settings.model_switches_at_critical,
        ),
    }[gated]
    if standing.level is WarningLevel.WARNING:
        return GateChoice(at_warning)
    if gated is Gated.SUBAGENT and settings.deny_agent_tool is Switch.ON:
        return GateChoice.DENY
    return GateChoice(at_critical)


def _instead(gated: Gated, name: str, local_model: str | None) -> str:
    match gated:
        case Gated.SUBAGENT:
            least = "do the least that is needed yourself."
            other = "" if local_model is None else f"have {local_model} do this, or "
            return f"No subagents: {other}{least}"
        case Gated.EXPENSIVE_TOOL:
            other = "" if local_model is None else f", or have {local_model} do this"
            return f"No {name}: work from what is at hand{other}."
        case Gated.MODEL_SWITCH:
            return f"No switch to {name}: stay with this model, or choose a cheaper one."


def _hint(gated: Gated, name: str, local_model: str | None) -> str:
    match gated:
        case Gated.SUBAGENT:
            if local_model is None:
                return "Do this yourself, if a subagent is not needed."
            return f"If {local_model} can do this, have it do it instead of a subagent."
        case Gated.EXPENSIVE_TOOL:
            return f"{name} is expensive: use it only where nothing else will do."
        case Gated.MODEL_SWITCH:
            return f"{name} costs more than this model."


def _over_ceiling(tokens: int, ceiling: int) -> str:
    return (
        f"This subagent has used {tokens} of {ceiling} tokens (subagent_token_ceiling): "
        f"stop here and report what you have. {WAY_OUT}"
    )
