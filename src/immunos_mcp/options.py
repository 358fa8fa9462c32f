"""Where things are: each option from its command-line flag, else its variable, else its default."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules.names import check_session_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATABASE_VARIABLE = "IMMUNOS_DB"
SESSION_VARIABLE = "IMMUNOS_SESSION"
TRANSCRIPTS_VARIABLE = "IMMUNOS_TRANSCRIPTS"
TELEMETRY_VARIABLE = "IMMUNOS_TELEMETRY"
OLLAMA_VARIABLE = "OLLAMA_HOST"
OLLAMA_CHECK_VARIABLE = "IMMUNOS_OLLAMA_CHECK"
DELEGATE_VARIABLE = "IMMUNOS_DELEGATE"
ALLOWED_PATHS_VARIABLE = "IMMUNOS_ALLOWED_PATHS"
DEFAULT_SESSION = "default"
TELEMETRY_PORT = 4318
"""OpenTelemetry's own port for OTLP over HTTP, where exporters send by default."""

TELEMETRY_TAKES = "on, off, or a loopback address such as 127.0.0.1:4318"


_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class Address(NamedTuple):
    """Where a server listens: a loopback host and a port."""

    host: str
    port: int


class Options(NamedTuple):
    """What a run of the program was told.

    Attributes:
        database: the ledger's file.
        session: the session of calls that name none.
        read_transcripts: whether usage is read from Claude Code's transcripts.
        telemetry: where Claude Code's OpenTelemetry export is taken in; ``None``: nowhere.
        ollama_host: where the local engine is, in any form that Ollama takes; empty: its default.
        ollama_check: whether decisions look at what the engine has.
        delegate: whether tasks can be handed over to local models.
        allowed_paths: folders and files, beside the project's, that delegated tasks may be about.
    """

    database: Path
    session: str
    read_transcripts: bool = True
    telemetry: Address | None = None
    ollama_host: str = ""
    ollama_check: bool = True
    delegate: bool = True
    allowed_paths: tuple[Path, ...] = ()


def read(
    environment: Mapping[str, str],
    database: str | None = None,
    session: str | None = None,
    telemetry: str | None = None,
    ollama_host: str | None = None,
    ollama_check: str | None = None,
    delegate: bool = True,
    allowed_paths: Sequence[str] = (),
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
        field = "--db" if database else DATABASE_VARIABLE
        path = expanded(given, field) if given else default_database()
    except RuntimeError:
        takes = "a file, where there is no home"
        raise InvalidInputError(Problem(DATABASE_VARIABLE, given, takes)) from None
    allowed = [("--allow-path", each) for each in allowed_paths]
    allowed += [
        (ALLOWED_PATHS_VARIABLE, each)
        for each in environment.get(ALLOWED_PATHS_VARIABLE, "").split(os.pathsep)
    ]
    return Options(
        path.absolute(),
        name,
        _is_on(environment, TRANSCRIPTS_VARIABLE),
        _telemetry(environment, telemetry),
        environment.get(OLLAMA_VARIABLE, "") if ollama_host is None else ollama_host,
        _is_on(environment, OLLAMA_CHECK_VARIABLE)
        if ollama_check is None
        else _is_on({"--ollama-check": ollama_check}, "--ollama-check"),
        delegate and _is_on(environment, DELEGATE_VARIABLE),
        tuple(expanded(each, field).absolute() for field, each in allowed if each),
    )


def _telemetry(environment: Mapping[str, str], flag: str | None) -> Address | None:
    field = TELEMETRY_VARIABLE if flag is None else "--telemetry"
    given = (environment.get(TELEMETRY_VARIABLE) or "off") if flag is None else flag
    if given == "off":
        return None
    if given == "on":
        return Address("127.0.0.1", TELEMETRY_PORT)
    host, _, port = given.rpartition(":")
    bare_host = host.removeprefix("[").removesuffix("]")
    if bare_host in _LOOPBACK_HOSTS and re.fullmatch("[0-9]{1,5}", port) and int(port) < 2**16:
        return Address(bare_host, int(port))
    raise InvalidInputError(Problem(field, given, TELEMETRY_TAKES))


def _is_on(environment: Mapping[str, str], variable: str) -> bool:
    given = environment.get(variable) or "on"
    if given not in {"on", "off"}:
        raise InvalidInputError(Problem(variable, given, "on or off"))
    return given == "on"


def default_database() -> Path:
    """Return the ledger's place in the user's home, shared with earlier IMMUNOS scripts."""
    return Path.home() / ".immunos" / "db" / "immunos.db"


def expanded(text: str, field: str) -> Path:
    """Return a path with ``~`` and ``~user`` replaced by the home folder meant.

    Raises:
        InvalidInputError: there is no such home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidInputError(Problem(field, text, "a path below a home that exists")) from None
