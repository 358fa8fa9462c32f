"""What assistants log of the usage of their models, as it is read and stored.

Tuples, because a history holds a hundred thousand of them, and they are spread into rows. Annotations are no
texts here: a named tuple would compile each of them at every start.
"""

from datetime import datetime
from typing import NamedTuple, Self

from msgspec import Struct

from immunos_mcp.domain import CLAUDE_CODE, PlanUsage, TokenCounts


class MeasuredUsage(NamedTuple):
    """What one response cost, as the client that had it wrote down itself.

    A history is a hundred thousand of these, which a tuple makes and moves in a third of the time.

    Attributes:
        message_id: the response's id; it counts once, with the largest total ever seen for it.
        at: when it was written down.
        model: the model that answered.
        folder: the project folder it belongs to, where that is known.
        request_id: the API request's id, where that is known.
        assistant: the assistant that wrote it down, by its name in the registry.
        conversation: the conversation it belongs to, by the assistant's own id, where that is known.
        cache_1h_input_tokens: how many of the tokens written to the cache are kept for an hour, which
            costs more; ``None``: not known.
        speed: ``fast`` costs more than ``standard``; ``None``: not known, as with the two below.
        service_tier: such as ``standard``, ``priority`` or ``batch``.
        region: where the model ran, if that was asked for; empty: it was not.
        web_searches: how many searches it made, which are paid by number; ``None``: not known.
        is_sidechain: whether a side conversation wrote it down, which may repeat its parent's; ``None``:
            the assistant has none that do.
        agent: the subagent that had it, by the assistant's own id; ``None``: the conversation itself, or
            not known.
        calls: the client's ids of the calls of ``route_task`` that it made.
    """

    message_id: str
    at: datetime
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    folder: str | None = None
    request_id: str | None = None
    assistant: str = CLAUDE_CODE
    conversation: str | None = None
    cache_1h_input_tokens: int | None = None
    speed: str | None = None
    service_tier: str | None = None
    region: str | None = None
    web_searches: int | None = None
    is_sidechain: bool | None = None
    agent: str | None = None
    calls: tuple[str, ...] = ()

    @property
    def counts(self) -> TokenCounts:
        """The tokens by kind."""
        return TokenCounts(*self[3:7])

    @property
    def total(self) -> int:
        """All four kinds, unweighted."""
        return self[3] + self[4] + self[5] + self[6]

    def with_counts(self, counts: TokenCounts) -> Self:
        """Return the same response with other tokens."""
        return self._replace(
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
            cache_creation_input_tokens=counts.cache_creation_input_tokens,
            cache_read_input_tokens=counts.cache_read_input_tokens,
        )


class ModelTotal(NamedTuple):
    """What a conversation used of one model so far; a tuple, since it becomes a row.

    Attributes:
        cache_1h_input_tokens: how many of the tokens written to the cache are kept for an hour.
    """

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_1h_input_tokens: int = 0
    web_searches: int = 0


class ConversationTotal(NamedTuple):
    """An assistant's own total of a conversation, including requests that no other line shows.

    Attributes:
        conversation: the assistant's id of the conversation.
        start_ms: when its first program began, in milliseconds; a fork continues its parent's total
            and has the same.
        at: the last time that was written down before the total.
        models: the total of each model; empty: another program continues the conversation at ``at``.
        first_at: the first response since the previous total; ``None``: there was none.
        folder: the conversation's project folder, where that is known.
        is_partial: whether responses since the previous total were left out when it was read.
        number: how many totals came before it after the same response.
    """

    conversation: str
    start_ms: int
    at: datetime
    models: tuple[ModelTotal, ...] = ()
    first_at: datetime | None = None
    folder: str | None = None
    is_partial: bool = False
    number: int = 0


class RequestUsage(Struct, frozen=True):
    """What one API request cost, as a client's telemetry reported it.

    Attributes:
        request_id: the API's id for it, which its response carries in a transcript too.
        at: when it had finished.
        model: the model that answered.
        counts: the tokens by kind.
        conversation: the client's id of the conversation; ``None``: it did not say.
    """

    request_id: str
    at: datetime
    model: str
    counts: TokenCounts
    conversation: str | None = None


class PlanReport(NamedTuple):
    """What an assistant wrote down of a limit of its subscription, and when."""

    at: datetime
    usage: PlanUsage
