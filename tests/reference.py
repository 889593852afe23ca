"""Naive twins of the kernels, written from docs/STEP.md and to be read beside it.

The first half is a day loop in Decimal: dollars, shares and prices as they are, plain lists and dicts, one
instrument after the other. It knows nothing of quanta until `quanta` turns a book into integers to compare.
The second half is the formulas of indicators and signals in plain Python floats.

Nothing here imports tradecore: what both sides share is the page, not the code.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal, localcontext
from itertools import pairwise
from typing import Any, TypeVar

MONEY = Decimal("0.0001")  # money and prices
SHARE = Decimal("0.000001")
PPM = Decimal("0.000001")
BPS = Decimal(10_000)
ZERO = Decimal(0)

ACTIVE, REDUCING, HALTED = 0, 1, 2
NAN = math.nan

F = TypeVar("F", bound=Callable[..., Any])


def exactly(function: F) -> F:
    """Run with so many digits that no product is rounded and no quotient crosses a rounding boundary."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with localcontext(Context(prec=90)):
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def rounded(x: Decimal, quantum: Decimal = MONEY) -> Decimal:
    """Nearest multiple of the quantum, half away from zero."""
    return (x / quantum).to_integral_value(ROUND_HALF_UP) * quantum


def floored(x: Decimal, quantum: Decimal) -> Decimal:
    """Multiple of the quantum toward minus infinity."""
    return (x / quantum).to_integral_value(ROUND_FLOOR) * quantum


def truncated(x: Decimal, quantum: Decimal) -> Decimal:
    """Multiple of the quantum toward zero."""
    return (x / quantum).to_integral_value(ROUND_DOWN) * quantum


# ---------------------------------------------------------------------------------------------- what goes in


@dataclass(slots=True, kw_only=True)
class RefQuote:
    """One instrument at one bar. `split` and `dividend` take effect before its open."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    traded: bool = True
    tick: Decimal = Decimal("0.01")
    qty_step: Decimal = Decimal(1)
    split: tuple[int, int] = (1, 1)  # (0, 1): delisted, and `dividend` is what each share is paid with
    dividend: Decimal = ZERO
    pay_day: int | None = None
    left: bool = False  # it is no longer in the universe


@dataclass(slots=True, kw_only=True)
class RefBar:
    """One bar of the market, with what else happens to the book at it.

    `next_split` is what is known at this bar's end of the next bar's splits; None in `run`: all is known.
    """

    day: int
    bar_end_ns: int
    quotes: list[RefQuote]
    first_of_session: bool = True
    last_of_session: bool = True
    deposit: Decimal = ZERO
    person_state: int | None = None
    next_split: list[tuple[int, int]] | None = None
    days_since: int = 0  # calendar days since the session before, at the first bar of a session


@dataclass(slots=True, kw_only=True)
class RefParams:
    """Costs, limits and sizing, in the units of the configuration file."""

    capital_shares: list[float]
    slippage_bps: Decimal = Decimal(2)
    commission_bps: Decimal = Decimal(1)
    commission_per_share: Decimal = ZERO
    commission_min: Decimal = ZERO
    participation_frac: Decimal = Decimal("0.10")
    remainder: str = "cancel"
    max_order_age_bars: int = 5
    max_position: Decimal = Decimal("0.15")
    max_exposure: Decimal = Decimal("0.90")
    max_turnover: Decimal = Decimal(1)
    min_order_notional: Decimal = Decimal(100)
    rebalance_band: Decimal = Decimal("0.01")
    sizing: str = "volatility_adjusted"
    target_volatility: float = 0.20
    max_daily_loss: Decimal = Decimal("0.03")
    max_drawdown: Decimal = Decimal("0.15")
    reduce_lifts_after_sessions: int = 1
    halt_lifts_after_sessions: int = 0
    members: list[set[int]] | None = None  # per strategy its instruments; None: all
    allow_short: bool = False
    margin_frac: Decimal = ZERO
    credit_frac: Decimal = ZERO  # a year of 360 days
    debit_frac: Decimal = ZERO
    borrow_frac: Decimal = ZERO
    order_kind: str = "market"
    collar_bps: Decimal = Decimal(50)
    trigger_bps: Decimal = Decimal(100)
    stop_loss_frac: Decimal | None = None
    take_profit_frac: Decimal | None = None


# ------------------------------------------------------------------------------------------------- the book


@dataclass(slots=True, kw_only=True)
class RefLot:
    shares: Decimal
    cost: Decimal
    opened_ns: int


@dataclass(slots=True, kw_only=True)
class RefOrder:
    """An order for the next bar; shares signed, `wants` is the holding each strategy asked for. A stop of 0 is none,
    or one that was triggered."""

    instrument: int
    shares: Decimal
    remaining: Decimal
    wants: list[Decimal]
    planned_split: tuple[int, int] = (1, 1)
    age_bars: int = 0
    status: str = "WORKING"
    kind: str = "market"
    limit: Decimal = ZERO
    stop: Decimal = ZERO


@dataclass(slots=True, kw_only=True)
class RefFill:
    order: RefOrder | None  # None: a bracket's
    instrument: int
    shares: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    allocated: list[Decimal]
    remaining: Decimal  # of the order after this fill


@dataclass(slots=True, kw_only=True)
class RefBook:
    """All that crosses a bar. `alloc[s][i]` is what strategy s holds of instrument i."""

    cash: Decimal
    equity: Decimal
    peak: Decimal
    prev_session_equity: Decimal
    shares: list[Decimal]
    mark: list[Decimal]
    stale: list[int]
    lots: list[list[RefLot]]
    receivables: list[dict[int, Decimal]]  # per instrument: pay day -> amount
    alloc: list[list[Decimal]]
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    dividends: Decimal = ZERO
    state: int = ACTIVE
    state_sessions: int = 0
    ordered_state: int = ACTIVE  # by a person: no count of sessions lifts it
    orders: list[RefOrder] = field(default_factory=list)  # working, in line order

    @classmethod
    def opened(cls, cash: Decimal, instruments: int, strategies: int) -> RefBook:
        """Open a book with cash only."""
        return cls(
            cash=cash,
            equity=cash,
            peak=cash,
            prev_session_equity=cash,
            shares=[ZERO] * instruments,
            mark=[ZERO] * instruments,
            stale=[0] * instruments,
            lots=[[] for _ in range(instruments)],
            receivables=[{} for _ in range(instruments)],
            alloc=[[ZERO] * instruments for _ in range(strategies)],
        )


# --------------------------------------------------------------------------------------------------- settle


@exactly
def settle(book: RefBook, bar: RefBar, params: RefParams) -> tuple[list[RefFill], list[RefOrder]]:
    """Let one bar happen to the book (changed in place); return the fills and the orders that ended."""
    _carry_costs(book, bar, params)
    _before_fills(book, bar)
    fills = _Matching(book, bar, params).run()
    return fills, _after_fills(book, bar, params)


def _carry_costs(book: RefBook, bar: RefBar, params: RefParams) -> None:
    """Interest on cash and the cost of borrowed shares since the session before, by actual days over 360."""
    days = bar.days_since
    worth = [rounded(-q * m) for q, m in zip(book.shares, book.mark, strict=True) if q < 0]
    paid = sum((rounded(w * params.borrow_frac * days / 360) for w in worth), ZERO)
    interest = ZERO
    if book.cash < 0:
        interest = -rounded(-book.cash * params.debit_frac * days / 360)
    elif book.cash > sum(worth, ZERO):
        interest = rounded((book.cash - sum(worth, ZERO)) * params.credit_frac * days / 360)
    book.cash += interest - paid
    book.fees += paid - interest


@dataclass(slots=True, kw_only=True)
class RefGiven:
    """A fill that a venue reports: shares signed; `order` None: nobody's of ours; `own` False: a leg of its bracket."""

    order: RefOrder | None
    instrument: int
    shares: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    own: bool = True


