"""Indicator kernels over a window of rows: chronological sums, NaN anywhere in the needed rows gives NaN."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True)
def sma_at(x, end, period):
    """Return the simple moving average of the `period` rows of x [T] that end before row `end`."""
    total = 0.0
    for t in range(end - period, end):
        total += x[t]
    return total / period


@njit(cache=True)
def ema_at(x, begin, end, period):
    """Return the exponential moving average of x[begin:end], seeded with its first value, alpha = 2 / (period + 1)."""
    alpha = 2.0 / (period + 1)
    value = x[begin]
    for t in range(begin + 1, end):
        value = value + alpha * (x[t] - value)
    return value


@njit(cache=True)
def volatility_at(x, end, lookback, bars_per_year):
    """Return the annualised standard deviation (n - 1) of the last `lookback` log returns of x [T] before row `end`."""
    total = 0.0
    for t in range(end - lookback, end):
        total += math.log(x[t] / x[t - 1])
    mean = total / lookback
    squares = 0.0
    for t in range(end - lookback, end):
        d = math.log(x[t] / x[t - 1]) - mean
        squares += d * d
    return math.sqrt(squares / (lookback - 1)) * math.sqrt(bars_per_year)


@njit(cache=True)
def volatility_panel(x, first, lookback, bars_per_year, out):
    """Write volatility_at for rows first.. of x [T, n] into out [T, n]; each row sees its own window alone."""
    for i in range(x.shape[1]):
        column = x[:, i].copy()
        for t in range(first, x.shape[0]):
            out[t, i] = volatility_at(column, t + 1, lookback, bars_per_year)
