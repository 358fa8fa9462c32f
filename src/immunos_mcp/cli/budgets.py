"""The commands about budgets beside the session's own: ``budget``, ``check`` and ``blocks``."""

from __future__ import annotations

import sys
from itertools import product
from typing import TYPE_CHECKING

from immunos_mcp.answers.budgets import CheckState
from immunos_mcp.cli import terminal
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import (
    CLIENT,
    Answered,
    folder,
    on_archive,
    on_ledger,
    percent,
    whole_number,
)
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules import budgets
from immunos_mcp.rules.budget_check import Threshold, check, sentence
from immunos_mcp.server import text

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.answers.budgets import CheckAnswer
    from immunos_mcp.archive import Archive
    from immunos_mcp.router import Router


async def _list(router: Router, _given: Namespace) -> Answered:
    found = (await router.get_session_status()).budgets or ()
    return Answered(found, terminal.budgets(found))


async def _add(router: Router, given: Namespace) -> Answered:
    if ";" in (given.folder or ""):
        expected = "a folder without a semicolon in its path"
        raise InvalidInputError(Problem("--folder", given.folder, expected))
    if given.label is not None and not budgets.is_label(given.label):
        expected = "the name of a project without a slash or a semicolon"
        raise InvalidInputError(Problem("--label", given.label, expected))
    words = [" ".join(given.budget)]
    words += [f"warn {given.warn}"] if given.warn is not None else []
    words += [f"switch {given.switch}"] if given.switch is not None else []
    words += ["spread"] if given.spread else []
    words += [f"by {given.assistant}"] if given.assistant is not None else []
    words += [f"of {budgets.quoted(given.person)}"] if given.person is not None else []
    words += ["each"] if given.each else []
    place = given.folder if given.label is None else given.label
    words += [f"in {place}"] if place is not None else []
    change = f"{given.name}={' '.join(words)}"
    answer = await router.update_config({"budgets": change}, CLIENT, given.dry_run)
    return Answered(answer, text.changed(answer))


def _add_add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "budget",
        nargs="+",
        metavar="BUDGET",
        help="a number of usd, tokens or percent (of the plan's own limit), a slash, and one of "
        f"{', '.join(budgets.Window)}",
    )
    parser.add_argument(
        "--warn", type=percent, metavar="N", help="percent from which routine tasks stay local (75)"
    )
    parser.add_argument(
        "--switch", type=percent, metavar="N", help="percent from which every task stays local (90)"
    )
    parser.add_argument(
        "--spread", action="store_true", help="allow each day of the window its share only"
    )
    parser.add_argument(
        "--assistant",
        choices=[*map(str, MeasuredAssistant)],
        help="count the usage of one assistant only",
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--person", metavar="NAME", help="count the usage of one person only (see `person list`)"
    )
    whose.add_argument(
        "--each", action="store_true", help="give every person this limit for themselves"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--folder", type=folder, metavar="PATH", help="count the usage of one project only"
    )
    where.add_argument(
        "--label",
        metavar="NAME",
        help="likewise, by the name under which people's machines report the project",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the effect without changing anything"
    )


async def _remove(router: Router, given: Namespace) -> Answered:
    settings = await router.get_config()
    budgets.named(settings.budgets, given.name)
    answer = await router.update_config({"budgets": f"{given.name}={budgets.OFF}"}, CLIENT)
    return Answered(answer, text.changed(answer))


def _add_remove_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


_BUDGETS = "the budgets"

_ACTIONS = (
    Command(
        "add",
        "add a budget, or replace the one of that name",
        "budget add daily 20 usd/day --warn 50",
        on_ledger(_add, own=_BUDGETS),
        _add_add_arguments,
    ),
    Command(
        "list", "show how far the budgets are used", "budget list", on_ledger(_list, own=_BUDGETS)
    ),
    Command(
        "remove",
        "remove a budget",
        "budget remove daily",
        on_ledger(_remove, own=_BUDGETS),
        _add_remove_arguments,
    ),
)


async def _check(router: Router, given: Namespace) -> Answered:
    threshold = Threshold(given.at)
    status = await router.get_session_status()
    answer = check(status, given.budget, threshold)
    if given.run is not None or given.webhook is not None:
        await _announce(router, answer, given)
    line = sentence(answer.budgets[0], threshold)
    return Answered(answer, line, EXIT_CODES[answer.state])


async def _announce(router: Router, answer: CheckAnswer, given: Namespace) -> None:
    from immunos_mcp.cli.announcing import listeners

    told = listeners(given.run, given.webhook)
    reached = [each for each in answer.budgets if each.state is CheckState.REACHED]
    for each, listener in product(reached, told):
        problem = await router.budget_alerts.tell(each, listener.kind, listener.tell)
        if problem is not None:
            print(
                f"immunos-mcp: could not tell that {each.name} was reached: {problem}",
                file=sys.stderr,
            )


def _add_check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--budget", metavar="NAME", help="check this one only; `session` is the session's own"
    )
    parser.add_argument(
        "--at",
        choices=[*map(str, Threshold)],
        default=Threshold.AUTO_SWITCH.value,
        help="the threshold; auto-switch unless given",
    )
    parser.add_argument(
        "--run", metavar="COMMAND", help="run this once when a threshold is found to be reached"
    )
    parser.add_argument(
        "--webhook", metavar="URL", help="send the budget to this address once, likewise"
    )


async def _blocks(archive: Archive, given: Namespace) -> Answered:
    found = await archive.blocks(given.days)
    return Answered(found, terminal.blocks(found))


def _add_blocks_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=whole_number, default=3, metavar="N", help="how far back; 3 unless given"
    )


EXIT_CODES = {CheckState.BELOW: 0, CheckState.UNKNOWN: 1, CheckState.REACHED: 3}

COMMANDS = (
    Command(
        "blocks",
        "show the plan's five-hour blocks, past and current",
        "blocks --days 7",
        on_archive(_blocks, covers_all_sessions=True),
        _add_blocks_arguments,
    ),
    Command(
        "check",
        "tell by the exit code whether budgets are used up (0 below, 3 reached, 1 cannot tell)",
        "check --at warning",
        on_ledger(_check),
        _add_check_arguments,
    ),
    Command(
        "budget",
        "set budgets in tokens, dollars or percent of the plan, by day, week, month or project",
        "budget add daily 20 usd/day",
        on_ledger(_list, own=_BUDGETS),
        actions=_ACTIONS,
    ),
)
