"""Which preset is proposed for a machine, and which models are left to install."""

from __future__ import annotations

import pytest

from immunos_mcp.answers.setup import PresetProposal, PresetReason
from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.rules.presets import PRESETS, preset
from immunos_mcp.rules.proposal import GIGABYTE, presets_that_fit, propose
from immunos_mcp.rules.setting_changes import apply
from immunos_mcp.rules.settings import Settings

DEFAULT = Settings()
NOTHING = Engine(EngineState.UP)
PLENTY = 64 * GIGABYTE


def engine(*models: str) -> Engine:
    return Engine(EngineState.UP, models={model: LocalModel(model) for model in models})


def test_every_preset_but_the_default_fits_a_large_machine_the_largest_first() -> None:
    assert presets_that_fit(PLENTY) == ("48gb", "32gb", "24gb", "16gb", "8gb")
    assert {*presets_that_fit(PLENTY), "default"} == set(PRESETS)


@pytest.mark.parametrize(
    ("gigabytes", "expected"),
    [
        (11.0, ("8gb",)),
        (15.4, ("8gb",)),
        (20, ("16gb", "8gb")),
        (23.5, ("16gb", "8gb")),
        (31, ("24gb", "16gb", "8gb")),
        (40, ("32gb", "24gb", "16gb", "8gb")),
        (62.5, ("48gb", "32gb", "24gb", "16gb", "8gb")),
    ],
)
def test_the_largest_preset_that_fits_is_proposed_with_the_smaller_ones(
    gigabytes: float, expected: tuple[str, ...]
) -> None:
    proposal = propose(int(gigabytes * GIGABYTE), NOTHING, DEFAULT)
    largest, *smaller = expected
    models = tuple(dict.fromkeys(PRESETS[largest].models))
    assert proposal == PresetProposal(PresetReason.FITS_MEMORY, largest, models, tuple(smaller))


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"default"}))
def test_a_byte_less_than_a_preset_needs_is_too_little_for_it(name: str) -> None:
    least = (PRESETS[name].least_memory or 0) * GIGABYTE
    assert name in presets_that_fit(least)
    assert name not in presets_that_fit(least - 1)


def test_only_models_that_are_not_installed_are_left_to_install() -> None:
    proposal = propose(PLENTY, engine("qwen3.5:9b"), DEFAULT)
    assert (proposal.preset, proposal.pull) == ("48gb", ("qwen3.8:27b-q8_0",))


def test_an_engine_that_is_down_has_no_models() -> None:
    down = Engine(EngineState.DOWN)
    assert propose(PLENTY, down, DEFAULT).pull == ("qwen3.8:27b-q8_0", "qwen3.5:9b")


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
    proposal = propose(PLENTY, engine("qwen3.5:9b"), settings)
    assert proposal == PresetProposal(PresetReason.MODELS_CHOSEN, pull=("qwen3.5:4b",))


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
