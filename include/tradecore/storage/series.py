"""Alternative series: keyed values with the time from which they were known, and what of them was known when.

A value is about a time (value_at: a quarter's end, a day) and known from another (known_at: its publication). At a bar
counts, of all that was known by the bar's end, the value about the latest time, in its newest statement. What came to
the database after a decision (recorded_at) is not read again as of that decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg

from tradecore.model import Floats, Ints
from tradecore.storage import binary, queries
from tradecore.units import from_ns

SQL = queries.load("series")
MARKET = 0  # the instrument_id of values of the whole market
CLOCK = "series_values"  # its row in data_clock
_STATEMENT = np.dtype([("value_at", ">i8"), ("known_at", ">i8"), ("value", ">f8")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What was said of one series and instrument [k], in the order of known_ns."""

    value_ns: Ints
    known_ns: Ints
    value: Floats

    def as_known(self, bar_end_ns: Ints) -> Floats:
        """Return the value that counts at each bar end [T]; NaN before the first was known."""
        out = np.full(bar_end_ns.size, np.nan)
        if self.value.size == 0:
            return out
        # the newest of the first k statements: about the latest time, and among those the last that was known
        latest = np.where(self.value_ns >= np.maximum.accumulate(self.value_ns), np.arange(self.value.size), 0)
        newest = np.maximum.accumulate(latest)
        count = np.searchsorted(self.known_ns, bar_end_ns, side="right")
        some = count > 0
        out[some] = self.value[newest[count[some] - 1]]
        return out

    def until(self, ns: int) -> Statements:
        """Return those that were known by a time."""
        kept = self.known_ns <= ns
        return Statements(value_ns=self.value_ns[kept], known_ns=self.known_ns[kept], value=self.value[kept])


Said = Mapping[str, Mapping[int, Statements]]
"""{series: {instrument_id: what was said}}"""


def load(
    conn: psycopg.Connection,
    names: Sequence[str],
    *,
    instruments: Sequence[int],
    until_ns: int,
    as_of: datetime | None = None,
) -> Said:
    """Read what was known by a time, as the database had it at as_of (None: now); without series that have nothing."""
    rows = conn.cursor(binary=True).execute(
        SQL["read"],
        {"names": list(names), "instruments": list(instruments), "until": from_ns(until_ns), "as_of": as_of},
        prepare=False,
    )
    out: dict[str, dict[int, Statements]] = {}
    for name, instrument, packed in rows.fetchall():
        found = np.frombuffer(packed, _STATEMENT)
        out.setdefault(name, {})[instrument] = Statements(
            value_ns=binary.to_ns(found["value_at"]),
            known_ns=binary.to_ns(found["known_at"]),
            value=found["value"].astype(np.float64),
        )
    return out


def panels(said: Said, *, instruments: Sequence[int], bar_end_ns: Ints) -> dict[str, Floats]:
    """Return {series: [T, n]} as known at each bar end: an instrument's own values, else the market's."""
    out = {}
    for name, by_instrument in said.items():
        cells = np.full((bar_end_ns.size, len(instruments)), np.nan)
        market = by_instrument[MARKET].as_known(bar_end_ns) if MARKET in by_instrument else None
        for k, instrument in enumerate(instruments):
            if instrument in by_instrument:
                cells[:, k] = by_instrument[instrument].as_known(bar_end_ns)
            elif market is not None:
                cells[:, k] = market
        out[name] = cells
    return out


def read(
    conn: psycopg.Connection,
    names: Sequence[str],
    *,
    instruments: Sequence[int],
    bar_end_ns: Ints,
    as_of: datetime | None = None,
) -> dict[str, Floats]:
    """Return {series: [T, n]} as known at each bar end, as the database had it at as_of (None: now)."""
    if not bar_end_ns.size:
        return {}
    said = load(conn, names, instruments=instruments, until_ns=int(bar_end_ns[-1]), as_of=as_of)
    return panels(said, instruments=instruments, bar_end_ns=bar_end_ns)


def append(
    conn: psycopg.Connection,
    name: str,
    *,
    source: str,
    instruments: Ints,
    value_ns: Ints,
    known_ns: Ints,
    value: Floats,
    now: datetime,
) -> int:
    """Append statements [k] that say something new; return how many. In the caller's transaction.

    They count as recorded from a time on that is later than all before it, whatever the writers' clocks say.
    """
    conn.execute("SELECT pg_advisory_xact_lock(7240002)")
    row = conn.execute(SQL["stamp"], {"now": now}).fetchone()
    at = row[0] if row else now
    conn.execute(SQL["create_stage"])
    conn.execute("TRUNCATE stage_series")
    columns: dict[str, binary.Column] = {
        "instrument_id": instruments.astype(np.int32),
        "value_at": binary.timestamps(value_ns),
        "known_at": binary.timestamps(known_ns),
        "value": value.astype(np.float64),
    }
    binary.copy_in(conn, "stage_series", columns)
    new = conn.execute(SQL["append"], {"series": name, "source": source, "at": at}).rowcount
    if new:
        conn.execute(
            "INSERT INTO data_clock (source, newest_at) VALUES (%s, %s) ON CONFLICT (source) DO UPDATE"
            " SET newest_at = greatest(data_clock.newest_at, excluded.newest_at)",
            (CLOCK, at),
        )
    return new
