"""Records and frames of a backtest: they add up to its money, whatever random market it ran in."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "property"))

from random_market import World, capital, instruments, market, random_world, step_params

from tradecore.backtest import step
from tradecore.errors import ConfigError
from tradecore.lot_matching import METHODS, Lot, Move, match
from tradecore.model import EV_CASH_IN_LIEU, REALISED, new_book
from tradecore.research import backtest as research
from tradecore.research import certify, frames, records, sheet
from tradecore.research.backtest import Backtest, Inputs
from tradecore.units import usd

SHARE = 1_000_000
SEEDS = range(12)


def backtest(seed: int) -> Backtest:
    world: World = random_world(seed, 3, 40, 2, styled=True)
    bars, params = market(world.bars), step_params(world.params)
    cash = int(world.cash * 10_000)
    inputs = Inputs(
        market=bars,
        scores=world.scores,
        capital=capital(world.params, 3),
        volatility=world.volatility,
        instruments=instruments(world.bars[0]),
        params=params,
        symbols=("A", "B", "C"),
        instrument_ids=(1, 2, 3),
        strategies=("one", "two"),
        cash_e4=cash,
        days=tuple(date(2020, 1, 1) + timedelta(days=t) for t in range(40)),
        gaps=(),
    )
    book = new_book(cash_e4=cash, n_instruments=3, n_strategies=2, n_lots=8, n_orders=8)
    fold = step.fold(
        book, bars, world.scores, inputs.capital, world.volatility, inputs.instruments, params, world.decides
    )
    return Backtest(inputs=inputs, fold=fold, seconds=0.0)


def busy() -> Backtest:
    """Return the first backtest in which much happened."""
    found = (backtest(seed) for seed in range(50))
    return next(b for b in found if len(b.fold.journal.fills) > 20 and b.fold.book.qty.any())


def test_lots_in_the_books_own_order_are_the_books_lots_and_its_realised_gain():
    closed = 0
    for seed in SEEDS:
        result = backtest(seed)
        found = records.lots(result.fold, result.inputs.market, result.inputs.symbols)
        book = result.fold.book
        for i, symbol in enumerate(result.inputs.symbols):
            head, count = int(book.lot_head[i]), int(book.lot_count[i])
            mine = [(lot.qty, lot.cost_usd) for lot in found if lot.symbol == symbol and lot.closed_at is None]
            own = zip(book.lot_qty[i, head : head + count], book.lot_cost[i, head : head + count], strict=True)
            assert mine == [(Decimal(int(q)) / SHARE, usd(int(c))) for q, c in own]
        gain = sum((lot.gain_usd for lot in found if lot.gain_usd is not None), Decimal(0))
        kinds = result.fold.journal.events[:, 0].tolist()
        if EV_CASH_IN_LIEU not in kinds and not any(q % SHARE for q in result.fold.qty_e6.flat):
            assert gain == usd(int(book.acct[REALISED])), f"seed {seed}"
            closed += sum(lot.closed_at is not None for lot in found)
    assert closed > 20, "not exercised"


def test_every_method_closes_the_same_shares_for_the_same_money():
    for seed in SEEDS:
        result = backtest(seed)
        told = [m for m, _ in records.moves(result.fold, result.inputs.market)]
        if any(m.ratio for m in told):
            continue  # a split may leave a lot without a share, whose cost then depends on the order
        first, left = match(told)
        for method in METHODS:
            closed, rest = match(told, method)
            assert sum(c.qty for c in closed) == sum(c.qty for c in first)
            gain = sum(c.proceeds - c.cost for c in closed) - sum(lot.cost for held in rest.values() for lot in held)
            own = sum(c.proceeds - c.cost for c in first) - sum(lot.cost for held in left.values() for lot in held)
            assert gain == own, "what was not closed yet is the only difference between methods"


def test_methods_choose_the_lot_that_they_name():
    buys = [Move(at_ns=t, instrument=0, qty=10, notional=cost) for t, cost in ((1, 100), (2, 300), (3, 200))]
    sale = Move(at_ns=4, instrument=0, qty=-10, notional=250)
    costs = {method: match([*buys, sale], method)[0][0].cost for method in METHODS}
    assert costs == {"fifo": 100, "lifo": 200, "hifo": 300}
    shorts = [Move(at_ns=m.at_ns, instrument=0, qty=-10, notional=m.notional) for m in buys]
    cover = Move(at_ns=4, instrument=0, qty=10, notional=250)
    brought = {method: match([*shorts, cover], method)[0][0].proceeds for method in METHODS}
    assert brought == {"fifo": 100, "lifo": 200, "hifo": 100}, "the least is the dearest of a short"


def test_a_fill_through_zero_closes_and_opens_and_a_split_scales():
    moves = [
        Move(at_ns=1, instrument=0, qty=10, notional=1_000),
        Move(at_ns=2, instrument=0, qty=20, ratio=(2, 1)),
        Move(at_ns=3, instrument=0, qty=-30, notional=1_800),
    ]
    closed, left = match(moves, adopted={1: [Lot(5, 50, 0)]})
    assert [(c.qty, c.cost, c.proceeds) for c in closed] == [(20, 1_000, 1_200)]
    assert left[0] == [Lot(-10, -600, 3)]
    assert left[1] == [Lot(5, 50, 0)]


def test_frames_hold_the_records():
    result = busy()
    equity = frames.equity(result)
    np.testing.assert_allclose(equity["equity_usd"], result.fold.equity_e4 / 10_000)
    growth = (1 + equity["simple_return"]).prod()
    assert growth * float(usd(result.inputs.cash_e4)) == pytest.approx(equity["equity_usd"].iloc[-1])
    assert str(equity.index.tz) == "UTC"
    assert frames.positions(result).shape == frames.marks(result).shape == (40, 3)
    trades = frames.trades(result)
    assert len(trades) == len(result.fold.journal.fills) > 5
    cash = sum(
        (-t.notional_usd if t.qty > 0 else t.notional_usd) - t.fee_usd for t in records.trades(result.fold, "ABC")
    )
    assert float(cash) == pytest.approx(-(trades["qty"] * trades["price_usd"]).sum() - trades["fee_usd"].sum(), abs=0.1)
    trips = frames.round_trips(result)
    assert trips["fills"].sum() >= len(trades)
    assert set(trips.columns) >= {"symbol", "long", "gain_usd", "return_frac"}
    assert frames.strategies(result).shape == (40, 2)
    for method in METHODS:
        lots = frames.tax_lots(result, method)
        held = lots[lots["closed_at"].isna()].groupby("symbol")["qty"].sum()
        assert held.to_dict() == {
            symbol: q / SHARE for symbol, q in zip("ABC", result.fold.book.qty.tolist(), strict=True) if q
        }


def test_the_first_bar_alone_is_the_folds_first_bar():
    """It is folded beforehand, so that no kernel is compiled within the seconds that are told."""
    inputs = busy().inputs
    short = research.first_bar(inputs)
    assert (short.days, short.scores.shape) == (inputs.days[:1], (1, 2, 3))
    np.testing.assert_array_equal(research.fold(short).table, research.fold(inputs).table[:1])


def test_trades_of_a_certificate_are_the_round_trips_over_the_equity_before_them():
    """An open one counts with its value; so that all of them together are the change of equity but for what no name
    brought (interest, rounding)."""
    result = busy()
    found, trips = certify.trades(result), frames.round_trips(result)
    before = dict(zip(result.inputs.days, [result.inputs.cash_e4, *result.fold.equity_e4[:-1].tolist()], strict=True))
    gains = [f * before[day] / 10_000 for f, day in zip(found, trips["opened_on"], strict=True)]
    np.testing.assert_allclose(gains, trips["gain_usd"], atol=1e-9)
    assert len(found) > 5
    assert trips["closed_on"].isna().any(), "an open one"


def test_figures_against_a_benchmark():
    result = busy()
    assert sheet.relative(result, "") == {}
    figures = sheet.relative(result, "universe")
    assert figures["benchmark"] == "universe, equal weights"
    grown = float(result.fold.equity_e4[-1]) / result.inputs.cash_e4 - 1.0
    assert figures["excess_return"] == pytest.approx(grown - float(figures["total_return"]), abs=1e-5)
    assert -50 < float(figures["beta"]) < 50
    with pytest.raises(ConfigError, match="no member of the universe"):
        sheet.relative(result, "D")
