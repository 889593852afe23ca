"""The alpaca feed against the stand-in, a program of its own on loopback. No request leaves the machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tradecore.errors import AuthFailed, MalformedData, NoDataYet, NoSuchSymbol, Throttled, VendorDown
from tradecore.feeds import Access, open_feed
from tradecore.feeds.alpaca import AlpacaFeed
from tradecore.sessions import calendar
from vendor_standin import alpaca as face
from vendor_standin.client import Standin, running

XNYS = calendar("XNYS")
FIRST, LAST = date(2005, 2, 22), date(2005, 2, 28)
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
BARS = "/v2/stocks/bars"


@pytest.fixture(scope="module")
def server() -> Iterator[Standin]:
    with running() as standin:
        yield standin


@pytest.fixture
def standin(server: Standin) -> Standin:
    server.reset()
    return server


def open_alpaca(standin: Standin, *, key: str = face.KEY, secret: str = face.SECRET, **options: Any) -> AlpacaFeed:
    quick = {"timeout_s": 10.0, "attempts": 3, "backoff_s": 0.01, "max_wait_s": 0.05}
    access = Access(api_key=key, secret_key=secret)
    feed = open_feed("alpaca", options={**quick, "base_url": standin.url, **options}, access=access)
    assert isinstance(feed, AlpacaFeed)
    return feed


def as_rows(rows: Any) -> list[list[Any]]:
    fields = ["symbol", "session_date", "open", "high", "low", "close", "volume"]
    return [[r[0], str(r[1]), *r[2:]] for r in rows[fields].tolist()]


def expected(standin: Standin, first: date, last: date, symbols: tuple[str, ...] = SYMBOLS) -> list[list[Any]]:
    return [r for r in standin.truth() if r[0] in symbols and str(first) <= r[1] <= str(last)]


def test_pages_of_any_length_give_the_same_bars(standin: Standin) -> None:
    truth = expected(standin, FIRST, LAST)
    assert len(truth) == 20
    for rows_per_page, symbols_per_request in ((10_000, 100), (3, 100), (1, 2), (5, 1), (20, 4)):
        feed = open_alpaca(standin, rows_per_page=rows_per_page, symbols_per_request=symbols_per_request)
        batch = feed.bars(SYMBOLS, "1d", FIRST, LAST, XNYS)
        assert as_rows(batch.rows) == truth
        assert not batch.failures
        assert not batch.rejects
    ends = {XNYS.session(d).close_at for d in XNYS.sessions_in_range(FIRST, LAST)}
    assert {datetime.fromtimestamp(ns / 1e9, UTC) for ns in batch.rows["bar_end_ns"].tolist()} == ends


def test_it_asks_for_raw_bars_of_the_exchange_that_the_options_name(standin: Standin) -> None:
    open_alpaca(standin, feed="sip").bars(["IBM"], "1d", FIRST, LAST, XNYS)
    query = standin.log()[-1]["query"]
    assert (query["adjustment"], query["feed"], query["limit"], query["sort"]) == ("raw", "sip", "10000", "asc")


def test_bars_of_half_a_session_are_made_of_those_that_begin_at_the_open(standin: Standin) -> None:
    day = date(2004, 11, 26)  # the half-day after Thanksgiving
    batch = open_alpaca(standin, rows_per_page=7).bars(["IBM"], "195m", date(2004, 11, 24), day, XNYS)
    assert standin.log()[-1]["query"]["timeframe"] == "15Min"
    ends = XNYS.bar_ends_in_range(date(2004, 11, 24), day, "195m")
    assert len(ends) == 4
    assert [datetime.fromtimestamp(ns / 1e9, UTC) for ns in batch.rows["bar_end_ns"].tolist()] == list(ends)
    daily = {r[1]: r[2:] for r in expected(standin, day - timedelta(days=2), day, ("IBM",))}
    for label, (opened, high, low, close, volume) in daily.items():
        mine = batch.rows[batch.rows["session_date"] == np.datetime64(label)]
        assert (mine["open"][0], mine["close"][-1]) == (opened, close)
        assert (mine["high"].max(), mine["low"].min(), mine["volume"].sum()) == (high, low, volume)


def test_a_session_that_runs_is_not_served(standin: Standin) -> None:
    standin.end(LAST, running=True)
    batch = None
    with pytest.raises(NoDataYet, match="2005-02-25; 2005-02-28 is not there yet"):
        batch = open_alpaca(standin).bars(["IBM"], "1d", FIRST, LAST, XNYS)
    assert batch is None


def test_a_late_bar_is_a_failure_of_its_symbol_while_others_are_served(standin: Standin) -> None:
    standin.late([("IBM", LAST)])
    batch = open_alpaca(standin).bars(SYMBOLS, "1d", FIRST, LAST, XNYS)
    assert [(f.symbol, type(f.error)) for f in batch.failures] == [("IBM", NoDataYet)]
    assert as_rows(batch.rows) == expected(standin, FIRST, LAST)


@pytest.mark.parametrize("unknown", ["ZZZZ", "NO_SUCH"])
def test_an_unknown_symbol_does_not_take_the_others_away(standin: Standin, unknown: str) -> None:
    """One that Alpaca just leaves out, and one that it answers with 400."""
    feed = open_alpaca(standin)
    batch = feed.bars(["AAPL", unknown, "IBM"], "1d", FIRST, LAST, XNYS)
    assert sorted(set(batch.rows["symbol"])) == ["AAPL", "IBM"]
    assert [(f.symbol, type(f.error)) for f in batch.failures] == [(unknown, NoSuchSymbol)]
    assert [a.kind for a in feed.actions(["AAPL", unknown], LAST, LAST)] == ["split"]
    with pytest.raises(NoSuchSymbol, match=f"Alpaca does not know '{unknown}'"):
        feed.bars([unknown], "1d", FIRST, LAST, XNYS)


@pytest.mark.parametrize(
    ("kind", "error", "tries"),
    [
        ("429", Throttled, 3),
        ("500", VendorDown, 3),
        ("504", VendorDown, 3),
        ("cut", VendorDown, 3),
        ("timeout", VendorDown, 2),
        ("drip", VendorDown, 2),
        ("malformed", MalformedData, 3),
        ("page", MalformedData, 3),
        ("401", AuthFailed, 1),
        ("403", AuthFailed, 1),
        ("404", MalformedData, 1),
    ],
)
def test_faults_are_told_apart_and_tries_are_bounded(
    standin: Standin, kind: str, error: type[Exception], tries: int
) -> None:
    standin.fault(kind)
    limits = {"timeout_s": 0.3, "attempts": tries} if kind in ("timeout", "drip") else {}
    with pytest.raises(error) as caught:
        open_alpaca(standin, **limits).bars(["IBM"], "1d", FIRST, LAST, XNYS)
    assert type(caught.value) is error
    assert caught.value.next_step  # type: ignore[attr-defined]
    assert standin.asked(BARS) == tries
    standin.fault(kind, times=tries - 1)
    if tries == 3:
        assert len(open_alpaca(standin).bars(["IBM"], "1d", FIRST, LAST, XNYS).rows) == 5


def test_an_empty_page_in_the_middle_is_asked_for_again_and_twice_is_an_error(standin: Standin) -> None:
    feed = open_alpaca(standin, rows_per_page=3)
    for skip in range(7):  # each of the seven pages once
        standin.fault("empty", times=1, skip=skip)
        assert as_rows(feed.bars(SYMBOLS, "1d", FIRST, LAST, XNYS).rows) == expected(standin, FIRST, LAST)
    standin.fault("empty", skip=1)
    with pytest.raises(VendorDown, match="empty pages twice"):
        feed.bars(SYMBOLS, "1d", FIRST, LAST, XNYS)
    standin.fault("empty", path="/v1", skip=0, times=1)
    assert feed.actions(SYMBOLS, FIRST, LAST) != ()


def test_keys_are_in_no_error_and_go_nowhere_else(standin: Standin) -> None:
    wrong = open_alpaca(standin, secret="another-secret-value")
    with pytest.raises(AuthFailed) as caught:
        wrong.bars(["IBM"], "1d", FIRST, LAST, XNYS)
    told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r} {wrong._http!r}"
    assert "another-secret" not in told
    assert face.KEY not in told
    assert face.KEY not in repr(Access(api_key=face.KEY, secret_key=face.SECRET))
    with pytest.raises(Exception, match=r"base_url is on example\.com: it must be"):
        open_alpaca(standin, base_url="https://example.com")
    with pytest.raises(AuthFailed, match="ALPACA_API_KEY is not set"):
        open_alpaca(standin, key="").bars(["IBM"], "1d", FIRST, LAST, XNYS)


def test_actions_are_found_by_ex_date_though_alpaca_sorts_them_by_the_day_they_are_paid(standin: Standin) -> None:
    feed = open_alpaca(standin)
    (split,) = feed.actions(["AAPL"], date(2005, 2, 1), date(2005, 3, 31))
    assert (split.kind, split.ex_date, split.ratio_num, split.ratio_den) == ("split", date(2005, 2, 28), 2, 1)
    (dividend,) = feed.actions(["IBM"], date(2005, 2, 1), date(2005, 2, 28))
    assert (dividend.dividend_e6, dividend.ex_date, dividend.pay_date) == (180_000, date(2005, 2, 8), date(2005, 3, 1))
    assert feed.actions(["IBM"], date(2005, 2, 9), date(2005, 2, 28)) == ()


def test_trades_come_in_pages_with_nanoseconds_and_corrections(standin: Standin) -> None:
    session = XNYS.session(LAST)
    feed = open_alpaca(standin, rows_per_page=250)
    pages = list(feed.trades("IBM", session.open_at, session.close_at))
    trades = np.concatenate(pages)
    assert len(pages) == 7
    assert len(trades) == 390 * 4
    assert (np.diff(trades["at_ns"]) > 0).all()
    assert (trades["at_ns"] % 1_000 == 123).sum() > 0
    assert set(trades["update"]) == {"", "canceled"}
    assert len(set(trades["trade_no"])) == len(trades)
    standin.fault("empty", times=1, skip=2)
    with pytest.raises(VendorDown, match="empty page in the middle"):
        list(feed.trades("IBM", session.open_at, session.close_at))


def test_a_wait_that_alpaca_asks_for_is_kept_within_bounds(standin: Standin) -> None:
    standin.fault("429", times=1)
    feed = open_alpaca(standin, max_wait_s=3.0, attempts=2)
    batch = feed.bars(["IBM"], "1d", FIRST, LAST, XNYS)
    assert len(batch.rows) == 5
    asked = [entry["at"] for entry in standin.log() if entry["path"] == BARS]
    assert len(asked) == 2
