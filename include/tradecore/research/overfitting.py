"""How much of a Sharpe ratio is luck: probabilistic and deflated Sharpe ratio, and the probability of overfitting.

Sharpe ratios here are per period, not annualised, and kurtosis is that of Pearson (3 for the normal distribution).

Sources: Bailey & Lopez de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 2012, pp. 3-44 (PSR,
minimum track record); Bailey & Lopez de Prado, "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest
Overfitting and Non-Normality", Journal of Portfolio Management 40(5), 2014, pp. 94-107 (DSR); Bailey, Borwein, Lopez de
Prado & Zhu, "The Probability of Backtest Overfitting", Journal of Computational Finance 20(4), 2017, pp. 39-69 (CSCV).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tradecore.model import Floats
from tradecore.reports import metrics

EULER_GAMMA = 0.5772156649015329
NORMAL = NormalDist()


def probabilistic_sharpe(
    sharpe: float, periods: int, *, benchmark: float = 0.0, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Return the probability that the true Sharpe ratio lies above `benchmark`, given the one estimated.

    NaN below two periods, or where the moments give the estimate no positive variance. Source: 2012, equation 11.
    """
    spread = _spread(sharpe, skewness, kurtosis)
    if periods < 2 or not spread > 0.0:
        return math.nan
    return NORMAL.cdf((sharpe - benchmark) * math.sqrt(periods - 1) / math.sqrt(spread))


def least_track_record(
    sharpe: float, *, benchmark: float = 0.0, skewness: float = 0.0, kurtosis: float = 3.0, confidence: float = 0.95
) -> float:
    """Return how many periods it takes until the estimate is above `benchmark` with that confidence (MinTRL).

    Infinity where it is not above it at all. Source: 2012, equation 12.
    """
    if sharpe <= benchmark:
        return math.inf
    return 1.0 + _spread(sharpe, skewness, kurtosis) * (NORMAL.inv_cdf(confidence) / (sharpe - benchmark)) ** 2


def expected_best_sharpe(trials: float, variance: float) -> float:
    """Return the Sharpe ratio that the best of `trials` independent strategies without any skill is expected to show.

    `variance` is that of the Sharpe ratios across the trials. 0 for one trial. Source: 2014, equation 4.
    """
    if trials <= 1:
        return 0.0
    a, b = NORMAL.inv_cdf(1.0 - 1.0 / trials), NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - EULER_GAMMA) * a + EULER_GAMMA * b)


def deflated_sharpe(
    sharpe: float, periods: int, *, trials: float, variance: float, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Return the probability that the true Sharpe ratio is above what the best of so many trials shows by luck alone.

    Source: 2014, equation 9: the probabilistic Sharpe ratio against `expected_best_sharpe`.
    """
    return probabilistic_sharpe(
        sharpe,
        periods,
        benchmark=expected_best_sharpe(trials, variance),
        skewness=skewness,
        kurtosis=kurtosis,
    )


def moments(returns: Floats) -> tuple[float, float, float]:
    """Return (Sharpe ratio per period, skewness, Pearson's kurtosis) of returns [T], as the ratios above take them."""
    return metrics.sharpe(returns, 1.0), metrics.skewness(returns), metrics.kurtosis(returns) + 3.0


def _spread(sharpe: float, skewness: float, kurtosis: float) -> float:
    return 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfitting:
    """What CSCV found over `splits` ways to halve history.

    probability: share of splits in which the best variant in sample is at or below the median out of sample (PBO).
    loss_probability: share in which it loses money out of sample. slope: of its Sharpe ratio out of sample on that in
    sample; logits [splits] of its relative rank out of sample.
    """

    probability: float
    loss_probability: float
    slope: float
    splits: int
    logits: Floats


def probability_of_overfitting(returns: Floats, blocks: int = 16) -> Overfitting:
    """Compute PBO by combinatorially symmetric cross-validation with the Sharpe ratio as the measure.

    Parameters: returns [T, N], simple, one column a variant; blocks, even: T is cut into so many, the oldest rows that
    do not fill one are left out. A variant without variance in a half counts as a Sharpe ratio of 0; ties share a rank.
    Raises ValueError for fewer than 2 variants, an odd number of blocks, or blocks of fewer than 2 rows.
    """
    n_rows, n = returns.shape
    size = n_rows // blocks
    if n < 2 or blocks < 2 or blocks % 2 or size < 2:
        raise ValueError(f"{n} variants, {blocks} blocks of {size} rows; needs 2 variants, even blocks, 2 rows each")
    cut = returns[n_rows - size * blocks :].reshape(blocks, size, n)
    sums, squares = cut.sum(axis=1), (cut**2).sum(axis=1)
    choices = np.array(list(itertools.combinations(range(blocks), blocks // 2)))
    pick = np.zeros((choices.shape[0], blocks))
    np.put_along_axis(pick, choices, 1.0, axis=1)
    half = size * blocks // 2
    seen = _sharpe(pick @ sums, pick @ squares, half)
    rest = _sharpe((1.0 - pick) @ sums, (1.0 - pick) @ squares, half)
    best = np.argmax(seen, axis=1)[:, None]
    theirs = np.take_along_axis(rest, best, axis=1)
    rank = (rest < theirs).sum(axis=1) + ((rest == theirs).sum(axis=1) + 1) / 2.0
    omega = rank / (n + 1.0)
    logits = np.log(omega / (1.0 - omega))
    lost = np.take_along_axis((1.0 - pick) @ sums, best, axis=1)[:, 0] < 0.0
    x, y = np.take_along_axis(seen, best, axis=1)[:, 0], theirs[:, 0]
    dx = x - x.mean()
    return Overfitting(
        probability=float(np.mean(logits <= 0.0)),
        loss_probability=float(np.mean(lost)),
        slope=float(dx @ (y - y.mean()) / (dx @ dx)) if dx @ dx > 0.0 else math.nan,
        splits=choices.shape[0],
        logits=logits,
    )


def _sharpe(total: Floats, squares: Floats, count: int) -> Floats:
    """Return Sharpe ratios [splits, N] from sums and sums of squares of `count` returns; 0 without variance."""
    mean = total / count
    variance = (squares - count * mean**2) / (count - 1)
    alive = variance > 1e-18
    return np.where(alive, mean / np.sqrt(np.where(alive, variance, 1.0)), 0.0)
