"""A report's page: what its policy lets it do, and what becomes of text in it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from datetime import UTC, datetime

from msgspec.structs import replace

from immunos_mcp.answers.report import DecisionSum, ReportAnswer
from immunos_mcp.answers.status import BudgetStatus
from immunos_mcp.domain import WarningLevel
from immunos_mcp.ledger.report_figures import ReportFigures
from immunos_mcp.reports import prices
from immunos_mcp.reports.compose import compose
from immunos_mcp.reports.page.document import BEGINNING, page
from immunos_mcp.rules.settings import Settings

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def page_of(*decisions: DecisionSum) -> str:
    return page(report_of(*decisions))


def report_of(*decisions: DecisionSum) -> ReportAnswer:
    figures = ReportFigures(
        settings=Settings(),
        is_hourly=False,
        usage=(),
        decisions=decisions,
        records=(),
        records_left_out=0,
        priors={},
        sessions=(),
    )
    return compose(figures, None, prices.list_prices(NOW), NOW)


def test_the_policy_allows_the_pages_own_style_sheet_and_nothing_else() -> None:
    shown = page_of()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown)
    (style,) = re.findall(r"<style>(.*?)</style>", shown, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert html.unescape(policy) == (
        f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    )


def test_whatever_text_holds_is_shown_as_text() -> None:
    hostile = "<b onclick='x'>&\"{{ 7 * 7 }}\x1b\u202e"
    shown = page_of(DecisionSum(hostile, "claude", 1, 0, 0, changed_by=hostile))
    escaped = "&lt;b onclick=&#x27;x&#x27;&gt;&amp;&quot;{{ 7 * 7 }}??"
    assert shown.count(escaped) == 2
    assert "<b" not in shown.replace("<body", "").replace("<bdi", "")


def test_budgets_are_shown_with_their_levels_and_what_is_not_known() -> None:
    budgets = (
        BudgetStatus(
            "<daily>", "20 usd/day", WarningLevel.WARNING, 16.5, 82.5, True, None, NOW, NOW
        ),
        BudgetStatus("plan", "80 percent/7d", WarningLevel.NORMAL),
    )
    report = report_of(DecisionSum("task_critical", "claude", 1, 0, 0))
    assert "Budgets" not in page(report)
    shown = page(replace(report, budgets=budgets))
    (section,) = re.findall(r'<section id="budgets".*?</section>', shown, re.DOTALL)
    text = " ".join(re.sub(r"<[^>]*>", " ", section).split())
    assert "&lt;daily&gt; 20 usd/day 16.5+ 82.5% ▲ warning 2026-11-23 00:00 2026-11-23" in text
    assert "plan 80 percent/7d unknown - normal - -" in text
    assert '<a href="#budgets">' in shown


def test_line_breaks_of_the_templates_are_not_in_the_page() -> None:
    shown = page_of(DecisionSum("task_critical", "claude", 1, 0, 0))
    assert shown.startswith(BEGINNING + "<html ")
    without_style = re.sub(
        r"<style>.*?</style>", "", shown.removeprefix(BEGINNING), flags=re.DOTALL
    )
    assert without_style.index("\n") == len(without_style) - 1
