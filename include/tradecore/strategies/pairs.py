"""Pairs: where two prices are cointegrated and have drifted apart, hold the cheap one until they meet.

Engle & Granger, "Co-Integration and Error Correction", Econometrica 55(2), 1987, pp. 251-276 (regression, then a
Dickey-Fuller test of its residuals); critical values: MacKinnon, "Critical Values for Cointegration Tests", Queen's
Economics Department Working Paper 1227, 2010, table 2; as a trade: Gatev, Goetzmann & Rouwenhorst, "Pairs Trading:
Performance of a Relative-Value Arbitrage Rule", Review of Financial Studies 19(3), 2006, pp. 797-827.

The hedge ratio is estimated anew at every bar over the last `period` bars. **Only the cheap leg is held: a book is
long only for now, so the trade is not market-neutral and keeps the market's risk.** A name in several pairs is held
while one of them wants it. Without `chosen` every pair of the symbols is looked at, of up to MOST_SYMBOLS.

A name with a hole in its window has no opinion; one without a cointegrated pair is flat.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy

MOST_SYMBOLS = 30
# MacKinnon 2010, table 2, N = 2, constant: level in percent -> b0 + b1 / T + b2 / T^2
CRITICAL = {1: (-3.89644, -10.9519, -22.527), 5: (-3.33613, -6.1101, -6.823), 10: (-3.04445, -4.2412, -2.720)}


class Fit(NamedTuple):
    """The regression y = a + hedge x + rest, its Dickey-Fuller t, and the last residual in standard deviations."""

    hedge: float
    t: float
    z: float


def lookback_bars(p: Any) -> int:
    """Return the rows that one score needs."""
    if p.exit_z >= p.entry_z:
        raise ValueError(f"exit_z {p.exit_z} must be below entry_z {p.entry_z}")
    if p.level_pct not in CRITICAL:
        raise ValueError(f"level_pct {p.level_pct} must be one of {', '.join(map(str, CRITICAL))}")
    return int(p.period)


@strategy(lookback_bars=lookback_bars)
def pairs(
    window: Window,
    *,
    chosen: tuple[tuple[str, str], ...] = (),
    period: Annotated[int, Field(ge=30, le=2000)] = 250,
    entry_z: Annotated[float, Field(gt=0.0, le=10.0)] = 2.0,
    exit_z: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5,
    level_pct: int = 5,
) -> Floats:
    """Score 1 for the cheap name of a pair apart, 0 once they have met, no opinion between."""
    logs = np.log(window.close[-period:])
    b0, b1, b2 = CRITICAL[level_pct]
    critical_t = b0 + b1 / (period - 1) + b2 / (period - 1) ** 2
    score = np.where(np.isnan(logs).any(axis=0), np.nan, 0.0)
    whole = ~np.isnan(score)
    waiting, held = np.zeros(score.size, np.bool_), np.zeros(score.size, np.bool_)
    for i, j in _columns(window.symbols, chosen):
        if not (whole[i] and whole[j]):
            continue
        fit = engle_granger(logs[:, i], logs[:, j])
        if not (fit.t < critical_t and fit.hedge > 0.0):
            continue
        for name, cheapness in ((i, -fit.z), (j, fit.z)):
            held[name] |= cheapness > entry_z
            waiting[name] |= exit_z < cheapness <= entry_z
    score[waiting] = np.nan
    score[held] = 1.0
    return score


def engle_granger(y: Floats, x: Floats) -> Fit:
    """Regress y on x [T] and test the residuals for a unit root, without lags; NaN where x or the rest is constant."""
    dx, dy = x - x.mean(), y - y.mean()
    xx = float(dx @ dx)
    if xx == 0.0:
        return Fit(math.nan, math.nan, math.nan)
    hedge = float(dx @ dy) / xx
    rest = dy - hedge * dx
    before, change = rest[:-1], np.diff(rest)
    level = float(before @ before)
    if level <= 1e-24 * float(dy @ dy):  # nothing but rounding is left
        return Fit(hedge, math.nan, math.nan)
    pull = float(before @ change) / level
    noise = change - pull * before
    error = math.sqrt(float(noise @ noise) / (change.size - 1) / level)
    return Fit(hedge, pull / error, float(rest[-1]) / float(rest.std(ddof=2)))


def _columns(symbols: tuple[str, ...], chosen: tuple[tuple[str, str], ...]) -> list[tuple[int, int]]:
    if not chosen and len(symbols) > MOST_SYMBOLS:
        raise ValueError(f"{len(symbols)} symbols make too many pairs; name those to look at in `chosen`")
    unknown = {s for pair in chosen for s in pair} - set(symbols)
    if unknown:
        raise ValueError(f"pairs of unknown symbols {', '.join(sorted(unknown))}; known: {', '.join(symbols)}")
    if not chosen:
        return list(itertools.combinations(range(len(symbols)), 2))
    return [(symbols.index(a), symbols.index(b)) for a, b in chosen]
