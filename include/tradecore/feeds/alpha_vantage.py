"""The alpha_vantage feed: daily bars as traded, dividends with their pay dates, and splits, one symbol a question.

Alpha Vantage answers with 200 whatever happened, and says what in a field of the document:

| field | means |
|---|---|
| Note, or Information that speaks of requests or a rate | Throttled: the minute's or the day's questions are used up |
| Information about a premium function | AuthFailed: this key may not ask that |
| Error Message about the apikey | AuthFailed |
| Error Message about the call | NoSuchSymbol: that is how it answers for a name that it does not know |
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from tradecore.errors import FeedError, NoSuchSymbol
from tradecore.feeds.base import (
    Access,
    Answered,
    BarBatch,
    CorporateAction,
    LiveFeed,
    Reject,
    RowTuple,
    in_order,
    newest_of,
)
from tradecore.feeds.http import Limits, Refused, VendorHttp, check_address, check_key, check_limits
from tradecore.sessions import Calendar
from tradecore.units import DIVIDEND_SCALE, to_ns, to_quanta

VENDOR = "Alpha Vantage"
ADDRESS = "https://www.alphavantage.co"
SERIES = "Time Series (Daily)"
FIELDS = ("1. open", "2. high", "3. low", "4. close", "5. volume")
COMPACT_ROWS = 100
KEY_STEP = "Set ALPHA_VANTAGE_API_KEY in .env, or the password of Airflow's connection alpha_vantage_default."
_RATE = re.compile(r"rate limit|requests? per|call frequency|higher api call|spreading out", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaVantageOptions:
    """Options of the alpha_vantage feed. A free key may ask 5 times a minute and 25 times a day."""

    name: str = "alpha_vantage"
    base_url: str = ADDRESS
    timeout_s: float = 20.0
    attempts: int = 4
    backoff_s: float = 2.0
    max_wait_s: float = 65.0
    requests_per_minute: int = 5

    def __post_init__(self) -> None:
        check_limits(self)
        check_address(self.base_url, ADDRESS)


class AlphaVantageFeed(LiveFeed):
    """Daily bars and corporate actions from Alpha Vantage."""

    def __init__(self, options: AlphaVantageOptions, access: Access) -> None:
        super().__init__(options.name, VENDOR)
        self._options, self._access = options, access

    @cached_property
    def _key(self) -> str:
        return check_key("ALPHA_VANTAGE_API_KEY", self._access.api_key, KEY_STEP)

    @cached_property
    def _http(self) -> VendorHttp:
        """The line to Alpha Vantage. Raises AuthFailed without a key: when it is asked, not when the feed is opened."""
        return VendorHttp(
            VENDOR,
            self._options.base_url,
            limits=Limits.of(self._options),
            pace=self._access.pace,
            hidden=(self._key,),
        )

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the daily bars of the sessions from first to last, both included.

        The last 100 rows are asked for first, all of them (a premium function) only where those begin too late. Symbols
        that are not known, or whose last session is not there yet, are `failures` while another is served. Raises
        NoSuchSymbol or NoDataYet if none is; Throttled, AuthFailed, VendorDown, MalformedData; NotBuilt for another
        timeframe than '1d'; NotASession.
        """
        ends = self._closes(timeframe, first_session, last_session, calendar)

        def ask(symbol: str) -> Answered:
            series, now_ns = self._series(symbol, first_session)
            found, bad = _records(symbol, series, ends, now_ns)
            return found, bad, newest_of(found)

        return self._one_by_one(symbols, last_session, ask)

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return splits and dividends with an ex-date from first to last, both included, by symbol and date.

        Symbols that are not known have none, unless none is known. Raises as `bars` does.
        """
        found: list[CorporateAction] = []
        missing: list[FeedError] = []
        for symbol in symbols:
            try:
                found += [_dividend(symbol, row, self.name) for row in self._events("DIVIDENDS", symbol) if _paid(row)]
                found += [_split(symbol, row, self.name) for row in self._events("SPLITS", symbol)]
            except NoSuchSymbol as error:
                missing.append(error)
            except (KeyError, TypeError, ValueError, ArithmeticError) as error:
                raise self._http.malformed(f"Alpha Vantage's events of {symbol} cannot be read: {error}.") from error
        if symbols and len(missing) == len(symbols):
            raise missing[0]
        return in_order(found, first_session, last_session)

    def _series(self, symbol: str, first: date) -> tuple[dict[str, Any], int | None]:
        """Return {date: values} that reaches back to a date as far as there is data, and the vendor's time in ns."""
        document, at = self._ask("TIME_SERIES_DAILY", symbol, SERIES, outputsize="compact")
        days = sorted(document[SERIES])
        if len(days) >= COMPACT_ROWS and days[0] > str(first):
            document, at = self._ask("TIME_SERIES_DAILY", symbol, SERIES, outputsize="full")
        return document[SERIES], at

    def _events(self, function: str, symbol: str) -> list[dict[str, Any]]:
        document, _ = self._ask(function, symbol, "data")
        return list(document["data"] or ())

    def _ask(self, function: str, symbol: str, key: str, **more: str) -> tuple[dict[str, Any], int | None]:
        params = {"function": function, "symbol": symbol, **more, "apikey": self._key}

        def explain(document: Any) -> FeedError | None:
            return self._explained(document, symbol, key)

        try:
            answer = self._http.get("/query", params, explain=explain)
        except Refused as refusal:
            text = f"Alpha Vantage answered {refusal.status} for {symbol}: {refusal.text!r}."
            raise self._http.malformed(text, symbol=symbol, status=refusal.status) from None
        return answer.document, to_ns(answer.at) if answer.at else None

    def _explained(self, document: Any, symbol: str, key: str) -> FeedError | None:
        """Return what a document with 200 says is wrong, None where it is what was asked for."""
        if not isinstance(document, dict):
            return self._http.malformed(f"Alpha Vantage's answer for {symbol} is no document.", symbol=symbol)
        said = self._http.shown(" ".join(str(document[k]) for k in ("Note", "Information") if document.get(k)))
        if said and ("Note" in document or _RATE.search(said)):
            return self._http.throttled(f"Alpha Vantage refuses {symbol}: {said!r}.")
        if said:
            return self._http.auth(f"Alpha Vantage refuses {symbol}: {said!r}.", symbol=symbol)
        refusal = self._http.shown(str(document.get("Error Message") or ""))
        if "apikey" in refusal:
            return self._http.auth(f"Alpha Vantage refuses {symbol}: {refusal!r}.", symbol=symbol)
        if refusal:
            return self._no_such_symbol(symbol)
        if not isinstance(document.get(key), dict if key == SERIES else list):
            return self._http.malformed(f"Alpha Vantage's answer for {symbol} has no {key!r}.", symbol=symbol)
        return None


