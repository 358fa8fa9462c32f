"""Logged decisions and changes of settings."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from immunos_mcp.domain import Decision, Outcome, Task


class LoggedDecision(Struct, frozen=True):
    """A decision as the ledger stores it.

    Attributes:
        decision_id: the number it was answered with.
        session: name of the session it was made in.
        decided_at: when.
        task: what was asked.
        decision: what was answered.
        outcome: whether the task succeeded, once that was recorded.
    """

    decision_id: int
    session: str
    decided_at: datetime
    task: Task
    decision: Decision
    outcome: Outcome | None


class SettingChange(Struct, frozen=True):
    """One line of the settings' history.

    Attributes:
        project: the folder that the change holds in; ``None``: it holds everywhere.
    """

    changed_at: datetime
    client: str
    setting: str
    before: str | None
    after: str | None
    project: str | None = None
