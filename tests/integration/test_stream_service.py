"""The stream's service in one process with its stand-in: what it refuses, replays, amends, and says of itself."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from stream_processes import module_conn, module_url  # noqa: F401 - the fixtures `conn` and `url`
from websockets.asyncio.server import serve

from alpaca_stream_standin.market import Market
from alpaca_stream_standin.server import Config, Standin
from shared_machine import busy
from tradecore import operations
from tradecore.errors import AuthFailed, ConfigError
from tradecore.settings import Settings, load
from tradecore.storage import streams
from tradecore.storage.connection import connect
from tradecore.streaming.opening import Wanted, open_service
from tradecore.streaming.service import Pace

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
QUICK = Pace(batch_s=0.005, settle_s=0.2, beat_s=0.1, report_s=60.0)
KEYS = {"ALPACA_API_KEY": Config().key, "ALPACA_SECRET_KEY": Config().secret}
START = datetime(2013, 2, 1, 14, 30, tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def alpaca(config: Config) -> AsyncIterator[tuple[Standin, dict[str, str]]]:
    """Run a stand-in in this process; give it and what goes into .env."""
    standin = Standin(Market(("AAPL", "IBM"), 3), config)
    async with serve(standin.serve, "127.0.0.1", 0, process_request=standin.answer, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        running = asyncio.create_task(standin.run())
        yield (
            standin,
            {**KEYS, "ALPACA_STREAM_URL": f"ws://127.0.0.1:{port}", "ALPACA_DATA_URL": f"http://127.0.0.1:{port}"},
        )
        running.cancel()


def settings_of(env: dict[str, str]) -> Settings:
    return load({"ALERT_CONSOLE": "false", **env}, "sample")


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s * busy()):
        while not condition():
            await asyncio.sleep(0.02)


def one(conn: psycopg.Connection, query: str, *args: object) -> object:
    row = conn.execute(query, args).fetchone()
    conn.rollback()
    return None if row is None else row[0]


def test_a_wrong_key_ends_the_service_and_says_what_to_do(url: str, conn: psycopg.Connection):
    async def run() -> None:
        async with alpaca(Config(secret="another")) as (_, env):
            wanted = Wanted(source="wrong-key", symbols=("AAPL",), pace=QUICK)
            service = open_service(settings_of(env), lambda: connect(url), wanted, now)
            with pytest.raises(AuthFailed, match="402: auth failed") as failed:
                await service.run(asyncio.Event())
            assert "ALPACA_API_KEY" in failed.value.next_step
            assert "another" not in str(failed.value)

    asyncio.run(run())
    assert one(conn, "SELECT state FROM stream_heartbeats WHERE source = 'wrong-key'") == "failed"


def test_json_and_silence(url: str, conn: psycopg.Connection):
    """Messages as JSON; a connection that falls silent without ending is left, and its hole filled."""

    async def run() -> dict[str, list[int]]:
        async with alpaca(Config(rate=300, linger_s=0.1, rest_lag_s=0.1)) as (standin, env):
            wanted = Wanted(source="silent", symbols=("AAPL", "IBM"), codec="json", silence_s=0.5, pace=QUICK)
            service = open_service(settings_of(env), lambda: connect(url), wanted, now)
            stop = asyncio.Event()
            running = asyncio.create_task(service.run(stop))
            await until(lambda: service.beat.state == "live")
            standin.open_for(60)
            await asyncio.sleep(0.4)
            standin.cut("mute")
            await until(lambda: service.beat.cuts >= 1 and service.beat.state == "live")
            await until(
                lambda: bool(one(conn, "SELECT count(*) > 0 AND count(*) = count(filled_at) FROM stream_holes"))
            )
            standin.open_until = 0.0
            await asyncio.sleep(0.2)
            stop.set()
            await running
            return standin.market.sums()

    truth = asyncio.run(run())
    assert truth["AAPL"][0] > 50
    found = conn.execute(
        "SELECT s.symbol, count(*), sum(t.trade_id)::bigint FROM trades t"
        " JOIN instrument_symbols s USING (instrument_id)"
        " WHERE t.source = 'silent' GROUP BY 1"
    ).fetchall()
    assert {row[0]: list(row[1:]) for row in found} == {name: sums[:2] for name, sums in truth.items()}


def replayed(url: str, path: Path, *, source: str, seconds: float = 60.0, speed: float = 0.0) -> streams.Beat:
    """Replay a file until it is over, or stop after so many seconds."""

    async def run() -> streams.Beat:
        wanted = Wanted(source=source, replay=path, speed=speed, pace=QUICK)
        stop = asyncio.Event()
        service = open_service(settings_of({}), lambda: connect(url), wanted, now)
        running = asyncio.create_task(service.run(stop))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), seconds)
        stop.set()
        return await running

    return asyncio.run(run())


def test_a_replay_of_a_csv_file_goes_on_after_a_stop_and_adds_nothing_again(
    url: str, conn: psycopg.Connection, tmp_path: Path
):
    path = tmp_path / "trades.csv.gz"
    with gzip.open(path, "wt", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["at", "symbol", "price", "size", "conditions"])
        for k in range(3_000):
            at = START + timedelta(milliseconds=20 * k)
            rows.writerow([at.isoformat(), ("AAPL", "IBM", "NOBODY")[k % 3], 100 + k % 7 / 100, 1 + k % 5, "@ I"])
    stopped = replayed(url, path, source="csv", seconds=1.0, speed=15.0)
    assert stopped.state == "stopped"
    some = one(conn, "SELECT count(*) FROM trades WHERE source = 'csv'")
    assert isinstance(some, int)
    assert 100 < some < 2_000, "it ran at 15 times its pace and was stopped in the middle"
    again = replayed(url, path, source="csv")
    assert again.messages < 2_000 - some + 10 * 50 * 2 / 3 + 1, "only the ten seconds before the cursor come twice"
    count, sizes = conn.execute("SELECT count(*), sum(size) FROM trades WHERE source = 'csv'").fetchone() or (0, 0)
    assert (count, sizes) == (2_000, sum(1 + k % 5 for k in range(3_000) if k % 3 != 2))
    assert replayed(url, path, source="csv").messages <= 10 * 50
    assert one(conn, "SELECT count(*) FROM trades WHERE source = 'csv'") == 2_000


def test_bars_corrections_and_cancels_of_a_recorded_stream(url: str, conn: psycopg.Connection, tmp_path: Path):
    """A bar's later version replaces it; corrected and cancelled trades leave `trades` as it is."""
    base = {"S": "AAPL", "x": "V", "z": "C"}
    trade = {**base, "T": "t", "c": ["@"], "p": 100.0, "s": 10}
    bar = {"T": "b", "S": "AAPL", "o": 100, "h": 102, "l": 99, "c": 101, "v": 1_000, "n": 12, "vw": 100.5}
    lines: list[object] = [
        [{**trade, "i": k, "t": f"2013-02-01T14:30:0{k}.123456789Z"} for k in range(1, 5)],
        {**base, "T": "c", "t": "2013-02-01T14:30:06Z", "oi": 2, "op": 100, "os": 10, "ci": 9, "cp": 100.5, "cs": 7},
        {**base, "T": "x", "t": "2013-02-01T14:30:07Z", "i": 3, "p": 100, "s": 10, "a": "C"},
        {**trade, "i": 9, "t": "2013-02-01T14:30:08Z", "p": 100.5, "s": 7},
        {**bar, "t": "2013-02-01T14:30:00Z"},
        {**bar, "t": "2013-02-01T14:31:00Z", "h": 103},
        {**bar, "T": "u", "t": "2013-02-01T14:30:00Z", "h": 104, "v": 1_100},
        {**trade, "i": "no number", "t": "2013-02-01T14:32:00Z"},
    ]
    path = tmp_path / "recorded.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert replayed(url, path, source="recorded").rejects == 1
    rows = conn.execute(
        "SELECT trade_id, trade_at, price, conditions FROM trades WHERE source = 'recorded' ORDER BY 1"
    ).fetchall()
    assert [row[0] for row in rows] == [1, 2, 3, 4, 9]
    assert rows[0] == (1, datetime(2013, 2, 1, 14, 30, 1, 123456, UTC), 100.0, "@")
    standing = conn.execute("SELECT trade_id, price, size FROM trades_in_force WHERE source = 'recorded' ORDER BY 1")
    assert standing.fetchall() == [(1, 100.0, 10.0), (2, 100.5, 7.0), (4, 100.0, 10.0)]
    bars = conn.execute(
        "SELECT bar_end_at, session_date, high, volume, trade_count, vwap FROM minute_bars WHERE source = 'recorded'"
        " ORDER BY 1"
    ).fetchall()
    day = date(2013, 2, 1)
    assert bars == [
        (datetime(2013, 2, 1, 14, 31, tzinfo=UTC), day, 104.0, 1_100.0, 12, 100.5),
        (datetime(2013, 2, 1, 14, 32, tzinfo=UTC), day, 103.0, 1_000.0, 12, 100.5),
    ]
    coarser = conn.execute("SELECT max(high), sum(volume) FROM minute_bars_5m WHERE source = 'recorded'").fetchone()
    assert coarser == (104.0, 2_100.0)


