"""The fill kernel: market orders meet the open of a bar. Rules: docs/STEP.md, settle 4.

Pessimistic by construction (every fill is worsened by the slippage and rounded to the tick away from us), after the
conventions of a next-open daily backtest; participation caps follow zipline's VolumeShareSlippage idea.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tradecore._kernels import mul_div_round
from tradecore.model import (
    CANCEL_REST,
    CANCELED,
    CASH,
    EV_CASH_SHORT,
    EXPIRED,
    F_BAR_NS,
    F_DECIDED_NS,
    F_FEE,
    F_INSTR,
    F_LINE,
    F_OPEN,
    F_PRICE,
    F_QTY,
    F_REM,
    FEES,
    FILLED,
    J_FILLS,
    N_ORDERS,
    O_AGE,
    O_DECIDED_NS,
    O_INSTR,
    O_LINE,
    O_REM,
    O_REMAINDER,
    REALISED,
)
from tradecore.portfolio._kernels import add_lot, allocate_fill, log_end, log_event, remove_orders, take_lots


@njit(cache=True)
def fill_price(open_e4, tick, slippage_ppm, buy):
    """Return the open worsened by slippage, rounded to the tick away from us; a sell gets one tick at least."""
    unit = 1_000_000 * tick
    if buy:
        return -((-open_e4 * (1_000_000 + slippage_ppm)) // unit) * tick
    return max(tick, open_e4 * (1_000_000 - slippage_ppm) // unit * tick)


@njit(cache=True)
def fill_fee(qty, notional, params):
    """Return the commission e4 of a fill of qty e6 (unsigned) and notional e4; 0 for nothing."""
    if qty == 0:
        return 0
    fee = mul_div_round(notional, params.commission_ppm, 1_000_000)
    fee += mul_div_round(qty, params.commission_per_share_e6, 100_000_000)
    return max(params.commission_min_e4, fee)


@njit(cache=True)
def affordable_qty(qty, price, step, cash, params):
    """Return the largest multiple of step up to qty whose notional + fee is within cash."""
    notional = mul_div_round(qty, price, 1_000_000)
    if notional + fill_fee(qty, notional, params) <= cash:
        return qty
    low, high = 0, qty // step
    while low < high:
        middle = (low + high + 1) // 2
        notional = mul_div_round(middle * step, price, 1_000_000)
        if notional + fill_fee(middle * step, notional, params) <= cash:
            low = middle
        else:
            high = middle - 1
    return low * step


@njit(cache=True)
def book_fill(book, k, fill, price, open_e4, params, journal, ns):
    """Book a signed fill e6 of working order k at price e4: cash, fees, position, lots, allocation, journal."""
    i = book.order[k, O_INSTR]
    notional = mul_div_round(abs(fill), price, 1_000_000)
    fee = fill_fee(abs(fill), notional, params)
    book.acct[FEES] += fee
    if fill > 0:
        book.acct[CASH] -= notional + fee
        add_lot(book, i, fill, notional, ns)
    else:
        book.acct[CASH] += notional - fee
        book.acct[REALISED] += notional - take_lots(book, i, -fill)
    book.qty[i] += fill
    allocate_fill(book.alloc, i, book.want[k], fill)
    book.order[k, O_REM] -= fill
    row = journal.fills[journal.counts[J_FILLS]]
    row[F_DECIDED_NS] = book.order[k, O_DECIDED_NS]
    row[F_INSTR] = i
    row[F_LINE] = book.order[k, O_LINE]
    row[F_QTY] = fill
    row[F_PRICE] = price
    row[F_OPEN] = open_e4
    row[F_FEE] = fee
    row[F_BAR_NS] = ns
    row[F_REM] = book.order[k, O_REM]
    journal.counts[J_FILLS] += 1


@njit(cache=True)
def fill_orders(book, bar, instruments, params, journal, ns):
    """Let the working orders meet the bar: sells first, then buys, each in line order; then end or carry the rest."""
    n_orders = book.acct[N_ORDERS]
    used = np.zeros(book.qty.shape[0], np.int64)
    blocked = np.zeros(n_orders, np.bool_)
    filled = np.zeros(n_orders, np.bool_)
    for side in (-1, 1):
        for k in range(n_orders):
            rem, i = book.order[k, O_REM], book.order[k, O_INSTR]
            if (rem > 0) != (side > 0) or rem == 0 or not bar.traded[i]:
                continue
            step = instruments.step[i]
            cap = bar.volume[i] * params.participation_ppm // step * step - used[i]
            price = fill_price(bar.open[i], instruments.tick[i], params.slippage_ppm, side > 0)
            qty = min(abs(rem), max(cap, 0))
            if side < 0:
                blocked[k] = book.qty[i] < qty
                qty = min(qty, book.qty[i])
            else:
                within = affordable_qty(qty, price, step, book.acct[CASH], params)
                if within < qty:
                    blocked[k] = True
                    log_event(journal, EV_CASH_SHORT, i, qty, within, ns)
                qty = within
            if qty > 0:
                used[i] += qty
                filled[k] = True
                book_fill(book, k, side * qty, price, bar.open[i], params, journal, ns)
    end_orders(book, bar, filled, blocked, params, journal, ns)


@njit(cache=True)
def end_orders(book, bar, filled, blocked, params, journal, ns):
    """End or carry each working order after its bar."""
    n_orders = book.acct[N_ORDERS]
    keep = np.zeros(n_orders, np.bool_)
    for k in range(n_orders):
        order = book.order[k]
        i = order[O_INSTR]
        if order[O_REM] == 0:
            log_end(journal, order, FILLED, ns)
        elif order[O_REM] < 0 and bar.traded[i] and book.qty[i] == 0:
            log_end(journal, order, CANCELED, ns)
        elif order[O_REMAINDER] == CANCEL_REST:
            log_end(journal, order, CANCELED if filled[k] or blocked[k] else EXPIRED, ns)
        else:
            order[O_AGE] += 1
            keep[k] = order[O_AGE] < params.max_order_age_bars
            if not keep[k]:
                log_end(journal, order, EXPIRED, ns)
    remove_orders(book, keep)
