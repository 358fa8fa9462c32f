"""A PostgreSQL server for tests: the one that IMMUNOS_TEST_POSTGRES names, else one of this machine's programs.

A program of Debian's package is started as its own user, since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from immunos_mcp.database_address import DatabaseAddress

_numbers = count()


_EMPTY = """
DO $$
DECLARE each record;
BEGIN
    FOR each IN SELECT relname, relkind FROM pg_class
        WHERE relnamespace = 'immunos_mcp'::regnamespace AND relkind IN ('r', 'S')
    LOOP
        IF each.relkind = 'S' THEN
            PERFORM setval('immunos_mcp.' || each.relname, 1, false);
        ELSIF each.relname NOT LIKE '%%schema_version' AND each.relname <> 'immunos_mcp_team' THEN
            EXECUTE 'DELETE FROM immunos_mcp.' || each.relname;
        END IF;
    END LOOP;
    DELETE FROM immunos_mcp.immunos_mcp_team WHERE team_id > 1;
    PERFORM setval('immunos_mcp.immunos_mcp_team_team_id_seq', 2, false);
END $$
"""


def empty_ledger() -> DatabaseAddress:
    """Return the address of a ledger that nothing is stored in: the same each time, emptied."""
    address = _ledger()
    execute(address, _EMPTY)
    return address


def another_ledger() -> DatabaseAddress:
    """Return the address of an empty ledger in a new database, which takes longer."""
    from immunos_mcp.ledger.connections.postgresql_migration import migrate

    address = empty_database()
    migrate(address)
    return address


def empty_database() -> DatabaseAddress:
    """Return the address of a database that nothing is in."""
    import psycopg

    name = f"ledger_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(_server(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())
    return _address(name)


def restart() -> None:
    """Restart the server, which ends all connections; where it is not ours, end the connections alone."""
    if _started_in:
        _run(_program(), "restart", "-m", "fast", *_place(_started_in[0]))
        return
    import psycopg

    with psycopg.connect(_server(), autocommit=True) as connection:
        connection.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            b" WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


SERVER = "immunos_test_server"


def as_server(address: DatabaseAddress) -> DatabaseAddress:
    """Return the address as servers have it: of a role that owns nothing and may only serve."""
    from immunos_mcp.ledger.connections.postgresql_migration import migrate

    served = as_role(address, SERVER)
    migrate(address, SERVER)
    return served


def as_role(address: DatabaseAddress, role: str) -> DatabaseAddress:
    """Return the address as a role has it that may make schemas, which is made if it is not there."""
    import psycopg

    making = f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    with psycopg.connect(address.text, autocommit=True) as connection:
        connection.execute(making.encode())
        if role != SERVER:
            connection.execute(
                f"GRANT CREATE ON DATABASE {connection.info.dbname} TO {role}".encode()
            )
    sign = "&" if "?" in address.text else "?"
    return address._replace(text=f"{address.text}{sign}options=-c%20role%3D{role}")


def rows(address: DatabaseAddress, statement: str) -> list[tuple[Any, ...]]:
    """Return what a statement finds in the tables, as a user who may see everything."""
    import psycopg

    with psycopg.connect(address.text, autocommit=True) as connection:
        connection.execute(b"SET search_path = immunos_mcp")
        return connection.execute(statement.encode()).fetchall()


def execute(
    address: DatabaseAddress, statement: str, parameters: tuple[Any, ...] = (), team: int = 1
) -> None:
    """Run a statement on the tables of a team, as a user who may do everything."""
    import psycopg

    with psycopg.connect(address.text, autocommit=True) as connection:
        connection.execute(f"SET immunos.team = {team}".encode())
        connection.execute(b"SET search_path = immunos_mcp")
        connection.execute(statement.encode(), parameters)


@cache
def _ledger() -> DatabaseAddress:
    return another_ledger()


def _address(database: str) -> DatabaseAddress:
    from immunos_mcp.database_address import DatabaseAddress

    before, sign, after = _server().partition("?")
    return DatabaseAddress(f"{before.rpartition('/')[0]}/{database}{sign}{after}")


@cache
def _server() -> str:
    given = os.environ.get("IMMUNOS_TEST_POSTGRES")
    return given or _started()


_started_in: list[Path] = []


def _started() -> str:
    folder = Path(tempfile.mkdtemp(prefix="immunos-postgresql-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    program = _program()
    _run(program, "initdb", "-D", f"{folder}/data", "-o", "-A trust -U postgres --no-sync")
    _run(program, "start", *_place(folder))
    _started_in.append(folder)
    atexit.register(_stop, program, folder)
    return f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}"


def _program() -> Path:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    assert programs, "the tests on PostgreSQL need Debian's package postgresql"
    return programs[-1]


def _place(folder: Path) -> list[str]:
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    return ["-w", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options]


def _stop(program: Path, folder: Path) -> None:
    _run(program, "stop", "-m", "immediate", "-D", f"{folder}/data")
    shutil.rmtree(folder)


def _run(program: Path, *arguments: str) -> None:
    user = "postgres" if os.getuid() == 0 else None
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")
