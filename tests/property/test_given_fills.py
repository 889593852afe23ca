"""A book at a real venue: given fills in the place of the fill kernel, against the fill kernel and the day loop."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_market import World, book_quanta, capital, instruments, market, random_world, row, step_params
from test_parity import END_NAMES, differences, opened

import reference
from reference import RefBook, RefGiven, e4, e6, quanta, rounded
from tradecore.backtest.step import canonical_book, decide, plan, settle, settle_given
from tradecore.model import F_FEE, F_INSTR, F_PRICE, F_QTY, N_ORDERS, O_DECIDED_NS, O_LINE, Book, Given, Journal

SHAPES = {"n": st.integers(1, 4), "bars": st.integers(3, 25), "strategies": st.integers(1, 3)}
EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def as_given(fills: list[list[int]], ends: list[list[int]], *, charges: int = 0, manual: int = 0) -> Given:
    return Given(
        fills=np.array(fills, np.int64).reshape(len(fills), 8),
        ends=np.array(ends, np.int64).reshape(len(ends), 3),
        charges=charges,
        manual=manual,
    )


def reported(journal: Journal) -> Given:
    """Return what the fill kernel did as a venue would report it."""
    fills = []
    for f in journal.fills.tolist():
        notional = e4(rounded(abs(Decimal(f[F_QTY]) / 10**6) * Decimal(f[F_PRICE]) / 10**4))
        fills.append([f[0], f[2], f[F_INSTR], f[F_QTY], f[F_PRICE], notional, f[F_FEE], 1])
    return as_given(fills, [[e[0], e[2], e[3]] for e in journal.ends.tolist()])


def decided(world: World, book: Book, t: int) -> Book:
    """Return the book with the orders of bar t's decision."""
    params, fixed = step_params(world.params), instruments(world.bars[0])
    bars, upcoming = market(world.bars), market(world.bars[1:], world.known_splits)
    shares = capital(world.params, len(world.bars[0].quotes))
    here, there = row(bars, t), row(upcoming, t)
    decision, _ = decide(book, world.scores[t], shares, world.volatility[t], here, there, fixed, params)
    return plan(book, decision, here, there, fixed, params)[0]


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_the_fill_kernels_own_fills_given_back_make_the_same_book(seed: int, n: int, bars: int, strategies: int):
    world = random_world(seed, n, bars, strategies)
    params, fixed, rows = step_params(world.params), instruments(world.bars[0]), market(world.bars)
    book = opened(world)
    for t in range(len(world.decides)):
        after, journal = settle(book, row(rows, t), fixed, params)
        told = reported(journal)
        again, journal_again = settle_given(book, row(rows, t), told, fixed, params)
        assert len(journal_again.fills) == len(told.fills)
        for name, one, other in zip(Book._fields, canonical_book(after), canonical_book(again), strict=True):
            assert np.array_equal(one, other), f"{name} at bar {t}"
        assert np.array_equal(journal.fills, journal_again.fills)
        assert sorted(journal.ends.tolist()) == sorted(journal_again.ends.tolist())
        book = decided(world, after, t) if world.decides[t] else after


def random_answers(
    rng: random.Random, book: RefBook, manual: int
) -> tuple[list[RefGiven], list[tuple[reference.RefOrder, str]], Decimal]:
    """Draw what a venue may say: parts, legs of brackets, hand orders, sells of more than is held (which make the book
    short, and what buys it back through zero), ends, charges."""
    fills, spent = [], Decimal(100)
    step = Decimal("0.000001")
    for _ in range(rng.randrange(5)):
        order = rng.choice(book.orders) if book.orders and rng.random() < 0.7 else None
        i = order.instrument if order else rng.randrange(len(book.shares))
        most = int(max(abs(order.remaining) if order else Decimal(0), abs(book.shares[i])) / step) or 5_000_000
        shares = rng.randrange(1, min(most, 2_000 * 10**6) + 1) * step * rng.choice((1, 1, 2))  # far below int64
        own = order is not None and rng.random() < 0.8
        if own:  # no venue fills more than was asked for
            taken = sum((abs(f.shares) for f in fills if f.order is order and f.own), Decimal(0))
            shares = min(shares, abs(order.remaining) - taken)
            if shares <= 0:
                continue
        sign = (1 if order.remaining > 0 else -1) * (1 if own else -1) if order else rng.choice((1, -1))
        price = Decimal(rng.randrange(1, 10**6)) / 10**4
        if sign > 0:  # a venue lends nothing: what is left of the cash stays above all fees
            spent += rounded(shares * price) + 10
            if spent > book.cash:
                break
        fills.append(
            RefGiven(
                order=order,
                instrument=i,
                shares=sign * shares,
                price=price,
                notional=rounded(shares * price),
                fee=Decimal(rng.choice((0, 0, 100, 12_345))) / 10**4,
                own=own,
            )
        )
    asked = [sum((abs(f.shares) for f in fills if f.order is o and f.own), Decimal(0)) for o in book.orders]
    done = [taken == abs(o.remaining) for o, taken in zip(book.orders, asked, strict=True)]
    ends = [
        (o, rng.choice(END_NAMES))
        for o, all_of_it in zip(book.orders, done, strict=True)
        if all_of_it or rng.random() < 0.5
    ]
    charges = (
        Decimal(rng.randrange(-50_000, 20_000)) / 10**4 if rng.random() < 0.2 and book.cash > spent else Decimal(0)
    )
    return fills, ends, charges


