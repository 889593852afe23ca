"""The yahoo feed against its stand-in, a program of its own on loopback. No request leaves the machine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tradecore.errors import (
    AuthFailed,
    FeedError,
    MalformedData,
    NoDataYet,
    NoSuchSymbol,
    NotBuilt,
    Throttled,
    VendorDown,
)
from tradecore.feeds import Feed, open_feed
from tradecore.sessions import calendar
from yahoo_standin.client import Standin, running

SAMPLE = Path(__file__).resolve().parents[3] / "include" / "sample_data"
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
XNYS = calendar("XNYS")
FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)
AFTER_CLOSE = datetime(2013, 3, 1, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[Standin]:
    with running() as standin:
        yield standin


@pytest.fixture
def standin(server: Standin) -> Standin:
    server.heal()
    server.set_now(AFTER_CLOSE)
    return server


@pytest.fixture
def yahoo(standin: Standin, tmp_path: Path) -> Feed:
    return open_yahoo(standin, tmp_path)


def open_yahoo(standin: Standin, cache: Path, **options: Any) -> Feed:
    quick = {
        "timeout_s": 5.0,
        "attempts": 3,
        "backoff_s": 0.01,
        "max_wait_s": 0.05,
        "requests_per_minute": 60_000,
    }
    return open_feed("yahoo", options={**quick, "base_url": standin.url, "cache_dir": str(cache), **options})


def last_week(feed: Feed, *symbols: str) -> Any:
    return feed.bars(symbols, "1d", date(2013, 2, 25), LAST, XNYS)


def test_prices_volumes_and_events_come_back_as_traded_across_splits(yahoo: Feed) -> None:
    truth = open_feed("csv", options={"folder": str(SAMPLE)})
    expected = truth.bars(SYMBOLS, "1d", FIRST, LAST, XNYS).rows
    found = yahoo.bars(SYMBOLS, "1d", FIRST, LAST, XNYS)
    assert not found.failures
    assert not found.rejects
    for field in ("symbol", "session_date", "bar_end_ns", "volume"):
        assert (found.rows[field] == expected[field]).all(), field
    for field in ("open", "high", "low", "close"):
        # single precision cannot tell 736.2999 from 736.30: above 500 USD a quantum of 1e-4 may be lost
        off = np.abs(found.rows[field] - expected[field])
        assert off.max() < 1.01e-4, field
        assert (off[expected[field] < 500] < 1e-9).all(), field
    events = [
        [
            (a.symbol, a.ex_date, a.kind, a.ratio_num, a.ratio_den, a.dividend_e6)
            for a in feed.actions(SYMBOLS, FIRST, LAST)
        ]
        for feed in (yahoo, truth)
    ]
    assert events[0] == events[1]
    assert len(events[0]) == 95


def test_a_split_restates_nothing_that_we_have(standin: Standin, yahoo: Feed) -> None:
    friday = date(2005, 2, 25)
    standin.set_now(datetime(2005, 2, 25, 22, tzinfo=UTC))
    before = yahoo.bars(["AAPL"], "1d", date(2005, 2, 1), friday, XNYS).rows
    standin.set_now(datetime(2005, 2, 28, 22, tzinfo=UTC))
    after = yahoo.bars(["AAPL"], "1d", date(2005, 2, 1), friday, XNYS).rows
    assert (before == after).all()
    assert after["close"][-1] == 88.99
    (split,) = yahoo.actions(["AAPL"], friday, date(2005, 2, 28))
    assert (split.ex_date, split.ratio_num, split.ratio_den) == (date(2005, 2, 28), 2, 1)


def test_a_running_session_is_not_served(standin: Standin, yahoo: Feed) -> None:
    standin.set_now(datetime(2013, 3, 1, 18, tzinfo=UTC))
    with pytest.raises(NoDataYet, match=r"newest bar of AAPL is of 2013-02-28; 2013-03-01 is not there yet"):
        last_week(yahoo, "AAPL")
    standin.set_now(datetime(2013, 3, 1, 21, 0, 1, tzinfo=UTC))
    assert last_week(yahoo, "AAPL").rows["session_date"][-1] == np.datetime64("2013-03-01")


@pytest.mark.parametrize(
    "kind, error, charts",
    [
        (429, Throttled, 3),
        (500, VendorDown, 3),
        (502, VendorDown, 3),
        (503, VendorDown, 3),
        ("down", VendorDown, 3),
        ("cut", VendorDown, 3),
        (404, NoSuchSymbol, 1),
        (401, AuthFailed, 2),
        (403, AuthFailed, 2),
        ("empty", NoDataYet, 1),
        ("text", MalformedData, 1),
        ("currency", MalformedData, 1),
    ],
)
def test_faults_are_told_apart_and_tries_are_bounded(
    standin: Standin, yahoo: Feed, kind: int | str, error: type[FeedError], charts: int
) -> None:
    before = standin.charts()
    standin.fault(kind)
    with pytest.raises(error) as e:
        last_week(yahoo, "AAPL")
    assert type(e.value) is error
    assert e.value.symbol == "AAPL"
    assert e.value.next_step
    assert standin.charts() - before == charts


def test_a_fault_that_passes_is_overcome(standin: Standin, yahoo: Feed) -> None:
    for kind in (429, 500, "cut"):
        standin.fault(kind, times=2)
        assert len(last_week(yahoo, "AAPL").rows) == 5


def test_an_old_crumb_is_replaced(standin: Standin, yahoo: Feed) -> None:
    standin.fault(401, times=1)
    assert len(last_week(yahoo, "AAPL").rows) == 5


def test_a_silent_vendor_ends_at_the_time_limit(standin: Standin, tmp_path: Path) -> None:
    feed = open_yahoo(standin, tmp_path, timeout_s=0.3, attempts=2)
    standin.fault("timeout", seconds=2)
    with pytest.raises(VendorDown, match="Timeout"):
        last_week(feed, "AAPL")


def test_nobody_listening_is_vendor_down(tmp_path: Path) -> None:
    with running() as gone:
        feed = open_yahoo(gone, tmp_path, attempts=2)
    with pytest.raises(VendorDown, match="Yahoo did not answer for AAPL"):
        last_week(feed, "AAPL")


def test_a_wait_that_the_vendor_asks_for_is_kept_within_bounds(standin: Standin, tmp_path: Path) -> None:
    feed = open_yahoo(standin, tmp_path, max_wait_s=1.0, attempts=2)
    standin.fault(429, times=1, retry_after=1)
    before = len(standin.log())
    assert len(last_week(feed, "AAPL").rows) == 5
    at = [entry["at"] for entry in standin.log()[before:] if entry["path"].startswith("/v8/")]
    assert len(at) == 2
    assert at[1] - at[0] >= 0.95


def test_requests_keep_their_distance(standin: Standin, tmp_path: Path) -> None:
    feed = open_yahoo(standin, tmp_path, requests_per_minute=600)
    before = len(standin.log())
    last_week(feed, "AAPL", "IBM", "MSFT")
    at = [entry["at"] for entry in standin.log()[before:]]
    assert len(at) >= 3
    # A request may arrive later than it left, and so nearer to the next; the first and the last tell the rate.
    assert at[-1] - at[0] > 0.1 * (len(at) - 1) - 0.03
    assert min(b - a for a, b in itertools.pairwise(at)) > 0.03


def test_one_unknown_symbol_does_not_take_the_others_away(yahoo: Feed) -> None:
    batch = last_week(yahoo, "AAPL", "NOSUCH", "IBM")
    assert sorted(set(batch.rows["symbol"])) == ["AAPL", "IBM"]
    assert [(f.symbol, type(f.error)) for f in batch.failures] == [("NOSUCH", NoSuchSymbol)]
    assert yahoo.actions(["AAPL", "NOSUCH"], date(2013, 2, 1), LAST)[0].dividend_e6 == 2_650_000
    with pytest.raises(NoSuchSymbol, match="Yahoo does not know 'NOSUCH'"):
        last_week(yahoo, "NOSUCH")
    with pytest.raises(NoSuchSymbol):
        yahoo.actions(["NOSUCH"], date(2013, 2, 1), LAST)


def test_nulls_are_values_that_the_vendor_does_not_have(standin: Standin, yahoo: Feed) -> None:
    standin.fault("nulls")
    row = last_week(yahoo, "AAPL").rows[-1]
    assert np.isnan([row[field] for field in ("open", "high", "low", "close", "volume")]).all()


def test_rows_that_are_no_bar_are_kept_as_rejects(standin: Standin, yahoo: Feed) -> None:
    standin.fault("twice")
    batch = last_week(yahoo, "AAPL")
    assert len(batch.rows) == 5
    assert [r.reason for r in batch.rejects] == ["a later row of the same answer is also of 2013-03-01"]
    standin.fault("weekend")
    batch = yahoo.bars(["AAPL"], "1d", date(2013, 2, 19), LAST, XNYS)
    assert len(batch.rows) == 9
    assert [r.reason for r in batch.rejects] == ["2013-02-23 (Saturday) is not a session"]


def test_actions_reuse_the_answer_of_the_bars(standin: Standin, yahoo: Feed) -> None:
    last_week(yahoo, "AAPL")
    before = standin.charts()
    yahoo.actions(["AAPL"], date(2013, 2, 25), LAST)
    assert standin.charts() == before
    yahoo.actions(["AAPL"], date(2013, 1, 2), LAST)
    assert standin.charts() == before + 1


def test_other_timeframes_are_refused(yahoo: Feed) -> None:
    with pytest.raises(NotBuilt, match="daily bars, not '195m'"):
        yahoo.bars(["AAPL"], "195m", date(2013, 2, 25), LAST, XNYS)
    assert yahoo.last_session(["AAPL"]) is None


def test_the_standin_can_be_moved_to_today_under_other_names(tmp_path: Path) -> None:
    end = XNYS.previous_session(date(2026, 11, 21))
    with running("--end", end.isoformat(), "--alias", "GOOGL=GOOG", "--alias", "TSLA=IBM") as standin:
        standin.set_now(XNYS.session(end).close_at + timedelta(hours=1))
        batch = open_yahoo(standin, tmp_path).bars(["GOOGL", "TSLA"], "1d", date(2026, 11, 2), end, XNYS)
    assert len(batch.rows) == 2 * len(XNYS.sessions_in_range(date(2026, 11, 2), end))
