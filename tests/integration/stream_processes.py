"""The stream as it runs: `tradecore stream` and Alpaca's stand-in as processes, and what a listener hears of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shared_machine import busy
from tradecore.storage.connection import connect

REPO = Path(__file__).resolve().parents[2]
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")  # the sample's universe
SUMS = """
SELECT s.symbol, count(*), sum(t.trade_id)::bigint, sum(round(t.price * 100))::bigint, sum(t.size)::bigint,
       sum((extract(epoch FROM t.trade_at) * 1000000)::bigint)::numeric
FROM trades t JOIN instrument_symbols s USING (instrument_id)
WHERE t.source = %s GROUP BY s.symbol
"""


@pytest.fixture(name="url", scope="module")
def module_url(module_database_url: str) -> str:
    """A database of the module's tests."""
    return module_database_url


@pytest.fixture(name="conn")
def module_conn(url: str) -> Iterator[psycopg.Connection]:
    """A connection to it for one test."""
    with connect(url) as found:
        yield found


@dataclass(slots=True)
class Standin:
    """A running stand-in."""

    process: subprocess.Popen[str]
    env: dict[str, str]

    def ask(self, what: str) -> Any:
        """Ask for /standin/WHAT."""
        with urllib.request.urlopen(f"{self.env['ALPACA_DATA_URL']}/standin/{what}", timeout=30) as answer:
            return json.load(answer)


@contextmanager
def standin(*options: str) -> Iterator[Standin]:
    """Run the stand-in until the block ends."""
    command = [sys.executable, "-m", "tests.alpaca_stream_standin", "--symbols", ",".join(SYMBOLS), *options]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("listening on ")
            lines = [process.stdout.readline().strip() for _ in range(4)]
            yield Standin(process, dict(line.split("=", 1) for line in lines))
        finally:
            process.kill()


@dataclass(slots=True)
class Service:
    """A running `tradecore stream`."""

    process: subprocess.Popen[str]
    log: Path

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60 * busy())


@contextmanager
def service(database_url: str, folder: Path, env: dict[str, str], *options: str) -> Iterator[Service]:
    """Run `tradecore stream` until the block ends; its log is in the folder."""
    log = folder / f"stream-{time.monotonic_ns()}.log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ALPACA_", "DB_"))}
    own = {"DATABASE_URL": database_url, "TRADECORE_CONFIG": "sample", "TRADECORE_ENV_FILE": "none.env"}
    command = [sys.executable, "-m", "tradecore", "stream", *options]
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=REPO,
            env={**inherited, "PYTHONPATH": str(REPO / "include"), **own, **env},
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Service(process, log)
    finally:
        process.kill()
        process.wait()


def wait_for(conn: psycopg.Connection, query: str, timeout_s: float, *args: object) -> None:
    """Wait until a query returns true, longer on a machine that has more to do. Raises TimeoutError."""
    end = time.monotonic() + timeout_s * busy()
    while time.monotonic() < end:
        row = conn.execute(query, args).fetchone()
        conn.rollback()
        if row and row[0]:
            return
        time.sleep(0.1)
    raise TimeoutError(f"not within {timeout_s} s: {query} {args}")


def stored_sums(conn: psycopg.Connection, source: str = "alpaca:iex") -> dict[str, list[int]]:
    """Return what is in `trades`, as the stand-in sums up the truth."""
    found = {row[0]: list(row[1:]) for row in conn.execute(SUMS, (source,)).fetchall()}
    conn.rollback()
    return found


@dataclass(slots=True)
class Listener:
    """Hears the notifications on a connection of its own; each with the time it was heard."""

    url: str
    heard: list[tuple[datetime, dict[str, Any]]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Listener:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(30)
        return self

    def _listen(self, ready: threading.Event) -> None:
        from datetime import UTC

        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute("LISTEN tradecore_market")
            ready.set()
            while not self._stop.is_set():
                for note in conn.notifies(timeout=0.5):
                    self.heard.append((datetime.now(UTC), json.loads(note.payload)))

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(timeout=10)

    def lags_ms(self) -> list[float]:
        """Return, for each live row, how old the first row of its batch was when the news of it was heard.

        An upper bound for the row itself. Batches that span more than a second are what REST gave of a hole.
        """
        found: list[float] = []
        for at, note in self.heard:
            first, last = (datetime.fromisoformat(note[k]) for k in ("first", "last"))
            if note["kind"] == "trades" and (last - first).total_seconds() < 1:
                found += [(at - first).total_seconds() * 1e3] * note["rows"]
        return found
