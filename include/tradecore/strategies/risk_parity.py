"""Risk parity: every name gives the same part of the portfolio's variance.

Maillard, Roncalli & Teiletche, "The Properties of Equally Weighted Risk Contribution Portfolios", Journal of Portfolio
Management 36(4), 2010, pp. 60-70; solved by cyclical coordinate descent: Griveau-Billion, Richard & Roncalli, "A Fast
Algorithm for Computing High-dimensional Risk Parity Portfolios", SSRN 2325255, 2013.

Scores are weights over the largest weight, so that with `equal_weight` sizing the positions stand in the ratio of the
weights; `volatility_adjusted` would count volatility twice. A name with a hole in its window, or that did not move, has
no opinion and no part.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy

SWEEPS = 200
TOLERANCE = 1e-12


@strategy(lookback_bars=lambda p: p.period + 1)
def risk_parity(window: Window, *, period: Annotated[int, Field(ge=5, le=2000)] = 120) -> Floats:
    """Score each name with its equal-risk weight over the largest one."""
    close = window.close[-period - 1 :]
    returns = close[1:] / close[:-1] - 1.0
    score = np.full(close.shape[1], np.nan)
    part = np.flatnonzero(~np.isnan(returns).any(axis=0) & (returns.std(axis=0) > 0.0))
    if part.size:
        weight = equal_risk_weights(np.atleast_2d(np.cov(returns[:, part], rowvar=False)))
        score[part] = weight / weight.max()
    return score


def equal_risk_weights(covariance: Floats) -> Floats:
    """Return the long-only weights [n], summing to 1, with w_i (covariance @ w)_i equal for all i.

    Parameters: covariance [n, n], positive on its diagonal. They minimise w' C w / 2 - sum(ln w_i) / n up to scale;
    each coordinate has a closed form given the others.
    """
    n, variance = covariance.shape[0], np.diag(covariance)
    w = 1.0 / np.sqrt(variance) / np.sqrt(n)
    for _ in range(SWEEPS):
        before = w.copy()
        for i in range(n):
            others = covariance[i] @ w - variance[i] * w[i]
            w[i] = (np.sqrt(others * others + 4.0 * variance[i] / n) - others) / (2.0 * variance[i])
        if np.abs(w / before - 1.0).max() < TOLERANCE:
            break
    return np.asarray(w / w.sum())
