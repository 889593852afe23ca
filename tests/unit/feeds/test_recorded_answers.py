"""Answers as the vendors gave them, read: the values of alpaca-py's recorded ones (its test suite, 2026-07), of Alpha
Vantage's documentation and of ccxt's, written out anew from those facts."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from http_standin import HttpStandin
from tradecore import logs
from tradecore.errors import AuthFailed, FeedError, MalformedData, NoSuchSymbol, Throttled
from tradecore.feeds import Access, Feed, open_feed
from tradecore.feeds import alpaca_records as records
from tradecore.sessions import calendar
from tradecore.units import to_ns

XNYS = calendar("XNYS")
LATER = to_ns(datetime(2026, 1, 1, tzinfo=UTC))
KEY = "A-VANTAGE-KEY-0001"
AAPL = [
    {
        "t": "2022-02-01T05:00:00Z",
        "o": 174,
        "h": 174.84,
        "l": 172.31,
        "c": 174.61,
        "v": 85998033,
        "n": 732412,
        "vw": 173.7,
    },
    {
        "t": "2022-02-02T05:00:00Z",
        "o": 174.64,
        "h": 175.88,
        "l": 173.33,
        "c": 175.84,
        "v": 84817432,
        "n": 675034,
        "vw": 1,
    },
]
TSLA_IN_SUMMER = {
    "c": 240.5,
    "h": 245.33,
    "l": 234.58,
    "n": 1,
    "o": 244.262,
    "t": "2023-09-27T04:00:00Z",
    "v": 136616287,
}
TRADES = [
    {"t": "2022-03-09T05:00:02.183Z", "x": "D", "p": 159.07, "s": 1, "c": ["@", "T", "I"], "i": 151, "z": "C"},
    {"t": "2022-01-03T09:00:00.086175744Z", "x": "P", "p": 178.26, "s": 246, "c": ["@", "T"], "i": 1, "z": "C"},
]
ACTIONS = {
    "reverse_splits": [{"ex_date": "2023-08-24", "new_rate": 1, "old_rate": 50, "symbol": "MNTS"}],
    "forward_splits": [{"ex_date": "2023-08-22", "new_rate": 2, "old_rate": 1, "symbol": "SRE"}],
    "stock_dividends": [{"ex_date": "2023-05-19", "rate": Decimal("0.05"), "symbol": "MSBC"}],
    "cash_dividends": [
        {"ex_date": "2023-05-04", "payable_date": "2023-05-19", "rate": Decimal("0.125"), "symbol": "FCF"},
        {"ex_date": "2024-08-07", "payable_date": "2024-08-26", "rate": Decimal("0.086928"), "symbol": "ZMTBY"},
    ],
    "cash_mergers": [{"acquiree_symbol": "GLOP", "effective_date": "2023-07-17", "rate": Decimal("5.37")}],
    "spin_offs": [{"ex_date": "2023-10-02", "new_rate": 1, "new_symbol": "KLG", "source_symbol": "K"}],
}


def test_alpacas_daily_bars_are_of_new_yorks_day_in_winter_and_in_summer() -> None:
    grid = records.Grid.of(XNYS, "1d", date(2022, 2, 1), date(2022, 2, 2))
    rows, rejects = records.daily_rows("AAPL", AAPL, grid, LATER)
    assert rejects == []
    assert [row[1] for row in rows] == [date(2022, 2, 1), date(2022, 2, 2)]
    assert rows[0][3:] == (174.0, 174.84, 172.31, 174.61, 85998033.0)
    grid = records.Grid.of(XNYS, "1d", date(2023, 9, 27), date(2023, 9, 27))
    ((symbol, day, end, *_),), _ = records.daily_rows("TSLA", [TSLA_IN_SUMMER], grid, LATER)
    assert (symbol, day, end) == ("TSLA", date(2023, 9, 27), to_ns(datetime(2023, 9, 27, 20, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"c": None}, "its numbers are"),
        ({"o": "174"}, "its numbers are"),
        ({"v": True}, "its numbers are"),
        ({"t": "yesterday"}, "Invalid isoformat"),
        ({"t": "2022-02-05T05:00:00Z"}, "2022-02-05 (Saturday) is not a session"),
    ],
)
def test_a_bar_of_alpacas_that_is_none_is_kept_with_its_reason(change: dict[str, Any], reason: str) -> None:
    grid = records.Grid.of(XNYS, "1d", date(2022, 2, 1), date(2022, 2, 8))
    rows, (reject,) = records.daily_rows("AAPL", [{**AAPL[0], **change}, AAPL[1]], grid, LATER)
    assert len(rows) == 1
    assert reason in reject.reason
    assert json.loads(reject.raw)["n"] == 732412


def test_alpacas_trades_keep_nanoseconds_and_ids() -> None:
    trades = records.trade_rows(TRADES)
    assert trades["at_ns"].tolist() == [1646802002183000000, 1641200400086175744]
    assert trades[["trade_no", "price", "size", "exchange", "conditions"]].tolist()[0] == (
        151,
        159.07,
        1.0,
        "D",
        "@ T I",
    )
    with pytest.raises(MalformedData, match="trades cannot be read"):
        records.trade_rows([{**TRADES[0], "p": "much"}])


def test_alpacas_actions_are_exact_and_what_nothing_follows_is_named(caplog: pytest.LogCaptureFixture) -> None:
    found = {a.symbol: a for a in records.actions_of([ACTIONS], "alpaca")}
    assert set(found) == {"MNTS", "SRE", "MSBC", "FCF", "ZMTBY", "GLOP"}
    assert [(found[s].ratio_num, found[s].ratio_den) for s in ("MNTS", "SRE", "MSBC")] == [(1, 50), (2, 1), (21, 20)]
    assert (found["FCF"].dividend_e6, found["FCF"].pay_date) == (125_000, date(2023, 5, 19))
    assert found["ZMTBY"].dividend_e6 == 86_928
    assert (found["GLOP"].kind, found["GLOP"].dividend_e6) == ("delisting", 5_370_000)
    assert "spin_offs" in caplog.text
    assert "KLG" in caplog.text
    with pytest.raises(MalformedData, match="is no corporate action"):
        records.actions_of([{"forward_splits": [{"symbol": "SRE", "ex_date": "2023-08-22", "new_rate": 2}]}], "alpaca")


@pytest.fixture
def server() -> Iterator[HttpStandin]:
    with HttpStandin() as found:
        yield found


def vantage(server: HttpStandin) -> Feed:
    quick = {"attempts": 1, "backoff_s": 0.001, "max_wait_s": 0.01}
    return open_feed("alpha_vantage", options={**quick, "base_url": server.url}, access=Access(api_key=KEY))


IBM = {
    "Meta Data": {"2. Symbol": "IBM", "5. Time Zone": "US/Eastern"},
    "Time Series (Daily)": {
        "2024-11-01": {
            "1. open": "207.7700", "2. high": "208.4900", "3. low": "206.1800",
            "4. close": "208.2500", "5. volume": "3504692",
        },
        "2024-10-31": {
            "1. open": "205.1000", "2. high": "207.2300", "3. low": "204.6500",
            "4. close": "206.7200", "5. volume": "4379300",
        },
    },
}  # fmt: skip
RATE = "Thank you for using Alpha Vantage! Our standard API rate limit is 25 requests per day."
SPEED = "Our standard API call frequency is 5 calls per minute and 500 calls per day."


def test_alpha_vantages_days_are_read_oldest_first(server: HttpStandin) -> None:
    server.answer_next(200, json.dumps(IBM))
    batch = vantage(server).bars(["IBM"], "1d", date(2024, 10, 31), date(2024, 11, 1), XNYS)
    assert batch.rows["session_date"].astype(str).tolist() == ["2024-10-31", "2024-11-01"]
    assert batch.rows[["open", "high", "low", "close", "volume"]].tolist()[1] == (
        207.77,
        208.49,
        206.18,
        208.25,
        3504692,
    )
    assert not batch.failures
    (asked,) = server.requests
    assert "outputsize=compact" in asked.path


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"Information": RATE}, Throttled),
        ({"Note": SPEED}, Throttled),
        ({"Information": "Thank you for using Alpha Vantage! This is a premium endpoint."}, AuthFailed),
        ({"Error Message": f"the parameter apikey is invalid or missing: {KEY}"}, AuthFailed),
        (
            {"Error Message": "Invalid API call. Please retry or visit the documentation for TIME_SERIES_DAILY."},
            NoSuchSymbol,
        ),
        ({}, MalformedData),
        ([], MalformedData),
    ],
)
def test_alpha_vantages_refusals_come_with_200_and_are_told_apart(
    server: HttpStandin, said: Any, error: type[FeedError]
) -> None:
    server.answer_next(200, json.dumps(said))
    with pytest.raises(error) as caught:
        vantage(server).bars(["IBM"], "1d", date(2024, 10, 31), date(2024, 11, 1), XNYS)
    assert type(caught.value) is error
    assert KEY not in f"{caught.value} {caught.value!r} {caught.value.details}"


def test_alpha_vantages_events_have_pay_dates_and_exact_ratios(server: HttpStandin) -> None:
    dividend = {"ex_dividend_date": "2024-08-09", "payment_date": "2024-09-10", "amount": "1.67"}
    old = {"ex_dividend_date": "1999-11-08", "payment_date": "None", "amount": "0.12"}
    server.answer_next(200, json.dumps({"symbol": "IBM", "data": [dividend, old]}))
    server.answer_next(
        200, json.dumps({"symbol": "IBM", "data": [{"effective_date": "2021-11-04", "split_factor": "1.0460"}]})
    )
    found = vantage(server).actions(["IBM"], date(1999, 1, 4), date(2024, 12, 31))
    assert [(a.kind, str(a.ex_date), a.pay_date) for a in found] == [
        ("dividend", "1999-11-08", None),
        ("split", "2021-11-04", None),
        ("dividend", "2024-08-09", date(2024, 9, 10)),
    ]
    assert (found[1].ratio_num, found[1].ratio_den, found[2].dividend_e6) == (523, 500, 1_670_000)


def test_a_key_in_the_address_is_in_no_log_at_any_level(server: HttpStandin) -> None:
    text = io.StringIO()
    logs.configure("debug", [KEY], stream=text)
    try:
        logging.getLogger("urllib3").setLevel(logging.DEBUG)
        server.answer_next(200, json.dumps(IBM))
        vantage(server).bars(["IBM"], "1d", date(2024, 10, 31), date(2024, 11, 1), XNYS)
    finally:
        logs.reset()
        logging.getLogger("urllib3").setLevel(logging.NOTSET)
    assert "/query" in text.getvalue(), "not exercised: nothing was logged"
    assert KEY not in text.getvalue()


def test_bitstamps_candles_as_ccxt_reads_them(server: HttpStandin) -> None:
    market = {
        "name": "BTC/USD", "market_symbol": "btcusd", "base_currency": "BTC", "base_decimals": 8,
        "counter_currency": "USD", "counter_decimals": 0, "minimum_order_value": "10", "trading": "Enabled",
        "instant_order_counter_decimals": 2, "instant_and_market_orders": "Enabled",
        "description": "Bitcoin / U.S. dollar", "market_type": "SPOT",
    }  # fmt: skip
    candle = {
        "high": "9067.33", "timestamp": "1593907200", "volume": "0.04142833", "low": "9061.94", "close": "9061.07",
        "open": "9064.66",
    }  # fmt: skip
    server.answer_next(200, json.dumps([market]))
    server.answer_next(200, json.dumps({"data": {"pair": "BTC/USD", "ohlc": [candle]}}))
    feed = open_feed("crypto", options={"base_url": server.url, "attempts": 1})
    day = date(2020, 7, 5)
    batch = feed.bars(["BTC-USD"], "1d", day, day, calendar("24/7"))
    (row,) = batch.rows.tolist()
    assert row == (
        "BTC-USD",
        day,
        to_ns(datetime(2020, 7, 6, tzinfo=UTC)),
        9064.66,
        9067.33,
        9061.94,
        9061.07,
        0.04142833,
    )
    with pytest.raises(NoSuchSymbol, match="not quoted in USD"):
        feed.bars(["BTC-EUR"], "1d", day, day, calendar("24/7"))
    assert np.isfinite(row[3])
