"""Which preset is proposed for a machine, and which models are left to install."""

from __future__ import annotations

import pytest

from immunos_mcp.answers.setup import PresetProposal, PresetReason
from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.rules.proposal import GIGABYTE, SMALLEST_MEMORY, propose
from immunos_mcp.rules.setting_changes import PRESETS, apply, preset
from immunos_mcp.rules.settings import Settings

DEFAULT = Settings()
NOTHING = Engine(EngineState.UP)
PLENTY = 64 * GIGABYTE


def engine(*models: str) -> Engine:
    return Engine(EngineState.UP, models={model: LocalModel(model) for model in models})


def test_every_preset_but_the_default_can_be_proposed_the_largest_first() -> None:
    assert set(SMALLEST_MEMORY) == set(PRESETS) - {"default"}
    assert sorted(SMALLEST_MEMORY.values(), reverse=True) == list(SMALLEST_MEMORY.values())


@pytest.mark.parametrize(
    ("gigabytes", "expected"),
    [(11.0, "8gb"), (15.4, "8gb"), (20, "16gb"), (23.5, "16gb"), (31, "24gb"), (40, "32gb")],
)
def test_the_largest_preset_that_fits_is_proposed(gigabytes: float, expected: str) -> None:
    proposal = propose(int(gigabytes * GIGABYTE), NOTHING, DEFAULT)
    models = tuple(dict.fromkeys(PRESETS[expected]))
    assert proposal == PresetProposal(PresetReason.FITS_MEMORY, expected, models)


@pytest.mark.parametrize("least", SMALLEST_MEMORY.values())
def test_a_byte_less_than_a_preset_needs_is_too_little_for_it(least: int) -> None:
    fits, misses = (
        propose(least * GIGABYTE - less, NOTHING, DEFAULT).preset or "none" for less in (0, 1)
    )
    order = [*SMALLEST_MEMORY, "none"]
    assert order.index(misses) == order.index(fits) + 1


def test_only_models_that_are_not_installed_are_left_to_install() -> None:
    proposal = propose(PLENTY, engine("gemma4:e2b"), DEFAULT)
    assert proposal == PresetProposal(PresetReason.FITS_MEMORY, "32gb", ("gemma4:31b",))


def test_an_engine_that_is_down_has_no_models() -> None:
    down = Engine(EngineState.DOWN)
    assert propose(PLENTY, down, DEFAULT).pull == ("gemma4:31b", "gemma4:e2b")


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        (None, PresetReason.MEMORY_UNKNOWN),
        (8 * GIGABYTE, PresetReason.MEMORY_TOO_SMALL),
    ],
)
def test_where_nothing_fits_nothing_is_proposed(memory: int | None, reason: PresetReason) -> None:
    assert propose(memory, NOTHING, DEFAULT) == PresetProposal(reason)


def test_models_that_are_all_installed_stay() -> None:
    installed = engine("qwen2.5-coder:7b", "deepseek-r1:14b", "qwen2.5:1.5b")
    assert propose(PLENTY, installed, DEFAULT) == PresetProposal(PresetReason.MODELS_INSTALLED)


def test_chosen_models_stay_and_those_missing_are_left_to_install() -> None:
    settings = apply(DEFAULT, preset("16gb"))
    proposal = propose(PLENTY, engine("gemma4:e4b"), settings)
    assert proposal == PresetProposal(PresetReason.MODELS_CHOSEN, pull=("gemma4:e2b",))


@pytest.mark.parametrize(
    "change",
    [{"default_local_model": "m:1"}, {"task_mappings": {"debug": "m:1"}}],
)
def test_one_chosen_model_is_enough_to_leave_the_others(change: dict[str, str]) -> None:
    assert propose(PLENTY, NOTHING, apply(DEFAULT, change)).reason is PresetReason.MODELS_CHOSEN


def test_models_that_run_elsewhere_and_claude_are_not_installed() -> None:
    change = {"task_mappings": {"debug": "big:cloud", "review": "claude-sonnet-4.5", "x": "m:1"}}
    pull = propose(PLENTY, NOTHING, apply(Settings(task_mappings={}), change)).pull
    assert pull == ("m:1", DEFAULT.default_local_model)
