"""Lead-lag: what the leader did today, its followers tend to do tomorrow.

Lo & MacKinlay, "When Are Contrarian Profits Due to Stock Market Overreaction?", Review of Financial Studies 3(2),
1990, pp. 175-205 (large stocks lead small ones); Chordia & Swaminathan, "Trading Volume and Cross-Autocorrelations in
Stock Returns", Journal of Finance 55(2), 2000, pp. 913-935 (much traded stocks lead little traded ones).

For each follower its return is regressed on the leader's return of the bar before, over `period` bars. The leader is
the named one, or else the name with the largest traded value in the window. The leader itself is held flat. A name
with a hole in its window has no opinion; where the leader has one, nobody has.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


@strategy(lookback_bars=lambda p: p.period + 2)
def lead_lag(
    window: Window,
    *,
    leader: str = "",
    period: Annotated[int, Field(ge=10, le=2000)] = 60,
    least_t: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0,
) -> Floats:
    """Score 1 where the slope's t is at least least_t and the next return is expected above 0, else 0."""
    close = window.close[-period - 2 :]
    whole = np.logical_not(np.isnan(close).any(axis=0))
    score = np.full(close.shape[1], np.nan)
    if leader and leader not in window.symbols:
        raise ValueError(f"leader {leader} is not among the strategy's symbols {', '.join(window.symbols)}")
    traded = np.where(whole, np.nansum(window.close * window.volume, axis=0), -1.0)
    first = window.symbols.index(leader) if leader else int(np.argmax(traded))
    if not whole[first]:
        return score
    returns = close[1:] / close[:-1] - 1.0
    x, y = returns[:-1, first], returns[1:]
    dx, dy = x - x.mean(), y - y.mean(axis=0)
    xx = float(dx @ dx)
    if xx == 0.0:
        return score
    slope = (dx[:, None] * dy).sum(axis=0) / xx
    rest = dy - dx[:, None] * slope
    error = np.sqrt((rest * rest).sum(axis=0) / (period - 2) / xx)
    expected = y.mean(axis=0) + slope * (returns[-1, first] - x.mean())
    follows = (slope >= least_t * error) & (expected > 0.0) & (np.arange(slope.size) != first)
    score[whole] = np.where(follows[whole], 1.0, 0.0)
    return score