@EXAMPLES
@given(seed=st.integers(0, 2**32), **SHAPES)
def test_what_a_venue_says_equals_the_day_loop(seed: int, n: int, bars: int, strategies: int):
    compare_given(seed, n, bars, strategies)


def compare_given(seed: int, n: int, bars: int, strategies: int) -> Counter[str]:
    """Assert equality at every bar; return how often what happened."""
    world, rng, seen = random_world(seed, n, bars, strategies), random.Random(seed), Counter[str]()
    params, fixed, rows = step_params(world.params), instruments(world.bars[0]), market(world.bars)
    book, twin = opened(world), RefBook.opened(world.cash, n, strategies)
    for t in range(len(world.decides)):
        manual = rng.randrange(strategies)
        fills, ends, charges = random_answers(rng, twin, manual)
        key = {id(o): book.order[k, [O_DECIDED_NS, O_LINE]].tolist() for k, o in enumerate(twin.orders)}
        assert len(key) == book.acct[N_ORDERS]
        told = as_given(
            [
                [
                    *(key[id(f.order)] if f.order else (-1, 0)),
                    f.instrument,
                    e6(f.shares),
                    e4(f.price),
                    e4(f.notional),
                    e4(f.fee),
                    f.own,
                ]
                for f in fills
            ],
            [[*key[id(o)], END_NAMES.index(status)] for o, status in ends],
            charges=e4(charges),
            manual=manual,
        )
        before = list(twin.shares)
        reference.settle_given(twin, world.bars[t], world.params, fills, ends, charges, manual)
        book, journal = settle_given(book, row(rows, t), told, fixed, params)
        assert journal.fills[:, F_QTY].tolist() == [e6(f.shares) for f in fills], f"each fill is booked, bar {t}"
        gaps = differences(book_quanta(book), quanta(twin))
        assert not gaps, f"book after bar {t}, tradecore and reference: {gaps}"
        whole = sum_and_sign(book)
        assert not whole, f"bar {t}: {whole}"
        seen["short"] += sum(q < 0 for q in twin.shares)
        seen["split while short"] += sum(
            q < 0 and quote.split[0] != quote.split[1] for q, quote in zip(before, world.bars[t].quotes, strict=True)
        )
        seen["owed dividend"] += sum(
            q < 0 and quote.dividend > 0 for q, quote in zip(before, world.bars[t].quotes, strict=True)
        )
        seen["long to short"] += sum(a > 0 > b for a, b in zip(before, twin.shares, strict=True))
        seen["short to long"] += sum(a < 0 < b for a, b in zip(before, twin.shares, strict=True))
        seen["legs"] += sum(1 for f in fills if f.order and not f.own)
        seen["hand orders"] += sum(1 for f in fills if f.order is None)
        seen["charges"] += charges != 0
        seen["working on"] += len(twin.orders)
        if world.decides[t]:
            splits = world.known_splits[t]
            decision = reference.decide(
                twin, world.bars[t], world.params, world.scores[t].tolist(), world.volatility[t].tolist(), splits
            )
            planned, _ = reference.plan(twin, world.bars[t], decision, world.params)
            book = decided(world, book, t)
            gaps = differences(book_quanta(book), quanta(twin))
            assert not gaps, f"book and orders after the decision of bar {t}: {gaps}"
            for order in planned:
                short = twin.shares[order.instrument]
                assert short >= 0 or order.shares > 0, "what is short is bought back, and never sold"
                seen["bought back"] += short < 0
                seen["bought back while REDUCING"] += short < 0 and twin.state == reference.REDUCING
    return seen


def sum_and_sign(book: Book) -> str:
    """Return '' if lots and allocations sum to the position, and all have its sign."""
    for i, qty in enumerate(book.qty.tolist()):
        lots = book.lot_qty[i, book.lot_head[i] : book.lot_head[i] + book.lot_count[i]]
        held = book.alloc[:, i]
        if lots.sum() != qty or held.sum() != qty:
            return f"instrument {i}: {qty} held, lots {lots.tolist()}, allocations {held.tolist()}"
        if (lots * (1 if qty > 0 else -1) <= 0).any() or (held * (1 if qty > 0 else -1) < 0).any():
            return f"instrument {i}: {qty} held, lots {lots.tolist()}, allocations {held.tolist()} of both signs"
    return ""


def test_the_drawn_answers_hold_every_kind():
    seen = Counter[str]()
    for seed in range(60):
        seen += compare_given(seed, 3, 20, 3)
    kinds = ("short", "legs", "hand orders", "charges", "working on", "owed dividend", "split while short")
    kinds += ("long to short", "short to long", "bought back", "bought back while REDUCING")
    assert min(seen[kind] for kind in kinds) >= 10, seen
