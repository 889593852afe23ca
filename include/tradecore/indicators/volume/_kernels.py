"""Kernels of price and volume together, over one column."""

from __future__ import annotations

import numpy as np
from numba import njit

from tradecore.indicators.rolling._kernels import rolling_sum


@njit(cache=True)
def obv(close, volume, out):
    """Write the on-balance volume [T]; rows that are NaN give NaN and count for nothing otherwise."""
    before = np.nan
    total = 0.0
    for t in range(close.size):
        if close[t] != close[t] or volume[t] != volume[t]:
            out[t] = np.nan
            continue
        if before != before or close[t] > before:  # the first row counts as a rise, as in TA-Lib
            total += volume[t]
        elif close[t] < before:
            total -= volume[t]
        before = close[t]
        out[t] = total


@njit(cache=True)
def mfi(high, low, close, volume, period, out):
    """Write the money flow index [T], 0..100; NaN where a row of the period + 1 that it needs is, or nothing moved."""
    n = close.size
    rise, fall = np.full(n, np.nan), np.full(n, np.nan)
    before = np.nan
    for t in range(n):
        typical = (high[t] + low[t] + close[t]) / 3.0
        flow = typical * volume[t]
        if t > 0 and before == before and flow == flow:
            rise[t] = flow if typical > before else 0.0
            fall[t] = flow if typical < before else 0.0
        before = typical
    rolling_sum(rise, period, 1.0, out)
    rolling_sum(fall, period, 1.0, rise)
    for t in range(n):
        moved = out[t] + rise[t]
        out[t] = 100.0 * (out[t] / moved) if moved > 0.0 else np.nan
