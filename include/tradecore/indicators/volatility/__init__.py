"""Ranges and volatilities. Data [T] or [T, n] in prices; volatilities are annualised by sqrt(bars_per_year).

ValueError for shapes that differ and for periods out of range.
"""

from __future__ import annotations

from tradecore.indicators.columns import Values, positive, run, whole
from tradecore.indicators.volatility import _kernels
from tradecore.model import Floats


def trange(high: Values, low: Values, close: Values) -> Floats:
    """Compute the true range: high to low, widened to the close before.

    A NaN row gives NaN and counts for nothing otherwise; NaN at the first row. Source: Wilder 1978; TA-Lib TRANGE.
    """
    return run("trange", _kernels.true_range, {"high": high, "low": low, "close": close})[0]


def atr(high: Values, low: Values, close: Values, period: int = 14) -> Floats:
    """Compute Wilder's average true range, seeded with the mean of the first `period` ranges; NaN as trange.

    Source: Wilder, New Concepts in Technical Trading Systems, 1978, section III; TA-Lib ATR.
    """
    whole("atr", 1, period=period)
    return run("atr", _kernels.atr, {"high": high, "low": low, "close": close}, int(period))[0]


def parkinson(high: Values, low: Values, period: int = 20, bars_per_year: float = 252.0) -> Floats:
    """Compute sqrt(mean(ln(high / low)^2) / (4 ln 2)); NaN where the window is not complete or holds a NaN.

    Source: Parkinson, "The Extreme Value Method for Estimating the Variance of the Rate of Return", Journal of Business
    53(1), 1980.
    """
    whole("parkinson", 1, period=period)
    positive("parkinson", bars_per_year=bars_per_year)
    return run("parkinson", _kernels.parkinson, {"high": high, "low": low}, int(period), float(bars_per_year))[0]


def garman_klass(
    open_: Values, high: Values, low: Values, close: Values, period: int = 20, bars_per_year: float = 252.0
) -> Floats:
    """Compute sqrt(mean(0.5 ln(high / low)^2 - (2 ln 2 - 1) ln(close / open)^2)); NaN as parkinson.

    Source: Garman & Klass, "On the Estimation of Security Price Volatilities from Historical Data", Journal of Business
    53(1), 1980: the practical form, which leaves the small cross terms out.
    """
    whole("garman_klass", 1, period=period)
    positive("garman_klass", bars_per_year=bars_per_year)
    data = {"open": open_, "high": high, "low": low, "close": close}
    return run("garman_klass", _kernels.garman_klass, data, int(period), float(bars_per_year))[0]


def ewma_volatility(x: Values, decay: float = 0.94, seed_period: int = 20, bars_per_year: float = 252.0) -> Floats:
    """Compute the exponentially weighted volatility of log returns around 0.

    variance = decay * variance + (1 - decay) * return^2, starting as the mean square of the first `seed_period`.
    A row that is NaN or not above 0 gives NaN and counts for nothing otherwise.
    Source: J.P. Morgan/Reuters, RiskMetrics - Technical Document, 4th edition, 1996, p. 78-82 (decay 0.94 for days).
    """
    whole("ewma_volatility", 1, seed_period=seed_period)
    positive("ewma_volatility", bars_per_year=bars_per_year, decay=decay)
    if decay >= 1.0:
        raise ValueError(f"ewma_volatility: decay is {decay!r}; it must be below 1")
    params = float(decay), int(seed_period), float(bars_per_year)
    return run("ewma_volatility", _kernels.ewma_volatility, {"x": x}, *params)[0]
