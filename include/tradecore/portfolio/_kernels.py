"""Ledger kernels: the journal, splits, lots, allocations, working orders. Rules: docs/STEP.md."""

from __future__ import annotations

from tradecore._kernels import (
    index,
    inlined,
    kernel,
    mul_div_floor,
    mul_div_round,
    mul_div_trunc,
    trunc_to,
)
from tradecore.model import (
    J_ENDS,
    J_EVENTS,
    J_ORDERS,
    N_ORDERS,
    O_DECIDED_NS,
    O_INSTR,
    O_LIMIT,
    O_LINE,
    O_QTY,
    O_REM,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
)


@inlined
def log_event(journal, kind, instr, before, after, ns):
    """Append one event row to the journal; where none is kept there is nothing to do."""
    if journal is None:
        return
    k = journal.counts[J_EVENTS]
    journal.events[k, 0] = kind
    journal.events[k, 1] = instr
    journal.events[k, 2] = before
    journal.events[k, 3] = after
    journal.events[k, 4] = ns
    journal.counts[J_EVENTS] = k + 1


@inlined
def log_end(journal, order, status, ns):
    """Append the end of an order row to the journal."""
    if journal is None:
        return
    k = journal.counts[J_ENDS]
    journal.ends[k, 0] = order[O_DECIDED_NS]
    journal.ends[k, 1] = order[O_INSTR]
    journal.ends[k, 2] = order[O_LINE]
    journal.ends[k, 3] = status
    journal.ends[k, 4] = ns
    journal.counts[J_ENDS] = k + 1


@inlined
def log_order(journal, order):
    """Append a new order row to the journal."""
    if journal is None:
        return
    k = journal.counts[J_ORDERS]
    for c in range(order.shape[0]):
        journal.orders[k, c] = order[c]
    journal.counts[J_ORDERS] = k + 1


@kernel
def split_allocations(alloc, i, new_total, num, den):
    """Scale column i of alloc [S, n] by num/den so that it sums to new_total: cut each toward zero, the difference to
    the first strategy that holds some on the side of the position (taken from the first ones that hold it)."""
    old_total = 0
    for s in range(alloc.shape[0]):
        old_total += alloc[s, i]
    side = -1 if new_total < 0 or (new_total == 0 and old_total < 0) else 1
    rest = new_total * side
    first = -1
    for s in range(alloc.shape[0]):
        if first < 0 and alloc[s, i] * side > 0:
            first = s
        alloc[s, i] = mul_div_trunc(alloc[s, i], num, den)
        rest -= alloc[s, i] * side
    for s in range(alloc.shape[0]):
        if rest == 0:
            break
        held = alloc[s, i] * side
        if held > 0:
            move = rest if rest > 0 else max(rest, -held)
            alloc[s, i] += move * side
            rest -= move
    if rest > 0:
        alloc[max(first, 0), i] += rest * side


@kernel
def split_lots(book, i, new_total, num, den):
    """Scale the lots of instrument i by num/den to sum to new_total; the difference goes to the newest, costs stay.

    Return the cost e4 of lots that nothing is left of. Lots of a short are scaled by their amount.
    """
    head, count = book.lot_head[i], book.lot_count[i]
    side = -1 if count > 0 and book.lot_qty[i, head] < 0 else 1
    rest = new_total * side
    for k in range(head, head + count):
        book.lot_qty[i, k] = mul_div_trunc(book.lot_qty[i, k], num, den)
        rest -= book.lot_qty[i, k] * side
    for k in range(head + count - 1, head - 1, -1):
        if rest == 0:
            break
        move = rest if rest > 0 else max(rest, -book.lot_qty[i, k] * side)
        book.lot_qty[i, k] += move * side
        rest -= move
    lost, kept = 0, head
    for k in range(head, head + count):
        if book.lot_qty[i, k] == 0:
            lost += book.lot_cost[i, k]
            continue
        book.lot_qty[i, kept] = book.lot_qty[i, k]
        book.lot_cost[i, kept] = book.lot_cost[i, k]
        book.lot_opened[i, kept] = book.lot_opened[i, k]
        kept += 1
    book.lot_count[i] = kept - head
    return lost


@kernel
def split_order(order, want, num, den, tick, step):
    """Scale a working order by the ratio that took effect against the one it was planned with."""
    up, down = num * order[O_SPLIT_DEN], den * order[O_SPLIT_NUM]
    order[O_SPLIT_NUM] = 1
    order[O_SPLIT_DEN] = 1
    if up == down:
        return
    if up == 0:  # delisted
        order[O_REM] = 0
        return
    order[O_QTY] = trunc_to(mul_div_trunc(order[O_QTY], up, down), step)
    order[O_REM] = trunc_to(mul_div_trunc(order[O_REM], up, down), step)
    order[O_LIMIT] = mul_div_round(mul_div_round(order[O_LIMIT], down, up), 1, tick) * tick
    order[O_STOP] = mul_div_round(mul_div_round(order[O_STOP], down, up), 1, tick) * tick
    for s in range(want.shape[0]):
        want[s] = mul_div_trunc(want[s], up, down)


@inlined
def add_lot(book, i, qty, cost, again, ns):
    """Open a lot of signed qty e6 at a signed total cost e4, or where there may be one that this bar opened (again),
    add to that."""
    head, count = book.lot_head[i], book.lot_count[i]
    last = index(head + max(count - 1, 0))
    if again and count > 0 and book.lot_opened[i, last] == ns:
        book.lot_qty[i, last] += qty
        book.lot_cost[i, last] += cost
        return
    if head + count == book.lot_qty.shape[1]:
        for k in range(count):
            book.lot_qty[i, k] = book.lot_qty[i, head + k]
            book.lot_cost[i, k] = book.lot_cost[i, head + k]
            book.lot_opened[i, k] = book.lot_opened[i, head + k]
        book.lot_head[i] = head = 0
    free = index(head + count)
    book.lot_qty[i, free] = qty
    book.lot_cost[i, free] = cost
    book.lot_opened[i, free] = ns
    book.lot_count[i] = count + 1


