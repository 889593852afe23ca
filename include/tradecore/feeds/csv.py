"""The csv feed: a folder of files, such as include/sample_data.

    AAPL.csv                daily bars of one symbol: session_date, open, high, low, close, volume
    anything.csv            daily bars of several: the same with a column `symbol`
    195m/*.csv              bars of another timeframe: the same with `bar_end_at` (2005-02-28T17:45Z)
    corporate_actions.csv   symbol, ex_date, kind, ratio_num, ratio_den, dividend_usd, pay_date (optional), and where
                            there is one the column new_symbol. Kinds: split, dividend, stock_dividend (its ratio with
                            the old share: 21,20 for 5 %), symbol_change, delisting (dividend_usd: the price of a share)

Prices in USD and volume in shares as traded. Further columns are not read. An empty number means that the
vendor gave none (NaN). Fields are split at each comma, without quoting. A line that is no bar is rejected
with its number, and the rest of the file is served.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from tradecore.errors import MalformedData, NoDataYet, NoSuchSymbol
from tradecore.feeds.base import (
    ACTION_KINDS,
    MAX_SYMBOL_CHARS,
    BarBatch,
    CorporateAction,
    Reject,
    RowTuple,
    in_order,
    make_rows,
)
from tradecore.sessions import DAILY, Calendar
from tradecore.units import DIVIDEND_SCALE, to_ns, to_quanta

PROJECT = Path(__file__).resolve().parents[3]
ACTIONS_FILE = "corporate_actions.csv"
NEW_SYMBOL = "new_symbol"
PRICE_COLUMNS = ("open", "high", "low", "close", "volume")
ACTION_COLUMNS = ("symbol", "ex_date", "kind", "ratio_num", "ratio_den", "dividend_usd", "pay_date")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvOptions:
    """Options of the csv feed: the folder (relative to the project, or absolute) and the source's name."""

    folder: str
    name: str = "csv"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty")
        if not self.path.is_dir():
            raise ValueError(f"folder {self.folder!r} is no folder")

    @property
    def path(self) -> Path:
        """The folder, absolute."""
        return PROJECT / self.folder


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file: header -> column, its lines with their numbers (blank ones left out), the symbol of all of them.

    own is empty where each line has its own symbol.
    """

    path: Path
    columns: dict[str, int]
    lines: list[tuple[int, str]]
    own: str

    def field(self, line: str, column: str) -> str:
        """Return one field of a line, '' where the line is too short."""
        index = self.columns[column]
        fields = line.split(",", index + 1)
        return fields[index].strip() if index < len(fields) else ""

    def symbol(self, line: str) -> str:
        return self.own or self.field(line, "symbol")

    def symbols(self) -> set[str]:
        """Return the symbols of the lines."""
        return {self.own} if self.own else {self.field(line, "symbol") for _, line in self.lines}

    def dated(self) -> Iterator[tuple[int, str, date | None]]:
        """Yield number, line and session_date (None: no date). A session reads every line of 500 files: be quick."""
        if self.columns["session_date"] == 0:
            return ((number, line, _date(line.partition(",")[0].strip())) for number, line in self.lines)
        return ((number, line, _date(self.field(line, "session_date"))) for number, line in self.lines)


class CsvFeed:
    """Bars and corporate actions from a folder of CSV files."""

    def __init__(self, options: CsvOptions) -> None:
        self._folder = options.path
        self._name = options.name

    @property
    def name(self) -> str:
        """The source's name in the database."""
        return self._name

    def last_session(self, symbols: Sequence[str]) -> date | None:
        """Return the newest label of any of the symbols' daily bars. Raises NoSuchSymbol, MalformedData."""
        wanted = frozenset(symbols)
        ends = (
            day
            for file in self._files(symbols, DAILY)
            for _, line, day in file.dated()
            if day is not None and file.symbol(line) in wanted
        )
        return max(ends, default=None)

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the bars of the sessions from first to last, both included.

        Raises NoSuchSymbol (naming the nearest known one), NoDataYet (the folder ends before the last
        session), MalformedData (an empty file, a missing column, an unreadable file), NotASession.
        """
        files = self._files(symbols, timeframe)
        ends = {
            day: tuple(to_ns(end) for end in calendar.bar_ends(day, timeframe))
            for day in calendar.sessions_in_range(first_session, last_session)
        }
        window = _Window(calendar, timeframe, first_session, last_session, ends)
        records: list[RowTuple] = []
        rejects: list[Reject] = []
        newest: date | None = None
        for file in files:
            reader = _Reader(file, window, frozenset(symbols))
            records.extend(reader.records())
            rejects.extend(reader.rejects)
            newest = max((day for day in (newest, reader.newest) if day is not None), default=None)
        if newest is None or newest < last_session:
            raise NoDataYet(
                f"The {self._name} feed ends on {newest}; asked for bars up to {last_session}.",
                next_step=f"Ask for sessions up to {newest}, or add newer lines to {self._folder.name}/.",
                last_session=newest,
            )
        return BarBatch(rows=make_rows(records), rejects=tuple(rejects))

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return the actions with an ex-date from first to last, both included, sorted by symbol and date.

        A line that cannot be read raises MalformedData: a book that misses a split is wrong by half.
        """
        path = self._folder / ACTIONS_FILE
        if not path.is_file():
            return ()
        file, wanted = _read(path, ACTION_COLUMNS, may_be_bare=True), frozenset(symbols)
        found = [action for number, line in file.lines if (action := self._action(file, number, line)).symbol in wanted]
        return in_order(found, first_session, last_session)

    def _action(self, file: _File, number: int, line: str) -> CorporateAction:
        text = {column: file.field(line, column) for column in ACTION_COLUMNS}
        try:
            if text["kind"] not in ACTION_KINDS or not text["symbol"]:
                raise ValueError(f"kind must be one of {', '.join(ACTION_KINDS)}, and a symbol given")
            if text["kind"] == "delisting" and not text["dividend_usd"]:
                raise ValueError("a delisting states its price in dividend_usd, 0 for nothing")
            dividend = Decimal(text["dividend_usd"] or 0)
            if not dividend.is_finite():
                raise ValueError(f"dividend_usd is {dividend}")
            return CorporateAction(
                symbol=text["symbol"],
                ex_date=date.fromisoformat(text["ex_date"]),
                kind=text["kind"],
                ratio_num=int(text["ratio_num"] or 1),
                ratio_den=int(text["ratio_den"] or 1),
                dividend_e6=to_quanta(dividend, DIVIDEND_SCALE),
                pay_date=date.fromisoformat(text["pay_date"]) if text["pay_date"] else None,
                new_symbol=file.field(line, NEW_SYMBOL) if NEW_SYMBOL in file.columns else "",
                source=self._name,
            )
        except (ValueError, ArithmeticError, MalformedData) as error:
            raise MalformedData(
                f"{file.path.name}, line {number}: {line!r} is no corporate action ({error}).",
                next_step=f"Write it as {','.join(ACTION_COLUMNS)}.",
                path=str(file.path),
                line_no=number,
            ) from error

    def _files(self, symbols: Sequence[str], timeframe: str) -> list[_File]:
        """Return the files that hold the symbols. Raises NoSuchSymbol for the first that no file holds."""
        folder = self._folder if timeframe == DAILY else self._folder / timeframe
        keys = ("session_date",) if timeframe == DAILY else ("session_date", "bar_end_at")
        paths = sorted(path for path in folder.glob("*.csv") if path.name != ACTIONS_FILE)
        known: dict[str, Path] = {}
        files: dict[Path, _File] = {}
        for path in paths:
            if path.stem not in symbols and not _has_symbol_column(path):
                known.setdefault(path.stem, path)
                continue
            files[path] = _read(path, (*keys, *PRICE_COLUMNS))
            for symbol in files[path].symbols():
                known.setdefault(symbol, path)
        for symbol in symbols:
            if symbol not in known or len(symbol) > MAX_SYMBOL_CHARS:
                raise self._no_such_symbol(symbol, sorted(known), timeframe)
        return [file for file in files.values() if not file.symbols().isdisjoint(symbols)]

    def _no_such_symbol(self, symbol: str, known: list[str], timeframe: str) -> NoSuchSymbol:
        close = difflib.get_close_matches(symbol.upper(), known, n=1, cutoff=0.4)
        listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        return NoSuchSymbol(
            f"The {self._name} feed has no {timeframe} bars of {symbol!r}; it has {listed or 'none'}.",
            next_step=(f"Did you mean {close[0]}? " if close else "")
            + f"Correct universe.members, or add {symbol}.csv to the feed's folder.",
            symbol=symbol,
            known=tuple(known),
            nearest=close[0] if close else None,
        )


