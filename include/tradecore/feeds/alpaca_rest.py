"""The door to Alpaca's market data API, and its answers page by page: for the feed, and for what a stream missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tradecore.errors import FeedError, VendorDown
from tradecore.feeds.base import Access
from tradecore.feeds.http import Answer, Limits, VendorHttp, check_key

VENDOR = "Alpaca"
ADDRESS = "https://data.alpaca.markets"
BARS, TRADES = "/v2/stocks/bars", "/v2/stocks/trades"
MOST_PAGES = 100_000
KEY_STEP = "Set ALPACA_API_KEY and ALPACA_SECRET_KEY in .env, or Airflow's connection alpaca_default."


def open_http(access: Access, base_url: str, limits: Limits) -> VendorHttp:
    """Return the line to Alpaca. Raises AuthFailed without keys."""
    key = check_key("ALPACA_API_KEY", access.api_key, KEY_STEP)
    secret = check_key("ALPACA_SECRET_KEY", access.secret_key, KEY_STEP)
    headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
    return VendorHttp(VENDOR, base_url, limits=limits, pace=access.pace, headers=headers, hidden=(key, secret))


def pages(
    http: VendorHttp, path: str, asked: Mapping[str, str], key: str, *, exact: bool = False
) -> Iterator[tuple[Answer, bool]]:
    """Yield each page of a question, and whether something was promised in it: by the token to it, or one in it.

    Raises MalformedData for pages without the key, or that never end.
    """
    token: str | None = None
    seen: set[str] = set()
    for _ in range(MOST_PAGES):
        params = {**asked, "page_token": token} if token else asked
        answer = http.get(path, params, exact=exact, explain=lists_in(http, key))
        after = answer.document["next_page_token"]
        yield answer, token is not None or bool(after)
        if not after:
            return
        if after in seen:
            raise http.malformed(f"Alpaca's pages of {path} go in a circle.")
        seen.add(after)
        token = after
    raise http.malformed(f"Alpaca gives more than {MOST_PAGES} pages of {path}.")


def lists_in(http: VendorHttp, key: str) -> Callable[[Any], FeedError | None]:
    """Return a check that a document is a page: with a token, and under the key lists by name, or null."""

    def explain(document: Any) -> FeedError | None:
        whole = isinstance(document, dict) and "next_page_token" in document and key in document
        if whole and is_mapping(document[key], list | None):
            return None
        return http.malformed(f"Alpaca's answer has no {key} and next_page_token: {str(document)[:80]!r}.")

    return explain


def is_mapping(value: Any, kind: Any) -> bool:
    """Tell whether a value is null, or a mapping to values of a kind."""
    return value is None or (isinstance(value, dict) and all(isinstance(v, kind) for v in value.values()))


def broken(message: str) -> VendorDown:
    """Return the error of an answer that lacks something."""
    return VendorDown(message, next_step="The next try of the task asks again.", vendor=VENDOR)


def stamp(at: datetime) -> str:
    """Return a time as Alpaca takes it, to the microsecond."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
