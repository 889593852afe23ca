"""Kernels of ranges and volatility over one column.

NaN rules. true_range, atr, ewma_volatility: rows with a NaN give NaN and count for nothing otherwise (the close before
is the last one known). parkinson, garman_klass: NaN where the window of `period` rows is not complete or holds a NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tradecore.indicators.averages._kernels import recursive
from tradecore.indicators.rolling._kernels import rolling_sum


@njit(cache=True)
def true_range(high, low, close, out):
    """Write the true range [T]: the day's range, widened to the close before; NaN at the first row."""
    before = np.nan
    for t in range(close.size):
        out[t] = np.nan
        if high[t] != high[t] or low[t] != low[t] or close[t] != close[t]:
            continue
        if before == before:
            out[t] = max(high[t], before) - min(low[t], before)
        before = close[t]


@recursive
def atr(high, low, close, period, out):
    """Write Wilder's average of the true range [T], seeded with the mean of the first `period` ranges."""
    keep, scale = (period - 1.0) / period, 1.0 / period
    before = 0.0
    seen = -1  # ranges so far
    value = 0.0
    again = keep * keep
    one = 0.0  # a row that waits for the next one: two of them are one step of the average
    waits = False
    for t in range(close.size):
        h, lo, c = high[t], low[t], close[t]
        top = before if before > h else h  # NaN if h is, and bottom if lo is
        bottom = before if before < lo else lo
        part = (top - bottom) * scale
        if part != part or c != c:
            out[t] = np.nan
            continue
        before = c
        if seen >= period:
            if waits:
                value = value * again + (one * keep + part)
                out[t] = value
            else:
                out[t] = value * keep + part
                one = part
            waits = not waits
            continue
        if seen >= 0:
            value += part
        seen += 1
        out[t] = value if seen == period else np.nan


@njit(cache=True)
def parkinson(high, low, period, bars_per_year, out):
    """Write Parkinson's volatility of the last `period` ranges [T], annualised."""
    squares = np.empty(high.size)
    for t in range(high.size):
        squares[t] = math.log(high[t] / low[t]) ** 2 if low[t] > 0.0 and high[t] > 0.0 else np.nan
    rolling_sum(squares, period, bars_per_year / (4.0 * math.log(2.0) * period), out)
    for t in range(high.size):
        out[t] = math.sqrt(out[t])


@njit(cache=True)
def garman_klass(open_, high, low, close, period, bars_per_year, out):
    """Write Garman and Klass's volatility of the last `period` bars [T], annualised."""
    squares = np.empty(high.size)
    body = 2.0 * math.log(2.0) - 1.0
    for t in range(high.size):
        squares[t] = np.nan
        if open_[t] > 0.0 and high[t] > 0.0 and low[t] > 0.0 and close[t] > 0.0:
            squares[t] = 0.5 * math.log(high[t] / low[t]) ** 2 - body * math.log(close[t] / open_[t]) ** 2
    rolling_sum(squares, period, bars_per_year / period, out)
    for t in range(high.size):  # below 0 only where high and low do not hold open and close
        out[t] = math.sqrt(out[t]) if out[t] >= 0.0 else np.nan


@njit(cache=True)
def ewma_volatility(x, decay, seed_period, bars_per_year, out):
    """Write the exponentially weighted volatility of the log returns of x [T], annualised.

    The variance starts as the mean square of the first `seed_period` returns.
    """
    before = np.nan
    seen = -1
    variance = 0.0
    for t in range(x.size):
        out[t] = np.nan
        if not x[t] > 0.0:
            continue
        square = math.log(x[t] / before) ** 2
        before = x[t]
        seen += 1
        if seen == 0:
            continue
        if seen <= seed_period:
            variance += square / seed_period
        else:
            variance = decay * variance + (1.0 - decay) * square
        if seen >= seed_period:
            out[t] = math.sqrt(variance * bars_per_year)
