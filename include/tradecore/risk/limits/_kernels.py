"""Limits on the weights of a decision, beside the name, gross and turnover caps of risk/_kernels.py.

Order and rules: docs/risk.md. Each only makes weights smaller, all of a strategy's alike, so that none breaks one that
was met before; what is kept without an opinion counts, and cannot be changed: a limit that it breaks by itself leaves
no room for more. Weights are whole ppm, cut toward zero; a limit on sums of either sign holds to within one ppm a
weight.
"""

from __future__ import annotations

from tradecore._kernels import inlined, kernel
from tradecore.model import (
    EV_BETA_CAP,
    EV_CLUSTER_CAP,
    EV_GROUP_CAP,
    EV_LEVERAGE_CAP,
    EV_LIQUIDITY_CAP,
    EV_MAX_NAMES,
    EV_MIN_NAMES,
    EV_NET_CAP,
    EV_STRESS_CAP,
    EV_TAIL_CAP,
    Limits,
)
from tradecore.portfolio._kernels import log_event
from tradecore.risk._kernels import scaled

PPM = 1_000_000
HALVINGS = 20  # a factor to within one ppm


@inlined
def name_total(weight, i):
    """Return what all strategies together want of a name, by amount."""
    total = 0
    for s in range(weight.shape[0]):
        total += abs(weight[s, i])
    return total


@inlined
def scale_name(weight, i, room, total):
    """Bring the weights of a name from a total, above 0, to a room."""
    for s in range(weight.shape[0]):
        weight[s, i] = scaled(weight[s, i], room, total)


@kernel
def cap_liquidity(weight, kept_ppm, traded_e4, equity, most_ppm, journal, ns):
    """Scale each name to a part of its average traded value; one without a value gets nothing new."""
    for i in range(weight.shape[1]):
        total = name_total(weight, i)
        if total == 0:
            continue
        cap = int(float(most_ppm) * float(traded_e4[i]) / float(equity))
        room = max(0, cap - kept_ppm[i])
        if total > room:
            log_event(journal, EV_LIQUIDITY_CAP, i, total, room, ns)
            scale_name(weight, i, room, total)


@kernel
def cap_groups(weight, kept_ppm, start, name, cap_ppm, journal, ns):
    """Scale the names of each group, in the order of the groups; a name may be in several. Group g has the names
    name[start[g] : start[g + 1]]."""
    for g in range(cap_ppm.shape[0]):
        total, kept = 0, 0
        for k in range(start[g], start[g + 1]):
            kept += kept_ppm[name[k]]
            total += name_total(weight, name[k])
        room = max(0, cap_ppm[g] - kept)
        if total > room:
            log_event(journal, EV_GROUP_CAP, -2 - g, total, room, ns)
            for k in range(start[g], start[g + 1]):
                scale_name(weight, name[k], room, total)


@kernel
def cap_clusters(weight, kept_ppm, cluster, cap_ppm, journal, ns):
    """Scale the names of each cluster of two or more that move together; its lowest member names it."""
    n = weight.shape[1]
    for first in range(n):
        if cluster[first] != first:
            continue
        total, kept, names = 0, 0, 0
        for i in range(first, n):
            if cluster[i] == first:
                kept += kept_ppm[i]
                total += name_total(weight, i)
                names += 1
        room = max(0, cap_ppm - kept)
        if names > 1 and total > room:
            log_event(journal, EV_CLUSTER_CAP, first, total, room, ns)
            for i in range(first, n):
                if cluster[i] == first:
                    scale_name(weight, i, room, total)


@kernel
def cap_count(weight, kept_ppm, most, journal, ns):
    """Drop the smallest names beyond `most`, the later one of two equal ones first; what is kept counts and stays."""
    n, held, names = weight.shape[1], 0, 0
    for i in range(n):
        if kept_ppm[i] > 0:
            held += 1
        elif name_total(weight, i) > 0:
            names += 1
    room = max(0, most - held)
    while names > room:
        least, at = 0, -1
        for i in range(n):
            total = name_total(weight, i)
            if kept_ppm[i] == 0 and total > 0 and (at < 0 or total <= least):
                least, at = total, i
        log_event(journal, EV_MAX_NAMES, at, least, 0, ns)
        scale_name(weight, at, 0, least)
        names -= 1


