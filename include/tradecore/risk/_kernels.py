"""Sizing and limits: scores to weights, weights to quantities. Rules: docs/STEP.md, decide.

Volatility-adjusted sizing scales each name's cap by target over realised volatility, never above one, after
Moreira & Muir, "Volatility-Managed Portfolios", Journal of Finance 72(4), 2017 (there for whole portfolios).

What is done for all names is a loop without a branch or a call, each value read once and first, so that the compiler
takes several names at once; what few names need comes after, where there are some. `wide`: None where a bound has shown
that all products fit 63 bits, or they are taken the long way (`mul_div`).
"""

from __future__ import annotations

import numpy as np

from tradecore._kernels import fits, inlined, kernel, mul_div, mul_div_floor, quotient, to_step, trunc_to
from tradecore.model import EQUAL_WEIGHT, EV_GROSS_CAP, EV_NAME_CAP, EV_TURNOVER_CAP, VOLATILITY_ADJUSTED
from tradecore.portfolio._kernels import log_event

FAR = 2**62


@inlined
def equal_weight(member, traded, flat, params):
    """Return what each of a strategy's names that may be held gets, and at most the cap of a name."""
    count = 0
    for i in range(member.shape[0]):
        mine, trades, out = member[i], traded[i], flat[i]
        count += mine and trades and not out
    return min(params.max_position, params.max_exposure / count) if count > 0 else params.max_position


@inlined
def weigh(score, member, volatility, traded, flat, share, params, weight, active):
    """Write the weight [n] ppm of one strategy's scores and where it has an opinion, active [n]: a part of the same for
    all, or of the cap of a name scaled down by target over realised volatility; or the score is the weight."""
    most, aim, shorts, same = params.max_position, params.target_volatility, params.shorts != 0, 1.0
    by_volatility = params.sizing == VOLATILITY_ADJUSTED
    if params.sizing == EQUAL_WEIGHT:
        same = equal_weight(member, traded, flat, params)
    for i in range(score.shape[0]):
        x, seen, mine, trades, out = score[i], volatility[i], member[i], traded[i], flat[i]
        scaled_down = most * min(1.0, aim / seen) if seen > 0.0 else most
        full = scaled_down if by_volatility else same
        knows = not (by_volatility and np.isnan(seen)) and not np.isnan(x)
        wants = mine and trades and not out and knows
        amount = share * min(1.0, abs(x)) * full * 1e6 + 0.5
        w = int(amount if wants and (x > 0.0 or shorts) else 0.0)
        weight[i] = -w if x < 0.0 else w
        active[i] = wants or (trades and out)


@inlined
def size_weights(score, capital, volatility, traded, flat, params, weight, active):
    """Write weight [S, n] ppm and active [S, n] from score [S, n] in 0..1, or -1..1 with shorts (NaN = no opinion), and
    capital.

    A name that left the universe is flat for everyone, whoever holds it.
    """
    for s in range(score.shape[0]):
        member, share = capital.member[s], capital.share[s]
        weigh(score[s], member, volatility, traded, flat, share, params, weight[s], active[s])


@inlined
def count_kept(active, alloc, shorts, opinion, kept):
    """Write who has an opinion of a name [n], and what is kept of it [n] e6 by strategies that have none. Return how
    many names are kept."""
    some = 0
    for i in range(opinion.shape[0]):
        opinion[i] = False
        kept[i] = 0
    for s in range(active.shape[0]):
        for i in range(opinion.shape[0]):
            knows, held, known, before = active[s, i], alloc[s, i], opinion[i], kept[i]
            rest = 0 if knows else (abs(held) if shorts else max(held, 0))
            opinion[i] = known or knows
            kept[i] = before + rest
            some += rest != 0
    return some


@inlined
def kept_weights(kept, ref, equity):
    """Turn quantities kept [n] e6 into ppm of the equity."""
    for i in range(kept.shape[0]):
        if kept[i] != 0:
            kept[i] = mul_div_floor(mul_div_floor(kept[i], ref[i], 1_000_000), 1_000_000, equity)


@inlined
def scaled(w, room, total):
    """Return a signed weight times room / total, cut toward zero."""
    part = quotient(abs(w) * room, total)
    return -part if w < 0 else part


@inlined
def sum_amounts(weight, total):
    """Write the weights of a name over all strategies, by amount [n]."""
    total[:] = 0
    for s in range(weight.shape[0]):
        for i in range(total.shape[0]):
            total[i] += abs(weight[s, i])


@inlined
def cap_names(weight, total, kept_ppm, cap_ppm, journal, ns):
    """Scale the active weights of each name so that, with what is kept, it stays within the cap."""
    over = 0
    for i in range(total.shape[0]):
        over += total[i] > max(0, cap_ppm - kept_ppm[i])
    for i in range(total.shape[0] if over > 0 else 0):
        before, room = total[i], max(0, cap_ppm - kept_ppm[i])
        if before > room:
            log_event(journal, EV_NAME_CAP, i, before, room, ns)
            total[i] = 0
            for s in range(weight.shape[0]):
                weight[s, i] = scaled(weight[s, i], room, before)
                total[i] += abs(weight[s, i])


