"""What every feed gives: bars as the vendor printed them, corporate actions, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from tradecore.errors import FeedError, MalformedData, NoDataYet, NoSuchSymbol, NotBuilt
from tradecore.sessions import DAILY, Calendar
from tradecore.units import to_ns

# One row per bar: raw prices in USD and volume in shares as traded, before any adjustment. NaN = the vendor
# gave no value. bar_end_ns is int64 nanoseconds since 1970 UTC.
BAR_DTYPE = np.dtype(
    [
        ("symbol", "U16"),
        ("session_date", "M8[D]"),
        ("bar_end_ns", "i8"),
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
    ]
)
MAX_SYMBOL_CHARS = 16

# One row per trade, in the vendor's order. at_ns: int64 nanoseconds since 1970 UTC; trade_no: the exchange's id;
# price in USD, size in shares as traded; conditions: the vendor's codes, joined by blanks; update: '' as it was, or
# 'canceled', 'corrected', 'incorrect'.
TRADE_DTYPE = np.dtype(
    [
        ("at_ns", "i8"),
        ("trade_no", "u8"),
        ("price", "f8"),
        ("size", "f8"),
        ("exchange", "U4"),
        ("conditions", "U16"),
        ("update", "U9"),
    ]
)

ActionKind = Literal["split", "dividend", "stock_dividend", "symbol_change", "delisting"]
ACTION_KINDS: tuple[ActionKind, ...] = get_args(ActionKind)
Rows = npt.NDArray[np.void]
RowTuple = tuple[str, date, int, float, float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A line or record of the vendor that is no bar. Kept, so that nothing is lost.

    session_date is the line's own date if that can be read, else that of the line before (or after) it.
    """

    symbol: str
    line_no: int
    raw: str
    reason: str
    session_date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolFailure:
    """One symbol that a live vendor could not serve while others were served."""

    symbol: str
    error: FeedError


