"""The fill kernel: orders and brackets meet a bar. Rules: docs/STEP.md, settle 4.

A bar tells four prices and not their order. What it leaves open is decided against us: a stop counts where it may have
been reached, a limit only where the market went through it, and of a stop and a profit in one bar the stop was first.
The open and the close are known to be first and last.
"""

from __future__ import annotations

from tradecore._kernels import fits, index, inlined, kernel, mul_div_half_up, mul_div_round, trunc_to
from tradecore.execution._kernels import (
    affordable_qty,
    book_fill,
    book_trade,
    fill_fee,
    fill_price,
    log_fill,
    spendable,
)
from tradecore.model import (
    A_FEE,
    A_NOTIONAL,
    A_PRICE,
    A_REST,
    CANCEL_REST,
    CANCELED,
    EV_CASH_SHORT,
    EV_STOP_LOSS,
    EV_TAKE_PROFIT,
    EXPIRED,
    FILLED,
    LIMIT,
    MARKET,
    N_ORDERS,
    O_AGE,
    O_INSTR,
    O_LIMIT,
    O_REM,
    O_REMAINDER,
    O_STOP,
    O_TYPE,
    ON_CLOSE,
    STOP_LIMIT,
    TRAILING,
)
from tradecore.portfolio._kernels import allocate_closing, log_end, log_event, near, remove_orders


@kernel
def within_limit(price, limit, buy):
    """Return the better of a price and a limit for the venue's side of a limit order: it never trades beyond."""
    return min(price, limit) if buy else max(price, limit)


@kernel
def price_at_open(order, open_e4, tick, params):
    """Return the price e4 at which an order of any kind fills at the open, 0 for not; a stop is triggered there."""
    buy = order[O_REM] > 0
    kind, limit, stop = order[O_TYPE], order[O_LIMIT], order[O_STOP]
    if kind == ON_CLOSE:
        return 0
    if stop > 0:
        if (open_e4 < stop) if buy else (open_e4 > stop):
            return 0
        order[O_STOP] = 0
    if LIMIT <= kind <= STOP_LIMIT and ((open_e4 > limit) if buy else (open_e4 < limit)):
        return 0
    price = fill_price(open_e4, tick, params.slippage_ppm, buy)
    return within_limit(price, limit, buy) if LIMIT <= kind <= STOP_LIMIT else price


@kernel
def price_during(order, high, low, tick, params):
    """Return the price e4 at which an order fills between open and close, 0 for not; a stop there is triggered."""
    buy = order[O_REM] > 0
    kind, limit, stop = order[O_TYPE], order[O_LIMIT], order[O_STOP]
    if stop > 0:
        if (high < stop) if buy else (low > stop):
            return 0
        order[O_STOP] = 0
        price = fill_price(stop, tick, params.slippage_ppm, buy)
        return within_limit(price, limit, buy) if kind == STOP_LIMIT else price
    if LIMIT <= kind <= STOP_LIMIT and ((low <= limit - tick) if buy else (high >= limit + tick)):
        return limit
    return 0


@kernel
def price_at_close(order, bar, i, tick, params):
    """Return the price e4 at which an order fills at the end of a bar, 0 for not; a trailing stop follows the bar."""
    buy = order[O_REM] > 0
    if order[O_TYPE] == ON_CLOSE:
        return fill_price(bar.close[i], tick, params.slippage_ppm, buy)
    if order[O_TYPE] != TRAILING or order[O_STOP] == 0:
        return 0
    if buy:
        order[O_STOP] = min(order[O_STOP], near(bar.low[i], params.trigger_ppm, tick, True))
    else:
        order[O_STOP] = max(order[O_STOP], near(bar.high[i], params.trigger_ppm, tick, False))
    level = order[O_STOP]
    if (bar.close[i] < level) if buy else (bar.close[i] > level):
        return 0
    order[O_STOP] = 0
    return fill_price(level, tick, params.slippage_ppm, buy)


@inlined
def meet_open(book, bar, instruments, params, alone):
    """Write what an order for the open of A_REST [n] e6 gets there if it is the only one of its name and gets all that
    it asks for: price, notional and fee.

    A_REST becomes 0 where there is more to ask (`fill_size`): a name that does not trade, less volume, a sell of more
    than is held, products that may not fit.
    """
    share, shorts, per_share = params.participation_ppm, params.shorts != 0, params.commission_per_share_e6
    for i in range(book.qty.shape[0]):
        rest, held, opens, volume = alone[A_REST, i], book.qty[i], bar.open[i], bar.volume[i]
        trades, tick = bar.traded[i], instruments.tick[i]
        qty = abs(rest)
        price = fill_price(opens, tick, params.slippage_ppm, rest > 0)
        notional = mul_div_half_up(qty, price, 1_000_000, None)
        small = fits(qty, price + per_share) and fits(volume, share) and fits(notional, params.commission_ppm)
        whole = trades and price > 0 and volume * share >= qty and (rest > 0 or shorts or qty <= held)
        alone[A_REST, i] = rest if whole and small else 0
        alone[A_PRICE, i] = price
        alone[A_NOTIONAL, i] = notional
        alone[A_FEE, i] = fill_fee(qty, notional, params, None)


