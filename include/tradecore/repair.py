"""Repair: look for bars that a range lacks or that were rejected, and ask again, for the affected sessions alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from tradecore import ingestion, market, validating
from tradecore.context import book_calendar
from tradecore.errors import NoDataYet, SessionError
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import arbitrations


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A stretch of sessions one after the other, and the names that lack a bar in it."""

    sessions: tuple[date, ...]
    symbols: tuple[str, ...]
    bars: int


def damages(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    symbols: Sequence[str] | None = None,
) -> list[Damage]:
    """Return where members due lack a bar, or have an older one than the vendor gave last; neighbours together."""
    calendar, trading = book_calendar(settings), settings.trading
    sessions = calendar.sessions_in_range(first, last)
    if not sessions:
        raise SessionError(
            f"there is no session of {calendar.name} from {first} to {last}.",
            next_step="give the earlier session first, and a range that has a trading day in it",
        )
    with conn.transaction():
        members = [
            m for m in market.sync_members(conn, settings, calendar) if not symbols or m.instrument.symbol in symbols
        ]
        where = {
            "source": trading.data.feed,
            "timeframe": trading.book.timeframe,
            "instruments": [m.instrument.instrument_id for m in members],
            "first": calendar.session(sessions[0]).open_at,
            "last": calendar.session(sessions[-1]).close_at,
        }
        there = set(conn.execute(arbitrations.SQL["bars_there"], where).fetchall())
        rejected = set(conn.execute(arbitrations.SQL["rejected_bars"], where).fetchall())
    conn.commit()
    bad: dict[date, dict[str, int]] = {}
    for day in sessions:
        for end in calendar.bar_ends(day, trading.book.timeframe):
            for member in members:
                key = (member.instrument.instrument_id, end)
                if member.due(day) and (key not in there or key in rejected):
                    names = bad.setdefault(day, {})
                    names[member.instrument.symbol] = names.get(member.instrument.symbol, 0) + 1
    return _joined(calendar, bad)


def repair(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    now: datetime,
    symbols: Sequence[str] | None = None,
) -> dict[str, object]:
    """Ask again for what is damaged in a range, of the second vendor too, and validate those sessions anew.

    Coarser bars are brought up to date over the repaired bars alone. What no vendor has stays missing.
    """
    calendar = book_calendar(settings)
    found = damages(settings, conn, first=first, last=last, symbols=symbols)
    failures: list[str] = []
    for damage in found:
        try:
            result = ingestion.ingest_range(
                settings,
                conn,
                calendar,
                first=damage.sessions[0],
                last=damage.sessions[-1],
                actions_until=calendar.next_session(damage.sessions[-1]),
                now=now,
                symbols=damage.symbols,
            )
        except NoDataYet as error:
            conn.rollback()
            failures.append(error.message)
            continue
        said: object = result.get("failures", [])
        failures += said if isinstance(said, list) else []
        validating.validate_range(settings, conn, calendar, sessions=damage.sessions, now=now, again=True)
    left = damages(settings, conn, first=first, last=last, symbols=symbols)
    before, after = sum(d.bars for d in found), sum(d.bars for d in left)
    return {
        "sessions": sum(len(d.sessions) for d in found),
        "damaged": before,
        "repaired": before - after,
        "missing": after,
        "still": [f"{d.sessions[0]} to {d.sessions[-1]}: {', '.join(d.symbols)}" for d in left[:20]],
        "failures": failures,
    }


def _joined(calendar: Calendar, bad: dict[date, dict[str, int]]) -> list[Damage]:
    """Return damages of neighbouring sessions as one where the same names are affected."""
    out: list[Damage] = []
    for day in sorted(bad):
        names, count = tuple(sorted(bad[day])), sum(bad[day].values())
        if out and out[-1].symbols == names and calendar.next_session(out[-1].sessions[-1]) == day:
            out[-1] = Damage(sessions=(*out[-1].sessions, day), symbols=names, bars=out[-1].bars + count)
        else:
            out.append(Damage(sessions=(day,), symbols=names, bars=count))
    return out
