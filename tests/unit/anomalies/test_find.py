"""Anomalies on real prices: quiet where nothing is odd, and each planted one found by name and day."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from tradecore.anomalies.find import Raw, find
from tradecore.anomalies.page import page
from tradecore.feeds import open_feed
from tradecore.storage.bars import Action
from tradecore.units import to_day

SAMPLE = Path(__file__).parents[3] / "include" / "sample_data"
FIELDS = ("open", "high", "low", "close", "volume")
DAY = date(2004, 6, 1)


def sample(symbol: str, first: str, last: str) -> Raw:
    with (SAMPLE / f"{symbol}.csv").open() as file:
        lines = [r for r in csv.DictReader(file) if first <= r["session_date"] <= last]
    days = np.array([to_day(date.fromisoformat(r["session_date"])) for r in lines], np.int64)
    cells = {f: np.array([[float(r[f])] for r in lines]) for f in FIELDS}
    return Raw(symbols=(symbol,), instruments=(1,), day=days, due=np.ones((days.size, 1), np.bool_), **cells)


def announced(symbol: str) -> list[Action]:
    feed = open_feed("csv", options={"folder": str(SAMPLE)})
    return [
        action(a.ex_date, a.kind, a.ratio_num, a.ratio_den, a.dividend_e6)
        for a in feed.actions([symbol], date(2000, 1, 1), date(2013, 12, 31))
    ]


def action(ex_date: date, kind: str, num: int = 1, den: int = 1, dividend_e6: int = 0) -> Action:
    return Action(
        instrument_id=1,
        ex_date=ex_date,
        kind=kind,
        ratio_num=num,
        ratio_den=den,
        dividend_e6=dividend_e6,
        pay_date=None,
        known_at=datetime(2000, 1, 1, tzinfo=UTC),
    )


def row(raw: Raw, day: date) -> int:
    return int(np.searchsorted(raw.day, to_day(day)))


def with_values(raw: Raw, change: Callable[[str, np.ndarray], None]) -> Raw:
    """Return a copy whose cells were changed in place by `change(field, column)`."""
    cells = {f: getattr(raw, f).copy() for f in FIELDS}
    for name, column in cells.items():
        change(name, column[:, 0])
    return replace(raw, **cells)


def kinds(raw: Raw, actions: list[Action]) -> list[tuple[str, date]]:
    return [(a.kind, a.session) for a in find(raw, actions)]


def test_the_sample_has_one_outlier_of_each_crash_and_no_split_that_nobody_announced() -> None:
    """Thirteen years of three names: Apple's profit warning is an outlier and no split, the splits are explained."""
    for symbol in ("AAPL", "IBM", "MSFT"):
        found = kinds(sample(symbol, "2000-03-01", "2013-03-01"), announced(symbol))
        assert {kind for kind, _ in found} <= {"outlier"}, found
        assert (("outlier", date(2000, 9, 29)) in found) == (symbol == "AAPL")
        assert len(found) < 5
    without = kinds(sample("AAPL", "2000-03-01", "2013-03-01"), [])
    assert [f for f in without if f[0] == "split_unannounced"] == [
        ("split_unannounced", date(2005, 2, 28)),
        ("split_unannounced", date(2000, 6, 21)),
    ]


def gap(name: str, column: np.ndarray, at: int) -> None:
    column[at : at + 3] = np.nan


def bad_tick(name: str, column: np.ndarray, at: int) -> None:
    column[at] *= 1.0 if name == "volume" else 1.9


def tripled(name: str, column: np.ndarray, at: int) -> None:
    column[at:] = np.round(column[at:] * 3) if name == "volume" else np.round(column[at:] / 3, 2)


def stuck(name: str, column: np.ndarray, at: int) -> None:
    column[at : at + 6] = column[at]


@pytest.mark.parametrize(
    ("plant", "actions", "expected"),
    [
        (gap, [], [("gap", DAY)]),
        (bad_tick, [], [("outlier", date(2004, 6, 2)), ("outlier", DAY)]),
        (tripled, [], [("split_unannounced", DAY)]),
        (tripled, [action(DAY, "split", 3)], []),
        (tripled, [action(DAY, "stock_dividend", 3)], []),
        (lambda name, column, at: None, [action(DAY, "split", 3)], [("split_unseen", DAY)]),
        (stuck, [], [("repeat", DAY)]),
        (lambda name, column, at: None, [action(date(2004, 12, 1), "delisting")], [("after_end", date(2004, 12, 1))]),
        (lambda name, column, at: None, [], []),
    ],
)
def test_a_planted_anomaly_is_found_and_nothing_else(plant, actions, expected) -> None:  # type: ignore[no-untyped-def]
    raw = sample("IBM", "2004-01-02", "2004-12-31")
    dividends = [a for a in announced("IBM") if a.kind == "dividend"]
    changed = with_values(raw, lambda name, column: plant(name, column, row(raw, DAY)))
    assert kinds(changed, [*dividends, *actions]) == expected


def test_the_page_is_whole_and_fetches_nothing() -> None:
    from page_parts import Page

    raw = sample("IBM", "2004-01-02", "2004-12-31")
    changed = with_values(raw, lambda name, column: tripled(name, column, row(raw, DAY)))
    found = find(replace(changed, symbols=("<b>&IBM",)), [])
    made = page(found, source="csv", timeframe="1d", names=1, first="2004-01-02", last="2004-12-31")
    parsed = Page(made)
    parsed.assert_fetches_nothing()
    assert "<b>&IBM" in "".join(parsed.text), "escaped"
    assert "as 3 for 1 would" in made
