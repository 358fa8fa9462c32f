"""The page's colours can be told from their ground, in both themes (WCAG 2.2, AA)."""

from __future__ import annotations

import re

import pytest

from immunos_mcp.reports.page.document import style_sheet

STYLE = style_sheet()
THEMES = [
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{([^}]*)\}", STYLE)
]


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_text_and_marks_stand_out_from_their_ground(theme: dict[str, str]) -> None:
    for ground in ("card", "ground"):
        for text in ("ink", "muted", "warning", "critical", "focus"):
            assert contrast(theme[text], theme[ground]) >= 4.5
        for mark in ("claude", "local", "limit"):
            assert contrast(theme[mark], theme[ground]) >= 3


def test_both_themes_have_all_colours_and_nothing_is_fetched() -> None:
    light, dark = THEMES
    assert light.keys() == dark.keys() >= set(re.findall(r"var\(--(\w+)\)", STYLE))
    assert "url(" not in STYLE
    assert "@import" not in STYLE
