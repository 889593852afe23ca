"""Kernels of rolling windows over one column: amortised O(1) a row whatever the period, O(log period) for ranks.

Rows are cut into blocks of `period`. A window is then the tail of one block and the head of the next, each summed on
its own: nothing is ever subtracted from a running sum, so there is no drift to correct, and a NaN (or a huge value)
leaves no trace once it has left the window (van Herk 1992, Gil & Werman 1993, who did this for minima and maxima).

NaN rule: NaN where the window is not complete or holds a NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tradecore._kernels import kernel


@njit(cache=True)
def rolling_sum(x, period, scale, out):
    """Write scale times the sum of the last `period` rows of x [T] into out [T]."""
    sum_blocks(x, period, scale, np.full(period + 1, np.nan), np.zeros(period + 1), out)


@kernel
def sum_blocks(x, period, scale, tail, fresh, out):
    """Do so block by block; tail and fresh [period + 1] are room for the sums from each row to its block's end."""
    tail[period] = 0.0
    for begin in range(0, x.size, period):
        rows, sums = x[begin : begin + period], out[begin : begin + period]
        head = 0.0
        back = 0.0
        for k in range(rows.size):  # two independent chains of additions: they run side by side
            last = rows.size - 1 - k
            head += rows[k]
            back += rows[last]
            fresh[last] = back
            sums[k] = (tail[k + 1] + head) * scale
        tail, fresh = fresh, tail


@njit(cache=True)
def rolling_moments(x, period, mean, spread):
    """Write the mean of the last `period` rows of x [T] (none if mean is empty) and the squared deviations' sum.

    The sums about a block boundary are of differences to the first row of the later block, which every window across
    that boundary holds: cancellation is bounded by the window's own range, not by the level of x.
    """
    n = x.size
    wants_mean = mean.size > 0
    inverse = 1.0 / period
    tail, fresh = np.full(period + 1, np.nan), np.zeros(period + 1)
    tail_squares, fresh_squares = np.full(period + 1, np.nan), np.zeros(period + 1)
    tail[period] = 0.0
    tail_squares[period] = 0.0
    for begin in range(0, n, period):
        size = min(period, n - begin)
        anchor = x[begin]
        following = x[begin + period] if begin + period < n else anchor
        head = 0.0
        head_squares = 0.0
        back = 0.0
        back_squares = 0.0
        for k in range(size):
            d = x[begin + k] - anchor
            head += d
            head_squares += d * d
            e = x[begin + size - 1 - k] - following
            back += e
            back_squares += e * e
            fresh[size - 1 - k] = back
            fresh_squares[size - 1 - k] = back_squares
            total = head + tail[k + 1]
            offset = total * inverse
            rest = head_squares + tail_squares[k + 1] - total * offset
            if wants_mean:
                mean[begin + k] = anchor + offset
            spread[begin + k] = 0.0 if rest < 0.0 else rest
        tail, fresh = fresh, tail
        tail_squares, fresh_squares = fresh_squares, tail_squares


@njit(cache=True)
def rolling_std(x, period, ddof, mean, std):
    """Write mean (none if it is empty) and standard deviation, divisor period - ddof, of the last `period` rows [T]."""
    rolling_moments(x, period, mean, std)
    scale = 1.0 / (period - ddof)
    for t in range(x.size):
        std[t] = math.sqrt(std[t] * scale)


@njit(cache=True)
def rolling_var(x, period, ddof, out):
    """Write the variance, divisor period - ddof, of the last `period` rows of x [T]."""
    rolling_moments(x, period, np.empty(0), out)
    scale = 1.0 / (period - ddof)
    for t in range(x.size):
        out[t] *= scale


@njit(cache=True)
def rolling_std_alone(x, period, ddof, std):
    """Write the standard deviation as rolling_std does."""
    rolling_std(x, period, ddof, np.empty(0), std)


@njit(cache=True)
def rolling_zscore(x, period, ddof, out):
    """Write (x - mean) / std of the last `period` rows of x [T]; NaN where std is 0."""
    mean = np.empty(x.size)
    rolling_std(x, period, ddof, mean, out)
    for t in range(x.size):
        out[t] = (x[t] - mean[t]) / out[t] if out[t] != 0.0 else np.nan


@njit(cache=True)
def rolling_comoments(x, y, period, xx, yy, xy):
    """Write the centred sums of squares and products of the last `period` rows of x and y [T]."""
    n = x.size
    inverse = 1.0 / period
    tail, fresh = np.full((5, period + 1), np.nan), np.zeros((5, period + 1))
    tail[:, period] = 0.0
    for begin in range(0, n, period):
        size = min(period, n - begin)
        ax, ay = x[begin], y[begin]
        following = begin + period if begin + period < n else begin
        bx, by = x[following], y[following]
        sx = sy = sxx = syy = sxy = 0.0
        ex = ey = exx = eyy = exy = 0.0
        for k in range(size):  # the head of this block and, backwards, the tail for the next: side by side
            back = size - 1 - k
            dx, dy = x[begin + back] - bx, y[begin + back] - by
            ex += dx
            ey += dy
            exx += dx * dx
            eyy += dy * dy
            exy += dx * dy
            fresh[0, back], fresh[1, back], fresh[2, back], fresh[3, back], fresh[4, back] = ex, ey, exx, eyy, exy
            dx, dy = x[begin + k] - ax, y[begin + k] - ay
            sx += dx
            sy += dy
            sxx += dx * dx
            syy += dy * dy
            sxy += dx * dy
            tx, ty = sx + tail[0, k + 1], sy + tail[1, k + 1]
            xx[begin + k] = sxx + tail[2, k + 1] - tx * (tx * inverse)
            yy[begin + k] = syy + tail[3, k + 1] - ty * (ty * inverse)
            xy[begin + k] = sxy + tail[4, k + 1] - tx * (ty * inverse)
        tail, fresh = fresh, tail


