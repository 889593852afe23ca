"""Screening: figures of very many parameters of one simple rule at once, for sweeps.

It answers which parameters deserve a backtest; the best of a sweep go through the fold. Nothing here trades.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tradecore.indicators.averages import _kernels as averages
from tradecore.model import Floats, Ints
from tradecore.research.screening import _kernels

FEW_PAIRS = 16  # up to so many do not earn back what the preparation costs
CHUNK_PAIRS = 65_536
ROWS_BYTES = 64 * 2**20  # most memory for the averages of a chunk


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
    opens, closes = _columns(open_, close)
    windows = _windows(fast, slow, closes.size)
    if not 0.0 <= cost_bps < 10_000.0:
        raise ValueError(f"screen_ma_crossover: cost_bps is {cost_bps!r}; it must be 0 or more and below 10,000")
    if not 0.0 < bars_per_year < math.inf:
        raise ValueError(f"screen_ma_crossover: bars_per_year is {bars_per_year!r}; it must be above 0")
    if kind not in ("sma", "ema"):
        raise ValueError(f"screen_ma_crossover: kind is {kind!r}; it must be 'sma' or 'ema'")
    pairs = windows.shape[1]
    cost, per_year = float(cost_bps) / 1e4, float(bars_per_year)
    out, trades = np.empty((3, pairs)), np.empty(pairs, np.int64)
    walked = kind == "sma" and pairs <= FEW_PAIRS
    for p in range(pairs if walked else 0):
        a, b = int(windows[0, p]), int(windows[1, p])
        if not _kernels.walk(opens, closes, a, b, cost, per_year, out, trades, p):
            walked = False
            break
    if not walked:
        _jump(*_prices(opens, closes), windows, cost, per_year, kind, out, trades)
    return ScreenResult(out[0], out[1], out[2], trades)


def _jump(
    opens: Floats, closes: Floats, windows: Ints, cost: float, per_year: float, kind: str, out: Floats, trades: Ints
) -> None:
    """Prepare what all pairs share, then take them in chunks, and in chunks by as many windows as rows may be kept."""
    n = closes.size
    marks, bars = np.empty(n), np.empty((n + 1, 8))
    spans, powers = np.empty((_kernels.SPANS, n, 2)), np.empty(2**_kernels.SPANS, np.int64)
    gaps = bool(_kernels.marks_of(closes, marks))
    _kernels.shared_bars(opens, marks, cost, bars)
    _kernels.span_extremes(marks, spans, powers)
    undecided = np.append(np.isnan(closes[1:]), True).nonzero()[0]  # the next bar does not trade, or there is none
    width = (n // _kernels.BITS + 1) * _kernels.BITS
    kept = max(1, ROWS_BYTES // (8 * width) // 2)
    average = averages.sma if kind == "sma" else averages.ema
    for begin in range(0, windows.shape[1], CHUNK_PAIRS):
        chunk = windows[:, begin : begin + CHUNK_PAIRS]
        used, places = _places(chunk, n)
        for part in _parts(places, used.size, kept):
            mine, rank = _places(places if part is None else places[:, part], used.size)
            rows = np.full((mine.size, width), np.nan)
            for row, period in zip(rows, used[mine], strict=True):
                average(closes, int(period), row[:n])
                row[undecided] = np.nan
            figures, entries = np.empty((3, rank.shape[1])), np.empty(rank.shape[1], np.int64)
            _kernels.jump_pairs(bars, marks, spans, powers, rows, gaps, rank[0], rank[1], per_year, figures, entries)
            where = slice(begin, begin + chunk.shape[1]) if part is None else begin + part
            out[:, where], trades[where] = figures, entries


def _places(numbers: Ints, most: int) -> tuple[Ints, Ints]:
    """Return which of the numbers 0..most+1 occur in [2, P], in order, and the place of each among them [2, P]."""
    seen = np.zeros(most + 2, np.bool_)
    seen[numbers] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[numbers]


def _parts(places: Ints, count: int, kept: int) -> Iterator[Ints | None]:
    """Yield the pairs of a chunk in parts that use at most 2 * kept windows each; None: all of them."""
    if count <= 2 * kept:
        yield None
        return
    block = places // kept
    key = block[0] * (count // kept + 1) + block[1]
    order = np.argsort(key, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def _columns(open_: npt.ArrayLike, close: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return opens and closes as arrays that kernels are compiled for: contiguous and writable; copied only if not."""
    opens, closes = (np.require(prices, np.float64, ["C", "W"]) for prices in (open_, close))
    if opens.ndim != 1 or opens.shape != closes.shape or opens.size == 0:
        raise ValueError(
            f"screen_ma_crossover: the shapes are open_ {opens.shape}, close {closes.shape}; both are (T,)"
        )
    return opens, closes


def _prices(opens: Floats, closes: Floats) -> tuple[Floats, Floats]:
    """Return copies of opens and closes, both NaN where one is. Raises ValueError for what is no price."""
    missing = np.isnan(opens) | np.isnan(closes)
    for name, prices in (("open_", opens), ("close", closes)):
        bad = ~missing & ~((prices > 0.0) & (prices < np.inf))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(f"screen_ma_crossover: {name}[{at}] is {prices[at]}; a price is above 0, or NaN for none")
    return np.where(missing, np.nan, opens), np.where(missing, np.nan, closes)


def _windows(fast: npt.ArrayLike, slow: npt.ArrayLike, n_bars: int) -> Ints:
    """Return the windows as [2, P]; one longer than the data is as good as one bar longer."""
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
    return np.asarray(np.minimum(np.stack(pairs), n_bars + 1), np.int64)