@dataclass(frozen=True, slots=True)
class _Window:
    """The sessions asked for, each with the ends of its bars in ns."""

    calendar: Calendar
    timeframe: str
    first: date
    last: date
    ends: dict[date, tuple[int, ...]]


class _Reader:
    """Turns one file's lines into bars, keeping those that are none."""

    def __init__(self, file: _File, window: _Window, symbols: frozenset[str]) -> None:
        self._file = file
        self._window = window
        self._symbols = symbols
        self.newest: date | None = None
        self.rejects: list[Reject] = []

    def records(self) -> Iterator[RowTuple]:
        """Yield the bars within the window; fills `rejects` and `newest`."""
        own, first, last = self._file.own, self._window.first, self._window.last
        placed = next((day for _, _, day in self._file.dated() if day is not None), None)
        for number, line, day in self._file.dated():
            symbol = own or self._file.symbol(line)
            if symbol not in self._symbols:
                continue
            if day is not None:
                placed = day
                if self.newest is None or day > self.newest:
                    self.newest = day
            if placed is None or placed < first or placed > last:
                continue
            try:
                if day is None:
                    raise ValueError(f"session_date {self._file.field(line, 'session_date')!r} is no date")
                yield self._record(symbol, day, line)
            except ValueError as error:
                self.rejects.append(
                    Reject(symbol=symbol, line_no=number, raw=line, reason=str(error), session_date=placed)
                )

    def _record(self, symbol: str, day: date, line: str) -> RowTuple:
        """Return the bar of a line. Raises ValueError saying why the line is none."""
        columns = self._file.columns
        fields = line.split(",")
        if len(fields) != len(columns):
            raise ValueError(f"the line has {len(fields)} fields, its header {len(columns)}")
        ends = self._window.ends.get(day)
        if ends is None:
            calendar = self._window.calendar
            near = f"{calendar.previous_session(day)} and {calendar.next_session(day)}"
            raise ValueError(f"{day} ({day:%A}) is not a session of {calendar.name}; nearest sessions: {near}")
        end_ns = ends[-1]
        if self._window.timeframe != DAILY:
            end_ns = _instant_ns(fields[columns["bar_end_at"]].strip())
            if end_ns not in ends:
                raise ValueError(
                    f"{fields[columns['bar_end_at']]} is the end of no {self._window.timeframe} bar of {day}"
                )
        opened, high, low, close, volume = _numbers([fields[columns[column]] for column in PRICE_COLUMNS])
        return (symbol, day, end_ns, opened, high, low, close, volume)


