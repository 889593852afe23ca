"""Adjusted series of real prices: as published, point in time, and a position that goes through it all."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tradecore import market
from tradecore.backtest import step
from tradecore.bars import Panel
from tradecore.feeds import open_feed
from tradecore.model import CASH, DIVIDENDS, EQUITY, EVENT_NAMES, Capital, Instrument, new_book
from tradecore.prices import closes, factors
from tradecore.research import adjustment
from tradecore.sessions import calendar
from tradecore.settings import load
from tradecore.storage.bars import Action
from tradecore.units import DIVIDEND_SCALE, PRICE_SCALE, QTY_SCALE, from_day, prices_to_e4, to_day, to_ns

GOLDEN = Path(__file__).parents[2] / "golden" / "quandl_2014.csv"
SAMPLE = Path(__file__).parents[3] / "include" / "sample_data"
XNYS = calendar("XNYS")
SPLIT, EVE = date(2014, 6, 9), date(2014, 6, 6)
PUBLISHED_FRAC = 0.001


@dataclass(frozen=True)
class Published:
    """A panel of one name with its actions and the adjusted close that the vendor publishes."""

    bars: Panel
    actions: list[Action]
    adjusted: np.ndarray


def known(ex_date: date) -> datetime:
    """An action is known at the close before it, as a bulk load assumes."""
    return XNYS.session(XNYS.previous_session(ex_date)).close_at


def action(ex_date: date, kind: str, num: int = 1, den: int = 1, dividend: float = 0.0) -> Action:
    return Action(
        instrument_id=1,
        ex_date=ex_date,
        kind=kind,
        ratio_num=num,
        ratio_den=den,
        dividend_e6=round(dividend * DIVIDEND_SCALE),
        pay_date=None,
        known_at=known(ex_date),
    )


def panel(symbol: str, days: list[date], prices: list[list[float]], volume: list[float]) -> Panel:
    values = prices_to_e4(np.array(prices))
    shape = (len(days), 1)
    return Panel(
        instruments=(Instrument(instrument_id=1, symbol=symbol, tick_e4=100, qty_step_e6=QTY_SCALE),),
        bar_end_ns=np.array([to_ns(XNYS.session(d).close_at) for d in days], np.int64),
        day=np.array([to_day(d) for d in days], np.int64),
        traded=np.ones(shape, np.bool_),
        adj_factor=np.ones(shape),
        volume=np.array(volume, np.int64).reshape(shape),
        **{name: values[:, k].reshape(shape) for k, name in enumerate(("open", "high", "low", "close"))},
    )


def quandl(symbol: str) -> Published:
    rows = [r for r in csv.DictReader(GOLDEN.open()) if r["ticker"] == symbol]
    days = [date.fromisoformat(r["date"]) for r in rows]
    actions = [action(d, "dividend", dividend=float(r["ex-dividend"])) for d, r in zip(days, rows, strict=True)
               if float(r["ex-dividend"])]  # fmt: skip
    actions += [action(d, "split", round(float(r["split_ratio"]))) for d, r in zip(days, rows, strict=True)
                if float(r["split_ratio"]) != 1]  # fmt: skip
    prices = [[float(r[name]) for name in ("open", "high", "low", "close")] for r in rows]
    bars = panel(symbol, days, prices, [float(r["volume"]) for r in rows])
    return Published(bars, actions, np.array([float(r["adj_close"]) for r in rows]))


def sample(symbol: str) -> Published:
    rows = list(csv.DictReader((SAMPLE / f"{symbol}.csv").open()))
    days = [date.fromisoformat(r["session_date"]) for r in rows]
    feed = open_feed("csv", options={"folder": str(SAMPLE)})
    actions = [
        action(a.ex_date, a.kind, a.ratio_num, a.ratio_den, a.dividend_e6 / DIVIDEND_SCALE)
        for a in feed.actions([symbol], days[0], days[-1])
    ]
    prices = [[float(r[name]) for name in ("open", "high", "low", "close")] for r in rows]
    bars = panel(symbol, days, prices, [float(r["volume"]) for r in rows])
    return Published(bars, actions, np.array([float(r["vendor_adj_close"]) for r in rows]))


def row_of(found: Published, day: date) -> int:
    return int(np.flatnonzero(found.bars.day == to_day(day))[0])


@pytest.mark.parametrize("read", [quandl, sample], ids=["2014", "sample"])
@pytest.mark.parametrize("symbol", ["AAPL", "MSFT"])
def test_adjusted_closes_agree_with_the_published_ones(read, symbol: str):
    """Both ways of adjusting, up to the constant that a series is normalised by; the whole range has its splits."""
    found = read(symbol)
    last = from_day(int(found.bars.day[-1]))
    assert any(a.kind == "split" for a in found.actions) or (read, symbol) == (quandl, "MSFT")
    for backward in (False, True):
        ours = closes(found.bars, factors(found.bars, found.actions, as_of=last, backward=backward))[:, 0]
        off = np.abs(ours / ours[-1] / (found.adjusted / found.adjusted[-1]) - 1)
        assert off.max() < PUBLISHED_FRAC, f"{from_day(int(found.bars.day[off.argmax()]))}: {off.max():.2e}"
        print(
            f"proof: {symbol} {'backward' if backward else 'forward'}: largest difference {off.max():.1e} of {off.size}"
        )
    assert ours[-1] == found.bars.close[-1, 0] / PRICE_SCALE, "backward: the last price is the price"


def test_the_rule_of_crsp_differs_by_what_a_dividend_moves():
    found = quandl("MSFT")
    last = from_day(int(found.bars.day[-1]))
    day = row_of(found, date(2014, 2, 18))
    crsp = factors(found.bars, found.actions, as_of=last, dividends="previous_close")[:, 0]
    before = found.bars.close[day - 1, 0] / PRICE_SCALE
    assert crsp[day] / crsp[day - 1] == pytest.approx(1 / (1 - 0.28 / before), rel=1e-12)
    vendor = factors(found.bars, found.actions, as_of=last)[:, 0]
    assert 0 < abs(crsp[day] / vendor[day] - 1) < 1e-3


def test_the_kernel_equals_its_twin_and_the_rule_of_production():
    for found in (quandl("AAPL"), sample("MSFT")):
        last = from_day(int(found.bars.day[-1]))
        ours = factors(found.bars, found.actions, as_of=last)
        twin = adjustment.forward(found.bars, adjustment.actions_of(found.bars, found.actions))
        np.testing.assert_allclose(ours, twin, rtol=1e-12)


def test_as_of_the_eve_of_the_split_shows_none_of_it():
    """Neither the split nor a later dividend nor a later bar; and the forward series never changes afterwards."""
    found, last = quandl("AAPL"), date(2014, 12, 31)
    eve, day = row_of(found, EVE), row_of(found, SPLIT)
    upto = [a for a in found.actions if a.ex_date <= EVE]
    assert len(upto) == 2 < len(found.actions)
    for backward in (False, True):
        then = factors(found.bars, found.actions, as_of=EVE, backward=backward)
        assert np.isnan(then[day:]).all()
        np.testing.assert_array_equal(then, factors(found.bars, upto, as_of=EVE, backward=backward))
        np.testing.assert_array_equal(then[: eve + 1], factors(found.bars.rows(0, eve + 1), upto, as_of=EVE,
                                                               backward=backward))  # fmt: skip
    assert then[eve, 0] == 1.0, "backward, as of the eve: the price of the eve is the price"
    now = factors(found.bars, found.actions, as_of=last, backward=True)
    assert now[eve, 0] < 1 / 7, "as of the end of the year it is in sevenths, less the later dividends"
    forward = factors(found.bars, found.actions, as_of=last)
    np.testing.assert_array_equal(forward[: eve + 1], factors(found.bars, found.actions, as_of=EVE)[: eve + 1])
    assert forward[day, 0] == pytest.approx(7 * forward[eve, 0], rel=1e-12)


def test_what_was_not_known_by_then_does_not_count():
    """The split was known at the close of its eve; one second earlier the bar of the 9th is a fall by six sevenths."""
    found, day = quandl("AAPL"), row_of(quandl("AAPL"), SPLIT)
    late = known(SPLIT) - timedelta(seconds=1)
    blind = factors(found.bars, found.actions, as_of=SPLIT, known_at=late)
    seen = factors(found.bars, found.actions, as_of=SPLIT, known_at=known(SPLIT))
    assert blind[day, 0] == blind[day - 1, 0]
    assert seen[day, 0] == pytest.approx(7 * seen[day - 1, 0], rel=1e-12)


def test_stock_dividends_adjust_and_names_and_ends_do_not():
    found = quandl("MSFT")
    day = date(2014, 7, 1)
    actions = [
        replace(action(day, "stock_dividend", 21, 20)),
        replace(action(date(2014, 8, 1), "symbol_change"), new_symbol="MS"),
        action(date(2014, 12, 31), "delisting", dividend=46.0),
    ]
    ours = factors(found.bars, actions, as_of=date(2014, 12, 31))[:, 0]
    at = row_of(found, day)
    assert set(ours[:at]) == {1.0}
    assert set(ours[at:]) == {21 / 20}


def test_a_position_crosses_the_split_with_its_value_and_its_dividends_are_booked():
    """The production step over all of 2014, buying Apple once: 7 for 1, the value the same, four dividends in cash."""
    found = quandl("AAPL")
    bars = market.to_market(found.bars, found.actions, calendar=XNYS, timeframe="1d")
    n_bars = found.bars.day.size
    settings = load({"TRADECORE_HOME": str(SAMPLE.parents[1]), "LOG_LEVEL": "ERROR"}).trading
    params = step.step_params(settings.risk, settings.execution)._replace(
        sizing=0, max_position_ppm=900_000, max_position=0.9, max_drawdown_ppm=10**6, max_daily_loss_ppm=10**6,
    )  # fmt: skip
    decides = np.zeros(n_bars, np.bool_)
    decides[0] = True
    result = step.fold(
        new_book(cash_e4=100_000 * PRICE_SCALE, n_instruments=1, n_strategies=1, n_lots=4, n_orders=4),
        bars,
        np.ones((n_bars, 1, 1)),
        Capital(np.ones(1), np.ones((1, 1), np.bool_)),
        np.full((n_bars, 1), 0.2),
        market.instrument_arrays(found.bars.instruments),
        params,
        decides,
    )
    day = row_of(found, SPLIT)
    held = result.qty_e6[day - 1, 0]
    assert held > 100 * QTY_SCALE, "not exercised: nothing is held across the split"
    assert result.qty_e6[day, 0] == 7 * held
    before, moved = held * found.bars.close[day - 1, 0], 7 * held * round(found.bars.close[day - 1, 0] / 7)
    assert abs(moved / before - 1) < 1e-6, "the mark is rounded to 0.0001 USD, nothing else changes"
    gain = result.equity_e4[day] - result.equity_e4[day - 1]
    exact = held / QTY_SCALE * (7 * found.bars.close[day, 0] - found.bars.close[day - 1, 0])
    assert gain == pytest.approx(exact, abs=1.0)
    dividends = {a.ex_date: a.dividend_e6 for a in found.actions if a.kind == "dividend"}
    assert len(dividends) == 4
    expected = 0
    for ex_date, dividend in dividends.items():
        t = row_of(found, ex_date)
        expected += round(Decimal(int(result.qty_e6[t, 0]) * dividend) / 10**8)
        assert result.table[t, 0] - result.table[t - 1, 0] > 0, f"cash on {ex_date}"
    assert result.book.acct[DIVIDENDS] == expected
    kinds = [EVENT_NAMES[e[0]] for e in result.journal.events]
    assert kinds.count("split") == 1
    assert kinds.count("dividend_paid_on_ex_date") == 4
    assert (
        result.book.acct[EQUITY] == result.book.acct[CASH] + result.qty_e6[-1, 0] * found.bars.close[-1, 0] // QTY_SCALE
    )


def test_a_delisted_holding_is_paid_at_the_stated_price_and_gone():
    """As published, and then an end: from 2014-11-03 there are no bars, and 50 USD a share were stated."""
    found = quandl("MSFT")
    end = date(2014, 11, 3)
    cut = found.bars.rows(0, row_of(found, end))
    last = Panel(**{f: np.concatenate([getattr(cut, f), np.zeros_like(getattr(cut, f)[:1])])
                    for f in ("open", "high", "low", "close", "volume", "traded", "adj_factor")},
                 bar_end_ns=found.bars.bar_end_ns[: cut.day.size + 1], day=found.bars.day[: cut.day.size + 1],
                 instruments=cut.instruments)  # fmt: skip
    bars = market.to_market(
        last, [*found.actions, action(end, "delisting", dividend=50.0)], calendar=XNYS, timeframe="1d"
    )
    book = new_book(cash_e4=0, n_instruments=1, n_strategies=1, n_lots=2, n_orders=2)
    book.qty[0] = book.alloc[0, 0] = book.lot_qty[0, 0] = 10 * QTY_SCALE
    book.lot_cost[0, 0], book.lot_count[0], book.mark[0] = 400 * PRICE_SCALE, 1, 46 * PRICE_SCALE
    settings = load({"TRADECORE_HOME": str(SAMPLE.parents[1]), "LOG_LEVEL": "ERROR"}).trading
    params = step.step_params(settings.risk, settings.execution)
    after, journal = step.settle(
        book, market.bar_row(bars, cut.day.size), market.instrument_arrays(cut.instruments), params
    )
    assert after.acct[CASH] == after.acct[EQUITY] == 500 * PRICE_SCALE
    assert (after.qty[0], after.mark[0], after.lot_count[0], after.alloc[0, 0]) == (0, 0, 0, 0)
    assert after.acct[4] == 100 * PRICE_SCALE, "realised: 500 for what had cost 400"
    assert [EVENT_NAMES[e[0]] for e in journal.events] == ["delisted"]
