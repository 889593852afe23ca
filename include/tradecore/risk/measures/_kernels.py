"""Loss measures of a series of portfolio returns, each a positive fraction for a loss."""

from __future__ import annotations

import numpy as np

from tradecore._kernels import kernel


@kernel
def partition_columns(returns, worst, room, value_at_risk, shortfall):
    """Write, for each column of returns [T, m], the worst-th largest loss and the mean of the worst.

    Keeps the worst so far in a small heap: most rows cost one comparison. room [>= worst]; the same figures as a
    partition by numpy.
    """
    rows, m = returns.shape
    for c in range(m):
        for k in range(worst):
            room[k] = returns[k, c]
        for k in range(worst // 2 - 1, -1, -1):
            sift(room, k, worst)
        for t in range(worst, rows):
            x = returns[t, c]
            if x < room[0]:
                room[0] = x
                sift(room, 0, worst)
        total = 0.0
        for k in range(worst):
            total += room[k]
        value_at_risk[c] = -room[0]
        shortfall[c] = -total / worst


@kernel
def sift(heap, k, size):
    """Move the value at k down to where the largest is on top again."""
    value = heap[k]
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[k] = heap[child]
        k = child
    heap[k] = value


@kernel
def ewma_volatility(returns, decay, out):
    """Write the volatility [T + 1] that was forecast before each return [T], and the one for the next.

    RiskMetrics 1996: variance' = decay * variance + (1 - decay) * return^2, from the mean square of all.
    """
    rows = returns.shape[0]
    variance = 0.0
    for t in range(rows):
        variance += returns[t] * returns[t]
    variance /= rows
    for t in range(rows):
        out[t] = np.sqrt(variance)
        variance = decay * variance + (1.0 - decay) * returns[t] * returns[t]
    out[rows] = np.sqrt(variance)