@exactly
def settle_given(
    book: RefBook,
    bar: RefBar,
    params: RefParams,
    given: list[RefGiven],
    ends: list[tuple[RefOrder, str]],
    charges: Decimal = ZERO,
    manual: int = 0,
) -> list[RefOrder]:
    """Let one bar happen to a book at a real venue; return the orders that ended."""
    _before_fills(book, bar)
    for fill in given:
        i, order = fill.instrument, fill.order
        book.mark[i] = book.mark[i] or fill.price
        before = [held[i] for held in book.alloc]
        if order is not None and not fill.own:
            after = allocate_closing(before, fill.shares, manual, bar.quotes[i].qty_step)
        elif order is not None and order.status == "WORKING":
            after = allocate(before, order.wants, fill.shares)
            order.remaining -= fill.shares
        else:
            after = allocate_by_hand(before, fill.shares, manual)
        _trade(book, i, fill.shares, fill.notional, fill.fee, after, bar.bar_end_ns)
    for order in book.orders:
        ended = [status for other, status in ends if other is order]
        if order.status == "WORKING":
            order.status = ended[0] if ended else order.status
            order.age_bars += 0 if ended else 1
    book.cash += charges
    book.fees -= charges
    return _after_fills(book, bar, params)


def _before_fills(book: RefBook, bar: RefBar) -> None:
    if bar.first_of_session:
        book.prev_session_equity = book.equity
    book.cash += bar.deposit
    book.prev_session_equity += bar.deposit
    book.peak += bar.deposit

    for i, quote in enumerate(bar.quotes):
        if quote.split[0] == 0:
            _delist(book, i, quote.dividend)
        elif quote.split[0] != quote.split[1]:
            _split(book, i, quote)
    for order in book.orders:
        _rescale(order, bar.quotes[order.instrument])
    for i, quote in enumerate(bar.quotes):
        _dividend(book, i, quote, bar.day)


def _after_fills(book: RefBook, bar: RefBar, params: RefParams) -> list[RefOrder]:
    for i, quote in enumerate(bar.quotes):
        if quote.traded:
            book.mark[i], book.stale[i] = quote.close, 0
        else:
            book.stale[i] += 1
    owed = sum((amount for due in book.receivables for amount in due.values()), ZERO)
    held = sum((rounded(q * m) for q, m in zip(book.shares, book.mark, strict=True)), ZERO)
    book.equity = book.cash + owed + held

    _breakers(book, bar, params)
    ended = [order for order in book.orders if order.status != "WORKING"]
    book.orders = [order for order in book.orders if order.status == "WORKING"]
    return ended


def split_shares(shares: Decimal, split: tuple[int, int], step: Decimal) -> Decimal:
    """Scale a quantity by a split, cut to the step; without a split nothing is cut."""
    num, den = split
    return shares if num == den else truncated(shares * num / den, step)


def split_allocations(alloc: Sequence[Decimal], shares_after: Decimal, split: tuple[int, int]) -> list[Decimal]:
    """Scale what each strategy holds; the difference to the position is the first holders'. A short: its mirror."""
    if shares_after < 0 or (shares_after == 0 and sum(alloc, ZERO) < 0):
        return [-a for a in split_allocations([-a for a in alloc], -shares_after, split)]
    after = [truncated(a * split[0] / split[1], SHARE) for a in alloc]
    missing = shares_after - sum(after, ZERO)
    if missing > 0:
        holders = [s for s, a in enumerate(after) if a > 0] or [s for s, a in enumerate(alloc) if a > 0]
        after[holders[0] if holders else 0] += missing
    for s in range(len(after)):
        cut = max(min(after[s], -missing), ZERO)
        after[s] -= cut
        missing += cut
    return after


