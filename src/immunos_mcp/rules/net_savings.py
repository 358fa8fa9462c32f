"""What handing tasks over saves Claude, net of all that it costs Claude. Pure.

A model of a conversation, not a measurement of one: each request reads the whole context from the
cache, writes what is new to it, and pays for its output; what a task leaves in the context is read
again by later requests. All figures are in tokens at the price of an input token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.answers.report import Savings
from immunos_mcp.rules.list_prices import MILLION

if TYPE_CHECKING:
    from decimal import Decimal

    from immunos_mcp.rules.list_prices import ListPrice

TOOL_CALL = 120
"""Tokens of a call: its arguments with a prompt, or the path of a file to read."""

SHORT_ANSWER = 60
"""Tokens in which Claude tells that something is done, or reports an outcome."""

RESULT_FACTS = 90
"""Tokens of an answer of ``delegate_task`` beside the local model's text."""

FIRST_CHARACTERS = 130
"""Tokens of the beginning that is returned of a result that went into a file."""

LISTING = 1_200
"""Tokens of this server's instructions and tools, as ``benchmarks/context.py`` counts them."""

LOCAL_PROMPT = 200
"""Tokens that a local model reads beside the material: the task, and our instructions."""

CHECKED = 1_500
"""Tokens that Claude reads to verify a local result, such as the lines that it cites."""


class Rates(Struct, frozen=True):
    """Prices relative to that of an input token; those of all current models of Claude.

    Attributes:
        output: of an output token.
        cache_write: of writing a token to the five-minute cache.
        cache_read: of reading it there.
    """

    output: float = 5.0
    cache_write: float = 1.25
    cache_read: float = 0.1


class Conversation(Struct, frozen=True):
    """The conversation around a task.

    Attributes:
        context: tokens in the context when the task begins.
        later_requests: requests after it that read what it left there.
        listing: tokens of this server's instructions and tools.
        tasks: tasks that share the cost of the listing.
        requests: requests of the whole conversation, each of which reads the listing.
        rates: what tokens cost.
    """

    context: int = 50_000
    later_requests: int = 20
    listing: int = LISTING
    tasks: int = 5
    requests: int = 60
    rates: Rates = Rates()

    def request(self, new: float, output: float) -> float:
        """Return the cost of one request that adds ``new`` tokens and answers with ``output``."""
        rates = self.rates
        return rates.cache_read * self.context + rates.cache_write * new + rates.output * output

    def left_behind(self, tokens: float) -> float:
        """Return what later requests pay to read again what a task left in the context."""
        return self.rates.cache_read * tokens * self.later_requests

    def known_tools(self, conversations: float) -> float:
        """Return what it costs to know the tools at all in so many conversations."""
        once = self.rates.cache_write + self.rates.cache_read * self.requests
        return once * self.listing * conversations

    def listing_share(self) -> float:
        """Return a task's share of the cost of knowing the tools."""
        return self.known_tools(1 / self.tasks)


class Task(Struct, frozen=True):
    """A task as it is seen in a conversation.

    Attributes:
        material: tokens of the files it needs.
        result: tokens of its result.
        in_file: whether the result is wanted in a file, so that Claude need not read all of it.
        checked: tokens that Claude reads to verify a local result.
    """

    material: float
    result: float
    in_file: bool = False
    checked: float = CHECKED


FAILED = Task(0, 0, in_file=True)
"""A task that came back undone: a call, and an answer that says so."""


def alone(task: Task, around: Conversation) -> float:
    """Return what Claude pays to do a task itself: read the material, write the result."""
    read = around.request(0, TOOL_CALL) if task.material else 0.0
    write = around.request(TOOL_CALL + task.material, task.result)
    told = around.request(task.result, SHORT_ANSWER) if task.in_file else 0.0
    return read + write + told + around.left_behind(TOOL_CALL + task.material + task.result)


def handed_over(task: Task, around: Conversation) -> float:
    """Return what Claude pays to hand a task over in one call, and to pass the result on."""
    returned = RESULT_FACTS + (FIRST_CHARACTERS if task.in_file else task.result)
    # A result that the user is to see is written once more.
    passed_on = SHORT_ANSWER if task.in_file else task.result
    call = around.request(0, TOOL_CALL)
    tell = around.request(TOOL_CALL + returned, passed_on)
    return call + tell + around.left_behind(TOOL_CALL + returned + passed_on)


