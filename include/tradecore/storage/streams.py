"""What a live stream writes: trades and minute bars in batches, cursor and holes, heartbeat, notifications.

No function here commits. Trades are insert-once by their natural key, minute bars upserts: a batch may come twice.
Times of trades are int64 microseconds since 2000 UTC, which is a timestamptz as it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg
from psycopg.rows import class_row

from tradecore.storage import queries

SQL = queries.load("streams")
CHANNEL = "tradecore_market"
MOST_IDS = 500  # of a notification: PostgreSQL takes 8,000 bytes
PG_EPOCH_US = 946_684_800_000_000
PG_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

TradeRow = tuple[int, int, str, int, float, float, str]
"""(instrument_id, trade_at in µs since 2000, exchange, trade_id, price, size, conditions)"""
BarRow = tuple[int, int, date, float, float, float, float, float, int, float]
"""(instrument_id, bar_end_at in µs since 2000, session_date, open, high, low, close, volume, trade_count, vwap)"""

_TRADE_TYPES = ("int4", "int8", "text", "int8", "float8", "float8", "text")
_BAR_TYPES = ("int4", "int4", "int8", "date", *["float8"] * 5, "int4", "float8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """A trade that its venue cancelled ('cancelled') or replaced ('corrected', with what holds from then on)."""

    instrument_id: int
    exchange: str
    trade_id: int
    amended_at: datetime
    kind: str
    new_trade_id: int | None = None
    price: float | None = None
    size: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A stretch of time, both ends included, that some instruments of a source lack."""

    first_at: datetime
    until_at: datetime
    instrument_ids: tuple[int, ...]
    rows_filled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a stream's process last said of itself, and where it stands."""

    source: str
    state: str
    state_at: datetime
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    messages: int
    messages_per_s: float
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    rejects: int
    cuts: int
    last_error: str
    cursor_at: datetime | None = None
    open_holes: int = 0


def at_of(us: int) -> datetime:
    """Return µs since 2000 UTC as an aware datetime."""
    return PG_EPOCH + timedelta(microseconds=us)


def prepare(conn: psycopg.Connection) -> None:
    """Make a connection fit for many small batches: stages for COPY, and commits that do not wait for the disk.

    A crash of the server loses the last of them and the cursor with them, which the next start fetches again.
    """
    conn.execute("SET synchronous_commit TO off")
    conn.execute(SQL["stage_trades"])
    conn.execute(SQL["stage_minute_bars"])


def try_lock(conn: psycopg.Connection, source: str) -> bool:
    """Take the source for this connection until it ends; False where another process has it."""
    row = conn.execute(SQL["try_lock"], {"source": source}).fetchone()
    assert row is not None
    return bool(row[0])


def append_trades(conn: psycopg.Connection, source: str, rows: Sequence[TradeRow]) -> int:
    """Write trades that are not there yet and return how many those were."""
    with conn.cursor() as cursor:
        with cursor.copy(SQL["copy_trades"]) as copy:
            copy.set_types(_TRADE_TYPES)
            for row in rows:
                copy.write_row(row)
        return cursor.execute(SQL["append_trades"], {"source": source}).rowcount


def put_minute_bars(conn: psycopg.Connection, source: str, rows: Sequence[BarRow], now: datetime) -> int:
    """Write minute bars, the last statement of a bar counts; return how many were new or changed."""
    with conn.cursor() as cursor:
        with cursor.copy(SQL["copy_minute_bars"]) as copy:
            copy.set_types(_BAR_TYPES)
            for number, row in enumerate(rows):
                copy.write_row((number, *row))
        return cursor.execute(SQL["put_minute_bars"], {"source": source, "now": now}).rowcount


def append_amendments(conn: psycopg.Connection, source: str, amendments: Iterable[Amendment]) -> None:
    """Write what became of trades."""
    for a in amendments:
        conn.execute(
            SQL["append_amendment"],
            {
                "instrument_id": a.instrument_id,
                "source": source,
                "exchange": a.exchange,
                "trade_id": a.trade_id,
                "amended_at": a.amended_at,
                "kind": a.kind,
                "new_trade_id": a.new_trade_id,
                "price": a.price,
                "size": a.size,
            },
        )


def cursor(conn: psycopg.Connection, source: str) -> tuple[tuple[int, ...], datetime] | None:
    """Return the instruments that a source was received for, and until when; None before its first start."""
    row = conn.execute(SQL["cursor"], {"source": source}).fetchone()
    return None if row is None else (tuple(row[0]), row[1])


def set_cursor(conn: psycopg.Connection, source: str, instrument_ids: Sequence[int], at: datetime) -> None:
    """Say that from `at` on these instruments are received."""
    conn.execute(SQL["set_cursor"], {"source": source, "ids": list(instrument_ids), "at": at})


def advance_cursor(conn: psycopg.Connection, source: str, at: datetime) -> None:
    """Say that everything up to `at` was received; an earlier time changes nothing."""
    conn.execute(SQL["advance_cursor"], {"source": source, "at": at})


def open_hole(conn: psycopg.Connection, source: str, hole: Hole, now: datetime) -> None:
    """Write down that something is missing."""
    conn.execute(
        SQL["open_hole"],
        {
            "source": source,
            "first": hole.first_at,
            "until": hole.until_at,
            "ids": list(hole.instrument_ids),
            "now": now,
        },
    )


def open_holes(conn: psycopg.Connection, source: str) -> list[Hole]:
    """Return what is missing of a source, oldest first."""
    rows = conn.execute(SQL["holes"], {"source": source}).fetchall()
    return [Hole(first_at=r[0], until_at=r[1], instrument_ids=tuple(r[2]), rows_filled=r[3]) for r in rows]


def count_filled(conn: psycopg.Connection, source: str, hole: Hole, rows: int) -> None:
    """Add to the rows that a hole lacked."""
    conn.execute(SQL["count_filled"], {**_key(source, hole), "rows": rows})


def close_hole(conn: psycopg.Connection, source: str, hole: Hole, now: datetime) -> None:
    """Say that nothing of a hole is missing any more."""
    conn.execute(SQL["close_hole"], {**_key(source, hole), "now": now})


def _key(source: str, hole: Hole) -> dict[str, object]:
    return {"source": source, "first": hole.first_at, "until": hole.until_at}


def beat(conn: psycopg.Connection, said: Beat) -> None:
    """Write down what the process says of itself."""
    conn.execute(SQL["beat"], {name: getattr(said, name) for name in Beat.__dataclass_fields__} | {"now": said.beat_at})


def heartbeats(conn: psycopg.Connection) -> list[Beat]:
    """Return the newest word of each source."""
    with conn.cursor(row_factory=class_row(Beat)) as rows:
        return rows.execute(SQL["heartbeats"]).fetchall()


def publish(
    conn: psycopg.Connection, *, kind: str, source: str, ids: Iterable[int], first: datetime, last: datetime, rows: int
) -> None:
    """Tell who listens on CHANNEL, with the commit, which rows are new: instruments and a range of time, no rows.

    kind: trades or minute_bars. ids is null for more than MOST_IDS instruments. Listeners read the rows themselves.
    """
    named = sorted(ids)
    payload = {
        "kind": kind,
        "source": source,
        "ids": named if len(named) <= MOST_IDS else None,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "rows": rows,
    }
    conn.execute(SQL["publish"], {"payload": json.dumps(payload, separators=(",", ":"))})
