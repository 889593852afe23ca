"""Kernels of averages over one column.

NaN rules. sma, wma, vwap: NaN where the window of `period` rows is not complete or holds a NaN. ema: rows that are NaN
give NaN and count for nothing otherwise: the average goes on over the gap from where it was.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tradecore.indicators.rolling._kernels import rolling_sum

# A recursive kernel is as slow as one step of it takes: value * keep + x * alpha as one fused operation, and no more.
# "contract" allows that and nothing else; NaN stays NaN.
recursive = njit(cache=True, fastmath={"contract"})


@njit(cache=True)
def sma(x, period, out):
    """Write the simple moving average of x [T] into out [T]."""
    rolling_sum(x, period, 1.0 / period, out)


@recursive
def ema(x, period, out):
    """Write the exponential average of x [T], alpha = 2 / (period + 1), seeded with the mean of the first `period`."""
    alpha = 2.0 / (period + 1)
    keep = 1.0 - alpha
    seen = 0
    value = 0.0
    for t in range(x.size):
        now = x[t]
        out[t] = np.nan
        if now != now:
            continue
        if seen < period:
            seen += 1
            value += now / period
            if seen == period:
                out[t] = value
            continue
        value = value * keep + now * alpha
        out[t] = value


@njit(cache=True)
def wma(x, period, out):
    """Write the average of x [T] with the weights 1 (oldest) to period (newest), tail and head of blocks apart."""
    n = x.size
    scale = 2.0 / (period * (period + 1.0))
    tail = np.full(period + 1, np.nan)
    tail[period] = 0.0
    for begin in range(0, n, period):
        if begin > 0:
            plain = 0.0
            weighted = 0.0
            for k in range(period - 1, -1, -1):  # one more row at the front: every later weight grows by one
                plain += x[begin - period + k]
                weighted += plain
                tail[k] = weighted
        plain = 0.0
        weighted = 0.0
        for k in range(min(period, n - begin)):
            plain += x[begin + k]
            weighted += (k + 1) * x[begin + k]
            before = period - 1 - k
            out[begin + k] = (tail[k + 1] + before * plain + weighted) * scale


@njit(cache=True)
def vwap(high, low, close, volume, period, out):
    """Write the typical price (high + low + close) / 3 weighted by volume over the last `period` rows [T]."""
    n = close.size
    money, shares = np.empty(n), np.empty(n)
    for t in range(n):
        money[t] = (high[t] + low[t] + close[t]) / 3.0 * volume[t]
        shares[t] = volume[t] if money[t] == money[t] else np.nan
    rolling_sum(money, period, 1.0, out)
    rolling_sum(shares, period, 1.0, money)
    for t in range(n):
        out[t] = out[t] / money[t] if money[t] != 0.0 else np.nan


@njit(cache=True)
def session_vwap(high, low, close, volume, day, out):
    """Write the same since the first row of each session; rows that are NaN give NaN and count for nothing."""
    money = 0.0
    shares = 0.0
    for t in range(close.size):
        if t == 0 or day[t] != day[t - 1]:
            money = 0.0
            shares = 0.0
        worth = (high[t] + low[t] + close[t]) / 3.0 * volume[t]
        if worth == worth:
            money += worth
            shares += volume[t]
        out[t] = money / shares if worth == worth and shares > 0.0 else np.nan
