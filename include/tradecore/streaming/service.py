"""The service: receive, write, fill holes, say that it lives; and after whatever goes wrong, go on from the cursor.

There is one way to recover, and it is the same after a cut, a slow database, a killed process or a night: connect,
write down the hole between the cursor and now, receive on, and let REST fill the hole meanwhile. What is fetched twice
is written once, by its natural key. So nothing that is in memory alone is ever needed.

Tasks of a connection: receiving (its end or error ends the connection), writing (a batch every `batch_s`), beating.
Filling goes on across connections. The database is used by one thread of its own; REST by another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import psycopg
from tenacity import RetryCallState, Retrying, wait_random_exponential

from tradecore.errors import AuthFailed, ConfigError, MalformedData, NoDatabase, TradecoreError, VendorDown
from tradecore.storage.streams import PG_EPOCH, Beat, Hole
from tradecore.streaming.inbox import Batch, Inbox
from tradecore.streaming.meter import Meter
from tradecore.streaming.store import Store

P = ParamSpec("P")
T = TypeVar("T")
Message = Mapping[str, Any]
FIRST_PAUSE_S, MOST_PAUSE_S = 0.5, 30.0
ROWS_AT_ONCE = 2_000  # of a hole: live rows wait for no more
BAR_LEAD = timedelta(minutes=2)  # a bar is sent after its minute, its later version up to a minute after that
REFUSED_S = 16 * 60.0  # a free plan has SIP's trades after a quarter of an hour
LATE = timedelta(seconds=60)  # what REST knows only after a moment is asked for once more
FINAL = (AuthFailed, ConfigError)
log = logging.getLogger(__name__)


class Line(Protocol):
    """Where messages come from: a live stream, or a file."""

    live: bool

    async def messages(self) -> Sequence[Message] | None:
        """Return the next messages, None at the end of all. Raises FeedError."""


class History(Protocol):
    """What a live stream missed: Alpaca's REST."""

    def trades(self, symbols: Sequence[str], first_at: datetime, until_at: datetime) -> Iterator[Any]:
        """Yield pages of trades."""

    def minute_bars(self, symbols: Sequence[str], first_at: datetime, until_at: datetime) -> Iterator[Any]:
        """Yield pages of minute bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of the service: batch_s, how long rows gather; settle_s, after which REST knows all of a hole; beat_s;
    report_s, between lines of figures in the log. most_waiting: rows that may wait for a database that is slow."""

    batch_s: float = 0.02
    settle_s: float = 5.0
    beat_s: float = 5.0
    report_s: float = 60.0
    most_waiting: int = 200_000


