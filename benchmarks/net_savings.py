"""What five realistic tasks cost Claude done by itself and handed over, everything included.

The rule is that of the report's savings (``immunos_mcp.rules.net_savings``), which says what it assumes.
Only the size of this server's instructions and tools is taken from the program. All figures are in
tokens at the price of an input token.

Prices relative to input are Anthropic's, the same for all current models: output 5, writing to the
five-minute cache 1.25, reading it 0.1 (https://docs.claude.com/en/docs/about-claude/pricing, 2026-11).
"""

from __future__ import annotations

from msgspec.structs import replace
from side_by_side import Figure, argument_parser, report

from immunos_mcp.rules import net_savings
from immunos_mcp.rules.net_savings import Conversation, Task, alone, verification

TASKS = {
    "summarise a log of 200 KB": Task(50_000, 300, checked=2_000),
    "review a module of 400 lines": Task(4_500, 600, checked=1_500),
    "write tests for a module": Task(4_500, 3_000, in_file=True, checked=3_000),
    "generate code from a short specification": Task(300, 1_500, in_file=True, checked=1_500),
    "answer a simple question": Task(0, 150, checked=0),
}


def handed_over(task: Task, around: Conversation) -> float:
    """Return what Claude pays to hand a task over, with its share of the listing."""
    return net_savings.handed_over(task, around) + around.listing_share()


def verified(task: Task, around: Conversation) -> float:
    """Return the same with Claude checking the result and reporting the outcome."""
    return handed_over(task, around) + verification(task, around)


def three_calls(task: Task, around: Conversation) -> float:
    """Return what ``route_task``, ``delegate_task`` and ``record_usage`` cost instead of one call."""
    return handed_over(task, around) + 2 * net_savings.routing(around)


def break_even(task: Task, around: Conversation) -> int | None:
    """Return the material from which a verified hand-over is cheaper; ``None``: below 200,000 never."""
    for material in range(0, 200_001, 100):
        changed = replace(task, material=material)
        if verified(changed, around) < alone(changed, around):
            return material
    return None


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--context", type=int, default=50_000, metavar="TOKENS")
    parser.add_argument(
        "--listing",
        type=int,
        default=net_savings.LISTING,
        metavar="TOKENS",
        help="instructions and tools, as context.py counts them",
    )
    given = parser.parse_args()
    around = Conversation(context=given.context, listing=given.listing)
    figures: list[Figure] = []
    notes: list[str] = []
    for name, task in TASKS.items():
        itself = alone(task, around)
        figures.append(Figure(name, round(itself), "tokens"))
        for how, cost in (
            ("handed over", handed_over(task, around)),
            ("handed over and verified", verified(task, around)),
            ("in three calls", three_calls(task, around)),
        ):
            figures.append(Figure(f"  {how}", round(cost), "tokens", reference=round(itself)))
        least = break_even(task, around)
        notes.append(
            f"{name}: pays from {least:,} tokens of material"
            if least is not None
            else f"{name}: never pays"
        )
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
