"""What five realistic tasks cost Claude done by itself and handed over, everything included.

A model of a conversation, not a measurement of one: each request reads the whole context from the
cache, writes what is new to it, and pays for its output; what a task leaves in the context is read
again by later requests. Only the size of this server's instructions and tools is taken from the
program. All figures are in tokens at the price of an input token.

Prices relative to input are Anthropic's, the same for all current models: output 5, writing to the
five-minute cache 1.25, reading it 0.1 (https://docs.claude.com/en/docs/about-claude/pricing, 2026-11).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from side_by_side import Figure, argument_parser, report

OUTPUT, CACHE_WRITE, CACHE_READ = 5.0, 1.25, 0.1


@dataclass(frozen=True)
class Conversation:
    """The conversation around a task.

    Attributes:
        context: tokens in the context when the task begins.
        later_requests: requests after it that read what it left there.
        listing: tokens of this server's instructions and tools.
        tasks: tasks that share the cost of the listing.
        requests: requests of the whole conversation, each of which reads the listing.
    """

    context: int = 50_000
    later_requests: int = 20
    listing: int = 1_200
    tasks: int = 5
    requests: int = 60

    def request(self, new: float, output: float) -> float:
        """Return the cost of one request that adds ``new`` tokens and answers with ``output``."""
        return CACHE_READ * self.context + CACHE_WRITE * new + OUTPUT * output

    def left_behind(self, tokens: float) -> float:
        """Return what later requests pay to read again what a task left in the context."""
        return CACHE_READ * tokens * self.later_requests

    def listing_share(self) -> float:
        """Return a task's share of the cost of knowing the tools at all."""
        whole = CACHE_WRITE * self.listing + CACHE_READ * self.listing * self.requests
        return whole / self.tasks


@dataclass(frozen=True)
class Task:
    """A task as it is seen in a conversation.

    Attributes:
        name: what is done.
        material: tokens of the files it needs.
        result: tokens of its result.
        in_file: whether the result is wanted in a file, so that Claude need not read all of it.
        checked: tokens that Claude reads to verify a local result.
    """

    name: str
    material: int
    result: int
    in_file: bool
    checked: int


TASKS = (
    Task("summarise a log of 200 KB", 50_000, 300, in_file=False, checked=2_000),
    Task("review a module of 400 lines", 4_500, 600, in_file=False, checked=1_500),
    Task("write tests for a module", 4_500, 3_000, in_file=True, checked=3_000),
    Task("generate code from a short specification", 300, 1_500, in_file=True, checked=1_500),
    Task("answer a simple question", 0, 150, in_file=False, checked=0),
)

TOOL_CALL = 120
"""Tokens of a call: its arguments with a prompt, or the path of a file to read."""

SHORT_ANSWER = 60
"""Tokens in which Claude tells that something is done, or reports an outcome."""

RESULT_FACTS = 90
"""Tokens of an answer of ``delegate_task`` beside the local model's text."""

FIRST_CHARACTERS = 130
"""Tokens of the beginning that is returned of a result that went into a file."""


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
    left = around.left_behind(TOOL_CALL + returned + passed_on)
    return call + tell + left + around.listing_share()


def verified(task: Task, around: Conversation) -> float:
    """Return the same with Claude checking the result and reporting the outcome."""
    check = around.request(0, TOOL_CALL) + CACHE_WRITE * task.checked if task.checked else 0.0
    outcome = around.request(0, SHORT_ANSWER)
    left = around.left_behind(task.checked + TOOL_CALL + SHORT_ANSWER)
    return handed_over(task, around) + check + outcome + left


def three_calls(task: Task, around: Conversation) -> float:
    """Return what ``route_task``, ``delegate_task`` and ``record_usage`` cost instead of one call."""
    return handed_over(task, around) + 2 * around.request(SHORT_ANSWER, SHORT_ANSWER)


def break_even(task: Task, around: Conversation) -> int | None:
    """Return the material from which a verified hand-over is cheaper; ``None``: below 200,000 never."""
    for material in range(0, 200_001, 100):
        changed = replace(task, material=material)
        if verified(changed, around) < alone(changed, around):
            return material
    return None


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--context", type=int, default=Conversation.context, metavar="TOKENS")
    parser.add_argument(
        "--listing",
        type=int,
        default=Conversation.listing,
        metavar="TOKENS",
        help="instructions and tools, as context.py counts them",
    )
    given = parser.parse_args()
    around = Conversation(context=given.context, listing=given.listing)
    figures: list[Figure] = []
    notes: list[str] = []
    for task in TASKS:
        itself = alone(task, around)
        figures.append(Figure(task.name, round(itself), "tokens"))
        for how, cost in (
            ("handed over", handed_over(task, around)),
            ("handed over and verified", verified(task, around)),
            ("in three calls", three_calls(task, around)),
        ):
            figures.append(Figure(f"  {how}", round(cost), "tokens", reference=round(itself)))
        least = break_even(task, around)
        notes.append(
            f"{task.name}: pays from {least:,} tokens of material"
            if least is not None
            else f"{task.name}: never pays"
        )
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