class Service:
    """One source, received until told to stop."""

    def __init__(
        self,
        *,
        source: str,
        ids: Mapping[str, int],
        store: Store,
        open_line: Callable[[datetime | None], AbstractAsyncContextManager[Line]],
        now: Callable[[], datetime],
        history: History | None = None,
        bars: bool = True,
        trades: bool = True,
        since_at: datetime | None = None,
        pace: Pace | None = None,
    ) -> None:
        """open_line is given how far an earlier run came; history None: holes stay open (a replay has none)."""
        self._source, self._store, self._open_line, self._now = source, store, open_line, now
        self._history, self._since_at, self._pace = history, since_at, pace or Pace()
        self._asks_trades, self._asks_bars = trades, bars
        self._inbox, self._meter = Inbox(ids), Meter()
        self._arrived, self._begun, self._ended = asyncio.Event(), asyncio.Event(), False
        self._backoff = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=MOST_PAUSE_S)
        self._tries = 0
        self._thread = ThreadPoolExecutor(1, "stream-database")
        self._rest = ThreadPoolExecutor(1, "stream-rest")
        self._reported_at = started = now()
        self.beat = Beat(
            source=source,
            state="connecting",
            state_at=started,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=started,
            beat_at=started,
            messages=0,
            messages_per_s=0.0,
            lag_p50_ms=None,
            lag_p99_ms=None,
            rejects=0,
            cuts=0,
            last_error="",
        )

    async def run(self, stop: asyncio.Event) -> Beat:
        """Receive until `stop` is set or a replay is over; return the last word.

        Raises AuthFailed, ConfigError and what the first connection to the database raises: nothing that waiting helps.
        """
        await self._in_thread(self._store.open)
        filling = asyncio.create_task(self._fill_holes(self._history)) if self._history is not None else None
        try:
            await self._tell()
            while not stop.is_set():
                try:
                    await self._connection(stop)
                    break
                except FINAL as error:
                    await self._last_word("failed", error)
                    raise
                except (TradecoreError, psycopg.Error, OSError) as error:
                    if isinstance(error, MalformedData) and self.beat.state != "live":
                        await self._last_word("failed", error)
                        raise
                    await self._recover(error, stop)
            await self._last_word("stopped")
            return self.beat
        finally:
            if filling is not None:
                filling.cancel()
                await asyncio.gather(filling, return_exceptions=True)
            await self._in_thread(self._store.close)
            self._thread.shutdown()
            self._rest.shutdown(wait=False, cancel_futures=True)

    async def _connection(self, stop: asyncio.Event) -> None:
        """Receive over one connection until it ends, a part fails, or `stop` is set; what has come is written then."""
        resume_at = await self._in_thread(self._store.resume_at)
        async with self._open_line(resume_at) as line:
            await self._in_thread(self._store.begin, live=line.live, since_at=self._since_at)
            self._since_at, self._ended = None, False
            self._begun.set()
            self._say("live", self.beat.last_error)
            writing = asyncio.create_task(self._write())
            others = [asyncio.create_task(part) for part in (self._receive(line), self._beat(), stop.wait())]
            try:
                await asyncio.wait([writing, *others], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in others:
                    task.cancel()
                ends = await asyncio.gather(*others, return_exceptions=True)
                self._ended = True
                self._arrived.set()
                await writing
            for end in ends:
                if isinstance(end, Exception):
                    raise end

    async def _receive(self, line: Line) -> None:
        while (messages := await line.messages()) is not None:
            self._inbox.take(messages)
            self._meter.messages += len(messages)
            self._arrived.set()
            self._tries = 0
            while (waiting := len(self._inbox.batch)) > self._pace.most_waiting:
                if line.live:
                    raise VendorDown(f"{waiting} rows wait for the database: it is too slow.", next_step="see its load")
                await asyncio.sleep(self._pace.batch_s)

    async def _write(self) -> None:
        """Write what has come, a batch at a time, until the connection has ended and all is written."""
        while True:
            await self._arrived.wait()
            if not self._ended:
                await asyncio.sleep(self._pace.batch_s)
            self._arrived.clear()
            batch = self._inbox.emptied()
            if len(batch):
                await self._in_thread(self._store.write, batch)
                self._meter.wrote(
                    [row[1] for row in batch.trades], (self._now() - PG_EPOCH) // timedelta(microseconds=1)
                )
            if self._ended and not len(self._inbox.batch):
                return

    async def _fill_holes(self, history: History) -> None:
        """Fill what is missing, oldest first, whenever a connection has begun. No failure here ends a connection."""
        tries, filled = 0, None
        while True:
            await self._begun.wait()
            self._begun.clear()
            try:
                for hole, ids in await self._in_thread(self._store.holes):
                    await self._fill(history, hole, ids, _first_lacking(hole, filled))
                    filled = hole
                tries = 0
            except (TradecoreError, psycopg.Error) as error:
                self._say(self.beat.state, f"a hole is not filled yet: {error}")
                log.warning("%s: a hole is not filled yet: %s", self._source, error)
                if isinstance(error, AuthFailed):  # a plan may have it when it is older
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._begun.wait(), REFUSED_S)
                else:
                    tries += 1
                    await asyncio.sleep(self._pause_s(tries))
                self._begun.set()

    async def _fill(self, history: History, hole: Hole, ids: Mapping[str, int], first_at: datetime) -> None:
        """Fetch a hole at once, and where REST cannot have known all of it then, its end again when it does."""
        settled_at = hole.until_at + timedelta(seconds=self._pace.settle_s)
        early_s = (settled_at - self._now()).total_seconds()
        new = await self._fetch(history, hole, ids, first_at)
        if early_s > 0:
            await asyncio.sleep(max(0.0, (settled_at - self._now()).total_seconds()))
            new += await self._fetch(history, hole, ids, max(first_at, hole.until_at - LATE))
        await self._in_thread(self._store.close_hole, hole)
        log.info("%s: filled %s to %s, %d rows were missing", self._source, hole.first_at, hole.until_at, new)

    async def _fetch(self, history: History, hole: Hole, ids: Mapping[str, int], first_at: datetime) -> int:
        new, symbols = 0, sorted(ids)
        questions = [history.trades(symbols, first_at, hole.until_at)] if self._asks_trades else []
        questions += [history.minute_bars(symbols, first_at - BAR_LEAD, hole.until_at)] if self._asks_bars else []
        for pages in questions:
            while (page := await self._in_rest(pages)) is not None:
                inbox = Inbox(ids)
                inbox.take_page(page)
                self.beat = replace(self.beat, rejects=self.beat.rejects + inbox.rejects)
                for part in _parts(inbox.batch):
                    new += await self._in_thread(self._store.fill, hole, part)
        return new

    async def _beat(self) -> None:
        while True:
            await self._tell()
            await asyncio.sleep(self._pace.beat_s)

    async def _tell(self) -> None:
        """Put the figures into the database, and from time to time into the log."""
        seen = self._meter.read()
        self.beat = replace(
            self.beat,
            messages=self._meter.messages,
            messages_per_s=seen.messages_per_s,
            lag_p50_ms=seen.lag_p50_ms,
            lag_p99_ms=seen.lag_p99_ms,
            rejects=self.beat.rejects + self._inbox.rejects,
        )
        self._inbox.rejects = 0
        await self._in_thread(self._store.beat, self.beat)
        if (self._now() - self._reported_at).total_seconds() >= self._pace.report_s:
            self._reported_at = self._now()
            log.info("%s", figures(self.beat))

    async def _recover(self, error: Exception, stop: asyncio.Event) -> None:
        """Wait a little, longer from try to try, and make sure of the database before the next connection."""
        self._tries += 1
        self._inbox.emptied()  # what is not written lies after the cursor: REST gives it
        self.beat = replace(self.beat, cuts=self.beat.cuts + (self.beat.state == "live"))
        self._say("connecting", str(error))
        pause_s = self._pause_s(self._tries)
        log.warning("%s: %s Connecting anew in %.1f s.", self._source, error, pause_s)
        with suppress(TradecoreError, psycopg.Error):
            await self._tell()
        await self._wait(pause_s, stop)
        while isinstance(error, psycopg.Error | NoDatabase) and not stop.is_set():
            try:
                await self._in_thread(self._store.open)
                return
            except (TradecoreError, psycopg.Error) as again:
                self._tries += 1
                log.warning("%s: %s", self._source, again)
                await self._wait(self._pause_s(self._tries), stop)

    async def _wait(self, seconds: float, stop: asyncio.Event) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)

    async def _last_word(self, state: str, error: Exception | None = None) -> None:
        self._say(state, self.beat.last_error if error is None else str(error))
        with suppress(TradecoreError, psycopg.Error):  # without a database the old beat tells it
            await self._tell()
        log.info("%s", figures(self.beat))

    def _say(self, state: str, error: str) -> None:
        at = self._now() if state != self.beat.state else self.beat.state_at
        self.beat = replace(self.beat, state=state, state_at=at, last_error=error[:500])

    def _pause_s(self, tries: int) -> float:
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = tries
        return self._backoff(state)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on the database's thread, after those before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))

    async def _in_rest(self, pages: Iterator[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._rest, next, pages, None)


def figures(beat: Beat) -> str:
    """Return the line of figures."""
    lag = "no trades" if beat.lag_p50_ms is None else f"lag {beat.lag_p50_ms:.0f} ms (p99 {beat.lag_p99_ms:.0f} ms)"
    return (
        f"{beat.source}: {beat.state}, {beat.messages:,} messages, {beat.messages_per_s:,.0f} a second, {lag}, "
        f"{beat.rejects} rejected, {beat.cuts} cuts"
    )


def _first_lacking(hole: Hole, filled: Hole | None) -> datetime:
    """Return from where a hole is to be fetched: cuts in a row overlap, and `filled` has brought all of its stretch."""
    if (
        filled is None
        or not set(hole.instrument_ids) <= set(filled.instrument_ids)
        or not filled.first_at <= hole.first_at <= filled.until_at
    ):
        return hole.first_at
    return min(filled.until_at, hole.until_at)


def _parts(batch: Batch) -> Iterable[Batch]:
    """Cut a batch into parts of at most ROWS_AT_ONCE rows; amendments go with the first."""
    count = max(len(batch.trades), len(batch.bars), 1)
    for start in range(0, count, ROWS_AT_ONCE):
        cut = slice(start, start + ROWS_AT_ONCE)
        yield Batch(trades=batch.trades[cut], bars=batch.bars[cut], amendments=batch.amendments if start == 0 else [])
