"""What a portfolio may lose, from returns: value at risk, expected shortfall, where they come from, and whether they
held.

Losses are positive fractions. `returns` [T] are those of the portfolio as it stands now, over the bars of the past
(weights times the returns of names), not those that the book had. Formulas: docs/risk.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tradecore.model import Floats
from tradecore.risk.measures import _kernels as kernels

NORMAL = NormalDist()
METHODS = ("historical", "normal", "cornish_fisher", "filtered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Value at risk and expected shortfall of one method, confidence and horizon."""

    method: str
    confidence: float
    horizon_bars: int
    value_at_risk: float
    expected_shortfall: float


def worst_rows(rows: int, confidence: float) -> int:
    """Return which of the worst of some rows is the value at risk: the one that (1 - confidence) of them reach."""
    return max(1, math.ceil(round((1.0 - confidence) * rows, 9)))


def historical(returns: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return (value at risk, expected shortfall) of each column of returns [T, m], or of returns [T].

    The value at risk is a return that happened; the shortfall counts (1 - confidence) T rows, the last of them in part
    (Acerbi & Tasche 2002, as riskfolio-lib and skfolio have it). Raises ValueError for NaN or no rows.
    """
    table = np.ascontiguousarray(returns.reshape(returns.shape[0], -1), np.float64)
    if table.shape[0] == 0 or np.isnan(table).any():
        raise ValueError("returns must have rows, and no NaN")
    worst = worst_rows(table.shape[0], confidence)
    value, mean = np.empty(table.shape[1]), np.empty(table.shape[1])
    kernels.partition_columns(table, worst, np.empty(worst), value, mean)
    count = (1.0 - confidence) * table.shape[0]
    tail = (mean * worst - value * (worst - count)) / count if count < worst else mean
    shape = returns.shape[1:]
    return value.reshape(shape), np.asarray(tail).reshape(shape)


def normal(mean: float, deviation: float, confidence: float) -> tuple[float, float]:
    """Return (value at risk, expected shortfall) of a normal return."""
    z = NORMAL.inv_cdf(1.0 - confidence)
    return -(mean + z * deviation), -mean + deviation * NORMAL.pdf(z) / (1.0 - confidence)


def cornish_fisher(returns: Floats, confidence: float, horizon: int = 1) -> tuple[float, float]:
    """Return (value at risk, expected shortfall) of returns [T] by the expansion of their quantile.

    Cornish & Fisher 1937, as in Favre & Galeano 2002; the shortfall is the mean of that quantile over the tail, in
    closed form. Over a horizon skewness falls with its root and excess kurtosis with itself (independent returns).
    """
    mean, deviation = float(returns.mean()) * horizon, float(returns.std()) * math.sqrt(horizon)
    if deviation == 0.0:
        return -mean, -mean
    standard = (returns - returns.mean()) / returns.std()
    skew = float((standard**3).mean()) / math.sqrt(horizon)
    kurtosis = (float((standard**4).mean()) - 3.0) / horizon
    z = NORMAL.inv_cdf(1.0 - confidence)
    density = NORMAL.pdf(z) / (1.0 - confidence)
    moments = (z, z * z, z**3), (-density, 1.0 - z * density, -(z * z + 2.0) * density)
    quantile, tail = (
        first
        + (second - 1.0) * skew / 6.0
        + (third - 3.0 * first) * kurtosis / 24.0
        - (2.0 * third - 5.0 * first) * skew * skew / 36.0
        for first, second, third in moments
    )
    return -(mean + deviation * quantile), -(mean + deviation * tail)


def filtered(returns: Floats, confidence: float, decay: float) -> tuple[float, float]:
    """Return (value at risk, expected shortfall) of returns [T], each brought from the volatility that was forecast for
    it to that for the next bar (Hull & White 1998, with the EWMA of RiskMetrics)."""
    volatility = np.empty(returns.size + 1)
    kernels.ewma_volatility(np.ascontiguousarray(returns, np.float64), decay, volatility)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(volatility[:-1] > 0.0, returns * (volatility[-1] / volatility[:-1]), 0.0)
    value, tail = historical(scaled, confidence)
    return float(value), float(tail)


def over(returns: Floats, horizon: int) -> Floats:
    """Return the compounded returns [T - horizon + 1] of every stretch of `horizon` bars; they overlap."""
    grown = np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    return np.asarray(grown[horizon:] / grown[:-horizon] - 1.0)


def losses(
    returns: Floats, *, confidences: tuple[float, ...] = (0.95, 0.99), horizons: tuple[int, ...] = (1, 10), decay: float
) -> list[Loss]:
    """Return every method's losses. Over a horizon the historical one compounds overlapping stretches, the filtered one
    grows with the root of time."""
    out = []
    for horizon in horizons:
        stretches = over(returns, horizon)
        for confidence in confidences:
            value, tail = historical(stretches, confidence)
            root = math.sqrt(horizon)
            mean, deviation = float(returns.mean()) * horizon, float(returns.std()) * root
            of_filter = filtered(returns, confidence, decay)
            found = {
                "historical": (float(value), float(tail)),
                "normal": normal(mean, deviation, confidence),
                "cornish_fisher": cornish_fisher(returns, confidence, horizon),
                "filtered": (of_filter[0] * root, of_filter[1] * root),
            }
            out += [
                Loss(
                    method=method,
                    confidence=confidence,
                    horizon_bars=horizon,
                    value_at_risk=found[method][0],
                    expected_shortfall=found[method][1],
                )
                for method in METHODS
            ]
    return out


def contributions(weight: Floats, covariance: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return (marginal, component) value at risk [n] of weights: what one more unit of each would add, and what each is
    responsible for. Normal, around 0; the components sum to the whole (Euler), also with signs."""
    pull = covariance @ weight
    deviation = math.sqrt(max(float(weight @ pull), 0.0))
    z = -NORMAL.inv_cdf(1.0 - confidence)
    marginal = z * pull / deviation if deviation > 0.0 else np.zeros(weight.size)
    return np.asarray(marginal), np.asarray(weight * marginal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concentration:
    """largest: the biggest weight; herfindahl: the sum of squared parts of the gross weight; names: its inverse;
    diversification: the weighted volatility over that of the portfolio."""

    largest: float
    herfindahl: float
    names: float
    diversification: float


def concentration(weight: Floats, covariance: Floats) -> Concentration:
    """Return how concentrated weights [n] are; all 0 for none."""
    size = np.abs(weight)
    gross = float(size.sum())
    if gross == 0.0:
        return Concentration(largest=0.0, herfindahl=0.0, names=0.0, diversification=0.0)
    squares = float(((size / gross) ** 2).sum())
    deviation = math.sqrt(max(float(weight @ covariance @ weight), 0.0))
    alone = float((size * np.sqrt(np.diag(covariance))).sum())
    return Concentration(
        largest=float(size.max()),
        herfindahl=squares,
        names=1.0 / squares,
        diversification=alone / deviation if deviation > 0.0 else 0.0,
    )


def liquidity_days(value: Floats, traded_value: Floats, participation_frac: float) -> Floats:
    """Return the sessions [n] that each holding takes to sell at a part of what is traded; infinite without a trade."""
    with np.errstate(divide="ignore", invalid="ignore"):
        days = np.abs(value) / (participation_frac * traded_value)
    return np.asarray(np.where(value == 0.0, 0.0, np.where(traded_value > 0.0, days, np.inf)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtested:
    """A likelihood-ratio test of value at risk: its statistic, the chance of one as large, and what it counted."""

    test: str
    statistic: float
    p_value: float
    rows: int
    exceeded: int


def kupiec(hits: np.ndarray, confidence: float) -> Backtested:
    """Test whether losses went beyond value at risk as often as they should: proportion of failures, one degree.

    hits [T] bool. Kupiec, "Techniques for Verifying the Accuracy of Risk Measurement Models", Journal of Derivatives
    3(2), 1995: LR = -2 ln[(1-p)^(T-x) p^x] + 2 ln[(1-x/T)^(T-x) (x/T)^x].
    """
    rows, x = hits.size, int(hits.sum())
    p = 1.0 - confidence
    statistic = -2.0 * (_likelihood(rows - x, x, p) - _likelihood(rows - x, x, x / rows if rows else 0.0))
    return Backtested(
        test="kupiec",
        statistic=statistic,
        p_value=math.erfc(math.sqrt(max(statistic, 0.0) / 2.0)),
        rows=rows,
        exceeded=x,
    )


def christoffersen(hits: np.ndarray, confidence: float) -> tuple[Backtested, Backtested]:
    """Test whether a loss beyond value at risk says something of the next one (independence, one degree), and both this
    and their number (conditional coverage, two degrees).

    Christoffersen, "Evaluating Interval Forecasts", International Economic Review 39(4), 1998.
    """
    before, after = hits[:-1].astype(bool), hits[1:].astype(bool)
    n00, n01 = int((~before & ~after).sum()), int((~before & after).sum())
    n10, n11 = int((before & ~after).sum()), int((before & after).sum())
    every = (n01 + n11) / max(1, n00 + n01 + n10 + n11)
    apart = _likelihood(n00, n01, n01 / max(1, n00 + n01)) + _likelihood(n10, n11, n11 / max(1, n10 + n11))
    independence = -2.0 * (_likelihood(n00 + n10, n01 + n11, every) - apart)
    both = kupiec(hits, confidence).statistic + independence
    x = int(hits.sum())
    return (
        Backtested(
            test="independence",
            statistic=independence,
            p_value=math.erfc(math.sqrt(max(independence, 0.0) / 2.0)),
            rows=hits.size,
            exceeded=x,
        ),
        Backtested(
            test="conditional_coverage",
            statistic=both,
            p_value=math.exp(-max(both, 0.0) / 2.0),
            rows=hits.size,
            exceeded=x,
        ),
    )


def _likelihood(without: int, within: int, p: float) -> float:
    """Return ln[(1 - p)^without p^within], with 0 ln 0 = 0."""
    total = 0.0
    if without:
        total += without * math.log1p(-p) if p < 1.0 else -math.inf
    if within:
        total += within * math.log(p) if p > 0.0 else -math.inf
    return total
