"""The crypto feed: candles of a crypto exchange through ccxt, whose days have no close (calendar '24/7').

Symbols are written BTC-USD. Prices in USD: a pair quoted in something else is refused unless `count_as_usd` names it.
Volume is in coins, fractions and all; the database keeps whole ones. There are no corporate actions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast

import ccxt

from tradecore.errors import (
    AuthFailed,
    FeedError,
    MalformedData,
    NoSuchSymbol,
    NotBuilt,
    Throttled,
    VendorDown,
)
from tradecore.feeds.base import (
    Access,
    Answered,
    BarBatch,
    CorporateAction,
    LiveFeed,
    Reject,
    RowTuple,
    make_rows,
    newest_of,
)
from tradecore.feeds.http import Limits, check_address, check_limits, trying_again
from tradecore.sessions import Calendar
from tradecore.units import to_ns

NS_A_MS = 1_000_000
ROWS_PER_PAGE = 1_000
TIMEFRAMES = {"60m": "1h", "120m": "2h", "240m": "4h", "360m": "6h", "720m": "12h", "1440m": "1d"}
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoOptions:
    """Options of the crypto feed: ccxt's name of the exchange; what counts as USD; an address for trials."""

    name: str = "crypto"
    exchange: str = "bitstamp"
    count_as_usd: tuple[str, ...] = ()
    base_url: str | None = None
    timeout_s: float = 15.0
    attempts: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 60.0
    requests_per_minute: int = 60
    rows_per_page: int = ROWS_PER_PAGE

    def __post_init__(self) -> None:
        check_limits(self, "rows_per_page")
        if self.exchange not in ccxt.exchanges:
            raise ValueError(f"ccxt knows no exchange {self.exchange!r}")
        if self.base_url is not None:
            check_address(self.base_url, "the exchange's own")


