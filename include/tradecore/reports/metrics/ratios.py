"""Return over risk, beyond Sharpe, Sortino and Calmar. Returns are simple, one per period; NaN where not defined."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tradecore.reports.metrics.curve import (
    SESSIONS_PER_YEAR,
    Floats,
    drawdowns,
    max_drawdown,
    sharpe,
    sortino,
    total_return,
)
from tradecore.reports.metrics.spread import kurtosis, normal_expected_shortfall, skewness, ulcer_index


def omega(
    returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR, required_return: float = 0.0, risk_free: float = 0.0
) -> float:
    """Return the sum above the threshold over the sum below it.

    required_return is a year's and becomes a period's by compounding; risk_free is a period's. Source: Keating &
    Shadwick, "A Universal Performance Measure", Journal of Performance Measurement 6(3), 2002; empyrical omega_ratio.
    """
    if returns.size < 2 or required_return <= -1.0 or np.isnan(returns).any():
        return math.nan
    beyond = returns - risk_free - ((1.0 + required_return) ** (1.0 / periods_per_year) - 1.0)
    below = -float(np.sum(beyond[beyond < 0.0]))
    return float(np.sum(beyond[beyond > 0.0])) / below if below > 0.0 else math.nan


def risk_return_ratio(returns: Floats) -> float:
    """Return mean over standard deviation, not annualised. Source: quantstats risk_return_ratio."""
    return sharpe(returns, 1.0)


def adjusted_sortino(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the Sortino ratio over sqrt(2), comparable to a Sharpe ratio. Source: Schwager; quantstats."""
    return sortino(returns, periods_per_year) / math.sqrt(2.0)


def autocorrelation_penalty(returns: Floats) -> float:
    """Return by how much correlation from period to period widens the deviation of long horizons; 1 for none.

    Source: Lo, "The Statistics of Sharpe Ratios", Financial Analysts Journal 58(4), 2002, in quantstats' form (the
    lag-one correlation without its sign, its powers for the further lags).
    """
    n = returns.size
    if n < 2:
        return 1.0
    a, b = returns[:-1] - np.mean(returns[:-1]), returns[1:] - np.mean(returns[1:])
    scale = math.sqrt(float(a @ a) * float(b @ b))
    if scale == 0.0:
        return 1.0
    lag = np.arange(1, n)
    return math.sqrt(1.0 + 2.0 * float(np.sum((n - lag) / n * abs(float(a @ b) / scale) ** lag)))


def smart_sharpe(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the Sharpe ratio over the autocorrelation penalty. Source: quantstats smart_sharpe."""
    return sharpe(returns, periods_per_year) / autocorrelation_penalty(returns)


def smart_sortino(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the Sortino ratio over the autocorrelation penalty. Source: quantstats smart_sortino."""
    return sortino(returns, periods_per_year) / autocorrelation_penalty(returns)


def probabilistic_sharpe(returns: Floats, benchmark_sharpe: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio (per period) is above benchmark_sharpe (per period).

    Source: Bailey & Lopez de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 2012, equation 11,
    with the sample's own skewness and kurtosis; quantstats probabilistic_sharpe_ratio (benchmark 0).
    """
    return _probabilistic(returns, sharpe(returns, 1.0), benchmark_sharpe)


def probabilistic_sortino(returns: Floats) -> float:
    """Return the same with the Sortino ratio in the place of the Sharpe ratio. Source: quantstats."""
    return _probabilistic(returns, sortino(returns, 1.0), 0.0)


def probabilistic_adjusted_sortino(returns: Floats) -> float:
    """Return the same with the Sortino ratio over sqrt(2). Source: quantstats."""
    return _probabilistic(returns, adjusted_sortino(returns, 1.0), 0.0)


def ulcer_performance(returns: Floats, risk_free_total: float = 0.0) -> float:
    """Return total return less the risk-free total over the ulcer index.

    Source: quantstats ulcer_performance_index; Martin's own index takes annual returns.
    """
    ulcer = ulcer_index(returns)
    return (total_return(returns) - risk_free_total) / ulcer if ulcer != 0.0 else math.nan


def serenity(returns: Floats, risk_free_total: float = 0.0) -> float:
    """Return the sum of returns over ulcer index times pitfall: the drawdowns' expected shortfall in deviations.

    Source: KeyQuant, Introducing the Serenity Index, 2015; quantstats serenity_index (normal expected shortfall).
    """
    if returns.size < 2:
        return math.nan
    deviation = float(np.std(returns, ddof=1))
    pain = -normal_expected_shortfall(-drawdowns(returns)[1:]) * ulcer_index(returns)
    return (float(np.sum(returns)) - risk_free_total) * deviation / pain if pain != 0.0 else math.nan


def recovery_factor(returns: Floats, risk_free_total: float = 0.0) -> float:
    """Return the sum of returns over the maximum drawdown.

    quantstats recovery_factor drops the sign, so that a loss looks like a recovery; this one keeps it.
    """
    depth = max_drawdown(returns)
    return (float(np.sum(returns)) - risk_free_total) / depth if depth != 0.0 else math.nan


def stability(returns: Floats) -> float:
    """Return R squared of a straight line through the cumulated log returns. Source: empyrical stability_of_timeseries.

    NaN below two returns, or where a return of -1 or less has no logarithm.
    """
    if returns.size < 2 or not np.all(returns > -1.0):
        return math.nan
    y = np.cumsum(np.log1p(returns))
    x = np.arange(y.size) - (y.size - 1) / 2.0
    d = y - np.mean(y)
    total = float(d @ d)
    return float(x @ d) ** 2 / (float(x @ x) * total) if total > 0.0 else math.nan


def _probabilistic(returns: Floats, ratio: float, benchmark: float) -> float:
    if returns.size < 4 or math.isnan(ratio):
        return math.nan
    spread = 1.0 - skewness(returns) * ratio + (kurtosis(returns) + 2.0) / 4.0 * ratio**2
    return NormalDist().cdf((ratio - benchmark) / math.sqrt(spread / (returns.size - 1))) if spread > 0.0 else math.nan
