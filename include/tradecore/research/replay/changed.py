"""Which bars and corporate actions of a session differ between two times, by symbol and field. Reads only."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import psycopg

from tradecore.bars import Panel
from tradecore.context import book_calendar
from tradecore.model import Instrument
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage.bars import Action
from tradecore.units import from_day, usd

FIELDS = ("open", "high", "low", "close", "volume", "adj_factor")
ACTION_FIELDS = ("ratio_num", "ratio_den", "dividend_e6", "pay_date")
LAST = datetime.max.replace(tzinfo=UTC)


def session_changes(
    settings: Settings,
    conn: psycopg.Connection,
    session: date,
    *,
    before: datetime | None,
    after: datetime | None,
) -> list[dict[str, Any]]:
    """Return what of a session's bars and actions is known otherwise at `after` than at `before` (None: now).

    One entry a field: kind ('bar', or the action's), symbol, session, field, before, after, and the sources with their
    known_at; a side that does not know the bar has None.
    """
    source, timeframe = settings.trading.data.feed, settings.trading.book.timeframe
    key = {"source": source, "timeframe": timeframe, "session": session}
    sides = []
    for at in (before, after):
        rows = conn.execute(stored.SQL["bars_as_of"], {**key, "as_of": at or LAST}).fetchall()
        sides.append({(r[0], r[1]): r for r in rows})
    keys = sorted({*sides[0], *sides[1]})
    known = stored.instruments_by_id(conn, _all_instruments(conn))
    out = []
    for instrument, end in keys:
        a, b = sides[0].get((instrument, end)), sides[1].get((instrument, end))
        for k, field in enumerate(FIELDS, start=2):
            old, new = _value(field, a[k] if a else None), _value(field, b[k] if b else None)
            if old != new:
                out.append(
                    _entry("bar", known[instrument].symbol, session, field, old, new, _origin(a, 8), _origin(b, 8))
                    | {"bar_end_at": end}
                )
    return out + _actions(settings, conn, session, before, after, known)


def _all_instruments(conn: psycopg.Connection) -> list[int]:
    return [r[0] for r in conn.execute("SELECT instrument_id FROM instruments").fetchall()]


def _origin(row: Any, at: int) -> str | None:
    return None if row is None else f"{row[at]} known at {row[at + 1]:%Y-%m-%d %H:%M:%S}"


def _entry(
    kind: str, symbol: str, session: date, field: str, old: Any, new: Any, was: str | None, now: str | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "symbol": symbol,
        "session": session,
        "field": field,
        "before": old,
        "after": new,
        "before_source": was,
        "after_source": now,
    }


def _value(field: str, value: Any) -> Any:
    return usd(value) if value is not None and field in FIELDS[:4] else value


def _actions(
    settings: Settings,
    conn: psycopg.Connection,
    session: date,
    before: datetime | None,
    after: datetime | None,
    known: dict[int, Instrument],
) -> list[dict[str, Any]]:
    """Return the actions of the session, and of the days since the one before it, that differ."""
    calendar, source = book_calendar(settings), settings.trading.data.feed
    since = calendar.previous_session(session)
    sides: list[dict[tuple[int, date, str], Action]] = []
    for at in (before, after):
        found = stored.read_actions(conn, source=source, instruments=list(known), after=since, until=session, as_of=at)
        sides.append({(a.instrument_id, a.ex_date, a.kind): a for a in found})
    out = []
    for key in sorted({*sides[0], *sides[1]}):
        a, b = sides[0].get(key), sides[1].get(key)
        for field in ACTION_FIELDS:
            old, new = getattr(a, field, None), getattr(b, field, None)
            if old != new:
                said = [None if x is None else f"{source} known at {x.known_at:%Y-%m-%d %H:%M:%S}" for x in (a, b)]
                out.append(_entry(key[2], known[key[0]].symbol, key[1], field, old, new, said[0], said[1]))
    return out


def window_changes(then: Panel, now: Panel) -> list[dict[str, Any]]:
    """Return the bars and alternative values that differ between two panels of the same names, the latest first."""
    out: list[tuple[int, dict[str, Any]]] = []
    for field in FIELDS:
        a, b = getattr(then, field), getattr(now, field)
        differs = (a != b) & ~((a != a) & (b != b))  # NaN on both sides: no bar, and none
        for t, column in np.argwhere(differs).tolist():
            record = {
                "kind": "bar",
                "symbol": then.instruments[column].symbol,
                "session": from_day(int(then.day[t])),
                "field": field,
                "before": _cell(field, a[t, column]),
                "after": _cell(field, b[t, column]),
            }
            out.append((t, record))
    for name in sorted({*then.series, *now.series}):
        nothing = np.full(then.traded.shape, np.nan)
        a, b = then.series.get(name, nothing), now.series.get(name, nothing)
        for t, column in np.argwhere((a != b) & ~((a != a) & (b != b))).tolist():
            record = {
                "kind": "series",
                "symbol": then.instruments[column].symbol,
                "session": from_day(int(then.day[t])),
                "field": name,
                "before": float(a[t, column]),
                "after": float(b[t, column]),
            }
            out.append((t, record))
    return [record for _, record in sorted(out, key=lambda pair: (-pair[0], pair[1]["symbol"]))]


def _cell(field: str, value: Any) -> Any:
    if field in FIELDS[:4]:
        return usd(int(value))
    return int(value) if field == "volume" else float(value)


def text(found: list[dict[str, Any]], limit: int = 60) -> str:
    """Return the differences as lines."""
    lines = [
        f"  {f['session']} {f['symbol']:<6} {f['kind']} {f['field']:<10} {f['before']} -> {f['after']}"
        + (f"  ({f['before_source'] or 'not known'} -> {f['after_source'] or 'gone'})" if "before_source" in f else "")
        for f in found[:limit]
    ]
    if len(found) > limit:
        lines.append(f"  and {len(found) - limit} more")
    return "\n".join(lines)
