"""The alpaca feed: daily and minute bars, trades and corporate actions of US shares, from IEX or all exchanges (SIP).

Its REST documents are read here: alpaca-py's data client waits without a limit, repeats what it likes and turns an
answer that broke off into an empty one. Bars are raw, as traded. Bars of other lengths are made of the longest ones of
Alpaca that begin at each session's open: its own are counted from midnight.

A page that comes empty although more was promised says nothing: what it may have held is asked for once more, and what
is empty twice is VendorDown, not a gap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tradecore.errors import FeedError
from tradecore.feeds import alpaca_records as records
from tradecore.feeds.alpaca_rest import (
    ADDRESS,
    BARS,
    TRADES,
    VENDOR,
    broken,
    is_mapping,
    open_http,
    pages,
    stamp,
)
from tradecore.feeds.base import (
    Access,
    BarBatch,
    CorporateAction,
    LiveFeed,
    Reject,
    RowTuple,
    SymbolFailure,
    in_order,
    make_rows,
    newest_of,
)
from tradecore.feeds.http import Limits, Refused, VendorHttp, check_address, check_limits
from tradecore.sessions import DAILY, Calendar, bar_minutes
from tradecore.units import to_ns

LATEST, ACTIONS = "/v2/stocks/bars/latest", "/v1/corporate-actions"
ACTIONS_PER_PAGE = 1_000
# Actions are found by their process date, which for a dividend is the day it is paid: some months after the ex-date.
PROCESSED_BEFORE, PROCESSED_AFTER = timedelta(days=14), timedelta(days=150)
ACTION_TYPES = "forward_split,reverse_split,cash_dividend,stock_dividend,unit_split,spin_off,cash_merger,stock_merger,"
ACTION_TYPES += "stock_and_cash_merger,name_change,worthless_removal"
_BAD_SYMBOL = re.compile(r"invalid symbols?:? *\"?([A-Za-z0-9._/\-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaOptions:
    """Options of the alpaca feed. feed: iex (one exchange, free) or sip (all of them, by subscription)."""

    name: str = "alpaca"
    feed: str = "iex"
    base_url: str = ADDRESS
    timeout_s: float = 20.0
    attempts: int = 5
    backoff_s: float = 1.0
    max_wait_s: float = 65.0
    requests_per_minute: int = 180
    symbols_per_request: int = 100
    rows_per_page: int = 10_000

    def __post_init__(self) -> None:
        check_limits(self, "symbols_per_request")
        check_address(self.base_url, ADDRESS)
        if self.feed not in ("iex", "sip"):
            raise ValueError(f"feed is {self.feed!r}, must be iex or sip")
        if not 1 <= self.rows_per_page <= 10_000:
            raise ValueError(f"rows_per_page is {self.rows_per_page}, must be from 1 to 10000")


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the pages of one question held: bars by symbol; empty: a page held nothing although it had been promised."""

    bars: dict[str, list[Any]]
    empty: bool
    at: datetime | None


