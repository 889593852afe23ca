"""Raw data by age: slices of a table, rows out as CSV and in again, chunks dropped or compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tradecore.storage import binary, edition, queries

SQL = queries.load("keeping")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTable:
    """A table whose rows go by age; width: that of its chunks, which begin at multiples of it since 1970."""

    name: str
    time: str
    width: timedelta
    columns: tuple[str, ...]
    segment_by: str
    order_by: str


MINUTE_BARS = RawTable(
    name="minute_bars",
    time="bar_end_at",
    width=timedelta(days=7),
    columns=(
        *("instrument_id", "source", "bar_end_at", "session_date", "known_at", "open", "high", "low", "close"),
        *("volume", "trade_count", "vwap"),
    ),
    segment_by="instrument_id, source",
    order_by="bar_end_at",
)
TRADES = RawTable(
    name="trades",
    time="trade_at",
    width=timedelta(days=1),
    columns=("instrument_id", "source", "trade_at", "exchange", "trade_id", "price", "size", "conditions"),
    segment_by="instrument_id, source",
    order_by="trade_at, exchange, trade_id",
)
RAW_TABLES = {t.name: t for t in (MINUTE_BARS, TRADES)}
# What else is compressed where the server can: (table, segments, order in a segment).
BAR_TABLES = (
    ("bars", "instrument_id, timeframe, source", "bar_end_at"),
    ("bar_versions", "instrument_id, timeframe, source", "bar_end_at, known_at, dup_no"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The rows of a table from first_at (included) to until_at (excluded): a chunk's worth."""

    table: RawTable
    first_at: datetime
    until_at: datetime

    @property
    def where(self) -> dict[str, object]:
        return {"of_table": self.table.name, "first": self.first_at, "until": self.until_at}


def slice_of(table: RawTable, at: datetime) -> Slice:
    """Return the slice that a time belongs to."""
    first = EPOCH + (at - EPOCH) // table.width * table.width
    return Slice(table=table, first_at=first, until_at=first + table.width)


def lock(conn: psycopg.Connection) -> None:
    """Keep other archiving, retention and imports out until the transaction ends."""
    conn.execute(SQL["lock"])


def slices_before(conn: psycopg.Connection, table: RawTable, before: datetime, now: datetime) -> Iterator[Slice]:
    """Yield the slices with rows that end by `before` and that no import holds, oldest first."""
    last = slice_of(table, before).first_at
    row = conn.execute(_named("oldest", table), {"before": last}).fetchone()
    while row is not None and row[0] is not None:
        found = slice_of(table, row[0])
        if not is_held(conn, found, now):
            yield found
        row = conn.execute(_named("oldest_from", table), {"since": found.until_at, "before": last}).fetchone()


def is_held(conn: psycopg.Connection, part: Slice, now: datetime) -> bool:
    """Tell whether an import brought rows of a slice back for longer than now."""
    return conn.execute(SQL["held"], {**part.where, "now": now}).fetchone() is not None


def content_of(conn: psycopg.Connection, part: Slice) -> tuple[int, str]:
    """Return how many rows a slice has, and the sum of their hashes."""
    row = conn.execute(_named("content_of", part.table), part.where).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


def lock_rows(conn: psycopg.Connection, table: RawTable) -> None:
    """Keep everybody from writing to a table until the transaction ends, once those who do have committed."""
    conn.execute(_named("lock_rows", table))


def read_csv(conn: psycopg.Connection, part: Slice, block_bytes: int) -> Iterator[bytes]:
    """Yield a slice's rows as CSV in the order of their key, in blocks of whole lines, each with the line of names."""
    statement = sql.SQL(SQL[f"read_{part.table.name}"]).format(
        first=sql.Literal(part.first_at), until=sql.Literal(part.until_at)
    )
    head, lines, size = b"", list[bytes](), 0
    with conn.cursor().copy(statement) as copy:
        for data in copy:
            line = bytes(data)
            if not head:
                head = line
                continue
            lines.append(line)
            size += len(line)
            if size >= block_bytes:
                yield head + b"".join(lines)
                lines, size = [], 0
    if lines:
        yield head + b"".join(lines)


def symbols(conn: psycopg.Connection) -> dict[int, str]:
    """Return the newest symbol of every instrument."""
    return {int(r[0]): str(r[1]) for r in conn.execute(SQL["symbols"]).fetchall()}