def verification(task: Task, around: Conversation) -> float:
    """Return what Claude pays to check a result and to report the outcome."""
    check = 0.0
    if task.checked:
        check = around.request(0, TOOL_CALL) + around.rates.cache_write * task.checked
    outcome = around.request(0, SHORT_ANSWER)
    return check + outcome + around.left_behind(task.checked + TOOL_CALL + SHORT_ANSWER)


def routing(around: Conversation) -> float:
    """Return what one more call costs that moves no work: a routing alone, or a report."""
    return around.request(SHORT_ANSWER, SHORT_ANSWER)


def advice(tokens: float, around: Conversation) -> float:
    """Return what lines of hooks cost that were added to a conversation."""
    return around.rates.cache_write * tokens + around.left_behind(tokens)


class HandOvers(Struct, frozen=True):
    """Tasks that were handed over and are alike.

    Attributes:
        in_file: whether their results went into files.
        is_kept: whether they are not known to have failed, so that Claude need not do them again.
        is_checked: whether the assistant judged the results.
        is_reported: whether they were routed, done and reported in three calls instead of one.
        has_material: whether they had more than a prompt.
        tasks: how many they are.
        input_tokens: what the local models read, all together.
        output_tokens: what they wrote.
    """

    in_file: bool
    is_kept: bool
    is_checked: bool
    is_reported: bool
    has_material: bool
    tasks: int
    input_tokens: int
    output_tokens: int

    def average(self) -> Task:
        """Return the average of the tasks; their costs are linear, so that nothing is lost."""
        if not self.is_kept:
            return FAILED
        read = max(self.input_tokens / self.tasks - LOCAL_PROMPT, 0) if self.has_material else 0.0
        return Task(read, self.output_tokens / self.tasks, self.in_file)


class Work(Struct, frozen=True):
    """What of Claude's work in a span of time had to do with this server.

    Attributes:
        hand_overs: tasks that local models did, each once, with the last model that tried.
        only_routed: decisions with which no local model did anything.
        responses: Claude's responses in which the tools were known.
    """

    hand_overs: tuple[HandOvers, ...] = ()
    only_routed: int = 0
    responses: int = 0


def rates_of(price: ListPrice | None) -> Rates:
    """Return the rates of a model; those of all current models of Claude where it has no price."""
    usual = Rates()
    if price is None or not price.input_usd:
        return usual

    def relative(usd: Decimal | None, otherwise: float) -> float:
        return otherwise if usd is None else float(usd / price.input_usd)

    return Rates(
        relative(price.output_usd, usual.output),
        relative(price.cache_creation_usd, usual.cache_write),
        relative(price.cache_read_usd, usual.cache_read),
    )


def savings(work: Work, hook_tokens: int, price: ListPrice | None) -> Savings | None:
    """Return what handing over saved and cost; ``None``: nothing was routed or said.

    Args:
        work: what of Claude's work had to do with this server.
        hook_tokens: the tokens of what hooks said.
        price: that of the model by which local work is priced; ``None``: it has none.
    """
    if not (work.hand_overs or work.only_routed or hook_tokens):
        return None
    around = Conversation(rates=rates_of(price))
    given = work.hand_overs
    gross = round(sum(each.tasks * alone(each.average(), around) for each in given if each.is_kept))
    calls = (
        each.tasks * (handed_over(each.average(), around) + 2 * each.is_reported * routing(around))
        for each in given
    )
    checks = (
        each.tasks * verification(each.average(), around) for each in given if each.is_checked
    )
    costs = (
        round(sum(calls)),
        round(sum(checks)),
        round(work.only_routed * routing(around)),
        round(around.known_tools(work.responses / around.requests)),
        round(advice(hook_tokens, around)),
    )
    return Savings(
        sum(each.tasks for each in given),
        sum(each.tasks for each in given if not each.is_kept),
        sum(each.tasks for each in given if each.is_checked),
        work.only_routed,
        gross,
        *costs,
        gross - sum(costs),
        _usd(gross, price),
        _usd(gross - sum(costs), price),
    )


def _usd(tokens: int, price: ListPrice | None) -> float | None:
    return None if price is None else round(float(tokens * price.input_usd / MILLION), 6)