@dataclass(frozen=True, slots=True, kw_only=True)
class CorporateAction:
    """A corporate action, effective before the open of its ex-date.

    ratio_num new shares for ratio_den old ones (split; stock dividend: old ones included, 21:20 for 5 %); dividend_e6
    in 1e-6 USD per share held before the ex-date, in units of that day (dividend; delisting: what a share is paid
    with, 0 for nothing). pay_date is None where the vendor does not say. new_symbol is the name from the ex-date on
    (symbol change; the symbol is the name until then).
    """

    symbol: str
    ex_date: date
    kind: ActionKind
    ratio_num: int = 1
    ratio_den: int = 1
    dividend_e6: int = 0
    pay_date: date | None = None
    new_symbol: str = ""
    source: str

    def __post_init__(self) -> None:
        whole, nothing = self.ratio_num == self.ratio_den == 1, self.dividend_e6 == 0
        named = self.new_symbol not in ("", self.symbol)
        possible = {
            "split": min(self.ratio_num, self.ratio_den) > 0 and self.ratio_num != self.ratio_den and nothing,
            "stock_dividend": self.ratio_num > self.ratio_den > 0 and nothing,
            "dividend": self.dividend_e6 > 0 and whole,
            "delisting": self.dividend_e6 >= 0 and whole,
            "symbol_change": named and whole and nothing,
        }
        if not possible.get(self.kind, False) or (self.new_symbol and self.kind != "symbol_change"):
            raise MalformedData(
                f"{self.symbol} {self.ex_date}: a {self.kind} of {self.ratio_num}:{self.ratio_den} and "
                f"{self.dividend_e6} millionths of a USD cannot be.",
                next_step="Correct the source: a split has a ratio other than 1:1, a stock dividend one above it, a "
                "dividend an amount, a delisting a price of 0 or more, a symbol change another name.",
                symbol=self.symbol,
                ex_date=self.ex_date,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BarBatch:
    """Bars of some symbols and sessions.

    rows: array of BAR_DTYPE, sorted by symbol, then bar end; duplicates of the vendor are all there, in
    its order.
    rejects: lines that are no bar. failures: symbols that the vendor could not serve while it served others.
    """

    rows: Rows
    rejects: tuple[Reject, ...] = ()
    failures: tuple[SymbolFailure, ...] = ()


def _no_wait() -> None:
    """Wait for nobody: a limit that other processes share is the shell's to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a vendor's door asks for, resolved by the shell and in no option: keys, and the turn to ask.

    pace is called before each request and returns when it may leave: the limit that all processes with this key share.
    """

    api_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    pace: Callable[[], None] = _no_wait


class Feed(Protocol):
    """A source of bars and corporate actions."""

    @property
    def name(self) -> str:
        """The source's name in the database."""

    def last_session(self, symbols: Sequence[str]) -> date | None:
        """Return the newest label that the feed can ever serve for any of the symbols; None if live."""

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the bars of the sessions from first to last, both included.

        A symbol without a bar on a session simply has no row: coverage is judged in validation.
        Raises NoSuchSymbol, NoDataYet (the last session is not there for any symbol), Throttled, AuthFailed,
        VendorDown, MalformedData; and NotASession if the calendar does not reach that far.
        """

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return the corporate actions with an ex-date from first to last, both included, sorted by symbol
        and date.

        Raises as `bars` does.
        """


def make_rows(records: Iterable[RowTuple]) -> Rows:
    """Return records as an array of BAR_DTYPE, sorted by symbol and bar end; equal keys keep their order."""
    rows: Rows = np.array(list(records), dtype=BAR_DTYPE)
    return rows[np.lexsort((rows["bar_end_ns"], rows["symbol"]))]


def in_order(
    actions: Iterable[CorporateAction], first_session: date, last_session: date
) -> tuple[CorporateAction, ...]:
    """Return the actions with an ex-date from first to last, both included, sorted by symbol, date and kind."""
    within = [action for action in actions if first_session <= action.ex_date <= last_session]
    return tuple(sorted(within, key=lambda action: (action.symbol, action.ex_date, action.kind)))


Answered = tuple[Iterable[RowTuple], Iterable[Reject], date | None]
"""What a vendor said of one symbol: bars, rows that are none, and the newest session that it has."""


class LiveFeed:
    """What the feeds that ask a vendor share: their name, whom they could not serve, and how they say it."""

    unknown_step = "Correct it in universe.members, or give the member its last day if it was delisted."
    late_step = "Wait until it publishes, or raise data.publication_lag_minutes if it happens daily."

    def __init__(self, name: str, vendor: str) -> None:
        """vendor: its name in messages."""
        self._name, self._vendor = name, vendor

    @property
    def name(self) -> str:
        """The source's name in the database."""
        return self._name

    def last_session(self, symbols: Sequence[str]) -> date | None:
        """Return None: the feed is live."""
        return None

    def _closes(self, timeframe: str, first_session: date, last_session: date, calendar: Calendar) -> dict[date, int]:
        """Return the close of each session in ns. Raises NotBuilt for another timeframe than '1d'; NotASession."""
        if timeframe != DAILY:
            raise NotBuilt(
                f"The {self._name} feed serves daily bars, not {timeframe!r}.",
                next_step="Set book.timeframe to 1d, or use another feed.",
                timeframe=timeframe,
            )
        days = calendar.sessions_in_range(first_session, last_session)
        return {day: to_ns(calendar.session(day).close_at) for day in days}

    def _one_by_one(self, symbols: Sequence[str], last_session: date, ask: Callable[[str], Answered]) -> BarBatch:
        """Return the bars of symbols that are asked for one after the other; raises as `_served` does."""
        rows, rejects, failures = list[RowTuple](), list[Reject](), list[SymbolFailure]()
        for symbol in symbols:
            try:
                found, bad, newest = ask(symbol)
            except (NoSuchSymbol, NoDataYet) as error:
                failures.append(SymbolFailure(symbol=symbol, error=error))
                continue
            rows += found
            rejects += bad
            failures += self._late({symbol: newest}, last_session)
        return self._served(symbols, rows, rejects, failures)

    def _served(
        self,
        symbols: Sequence[str],
        rows: Iterable[RowTuple],
        rejects: Iterable[Reject],
        failures: Sequence[SymbolFailure],
    ) -> BarBatch:
        """Return the batch; where no symbol was served raise why, NoDataYet before NoSuchSymbol: it may still come."""
        if symbols and len(failures) == len(symbols):
            raise next((f.error for f in failures if isinstance(f.error, NoDataYet)), failures[0].error)
        return BarBatch(rows=make_rows(rows), rejects=tuple(rejects), failures=tuple(failures))

    def _late(self, newest: Mapping[str, date | None], last_session: date) -> list[SymbolFailure]:
        """Return a failure for each symbol whose newest session is before the last one, or is none."""
        return [
            SymbolFailure(
                symbol=symbol,
                error=NoDataYet(
                    f"{self._vendor}'s newest bar of {symbol} is of {day}; {last_session} is not there yet.",
                    next_step=self.late_step,
                    symbol=symbol,
                    vendor=self._vendor,
                    session_date=last_session,
                ),
            )
            for symbol, day in newest.items()
            if day is None or day < last_session
        ]

    def _no_such_symbol(self, symbol: str, does_not: str = "does not know") -> NoSuchSymbol:
        return NoSuchSymbol(
            f"{self._vendor} {does_not} {symbol!r}.", next_step=self.unknown_step, symbol=symbol, vendor=self._vendor
        )


def newest_of(rows: Iterable[RowTuple]) -> date | None:
    """Return the newest session of rows, None without any."""
    return max((row[1] for row in rows), default=None)
