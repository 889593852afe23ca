"""Coarser bars: weeks and months of daily bars; 5 minutes, hours and days of minute bars. One interface, two ways.

Where the server is TimescaleDB's Community edition they are continuous aggregates, elsewhere rows of `bar_rollups`; the
views `bars_1w`, `bars_1mo`, `minute_bars_5m`, `minute_bars_1h` and `minute_bars_1d` read the same from both. Nothing
refreshes by itself: whoever changes bars calls `refresh` in the transaction of the change and `catch_up` after its
commit. A bar belongs to the bucket in which it ends, (bucket_at, bucket_at + width], in UTC.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg

from tradecore.storage import edition, queries

SQL = queries.load("rollups")
BARS, MINUTE_BARS = "bars", "minute_bars"
_TICK = timedelta(microseconds=1)
_STEPS = {
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "1w": timedelta(days=7),
}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """A coarser timeframe of a table: its view, its bucket's width for TimescaleDB and its floor in PostgreSQL."""

    of_table: str
    timeframe: str
    width: str
    bucket: str

    @property
    def view(self) -> str:
        return f"{self.of_table}_{self.timeframe}"

    def floor(self, at: datetime) -> datetime:
        """Return the start of the bucket that a bar ending at `at` belongs to."""
        at = at.astimezone(UTC) - _TICK
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.timeframe == "1mo":
            return day.replace(day=1)
        if self.timeframe == "1w":
            return day - timedelta(days=day.weekday())
        step = _STEPS[self.timeframe]
        return day + (at - day) // step * step

    def ceiling(self, at: datetime) -> datetime:
        """Return the end of that bucket, which belongs to it."""
        start = self.floor(at)
        if self.timeframe == "1mo":
            return (start + timedelta(days=32)).replace(day=1)
        return start + _STEPS[self.timeframe]


def _trunc(unit: str) -> str:
    return f"date_trunc('{unit}', bar_end_at - INTERVAL '1 microsecond', 'UTC')"


ROLLUPS = (
    Rollup(of_table=BARS, timeframe="1w", width="1 week", bucket=_trunc("week")),
    Rollup(of_table=BARS, timeframe="1mo", width="1 month", bucket=_trunc("month")),
    Rollup(
        of_table=MINUTE_BARS,
        timeframe="5m",
        width="5 minutes",
        bucket="date_bin('5 minutes', bar_end_at - INTERVAL '1 microsecond', '2000-01-03 00:00+00')",
    ),
    Rollup(of_table=MINUTE_BARS, timeframe="1h", width="1 hour", bucket=_trunc("hour")),
    Rollup(of_table=MINUTE_BARS, timeframe="1d", width="1 day", bucket=_trunc("day")),
)


def of_table(table: str) -> tuple[Rollup, ...]:
    """Return the coarser timeframes of a table."""
    return tuple(r for r in ROLLUPS if r.of_table == table)


def ensure(conn: psycopg.Connection) -> bool:
    """Make the views as the server's edition has them; tell whether one had to be made, and so is empty or behind."""
    conn.execute(SQL["lock_ensure"])
    community, wrong = edition.of(conn).is_community, not_as_edition(conn)
    for rollup in ROLLUPS:
        if rollup.view not in wrong:
            continue
        conn.execute(_text(f"DROP VIEW IF EXISTS {rollup.view}"))
        if community:
            conn.execute(_filled(f"aggregate_{rollup.of_table}", rollup))
        conn.execute(_filled("view_of_aggregate" if community else "view_of_rollups", rollup))
    if wrong and community:
        conn.execute("TRUNCATE bar_rollups")
    return bool(wrong)


def not_as_edition(conn: psycopg.Connection) -> list[str]:
    """Return the views that are missing, or made for another edition than the server has now."""
    wanted = "aggregate" if edition.of(conn).is_community else "rollups"
    paths = {r.view: conn.execute(SQL["path_of"], {"name": r.view}).fetchone() for r in ROLLUPS}
    return [view for view, row in paths.items() if row is None or row[0] != wanted]


def refresh(
    conn: psycopg.Connection, *, of_table: str, instruments: Iterable[int], first: datetime, last: datetime
) -> None:
    """Bring the coarser bars of a window of bar ends up to date, in the caller's transaction.

    On a Community server, where that cannot be done in a transaction, it is noted as due, for `catch_up`.
    """
    if edition.of(conn).is_community:
        conn.execute(SQL["note_due"], {"of_table": of_table, "first": first, "last": last})
        return
    ids = sorted(set(instruments))
    for rollup in ROLLUPS:
        if rollup.of_table != of_table or not ids:
            continue
        window = {"first": rollup.floor(first), "until": rollup.ceiling(last)}
        where = {"timeframe": rollup.timeframe, "instruments": ids, **window}
        conn.execute(_filled(f"roll_{of_table}", rollup), where)
        if of_table == BARS:
            conn.execute(SQL["drop_emptied"], where)


def catch_up(conn: psycopg.Connection) -> int:
    """Refresh the continuous aggregates over all windows that are due; return how many. Nothing elsewhere.

    The connection must be in no transaction. Where a refresh fails its windows stay due, and the error is raised.
    """
    if not edition.of(conn).is_community:
        conn.rollback()
        return 0
    due = conn.execute(SQL["due"]).fetchall()
    conn.rollback()
    with _no_transaction(conn):
        for table in (BARS, MINUTE_BARS):
            windows = [(first, last) for of, first, last in due if of == table]
            if not windows:
                continue
            # one window over all: what did not change in it is not computed again
            first, last = min(w[0] for w in windows), max(w[1] for w in windows)
            for rollup in of_table(table):
                window = {"first": rollup.floor(first) + _TICK, "until": rollup.ceiling(last) + _TICK}
                conn.execute(SQL["refresh_aggregate"], {"name": f"{rollup.view}_kept", **window})
            for done in windows:
                conn.execute(SQL["due_done"], (table, *done))
    return len(due)


def catch_up_quietly(conn: psycopg.Connection) -> None:
    """The same for a stage of the trading day: coarser bars that stay behind are no reason to fail it."""
    try:
        catch_up(conn)
    except psycopg.Error as error:
        log.warning("coarser bars stay behind until ops_maintenance: %s", str(error).strip().splitlines()[0])


def refresh_all(conn: psycopg.Connection, table: str) -> None:
    """Refresh over everything that a table holds: after `ensure` made the views."""
    span = conn.execute(_text(SQL["span"].replace("{table}", table))).fetchone()
    if span is None or span[0] is None:
        return
    ids = [r[0] for r in conn.execute(_text(SQL["instruments_of"].replace("{table}", table))).fetchall()]
    for start in range(0, len(ids), 50):
        refresh(conn, of_table=table, instruments=ids[start : start + 50], first=span[0], last=span[1])


@contextmanager
def _no_transaction(conn: psycopg.Connection) -> Iterator[None]:
    conn.autocommit = True
    try:
        yield
    finally:
        conn.autocommit = False


def _filled(name: str, rollup: Rollup) -> LiteralString:
    text = SQL[name]
    for key, value in (
        ("{upsert}", SQL["upsert"]),
        ("{bucket}", rollup.bucket),
        ("{name}", rollup.view),
        ("{timeframe}", rollup.timeframe),
        ("{width}", rollup.width),
    ):
        text = text.replace(key, value)
    return text


def _text(text: str) -> LiteralString:
    """Names in it are this module's own."""
    return text
