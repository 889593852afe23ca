"""Rolling statistics: amortised O(1) a row whatever the period (the median O(log period)), and without drift.

All of them: data [T] or [T, n], period in rows; NaN where the window of `period` rows is not complete or holds a NaN;
ValueError for shapes that differ and for periods out of range.
"""

from __future__ import annotations

from tradecore.indicators.columns import Values, run, whole
from tradecore.indicators.rolling import _kernels
from tradecore.model import Floats


def var(x: Values, period: int, ddof: int = 0) -> Floats:
    """Compute the rolling variance, divisor period - ddof. Source: TA-Lib VAR (ddof 0)."""
    _degrees("var", period, ddof)
    return run("var", _kernels.rolling_var, {"x": x}, int(period), int(ddof))[0]


def stddev(x: Values, period: int, ddof: int = 0) -> Floats:
    """Compute the rolling standard deviation, divisor period - ddof. Source: TA-Lib STDDEV (ddof 0)."""
    _degrees("stddev", period, ddof)
    return run("stddev", _kernels.rolling_std_alone, {"x": x}, int(period), int(ddof))[0]


def zscore(x: Values, period: int, ddof: int = 0) -> Floats:
    """Compute (x - rolling mean) / rolling standard deviation; NaN where the window does not vary."""
    _degrees("zscore", period, ddof)
    return run("zscore", _kernels.rolling_zscore, {"x": x}, int(period), int(ddof))[0]


def rolling_min(x: Values, period: int) -> Floats:
    """Find the smallest of the last `period` rows. Source: TA-Lib MIN."""
    whole("rolling_min", 1, period=period)
    return run("rolling_min", _kernels.rolling_max, {"x": x}, int(period), -1.0)[0]


def rolling_max(x: Values, period: int) -> Floats:
    """Find the largest of the last `period` rows. Source: TA-Lib MAX."""
    whole("rolling_max", 1, period=period)
    return run("rolling_max", _kernels.rolling_max, {"x": x}, int(period), 1.0)[0]


def rolling_median(x: Values, period: int) -> Floats:
    """Find the median of the last `period` rows, the mean of the middle two when period is even; O(T log period)."""
    whole("rolling_median", 1, period=period)
    return run("rolling_median", _kernels.rolling_median, {"x": x}, int(period))[0]


def correl(x: Values, y: Values, period: int = 30) -> Floats:
    """Compute Pearson's rolling correlation; NaN where x or y does not vary (TA-Lib CORREL says 0 there)."""
    whole("correl", 2, period=period)
    return run("correl", _kernels.rolling_correlation, {"x": x, "y": y}, int(period))[0]


def beta(x: Values, y: Values, period: int = 5) -> Floats:
    """Compute the rolling slope of x on y, cov(x, y) / var(y): of an asset's returns x on a benchmark's returns y.

    NaN where y does not vary. TA-Lib BETA takes prices, makes simple returns of them, and divides by the variance of
    its *first* argument: BETA(prices_y, prices_x) there is beta(returns_x, returns_y) here.
    """
    whole("beta", 2, period=period)
    return run("beta", _kernels.rolling_beta, {"x": x, "y": y}, int(period))[0]


def _degrees(name: str, period: int, ddof: int) -> None:
    whole(name, 0, ddof=ddof)
    whole(name, int(ddof) + 1, period=period)
