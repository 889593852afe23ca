"""Weights from a covariance: long-only over names that are all in; a short name comes in with its sign turned.

All in the units of a bar. What a kernel cannot meet exactly it meets to the tolerance that it is given.
"""

from __future__ import annotations

import numpy as np

from tradecore._kernels import kernel

TINY = 1e-300


@kernel
def equal_risk(covariance, budget, tolerance, sweeps, w, pull):
    """Write w [n], sum 1, with w_i (covariance w)_i / variance of w = budget_i, each to within the relative tolerance.

    covariance [n, n] positive on its diagonal, budget [n] positive with sum 1, pull [n] is room. Cyclical coordinate
    descent of x' C x / 2 - sum b_i ln x_i, whose every coordinate has a closed form: Griveau-Billion, Richard &
    Roncalli, "A Fast Algorithm for Computing High-dimensional Risk Parity Portfolios", SSRN 2325255, 2013. Returns the
    largest relative error that is left.
    """
    n = covariance.shape[0]
    for i in range(n):
        w[i] = np.sqrt(budget[i] / covariance[i, i])
        pull[i] = 0.0
    for i in range(n):
        x, row = w[i], covariance[i]
        for j in range(n):
            pull[j] += x * row[j]
    variance = 0.0
    for i in range(n):
        variance += w[i] * pull[i]
    scale = 1.0 / np.sqrt(variance) if variance > 0.0 else 1.0
    for i in range(n):
        w[i] *= scale
        pull[i] *= scale
    error = np.inf
    for _ in range(sweeps):
        for i in range(n):
            row, own = covariance[i], covariance[i, i]
            others = pull[i] - own * w[i]
            root = np.sqrt(others * others + 4.0 * own * budget[i])
            # two forms of the one positive root: neither takes two near numbers from each other
            x = 2.0 * budget[i] / (others + root) if others > 0.0 else (root - others) / (2.0 * own)
            change = x - w[i]
            w[i] = x
            for j in range(n):
                pull[j] += change * row[j]
        error = 0.0
        for i in range(n):
            error = max(error, abs(w[i] * pull[i] / budget[i] - 1.0))
        if error <= tolerance:
            break
    total = 0.0
    for i in range(n):
        total += w[i]
    for i in range(n):
        w[i] /= total
    return error


@kernel
def fill_to(w, upper, budget):
    """Scale w [n], >= 0, to the sum of budget with no part above upper [n]: what one cannot take the others get in
    their ratio, and what nobody can take is left."""
    n, total = w.shape[0], 0.0
    for i in range(n):
        total += w[i]
    for i in range(n):
        w[i] *= budget / total if total > TINY else 0.0
    for _ in range(n + 1):
        taken, open_ = 0.0, 0.0
        for i in range(n):
            if w[i] >= upper[i]:
                w[i] = upper[i]
                taken += upper[i]
            else:
                open_ += w[i]
        if open_ <= TINY or budget <= taken:
            break
        factor = (budget - taken) / open_
        over = False
        for i in range(n):
            if w[i] < upper[i]:
                w[i] *= factor
                over = over or w[i] > upper[i]
        if not over:
            break


@kernel
def box_budget(quadratic, linear, upper, budget, tolerance, steps, w, slope):
    """Write the w [n] that minimises w'Qw/2 - m'w with sum w = budget and 0 <= w <= upper [n]; return the gap.

    quadratic [n, n] symmetric and positive semidefinite, a singular one too; slope [n] is room. Moves weight between
    the pair of names that gains most, of second order: Fan, Chen & Lin, "Working Set Selection Using Second Order
    Information for Training Support Vector Machines", JMLR 6, 2005. The gap is the largest slope of a name that could
    give less the smallest of one that could take: 0 at the optimum; it stops at `tolerance`.
    """
    n = w.shape[0]
    room = 0.0
    for i in range(n):
        room += upper[i]
    for i in range(n):
        w[i] = upper[i] * min(1.0, budget / room) if room > 0.0 else 0.0
        slope[i] = -linear[i]
    for i in range(n):
        x, row = w[i], quadratic[i]
        for j in range(n):
            slope[j] += x * row[j]
    gap = 0.0
    for _ in range(steps):
        up, low = -1, np.inf
        high = -np.inf
        for i in range(n):
            if w[i] < upper[i] and slope[i] < low:
                up, low = i, slope[i]
            if w[i] > 0.0 and slope[i] > high:
                high = slope[i]
        gap = high - low if up >= 0 else 0.0
        if up < 0 or gap <= tolerance:
            return max(gap, 0.0)
        down, best, row = -1, -1.0, quadratic[up]
        for j in range(n):
            lead = slope[j] - low
            if w[j] > 0.0 and lead > 0.0:
                bend = max(quadratic[up, up] + quadratic[j, j] - 2.0 * row[j], TINY)
                gain = lead * lead / bend
                if gain > best:
                    down, best = j, gain
        lead, other = slope[down] - low, quadratic[down]
        bend = max(quadratic[up, up] + quadratic[down, down] - 2.0 * row[down], TINY)
        takes, gives = upper[up] - w[up], w[down]
        move = min(lead / bend, takes, gives)
        w[up] = upper[up] if move == takes else w[up] + move
        w[down] = 0.0 if move == gives else w[down] - move
        for j in range(n):
            slope[j] += move * (row[j] - other[j])
    return gap


@kernel
def portfolio_variance(covariance, w):
    """Return w' covariance w."""
    total = 0.0
    for i in range(w.shape[0]):
        pull = 0.0
        for j in range(w.shape[0]):
            pull += covariance[i, j] * w[j]
        total += w[i] * pull
    return total


@kernel
def solve(covariance, right, out, room):
    """Write the x [n] of covariance x = right by Cholesky; room [n, n]. A pivot that vanished counts as infinite, so
    that a direction without a variance of its own has no part."""
    n = covariance.shape[0]
    for i in range(n):
        for j in range(i + 1):
            total = covariance[i, j]
            for k in range(j):
                total -= room[i, k] * room[j, k]
            if i == j:
                room[i, i] = np.sqrt(total) if total > 1e-12 * covariance[i, i] else np.inf
            else:
                room[i, j] = total / room[j, j]
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= room[i, k] * out[k]
        out[i] = total / room[i, i]
    for i in range(n - 1, -1, -1):
        total = out[i]
        for k in range(i + 1, n):
            total -= room[k, i] * out[k]
        out[i] = total / room[i, i]


@kernel
def shrunk_means(returns, covariance, out, best, room):
    """Write the mean returns [n], drawn towards 0 as far as their estimate is noise; return the part that is kept.

    Jorion, "Bayes-Stein Estimation for Portfolio Analysis", JFQA 21(3), 1986, (17), around no edge at all instead of
    the minimum-variance mean: (n + 2) / (n + 2 + T m' C^-1 m) of it is taken off. best [n] and room [n, n] are room.
    """
    rows, n = returns.shape
    for i in range(n):
        out[i] = 0.0
    for t in range(rows):
        for i in range(n):
            out[i] += returns[t, i]
    for i in range(n):
        out[i] /= rows
    solve(covariance, out, best, room)
    squared = 0.0
    for i in range(n):
        squared += out[i] * best[i]
    kept = rows * squared / (n + 2.0 + rows * squared) if squared > 0.0 else 0.0
    for i in range(n):
        out[i] *= kept
    return kept
