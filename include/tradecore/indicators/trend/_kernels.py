"""Kernels of trends over one column: rows with a NaN give NaN and count for nothing otherwise."""

from __future__ import annotations

import numpy as np
from numba import njit

from tradecore.indicators.averages._kernels import recursive


@recursive
def macd(x, fast_period, slow_period, signal_period, line, signal, histogram):
    """Write fast EMA - slow EMA of x [T], the EMA of that line, and their difference, from where all three are known.

    Both averages start at row slow_period - 1 with the mean of their own last rows, as in TA-Lib.
    """
    fast_alpha, slow_alpha = 2.0 / (fast_period + 1), 2.0 / (slow_period + 1)
    signal_alpha = 2.0 / (signal_period + 1)
    fast_keep, slow_keep, signal_keep = 1.0 - fast_alpha, 1.0 - slow_alpha, 1.0 - signal_alpha
    fast = slow = smooth = 0.0
    seen, whole = 0, slow_period + signal_period - 1
    for t in range(x.size):
        now = x[t]
        line[t] = np.nan
        signal[t] = np.nan
        histogram[t] = np.nan
        if now != now:
            continue
        if seen < whole:
            seen += 1
            if seen <= slow_period:
                slow += now / slow_period
                if seen > slow_period - fast_period:
                    fast += now / fast_period
            else:
                fast = fast * fast_keep + now * fast_alpha
                slow = slow * slow_keep + now * slow_alpha
            if seen >= slow_period:
                smooth += (fast - slow) / signal_period
            if seen < whole:
                continue
        else:
            fast = fast * fast_keep + now * fast_alpha
            slow = slow * slow_keep + now * slow_alpha
            smooth = smooth * signal_keep + (fast - slow) * signal_alpha
        gap = fast - slow
        line[t] = gap
        signal[t] = smooth
        histogram[t] = gap - smooth


@njit(cache=True)
def directional(high, low, close, period, adx, plus_di, minus_di):
    """Write Wilder's average directional index and both directional indicators [T], 0..100.

    The sums are seeded with the first period - 1 moves, the index with the mean of the first `period` DX, as in TA-Lib.
    """
    shrink = 1.0 - 1.0 / period
    up_sum = down_sum = range_sum = index = 0.0
    before_high = before_low = before_close = np.nan
    seen = -1
    for t in range(close.size):
        adx[t] = np.nan
        plus_di[t] = np.nan
        minus_di[t] = np.nan
        if high[t] != high[t] or low[t] != low[t] or close[t] != close[t]:
            continue
        seen += 1
        up, down = high[t] - before_high, before_low - low[t]
        span = max(high[t], before_close) - min(low[t], before_close)
        before_high, before_low, before_close = high[t], low[t], close[t]
        if seen == 0:
            continue
        if seen >= period:
            up_sum *= shrink
            down_sum *= shrink
            range_sum *= shrink
        up_sum += up if up > 0.0 and up > down else 0.0
        down_sum += down if down > 0.0 and down > up else 0.0
        range_sum += span
        if seen < period or range_sum <= 0.0:
            continue
        plus_di[t] = 100.0 * (up_sum / range_sum)
        minus_di[t] = 100.0 * (down_sum / range_sum)
        both = plus_di[t] + minus_di[t]
        dx = 100.0 * abs(plus_di[t] - minus_di[t]) / both if both > 0.0 else 0.0
        index = index + dx / period if seen < 2 * period else (index * (period - 1) + dx) / period
        if seen >= 2 * period - 1:
            adx[t] = index
