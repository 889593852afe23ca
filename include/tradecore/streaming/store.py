"""The stream's side of the database: one connection, used by one thread, one transaction a call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg

from tradecore.errors import FeedError, NoDatabase
from tradecore.storage import bars as stored
from tradecore.storage import rollups, streams
from tradecore.storage.streams import Beat, Hole
from tradecore.streaming.inbox import Batch

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
PART = timedelta(hours=1)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a hole is measured: overlap, how far before the cursor it begins (trades come slightly out of order); margin,
    how far after the new beginning it ends (clocks differ); oldest, how old a hole may be to be filled."""

    overlap: timedelta = timedelta(seconds=10)
    margin: timedelta = timedelta(seconds=5)
    oldest: timedelta = timedelta(hours=24)


class Store:
    """Writes for one source. What raises psycopg.Error or NoDatabase leaves nothing half; then `open`."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        *,
        source: str,
        ids: Sequence[int],
        now: Callable[[], datetime],
        keeping: Keeping | None = None,
    ) -> None:
        self._connect = connect
        self._source, self._ids, self._now = source, sorted(ids), now
        self._keeping = keeping or Keeping()
        self._open: psycopg.Connection | None = None

    @property
    def _conn(self) -> psycopg.Connection:
        if self._open is None:
            raise NoDatabase("the connection to the database was lost.", next_step="`make status`, then `make up`")
        return self._open

    def open(self) -> None:
        """Connect and take the source. Raises NoDatabase; FeedError where another process has it."""
        self.close()
        conn = self._connect()
        if not streams.try_lock(conn, self._source):
            who = next((f"{b.pid} on {b.host}" for b in streams.heartbeats(conn) if b.source == self._source), "")
            conn.close()
            raise FeedError(
                f"another process receives {self._source} already{f': {who}' if who else ''}.",
                next_step="end that one first, or give this one another --source",
                source=self._source,
            )
        streams.prepare(conn)
        conn.commit()
        self._open = conn

    def close(self) -> None:
        """Give the connection back."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def resume_at(self) -> datetime | None:
        """Return how far an earlier run came, less the overlap; None before the first."""
        known = streams.cursor(self._conn, self._source)
        self._conn.commit()
        return None if known is None or known[1] == LONG_AGO else known[1] - self._keeping.overlap

    def begin(self, *, live: bool, since_at: datetime | None) -> None:
        """Begin to receive: from now on the cursor follows what is written; what was missed becomes a hole.

        live: the stream tells of now, and REST of before; a replay brings everything itself. since_at: a hole from
        there on for all instruments, whatever was received before.
        """
        now, conn = self._now(), self._conn
        known = streams.cursor(conn, self._source)
        if live:
            self._open_holes(known, since_at, now)
        at = max(known[1] if known else LONG_AGO, now if live else LONG_AGO)
        streams.set_cursor(conn, self._source, self._ids, at)
        conn.commit()

    def _open_holes(
        self, known: tuple[tuple[int, ...], datetime] | None, since_at: datetime | None, now: datetime
    ) -> None:
        until_at = now + self._keeping.margin
        if since_at is not None:
            self._open_hole(Hole(first_at=since_at, until_at=until_at, instrument_ids=tuple(self._ids)), now)
        shared = tuple(i for i in known[0] if i in self._ids) if known else ()
        if known is None or not shared:
            return
        first_at = known[1] - self._keeping.overlap
        if first_at < now - self._keeping.oldest:
            log.warning(
                "%s was last received until %s, longer ago than %s: what is older than that stays missing; "
                "--since %s fetches it",
                *(self._source, known[1], self._keeping.oldest, known[1].isoformat()),
            )
            first_at = now - self._keeping.oldest
        self._open_hole(Hole(first_at=first_at, until_at=until_at, instrument_ids=shared), now)

    def _open_hole(self, hole: Hole, now: datetime) -> None:
        for part in parts_of(hole):
            streams.open_hole(self._conn, self._source, part, now)

    def write(self, batch: Batch) -> int:
        """Write what the stream brought, move the cursor to its newest trade, and tell of it; return the new rows."""
        new = self._append(batch)
        if batch.trades:
            newest = streams.at_of(max(row[1] for row in batch.trades))
            streams.advance_cursor(self._conn, self._source, min(newest, self._now()))
        self._conn.commit()
        return new

    def fill(self, hole: Hole, batch: Batch) -> int:
        """Write what a hole lacked and tell of it; return the new rows."""
        new = self._append(batch)
        streams.count_filled(self._conn, self._source, hole, new)
        self._conn.commit()
        return new

    def holes(self) -> list[tuple[Hole, dict[str, int]]]:
        """Return what is missing, oldest first, each with its instruments by symbol."""
        found = []
        for hole in streams.open_holes(self._conn, self._source):
            named = stored.instruments_by_id(self._conn, hole.instrument_ids)
            found.append((hole, {i.symbol: number for number, i in named.items()}))
        self._conn.commit()
        return found

    def close_hole(self, hole: Hole) -> None:
        """Say that a hole is filled."""
        streams.close_hole(self._conn, self._source, hole, self._now())
        self._conn.commit()

    def beat(self, said: Beat) -> None:
        """Say that the process lives."""
        streams.beat(self._conn, replace(said, beat_at=self._now()))
        self._conn.commit()

    def _append(self, batch: Batch) -> int:
        conn, source, new = self._conn, self._source, 0
        if batch.trades:
            fresh = streams.append_trades(conn, source, batch.trades)
            if fresh:
                self._publish("trades", batch.trades, fresh)
            new += fresh
        if batch.bars:
            fresh = streams.put_minute_bars(conn, source, batch.bars, self._now())
            if fresh:
                self._publish("minute_bars", batch.bars, fresh)
                first, last = _span(batch.bars)
                ids = {row[0] for row in batch.bars}
                rollups.refresh(conn, of_table=rollups.MINUTE_BARS, instruments=ids, first=first, last=last)
            new += fresh
        streams.append_amendments(conn, source, batch.amendments)
        return new

    def _publish(self, kind: str, rows: Sequence[streams.TradeRow] | Sequence[streams.BarRow], new: int) -> None:
        first, last = _span(rows)
        ids = {row[0] for row in rows}
        streams.publish(self._conn, kind=kind, source=self._source, ids=ids, first=first, last=last, rows=new)


def parts_of(hole: Hole) -> Iterator[Hole]:
    """Yield a hole an hour at a time: what REST fails in is asked for again from the beginning of its part."""
    at = hole.first_at
    while at < hole.until_at:
        until_at = min(at + PART, hole.until_at)
        yield replace(hole, first_at=at, until_at=until_at)
        at = until_at


def _span(rows: Sequence[streams.TradeRow] | Sequence[streams.BarRow]) -> tuple[datetime, datetime]:
    times = [row[1] for row in rows]
    return streams.at_of(min(times)), streams.at_of(max(times))