def _split(book: RefBook, i: int, quote: RefQuote) -> None:
    num, den = quote.split
    before, old_mark = book.shares[i], book.mark[i]
    exact = before * num / den
    after = truncated(exact, quote.qty_step)
    book.shares[i] = after
    book.mark[i] = rounded(old_mark * den / num)
    if exact != after:
        cash_in_lieu = rounded(before * old_mark) - rounded(after * book.mark[i])
        book.cash += cash_in_lieu
        book.realised += cash_in_lieu

    for lot in book.lots[i]:
        lot.shares = truncated(lot.shares * num / den, SHARE)
    missing = abs(after) - sum((abs(lot.shares) for lot in book.lots[i]), ZERO)
    sign = -1 if before < 0 else 1
    if missing > 0:
        book.lots[i][-1].shares += sign * missing
    for lot in reversed(book.lots[i]):
        cut = min(abs(lot.shares), max(-missing, ZERO))
        lot.shares -= sign * cut
        missing += cut
    book.realised -= sum((lot.cost for lot in book.lots[i] if lot.shares == 0), ZERO)
    book.lots[i] = [lot for lot in book.lots[i] if lot.shares != 0]

    scaled = split_allocations([held[i] for held in book.alloc], after, quote.split)
    for held, shares in zip(book.alloc, scaled, strict=True):
        held[i] = shares


def _delist(book: RefBook, i: int, price: Decimal) -> None:
    """What is held is sold to whoever takes it, at a price that is not the market's; then the name is gone."""
    proceeds = rounded(book.shares[i] * price)
    book.cash += proceeds
    book.realised += proceeds - sum((lot.cost for lot in book.lots[i]), ZERO)
    book.shares[i] = book.mark[i] = ZERO
    book.lots[i] = []
    for held in book.alloc:
        held[i] = ZERO


def _rescale(order: RefOrder, quote: RefQuote) -> None:
    """Bring a working order from the units it was planned in to those of this bar."""
    num = quote.split[0] * order.planned_split[1]
    den = quote.split[1] * order.planned_split[0]
    order.planned_split = (1, 1)
    if num == den:
        return
    if num == 0:
        order.remaining, order.status = ZERO, "CANCELED"
        return
    order.shares = truncated(order.shares * num / den, quote.qty_step)
    order.remaining = truncated(order.remaining * num / den, quote.qty_step)
    order.limit = rounded(rounded(order.limit * den / num), quote.tick)
    order.stop = rounded(rounded(order.stop * den / num), quote.tick)
    order.wants = [truncated(want * num / den, SHARE) for want in order.wants]
    if order.remaining == 0:
        order.status = "CANCELED"


def _dividend(book: RefBook, i: int, quote: RefQuote, day: int) -> None:
    amount = rounded(book.shares[i] * quote.dividend)
    due = book.receivables[i]
    if amount != 0:
        book.dividends += amount
        if quote.pay_day is not None and quote.pay_day > day:
            due[quote.pay_day] = due.get(quote.pay_day, ZERO) + amount
        else:
            book.cash += amount
    for pay_day in [d for d in due if d <= day]:
        book.cash += due.pop(pay_day)


def fill_price(quote: RefQuote, buying: bool, slippage_bps: Decimal, price: Decimal | None = None) -> Decimal:
    """Return a price (None: the open), worsened by the slippage and rounded to the tick away from us."""
    price = quote.open if price is None else price
    if buying:
        worse = price * (1 + slippage_bps / BPS)
        return (worse / quote.tick).to_integral_value(ROUND_CEILING) * quote.tick
    return max(floored(price * (1 - slippage_bps / BPS), quote.tick), quote.tick)


def moved(price: Decimal, by: Decimal, up: bool, tick: Decimal) -> Decimal:
    """Return a price moved by a fraction, rounded to the tick toward where it came from, one tick at least."""
    if up:
        return max(floored(price * (1 + by), tick), tick)
    return max((price * (1 - by) / tick).to_integral_value(ROUND_CEILING) * tick, tick)


def fee(shares: Decimal, notional: Decimal, params: RefParams) -> Decimal:
    """Return the commission of a fill."""
    by_value = rounded(notional * params.commission_bps / BPS)
    by_share = rounded(shares * params.commission_per_share)
    return max(params.commission_min, by_value + by_share)


def affordable(cash: Decimal, price: Decimal, wanted: Decimal, step: Decimal, params: RefParams) -> Decimal:
    """Return the largest multiple of the step, up to `wanted`, that cash pays with its fee."""

    def fits(steps: int) -> bool:
        notional = rounded(steps * step * price)
        return notional + fee(steps * step, notional, params) <= cash

    low, high = 0, int(wanted / step)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low * step


