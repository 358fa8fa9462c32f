"""The small price table gives the prices of the one that reports use."""

from __future__ import annotations

from datetime import UTC, datetime

from immunos_mcp.reports import prices
from immunos_mcp.reports.price_table import price_table
from immunos_mcp.rules import derived_prices

NOW = datetime(2026, 11, 28, tzinfo=UTC)
EARLIER = datetime(2025, 6, 1, tzinfo=UTC)
SPELLINGS = ("{}[1m]", "{}-20251211", "x{}", "{}-99", "us.anthropic.{}-v1:0", "anthropic/{}")


def test_the_table_is_up_to_date() -> None:
    written = derived_prices.FILE.read_text(encoding="utf-8")
    assert written == price_table(derived_prices.released())


def test_every_model_has_the_same_price_in_both_tables() -> None:
    claude, *others = prices.MAKERS
    cases = [(model.id, NOW, 0) for maker in others for model in maker.models]
    for model in claude.models:
        cases += [(spelling.format(model.id), NOW, 0) for spelling in SPELLINGS]
        cases += [(model.id, at, over) for at in (NOW, EARLIER) for over in (0, 200_000)]
    cases += [(name, NOW, 0) for name in ("", "claude", "qwen2.5-coder:7b", "Claude-Sonnet-4-5")]
    reports = prices.list_prices(NOW)
    assert derived_prices.long_inputs() == reports.long_inputs
    assert [each for each in cases if derived_prices.find(*each) != reports.find(*each)] == []
