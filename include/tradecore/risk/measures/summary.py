"""The risk of a portfolio at a close, put together as plain figures: what a report shows and the database keeps.
Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tradecore.model import Floats
from tradecore.risk import covariance
from tradecore.risk.measures import concentration, contributions, liquidity_days, losses

PLACES = 9
COMPONENT_CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """What is measured: weights [n] of equity, the returns [T, n] and index [T] behind them (the index's for a name
    that is not known), value and average traded value [n] in one currency, and losses of a unit [n] in each stress."""

    symbols: tuple[str, ...]
    weight: Floats
    returns: Floats
    index: Floats
    value: Floats
    traded_value: Floats
    stresses: Mapping[str, Floats]
    stop_frac: float | None
    participation_frac: float
    decay: float


def summary(p: Portfolio) -> dict[str, Any]:
    """Return the figures as plain data, rounded to 1e-9; fractions of equity, a loss positive."""
    returns = np.asarray(p.returns @ p.weight)
    of = covariance.estimate(p.returns, "ledoit_wolf")
    marginal, component = contributions(p.weight, of, COMPONENT_CONFIDENCE)
    beta = np.nan_to_num(covariance.beta(p.returns, p.index), nan=1.0)
    days = liquidity_days(p.value, p.traded_value, p.participation_frac)
    shape = concentration(p.weight, of)
    held = np.flatnonzero(p.weight != 0.0)
    return {
        "rows": int(p.returns.shape[0]),
        "losses": [
            {
                "method": x.method,
                "confidence": x.confidence,
                "bars": x.horizon_bars,
                "value_at_risk": _round(x.value_at_risk),
                "expected_shortfall": _round(x.expected_shortfall),
            }
            for x in losses(returns, decay=p.decay)
        ],
        "names": [
            {
                "symbol": p.symbols[i],
                "weight": _round(p.weight[i]),
                "beta": _round(beta[i]),
                "marginal": _round(marginal[i]),
                "component": _round(component[i]),
                "days": _round(days[i]) if np.isfinite(days[i]) else None,
            }
            for i in held
        ],
        "beta": _round(float(p.weight @ beta)),
        "volatility": _round(float(returns.std())),
        "largest": _round(shape.largest),
        "effective_names": _round(shape.names),
        "diversification": _round(shape.diversification),
        "liquidity_days": _round(float(days[held].max(initial=0.0))) if np.isfinite(days[held]).all() else None,
        "stress": {name: _round(loss) for name, loss in _stresses(p, of).items()},
    }


def _stresses(p: Portfolio, of: Floats) -> dict[str, float]:
    """Return the loss in each stress: the given ones, then those that come from the returns themselves.

    correlation_to_one: value at risk (99 %, one bar, normal) with every correlation 1; volatility_doubled: the same
    with twice each volatility; gap_through_stops: every position opens at its own worst bar of the window, no stop
    helps; stops_hold: the same with no position losing more than its stop.
    """
    out = {name: float(p.weight @ loss) for name, loss in p.stresses.items()}
    z = 2.3263478740408408
    size = np.abs(p.weight)
    out["correlation_to_one"] = z * float(size @ np.sqrt(np.diag(of)))
    out["volatility_doubled"] = 2.0 * z * math.sqrt(max(float(p.weight @ of @ p.weight), 0.0))
    worst = np.maximum(0.0, np.where(p.weight > 0.0, -p.returns.min(axis=0), p.returns.max(axis=0)))
    out["gap_through_stops"] = float(size @ worst)
    if p.stop_frac is not None:
        out["stops_hold"] = float(size @ np.minimum(worst, p.stop_frac))
    return out


def _round(value: float) -> float:
    return round(float(value), PLACES) + 0.0
