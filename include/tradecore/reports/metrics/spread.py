"""How returns are spread: moments, quantiles, tails, value at risk. Returns are simple, one per period."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tradecore.reports.metrics.curve import Floats, drawdowns


def skewness(returns: Floats) -> float:
    """Return the bias-adjusted skewness, G1; NaN below three returns or without variance.

    Source: Joanes & Gill, "Comparing Measures of Sample Skewness and Kurtosis", The Statistician 47(1), 1998; pandas.
    """
    n, second, third, _ = _moments(returns)
    if n < 3 or second == 0.0:
        return math.nan
    return float(math.sqrt(n * (n - 1)) / (n - 2) * third / second**1.5)


def kurtosis(returns: Floats) -> float:
    """Return the bias-adjusted excess kurtosis, G2 (0 for a normal distribution); NaN below four or without variance.

    Source: as skewness.
    """
    n, second, _, fourth = _moments(returns)
    if n < 4 or second == 0.0:
        return math.nan
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (fourth / second**2 - 3.0) + 6.0)


def quantile(returns: Floats, share: float) -> float:
    """Return the value that `share` of the returns lie below, interpolated linearly; NaN for none or a NaN."""
    return float(np.quantile(returns, share)) if returns.size else math.nan


def value_at_risk(returns: Floats, cutoff: float = 0.05) -> float:
    """Return the historical value at risk as a return: the quantile at cutoff (a loss is negative).

    Source: empyrical value_at_risk.
    """
    return quantile(returns, cutoff)


def conditional_value_at_risk(returns: Floats, cutoff: float = 0.05) -> float:
    """Return the mean of the worst returns, as many as lie at or below the quantile at cutoff.

    Source: empyrical conditional_value_at_risk; quantstats cvar(method="historical").
    """
    if returns.size == 0 or np.isnan(returns).any():
        return math.nan
    count = int((returns.size - 1) * cutoff) + 1
    return float(np.mean(np.sort(returns)[:count]))


def normal_value_at_risk(returns: Floats, confidence: float = 0.95) -> float:
    """Return the value at risk of a normal distribution with the returns' mean and deviation.

    Source: quantstats value_at_risk. NaN below two returns.
    """
    if returns.size < 2:
        return math.nan
    return float(np.mean(returns) + np.std(returns, ddof=1) * NormalDist().inv_cdf(1.0 - confidence))


def normal_expected_shortfall(values: Floats, confidence: float = 0.95) -> float:
    """Return the mean beyond the value at risk of a normal distribution with the values' mean and deviation.

    Source: quantstats cvar (its default, "parametric"). NaN below two values.
    """
    if values.size < 2:
        return math.nan
    alpha = 1.0 - confidence
    density = NormalDist().pdf(NormalDist().inv_cdf(alpha))
    return float(np.mean(values) - np.std(values, ddof=1) * density / alpha)


def tail_ratio(returns: Floats, cutoff: float = 0.95) -> float:
    """Return the right quantile over the left one, both without sign; NaN where the left one is 0.

    Source: empyrical and quantstats tail_ratio.
    """
    right, left = quantile(returns, cutoff), quantile(returns, 1.0 - cutoff)
    return abs(right / left) if left != 0.0 else math.nan


def outlier_win_ratio(returns: Floats, share: float = 0.99) -> float:
    """Return the quantile at `share` over the mean of the returns that are not negative. Source: quantstats."""
    kept = returns[returns >= 0.0]
    return quantile(returns, share) / float(np.mean(kept)) if kept.size and np.any(kept > 0.0) else math.nan


def outlier_loss_ratio(returns: Floats, share: float = 0.01) -> float:
    """Return the quantile at `share` over the mean of the negative returns. Source: quantstats."""
    kept = returns[returns < 0.0]
    return quantile(returns, share) / float(np.mean(kept)) if kept.size else math.nan


def box(returns: Floats) -> tuple[Floats, Floats]:
    """Return the returns within 1.5 interquartile ranges of the quartiles, and the outliers beyond.

    Source: Tukey, Exploratory Data Analysis, 1977; quantstats distribution.
    """
    if returns.size == 0:
        return returns, returns
    low, high = np.quantile(returns, [0.25, 0.75])
    within = (returns >= low - 1.5 * (high - low)) & (returns <= high + 1.5 * (high - low))
    return returns[within], returns[~within]


def above_quantile(returns: Floats, share: float = 0.95) -> Floats:
    """Return the returns above the quantile at `share`; none where one is NaN. Source: quantstats outliers.

    One-sided, as there: the best are called outliers, the worst are not. Both sides: `box`.
    """
    return returns[returns > quantile(returns, share)]


def below_quantile(returns: Floats, share: float = 0.95) -> Floats:
    """Return the returns below the quantile at `share`; none where one is NaN. Source: quantstats remove_outliers."""
    return returns[returns < quantile(returns, share)]


def log_volatility(returns: Floats, periods_per_year: float = 1.0) -> float:
    """Return the sample standard deviation of logarithmic returns, by default per period; NaN below two returns.

    Source: quantstats implied_volatility(annualize=False). A return of -1 or less gives NaN.
    """
    if returns.size < 2 or not bool(np.all(returns > -1.0)):
        return math.nan
    return float(np.std(np.log1p(returns), ddof=1)) * math.sqrt(periods_per_year)


def ulcer_index(returns: Floats) -> float:
    """Return the root of the summed squared drawdowns over n - 1 (the start is no observation).

    Source: quantstats ulcer_index; Martin & McCann, The Investor's Guide to Fidelity Funds, 1989, divide by n.
    """
    if returns.size < 2:
        return math.nan
    return math.sqrt(float(np.sum(drawdowns(returns) ** 2)) / (returns.size - 1))


def downside_risk(returns: Floats, periods_per_year: float = 252.0, target: float = 0.0) -> float:
    """Return the annualised root mean square of what falls short of target, over all periods.

    Source: empyrical downside_risk. NaN for no returns.
    """
    if returns.size == 0:
        return math.nan
    return math.sqrt(float(np.mean(np.minimum(returns - target, 0.0) ** 2)) * periods_per_year)


def _moments(returns: Floats) -> tuple[int, float, float, float]:
    """Return n and the central moments 2, 3 and 4; the second is exactly 0 for constant returns."""
    if returns.size == 0 or bool(np.all(returns == returns[0])):
        return returns.size, 0.0, 0.0, 0.0
    d = returns - np.mean(returns)
    return returns.size, float(np.mean(d**2)), float(np.mean(d**3)), float(np.mean(d**4))
