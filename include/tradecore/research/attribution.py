"""Who brought what: the gain of each name and of each strategy, bar by bar, out of a fold's own record.

A name's gain at a bar is the change of its value, less what its fills cost, plus its dividends, less its fees. A
strategy's is the same on the shares that the ledger allots to it (docs/STEP.md, settle 4): a fill's price and fees go
with the shares, a dividend with what was held before the open. Both sum to the change of equity, but for interest,
other charges and the rounding of the ledger to 1e-4 USD.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tradecore import market
from tradecore.backtest import step
from tradecore.model import (
    EV_CASH_IN_LIEU,
    EV_DELISTED,
    EV_DIVIDEND,
    EV_DIVIDEND_ASSUMED_PAID,
    EV_SPLIT,
    F_BAR_NS,
    F_FEE,
    F_INSTR,
    F_PRICE,
    F_QTY,
    H_NS,
    Floats,
    Ints,
    Journal,
    new_book,
)
from tradecore.portfolio._kernels import split_allocations
from tradecore.research.backtest import Backtest, Inputs
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE

INCOME = (EV_DIVIDEND, EV_DIVIDEND_ASSUMED_PAID, EV_CASH_IN_LIEU, EV_DELISTED)


class Flows(NamedTuple):
    """What moved in each name at each bar, all [T, n]: shares filled (e6, signed), what they cost (USD, signed), fees,
    and income (dividends, cash in lieu of fractions, what a delisting paid)."""

    filled_e6: Ints
    cost_usd: Floats
    fees_usd: Floats
    income_usd: Floats


def flows(inputs: Inputs, journal: Journal) -> Flows:
    """Add up a journal by bar and name."""
    shape = (len(inputs.days), len(inputs.symbols))
    found = Flows(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape), np.zeros(shape))
    ns, fills, events = inputs.market.head[:-1, H_NS], journal.fills, journal.events
    at = (np.searchsorted(ns, fills[:, F_BAR_NS]), fills[:, F_INSTR])
    np.add.at(found.filled_e6, at, fills[:, F_QTY])
    np.add.at(found.cost_usd, at, fills[:, F_QTY] / QTY_SCALE * (fills[:, F_PRICE] / PRICE_SCALE))
    np.add.at(found.fees_usd, at, fills[:, F_FEE] / MONEY_SCALE)
    paid = events[np.isin(events[:, 0], INCOME)]
    np.add.at(found.income_usd, (np.searchsorted(ns, paid[:, 4]), paid[:, 1]), paid[:, 3] / MONEY_SCALE)
    return found


def gains_of_names(result: Backtest, moved: Flows) -> Floats:
    """Return the gain [T, n] of each name at each bar, USD."""
    n = len(result.inputs.symbols)
    value = result.fold.qty_e6 / QTY_SCALE * (result.fold.table[:, 4 + n : 4 + 2 * n] / PRICE_SCALE)
    change = np.diff(value, axis=0, prepend=np.zeros((1, n)))
    return np.asarray(change - moved.cost_usd + moved.income_usd - moved.fees_usd)


def allocations(inputs: Inputs) -> Ints:
    """Return what each strategy held after each bar, [T, S, n] e6: the fold again, bar by bar, keeping the books."""
    n_strategies, n = len(inputs.strategies), len(inputs.symbols)
    held = np.zeros((len(inputs.days), n_strategies, n), np.int64)
    book = new_book(cash_e4=inputs.cash_e4, n_instruments=n, n_strategies=n_strategies, n_lots=8, n_orders=8)
    for t in range(held.shape[0]):
        bar, upcoming = market.bar_row(inputs.market, t), market.bar_row(inputs.market, t + 1)
        book, _ = step.settle(book, bar, inputs.instruments, inputs.params)
        held[t] = book.alloc
        decision, _ = step.decide(
            book,
            inputs.scores[t],
            inputs.capital,
            inputs.volatility[t],
            bar,
            upcoming,
            inputs.instruments,
            inputs.params,
            inputs.outlook.at(t) if inputs.outlook else None,
            _before(inputs, t),
        )
        book, _ = step.plan(book, decision, bar, upcoming, inputs.instruments, inputs.params)
    return held


def _before(inputs: Inputs, t: int) -> Floats | None:
    """Return the scores before bar t that throttles ask for; NaN from before the first bar."""
    bars = inputs.outlook.plan.throttle_bars if inputs.outlook else 0
    if not bars:
        return None
    out = np.full((bars, *inputs.scores.shape[1:]), np.nan)
    have = min(t, bars)
    out[bars - have :] = inputs.scores[t - have : t]
    return out


def gains_of_strategies(result: Backtest, moved: Flows, held: Ints) -> tuple[Floats, Floats, Floats]:
    """Return gain, fees and traded notional of each strategy at each bar, each [T, S] USD. held: see `allocations`."""
    inputs, n = result.inputs, len(result.inputs.symbols)
    mark = result.fold.table[:, 4 + n : 4 + 2 * n] / PRICE_SCALE
    before = np.zeros_like(held)
    before[1:] = held[:-1]
    _split(inputs, result.fold.journal.events, before)
    change = held - before
    with np.errstate(divide="ignore", invalid="ignore"):
        price = np.where(moved.filled_e6 != 0, moved.cost_usd / (moved.filled_e6 / QTY_SCALE), 0.0)
        part = np.abs(change) / np.abs(change).sum(axis=1, keepdims=True)
        owner = before / before.sum(axis=1, keepdims=True)
    fees = np.nan_to_num(part) * moved.fees_usd[:, None, :]
    income = np.nan_to_num(owner) * moved.income_usd[:, None, :]
    value = held / QTY_SCALE * mark[:, None, :]
    was = np.concatenate([np.zeros_like(value[:1]), value[:-1]])
    gain = value - was - change / QTY_SCALE * price[:, None, :] + income - fees
    traded = np.abs(change) / QTY_SCALE * price[:, None, :]
    return gain.sum(axis=2), fees.sum(axis=2), traded.sum(axis=2)


def _split(inputs: Inputs, events: Ints, before: Ints) -> None:
    """Bring what was held before a bar into the units of the bar, where a split took effect."""
    ns = inputs.market.head[:-1, H_NS]
    for _, instrument, _, after, at in events[events[:, 0] == EV_SPLIT]:
        t = int(np.searchsorted(ns, at))
        num, den = inputs.market.split_num[t, instrument], inputs.market.split_den[t, instrument]
        split_allocations(before[t], instrument, after, num, den)
