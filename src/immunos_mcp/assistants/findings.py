"""What the doctor is told and what it says: values that its checks share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.assistants.documents import Json
    from immunos_mcp.options import Options

CLOCK_TOLERANCE = timedelta(minutes=5)
CLOCK_REMEDY = "set the clock right: sessions count by time"


class Verdict(StrEnum):
    """What a check found: all well, worth a look, or broken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """One line of the doctor's report.

    Attributes:
        check: what was looked at.
        verdict: how it is.
        seen: what was found.
        remedy: how to mend it, where there is something to mend.
    """

    check: str
    verdict: Verdict
    seen: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """What the checks look at.

    Attributes:
        options: what this run was told.
        environment: its variables.
        understood: what a server is told by arguments and variables; it raises
            ``InvalidInputError`` where it would not serve.
    """

    options: Options
    environment: Mapping[str, str]
    understood: Callable[[Sequence[str], Mapping[str, str]], Options]


@dataclass(frozen=True, slots=True)
class AssistantState:
    """How an assistant is set up.

    Attributes:
        documents: what its files hold, in the order of its configurations.
        server: the server's entry there; ``None`` where there is none.
        has_plugin: whether a plugin brings the server.
        is_ours: whether the entry is the only one and starts this program.
        install: the command that sets the assistant up.
        context: what the checks look at.
    """

    documents: tuple[Json, ...]
    server: Json
    has_plugin: bool
    is_ours: bool
    install: str
    context: DoctorContext
