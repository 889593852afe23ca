"""Raw minute bars of past sessions into the database, and the coarser bars made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime

import numpy as np
import psycopg

from tradecore import market
from tradecore.context import book_calendar
from tradecore.errors import NoDataYet, SessionError
from tradecore.feeding import feed_of
from tradecore.feeds.base import BarBatch
from tradecore.settings import Settings
from tradecore.storage import keeping, rollups
from tradecore.units import from_ns

TIMEFRAME = "1m"


def load(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    symbols: Sequence[str] | None = None,
    now: datetime,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, int]:
    """Fetch the minute bars of the sessions first..last from the configured feed, a session a transaction; commits.

    Members due on a session are asked for, or `symbols`. The newest statement of the vendor counts; bars that are there
    already stay as they are. 5 minutes, hours and days of what changed are refreshed. They decide nothing: a book that
    trades minute bars has its own, validated. Returns counts; raises SessionError and what the feed raises.
    """
    calendar, feed = book_calendar(settings), feed_of(settings, conn)
    sessions = calendar.sessions_in_range(first, last)
    if not sessions:
        raise SessionError(f"there is no session from {first} to {last}.", next_step="give a longer range")
    with conn.transaction():
        members = market.sync_members(conn, settings, calendar)
    ids = {m.instrument.symbol: m.instrument.instrument_id for m in members}
    out = {"sessions": len(sessions), "empty": 0, "bars": 0, "changed": 0}
    for day in sessions:
        names = list(symbols) if symbols else [m.instrument.symbol for m in members if m.due(day)]
        progress(f"minute bars of {day}")
        try:
            batch = feed.bars(names, TIMEFRAME, day, day, calendar)
        except NoDataYet:
            out["empty"] += 1
            continue
        out["bars"] += batch.rows.size
        with conn.transaction():
            out["changed"] += _put(conn, settings.trading.data.feed, batch, ids, now)
        conn.commit()
    rollups.catch_up(conn)
    return out


def _put(conn: psycopg.Connection, source: str, batch: BarBatch, ids: dict[str, int], now: datetime) -> int:
    rows = batch.rows
    if not rows.size:
        return 0
    names, index = np.unique(rows["symbol"], return_inverse=True)
    instruments = np.array([ids[str(s)] for s in names], np.int32)
    changed = keeping.put_minutes(
        conn,
        source=source,
        instruments=instruments[index],
        bar_end_ns=rows["bar_end_ns"],
        session_day=rows["session_date"].astype("M8[D]").astype(np.int64),
        prices={name: rows[name] for name in ("open", "high", "low", "close", "volume")},
        now=now,
    )
    if changed:
        rollups.refresh(
            conn,
            of_table=rollups.MINUTE_BARS,
            instruments=instruments.tolist(),
            first=from_ns(int(rows["bar_end_ns"].min())),
            last=from_ns(int(rows["bar_end_ns"].max())),
        )
    return changed