@inlined
def part_cost(cost, part, held):
    """Return cost * part / held rounded half away from zero, for 0 < part < held. By floats, which below 1e10 are off
    by less than 1e-5: what is nearer than 1e-4 to where a rounding turns, or larger, is done in integers."""
    near = float(abs(cost)) * float(part) / float(held) + 0.5
    whole = int(near)
    beside = near - float(whole)
    if near > 1e10 or beside < 1e-4 or beside > 0.9999:
        return mul_div_round(cost, part, held)
    return -whole if cost < 0 else whole


@inlined
def take_lots(book, i, qty):
    """Close qty e6 (unsigned) of instrument i first in first out; return the signed cost e4 of what was closed."""
    cost, head, count = 0, book.lot_head[i], book.lot_count[i]
    while qty > 0 and count > 0:
        k = index(head)
        lot, lot_cost = book.lot_qty[i, k], book.lot_cost[i, k]
        held = abs(lot)
        if qty >= held:
            cost += lot_cost
            qty -= held
            head += 1
            count -= 1
            continue
        part = part_cost(lot_cost, qty, held)
        cost += part
        book.lot_qty[i, k] = lot - qty if lot > 0 else lot + qty
        book.lot_cost[i, k] = lot_cost - part
        qty = 0
    book.lot_head[i] = head if count > 0 else 0
    book.lot_count[i] = count
    return cost


@kernel
def give_back(alloc, i, s, pool, side):
    """Let strategy s give up what it holds against the side of a fill, up to pool; return what is left of the pool."""
    held = -alloc[s, i] * side
    if held <= 0:
        return pool
    move = min(pool, held)
    alloc[s, i] += move * side
    return pool - move


@inlined
def allocate_fill(alloc, i, want, fill):
    """Give a signed fill e6 of instrument i to strategies: opposed moves cross first, then configured order, and of
    each what brings it nearer to zero before what takes it away from there."""
    side = 1 if fill > 0 else -1
    pool = abs(fill)
    n_strategies = alloc.shape[0]
    if n_strategies == 1:
        alloc[0, i] += fill
        return
    for s in range(n_strategies):
        d = (want[s] - alloc[s, i]) * side
        if d < 0:
            alloc[s, i] += d * side
            pool -= d
    for s in range(n_strategies):
        d = (want[s] - alloc[s, i]) * side
        if d > 0 and alloc[s, i] * side < 0:
            pool -= min(pool, d) - give_back(alloc, i, s, min(pool, d), side)
    for s in range(n_strategies):
        d = (want[s] - alloc[s, i]) * side
        if d > 0 and pool > 0:
            move = min(d, pool)
            alloc[s, i] += move * side
            pool -= move
    first = -1
    for s in range(n_strategies):
        pool = give_back(alloc, i, s, pool, side)
        if first < 0 and want[s] * side > 0:
            first = s
    alloc[max(first, 0), i] += pool * side


@kernel
def allocate_by_hand(alloc, i, fill, manual):
    """Give a signed fill e6 of nobody's order to strategies: what opposes it gives way, that of manual first, and the
    rest is manual's."""
    side = 1 if fill > 0 else -1
    pool = give_back(alloc, i, manual, abs(fill), side)
    for s in range(alloc.shape[0]):
        pool = give_back(alloc, i, s, pool, side)
    alloc[manual, i] += pool * side


@kernel
def allocate_closing(alloc, i, fill, manual, step):
    """Give a signed fill e6 of a bracket to the strategies, in proportion to what each holds against it.

    Shares are whole steps: of the running sum of holdings each strategy ends what its part of the sum comes to, so that
    nobody is more than a step away from its exact part. What goes beyond them closes what manual (-1: nobody) holds.
    """
    side = 1 if fill > 0 else -1
    total = 0
    for s in range(alloc.shape[0]):
        if s != manual:
            total += max(-alloc[s, i] * side, 0)
    pool, seen, given = min(abs(fill), total), 0, 0
    for s in range(alloc.shape[0]):
        held = max(-alloc[s, i] * side, 0)
        if s != manual and held > 0:
            seen += held
            up_to = pool if seen == total else trunc_to(mul_div_floor(pool, seen, total), step)
            part = min(held, max(up_to - given, 0))
            alloc[s, i] += part * side
            given += part
    pool = abs(fill) - given
    for s in range(alloc.shape[0]):
        if s != manual:
            pool = give_back(alloc, i, s, pool, side)
    pool = give_back(alloc, i, max(manual, 0), pool, side)
    alloc[max(manual, 0), i] += pool * side


@kernel
def near(price, ppm, tick, up):
    """Return a price e4 moved up or down by ppm, rounded to the tick toward where it came from; one tick at least."""
    unit = 1_000_000 * tick
    if up:
        return max(1, price * (1_000_000 + ppm) // unit) * tick
    return max(1, -(-price * (1_000_000 - ppm) // unit)) * tick


@inlined
def remove_orders(book, keep):
    """Keep the working orders whose flag is set, in order."""
    m = 0
    for k in range(book.acct[N_ORDERS]):
        if keep[k]:
            if m != k:
                for c in range(book.order.shape[1]):
                    book.order[m, c] = book.order[k, c]
                for c in range(book.want.shape[1]):
                    book.want[m, c] = book.want[k, c]
            m += 1
    book.acct[N_ORDERS] = m
