"""Monte Carlo of trades: the same round trips in another order, or drawn with replacement, and how deep that falls.

One history shows one maximum drawdown; its order was chance. Reshuffling keeps the end and changes the way there;
resampling asks what other luck with the same kind of trades would have brought. Both take trades as independent, which
trades held at the same time are not: a lower bound of what correlation can do. Source of the practice: Aronson,
Evidence-Based Technical Analysis, Wiley 2007, chapter 5; quantstats' `montecarlo` does it with daily returns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tradecore.model import Floats
from tradecore.reports.metrics import curve_figures

MOST_CELLS = 4_000_000  # of draws x trades at a time: 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class TradePaths:
    """Maximum drawdowns [draws] of reshuffled and of resampled trades, and total returns [draws] of the resampled ones;
    `drawdown` is that of the trades in their own order."""

    trades: int
    drawdown: float
    reshuffled_drawdown: Floats
    resampled_drawdown: Floats
    resampled_return: Floats


def trade_paths(results: Floats, rng: np.random.Generator, *, draws: int) -> TradePaths:
    """Compound trades [M] one after the other, in `draws` other orders and in `draws` samples of the same size.

    Raises ValueError for no trades.
    """
    if not results.size:
        raise ValueError("no trades: there is nothing to reorder")
    at_once = max(1, MOST_CELLS // results.size)
    shuffled, drawn, ends = [], [], []
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        order = rng.permuted(np.tile(results, (count, 1)), axis=1)
        sample = results[rng.integers(0, results.size, (count, results.size))]
        shuffled.append(curve_figures(order).max_drawdown)
        drawn.append(curve_figures(sample).max_drawdown)
        ends.append(np.prod(1.0 + sample, axis=1) - 1.0)
    return TradePaths(
        trades=results.size,
        drawdown=float(curve_figures(results[None, :].copy()).max_drawdown[0]),
        reshuffled_drawdown=np.concatenate(shuffled),
        resampled_drawdown=np.concatenate(drawn),
        resampled_return=np.concatenate(ends),
    )
