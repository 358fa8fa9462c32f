"""The command that delegates a task to a local model and shows its text as it arrives."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.cli import terminal
from immunos_mcp.cli.command import BadArgument, Command
from immunos_mcp.cli.console import EXIT_FAILED, EXIT_FINE, chosen_options, print_text, whole_number
from immunos_mcp.domain import Classification, Provider
from immunos_mcp.errors import ImmunosError, InvalidInputError, Problem
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.options import expanded, team_token_file, working_folders
from immunos_mcp.router import Router
from immunos_mcp.rules import ladder
from immunos_mcp.rules.obstacles import obstacle
from immunos_mcp.server import text

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping

    from immunos_mcp.answers.delegation import DelegateAnswer
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.delegation.material import Document
    from immunos_mcp.delegation.tasks import Delegations
    from immunos_mcp.options import Options

STANDARD_INPUT = "-"
"""The path that stands for standard input."""


def _delegate(given: Namespace) -> int:
    chosen = chosen_options(given)
    import anyio

    given.piped = _piped() if STANDARD_INPUT in given.path else ()
    given.path = [
        str(expanded(path, "--path").absolute()) for path in given.path if path != STANDARD_INPUT
    ]
    if given.output is not None:
        given.output = str(expanded(given.output, "--output").absolute())
    # In a pipe nothing is written for work that fails later.
    given.is_shown = not given.json and sys.stdout.isatty()
    return _told(anyio.run(_delegated, given, chosen), given, chosen)


def _piped() -> tuple[Document, ...]:
    """Read standard input as a file of the task.

    Raises:
        InvalidInputError: it is empty, too large, or not text.
    """
    from immunos_mcp.delegation import material

    stream: TextIO | None = sys.stdin  # there is none if it is closed
    content = b"" if stream is None else stream.buffer.read(material.LARGEST_MATERIAL + 1)
    try:
        return (material.document("standard input", content),)
    except ValueError as error:
        message = f"--path: standard input must be {error}"
        raise InvalidInputError(Problem("--path", STANDARD_INPUT, message=message)) from None


def _told(answer: DelegateAnswer, given: Namespace, chosen: Options) -> int:
    """Print an answer; return whether the task was done as an exit code."""
    if answer.provider is Provider.CLAUDE:
        shown = to_json(answer) if given.json else _not_delegated(answer, chosen)
        print(shown, file=sys.stderr)
        return EXIT_FAILED
    if given.json:
        print_text(to_json(answer))
    elif answer.local_output is None or answer.output_path is not None:
        print_text(text.delegated(answer))
    else:
        print_text("" if given.is_shown else answer.local_output)
        print(_figures(answer), file=sys.stderr)
    return EXIT_FAILED if answer.cut_off else EXIT_FINE


def _not_delegated(answer: DelegateAnswer, chosen: Options) -> str:
    explained = f"explain it with `immunos-mcp explain {answer.decision_id}`"
    if _is_by_team(answer.decision_id, chosen):
        explained = terminal.MADE_BY_TEAM
    failed = ladder.without_advice(answer.message or "")
    return (
        f"{failed or 'Nothing was delegated:'} {answer.model} (Claude) should do this task"
        f" ({', changed by '.join(filter(None, (answer.reason, answer.changed_by)))}).{_remedy(answer.remedy)} Decision"
        f" {answer.decision_id}; {explained}."
    )


def _is_by_team(decision_id: int, chosen: Options) -> bool:
    """Return whether the server of a joined team made a decision, so that it cannot be explained here."""
    if team_token_file(chosen.database) is None:
        return False
    from immunos_mcp.ledger.team_decisions import team_decision_id

    with inline_ledger(chosen.database) as ledger:
        return run_sync(ledger.read(team_decision_id, decision_id)) is not None


def _remedy(command: str | None) -> str:
    if command is None:
        return ""
    found = obstacle(command)
    return f" {found.sentence}. {found.advice} `{command}`."


def _figures(answer: DelegateAnswer) -> str:
    cut = ", cut off; raise --max-output-tokens" if answer.cut_off else ""
    line = (
        f"{answer.model}: {answer.input_tokens:,} + {answer.output_tokens:,} tokens in"
        f" {answer.seconds:g} s{cut}"
    )
    if answer.changed_by is not None:
        line += f"\nThe choice was changed by {answer.changed_by}.{_remedy(answer.remedy)}"
    return line if answer.message is None else f"{line}\n{answer.message}"


async def _delegated(given: Namespace, chosen: Options) -> DelegateAnswer:
    from immunos_mcp.delegation.tasks import Delegations
    from immunos_mcp.engines.several import chosen_engines
    from immunos_mcp.engines.watch import EngineWatch

    engines = chosen_engines(chosen)
    with inline_ledger(chosen.database) as ledger:
        async with engines:
            watch = EngineWatch(engines)
            follower = transcript_follower(ledger, chosen)
            kind: Callable[..., Router] = Router
            token_file = team_token_file(chosen.database)
            if token_file is not None:
                # Few have joined a team.
                from immunos_mcp.gateway.opening import lasting_team
                from immunos_mcp.gateway.router import GatewayRouter

                kind = partial(GatewayRouter, lasting_team(ledger, token_file, follower))
            router = kind(
                ledger,
                chosen.session,
                follower=follower,
                engine=watch.current if chosen.ollama_check else None,
                places=working_folders(os.environ),
            )
            delegations = Delegations(router, engines, watch, longest_output=None)
            return await _finished(delegations, given)


async def _finished(delegations: Delegations, given: Namespace) -> DelegateAnswer:
    import anyio

    result: list[DelegateAnswer | ImmunosError] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delegations.run)
        try:
            answer = await _begun(delegations, given)
            while answer.handle is not None:
                answer = await delegations.collect(answer.handle)
            result.append(answer)
        except ImmunosError as error:
            # Raised inside the task group, it would come out wrapped in an exception group.
            result.append(error)
        tasks.cancel_scope.cancel()
    if isinstance(result[0], ImmunosError):
        raise result[0]
    return result[0]


async def _begun(delegations: Delegations, given: Namespace) -> DelegateAnswer:
    from immunos_mcp.delegation.request import DelegationRequest

    request = DelegationRequest(
        prompt=given.prompt,
        task_type=given.task_type,
        classification=given.classification,
        paths=given.path,
        documents=given.piped,
        instructions=given.instructions,
        decision_id=given.decision_id,
        max_output_tokens=given.max_output_tokens,
        output_path=given.output,
        schema=given.schema,
        checks=given.check,
    )
    # A path that the user types is allowed.
    typed = [*given.path, *([] if given.output is None else [given.output])]
    allowed = (Path("/"), *map(Path, typed), Path.cwd())
    return await delegations.delegate(request, allowed, on_text=_show if given.is_shown else None)


def _show(part: str) -> None:
    # A failed write does not end the task; it is reported when the program ends.
    with suppress(OSError):
        print(part, end="", flush=True)


LARGEST_SCHEMA = 2**20
"""Bytes that are read of a schema; of a device that never ends there are no more either."""


def _schema(path: str) -> Mapping[str, Json]:
    """Read a JSON schema from a file."""
    import json

    try:
        with expanded(path, "--schema").open("rb") as file:
            schema: object = json.loads(file.read(LARGEST_SCHEMA))
    except OSError as error:
        raise BadArgument(path, f"a readable file ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise BadArgument(path, "a file with a JSON schema") from None
    if not isinstance(schema, dict):
        raise BadArgument(path, "a file with a JSON schema")
    return cast("Mapping[str, Json]", schema)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prompt", help="what to do")
    parser.add_argument("--task-type", required=True, help="kind of task, such as code_review")
    parser.add_argument(
        "--classification", choices=[*map(str, Classification)], default=Classification.ROUTINE
    )
    parser.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="FILE",
        help="file or pattern that the task is about, or - for standard input; may be repeated",
    )
    parser.add_argument("--instructions", metavar="TEXT", help="how to do it")
    parser.add_argument("--decision-id", type=whole_number, metavar="ID")
    parser.add_argument("--max-output-tokens", type=whole_number, metavar="N")
    parser.add_argument("--output", metavar="FILE", help="new file for the result")
    parser.add_argument(
        "--schema", type=_schema, metavar="FILE", help="JSON schema that the result must have"
    )
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="NAME",
        help="check of the result, such as code, patch or citations; may be repeated",
    )


COMMANDS = (
    Command(
        "delegate",
        "have the routed local model do a task",
        'delegate "Summarize the errors" --task-type summarize --path app.log',
        _delegate,
        _add_arguments,
    ),
)
