"""Commands that route a task, explain the decision, and record usage and outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.cli import terminal
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, on_archive, on_ledger, seconds, whole_number
from immunos_mcp.domain import Classification, Judge, Outcome
from immunos_mcp.server import text

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.archive import Archive
    from immunos_mcp.router import Router


async def _route(router: Router, given: Namespace) -> Answered:
    routed = await router.decide_task(given.task_type, given.classification, given.tokens)
    settings = await router.project_settings.here()
    shown = terminal.routed(routed.logged, settings, is_by_team=routed.is_by_team)
    if routed.answer.offline:
        shown += "\nThe team's server is away; your own ledger decided."
    return Answered(routed.answer, shown)


def _add_route_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--task-type", required=True, help="kind of task, such as code_review")
    parser.add_argument("--classification", required=True, choices=[*map(str, Classification)])
    parser.add_argument("--tokens", type=whole_number, metavar="N", help="estimated tokens")


async def _explain(archive: Archive, given: Namespace) -> Answered:
    answer = await archive.explain_decision(given.decision_id)
    return Answered(answer, terminal.explanation(answer))


def _add_explain_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("decision_id", type=whole_number, metavar="DECISION")


async def _record(router: Router, given: Namespace) -> Answered:
    answer = await router.record_usage(
        model=given.model,
        input_tokens=given.input,
        output_tokens=given.output,
        cache_creation_input_tokens=given.cache_creation,
        cache_read_input_tokens=given.cache_read,
        decision_id=given.decision_id,
        outcome=given.outcome,
        request_id=given.request_id,
        seconds=given.seconds,
        judge=Judge.USER,
    )
    return Answered(answer, text.recorded(answer))


def _add_record_arguments(parser: ArgumentParser) -> None:
    def add_tokens(flag: str, help_text: str, *, required: bool = False) -> None:
        parser.add_argument(flag, required=required, type=whole_number, metavar="N", help=help_text)

    parser.add_argument("--model", required=True)
    add_tokens("--input", "input tokens", required=True)
    add_tokens("--output", "output tokens", required=True)
    add_tokens("--cache-creation", "cache creation input tokens")
    add_tokens("--cache-read", "cache read input tokens")
    parser.add_argument(
        "--decision-id",
        type=whole_number,
        metavar="ID",
        help="decision that the response belongs to",
    )
    parser.add_argument(
        "--outcome", choices=[*map(str, Outcome)], help="whether that task succeeded"
    )
    parser.add_argument("--request-id", metavar="ID", help="unique ID that makes repeats harmless")
    _add_seconds(parser)


async def _outcome(router: Router, given: Namespace) -> Answered:
    answer = await router.outcomes.close(given.decision_id, given.outcome, given.seconds)
    return Answered(answer, text.closed(answer))


def _add_outcome_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("decision_id", type=whole_number, metavar="DECISION")
    parser.add_argument("outcome", choices=[*map(str, Outcome)])
    _add_seconds(parser)


def _add_seconds(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=seconds, metavar="N", help="how long the model worked")


COMMANDS = (
    Command(
        "route",
        "decide which model does a task",
        "route --task-type code_review --classification routine --tokens 3000",
        on_ledger(_route, needs_engine=True, asks_team=True),
        _add_route_arguments,
    ),
    Command(
        "explain",
        "explain a decision and what would have changed it",
        "explain 7",
        on_archive(_explain),
        _add_explain_arguments,
    ),
    Command(
        "record",
        "record the tokens of a model response",
        "record --model claude-sonnet-4.5 --input 1200 --output 300 --decision-id 7 "
        "--outcome success",
        on_ledger(_record, asks_team=True),
        _add_record_arguments,
    ),
    Command(
        "outcome",
        "record whether a routed task succeeded",
        "outcome 7 failure",
        on_ledger(_outcome, asks_team=True),
        _add_outcome_arguments,
    ),
)
