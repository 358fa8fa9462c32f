"""The command that lists local models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.cli import terminal
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, on_ledger

if TYPE_CHECKING:
    from argparse import Namespace

    from immunos_mcp.router import Router


async def _models(router: Router, _given: Namespace) -> Answered:
    answer = await router.list_models()
    return Answered(answer, terminal.models(answer))


COMMANDS = (
    Command(
        "models",
        "list local models, and which of them are installed",
        "models",
        on_ledger(_models, needs_engine=True),
    ),
)