class AlpacaFeed(LiveFeed):
    """Bars, trades and corporate actions from Alpaca's market data API."""

    def __init__(self, options: AlpacaOptions, access: Access) -> None:
        super().__init__(options.name, VENDOR)
        self._options, self._access = options, access
        self._refused: set[str] = set()  # names that Alpaca takes for none at all

    @cached_property
    def _http(self) -> VendorHttp:
        """The line to Alpaca. Raises AuthFailed without keys: when it is asked, not when the feed is opened."""
        return open_http(self._access, self._options.base_url, Limits.of(self._options))

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the bars of the sessions from first to last, both included.

        Symbols that Alpaca does not know, or whose last session is not there yet, are `failures` while another is
        served. Raises NoSuchSymbol or NoDataYet if none is; Throttled, AuthFailed, VendorDown, MalformedData;
        NotASession.
        """
        grid = records.Grid.of(calendar, timeframe, first_session, last_session)
        if not grid.days:
            return BarBatch(rows=make_rows(()))
        rows, rejects, failures = list[RowTuple](), list[Reject](), list[SymbolFailure]()
        size = self._options.symbols_per_request
        for start in range(0, len(symbols), size):
            group, unknown = list(symbols[start : start + size]), list[SymbolFailure]()
            by_symbol, bad = self._group(group, unknown, timeframe, grid)
            rows += [row for found in by_symbol.values() for row in found]
            rejects += bad
            failures += [*unknown, *self._behind(by_symbol, grid.days[-1])]
        return self._served(symbols, rows, rejects, failures)

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return splits and dividends with an ex-date from first to last, both included, by symbol and date.

        Alpaca may learn of an action late. Raises as `bars` does, but for NoDataYet.
        """
        documents: list[Mapping[str, Any]] = []
        size, names = self._options.symbols_per_request, [s for s in symbols if s not in self._refused]
        for start in range(0, len(names), size):
            asked = {
                "symbols": ",".join(names[start : start + size]),
                "types": ACTION_TYPES,
                "start": str(first_session - PROCESSED_BEFORE),
                "end": str(last_session + PROCESSED_AFTER),
                "limit": str(ACTIONS_PER_PAGE),
                "sort": "asc",
            }
            documents += self._whole(ACTIONS, asked, "corporate_actions")
        found = records.actions_of(documents, self.name)
        return in_order({action for action in found if action.symbol in symbols}, first_session, last_session)

    def trades(self, symbol: str, start_at: datetime, end_at: datetime) -> Iterator[npt.NDArray[np.void]]:
        """Yield the trades from start_at to end_at, both included, a page at a time: arrays of TRADE_DTYPE.

        Raises as `bars` does; a page that is empty although more is promised is VendorDown.
        """
        asked = {
            "symbols": symbol,
            "start": stamp(start_at),
            "end": stamp(end_at),
            "limit": str(self._options.rows_per_page),
            "feed": self._options.feed,
            "sort": "asc",
        }
        for answer, promised in pages(self._http, TRADES, asked, "trades"):
            trades = answer.document["trades"] or {}
            if promised and not trades:
                raise broken(f"Alpaca sent an empty page in the middle of the trades of {symbol}.")
            yield records.trade_rows(trades.get(symbol) or ())

    def _group(
        self, group: list[str], unknown: list[SymbolFailure], timeframe: str, grid: records.Grid
    ) -> tuple[dict[str, list[RowTuple]], list[Reject]]:
        """Return the rows of each symbol of one question; those that Alpaca takes for none go to unknown."""
        while group:
            try:
                return self._rows_of(group, timeframe, grid)
            except Refused as refusal:
                named = _BAD_SYMBOL.search(refusal.text)
                bad = next((s for s in group if named and s.upper() == named[1].upper()), None)
                if bad is None:
                    text = f"Alpaca answered {refusal.status} to a question for bars: {refusal.text!r}."
                    raise self._http.malformed(text, status=refusal.status) from None
                group.remove(bad)
                self._refused.add(bad)
                unknown.append(SymbolFailure(symbol=bad, error=self._no_such_symbol(bad)))
        return {}, []

    def _rows_of(
        self, group: Sequence[str], timeframe: str, grid: records.Grid
    ) -> tuple[dict[str, list[RowTuple]], list[Reject]]:
        found = self._ask(group, timeframe, grid)
        by_symbol, rejects = _parsed(found, group, timeframe, grid)
        short = [s for s, rows in by_symbol.items() if len({row[1] for row in rows}) < len(grid.days)]
        if (found.empty or not found.bars) and short:
            again = self._ask(short, timeframe, grid)
            if again.empty or (not again.bars and self._has_older(short, grid)):
                raise broken(f"Alpaca sent empty pages twice for {', '.join(short[:5])}: its bars are incomplete.")
            healed, more = _parsed(again, short, timeframe, grid)
            by_symbol |= healed
            rejects = [r for r in rejects if r.symbol not in short] + more
        return by_symbol, rejects

    def _ask(self, symbols: Sequence[str], timeframe: str, grid: records.Grid) -> _Found:
        """Return what all pages of one question for bars hold."""
        asked = {
            "symbols": ",".join(symbols),
            "timeframe": _vendor_timeframe(timeframe),
            "start": str(grid.days[0]),
            "end": datetime.fromtimestamp(grid.closes[-1] // 10**9 - 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "limit": str(self._options.rows_per_page),
            "adjustment": "raw",
            "feed": self._options.feed,
            "sort": "asc",
        }
        found = _Found(bars={}, empty=False, at=None)
        for answer, promised in pages(self._http, BARS, asked, "bars"):
            part = answer.document["bars"] or {}
            found.empty |= not part and promised
            found.at = answer.at
            for symbol, bars in part.items():
                found.bars.setdefault(symbol, []).extend(bars or ())
        return found

    def _behind(self, by_symbol: Mapping[str, Sequence[RowTuple]], last_session: date) -> list[SymbolFailure]:
        """Return a failure for each symbol without a bar of the last session: not there yet, or not known at all."""
        newest = {s: newest_of(rows) for s, rows in by_symbol.items()}
        absent = [s for s, day in newest.items() if day is None]
        known = self._latest(absent) if absent else {}
        return [
            SymbolFailure(symbol=late.symbol, error=self._no_such_symbol(late.symbol))
            if newest[late.symbol] is None and late.symbol not in known
            else late
            for late in self._late(newest, last_session)
        ]

    def _latest(self, symbols: Sequence[str]) -> dict[str, datetime]:
        """Return the start of the newest bar of each symbol that ever had one; who is absent is asked for twice."""
        found: dict[str, datetime] = {}
        for _ in range(2):
            missing = [s for s in symbols if s not in found]
            if not missing:
                break
            asked = {"symbols": ",".join(missing), "feed": self._options.feed}
            try:
                document = self._http.get(LATEST, asked, explain=self._latest_bars).document
            except Refused:
                break  # it names a symbol that is none: then none of them is known
            try:
                found |= {s: datetime.fromisoformat(bar["t"]) for s, bar in (document["bars"] or {}).items()}
            except (KeyError, TypeError, ValueError) as error:
                raise self._http.malformed(f"Alpaca's latest bars cannot be read: {error}.") from None
        return found

    def _has_older(self, symbols: Sequence[str], grid: records.Grid) -> bool:
        """Tell whether Alpaca has bars of a symbol from the range on, though it gave none of several sessions."""
        if len(grid.days) < 2:
            return False
        return any(to_ns(at) >= grid.opens[0] for at in self._latest(symbols).values())

    def _whole(self, path: str, asked: Mapping[str, str], key: str) -> list[Mapping[str, Any]]:
        """Return the pages of a question; asked again where one came empty in the middle, or nothing at all."""
        for last_try in (False, True):
            parts, empty = list[Mapping[str, Any]](), False
            try:
                for answer, promised in pages(self._http, path, asked, key, exact=True):
                    part = answer.document[key] or {}
                    empty |= promised and not part
                    parts.append(part)
            except Refused as refusal:
                text = f"Alpaca answered {refusal.status} to {path}: {refusal.text!r}."
                raise self._http.malformed(text, status=refusal.status) from None
            if not empty and (any(parts) or last_try):
                return parts
        raise broken(f"Alpaca sent empty pages twice for {path}.")

    def _latest_bars(self, document: Any) -> FeedError | None:
        """Check that a document holds a bar by symbol, or null."""
        if isinstance(document, dict) and "bars" in document and is_mapping(document["bars"], dict | None):
            return None
        return self._http.malformed(f"Alpaca's answer has no bars: {str(document)[:80]!r}.")


def _parsed(
    found: _Found, symbols: Sequence[str], timeframe: str, grid: records.Grid
) -> tuple[dict[str, list[RowTuple]], list[Reject]]:
    now_ns = to_ns(found.at) if found.at else grid.closes[-1]
    read = records.daily_rows if timeframe == DAILY else records.intraday_rows
    rows, rejects = dict[str, list[RowTuple]](), list[Reject]()
    for symbol in symbols:
        rows[symbol], bad = read(symbol, found.bars.get(symbol, ()), grid, now_ns)
        rejects += bad
    return rows, rejects


def _vendor_timeframe(timeframe: str) -> str:
    """Return the bars to ask for: days, or the longest minutes that fit into a timeframe and begin at 9:30."""
    minutes = bar_minutes(timeframe)
    return "1Day" if minutes is None else f"{math.gcd(minutes, 30)}Min"