class _Matching:
    """One bar's fills, from the open to the close. A bar tells four prices and not their order: what is open counts
    against us."""

    def __init__(self, book: RefBook, bar: RefBar, params: RefParams) -> None:
        self.book, self.bar, self.params = book, bar, params
        self.fills: list[RefFill] = []
        self.taken = [ZERO] * len(bar.quotes)
        self.held_after: list[Decimal] = []  # of the instrument, per fill
        self.cut: set[int] = set()  # ids of orders that cash or position cut
        self.done: set[int] = set()  # ids of orders with a fill
        sells = [order for order in book.orders if order.remaining < 0]
        self.in_turn = sells + [order for order in book.orders if order.remaining > 0]

    def run(self) -> list[RefFill]:
        self._orders(self._at_open)
        self._brackets(set(range(len(self.bar.quotes))), within=False)
        before = len(self.fills)
        self._orders(self._during)
        new = zip(self.fills[before:], self.held_after[before:], strict=True)
        opened = {fill.instrument for fill, held in new if held * fill.shares > 0}
        self._brackets(opened, within=True)
        self._orders(self._at_close)
        for order in self.book.orders:
            self._end(order)
        return self.fills

    def _orders(self, price_of: Callable[[RefOrder, RefQuote], Decimal | None]) -> None:
        for order in self.in_turn:
            quote = self.bar.quotes[order.instrument]
            if order.remaining == 0 or not quote.traded or id(order) in self.done | self.cut:
                continue
            price = price_of(order, quote)
            if price is not None:
                self._fill(order, quote, price)

    def _worse(self, quote: RefQuote, buying: bool, price: Decimal) -> Decimal:
        return fill_price(quote, buying, self.params.slippage_bps, price)

    def _at_open(self, order: RefOrder, quote: RefQuote) -> Decimal | None:
        buying = order.remaining > 0
        if order.kind == "market_on_close":
            return None
        if order.stop:
            if quote.open < order.stop if buying else quote.open > order.stop:
                return None
            order.stop = ZERO
        price = self._worse(quote, buying, quote.open)
        if order.kind not in ("limit", "stop_limit"):
            return price
        if quote.open > order.limit if buying else quote.open < order.limit:
            return None
        return min(price, order.limit) if buying else max(price, order.limit)

    def _during(self, order: RefOrder, quote: RefQuote) -> Decimal | None:
        buying = order.remaining > 0
        if order.stop:
            if quote.high < order.stop if buying else quote.low > order.stop:
                return None
            price = self._worse(quote, buying, order.stop)
            order.stop = ZERO
            if order.kind == "stop_limit":
                price = min(price, order.limit) if buying else max(price, order.limit)
            return price
        if order.kind in ("limit", "stop_limit"):  # touched is not enough
            through = quote.low < order.limit if buying else quote.high > order.limit
            by_a_tick = abs((quote.low if buying else quote.high) - order.limit) >= quote.tick
            return order.limit if through and by_a_tick else None
        return None

    def _at_close(self, order: RefOrder, quote: RefQuote) -> Decimal | None:
        buying = order.remaining > 0
        if order.kind == "market_on_close":
            return self._worse(quote, buying, quote.close)
        if order.kind != "trailing_stop" or not order.stop:
            return None
        distance = self.params.trigger_bps / BPS
        if buying:
            order.stop = min(order.stop, moved(quote.low, distance, True, quote.tick))
        else:
            order.stop = max(order.stop, moved(quote.high, distance, False, quote.tick))
        if quote.close < order.stop if buying else quote.close > order.stop:
            return None
        price, order.stop = self._worse(quote, buying, order.stop), ZERO
        return price

    def _offered(self, i: int, quote: RefQuote, wanted: Decimal) -> Decimal:
        part = floored(quote.volume * self.params.participation_frac, quote.qty_step) - self.taken[i]
        return min(wanted, max(part, ZERO))

    def _fill(self, order: RefOrder, quote: RefQuote, price: Decimal) -> None:
        book, params, i = self.book, self.params, order.instrument
        # What the market offers comes first; only then can cash or position be what stands in the way.
        offered = shares = self._offered(i, quote, abs(order.remaining))
        buying = order.remaining > 0
        if buying:
            cash = book.cash + floored(max(book.equity, ZERO) * params.margin_frac, MONEY)
            shares = affordable(cash, price, offered, quote.qty_step, params)
            shares = max(shares, min(offered, -book.shares[i]))
        elif not params.allow_short:
            shares = min(offered, max(book.shares[i], ZERO))
        if shares < offered:
            self.cut.add(id(order))
        if shares > 0:
            self.taken[i] += shares
            signed = shares if buying else -shares
            before = [held[i] for held in book.alloc]
            self._book(order, i, signed, price, allocate(before, order.wants, signed), order.remaining - signed)
            order.remaining -= signed
            self.done.add(id(order))

    def _book(
        self, order: RefOrder | None, i: int, signed: Decimal, price: Decimal, after: list[Decimal], remaining: Decimal
    ) -> None:
        notional = rounded(abs(signed) * price)
        paid = fee(abs(signed), notional, self.params)
        fill = RefFill(
            order=order,
            instrument=i,
            shares=signed,
            price=price,
            notional=notional,
            fee=paid,
            allocated=_trade(self.book, i, signed, notional, paid, after, self.bar.bar_end_ns),
            remaining=remaining,
        )
        self.fills.append(fill)
        self.held_after.append(self.book.shares[i])

    def _brackets(self, instruments: set[int], *, within: bool) -> None:
        if self.params.stop_loss_frac is None and self.params.take_profit_frac is None:
            return
        for i in sorted(instruments):
            quote, held = self.bar.quotes[i], self.book.shares[i]
            price = self._bracket_price(i, quote, within) if held and quote.traded else None
            closing = self._offered(i, quote, abs(held)) if price is not None else ZERO
            if price is not None and closing:
                self.taken[i] += closing
                signed = -closing if held > 0 else closing
                after = allocate_closing([alloc[i] for alloc in self.book.alloc], signed, None, quote.qty_step)
                self._book(None, i, signed, price, after, ZERO)

    def _bracket_price(self, i: int, quote: RefQuote, within: bool) -> Decimal | None:
        """Return at what price the bracket of what is held closes it. within: some of it was opened within the bar, so
        the stop may have been reached since, but a profit surely only at the close."""
        book, params, long = self.book, self.params, self.book.shares[i] > 0
        average = rounded(sum((abs(lot.cost) for lot in book.lots[i]), ZERO) / abs(book.shares[i]))
        average = max(average, MONEY)
        stop = profit = None
        if params.stop_loss_frac is not None:
            stop = moved(average, params.stop_loss_frac, not long, quote.tick)
        if params.take_profit_frac is not None:
            profit = moved(average, params.take_profit_frac, long, quote.tick)

        def lost(price: Decimal) -> bool:
            return stop is not None and (price <= stop if long else price >= stop)

        def won(price: Decimal, by: Decimal = ZERO) -> bool:
            return profit is not None and (price >= profit + by if long else price <= profit - by)

        if not within and lost(quote.open):
            return self._worse(quote, not long, quote.open)
        if not within and won(quote.open):
            assert profit is not None
            price = self._worse(quote, not long, quote.open)
            return max(price, profit) if long else min(price, profit)
        if lost(quote.low if long else quote.high):
            assert stop is not None
            return self._worse(quote, not long, stop)
        best = quote.close if within else quote.high if long else quote.low
        return profit if won(best, quote.tick) else None

    def _end(self, order: RefOrder) -> None:
        i, params = order.instrument, self.params
        traded = self.bar.quotes[i].traded
        if order.status == "CANCELED":
            return  # a split left nothing of it
        if order.remaining == 0:
            order.status = "FILLED"
        elif order.remaining < 0 and traded and self.book.shares[i] <= 0 and not params.allow_short:
            order.status = "CANCELED"
        elif params.remainder == "cancel":
            order.status = "CANCELED" if id(order) in self.done | self.cut else "EXPIRED"
        else:
            order.age_bars += 1
            if order.age_bars >= params.max_order_age_bars:
                order.status = "EXPIRED"


