"""Warm-up: what a longer history than its look-back would change about a strategy's scores (recursive analysis).

Production and backtests score from exactly `lookback_bars` rows, so that nothing here can make them differ. What it
tells is whether the look-back is long enough for what the strategy computes: an average that is seeded with the first
row (EMA, Wilder's) never quite forgets it. A rule that means its whole window (a mean of all rows that it is given)
differs by as much as its meaning does.

The measure: the share of scores that differ by more than TOLERANCE, or are an opinion in one case only, when the same
bar is scored from 2 and from 4 times the look-back; and the largest such difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from tradecore import strategies
from tradecore.bars import Panel
from tradecore.model import Ints
from tradecore.strategies import Strategy

TOLERANCE = 1e-9
MULTIPLES = (2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Scores from `multiple` times the look-back against those from the look-back alone."""

    multiple: int
    compared: int
    changed: int
    largest: float

    @property
    def changed_frac(self) -> float:
        return self.changed / self.compared if self.compared else 0.0


def warm_up(
    rule: Strategy,
    params: BaseModel,
    panel: Panel,
    *,
    multiples: Sequence[int] = MULTIPLES,
    bars: Ints | None = None,
) -> list[WarmUp]:
    """Score every row of a panel (or the rows `bars`) from longer windows; one record for each multiple.

    Only names that traded at every bar of the longest window are compared: a hole there is no warm-up. NaN equals NaN.
    """
    lookback = rule.lookback(params)
    first = max(multiples) * lookback - 1
    rows = np.arange(first, panel.day.size) if bars is None else bars[bars >= first]
    whole = [panel.traded[t + 1 - max(multiples) * lookback : t + 1].all(axis=0) for t in rows.tolist()]
    usual = [strategies.score_last(rule, params, panel.rows(t + 1 - lookback, t + 1)) for t in rows.tolist()]
    found = []
    for multiple in multiples:
        changed, largest = 0, 0.0
        for t, before, there in zip(rows.tolist(), usual, whole, strict=True):
            longer = strategies.score_last(rule, params, panel.rows(t + 1 - multiple * lookback, t + 1))
            gap = np.abs(longer - before)[there]
            changed += int(np.sum((gap > TOLERANCE) | (np.isnan(longer) != np.isnan(before))[there]))
            largest = max(largest, float(np.max(gap[~np.isnan(gap)], initial=0.0)))
        compared = int(np.sum(whole)) if rows.size else 0
        found.append(WarmUp(multiple=multiple, compared=compared, changed=changed, largest=largest))
    return found
