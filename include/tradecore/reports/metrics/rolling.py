"""Figures over a rolling window of `period` returns: [n] in, [n] out, NaN before the first whole window.

A NaN makes the windows that hold it NaN; a window in which the figure is not defined is NaN.
Source: quantstats rolling_*, empyrical roll_* (which leave the first period - 1 values out).
"""

from __future__ import annotations

import math

import numpy as np

from tradecore.indicators import averages, rolling
from tradecore.reports.metrics._kernels import rolling_drawdown
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


def _over(mean: Floats, deviation: Floats, periods_per_year: float) -> Floats:
    ratio = np.full(mean.shape, np.nan)
    np.divide(mean, deviation, out=ratio, where=deviation > 0.0)
    return ratio * math.sqrt(periods_per_year)
