"""RSI mean reversion: buy what has fallen too fast, leave when it has recovered.

Wilder, New Concepts in Technical Trading Systems, 1978, section VI (30 is oversold); as a trade with an exit at the
middle of the scale: Connors & Alvarez, Short Term Trading Strategies That Work, 2009 (who use a period of 2 and an
entry below 5 or 10).

Wilder's average is computed over a window of 10 periods, seeded with the first: what lies before weighs exp(-9). A
name with a hole in its window has no opinion, nor has one that did not move.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.indicators import rsi
from tradecore.model import Floats
from tradecore.strategies import strategy


def lookback_bars(p: Any) -> int:
    """Return the rows that one score needs."""
    if p.entry_level >= p.exit_level:
        raise ValueError(f"entry_level {p.entry_level} must be below exit_level {p.exit_level}")
    return 10 * int(p.period) + 1


@strategy(lookback_bars=lookback_bars)
def rsi_reversion(
    window: Window,
    *,
    period: Annotated[int, Field(ge=2, le=200)] = 14,
    entry_level: Annotated[float, Field(ge=0.0, le=100.0)] = 30.0,
    exit_level: Annotated[float, Field(ge=0.0, le=100.0)] = 50.0,
) -> Floats:
    """Score 1 below the entry level, 0 above the exit level, no opinion between them."""
    strength = np.where(np.isnan(window.close).any(axis=0), np.nan, rsi(window.close, period)[-1])
    return np.where(strength < entry_level, 1.0, np.where(strength > exit_level, 0.0, np.nan))
