"""The sample is the vendor's: raw prices and events give back its adjusted close."""

from __future__ import annotations

import csv
import itertools
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tradecore.feeds import open_feed
from tradecore.sessions import calendar

SAMPLE = Path(__file__).resolve().parents[3] / "include" / "sample_data"
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)
XNYS = calendar("XNYS")
FEED = open_feed("csv", options={"folder": str(SAMPLE)})


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_raw_prices_and_events_give_the_vendors_adjusted_close_to_a_thousandth(symbol: str) -> None:
    rows = FEED.bars([symbol], "1d", FIRST, LAST, XNYS).rows
    with (SAMPLE / f"{symbol}.csv").open(encoding="utf-8") as file:
        vendor = np.array([float(row["vendor_adj_close"]) for row in csv.DictReader(file)])
    growth = np.ones(len(rows))
    for action in FEED.actions([symbol], FIRST, LAST):
        at = int(np.flatnonzero(rows["session_date"] == np.datetime64(action.ex_date))[0])
        growth[at] *= action.ratio_num / action.ratio_den + action.dividend_e6 / 1e6 / rows["close"][at]
    adjusted = rows["close"] * np.cumprod(growth)
    ours, theirs = adjusted / adjusted[-1], vendor / vendor[-1]
    assert np.max(np.abs(ours / theirs - 1)) < 1e-3
    # far inside what is asked for, because the rule is the vendor's own
    assert np.max(np.abs(ours / theirs - 1)) < 1e-9


def test_splits_and_dividends_are_those_of_the_time() -> None:
    actions = FEED.actions(SYMBOLS, FIRST, LAST)
    splits = [(a.symbol, a.ex_date, a.ratio_num, a.ratio_den) for a in actions if a.kind == "split"]
    assert splits == [
        ("AAPL", date(2000, 6, 21), 2, 1),
        ("AAPL", date(2005, 2, 28), 2, 1),
        ("MSFT", date(2003, 2, 18), 2, 1),
    ]
    dividends = [a for a in actions if a.kind == "dividend"]
    assert len(dividends) == 92
    assert all(a.dividend_e6 % 10_000 == 0 for a in dividends), "whole cents"
    # Microsoft's special dividend: 3.00 USD and the regular 0.08 USD, ex 2004-11-15
    assert [a.dividend_e6 for a in dividends if (a.symbol, a.ex_date) == ("MSFT", date(2004, 11, 15))] == [3_080_000]


def test_every_session_of_the_exchange_has_a_bar_from_the_first_day_on() -> None:
    for symbol in SYMBOLS:
        labels = FEED.bars([symbol], "1d", FIRST, LAST, XNYS).rows["session_date"].astype(object)
        assert tuple(labels) == XNYS.sessions_in_range(labels[0], LAST)
    assert FEED.last_session(SYMBOLS) == LAST


def test_the_sample_holds_no_impossible_bar() -> None:
    batch = FEED.bars(SYMBOLS, "1d", FIRST, LAST, XNYS)
    rows = batch.rows
    assert not batch.rejects
    assert (rows["high"] >= np.maximum(rows["open"], rows["close"])).all()
    assert (rows["low"] <= np.minimum(rows["open"], rows["close"])).all()
    assert (rows["low"] > 0).all()
    assert (rows["volume"] > 0).all()
    assert all(a <= b for a, b in itertools.pairwise(rows["symbol"]))


def test_the_readme_states_source_and_licence_of_the_package() -> None:
    text = re.sub(r"\s+", " ", (SAMPLE / "README.md").read_text(encoding="utf-8"))
    for part in ("bokeh_sampledata", "2026.1", "Public Domain", "Quandl WIKI Prices", "make_sample.py"):
        assert part in text
