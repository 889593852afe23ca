"""Messages of Alpaca's stream as rows, read as alpaca-py reads them, and what its error codes mean."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgpack
import pytest
from alpaca.data.live import StockDataStream
from alpaca.data.models import Bar, Trade
from websockets.asyncio.server import serve

from alpaca_stream_standin.market import Market, rfc3339
from alpaca_stream_standin.server import Config, Standin
from tradecore.errors import AuthFailed, FeedError, MalformedData, Throttled, VendorDown
from tradecore.feeds.alpaca_stream import AlpacaLine, StreamOptions, decode, refusal
from tradecore.storage.streams import at_of
from tradecore.streaming.inbox import Inbox

NS = 1_765_000_000_123_456_789
TRADE = {"T": "t", "S": "AAPL", "i": 52_983_525_029_461, "x": "V", "p": 126.55, "s": 1, "c": ["@", "I"], "z": "C"}
BAR = {"T": "b", "S": "AAPL", "o": 1.5, "h": 2.5, "l": 1.0, "c": 2.0, "v": 1_234, "n": 5, "vw": 1.75}


@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_a_trade_and_a_bar_read_as_alpaca_py_reads_them(codec: str):
    times: dict[str, Any] = {"t": msgpack.Timestamp.from_unix_nano(NS)} if codec == "msgpack" else {"t": rfc3339(NS)}
    frame = [{**TRADE, **times}, {**BAR, **times}]
    inbox = Inbox({"AAPL": 7})
    inbox.take(decode(msgpack.packb(frame) if codec == "msgpack" else json.dumps(frame)))
    at = {"t": datetime.fromtimestamp(NS // 1_000_000_000, UTC) + timedelta(microseconds=123_456)}
    theirs, bar = Trade("AAPL", {**TRADE, **at}), Bar("AAPL", {**BAR, **at})
    (row,) = inbox.batch.trades
    assert (row[0], at_of(row[1]), row[2], row[3], row[4], row[5]) == (
        *(7, theirs.timestamp, "V", theirs.id, theirs.price, theirs.size),
    )
    assert row[6] == " ".join(theirs.conditions or ())
    (found,) = inbox.batch.bars
    assert at_of(found[1]) == bar.timestamp + timedelta(minutes=1)
    assert found[3:] == (bar.open, bar.high, bar.low, bar.close, bar.volume, 5, bar.vwap)


def test_a_minute_after_midnight_utc_is_of_the_exchanges_day():
    inbox = Inbox({"AAPL": 1})
    inbox.take([{**BAR, "t": "2025-07-02T00:10:00Z"}, {**BAR, "t": "2025-12-01T15:00:00Z"}])
    assert [row[2] for row in inbox.batch.bars] == [date(2025, 7, 1), date(2025, 12, 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"S": "MSFT"},
        {"S": None},
        {"i": "x"},
        {"p": None},
        {"p": "a lot"},
        {"t": "yesterday"},
        {"t": None},
        {"i": 2**64},
        {"x": "\0"},
        {"c": ["@"] * 99},
        {"c": [1]},
    ],
)
def test_what_cannot_be_read_is_counted_and_costs_no_other_message(wrong: dict[str, Any]):
    inbox = Inbox({"AAPL": 7})
    good = {**TRADE, "t": NS}
    inbox.take([good, {**good, **wrong}, good])
    assert (len(inbox.batch.trades), inbox.rejects, inbox.batch.messages) == (2, 1, 3)


def test_other_messages_are_passed_over():
    inbox = Inbox({"AAPL": 7})
    inbox.take([{"T": "q", "S": "AAPL"}, {"T": "subscription"}, {}, {"T": "d", "S": "AAPL"}])
    assert (len(inbox.batch), inbox.rejects) == (0, 0)


def test_ids_of_the_upper_half_and_missing_values():
    inbox = Inbox({"AAPL": 7})
    inbox.take([{**TRADE, "t": NS, "i": 2**64 - 1, "c": None, "x": None}])
    inbox.take([{k: v for k, v in BAR.items() if k not in ("n", "vw")} | {"t": NS}])
    assert inbox.batch.trades[0][2:4] == ("", -1)
    assert inbox.batch.trades[0][6] == ""
    assert inbox.batch.bars[0][8] == 0
    assert math.isnan(inbox.batch.bars[0][9])


def test_what_rest_says_became_of_a_trade():
    inbox = Inbox({"AAPL": 7})
    page = {k: v for k, v in TRADE.items() if k not in ("T", "S")} | {"t": "2025-07-02T14:10:00.5Z"}
    inbox.take_page([("AAPL", page), ("AAPL", {**page, "i": 5, "u": "canceled"})])
    assert [row[3] for row in inbox.batch.trades] == [TRADE["i"], 5]
    assert [(a.trade_id, a.kind) for a in inbox.batch.amendments] == [(5, "cancelled")]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, MalformedData),
        (401, AuthFailed),
        (402, AuthFailed),
        (404, VendorDown),
        (405, AuthFailed),
        (406, Throttled),
        (407, VendorDown),
        (409, AuthFailed),
        (500, VendorDown),
        (999, VendorDown),
    ],
)
def test_each_code_has_one_meaning_and_a_next_step(code: int, kind: type[FeedError]):
    error = refusal(code, "why")
    assert type(error) is kind
    assert error.next_step
    assert f"{code}: why" in str(error)


@pytest.mark.parametrize("frame", [b"\xc1", "{", b"", "5"])
def test_a_frame_that_is_none_is_an_error(frame: str | bytes):
    with pytest.raises(MalformedData):
        decode(frame)


def options(port: int, **changes: Any) -> StreamOptions:
    given = {"symbols": ("AAPL",), "api_key": Config().key, "secret_key": Config().secret, **changes}
    return StreamOptions(base_url=f"ws://127.0.0.1:{port}", timeout_s=5, **given)


def test_the_line_meets_what_alpaca_refuses():
    """One connection a key, symbols that the stream does not have, more than the plan has, nobody there."""

    async def entered(asked: StreamOptions) -> None:
        async with AlpacaLine(asked):
            pass

    async def run() -> None:
        standin = Standin(Market(("AAPL", "IBM"), 1), Config(linger_s=0.0, most_symbols=1))
        async with serve(standin.serve, "127.0.0.1", 0, process_request=standin.answer) as server:
            port = server.sockets[0].getsockname()[1]
            async with AlpacaLine(options(port)):
                with pytest.raises(Throttled, match="406: connection limit exceeded"):
                    await entered(options(port))
            with pytest.raises(MalformedData, match="does not give trades of NOBODY"):
                await entered(options(port, symbols=("AAPL", "NOBODY")))
            with pytest.raises(AuthFailed, match="405: symbol limit exceeded"):
                await entered(options(port, symbols=("AAPL", "IBM")))
            with pytest.raises(AuthFailed, match="402: auth failed"):
                await entered(options(port, secret_key="wrong"))
        with pytest.raises(VendorDown, match="cannot be reached"):
            await entered(options(port))

    asyncio.run(run())


def test_alpaca_pys_own_client_understands_the_stand_in():
    """What passes for Alpaca here passes for it with Alpaca's client: authentication, subscription, trades."""

    async def run() -> list[Trade]:
        standin, found = Standin(Market(("AAPL",), 1), Config(rate=200)), []
        async with serve(standin.serve, "127.0.0.1", 0, process_request=standin.answer) as server:
            running = asyncio.create_task(standin.run())
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2/iex"
            client = StockDataStream(Config().key, Config().secret, url_override=url)

            async def keep(trade: Any) -> None:
                found.append(trade)

            client.subscribe_trades(keep, "AAPL")
            theirs = asyncio.create_task(client._run_forever())
            async with asyncio.timeout(20):
                while not standin.clients:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)
                standin.open_for(0.3)
                while len(found) < 20:
                    await asyncio.sleep(0.02)
            await client.stop_ws()
            await client.close()
            theirs.cancel()
            running.cancel()
            tape = standin.market.tapes["AAPL"]
            assert [t.id for t in found] == [row[1] for row in tape.trades[: len(found)]]
            return found

    trades = asyncio.run(run())
    assert all(t.symbol == "AAPL" and t.price > 0 for t in trades)
