"""Exchange sessions from a checked-in table: which days trade, when they open and close, when their bars end.

The table is data/sessions_<calendar>.csv (session_date, open_at, close_at in UTC), so that reading it needs
nothing but the standard library. exchange_calendars makes it and checks it, in this command alone:

    python -m tradecore.sessions --build --last-year 2035     # extend the table
    python -m tradecore.sessions --check                      # compare it with exchange_calendars

A file of the same columns can stand in for an exchange: `calendar("path/to/sessions.csv")`. The calendar '24/7', of
markets that never close, needs no table: each day is a session, from midnight to midnight UTC.
"""

from __future__ import annotations

import difflib
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from tradecore.errors import NotASession, SessionError

TABLES = Path(__file__).resolve().parent / "data"
HEADER = "session_date,open_at,close_at"
DAILY = "1d"
MAX_BAR_MINUTES = 24 * 60
ALWAYS_OPEN = "24/7"
ALWAYS_FIRST, ALWAYS_LAST = date(2009, 1, 3), date(2040, 12, 31)

_loaded: dict[Path, tuple[tuple[int, int], Calendar]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One trading session: its label and its bounds (aware UTC)."""

    session_date: date
    open_at: datetime
    close_at: datetime

    def __post_init__(self) -> None:
        if self.open_at.tzinfo is None or self.close_at.tzinfo is None:
            raise SessionError(
                f"Session {self.session_date}: {self.open_at} and {self.close_at} need a UTC offset.",
                next_step="Write the times as 2005-02-28T14:30Z.",
                session_date=self.session_date,
            )
        if self.close_at <= self.open_at:
            raise SessionError(
                f"Session {self.session_date} closes at {self.close_at}, not after its open {self.open_at}.",
                next_step="Correct the line in the table of sessions.",
                session_date=self.session_date,
            )


def bar_minutes(timeframe: str) -> int | None:
    """Return the minutes of an intraday timeframe ('195m' -> 195), or None for '1d'.

    Raises SessionError for anything else.
    """
    if timeframe == DAILY:
        return None
    digits = timeframe.removesuffix("m")
    if timeframe.endswith("m") and digits.isascii() and digits.isdigit() and 1 <= int(digits) <= MAX_BAR_MINUTES:
        return int(digits)
    raise SessionError(
        f"Timeframe {timeframe!r} is neither '1d' nor whole minutes from '1m' to '{MAX_BAR_MINUTES}m'.",
        next_step="Write it as 1d, 195m, 60m, ...",
        timeframe=timeframe,
    )


class Calendar:
    """The sessions of one exchange, in order. Made by `calendar()`."""

    __slots__ = ("_closes", "_dates", "_opens", "name")

    def __init__(self, name: str, sessions: Iterable[Session]) -> None:
        rows = list(sessions)
        self.name = name
        self._dates = [row.session_date for row in rows]
        self._opens = [row.open_at for row in rows]
        self._closes = [row.close_at for row in rows]
        if not rows:
            raise SessionError(f"Calendar {name} has no session.", next_step="Give it at least one line.")
        for before, after in itertools.pairwise(rows):
            if after.session_date <= before.session_date or after.open_at < before.close_at:
                raise SessionError(
                    f"Calendar {name}: {after.session_date} does not come after {before.session_date}.",
                    next_step="Sort the table by session_date, one line each.",
                )

    def __repr__(self) -> str:
        return f"Calendar({self.name!r}, {self.first_session}..{self.last_session})"

    @property
    def first_session(self) -> date:
        """The first session of the table."""
        return self._dates[0]

    @property
    def last_session(self) -> date:
        """The last session of the table."""
        return self._dates[-1]

    @property
    def sessions_per_year(self) -> float:
        """Sessions by which a year is counted: 365 of a market that never closes, 252 of an exchange."""
        return 365.0 if self.name == ALWAYS_OPEN else 252.0

    def is_session(self, day: date) -> bool:
        """Tell whether the day is a session. Raises NotASession outside the table, where nobody knows."""
        if not self.first_session <= day <= self.last_session:
            raise self._not_a_session(day)
        index = bisect_left(self._dates, day)
        return self._dates[index] == day

    def session(self, day: date) -> Session:
        """Return the session of that label. Raises NotASession, naming the nearest sessions."""
        return self._at(self._index(day))

    def next_session(self, day: date) -> date:
        """Return the first session after the day (any day). Raises NotASession past the table."""
        if day < self.first_session - timedelta(days=1):
            raise self._not_a_session(day)
        return self._dates[self._inside(bisect_right(self._dates, day), day)]

    def previous_session(self, day: date) -> date:
        """Return the last session before the day (any day). Raises NotASession outside the table."""
        if day > self.last_session + timedelta(days=1):
            raise self._not_a_session(day)
        return self._dates[self._inside(bisect_left(self._dates, day) - 1, day)]

    def sessions_in_range(self, first: date, last: date) -> tuple[date, ...]:
        """Return the sessions from first to last, both included. Raises NotASession past the table."""
        for day in (first, last):
            if first <= last and not self.first_session <= day <= self.last_session:
                raise self._not_a_session(day)
        return tuple(self._dates[bisect_left(self._dates, first) : bisect_right(self._dates, last)])

    def session_at_or_before(self, at: datetime) -> date:
        """Return the last session whose close is at or before `at` (aware). Raises NotASession outside."""
        index = bisect_right(self._closes, at) - 1
        if index < 0:
            raise self._not_a_session(at.astimezone(UTC).date())
        if index == len(self._dates) - 1 and at.astimezone(UTC).date() > self.last_session + timedelta(days=7):
            raise self._not_a_session(at.astimezone(UTC).date())
        return self._dates[index]

    def session_after(self, at: datetime) -> Session:
        """Return the first session whose close is after `at` (aware). Raises NotASession past the table."""
        index = bisect_right(self._closes, at)
        return self._at(self._inside(index, at.astimezone(UTC).date()))

    def bar_ends(self, session_date: date, timeframe: str) -> tuple[datetime, ...]:
        """Return when the bars of a session end: open + k * N minutes, the last one at the close."""
        session = self.session(session_date)
        minutes = bar_minutes(timeframe)
        if minutes is None:
            return (session.close_at,)
        step = timedelta(minutes=minutes)
        count = -((session.open_at - session.close_at) // step)
        return (*(session.open_at + k * step for k in range(1, count)), session.close_at)

    def bar_ends_in_range(self, first: date, last: date, timeframe: str) -> tuple[datetime, ...]:
        """Return the ends of all bars of the sessions from first to last, both included."""
        return tuple(end for day in self.sessions_in_range(first, last) for end in self.bar_ends(day, timeframe))

    def session_of(self, bar_end_at: datetime) -> date:
        """Return the session in which a bar ends. Raises NotASession for a time in no session."""
        index = bisect_left(self._closes, bar_end_at)
        if index == len(self._dates) or bar_end_at <= self._opens[index]:
            raise self._not_a_session(bar_end_at.astimezone(UTC).date(), at=bar_end_at)
        return self._dates[index]

    def next_bar_end(self, bar_end_at: datetime, timeframe: str) -> datetime:
        """Return the first bar end after a time (which need not be one)."""
        session = self.session_after(bar_end_at)
        return next(end for end in self.bar_ends(session.session_date, timeframe) if end > bar_end_at)

    def previous_bar_end(self, bar_end_at: datetime, timeframe: str) -> datetime:
        """Return the last bar end before a time (which need not be one)."""
        index = bisect_left(self._opens, bar_end_at) - 1
        while index >= 0:
            for end in reversed(self.bar_ends(self._dates[index], timeframe)):
                if end < bar_end_at:
                    return end
            index -= 1
        raise self._not_a_session(bar_end_at.astimezone(UTC).date())

    def _at(self, index: int) -> Session:
        return Session(session_date=self._dates[index], open_at=self._opens[index], close_at=self._closes[index])

    def _index(self, day: date) -> int:
        index = bisect_left(self._dates, day)
        if index == len(self._dates) or self._dates[index] != day:
            raise self._not_a_session(day)
        return index

    def _inside(self, index: int, day: date) -> int:
        if not 0 <= index < len(self._dates):
            raise self._not_a_session(day)
        return index

    def _not_a_session(self, day: date, at: datetime | None = None) -> NotASession:
        index = bisect_left(self._dates, day)
        before = self._dates[index - 1] if index > 0 else None
        after_index = bisect_right(self._dates, day)
        after = self._dates[after_index] if after_index < len(self._dates) else None
        nearest = " and ".join(str(label) for label in (before, after) if label is not None)
        if day > self.last_session or day < self.first_session:
            what = f"{day} is outside the table of {self.name}, {self.first_session} to {self.last_session}."
            step = f"python -m tradecore.sessions --build --first-year {min(day.year, self.first_session.year)} "
            step += f"--last-year {max(day.year, self.last_session.year)}, or a date within the table."
        elif at is not None:
            what = f"{at} is within no session of {self.name}; nearest sessions: {nearest}."
            step = "Give a time after an open and up to the close."
        else:
            what = f"{day} ({day:%A}) is not a session of {self.name}; nearest sessions: {nearest}."
            step = "Use one of these dates."
        return NotASession(what, next_step=step, session_date=day, calendar=self.name, previous=before, following=after)


def read_table(path: Path, name: str) -> Calendar:
    """Read a table of sessions (CSV: session_date, open_at, close_at). Raises SessionError with the line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise SessionError(
            f"{path} starts with {lines[0] if lines else ''!r}, expected {HEADER!r}.",
            next_step="Give the table that header.",
            path=str(path),
        )
    sessions = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            label, opens, closes = line.split(",")
            bounds = (datetime.fromisoformat(opens), datetime.fromisoformat(closes))
            sessions.append(Session(session_date=date.fromisoformat(label), open_at=bounds[0], close_at=bounds[1]))
        except ValueError as error:
            raise SessionError(
                f"{path}, line {number}: {line!r} is not a session ({error}).",
                next_step="Write it as 2005-02-28,2005-02-28T14:30Z,2005-02-28T21:00Z.",
                path=str(path),
                line_no=number,
            ) from error
    return Calendar(name, sessions)


def known_calendars() -> tuple[str, ...]:
    """Return the names that have a table in this package."""
    return tuple(sorted(path.stem.removeprefix("sessions_") for path in TABLES.glob("sessions_*.csv")))


def calendar(name: str) -> Calendar:
    """Return the calendar of an exchange ('XNYS'), '24/7', or that of a table given by its path (ending in .csv).

    A table is read once per process, and again when its file changes. Raises SessionError if unknown.
    """
    if name == ALWAYS_OPEN:
        return _always_open()
    path = Path(name) if name.endswith(".csv") else TABLES / f"sessions_{name}.csv"
    if not path.is_file():
        known = known_calendars()
        close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.3)
        raise SessionError(
            f"There is no calendar {name!r}; known: {', '.join((*known, ALWAYS_OPEN))}.",
            next_step=f"Use {(close or known)[0]}, or the path of a table of sessions ({HEADER}).",
            calendar=name,
        )
    path = path.resolve()
    stat = path.stat()
    version = (stat.st_mtime_ns, stat.st_size)
    known_version, found = _loaded.get(path, (None, None))
    if found is None or known_version != version:
        found = read_table(path, name)
        _loaded[path] = (version, found)
    return found


