"""One bar of a book, and the fold over many: the same kernels in a backtest and in production. Rules: docs/STEP.md."""

from __future__ import annotations

from tradecore._kernels import inlined, kernel, mul_div_floor, mul_div_round, mul_div_trunc, trunc_to
from tradecore.execution._kernels import end_given, fill_given
from tradecore.execution.matching._kernels import fill_orders
from tradecore.model import (
    ACTIVE,
    CANCELED,
    CASH,
    DIVIDENDS,
    EQUITY,
    EV_BORROW,
    EV_CASH_IN_LIEU,
    EV_CHARGE,
    EV_DEPOSIT,
    EV_DIVIDEND,
    EV_DIVIDEND_ASSUMED_PAID,
    EV_INTEREST,
    EV_LEFT_UNIVERSE,
    EV_RECEIVABLE_PAID,
    EV_SHORT,
    EV_SPLIT,
    EV_STALE,
    EV_STATE,
    FEES,
    H_DAY,
    H_DAYS,
    H_DEPOSIT,
    H_FIRST,
    H_LAST,
    H_NS,
    H_PERSON,
    HALTED,
    N_ORDERS,
    O_INSTR,
    O_REM,
    ORDERED_STATE,
    PEAK,
    PREV_SESSION_EQUITY,
    REALISED,
    RECEIVABLE_SLOTS,
    REDUCING,
    STATE,
    STATE_SESSIONS,
    Market,
)
from tradecore.portfolio._kernels import (
    log_end,
    log_event,
    plan_orders,
    remove_orders,
    split_allocations,
    split_lots,
    split_order,
)
from tradecore.risk._kernels import cap_gross, cap_names, cap_turnover, size_weights, weights_to_quantities
from tradecore.risk.limits._kernels import limit_book, limit_names, limits_at

EVENTS_A_NAME, EVENTS_A_BAR = 20, 200  # the most that one bar writes: 64 groups and 64 shocks among them
DONE, NEED_ROOM, NEED_RECEIVABLE_SLOT = range(3)
YEAR_PPM = 360 * 1_000_000  # money-market year


@inlined
def apply_splits(book, bar, instruments, journal, scratch, ns):
    """Settle 2: bring quantities, lots, allocations, marks and working orders into the units of this bar."""
    some = 0
    for i in range(book.qty.shape[0]):
        some += bar.split_num[i] != bar.split_den[i]
    for i in range(book.qty.shape[0] if some > 0 else 0):
        num, den = bar.split_num[i], bar.split_den[i]
        if num == den or book.mark[i] == 0:
            continue
        old_qty, old_mark = book.qty[i], book.mark[i]
        exact = mul_div_trunc(old_qty, num, den)
        new_qty = trunc_to(exact, instruments.step[i])
        book.mark[i] = mul_div_round(old_mark, den, num)
        if old_qty == 0:
            split_allocations(book.alloc, i, 0, num, den)  # strategies may hold against each other
            continue
        log_event(journal, EV_SPLIT, i, old_qty, new_qty, ns)
        if exact != new_qty or (old_qty * num) % den != 0:
            cash = mul_div_round(old_qty, old_mark, 1_000_000) - mul_div_round(new_qty, book.mark[i], 1_000_000)
            book.acct[CASH] += cash
            book.acct[REALISED] += cash
            log_event(journal, EV_CASH_IN_LIEU, i, 0, cash, ns)
        book.qty[i] = new_qty
        book.acct[REALISED] -= split_lots(book, i, new_qty, num, den)
        split_allocations(book.alloc, i, new_qty, num, den)
    keep, gone = scratch.keep, False
    for k in range(book.acct[N_ORDERS]):
        keep[k] = True
        i = book.order[k, O_INSTR]
        split_order(
            book.order[k], book.want[k], bar.split_num[i], bar.split_den[i], instruments.tick[i], instruments.step[i]
        )
        if book.order[k, O_REM] == 0:
            keep[k], gone = False, True
            log_end(journal, book.order[k], CANCELED, ns)
    if gone:
        remove_orders(book, keep)


@inlined
def nothing_paid(bar, pending):
    """Tell whether no instrument goes ex at this bar and the book has no receivable."""
    some = pending[0]
    for i in range(bar.dividend.shape[0]):
        some += bar.dividend[i] > 0
    return some == 0


