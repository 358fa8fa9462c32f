"""What the commands for ledgers on PostgreSQL answer."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class MigrateAnswer(Struct, frozen=True, omit_defaults=True):
    """What a migration did.

    Attributes:
        ledger: the database, without user and password.
        before: the version that the tables had; 0: there were none.
        version: the version that they have.
        granted_to: the role that may serve teams.
    """

    ledger: str
    before: int
    version: int
    granted_to: str | None = None


class TeamAnswer(Struct, frozen=True):
    """A team that was added.

    Attributes:
        ledger: the address of its ledger, without user and password.
        team: its name.
        team_id: its id in the database.
    """

    ledger: str
    team: str
    team_id: int


class ListedTeamAnswer(Struct, frozen=True):
    """A team of a database.

    Attributes:
        team: its name.
        created_at: when it was added.
        people: how many people may act in it.
    """

    team: str
    created_at: datetime
    people: int


class CheckAnswer(Struct, frozen=True, omit_defaults=True):
    """What a check of a database found.

    Attributes:
        ledger: the database, without user and password.
        version: the version of its tables.
        decisions: the team's decisions.
        usage_records: the team's usage records, reported and measured.
        wrong_totals: sessions whose totals are less than the sum of what was reported in them.
        unwalled: why row-level security does not hold the user back; absent: it does.
    """

    ledger: str
    version: int
    decisions: int
    usage_records: int
    wrong_totals: tuple[int, ...] = ()
    unwalled: str | None = None


class CopyAnswer(Struct, frozen=True):
    """What was copied.

    Attributes:
        ledger: the database, without user and password.
        rows: the number of rows by table.
        decisions: how many decisions were replayed, alike in both.
    """

    ledger: str
    rows: dict[str, int]
    decisions: int
