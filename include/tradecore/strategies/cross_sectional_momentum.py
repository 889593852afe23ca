"""Cross-sectional momentum: long the winners of the past year, its last month left out.

Jegadeesh & Titman, "Returns to Buying Winners and Selling Losers: Implications for Stock Market Efficiency", Journal of
Finance 48(1), 1993, pp. 65-91; the skipped month as in Asness, Moskowitz & Pedersen, "Value and Momentum Everywhere",
Journal of Finance 68(3), 2013, pp. 929-985. Here: the winners only (the papers sell the losers), ranked anew every bar.

A name whose two closes, or whose close of today, are not known is not ranked and has no opinion. Of equal returns the
earlier column wins.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


def lookback_bars(p: Any) -> int:
    """Return the rows that one score needs."""
    if p.skip >= p.period:
        raise ValueError(f"skip {p.skip} must be below period {p.period}")
    return int(p.period) + 1


@strategy(lookback_bars=lookback_bars)
def cross_sectional_momentum(
    window: Window,
    *,
    period: Annotated[int, Field(ge=2, le=2000)] = 252,
    skip: Annotated[int, Field(ge=0, le=1000)] = 21,
    top_frac: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3,
) -> Floats:
    """Score 1 for the top_frac (rounded up) of the ranked names, 0 for the others."""
    past_return = window.close[-1 - skip] / window.close[-1 - period] - 1.0
    past_return[np.isnan(window.close[-1])] = np.nan
    ranked = np.flatnonzero(~np.isnan(past_return))
    winners = ranked[np.argsort(-past_return[ranked], kind="stable")][: math.ceil(top_frac * ranked.size)]
    score = np.where(np.isnan(past_return), np.nan, 0.0)
    score[winners] = 1.0
    return score
