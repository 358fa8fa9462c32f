"""Summarizes a replay: figures for a dry run, and tables of the differences."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from immunos_mcp.answers.replay import DifferingDecision, ModelShare, ReplayAnswer
from immunos_mcp.answers.settings import DryRunEffect
from immunos_mcp.domain import ChangedBy, Classification, Provider
from immunos_mcp.replay.crossings import crossings
from immunos_mcp.replay.engine import replay
from immunos_mcp.replay.shifts import Shifts

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.replay.engine import Replayed
    from immunos_mcp.replay.history import History, PastDecision, SettingsOf
    from immunos_mcp.rules.settings import Settings


def dry_run_summary(history: History, settings_of: SettingsOf) -> DryRunEffect:
    """Return the figures of a replay with other settings."""
    return _tallied(history, settings_of, most=0).figures()


def replay_summary(
    history: History,
    settings_of: SettingsOf,
    change: Callable[[Settings], Settings],
    most: int,
) -> ReplayAnswer:
    """Return the figures and differences of a replay with other settings.

    Args:
        history: the logged past.
        settings_of: the settings to decide with.
        change: applies the changes to the current settings, for sessions without a decision.
        most: the maximum number of differing decisions to list.
    """

    def compared(last: PastDecision | None) -> tuple[Settings, Settings]:
        if last is None:
            return history.current, change(history.current)
        changed = settings_of(last.policy_id, last.folder, last.setting_folders)
        return history.settings_of(last.policy_id), changed

    tally = _tallied(history, settings_of, most)
    figures = tally.figures()
    return ReplayAnswer(
        decisions=figures.decisions,
        changed=figures.changed,
        moved_to_ollama=figures.moved_to_ollama,
        moved_to_claude=figures.moved_to_claude,
        kept_tokens=figures.kept_tokens,
        spent_tokens=figures.spent_tokens,
        models=tally.shares(),
        crossings=tuple(crossings(history, compared, tally.last_decisions, tally.shifts.moves)),
        differing=tuple(tally.differing),
    )


class _Tally:
    """Counts of replayed decisions, and the first ones that differ.

    Attributes:
        shifts: the tokens moved between providers.
        last_decisions: each session's last decision.
        differing: the first decisions that would have chosen another model.
    """

    def __init__(self, shifts: Shifts, most: int) -> None:
        self.shifts = shifts
        self.last_decisions: dict[int, PastDecision] = {}
        self.differing: list[DifferingDecision] = []
        self._most = most
        self._models: Counter[tuple[str, str]] = Counter()
        self._moved: Counter[Provider] = Counter()

    def add(self, replayed: Replayed) -> None:
        past, _case, _total, choice = replayed
        self.last_decisions[past.session_id] = past
        model = _logged_model(past)
        self._models[model, choice.model] += 1
        if choice.model == model:
            return
        if choice.provider != past.provider:
            self._moved[choice.provider] += 1
        if len(self.differing) < self._most:
            classification = Classification(past.classification)
            self.differing.append(
                DifferingDecision(
                    past.decision_id,
                    past.task_type,
                    classification,
                    model,
                    choice.model,
                    choice.reason,
                )
            )

    def figures(self) -> DryRunEffect:
        changed = (count for (before, after), count in self._models.items() if before != after)
        return DryRunEffect(
            self._models.total(),
            sum(changed),
            self._moved[Provider.OLLAMA],
            self._moved[Provider.CLAUDE],
            self.shifts.kept_tokens,
            self.shifts.spent_tokens,
        )

    def shares(self) -> dict[str, ModelShare]:
        before, after = Counter[str](), Counter[str]()
        for (was, would), count in self._models.items():
            before[was] += count
            after[would] += count
        models = sorted({*before, *after})
        return {model: ModelShare(before[model], after[model]) for model in models}


def _tallied(history: History, settings_of: SettingsOf, most: int) -> _Tally:
    shifts = Shifts(history)
    tally = _Tally(shifts, most)
    for replayed in replay(history, settings_of, shifts):
        tally.add(replayed)
    return tally


def _logged_model(past: PastDecision) -> str:
    # Early ledgers did not store the engine that changed a choice, so compare the table's choice.
    if past.engine_id is None and past.changed_by == ChangedBy.AVAILABILITY:
        return past.table_model or past.model
    return past.model
