"""Presets state their date and source, and older models and tables are known as such."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from immunos_mcp.assistants import ages
from immunos_mcp.rules import derived_prices
from immunos_mcp.rules.presets import (
    OLD_FAMILIES,
    OUTDATED_AFTER,
    PRESETS,
    old_family,
    presets_checked,
)
from immunos_mcp.rules.settings import Settings

REPOSITORY = Path(__file__).parents[3]


def test_every_preset_of_today_has_a_date_and_a_source_and_no_old_model() -> None:
    for name, preset in PRESETS.items():
        is_today = name != "default"
        assert (preset.checked is not None, preset.source is not None) == (is_today, is_today)
        assert all((old_family(model) is None) is is_today for model in preset.models)


def test_the_guide_has_the_presets_as_they_are() -> None:
    guide = (REPOSITORY / "docs" / "guides" / "delegating.md").read_text(encoding="utf-8")
    guide = " ".join(guide.split())
    for name, preset in PRESETS.items():
        if preset.least_memory is not None:
            row = f"| `{name}` | `{preset.code}` | `{preset.short_tasks}` | from {preset.least_memory} GB |"
            assert row in guide
            assert preset.code == preset.reasoning
            assert f"checked on {preset.checked}" in guide


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("qwen2.5-coder:7b", "qwen2.5-coder"),
        ("qwen2.5:1.5b", "qwen2.5"),
        ("ollama/DeepSeek-R1:14b", "deepseek-r1"),
        ("hf.co/publisher/qwen2.5-coder-7b-instruct-q4_k_m.gguf", "qwen2.5-coder"),
        ("mistral-7b-instruct.gguf", "mistral"),
        ("codellama", "codellama"),
        ("gemma:latest", "gemma"),
    ],
)
def test_a_model_of_an_older_family_is_known_under_any_name(model: str, family: str) -> None:
    assert old_family(model) == OLD_FAMILIES[family]


@pytest.mark.parametrize(
    "model",
    ["mistral-small:24b", "gemma4:e4b", "gemma-4-e2b-it.gguf", "qwen3-coder-next", "qwen3.5:4b"],
)
def test_a_family_with_a_similar_name_is_another_one(model: str) -> None:
    assert old_family(model) is None


def test_a_table_is_reported_from_half_a_year_on() -> None:
    last = presets_checked() + OUTDATED_AFTER
    assert "presets" not in {each.check for each in ages.old_tables(last)}
    late = {each.check: each for each in ages.old_tables(last + timedelta(days=1))}
    assert f"{presets_checked()}" in late["presets"].seen
    assert late["presets"].remedy is not None
    last = derived_prices.released() + OUTDATED_AFTER
    assert [each.check for each in ages.old_tables(last + timedelta(days=1))] == ["prices"]
    assert list(ages.old_tables(last)) == []


def test_configured_models_with_successors_are_named_once_and_others_not() -> None:
    (finding,) = ages.old_models(Settings())
    assert finding.seen.count("qwen2.5-coder:7b (2024-09, now qwen3.5") == 1
    assert finding.seen.count("deepseek-r1:14b") == 1
    new = Settings(task_mappings={"debug": "qwen3.8:27b"}, default_local_model="qwen3.5:9b")
    assert list(ages.old_models(new)) == []
