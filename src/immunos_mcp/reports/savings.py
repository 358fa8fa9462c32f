"""What handing over saved, as reports show it: each part with its sign. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.rules.formatting import usd

if TYPE_CHECKING:
    from immunos_mcp.answers.report import Savings

UNIT = "tokens at the price of an input token"


def headline(savings: Savings) -> str:
    """Return the net with the gross beside it, in dollars where the model has a price."""
    if savings.net_usd is None or savings.gross_usd is None:
        return f"net {savings.net_tokens:,} of gross {savings.gross_tokens:,} {UNIT}"
    return f"net {usd(savings.net_usd)} of gross {usd(savings.gross_usd)}"


def tasks(savings: Savings) -> str:
    """Return how many tasks it is about."""
    count = savings.hand_overs
    return (
        f"{count:,} {'task' if count == 1 else 'tasks'} handed over, {savings.undone:,} failed, "
        f"{savings.verified:,} judged by the assistant; {savings.only_routed:,} only routed"
    )


def parts(savings: Savings) -> tuple[tuple[str, int], ...]:
    """Return what the net is made of, by name."""
    return (
        ("gross", savings.gross_tokens),
        ("handing over", -savings.hand_over_tokens),
        ("verifying", -savings.verification_tokens),
        ("calls that moved no work", -savings.routing_tokens),
        ("instructions and tools", -savings.tools_tokens),
        ("advice of hooks", -savings.advice_tokens),
        ("net", savings.net_tokens),
    )
