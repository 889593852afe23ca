"""Sizing and limits: scores to weights, weights to quantities. Rules: docs/STEP.md, decide.

Volatility-adjusted sizing scales each name's cap by target over realised volatility, never above one, after
Moreira & Muir, "Volatility-Managed Portfolios", Journal of Finance 72(4), 2017 (there for whole portfolios).
"""

from __future__ import annotations

import numpy as np

from tradecore._kernels import div_floor, inlined, kernel, mul_div_floor, mul_div_trunc, trunc_to
from tradecore.model import EQUAL_WEIGHT, EV_GROSS_CAP, EV_NAME_CAP, EV_TURNOVER_CAP, GIVEN_WEIGHT
from tradecore.portfolio._kernels import log_event


@kernel
def size_weights(score, capital, volatility, traded, left, params, weight, active):
    """Write weight [S, n] ppm and active [S, n] from score [S, n] in 0..1, or -1..1 with shorts (NaN = no opinion), and
    capital.

    A name that left the universe is flat for everyone, whoever holds it.
    """
    n_strategies, n = score.shape
    for s in range(n_strategies):
        seen = 0
        if params.sizing == EQUAL_WEIGHT:
            for i in range(n):
                if traded[i] and capital.member[s, i] and not left[i]:
                    seen += 1
        for i in range(n):
            active[s, i] = False
            weight[s, i] = 0
            if left[i]:
                active[s, i] = traded[i]
                continue
            x = score[s, i]
            if not traded[i] or not capital.member[s, i] or np.isnan(x):
                continue
            if params.sizing == EQUAL_WEIGHT:
                base = min(params.max_position, params.max_exposure / seen)
            elif params.sizing == GIVEN_WEIGHT:
                base = 1.0
            else:
                if np.isnan(volatility[i]):
                    continue
                base = params.max_position
                if volatility[i] > 0.0:
                    base = params.max_position * min(1.0, params.target_volatility / volatility[i])
            active[s, i] = True
            if x < 0.0 and params.shorts:
                weight[s, i] = -int(np.floor(capital.share[s] * min(1.0, -x) * base * 1e6 + 0.5))
                continue
            x = min(1.0, max(0.0, x))
            weight[s, i] = int(np.floor(capital.share[s] * x * base * 1e6 + 0.5))


@kernel
def scaled(w, room, total):
    """Return a signed weight times room / total, cut toward zero."""
    return -div_floor(-w * room, total) if w < 0 else div_floor(w * room, total)


@kernel
def cap_names(weight, active, kept_ppm, cap_ppm, journal, ns):
    """Scale the active weights of each name so that, with what is kept, it stays within the cap."""
    for i in range(weight.shape[1]):
        total = 0
        for s in range(weight.shape[0]):
            total += abs(weight[s, i])
        room = max(0, cap_ppm - kept_ppm[i])
        if total > room:
            log_event(journal, EV_NAME_CAP, i, total, room, ns)
            for s in range(weight.shape[0]):
                weight[s, i] = scaled(weight[s, i], room, total)


@kernel
def cap_gross(weight, kept_ppm, cap_ppm, journal, ns):
    """Scale all active weights so that, with what is kept, the book stays within the gross cap."""
    total, kept = 0, 0
    for i in range(kept_ppm.shape[0]):
        kept += kept_ppm[i]
        for s in range(weight.shape[0]):
            total += abs(weight[s, i])
    room = max(0, cap_ppm - kept)
    if total > room:
        log_event(journal, EV_GROSS_CAP, -1, total, room, ns)
        for s in range(weight.shape[0]):
            for i in range(weight.shape[1]):
                weight[s, i] = scaled(weight[s, i], room, total)


@inlined
def shares_of(notional, ref):
    """Return floor(notional * 1e6 / ref): the quantity e6 that a notional e4 buys at ref e4."""
    if notional < 9_000_000_000_000:
        return div_floor(notional * 1_000_000, ref)
    return mul_div_floor(notional, 1_000_000, ref)


@kernel
def weights_to_quantities(weight, active, alloc, ref, step, equity, contribution, target):
    """Write contribution [S, n] and target [n] e6: floor to the step; without an opinion the allocation stays."""
    for i in range(weight.shape[1]):
        target[i] = 0
        for s in range(weight.shape[0]):
            if active[s, i] and weight[s, i] == 0 and ref[i] > 0:
                contribution[s, i] = 0
            elif active[s, i] and ref[i] > 0:
                notional = mul_div_floor(equity, abs(weight[s, i]), 1_000_000)
                wanted = trunc_to(shares_of(notional, ref[i]), step[i])
                contribution[s, i] = -wanted if weight[s, i] < 0 else wanted
            else:
                contribution[s, i] = alloc[s, i]
            target[i] += contribution[s, i]


@kernel
def cap_turnover(contribution, target, alloc, qty, ref, step, equity, params, journal, ns):
    """Scale every change of an allocation so that the turnover stays within the cap; where nobody is to be short, a
    short is bought back whole."""
    cap_ppm = params.max_turnover_ppm
    worth = 0
    n_strategies, n = contribution.shape
    for i in range(n):
        if target[i] != qty[i]:
            worth += mul_div_floor(abs(target[i] - qty[i]), ref[i], 1_000_000)
    turnover = mul_div_floor(worth, 1_000_000, equity)
    if turnover <= cap_ppm:
        return
    log_event(journal, EV_TURNOVER_CAP, -1, turnover, cap_ppm, ns)
    for i in range(n):
        if qty[i] < 0 and not params.shorts:
            continue
        target[i] = 0
        for s in range(n_strategies):
            change = mul_div_trunc(contribution[s, i] - alloc[s, i], cap_ppm, turnover)
            contribution[s, i] = alloc[s, i] + trunc_to(change, step[i])
            target[i] += contribution[s, i]
