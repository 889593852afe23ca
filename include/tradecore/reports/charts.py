"""The charts of a session report: equity with its drawdown, and candles with the book's entries (svg.py draws)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tradecore.report_model import EquityPoint, NameChart
from tradecore.reports.formats import percent, usd
from tradecore.reports.svg import BUY, CARD, GAIN, LINE, LOSS, MUTED, SELL, date_axis, panels, write_svg

Floats = npt.NDArray[np.float64]

MAX_CURVE_POINTS = 600


def equity_chart(points: Sequence[EquityPoint], returns_drawdown: Floats, *, width: int, height: int) -> str:
    """Draw equity above its drawdown, on sessions in order.

    Parameters: points [n], the curve; returns_drawdown [n], positive fractions below the running peak (of the
    time-weighted index, so that a deposit is no recovery); width and height in CSS pixels. Returns an `<svg>`.
    """
    equity = np.array([float(point.equity_usd) for point in points])
    keep = _thin(equity, returns_drawdown)
    x = np.arange(len(points), dtype=np.float64)[keep]
    figure, (top, bottom) = panels(width, height, (3.0, 1.0))
    first = equity[0]
    top.axhline(first, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    top.fill_between(x, equity[keep], first, color=LINE, alpha=0.10, linewidth=0)
    top.plot(x, equity[keep], color=LINE, linewidth=1.6, solid_joinstyle="round")
    top.plot(x[-1:], equity[-1:], marker="o", markersize=4.5, color=LINE)
    low, high = float(equity.min()), float(equity.max())
    spread = max(high - low, 0.002 * high)
    top.set_ylim(low - 0.08 * spread, high + 0.12 * spread)
    top.yaxis.set_major_locator(MaxNLocator(5))
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_usd(value, spread)))
    bottom.fill_between(x, -returns_drawdown[keep], 0.0, color=LOSS, alpha=0.25, linewidth=0)
    bottom.plot(x, -returns_drawdown[keep], color=LOSS, linewidth=1.0)
    bottom.set_ylim(-max(float(returns_drawdown.max()) * 1.15, 0.005), 0.0)
    bottom.yaxis.set_major_locator(MaxNLocator(2, min_n_ticks=2))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 1)))
    date_axis(bottom, [point.session_date for point in points], wanted=max(3, width // 110))
    margin = max(0.5, 0.01 * len(points))
    top.set_xlim(-margin, len(points) - 1 + margin)
    label = (
        f"Equity from {points[0].session_date} to {points[-1].session_date}: {usd(points[0].equity_usd, 0)} to "
        f"{usd(points[-1].equity_usd, 0)}; deepest drawdown {percent(float(returns_drawdown.max()))}"
    )
    return write_svg(figure, f"equity{width}", label)


def candle_chart(chart: NameChart, *, width: int, height: int) -> str:
    """Draw candles with volume and the book's entries, prices in the units of the last bar.

    Rising bars are hollow and falling ones filled, buys point up and sells down: readable without colour.
    Raises ValueError for a name without bars.
    """
    if not chart.candles:
        raise ValueError(f"{chart.symbol}: no bars to draw")
    scale = np.array([bar.adj_factor for bar in chart.candles]) / chart.candles[-1].adj_factor
    opens, highs, lows, closes = (
        np.array([float(getattr(bar, name)) for bar in chart.candles]) * scale
        for name in ("open_usd", "high_usd", "low_usd", "close_usd")
    )
    volume = np.array([bar.volume for bar in chart.candles]) / scale
    figure, (top, bottom) = panels(width, height, (4.0, 1.0))
    x = np.arange(len(closes), dtype=np.float64)
    rising = closes >= opens
    span = float(highs.max() - lows.min()) or 0.01 * float(highs.max())
    thinnest = 0.004 * span
    for mask, colour, fill in ((rising, GAIN, CARD), (~rising, LOSS, LOSS)):
        if mask.any():
            _sticks(top, x[mask], lows[mask], highs[mask], colour)
            body_low, body_high = np.minimum(opens, closes)[mask], np.maximum(opens, closes)[mask]
            _boxes(top, x[mask], body_low, np.maximum(body_high, body_low + thinnest), edge=colour, face=fill)
    _boxes(bottom, x, np.zeros_like(volume), volume, edge="none", face=MUTED)
    _entries(top, chart, scale, lows, highs, 0.045 * span)
    top.set_ylim(float(lows.min()) - 0.12 * span, float(highs.max()) + 0.12 * span)
    top.yaxis.set_major_locator(MaxNLocator(5))
    places = 2 if span < 5 else 0 if span > 40 else 1
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.{places}f}"))
    bottom.set_ylim(0.0, max(float(volume.max()) * 1.05, 1.0))
    bottom.yaxis.set_major_locator(MaxNLocator(1))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short_count(value)))
    date_axis(bottom, [bar.session_date for bar in chart.candles], wanted=4)
    top.set_xlim(-1.0, max(len(closes), 20))
    label = (
        f"{chart.symbol}: {len(closes)} bars to {chart.candles[-1].session_date}, last close "
        f"{usd(chart.candles[-1].close_usd)}, {len(chart.entries)} fills marked"
    )
    return write_svg(figure, f"candles-{chart.symbol}", label)


def _entries(axis: Any, chart: NameChart, scale: Floats, lows: Floats, highs: Floats, gap: float) -> None:
    """Mark fills: buys below their bar, pointing up; sells above it, pointing down; a tick at the price paid."""
    place = {bar.bar_end_at: index for index, bar in enumerate(chart.candles)}
    for entry in chart.entries:
        index = place.get(entry.bar_end_at)
        if index is None:
            continue
        buys = entry.qty_shares > 0
        level = lows[index] - gap if buys else highs[index] + gap
        price = float(entry.price_usd) * scale[index]
        colour = BUY if buys else SELL
        axis.plot([index], [level], marker="^" if buys else "v", markersize=7, color=colour, markeredgewidth=0)
        axis.plot([index - 0.75, index + 0.75], [price, price], color=colour, linewidth=1.4)


def _sticks(axis: Any, x: Floats, lows: Floats, highs: Floats, colour: str) -> None:
    """Draw all wicks as one line with gaps: one path instead of sixty."""
    gaps = np.full_like(x, np.nan)
    axis.plot(
        np.column_stack([x, x, gaps]).ravel(),
        np.column_stack([lows, highs, gaps]).ravel(),
        color=colour,
        linewidth=1.0,
        solid_capstyle="butt",
    )


def _boxes(axis: Any, x: Floats, low: Floats, high: Floats, *, edge: str, face: str) -> None:
    """Draw all bodies as one compound path."""
    half = 0.32
    corners = np.stack(
        [
            np.column_stack([x - half, low]),
            np.column_stack([x + half, low]),
            np.column_stack([x + half, high]),
            np.column_stack([x - half, high]),
            np.column_stack([x - half, low]),
        ],
        axis=1,
    )
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(x))
    # add_patch would measure every corner for limits that are set by hand
    axis.add_artist(
        PathPatch(Path(corners.reshape(-1, 2), codes), edgecolor=edge, facecolor=face, linewidth=0.9, zorder=3)
    )


def _thin(equity: Floats, drawdown: Floats) -> npt.NDArray[np.int64]:
    """Return the places to draw: all, or of each bucket its first, highest, lowest and deepest."""
    n = len(equity)
    if n <= MAX_CURVE_POINTS:
        return np.arange(n)
    buckets = np.array_split(np.arange(n), MAX_CURVE_POINTS // 4)
    picks = {0, n - 1}
    for bucket in buckets:
        picks |= {int(bucket[0]), *(int(bucket[k]) for k in (equity[bucket].argmax(), equity[bucket].argmin()))}
        picks.add(int(bucket[drawdown[bucket].argmax()]))
    return np.array(sorted(picks))


def _short_usd(value: float, spread: float) -> str:
    if spread >= 5_000_000:
        return f"${value / 1e6:,.1f}M"
    if spread >= 4_000:
        return f"${value / 1e3:,.0f}k"
    return f"${value / 1e3:,.1f}k" if spread >= 400 else usd(Decimal(str(round(value, 2))), 0)


def _short_count(value: float) -> str:
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:,.0f}{suffix}"
    return f"{value:.0f}"