def test_who_asks_for_what_cannot_be_is_told(url: str, tmp_path: Path):
    def opened(env: dict[str, str], wanted: Wanted) -> None:
        open_service(settings_of(env), lambda: connect(url), wanted, now)

    with pytest.raises(AuthFailed, match=r"needs a key of Alpaca's"):
        opened({}, Wanted())
    with pytest.raises(ConfigError, match=r"TSLA: not in the universe"):
        opened(KEYS, Wanted(symbols=("TSLA",)))
    with pytest.raises(ConfigError, match=r"--feed is 'otc'"):
        opened(KEYS, Wanted(feed="otc"))
    with pytest.raises(ConfigError, match=r"base_url is on example.org"):
        opened({**KEYS, "ALPACA_STREAM_URL": "wss://example.org"}, Wanted())
    with pytest.raises(ConfigError, match=r"ALPACA_DATA_URL"):
        opened({**KEYS, "ALPACA_DATA_URL": "https://example.org"}, Wanted())
    with pytest.raises(ConfigError, match=r"nothing.jsonl is no file"):
        opened({}, Wanted(replay=tmp_path / "nothing.jsonl"))


@pytest.mark.parametrize(
    ("changes", "seconds", "said"),
    [
        ({}, 61, "is dead: no heartbeat for 61 s (process 4711 on pi)"),
        ({}, 59, ""),
        ({"state": "stopped"}, 9_999, ""),
        ({"state": "failed", "last_error": "auth failed"}, 1, "gave up: auth failed"),
        ({"state": "connecting", "last_error": "refused"}, 1, ""),
        ({"state": "connecting", "state_at": START - timedelta(minutes=6)}, 1, "has not been connected since"),
    ],
)
def test_the_watch_sees_a_stream_that_is_not_well(
    conn: psycopg.Connection, changes: dict[str, object], seconds: int, said: str
):
    said_before = streams.Beat(
        **{  # type: ignore[arg-type]
            "source": "watched",
            "state": "live",
            "state_at": START,
            "host": "pi",
            "pid": 4711,
            "started_at": START,
            "beat_at": START,
            "messages": 1,
            "messages_per_s": 0.0,
            "lag_p50_ms": None,
            "lag_p99_ms": None,
            "rejects": 0,
            "cuts": 0,
            "last_error": "",
            **changes,
        }
    )
    conn.execute("DELETE FROM stream_heartbeats")
    streams.beat(conn, said_before)
    at = START + timedelta(seconds=seconds)
    lines = [line for line in operations._stream_lines(settings_of({}), conn, at) if "watched" in line]
    assert len(lines) == bool(said)
    assert said in "".join(lines)
    raised = conn.execute("SELECT count(*) FROM alerts WHERE kind = 'stream'").fetchone()
    assert raised == (len(lines),)
    conn.rollback()