@lru_cache(maxsize=1)
def _always_open() -> Calendar:
    midnight = datetime.combine(ALWAYS_FIRST, datetime.min.time(), UTC)
    opens = [midnight + timedelta(days=k) for k in range((ALWAYS_LAST - ALWAYS_FIRST).days + 1)]
    days = (Session(session_date=at.date(), open_at=at, close_at=at + timedelta(days=1)) for at in opens)
    return Calendar(ALWAYS_OPEN, days)


def _table_text(name: str, first_year: int, last_year: int) -> str:
    """Make the table's text with exchange_calendars (imported here alone: it brings pandas, 68 MB)."""
    import exchange_calendars

    source = exchange_calendars.get_calendar(name, start=f"{first_year}-01-01", end=f"{last_year}-12-31")
    lines = [HEADER]
    for label, opens, closes in zip(source.sessions, source.opens, source.closes, strict=True):
        lines.append(f"{label:%Y-%m-%d},{opens:%Y-%m-%dT%H:%MZ},{closes:%Y-%m-%dT%H:%MZ}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build or check a table from the command line. Returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m tradecore.sessions", description="Make or check a table.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--build", action="store_true", help="write the table with exchange_calendars")
    action.add_argument("--check", action="store_true", help="compare the table with exchange_calendars")
    parser.add_argument("--calendar", default="XNYS")
    parser.add_argument("--first-year", type=int, default=1999)
    parser.add_argument("--last-year", type=int, default=2030)
    options = parser.parse_args(arguments)
    path = TABLES / f"sessions_{options.calendar}.csv"
    if options.build:
        text = _table_text(options.calendar, options.first_year, options.last_year)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path.name}: {text.count(chr(10)) - 1} sessions, {options.first_year} to {options.last_year}.")
        return 0
    table = calendar(options.calendar)
    text = _table_text(options.calendar, table.first_session.year, table.last_session.year)
    here, there = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
    changes = list(difflib.unified_diff(here, there, "table", "exchange_calendars", n=0, lineterm=""))
    print("\n".join(changes) if changes else f"{path.name}: {len(here) - 1} sessions agree.")
    return 1 if changes else 0


if __name__ == "__main__":
    raise SystemExit(main())
