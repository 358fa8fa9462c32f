"""A delegation request, and its validation before anything is routed or done."""

from __future__ import annotations

from pathlib import PurePosixPath
from threading import Event
from typing import TYPE_CHECKING

import anyio
import msgspec

from immunos_mcp.delegation import destination, material
from immunos_mcp.delegation.checks import allowed as allowed_commands
from immunos_mcp.delegation.checks import answer_json, registry
from immunos_mcp.delegation.checks.subject import Subject
from immunos_mcp.delegation.safe_files import resolved
from immunos_mcp.errors import InvalidInputError, Problem, unknown
from immunos_mcp.rules import names
from immunos_mcp.rules.formatting import encodable, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.delegation.checks.allowed import Allowed
    from immunos_mcp.delegation.material import Document, Material
    from immunos_mcp.delegation.safe_files import Place

LONGEST_PROMPT = 100_000
MOST_OUTPUT_TOKENS = 32_768


class DelegationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A task for a local model, as the caller sent it.

    Attributes:
        prompt: what to do.
        task_type: kind of task, as for ``route_task``.
        classification: likewise.
        paths: files and patterns to read.
        documents: files that the caller has read itself.
        instructions: how to do it.
        decision_id: an earlier decision on the same task; ``None``: route it now.
        max_output_tokens: limit of the answer; ``None``: by task type.
        output_path: a new file for the whole result, which grows as text arrives; the answer then has
            only the beginning.
        schema: the JSON schema that the answer must have; ``None``: any text.
        checks: names of checks of the answer, in addition to those of the task type.
        session: the budget session; ``None``: the default one.
        places: folders that the call comes from, beside those of the process; without links.
    """

    prompt: str
    task_type: str
    classification: str
    paths: Sequence[str] = ()
    documents: tuple[Document, ...] = ()
    instructions: str | None = None
    decision_id: int | None = None
    max_output_tokens: int | None = None
    output_path: str | None = None
    schema: Mapping[str, Json] | None = None
    checks: Sequence[str] = ()
    session: str | None = None
    places: tuple[str, ...] = ()


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A validated request, with its files read.

    Attributes:
        prompt: what to do.
        task_type: normalised to lower snake case.
        material: its files.
        instructions: how to do it; ``None``: nothing beyond the prompt.
        max_output_tokens: limit of the answer; ``None``: by task type.
        output: the place of a new file for the whole result, if requested.
        schema: the JSON schema that the answer must have, if requested.
        checks: names of checks of the answer, in addition to those of the task type.
        commands: those of them that the user allowed, all of one project.
        session: the budget session, validated.
        earlier_fault: what was wrong with another model's answer; ``None``: there was none.
        places: the folders that the call and its files belong to, beside those of the process.
    """

    prompt: str
    task_type: str
    material: Material
    instructions: str | None
    max_output_tokens: int | None
    output: Place | None
    session: str | None
    schema: Mapping[str, Json] | None = None
    checks: tuple[str, ...] = ()
    commands: tuple[Allowed, ...] = ()
    earlier_fault: str | None = None
    places: tuple[str, ...] = ()

    @property
    def output_in_project(self) -> PurePosixPath | None:
        """The file for the result, relative to the project of the commands; ``None``: there is none."""
        if self.output is None or not self.commands:
            return None
        return PurePosixPath(self.output.path.relative_to(self.commands[0].project))

    def subject(self, text: str) -> Subject:
        """Return an answer with what it is checked against."""
        return Subject(
            text,
            self.task_type,
            f"{self.prompt}\n{self.instructions or ''}",
            self.material.documents,
            self.schema,
            "" if self.output is None else self.output.path.name,
        )


async def checked(request: DelegationRequest, allowed: Sequence[Path]) -> Assignment:
    """Validate a request and read its files.

    Args:
        request: the request.
        allowed: folders and files that may be read and written.

    Raises:
        InvalidInputError: an argument is invalid, or a file must not be read or written.
    """
    _check_texts(request)
    session = None if request.session is None else names.check_session_name(request.session)
    bound = request.max_output_tokens
    if bound is not None and not 1 <= bound <= MOST_OUTPUT_TOKENS:
        expected = f"a whole number from 1 to {MOST_OUTPUT_TOKENS}"
        raise InvalidInputError(Problem("max_output_tokens", bound, expected))
    if request.schema is not None:
        answer_json.check_schema(request.schema)
    commands = await anyio.to_thread.run_sync(_commands, request.checks, allowed)
    task_type = names.normalise_task_type(request.task_type)
    path = request.output_path
    output = None
    if path is not None:
        output = await anyio.to_thread.run_sync(destination.check_output, path, allowed)
    _check_place(commands, output)
    instructions = request.instructions
    read = await _read(request.paths, allowed)
    written = () if output is None else (str(output.path.parent),)
    return Assignment(
        prompt=encodable(request.prompt),
        task_type=task_type,
        material=read.with_first(request.documents),
        instructions=None if instructions is None else encodable(instructions),
        max_output_tokens=bound,
        output=output,
        schema=request.schema,
        checks=tuple(request.checks),
        commands=commands,
        session=session,
        places=tuple(dict.fromkeys((*request.places, *read.folders, *written))),
    )


async def _read(paths: Sequence[str], allowed: Sequence[Path]) -> Material:
    """Read files on a thread, which ends soon after the caller was cancelled."""
    stop = Event()
    try:
        return await anyio.to_thread.run_sync(
            material.read_material, paths, allowed, stop, abandon_on_cancel=True
        )
    finally:
        stop.set()


def _check_texts(request: DelegationRequest) -> None:
    prompt, instructions = request.prompt, request.instructions
    if not prompt.strip() or len(prompt) > LONGEST_PROMPT:
        expected = f"a task description of 1 to {LONGEST_PROMPT} characters"
        raise InvalidInputError(Problem("prompt", prompt[:60], expected))
    if instructions is not None and len(instructions) > LONGEST_PROMPT:
        expected = f"at most {LONGEST_PROMPT} characters long"
        raise InvalidInputError(Problem("instructions", instructions[:60], expected))


def _commands(checks: Sequence[str], allowed: Sequence[Path]) -> tuple[Allowed, ...]:
    """Return the commands among the checks, of the first allowed folder that has any.

    Raises:
        InvalidInputError: a name is neither a check's nor a command's.
    """
    if all(name in registry.NAMES for name in checks):
        return ()
    commands: Mapping[str, Allowed] = {}
    for folder in allowed:
        commands = commands or allowed_commands.commands(resolved(folder))
    known = [*registry.NAMES, *commands]
    for number, name in enumerate(checks):
        if name not in known:
            raise InvalidInputError(unknown(f"checks[{number}]", "check", name, known))
    return tuple(commands[name] for name in dict.fromkeys(checks) if name in commands)


def _check_place(commands: Sequence[Allowed], output: Place | None) -> None:
    if commands and output is not None and not output.path.is_relative_to(commands[0].project):
        expected = f"a file inside {printable(str(commands[0].project))}, the project of the checks"
        raise InvalidInputError(Problem("output_path", str(output.path), expected))
