"""Whose tokens usage is: Claude's, the local engine's, or those of models that others host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import Provider
from immunos_mcp.rules.models import provider_of, provider_of_usage
from immunos_mcp.rules.settings import Settings

SETTINGS = Settings()

models = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-5.6",
        "gemini-3-pro-preview",
        "glm-5.3",
        "openai/gpt-oss-120b",
        "deepseek/deepseek-r1:free",
        "amazon.nova-premier-v1:0",
        "us.meta.llama3-3-70b-instruct-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
        "llama3",
    ],
)
def test_models_that_nothing_shows_to_be_local_are_hosted(model: str) -> None:
    assert provider_of_usage(model, SETTINGS) is Provider.HOSTED


@pytest.mark.parametrize(
    "model",
    ["qwen2.5-coder:7b", "hf.co/someone/model-GGUF:Q4_K_M", "gpt-oss:120b-cloud", "magnum-opus:7b"],
)
def test_models_with_an_engines_tag_are_local(model: str) -> None:
    assert provider_of_usage(model, SETTINGS) is Provider.OLLAMA


@pytest.mark.parametrize("model", ["fable", "claude-fable-5-2", "anthropic/claude-mythos-5.2"])
def test_claudes_newer_families_are_claudes(model: str) -> None:
    assert provider_of_usage(model, SETTINGS) is Provider.CLAUDE


def test_what_the_settings_name_or_the_engine_has_is_local_without_a_tag() -> None:
    mapped = Settings(task_mappings={"debug": "my-model,other"}, default_local_model="third")
    found = {
        model: provider_of_usage(model, mapped, {"llama3:latest"})
        for model in ("my-model", "other", "third", "llama3", "fourth")
    }
    assert found == {
        "my-model": Provider.OLLAMA,
        "other": Provider.OLLAMA,
        "third": Provider.OLLAMA,
        "llama3": Provider.OLLAMA,
        "fourth": Provider.HOSTED,
    }


@given(models)
def test_usage_is_claudes_exactly_where_a_task_would_be(model: str) -> None:
    is_claude = provider_of(model, SETTINGS) is Provider.CLAUDE
    assert (provider_of_usage(model, SETTINGS) is Provider.CLAUDE) == is_claude
    assert provider_of(model, SETTINGS) is not Provider.HOSTED
