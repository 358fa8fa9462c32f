"""The input and output of the doctor: values that its checks share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.options import Options

CLOCK_REMEDY = "set the system clock correctly; sessions count by time"


class Verdict(StrEnum):
    """The result of a check: fine, a possible problem, or broken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """One line of the doctor's report.

    Attributes:
        check: what was checked.
        verdict: the result.
        seen: what was found.
        remedy: how to fix it, if there is something to fix.
    """

    check: str
    verdict: Verdict
    seen: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """The input of the checks.

    Attributes:
        options: the options of this run.
        environment: its environment variables.
        parse_options: returns a server's options from arguments and variables; raises
            ``InvalidInputError`` if the server would not start.
    """

    options: Options
    environment: Mapping[str, str]
    parse_options: Callable[[Sequence[str], Mapping[str, str]], Options]


@dataclass(frozen=True, slots=True)
class AssistantState:
    """How an assistant is set up.

    Attributes:
        documents: the content of its files, in the order of its configurations.
        server: the server's entry; ``None``: there is none.
        has_plugin: whether a plugin provides the server.
        is_ours: whether the entry starts this program and no plugin does.
        install: the command that sets up the assistant.
        context: the input of the checks.
    """

    documents: tuple[Json, ...]
    server: Json
    has_plugin: bool
    is_ours: bool
    install: str
    context: DoctorContext
