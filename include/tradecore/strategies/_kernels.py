"""Kernels of the built-in strategies: row t of the scores depends on the lookback_bars rows that end at t alone."""

from __future__ import annotations

import numpy as np
from numba import njit

from tradecore.indicators._kernels import ema_at, sma_at


@njit(cache=True)
def ma_crossover_at(x, begin, end, short_period, long_period, slope_bars, exponential, threshold):
    """Return the crossover score of the window x[begin:end]; the formula is in strategies/ma_crossover.py."""
    for t in range(begin, end):
        if np.isnan(x[t]):
            return np.nan
    if exponential:
        fast, slow = ema_at(x, begin, end, short_period), ema_at(x, begin, end, long_period)
        slow_before = ema_at(x, begin, end - slope_bars, long_period)
    else:
        fast, slow = sma_at(x, end, short_period), sma_at(x, end, long_period)
        slow_before = sma_at(x, end - slope_bars, long_period)
    if fast <= slow:
        return 0.0
    separation = min(1.0, (fast / slow - 1.0) / 0.02)
    up = 0
    for t in range(end - short_period, end):
        if x[t] > x[t - 1]:
            up += 1
    breadth = up / short_period
    slope = 1.0 if slow > slow_before else 0.0
    position = 1.0 if x[end - 1] >= fast else 0.0
    confidence = 0.4 * separation + 0.2 * breadth + 0.2 * slope + 0.2 * position
    return confidence if confidence >= threshold else np.nan


@njit(cache=True)
def ma_crossover_panel(x, first, lookback, short_period, long_period, slope_bars, exponential, threshold, out):
    """Write the score of each window of `lookback` rows of x [T, n] that ends at row first.. into out [T, n]."""
    for i in range(x.shape[1]):
        column = x[:, i].copy()
        for t in range(first, x.shape[0]):
            out[t, i] = ma_crossover_at(
                column, t + 1 - lookback, t + 1, short_period, long_period, slope_bars, exponential, threshold
            )