@inlined
def fill_size(book, k, i, price, bar, instruments, params, scratch):
    """Return (quantity, notional, fee) of working order k at a price e4, as far as volume and position allow."""
    rem, step, held = book.order[k, O_REM], instruments.step[i], book.qty[i]
    cap = trunc_to(bar.volume[i] * params.participation_ppm, step) - scratch.used[i]
    qty = min(abs(rem), max(cap, 0))
    if rem < 0 and not params.shorts:
        scratch.blocked[k] = held < qty
        qty = min(qty, max(held, 0))
    notional = mul_div_round(qty, price, 1_000_000)
    return qty, notional, fill_fee(qty, notional, params, True)


@inlined
def fill_paid(book, k, i, price, qty, notional, fee, bar, instruments, params, journal, scratch, ns):
    """Fill working order k, instrument i, with a quantity at a price e4, as far as the cash allows."""
    rem = book.order[k, O_REM]
    if rem > 0 and notional + fee > spendable(book, params):
        within = affordable_qty(qty, price, instruments.step[i], spendable(book, params), params)
        within = max(within, min(qty, -book.qty[i]))  # what covers a short is always paid
        if within < qty:
            scratch.blocked[k] = True
            log_event(journal, EV_CASH_SHORT, i, qty, within, ns)
        qty, notional = within, mul_div_round(within, price, 1_000_000)
        fee = fill_fee(qty, notional, params, True)
    if qty > 0:
        again = scratch.used[i] != 0
        scratch.used[i] += qty
        scratch.filled[k] = True
        book_fill(book, k, i, qty if rem > 0 else -qty, price, notional, fee, again, bar.open[i], journal, ns)


@kernel
def fill_one(book, k, price, bar, instruments, params, journal, scratch, ns):
    """Fill working order k at a price e4 as far as volume, position and cash allow."""
    i = book.order[k, O_INSTR]
    qty, notional, fee = fill_size(book, k, i, price, bar, instruments, params, scratch)
    fill_paid(book, k, i, price, qty, notional, fee, bar, instruments, params, journal, scratch, ns)


@inlined
def sells_first(book, turn, buying, alone):
    """Write the rows of the working orders in the order of their fills [W + 1], and what of each name is to be filled
    (A_REST [n], of one order where there are several); return how many. Without a branch on the side, which is as good
    as random."""
    sells, buys = 0, 0
    alone[A_REST] = 0
    for k in range(book.acct[N_ORDERS]):
        rem = book.order[k, O_REM]
        alone[A_REST, index(book.order[k, O_INSTR])] = rem
        turn[sells] = k
        buying[buys] = k
        sells += rem < 0
        buys += rem > 0
    for m in range(buys):
        turn[sells + m] = buying[m]
    return sells + buys


@inlined
def fill_orders(book, bar, instruments, params, journal, scratch, ns):
    """Let working orders and brackets meet the bar: sells first, then buys, each in line order; then end or carry the
    rest. Whatever is not a market order for the open costs time only where there is some of it."""
    n_orders, alone = book.acct[N_ORDERS], scratch.alone
    scratch.used[:] = 0
    scratch.filled[:n_orders] = False
    scratch.blocked[:n_orders] = False
    later = params.stop_loss_ppm > 0 or params.take_profit_ppm > 0
    count = sells_first(book, scratch.turn, scratch.buying, alone)
    meet_open(book, bar, instruments, params, alone)
    for m in range(count):
        k = index(scratch.turn[m])
        i, rem = index(book.order[k, O_INSTR]), book.order[k, O_REM]
        at_open = book.order[k, O_TYPE] == MARKET
        qty, price, notional, fee = abs(rem), alone[A_PRICE, i], alone[A_NOTIONAL, i], alone[A_FEE, i]
        if not at_open or rem != alone[A_REST, i] or scratch.used[i] != 0:
            if not bar.traded[i]:
                continue
            if at_open:
                price = fill_price(bar.open[i], instruments.tick[i], params.slippage_ppm, rem > 0)
            else:
                later = True
                price = price_at_open(book.order[k], bar.open[i], instruments.tick[i], params)
            if price == 0:
                continue
            qty, notional, fee = fill_size(book, k, i, price, bar, instruments, params, scratch)
        fill_paid(book, k, i, price, qty, notional, fee, bar, instruments, params, journal, scratch, ns)
    if later:
        fill_later(book, bar, count, instruments, params, journal, scratch, ns)
    end_orders(book, bar, params, journal, scratch, ns)