@njit(cache=True, error_model="numpy")
def rolling_correlation(x, y, period, out):
    """Write Pearson's correlation of the last `period` rows of x and y [T]; NaN where one of them does not vary."""
    xx, yy = np.empty(x.size), np.empty(x.size)
    rolling_comoments(x, y, period, xx, yy, out)
    for t in range(x.size):
        value = out[t] / (math.sqrt(xx[t]) * math.sqrt(yy[t]))
        value = 1.0 if value > 1.0 else value
        value = -1.0 if value < -1.0 else value
        out[t] = value if xx[t] > 0.0 and yy[t] > 0.0 else np.nan


@njit(cache=True)
def rolling_beta(x, y, period, out):
    """Write the slope of x on y over the last `period` rows [T]; NaN where y does not vary."""
    xx, yy = np.empty(x.size), np.empty(x.size)
    rolling_comoments(x, y, period, xx, yy, out)
    for t in range(x.size):
        out[t] = out[t] / yy[t] if yy[t] > 0.0 else np.nan


@njit(cache=True)
def rolling_max(x, period, sign, out):
    """Write the largest of the last `period` rows of sign * x [T], times sign: -1 gives the smallest."""
    n = x.size
    tail = np.full(period + 1, np.nan)
    tail[period] = -np.inf
    for begin in range(0, n, period):
        if begin > 0:
            best = -np.inf
            for k in range(period - 1, -1, -1):
                best = larger(best, sign * x[begin - period + k])
                tail[k] = best
        best = -np.inf
        for k in range(min(period, n - begin)):
            best = larger(best, sign * x[begin + k])
            out[begin + k] = sign * larger(best, tail[k + 1])


@njit(cache=True, inline="always")
def larger(a, b):
    """Return the larger of two numbers, NaN if one of them is."""
    return a if a > b or a != a else b


@njit(cache=True)
def rolling_median(x, period, out):
    """Write the median of the last `period` rows of x [T]; the mean of the middle two when period is even.

    The values of two neighbouring blocks are sorted once; a Fenwick tree over their ranks then says which of them are
    in the window (Fenwick 1994).
    """
    n = x.size
    low, high = (period + 1) // 2, period // 2 + 1
    for begin in range(0, n, period):
        first, end = max(begin - period, 0), min(begin + period, n)
        values, rank = ranked(x[first:end])
        counts = np.zeros(values.size + 1, np.int64)
        nans = 0
        for t in range(first, begin):
            nans += enter(x[t], rank[t - first], counts, 1)
        for t in range(begin, end):
            nans += enter(x[t], rank[t - first], counts, 1)
            if t >= period:
                nans += enter(x[t - period], rank[t - period - first], counts, -1)
            if t < period - 1 or nans > 0:
                out[t] = np.nan
            else:
                a = values[nth(counts, low)]
                out[t] = a if low == high else (a + values[nth(counts, high)]) / 2.0


@njit(cache=True)
def rolling_mean_deviation(x, period, mean, out):
    """Write mean [T] and the mean absolute deviation from it of the last `period` rows of x [T].

    It is twice the part above the mean: the count and the sum of what lies above come from Fenwick trees.
    """
    n = x.size
    rolling_moments(x, period, mean, out)
    for begin in range(0, n, period):
        first, end = max(begin - period, 0), min(begin + period, n)
        values, rank = ranked(x[first:end])
        counts, sums = np.zeros(values.size + 1, np.int64), np.zeros(values.size + 1)
        anchor = x[begin]
        nans = 0
        for t in range(first, end):
            nans += enter(x[t], rank[t - first], counts, 1)
            enter_value(x[t] - anchor, rank[t - first], sums)
            if t < begin:
                continue
            if t >= period:
                nans += enter(x[t - period], rank[t - period - first], counts, -1)
                enter_value(anchor - x[t - period], rank[t - period - first], sums)
            if t < period - 1 or nans > 0:
                out[t] = np.nan
            else:
                level = mean[t] - anchor
                position = np.searchsorted(values, mean[t], side="right")
                above = period - total(counts, position)
                over = total(sums, values.size) - total(sums, position)
                out[t] = max(0.0, 2.0 * (over - above * level) / period)


@njit(cache=True)
def ranked(x):
    """Return the values of x in rising order, NaN last, and the place of each row in it."""
    order = np.argsort(x)
    rank = np.empty(x.size, np.int64)
    for place in range(order.size):
        rank[order[place]] = place
    return x[order], rank


@njit(cache=True)
def enter(value, place, counts, step):
    """Add step to the count at a place of the tree and return 0; a NaN is not entered and returns step."""
    if value != value:
        return step
    i = place + 1
    while i < counts.size:
        counts[i] += step
        i += i & -i
    return 0


@njit(cache=True)
def enter_value(value, place, sums):
    """Add a value at a place of the tree of sums; NaN is nothing."""
    if value == value:
        i = place + 1
        while i < sums.size:
            sums[i] += value
            i += i & -i


@njit(cache=True)
def total(tree, size):
    """Return the sum over the first `size` places."""
    found = tree[0]
    i = size
    while i > 0:
        found += tree[i]
        i -= i & -i
    return found


@njit(cache=True)
def nth(counts, k):
    """Return the place of the k-th (from 1) entry."""
    step = 1
    while step * 2 < counts.size:
        step *= 2
    place = 0
    while step > 0:
        if place + step < counts.size and counts[place + step] < k:
            place += step
            k -= counts[place]
        step //= 2
    return place
