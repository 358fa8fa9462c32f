"""Tries an answer out: puts it into a copy of the project and runs the user's commands there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.delegation.checks import command, patch
from immunos_mcp.delegation.checks.allowed import PATH
from immunos_mcp.delegation.checks.project_copy import (
    CopyLimitError,
    copy_project,
    scratch_folder,
)
from immunos_mcp.delegation.checks.registry import failure
from immunos_mcp.rules.formatting import encodable, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from immunos_mcp.delegation.checks.allowed import Allowed

SHOWN_OUTPUT = 300
"""Characters of a failed command's output that the caller gets."""

_LINE_END = re.compile(r"\r\n|\r|\n")


class TrialError(Exception):
    """An answer could not be tried out, which is not the model's fault; the message says why."""


class Trial(NamedTuple):
    """An answer to try out.

    Attributes:
        text: the answer.
        model: who answered.
        commands: what to run, all of one project.
        output: the file that the answer goes to, relative to the project; ``None``: it is a diff.
    """

    text: str
    model: str
    commands: Sequence[Allowed]
    output: PurePosixPath | None


def run(trial: Trial, stop: Event) -> None:
    """Run commands on an answer in a copy of the project.

    Raises:
        BadAnswerError: a command failed, or there is nothing to run it on.
        TrialError: a command could not be run.
    """
    try:
        with scratch_folder() as scratch:
            project, home = scratch / "project", scratch / "home"
            project.mkdir()
            home.mkdir()
            copy_project(trial.commands[0].project, project, stop)
            path = _put(trial, project)
            for allowed in trial.commands:
                _run(trial, allowed, path, project, home, stop)
    except (CopyLimitError, OSError) as error:
        raise TrialError(f"{trial.commands[0].name} could not run: {error}") from error


def _put(trial: Trial, project: Path) -> PurePosixPath:
    """Put an answer into the copy; return the file that ``{path}`` stands for."""
    if trial.output is not None:
        target = project / trial.output
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(encodable(trial.text) + "\n", encoding="utf-8")
        return trial.output
    try:
        patches = patch.parsed(trial.text)
        for each in patches:
            _apply(each, project)
    except patch.PatchError as error:
        raise failure(trial.model, trial.commands[0].name, str(error)) from None
    if not patches:
        fault = "has no unified diff, and there is no output_path"
        raise failure(trial.model, trial.commands[0].name, fault)
    return PurePosixPath(patches[0].name)


def _apply(change: patch.FilePatch, project: Path) -> None:
    """Apply the changes of one file to the copy, in which there are no links."""
    for name in {change.old_name, change.new_name} - {patch.NOTHING}:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise patch.PatchError(f"changes {printable(name)}, which is outside the project")
    old, new = project / change.old_name, project / change.new_name
    if change.old_name == patch.NOTHING:
        if new.exists():
            raise patch.PatchError(f"creates {change.new_name}, which exists")
        before, ending = [], "\n"
    elif not old.is_file():
        raise patch.PatchError(f"changes {change.old_name}, which is not in the project")
    else:
        before, ending = _lines(old)
    after = patch.applied(change, before)
    if change.old_name not in {patch.NOTHING, change.new_name}:
        old.unlink()
    if change.new_name == patch.NOTHING:
        return
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(encodable("".join(f"{line}{ending}" for line in after)).encode())
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise patch.PatchError(f"writes {change.new_name}, which is no file there") from None


def _lines(file: Path) -> tuple[list[str], str]:
    """Return a file's lines and their ending."""
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        raise patch.PatchError(f"changes {file.name}, which is not text") from None
    lines = _LINE_END.split(text)
    return (lines[:-1] if not lines[-1] else lines), "\r\n" if "\r\n" in text else "\n"


def _run(
    trial: Trial, allowed: Allowed, path: PurePosixPath, project: Path, home: Path, stop: Event
) -> None:
    # Without ./ a file named -x would be an option.
    words = [word.replace(PATH, f"./{path}") for word in allowed.words]
    variables = command.environment(home, os.environ)
    # A program that the project brings is one of the copy.
    wanted = str(project / words[0]) if "/" in words[0] else words[0]
    program = shutil.which(wanted, path=variables["PATH"])
    if program is None:
        raise TrialError(f"{allowed.name} could not run: there is no program {words[0]}")
    end = command.run(program, words, project, variables, stop)
    if end.code != 0:
        how = end.why_stopped or f"exit code {end.code}"
        output = printable(" ".join(end.output.split())[-SHOWN_OUTPUT:])
        fault = f"fails it ({how})"
        raise failure(trial.model, allowed.name, f"{fault}: {output}" if output else fault)
