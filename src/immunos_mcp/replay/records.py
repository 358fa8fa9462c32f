"""The track record of each model at any point of a history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from immunos_mcp.domain import Outcome
from immunos_mcp.rules import track_record
from immunos_mcp.rules.models import shared_record_key
from immunos_mcp.rules.track_record import Evidence, ModelRecord, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.replay.history import PastOutcome
    from immunos_mcp.rules.settings import Settings

_NO_EVIDENCE = Evidence()


class _ModelRecords(Mapping[str, ModelRecord]):
    """A view of the records for one task type; each is built on lookup."""

    def __init__(self, here: dict[str, Evidence], everywhere: dict[str, Evidence]) -> None:
        self._here = here
        self._everywhere = everywhere

    def __getitem__(self, model: str) -> ModelRecord:
        here, everywhere = self._here.get(model), self._everywhere.get(model)
        if here is None and everywhere is None:
            raise KeyError(model)
        return ModelRecord(here or _NO_EVIDENCE, everywhere or _NO_EVIDENCE)

    def __iter__(self) -> Iterator[str]:
        return iter({*self._here, *self._everywhere})

    def __len__(self) -> int:
        return len({*self._here, *self._everywhere})


class RecordsSoFar:
    """The track records of all models, updated outcome by outcome."""

    def __init__(self, evidence: Mapping[tuple[str, str], Evidence]) -> None:
        """Start from evidence by task type (empty: all task types) and model."""
        self._by_task_type: dict[str, dict[str, Evidence]] = {}
        for (task_type, model), known in evidence.items():
            self._by_task_type.setdefault(task_type, {})[model] = known
        self._everywhere = self._by_task_type.setdefault("", {})

    def evidence(self) -> dict[tuple[str, str], Evidence]:
        """Return the current evidence, by task type (empty: all task types) and model."""
        return {
            (task_type, model): known
            for task_type, models in self._by_task_type.items()
            for model, known in models.items()
        }

    def learn(self, past: PastOutcome, settings: Settings) -> None:
        """Add an outcome; one that corrects an earlier outcome replaces it."""
        model = past.model or shared_record_key(past.decided_model, settings)
        succeeded = past.outcome == Outcome.SUCCESS
        at = datetime.fromisoformat(past.known_at)
        for kind in (self._by_task_type.setdefault(past.task_type, {}), self._everywhere):
            known = kind.get(model, _NO_EVIDENCE)
            if past.corrected_at is not None:
                earlier = datetime.fromisoformat(past.corrected_at)
                known = track_record.take_back(
                    known, succeeded=not succeeded, at=earlier, settings=settings
                )
            kind[model] = track_record.add(known, succeeded=succeeded, at=at, settings=settings)

    def remember_trial(self, task_type: str, model: str, at: datetime) -> None:
        """Record that a model got a trial at a task type."""
        here = self._by_task_type.setdefault(task_type, {})
        here[model] = track_record.tried(here.get(model, _NO_EVIDENCE), at)

    def at(self, task_type: str, now: datetime) -> TaskRecord:
        """Return the record for a decision on a task type at a given time."""
        return TaskRecord(
            _ModelRecords(self._by_task_type.get(task_type, {}), self._everywhere), now
        )
