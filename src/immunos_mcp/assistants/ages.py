"""What the doctor says of models and tables that are no longer of today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.assistants.configuration import PROGRAM
from immunos_mcp.assistants.findings import Finding, Verdict
from immunos_mcp.rules import derived_prices, models, presets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from immunos_mcp.rules.settings import Settings


def old_models(settings: Settings) -> Iterator[Finding]:
    """Name the configured models whose families have successors."""
    found = [(name, presets.old_family(name)) for name in models.named_models(settings)]
    old = [(name, family) for name, family in found if family is not None]
    if old:
        listed = ", ".join(
            f"{name} ({family.released}, now {family.successor})" for name, family in old
        )
        remedy = f"{PROGRAM} config preset, which lists models of today by memory size"
        yield Finding("models", Verdict.WARN, f"older models are configured: {listed}", remedy)


def old_tables(today: date) -> Iterator[Finding]:
    """Say which of the tables that come with the program are more than half a year old."""
    for name, day in (
        ("presets", presets.presets_checked()),
        ("prices", derived_prices.released()),
    ):
        if presets.is_outdated(day, today):
            seen = f"the table of {name} is of {day}, more than half a year ago"
            yield Finding(name, Verdict.WARN, seen, f"upgrade {PROGRAM}, which has newer ones")
