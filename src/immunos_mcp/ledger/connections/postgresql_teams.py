"""All teams of a database: their ledgers, for a server that tells by the token whose team is meant, and a list.

While the team is not known, row-level security shows a token's row only to whoever knows its hash, and a
team's only to whoever knows its name.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self

from immunos_mcp.database_address import DEFAULT_TEAM
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.connections.postgresql import Acting, ThreadedPostgresqlLedger
from immunos_mcp.ledger.connections.postgresql_link import (
    MIGRATE,
    open_driver,
    refuse_other_version,
    rolled_back,
    translated,
)
from immunos_mcp.ledger.connections.teams import TeamLedger
from immunos_mcp.ledger.team_schema import (
    TABLES_SCHEMA,
    TEAM,
    TEAM_LIST,
    TEAM_NAME,
    TEAM_TABLE,
    TOKEN_HASH,
    TOKEN_TABLE,
)

if TYPE_CHECKING:
    import psycopg

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.dialect import Connection

_NO_TEAM = 0


class _Found(NamedTuple):
    team_id: int
    name: str


class PostgresqlTeams:
    """The ledgers of all teams; ``TeamLedgers`` describes it."""

    is_one = False

    def __init__(self, address: DatabaseAddress) -> None:
        """Create the ledgers of a database, which share its connections."""
        self._nobodys = ThreadedPostgresqlLedger(address, Acting(_NO_TEAM))

    async def of_token(self, sha256: str) -> TeamLedger | None:
        """Return the ledger of the team that a token is of."""
        return self._ledger_of(await self._nobodys.read(_team_of_token, sha256))

    async def named(self, name: str | None) -> TeamLedger | None:
        """Return the ledger of a team; unnamed, it is that of a database's first one."""
        return self._ledger_of(await self._nobodys.read(_team_named, name or DEFAULT_TEAM))

    async def check(self) -> None:
        """Look for a team."""
        await self._nobodys.read(_team_named, DEFAULT_TEAM)

    def _ledger_of(self, found: _Found | None) -> TeamLedger | None:
        if found is None:
            return None
        return TeamLedger(found.name, self._nobodys.acting_as(Acting(found.team_id), found.name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._nobodys.close()


class ListedTeam(NamedTuple):
    """A team of a database: its name, since when it is there, and how many people may act in it."""

    name: str
    created_at: datetime
    people: int


def list_teams(address: DatabaseAddress) -> tuple[ListedTeam, ...]:
    """Return all teams by name, as the owner of the tables.

    Raises:
        LedgerError: the database cannot be used, or by another than the owner.
    """
    with translated(address), closing(open_driver(address)) as driver, rolled_back(driver):
        refuse_other_version(driver, address)
        driver.execute(b"BEGIN READ ONLY")
        ((is_owner,),) = driver.execute(_IS_OWNER).fetchall()
        if not is_owner:
            raise LedgerError(
                f"ledger {address} lists its teams only to the owner of the tables, the user who"
                f" {MIGRATE.removeprefix('run ')} was run as"
            )
        driver.execute(f"SELECT set_config('{TEAM_LIST}', 'on', true)".encode())
        found = driver.execute(_LIST).fetchall()
        listed = [
            ListedTeam(name, datetime.fromisoformat(created_at), _people_of(driver, team_id))
            for team_id, name, created_at in found
        ]
        driver.execute(b"COMMIT")
    return tuple(listed)


def _people_of(driver: psycopg.Connection, team_id: int) -> int:
    driver.execute(f"SELECT set_config('{TEAM}', %s, true)".encode(), (str(team_id),))
    ((number,),) = driver.execute(_COUNT_PEOPLE).fetchall()
    return int(number)


_IS_OWNER = (
    "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class"  # noqa: S608  # constants
    f" WHERE oid = CAST('{TABLES_SCHEMA}.{TEAM_TABLE}' AS regclass)"
).encode()
_LIST = (
    f"SELECT team_id, name, created_at FROM {TABLES_SCHEMA}.{TEAM_TABLE} ORDER BY name"  # noqa: S608  # constants
).encode()
_COUNT_PEOPLE = b"SELECT count(*) FROM immunos_mcp_person WHERE disabled_at IS NULL"

# The setting is made before what needs it is looked for, since that depends on its value.
_OF_TOKEN = (
    f"SELECT (SELECT team_id FROM {TABLES_SCHEMA}.{TOKEN_TABLE} WHERE sha256 = hash)"  # noqa: S608  # constants
    f" FROM set_config('{TOKEN_HASH}', ?, true) AS hash"
)
_NAME = (
    f"SELECT (SELECT name FROM {TABLES_SCHEMA}.{TEAM_TABLE} WHERE team_id = CAST(team AS bigint))"  # noqa: S608  # constants
    f" FROM set_config('{TEAM}', ?, true) AS team"
)
_NAMED = (
    f"SELECT (SELECT team_id FROM {TABLES_SCHEMA}.{TEAM_TABLE} WHERE name = named)"  # noqa: S608  # constants
    f" FROM set_config('{TEAM_NAME}', ?, true) AS named"
)


def _team_of_token(connection: Connection, sha256: str) -> _Found | None:
    (team_id,) = connection.execute(_OF_TOKEN, (sha256,)).fetchone()
    if team_id is None:
        return None
    (name,) = connection.execute(_NAME, (str(team_id),)).fetchone()
    return _Found(int(team_id), name)


def _team_named(connection: Connection, name: str) -> _Found | None:
    (team_id,) = connection.execute(_NAMED, (name,)).fetchone()
    return None if team_id is None else _Found(int(team_id), name)
