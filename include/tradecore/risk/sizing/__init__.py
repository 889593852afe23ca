"""Sizing: the scores of a strategy at a bar to weights of its capital, by a method that is chosen by name.

`weights` is for one strategy and one bar. A name that is sold short comes in with its returns' sign turned, so that
every method is long-only inside. Methods and formulas: docs/risk.md. `equal_weight` and `volatility_adjusted` need no
covariance and are in risk/_kernels.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tradecore.model import Floats
from tradecore.risk.covariance import estimate
from tradecore.risk.sizing import _kernels as kernels

METHODS = (
    "fixed_fractional",
    "inverse_volatility",
    "volatility_target",
    "kelly",
    "risk_parity",
    "minimum_variance",
    "mean_variance",
)
NEEDS_RETURNS = frozenset(METHODS) - {"fixed_fractional"}
RISK_TOLERANCE, SWEEPS = 1e-10, 500
GAP_TOLERANCE, MOVES = 1e-10, 200_000  # a gap relative to the largest slope that there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How scores become weights: a method and its parameters. Weights are fractions of the strategy's capital."""

    method: str
    max_weight: float
    max_gross: float
    estimator: str = "ledoit_wolf"
    lookback_bars: int = 120
    decay: float = 0.94
    bars_per_year: float = 252.0
    target_volatility: float = 0.20
    trade_risk_frac: float = 0.01
    stop_frac: float = 1.0
    kelly_frac: float = 0.5
    kelly_shrink: bool = True
    risk_aversion: float = 5.0
    skill: float = 0.05
    shorts: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"sizing must be one of {', '.join(METHODS)}, not {self.method!r}")


def weights(how: Sizing, score: Floats, returns: Floats) -> Floats:
    """Return the weights [n], signed as the scores, NaN where there is no opinion.

    Parameters: score [n], 0 flat, up to 1 long and down to -1 short, NaN no opinion; returns [k, n] of the last k bars.
    A name with a hole in its returns, or that did not move, has no risk that could be sized: NaN, unless its score is
    0.
    """
    out = np.where(np.isnan(score), np.nan, 0.0)
    wanted = np.nan_to_num(score) != 0.0
    if how.method == "fixed_fractional":
        strength = np.minimum(1.0, np.abs(score[wanted]))
        size = np.minimum(how.max_weight, strength * how.trade_risk_frac / how.stop_frac)
        out[wanted] = np.sign(score[wanted]) * size
        return out
    usable = wanted.copy()
    usable[wanted] = _moved(returns[:, wanted])
    out[wanted & ~usable] = np.nan
    if usable.any():
        sign, strength = np.sign(score[usable]), np.minimum(1.0, np.abs(score[usable]))
        out[usable] = sign * _sized(how, strength, np.ascontiguousarray(returns[:, usable] * sign))
    return out


def _moved(returns: Floats) -> np.ndarray:
    """Tell which columns of returns are whole and not all the same."""
    whole = np.isfinite(returns).all(axis=0)
    spread = np.zeros(returns.shape[1])
    spread[whole] = returns[:, whole].max(axis=0) - returns[:, whole].min(axis=0)
    return np.asarray(spread > 0.0)


def _sized(how: Sizing, strength: Floats, returns: Floats) -> Floats:
    """Return weights [m] >= 0 of names that are all in; strength [m] in 0..1."""
    covariance = estimate(returns, how.estimator, how.decay)
    cap = np.full(strength.size, how.max_weight)
    if how.method == "risk_parity":
        return filled(_parity(covariance, strength), cap, how.max_gross)
    if how.method == "inverse_volatility":
        return filled(strength / np.sqrt(np.diag(covariance)), cap, how.max_gross)
    if how.method == "volatility_target":
        base = strength / strength.sum()
        yearly = np.sqrt(max(kernels.portfolio_variance(covariance, base), 0.0) * how.bars_per_year)
        gross = how.max_gross if yearly == 0.0 else min(how.max_gross, how.target_volatility / yearly)
        return np.asarray(np.minimum(cap, base * gross))
    if how.method == "minimum_variance":
        return minimum(covariance, cap * strength, how.max_gross)
    if how.method == "kelly":
        mean = _means(how, returns, covariance)
        return at_most(covariance / how.kelly_frac, mean, cap * strength, how.max_gross)
    expected = np.asarray(how.skill * strength * np.sqrt(np.diag(covariance)))
    return at_most(covariance * how.risk_aversion, expected, cap, how.max_gross)


def _parity(covariance: Floats, strength: Floats) -> Floats:
    """Return equal_risk; where names hedge one another to nothing no such weights exist, and correlations count for
    nine tenths."""
    try:
        return equal_risk(covariance, strength)
    except ValueError:
        return equal_risk(0.9 * covariance + 0.1 * np.diag(np.diag(covariance)), strength)


def _means(how: Sizing, returns: Floats, covariance: Floats) -> Floats:
    if not how.kelly_shrink:
        return np.asarray(returns.mean(axis=0))
    out, best = np.empty(returns.shape[1]), np.empty(returns.shape[1])
    kernels.shrunk_means(returns, covariance, out, best, np.empty_like(covariance))
    return out


def equal_risk(covariance: Floats, budget: Floats | None = None) -> Floats:
    """Return weights [n], sum 1, whose contributions to the variance stand as budget [n] (None: all equal), to 1e-10
    of each. covariance [n, n] with a positive diagonal. Raises ValueError if it does not come so near."""
    n = covariance.shape[0]
    parts = np.full(n, 1.0 / n) if budget is None else np.asarray(budget / budget.sum(), np.float64)
    w = np.empty(n)
    error = kernels.equal_risk(
        np.ascontiguousarray(covariance, np.float64), parts, RISK_TOLERANCE, SWEEPS, w, np.empty(n)
    )
    if not error <= 1e-8:
        raise ValueError(f"risk parity came to {error:.1e} of the asked contributions, 1e-8 is the rule")
    return w


def filled(w: Floats, upper: Floats, budget: float) -> Floats:
    """Return w [n] scaled to the sum of budget with none above upper [n]; what one cannot take the others get."""
    out = np.array(w, np.float64)
    kernels.fill_to(out, np.ascontiguousarray(upper, np.float64), budget)
    return out


def minimum(covariance: Floats, upper: Floats, budget: float) -> Floats:
    """Return the weights of least variance with sum min(budget, sum of upper) and 0 <= w <= upper [n]."""
    return _optimum(covariance, np.zeros(upper.size), upper, min(budget, float(upper.sum())))


def at_most(quadratic: Floats, linear: Floats, upper: Floats, budget: float) -> Floats:
    """Return the w that minimises w'Qw/2 - m'w with sum <= budget and 0 <= w <= upper [n]: cash takes the rest."""
    n = upper.size
    q, m = np.zeros((n + 1, n + 1)), np.zeros(n + 1)
    q[:n, :n], m[:n] = quadratic, linear
    return _optimum(q, m, np.append(upper, budget), budget)[:n]


def _optimum(quadratic: Floats, linear: Floats, upper: Floats, budget: float) -> Floats:
    w = np.empty(upper.size)
    q = np.ascontiguousarray(quadratic, np.float64)
    scale = max(float(np.abs(q).max(initial=0.0)) * budget, float(np.abs(linear).max(initial=0.0)))
    kernels.box_budget(q, linear, upper, budget, GAP_TOLERANCE * scale, MOVES, w, np.empty(w.size))
    return w
