"""The raw bars of a history from the database, and their anomalies, as known at a time. Reads only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import psycopg

from tradecore.anomalies.find import Anomaly, Raw, find, newest_first
from tradecore.context import book_calendar
from tradecore.errors import SessionError
from tradecore.model import Instrument
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import binary, queries
from tradecore.storage.bars import Member
from tradecore.units import to_day

SQL = queries.load("anomalies")
FIELDS = ("open", "high", "low", "close", "volume")
_BAR = np.dtype([("bar_end_at", ">i8"), *((name, ">f8") for name in FIELDS)])
DISAGREE_FRAC = 0.005


def audit(
    settings: Settings,
    conn: psycopg.Connection,
    members: Sequence[Member],
    *,
    first: date | None = None,
    last: date | None = None,
    as_of: datetime | None = None,
    kept_out: bool = True,
) -> list[Anomaly]:
    """Return what is odd about the bars of members from first to last (None: all that is loaded), the latest first.

    as_of: as known then (None: now). kept_out: also what the suite has put into quarantine. Leaves a read transaction
    open. Raises SessionError where no bar is loaded.
    """
    where = _where(settings, conn, members, first, last, as_of)
    instruments = [m.instrument for m in members]
    raw = read(settings, conn, members, where)
    actions = stored.read_actions(
        conn,
        source=where["source"],
        instruments=where["instruments"],
        after=where["first_day"],
        until=where["last_day"],
        as_of=as_of,
    )
    found = find(raw, actions)
    found += _disagreements(conn, instruments, where)
    if kept_out:
        found += _kept_out(conn, instruments, where)
    return newest_first(found)


def _where(
    settings: Settings,
    conn: psycopg.Connection,
    members: Sequence[Member],
    first: date | None,
    last: date | None,
    as_of: datetime | None,
) -> dict[str, Any]:
    calendar, timeframe = book_calendar(settings), settings.trading.book.timeframe
    key = {
        "timeframe": timeframe,
        "source": settings.trading.data.feed,
        "instruments": [m.instrument.instrument_id for m in members],
        "as_of": as_of,
        "now": None,
    }
    bounds = conn.execute(SQL["bounds"], key).fetchone()
    if bounds is None or bounds[0] is None:
        raise SessionError("no bar is loaded of these names.", next_step="python -m tradecore load-history FIRST LAST")
    days = calendar.sessions_in_range(max(first or bounds[0], bounds[0]), min(last or bounds[1], bounds[1]))
    if not days:
        raise SessionError(
            f"no bar is loaded from {first} to {last}: there are those of {bounds[0]} to {bounds[1]}.",
            next_step="ask for a range that is loaded",
        )
    ends = [(d, end) for d in days for end in calendar.bar_ends(d, timeframe)]
    return {**key, "ends": ends, "first": ends[0][1], "last": ends[-1][1], "first_day": days[0], "last_day": days[-1]}


def read(settings: Settings, conn: psycopg.Connection, members: Sequence[Member], where: dict[str, Any]) -> Raw:
    """Return the vendor's newest statement of each bar; a bar is due of a member from its first one on."""
    ns, day = stored.session_days(where["ends"])
    shape = (ns.size, len(members))
    cells = {name: np.full(shape, np.nan) for name in FIELDS}
    asked = {k: where[k] for k in ("timeframe", "source", "instruments", "first", "last", "as_of")}
    packed = conn.cursor(binary=True).execute(SQL["raw"], asked, prepare=False).fetchall()
    column = {m.instrument.instrument_id: k for k, m in enumerate(members)}
    for instrument, bars in packed:
        rows = np.frombuffer(bars, _BAR)
        at = binary.to_ns(rows["bar_end_at"])
        t = np.minimum(np.searchsorted(ns, at), ns.size - 1)
        known = ns[t] == at
        for name, array in cells.items():
            array[t[known], column[instrument]] = rows[name][known]
    return Raw(
        symbols=tuple(m.instrument.symbol for m in members),
        instruments=tuple(m.instrument.instrument_id for m in members),
        day=day,
        due=_due(conn, members, day, where),
        **cells,
    )


def _due(conn: psycopg.Connection, members: Sequence[Member], day: np.ndarray, where: dict[str, Any]) -> np.ndarray:
    begun: dict[int, date] = dict(conn.execute(SQL["first_bars"], where).fetchall())
    ended = {
        a.instrument_id: a.ex_date
        for a in stored.read_actions(
            conn,
            source=where["source"],
            instruments=where["instruments"],
            after=date.min,
            until=where["last_day"],
            as_of=where["as_of"],
            kind="delisting",
        )
    }
    due = np.zeros((day.size, len(members)), np.bool_)
    for i, member in enumerate(members):
        instrument = member.instrument.instrument_id
        if instrument in begun:
            since = to_day(max(member.member_from, begun[instrument]))
            until = min(to_day(d) for d in (member.member_to or date.max, ended.get(instrument, date.max)))
            due[:, i] = (day >= since) & (day < until)
    return due


def _disagreements(conn: psycopg.Connection, instruments: Sequence[Instrument], where: dict[str, Any]) -> list[Anomaly]:
    symbols = {i.instrument_id: i.symbol for i in instruments}
    rows = conn.execute(SQL["disagreements"], {**where, "tolerance": DISAGREE_FRAC}).fetchall()
    return [
        Anomaly(
            kind="disagreement",
            symbol=symbols[instrument],
            session=session,
            last=session,
            value=theirs / ours - 1 if ours else math.nan,
            detail=f"close of {end:%Y-%m-%d %H:%M}: {where['source']} {ours:g}, {source} {theirs:g}",
        )
        for instrument, session, end, ours, source, theirs in rows
    ]


def _kept_out(conn: psycopg.Connection, instruments: Sequence[Instrument], where: dict[str, Any]) -> list[Anomaly]:
    rows = conn.execute(SQL["kept_out"], {**where, "symbols": [i.symbol for i in instruments]}).fetchall()
    return [
        Anomaly(
            kind="kept_out",
            symbol=symbol,
            session=session,
            last=session,
            value=float(count),
            detail=f"in quarantine: {expectations.replace('expect_column_values_to_', '').replace('_', ' ')}",
        )
        for symbol, session, expectations, count in rows
    ]
