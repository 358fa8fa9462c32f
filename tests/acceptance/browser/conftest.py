"""The browser that pages are opened in."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Generator[Browser]:
    from playwright.sync_api import sync_playwright  # others do without it

    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program is not None, "no Chromium: apt-get install chromium, or set CHROMIUM"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield started
        started.close()
