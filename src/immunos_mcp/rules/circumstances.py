"""The inputs of a decision besides the settings and the task: as read, and as the policy uses them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import TokenCounts
from immunos_mcp.rules.gates import Overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from immunos_mcp.domain import Engine, PlanUsage, Reason, Session
    from immunos_mcp.rules.budgets import BudgetUse
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.track_record import TaskRecord


class SessionSnapshot(Struct, frozen=True):
    """A session at one moment, with the settings in force and what else belongs to it.

    Attributes:
        plan: the subscription's limits; a decision gets them only if the settings use them.
        side_requests: tokens of the session that telemetry alone reported; a status alone sees them.
        others: tokens that other assistants used meanwhile, by assistant; a status alone sees them.
        record: what is known of the models at a task's type, where the settings let a decision ask.
        decisions: the session's decisions by reason; a status alone sees them.
        budgets: how far the budgets beside the session's own are used.
        held_tokens: what open reservations of the session hold back; ``None``: reservations are off.
        overrides: what the user decided for now about the gates; decisions do not see it.
        assistant: who looks, since some budgets are for one assistant; ``None``: not known.
        folder: the project folder that is looked from, likewise.
        origins: the folder of each setting that a project folder has of its own; a status alone sees it.
    """

    settings: Settings
    session: Session
    plan: tuple[PlanUsage, ...] = ()
    side_requests: TokenCounts = TokenCounts()
    others: Mapping[str, TokenCounts] = MappingProxyType({})
    record: TaskRecord | None = None
    decisions: Mapping[Reason, int] = MappingProxyType({})
    budgets: tuple[BudgetUse, ...] = ()
    held_tokens: int | None = None
    overrides: Overrides = Overrides()
    assistant: str | None = None
    folder: str | None = None
    origins: Mapping[str, str] = MappingProxyType({})


class Circumstances(Struct, frozen=True):
    """The inputs of a decision besides the settings and the task.

    Attributes:
        session_tokens: the session's budget tokens.
        plan_used_percent: how much of the subscription's fullest limit is used, where the settings
            use it and it was reported.
        engine: the local engine as it lately was; ``None``: every model is assumed to be available.
        record: what is known of the models at the task's type; ``None``: it is not asked.
        budgets: how far the budgets that concern the task are used.
        held_tokens: what open reservations of the session hold back; ``None``: reservations are off.
    """

    session_tokens: int
    plan_used_percent: float | None = None
    engine: Engine | None = None
    record: TaskRecord | None = None
    budgets: tuple[BudgetUse, ...] = ()
    held_tokens: int | None = None
