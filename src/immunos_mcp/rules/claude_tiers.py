"""Claude's tiers, which have track records of their own at the task types whose mappings name them. Pure.

Everywhere else Claude's models share one record, and it stands in for a tier that has no outcome yet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from immunos_mcp.domain import CLAUDE_TIERS, Provider
from immunos_mcp.rules.models import CLAUDE_RECORD, mapped_models, provider_of, shared_record_key
from immunos_mcp.rules.track_record import ModelRecord, estimate_claude, estimate_local, judge

if TYPE_CHECKING:
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.track_record import TaskRecord, Verdict

CLAUDE_RECORDS = frozenset({CLAUDE_RECORD, *CLAUDE_TIERS})
"""The names that outcomes of Claude's models are recorded under."""

_NO_RECORD = ModelRecord()


def record_key(model: str, task_type: str, settings: Settings) -> str:
    """Return the name that a model's outcomes at a task type are recorded under."""
    key = shared_record_key(model, settings)
    if key != CLAUDE_RECORD:
        return key
    named = set(CLAUDE_TIERS).intersection(mapped_models(task_type, settings))
    return next((tier for tier in CLAUDE_TIERS if tier in named and _is_of(model, tier)), key)


def _is_of(model: str, tier: str) -> bool:
    return re.search(rf"(?i)(?<![a-z]){tier}(?![a-z])", model) is not None


def stronger(model: str, mapped: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """Return Claude's models behind one in a mapping."""
    behind = mapped[mapped.index(model) + 1 :]
    return tuple(each for each in behind if provider_of(each, settings) is Provider.CLAUDE)


class Comparison(NamedTuple):
    """What the track record makes of a model, beside the best of Claude's behind it."""

    claude: str
    verdict: Verdict


def compared(
    model: str, behind: tuple[str, ...], task_type: str, record: TaskRecord, settings: Settings
) -> Comparison:
    """Compare a model with the one of those ``behind`` that is expected to succeed most, of equals the cheapest."""
    records = {each: _record_of(each, task_type, record, settings) for each in behind}
    claude = max(behind, key=lambda each: estimate_claude(records[each], settings, record.now).rate)
    is_claude = provider_of(model, settings) is Provider.CLAUDE
    verdict = judge(
        _record_of(model, task_type, record, settings),
        records[claude],
        settings,
        record.now,
        estimate_claude if is_claude else estimate_local,
    )
    return Comparison(claude, verdict)


def _record_of(model: str, task_type: str, record: TaskRecord, settings: Settings) -> ModelRecord:
    key = record_key(model, task_type, settings)
    own = record.models.get(key, _NO_RECORD)
    if key not in CLAUDE_TIERS or own.everywhere.at is not None:
        return own
    shared = record.models.get(CLAUDE_RECORD, _NO_RECORD)
    tried_at = own.here.tried_at or shared.here.tried_at
    return replace(shared, here=replace(shared.here, tried_at=tried_at))
