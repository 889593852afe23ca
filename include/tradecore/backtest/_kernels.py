"""One bar of a book, and the fold over many: the same kernels in a backtest and in production. Rules: docs/STEP.md."""

from __future__ import annotations

from tradecore._kernels import (
    fits,
    index,
    inlined,
    kernel,
    mul_div_ceil,
    mul_div_round,
    prefetch_row,
    quotient,
)
from tradecore.backtest.actions._kernels import actions_at, apply_dividends, apply_splits
from tradecore.backtest.deciding._kernels import decide_bar
from tradecore.execution._kernels import end_given, fill_given
from tradecore.execution.matching._kernels import fill_orders
from tradecore.model import (
    ACTIVE,
    CANCELED,
    CASH,
    EQUITY,
    EV_BORROW,
    EV_CHARGE,
    EV_DEPOSIT,
    EV_INTEREST,
    EV_SHORT,
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
    H_QUIET,
    HALTED,
    N_ORDERS,
    O_INSTR,
    O_REM,
    ORDERED_STATE,
    P_COUNT,
    P_OWED,
    P_SPLIT,
    PEAK,
    PREV_SESSION_EQUITY,
    REDUCING,
    STATE,
    STATE_SESSIONS,
    VOLATILITY_ADJUSTED,
    Market,
)
from tradecore.portfolio._kernels import (
    log_end,
    log_event,
    remove_orders,
)
from tradecore.portfolio.planning._kernels import plan_orders
from tradecore.risk.limits._kernels import limits_at

EVENTS_A_NAME, EVENTS_A_BAR = 20, 200  # the most that one bar writes: 64 groups and 64 shocks among them
DONE, NEED_ROOM, NEED_RECEIVABLE_SLOT = range(3)
YEAR_PPM = 360 * 1_000_000  # money-market year
FEW = 8  # names, for which it is not worth to begin with several at once


@inlined
def mark_names(book, bar):
    """Mark at the close, count stale marks."""
    for i in range(book.qty.shape[0]):
        trades, close, mark, stale = bar.traded[i], bar.close[i], book.mark[i], book.stale[i]
        book.mark[i] = close if trades else mark
        book.stale[i] = 0 if trades else stale + 1


@inlined
def worth_of_positions(qty, mark):
    """Return the sum of round(qty * mark / 1e6): of many names several at once, of few one after the other."""
    n, worth, wide = qty.shape[0], 0, 0
    for i in range(n if n > FEW else 0):
        held, price = qty[i], mark[i]
        part = quotient(abs(held) * price + 500_000, 1_000_000)  # rounded half up
        worth += -part if held < 0 else part
        wide += not fits(abs(held), price)
    if n > FEW and wide == 0:
        return worth
    worth = 0
    for i in range(n):
        if qty[i] != 0:
            worth += mul_div_round(qty[i], mark[i], 1_000_000)
    return worth


@kernel
def log_marks(book, params, journal, ns):
    """Log who is held at a stale mark, and who is short where nobody is to be."""
    for i in range(book.qty.shape[0]):
        if book.stale[i] > 0 and book.qty[i] != 0:
            log_event(journal, EV_STALE, i, 0, book.stale[i], ns)
        if book.qty[i] < 0 and not params.shorts:
            log_event(journal, EV_SHORT, i, 0, book.qty[i], ns)


@inlined
def mark_book(book, bar, params, journal, owed, ns):
    """Settle 5 and 6: mark at the close, count stale marks, and compute the equity; owed: the receivables."""
    mark_names(book, bar)
    book.acct[EQUITY] = book.acct[CASH] + worth_of_positions(book.qty, book.mark) + owed
    if journal is not None:
        log_marks(book, params, journal, ns)


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
def breaker(limit, whole, ppm):
    """Return ppm of whole > 0, rounded up; limit [2] keeps both, as neither changes at most bars."""
    if limit[0] != whole:
        limit[0] = whole
        limit[1] = mul_div_ceil(whole, ppm, 1_000_000)
    return limit[1]


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
    if acct[EQUITY] < 0 or (down > 0 and down >= breaker(scratch.breakers[0], acct[PEAK], params.max_drawdown_ppm)):
        enter_state(book, HALTED, journal, scratch, ns)
    elif loss > 0 and loss >= breaker(scratch.breakers[1], acct[PREV_SESSION_EQUITY], params.max_daily_loss_ppm):
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
    splits, dividends = actions_at(bar)
    if splits + scratch.pending[P_SPLIT] > 0:
        apply_splits(book, bar, instruments, journal, scratch, ns)
    if dividends + scratch.pending[P_COUNT] > 0:
        return apply_dividends(book, bar, head[H_DAY], journal, scratch, ns)
    return True


@inlined
def after_fills(book, bar, params, journal, scratch):
    """Settle 5 to 7: mark, equity, state."""
    head = bar.head
    mark_book(book, bar, params, journal, scratch.pending[P_OWED], head[H_NS])
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
def ask_ahead(market, scores, volatility, decides, at, params):
    """Ask for what a decision at bar `at` reads, and the fills at the bar after it, some time before."""
    if at >= decides.shape[0] or not decides[at]:
        return
    for s in range(scores.shape[1]):
        prefetch_row(scores[at, s])
    if params.sizing == VOLATILITY_ADJUSTED:
        prefetch_row(volatility[at])
    prefetch_row(market.close[at])
    prefetch_row(market.open[at + 1])
    prefetch_row(market.volume[at + 1])


@inlined
def has_room(book, journal):
    """Tell whether one more bar fits into the journal and the lots, whatever happens in it: orders open lots."""
    n = book.qty.shape[0]
    most = 0
    for i in range(n if book.acct[N_ORDERS] > 0 else 0):
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
    ahead = 1 + 16 // max(n, 1)  # rows that are short are soon there
    for at in range(start, market.head.shape[0] - 1):
        t = index(at)
        if not has_room(book, journal):
            return t, NEED_ROOM
        scratch.quiet[0] = market.head[t + 1, H_QUIET]
        ask_ahead(market, scores, volatility, decides, t + ahead, params)
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