@kernel
def apply_dividends(book, bar, day, journal, pending, ns):
    """Settle 3: dividends to the holder before the open, and receivables that are due. False: no free slot."""
    for i in range(book.qty.shape[0]):
        if bar.dividend[i] > 0 and book.qty[i] != 0:
            amount = mul_div_round(book.qty[i], bar.dividend[i], 100_000_000)
            book.acct[DIVIDENDS] += amount
            if amount != 0 and bar.pay_day[i] > day:
                slot = -1
                for r in range(RECEIVABLE_SLOTS - 1, -1, -1):
                    if book.recv_day[i, r] == 0:
                        slot = r
                for r in range(RECEIVABLE_SLOTS):
                    if book.recv_day[i, r] == bar.pay_day[i]:
                        slot = r
                if slot < 0:
                    return False
                pending[0] += book.recv_day[i, slot] == 0
                book.recv_day[i, slot] = bar.pay_day[i]
                book.recv_amount[i, slot] += amount
                log_event(journal, EV_DIVIDEND, i, 0, amount, ns)
            else:
                book.acct[CASH] += amount
                kind = EV_DIVIDEND_ASSUMED_PAID if bar.pay_day[i] == 0 else EV_DIVIDEND
                log_event(journal, kind, i, 0, amount, ns)
        for r in range(RECEIVABLE_SLOTS):
            if 0 < book.recv_day[i, r] <= day:
                book.acct[CASH] += book.recv_amount[i, r]
                log_event(journal, EV_RECEIVABLE_PAID, i, 0, book.recv_amount[i, r], ns)
                pending[0] -= 1
                book.recv_day[i, r] = 0
                book.recv_amount[i, r] = 0
    return True


@inlined
def mark_book(book, bar, params, journal, pending, ns):
    """Settle 5 and 6: mark at the close, count stale marks, and compute the equity."""
    equity = book.acct[CASH]
    for i in range(book.qty.shape[0]):
        if bar.traded[i]:
            book.mark[i] = bar.close[i]
            book.stale[i] = 0
        else:
            book.stale[i] += 1
            if book.qty[i] != 0:
                log_event(journal, EV_STALE, i, 0, book.stale[i], ns)
        if book.qty[i] < 0 and not params.shorts:
            log_event(journal, EV_SHORT, i, 0, book.qty[i], ns)
        if book.qty[i] != 0:
            equity += mul_div_round(book.qty[i], book.mark[i], 1_000_000)
    for i in range(book.qty.shape[0] if pending[0] > 0 else 0):
        for r in range(RECEIVABLE_SLOTS):
            equity += book.recv_amount[i, r]
    book.acct[EQUITY] = equity


@kernel
def enter_state(book, state, journal, scratch, ns):
    """Change the trading state: a halt cancels all working orders, reduce-only those that do not only reduce, a lift
    restarts the peak."""
    old = book.acct[STATE]
    if state == old:
        return
    log_event(journal, EV_STATE, -1, old, state, ns)
    book.acct[STATE] = state
    book.acct[STATE_SESSIONS] = 0
    if old == HALTED:
        book.acct[PEAK] = book.acct[EQUITY]
    if state == ACTIVE:
        return
    keep = scratch.keep
    for k in range(book.acct[N_ORDERS]):
        keep[k] = True
        rest, held = book.order[k, O_REM], book.qty[book.order[k, O_INSTR]]
        if state == HALTED or rest > max(-held, 0) or -rest > max(held, 0):
            keep[k] = False
            log_end(journal, book.order[k], CANCELED, ns)
    remove_orders(book, keep)


@inlined
def update_state(book, last_bar, person, params, journal, scratch, ns):
    """Settle 7: lifts back to what a person ordered, breakers, and a person's change."""
    acct = book.acct
    if last_bar and acct[STATE] != ACTIVE:
        acct[STATE_SESSIONS] += 1
        lifts = params.reduce_lifts if acct[STATE] == REDUCING else params.halt_lifts
        if lifts > 0 and acct[STATE_SESSIONS] >= lifts and acct[STATE] != acct[ORDERED_STATE]:
            enter_state(book, acct[ORDERED_STATE], journal, scratch, ns)
    acct[PEAK] = max(acct[PEAK], acct[EQUITY])
    down = acct[PEAK] - acct[EQUITY]
    loss = acct[PREV_SESSION_EQUITY] - acct[EQUITY]
    if acct[EQUITY] < 0 or (down > 0 and down * 1_000_000 >= params.max_drawdown_ppm * acct[PEAK]):
        enter_state(book, HALTED, journal, scratch, ns)
    elif loss > 0 and loss * 1_000_000 >= params.max_daily_loss_ppm * acct[PREV_SESSION_EQUITY]:
        if acct[STATE] == ACTIVE:
            enter_state(book, REDUCING, journal, scratch, ns)
        elif acct[STATE] == REDUCING:
            acct[STATE_SESSIONS] = 0
    if person >= 0:
        acct[ORDERED_STATE] = person
        enter_state(book, person, journal, scratch, ns)


