"""Screening kernels: a moving-average crossover, long or flat, for many pairs of windows. They never trade.

Rules. Decided at a close: long if fast > slow * TIE, flat if not, no opinion (what is held stays) if either is NaN or
the next bar does not trade. Filled at the next open with all the cash: a buy pays open * (1 + cost), a sale receives
open * (1 - cost). Marked at each close, at the last one where a bar is missing; not sold at the end. These are the
rules of docs/STEP.md for one instrument with rounding and limits off.

Two ways to the same figures. `walk` takes a pair over every bar and keeps nothing. `jump_pairs` uses what all pairs
share, O(T): sums of returns and of their squares, lowest and highest marks of spans; a pair then is 64 bars a word of
decisions, and arithmetic only where its position changes. Where a drawdown may have deepened it looks closer.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, uint64

# Averages that differ by less are equal, and equal is not above: the last bits of a sum shall not decide.
TIE = 1.0 + 1e-11
TILE = 4_096  # bars between two fresh sums of a walk: what its running sums lose stays below 1e-12
BITS = 64
ONE = uint64(1)
SPANS = 9  # extremes are kept for spans of 1, 2, 4, ... 256 bars
LOOK = 4  # a drawdown is looked for in steps of 16 bars
# What each bar holds for all pairs: shares that one unit of cash buys at its open, and its return then; cash of one
# share sold at its open, and its return then; sums of returns and of their squares up to its close, and before it.
BOUGHT, BOUGHT_RETURN, SOLD, SOLD_RETURN, TOTAL, SQUARES, TOTAL_BEFORE, SQUARES_BEFORE = range(8)


@njit(cache=True, nogil=True)
def sharpe_of(total, squares, n, per_year):
    """Return the Sharpe ratio of n returns with this sum and sum of squares; NaN without variance."""
    mean = total / n
    rest = squares - total * mean
    if n < 2 or not rest > 0.0:
        return np.nan
    return mean / math.sqrt(rest / (n - 1)) * math.sqrt(per_year)


@njit(cache=True, nogil=True)
def whole(prices):
    """Tell whether every price is above 0 and finite."""
    bad = 0
    for t in range(prices.size):
        bad += not (prices[t] > 0.0 and prices[t] < np.inf)
    return bad == 0


@njit(cache=True, nogil=True)
def window_sum(x, stop, period):
    """Return the sum of the last `period` values before stop, of as many as there are."""
    total = 0.0
    for t in range(max(0, stop - period), stop):
        total += x[t]
    return total


@njit(cache=True, nogil=True)
def counted(value, equity, peak, low, total, squares):
    """Return (equity, peak, low, total, squares) after one more point of the curve; low: smallest equity / peak."""
    r = value / equity - 1.0
    peak = value if value > peak else peak
    if value < low * peak:
        low = value / peak
    return value, peak, low, total + r, squares + r * r


@njit(cache=True, nogil=True)
def walk(open_, close, fast, slow, cost, per_year, out, trades, p):
    """Take one pair of simple averages over every bar; write out [3, P] and trades [P] at p.

    The three figures are total return, Sharpe ratio, maximum drawdown. False, and nothing written: a bar is missing or
    a price is none.
    """
    n = close.size
    equity, peak, low, total, squares = 1.0, 1.0, 1.0, 0.0, 0.0
    shares, want, held, entries = 0.0, False, False, 0
    fast_scale, slow_scale = 1.0 / fast, TIE / slow
    begin = min(slow, n)
    if not (whole(open_[:begin]) and whole(close[:begin])):
        return False
    if slow <= n:
        want = window_sum(close, slow, fast) * fast_scale > window_sum(close, slow, slow) * slow_scale
    while begin < n:
        end = min(begin + TILE, n)
        if not (whole(open_[begin:end]) and whole(close[begin:end])):
            return False
        fast_sum, slow_sum = window_sum(close, begin, fast), window_sum(close, begin, slow)
        t = begin
        while t < end:
            if want and not held:
                shares = equity / (open_[t] * (1.0 + cost))
                entries += 1
            elif held and not want:
                value = shares * open_[t] * (1.0 - cost)
                equity, peak, low, total, squares = counted(value, equity, peak, low, total, squares)
                fast_sum += close[t] - close[t - fast]
                slow_sum += close[t] - close[t - slow]
                held, want = False, fast_sum * fast_scale > slow_sum * slow_scale
                t += 1
                continue
            held = want
            while t < end and want == held:
                if held:
                    equity, peak, low, total, squares = counted(shares * close[t], equity, peak, low, total, squares)
                fast_sum += close[t] - close[t - fast]
                slow_sum += close[t] - close[t - slow]
                want = fast_sum * fast_scale > slow_sum * slow_scale
                t += 1
        begin = end
    out[0, p] = equity - 1.0
    out[1, p] = sharpe_of(total, squares, n, per_year)
    out[2, p] = 1.0 - low
    trades[p] = entries
    return True


@njit(cache=True, nogil=True)
def marks_of(close, marks):
    """Write the last close there was (before the first: that one) into marks [T]; return how many are missing."""
    n, missing, last = close.size, 0, 1.0
    for t in range(n - 1, -1, -1):
        last = close[t] if close[t] == close[t] else last
    for t in range(n):
        if close[t] == close[t]:
            last = close[t]
        else:
            missing += 1
        marks[t] = last
    return missing


@njit(cache=True, nogil=True)
def shared_bars(open_, marks, cost, bars):
    """Write what all pairs share into bars [T + 1, 8]; the last row ends a position at the last mark, unsold."""
    n = marks.size
    bars[n, SOLD], bars[n, SOLD_RETURN] = marks[n - 1], 0.0
    total, squares, total_rest, squares_rest = 0.0, 0.0, 0.0, 0.0
    for t in range(n + 1):
        bars[t, TOTAL_BEFORE], bars[t, SQUARES_BEFORE] = total + total_rest, squares + squares_rest
        if t == n:
            break
        before = marks[t - 1] if t > 0 else marks[t]
        bars[t, BOUGHT] = 1.0 / (open_[t] * (1.0 + cost))
        bars[t, BOUGHT_RETURN] = marks[t] * bars[t, BOUGHT] - 1.0
        bars[t, SOLD] = open_[t] * (1.0 - cost)
        bars[t, SOLD_RETURN] = bars[t, SOLD] / before - 1.0
        r = marks[t] / before - 1.0
        # Differences of these sums are used: what each addition loses is kept and added back (Knuth's two-sum).
        after = total + r
        part = after - total
        total_rest += (total - (after - part)) + (r - part)
        total = after
        after = squares + r * r
        part = after - squares
        squares_rest += (squares - (after - part)) + (r * r - part)
        squares = after
        bars[t, TOTAL], bars[t, SQUARES] = total + total_rest, squares + squares_rest


@njit(cache=True, nogil=True)
def span_extremes(marks, spans, powers):
    """Write lowest and highest mark of the 2**k bars from t on into spans [SPANS, T, 2]; powers [..] = floor(log2)."""
    n = marks.size
    for t in range(n):
        spans[0, t, 0] = marks[t]
        spans[0, t, 1] = marks[t]
    for k in range(1, SPANS):
        half = 1 << (k - 1)
        for t in range(n):
            u = min(t + half, n - 1)
            spans[k, t, 0] = min(spans[k - 1, t, 0], spans[k - 1, u, 0])
            spans[k, t, 1] = max(spans[k - 1, t, 1], spans[k - 1, u, 1])
    powers[0] = 0
    powers[1] = 0
    for length in range(2, powers.size):
        powers[length] = powers[length // 2] + 1


@njit(cache=True, nogil=True)
def extremes(spans, powers, first, stop):
    """Return lowest and highest mark of the bars first..stop, at least one."""
    widest = 1 << (SPANS - 1)
    lowest, highest = np.inf, 0.0
    while stop - first >= 2 * widest:
        lowest = min(lowest, spans[SPANS - 1, first, 0])
        highest = max(highest, spans[SPANS - 1, first, 1])
        first += widest
    k = powers[stop - first]
    last = stop - (1 << k)
    lowest = min(lowest, min(spans[k, first, 0], spans[k, last, 0]))
    highest = max(highest, max(spans[k, first, 1], spans[k, last, 1]))
    return lowest, highest


@njit(cache=True, nogil=True)
def decisions(fast, slow, gaps, above, not_below):
    """Write 64 bars a word: fast > slow * TIE into above, not fast <= slow * TIE into not_below."""
    for i in range(above.size):
        at = i * BITS
        word = uint64(0)
        for k in range(BITS):
            word |= uint64(fast[at + k] > slow[at + k] * TIE) << uint64(k)
        above[i] = word
        not_below[i] = word
    if not gaps:  # then whatever is not above is flat: before the windows are whole as well
        return
    for i in range(above.size):
        at = i * BITS
        word = uint64(0)
        for k in range(BITS):
            word |= uint64(not (fast[at + k] <= slow[at + k] * TIE)) << uint64(k)
        not_below[i] = word


@njit(cache=True, nogil=True)
def trailing_zeros(word):
    """Return the place of the lowest bit that is set (LLVM knows this loop: it becomes one instruction)."""
    n = BITS
    while word != uint64(0):
        word = word << ONE
        n -= 1
    return n


@njit(cache=True, nogil=True)
def changes(above, not_below, n_bars, at):
    """Write the bars where the position changes into at: bought, sold, bought, ...; the last one is sold at n_bars.

    Returns how many. The position before each bar comes as carries of an addition: a decision for it generates one, no
    opinion passes the one before on.
    """
    n = 0
    carry = uint64(0)
    for i in range(above.size):
        a, b = above[i], not_below[i]
        added = a + b + carry
        held = added ^ a ^ b
        carry = ((a & b) | ((a | b) & ~added)) >> uint64(BITS - 1)
        turns = held ^ ((held << ONE) | uint64(n & 1))
        while turns != uint64(0):
            at[n] = i * BITS + trailing_zeros(turns)
            n += 1
            turns = turns & (turns - ONE)
    at[n] = n_bars
    return n + (n & 1)


@njit(cache=True, nogil=True)
def deepest(marks, spans, shares, first, stop, peak, low):
    """Return the smallest equity / peak while `shares` are held over the bars first..stop, or low if that is less."""
    t = first
    while t < stop:
        end = min(t + (1 << LOOK), stop)
        if end - t == 1 << LOOK:
            top = max(peak, shares * spans[LOOK, t, 1])
            if shares * spans[LOOK, t, 0] >= low * top:
                peak = top
                t = end
                continue
        for u in range(t, end):
            equity = shares * marks[u]
            peak = max(peak, equity)
            if equity < low * peak:
                low = equity / peak
        t = end
    return low


@njit(cache=True, nogil=True)
def jump(bars, marks, spans, powers, at, n_at, per_year, out, trades, p):
    """Take one pair from change to change of its position; write out [3, P] and trades [P] at p."""
    cash, peak, low, total, squares = 1.0, 1.0, 1.0, 0.0, 0.0
    for k in range(0, n_at, 2):
        first, stop = at[k], at[k + 1]
        shares = cash * bars[first, BOUGHT]
        bought, sold = bars[first, BOUGHT_RETURN], bars[stop, SOLD_RETURN]
        total += bought + sold + (bars[stop, TOTAL_BEFORE] - bars[first, TOTAL])
        squares += bought * bought + sold * sold + (bars[stop, SQUARES_BEFORE] - bars[first, SQUARES])
        lowest, highest = extremes(spans, powers, first, stop)
        top = max(peak, shares * highest)
        if shares * lowest < low * top:
            low = shares * lowest / peak if top == peak else deepest(marks, spans, shares, first, stop, peak, low)
        peak = top
        cash = shares * bars[stop, SOLD]
        peak = max(peak, cash)
        if cash < low * peak:
            low = cash / peak
    out[0, p] = cash - 1.0
    out[1, p] = sharpe_of(total, squares, marks.size, per_year)
    out[2, p] = 1.0 - low
    trades[p] = n_at // 2


@njit(cache=True, nogil=True)
def jump_pairs(bars, marks, spans, powers, rows, gaps, fast, slow, per_year, out, trades):
    """Take each pair: rows [W, multiple of 64 > T] of averages, NaN from the last bar on; fast, slow [P] name theirs.

    Where the next bar does not trade a row is NaN too. Writes out [3, P], trades [P].
    """
    above, not_below = np.zeros((2, rows.shape[1] // BITS), np.uint64)
    at = np.zeros(marks.size + 2, np.int64)
    for p in range(fast.size):
        decisions(rows[fast[p]], rows[slow[p]], gaps, above, not_below)
        n_at = changes(above, not_below, marks.size, at)
        jump(bars, marks, spans, powers, at, n_at, per_year, out, trades, p)
