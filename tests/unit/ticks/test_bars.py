"""Bars of trades: equal to the naive twin, whatever the batches; what is wrong is refused before anything is taken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tick_cases import bars_of, cut, random_trades, twin_of

from tradecore.ticks import BarMaker, dollar_bars, tick_bars, time_bars, volume_bars

MAKERS: dict[str, Callable[[], BarMaker]] = {
    "time": lambda: time_bars(5),
    "tick": lambda: tick_bars(7),
    "volume": lambda: volume_bars("250.5"),
    "dollar": lambda: dollar_bars(30_000),
}
SECOND = 1_000_000_000


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], BarMaker]:
    return MAKERS[request.param]


def test_bars_equal_the_naive_twin_in_any_batches(make: Callable[[], BarMaker]):
    rng = np.random.default_rng(7)
    for _ in range(20):
        trades = random_trades(rng, int(rng.integers(1, 800)))
        maker = make()
        for batch in cut(trades, rng.integers(0, trades[0].size + 1, int(rng.integers(0, 30))).tolist()):
            maker.add(*batch)
        assert bars_of(maker) == twin_of(trades, maker)
        one_by_one = make()
        for batch in cut(trades, range(1, trades[0].size)):
            one_by_one.add(*batch)
        assert bars_of(one_by_one) == bars_of(maker)


def test_a_bar_in_progress_is_carried_to_another_process(make: Callable[[], BarMaker]):
    trades = random_trades(np.random.default_rng(8), 500)
    whole, first = make(), make()
    whole.add(*trades)
    head, tail = cut(trades, [251])
    first.add(*head)
    assert first.state[8] > 0, "a bar is in progress where the trades are cut"
    second = BarMaker(first.kind, first.threshold, state=first.state)
    second.add(*tail)
    assert bars_of(first) + bars_of(second) == bars_of(whole)


def test_more_bars_than_there_is_room_for(make: Callable[[], BarMaker]):
    """The buffer begins with room for 1,024 bars: the kernel stops and goes on in a longer one."""
    trades = random_trades(np.random.default_rng(9), 20_000)
    maker = make()
    assert maker.add(*trades) == len(maker.bars) > 1_024
    assert bars_of(maker) == twin_of(trades, maker)
    assert maker.bars.generation > 0


def test_no_trade_is_lost_or_counted_twice(make: Callable[[], BarMaker]):
    trades = random_trades(np.random.default_rng(10), 5_000)
    maker = make()
    maker.add(*trades)
    assert maker.bars["trades"].sum() + maker.state[8] == 5_000
    in_progress = maker.state[6] if maker.state[8] else 0
    assert maker.bars["qty_e6"].sum() + in_progress == trades[2].sum()


def test_a_trade_on_the_boundary_belongs_to_the_later_interval():
    maker = time_bars(60, offset_s=30)
    at = np.array([30, 89, 90, 300], np.int64) * SECOND
    assert maker.add(at, np.full(4, 10_000), np.full(4, 1_000_000)) == 2
    assert (maker.bars["end_ns"] // SECOND).tolist() == [90, 150]
    assert maker.bars["trades"].tolist() == [2, 1], "an interval without trades has no bar"


def test_the_clock_ends_a_time_bar():
    maker = time_bars(60)
    one = np.array([1], np.int64)
    maker.add(one * 10 * SECOND, one * 10_000, one * 5)
    assert maker.end_until(60 * SECOND - 1) == 0
    assert maker.end_until(60 * SECOND) == 1
    assert bars_of(maker) == [(10 * SECOND, 60 * SECOND, 10_000, 10_000, 10_000, 10_000, 5, 0, 1)]
    assert maker.end_until(180 * SECOND) == 0, "no bar without a trade"
    with pytest.raises(ValueError, match="times must not fall"):
        maker.add(one * 59 * SECOND, one * 10_000, one * 5)
    assert maker.add(one * 60 * SECOND, one * 10_000, one * 5) == 0


@pytest.mark.parametrize(
    ("column", "value"), [(0, 0), (1, 0), (1, -1), (2, 0)], ids=["older", "price 0", "price below 0", "quantity 0"]
)
def test_a_wrong_trade_refuses_its_whole_batch(make: Callable[[], BarMaker], column: int, value: int):
    trades = random_trades(np.random.default_rng(11), 100)
    maker, untouched = make(), make()
    maker.add(*(c[:50] for c in trades))
    untouched.add(*(c[:50] for c in trades))
    spoilt = [c[50:].copy() for c in trades]
    spoilt[column][20] = value
    with pytest.raises(ValueError, match=r"trade 20 of the batch"):
        maker.add(*spoilt)
    assert bars_of(maker) == bars_of(untouched)
    assert (maker.state == untouched.state).all()


def test_money_of_a_trade_may_pass_two_to_the_63rd():
    """5,000 USD times 2,000,000 shares: the product of the integers is 1e20."""
    maker = dollar_bars(1)
    maker.add(np.array([1]), np.array([50_000_000]), np.array([2_000_000_000_000]))
    assert maker.bars["value_e4"].tolist() == [5_000 * 2_000_000 * 10_000]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="needs time, tick"):
        BarMaker("range", 5)
    with pytest.raises(ValueError, match="1 or more"):
        tick_bars(0)
    with pytest.raises(ValueError, match="a state is int64"):
        tick_bars(5, state=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="trades are int64"):
        tick_bars(5).add(np.array([1.0]), np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="different lengths"):
        tick_bars(5).add(np.array([1, 2]), np.array([1]), np.array([1]))
