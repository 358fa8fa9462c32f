"""What ``watch`` shows."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.answers.status import StatusAnswer


class UsedBy(Struct, frozen=True):
    """What one assistant, project, model or agent used.

    Attributes:
        name: which one; empty: not known.
        budget_tokens: its tokens, each kind by its weight.
        usd: what they cost at list price.
        at_least: true where something has no known price.
    """

    name: str
    budget_tokens: int
    usd: float
    at_least: bool | None = None


class UsageToday(Struct, frozen=True):
    """What hosted models used on a calendar day, of all sessions.

    Attributes:
        starts_at: when the day began.
        total: everything; its name is empty.
        assistants: by assistant, the dearest first, as the next three.
        projects: by project folder.
        models: by model.
        agents: by conversation, or by the subagent of one (``CONVERSATION/SUBAGENT``).
    """

    starts_at: datetime
    total: UsedBy
    assistants: tuple[UsedBy, ...]
    projects: tuple[UsedBy, ...]
    models: tuple[UsedBy, ...]
    agents: tuple[UsedBy, ...]


class WatchAnswer(Struct, frozen=True):
    """Budgets and usage at a moment.

    Attributes:
        watched_at: the moment.
        status: the session's status, with the budgets.
        today: usage of the day.
        decisions: the newest decisions of all sessions, newest first.
        kept_local_usd: what the tokens that the session kept local would have cost at the list price of
            the setting ``claude_model``; absent: it has none.
    """

    watched_at: datetime
    status: StatusAnswer
    today: UsageToday
    decisions: tuple[LoggedDecision, ...]
    kept_local_usd: float | None = None