class CryptoFeed(LiveFeed):
    """Candles of one exchange."""

    unknown_step = "Correct it in universe.members, or name another data.options.exchange."
    late_step = "Wait until it has ended."

    def __init__(self, options: CryptoOptions, access: Access) -> None:
        super().__init__(options.name, options.exchange)
        self._options, self._pace = options, access.pace
        own = {"apiKey": access.api_key, "secret": access.secret_key} if access.api_key else {}
        self._exchange = getattr(ccxt, options.exchange)({**own, "timeout": int(options.timeout_s * 1000)})
        self._exchange.enableLastJsonResponse = True
        self._exchange.enableRateLimit = False  # ours is shared by all processes, ccxt's by none
        if options.base_url is not None:
            self._exchange.urls["api"] = _moved(self._exchange.urls["api"], options.base_url)
            self._exchange.session.trust_env = False
        self._again = trying_again(Limits.of(options), Throttled, VendorDown, MalformedData)

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the bars of the sessions from first to last, both included.

        Symbols that the exchange does not trade, or whose last session is not there yet, are `failures` while another
        is served. Raises NoSuchSymbol or NoDataYet if none is; Throttled, AuthFailed, VendorDown, MalformedData;
        NotBuilt for a timeframe that the exchange has not; NotASession.
        """
        step = TIMEFRAMES.get(timeframe, timeframe)
        if step not in self._exchange.timeframes:
            raise NotBuilt(
                f"{self._options.exchange} has no {timeframe} bars; it has {', '.join(self._exchange.timeframes)}.",
                next_step="Set book.timeframe to one of these.",
                timeframe=timeframe,
            )
        ends = {
            to_ns(end): day
            for day in calendar.sessions_in_range(first_session, last_session)
            for end in calendar.bar_ends(day, timeframe)
        }
        if not ends:
            return BarBatch(rows=make_rows(()))

        def ask(symbol: str) -> Answered:
            candles, now_ns = self._candles(symbol, step, min(ends), max(ends))
            found, bad = _records(symbol, candles, self._step_ns(step), ends, now_ns)
            return found, bad, newest_of(found)

        return self._one_by_one(symbols, last_session, ask)

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return none: coins have no corporate actions."""
        return ()

    def _candles(self, symbol: str, step: str, first_end_ns: int, last_end_ns: int) -> tuple[list[Any], int | None]:
        """Return the candles that end from first to last, page by page, and the exchange's time."""
        pair = self._pair(symbol)
        if not self._exchange.markets:
            self._call(symbol, self._exchange.load_markets)
        if pair not in self._exchange.markets:
            raise self._no_such_symbol(symbol, "does not trade")
        step_ms = self._step_ns(step) // NS_A_MS
        since, until = first_end_ns // NS_A_MS - step_ms, last_end_ns // NS_A_MS
        found: dict[Any, Any] = {}
        while since < until:

            def page(start: int = since) -> Any:
                return self._exchange.fetch_ohlcv(pair, step, start, self._options.rows_per_page)

            candles = self._call(symbol, page)
            found |= {row[0]: row for row in candles}
            # a page may be short, or of nothing, where nobody traded: the next one begins where it would have ended
            since += step_ms * self._options.rows_per_page
        return [found[key] for key in sorted(found)], self._now_ns()

    def _pair(self, symbol: str) -> str:
        base, _, quote = symbol.partition("-")
        if quote != "USD" and quote not in self._options.count_as_usd:
            raise NoSuchSymbol(
                f"{symbol!r} is not quoted in USD; the only currency is USD.",
                next_step=f"Write it as {base}-USD, or set data.options.count_as_usd: [{quote or 'USDT'}].",
                symbol=symbol,
                vendor=self._options.exchange,
            )
        return f"{base}/{quote}"

    def _step_ns(self, step: str) -> int:
        return int(self._exchange.parse_timeframe(step)) * 1_000 * NS_A_MS

    def _now_ns(self) -> int | None:
        headers = self._exchange.last_response_headers or {}
        try:
            return to_ns(parsedate_to_datetime(headers["Date"]))
        except (KeyError, ValueError):
            return None

    def _call(self, symbol: str, ask: Callable[[], Result]) -> Result:
        """Ask the exchange, again after Throttled, VendorDown and MalformedData; raise others at once."""
        return cast(Result, self._again(self._once, symbol, ask))

    def _once(self, symbol: str, ask: Callable[[], Result]) -> Result:
        self._pace()
        failure: FeedError
        self._exchange.last_json_response = None
        try:
            answer = ask()
            if self._exchange.last_json_response is not None:
                return answer
            raise ValueError("no JSON")  # ccxt makes an empty list of a gateway's page
        except ccxt.BaseError as error:
            failure = self._meaning(symbol, error)
        except (KeyError, TypeError, ValueError, IndexError) as error:  # ccxt reads what it was given without looking
            text = f"{self._options.exchange}'s answer for {symbol} cannot be read: {type(error).__name__}."
            failure = MalformedData(text, next_step="Ask again later.", symbol=symbol, vendor=self._options.exchange)
        raise failure  # outside the handler: ccxt's error holds the whole address

    def _meaning(self, symbol: str, error: ccxt.BaseError) -> FeedError:
        vendor = self._options.exchange
        what = f"{vendor} and {symbol}: {type(error).__name__}"
        more = {"symbol": symbol, "vendor": vendor}
        if isinstance(error, ccxt.BadSymbol):
            return self._no_such_symbol(symbol, "does not trade")
        if isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):
            return Throttled(f"{what}: too many requests.", next_step="Wait; lower requests_per_minute.", **more)
        if isinstance(error, ccxt.AuthenticationError):
            return AuthFailed(f"{what}: the key is refused.", next_step="Public data need no key: remove it.", **more)
        if isinstance(error, ccxt.NetworkError):
            return VendorDown(f"{what}.", next_step="Check the connection; the next try asks again.", **more)
        return MalformedData(f"{what}: the answer is none.", next_step="Ask again later, or update ccxt.", **more)


def _records(
    symbol: str, candles: Sequence[Any], step_ns: int, ends: dict[int, date], now_ns: int | None
) -> tuple[list[RowTuple], list[Reject]]:
    """Return the candles that end at the ends asked for (but for one that still runs), and the rows that are none."""
    rows, rejects = list[RowTuple](), list[Reject]()
    first, last = min(ends), max(ends)
    for number, candle in enumerate(candles):
        try:
            start, opened, high, low, close, volume = candle
            end = int(start) * NS_A_MS + step_ns
            if not first <= end <= last or (now_ns is not None and end > now_ns):
                continue
            if end not in ends:
                raise ValueError("it ends at no bar's end")
            rows.append((symbol, ends[end], end, float(opened), float(high), float(low), float(close), float(volume)))
        except (TypeError, ValueError) as error:
            day = min(ends.values())
            rejects.append(Reject(symbol=symbol, line_no=number, raw=repr(candle), reason=str(error), session_date=day))
    return rows, rejects


def _moved(addresses: Any, base_url: str) -> Any:
    """Return ccxt's table of addresses with another host in each."""
    if isinstance(addresses, dict):
        return {key: _moved(value, base_url) for key, value in addresses.items()}
    path = str(addresses).split("://", 1)[-1].partition("/")[2]
    return f"{base_url.rstrip('/')}/{path}"
