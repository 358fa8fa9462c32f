"""The ledger's tables, as numbered migrations; each is applied once, in one transaction with its version mark.

The file may hold tables of other programs. Ours are named ``immunos_mcp_*``; the one exception is
``settings``, whose shape and keys are shared with earlier IMMUNOS scripts. The version is stored in
a table, because the file's header belongs to whichever program created the file.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.ledger import other_usage
from immunos_mcp.ledger.earlier_steps import EARLIER_STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "immunos_mcp_"
"""The beginning of the names of this program's tables."""

VERSION_TABLE = "immunos_mcp_schema_version"

_VERSION_13 = (
    # The tightest budget, how much of what it allows was used, and the use of each as JSON:
    # {name: [used, share of the window's days begun, what the task and open reservations want]}; NULL:
    # none was set.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN budget TEXT",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN budget_used_percent REAL",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN budget_uses TEXT",
    # Tokens that open reservations of the session held back, and the decision's own reservation, with
    # its end; NULL: reservations were off, or none was made.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN held_tokens INTEGER",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN reserved_tokens INTEGER",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN reserved_until TEXT",
    """
    CREATE TABLE immunos_mcp_reservation (
        -- Tokens that decisions hold back and whose usage has not arrived.
        decision_id INTEGER PRIMARY KEY,
        session_id INTEGER NOT NULL,
        tokens INTEGER NOT NULL,   -- budget tokens
        reserved_at TEXT NOT NULL, -- UTC, ISO 8601
        expires_at TEXT NOT NULL   -- UTC, ISO 8601
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_spend (
        -- What was used in each quarter of an hour; derived from usage, kept only where budgets are set.
        quarter_at TEXT NOT NULL,     -- UTC, ISO 8601
        assistant TEXT NOT NULL,      -- empty: reported, by whom is not known
        folder TEXT NOT NULL,         -- project folder; empty: not known
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        nanodollars INTEGER NOT NULL, -- at list price
        unpriced INTEGER NOT NULL,    -- groups of responses without a price, or not with all of it
        PRIMARY KEY (quarter_at, assistant, folder)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_spend_stale (
        -- Quarters of an hour whose usage changed since they were summed up.
        quarter_at TEXT PRIMARY KEY   -- UTC, ISO 8601
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_spend_total (
        -- Sums of the windows of budgets.
        starts_at TEXT NOT NULL,      -- UTC, ISO 8601
        ends_at TEXT NOT NULL,        -- UTC, ISO 8601; the year 9999: it has no end
        assistant TEXT NOT NULL,      -- empty: every assistant
        folder TEXT NOT NULL,         -- empty: every folder
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        nanodollars INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        PRIMARY KEY (starts_at, ends_at, assistant, folder)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_spend_revision (
        -- Another number whenever the sums changed; no row: nothing is summed up yet.
        revision_id INTEGER PRIMARY KEY CHECK (revision_id = 1),
        revision INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_budget_crossing (
        -- Thresholds of budgets that somebody was told of, each once in its window.
        budget TEXT NOT NULL,
        starts_at TEXT NOT NULL,      -- UTC, ISO 8601: the window's start
        warning_level TEXT NOT NULL,  -- warning, critical
        told_at TEXT NOT NULL,        -- UTC, ISO 8601
        PRIMARY KEY (budget, starts_at, warning_level)
    ) STRICT, WITHOUT ROWID
    """,
)

_VERSION_14 = (
    """
    CREATE TABLE immunos_mcp_override (
        -- What the user decided for now, above the settings of the gates.
        kind TEXT PRIMARY KEY,  -- off, pause, allowance
        set_at TEXT NOT NULL,   -- UTC, ISO 8601
        ends_at TEXT NOT NULL   -- UTC, ISO 8601; the year 9999: when it is taken back
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_hook_text (
        -- What hooks said to the model, which costs context.
        day TEXT PRIMARY KEY,     -- UTC, ISO 8601
        texts INTEGER NOT NULL,
        tokens INTEGER NOT NULL   -- estimated
    ) STRICT, WITHOUT ROWID
    """,
)

