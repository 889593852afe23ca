"""Kernels from trades to bars. A bar is a column of `bars` [9, n], the bar in progress is `state` [10]: int64 all.

Rows: first trade's time, end (last trade's time, or the interval's end), open, high, low, close, quantity, value,
trades; in the state also the newest time that has been seen. With 0 trades no bar is in progress.

A bar is begun only where `bars` has room for it, so a kernel stops there and says at which trade: the caller makes room
and goes on. What a bar holds depends on the trades alone, not on how they were cut into batches.
"""

from __future__ import annotations

from tradecore._kernels import kernel, mul_div_round_abs

BEGIN, END, OPEN, HIGH, LOW, CLOSE, QTY, VALUE, TRADES = range(9)
NEWEST = 9
STATE_ROWS = 10
QTY_SCALE = 1_000_000


@kernel
def first_wrong(at_ns, price, qty, newest):
    """Return the first trade that is older than one before it, or whose price or quantity is not above 0; or -1."""
    last = newest
    for row in range(at_ns.size):
        if at_ns[row] < last or price[row] <= 0 or qty[row] <= 0:
            return row
        last = at_ns[row]
    return -1


@kernel
def event_bars(at_ns, price, qty, row, rule, state, bars, filled):
    """End a bar with the trade that brings its measure to the threshold; rule = (row of the measure, threshold).

    Measures: TRADES, QTY (1e-6 shares), VALUE (1e-4 USD, each trade's rounded half up). The excess of the last trade
    stays in its bar; the next begins at 0. Returns (first trade not taken, bars filled).
    """
    by, threshold = rule
    begin, high, low, open_ = state[BEGIN], state[HIGH], state[LOW], state[OPEN]
    quantity, value, trades = state[QTY], state[VALUE], state[TRADES]
    start = row
    while row < at_ns.size:
        p, q = price[row], qty[row]
        if trades == 0:
            if filled == bars.shape[1]:
                break
            begin, open_, high, low, quantity, value = at_ns[row], p, p, p, 0, 0
        high = max(high, p)
        low = min(low, p)
        quantity += q
        value += mul_div_round_abs(p, q, QTY_SCALE)
        trades += 1
        measure = trades if by == TRADES else quantity if by == QTY else value
        if measure >= threshold:
            bars[BEGIN, filled], bars[END, filled] = begin, at_ns[row]
            bars[OPEN, filled], bars[HIGH, filled], bars[LOW, filled], bars[CLOSE, filled] = open_, high, low, p
            bars[QTY, filled], bars[VALUE, filled], bars[TRADES, filled] = quantity, value, trades
            filled += 1
            trades = 0
        row += 1
    if row > start:
        state[END], state[CLOSE], state[NEWEST] = at_ns[row - 1], price[row - 1], at_ns[row - 1]
    state[BEGIN], state[HIGH], state[LOW], state[OPEN] = begin, high, low, open_
    state[QTY], state[VALUE], state[TRADES] = quantity, value, trades
    return row, filled


@kernel
def time_bars(at_ns, price, qty, row, rule, state, bars, filled):
    """End a bar with the first trade at or after its interval's end; rule = (offset, step) of the intervals in ns.

    An interval is [offset + k step, offset + (k + 1) step): a trade on a boundary belongs to the later one, and one
    without trades has no bar. Returns as event_bars does.
    """
    offset, step = rule
    begin, end, open_, high, low, close = state[BEGIN], state[END], state[OPEN], state[HIGH], state[LOW], state[CLOSE]
    quantity, value, trades = state[QTY], state[VALUE], state[TRADES]
    start = row
    while row < at_ns.size:
        at, p, q = at_ns[row], price[row], qty[row]
        if trades > 0 and at >= end:
            bars[BEGIN, filled], bars[END, filled] = begin, end
            bars[OPEN, filled], bars[HIGH, filled], bars[LOW, filled], bars[CLOSE, filled] = open_, high, low, close
            bars[QTY, filled], bars[VALUE, filled], bars[TRADES, filled] = quantity, value, trades
            filled += 1
            trades = 0
        if trades == 0:
            if filled == bars.shape[1]:
                break
            begin, open_, high, low, quantity, value = at, p, p, p, 0, 0
            end = offset + ((at - offset) // step + 1) * step
        high = max(high, p)
        low = min(low, p)
        close = p
        quantity += q
        value += mul_div_round_abs(p, q, QTY_SCALE)
        trades += 1
        row += 1
    if row > start:
        state[NEWEST] = at_ns[row - 1]
    state[BEGIN], state[END], state[OPEN], state[HIGH], state[LOW], state[CLOSE] = begin, end, open_, high, low, close
    state[QTY], state[VALUE], state[TRADES] = quantity, value, trades
    return row, filled
