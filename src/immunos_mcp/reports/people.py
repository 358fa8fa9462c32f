"""Usage by person and day as CSV, for spreadsheets and accounting. Pure.

``docs/guides/http.md`` describes the columns; they are a contract.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.domain import Provider
from immunos_mcp.reports.sums import priced, sums_by
from immunos_mcp.rules.formatting import csv_cell
from immunos_mcp.rules.roles import sees_everybody

if TYPE_CHECKING:
    from immunos_mcp.ledger.report_figures import DailyUsage
    from immunos_mcp.ledger.usage_groups import UsageGroup
    from immunos_mcp.reports.prices import Prices
    from immunos_mcp.rules.roles import Person


class _Key(NamedTuple):
    """What a line is about; empty: not known."""

    day: str
    person: str
    assistant: str
    project: str
    model: str


_MEASURES = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "usage_records",
    "cost_usd",
    "cost_is_at_least",
)


def people_table(used: DailyUsage, prices: Prices, reader: Person | None) -> str:
    """Return what hosted models used that ``reader`` may see (``None``: all), as CSV with a header."""
    sums = sums_by(
        (_key(group, used), each)
        for group, each in priced(used.usage, prices)
        if group.provider is not Provider.OLLAMA and _may_see(group, reader)
    )
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow((*_Key._fields, *_MEASURES))
    for key, each in sorted(sums.items(), key=lambda item: item[0]):
        rows.writerow(
            (
                *map(csv_cell, key),
                *(getattr(each.counts, kind) for kind in _MEASURES[:4]),
                each.usage_records,
                float(round(each.cost.usd, 6)),
                "true" if each.cost.is_at_least else "",
            )
        )
    return written.getvalue()


def _key(group: UsageGroup, used: DailyUsage) -> _Key:
    person = None if group.person_id is None else used.people.get(group.person_id)
    return _Key(
        f"{group.start:%Y-%m-%d}",
        person or "",
        group.assistant or "",
        group.project or "",
        group.usage.model,
    )


def _may_see(group: UsageGroup, reader: Person | None) -> bool:
    return reader is None or sees_everybody(reader) or group.person_id == reader.person_id
