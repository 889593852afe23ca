"""What every feed gives: bars as the vendor printed them, corporate actions, and what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from tradecore.errors import FeedError, MalformedData
from tradecore.sessions import Calendar

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
