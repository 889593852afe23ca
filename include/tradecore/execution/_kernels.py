"""Fills and how they are booked: at our prices, or as a venue reports them. Rules: docs/STEP.md, settle 4.

Pessimistic by construction (every fill is worsened by the slippage and rounded to the tick away from us), after the
conventions of a next-open daily backtest; participation caps follow zipline's VolumeShareSlippage idea.
"""

from __future__ import annotations

from tradecore._kernels import inlined, kernel, mul_div_floor, mul_div_half_up, mul_div_round, quotient
from tradecore.model import (
    CASH,
    EQUITY,
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
    G_DECIDED_NS,
    G_FEE,
    G_INSTR,
    G_LINE,
    G_NOTIONAL,
    G_OWN,
    G_PRICE,
    G_QTY,
    J_FILLS,
    N_ORDERS,
    O_AGE,
    O_DECIDED_NS,
    O_LINE,
    O_REM,
    REALISED,
)
from tradecore.portfolio._kernels import (
    add_lot,
    allocate_by_hand,
    allocate_closing,
    allocate_fill,
    log_end,
    remove_orders,
    take_lots,
)


@inlined
def fill_price(open_e4, tick, slippage_ppm, buy):
    """Return the open worsened by slippage, rounded to the tick away from us; a sell gets one tick at least."""
    unit = 1_000_000 * tick
    worse = 1_000_000 + slippage_ppm if buy else 1_000_000 - slippage_ppm
    up = unit - 1 if buy else 0
    price = quotient(open_e4 * worse + up, unit) * tick
    return price if buy else max(tick, price)


@inlined
def fill_fee(qty, notional, params, wide):
    """Return the commission e4 of a fill of qty e6 (unsigned) and notional e4; 0 for nothing. wide as in `mul_div`."""
    fee = mul_div_half_up(notional, params.commission_ppm, 1_000_000, wide)
    if params.commission_per_share_e6 != 0:
        fee += mul_div_half_up(qty, params.commission_per_share_e6, 100_000_000, wide)
    return max(params.commission_min_e4, fee) if qty > 0 else 0


@kernel
def affords(qty, price, cash, params):
    """Tell whether notional + fee of qty e6 is within cash."""
    notional = mul_div_round(qty, price, 1_000_000)
    return notional + fill_fee(qty, notional, params, True) <= cash


