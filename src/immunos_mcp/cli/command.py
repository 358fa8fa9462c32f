"""Commands, and the parser of the one command that was given.

Building the parsers of all commands takes longer than running most commands.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from msgspec import Struct

from immunos_mcp.errors import InvalidInputError, Problem, any_of, nearest, shown, unknown
from immunos_mcp.options import COMMAND_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.options import Option

PROGRAM = "immunos-mcp"


def no_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has the shared options only."""


class Command(Struct, frozen=True):
    """One command of the program, or one action of a command.

    Attributes:
        name: what is typed.
        help: what it does, without a capital or a full stop.
        example: a use of it, without the program's name.
        run: runs it and returns the exit code.
        add_arguments: adds its arguments besides the shared options.
        actions: the actions that its first argument chooses from, if it has any.
    """

    name: str
    help: str
    example: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
    actions: tuple[Command, ...] = ()


Commands: TypeAlias = "Mapping[str, Callable[[], Command]]"
"""A function for each command's name that finds it, in the order of help."""


class UsageError(InvalidInputError):
    """A command line that its parser rejects.

    Attributes:
        prog: the program and the command whose ``--help`` explains what is accepted.
    """

    def __init__(self, prog: str, *problems: Problem) -> None:
        self.prog = prog
        super().__init__(*problems)


