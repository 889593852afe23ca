"""How each kind of order and each bracket meets a bar: small cases by hand, a buy and its mirror image."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from tradecore.backtest import step
from tradecore.config_models import Execution
from tradecore.config_risk import Risk
from tradecore.model import (
    CARRY_REST,
    CASH,
    EQUITY,
    EVENT_NAMES,
    F_PRICE,
    F_QTY,
    FEES,
    N_ORDERS,
    O_DECIDED_NS,
    O_INSTR,
    O_LIMIT,
    O_QTY,
    O_REM,
    O_REMAINDER,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
    O_TYPE,
    ORDER_TYPES,
    PEAK,
    PREV_SESSION_EQUITY,
    REALISED,
    Book,
    Instruments,
    Journal,
    Market,
    StepParams,
    new_book,
)
from tradecore.portfolio._kernels import add_lot

CENT = 100
FIXED = Instruments(np.array([CENT]), np.array([1_000_000]))
FREE = {"slippage_bps": 0, "commission_bps": 0, "participation_frac": 1, "remainder": "carry"}


def params_of(**execution: object) -> StepParams:
    return step.step_params(Risk(allow_short=True), Execution(**{**FREE, **execution}))  # type: ignore[arg-type]


def bar_of(prices: str, *, volume: int = 1_000, days: int = 0) -> Market:
    """Return one bar of one name from 'open high low close' in dollars."""
    open_e4, high, low, close = (np.array([int(Decimal(x) * 10_000)]) for x in prices.split())
    assert low <= min(open_e4, close) <= max(open_e4, close) <= high
    one, zero = np.ones(1, np.int64), np.zeros(1, np.int64)
    return Market(
        open=open_e4,
        high=high,
        low=low,
        close=close,
        volume=np.array([volume]),
        traded=np.array([True]),
        split_num=one,
        split_den=one.copy(),
        dividend=zero,
        pay_day=zero.copy(),
        left=np.array([False]),
        head=np.array([2, 2, int(days > 0), 1, 0, -1, days, 0], np.int64),
    )


def book_of(
    *, order: int = 0, kind: str = "market", limit: str = "0", stop: str = "0", held: int = 0, at: str = "100"
) -> Book:
    """Return a book with 100,000 USD, a working order for so many shares, and shares held at a cost each."""
    book = new_book(cash_e4=1_000_000_000, n_instruments=1, n_strategies=1, n_lots=4, n_orders=4)
    book.mark[0] = int(Decimal(at) * 10_000)
    if held:
        book.qty[0] = book.alloc[0, 0] = held * 1_000_000
        add_lot(book, 0, held * 1_000_000, held * int(Decimal(at) * 10_000), True, 1)
        book.acct[[EQUITY, PEAK, PREV_SESSION_EQUITY]] += held * int(Decimal(at) * 10_000)
    if order:
        row = book.order[0]
        row[O_INSTR], row[O_QTY], row[O_REM] = 0, order * 1_000_000, order * 1_000_000
        row[O_TYPE], row[O_DECIDED_NS], row[O_SPLIT_NUM], row[O_SPLIT_DEN] = ORDER_TYPES.index(kind), 1, 1, 1
        row[O_REMAINDER] = CARRY_REST
        row[O_LIMIT], row[O_STOP] = int(Decimal(limit) * 10_000), int(Decimal(stop) * 10_000)
        book.want[0, 0] = (held + order) * 1_000_000
        book.acct[N_ORDERS] = 1
    return book


def fills(journal: Journal) -> list[tuple[int, str]]:
    """Return (shares, price in dollars) of each fill."""
    return [(int(f[F_QTY]) // 1_000_000, f"{f[F_PRICE] / 10_000:.2f}") for f in journal.fills]


def mirrored(text: str) -> str:
    """Return 'open high low close' reflected at 100: what rises falls."""
    first, high, low, last = (Decimal(200) - Decimal(x) for x in text.split())
    return f"{first} {low} {high} {last}"


def reflected(price: str) -> str:
    return str(Decimal(200) - Decimal(price)) if Decimal(price) else price


#  kind, limit, stop, bar, price of the fill of a buy ('': none)
ORDERS = [
    ("market", "0", "0", "100 101 99 100.5", "100.00"),
    ("market_on_close", "0", "0", "100 101 99 100.5", "100.50"),
    ("limit", "99", "0", "98.5 99.5 98 99", "98.50"),  # the open is better than the limit
    ("limit", "99", "0", "100 101 98.99 100", "99.00"),  # the market went through it
    ("limit", "99", "0", "100 101 99 100", ""),  # touched is not enough
    ("limit", "99", "0", "100 101 99.5 100", ""),
    ("stop", "0", "101", "100 101 99 100", "101.00"),
    ("stop", "0", "101", "102 103 100 102", "102.00"),  # a gap through the stop fills at the open
    ("stop", "0", "101", "100 100.99 99 100", ""),
    ("stop_limit", "101.5", "101", "100 103 99 102", "101.00"),
    ("stop_limit", "101.5", "101", "101.2 103 101 102", "101.20"),
    ("stop_limit", "101.5", "101", "102 103 101.6 102", ""),  # beyond the limit, and it does not come back
    ("stop_limit", "101.5", "101", "102 103 101.49 102", "101.50"),  # it does
    ("stop_limit", "101.5", "101", "100 100.5 99 100", ""),
    ("trailing_stop", "0", "101", "100 101 99 100", "101.00"),
    (
        "trailing_stop",
        "0",
        "101",
        "100 100.5 98 99",
        "98.98",
    ),  # low 98: the stop comes down to 98.98; the close is above
    ("trailing_stop", "0", "101", "100 100.5 99 99.5", ""),  # low 99: the stop comes down to 99.99
]


@pytest.mark.parametrize(("kind", "limit", "stop", "bar", "price"), ORDERS)
def test_order_meets_the_bar_as_its_kind_says(kind: str, limit: str, stop: str, bar: str, price: str):
    params = params_of(stop_trigger_bps=100)
    _, journal = step.settle(book_of(order=10, kind=kind, limit=limit, stop=stop), bar_of(bar), FIXED, params)
    assert fills(journal) == ([(10, price)] if price else [])
    if kind == "trailing_stop":
        return  # its distance is a part of the price, which has no mirror image
    sale = book_of(order=-10, kind=kind, limit=reflected(limit), stop=reflected(stop))
    _, journal = step.settle(sale, bar_of(mirrored(bar)), FIXED, params)
    assert fills(journal) == ([(-10, f"{Decimal(200) - Decimal(price):.2f}")] if price else [])


def test_trailing_stop_follows_and_never_goes_back():
    params = params_of(stop_trigger_bps=100)
    book, journal = step.settle(
        book_of(order=-10, kind="trailing_stop", stop="99"), bar_of("100 102 100 101.5"), FIXED, params
    )
    assert fills(journal) == []
    assert book.order[0, O_STOP] == 1_009_800, "1 % below the high of 102"
    book, journal = step.settle(book, bar_of("101.5 101.6 101 101.2"), FIXED, params)
    assert book.order[0, O_STOP] == 1_009_800
    _, journal = step.settle(book, bar_of("101 101.2 100.5 100.6"), FIXED, params)
    assert fills(journal) == [(-10, "100.98")]


def test_rest_of_a_triggered_stop_is_a_market_order():
    book, journal = step.settle(
        book_of(order=10, kind="stop", stop="101"), bar_of("100 102 99 101", volume=4), FIXED, params_of()
    )
    assert fills(journal) == [(4, "101.00")]
    _, journal = step.settle(book, bar_of("97 98 96 97"), FIXED, params_of())
    assert fills(journal) == [(6, "97.00")]


def test_slippage_worsens_a_stop_and_never_a_limit():
    params = params_of(slippage_bps=100)
    _, journal = step.settle(book_of(order=10, kind="stop", stop="101"), bar_of("100 102 99 101"), FIXED, params)
    assert fills(journal) == [(10, "102.01")]
    _, journal = step.settle(book_of(order=10, kind="limit", limit="99.5"), bar_of("99 100 98 99"), FIXED, params)
    assert fills(journal) == [(10, "99.50")]


#  bar, price at which ten shares held at 100 are sold ('': kept), with a stop at 95 and a profit at 110
BRACKETS = [
    ("100 105 96 101", ""),
    ("100 105 95 101", "95.00"),
    ("94 105 93 101", "94.00"),  # a gap through the stop: the open
    ("100 110 96 101", ""),  # a limit that was only touched
    ("100 110.01 96 101", "110.00"),
    ("112 113 111 112", "112.00"),  # a gap through the profit: the open, which is better
    ("100 111 94 101", "95.00"),  # both in one bar: the stop was first
    ("112 113 90 95", "112.00"),  # but the open is first for certain
]


@pytest.mark.parametrize(("bar", "price"), BRACKETS)
def test_bracket_closes_what_is_held(bar: str, price: str):
    params = params_of(stop_loss_frac=0.05, take_profit_frac=0.10)
    book, journal = step.settle(book_of(held=10), bar_of(bar), FIXED, params)
    assert fills(journal) == ([(-10, price)] if price else [])
    assert book.qty[0] == book.alloc.sum() == (0 if price else 10_000_000)
    kinds = [EVENT_NAMES[e[0]] for e in journal.events]
    assert (("stop_loss" in kinds), ("take_profit" in kinds)) == (
        bool(price) and Decimal(price) < 100,
        bool(price) and Decimal(price) > 100,
    )
    book, journal = step.settle(book_of(held=-10), bar_of(mirrored(bar)), FIXED, params)
    assert fills(journal) == ([(10, f"{Decimal(200) - Decimal(price):.2f}")] if price else [])
    gain = (Decimal(price) - 100) * 10 if price else Decimal(0)
    assert book.acct[REALISED] == gain * 10_000


def test_bracket_of_what_the_open_bought_counts_at_the_same_bar():
    params = params_of(stop_loss_frac=0.05)
    _, journal = step.settle(book_of(order=10), bar_of("100 101 94 99"), FIXED, params)
    assert fills(journal) == [(10, "100.00"), (-10, "95.00")]


def test_what_was_bought_within_the_bar_has_its_stop_and_a_profit_only_at_the_close():
    both = params_of(stop_loss_frac=0.05, take_profit_frac=0.02)
    bought = {"order": 10, "kind": "limit", "limit": "99"}
    _, journal = step.settle(book_of(**bought), bar_of("100 104 98 100"), FIXED, both)  # type: ignore[arg-type]
    assert fills(journal) == [(10, "99.00")], "the high may have been before the fill"
    _, journal = step.settle(book_of(**bought), bar_of("100 104 98 103"), FIXED, both)  # type: ignore[arg-type]
    assert fills(journal) == [(10, "99.00"), (-10, "100.98")], "the close is after it"
    _, journal = step.settle(book_of(**bought), bar_of("100 104 94 103"), FIXED, both)  # type: ignore[arg-type]
    assert fills(journal) == [(10, "99.00"), (-10, "94.05")], "the stop may have been reached, so it was"


def test_bracket_that_the_volume_cuts_goes_on_at_the_next_bar():
    params = params_of(stop_loss_frac=0.05)
    book, journal = step.settle(book_of(held=10), bar_of("100 101 95 96", volume=4), FIXED, params)
    assert fills(journal) == [(-4, "95.00")]
    _, journal = step.settle(book, bar_of("93 94 92 93"), FIXED, params)
    assert fills(journal) == [(-6, "93.00")]


def test_a_short_pays_for_borrowing_and_cash_earns_what_it_does_not_secure():
    """3 days of 360: 10,000 USD short at 3.6 % is 3 USD; 100,000 - 10,000 at 1.2 % is 9 USD."""
    params = params_of(borrow_frac=0.036, interest_credit_frac=0.012)
    book, journal = step.settle(book_of(held=-100), bar_of("100 100 100 100", days=3), FIXED, params)
    told = {EVENT_NAMES[e[0]]: int(e[3]) for e in journal.events}
    assert told == {"borrow_cost": -30_000, "interest": 90_000}
    assert book.acct[CASH] == 1_000_000_000 + 60_000
    assert book.acct[FEES] == -60_000
    same, _ = step.settle(book_of(held=-100), bar_of("100 100 100 100"), FIXED, params)
    assert same.acct[CASH] == 1_000_000_000, "within a session no day passes"


def test_margin_lends_so_much_and_the_debt_bears_interest():
    """Half of 100,000 USD of equity may be borrowed: 1,500 shares at 100 USD and no more."""
    params = params_of(margin_frac=0.5, interest_debit_frac=0.072)
    book, journal = step.settle(book_of(order=1_600), bar_of("100 100 100 100", volume=9_999), FIXED, params)
    assert fills(journal) == [(1_500, "100.00")]
    assert book.acct[CASH] == -500_000_000
    book, _ = step.settle(book, bar_of("100 100 100 100", days=1), FIXED, params)
    assert book.acct[CASH] == -500_000_000 - 100_000, "a day at 7.2 % on 50,000 USD is 10 USD"
