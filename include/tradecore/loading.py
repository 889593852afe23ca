"""History in parts: a batch of symbols over a stretch of sessions each, fetched and committed one by one.

A load that was cut off goes on where it was: what is done is not asked for again. When all parts are there, the whole
range is validated, as `ingestion.load_history` does for a load in one piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg

from tradecore import ingestion, validating
from tradecore.context import book_calendar
from tradecore.errors import ConfigError, SessionError
from tradecore.provenance import hash_of
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import queries

SQL = queries.load("loads")
ROWS_A_PART = 500_000  # of bars, in memory at once: 25 names over a lifetime of days, or over a month of minutes
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one task fetches."""

    load_id: str
    part_no: int
    symbols: tuple[str, ...]
    first: date
    last: date
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a load is."""

    load_id: str
    source: str
    timeframe: str
    first: date
    last: date
    symbols: int
    parts: int
    done: int
    bars: int
    failures: int
    begun_at: datetime
    finished_at: datetime | None
    newest_at: datetime | None

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at the pace so far; None while nobody knows."""
        if self.finished_at or not self.done or self.newest_at is None:
            return 0.0 if self.finished_at else None
        return (self.newest_at - self.begun_at).total_seconds() / self.done * (self.parts - self.done)

    def text(self) -> str:
        """Return it as a line."""
        state = "done" if self.finished_at else f"{self.done} of {self.parts} parts"
        if self.left_s and not self.finished_at:
            state += f", about {max(1, round(self.left_s / 60))} min left"
        lacks = f", {self.failures} symbols with a failure" if self.failures else ""
        return (
            f"{self.load_id}  {self.source} {self.timeframe} {self.first} to {self.last}, {self.symbols} symbols: "
            f"{state}, {self.bars} bars{lacks}"
        )


def begin(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    batch: int,
    now: datetime,
    symbols: Sequence[str] | None = None,
    name: str = "",
) -> list[Part]:
    """Plan a load, or take up the one that was cut off; return its parts, also those that are done.

    name: who asks; the same name is the same load. Without one, an unfinished load of the same range goes on.
    Raises SessionError for a range without a session, ConfigError for a symbol that is no member.
    """
    calendar, trading = book_calendar(settings), settings.trading
    sessions = calendar.sessions_in_range(first, last)
    if not sessions:
        raise SessionError(
            f"there is no session of {calendar.name} from {first} to {last}.",
            next_step="give the earlier session first, and a range that has a trading day in it",
        )
    chosen = list(symbols or trading.universe.symbols)
    unknown = sorted(set(chosen) - set(trading.universe.members))
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)} is not in the universe: {', '.join(sorted(trading.universe.members))}.",
            next_step=f"to add it: universe.members in {settings.config_path.name}",
            symbols=unknown,
        )
    where = {
        "source": trading.data.feed,
        "timeframe": trading.book.timeframe,
        "first": sessions[0],
        "last": sessions[-1],
    }
    stretches = _stretches(calendar, trading.book.timeframe, sessions, batch)
    with conn.transaction():
        found = None if name else conn.execute(SQL["unfinished"], where).fetchone()
        load_id = (
            str(found[0]) if found else hash_of([name or now.isoformat(), *map(str, where.values()), *chosen])[:12]
        )
        planned = [(chosen[k : k + batch], a, b) for k in range(0, len(chosen), batch) for a, b in stretches]
        counts = {"symbols": len(chosen), "parts": len(planned)}
        conn.execute(SQL["begin"], {**where, **counts, "load": load_id, "now": now})
        if found is None:
            with conn.cursor() as cursor:
                cursor.executemany(
                    SQL["add_part"],
                    [
                        {"load": load_id, "part": k, "symbols": s, "first": a, "last": b}
                        for k, (s, a, b) in enumerate(planned)
                    ],
                )
    conn.commit()
    return parts_of(conn, load_id)


def parts_of(conn: psycopg.Connection, load_id: str) -> list[Part]:
    """Return the parts of a load, in order."""
    rows = conn.execute(SQL["parts"], {"load": load_id}).fetchall()
    conn.rollback()
    return [Part(load_id=load_id, part_no=r[0], symbols=tuple(r[1]), first=r[2], last=r[3], done=r[4]) for r in rows]


def run(settings: Settings, conn: psycopg.Connection, part: Part, now: datetime) -> dict[str, object]:
    """Fetch one part, unless it is done. One that fails leaves no trace; the others stay. Raises as the feed does."""
    if next(p.done for p in parts_of(conn, part.load_id) if p.part_no == part.part_no):
        return {"part": part.part_no, "already": True}
    calendar = book_calendar(settings)
    result = ingestion.ingest_range(
        settings,
        conn,
        calendar,
        first=part.first,
        last=part.last,
        actions_until=calendar.next_session(part.last),
        now=now,
        symbols=part.symbols,
        assumed=True,
    )
    failures: Any = result.get("failures", [])
    counts = {"bars": result.get("rows", 0), "failures": list(failures)}
    conn.execute(SQL["part_done"], {"load": part.load_id, "part": part.part_no, "now": now, **counts})
    conn.commit()
    so_far = progress(conn, part.load_id)[0]
    log.info("%s", so_far.text())
    return {**result, "part": part.part_no, "done": so_far.done, "of": so_far.parts}


def finish(
    settings: Settings,
    conn: psycopg.Connection,
    load_id: str,
    now: datetime,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, object]:
    """Validate what a load brought, a year at a time, and end it if all of its parts are done."""
    row = conn.execute(SQL["range_of"], {"load": load_id}).fetchone()
    if row is None:
        raise SessionError(f"there is no load {load_id!r}.", next_step="python -m tradecore data progress lists them")
    calendar = book_calendar(settings)
    sessions = calendar.sessions_in_range(row[0], row[1])
    totals = {"validated": 0, "known": 0, "rows_failed": 0, "bars": 0}
    for start in range(0, len(sessions), ingestion.SESSIONS_A_BLOCK):
        block = sessions[start : start + ingestion.SESSIONS_A_BLOCK]
        say(f"validating {block[0]} to {block[-1]}")
        for key, value in validating.validate_range(settings, conn, calendar, sessions=block, now=now).items():
            totals[key] = totals.get(key, 0) + int(str(value))
    ended = conn.execute(SQL["finish"], {"load": load_id, "now": now}).fetchone() is not None
    conn.commit()
    return {"load": load_id, "ended": ended, **totals}


def progress(conn: psycopg.Connection, load_id: str | None = None, most: int = 20) -> list[Progress]:
    """Return how far the newest loads are, or one of them."""
    rows = conn.execute(SQL["progress"], {"load": load_id, "most": most}).fetchall()
    conn.rollback()
    return [
        Progress(
            load_id=r[0],
            source=r[1],
            timeframe=r[2],
            first=r[3],
            last=r[4],
            symbols=r[5],
            parts=r[6],
            done=r[7],
            bars=int(r[8]),
            failures=int(r[9]),
            begun_at=r[10],
            finished_at=r[11],
            newest_at=r[12],
        )
        for r in rows
    ]


def _stretches(calendar: Calendar, timeframe: str, sessions: Sequence[date], batch: int) -> list[tuple[date, date]]:
    """Return stretches of sessions that hold so many bars of a batch as fit into memory."""
    bars = max(len(calendar.bar_ends(day, timeframe)) for day in sessions[:5])
    most = max(1, ROWS_A_PART // (bars * batch))
    return [(sessions[k], sessions[min(k + most, len(sessions)) - 1]) for k in range(0, len(sessions), most)]
