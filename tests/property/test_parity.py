"""tradecore's step and fold against the Decimal day loop: every integer of the book, at every bar, equal.

Markets are random and small, and drawn from a seed so that an example can be had again by its numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_market import (
    World,
    book_quanta,
    capital,
    fill_quanta,
    instruments,
    market,
    random_world,
    row,
    step_params,
)

import reference
from reference import RefStep, e4, e6
from tradecore.backtest.step import decide, fold, plan, settle
from tradecore.model import EVENT_NAMES, LIMIT_EVENTS, ORDER_TYPES, Book, Journal, new_book

END_NAMES = ("FILLED", "CANCELED", "EXPIRED")
SHAPES = {"n": st.integers(1, 4), "bars": st.integers(3, 40), "strategies": st.integers(1, 3)}
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def reference_steps(world: World) -> list[RefStep]:
    """Run the day loop with what was known of the next bar's splits."""
    bars = world.bars[: len(world.decides)]
    for bar, splits in zip(bars, world.known_splits, strict=True):
        bar.next_split = splits
    scores = [s.tolist() if d else None for s, d in zip(world.scores, world.decides, strict=True)]
    return reference.run(bars, world.params, scores, world.volatility.tolist(), world.cash)


def opened(world: World) -> Book:
    """Open tradecore's book for a world."""
    return new_book(
        cash_e4=e4(world.cash),
        n_instruments=len(world.bars[0].quotes),
        n_strategies=len(world.params.capital_shares),
        n_lots=1,
        n_orders=1,
    )