@kernel
def affordable_qty(qty, price, step, cash, params):
    """Return the largest multiple of step up to qty whose notional + fee is within cash.

    Searched by halves between bounds that leave, by powers of two, the quantity that the cash buys without rounding.
    """
    low, high, reach = 0, qty // step, 1
    exact = float(max(cash, 0)) * 1e6 / (float(price) * (1.0 + float(params.commission_ppm) * 1e-6))
    guess = min(int(min(exact, float(qty))) // step, high)
    if affords(guess * step, price, cash, params):
        low = guess
        while low + reach <= high and affords((low + reach) * step, price, cash, params):
            low += reach
            reach *= 2
        high = min(high, low + reach - 1)
    else:
        high = guess - 1
        while high - reach >= 0 and not affords((high - reach + 1) * step, price, cash, params):
            high -= reach
            reach *= 2
        low = max(low, high - reach + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if affords(middle * step, price, cash, params):
            low = middle
        else:
            high = middle - 1
    return max(low, 0) * step


@inlined
def book_trade(book, i, fill, notional, fee, again, ns):
    """Book a signed fill e6 of instrument i at an unsigned notional e4: cash, fees, lots and position. again: this bar
    may have opened a lot of it before.

    What opposes the position closes lots of it, what goes beyond zero opens the other side. A short's cost is negative:
    what it brought.
    """
    side = 1 if fill > 0 else -1
    book.acct[FEES] += fee
    book.acct[CASH] -= side * notional + fee
    closing = min(abs(fill), max(-book.qty[i] * side, 0))
    opened = notional
    if closing > 0:
        closed = notional if closing == abs(fill) else mul_div_round(notional, closing, abs(fill))
        book.acct[REALISED] -= side * closed + take_lots(book, i, closing)
        opened -= closed
    if closing < abs(fill):
        add_lot(book, i, fill - side * closing, side * opened, again, ns)
    book.qty[i] += fill


@inlined
def spendable(book, params):
    """Return the cash e4 that buys may use: all of it, and what the margin lends on the equity of the last mark."""
    if params.margin_ppm == 0:
        return book.acct[CASH]
    return book.acct[CASH] + mul_div_floor(max(book.acct[EQUITY], 0), params.margin_ppm, 1_000_000)


@inlined
def log_fill(journal, decided_ns, line, i, fill, price, open_e4, fee, rest, ns):
    """Append a fill row to the journal."""
    if journal is None:
        return
    row = journal.fills[journal.counts[J_FILLS]]
    row[F_DECIDED_NS] = decided_ns
    row[F_INSTR] = i
    row[F_LINE] = line
    row[F_QTY] = fill
    row[F_PRICE] = price
    row[F_OPEN] = open_e4
    row[F_FEE] = fee
    row[F_BAR_NS] = ns
    row[F_REM] = rest
    journal.counts[J_FILLS] += 1


@inlined
def book_fill(book, k, i, fill, price, notional, fee, again, open_e4, journal, ns):
    """Book a signed fill e6 of working order k, instrument i, at price e4, its unsigned notional e4 and its fee e4."""
    book_trade(book, i, fill, notional, fee, again, ns)
    allocate_fill(book.alloc, i, book.want[k], fill)
    book.order[k, O_REM] -= fill
    order = book.order[k]
    log_fill(journal, order[O_DECIDED_NS], order[O_LINE], i, fill, price, open_e4, fee, order[O_REM], ns)


@kernel
def find_order(book, decided_ns, line):
    """Return the row of a working order, or -1."""
    for k in range(book.acct[N_ORDERS]):
        if book.order[k, O_DECIDED_NS] == decided_ns and book.order[k, O_LINE] == line:
            return k
    return -1


@kernel
def fill_given(book, bar, given, instruments, journal, ns):
    """Book the venue's fills in their order, whatever they make of the position."""
    for g in range(given.fills.shape[0]):
        row = given.fills[g]
        i, fill = row[G_INSTR], row[G_QTY]
        k = find_order(book, row[G_DECIDED_NS], row[G_LINE])
        if book.mark[i] == 0:
            book.mark[i] = row[G_PRICE]  # bought by hand, and no bar of it yet: worth what it cost
        book_trade(book, i, fill, row[G_NOTIONAL], row[G_FEE], True, ns)
        if not row[G_OWN] and row[G_DECIDED_NS] >= 0:
            allocate_closing(book.alloc, i, fill, given.manual, instruments.step[i])
        elif k >= 0:
            allocate_fill(book.alloc, i, book.want[k], fill)
        else:
            allocate_by_hand(book.alloc, i, fill, max(given.manual, 0))
        rest = 0
        if k >= 0 and row[G_OWN]:
            book.order[k, O_REM] -= fill
            rest = book.order[k, O_REM]
        log_fill(journal, row[G_DECIDED_NS], row[G_LINE], i, fill, row[G_PRICE], bar.open[i], row[G_FEE], rest, ns)


@kernel
def end_given(book, given, journal, scratch, ns):
    """End the working orders that the venue has ended; the others stay, one bar older."""
    n_orders, keep = book.acct[N_ORDERS], scratch.keep
    keep[:n_orders] = True
    for e in range(given.ends.shape[0]):
        k = find_order(book, given.ends[e, 0], given.ends[e, 1])
        if k >= 0:
            keep[k] = False
            log_end(journal, book.order[k], given.ends[e, 2], ns)
    for k in range(n_orders):
        if keep[k]:
            book.order[k, O_AGE] += 1
    remove_orders(book, keep)
