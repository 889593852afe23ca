"""Files of alternative data into the database: fundamentals, sentiment, macro figures, each with when it was known."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from tradecore.errors import MalformedData
from tradecore.storage import keeping, series
from tradecore.units import to_ns

Row = tuple[str, str, datetime, datetime, float]


def load_file(
    conn: psycopg.Connection,
    path: Path,
    *,
    name: str = "",
    source: str,
    lag_days: float | None = None,
    now: datetime,
) -> dict[str, int]:
    """Load a CSV or Parquet file of values; return {series: how many statements were new}. Commits; all or nothing.

    Columns: value, value_at, known_at, symbol (none or empty: of the whole market), series (or `name` for all). Times
    without an offset are UTC; a known_at that is a date alone counts from that day's end. lag_days stands for known_at
    where the file has none: known so many days after what it is about.

    Raises MalformedData for a file that cannot be read so, with its line: an unknown symbol, a value that is no number,
    a known_at that is missing or still to come.
    """
    symbols = {symbol: i for i, symbol in keeping.symbols(conn).items()}
    found: dict[str, list[Row]] = defaultdict(list)
    for line, record in _records(path):
        row = _row(path, line, record, name, lag_days, symbols, now)
        found[row[0]].append(row)
    new = {}
    with conn.transaction():
        for key, rows in sorted(found.items()):
            new[key] = series.append(
                conn,
                key,
                source=source,
                instruments=np.array([symbols[r[1]] if r[1] else series.MARKET for r in rows], np.int64),
                value_ns=np.array([to_ns(r[2]) for r in rows], np.int64),
                known_ns=np.array([to_ns(r[3]) for r in rows], np.int64),
                value=np.array([r[4] for r in rows], np.float64),
                now=now,
            )
    conn.commit()
    return new


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the line and the fields of each record."""
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            yield from enumerate(parquet.read_table(path).to_pylist(), 1)
            return
        with path.open(encoding="utf-8", newline="") as file:
            yield from enumerate(csv.DictReader(file), 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MalformedData(f"{path} cannot be read: {error}.", next_step="give a CSV or Parquet file") from error


def _row(
    path: Path,
    line: int,
    record: Mapping[str, Any],
    name: str,
    lag_days: float | None,
    symbols: Iterable[str],
    now: datetime,
) -> Row:
    """Return a record's series, symbol, times and value."""

    def wrong(what: str, next_step: str) -> MalformedData:
        return MalformedData(f"{path}, line {line}: {what}.", next_step=next_step, line=line)

    key, symbol = str(record.get("series") or name), str(record.get("symbol") or "").strip()
    if not key:
        raise wrong("no series is named", "a column `series`, or --series NAME")
    if symbol and symbol not in symbols:
        raise wrong(f"{symbol!r} is no symbol of this database", "correct it, or add it to the universe")
    try:
        value = float(record["value"])
        about = _time(record["value_at"], at_end=False)
        given = record.get("known_at")
        if given:
            known = _time(given, at_end=True)
        elif lag_days is not None:
            known = about + timedelta(days=lag_days)
        else:
            raise wrong("it has no known_at", "say when each value was published, or --lag-days N")
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(f"{type(error).__name__}: {error}", "columns: value, value_at, known_at, symbol, series") from error
    if not math.isfinite(value):
        raise wrong(f"{value} is no value", "leave lines without a value out")
    if known > now:
        raise wrong(f"it was known at {known:%Y-%m-%d %H:%M} UTC, which is still to come", "correct known_at")
    return key, symbol, about, known, value


def _time(given: Any, *, at_end: bool) -> datetime:
    """Return an aware UTC time; of a date alone its beginning, or its end."""
    if isinstance(given, datetime):
        at = given
    elif isinstance(given, date) or len(str(given).strip()) <= 10:
        day = given if isinstance(given, date) else date.fromisoformat(str(given).strip())
        at = datetime.combine(day, time.max if at_end else time(), tzinfo=UTC)
    else:
        at = datetime.fromisoformat(str(given).strip())
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
