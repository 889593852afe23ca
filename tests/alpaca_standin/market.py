"""The stand-in's market: sessions and prices as data, seen as a row of prints in time.

A bar becomes four prints: its open, its two extremes (the one nearer to the open first) and its close, each
with a quarter of its volume. A daily bar's first print is the opening auction, its last one the closing
auction; of shorter bars those that start at the open and end at the close are. Between two prints of a
session the price passes through everything in between, which is what fills limits and triggers stops.
"""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
QUARTER = Decimal("0.25")


class SessionRow(NamedTuple):
    """One trading session: label, open and close (aware UTC)."""

    label: date
    open_at: datetime
    close_at: datetime


class Print(NamedTuple):
    """One print of a symbol. `auction` is 'open', 'close' or ''."""

    at: datetime
    symbol: str
    price: Decimal
    volume: Decimal
    auction: str
    regular: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar as traded: it covers [start_at, end_at); prices in USD, volume in shares."""

    start_at: datetime
    end_at: datetime
    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Sessions:
    """The exchange's sessions, in order."""

    def __init__(self, rows: Iterable[tuple[date, datetime, datetime]]) -> None:
        self.rows = [SessionRow(*row) for row in rows]
        self._labels = [row.label for row in self.rows]
        self._closes = [row.close_at for row in self.rows]
        if not self.rows:
            raise ValueError("A calendar needs at least one session.")

    @classmethod
    def load(cls, path: Path) -> Sessions:
        """Read a table with the header session_date,open_at,close_at (UTC), such as tradecore's."""
        with path.open(encoding="utf-8") as lines:
            return cls(
                (
                    date.fromisoformat(row["session_date"]),
                    datetime.fromisoformat(row["open_at"]),
                    datetime.fromisoformat(row["close_at"]),
                )
                for row in csv.DictReader(lines)
            )

    def on(self, label: date) -> SessionRow | None:
        """Return the session of that label, or None."""
        index = bisect_left(self._labels, label)
        found = index < len(self._labels) and self._labels[index] == label
        return self.rows[index] if found else None

    def within(self, first: date, last: date) -> list[SessionRow]:
        """Return the sessions from first to last, both included."""
        return self.rows[bisect_left(self._labels, first) : bisect_right(self._labels, last)]

    def after(self, at: datetime) -> SessionRow:
        """Return the first session whose close is after `at`. Raises IndexError past the table."""
        return self.rows[bisect_right(self._closes, at)]

    def following(self, label: date) -> SessionRow:
        """Return the first session after the label. Raises IndexError past the table."""
        return self.rows[bisect_right(self._labels, label)]

    def previous_close(self, at: datetime) -> SessionRow | None:
        """Return the last session that closed at or before `at`, or None."""
        index = bisect_right(self._closes, at) - 1
        return self.rows[index] if index >= 0 else None

    def at(self, at: datetime) -> SessionRow | None:
        """Return the session that is open at `at` (open included, close excluded), or None."""
        index = bisect_right(self._closes, at)
        if index < len(self.rows) and self.rows[index].open_at <= at:
            return self.rows[index]
        return None