def _records(
    symbol: str, series: dict[str, Any], ends: dict[date, int], now_ns: int | None
) -> tuple[list[RowTuple], list[Reject]]:
    """Return the bars within the sessions (but for one that still runs at now_ns), and the rows that are none."""
    rows, rejects = list[RowTuple](), list[Reject]()
    if not ends:
        return rows, rejects
    first, last = min(ends), max(ends)
    day = first
    for number, (label, values) in enumerate(sorted(series.items())):
        try:
            day = date.fromisoformat(label)
            if not first <= day <= last or (day in ends and now_ns is not None and now_ns < ends[day]):
                continue
            if day not in ends:
                raise ValueError(f"{day} ({day:%A}) is not a session")
            numbers = [float(values[name]) for name in FIELDS]
            rows.append((symbol, day, ends[day], numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raw = json.dumps([label, values], default=str)
            rejects.append(Reject(symbol=symbol, line_no=number, raw=raw, reason=reason, session_date=day))
    return rows, rejects


def _paid(row: dict[str, Any]) -> bool:
    return Decimal(row["amount"]) > 0


def _dividend(symbol: str, row: dict[str, Any], source: str) -> CorporateAction:
    pay = row.get("payment_date")
    return CorporateAction(
        symbol=symbol,
        ex_date=date.fromisoformat(row["ex_dividend_date"]),
        kind="dividend",
        dividend_e6=to_quanta(Decimal(row["amount"]), DIVIDEND_SCALE),
        pay_date=None if pay in (None, "", "None") else date.fromisoformat(pay),
        source=source,
    )


def _split(symbol: str, row: dict[str, Any], source: str) -> CorporateAction:
    ratio = Fraction(row["split_factor"]).limit_denominator(10_000)
    return CorporateAction(
        symbol=symbol,
        ex_date=date.fromisoformat(row["effective_date"]),
        kind="split",
        ratio_num=ratio.numerator,
        ratio_den=ratio.denominator,
        source=source,
    )
