"""Random faults by seed: cuts of every kind, REST that fails and knows late, late prints, a database that hangs up,
the service stopped and started. After the last start the database holds the truth, each trade once.

STREAM_SEED=n runs one seed again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from stream_processes import module_conn, module_url, stored_sums  # noqa: F401 - the fixtures `conn` and `url`
from websockets.asyncio.server import serve

from alpaca_stream_standin.market import Market
from alpaca_stream_standin.server import Config, Standin
from shared_machine import busy
from tradecore.settings import load
from tradecore.storage import bars as stored
from tradecore.storage.connection import connect
from tradecore.streaming import opening
from tradecore.streaming.opening import Wanted
from tradecore.streaming.service import Pace, Service
from tradecore.streaming.store import Keeping, Store

pytestmark = pytest.mark.db
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
PACE = Pace(batch_s=0.005, settle_s=0.8, beat_s=0.1)
KEEPING = Keeping(overlap=timedelta(seconds=1), margin=timedelta(seconds=0.1))
ACTS = ("abort", "partial", "close", "mute", "database", "restart", "nothing")
ONE = os.environ.get("STREAM_SEED")
SEEDS = [int(ONE)] if ONE else list(range(100))


class Run:
    """A service that a test may stop, start and starve."""

    def __init__(self, url: str, env: dict[str, str], source: str) -> None:
        self._url, self._settings, self._source = url, load({"ALERT_CONSOLE": "false", **env}, "sample"), source
        self._stop = asyncio.Event()
        self.service = self._new()
        self._task = asyncio.create_task(self.service.run(self._stop))

    def _new(self) -> Service:
        def now() -> datetime:
            return datetime.now(UTC)

        wanted = Wanted(source=self._source, bars=False, silence_s=0.4, pace=PACE)
        service = opening.open_service(self._settings, lambda: connect(self._url), wanted, now)
        with connect(self._url) as conn:
            universe = stored.read_universe(conn, self._settings.trading.universe.name)
        ids = [m.instrument.instrument_id for m in universe]
        connects = lambda: connect(self._url)  # noqa: E731
        service._store = Store(connects, source=self._source, ids=ids, now=now, keeping=KEEPING)
        return service

    async def end(self) -> None:
        self._stop.set()
        await self._task

    async def restart(self) -> None:
        await self.end()
        self._stop = asyncio.Event()
        self.service = self._new()
        self._task = asyncio.create_task(self.service.run(self._stop))

    async def until(self, seconds: float, conn: psycopg.Connection, query: str) -> None:
        async with asyncio.timeout(seconds * busy()):
            while True:
                row = conn.execute(query, (self._source,)).fetchone()
                conn.rollback()
                if row and row[0]:
                    return
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.05)


async def trial(seed: int, source: str, url: str, conn: psycopg.Connection) -> tuple[Standin, list[str]]:
    """Receive for two seconds through what the seed brings, then wait until nothing is missing."""
    rng = random.Random(seed)
    config = Config(rate=400, linger_s=0.05, rest_lag_s=0.3, rest_faults_frac=0.3, requests_per_minute=10**6, seed=seed)
    standin = Standin(Market(SYMBOLS, seed, disorder_s=0.2), config)
    acts = []
    async with serve(standin.serve, "127.0.0.1", 0, process_request=standin.answer, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        market = asyncio.create_task(standin.run())
        env = {"ALPACA_STREAM_URL": f"ws://127.0.0.1:{port}", "ALPACA_DATA_URL": f"http://127.0.0.1:{port}"}
        run = Run(url, {**env, "ALPACA_API_KEY": config.key, "ALPACA_SECRET_KEY": config.secret}, source)
        live = "SELECT state = 'live' FROM stream_heartbeats WHERE source = %s"
        await run.until(30, conn, live)
        standin.open_for(float("inf"))
        for _ in range(rng.randint(1, 4)):
            await asyncio.sleep(rng.uniform(0.05, 0.6))
            acts.append(act := rng.choice(ACTS))
            if act == "restart":
                await run.restart()
            elif act == "database":
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                conn.rollback()
            elif act != "nothing":
                standin.cut(act)
        await asyncio.sleep(0.3)
        standin.open_until = 0.0
        await asyncio.sleep(0.1)
        await run.restart()  # what a silent connection kept back when it was stopped, the next start fetches
        await run.until(60, conn, live)
        await run.until(
            60, conn, "SELECT count(*) > 0 AND count(*) = count(filled_at) FROM stream_holes WHERE source = %s"
        )
        await run.end()
        market.cancel()
    return standin, acts


def check(seed: int, url: str, conn: psycopg.Connection) -> str:
    source = f"seed:{seed}:{time.monotonic_ns()}"
    standin, acts = asyncio.run(trial(seed, source, url, conn))
    truth = {name: sums for name, sums in standin.market.sums().items() if sums[0]}
    holes = conn.execute("SELECT count(*) FROM stream_holes WHERE source = %s", (source,)).fetchone()
    text = (
        f"seed {seed}: {', '.join(acts)}; {sum(s[0] for s in truth.values())} trades, {holes[0] if holes else 0} holes"
    )
    assert stored_sums(conn, source) == truth, text
    return text


def test_the_truth_after_random_faults(url: str, conn: psycopg.Connection):
    print(check(int(ONE or 7), url, conn))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_truth_after_random_faults_by_many_seeds(seed: int, url: str, conn: psycopg.Connection):
    print(check(seed, url, conn))