class Market:
    """Bars and prints by symbol. Adding bars is the only change."""

    def __init__(self, sessions: Sessions, bars: Iterable[Bar] = ()) -> None:
        self.sessions = sessions
        self.bars: dict[str, list[Bar]] = {}
        self._prints: dict[str, list[Print]] = {}
        self._times: dict[str, list[datetime]] = {}
        self.add(bars)

    @property
    def symbols(self) -> list[str]:
        return sorted(self.bars)

    def add(self, bars: Iterable[Bar]) -> None:
        """Add bars, replacing those with the same symbol, start and end."""
        touched: dict[str, dict[tuple[datetime, datetime], Bar]] = {}
        for bar in bars:
            if bar.symbol not in touched:
                old = self.bars.get(bar.symbol, [])
                touched[bar.symbol] = {(known.start_at, known.end_at): known for known in old}
            touched[bar.symbol][(bar.start_at, bar.end_at)] = bar
        for symbol, table in touched.items():
            self.bars[symbol] = [table[key] for key in sorted(table)]
            self._prints.pop(symbol, None)

    def prints(self, symbol: str) -> Sequence[Print]:
        """Return all prints of a symbol, in order of time."""
        if symbol not in self._prints:
            found = [row for bar in self.bars.get(symbol, ()) for row in self._of(bar)]
            found.sort(key=lambda row: row.at)
            self._prints[symbol] = found
            self._times[symbol] = [row.at for row in found]
        return self._prints[symbol]

    def between(self, symbol: str, after: datetime, upto: datetime) -> Sequence[Print]:
        """Return a symbol's prints in (after, upto]."""
        rows = self.prints(symbol)
        times = self._times[symbol]
        return rows[bisect_right(times, after) : bisect_right(times, upto)]

    def last(self, symbol: str, at: datetime) -> Print | None:
        """Return the last print at or before `at`, or None."""
        rows = self.prints(symbol)
        index = bisect_right(self._times[symbol], at) - 1
        return rows[index] if index >= 0 else None

    def last_close(self, symbol: str, at: datetime) -> Decimal | None:
        """Return the last price of the session before the one `at` belongs to, or None."""
        session = self.sessions.at(at)
        before = self.sessions.previous_close(session.open_at if session else at)
        if before is None:
            return None
        if session is None:  # after a close, 'last day' is still the session before it
            before = self.sessions.previous_close(before.open_at) or before
        found = self.last(symbol, before.close_at)
        return found.price if found else None

    def _of(self, bar: Bar) -> Iterator[Print]:
        session = self.sessions.at(bar.start_at)
        low_first = bar.open - bar.low <= bar.high - bar.open
        first, second = (bar.low, bar.high) if low_first else (bar.high, bar.low)
        third = (bar.end_at - bar.start_at) / 3
        volume = bar.volume * QUARTER
        opens = "open" if session and bar.start_at == session.open_at else ""
        closes = "close" if session and bar.end_at == session.close_at else ""
        # A bar's last print lies within the bar, so that it does not collide with the next one's first.
        end_at = bar.end_at if closes else bar.end_at - timedelta(microseconds=1)
        regular = session is not None
        yield Print(bar.start_at, bar.symbol, bar.open, volume, opens, regular)
        yield Print(bar.start_at + third, bar.symbol, first, volume, "", regular)
        yield Print(bar.start_at + 2 * third, bar.symbol, second, volume, "", regular)
        yield Print(end_at, bar.symbol, bar.close, volume, closes, regular)


def bars_from_rows(
    rows: Iterable[dict[str, Any]], sessions: Sessions, symbol: str | None = None, minutes: int = 1
) -> Iterator[Bar]:
    """Make bars of rows with time (or session_date), symbol, open, high, low, close, volume.

    A `time` that is a date is a session's bar (rows of no session are left out); one with a UTC offset starts
    a bar of `minutes`. An empty price leaves the row out: there was no trade.
    """
    for row in rows:
        text = str(row.get("time") or row.get("session_date") or row.get("date") or "")
        name = str(row.get("symbol") or symbol or "")
        numbers = {key: row.get(key) for key in ("open", "high", "low", "close", "volume")}
        if not text or not name or any(value in (None, "") for value in numbers.values()):
            continue
        if len(text) == 10:
            session = sessions.on(date.fromisoformat(text))
            if session is None:
                continue
            start_at, end_at = session.open_at, session.close_at
        else:
            start_at = datetime.fromisoformat(text).astimezone(UTC)
            end_at = start_at + timedelta(minutes=minutes)
        yield Bar(
            start_at=start_at,
            end_at=end_at,
            symbol=name,
            **{key: Decimal(str(value)) for key, value in numbers.items()},
        )


def load_bars(path: Path, sessions: Sessions, minutes: int = 1) -> list[Bar]:
    """Read one CSV file, or a folder of them (the symbol is the file's name if no column says it)."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    bars: list[Bar] = []
    for file in files:
        if file.name == "corporate_actions.csv":
            continue
        with file.open(encoding="utf-8") as lines:
            bars += bars_from_rows(csv.DictReader(lines), sessions, file.stem, minutes)
    return bars


def new_york(at: datetime) -> datetime:
    """Return the time on a clock in New York."""
    return at.astimezone(NEW_YORK)


def in_new_york(label: date, hour: int, minute: int = 0) -> datetime:
    """Return a New York wall time as UTC."""
    return datetime.combine(label, time(hour, minute), NEW_YORK).astimezone(UTC)
