"""The reference checked by hand: a small case per rule of docs/STEP.md, with the arithmetic beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal as D

import pytest

from reference import (
    ACTIVE,
    HALTED,
    NAN,
    REDUCING,
    RefBar,
    RefBook,
    RefLot,
    RefOrder,
    RefParams,
    RefQuote,
    adjustment_factors,
    affordable,
    allocate,
    decide,
    ema,
    fee,
    fill_price,
    floored,
    ma_crossover,
    ma_crossover_window,
    plan,
    quanta,
    rounded,
    run,
    settle,
    sma,
    truncated,
    volatility,
)

FREE = {
    "slippage_bps": D(0),
    "commission_bps": D(0),
    "max_drawdown": D("0.99"),
    "max_daily_loss": D("0.99"),
    "min_order_notional": D(0),
    "rebalance_band": D(0),
    "sizing": "equal_weight",
}


def params(strategies: int = 1, **changes: object) -> RefParams:
    """Return parameters without costs and with limits out of the way, unless said otherwise."""
    share = [1.0 / strategies] * strategies
    return RefParams(**{"capital_shares": share, **FREE, **changes})  # type: ignore[arg-type]


def quote(price: str, close: str | None = None, **changes: object) -> RefQuote:
    last = D(close or price)
    p = D(price)
    values = {
        "open": p,
        "high": max(p, last),
        "low": min(p, last),
        "close": last,
        "volume": 1_000_000,
        **changes,
    }
    return RefQuote(**values)  # type: ignore[arg-type]


def bar(*quotes: RefQuote, day: int = 10, **changes: object) -> RefBar:
    return RefBar(day=day, bar_end_ns=day * 1000, quotes=list(quotes), **changes)  # type: ignore[arg-type]


def holding(cash: str, *positions: tuple[str, str, str], strategies: int = 1) -> RefBook:
    """Return a book of (shares, mark, cost) positions of the first strategy, its peak at its equity."""
    book = RefBook.opened(D(cash), len(positions), strategies)
    for i, (shares, mark, cost) in enumerate(positions):
        book.shares[i] = book.alloc[0][i] = D(shares)
        book.mark[i] = D(mark)
        if D(shares):
            book.lots[i] = [RefLot(shares=D(shares), cost=D(cost), opened_ns=1)]
    equity = book.cash + sum(q * m for q, m in zip(book.shares, book.mark, strict=True))
    book.equity = book.peak = book.prev_session_equity = equity
    return book


def order(shares: str, *wants: str, i: int = 0, split: tuple[int, int] = (1, 1)) -> RefOrder:
    return RefOrder(
        instrument=i,
        shares=D(shares),
        remaining=D(shares),
        wants=[D(w) for w in wants],
        planned_split=split,
    )


# ------------------------------------------------------------------------------------------------- rounding


def test_rounding_is_half_away_from_zero_floor_down_truncation_inward():
    assert [rounded(D(x)) for x in ("0.00005", "-0.00005", "0.00004")] == [D("0.0001"), D("-0.0001"), 0]
    assert [floored(D(x), D(1)) for x in ("1.9", "-1.1")] == [1, -2]
    assert [truncated(D(x), D(1)) for x in ("1.9", "-1.9")] == [1, -1]


# --------------------------------------------------------------------------------------------------- settle


def test_session_start_takes_yesterdays_equity_and_a_deposit_is_no_gain():
    book = RefBook.opened(D(1000), 1, 1)
    book.equity = D(990)
    book.cash = D(990)
    settle(book, bar(quote("10"), deposit=D(50)), params())
    assert (book.cash, book.prev_session_equity, book.peak) == (1040, 1040, 1050)
    settle(book, bar(quote("10"), day=11, first_of_session=False, deposit=D(5)), params())
    assert (book.prev_session_equity, book.peak) == (1045, 1055)


def test_split_pays_cash_in_lieu_of_what_the_step_cuts_off():
    book = holding("0", ("7", "10", "60"))
    settle(book, bar(quote("6.67", split=(3, 2))), params())
    # 7 * 3/2 = 10.5 -> 10 shares; mark 10 * 2/3 = 6.6667; in lieu 70 - 66.667 = 3.333
    assert book.shares[0] == 10
    assert book.cash == book.realised == D("3.3330")
    assert [(lot.shares, lot.cost) for lot in book.lots[0]] == [(10, 60)]
    assert book.alloc[0][0] == 10


def test_split_without_a_rest_moves_no_cash_even_where_the_mark_is_rounded():
    book = holding("0", ("9", "10", "60"))
    settle(book, bar(quote("3.33", traded=False, split=(3, 1))), params())
    assert (book.shares[0], book.mark[0], book.cash, book.stale[0]) == (27, D("3.3333"), 0, 1)
    assert book.equity == D("89.9991")


def test_split_difference_of_lots_is_taken_from_the_newest_and_costs_stay():
    book = holding("0", ("9", "10", "0"))
    lots = (("3", "30"), ("5", "60"), ("1", "9"))
    book.lots[0] = [RefLot(shares=D(q), cost=D(c), opened_ns=k) for k, (q, c) in enumerate(lots)]
    settle(book, bar(quote("20", split=(1, 2))), params())
    # 9/2 -> 4; lots 1.5 + 2.5 + 0.5 = 4.5: half a share too many comes from the newest
    assert [(lot.shares, lot.cost) for lot in book.lots[0]] == [(D("1.5"), 30), (D("2.5"), 60)]  # the rest is dropped
    settle(book, bar(quote("20", split=(1, 3)), day=11), params())
    # 4/3 -> 1; lots 0.5 + 0.833333 + 0 = 1.333333: 0.333333 comes from the second
    assert [lot.shares for lot in book.lots[0]] == [D("0.5"), D("0.5")]
    assert book.realised == 10 + 20 - 9  # cash in lieu of 1/2 and 1/3 share, less the lot that went


def test_split_difference_of_lots_goes_to_the_newest():
    book = holding("0", ("2", "10", "0"))
    book.lots[0] = [RefLot(shares=D(1), cost=D(1), opened_ns=k) for k in range(2)]
    settle(book, bar(quote("6", split=(5, 3), qty_step=D("0.000001"))), params())
    # 10/3 = 3.333333; lots 1.666666 twice: one quantum is missing
    assert [lot.shares for lot in book.lots[0]] == [D("1.666666"), D("1.666667")]


def test_split_of_allocations_sums_to_the_position():
    book = holding("0", ("10", "10", "1"), strategies=3)
    for s, held in enumerate(("0", "5", "5")):
        book.alloc[s][0] = D(held)
    settle(book, bar(quote("3", split=(7, 3), qty_step=D("0.000001"))), params(3))
    # 70/3 = 23.333333; 35/3 = 11.666666 twice: the missing quantum goes to the first that holds
    assert [a[0] for a in book.alloc] == [0, D("11.666667"), D("11.666666")]
    settle(book, bar(quote("30", split=(1, 20)), day=11), params(3))
    # 23.333333/20 -> 1; 0.583333 twice = 1.166666: 0.166666 is taken from the first that holds
    assert [a[0] for a in book.alloc] == [0, D("0.416667"), D("0.583333")]


def test_working_order_is_scaled_by_actual_over_planned():
    still = {"traded": False}
    carry = params(remainder="carry")
    book = RefBook.opened(D(1000), 4, 1)
    book.orders = [
        order("10", "10", i=0, split=(2, 1)),  # planned with the split that came: unchanged
        order("10", "10", i=1, split=(2, 1)),  # planned with one that did not come
        order("7", "7", i=2),  # came unannounced, one for two
        order("1", "1", i=3),  # nothing left
    ]
    splits = ((2, 1), (1, 1), (1, 2), (1, 2))
    _, ended = settle(book, bar(*(quote("5", split=s, **still) for s in splits)), carry)
    assert [(o.shares, o.wants[0]) for o in book.orders] == [(10, 10), (5, 5), (3, D("3.5"))]
    assert all(o.planned_split == (1, 1) for o in book.orders)
    assert [(o.instrument, o.status) for o in ended] == [(3, "CANCELED")]


def test_dividend_is_owed_until_its_pay_day_and_paid_now_where_that_is_unknown():
    book = holding("0", ("10", "10", "100"), ("10", "10", "100"), ("10", "10", "100"))
    pays = {"dividend": D("0.123456")}
    day = bar(quote("10", **pays, pay_day=12), quote("10", **pays), quote("10", **pays, pay_day=10))
    settle(book, day, params())
    assert book.cash == D("2.4692")  # 1.23456 rounded, twice
    assert book.dividends == D("3.7038")
    assert book.receivables[0] == {12: D("1.2346")}
    assert book.equity == 300 + D("3.7038")
    settle(book, bar(*[quote("10")] * 3, day=11), params())
    assert book.cash == D("2.4692")
    settle(book, bar(*[quote("10")] * 3, day=13), params())
    assert (book.cash, book.receivables[0]) == (D("3.7038"), {})
    assert book.equity == 300 + D("3.7038")


def test_dividend_counts_on_shares_after_the_split():
    book = holding("0", ("10", "10", "100"))
    settle(book, bar(quote("5", split=(2, 1), dividend=D("0.5"))), params())
    assert book.cash == 10


def test_fill_price_is_rounded_away_from_us():
    q = quote("10.00")
    assert fill_price(q, True, D(2)) == D("10.01")  # 10.002
    assert fill_price(q, False, D(2)) == D("9.99")  # 9.998
    assert fill_price(q, True, D(0)) == fill_price(q, False, D(0)) == 10
    assert fill_price(quote("0.01"), False, D(5000)) == D("0.01")  # at least one tick
    assert fill_price(quote("10.00", tick=D("0.05")), False, D(2)) == D("9.95")


def test_fee_is_by_value_and_by_share_with_a_minimum():
    p = params(commission_bps=D(1), commission_per_share=D("0.005"), commission_min=D(1))
    assert fee(D(10), D(1000), p) == 1  # 0.10 + 0.05
    assert fee(D(1000), D(10000), p) == 6  # 1 + 5


def test_buy_is_cut_to_the_cash_with_its_fee():
    p = params(commission_bps=D(100))
    assert affordable(D(1000), D(10), D(200), D(1), p) == 99  # 99 * 10.1 = 999.9
    assert affordable(D(1010), D(10), D(200), D(1), p) == 100
    assert affordable(D(5), D(10), D(200), D(1), p) == 0
    assert affordable(D(-5), D(10), D(200), D(1), p) == 0
    book = RefBook.opened(D(1000), 1, 1)
    book.orders = [order("200", "200")]
    _, ended = settle(book, bar(quote("10")), p)
    assert (book.shares[0], book.cash, ended[0].status) == (99, D("0.1"), "CANCELED")


def test_sells_go_before_buys_and_pay_for_them():
    book = holding("0", ("0", "10", "0"), ("10", "10", "90"))
    book.orders = [order("10", "10", i=0), order("-10", "0", i=1)]
    fills, ended = settle(book, bar(quote("10"), quote("10")), params())
    assert [f.shares for f in fills] == [-10, 10]
    assert [o.status for o in ended] == ["FILLED", "FILLED"]
    assert (book.cash, book.realised) == (0, 10)


def test_participation_cuts_a_fill_and_is_shared_by_our_orders():
    book = RefBook.opened(D(10_000), 1, 1)
    book.orders = [order("8", "8"), order("8", "16")]
    fills, ended = settle(book, bar(quote("10", volume=109)), params())
    assert [f.shares for f in fills] == [8, 2]  # floor(10.9) = 10
    assert [(o.status, o.remaining) for o in ended] == [("FILLED", 0), ("CANCELED", 6)]


@pytest.mark.parametrize(
    ("quoted", "cash", "status"),
    [
        ({"traded": False}, "1000", "EXPIRED"),
        ({"volume": 9}, "1000", "EXPIRED"),  # the market offered nothing
        ({}, "5", "CANCELED"),  # the cash did not allow any
        ({"volume": 10}, "1000", "CANCELED"),  # the rest after a partial fill
    ],
)
def test_rest_of_a_day_order_ends_with_the_bar(quoted: dict[str, object], cash: str, status: str):
    book = RefBook.opened(D(cash), 1, 1)
    book.orders = [order("8", "8")]
    _, ended = settle(book, bar(quote("10", **quoted)), params())
    assert ([o.status for o in ended], book.orders) == ([status], [])


def test_carried_rest_grows_old_and_expires():
    p = params(remainder="carry", max_order_age_bars=3)
    book = RefBook.opened(D(1000), 1, 1)
    book.orders = [order("8", "8")]
    settle(book, bar(quote("10", volume=20)), p)
    assert [(o.remaining, o.age_bars) for o in book.orders] == [(6, 1)]
    settle(book, bar(quote("10", traded=False), day=11), p)
    assert [(o.remaining, o.age_bars) for o in book.orders] == [(6, 2)]
    _, ended = settle(book, bar(quote("10", volume=20), day=12), p)
    assert ([(o.status, o.remaining) for o in ended], book.orders) == ([("EXPIRED", 4)], [])
    assert book.shares[0] == 4


def test_sell_cut_to_the_position_is_cancelled_even_when_carried():
    book = holding("0", ("5", "10", "40"))
    book.orders = [order("-8", "0")]
    fills, ended = settle(book, bar(quote("10")), params(remainder="carry"))
    assert ([f.shares for f in fills], ended[0].status, book.shares[0]) == ([-5], "CANCELED", 0)


def test_lots_are_sold_first_in_first_out_with_rounded_parts():
    book = holding("0", ("6", "10", "0"))
    lots = (("3", "10"), ("3", "20"))
    book.lots[0] = [RefLot(shares=D(q), cost=D(c), opened_ns=k) for k, (q, c) in enumerate(lots)]
    book.orders = [order("-4", "2")]
    settle(book, bar(quote("10")), params())
    # cost 10 + round(20 / 3) = 16.6667
    assert book.realised == D("23.3333")
    assert [(lot.shares, lot.cost) for lot in book.lots[0]] == [(2, D("13.3333"))]


def test_two_buys_of_a_bar_are_one_lot_and_fees_are_no_cost():
    book = RefBook.opened(D(1000), 1, 1)
    p = params(commission_bps=D(0), commission_min=D(1))
    book.orders = [order("3", "3"), order("4", "7")]
    settle(book, bar(quote("10")), p)
    assert book.lots[0] == [RefLot(shares=D(7), cost=D(70), opened_ns=10_000)]
    assert (book.fees, book.cash) == (2, 928)
    book.orders = [order("1", "8")]
    settle(book, bar(quote("10"), day=11), p)
    assert [lot.shares for lot in book.lots[0]] == [7, 1]


@pytest.mark.parametrize(
    ("alloc", "wants", "signed", "after"),
    [
        ("0 0 0", "5 3 2", "10", "5 3 2"),
        ("0 0 0", "5 3 2", "6", "5 1 0"),  # in configured order
        ("0 8 0", "5 3 4", "4", "5 3 4"),  # the second gives 5, the pool is 9
        ("0 8 0", "5 3 4", "1", "5 3 1"),  # and 6 here
        ("8 0 5", "2 3 1", "-7", "2 3 1"),  # the second takes 3, the pool is 10
        ("8 0 5", "2 3 1", "-2", "3 3 5"),  # of 5 the first gives all
        ("5 0 0", "5 0 0", "4", "9 0 0"),  # more than asked: the first with a want
        ("0 5 0", "0 5 0", "4", "0 9 0"),
        ("0 0 0", "0 0 0", "4", "4 0 0"),  # nobody asked
        ("1 2 3", "1 2 3", "-4", "0 0 2"),  # nobody wants to sell: in order, as far as they hold
    ],
)
def test_fill_is_allocated_by_the_stated_rule(alloc: str, wants: str, signed: str, after: str):
    held = [D(x) for x in alloc.split()]
    result = allocate(held, [D(x) for x in wants.split()], D(signed))
    assert result == [D(x) for x in after.split()]
    assert sum(result) == sum(held) + D(signed)


def test_mark_of_a_name_without_a_bar_stays_and_is_stale():
    book = holding("0", ("5", "10", "40"), ("5", "10", "40"))
    settle(book, bar(quote("11", "12"), quote("99", traded=False)), params())
    assert (book.mark, book.stale, book.equity) == ([12, 10], [0, 1], 110)
    settle(book, bar(quote("11", "12"), quote("99", traded=False), day=11), params())
    assert book.stale == [0, 2]
    settle(book, bar(quote("11", "12"), quote("9"), day=12), params())
    assert (book.mark, book.stale) == ([12, 9], [0, 0])


# --------------------------------------------------------------------------------------------------- states


def test_daily_loss_reduces_cancels_buys_and_lifts_after_its_sessions():
    p = params(max_daily_loss=D("0.03"), reduce_lifts_after_sessions=1, remainder="carry")
    book = holding("0", ("10", "100", "1000"), ("10", "100", "1000"))
    book.orders = [order("5", "15", i=0), order("-5", "5", i=1)]
    at = quote("100", "97", volume=0)
    _, ended = settle(book, bar(at, at), p)  # 60 of 2000 is 3 %
    assert (book.state, book.state_sessions) == (REDUCING, 0)
    assert [(o.instrument, o.status) for o in ended] == [(0, "CANCELED")]
    assert [o.instrument for o in book.orders] == [1]
    again = quote("97", "94", volume=0)
    settle(book, bar(again, again, day=11, last_of_session=False), p)  # 60 of 1940: the count restarts
    assert (book.state, book.state_sessions) == (REDUCING, 0)
    better = quote("95", volume=0)
    settle(book, bar(better, better, day=11, first_of_session=False), p)
    assert (book.state, book.state_sessions) == (ACTIVE, 0)


def test_daily_loss_one_quantum_short_of_the_limit_does_nothing():
    book = holding("0.0001", ("10", "100", "1000"))
    settle(book, bar(quote("97")), params(max_daily_loss=D("0.03")))
    assert book.state == ACTIVE


def test_count_of_reducing_restarts_with_a_new_loss():
    p = params(max_daily_loss=D("0.03"), reduce_lifts_after_sessions=2)
    book = holding("0", ("10", "100", "1000"))
    states = []
    for day, price in enumerate(("97", "97", "94", "94", "94")):
        settle(book, bar(quote(price), day=day), p)
        states.append((book.state, book.state_sessions))
    assert states == [(REDUCING, 0), (REDUCING, 1), (REDUCING, 0), (REDUCING, 1), (ACTIVE, 0)]


def test_drawdown_halts_cancels_all_and_lifts_with_a_new_peak():
    p = params(max_drawdown=D("0.15"), halt_lifts_after_sessions=2, remainder="carry")
    book = holding("0", ("10", "100", "1000"))
    book.orders = [order("-5", "5")]
    _, ended = settle(book, bar(quote("85", volume=0)), p)
    assert (book.state, [o.status for o in ended], book.orders) == (HALTED, ["CANCELED"], [])
    settle(book, bar(quote("80"), day=11), p)
    assert (book.state, book.state_sessions, book.peak) == (HALTED, 1, 1000)
    settle(book, bar(quote("90"), day=12), p)
    assert (book.state, book.state_sessions, book.peak) == (ACTIVE, 0, 900)


def test_halt_without_a_count_is_lifted_by_a_person_only():
    p = params(max_drawdown=D("0.15"))
    book = holding("0", ("10", "100", "1000"))
    for day in range(5):
        settle(book, bar(quote("80"), day=day), p)
    assert (book.state, book.state_sessions) == (HALTED, 4)
    settle(book, bar(quote("80"), day=5, person_state=ACTIVE), p)
    assert (book.state, book.state_sessions, book.peak) == (ACTIVE, 0, 800)
    settle(book, bar(quote("80"), day=6, person_state=HALTED), p)
    assert book.state == HALTED


def test_a_halt_that_a_person_ordered_is_lifted_by_a_person_only():
    p = params(halt_lifts_after_sessions=1)
    book = holding("0", ("10", "100", "1000"))
    settle(book, bar(quote("100"), day=1, person_state=HALTED), p)
    for day in range(2, 5):
        settle(book, bar(quote("100"), day=day), p)
    assert (book.state, book.state_sessions, book.ordered_state) == (HALTED, 3, HALTED)
    settle(book, bar(quote("100"), day=5, person_state=ACTIVE), p)
    assert (book.state, book.ordered_state) == (ACTIVE, ACTIVE)


def test_a_breakers_halt_ends_in_the_reduce_only_that_a_person_ordered():
    p = params(max_drawdown=D("0.15"), halt_lifts_after_sessions=1)
    book = holding("0", ("10", "100", "1000"))
    settle(book, bar(quote("100"), day=1, person_state=REDUCING), p)
    settle(book, bar(quote("80"), day=2), p)
    assert (book.state, book.ordered_state) == (HALTED, REDUCING)
    for day in range(3, 6):
        settle(book, bar(quote("80"), day=day), p)
    assert (book.state, book.state_sessions) == (REDUCING, 2)


def test_peak_follows_equity_up():
    book = holding("0", ("10", "100", "1000"))
    settle(book, bar(quote("120")), params())
    settle(book, bar(quote("110"), day=11), params())
    assert book.peak == 1200


# --------------------------------------------------------------------------------------------------- decide


def wants(book: RefBook, quotes: list[RefQuote], p: RefParams, scores: list[list[float]], **kw: object):
    n = len(quotes)
    vol = kw.get("vol", [0.2] * n)
    splits = kw.get("splits", [(1, 1)] * n)
    return decide(book, bar(*quotes), p, scores, vol, splits)  # type: ignore[arg-type]


def test_equal_weight_shares_the_exposure_among_the_names_that_trade():
    book = holding("10000", ("0", "10", "0"), ("0", "20", "0"), ("0", "30", "0"))
    quotes = [quote("10"), quote("20"), quote("30", traded=False)]
    p = params(max_position=D("0.5"), max_exposure=D("0.9"))
    d = wants(book, quotes, p, [[1.0, 0.5, 1.0]])
    assert d.wants == [[450, 112, 0]]  # 4500 / 10, 2250 / 20
    assert d.opinion == [True, True, False]
    p.members = [{0}]
    assert wants(book, quotes, p, [[1.0, NAN, NAN]]).wants == [[500, 0, 0]]


def test_volatility_adjusted_sizing_goes_down_with_volatility():
    book = holding("10000", *[("0", "10", "0")] * 4)
    p = params(sizing="volatility_adjusted", target_volatility=0.2)
    d = wants(book, [quote("10")] * 4, p, [[1.0] * 4], vol=[0.1, 0.4, 0.0, NAN])
    assert d.wants == [[150, 75, 150, 0]]
    assert d.opinion == [True, True, True, False]


def test_score_is_clipped_and_weight_rounded_to_ppm():
    book = holding("1000000", *[("0", "1", "0")] * 3)
    p = params(max_position=D("0.3"))
    d = wants(book, [quote("1")] * 3, p, [[2.0, -1.0, 1 / 3]])
    assert d.wants == [[300_000, 0, 100_000]]


def test_no_opinion_keeps_the_allocation():
    book = holding("0", ("10", "100", "900"))
    assert wants(book, [quote("100")], params(), [[NAN]]).wants == [[10]]
    assert wants(book, [quote("100")], params(), [[0.0]]).wants == [[0]]
    book.equity = D(0)
    assert wants(book, [quote("100")], params(), [[0.0]]).opinion == [False]


def test_name_cap_counts_what_is_kept_without_opinion():
    book = holding("9000", ("10", "100", "900"), strategies=3)
    p = params(3, max_position=D("0.15"), max_exposure=D("0.15"))
    d = wants(book, [quote("100")], p, [[NAN], [1.0], [1.0]])
    # kept 10 % of 10000, room 5 %; two weights of 5 % each become 2.5 %
    assert [row[0] for row in d.wants] == [10, 2, 2]
    book.alloc[0][0], book.alloc[1][0] = D(0), D(10)
    d = wants(book, [quote("100")], replace(p, capital_shares=[0.5, 0.5, 0.5]), [[1.0], [NAN], [NAN]])
    assert [row[0] for row in d.wants] == [5, 10, 0]


def test_gross_cap_scales_all_names():
    book = holding("10000", *[("0", "1", "0")] * 3)
    p = params(sizing="volatility_adjusted", max_position=D("0.4"), max_exposure=D("0.9"))
    d = wants(book, [quote("1")] * 3, p, [[1.0, 1.0, 0.5]], vol=[0.2] * 3)
    # 0.4 + 0.4 + 0.2 = 1.0 -> 0.36 + 0.36 + 0.18
    assert d.wants == [[3600, 3600, 1800]]


def test_turnover_shrinks_every_change():
    book = holding("9000", ("10", "100", "900"), ("0", "50", "0"))
    p = params(max_position=D("0.3"), max_turnover=D("0.2"))
    d = wants(book, [quote("100"), quote("50")], p, [[0.0, 1.0]])
    # changes -10 and +60 are 1000 + 3000 = 40 % of 10000: halved
    assert d.wants == [[5, 30]]
    assert wants(book, [quote("100"), quote("50")], replace(p, max_turnover=D("0.4")), [[0.0, 1.0]]).wants == [[0, 60]]


def test_decision_is_in_the_units_of_the_next_bar():
    book = holding("5000", ("50", "100", "4000"))
    p = params(max_position=D("0.15"))
    d = wants(book, [quote("100")], p, [[1.0]], splits=[(2, 1)])
    assert (d.ref, d.shares, d.wants) == ([50], [100], [[30]])


# ----------------------------------------------------------------------------------------------------- plan


def planned(book: RefBook, price: str, p: RefParams, score: float, split: tuple[int, int] = (1, 1)):
    at = bar(quote(price))
    d = decide(book, at, p, [[score]] * len(p.capital_shares), [0.2], [split])
    new, cancelled = plan(book, at, d, p)
    return [o.shares for o in new], [o.shares for o in cancelled]


def test_plan_orders_the_difference_and_counts_working_orders():
    book = holding("5000", ("50", "100", "4000"))
    p = params(max_position=D("0.6"), max_exposure=D("0.6"))
    book.orders = [order("4", "54")]
    assert planned(book, "100", p, 1.0) == ([6], [])
    assert [o.shares for o in book.orders] == [4, 6]
    assert planned(book, "100", p, 1.0) == ([], [])


def test_plan_replaces_working_orders_that_oppose():
    book = holding("5000", ("50", "100", "4000"))
    p = params(max_position=D("0.6"), max_exposure=D("0.6"))
    book.orders = [order("14", "64")]
    assert planned(book, "100", p, 1.0) == ([10], [14])  # 60 - 64 < 0, so 60 - 50 afresh
    assert [o.shares for o in book.orders] == [10]


def test_plan_sells_no_more_than_is_held_less_working_sells():
    book = holding("5000", ("50", "100", "4000"))
    book.orders = [order("-20", "30")]
    assert planned(book, "100", params(), 0.0) == ([-30], [])


def test_plan_scales_working_orders_to_the_next_bar():
    book = holding("5000", ("50", "100", "4000"))
    book.orders = [order("-20", "30")]
    assert planned(book, "100", params(), 0.0, split=(2, 1)) == ([-60], [])
    assert [o.planned_split for o in book.orders] == [(1, 1), (2, 1)]


def test_plan_drops_buys_while_reducing_and_all_while_halted():
    book = holding("5000", ("50", "100", "4000"))
    p = params(max_position=D("0.9"))
    book.state = REDUCING
    assert planned(book, "100", p, 1.0) == ([], [])
    assert planned(book, "100", p, 0.0) == ([-50], [])
    book.orders = []
    book.state = HALTED
    assert planned(book, "100", p, 0.0) == ([], [])


def test_plan_leaves_small_changes_alone_but_always_closes():
    p = params(max_position=D("0.1"), max_exposure=D("0.9"), min_order_notional=D(100))
    book = holding("9901", ("99", "1", "99"))
    assert planned(book, "1", p, 0.0198) == ([], [])  # to 198: worth 99
    assert planned(book, "1", p, 0.0) == ([-99], [])  # to nothing: small, but closing
    book = holding("9000", ("1000", "1", "1000"))
    banded = params(max_position=D("0.1"), min_order_notional=D(0), rebalance_band=D("0.01"))
    assert planned(book, "1", banded, 0.901) == ([], [])  # 99 of 10000 is under 1 %
    assert planned(book, "1", banded, 0.9) == ([-100], [])
    empty = holding("10000", ("0", "1", "0"))
    assert planned(empty, "1", banded, 0.0999) == ([99], [])  # nothing held: no band


# ------------------------------------------------------------------------------------------------ many bars


def test_run_buys_at_the_next_open_and_counts_in_quanta():
    quotes = [quote("10"), quote("11", "12"), quote("12")]
    bars = [bar(q, day=d) for d, q in enumerate(quotes)]
    p = params(max_position=D("0.5"), max_exposure=D("0.5"), slippage_bps=D(10))
    steps = run(bars, p, [[[1.0]], [[NAN]], None], [[0.2]] * 3, D(1000))
    assert [o.shares for o in steps[0].planned] == [50]
    assert [(f.shares, f.price) for f in steps[1].fills] == [(50, D("11.02"))]  # 11.011 up to the tick
    assert steps[2].book["qty"] == [50_000_000]
    assert steps[2].book["cash"] == 4_490_000
    assert steps[2].book["equity"] == 4_490_000 + 6_000_000
    assert steps[2].book["lots"] == [[(50_000_000, 5_510_000, 1000)]]


def test_run_carries_an_order_across_a_split_within_a_tick_and_a_lot_of_its_intent():
    bars = [bar(quote("100")), bar(quote("50", split=(2, 1)), day=11)]
    known = run(bars, params(max_position=D("0.5")), [[[1.0]], None], [[0.2]] * 2, D(10_000))
    assert [(f.shares, f.notional) for f in known[1].fills] == [(100, 5000)]
    bars[0].next_split = [(1, 1)]
    unknown = run(bars, params(max_position=D("0.5")), [[[1.0]], None], [[0.2]] * 2, D(10_000))
    assert unknown[1].book == known[1].book


def test_quanta_refuses_a_value_between_two_quanta():
    book = RefBook.opened(D("1.00005"), 1, 1)
    with pytest.raises(ArithmeticError, match="whole number of quanta"):
        quanta(book)


# --------------------------------------------------------------------------------------- floats: the signals


def test_averages_by_hand_and_nan_survives():
    assert sma([1.0, 2.0, 6.0]) == 3.0
    assert ema([1.0, 2.0, 4.0], 3) == 2.75  # alpha 1/2: 1, 1.5, 2.75
    assert math.isnan(sma([1.0, NAN, 2.0]))
    assert math.isnan(ema([NAN, 1.0, 2.0], 3))


def test_volatility_of_alternating_returns():
    step = math.exp(0.01)
    closes = [100.0, 100.0 * step, 100.0, 100.0 * step, 100.0]
    assert volatility(closes, 252) == pytest.approx(0.01 * math.sqrt(4 / 3) * math.sqrt(252), rel=1e-12)
    assert math.isnan(volatility([1.0, NAN, 2.0], 252))


def test_crossover_confidence_by_hand():
    rows = ma_crossover_window(4, "sma")
    assert (rows, ma_crossover_window(4, "ema")) == (9, 21)
    rising = [100.0 + k for k in range(rows)]
    # fast 107.5 / slow 106.5 - 1 = 0.0094: separation 0.47; all else 1
    expected = 0.4 * ((107.5 / 106.5 - 1.0) / 0.02) + 0.6
    assert ma_crossover(rising, 2, 4, 0.75, "sma") == pytest.approx(expected, rel=1e-12)
    assert math.isnan(ma_crossover(rising, 2, 4, 0.95, "sma"))
    assert ma_crossover(rising[::-1], 2, 4, 0.75, "sma") == 0.0
    assert ma_crossover([100.0] * rows, 2, 4, 0.75, "sma") == 0.0
    assert math.isnan(ma_crossover([NAN, *rising[1:]], 2, 4, 0.0, "sma"))
    steep = [100.0 * 1.1**k for k in range(ma_crossover_window(4, "ema"))]
    assert ma_crossover(steep, 2, 4, 0.75, "ema") == pytest.approx(1.0)


def test_factor_multiplies_the_split_and_then_the_dividend():
    factors = adjustment_factors([10.0, 5.0, 4.0], [(1, 1), (2, 1), (1, 1)], [0.0, 0.5, 0.4])
    assert factors == [1.0, 2.0 * 1.1, 2.0 * 1.1 * 1.1]
