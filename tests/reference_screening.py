"""Naive twin of the screening kernels: one pair, one day after the other, in plain Python over lists.

Nothing here imports tradecore or numpy. Averages are those of reference_indicators, each window summed anew.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import reference_indicators as averages

TIE = 1e-11


class Figures(NamedTuple):
    total_return: float
    sharpe: float
    max_drawdown: float
    n_trades: int


def opinions(close: Sequence[float], fast: int, slow: int, kind: str) -> list[float]:
    """Return 1 (long), 0 (flat) or NaN (no opinion) at each close."""
    rows = [(c,) for c in close]
    quick, calm = (getattr(averages, kind)(rows, period) for period in (fast, slow))
    return [math.nan if math.isnan(a + b) else float(a - b > TIE * b) for a, b in zip(quick, calm, strict=True)]


def screen(
    open_: Sequence[float],
    close: Sequence[float],
    fast: int,
    slow: int,
    *,
    cost: float,
    bars_per_year: float,
    kind: str = "sma",
) -> Figures:
    """Return the figures of one pair; NaN prices are bars that did not trade."""
    missing = [math.isnan(o) or math.isnan(c) for o, c in zip(open_, close, strict=True)]
    opinion = opinions([math.nan if gone else c for gone, c in zip(missing, close, strict=True)], fast, slow, kind)
    cash, shares, entries, mark = 1.0, 0.0, 0, 0.0
    curve, order = [1.0], math.nan
    for t, gone in enumerate(missing):
        if not gone:
            if order == 1.0 and shares == 0.0:
                shares, cash, entries = cash / (open_[t] * (1.0 + cost)), 0.0, entries + 1
            elif order == 0.0 and shares > 0.0:
                shares, cash = 0.0, shares * open_[t] * (1.0 - cost)
            mark = close[t]
        order = opinion[t]
        curve.append(cash + shares * mark)
    returns = [after / before - 1.0 for before, after in pairwise(curve)]
    spread = statistics.stdev(returns) if len(returns) > 1 else 0.0
    return Figures(
        total_return=curve[-1] - 1.0,
        sharpe=statistics.fmean(returns) / spread * math.sqrt(bars_per_year) if spread > 0.0 else math.nan,
        max_drawdown=max(1.0 - value / max(curve[: k + 1]) for k, value in enumerate(curve)),
        n_trades=entries,
    )
