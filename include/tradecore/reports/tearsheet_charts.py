"""The charts of a tear sheet: numbers in, one inline SVG out (svg.py draws, the page gives the colours)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tradecore.reports.formats import percent
from tradecore.reports.metrics import Floats
from tradecore.reports.svg import GAIN, INK, LINE, LOSS, MUTED, SECOND, date_axis, panels, write_svg

MAX_POINTS = 600
SECONDS = (SECOND, GAIN, LOSS)
COLOURS = (LINE, GAIN, LOSS, SECOND, INK)


def growth_chart(
    days: Sequence[date],
    curves: Sequence[tuple[str, Floats]],
    drawdown: Floats,
    halted: npt.NDArray[np.bool_],
    *,
    width: int,
    height: int,
    log: bool,
) -> str:
    """Draw growth of 1 (the first curve on top of the others, named at its end) above the first one's drawdown; on a
    logarithmic scale without the drawdown.

    Parameters: curves of [T + 1] values each; drawdown [T + 1], positive; halted [T], shaded where true; days [T].
    """
    figure, axes = panels(width, height, (1.0,) if log else (3.0, 1.0))
    top, bottom = axes[0], axes[-1]
    shown = [days[0], *days]
    for k, (_, values) in reversed(list(enumerate(curves))):
        colour = LINE if k == 0 else SECONDS[(k - 1) % len(SECONDS)]
        keep = thin(values)
        top.plot(keep, values[keep], color=colour, linewidth=1.7 if k == 0 else 1.2, solid_joinstyle="round")
    top.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    every = np.concatenate([values for _, values in curves])
    _growth_scale(top, float(every.min()), float(every.max()), log)
    for begin, end in _runs(halted):
        for axis in axes:
            axis.axvspan(begin, end, color=MUTED, alpha=0.22, linewidth=0)
    if not log:
        _underwater(bottom, drawdown)
    date_axis(bottom, shown, wanted=max(3, width // 100))
    top.set_xlim(-0.5, len(shown) - 0.5)
    ends = ", ".join(f"{name} {values[-1]:.2f}" for name, values in curves)
    label = f"Growth of 1 from {days[0]} to {days[-1]}: {ends}; deepest drawdown {percent(float(drawdown.max()))}"
    return write_svg(figure, f"growth{width}{log}", label)


def _underwater(axis: Any, drawdown: Floats) -> None:
    keep = thin(drawdown)
    axis.fill_between(keep, -drawdown[keep], 0.0, color=LOSS, alpha=0.25, linewidth=0)
    axis.plot(keep, -drawdown[keep], color=LOSS, linewidth=1.0)
    axis.set_ylim(-max(float(drawdown.max()) * 1.15, 0.005), 0.0)
    _percent_axis(axis, 2)


def _growth_scale(axis: Any, low: float, high: float, log: bool) -> None:
    if not log:
        spread = max(high - low, 0.01)
        axis.set_ylim(low - 0.06 * spread, high + 0.08 * spread)
        axis.yaxis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.04, high * 1.05)
        nice = [m * 10.0**e for e in range(-4, 7) for m in (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0)]
        inside = [v for v in nice if low / 1.04 <= v <= high * 1.05]
        axis.yaxis.set_major_locator(FixedLocator(inside[:: max(1, len(inside) // 6)]))
        axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.2f}" if value < 10 else f"{value:,.0f}"))


def line_chart(
    days: Sequence[date],
    curves: Sequence[Floats],
    *,
    salt: str,
    label: str,
    percents: bool = False,
    base: float | None = None,
    filled: bool = False,
    width: int = 400,
    height: int = 165,
) -> str:
    """Draw curves [T] over sessions, the first one in front; base: a level that is marked; NaN: no line."""
    figure, (axis,) = panels(width, height)
    if base is not None:
        axis.axhline(base, color=MUTED, linewidth=0.9)
    for k, curve in reversed(list(enumerate(curves))):
        colour = COLOURS[k % len(COLOURS)] if len(curves) > 2 else (LINE, SECOND)[k]
        keep = thin(curve)
        axis.plot(keep, curve[keep], color=colour, linewidth=1.4 if k == 0 else 1.1, solid_joinstyle="round")
        if filled and k == 0:
            axis.fill_between(keep, curve[keep], base or 0.0, color=LINE, alpha=0.12, linewidth=0)
    if percents:
        _percent_axis(axis, 4)
    else:
        axis.yaxis.set_major_locator(MaxNLocator(4))
    date_axis(axis, days, wanted=max(5, width // 90))
    axis.set_xlim(-0.5, max(len(days) - 0.5, 0.5))
    return write_svg(figure, salt, label)


def bar_chart(
    names: Sequence[str],
    series: Sequence[Floats],
    *,
    salt: str,
    label: str,
    places: int = 0,
    width: int = 400,
    height: int = 180,
    every: int = 1,
) -> str:
    """Draw signed bars of fractions, one a name; a second series stands beside the first in grey. NaN: no bar."""
    figure, (axis,) = panels(width, height)
    x, wide = np.arange(len(names), dtype=np.float64), 0.72 / len(series)
    for k, values in enumerate(series):
        at = x + (k - (len(series) - 1) / 2) * wide
        for side, colour in ((values >= 0.0, GAIN), (values < 0.0, LOSS)):
            if side.any():
                axis.bar(at[side], values[side], wide, color=colour if k == 0 else SECOND, linewidth=0)
    axis.axhline(0.0, color=MUTED, linewidth=0.9)
    _percent_axis(axis, 4, places)
    axis.set_xticks(x[::every], list(names)[::every])
    axis.set_xlim(-0.6, len(names) - 0.4)
    return write_svg(figure, salt, label)


def histogram(
    values: Floats, *, salt: str, label: str, normal: bool = True, width: int = 400, height: int = 180
) -> str:
    """Draw how often returns fall where, outer hundredths gathered in the outer bars, with the normal curve of the same
    mean and deviation."""
    figure, (axis,) = panels(width, height)
    if values.size < 2 or float(np.ptp(values)) == 0.0:
        axis.yaxis.set_major_locator(MaxNLocator(1))
        return write_svg(figure, salt, label)
    low, high = np.quantile(values, [0.005, 0.995])
    bins = max(8, min(45, int(np.sqrt(values.size))))
    counts, edges = np.histogram(np.clip(values, low, high), bins, (low, high))
    centre, wide = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    share = counts / values.size
    for side, colour in ((centre >= 0.0, GAIN), (centre < 0.0, LOSS)):
        axis.bar(centre[side], share[side], wide * 0.9, color=colour, alpha=0.75, linewidth=0)
    if normal:
        grid, mean, deviation = np.linspace(low, high, 90), values.mean(), values.std(ddof=1)
        bell = np.exp(-(((grid - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi)) * wide
        axis.plot(grid, bell, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
    axis.xaxis.set_major_locator(MaxNLocator(6))
    places = 1 if high - low < 0.1 else 0
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, places)))
    return write_svg(figure, salt, label)


def _percent_axis(axis: Any, most: int, places: int | None = None) -> None:
    axis.yaxis.set_major_locator(MaxNLocator(most, min_n_ticks=2))
    low, high = axis.get_ylim()
    digits = (1 if abs(high - low) < 0.06 else 0) if places is None else places
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, digits)))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (first, one past the last) of each run of true flags."""
    padded = np.concatenate([[False], flags, [False]]).astype(np.int8)
    turns = np.flatnonzero(np.diff(padded))
    return list(zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True))


def thin(values: Floats) -> npt.NDArray[np.int64]:
    """Return the places to draw of a series: all, or of each bucket its first, its highest and its lowest.

    What is left out lies within what is drawn. NaN counts as the series' first finite value.
    """
    n = values.size
    if n <= MAX_POINTS:
        return np.arange(n)
    known = values[np.isfinite(values)]
    filled = np.where(np.isfinite(values), values, known[0] if known.size else 0.0)
    picks = {0, n - 1}
    for bucket in np.array_split(np.arange(n), MAX_POINTS // 3):
        picks |= {int(bucket[k]) for k in (0, filled[bucket].argmax(), filled[bucket].argmin())}
    return np.array(sorted(picks))
