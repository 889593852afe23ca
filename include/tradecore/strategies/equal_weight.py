"""Equal weight: every name the same, set right again at the start of each period.

DeMiguel, Garlappi & Uppal, "Optimal Versus Naive Diversification: How Inefficient Is the 1/N Portfolio Strategy?",
Review of Financial Studies 22(5), 2009, pp. 1915-1953 (monthly).

The decision falls on the first session of a period; in between nobody has an opinion, and what is held drifts. A name
that did not trade on that session waits for the next period. Use `equal_weight` sizing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


@strategy(lookback_bars=2)
def equal_weight(window: Window, *, every: Literal["bar", "week", "month", "quarter"] = "month") -> Floats:
    """Score 1 on the first bar of a period, no opinion on the others."""
    days = window.day[-2:]
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(int)
    # 1970-01-01 was a Thursday: weeks begin on Monday.
    period = {"bar": np.arange(2), "week": (days + 3) // 7, "month": months, "quarter": months // 3}[every]
    begins = period[0] != period[1]
    return np.where(np.isnan(window.close[-1]) | (not begins), np.nan, 1.0)
