"""The prices that strategies see do not know of corporate actions to come: the causality proof of the adjustment.

Strategies are given forward-adjusted prices: the factor of a bar is made of the actions up to it. Prices adjusted
backwards, as most vendors publish them, change with every later split and dividend: a rule that compares them with a
number, or with anything that is not adjusted, has seen the future.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np

from tradecore.bars import Panel
from tradecore.model import Floats, Ints
from tradecore.storage.bars import Action
from tradecore.units import PRICE_SCALE, from_day, to_day

SAME_FRAC = 1e-12  # stored factors against recomputed ones: the order of the products may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What goes ex at each bar, [T, n]: new shares for an old one, dividend in USD per share; 1 and 0: none."""

    split: Floats
    dividend_usd: Floats

    def until(self, t: int) -> Actions:
        """Return these actions with none after row t."""
        split, dividend = self.split.copy(), self.dividend_usd.copy()
        split[t + 1 :], dividend[t + 1 :] = 1.0, 0.0
        return Actions(split=split, dividend_usd=dividend)


Adjust = Callable[[Panel, Actions], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentProof:
    """bars visited; `first`: the session and symbol from which a price changed with a later action; `stored`: the same
    for a factor that is not what the actions up to it make."""

    bars: int
    first: tuple[date, str] | None = None
    stored: tuple[date, str] | None = None

    @property
    def holds(self) -> bool:
        return self.first is None and self.stored is None

    @property
    def message(self) -> str:
        if self.first is not None:
            return (
                f"the adjusted price of {self.first[1]} at {self.first[0]} changes with a corporate action dated after "
                "it. Suspected: a future-dated corporate action, as in prices adjusted backwards"
            )
        if self.stored is not None:
            return (
                f"the stored factor of {self.stored[1]} at {self.stored[0]} is not what the actions up to that day make"
            )
        return f"factors of {self.bars} bars are made of the actions up to each bar; later ones change none"


def actions_of(panel: Panel, found: Iterable[Action]) -> Actions:
    """Return actions at the rows of a panel where they count: an instrument's first bar from the ex-date on."""
    split, dividend = np.ones(panel.traded.shape), np.zeros(panel.traded.shape)
    where = {i.instrument_id: k for k, i in enumerate(panel.instruments)}
    for action in found:
        i = where.get(action.instrument_id)
        if i is None or not action.adjusts:
            continue
        rows = np.flatnonzero(panel.traded[:, i])
        k = int(np.searchsorted(panel.day[rows], to_day(action.ex_date)))
        if k in (0, rows.size):  # before the first bar, or after the last
            continue
        split[rows[k], i] *= action.ratio_num / action.ratio_den
        dividend[rows[k], i] += action.dividend_e6 / 1e6
    return Actions(split=split, dividend_usd=dividend)


def forward(panel: Panel, actions: Actions) -> Floats:
    """Return the forward factors [T, n], 1 before the first action; the rule of bars.next_factor."""
    return np.asarray(np.where(panel.traded, np.cumprod(_growth(panel, actions), axis=0), np.nan))


def backward(panel: Panel, actions: Actions) -> Floats:
    """Return factors [T, n] as vendors publish them, 1 after the last action: what `prove_adjustment` must refuse."""
    through = np.cumprod(_growth(panel, actions), axis=0)
    return np.asarray(np.where(panel.traded, through / through[-1], np.nan))


def _growth(panel: Panel, actions: Actions) -> Floats:
    close = np.where(panel.traded, panel.close, 1) / PRICE_SCALE
    return np.asarray(actions.split * (1.0 + actions.dividend_usd / close))


def prove_adjustment(
    panel: Panel, actions: Actions, *, adjust: Adjust = forward, bars: Ints | None = None
) -> AdjustmentProof:
    """Compute the factors up to each row again, without the later actions and with others in their place.

    With the project's own rule the factors in the panel are also held to what the actions make, up to a constant.
    """
    full = adjust(panel, actions)
    rows = np.arange(panel.day.size) if bars is None else bars
    for t in rows.tolist():
        without = actions.until(t)
        planted = actions.until(t)
        planted.split[t + 1 : t + 2], planted.dividend_usd[t + 1 : t + 2] = 7.0, 0.25
        for other in (without, planted):
            found = adjust(panel, other)[: t + 1]
            bad = (found != full[: t + 1]) & ~(np.isnan(found) & np.isnan(full[: t + 1]))
            if bad.any():
                k, i = np.argwhere(bad)[0].tolist()
                return AdjustmentProof(bars=rows.size, first=(from_day(int(panel.day[k])), panel.symbols[i]))
    return AdjustmentProof(bars=rows.size, stored=_stored(panel, full) if adjust is forward else None)


def _stored(panel: Panel, full: Floats) -> tuple[date, str] | None:
    """Return the first bar whose factor in the panel is not a constant times the recomputed one."""
    for i, symbol in enumerate(panel.symbols):
        rows = np.flatnonzero(panel.traded[:, i])
        if not rows.size:
            continue
        ratio = panel.adj_factor[rows, i] / full[rows, i]
        bad = np.flatnonzero(np.abs(ratio / ratio[0] - 1.0) > SAME_FRAC * np.sqrt(rows.size))
        if bad.size:
            return from_day(int(panel.day[rows[bad[0]]])), symbol
    return None
