"""The figures of an equity curve that every report shows: growth, volatility, ratios, drawdowns."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SESSIONS_PER_YEAR = 252.0


def simple_returns(equity: Floats, flow: Floats | None = None) -> Floats:
    """Compute period returns net of flows.

    Parameters: equity [n] at period ends, USD, > 0; flow [n], money that came in during each period, USD
    (None = none). Returns [n - 1]: equity[t] / (equity[t-1] + flow[t]) - 1, NaN where that base is not
    positive.
    Raises ValueError when the shapes differ.
    Source: the book's own rule (docs/STEP.md, settle 1): a deposit is there from the period's start.
    """
    if flow is not None and flow.shape != equity.shape:
        raise ValueError(f"equity has shape {equity.shape}, flow {flow.shape}")
    moved = np.zeros_like(equity) if flow is None else flow
    base = equity[:-1] + moved[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        returns: Floats = equity[1:] / base - 1.0
    return np.where(base > 0.0, returns, np.nan)


def growth(returns: Floats) -> Floats:
    """Compound returns [n] to an index [n + 1] that starts at 1."""
    return np.concatenate([[1.0], np.cumprod(1.0 + returns)])


def total_return(returns: Floats) -> float:
    """Return the compound return over all periods; 0 for none."""
    return float(growth(returns)[-1] - 1.0)


def cagr(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the compound annual growth rate, growth ** (periods_per_year / n) - 1.

    NaN for no returns, -1 when everything was lost.
    """
    if returns.size == 0:
        return math.nan
    end = float(growth(returns)[-1])
    return -1.0 if end <= 0.0 else end ** (periods_per_year / returns.size) - 1.0


def annual_volatility(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return the sample standard deviation times sqrt(periods_per_year); NaN below two returns."""
    if returns.size < 2:
        return math.nan
    return float(np.std(returns, ddof=1) * math.sqrt(periods_per_year))


def sharpe(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR, risk_free: float = 0.0) -> float:
    """Return mean excess return over its sample standard deviation, annualised by sqrt(periods_per_year).

    `risk_free` is a rate per period. NaN below two returns or without variance.
    Source: Sharpe (1994), The Sharpe Ratio, Journal of Portfolio Management 21(1).
    """
    if returns.size < 2:
        return math.nan
    excess = returns - risk_free
    return _ratio(float(np.mean(excess)), _spread(excess), periods_per_year)


def sortino(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR, target: float = 0.0) -> float:
    """Return mean return above `target` over the downside deviation, annualised by sqrt(periods_per_year).

    The deviation is the root of the mean over *all* periods of min(0, r - target) squared. NaN without
    returns or without a loss. Source: Sortino and Price (1994), Performance Measurement in a Downside Risk
    Framework.
    """
    if returns.size == 0:
        return math.nan
    excess = returns - target
    downside = math.sqrt(float(np.mean(np.minimum(excess, 0.0) ** 2)))
    return _ratio(float(np.mean(excess)), downside, periods_per_year)


def drawdowns(returns: Floats) -> Floats:
    """Return the drawdown [n + 1] of the compounded index, 0 at a peak, 0.25 a quarter below it."""
    index = growth(returns)
    peaks: Floats = np.maximum.accumulate(index)
    return 1.0 - index / peaks


def max_drawdown(returns: Floats) -> float:
    """Return the deepest drawdown as a positive fraction; 0 for none."""
    return float(np.max(drawdowns(returns)))


def longest_drawdown(returns: Floats) -> int:
    """Return the most periods in a row spent below an earlier peak."""
    longest = run = 0
    for depth in drawdowns(returns):
        run = run + 1 if depth > 0.0 else 0
        longest = max(longest, run)
    return longest


def calmar(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return CAGR over the maximum drawdown since the start; NaN without a drawdown."""
    depth = max_drawdown(returns)
    return cagr(returns, periods_per_year) / depth if depth > 0.0 else math.nan


def hit_rate(returns: Floats) -> float:
    """Return the share of positive periods among those that are not zero; NaN if all are zero."""
    moved = returns[returns != 0.0]
    return float(np.mean(moved > 0.0)) if moved.size and not np.isnan(moved).any() else math.nan


def annual_turnover(traded: Floats, equity: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> float:
    """Return traded value over equity per year, one-sided (a full exchange of the book counts 1).

    Parameters: traded [n], absolute notional of buys and sells of each period, USD; equity [n], USD, > 0. The
    mean of traded / equity is halved and annualised. NaN for no periods. Raises ValueError when the shapes
    differ.
    """
    if traded.shape != equity.shape:
        raise ValueError(f"traded has shape {traded.shape}, equity {equity.shape}")
    if traded.size == 0:
        return math.nan
    return float(np.mean(traded / equity) / 2.0 * periods_per_year)


def _spread(values: Floats) -> float:
    """Return the sample standard deviation, exactly 0 for constant values: rounding noise is no risk."""
    return 0.0 if bool(np.all(values == values[0])) else float(np.std(values, ddof=1))


def _ratio(mean: float, deviation: float, periods_per_year: float) -> float:
    return mean / deviation * math.sqrt(periods_per_year) if deviation != 0.0 else math.nan