def core_steps(world: World) -> list[tuple[Book, list[Journal]]]:
    """Run tradecore bar by bar, as production does: settle, decide, plan."""
    params, fixed = step_params(world.params), instruments(world.bars[0])
    shares = capital(world.params, len(world.bars[0].quotes))
    bars = market(world.bars)
    upcoming = market(world.bars[1:], world.known_splits)
    book, steps = opened(world), []
    for t in range(len(world.decides)):
        book, settled = settle(book, row(bars, t), fixed, params)
        journals = [settled]
        if world.decides[t]:
            decision, limits = decide(
                book,
                world.scores[t],
                shares,
                world.volatility[t],
                row(bars, t),
                row(upcoming, t),
                fixed,
                params,
            )
            book, planned = plan(book, decision, row(bars, t), row(upcoming, t), fixed, params)
            journals += [limits, planned]
        steps.append((book, journals))
    return steps


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs, name by name: tradecore's value and the reference's."""
    return {name: (one[name], other[name]) for name in other if one[name] != other[name]}


def compare(world: World) -> Counter[str]:
    """Assert equality at every bar; return how often what happened."""
    seen: Counter[str] = Counter()
    before = None
    for t, (ours, (book, journals)) in enumerate(zip(reference_steps(world), core_steps(world), strict=True)):
        fills = [(f.instrument, e6(f.shares), e4(f.price), e4(f.fee)) for f in ours.fills]
        assert fill_quanta(journals[0].fills) == fills, f"fills of bar {t}"
        theirs = [(int(e[1]), END_NAMES[e[3]]) for j in journals for e in j.ends]
        ends = [(o.instrument, o.status) for o in ours.ended + ours.cancelled]
        assert sorted(theirs) == sorted(ends), f"ends of orders at bar {t}"
        gaps = differences(book_quanta(book), ours.book)
        assert not gaps, f"book after bar {t}, tradecore and reference: {gaps}"
        planned = [(int(o[0]), int(o[1])) for j in journals[2:] for o in j.orders]
        assert planned == [(o.instrument, e6(o.shares)) for o in ours.planned], f"orders of bar {t}"
        count(seen, ours, journals, before)
        before = ours.book
    return seen


def count(seen: Counter[str], step: RefStep, journals: list[Journal], before: dict[str, Any] | None) -> None:
    """Count what a bar exercised, by what the reference did and the events that tradecore wrote."""
    seen["fills"] += len(step.fills)
    for fill in step.fills:
        seen["bracket" if fill.order is None else fill.order.kind] += 1
    seen["short"] += sum(q < 0 for q in step.book["qty"])
    seen["borrowed cash"] += step.book["cash"] < 0
    if before is not None:
        pairs = list(zip(before["qty"], step.book["qty"], strict=True))
        seen["turned"] += sum(a * b < 0 for a, b in pairs)
    seen["partial fills"] += sum(1 for f in step.fills if f.remaining != 0)
    seen["opposed moves"] += sum(1 for f in step.fills if any(d * f.shares < 0 for d in f.allocated))
    seen["carried"] += sum(1 for o in step.book["orders"] if o[3] > 0)
    for order in step.ended:
        seen[order.status] += 1
    for journal in journals:
        for event in journal.events:
            seen[EVENT_NAMES[event[0]]] += 1
    if before is not None:
        seen[f"state {before['state']} to {step.book['state']}"] += 1


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_settle_decide_plan_equal_the_day_loop(seed: int, n: int, bars: int, strategies: int):
    compare(random_world(seed, n, bars, strategies))


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_orders_of_every_kind_brackets_and_shorts_equal_the_day_loop(seed: int, n: int, bars: int, strategies: int):
    compare(random_world(seed, n, bars, strategies, styled=True))


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_splits_that_nobody_knew_of_equal_the_day_loop(seed: int, n: int, bars: int, strategies: int):
    compare(random_world(seed, n, bars, strategies, surprises=True))


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_fold_equals_the_day_loop(seed: int, n: int, bars: int, strategies: int):
    world = random_world(seed, n, bars, strategies)
    result = fold(
        opened(world),
        market(world.bars),
        world.scores,
        capital(world.params, n),
        world.volatility,
        instruments(world.bars[0]),
        step_params(world.params),
        world.decides,
    )
    steps = reference_steps(world)
    table = [
        [
            s.book["cash"],
            s.book["equity"],
            s.book["state"],
            len(s.book["orders"]),
            *s.book["qty"],
            *s.book["mark"],
        ]
        for s in steps
    ]
    np.testing.assert_array_equal(result.table, np.array(table, np.int64))
    assert differences(book_quanta(result.book), steps[-1].book) == {}
    fills = [(f.instrument, e6(f.shares), e4(f.price), e4(f.fee)) for s in steps for f in s.fills]
    assert fill_quanta(result.journal.fills) == fills


@pytest.mark.parametrize("seed", [385, 429, 550, 594])
def test_books_above_a_thousand_million_equal_the_day_loop(seed: int):
    """A million parts of them pass 2**63: no breaker may take that for a loss. Each of these books did."""
    world = random_world(seed, 1 + seed % 5 if seed % 7 else 19, 40, 1 + seed % 3, styled=seed % 2 == 1)
    compare(replace(world, cash=world.cash * 1000))


@pytest.mark.slow
def test_fold_without_records_ends_the_same():
    for seed in range(100):
        n, strategies = 1 + seed % 20, 1 + seed % 3
        world = random_world(seed, n, 40, strategies, styled=seed % 2 == 1)
        fixed = (capital(world.params, n), world.volatility, instruments(world.bars[0]), step_params(world.params))
        runs = [
            fold(opened(world), market(world.bars), world.scores, *fixed, world.decides, records=records)
            for records in (True, False)
        ]
        np.testing.assert_array_equal(runs[1].table, runs[0].table[:, :4])
        assert book_quanta(runs[1].book) == book_quanta(runs[0].book)


def test_comparison_exercises_every_rule():
    """250 fixed worlds: each thing that a rule speaks of happened, or the equality above says little."""
    seen: Counter[str] = Counter()
    for seed in range(250):
        shape = (1 + seed % 4, 40, 1 + seed % 3)
        seen += compare(random_world(seed, *shape, surprises=seed % 5 == 0, styled=seed % 2 == 1))
    states = [f"state {a} to {b}" for a in range(3) for b in range(3)]
    real = ("charge", "short_position")  # of a real venue: test_given_fills
    limits = [EVENT_NAMES[kind] for kind in LIMIT_EVENTS]  # tests/unit/risk/test_limits.py
    events = [name for name in EVENT_NAMES if name not in (*real, *limits)]
    names = ["fills", "partial fills", "opposed moves", "carried", "FILLED", "CANCELED", "EXPIRED"]
    styles = [*ORDER_TYPES, "bracket", "short", "borrowed cash", "turned"]
    missing = [name for name in [*names, *events, *states, *styles] if seen[name] < 10]
    assert not missing, f"not exercised: {missing} of {dict(seen)}"


# ----------------------------------------------------------------------------------------------------- laws


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_book_sums_at_every_bar(seed: int, n: int, bars: int, strategies: int):
    world = random_world(seed, n, bars, strategies, styled=seed % 2 == 1)
    short = world.params.allow_short
    for book, _ in core_steps(world):
        state = book_quanta(book)
        value = [
            (-1 if q < 0 else 1) * ((2 * abs(q) * m + 10**6) // (2 * 10**6))
            for q, m in zip(state["qty"], state["mark"], strict=True)
        ]
        owed = sum(amount for due in state["receivables"] for _, amount in due)
        assert state["equity"] == state["cash"] + owed + sum(value)
        for i in range(n):
            assert sum(held[i] for held in state["alloc"]) == state["qty"][i]
            assert sum(lot[0] for lot in state["lots"][i]) == state["qty"][i]
            assert short or (state["qty"][i] >= 0 and all(held[i] >= 0 for held in state["alloc"]))
            assert all(lot[0] * state["qty"][i] > 0 for lot in state["lots"][i]), "lots have the position's sign"


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_cash_is_what_was_paid_in_and_earned_less_cost_and_fees(seed: int, n: int, bars: int, strategies: int):
    """Cash + receivables + cost of what is held = paid in + realised + dividends - fees: nothing is lost."""
    world = random_world(seed, n, bars, strategies, styled=seed % 2 == 1)
    paid_in = e4(world.cash)
    for t, (book, _) in enumerate(core_steps(world)):
        state = book_quanta(book)
        paid_in += e4(world.bars[t].deposit)
        owed = sum(amount for due in state["receivables"] for _, amount in due)
        cost = sum(lot[1] for lots in state["lots"] for lot in lots)
        earned = state["realised"] + state["dividends"] - state["fees"]
        assert state["cash"] + owed + cost == paid_in + earned, f"bar {t}"


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_positions_and_orders_are_multiples_of_the_step(seed: int, n: int, bars: int, strategies: int):
    """Also after splits, when what a strategy holds of a position may lie between two steps."""
    world = random_world(seed, n, bars, strategies)
    steps = instruments(world.bars[0]).step.tolist()
    for book, journals in core_steps(world):
        state = book_quanta(book)
        assert [q % step for q, step in zip(state["qty"], steps, strict=True)] == [0] * n
        assert all(order[1] % steps[order[0]] == order[2] % steps[order[0]] == 0 for order in state["orders"])
        assert all(f[1] % steps[f[0]] == 0 for f in fill_quanta(journals[0].fills))


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_no_fill_above_participation_and_no_buy_overdraws(seed: int, n: int, bars: int, strategies: int):
    world = random_world(seed, n, bars, strategies)
    for t, (book, journals) in enumerate(core_steps(world)):
        fills = fill_quanta(journals[0].fills)
        for i, quote in enumerate(world.bars[t].quotes):
            filled = sum(abs(f[1]) for f in fills if f[0] == i)
            assert filled <= quote.volume * world.params.participation_frac * 10**6
            assert quote.traded or filled == 0
        if any(f[1] > 0 for f in fills):
            assert book_quanta(book)["cash"] >= 0


@EXAMPLES
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 38), **SHAPES)
def test_book_is_unchanged_by_future_bars(seed: int, cut: int, n: int, bars: int, strategies: int):
    """What comes later (the next bar's splits apart, which are known) does not reach into a bar."""
    world = random_world(seed, n, bars, strategies)
    cut = min(cut, bars - 1)
    other = random_world(seed + 1, n, bars, strategies)
    for kept, foreign in zip(world.bars[cut + 1 :], other.bars[cut + 1 :], strict=True):
        for mine, theirs in zip(kept.quotes, foreign.quotes, strict=True):
            theirs.split, theirs.tick, theirs.qty_step = mine.split, mine.tick, mine.qty_step
    spliced = World(
        cash=world.cash,
        bars=world.bars[: cut + 1] + other.bars[cut + 1 :],
        params=world.params,
        scores=world.scores,
        volatility=world.volatility,
        decides=world.decides,
        known_splits=world.known_splits,
    )
    for (one, _), (two, _) in zip(core_steps(world)[: cut + 1], core_steps(spliced)[: cut + 1], strict=True):
        assert book_quanta(one) == book_quanta(two)
