"""Inline SVG, drawn by matplotlib and coloured by the page, so that one drawing serves light and dark.

matplotlib knows no CSS variables: a chart is drawn in stand-in colours, which are replaced in the text by
`var(--...)`. Text stays text. Nothing depends on clock, language or earlier charts: same data, same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date
from html import escape
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tradecore.reports.formats import MONTHS

# Stand-in colour -> CSS variable of the page.
_COLOURS = {
    "ink": ("#010203", "var(--ink-2)"),
    "grid": ("#010204", "var(--line)"),
    "line": ("#010205", "var(--accent)"),
    "loss": ("#010206", "var(--loss)"),
    "gain": ("#010207", "var(--gain)"),
    "muted": ("#010208", "var(--muted)"),
    "card": ("#010209", "var(--card)"),
    "buy": ("#01020a", "var(--accent)"),
    "sell": ("#01020b", "var(--sell)"),
    "second": ("#01020c", "var(--second)"),
}
INK, GRID, LINE, LOSS, GAIN, MUTED, CARD, BUY, SELL, SECOND = (stand_in for stand_in, _ in _COLOURS.values())
POINTS = 72.0


def panels(width: int, height: int, ratios: tuple[float, ...] = (1.0,)) -> tuple[Figure, list[Any]]:
    """Make a figure of panels above each other with a shared x axis, whose SVG units are CSS pixels.

    ratios: the panels' heights against each other. Values stand at the right, dates below the last panel.
    """
    figure = Figure(figsize=(width / POINTS, height / POINTS), dpi=POINTS)
    FigureCanvasSVG(figure)
    grid = {"height_ratios": ratios, "hspace": 0.08}
    axes = list(figure.subplots(len(ratios), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0])
    figure.subplots_adjust(left=0.012, right=1 - 66 / width, top=1 - 8 / height, bottom=24 / height)
    figure.patch.set_visible(False)
    for axis in axes:
        axis.patch.set_visible(False)
        axis.yaxis.tick_right()
        axis.tick_params(length=0, labelsize=11, labelcolor=INK, pad=5)
        axis.grid(axis="y", color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        for side in axis.spines.values():
            side.set_visible(False)
    axes[-1].spines["bottom"].set(visible=True, color=GRID, linewidth=0.8)
    return figure, axes


def date_axis(axis: Any, labels: Sequence[date], wanted: int) -> None:
    """Label the first session of months, quarters or years, whichever gives about `wanted` labels."""
    for months in (1, 2, 3, 6, 12, 24, 60):
        places = [
            index
            for index in range(1, len(labels))
            if _period(labels[index], months) != _period(labels[index - 1], months)
        ]
        if len(places) <= wanted:
            break
    if not places:
        places = [0] if len(labels) == 1 else [0, len(labels) - 1]
        texts = [f"{labels[i].day} {MONTHS[labels[i].month - 1]} {labels[i].year}" for i in places]
    elif months >= 12:
        texts = [str(labels[i].year) for i in places]
    else:
        years = [labels[i].year for i in places]
        texts = [
            MONTHS[labels[i].month - 1] + (f" {year}" if k == 0 or year != years[k - 1] else "")
            for k, (i, year) in enumerate(zip(places, years, strict=True))
        ]
    axis.set_xticks(places, texts)
    edge = {0: "left", len(labels) - 1: "right"}
    for place, tick in zip(places, axis.get_xticklabels(), strict=True):
        tick.set_horizontalalignment(edge.get(place, "center"))


def _period(label: date, months: int) -> int:
    return (label.year * 12 + label.month - 1) // months


def write_svg(figure: Figure, salt: str, label: str) -> str:
    """Write the figure as an inline SVG that takes its colours and font from the page."""
    out = io.StringIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": salt, "path.simplify": False}
    with matplotlib.rc_context(style):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Names of groups repeat from chart to chart; only hashed ids are referred to.
    text = re.sub(
        r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|[xy]tick|FillBetween\w*|PolyCollection)_\d+"', "", text
    )
    text = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", text)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)  # it would style the whole page
    text = re.sub(r"\s*<g/>|<defs>\s*</defs>", "", text)
    text = re.sub(r"<g>\s*</g>", "", text)
    text = re.sub(r">\s+<", "><", text).replace(' transform="rotate(-0 ', ' data-r="(')
    text = re.sub(r' data-r="[^"]*"', "", text)
    for stand_in, variable in _COLOURS.values():
        text = text.replace(stand_in, variable)
    opening = re.match(r"<svg[^>]*>", text)
    view = re.search(r'viewBox="[^"]*"', text)
    assert opening is not None  # savefig wrote an svg element with a viewBox
    assert view is not None
    name = escape(label, quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view[0]} role="img" '
        f'aria-label="{name}">'
    )
    return head + text[opening.end() :].strip()
