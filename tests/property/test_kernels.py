"""Single kernels against exact arithmetic and the reference, on all that fits the units, reachable or not."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import reference
from tradecore._kernels import mul_div_ceil, mul_div_floor, mul_div_half_up, mul_div_round, mul_div_trunc, quotient
from tradecore.backtest.step import step_params
from tradecore.config_models import Execution
from tradecore.config_risk import Risk
from tradecore.execution._kernels import affordable_qty, fill_price
from tradecore.portfolio._kernels import (
    allocate_by_hand,
    allocate_closing,
    allocate_fill,
    part_cost,
    split_allocations,
)

EXAMPLES = settings(max_examples=300, deadline=None)
MONEY_E4 = st.integers(0, 10**12)  # 100 million USD
SHARES_E6 = st.integers(1, 10**15)  # a thousand million shares
SPLIT = st.sampled_from(((2, 1), (3, 2), (7, 5), (1, 2), (1, 3), (1, 500), (11, 10)))


@EXAMPLES
@given(cost=MONEY_E4, one=SHARES_E6, other=SHARES_E6)
def test_cost_of_a_part_of_a_lot_is_exact(cost: int, one: int, other: int):
    """cost * part / quantity, where the product passes 2**63: a 100 000 USD lot of 20 000 shares does."""
    part, shares = min(one, other), max(one, other)
    exact = Fraction(cost * part, shares)
    assert mul_div_floor(cost, part, shares) == floor(exact)
    assert mul_div_round(cost, part, shares) == floor(exact + Fraction(1, 2))
    assert mul_div_round(-cost, part, shares) == -floor(exact + Fraction(1, 2))
    assert mul_div_trunc(-cost, part, shares) == -floor(exact)
    assert mul_div_ceil(cost, part, shares) == ceil(exact)
    if part < shares:
        assert part_cost(cost, part, shares) == mul_div_round(cost, part, shares)
        assert part_cost(-cost, part, shares) == mul_div_round(-cost, part, shares)


@EXAMPLES
@given(divisor=st.integers(1, 10**16), times=st.integers(0, 2**50 - 1), beside=st.integers(-2, 2))
def test_quotient_of_floats_is_the_whole_one(divisor: int, times: int, beside: int):
    """Next to a multiple of the divisor, where a rounded quotient would be one off."""
    dividend = max(0, min(divisor * times, 2**63 - 4) + beside)
    assume(dividend // divisor < 2**50)
    assert quotient(dividend, divisor) == dividend // divisor


@EXAMPLES
@given(notional=st.integers(0, 10**12), ppm=st.integers(0, 9_000_000))
def test_half_up_is_the_same_by_floats(notional: int, ppm: int):
    assert mul_div_half_up(notional, ppm, 10**6, None) == mul_div_half_up(notional, ppm, 10**6, True)


@EXAMPLES
@given(
    steps=st.integers(0, 10**9),
    step=st.sampled_from((1, 1000, 10**6)),
    price=st.integers(1, 10**8),
    part=st.floats(-0.1, 1.2),
    commission_bps=st.sampled_from((0, 0.33, 30)),
    least_usd=st.sampled_from((0, 0.35, 500)),
)
def test_what_the_cash_buys_is_the_most_that_it_buys(
    steps: int, step: int, price: int, part: float, commission_bps: float, least_usd: float
):
    execution = Execution(
        commission_bps=commission_bps, commission_min_usd=least_usd, commission_per_share_usd=Decimal("0.005")
    )
    params = step_params(Risk(), execution)

    def cost(qty: int) -> int:
        notional = floor(Fraction(qty * price, 10**6) + Fraction(1, 2))
        fee = floor(Fraction(notional * params.commission_ppm, 10**6) + Fraction(1, 2))
        fee += floor(Fraction(qty * params.commission_per_share_e6, 10**8) + Fraction(1, 2))
        return notional + max(params.commission_min_e4, fee) if qty else 0

    cash = int(part * cost(steps * step))
    bought = affordable_qty(steps * step, price, step, cash, params)
    assert bought % step == 0
    assert 0 <= bought <= steps * step
    assert bought == 0 or cost(bought) <= cash
    assert bought == steps * step or cost(bought + step) > cash


@EXAMPLES
@given(shares=SHARES_E6, price=st.integers(1, 10**9))
def test_notional_is_exact(shares: int, price: int):
    assume(shares * price < 10**18)
    assert mul_div_round(shares, price, 10**6) == floor(Fraction(shares * price, 10**6) + Fraction(1, 2))


@EXAMPLES
@given(
    held=st.lists(st.integers(-30, 30) | st.integers(-(10**9), 10**9), min_size=1, max_size=4),
    split=SPLIT,
    step=st.sampled_from((1, 1000, 10**6)),
)
@example(held=[1, 1], split=(1, 2), step=1)  # nothing is left of either, and yet of the position
def test_split_of_allocations_sums_to_the_position(held: list[int], split: tuple[int, int], step: int):
    total = int(Decimal(sum(held)) / step) * step
    held[-1] -= sum(held) - total
    num, den = split
    after = (1 if total > 0 else -1) * (abs(total) * num // den // step * step)
    alloc = np.array([[0, q] for q in held], np.int64)
    split_allocations(alloc, 1, after, num, den)
    with_reference = reference.split_allocations([Decimal(q) / 10**6 for q in held], Decimal(after) / 10**6, split)
    assert alloc[:, 1].tolist() == [int(q * 10**6) for q in with_reference]
    assert alloc[:, 1].sum() == after
    if min(held) >= 0 or max(held) <= 0:
        assert (alloc * (1 if total > 0 else -1)).min() >= 0


@EXAMPLES
@given(
    rows=st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=4),
    fill=st.integers(-80, 80).filter(bool),
)
def test_fill_is_allocated_as_the_reference_does(rows: list[tuple[int, int]], fill: int):
    held, wants = [list(x) for x in zip(*rows, strict=True)]
    alloc = np.array([[q] for q in held], np.int64)
    allocate_fill(alloc, 0, np.array(wants, np.int64), fill)
    ours = reference.allocate([Decimal(q) for q in held], [Decimal(q) for q in wants], Decimal(fill))
    assert alloc[:, 0].tolist() == ours
    assert alloc.sum() == sum(held) + fill
    if min(wants) >= 0 and min(held) >= 0:  # long only: nobody is below zero before the book is
        assert alloc.min() >= 0 or alloc.max() <= 0


@EXAMPLES
@given(
    held=st.lists(st.integers(-40, 40), min_size=1, max_size=4),
    fill=st.integers(-80, 80).filter(bool),
    manual=st.integers(0, 3),
)
def test_a_persons_fill_is_allocated_as_the_reference_does(held: list[int], fill: int, manual: int):
    manual %= len(held)
    alloc = np.array([[q] for q in held], np.int64)
    allocate_by_hand(alloc, 0, fill, manual)
    assert alloc[:, 0].tolist() == reference.allocate_by_hand([Decimal(q) for q in held], Decimal(fill), manual)
    assert alloc.sum() == sum(held) + fill
    others = [s for s in range(len(held)) if s != manual]
    assert all(abs(alloc[s, 0]) <= abs(held[s]) and alloc[s, 0] * held[s] >= 0 for s in others)


@EXAMPLES
@given(
    held=st.lists(st.integers(-40, 40), min_size=1, max_size=4),
    fill=st.integers(-80, 80).filter(bool),
    manual=st.integers(-1, 3),
    step=st.sampled_from((1, 1_000_000)),
)
def test_a_brackets_fill_is_shared_by_what_each_strategy_holds(held: list[int], fill: int, manual: int, step: int):
    manual = manual % len(held) if manual >= 0 else -1
    whole = [q * step for q in held]
    alloc = np.array([[q] for q in whole], np.int64)
    allocate_closing(alloc, 0, fill * step, manual, step)
    after = alloc[:, 0].tolist()
    assert after == reference.allocate_closing(
        [Decimal(q) for q in whole], Decimal(fill * step), manual if manual >= 0 else None, Decimal(step)
    )
    assert sum(after) == sum(whole) + fill * step, "it sums exactly"
    side = 1 if fill > 0 else -1
    against = [max(-q * side, 0) if s != manual else 0 for s, q in enumerate(whole)]
    closed = min(abs(fill) * step, sum(against))
    for s, q in enumerate(against):
        if s != max(manual, 0):
            assert (after[s] - whole[s]) * side >= 0
            assert abs((after[s] - whole[s]) * side - (closed * q / sum(against) if q else 0)) < step, "fair to a step"
            assert after[s] % step == 0
    if manual >= 0 and abs(fill) * step <= sum(against):
        assert after[manual] == whole[manual], "a bracket is the strategies', not a person's"


@EXAMPLES
@given(
    open_e4=st.integers(1, 10**8),
    tick=st.sampled_from((1, 5, 100, 500)),
    slippage_ppm=st.integers(0, 50_000),
    buy=st.booleans(),
)
def test_fill_price_is_never_better_than_the_open(open_e4: int, tick: int, slippage_ppm: int, buy: bool):
    price = fill_price(open_e4, tick, slippage_ppm, buy)
    quote = reference.RefQuote(
        open=Decimal(open_e4).scaleb(-4),
        high=Decimal(1),
        low=Decimal(1),
        close=Decimal(1),
        volume=1,
        tick=Decimal(tick).scaleb(-4),
    )
    assert price == reference.e4(reference.fill_price(quote, buy, Decimal(slippage_ppm) / 100))
    assert price % tick == 0
    assert price >= open_e4 if buy else (price <= open_e4 or price == tick)
