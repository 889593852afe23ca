"""The page of a sweep: the heat map of two of its parameters, and its best. One file, no network, no script."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

TEXT = "#010203"  # a stand-in that becomes the page's own colour of text
POINTS = 72.0
MOST_LABELS = 14
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } p { margin: 0.3rem 0 1rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; text-align: right; }
td { border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
.scroll { overflow-x: auto; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Means of a figure over the cells of one axis [x] or two [y, x]; NaN where there is no result."""

    metric: str
    x_name: str
    y_name: str
    x_labels: tuple[str, ...]
    y_labels: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    n_sets: int


def render(record: Mapping[str, Any], heat: Heat, best: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of a sweep: `record` as storage has it, its heat map, and its stored best."""
    title = f"Sweep {record['sweep_id']}: {record['strategy']}"
    words = (
        f"{heat.n_sets:,} results of {record['n_sets']:,} sets ({record['sample']}, {record['engine']}), "
        f"{record['first_session']} to {record['last_session']}. Mean {heat.metric} of each cell."
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(words)}</p>{heat_chart(heat)}{_table(record, best)}</body></html>\n"
    )


def heat_chart(heat: Heat, *, width: int = 1040, height: int = 520) -> str:
    """Draw a heat map, or the curve of a single axis, as an inline SVG; same data, same bytes."""
    figure = Figure(figsize=(width / POINTS, height / POINTS), dpi=POINTS)
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    figure.patch.set_visible(False)
    axis.patch.set_visible(False)
    if heat.y_name:
        masked = np.ma.masked_invalid(heat.mean)
        mesh = axis.pcolormesh(masked, cmap="viridis", edgecolors="none")
        bar = figure.colorbar(mesh, ax=axis)
        bar.ax.tick_params(labelcolor=TEXT, color=TEXT, labelsize=11)
        bar.outline.set_visible(False)
        axis.set_ylabel(heat.y_name, color=TEXT, fontsize=12)
        _ticks(axis.set_yticks, heat.y_labels, 0.5)
        _ticks(axis.set_xticks, heat.x_labels, 0.5)
    else:
        axis.plot(np.arange(heat.mean.size), heat.mean, marker="o", markersize=4, linewidth=1.6)
        axis.set_ylabel(heat.metric, color=TEXT, fontsize=12)
        _ticks(axis.set_xticks, heat.x_labels, 0.0)
    axis.set_xlabel(heat.x_name, color=TEXT, fontsize=12)
    axis.tick_params(labelcolor=TEXT, color=TEXT, labelsize=11)
    for side in axis.spines.values():
        side.set_visible(False)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sweep"}):
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", metadata=metadata, bbox_inches="tight", transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :].replace(TEXT, "currentColor").strip()


def _ticks(put: Any, labels: Sequence[str], shift: float) -> None:
    step = max(1, -(-len(labels) // MOST_LABELS))
    places = list(range(0, len(labels), step))
    put([k + shift for k in places], [labels[k] for k in places], parse_math=False)  # a $ is a $


def _table(record: Mapping[str, Any], best: Sequence[Mapping[str, Any]]) -> str:
    """Return the best as a table, each figure as the sweep and as the fold has it."""
    if not best:
        return "<p>The best have not been folded yet.</p>"
    names = list(best[0]["params"])
    figures = list(dict.fromkeys((record["metric"], "total_return", "sharpe", "max_drawdown", "n_trades")))
    first = "".join(f"<th>{escape(name)}</th>" for name in names)
    second = "".join(f"<th>{escape(f)}, {escape(record['engine'])}</th><th>{escape(f)}, fold</th>" for f in figures)
    rows = []
    for line in best:
        cells = "".join(f"<td>{escape(_cell(line['params'][name]))}</td>" for name in names)
        cells += "".join(f"<td>{_cell(line['swept'][f])}</td><td>{_cell(line['folded'][f])}</td>" for f in figures)
        rows.append(f"<tr><td>{line['rank']}</td>{cells}</tr>")
    head = f"<tr><th>rank</th>{first}{second}</tr>"
    return f'<h2>The best</h2><div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