def _read(path: Path, required: Sequence[str], *, may_be_bare: bool = False) -> _File:
    """Read a file and check its header. Raises MalformedData: empty, not text, a column missing, no line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedData(
            f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}).",
            next_step="Save it as CSV in UTF-8.",
            path=str(path),
        ) from error
    # a NUL is no text for PostgreSQL, where a rejected line is kept
    split = text.replace("\x00", "\\x00").split("\n")
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(split, start=1) if line.strip()]
    if not lines:
        raise MalformedData(
            f"{path.name} is empty: a file of the feed has a header and a line per bar.",
            next_step=f"Restore {path}; a symbol that has no file any more has to leave universe.members.",
            path=str(path),
        )
    header = [name.strip() for name in lines[0][1].split(",")]
    for column in required:
        if header.count(column) != 1:
            close = difflib.get_close_matches(column, header, n=1)
            raise MalformedData(
                f"{path.name} has {header.count(column)} columns {column!r}; its header is {lines[0][1]!r}.",
                next_step=f"Rename {close[0]!r}." if close and close[0] != column else f"Give it {column!r} once.",
                path=str(path),
                line_no=1,
            )
    if len(lines) == 1 and not may_be_bare:
        raise MalformedData(
            f"{path.name} holds a header and no bar.",
            next_step=f"Restore {path}; a symbol that has no file any more has to leave universe.members.",
            path=str(path),
        )
    columns = {name: i for i, name in enumerate(header)}
    return _File(path=path, columns=columns, lines=lines[1:], own="" if "symbol" in columns else path.stem)


def _has_symbol_column(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return "symbol" in (name.strip() for name in file.readline().split(","))


@lru_cache(maxsize=65_536)  # 500 files share their dates
def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        return None


def _instant_ns(text: str) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"bar_end_at {text} has no UTC offset")
    return to_ns(at)


def _numbers(texts: list[str]) -> list[float]:
    """Return the values of PRICE_COLUMNS. Raises ValueError naming the column that is no number."""
    try:
        if "_" not in "".join(texts):
            return [float(text) for text in texts]
    except ValueError:  # one is empty, or no number
        pass
    return [_number(column, text) for column, text in zip(PRICE_COLUMNS, texts, strict=True)]


def _number(column: str, text: str) -> float:
    text = text.strip()
    if not text:
        return math.nan
    if "_" in text:  # float() would read 1_000
        raise ValueError(f"{column} {text!r} is no number")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{column} {text!r} is no number") from None
