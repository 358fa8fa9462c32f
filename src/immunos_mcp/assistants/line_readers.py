"""What reads the lines of an assistant's logs, and what it may find in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from immunos_mcp.logged_usage import ConversationTotal, MeasuredUsage, PlanReport

if TYPE_CHECKING:
    from collections.abc import Sequence

Logged: TypeAlias = MeasuredUsage | ConversationTotal | PlanReport
"""What a line may have."""

Found_co = TypeVar("Found_co", bound=Logged, covariant=True)


class Salvaged(NamedTuple, Generic[Found_co]):
    """The usage in a line that is damaged or unusual.

    Attributes:
        usage: the responses, totals and reports that can be read.
        is_whole: whether these are all of them in the line.
    """

    usage: tuple[Found_co, ...]
    is_whole: bool


class LineReader(Protocol):
    """Reads the marked lines of one transcript, in order."""

    @property
    def context(self) -> str:
        """What a later reading of this transcript needs of the lines so far, as text; or empty."""
        ...

    def usage_of(self, line: bytes | bytearray, /) -> Sequence[Logged]:
        """Return the usage in a line, which may be none.

        Raises:
            ValueError: the line is not exactly as the assistant writes it; ``salvage`` takes it.
        """
        ...

    def salvage(self, line: bytes | bytearray, /) -> Salvaged[Logged]:
        """Return the usage in a line that is damaged or unusual."""
        ...