@inlined
def cap_gross(weight, total, kept_ppm, cap_ppm, journal, ns):
    """Scale all active weights so that, with what is kept, the book stays within the gross cap."""
    gross, kept = 0, 0
    for i in range(total.shape[0]):
        gross += total[i]
        kept += kept_ppm[i]
    room = max(0, cap_ppm - kept)
    if gross > room:
        log_event(journal, EV_GROSS_CAP, -1, gross, room, ns)
        for s in range(weight.shape[0]):
            for i in range(total.shape[0]):
                weight[s, i] = scaled(weight[s, i], room, gross)


@inlined
def quantities_are_wide(weight, ref, step, equity):
    """Tell whether some equity * weight, or the steps that it buys, may be too much for `quotient`."""
    most, least, dearest, coarsest = 0, FAR, 0, 1
    for s in range(weight.shape[0]):
        for i in range(ref.shape[0]):
            most = max(most, abs(weight[s, i]))
    for i in range(ref.shape[0]):
        price, unit = ref[i], step[i]
        least = min(least, price if price > 0 else FAR)
        dearest = max(dearest, price)
        coarsest = max(coarsest, unit)
    worth = float(equity) * float(most)
    return worth > 9e18 or worth > 1e15 * float(least) or float(dearest) * float(coarsest) > 9e18


@inlined
def shares_of(notional, price, step, wide):
    """Return what a notional e4 buys at a price e4, cut to the step e6."""
    if wide is None:
        return quotient(notional * 1_000_000, price * step) * step
    return trunc_to(mul_div_floor(notional, 1_000_000, price), step)


@inlined
def weights_to_quantities(weight, active, alloc, ref, step, equity, wide, contribution):
    """Write one strategy's contribution [n] e6: floor to the step; without an opinion the allocation stays."""
    for i in range(ref.shape[0]):
        w, knows, held, price, unit = weight[i], active[i], alloc[i], ref[i], step[i]
        amount = shares_of(mul_div(equity, abs(w), 1_000_000, wide), max(price, 1), unit, wide)
        wanted = -amount if w < 0 else amount
        contribution[i] = wanted if knows and price > 0 else held


@inlined
def sum_contributions(contribution, target):
    """Write the sum over strategies [n]."""
    target[:] = 0
    for s in range(contribution.shape[0]):
        for i in range(target.shape[0]):
            target[i] += contribution[s, i]


@inlined
def size_quantities(weight, active, alloc, ref, step, equity, contribution, target):
    """Write contribution [S, n] and target [n] e6."""
    wide = quantities_are_wide(weight, ref, step, equity)
    for s in range(weight.shape[0]):
        if wide:
            weights_to_quantities(weight[s], active[s], alloc[s], ref, step, equity, True, contribution[s])
        else:
            weights_to_quantities(weight[s], active[s], alloc[s], ref, step, equity, None, contribution[s])
    sum_contributions(contribution, target)


@inlined
def worth_of_changes(target, qty, ref):
    """Return the sum of floor(|target - qty| * ref / 1e6)."""
    worth, wide = 0, 0
    for i in range(target.shape[0]):
        change, price = abs(target[i] - qty[i]), ref[i]
        worth += quotient(change * price, 1_000_000)
        wide += not fits(change, price)
    if wide > 0:
        worth = 0
        for i in range(target.shape[0]):
            worth += mul_div_floor(abs(target[i] - qty[i]), ref[i], 1_000_000)
    return worth


@inlined
def shrink_changes(contribution, alloc, qty, step, cap_ppm, turnover, shorts, wide):
    """Scale the changes of one strategy's allocation [n] by cap / turnover, cut toward zero."""
    for i in range(qty.shape[0]):
        new, old, held, unit = contribution[i], alloc[i], qty[i], step[i]
        part = to_step(mul_div(abs(new - old), cap_ppm, turnover, wide), unit, wide)
        moved = old - part if new < old else old + part
        contribution[i] = new if held < 0 and not shorts else moved


@kernel
def scale_changes(contribution, alloc, qty, step, cap_ppm, turnover, shorts):
    """Scale the changes of all allocations [S, n] by cap / turnover; where nobody is to be short, a short is bought
    back whole."""
    for s in range(contribution.shape[0]):
        most = 0
        for i in range(qty.shape[0]):
            most = max(most, abs(contribution[s, i] - alloc[s, i]))
        if most > 1_000_000_000_000_000 or not fits(most, cap_ppm):
            shrink_changes(contribution[s], alloc[s], qty, step, cap_ppm, turnover, shorts, True)
        else:
            shrink_changes(contribution[s], alloc[s], qty, step, cap_ppm, turnover, shorts, None)


@inlined
def cap_turnover(contribution, target, alloc, qty, ref, step, equity, params, journal, ns):
    """Scale every change of an allocation so that the turnover stays within the cap."""
    cap_ppm = params.max_turnover_ppm
    turnover = mul_div_floor(worth_of_changes(target, qty, ref), 1_000_000, equity)
    if turnover > cap_ppm:
        log_event(journal, EV_TURNOVER_CAP, -1, turnover, cap_ppm, ns)
        scale_changes(contribution, alloc, qty, step, cap_ppm, turnover, params.shorts != 0)
        sum_contributions(contribution, target)
