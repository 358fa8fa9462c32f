"""The options: each from its command-line flag, else its environment variable, else its default.

An option is one row below; parsing, help, error messages and the arguments that a client's
configuration starts the server with all come from it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from msgspec import Struct

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules.names import check_session_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from immunos_mcp.database_address import DatabaseAddress

TOKEN = "IMMUNOS_TOKEN"  # noqa: S105  # its name
"""The environment variable that has the token for a server over HTTP."""

TELEMETRY_PORT = 4318
"""OpenTelemetry's own port for OTLP over HTTP, where exporters send by default."""

_UNEXPANDED = r"\$\{[^}]*\}|\{\{[^}]*\}\}"
_UNEXPANDED_IN_PATH = r"(?:^|[/\\])\$[A-Za-z_]\w*|%[A-Za-z_]\w*%"
"""Variables that whoever started the program should have replaced."""

_ENGINE_NAME = r"[a-z][a-z0-9_-]{0,31}"

DATABASE_SCHEMES = ("postgresql://", "postgres://")
"""How the address of a database begins; everything else is a file."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

Value = TypeVar("Value")

Flags: TypeAlias = "Mapping[str, str | list[str] | None]"
"""The text of each flag by its name (``None``: not given); a list where a flag may be repeated."""

NO_FLAGS: Flags = {}


class Address(Struct, frozen=True):
    """Where a server listens: a loopback host and a port."""

    host: str
    port: int


class NamedAddress(Struct, frozen=True):
    """An engine that an option names.

    Attributes:
        name: what the user calls it.
        address: where it is, as it was written.
        field: the flag or variable that it came from.
    """

    name: str
    address: str
    field: str


class Options(Struct, frozen=True):
    """The options of one run of the program.

    Attributes:
        database: the ledger's file, or the address of its database.
        session: the session of calls that name none.
        read_transcripts: whether usage is read from Claude Code's transcripts.
        telemetry: where to receive Claude Code's OpenTelemetry export; ``None``: nowhere.
        ollama_host: address of the local engine, in any form that Ollama accepts; empty: its default.
        ollama_check: whether decisions check which models the engine has.
        delegate: whether tasks can be delegated to local models.
        allowed_paths: folders and files, besides the project's, that delegated tasks may read.
        engines: OpenAI-compatible servers beside Ollama.
    """

    database: Path | DatabaseAddress
    session: str
    read_transcripts: bool = True
    telemetry: Address | None = None
    ollama_host: str = ""
    ollama_check: bool = True
    delegate: bool = True
    allowed_paths: tuple[Path, ...] = ()
    engines: tuple[NamedAddress, ...] = ()


class Option(Struct, Generic[Value], frozen=True):
    """One option: how it is given, what it means, and how it is read.

    Attributes:
        variable: the environment variable.
        parse: turns a text into the value; its second argument names the flag or the variable.
        default: the text used where none is given.
        flag: the command-line flag; empty: none.
        metavar: what stands for the flag's value in help.
        about: what the option decides, for help.
        shown_default: the default as help shows it; empty: help shows none.
        stands_for: the text that a flag without a value means; empty: the flag needs a value.
        repeats: whether the flag may be given again, and the variable holds several.
        is_path: whether the value is a path.
        separator: what stands between several values in the variable.
    """

    variable: str
    parse: Callable[[str, str], Value]
    default: str = ""
    flag: str = ""
    metavar: str = ""
    about: str = ""
    shown_default: str = ""
    stands_for: str = ""
    repeats: bool = False
    is_path: bool = False
    separator: str = os.pathsep

    @property
    def name(self) -> str:
        """The name of the flag's value among parsed arguments."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def help(self) -> str:
        """The flag's text in ``--help``."""
        if not self.shown_default:
            return self.about
        return f"{self.about} (default: ${self.variable}, else {self.shown_default})"

    def settle(self, flags: Flags, environment: Mapping[str, str]) -> Value:
        """Return the value; an empty variable counts as not set.

        Raises:
            InvalidInputError: the flag or the variable, which it names, is invalid.
        """
        given = flags.get(self.name)
        if isinstance(given, str):
            return self._parsed(given, self.flag)
        return self._parsed(environment.get(self.variable) or self.default, self.variable)

    def _parsed(self, text: str, field: str) -> Value:
        if _has_variables(text, is_path=self.is_path):
            raise InvalidInputError(Problem(field, text, "a value with its variables replaced"))
        return self.parse(text, field)

    def settle_all(self, flags: Flags, environment: Mapping[str, str]) -> tuple[Value, ...]:
        """Return the values of a repeated flag and those in the variable together.

        Raises:
            InvalidInputError: one of them is invalid.
        """
        listed = environment.get(self.variable, "").split(self.separator)
        given = [(text, self.flag) for text in flags.get(self.name) or ()]
        given += [(text, self.variable) for text in listed]
        return tuple(self._parsed(text, field) for text, field in given if text)

    def arguments(self, flags: Flags) -> list[str]:
        """Return the flags to start the program elsewhere with the same value: paths in full."""
        given = flags.get(self.name)
        if given is None:
            return []
        if self.stands_for:
            return [self.flag]
        texts = [given] if isinstance(given, str) else given
        return [word for text in texts for word in (self.flag, self._in_full(text))]

    def _in_full(self, text: str) -> str:
        if not self.is_path or text.startswith(DATABASE_SCHEMES):
            return text
        return str(Path(text).expanduser().absolute())


