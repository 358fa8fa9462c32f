"""A report's page in a real browser. Deselected unless asked for: ``pytest -m browser``.

It takes the dependency group ``browser`` and a Chromium on the PATH, or named by ``CHROMIUM``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import filled_ledgers
import pytest
import wire
from filled_ledgers import MODELS, MONDAY, NAMES, Contents, Row

from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("programs_start_at_once")]

DESKTOP, PHONE = (1200, 900), (360, 740)
STEPS = {"hours": timedelta(hours=1), "days": timedelta(days=1), "years": timedelta(days=30)}


def usage(number: int, passed: timedelta) -> Row:
    model, provider = MODELS[number % len(MODELS)]
    return {
        "message_id": f"message {number}",
        "measured_at": utc_text(MONDAY + passed),
        "model": model,
        "provider": provider.value,
        "input_tokens": 1000 * (number % 7),
        "output_tokens": 500 * (number % 11),
        "cache_creation_input_tokens": 100 * number,
        "cache_read_input_tokens": 10_000 * number,
    }


def contents(step: timedelta) -> Contents:
    sessions: list[Row] = [
        {
            "session_id": number,
            "name": NAMES[number % len(NAMES)],
            "started_at": utc_text(MONDAY + step * number),
            "ended_at": utc_text(MONDAY + step * (number + 1)),
            "end_reason": NAMES[-number % len(NAMES)],
            "claude_input_tokens": 12_000 * number,
        }
        for number in range(1, 25)
    ]
    decisions: list[Row] = [
        {
            "session_id": 1 + number % 20,
            "policy_id": 1,
            "decided_at": utc_text(MONDAY + step * number),
            "task_type": "debug",
            "classification": "routine",
            "session_tokens": 0,
            "model": "m",
            "provider": ("claude", "ollama")[number % 2],
            "reason": ("task_critical", "task_optimized", "default_complex")[number % 3],
            "warning_level": "normal",
            "outcome": ("success", "failure", None)[number % 3],
        }
        for number in range(30)
    ]
    records: list[Row] = [
        {
            "task_type": task_type,
            "model": model,
            "successes": 9,
            "failures": failures,
            "faded_successes": 8.5,
            "faded_failures": failures,
            "newest_at": utc_text(MONDAY),
        }
        for task_type in ("", "code_review", "x" * 64)
        for failures, model in enumerate(("claude", MODELS[-1][0]))
    ]
    return Contents(
        {
            "policy": [{"policy_id": 1, "settings": "{}", "first_used_at": utc_text(MONDAY)}],
            "session": sessions,
            "decision": decisions,
            "measured_usage": [usage(number, step * number) for number in range(40)],
            "record": records,
        }
    )


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Write a page by the command line, once for each step; return its address."""

    @cache
    def written(step: str) -> str:
        home = tmp_path_factory.mktemp("home")
        ledger, page = home / "ledger.db", home / "page.html"
        filled_ledgers.fill(ledger, contents(STEPS[step]) if step in STEPS else Contents())
        arguments = ("--db", str(ledger), "--format", "html", "--output", str(page))
        done = wire.run(home, "report", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return page.as_uri()

    return written


@pytest.fixture
def show(browser: Browser) -> Generator[Callable[..., Page]]:
    """Open pages that may neither load anything nor complain of anything."""
    requested: list[str] = []
    complaints: list[str] = []
    opened: list[Page] = []

    def shown(address: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Page:
        page = browser.new_page(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        opened.append(page)
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        assert requested.pop() == address
        return page

    yield shown
    for page in opened:
        page.close()
    assert (requested, complaints) == ([], [])


@pytest.fixture(params=[*STEPS, "nothing"])
def address(request: pytest.FixtureRequest, page_of: Callable[[str], str]) -> str:
    return page_of(request.param)


def unfold(page: Page) -> None:
    page.locator("details").evaluate_all("parts => parts.forEach(part => { part.open = true })")


def edges(parts: Locator, start: str, size: str) -> list[tuple[float, float]]:
    """Return where each part that is shown starts and how far it reaches, in one question."""
    boxes = parts.evaluate_all("parts => parts.map(part => part.getBoundingClientRect().toJSON())")
    return [(box[start], box[start] + box[size]) for box in boxes if box[size]]


@pytest.mark.parametrize(
    ("step", "size", "scheme"),
    [
        pytest.param("years", DESKTOP, "light", id="years on a light desktop"),
        pytest.param("years", PHONE, "dark", id="years on a dark phone"),
        pytest.param("nothing", DESKTOP, "dark", id="nothing on a dark desktop"),
        pytest.param("nothing", PHONE, "light", id="nothing on a light phone"),
    ],
)
def test_the_page_has_no_barriers(
    show: Callable[..., Page],
    page_of: Callable[[str], str],
    step: str,
    size: tuple[int, int],
    scheme: str,
) -> None:
    from axe_playwright_python.sync_playwright import Axe  # others do without it

    page = show(page_of(step), size, scheme)
    unfold(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_theme_follows_the_reader(show: Callable[..., Page], address: str) -> None:
    page = show(address, DESKTOP, "dark")
    assert background_lightness(page) < 128
    page.emulate_media(color_scheme="light")
    assert background_lightness(page) > 128


def background_lightness(page: Page) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[4:-1].split(",")) / 3


def test_the_page_never_scrolls_sideways(show: Callable[..., Page], address: str) -> None:
    page = show(address)
    unfold(page)
    for width in (320, 360, 768, 1200):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for left, right in edges(page.locator(".scroll"), "x", "width"):
            assert left >= 0
            assert right <= width


def test_the_tab_key_reaches_every_link_part_and_table(
    show: Callable[..., Page], page_of: Callable[[str], str]
) -> None:
    page = show(page_of("days"))
    named = (
        "element => element.getAttribute('href') || element.getAttribute('aria-labelledby')"
        " || element.tagName"
    )
    expected = page.evaluate(
        f"[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')]"
        f".filter(element => element.checkVisibility()).map({named})"
    )
    reached: list[str] = []
    while len(reached) < len(expected):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"({named})(document.activeElement)"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    assert reached == expected
    assert reached[0] == "#report"
    assert {"SUMMARY", "models-table", "decisions-table", "sessions-table"} <= set(reached)


def test_the_first_key_and_enter_skip_to_the_report(
    show: Callable[..., Page], page_of: Callable[[str], str]
) -> None:
    page = show(page_of("days"))
    page.keyboard.press("Tab")
    box = page.locator(".skip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("step", STEPS)
def test_charts_are_drawn_with_their_thresholds_and_told_in_words(
    show: Callable[..., Page],
    page_of: Callable[[str], str],
    step: str,
    size: tuple[int, int],
) -> None:
    page = show(page_of(step), size)
    charts = page.get_by_role("img").all()
    assert len(charts) == 2
    for chart, thresholds in zip(charts, (2, 3), strict=True):
        box = chart.bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 200
        assert "The numbers are in the table below" in (chart.get_attribute("aria-label") or "")
        bars = edges(chart.locator(".bar rect"), "y", "height")
        assert max(bottom - top for top, bottom in bars) > box["height"] / 4
        colours = chart.locator("path.threshold").evaluate_all(
            "lines => lines.map(line => getComputedStyle(line).stroke)"
        )
        assert len(colours) == len(set(colours)) == thresholds
        labels = edges(chart.locator(".axis.x text"), "x", "width")
        assert len(labels) > 1
        assert all(left[1] < right[0] for left, right in pairwise(labels))


def test_tables_have_captions_and_heads(
    show: Callable[..., Page], page_of: Callable[[str], str]
) -> None:
    page = show(page_of("days"))
    tables = page.locator("table").all()
    assert len(tables) == 9
    for table in tables:
        assert table.locator("caption").count() == 1
        assert table.locator("th:not([scope])").count() == 0
        rows = table.locator("tbody tr").count()
        assert rows == table.locator("tbody th[scope=row]").count() > 0
    assert page.locator("main, header, footer, nav[aria-label]").count() == 4
    assert page.locator("h1").count() == 1
