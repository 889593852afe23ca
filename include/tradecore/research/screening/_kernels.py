"""Screening kernels: a moving-average crossover, long or flat, for many pairs of windows. They never trade.

Rules. Decided at a close: long if fast > slow * TIE, flat if not, no opinion (what is held stays) if either is NaN or
the next bar does not trade. Filled at the next open with all the cash: a buy pays open * (1 + cost), a sale receives
open * (1 - cost). Marked at each close, at the last one where a bar is missing; not sold at the end. These are the
rules of docs/STEP.md for one instrument with rounding and limits off.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Averages that differ by less are equal, and equal is not above: the last bits of a sum shall not decide.
TIE = 1.0 + 1e-11


@njit(cache=True, nogil=True)
def sharpe_of(total, squares, n, per_year):
    """Return the Sharpe ratio of n returns with this sum and sum of squares; NaN without variance."""
    mean = total / n
    rest = squares - total * mean
    if n < 2 or not rest > 0.0:
        return np.nan
    return mean / math.sqrt(rest / (n - 1)) * math.sqrt(per_year)


@njit(cache=True, nogil=True)
def walk(open_, close, fast, slow, cost, per_year, out, trades, p):
    """Take one pair over every bar: averages fast and slow [T]; writes out [3, P] and trades [P] at p.

    The three figures are total return, Sharpe ratio and maximum drawdown. A bar whose close is NaN does not trade.
    """
    cash, shares, previous = 1.0, 0.0, 1.0
    peak, low = 1.0, 1.0  # low: the smallest equity / peak so far
    total, squares = 0.0, 0.0
    opinion, want, held = False, False, False
    entries = 0
    for t in range(close.size):
        if close[t] != close[t]:
            opinion = False
            continue
        if opinion and want != held:
            if want:
                shares = cash / (open_[t] * (1.0 + cost))
                cash = 0.0
                entries += 1
            else:
                cash = shares * open_[t] * (1.0 - cost)
                shares = 0.0
            held = want
        equity = cash + shares * close[t]
        r = equity / previous - 1.0
        previous = equity
        total += r
        squares += r * r
        peak = equity if equity > peak else peak
        part = equity / peak
        low = part if part < low else low
        above = slow[t] * TIE
        want = fast[t] > above
        opinion = want or fast[t] <= above
    out[0, p] = previous - 1.0
    out[1, p] = sharpe_of(total, squares, close.size, per_year)
    out[2, p] = 1.0 - low
    trades[p] = entries


@njit(cache=True, nogil=True)
def walk_pairs(open_, close, rows, fast, slow, cost, per_year, out, trades):
    """Walk each pair: rows [W, T] of averages, fast and slow [P] name theirs."""
    for p in range(fast.size):
        walk(open_, close, rows[fast[p]], rows[slow[p]], cost, per_year, out, trades, p)