def read(environment: Mapping[str, str], flags: Flags = NO_FLAGS) -> Options:
    """Read the options from flags, by name, and the environment.

    An empty variable counts as not set, as client configurations leave them; so does an empty
    ``--db``.

    Raises:
        InvalidInputError: a value is invalid; it is named by its flag or variable.
    """
    session = SESSION.settle(flags, environment)
    try:
        database_flag = flags.get(DATABASE.name) or None
        database = DATABASE.settle({DATABASE.name: database_flag}, environment)
    except NoHomeError:
        message = f"{DATABASE.variable}: is required, since there is no home folder"
        raise InvalidInputError(Problem(DATABASE.variable, None, message=message)) from None
    return Options(
        database,
        session,
        TRANSCRIPTS.settle(flags, environment),
        TELEMETRY.settle(flags, environment),
        OLLAMA_HOST.settle(flags, environment),
        OLLAMA_CHECK.settle(flags, environment),
        DELEGATE.settle(flags, environment),
        ALLOWED_PATHS.settle_all(flags, environment),
        _with_own_names(ENGINES.settle_all(flags, environment)),
    )


def team_token_file(database: Path | DatabaseAddress) -> Path | None:
    """Return the file with the token for the team that a ledger has joined; ``None``: it has not."""
    file = file_of(database)
    if file is None:
        return None
    token_file = token_file_of(file)
    # Unlike a path's own method, this takes a folder that cannot be looked into as one without it.
    return token_file if os.path.exists(token_file) else None  # noqa: PTH110


def token_file_of(file: Path) -> Path:
    """Return where the token for a team is, if a ledger's file has joined one."""
    return file.parent / f"{file.name}.team-token"


def file_of(database: Path | DatabaseAddress) -> Path | None:
    """Return the ledger's file; ``None``: the ledger is in a database elsewhere."""
    return database if isinstance(database, Path) else None


def working_folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders that calls come from, without links: what a client names, and the current one."""
    named = environment.get("CLAUDE_PROJECT_DIR")
    found = [] if not named else [os.path.realpath(named)]
    with suppress(OSError):
        found.append(os.path.realpath(Path.cwd()))
    return tuple(dict.fromkeys(found))


class NoHomeError(InvalidInputError):
    """The user has no home folder, as in some containers."""


def home_folder() -> Path:
    """Return the user's home.

    Raises:
        NoHomeError: there is none.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise NoHomeError(Problem("HOME", None, "the path of a home folder")) from None


def default_database() -> Path:
    """Return the ledger's place in the user's home, shared with earlier IMMUNOS scripts.

    Raises:
        NoHomeError: there is no home.
    """
    return home_folder() / ".immunos" / "db" / "immunos.db"