@kernel
def charge_carry(book, bar, params, journal):
    """Settle 0: interest on cash, and what shorts cost to borrow, for the days since the session before."""
    days, cash, shorts, paid = bar.head[H_DAYS], book.acct[CASH], 0, 0
    if days <= 0:
        return
    for i in range(book.qty.shape[0]):
        if book.qty[i] < 0:
            worth = mul_div_round(-book.qty[i], book.mark[i], 1_000_000)
            shorts += worth
            cost = mul_div_round(worth, params.borrow_ppm * days, YEAR_PPM)
            if cost > 0:
                paid -= cost
                log_event(journal, EV_BORROW, i, 0, -cost, bar.head[H_NS])
    interest = 0
    if cash < 0:
        interest = mul_div_round(cash, params.debit_ppm * days, YEAR_PPM)
    elif cash > shorts:  # what shorts brought is their collateral
        interest = mul_div_round(cash - shorts, params.credit_ppm * days, YEAR_PPM)
    if interest != 0:
        log_event(journal, EV_INTEREST, -1, 0, interest, bar.head[H_NS])
    book.acct[CASH] += interest + paid
    book.acct[FEES] -= interest + paid


@inlined
def before_fills(book, bar, instruments, journal, scratch):
    """Settle 1 to 3: session, deposit, splits, dividends. False: no receivable slot."""
    acct, head = book.acct, bar.head
    ns = head[H_NS]
    if head[H_FIRST] == 1:
        acct[PREV_SESSION_EQUITY] = acct[EQUITY]
    if head[H_DEPOSIT] != 0:
        acct[CASH] += head[H_DEPOSIT]
        acct[PREV_SESSION_EQUITY] += head[H_DEPOSIT]
        acct[PEAK] += head[H_DEPOSIT]
        log_event(journal, EV_DEPOSIT, -1, 0, head[H_DEPOSIT], ns)
    apply_splits(book, bar, instruments, journal, scratch, ns)
    return nothing_paid(bar, scratch.pending) or apply_dividends(book, bar, head[H_DAY], journal, scratch.pending, ns)


@inlined
def after_fills(book, bar, params, journal, scratch):
    """Settle 5 to 7: mark, equity, state."""
    head = bar.head
    mark_book(book, bar, params, journal, scratch.pending, head[H_NS])
    update_state(book, head[H_LAST] == 1, head[H_PERSON], params, journal, scratch, head[H_NS])


@inlined
def settle_bar(book, bar, instruments, params, journal, scratch):
    """Let one bar happen to the book, settle 0 to 7. False: no receivable slot."""
    if params.credit_ppm + params.debit_ppm + params.borrow_ppm > 0:
        charge_carry(book, bar, params, journal)
    if not before_fills(book, bar, instruments, journal, scratch):
        return False
    if book.acct[N_ORDERS] + params.stop_loss_ppm + params.take_profit_ppm > 0:
        fill_orders(book, bar, instruments, params, journal, scratch, bar.head[H_NS])
    after_fills(book, bar, params, journal, scratch)
    return True


@kernel
def settle_given(book, bar, given, instruments, params, journal, scratch):
    """Let one bar happen to a book at a real venue: what it did takes the place of the fill kernel."""
    ns = bar.head[H_NS]
    if not before_fills(book, bar, instruments, journal, scratch):
        return False
    fill_given(book, bar, given, instruments, journal, ns)
    end_given(book, given, journal, scratch, ns)
    if given.charges != 0:
        book.acct[CASH] += given.charges
        book.acct[FEES] -= given.charges
        log_event(journal, EV_CHARGE, -1, 0, given.charges, ns)
    after_fills(book, bar, params, journal, scratch)
    return True


