"""Kernels of figures that walk along a curve."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def curve_figures(returns, periods_per_year, sharpe, sortino, drawdown):
    """Write Sharpe ratio, Sortino ratio and maximum drawdown of each row of returns [K, T] into [K] arrays.

    One pass: the variance is of differences to the first return, so that constant returns have exactly none.
    """
    scale = math.sqrt(periods_per_year)
    n = returns.shape[1]
    for k in range(returns.shape[0]):
        anchor = returns[k, 0]
        total = 0.0
        squares = 0.0
        downside = 0.0
        level = 1.0
        peak = 1.0
        low = 1.0  # the smallest level / peak so far
        for t in range(n):
            r = returns[k, t]
            d = r - anchor
            total += d
            squares += d * d
            loss = r if r < 0.0 else 0.0
            downside += loss * loss
            level *= 1.0 + r
            peak = level if level > peak else peak
            part = level / peak
            low = part if part < low else low
        mean = anchor + total / n
        rest = squares - total * total / n
        sharpe[k] = mean / math.sqrt(rest / (n - 1)) * scale if n > 1 and rest > 0.0 else np.nan
        sortino[k] = mean / math.sqrt(downside / n) * scale if downside > 0.0 else np.nan
        drawdown[k] = 1.0 - low if level == level else np.nan


@njit(cache=True)
def rolling_drawdown(returns, period, out):
    """Write the maximum drawdown of each `period` returns [T], as a positive fraction; O(T * period)."""
    for t in range(returns.size):
        out[t] = np.nan
        if t < period - 1:
            continue
        level = 1.0
        peak = 1.0
        worst = 0.0
        for s in range(t - period + 1, t + 1):
            level *= 1.0 + returns[s]
            peak = max(peak, level)
            worst = max(worst, 1.0 - level / peak)
        out[t] = worst if level == level else np.nan


@njit(cache=True)
def rolling_capture(returns, benchmark, period, periods_per_year, up, out):
    """Write the growth a year over the benchmark's, of the periods of each window in which it rose (or fell).

    returns, benchmark and out [T]; a NaN makes the windows that hold it NaN. O(T * period).
    """
    for t in range(returns.size):
        out[t] = np.nan
        if t < period - 1:
            continue
        mine = 1.0
        theirs = 1.0
        count = 0
        known = True
        for s in range(t - period + 1, t + 1):
            b = benchmark[s]
            known = known and b == b and returns[s] == returns[s]
            if b > 0.0 if up else b < 0.0:
                mine *= 1.0 + returns[s]
                theirs *= 1.0 + b
                count += 1
        if known and count > 0 and mine >= 0.0 and theirs >= 0.0:
            power = periods_per_year / count
            base = theirs**power - 1.0
            out[t] = (mine**power - 1.0) / base if base != 0.0 else np.nan


@njit(cache=True)
def longest_run(flags):
    """Return the most True in a row of flags [T]."""
    longest = 0
    run = 0
    for t in range(flags.size):
        run = run + 1 if flags[t] else 0
        longest = max(longest, run)
    return longest