def put_minutes(
    conn: psycopg.Connection,
    *,
    source: str,
    instruments: binary.Column,
    bar_end_ns: binary.Column,
    session_day: binary.Column,
    prices: Mapping[str, binary.Column],
    now: datetime,
) -> int:
    """Write raw minute bars [rows] of several instruments; return how many were new or changed.

    prices: open, high, low, close in USD and volume in shares.
    """
    conn.execute(SQL["create_minute_stage"])
    conn.execute("TRUNCATE stage_minutes")
    columns: dict[str, binary.Column] = {
        "instrument_id": instruments,
        "bar_end_at": binary.timestamps(bar_end_ns),
        "session_date": binary.dates(session_day),
        **prices,
    }
    binary.copy_in(conn, "stage_minutes", columns)
    return conn.execute(SQL["put_minutes"], {"source": source, "now": now}).rowcount


def drop(conn: psycopg.Connection, part: Slice, now: datetime) -> None:
    """Take a slice's rows out of the database: whole chunks where there are such, else row by row."""
    if edition.of(conn).has_chunks:
        conn.execute(_named("drop_chunks", part.table), part.where)
    conn.execute(_named("delete_rows", part.table), part.where)  # rows of a chunk that reaches beyond the slice
    conn.execute(SQL["mark_dropped"], {**part.where, "now": now})


@contextmanager
def importing(conn: psycopg.Connection, table: RawTable) -> Iterator[psycopg.Copy]:
    """Give a COPY of CSV without a header into a stage shaped like the table; then insert what the table lacks."""
    columns = ", ".join(table.columns)
    conn.execute("DROP TABLE IF EXISTS stage_import")
    conn.execute(_named("import_stage", table))
    with conn.cursor().copy(f"COPY stage_import ({columns}) FROM STDIN (FORMAT csv)") as copy:
        yield copy


def import_staged(conn: psycopg.Connection, table: RawTable) -> int:
    """Insert the staged rows that the table lacks; return how many."""
    text = _named("import_rows", table).replace("{columns}", ", ".join(table.columns))
    return conn.execute(text).rowcount


def compress(
    conn: psycopg.Connection, table: str, *, segment_by: str, order_by: str, before: datetime
) -> tuple[int, int, int]:
    """Compress a table's chunks that end by `before`; return (chunks compressed now, bytes before, bytes after).

    The bytes are those of all its compressed chunks. Each chunk is a transaction of its own.
    """
    row = conn.execute(SQL["compressed"], (table,)).fetchone()
    if row is not None and not row[0]:
        conn.execute(
            f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = '{segment_by}',"
            f" timescaledb.compress_orderby = '{order_by}')"
        )
        conn.commit()
    chunks = [r[0] for r in conn.execute(SQL["chunks_to_compress"], {"of_table": table, "before": before}).fetchall()]
    for chunk in chunks:
        conn.execute("SELECT compress_chunk(%s::regclass)", (chunk,))
        conn.commit()
    size = conn.execute(SQL["compression_size"], (table,)).fetchone()
    conn.commit()
    return len(chunks), int(size[0]) if size else 0, int(size[1]) if size else 0


def vacuum(conn: psycopg.Connection) -> list[str]:
    """VACUUM and ANALYZE what many changes have left behind; return the tables. The connection is in no transaction."""
    tables = [r[0] for r in conn.execute(SQL["to_vacuum"]).fetchall()]
    conn.rollback()
    conn.autocommit = True
    try:
        for table in tables:
            conn.execute(f"VACUUM (ANALYZE, SKIP_LOCKED) {table}")
    finally:
        conn.autocommit = False
    return tables


def add_run(
    conn: psycopg.Connection, step: str, *, started: datetime, ended: datetime, result: Mapping[str, object]
) -> None:
    """Write down the last run of a step of maintenance."""
    conn.execute(SQL["add_run"], {"step": step, "started": started, "ended": ended, "result": Jsonb(dict(result))})


def _named(name: str, table: RawTable) -> LiteralString:
    text = SQL[name].replace("{time}", table.time)
    quoted = f"'{table.name}'" if name == "drop_chunks" else table.name
    return text.replace("{table}", quoted)