def _trade(
    book: RefBook, i: int, signed: Decimal, notional: Decimal, paid: Decimal, after: list[Decimal], bar_end_ns: int
) -> list[Decimal]:
    """Book cash, fees, lots, position and allocation of a fill; return what each strategy's holding moved by."""
    book.fees += paid
    book.cash -= paid
    book.cash += -notional if signed > 0 else notional
    # A fill through zero is two: one closes what is held, one opens the other side for the rest.
    held = book.shares[i]
    closes = min(abs(signed), abs(held)) if held * signed < 0 else ZERO
    closes_for = rounded(notional * closes / abs(signed))
    if closes:
        taken = _take_lots(book.lots[i], closes)
        book.realised += closes_for - taken if signed < 0 else taken - closes_for
    opens = abs(signed) - closes
    if opens:
        _add_lot(book.lots[i], opens if signed > 0 else -opens, notional - closes_for, bar_end_ns)
    book.shares[i] += signed

    before = [alloc[i] for alloc in book.alloc]
    for alloc, now in zip(book.alloc, after, strict=True):
        alloc[i] = now
    return [now - then for now, then in zip(after, before, strict=True)]


def _add_lot(lots: list[RefLot], shares: Decimal, money: Decimal, bar_end_ns: int) -> None:
    """Open a lot, or add to the one that this bar opened. What a short brought is a cost below zero."""
    cost = money if shares > 0 else -money
    if lots and lots[-1].opened_ns == bar_end_ns:
        lots[-1].shares += shares
        lots[-1].cost += cost
    else:
        lots.append(RefLot(shares=shares, cost=cost, opened_ns=bar_end_ns))


def _take_lots(lots: list[RefLot], shares: Decimal) -> Decimal:
    """Take shares out of the lots, first in first out, and return what they had cost, or brought."""
    money = ZERO
    while shares > 0:
        lot = lots[0]
        sign = 1 if lot.shares > 0 else -1
        part = min(abs(lot.shares), shares)
        part_cost = lot.cost if part == abs(lot.shares) else rounded(lot.cost * part / abs(lot.shares))
        lot.shares -= sign * part
        lot.cost -= part_cost
        money += abs(part_cost)
        shares -= part
        if lot.shares == 0:
            lots.pop(0)
    return money


def allocate(alloc: Sequence[Decimal], wants: Sequence[Decimal], signed: Decimal) -> list[Decimal]:
    """Share a fill among the strategies; return what each then holds. A sale is a purchase of the opposite."""
    if signed < 0:
        return [-a for a in allocate([-a for a in alloc], [-w for w in wants], -signed)]
    after, pool = list(alloc), signed
    for s, want in enumerate(wants):
        if want < alloc[s]:
            pool += after[s] - want
            after[s] = want
    for nearer_to_zero in (True, False):
        for s, want in enumerate(wants):
            up_to = min(want, ZERO) if nearer_to_zero else want
            part = min(max(up_to - after[s], ZERO), pool)
            after[s] += part
            pool -= part
    for s in range(len(after)):
        part = min(max(-after[s], ZERO), pool)
        after[s] += part
        pool -= part
    wanting = [s for s, want in enumerate(wants) if want > 0]
    after[wanting[0] if wanting else 0] += pool
    return after


def allocate_by_hand(alloc: Sequence[Decimal], signed: Decimal, manual: int) -> list[Decimal]:
    """Share what a person did: first what it closes, of `manual` before the others, then the rest is manual's."""
    if signed < 0:
        return [-a for a in allocate_by_hand([-a for a in alloc], -signed, manual)]
    after, pool = list(alloc), signed
    for s in [manual, *range(len(after))]:
        part = min(max(-after[s], ZERO), pool)
        after[s] += part
        pool -= part
    after[manual] += pool
    return after


def allocate_closing(alloc: Sequence[Decimal], signed: Decimal, manual: int | None, qty_step: Decimal) -> list[Decimal]:
    """Share a bracket's fill by what each strategy holds, in whole steps; then in order, and only then manual's."""
    if signed > 0:
        return [-a for a in allocate_closing([-a for a in alloc], -signed, manual, qty_step)]
    own = [s for s, a in enumerate(alloc) if s != manual and a > 0]
    all_of_it = sum((alloc[s] for s in own), ZERO)
    closed = min(-signed, all_of_it)
    after, parts = list(alloc), ZERO
    for k, s in enumerate(own):
        of_these = sum((alloc[t] for t in own[: k + 1]), ZERO)
        up_to = closed if of_these == all_of_it else truncated(closed * of_these / all_of_it, qty_step)
        part = min(alloc[s], max(up_to - parts, ZERO))
        after[s] -= part
        parts += part
    rest = -signed - parts
    for s in [*own, *([manual] if manual is not None else [])]:
        part = min(max(after[s], ZERO), rest)
        after[s] -= part
        rest -= part
    after[manual or 0] -= rest
    return after


