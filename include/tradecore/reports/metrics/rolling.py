"""Figures over a rolling window of `period` returns: [n] in, [n] out, NaN before the first whole window.

A NaN makes the windows that hold it NaN; a window in which the figure is not defined is NaN.
Source: quantstats rolling_*, empyrical roll_* (which leave the first period - 1 values out).
"""

from __future__ import annotations

import math

import numpy as np

from tradecore.indicators import averages, rolling
from tradecore.reports.metrics._kernels import rolling_capture, rolling_drawdown
from tradecore.reports.metrics.curve import SESSIONS_PER_YEAR, Floats


def rolling_volatility(returns: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR) -> Floats:
    """Compute the annualised sample standard deviation."""
    return rolling.stddev(returns, period, 1) * math.sqrt(periods_per_year)


def rolling_sharpe(returns: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR) -> Floats:
    """Compute the annualised Sharpe ratio."""
    return _over(averages.sma(returns, period), rolling.stddev(returns, period, 1), periods_per_year)


def rolling_sortino(returns: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR) -> Floats:
    """Compute the annualised Sortino ratio, with the downside deviation over all periods of the window."""
    downside = np.sqrt(averages.sma(np.minimum(returns, 0.0) ** 2, period))
    return _over(averages.sma(returns, period), downside, periods_per_year)


def rolling_beta(returns: Floats, benchmark: Floats, period: int = 126) -> Floats:
    """Compute the slope on the benchmark."""
    return rolling.beta(returns, benchmark, period)


def rolling_alpha(
    returns: Floats, benchmark: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR
) -> Floats:
    """Compute the mean that beta does not explain, compounded to a year.

    Source: empyrical roll_alpha; quantstats rolling_greeks gives the mean of a period, not annualised.
    """
    slope = rolling.beta(returns, benchmark, period)
    rest = averages.sma(returns, period) - slope * averages.sma(benchmark, period)
    return np.asarray((1.0 + rest) ** periods_per_year - 1.0)


def rolling_max_drawdown(returns: Floats, period: int = 126) -> Floats:
    """Compute the deepest drawdown within each window, a positive fraction; O(n * period)."""
    out = np.empty(returns.size)
    rolling_drawdown(np.array(returns), int(period), out)
    return out


def rolling_up_capture(
    returns: Floats, benchmark: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR
) -> Floats:
    """Compute the capture over the periods of each window in which the benchmark rose; NaN where it never did."""
    return _captured(returns, benchmark, period, periods_per_year, True)


def rolling_down_capture(
    returns: Floats, benchmark: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR
) -> Floats:
    """Compute the capture over the periods of each window in which the benchmark fell; NaN where it never did."""
    return _captured(returns, benchmark, period, periods_per_year, False)


def rolling_up_down_capture(
    returns: Floats, benchmark: Floats, period: int = 126, periods_per_year: float = SESSIONS_PER_YEAR
) -> Floats:
    """Compute up capture over down capture of each window."""
    up = rolling_up_capture(returns, benchmark, period, periods_per_year)
    down = rolling_down_capture(returns, benchmark, period, periods_per_year)
    return np.asarray(np.divide(up, down, out=np.full(up.shape, np.nan), where=down != 0.0))


def rolling_log_volatility(returns: Floats, period: int = 252, periods_per_year: float = SESSIONS_PER_YEAR) -> Floats:
    """Compute the annualised sample standard deviation of logarithmic returns.

    Source: quantstats implied_volatility, whose name says what it is not: no option has a part in it. There the window
    and the periods of a year are one number. A return of -1 or less makes its windows NaN.
    """
    known = np.where(returns > -1.0, returns, np.nan)
    return rolling.stddev(np.log1p(known), period, 1) * math.sqrt(periods_per_year)


def rolling_rank(values: Floats, period: int = 60) -> Floats:
    """Compute the percentile (0 to 100) of each value among the `period` values that end with it; of equals the mean.

    Source: quantstats pct_rank, which ranks the first ones among what there is and leaves NaN out of a window.
    """
    out = np.full(values.size, np.nan)
    if not 1 <= period <= values.size:
        return out
    window = np.lib.stride_tricks.sliding_window_view(values, period)
    last = window[:, -1:]
    place = (window < last).sum(axis=1) + ((window == last).sum(axis=1) + 1) / 2
    out[period - 1 :] = np.where(np.isnan(window).any(axis=1), np.nan, place / period * 100.0)
    return out


def _captured(returns: Floats, benchmark: Floats, period: int, periods_per_year: float, up: bool) -> Floats:
    if returns.shape != benchmark.shape:
        raise ValueError(f"returns have shape {returns.shape}, the benchmark {benchmark.shape}")
    out = np.empty(returns.size)
    rolling_capture(np.array(returns), np.array(benchmark), int(period), float(periods_per_year), up, out)
    return out


def _over(mean: Floats, deviation: Floats, periods_per_year: float) -> Floats:
    ratio = np.full(mean.shape, np.nan)
    np.divide(mean, deviation, out=ratio, where=deviation > 0.0)
    return ratio * math.sqrt(periods_per_year)
