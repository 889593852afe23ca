"""What two vendors said of a bar and which of them counts, in the database: decisions are added, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

import psycopg

from tradecore.storage import queries
from tradecore.storage.bars import VersionRow

SQL = queries.load("arbitration")
Prices = tuple[float, float, float, float, float]  # open, high, low, close in USD as traded, volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision: reason, whose bar counts (first, second, none), both bars (None: not given), and since when known.

    difference_frac: the largest of open, high, low, close; None where one of the two is missing.
    """

    instrument_id: int
    bar_end_at: datetime
    session_date: date
    second: str
    reason: str
    chosen: str
    difference_frac: float | None
    first: Prices | None
    first_known_at: datetime | None
    second_bar: Prices | None
    second_known_at: datetime | None
    second_assumed: bool = False

    @property
    def key(self) -> tuple[int, datetime]:
        return self.instrument_id, self.bar_end_at

    def says_what(self, other: Decision | None) -> bool:
        """Tell whether another decision says the same: whose bar counts, why, and what both gave."""
        ignored = {"first_known_at", "second_known_at", "second_assumed"}
        return other is not None and all(
            getattr(self, f.name) == getattr(other, f.name) for f in fields(self) if f.name not in ignored
        )

    def version(self) -> VersionRow:
        """Return the second's bar as a version, in the place of the first's."""
        assert self.second_bar is not None and self.second_known_at is not None  # noqa: PT018 - the table's CHECK
        opened, high, low, close, volume = self.second_bar
        return VersionRow(
            instrument_id=self.instrument_id,
            bar_end_at=self.bar_end_at,
            dup_no=0,
            known_at=self.second_known_at,
            known_at_assumed=self.second_assumed,
            session_date=self.session_date,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
        )


def in_force(
    conn: psycopg.Connection,
    *,
    source: str,
    timeframe: str,
    instruments: Sequence[int],
    first: datetime,
    last: datetime,
) -> dict[tuple[int, datetime], Decision]:
    """Return the decisions in force on bars that end from first to last, by instrument and bar end."""
    where = {"source": source, "timeframe": timeframe, "instruments": list(instruments), "first": first, "last": last}
    found = {}
    for r in conn.execute(SQL["decisions"], where).fetchall():
        found[r[0], r[1]] = Decision(
            instrument_id=r[0],
            bar_end_at=r[1],
            session_date=r[2],
            second=r[3],
            reason=r[4],
            chosen=r[5],
            difference_frac=r[6],
            first=r[8:13] if r[7] is not None else None,
            first_known_at=r[7],
            second_bar=r[15:20] if r[13] is not None else None,
            second_known_at=r[13],
            second_assumed=r[14],
        )
    return found


def add(conn: psycopg.Connection, decisions: Sequence[Decision], *, source: str, timeframe: str, now: datetime) -> None:
    """Write decisions down, as made at `now`."""
    names = ("open", "high", "low", "close", "volume")
    rows = [
        {
            "instrument": d.instrument_id,
            "timeframe": timeframe,
            "bar_end": d.bar_end_at,
            "source": source,
            "now": now,
            "session": d.session_date,
            "second": d.second,
            "reason": d.reason,
            "chosen": d.chosen,
            "difference": d.difference_frac,
            "first_known_at": d.first_known_at,
            "second_known_at": d.second_known_at,
            "second_assumed": d.second_assumed,
            **{f"first_{name}": d.first[k] if d.first else None for k, name in enumerate(names)},
            **{f"second_{name}": d.second_bar[k] if d.second_bar else None for k, name in enumerate(names)},
        }
        for d in decisions
    ]
    if rows:
        with conn.cursor() as cursor:
            cursor.executemany(SQL["add_decision"], rows)
