"""Dual momentum: the best of the universe, and only while it beats cash.

Antonacci, "Risk Premia Harvesting Through Dual Momentum", SSRN 2042750, 2012: relative momentum chooses, absolute
momentum decides whether to hold at all; twelve months. Here: every bar instead of once a month, and cash earns a
constant `cash_rate_frac` a year.

A name whose two closes are not both known is not ranked and has no opinion. Of equal returns the earlier column wins.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


@strategy(lookback_bars=lambda p: p.period + 1)
def dual_momentum(
    window: Window,
    *,
    period: Annotated[int, Field(ge=1, le=2000)] = 252,
    top: Annotated[int, Field(ge=1, le=1000)] = 1,
    cash_rate_frac: Annotated[float, Field(gt=-1.0, le=1.0)] = 0.0,
    bars_per_year: Annotated[float, Field(gt=0.0)] = 252.0,
) -> Floats:
    """Score 1 for those of the `top` names by return over `period` bars that beat cash over it, 0 for the others."""
    past_return = window.close[-1] / window.close[-1 - period] - 1.0
    cash_return = (1.0 + cash_rate_frac) ** (period / bars_per_year) - 1.0
    ranked = np.flatnonzero(~np.isnan(past_return))
    best = ranked[np.argsort(-past_return[ranked], kind="stable")][:top]
    score = np.where(np.isnan(past_return), np.nan, 0.0)
    score[best] = np.where(past_return[best] > cash_return, 1.0, 0.0)
    return score