def _breakers(book: RefBook, bar: RefBar, params: RefParams) -> None:
    if bar.last_of_session and book.state != ACTIVE:
        book.state_sessions += 1
        needed = params.reduce_lifts_after_sessions
        if book.state == HALTED:
            needed = params.halt_lifts_after_sessions
        if needed > 0 and book.state_sessions >= needed and book.state != book.ordered_state:
            _enter(book, book.ordered_state)
    book.peak = max(book.peak, book.equity)

    drawdown = book.peak - book.equity
    if book.equity < 0 or (drawdown > 0 and drawdown >= params.max_drawdown * book.peak):
        if book.state != HALTED:
            _enter(book, HALTED)
    elif (
        book.state != HALTED
        and book.equity < book.prev_session_equity
        and book.prev_session_equity - book.equity >= params.max_daily_loss * book.prev_session_equity
    ):
        _enter(book, REDUCING)
    if bar.person_state is not None:
        book.ordered_state = bar.person_state
        if bar.person_state != book.state:
            _enter(book, bar.person_state)


def _enter(book: RefBook, state: int) -> None:
    """Enter a state, or restart its count.

    The high-water mark restarts when a halt is lifted. Orders are cancelled on entry, and stay so even where
    a person undoes the change at the same bar.
    """
    for order in book.orders:
        held = book.shares[order.instrument]
        reduces = order.remaining * held < 0 and abs(order.remaining) <= abs(held)
        if state == HALTED or (state == REDUCING and book.state != REDUCING and not reduces):
            order.status = "CANCELED" if order.status == "WORKING" else order.status
    if book.state == HALTED and state != HALTED:
        book.peak = book.equity
    book.state, book.state_sessions = state, 0


# --------------------------------------------------------------------------------------------------- decide


@dataclass(slots=True, kw_only=True)
class RefDecision:
    """What each strategy should hold at the next bar, all in that bar's units."""

    split: list[tuple[int, int]]
    ref: list[Decimal]
    shares: list[Decimal]  # held
    wants: list[list[Decimal]]  # [s][i]
    opinion: list[bool]  # does any strategy have one on this instrument


@exactly
def decide(
    book: RefBook,
    bar: RefBar,
    params: RefParams,
    scores: Sequence[Sequence[float]],
    volatility: Sequence[float],
    next_split: Sequence[tuple[int, int]],
) -> RefDecision:
    """Turn scores into the holdings that each strategy should have at the next bar."""
    n, strategies = len(bar.quotes), range(len(params.capital_shares))
    ref = [rounded(book.mark[i] * den / num) if num else book.mark[i] for i, (num, den) in enumerate(next_split)]
    gone = [num == 0 for num, _ in next_split]  # delisted by the next bar: as if it had left, with nothing held
    seen = replace(bar, quotes=[replace(q, left=q.left or g) for q, g in zip(bar.quotes, gone, strict=True)])
    shares, alloc = [], [[ZERO] * n for _ in strategies]
    for i in range(n):
        shares.append(split_shares(book.shares[i], next_split[i], bar.quotes[i].qty_step))
        for s, scaled in enumerate(split_allocations([a[i] for a in book.alloc], shares[i], next_split[i])):
            alloc[s][i] = scaled

    weight = [
        [size(book, seen, params, scores[s][i], volatility[i], s, i) if ref[i] > 0 else None for i in range(n)]
        for s in strategies
    ]
    _cap(book, params, weight, alloc, ref)

    wants = [list(held) for held in alloc]
    for s in strategies:
        for i in range(n):
            w = weight[s][i]
            if w is not None:
                notional = floored(book.equity * abs(w), MONEY)
                whole = floored(floored(notional / ref[i], SHARE), bar.quotes[i].qty_step)
                wants[s][i] = -whole if w < 0 else whole
    if book.equity > 0:
        _limit_turnover(book, bar, params, wants, alloc, shares, ref)
    return RefDecision(
        split=list(next_split),
        ref=ref,
        shares=shares,
        wants=wants,
        opinion=[any(weight[s][i] is not None for s in strategies) for i in range(n)],
    )


def size(
    book: RefBook, bar: RefBar, params: RefParams, score: float, volatility: float, s: int, i: int
) -> Decimal | None:
    """Return the weight before caps, a fraction in whole ppm; None is no opinion."""
    if not bar.quotes[i].traded or book.equity <= 0:
        return None
    if bar.quotes[i].left or (book.shares[i] < 0 and not params.allow_short):  # nobody is to be short: bought back
        return ZERO
    if math.isnan(score):
        return None
    score = min(max(round(score, 9), -1.0 if params.allow_short else 0.0), 1.0)
    base = max_position = float(params.max_position)
    if params.sizing == "equal_weight":
        members = range(len(bar.quotes)) if params.members is None else params.members[s]
        trading = sum(
            1
            for j in members
            if bar.quotes[j].traded and not bar.quotes[j].left and (book.shares[j] >= 0 or params.allow_short)
        )
        base = min(max_position, float(params.max_exposure) / trading)
    elif math.isnan(volatility):
        return None
    elif volatility != 0:
        base = max_position * min(1.0, params.target_volatility / volatility)
    whole = math.floor(params.capital_shares[s] * abs(score) * base * 1e6 + 0.5) * PPM
    return -whole if score < 0 else whole