_VERSION_15 = (
    # What joins the decision with the usage of its work, the client's id of the call or of the thread
    # that asked, as "call:ID" or "thread:ID"; NULL: nothing does.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN join_key TEXT",
    # The call that asked, and the conversation or subagent whose usage releases it; NULL: not known.
    "ALTER TABLE immunos_mcp_reservation ADD COLUMN call TEXT",
    "ALTER TABLE immunos_mcp_reservation ADD COLUMN thread TEXT",
    """
    CREATE TABLE immunos_mcp_routing_call (
        -- Calls of route_task in an assistant's logs, read before their decision was made.
        call TEXT PRIMARY KEY,
        thread TEXT NOT NULL,
        seen_at TEXT NOT NULL  -- UTC, ISO 8601: when its response was written
    ) STRICT, WITHOUT ROWID
    """,
)

_VERSION_16 = (
    # Where a local model failed at a task and it is tried again: the decision that this one follows, and
    # the models that failed so far, with commas.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN follows INTEGER",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN tried TEXT",
)

_VERSION_17 = (
    """
    CREATE TABLE immunos_mcp_person (
        -- Who may have tokens for the server over HTTP.
        person_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL,        -- member, lead, admin
        created_at TEXT NOT NULL,  -- UTC, ISO 8601
        disabled_at TEXT           -- UTC, ISO 8601; NULL: may act
    ) STRICT
    """,
    """
    CREATE TABLE immunos_mcp_token (
        sha256 TEXT PRIMARY KEY,   -- of the token, in hexadecimal; the token is nowhere
        person_id INTEGER NOT NULL REFERENCES immunos_mcp_person,
        label TEXT NOT NULL,
        created_at TEXT NOT NULL,  -- UTC, ISO 8601
        expires_at TEXT,           -- UTC, ISO 8601; NULL: never
        revoked_at TEXT            -- UTC, ISO 8601; NULL: is in use
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_audit (
        -- What was done to people, tokens and the team's budget, and by whom.
        audit_id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,          -- UTC, ISO 8601
        person_id INTEGER,         -- NULL: at the ledger itself
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT
    """,
)

_VERSION_18 = (
    # 1: the result of a delegated task went into a file, so that nobody had to read and repeat all of
    # it; NULL: it did not, or that is not known.
    "ALTER TABLE immunos_mcp_usage ADD COLUMN result_in_file INTEGER",
)

_VERSION_19 = (
    """
    CREATE TABLE immunos_mcp_project_setting (
        -- Settings that hold in a project folder and below, over those in settings.
        folder TEXT NOT NULL,      -- absolute, without links
        setting TEXT NOT NULL,     -- key, as in settings
        value TEXT NOT NULL,       -- stored text; of task_mappings only what differs
        updated_at TEXT NOT NULL,  -- UTC, ISO 8601
        PRIMARY KEY (folder, setting)
    ) STRICT, WITHOUT ROWID
    """,
    # The project folder that the change holds in; NULL: it holds everywhere.
    "ALTER TABLE immunos_mcp_setting_change ADD COLUMN folder TEXT",
    # The folder that the call came from, and the folder of each setting that one has of its own, as JSON;
    # NULL: not known, or none has.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN folder TEXT",
    "ALTER TABLE immunos_mcp_decision ADD COLUMN setting_folders TEXT",
)

_VERSION_20 = (
    # The subagent that had it, by the assistant's own id; NULL: the conversation itself, or not known.
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN agent TEXT",
)

_VERSION_21 = (
    """
    CREATE TABLE immunos_mcp_pushing (
        -- Assistants whose logged usage a person's own server pushes; what they report of themselves is
        -- not counted.
        person_id INTEGER NOT NULL,  -- 0: the server asks for no tokens
        assistant TEXT NOT NULL,
        since TEXT NOT NULL,         -- UTC, ISO 8601
        PRIMARY KEY (person_id, assistant)
    ) STRICT, WITHOUT ROWID
    """,
)

