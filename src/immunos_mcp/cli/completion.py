"""The command that prints shell completion scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import EXIT_FINE, print_text
from immunos_mcp.cli.program import ProgramParser

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _print_completion(given: Namespace) -> int:
    import shtab

    print_text(shtab.complete(ProgramParser(whole=True), shell=given.shell))
    return EXIT_FINE


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish", "tcsh"])


COMMANDS = (
    Command(
        "completion",
        "print a shell completion script",
        "completion bash > ~/.local/share/bash-completion/completions/immunos-mcp",
        _print_completion,
        _add_arguments,
    ),
)