@kernel
def fill_later(book, bar, count, instruments, params, journal, scratch, ns):
    """Brackets on what is held at the open, orders within the bar, brackets on what these opened, orders at the
    close."""
    bracketed = params.stop_loss_ppm > 0 or params.take_profit_ppm > 0
    entered = scratch.entered
    for i in range(book.qty.shape[0]):
        entered[i] = False
        if bracketed:
            close_bracket(book, i, bar, False, instruments, params, journal, scratch, ns)
    for phase in range(2):
        for m in range(count):
            k = scratch.turn[m]
            rem, i = book.order[k, O_REM], book.order[k, O_INSTR]
            if rem == 0 or scratch.filled[k] or scratch.blocked[k] or not bar.traded[i]:
                continue
            if phase == 0:
                price = price_during(book.order[k], bar.high[i], bar.low[i], instruments.tick[i], params)
            else:
                price = price_at_close(book.order[k], bar, i, instruments.tick[i], params)
            if price > 0:
                fill_one(book, k, price, bar, instruments, params, journal, scratch, ns)
                if phase == 0 and scratch.filled[k] and (book.qty[i] > 0) == (rem > 0) and book.qty[i] != 0:
                    entered[i] = True
        if bracketed and phase == 0:
            for i in range(book.qty.shape[0]):
                if entered[i]:
                    close_bracket(book, i, bar, True, instruments, params, journal, scratch, ns)


@kernel
def bracket_levels(book, i, tick, params):
    """Return (stop, profit) e4 of what is held of instrument i, from its average cost; 0 for none."""
    cost, long = 0, book.qty[i] > 0
    for k in range(book.lot_head[i], book.lot_head[i] + book.lot_count[i]):
        cost += abs(book.lot_cost[i, k])
    average = max(1, mul_div_round(cost, 1_000_000, abs(book.qty[i])))
    stop = near(average, params.stop_loss_ppm, tick, not long) if params.stop_loss_ppm > 0 else 0
    profit = near(average, params.take_profit_ppm, tick, long) if params.take_profit_ppm > 0 else 0
    return stop, profit


@kernel
def close_bracket(book, i, bar, entered, instruments, params, journal, scratch, ns):
    """Close what is held of instrument i where its bracket was reached. entered: some of it was opened within the bar,
    so that only the stop counts, and the close for the profit."""
    qty = book.qty[i]
    if qty == 0 or not bar.traded[i]:
        return
    tick, step, long = instruments.tick[i], instruments.step[i], qty > 0
    stop, profit = bracket_levels(book, i, tick, params)
    price, kind = 0, EV_STOP_LOSS
    open_e4, worst, best = bar.open[i], bar.high[i], bar.low[i]
    if long:
        worst, best = best, worst
    if entered:
        best = bar.close[i]
    through = profit + tick if long else profit - tick
    if stop > 0 and not entered and ((open_e4 <= stop) if long else (open_e4 >= stop)):
        price = fill_price(open_e4, tick, params.slippage_ppm, not long)
    elif profit > 0 and not entered and ((open_e4 >= profit) if long else (open_e4 <= profit)):
        price = within_limit(fill_price(open_e4, tick, params.slippage_ppm, not long), profit, not long)
        kind = EV_TAKE_PROFIT
    elif stop > 0 and ((worst <= stop) if long else (worst >= stop)):
        price = fill_price(stop, tick, params.slippage_ppm, not long)
    elif profit > 0 and ((best >= through) if long else (best <= through)):
        price, kind = profit, EV_TAKE_PROFIT
    if price <= 0:
        return
    cap = trunc_to(bar.volume[i] * params.participation_ppm, step) - scratch.used[i]
    part = min(abs(qty), max(cap, 0))
    if part == 0:
        return
    scratch.used[i] += part
    fill = -part if long else part
    notional = mul_div_round(part, price, 1_000_000)
    fee = fill_fee(part, notional, params, True)
    book_trade(book, i, fill, notional, fee, True, ns)
    allocate_closing(book.alloc, i, fill, -1, step)
    log_event(journal, kind, i, qty, book.qty[i], ns)
    log_fill(journal, -1, i, i, fill, price, open_e4, fee, 0, ns)


@kernel
def end_orders(book, bar, params, journal, scratch, ns):
    """End or carry each working order after its bar."""
    keep = scratch.keep
    for k in range(book.acct[N_ORDERS]):
        keep[k] = False
        order = book.order[k]
        i = index(order[O_INSTR])
        if order[O_REM] == 0:
            log_end(journal, order, FILLED, ns)
        elif order[O_REM] < 0 and bar.traded[i] and book.qty[i] <= 0 and not params.shorts:
            log_end(journal, order, CANCELED, ns)
        elif order[O_REMAINDER] == CANCEL_REST:
            log_end(journal, order, CANCELED if scratch.filled[k] or scratch.blocked[k] else EXPIRED, ns)
        else:
            order[O_AGE] += 1
            keep[k] = order[O_AGE] < params.max_order_age_bars
            if not keep[k]:
                log_end(journal, order, EXPIRED, ns)
    remove_orders(book, keep)
