"""Against a benchmark: returns and benchmark [n] of the same periods, simple, one per period; NaN in, NaN out.

Raises ValueError where the shapes differ. Source of each: empyrical and quantstats, which agree unless it is said.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tradecore.reports.metrics.curve import SESSIONS_PER_YEAR, Floats, cagr, sharpe, total_return


class Batting(NamedTuple):
    """Shares of periods that beat the benchmark: of all, of those when it did not fall, of those when it fell."""

    all_periods: float
    up_market: float
    down_market: float


def beta(returns: Floats, benchmark: Floats) -> float:
    """Return cov(returns, benchmark) / var(benchmark); NaN below two periods or where the benchmark is constant."""
    _same(returns, benchmark)
    if returns.size < 2:
        return math.nan
    d = benchmark - np.mean(benchmark)
    square = float(d @ d)
    return float(d @ returns) / square if not square < 1e-30 * returns.size else math.nan


def alpha(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the mean that beta does not explain, compounded to a year: (1 + a) ** periods_per_year - 1.

    Source: empyrical alpha. quantstats greeks multiplies instead: see simple_alpha.
    """
    rest = simple_alpha(returns, benchmark, 1.0)
    return float((1.0 + rest) ** periods_per_year - 1.0)


def simple_alpha(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the mean that beta does not explain times periods_per_year. Source: quantstats greeks."""
    slope = beta(returns, benchmark)
    return float(np.mean(returns) - slope * np.mean(benchmark)) * periods_per_year if returns.size > 1 else math.nan


def up_market(returns: Floats, benchmark: Floats) -> tuple[Floats, Floats]:
    """Return both of the periods in which the benchmark rose: alpha(*up_market(r, b)) is empyrical's up_alpha_beta."""
    _same(returns, benchmark)
    rose = ~(benchmark <= 0.0)  # a NaN stays, and makes the figure NaN
    return returns[rose], benchmark[rose]


def down_market(returns: Floats, benchmark: Floats) -> tuple[Floats, Floats]:
    """Return both of the periods in which the benchmark fell."""
    _same(returns, benchmark)
    fell = ~(benchmark >= 0.0)
    return returns[fell], benchmark[fell]


def capture(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return CAGR over the benchmark's CAGR. Source: empyrical capture."""
    _same(returns, benchmark)
    base = cagr(benchmark, periods_per_year)
    return cagr(returns, periods_per_year) / base if base != 0.0 else math.nan


def up_capture(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the capture over the periods in which the benchmark rose. Source: empyrical up_capture."""
    return capture(*up_market(returns, benchmark), periods_per_year)


def down_capture(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the capture over the periods in which the benchmark fell. Source: empyrical down_capture."""
    return capture(*down_market(returns, benchmark), periods_per_year)


def up_down_capture(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return up capture over down capture. Source: empyrical up_down_capture."""
    fall = down_capture(returns, benchmark, periods_per_year)
    return up_capture(returns, benchmark, periods_per_year) / fall if fall != 0.0 else math.nan


def information_ratio(returns: Floats, benchmark: Floats, periods_per_year: float = 1.0) -> float:
    """Return mean over deviation of the difference, by default per period as both libraries give it.

    Source: Goodwin, "The Information Ratio", Financial Analysts Journal 54(4), 1998; empyrical excess_sharpe,
    quantstats information_ratio (0 where there is no deviation; here NaN).
    """
    _same(returns, benchmark)
    return sharpe(returns - benchmark, periods_per_year)


def tracking_error(returns: Floats, benchmark: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the annualised standard deviation of the difference; NaN below two periods."""
    _same(returns, benchmark)
    if returns.size < 2:
        return math.nan
    return float(np.std(returns - benchmark, ddof=1)) * math.sqrt(periods_per_year)


def treynor(returns: Floats, benchmark: Floats, risk_free_total: float = 0.0) -> float:
    """Return the total return less the risk-free total over beta.

    Source: quantstats treynor_ratio; Treynor (1965) takes annual returns.
    """
    slope = beta(returns, benchmark)
    return (total_return(returns) - risk_free_total) / slope if slope != 0.0 else math.nan


def r_squared(returns: Floats, benchmark: Floats) -> float:
    """Return the share of the variance that the benchmark explains. Source: quantstats r_squared."""
    _same(returns, benchmark)
    if returns.size < 2:
        return math.nan
    a, b = returns - np.mean(returns), benchmark - np.mean(benchmark)
    scale = float(a @ a) * float(b @ b)
    return float(a @ b) ** 2 / scale if scale != 0.0 else math.nan


def batting_average(returns: Floats, benchmark: Floats) -> Batting:
    """Return how often the benchmark was beaten. Source: empyrical batting_average (a benchmark of 0 counts as up)."""
    _same(returns, benchmark)
    if np.isnan(returns).any() or np.isnan(benchmark).any():
        return Batting(math.nan, math.nan, math.nan)
    won = returns > benchmark
    parts = (won, won[benchmark >= 0.0], won[benchmark < 0.0])
    return Batting(*(float(np.mean(part)) if part.size else math.nan for part in parts))


def beta_fragility(returns: Floats, benchmark: Floats) -> float:
    """Return how much worse than linear the extremes of the benchmark are; below 0 is fragile. NaN below three.

    Source: Taleb, Canetti, Kinda, Loukoianova & Schmieder, "A New Heuristic Measure of Fragility and Tail Risks", IMF
    Working Paper 12/216, 2012; empyrical beta_fragility_heuristic.
    """
    _same(returns, benchmark)
    if returns.size < 3 or np.isnan(returns).any() or np.isnan(benchmark).any():
        return math.nan
    order = np.argsort(benchmark, kind="stable")
    low, mid, high = (int(order[k]) for k in (0, order.size // 2, order.size - 1))
    span = float(benchmark[high] - benchmark[low])
    share = float(benchmark[high] - benchmark[mid]) / span if span != 0.0 else 0.5
    # What lies nearer to the middle weighs more: the line through both ends, taken at the middle.
    other = float(benchmark[mid] - benchmark[low]) / span if span != 0.0 else 0.5
    return share * float(returns[low]) + other * float(returns[high]) - float(returns[mid])


def _same(returns: Floats, benchmark: Floats) -> None:
    if returns.shape != benchmark.shape:
        raise ValueError(f"returns have shape {returns.shape}, the benchmark {benchmark.shape}")