_VERSION_22 = (
    # The team's own number of a decision that its server made; NULL: it was made here.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN team_decision_id INTEGER",
    """
    CREATE TABLE immunos_mcp_joined_team (
        -- The team's server that usage is sent to; one row, or none. The token is in a file of its own.
        gateway TEXT PRIMARY KEY,       -- random, what the server knows repeated reports by
        url TEXT NOT NULL,
        team TEXT NOT NULL,
        person TEXT NOT NULL,
        joined_at TEXT NOT NULL,        -- UTC, ISO 8601
        usage_from TEXT NOT NULL,       -- UTC, ISO 8601: earlier usage is not sent
        sends_labels INTEGER NOT NULL,  -- 0: nothing of project folders is sent
        changes INTEGER NOT NULL,       -- counts the changes in unpushed, never back
        reached_at TEXT,                -- when the server last answered; NULL: not since
        failed_at TEXT                  -- since when it has not; NULL: it answers
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_unpushed (
        -- Rows that the team does not have as they are; filled by triggers while a team is joined.
        kind TEXT NOT NULL,      -- response, copy, request, total, plan, report, outcome
        row_key TEXT NOT NULL,   -- key of the row, as text
        change INTEGER NOT NULL, -- another number with each change of the row
        PRIMARY KEY (kind, row_key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX immunos_mcp_unpushed_change ON immunos_mcp_unpushed (change)",
)

_VERSION_23 = (
    # Who it is from, where several people share the ledger; NULL: nobody that is known.
    "ALTER TABLE immunos_mcp_decision ADD COLUMN person_id INTEGER",
    "ALTER TABLE immunos_mcp_reservation ADD COLUMN person_id INTEGER",
    "ALTER TABLE immunos_mcp_usage ADD COLUMN person_id INTEGER",
    "ALTER TABLE immunos_mcp_measured_usage ADD COLUMN person_id INTEGER",
    "ALTER TABLE immunos_mcp_request_usage ADD COLUMN person_id INTEGER",
    "ALTER TABLE immunos_mcp_side_usage ADD COLUMN person_id INTEGER",
    "ALTER TABLE immunos_mcp_conversation_total ADD COLUMN person_id INTEGER",
    """
    CREATE TABLE immunos_mcp_person_plan_usage (
        -- The limits of a person's own subscription, as last reported; plan_usage has those of nobody known.
        person_id INTEGER NOT NULL,
        plan_window TEXT NOT NULL,  -- five_hour, seven_day
        used_percentage REAL NOT NULL,
        resets_at TEXT NOT NULL,    -- UTC, ISO 8601
        reported_at TEXT NOT NULL,  -- UTC, ISO 8601
        PRIMARY KEY (person_id, plan_window)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_person_spend (
        -- What each person used in each quarter of an hour; derived from usage, kept only where budgets
        -- are set. Earlier programs keep spend, without persons.
        quarter_at TEXT NOT NULL,     -- UTC, ISO 8601
        assistant TEXT NOT NULL,      -- empty: reported, by whom is not known
        folder TEXT NOT NULL,         -- project folder; empty: not known
        person_id INTEGER NOT NULL,   -- 0: nobody that is known
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        nanodollars INTEGER NOT NULL, -- at list price
        unpriced INTEGER NOT NULL,    -- groups of responses without a price, or not with all of it
        PRIMARY KEY (quarter_at, assistant, folder, person_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_person_spend_stale (
        -- Quarters of an hour whose usage changed since they were summed up.
        quarter_at TEXT PRIMARY KEY   -- UTC, ISO 8601
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_person_spend_total (
        -- Sums of the windows of budgets.
        starts_at TEXT NOT NULL,      -- UTC, ISO 8601
        ends_at TEXT NOT NULL,        -- UTC, ISO 8601; the year 9999: it has no end
        assistant TEXT NOT NULL,      -- empty: every assistant
        folder TEXT NOT NULL,         -- empty: every folder
        person_id INTEGER NOT NULL,   -- 0: everybody
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        nanodollars INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        PRIMARY KEY (starts_at, ends_at, assistant, folder, person_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE immunos_mcp_person_spend_revision (
        -- Another number whenever the sums changed; no row: nothing is summed up yet.
        revision_id INTEGER PRIMARY KEY CHECK (revision_id = 1),
        revision INTEGER NOT NULL
    ) STRICT
    """,
    *other_usage.making(),
)

STEPS: tuple[tuple[str, ...], ...] = (
    *EARLIER_STEPS,
    _VERSION_13,
    _VERSION_14,
    _VERSION_15,
    _VERSION_16,
    _VERSION_17,
    _VERSION_18,
    _VERSION_19,
    _VERSION_20,
    _VERSION_21,
    _VERSION_22,
    _VERSION_23,
)
"""The statements of each migration; number N (from 1) migrates version N - 1 to version N."""

_SUMS = ("spend", "spend_stale", "spend_total", "spend_revision")

EARLIER_SUMS = tuple(f"{PREFIX}{name}" for name in _SUMS)
"""Tables of sums that only earlier programs keep."""

SUMS = tuple(f"{PREFIX}person_{name}" for name in _SUMS)
"""Tables of the sums of budgets."""

DERIVED = frozenset({*EARLIER_SUMS, *SUMS, other_usage.TABLE})
"""Tables that are made again from others, by triggers or together with them."""

LATEST = len(STEPS)
"""The ledger version that this program writes."""


_TABLE = (
    r"\s*(?:CREATE TABLE(?: IF NOT EXISTS)?|ALTER TABLE|CREATE (?:UNIQUE )?INDEX \w+\s+ON"
    r"|CREATE TRIGGER \w+ AFTER \w+ ON)\s+(\w+)"
)
"""Matches every statement of a step but those about rows; the group is the table that it makes or changes."""


def definitions(version: int) -> tuple[str, ...]:
    """Return the statements that make the tables of a ledger version at once."""
    return _definitions(STEPS[:version])


@cache
def _definitions(steps: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    # Where one table is given a column, SQLite reads all there are again. So each goes through the steps on
    # its own, which is several times faster.
    by_table: dict[str, list[str]] = {}
    for statement in chain.from_iterable(steps):
        if statement.startswith("INSERT "):  # a new ledger has no rows to work on
            continue
        found = re.match(_TABLE, statement)
        assert found is not None, statement
        by_table.setdefault(found[1], []).append(statement)
    return tuple(chain.from_iterable(map(_made_alone, by_table.values())))


def _made_alone(statements: list[str]) -> list[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as alone:
        for statement in statements:
            alone.execute(statement)
        made = alone.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return [sql for (sql,) in made]


class Made(Struct, frozen=True):
    """What a ledger version consists of.

    Attributes:
        columns: the columns of each table.
        names: of everything that is ours, by any kind.
    """

    columns: Mapping[str, tuple[str, ...]]
    names: frozenset[str]


def made(version: int) -> Made:
    """Return what a ledger version consists of."""
    return _made(STEPS[:version])


@cache
def _made(steps: tuple[tuple[str, ...], ...]) -> Made:
    with closing(empty(len(steps))) as connection:
        listed = connection.execute("SELECT type, name FROM sqlite_schema").fetchall()
        columns = "SELECT name FROM pragma_table_info(?)"
        return Made(
            {
                name: tuple(column for (column,) in connection.execute(columns, (name,)))
                for kind, name in listed
                if kind == "table"
            },
            frozenset(name for _, name in listed if name.startswith(PREFIX)),
        )


def empty(version: int, file: str = ":memory:", page_bytes: int = 4096) -> sqlite3.Connection:
    """Return a new database with the tables of a ledger version, and no version mark."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes:d}")
    for statement in definitions(version):
        connection.execute(statement)
    return connection
