"""Ledger and planning kernels: splits, lots, allocations, and targets to orders. Rules: docs/STEP.md."""

from __future__ import annotations

from tradecore._kernels import (
    index,
    inlined,
    kernel,
    mul_div_ceil,
    mul_div_floor,
    mul_div_round,
    mul_div_trunc,
    quotient,
    trunc_to,
)
from tradecore.model import (
    CANCELED,
    DAY,
    EQUITY,
    EV_BELOW_MIN,
    EV_HALTED,
    EV_INSIDE_BAND,
    EV_NO_OPINION,
    EV_REDUCE_ONLY,
    EV_REPLACED,
    HALTED,
    J_ENDS,
    J_EVENTS,
    J_ORDERS,
    LIMIT,
    MARKET,
    N_ORDERS,
    O_AGE,
    O_DECIDED_NS,
    O_INSTR,
    O_LIMIT,
    O_LINE,
    O_OCO,
    O_PARENT,
    O_QTY,
    O_REF,
    O_REM,
    O_REMAINDER,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
    O_TIF,
    O_TYPE,
    ON_CLOSE,
    P_SPLIT,
    REDUCING,
    STATE,
    STOP_LIMIT,
    TRAILING,
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


@kernel
def style_order(row, opens, tick, params):
    """Write type, limit and stop of a planned order from its reference; a stop is for what opens a position."""
    kind, buy, ref = params.order_type, row[O_QTY] > 0, row[O_REF]
    if kind == MARKET or (STOP_LIMIT <= kind <= TRAILING and not opens):
        return
    row[O_TYPE] = kind
    if kind == LIMIT:
        row[O_LIMIT] = near(ref, params.collar_ppm, tick, buy)
    elif kind != ON_CLOSE:
        row[O_STOP] = near(ref, params.trigger_ppm, tick, buy)
        if kind == STOP_LIMIT:
            row[O_LIMIT] = near(row[O_STOP], params.collar_ppm, tick, buy)


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


@inlined
def sum_working(book, split_num, split_den, step, quiet, working):
    """Write what remains of the working orders of each instrument [n], in next-bar units. quiet 1: no name splits."""
    working[:] = 0
    for k in range(book.acct[N_ORDERS]):
        i, rest = index(book.order[k, O_INSTR]), book.order[k, O_REM]
        if quiet == 0 and split_num[i] != split_den[i]:
            rest = trunc_to(mul_div_trunc(rest, split_num[i], split_den[i]), step[i])
        working[i] += rest


@kernel
def drop_working(book, i, keep, journal, ns):
    """Cancel the working orders of instrument i."""
    for k in range(book.acct[N_ORDERS]):
        if book.order[k, O_INSTR] == i and keep[k]:
            keep[k] = False
            log_end(journal, book.order[k], CANCELED, ns)
            log_event(journal, EV_REPLACED, i, book.order[k, O_REM], 0, ns)


@inlined
def lacking_quantities(book, decision, working, step, lacking):
    """Write what each name lacks of its target, in steps [n] e6; where there is no opinion, what is held."""
    wide = 0
    for i in range(book.qty.shape[0]):
        target, qty, works, unit, held = decision.target[i], decision.qty[i], working[i], step[i], book.qty[i]
        knows, ref = decision.opinion[i], decision.ref[i]
        lack = target - qty - works
        part = quotient(abs(lack), unit) * unit
        known = -part if lack < 0 else part
        lacking[i] = known if knows and ref > 0 else held
        wide += abs(lack) > 1_000_000_000_000_000
    for i in range(book.qty.shape[0] if wide > 0 else 0):
        if decision.opinion[i] and decision.ref[i] > 0:
            lacking[i] = trunc_to(decision.target[i] - decision.qty[i] - working[i], step[i])


@inlined
def names_to_plan(lacking, listed):
    """Write the names that lack something [n + 1]; return how many. Without a branch on who they are, which is as good
    as random."""
    m = 0
    for i in range(lacking.shape[0]):
        listed[m] = i
        m += lacking[i] != 0
    return m


@inlined
def write_order(book, k, i, line, delta, num, den, decision, tick, params, ns):
    """Write row k of the working orders: signed delta e6 of instrument i, which splits num:den before the next bar."""
    qty, row = decision.qty[i], book.order[k]
    row[O_INSTR] = i
    row[O_QTY] = delta
    row[O_REM] = delta
    row[O_TYPE] = MARKET
    row[O_TIF] = DAY
    row[O_REMAINDER] = params.remainder
    row[O_LIMIT] = 0
    row[O_STOP] = 0
    row[O_PARENT] = 0
    row[O_OCO] = 0
    row[O_AGE] = 0
    row[O_SPLIT_NUM] = num
    row[O_SPLIT_DEN] = den
    row[O_DECIDED_NS] = ns
    row[O_LINE] = line
    row[O_REF] = decision.ref[i]
    if params.order_type != MARKET:
        style_order(row, qty == 0 or (qty > 0) == (delta > 0), tick[i], params)
    for s in range(book.want.shape[1]):
        book.want[k, s] = decision.contribution[s, i]


@inlined
def plan_orders(book, decision, instruments, split_num, split_den, params, journal, scratch, ns):
    """Turn targets into orders for the next bar and append them to the book's working orders.

    Rules: docs/STEP.md, plan. New rows also go to journal.orders.
    """
    keep, step, quiet = scratch.keep, instruments.step, scratch.quiet[0]
    state = book.acct[STATE]
    if state == HALTED:
        log_event(journal, EV_HALTED, -1, 0, 0, ns)
        return
    n_before = book.acct[N_ORDERS]
    keep[:n_before] = True
    sum_working(book, split_num, split_den, step, quiet, scratch.working)
    band = mul_div_ceil(max(book.acct[EQUITY], 0), params.band_ppm, 1_000_000)
    least, line, dropped = max(params.min_order_e4, band), 0, False
    lacking_quantities(book, decision, scratch.working, step, scratch.lacking)
    for m in range(names_to_plan(scratch.lacking, scratch.listed)):
        i = index(scratch.listed[m])
        if not decision.opinion[i] or decision.ref[i] <= 0:
            log_event(journal, EV_NO_OPINION, i, book.qty[i], book.qty[i], ns)
            continue
        target, qty, ref = decision.target[i], decision.qty[i], decision.ref[i]
        working, delta = scratch.working[i], scratch.lacking[i]
        if working != 0 and delta != 0 and (delta > 0) != (working > 0):
            drop_working(book, i, keep, journal, ns)
            delta, working, dropped = trunc_to(target - qty, step[i]), 0, True
        if state == REDUCING and delta > 0:
            cover = min(delta, trunc_to(max(-qty - max(working, 0), 0), step[i]))
            if cover < delta:
                log_event(journal, EV_REDUCE_ONLY, i, delta, cover, ns)
            delta = cover
        if state == REDUCING or not params.shorts:  # without a branch on the side, which is as good as random
            sale = max(delta, -max(qty + min(working, 0), 0))  # a sell by hand may leave less than works already
            if sale > delta and params.shorts:
                log_event(journal, EV_REDUCE_ONLY, i, delta, sale, ns)
            delta = sale
        if delta == 0:
            continue
        if least > 0 and target != 0 and (qty >= 0 or target < 0) and (qty <= 0 or target > 0):
            worth = mul_div_floor(abs(delta), ref, 1_000_000)
            if worth < params.min_order_e4:
                log_event(journal, EV_BELOW_MIN, i, delta, 0, ns)
                continue
            if qty != 0 and worth < band:
                log_event(journal, EV_INSIDE_BAND, i, delta, 0, ns)
                continue
        k = index(n_before + line)
        num, den = 1, 1
        if quiet == 0:
            num, den = split_num[i], split_den[i]
            scratch.pending[P_SPLIT] += num != 1 or den != 1
        write_order(book, k, i, line, delta, num, den, decision, instruments.tick, params, ns)
        keep[k] = True
        log_order(journal, book.order[k])
        line += 1
    book.acct[N_ORDERS] = n_before + line
    if dropped:
        remove_orders(book, keep)
