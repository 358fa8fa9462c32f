"""What a command is, and parsers that are built for the command that was given alone.

Building the parsers of all commands takes longer than most commands run.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from immunos_mcp.options import COMMAND_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.options import Row

PROGRAM = "immunos-mcp"


def no_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes the shared options alone."""


class Command(NamedTuple):
    """One command of the program, or one action of a command.

    Attributes:
        name: what is typed.
        help: what it does, without a capital or a full stop.
        example: a use of it, without the program's name.
        run: does it, and returns the exit code.
        add_arguments: adds what it takes beside the shared options.
        actions: what its first argument may be, where it has actions.
    """

    name: str
    help: str
    example: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = no_arguments
    actions: tuple[Command, ...] = ()


Commands: TypeAlias = "Mapping[str, Callable[[], Command]]"
"""What finds each command, by name, in the order of help."""


class ParserOfCommands(argparse.ArgumentParser):
    """A parser whose commands' parsers are built when the command is met, or help is asked for."""

    def __init__(
        self, *, prog: str, whole: bool = False, description: str | None = None, epilog: str
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._whole = whole
        add_shared_options(self)

    def add_commands(
        self, commands: Commands, title: str, metavar: str, *, described: bool
    ) -> None:
        """Add the commands that the first argument chooses from; ``described``: help says more."""
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
        """Lay out the help, which tells of every command."""
        return super().format_help() if self._whole else self.in_whole().format_help()


class CommandParser(ParserOfCommands):
    """The parser of one command."""

    def __init__(self, *, prog: str, command: Command, described: bool, whole: bool) -> None:
        said = f"{command.help[0].upper()}{command.help[1:]}." if described else None
        super().__init__(
            prog=prog,
            whole=whole or not command.actions,
            description=said,
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
    """Stands for a command's parser until the command is met."""

    def __init__(self, *, prog: str, find: Callable[[], Command], described: bool) -> None:
        # Setting up the base is what takes the time.
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
    """Add what may stand before a command as well as after it; the later one counts."""
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


def add_option(parser: argparse.ArgumentParser, option: Row, default: str | None = None) -> None:
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