class BadArgument(argparse.ArgumentTypeError):
    """A value that an argument's ``type`` rejects."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(expected)
        self.got, self.expected = got, expected


class StrictParser(argparse.ArgumentParser):
    """A parser that raises ``UsageError`` for what it rejects, instead of printing its usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, exit_on_error=False, **settings)

    def parse_known_args(  # type: ignore[override]  # the program calls it in this one way
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, none of which may be left over."""
        try:
            given, unused = super().parse_known_args(args, namespace or argparse.Namespace())
        except argparse.ArgumentError as error:
            if error.argument_name is None:
                self.error(error.message)
            raise UsageError(self.prog, _problem(error)) from None
        if unused:
            raise UsageError(self.prog, self._unused(unused[0]))
        return given, unused

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found missing as a ``UsageError``."""
        missing = message.rpartition("arguments are required: ")[2].split(", ")
        if missing == [message]:
            raise UsageError(self.prog, Problem("arguments", None, message=_group(message)))
        raise UsageError(self.prog, *(self._required(name) for name in missing))

    def _required(self, name: str) -> Problem:
        for action in self._actions:
            if name in {*action.option_strings, action.metavar, action.dest} and action.choices:
                return Problem(name, None, any_of(map(str, action.choices)))
        return Problem(name, None)

    def _unused(self, word: str) -> Problem:
        if not word.startswith("-"):
            return Problem("arguments", word, message=f"unexpected argument {shown(word)}")
        flag = word.partition("=")[0]
        known = [each for action in self._actions for each in action.option_strings]
        close = nearest(flag, known)
        hint = "" if close is None else f" (did you mean {close}?)"
        message = f"unknown option {shown(flag)}{hint}"
        return Problem("arguments", flag, nearest=close, message=message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [*map(str, action.choices)]
        if action.nargs == argparse.PARSER:
            kind = str(action.metavar).lower()
            raise UsageError(self.prog, unknown(kind, kind, value, choices))
        name = "/".join(action.option_strings) or action.metavar or action.dest
        problem = Problem(str(name), value, any_of(choices), nearest(value, choices))
        raise UsageError(self.prog, problem)


def _problem(error: argparse.ArgumentError) -> Problem:
    """Translate what argparse found wrong with an argument."""
    field = str(error.argument_name)
    cause = error.__context__
    if isinstance(cause, BadArgument):
        return Problem(field, cause.got, cause.expected)
    for pattern, text in _MESSAGES:
        found = re.fullmatch(pattern, error.message)
        if found is not None:
            return Problem(field, None, message=f"{field}: {found.expand(text)}")
    return Problem(field, None, message=f"{field}: {error.message}")


_MESSAGES = (
    (r"expected one argument", r"needs a value"),
    (r"expected at least one argument", r"needs at least one value"),
    (r"not allowed with argument (.*)", r"cannot be used with \1"),
    (r"ignored explicit argument (.*)", r"takes no value (got \1)"),
)
"""Messages of argparse about an argument, and what is printed instead."""


def _group(message: str) -> str:
    found = re.fullmatch(r"one of the arguments (.*) is required", message)
    return message if found is None else f"{any_of(found[1].split())} is required"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Formats help; a parser makes one for each of its arguments, even where nobody asks for help."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, width=_terminal_width() - 2, **settings)


def _terminal_width() -> int:
    """Return what ``shutil.get_terminal_size`` does, which takes 5 ms to import, for standard output."""
    written = os.environ.get("COLUMNS", "")
    if written.isdecimal() and int(written) > 0:
        return int(written)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class ParserOfCommands(StrictParser):
    """A parser whose commands' parsers are built when the command is found, or help is requested."""

    def __init__(
        self, *, prog: str, whole: bool = False, description: str | None = None, epilog: str
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=_HelpFormatter,
        )
        self._whole = whole
        add_shared_options(self)

    def add_commands(
        self, commands: Commands, title: str, metavar: str, *, described: bool
    ) -> None:
        """Add the commands that the first argument chooses from; ``described``: with a description."""
        parser_class = CommandParser if self._whole else _Unbuilt
        # Without the prefix argparse lays out a usage line to find it.
        added = self.add_subparsers(
            title=title, metavar=metavar, prog=self.prog, parser_class=parser_class
        )
        for name, find in commands.items():
            if self._whole:
                command = find()
                added.add_parser(
                    name, help=command.help, command=command, described=described, whole=True
                )
            else:
                added.add_parser(name, find=find, described=described)

    def in_whole(self) -> argparse.ArgumentParser:
        """Return this parser with the parsers of all its commands."""
        raise NotImplementedError

    def format_help(self) -> str:
        """Format the help, which lists every command."""
        return super().format_help() if self._whole else self.in_whole().format_help()


class CommandParser(ParserOfCommands):
    """The parser of one command."""

    def __init__(self, *, prog: str, command: Command, described: bool, whole: bool) -> None:
        description = f"{command.help[0].upper()}{command.help[1:]}." if described else None
        super().__init__(
            prog=prog,
            whole=whole or not command.actions,
            description=description,
            epilog=f"example:\n  {PROGRAM} {command.example}",
        )
        self._command, self._described = command, described
        self.set_defaults(command=command)
        command.add_arguments(self)
        if command.actions:
            actions: Commands = {action.name: lambda it=action: it for action in command.actions}
            self.add_commands(actions, "actions", "ACTION", described=False)

    def in_whole(self) -> argparse.ArgumentParser:
        """Return this parser with the parsers of all actions."""
        return CommandParser(
            prog=self.prog, command=self._command, described=self._described, whole=True
        )


class _Unbuilt(argparse.ArgumentParser):
    """Stands in for a command's parser until the command is found."""

    def __init__(self, *, prog: str, find: Callable[[], Command], described: bool) -> None:
        # Initialising the base class is what takes time.
        self.prog = prog
        self._find, self._described = find, described

    def parse_known_args(  # type: ignore[override]  # argparse calls it in this one way
        self, args: Sequence[str], namespace: None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        parser = CommandParser(
            prog=self.prog, command=self._find(), described=self._described, whole=False
        )
        return parser.parse_known_args(args, namespace)


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that may stand before or after a command; the later one counts."""
    for option in COMMAND_OPTIONS:
        add_option(parser, option, argparse.SUPPRESS)
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one line of JSON"
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print a traceback of what goes wrong",
    )


def add_option(
    parser: argparse.ArgumentParser, option: Option[Any], default: str | None = None
) -> None:
    """Add the flag of an option."""
    if option.stands_for:
        parser.add_argument(
            option.flag,
            action="store_const",
            const=option.stands_for,
            default=default,
            help=option.help,
        )
        return
    parser.add_argument(
        option.flag,
        action="append" if option.repeats else "store",
        metavar=option.metavar,
        default=default,
        help=option.help,
    )
