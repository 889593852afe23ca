"""Covariances, betas and correlation clusters of a window of returns [T, n] without NaN.

Plain loops in a fixed order and no BLAS: the same bits on every machine, which a decision's hash asks for. `gram` keeps
what it writes in the second-level cache and takes four rows a turn, so that it is no slower for it.
"""

from __future__ import annotations

import numpy as np

from tradecore._kernels import inlined, kernel

TILE = 64


@kernel
def gram(x, out):
    """Write x' x [n, n] of x [T, n]."""
    rows, n = x.shape
    whole = rows - rows % 4
    for first in range(0, n, TILE):
        last = min(n, first + TILE)
        for i in range(first, last):
            for j in range(i + 1):
                out[i, j] = 0.0
        for t in range(0, whole, 4):
            r0, r1, r2, r3 = x[t], x[t + 1], x[t + 2], x[t + 3]
            for i in range(first, last):
                a, b, c, d = r0[i], r1[i], r2[i], r3[i]
                row = out[i]
                for j in range(i + 1):
                    row[j] += a * r0[j] + b * r1[j] + c * r2[j] + d * r3[j]
        for t in range(whole, rows):
            r0 = x[t]
            for i in range(first, last):
                a, row = r0[i], out[i]
                for j in range(i + 1):
                    row[j] += a * r0[j]
    for i in range(n):
        for j in range(i):
            out[j, i] = out[i, j]


@kernel
def centred(returns, out):
    """Write returns [T, n] less their mean."""
    rows, n = returns.shape
    mean = out[rows - 1]  # room that is written last
    for i in range(n):
        mean[i] = 0.0
    for t in range(rows):
        row = returns[t]
        for i in range(n):
            mean[i] += row[i]
    for i in range(n):
        mean[i] /= rows
    for t in range(rows):
        row, into = returns[t], out[t]
        for i in range(n):
            into[i] = row[i] - mean[i]


@kernel
def sample_covariance(returns, x, out):
    """Write the covariance [n, n], divided by T - 1; x [T, n] is room."""
    centred(returns, x)
    gram(x, out)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] /= returns.shape[0] - 1


@kernel
def ewma_covariance(returns, decay, x, out):
    """Write the covariance [n, n] with weights decay**age that sum to 1, around 0 (RiskMetrics 1996); x is room."""
    rows, n = returns.shape
    total, power = 0.0, 1.0
    for _ in range(rows):
        total += power
        power *= decay
    root = np.sqrt(1.0 / total)
    step = np.sqrt(decay)
    for t in range(rows - 1, -1, -1):
        row, into = returns[t], x[t]
        for i in range(n):
            into[i] = row[i] * root
        root *= step
    gram(x, out)


@kernel
def ledoit_wolf(returns, x, out):
    """Write the covariance [n, n], divided by T, shrunk towards the mean variance times 1; return by how much.

    Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate
    Analysis 88(2), 2004, lemma 3.2 to 3.4. x [T, n] is room.
    """
    rows, n = returns.shape
    centred(returns, x)
    gram(x, out)
    fourth = 0.0
    for t in range(rows):
        norm = 0.0
        for i in range(n):
            norm += x[t, i] * x[t, i]
        fourth += norm * norm
    squares, trace = 0.0, 0.0
    for i in range(n):
        row = out[i]
        for j in range(n):
            row[j] /= rows
            squares += row[j] * row[j]
        trace += row[i]
    mean = trace / n
    distance = (squares - n * mean * mean) / n
    noise = min(distance, (fourth / rows - squares) / (n * rows))
    shrinkage = noise / distance if noise > 0.0 else 0.0
    for i in range(n):
        row = out[i]
        for j in range(n):
            row[j] *= 1.0 - shrinkage
        row[i] += shrinkage * mean
    return shrinkage


@inlined
def has_hole(returns, i):
    """Tell whether column i has a NaN."""
    hole = False
    for t in range(returns.shape[0]):
        hole = hole or np.isnan(returns[t, i])
    return hole


@kernel
def betas(returns, index, out):
    """Write the beta [n] of each column of returns [T, n] to index [T]; NaN with a hole, or where the index stood."""
    rows, n = returns.shape
    mean = 0.0
    for t in range(rows):
        mean += index[t]
    mean /= rows
    variance = 0.0
    for t in range(rows):
        variance += (index[t] - mean) * (index[t] - mean)
    for i in range(n):
        both = 0.0
        for t in range(rows):
            both += (index[t] - mean) * returns[t, i]
        out[i] = both / variance if variance > 0.0 else np.nan


@kernel
def mean_of_traded(returns, out):
    """Write the mean [T] over the columns of returns [T, n] that are no NaN; 0 where none is."""
    for t in range(returns.shape[0]):
        total, count = 0.0, 0
        for i in range(returns.shape[1]):
            if not np.isnan(returns[t, i]):
                total += returns[t, i]
                count += 1
        out[t] = total / count if count > 0 else 0.0


@kernel
def clusters(covariance, least, out):
    """Write the cluster [n] of each name: its lowest member. Names with a correlation of `least` or more are in one,
    and so are those that a chain of such pairs joins (single linkage). Without a variance: alone."""
    n = covariance.shape[0]
    for i in range(n):
        out[i] = i
    for i in range(n):
        for j in range(i):
            scale = covariance[i, i] * covariance[j, j]
            if scale > 0.0 and covariance[i, j] >= least * np.sqrt(scale):
                low, high = min(out[i], out[j]), max(out[i], out[j])
                if low != high:
                    for k in range(i + 1):
                        if out[k] == high:
                            out[k] = low
