"""Screening: figures of very many parameters of one simple rule at once, for sweeps.

It answers which parameters deserve a backtest; the best of a sweep go through the fold. Nothing here trades.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tradecore.indicators.averages import _kernels as averages
from tradecore.model import Floats, Ints
from tradecore.research.screening import _kernels


class ScreenResult(NamedTuple):
    """Figures of P pairs, [P] each: fractions, the Sharpe ratio a year, and how often it bought."""

    total_return: Floats
    sharpe: Floats
    max_drawdown: Floats
    n_trades: Ints


def screen_ma_crossover(
    open_: npt.ArrayLike,
    close: npt.ArrayLike,
    fast: npt.ArrayLike,
    slow: npt.ArrayLike,
    *,
    cost_bps: float,
    bars_per_year: float,
    kind: Literal["sma", "ema"] = "sma",
) -> ScreenResult:
    """Compute the figures of a moving-average crossover, long or flat, for each pair of windows.

    Long while the fast average is above the slow one (by more than 1e-11 of it: less is a tie, and a tie is flat),
    decided at each close and filled at the next open with all the cash. A buy pays the open and `cost_bps`, a sale
    receives it less `cost_bps`. Marked at each close, and at the end not sold.

    Parameters: open_, close [T], adjusted prices of one instrument; fast, slow [P], windows in bars, fast below slow.
    kind: the average, as `tradecore.indicators.averages` has it. Returns total return, Sharpe ratio (of the T simple
    returns from a curve that begins at 1, sample deviation, NaN without variance), maximum drawdown as a positive
    fraction and the number of buys. NaN rule: a bar without open or close does not trade: marks stay, its return is 0,
    nothing is filled; an average that is NaN is no opinion, and what is held stays held. An order that meets such a
    bar ends there. The global interpreter lock is released; memory does not grow with P beyond the result.

    Raises ValueError for shapes that do not fit, prices that are not above 0 and finite, windows that are not whole
    numbers with 1 <= fast < slow, a cost outside 0 to 10,000 bps. Source: the rule is that of Brock, Lakonishok &
    LeBaron, Journal of Finance 47(5), 1992; figures agree with vectorbt's Portfolio.from_signals.
    """
    opens, closes = _prices(open_, close)
    windows, fast_row, slow_row = _windows(fast, slow)
    if not 0.0 <= cost_bps < 10_000.0:
        raise ValueError(f"screen_ma_crossover: cost_bps is {cost_bps!r}; it must be 0 or more and below 10,000")
    if not bars_per_year > 0.0:
        raise ValueError(f"screen_ma_crossover: bars_per_year is {bars_per_year!r}; it must be above 0")
    if kind not in ("sma", "ema"):
        raise ValueError(f"screen_ma_crossover: kind is {kind!r}; it must be 'sma' or 'ema'")
    average = averages.sma if kind == "sma" else averages.ema
    rows = np.empty((windows.size, closes.size))
    for row, period in zip(rows, windows, strict=True):
        average(closes, int(period), row)
    out, trades = np.empty((3, fast_row.size)), np.empty(fast_row.size, np.int64)
    _kernels.walk_pairs(
        opens, closes, rows, fast_row, slow_row, float(cost_bps) / 1e4, float(bars_per_year), out, trades
    )
    return ScreenResult(out[0], out[1], out[2], trades)


def _prices(open_: npt.ArrayLike, close: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return opens and closes as arrays of their own, both NaN where one is."""
    opens, closes = np.array(open_, np.float64), np.array(close, np.float64)
    if opens.ndim != 1 or opens.shape != closes.shape or opens.size == 0:
        raise ValueError(
            f"screen_ma_crossover: the shapes are open_ {opens.shape}, close {closes.shape}; both are (T,)"
        )
    missing = np.isnan(opens) | np.isnan(closes)
    for name, prices in (("open_", opens), ("close", closes)):
        bad = ~missing & ~((prices > 0.0) & (prices < np.inf))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(f"screen_ma_crossover: {name}[{at}] is {prices[at]}; a price is above 0, or NaN for none")
        prices[missing] = np.nan
    return opens, closes


def _windows(fast: npt.ArrayLike, slow: npt.ArrayLike) -> tuple[Ints, Ints, Ints]:
    """Return the windows that occur and, for each pair, the places of its two among them."""
    pairs = [np.asarray(fast), np.asarray(slow)]
    if pairs[0].ndim != 1 or pairs[0].shape != pairs[1].shape:
        raise ValueError(
            f"screen_ma_crossover: the shapes are fast {pairs[0].shape}, slow {pairs[1].shape}; both are (P,)"
        )
    if not all(np.issubdtype(p.dtype, np.integer) for p in pairs):
        raise ValueError(
            f"screen_ma_crossover: windows are {pairs[0].dtype}, {pairs[1].dtype}; they must be whole numbers"
        )
    wrong = (pairs[0] < 1) | (pairs[0] >= pairs[1])
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"screen_ma_crossover: pair {at} is fast {pairs[0][at]}, slow {pairs[1][at]}; it must be 1 <= fast < slow"
        )
    windows, place = np.unique(np.stack(pairs), return_inverse=True)
    fast_row, slow_row = place.reshape(2, -1).astype(np.int64)
    return windows.astype(np.int64), fast_row, slow_row
