"""Requests to Yahoo through yfinance: its cookies, crumb and browser signature; our time limits and typed
errors.

yfinance's own `history()` turns most failures into an empty table ('possibly delisted', yfinance#2179),
and gives splits as floats. This asks for the same chart document through yfinance's transport and says
what went wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import yfinance
from curl_cffi.requests import Session
from curl_cffi.requests.exceptions import RequestException
from yfinance.data import YfData
from yfinance.exceptions import YFException, YFRateLimitError

from tradecore.errors import (
    AuthFailed,
    FeedError,
    MalformedData,
    NoDataYet,
    NoSuchSymbol,
    Throttled,
    VendorDown,
)
from tradecore.feeds.http import Limits, trying_again

VENDOR = "Yahoo"
CHART_URL = "https://query2.finance.yahoo.com/v8/finance/chart/"
FINAL_STATUSES = (404, 429)
DOWN_PAGE = "Will be right back"
# Up to now and beyond: the vendor adjusts its history for every split until today, so all of them are needed.
PERIOD_END = 9_999_999_999


class RateLimiter:
    """Lets one request through every `interval_s` of this process, and in the turn that `pace` waits for."""

    def __init__(self, interval_s: float, pace: Callable[[], None]) -> None:
        self._interval_s, self._pace = interval_s, pace
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Sleep until the next request may leave."""
        with self._lock:
            now = time.monotonic()
            pause_s = max(0.0, self._next - now)
            self._next = max(now, self._next) + self._interval_s
        if pause_s:
            time.sleep(pause_s)
        self._pace()


class _Answered(Exception):
    """Leaves yfinance with an answer that a new cookie will not change: it would ask six times more."""

    def __init__(self, response: Any) -> None:
        super().__init__(response.status_code)
        self.response = response


class _Transport(Session):  # type: ignore[type-arg]
    """curl session with a time limit on everything, the rate limit, and an injectable address."""

    def __init__(self, *, base_url: str | None, timeout_s: float, limiter: RateLimiter) -> None:
        super().__init__(impersonate="chrome", trust_env=base_url is None)
        self._address = base_url.rstrip("/") if base_url else None
        self._limit_s = timeout_s
        self._limiter = limiter
        self.retry_after_s: float | None = None

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        """Send one request of yfinance's; to the injected address if there is one."""
        self._limiter.wait()
        if self._address is not None:
            parts = urlsplit(url)
            url = f"{self._address}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
        kwargs["timeout"] = self._limit_s
        response = super().request(method, url, *args, **kwargs)
        after = response.headers.get("Retry-After", "") if response.status_code == 429 else ""
        self.retry_after_s = float(after) if after.isdigit() else None
        if "/chart/" in url and (response.status_code in FINAL_STATUSES or response.status_code >= 500):
            raise _Answered(response)
        return response


class YahooHttp:
    """Fetches chart documents, with bounded retries."""

    def __init__(
        self,
        *,
        base_url: str | None,
        limits: Limits,
        requests_per_minute: float,
        cache_dir: str | None,
        pace: Callable[[], None],
    ) -> None:
        if cache_dir is not None:
            yfinance.set_tz_cache_location(cache_dir)
        self._again = trying_again(limits, Throttled, VendorDown)
        self._transport = _Transport(
            base_url=base_url, timeout_s=limits.timeout_s, limiter=RateLimiter(60.0 / requests_per_minute, pace)
        )
        # YfData is one object per class and process; a class of its own keeps two feeds' cookies apart.
        own = type("FeedData", (YfData,), {})
        self._data = own(session=self._transport)

    def chart(self, symbol: str, period_start: int) -> dict[str, Any]:
        """Return the chart result of a symbol from period_start (Unix seconds) until now.

        Tries again after Throttled (as long as the vendor asks, within bounds) and VendorDown, then raises
        it. Raises NoSuchSymbol, NoDataYet, AuthFailed, MalformedData at once.
        """
        return self._again(self._chart_once, symbol, period_start)

    def _chart_once(self, symbol: str, period_start: int) -> dict[str, Any]:
        params = {
            "period1": period_start,
            "period2": PERIOD_END,
            "interval": "1d",
            "includePrePost": "false",
            "events": "div,splits",
        }
        try:
            response = self._data.get(url=CHART_URL + symbol.replace(".", "-"), params=params)
        except _Answered as answered:
            response = answered.response
        except YFRateLimitError as error:
            raise self._throttled(symbol) from error
        except (RequestException, YFException) as error:
            reason = str(error).split(" See http")[0].rstrip(".")
            raise VendorDown(
                f"Yahoo did not answer for {symbol}: {type(error).__name__}, {reason}.",
                next_step="Check the connection; the next try of the task asks again.",
                symbol=symbol,
                vendor=VENDOR,
            ) from error
        return self._result(symbol, response)

    def _result(self, symbol: str, response: Any) -> dict[str, Any]:
        status, text = int(response.status_code), str(response.text)
        if status >= 500 or DOWN_PAGE in text:
            raise VendorDown(
                f"Yahoo answered {status} for {symbol}: {text[:80]!r}.",
                next_step="Wait; the next try of the task asks again.",
                symbol=symbol,
                vendor=VENDOR,
                status=status,
            )
        if status == 429:
            raise self._throttled(symbol)
        if status in (401, 403):
            raise AuthFailed(
                f"Yahoo refused the request for {symbol} with {status}, with and without a new cookie.",
                next_step="Update yfinance (make lock), or use another feed: its door may have changed.",
                symbol=symbol,
                vendor=VENDOR,
                status=status,
            )
        try:
            chart = response.json()["chart"]
            error, results = chart["error"], chart["result"]
        except (ValueError, KeyError, TypeError) as problem:
            raise _unreadable(symbol, status, text) from problem
        if error:
            raise _explained(symbol, status, error)
        if not results:
            raise _no_data(symbol, "an empty answer")
        return cast(dict[str, Any], results[0])

    def _throttled(self, symbol: str) -> Throttled:
        return Throttled(
            f"Yahoo refuses {symbol}: too many requests (429).",
            next_step="Wait; lower data.options.requests_per_minute if it happens daily.",
            symbol=symbol,
            vendor=VENDOR,
            retry_after_s=self._transport.retry_after_s,
        )


def _explained(symbol: str, status: int, error: dict[str, Any]) -> FeedError:
    """Return the typed error for the vendor's own {code, description}."""
    code, description = str(error.get("code", "")), str(error.get("description", ""))
    if status == 404 or code == "Not Found":
        return NoSuchSymbol(
            f"Yahoo does not know {symbol!r} ({description}).",
            next_step="Correct it in universe.members, or give the member its last day if it was delisted.",
            symbol=symbol,
            vendor=VENDOR,
        )
    if "Data doesn't exist" in description:
        return _no_data(symbol, description)
    return MalformedData(
        f"Yahoo answered {status} for {symbol}: {code} ({description}).",
        next_step="Report it with this message: the request is not understood.",
        symbol=symbol,
        vendor=VENDOR,
        status=status,
    )


def _no_data(symbol: str, description: str) -> NoDataYet:
    return NoDataYet(
        f"Yahoo has no bars of {symbol} for these sessions ({description}).",
        next_step="Wait until it publishes, or check that the symbol still trades.",
        symbol=symbol,
        vendor=VENDOR,
    )


def _unreadable(symbol: str, status: int, text: str) -> MalformedData:
    return MalformedData(
        f"Yahoo's answer {status} for {symbol} is no chart document: {text[:80]!r}.",
        next_step="Update yfinance (make lock), or use another feed.",
        symbol=symbol,
        vendor=VENDOR,
        status=status,
    )