@kernel
def decide_bar(
    book, score, capital, volatility, bar, split_num, split_den, instruments, params, limits, journal, scratch, decision
):
    """Fill in the decision for the next bar: sizes, caps and quantities in next-bar units."""
    n_strategies, n = score.shape
    weight, contribution, target, ref, opinion, qty, alloc = decision
    active, kept_ppm = scratch.active, scratch.kept_ppm
    traded, left, ns = bar.traded, bar.left, bar.head[H_NS]
    equity = book.acct[EQUITY]
    flat = scratch.flat
    for s in range(n_strategies):
        for i in range(n):
            alloc[s, i] = book.alloc[s, i]
    for i in range(n):
        opinion[i] = False
        qty[i] = book.qty[i]
        flat[i] = left[i] or (qty[i] < 0 and not params.shorts)  # nobody is to be short: it is bought back
        ref[i] = book.mark[i]
        if split_num[i] != split_den[i]:
            qty[i] = trunc_to(mul_div_trunc(qty[i], split_num[i], split_den[i]), instruments.step[i])
            ref[i] = mul_div_round(ref[i], split_den[i], split_num[i])
            split_allocations(alloc, i, qty[i], split_num[i], split_den[i])
    if equity <= 0:
        for i in range(n):
            target[i] = qty[i]
            for s in range(n_strategies):
                weight[s, i] = 0
                contribution[s, i] = alloc[s, i]
        return
    size_weights(score, capital, volatility, traded, flat, params, weight, active)
    for i in range(n):
        if left[i] and traded[i] and qty[i] != 0:
            log_event(journal, EV_LEFT_UNIVERSE, i, qty[i], 0, ns)
        kept = 0
        for s in range(n_strategies):
            if active[s, i]:
                opinion[i] = True
            else:
                kept += abs(alloc[s, i]) if params.shorts else max(alloc[s, i], 0)
        kept_ppm[i] = 0
        if kept != 0:
            kept_ppm[i] = mul_div_floor(mul_div_floor(kept, ref[i], 1_000_000), 1_000_000, equity)
    cap_names(weight, active, kept_ppm, params.max_position_ppm, journal, ns)
    if params.limits:
        limit_names(weight, kept_ppm, equity, limits, params, journal, ns)
    cap_gross(weight, kept_ppm, params.max_exposure_ppm, journal, ns)
    if params.limits:
        limit_book(weight, kept_ppm, active, alloc, ref, equity, limits, params, journal, ns)
    weights_to_quantities(weight, active, alloc, ref, instruments.step, equity, contribution, target)
    cap_turnover(contribution, target, alloc, qty, ref, instruments.step, equity, params, journal, ns)


@inlined
def bar_at(market, t):
    """Return row t of a Market, each field a view."""
    return Market(
        market.open[t],
        market.high[t],
        market.low[t],
        market.close[t],
        market.volume[t],
        market.traded[t],
        market.split_num[t],
        market.split_den[t],
        market.dividend[t],
        market.pay_day[t],
        market.left[t],
        market.head[t],
    )


@inlined
def has_room(book, journal):
    """Tell whether one more bar fits into the journal and the lots, whatever happens in it."""
    n = book.qty.shape[0]
    most = 0
    for i in range(n):
        most = max(most, book.lot_count[i])
    return most + 1 < book.lot_qty.shape[1] and journal_has_room(journal, n, book.order.shape[0])


@inlined
def journal_has_room(journal, n, n_orders):
    """Tell whether one more bar fits into the journal."""
    if journal is None:
        return True
    counts = journal.counts
    if counts[0] + EVENTS_A_NAME * n + 3 * n_orders + EVENTS_A_BAR > journal.events.shape[0]:
        return False
    if counts[1] + n_orders + 2 * n > journal.fills.shape[0] or counts[2] + 2 * n_orders > journal.ends.shape[0]:
        return False
    return counts[3] + n <= journal.orders.shape[0]


@kernel
def fold(
    book,
    market,
    scores,
    capital,
    volatility,
    decides,
    instruments,
    params,
    limits,
    journal,
    scratch,
    decision,
    start,
    out,
):
    """Run bars start.. of market: settle, then decide and plan where decides[t]. The last row of market only tells
    the splits of the bar after the last one that is run.

    scores [T, S, n], volatility [T, n], limits of T bars; journal None: none is kept; out [T, 4 + 2n] receives cash,
    equity, state, number of working orders, qty and mark after each bar, out [T, 4] the first four. Returns (next t,
    code): DONE, NEED_ROOM (enlarge and go on), NEED_RECEIVABLE_SLOT.
    """
    n = book.qty.shape[0]
    for t in range(start, market.head.shape[0] - 1):
        if not has_room(book, journal):
            return t, NEED_ROOM
        bar = bar_at(market, t)
        if not settle_bar(book, bar, instruments, params, journal, scratch):
            return t, NEED_RECEIVABLE_SLOT
        out[t, 0] = book.acct[CASH]
        out[t, 1] = book.acct[EQUITY]
        out[t, 2] = book.acct[STATE]
        if out.shape[1] > 4:
            for i in range(n):
                out[t, 4 + i] = book.qty[i]
                out[t, 4 + n + i] = book.mark[i]
        if decides[t]:
            num, den = market.split_num[t + 1], market.split_den[t + 1]
            decide_bar(
                book,
                scores[t],
                capital,
                volatility[t],
                bar,
                num,
                den,
                instruments,
                params,
                limits_at(limits, t if limits.beta.shape[0] > 1 else 0),
                journal,
                scratch,
                decision,
            )
            plan_orders(book, decision, instruments, num, den, params, journal, scratch, bar.head[H_NS])
        out[t, 3] = book.acct[N_ORDERS]
    return market.head.shape[0] - 1, DONE
