"""Bar charts with thresholds, as SVG that inherits its colours from the page. Pure.

pygal draws them; its style sheet and script are not used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

import pygal
from pygal.style import Style

from immunos_mcp.rules.formatting import compact

if TYPE_CHECKING:
    from collections.abc import Sequence

# pygal installs an import finder for its maps, of a kind that makes Python warn at each later import.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

_NAMESPACE = "http://www.w3.org/2000/svg"
_FONT_SIZE = 12


class Series(NamedTuple):
    """One series of values in a chart.

    Attributes:
        title: its name.
        values: one per label.
    """

    title: str
    values: Sequence[int]


class _BarsBelowLines(pygal.Bar):
    """Bars for the first series, and a horizontal line for each of the others."""

    bar_series = 1

    @property
    def _order(self) -> int:
        return self.bar_series

    def _plot(self) -> None:
        for serie in self.series[: self.bar_series]:
            self.bar(serie)
        for serie in self.series[self.bar_series :]:
            level = serie.values[0] or 0
            ends = [self.view((0, level)), self.view((1, level))]
            self.svg.line(self.svg.serie(serie)["plot"], ends, class_="threshold")


def bar_chart(
    described: str,
    labels: Sequence[str],
    series: Sequence[Series],
    thresholds: Sequence[int],
    size: tuple[int, int],
) -> str:
    """Return a chart as an SVG element that screen readers treat as one image.

    Args:
        described: a description of the chart.
        labels: below the bars, as many as fit.
        series: bars, side by side for each label.
        thresholds: one line across the chart for each.
        size: width and height; the chart keeps their ratio.
    """
    width, height = size
    chart = _BarsBelowLines(
        width=width,
        height=height,
        explicit_size=False,
        disable_xml_declaration=True,
        js=[],
        margin=2,
        margin_right=8,
        show_legend=False,
        style=Style(
            font_family="inherit", label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE
        ),
        value_formatter=compact,
        x_labels=list(labels),
        x_labels_major_every=_every(labels, width),
        show_minor_x_labels=False,
        truncate_label=-1,
        y_labels_major_every=1,
        min_scale=3,
        max_scale=6,
    )
    chart.bar_series = len(series)
    for each in series:
        chart.add(each.title, each.values)
    for threshold in thresholds:
        chart.add("", [threshold, *[None] * (len(labels) - 1)])
    return _image(chart.render(is_unicode=True), described, series, labels)


def _every(labels: Sequence[str], width: int) -> int:
    longest = max((len(label) for label in labels), default=1)
    room = max(1, int((width - 60) / ((longest + 2) * _FONT_SIZE * 0.6)))
    return -(-len(labels) // room) or 1


def _image(drawn: str, described: str, series: Sequence[Series], labels: Sequence[str]) -> str:
    ET.register_namespace("", _NAMESPACE)
    root = ET.fromstring(drawn)  # noqa: S314  # drawn above, of numbers and dates
    root.attrib.pop("id")
    root.set("role", "img")
    root.set("aria-label", described)
    for parent in list(root.iter()):
        for child in list(parent):
            name = child.tag.removeprefix(f"{{{_NAMESPACE}}}")
            classes = child.get("class", "").split()
            # Elements for pygal's script, and titles that repeat what is drawn.
            if name in {"defs", "title", "desc"} or "tooltip-overlay" in classes:
                parent.remove(child)
    plot = root.find(f".//{{{_NAMESPACE}}}g[@class='plot']")
    assert plot is not None
    for place, each in enumerate(series):
        bars = plot.findall(
            f"./{{{_NAMESPACE}}}g[@class='series serie-{place} color-{place}']//*[@class='bar']"
        )
        for bar, label, value in zip(bars, labels, each.values, strict=True):
            title = ET.SubElement(bar, f"{{{_NAMESPACE}}}title")
            title.text = f"{label}: {each.title} {value:,}"
    return ET.tostring(root, encoding="unicode")
