"""`tradecore stream` as a process, over a real WebSocket from a stand-in that is one too: nothing lost or doubled."""

from __future__ import annotations

import random
import signal
import statistics
import time
from pathlib import Path

import psycopg
import pytest
from stream_processes import (
    Listener,
    Standin,
    module_conn,  # noqa: F401 - the fixture `conn`
    module_url,  # noqa: F401 - the fixture `url`
    service,
    standin,
    stored_sums,
    wait_for,
)

from shared_machine import busy
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
LIVE = "SELECT state = 'live' FROM stream_heartbeats WHERE source = %s"
FILLED = "SELECT count(*) > 0 AND count(*) = count(filled_at) FROM stream_holes WHERE source = %s"
IEX = "alpaca:iex"
HOWS = ("abort", "partial", "close")


def cut_at_random(alpaca: Standin, cuts: int, seconds: float, rng: random.Random) -> None:
    """Cut the connection so often within the seconds, each time when there is one."""
    end = time.monotonic() + seconds
    for number in range(cuts):
        time.sleep(rng.uniform(0.4, 0.9) * seconds / cuts)
        while not alpaca.ask(f"cut?how={HOWS[number % len(HOWS)]}")["cut"]:
            assert time.monotonic() < end + 60 * busy(), "the service does not come back"
            time.sleep(0.1)
    time.sleep(max(0.0, end - time.monotonic()))


def run_through_cuts(
    url: str, folder: Path, *, rate: int, seconds: float, cuts: int, rest_faults: float
) -> tuple[dict[str, list[int]], dict[str, list[int]], list[float], dict[str, int]]:
    """Receive for so long at that rate while connections are cut; return truth, database, lags and counts."""
    rng = random.Random(5)
    with (
        standin("--rest-faults", str(rest_faults), "--rate-limit", "100000") as alpaca,
        Listener(url) as listener,
        connect(url) as conn,
        service(url, folder, alpaca.env, "--report-s", "5", "--settle-s", "1.5") as stream,
    ):
        wait_for(conn, LIVE, 60, IEX)
        alpaca.ask(f"open?seconds={seconds}&rate={rate}")
        cut_at_random(alpaca, cuts, seconds, rng)
        truth = alpaca.ask("sums")
        if cuts:
            wait_for(conn, FILLED, 120, IEX)
        count = sum(row[0] for row in truth.values())
        wait_for(conn, "SELECT count(*) >= %s FROM trades WHERE source = %s", 60, count, IEX)
        assert stream.end() == 0, stream.log.read_text()
        counts = alpaca.ask("counts")
        print(stream.log.read_text())
        return truth, stored_sums(conn), listener.lags_ms(), counts


def test_three_seconds_with_three_cuts_lose_nothing(url: str, tmp_path: Path, conn: psycopg.Connection):
    truth, found, lags, counts = run_through_cuts(url, tmp_path, rate=1_000, seconds=3, cuts=3, rest_faults=0.2)
    assert found == truth
    assert sum(row[0] for row in truth.values()) > 2_000
    assert counts["cuts"] == 3
    assert counts["connections"] >= 4
    lag = statistics.median(lags)
    print(f"proof: median lag {lag:.0f} ms over {len(lags)} rows, {counts}")
    assert lag < 1_000 * busy()
    row = conn.execute("SELECT state, cuts, messages > 0, rejects FROM stream_heartbeats WHERE source = %s", (IEX,))
    assert row.fetchone() == ("stopped", 3, True, 0)
    holes = conn.execute("SELECT count(*), sum(rows_filled) FROM stream_holes WHERE source = %s", (IEX,)).fetchone()
    assert holes is not None
    assert holes[0] >= 3
    assert holes[1] > 0, "what the cuts lost came from REST"


def test_killed_twice_and_its_database_connection_once_it_goes_on_where_it_was(tmp_path: Path, database_url: str):
    """SIGKILL while trades arrive, a second process beside it, a database that ends its connections: all is there."""
    quick = ("--settle-s", "1.5")
    with standin("--rate-limit", "100000") as alpaca, connect(database_url) as conn:
        with service(database_url, tmp_path, alpaca.env, *quick) as first:
            wait_for(conn, LIVE, 60, IEX)
            alpaca.ask("open?seconds=600&rate=500")
            wait_for(conn, "SELECT count(*) > 100 FROM trades", 30)
            with service(database_url, tmp_path, alpaca.env) as second:
                assert second.process.wait(timeout=60 * busy()) == 1
                assert f"another process receives {IEX} already: {first.process.pid} on" in second.log.read_text()
                assert "next: end that one first" in second.log.read_text()
            assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with service(database_url, tmp_path, alpaca.env, *quick) as third:
            wait_for(conn, "SELECT pid = %s AND state = 'live' FROM stream_heartbeats", 60, third.process.pid)
            ended = conn.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
            assert ended is not None
            assert ended[0] >= 1
            wait_for(conn, "SELECT cuts = 1 AND state = 'live' FROM stream_heartbeats", 60)
            alpaca.ask("open?seconds=0")
            time.sleep(0.2)
            truth = alpaca.ask("sums")
            wait_for(conn, FILLED, 60, IEX)
            assert third.end() == 0, third.log.read_text()
        assert stored_sums(conn) == truth
        assert "another `tradecore stream`" not in first.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [0, 10])
def test_ten_thousand_messages_a_second_for_a_minute(cuts: int, database_url: str, tmp_path: Path):
    """The median of how old a trade is when a listener hears that it is in the database, and not one trade missing."""
    truth, found, lags, counts = run_through_cuts(
        database_url, tmp_path, rate=10_000, seconds=60, cuts=cuts, rest_faults=0.1 if cuts else 0.0
    )
    trades = sum(row[0] for row in truth.values())
    lag, late = statistics.median(lags), statistics.quantiles(lags, n=100)[98]
    print(f"proof: {trades:,} trades, {cuts} cuts: median {lag:.0f} ms, 99th percentile {late:.0f} ms; {counts}")
    assert found == truth
    assert trades > 590_000
    assert counts["cuts"] == cuts
    assert lag < 100
