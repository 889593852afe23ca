"""Kernels of oscillators over one column.

NaN rules. rsi: rows that are NaN give NaN and count for nothing otherwise (a change is measured over the gap). The
others: NaN where a row of the window that they need is missing or NaN.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tradecore.indicators.averages._kernels import sma
from tradecore.indicators.rolling._kernels import rolling_max, rolling_mean_deviation


@njit(cache=True)
def rsi(x, period, out):
    """Write Wilder's relative strength index of x [T], 0..100; NaN where nothing has moved yet."""
    keep, scale = (period - 1.0) / period, 1.0 / period
    seen = -1  # changes so far
    before = np.nan
    gains = 0.0
    losses = 0.0
    for t in range(x.size):
        out[t] = np.nan
        if x[t] != x[t]:
            continue
        change = x[t] - before
        before = x[t]
        seen += 1
        if seen == 0:
            continue
        gain = change if change > 0.0 else 0.0
        loss = gain - change
        if seen <= period:  # the seed is the plain mean of the first `period` changes
            gains += gain * scale
            losses += loss * scale
        else:
            gains = gains * keep + gain * scale
            losses = losses * keep + loss * scale
        moved = gains + losses
        if seen >= period and moved > 0.0:
            out[t] = 100.0 * (gains / moved)


@njit(cache=True)
def roc(x, period, out):
    """Write the change over `period` rows of x [T], in percent."""
    for t in range(x.size):
        out[t] = 100.0 * (x[t] / x[t - period] - 1.0) if t >= period and x[t - period] != 0.0 else np.nan


@njit(cache=True)
def stochastic(high, low, close, fastk_period, slowk_period, slowd_period, slow_k, slow_d):
    """Write the slow stochastic %K and %D [T], 0..100; NaN where the range is 0."""
    n = close.size
    top, bottom = np.empty(n), np.empty(n)
    rolling_max(high, fastk_period, 1.0, top)
    rolling_max(low, fastk_period, -1.0, bottom)
    for t in range(n):
        span = top[t] - bottom[t]
        top[t] = 100.0 * ((close[t] - bottom[t]) / span) if span > 0.0 else np.nan
    sma(top, slowk_period, slow_k)
    sma(slow_k, slowd_period, slow_d)


@njit(cache=True)
def cci(high, low, close, period, out):
    """Write the commodity channel index [T]: typical price less its mean, over 0.015 mean absolute deviations."""
    n = close.size
    typical, mean = np.empty(n), np.empty(n)
    for t in range(n):
        typical[t] = (high[t] + low[t] + close[t]) / 3.0
    rolling_mean_deviation(typical, period, mean, out)
    for t in range(n):
        out[t] = (typical[t] - mean[t]) / (0.015 * out[t]) if out[t] > 0.0 else np.nan