@kernel
def cap_thin(weight, kept_ppm, least, gross_ppm, journal, ns):
    """With fewer than `least` names the gross cap is that part of itself."""
    names, total, kept = 0, 0, 0
    for i in range(weight.shape[1]):
        mine = name_total(weight, i)
        total += mine
        kept += kept_ppm[i]
        names += mine + kept_ppm[i] > 0
    if names >= least:
        return
    room = max(0, gross_ppm * names // least - kept)
    if total > room:
        log_event(journal, EV_MIN_NAMES, -1, total, room, ns)
        for i in range(weight.shape[1]):
            scale_name(weight, i, room, total)


@inlined
def scale_book(weight, factor_ppm):
    """Multiply all weights with a factor of 0 to 1, in ppm, cut toward zero."""
    for s in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            weight[s, i] = scaled(weight[s, i], factor_ppm, PPM)


@inlined
def kept_of(some, active, alloc, ref, equity, i):
    """Return what is kept of a name without an opinion, signed, in ppm of equity; some False: nobody keeps anything."""
    kept = 0.0
    for s in range(alloc.shape[0] if some else 0):
        if not active[s, i]:
            kept += float(alloc[s, i]) * float(ref[i]) / float(equity)
    return kept


@kernel
def cap_leverage(weight, some, active, alloc, ref, equity, cap_ppm, journal, ns):
    """Scale the book so that the positions, each the sum of all strategies, stay within a multiple of equity."""
    total, kept = 0, 0.0
    if weight.shape[0] == 1:
        for i in range(weight.shape[1]):
            total += abs(weight[0, i])
    else:
        for i in range(weight.shape[1]):
            mine = 0
            for s in range(weight.shape[0]):
                mine += weight[s, i]
            total += abs(mine)
    for i in range(weight.shape[1] if some else 0):
        kept += abs(kept_of(some, active, alloc, ref, equity, i))
    room = max(0.0, cap_ppm - kept)
    if total > room + weight.size:
        log_event(journal, EV_LEVERAGE_CAP, -1, total, int(room), ns)
        scale_book(weight, int(room * PPM / total))


@kernel
def cap_net(weight, some, active, alloc, ref, equity, cap_ppm, journal, ns):
    """Scale the book so that long less short stays within +-cap: cap_loading with ones, in whole ppm."""
    whole, kept = 0, 0.0
    for s in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            whole += weight[s, i]
    for i in range(weight.shape[1] if some else 0):
        kept += kept_of(some, active, alloc, ref, equity, i)
    if whole < 0:
        whole, kept = -whole, -kept
    bound = max(float(cap_ppm), abs(kept))
    if whole + kept <= bound + weight.size or whole == 0:
        return
    log_event(journal, EV_NET_CAP, -1, int(whole + kept), int(bound), ns)
    scale_book(weight, int((bound - kept) * PPM / whole))


@kernel
def cap_loading(weight, some, active, alloc, ref, equity, loading, one_sided, cap_ppm, kind, at, journal, ns):
    """Scale the book so that the sum of weight * loading stays within +-cap, or one-sided below it.

    What is kept beyond the cap moves the cap to itself. loading [n]: betas, losses of a unit.
    """
    total, kept = 0.0, 0.0
    for i in range(weight.shape[1]):
        mine = 0
        for s in range(weight.shape[0]):
            mine += weight[s, i]
        total += mine * loading[i]
        kept += kept_of(some, active, alloc, ref, equity, i) * loading[i]
    if total < 0.0 and not one_sided:
        total, kept = -total, -kept
    bound = max(cap_ppm, kept if one_sided else abs(kept))
    slack = 0.0
    for i in range(weight.shape[1]):
        slack += abs(loading[i])
    if total + kept <= bound + slack * weight.shape[0] or total <= 0.0:
        return
    log_event(journal, kind, at, int(total + kept), int(bound), ns)
    scale_book(weight, int((bound - kept) * PPM / total))


@kernel
def select(values, count, k):
    """Return the k-th largest (from 0) of the first `count` values, which change their order. Hoare's quickselect."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@kernel
def tail_loss(moving, fixed, factor, worst, mean, room):
    """Return the `worst`-th largest loss (from 1) of fixed + factor * moving [L], or the mean of those up to it."""
    rows = fixed.shape[0]
    for t in range(rows):
        room[t] = -(fixed[t] + factor * moving[t])
    at = select(room, rows, worst - 1)
    if mean == 0:
        return at
    total = 0.0
    for k in range(worst):
        total += room[k]
    return total / worst


@kernel
def cap_tail(weight, some, active, alloc, ref, equity, limits, worst, mean, cap_ppm, journal, ns):
    """Scale the book so that its value at risk, or expected shortfall, over the scenarios stays within the cap, or what
    is kept has by itself."""
    scenario, room = limits.scenario, limits.room
    rows, n = scenario.shape
    moving, fixed, losses = room[0], room[1], room[2]
    for t in range(rows):
        moving[t], fixed[t] = 0.0, 0.0
    for i in range(n):
        mine = 0
        for s in range(weight.shape[0]):
            mine += weight[s, i]
        kept = kept_of(some, active, alloc, ref, equity, i)
        if mine != 0 or kept != 0.0:
            for t in range(rows):
                move = scenario[t, i] if limits.known[i] else limits.market[t]
                moving[t] += mine * move
                fixed[t] += kept * move
    bound = max(float(cap_ppm), tail_loss(moving, fixed, 0.0, worst, mean, losses))
    now = tail_loss(moving, fixed, 1.0, worst, mean, losses)
    if now <= bound + weight.size:
        return
    low, high = 0, PPM
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        if tail_loss(moving, fixed, middle / PPM, worst, mean, losses) <= bound:
            low = middle
        else:
            high = middle
    log_event(journal, EV_TAIL_CAP, -1, int(now), int(bound), ns)
    scale_book(weight, low)


@kernel
def limit_names(weight, kept_ppm, equity, limits, params, journal, ns):
    """Limits of single names and of groups, between the name cap and the gross cap."""
    if params.max_adv_ppm >= 0:
        cap_liquidity(weight, kept_ppm, limits.traded_e4, equity, params.max_adv_ppm, journal, ns)
    if limits.group_ppm.shape[0] > 0:
        cap_groups(weight, kept_ppm, limits.group_start, limits.group_name, limits.group_ppm, journal, ns)
    if params.max_cluster_ppm >= 0:
        cap_clusters(weight, kept_ppm, limits.cluster, params.max_cluster_ppm, journal, ns)
    if params.max_names > 0:
        cap_count(weight, kept_ppm, params.max_names, journal, ns)
    if params.min_names > 1:
        cap_thin(weight, kept_ppm, params.min_names, params.max_exposure_ppm, journal, ns)


@kernel
def limit_book(weight, kept_ppm, active, alloc, ref, equity, limits, params, journal, ns):
    """Limits of the whole book, behind the gross cap."""
    some = False
    for i in range(kept_ppm.shape[0]):
        some |= kept_ppm[i] > 0
    if params.max_leverage_ppm >= 0:
        cap_leverage(weight, some, active, alloc, ref, equity, params.max_leverage_ppm, journal, ns)
    if params.max_net_ppm >= 0:
        cap_net(weight, some, active, alloc, ref, equity, params.max_net_ppm, journal, ns)
    if params.max_beta_ppm >= 0:
        cap, load = params.max_beta_ppm, limits.beta
        cap_loading(weight, some, active, alloc, ref, equity, load, False, cap, EV_BETA_CAP, -1, journal, ns)
    for k in range(limits.loss.shape[0]):
        cap, load = params.max_stress_ppm, limits.loss[k]
        cap_loading(weight, some, active, alloc, ref, equity, load, True, cap, EV_STRESS_CAP, -2 - k, journal, ns)
    if params.max_tail_ppm >= 0:
        cap, worst, mean = params.max_tail_ppm, params.tail_worst, params.tail_mean
        cap_tail(weight, some, active, alloc, ref, equity, limits, worst, mean, cap, journal, ns)


@inlined
def limits_at(limits, t):
    """Return what bar t sees of the limits: one row, and its scenarios."""
    bars = limits.room.shape[1]
    return Limits(
        limits.group_start,
        limits.group_name,
        limits.group_ppm,
        limits.loss,
        limits.room,
        limits.scenario[t : t + bars],
        limits.market[t : t + bars],
        limits.beta[t],
        limits.cluster[t],
        limits.traded_e4[t],
        limits.known[t],
    )