def _cap(
    book: RefBook,
    params: RefParams,
    weight: list[list[Decimal | None]],
    alloc: list[list[Decimal]],
    ref: list[Decimal],
) -> None:
    if book.equity <= 0:
        return
    kept_in_all = ZERO
    for i in range(len(ref)):
        holds = [alloc[s][i] for s in range(len(weight)) if weight[s][i] is None]
        silent = sum((abs(q) if params.allow_short else max(q, ZERO) for q in holds), ZERO)
        kept = floored(floored(silent * ref[i], MONEY) / book.equity, PPM)
        kept_in_all += kept
        _shrink(weight, [i], max(ZERO, params.max_position - kept))
    _shrink(weight, list(range(len(ref))), max(ZERO, params.max_exposure - kept_in_all))


def _shrink(weight: list[list[Decimal | None]], columns: list[int], room: Decimal) -> None:
    """Where the weights of these instruments exceed the room, scale each down to fit."""
    total = sum((abs(row[i] or ZERO) for row in weight for i in columns), ZERO)
    if total > room:
        for row in weight:
            for i in columns:
                w = row[i]
                if w is not None:
                    row[i] = truncated(w * room / total, PPM)


def _limit_turnover(
    book: RefBook,
    bar: RefBar,
    params: RefParams,
    wants: list[list[Decimal]],
    alloc: list[list[Decimal]],
    shares: list[Decimal],
    ref: list[Decimal],
) -> None:
    traded = ZERO
    for i in range(len(ref)):
        target = sum((row[i] for row in wants), ZERO)
        traded += floored(abs(target - shares[i]) * ref[i], MONEY)
    turnover = floored(traded / book.equity, PPM)
    if turnover > params.max_turnover:
        for s, row in enumerate(wants):
            for i in range(len(ref)):
                if shares[i] < 0 and not params.allow_short:
                    continue
                change = (row[i] - alloc[s][i]) * params.max_turnover / turnover
                row[i] = alloc[s][i] + truncated(change, bar.quotes[i].qty_step)


# ----------------------------------------------------------------------------------------------------- plan


@exactly
def plan(book: RefBook, bar: RefBar, decision: RefDecision, params: RefParams) -> tuple[list[RefOrder], list[RefOrder]]:
    """Add to the book the orders for the next bar; return them and the working ones that were cancelled."""
    planned: list[RefOrder] = []
    for i, ref in enumerate(decision.ref):
        if book.state == HALTED or not decision.opinion[i] or ref <= 0:
            continue
        order = _plan_one(book, bar, decision, params, i)
        if order is not None:
            planned.append(order)
    cancelled = [order for order in book.orders if order.status != "WORKING"]
    book.orders = [order for order in book.orders if order.status == "WORKING"] + planned
    return planned, cancelled


def _plan_one(book: RefBook, bar: RefBar, decision: RefDecision, params: RefParams, i: int) -> RefOrder | None:
    held, ref = decision.shares[i], decision.ref[i]
    target = sum((row[i] for row in decision.wants), ZERO)
    working = [order for order in book.orders if order.instrument == i]
    remaining = [split_shares(o.remaining, decision.split[i], bar.quotes[i].qty_step) for o in working]
    step = bar.quotes[i].qty_step
    # Allocations may lie between two steps after a split; an order never does.
    delta = truncated(target - (held + sum(remaining, ZERO)), step)
    if delta * sum(remaining, ZERO) < 0:
        for order in working:
            order.status = "CANCELED"
        remaining = []
        delta = truncated(target - held, step)
    if book.state == REDUCING and delta > 0:
        working_buys = sum((r for r in remaining if r > 0), ZERO)
        delta = truncated(min(delta, max(-held - working_buys, ZERO)), step)
    if delta < 0 and (book.state == REDUCING or not params.allow_short):
        working_sells = -sum((r for r in remaining if r < 0), ZERO)
        delta = -min(-delta, max(held - working_sells, ZERO))
    if delta == 0:
        return None
    worth = floored(abs(delta) * ref, MONEY)
    if target != 0 and target * held >= 0:  # what closes is never too small
        if worth < params.min_order_notional:
            return None
        if held != 0 and worth < params.rebalance_band * book.equity:
            return None
    order = RefOrder(
        instrument=i,
        shares=delta,
        remaining=delta,
        wants=[row[i] for row in decision.wants],
        planned_split=decision.split[i],
    )
    _give_style(order, held, ref, bar.quotes[i].tick, params)
    return order


def _give_style(order: RefOrder, held: Decimal, ref: Decimal, tick: Decimal, params: RefParams) -> None:
    """Set kind, limit and stop; what makes a position smaller does not wait for a stop."""
    buying, opens = order.shares > 0, held * order.shares >= 0
    if "stop" in params.order_kind and not opens:
        return
    order.kind = params.order_kind
    collar, trigger = params.collar_bps / BPS, params.trigger_bps / BPS
    if "stop" in order.kind:
        order.stop = moved(ref, trigger, buying, tick)
    if order.kind == "limit":
        order.limit = moved(ref, collar, buying, tick)
    if order.kind == "stop_limit":
        order.limit = moved(order.stop, collar, buying, tick)


# ---------------------------------------------------------------------------------------------- many bars


@dataclass(slots=True, kw_only=True)
class RefStep:
    """What one bar left behind, in integers, with what happened on the way."""

    book: dict[str, Any]
    fills: list[RefFill]
    ended: list[RefOrder]
    planned: list[RefOrder]
    cancelled: list[RefOrder]


