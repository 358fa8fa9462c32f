"""Where things are: each option from its command-line flag, else its variable, else its default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.names import check_session_name

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE_VARIABLE = "IMMUNOS_DB"
SESSION_VARIABLE = "IMMUNOS_SESSION"
TRANSCRIPTS_VARIABLE = "IMMUNOS_TRANSCRIPTS"
DEFAULT_SESSION = "default"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run of the program was told.

    Attributes:
        database: the ledger's file.
        session: the session of calls that name none.
        read_transcripts: whether usage is read from Claude Code's transcripts.
    """

    database: Path
    session: str
    read_transcripts: bool = True


def read(
    environment: Mapping[str, str], database: str | None = None, session: str | None = None
) -> Options:
    """Settle the options from flags (``None``: not given) and the environment.

    An empty variable counts as not set, as client configurations leave them.

    Raises:
        InvalidInputError: a value cannot be taken; it is named by its flag or variable.
    """
    if session is not None:
        name = check_session_name(session, "--session")
    else:
        name = check_session_name(
            environment.get(SESSION_VARIABLE) or DEFAULT_SESSION, SESSION_VARIABLE
        )
    given = database or environment.get(DATABASE_VARIABLE)
    try:
        path = Path(given).expanduser() if given else default_database()
    except RuntimeError:
        field = "--db" if database else DATABASE_VARIABLE
        raise InvalidInputError(Problem(field, given, "a file below a home that exists")) from None
    return Options(path.absolute(), name, _is_on(environment, TRANSCRIPTS_VARIABLE))


def _is_on(environment: Mapping[str, str], variable: str) -> bool:
    given = environment.get(variable) or "on"
    if given not in {"on", "off"}:
        raise InvalidInputError(Problem(variable, given, "on or off"))
    return given == "on"


def default_database() -> Path:
    """Return the ledger's place in the user's home, shared with earlier IMMUNOS scripts."""
    return Path.home() / ".immunos" / "db" / "immunos.db"