def expanded(text: str, field: str) -> Path:
    """Return a path with ``~`` and ``~user`` replaced by the home folder meant.

    Raises:
        InvalidInputError: that home folder does not exist.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidInputError(Problem(field, text, "a path in an existing home folder")) from None


def _database(text: str, field: str) -> Path | DatabaseAddress:
    """Return the ledger's file; only the default one's folders are created where they are missing."""
    if not text:
        return default_database().absolute()
    if text.startswith(DATABASE_SCHEMES):
        return _database_address(text, field)
    file = _absolute(text, field)
    if os.path.isdir(file.parent) or _is_default(file):  # noqa: PTH112  # never raises
        return file
    raise InvalidInputError(Problem(field, text, "a file in an existing folder"))


def _database_address(text: str, field: str) -> DatabaseAddress:
    from immunos_mcp import database_address  # few users have one

    address = database_address.parse(text)
    if address is None:
        # It may have a password, so it is not shown.
        message = (
            f"{field}: must be an address such as {DATABASE_SCHEMES[0]}USER@HOST/DATABASE?team=NAME"
        )
        raise InvalidInputError(Problem(field, None, message=message))
    return address


def _is_default(file: Path) -> bool:
    try:
        return file == default_database().absolute()
    except NoHomeError:
        return False


def _absolute(text: str, field: str) -> Path:
    try:
        return expanded(text, field).absolute()
    except OSError:
        expected = "an absolute path, as the current folder is gone"
        raise InvalidInputError(Problem(field, text, expected)) from None


def _unchanged(text: str, _field: str) -> str:
    return text


def _has_variables(text: str, *, is_path: bool) -> bool:
    # Compiling a pattern takes longer than everything else here, and few values have any of these.
    if not any(sign in text for sign in "$%{"):
        return False
    return bool(re.search(_UNEXPANDED, text) or (is_path and re.search(_UNEXPANDED_IN_PATH, text)))


def _is_on(text: str, field: str) -> bool:
    if text not in {"", "on", "off"}:
        raise InvalidInputError(Problem(field, text, "on or off"))
    return text != "off"


def _engine(text: str, field: str) -> NamedAddress:
    name, sign, where = text.strip().partition("=")
    if sign and where and name != "ollama" and re.fullmatch(_ENGINE_NAME, name):
        return NamedAddress(name, where, field)
    expected = "a name and an address, such as llamacpp=127.0.0.1:8080"
    _, at, place = text.rpartition("@")
    raise InvalidInputError(Problem(field, f"***@{place}" if at else text, expected))


def _with_own_names(engines: tuple[NamedAddress, ...]) -> tuple[NamedAddress, ...]:
    names = [each.name for each in engines]
    for each in engines:
        if names.count(each.name) > 1:
            raise InvalidInputError(Problem(each.field, each.name, "a name for one engine only"))
    return engines


def _address(text: str, field: str) -> Address | None:
    if text == "off":
        return None
    if text == "on":
        return Address("127.0.0.1", TELEMETRY_PORT)
    host, _, port = text.rpartition(":")
    bare_host = host.removeprefix("[").removesuffix("]")
    if bare_host in LOOPBACK_HOSTS and re.fullmatch("[0-9]{1,5}", port) and int(port) < 2**16:
        return Address(bare_host, int(port))
    expected = "on, off or a loopback address such as 127.0.0.1:4318"
    raise InvalidInputError(Problem(field, text, expected))


DATABASE = Option(
    "IMMUNOS_DB",
    _database,
    flag="--db",
    metavar="FILE",
    about="ledger file, or postgresql:// address",
    shown_default="~/.immunos/db/immunos.db",
    is_path=True,
)
SESSION = Option(
    "IMMUNOS_SESSION",
    check_session_name,
    "default",
    flag="--session",
    metavar="NAME",
    about="budget session",
    shown_default="default",
)
TRANSCRIPTS = Option("IMMUNOS_TRANSCRIPTS", _is_on, "on")
OLLAMA_HOST = Option(
    "OLLAMA_HOST",
    _unchanged,
    flag="--ollama-host",
    metavar="ADDRESS",
    about="address of Ollama",
    shown_default="127.0.0.1:11434",
)
OLLAMA_CHECK = Option(
    "IMMUNOS_OLLAMA_CHECK",
    _is_on,
    "on",
    flag="--ollama-check",
    metavar="on|off",
    about="whether decisions check which models Ollama has",
    shown_default="on",
)
ENGINES = Option(
    "IMMUNOS_ENGINES",
    _engine,
    flag="--engine",
    metavar="NAME=ADDRESS",
    about="OpenAI-compatible server beside Ollama, such as llamacpp=127.0.0.1:8080; may be repeated",
    repeats=True,
    separator=",",
)
TELEMETRY = Option(
    "IMMUNOS_TELEMETRY",
    _address,
    "off",
    flag="--telemetry",
    metavar="ADDRESS",
    about="receive Claude Code's OpenTelemetry export while serving: on, off or HOST:PORT",
    shown_default=f"off; on is 127.0.0.1:{TELEMETRY_PORT}",
)
DELEGATE = Option(
    "IMMUNOS_DELEGATE",
    _is_on,
    "on",
    flag="--no-delegate",
    about="serve without the tool delegate_task",
    stands_for="off",
)
ALLOWED_PATHS = Option(
    "IMMUNOS_ALLOWED_PATHS",
    _absolute,
    flag="--allow-path",
    metavar="PATH",
    about="folder or file that delegated tasks may read, besides the project's; may be repeated",
    repeats=True,
    is_path=True,
)


def configured_session(environment: Mapping[str, str]) -> str:
    """Return the session of commands without ``--session``."""
    return environment.get(SESSION.variable) or "default"


Row: TypeAlias = "Option[Path] | Option[Path | DatabaseAddress] | Option[str] | Option[bool] | Option[Address | None] | Option[NamedAddress]"

LEDGER_OPTIONS: tuple[Row, ...] = (DATABASE, SESSION)
"""Options that every use of the program needs to find the same figures."""

ENGINE_OPTIONS: tuple[Row, ...] = (OLLAMA_HOST, OLLAMA_CHECK, ENGINES)
SERVING_OPTIONS: tuple[Row, ...] = (TELEMETRY, DELEGATE, ALLOWED_PATHS)
"""Options of serving alone."""

COMMAND_OPTIONS = LEDGER_OPTIONS + ENGINE_OPTIONS
"""Options of every command, before or after its name."""
