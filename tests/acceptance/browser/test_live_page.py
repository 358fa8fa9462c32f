"""The report as a server's live page, in a real browser. Deselected unless asked for: ``pytest -m browser``."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import wire

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("programs_start_at_once")]

USAGE = ("record", "--model", "claude-sonnet-4.5", "--input", "12345", "--output", "5")
WAIT = 20_000


@pytest.fixture
def token(home: Path) -> str:
    for _ in range(3):
        wire.run_json(home, *USAGE)
    wire.run_json(home, "route", "--task-type", "debug", "--classification", "routine")
    wire.run_json(home, "config", "set", "budgets=daily=20 usd/day; all=900000 tokens/month")
    wire.run_json(home, "person", "add", "ada")
    return wire.run_json(home, "token", "create", "ada")["token"]


@pytest.fixture
def server(home: Path, token: str) -> Generator[str]:
    assert token
    # What ends a forked program's launcher would not end the program in an orderly way.
    command = [*wire.AS_INSTALLED, "serve", "--http", "127.0.0.1:0"]
    with subprocess.Popen(
        command, env=wire.environment(home), stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        yield process.stderr.readline().split()[-1].removesuffix("/mcp")
        process.terminate()
        log = process.stderr.read()
        assert token not in log
        assert process.wait(wire.TIMEOUT_SECONDS) == 0


@pytest.fixture(params=[("light", 1200), ("dark", 320)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Generator[Page]:
    scheme, width = request.param
    opened = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    # It complains of each answer 401, which is what a page is that asks for a login.
    opened.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type in {"error", "warning"} and "401" not in message.text
            else None
        ),
    )
    yield opened
    opened.close()
    assert complaints == []


def check(page: Page) -> None:
    from axe_playwright_python.sync_playwright import Axe  # others do without it

    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.viewport_size
    assert width is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= width["width"]


def test_somebody_logs_in_by_keyboard_sees_what_changes_and_logs_out(
    page: Page, server: str, token: str, home: Path
) -> None:
    page.goto(server)
    check(page)
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for(timeout=WAIT)
    check(page)
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    page.get_by_text("Live", exact=True).wait_for(timeout=WAIT)
    assert page.url == f"{server}/report"
    check(page)
    page.get_by_text("37,050,").wait_for(timeout=WAIT)
    assert page.get_by_role("heading", name="Budgets").is_visible()

    details = page.locator("details").first
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    wire.run_json(home, *USAGE)
    page.get_by_text("49,400,").wait_for(timeout=WAIT)
    assert details.get_attribute("open") is not None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"

    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Your token").wait_for(timeout=WAIT)
    page.goto(f"{server}/report")
    assert page.get_by_label("Your token").is_visible()


def test_scripts_and_other_sites_do_not_get_the_token(
    browser: Browser, server: str, token: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server}/login")
    page.get_by_label("Your token").fill(token)
    page.keyboard.press("Enter")
    page.get_by_text("Live", exact=True).wait_for(timeout=WAIT)
    (cookie,) = context.cookies()
    assert cookie.get("httpOnly")
    assert cookie.get("sameSite") == "Strict"
    assert page.evaluate("document.cookie") == ""
    context.close()
