"""Targets to orders. Rules: docs/STEP.md, plan."""

from __future__ import annotations

from tradecore._kernels import index, inlined, kernel, mul_div_ceil, mul_div_floor, mul_div_trunc, quotient, trunc_to
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
from tradecore.portfolio._kernels import log_end, log_event, log_order, near, remove_orders


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
