"""Round trips: hand examples, a split, a turn from long to short, and the law that nothing is lost between them."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest

from tradecore.research.trips import Move, round_trips

DAYS = [date(2005, 3, 1) + timedelta(days=k) for k in range(40)]


def fill(t: int, shares: int, price: float, fee: float = 0.0, symbol: str = "A") -> Move:
    return Move(t=t, symbol=symbol, qty_e6=shares * 1_000_000, price_usd=price, fee_usd=fee)


def test_a_trip_ends_when_the_position_is_flat_whatever_was_added():
    (trip,) = round_trips([fill(0, 100, 10.0, 1.0), fill(2, 50, 12.0, 1.0), fill(5, -150, 14.0, 2.0)], DAYS, {})
    assert (trip.opened_on, trip.closed_on, trip.sessions, trip.fills) == (DAYS[0], DAYS[5], 5, 3)
    assert (trip.bought_usd, trip.sold_usd, trip.fees_usd) == (1600.0, 2100.0, 4.0)
    assert trip.gain_usd == 496.0
    assert trip.return_frac == pytest.approx(496 / 1600)


def test_an_open_trip_is_valued_at_its_mark():
    (trip,) = round_trips([fill(0, 10, 10.0)], DAYS, {"A": 11.0})
    assert (trip.closed_on, trip.gain_usd, trip.sessions) == (None, 10.0, 39)


def test_a_split_changes_the_shares_and_not_the_gain_and_a_dividend_is_in_it():
    moves = [
        fill(0, 100, 50.0),
        Move(t=1, symbol="A", cash_usd=25.0),
        Move(t=2, symbol="A", qty_after_e6=200 * 1_000_000),
        fill(3, -200, 26.0),
    ]
    (trip,) = round_trips(moves, DAYS, {})
    assert (trip.closed_on, trip.gain_usd) == (DAYS[3], 225.0)


def test_a_fill_that_turns_the_position_over_closes_one_trip_and_opens_the_next():
    first, second = round_trips([fill(0, 100, 10.0), fill(4, -150, 12.0, 3.0), fill(9, 50, 11.0)], DAYS, {})
    assert (first.long, first.closed_on, first.gain_usd) == (True, DAYS[4], 200.0 - 2.0)
    assert (second.long, second.opened_on, second.gain_usd) == (False, DAYS[4], 50.0 - 1.0)
    assert second.return_frac == pytest.approx(49 / 600)


@pytest.mark.parametrize("seed", range(20))
def test_the_gains_of_all_trips_are_what_fills_and_marks_brought(seed: int):
    chance = random.Random(seed)
    moves, cash, held = [], 0.0, {"A": 0, "B": 0}
    for t in range(39):
        for symbol in held:
            shares = chance.choice([-120, -50, 0, 0, 30, 70])
            if shares:
                price, fee = chance.uniform(5, 50), chance.choice([0.0, 1.25])
                moves.append(fill(t, shares, price, fee, symbol))
                held[symbol] += shares
                cash -= shares * price + fee
    marks = {"A": 20.0, "B": 30.0}
    trips = round_trips(moves, DAYS, marks)
    assert sum(t.gain_usd for t in trips) == pytest.approx(cash + sum(held[s] * marks[s] for s in held))
    assert sum(1 for t in trips if t.closed_on is None) == sum(1 for shares in held.values() if shares)
    assert any(not t.long for t in trips), "not exercised: a short trip"