def run(
    bars: Sequence[RefBar],
    params: RefParams,
    scores: Sequence[Sequence[Sequence[float]] | None],
    volatility: Sequence[Sequence[float]],
    cash: Decimal,
) -> list[RefStep]:
    """Run the day loop; `scores[t][s][i]` and `volatility[t][i]` as known at the end of bar t.

    A bar whose scores are None is settled without a decision, as one behind a closed gate is.
    """
    n = len(bars[0].quotes)
    book = RefBook.opened(cash, n, len(params.capital_shares))
    steps = []
    for t, bar in enumerate(bars):
        fills, ended = settle(book, bar, params)
        planned: list[RefOrder] = []
        cancelled: list[RefOrder] = []
        decided = scores[t]
        if decided is not None:
            splits = bar.next_split
            if splits is None:
                splits = [q.split for q in bars[t + 1].quotes] if t + 1 < len(bars) else [(1, 1)] * n
            decision = decide(book, bar, params, decided, volatility[t], splits)
            planned, cancelled = plan(book, bar, decision, params)
        steps.append(
            RefStep(
                book=quanta(book),
                fills=fills,
                ended=ended,
                planned=[replace(order) for order in planned],  # as planned: the book's own change with the bars
                cancelled=cancelled,
            )
        )
    return steps


@exactly
def quanta(book: RefBook) -> dict[str, Any]:
    """Return the book as the integers of `tradecore.units`, for comparison."""
    return {
        "cash": e4(book.cash),
        "equity": e4(book.equity),
        "peak": e4(book.peak),
        "prev_session_equity": e4(book.prev_session_equity),
        "realised": e4(book.realised),
        "fees": e4(book.fees),
        "dividends": e4(book.dividends),
        "state": book.state,
        "state_sessions": book.state_sessions,
        "ordered_state": book.ordered_state,
        "qty": [e6(q) for q in book.shares],
        "mark": [e4(m) for m in book.mark],
        "stale": list(book.stale),
        "lots": [[(e6(lot.shares), e4(lot.cost), lot.opened_ns) for lot in lots] for lots in book.lots],
        "receivables": [sorted((day, e4(amount)) for day, amount in due.items()) for due in book.receivables],
        "alloc": [[e6(q) for q in row] for row in book.alloc],
        "orders": [order_quanta(order) for order in book.orders],
    }


def order_quanta(order: RefOrder) -> tuple[Any, ...]:
    """Return (instrument, quantity, remaining, age, planned split, wants, kind, limit, stop), amounts in integers."""
    wants = tuple(e6(want) for want in order.wants)
    style = (order.kind, e4(order.limit), e4(order.stop))
    return order.instrument, e6(order.shares), e6(order.remaining), order.age_bars, order.planned_split, wants, *style


def e4(value: Decimal) -> int:
    """Return dollars as quanta; a value between two quanta is a mistake of the day loop."""
    return _whole(value / MONEY)


def e6(value: Decimal) -> int:
    """Return shares as quanta; a value between two quanta is a mistake of the day loop."""
    return _whole(value / SHARE)


def _whole(value: Decimal) -> int:
    if value != value.to_integral_value():
        raise ArithmeticError(f"{value} is not a whole number of quanta")
    return int(value)


# ----------------------------------------------------------------------- indicators and signals, in floats


def sma(window: Sequence[float]) -> float:
    """Return the mean, summed in chronological order; NaN anywhere gives NaN."""
    total = 0.0
    for x in window:
        total += x
    return total / len(window)


def ema(window: Sequence[float], period: int) -> float:
    """Return the exponential average over the window, seeded with its first value; NaN anywhere gives NaN."""
    alpha = 2.0 / (period + 1)
    e = window[0]
    for x in window[1:]:
        e = e + alpha * (x - e)
    return e


def volatility(closes: Sequence[float], bars_per_year: float) -> float:
    """Return the annualised sample deviation of the log returns of these closes (k + 1 of them)."""
    returns = [_log_ratio(b, a) for a, b in pairwise(closes)]
    mean = sma(returns)
    squares = 0.0
    for r in returns:
        squares += (r - mean) * (r - mean)
    return math.sqrt(squares / (len(returns) - 1)) * math.sqrt(bars_per_year)


def _log_ratio(after: float, before: float) -> float:
    return math.log(after / before) if after == after and before == before else NAN


def ma_crossover_window(long_period: int, kind: str, slope_bars: int = 5) -> int:
    """Return how many rows the strategy looks at."""
    return (long_period if kind == "sma" else 4 * long_period) + slope_bars


def ma_crossover(
    window: Sequence[float],
    short_period: int,
    long_period: int,
    threshold: float,
    kind: str,
    slope_bars: int = 5,
) -> float:
    """Return the score of a moving-average crossover on adjusted closes: 0, the confidence, or NaN.

    `window` has exactly `ma_crossover_window` rows. 0 = flat (fast at or below slow), NaN = no opinion
    (a NaN in the window, or a cross without enough confidence).
    """
    if any(math.isnan(x) for x in window):
        return NAN

    def average(rows: Sequence[float], period: int) -> float:
        return sma(rows[-period:]) if kind == "sma" else ema(rows, period)

    fast, slow = average(window, short_period), average(window, long_period)
    if fast <= slow:
        return 0.0
    slow_before = average(window[: len(window) - slope_bars], long_period)
    recent = window[-(short_period + 1) :]
    rises = sum(1 for a, b in pairwise(recent) if b - a > 0)
    separation = min(1.0, max(0.0, (fast / slow - 1.0) / 0.02))
    breadth = rises / short_period
    slope = 1.0 if slow > slow_before else 0.0
    position = 1.0 if window[-1] >= fast else 0.0
    confidence = 0.4 * separation + 0.2 * breadth + 0.2 * slope + 0.2 * position
    return confidence if confidence >= threshold else NAN


def adjustment_factors(
    closes: Sequence[float], splits: Sequence[tuple[int, int]], dividends: Sequence[float]
) -> list[float]:
    """Return the forward adjustment factor of each bar: adjusted close = raw close * factor."""
    factors = [1.0]
    for t in range(1, len(closes)):
        factor = factors[-1]
        num, den = splits[t]
        if num != den:
            factor = factor * (num / den)
        if dividends[t] != 0:
            factor = factor * (1.0 + dividends[t] / closes[t])
        factors.append(factor)
    return factors
