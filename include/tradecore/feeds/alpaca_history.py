"""What a live stream missed, from Alpaca's REST: trades and minute bars of many symbols over a stretch, page by page.

The documents have the stream's own keys (t, x, p, s, c, i; o, h, l, c, v, n, vw), so what reads one reads both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from tradecore.errors import AuthFailed, MalformedData
from tradecore.feeds.alpaca_rest import ADDRESS, BARS, TRADES, open_http, pages, stamp
from tradecore.feeds.base import Access
from tradecore.feeds.http import Limits, Refused, check_address

SYMBOLS_PER_QUESTION = 200
ROWS_PER_PAGE = 10_000
LIMITS = Limits(timeout_s=20.0, attempts=4, backoff_s=0.5, max_wait_s=65.0)

Page = list[tuple[str, dict[str, Any]]]
"""(symbol, document of a trade or bar)"""


class AlpacaHistory:
    """Asks the data API; pace is called before each request and returns when it may leave."""

    def __init__(
        self,
        *,
        api_key: str,
        secret_key: str,
        feed: str,
        pace: Callable[[], None],
        base_url: str = ADDRESS,
        limits: Limits = LIMITS,
        rows_per_page: int = ROWS_PER_PAGE,
    ) -> None:
        """Raises AuthFailed without a key, ValueError for an address that is neither Alpaca's nor on this machine."""
        check_address(base_url, ADDRESS)
        self._feed, self._rows = feed, rows_per_page
        self._http = open_http(Access(api_key=api_key, secret_key=secret_key, pace=pace), base_url, limits)

    def trades(self, symbols: Sequence[str], first_at: datetime, until_at: datetime) -> Iterator[Page]:
        """Yield the trades from first_at to until_at, both included, a page at a time.

        Raises Throttled, VendorDown, MalformedData after its tries; AuthFailed where the plan does not have them.
        """
        yield from self._ask(TRADES, "trades", symbols, {"start": stamp(first_at), "end": stamp(until_at)})

    def minute_bars(self, symbols: Sequence[str], first_at: datetime, until_at: datetime) -> Iterator[Page]:
        """Yield the minute bars that begin from first_at to until_at, both included, a page at a time."""
        asked = {"start": stamp(first_at), "end": stamp(until_at), "timeframe": "1Min", "adjustment": "raw"}
        yield from self._ask(BARS, "bars", symbols, asked)

    def _ask(self, path: str, key: str, symbols: Sequence[str], asked: dict[str, str]) -> Iterator[Page]:
        for start in range(0, len(symbols), SYMBOLS_PER_QUESTION):
            names = ",".join(symbols[start : start + SYMBOLS_PER_QUESTION])
            params = {**asked, "symbols": names, "feed": self._feed, "limit": str(self._rows), "sort": "asc"}
            try:
                for answer, _ in pages(self._http, path, params, key):
                    found = answer.document[key] or {}
                    yield [(symbol, row) for symbol, rows in found.items() for row in rows or ()]
            except Refused as refusal:
                error = AuthFailed if refusal.status in (402, 403, 422) else MalformedData
                raise error(
                    f"Alpaca answered {refusal.status} to a question for {key}: {refusal.text!r}.",
                    next_step="Correct the symbols, or name a feed that the plan has (--feed iex).",
                    status=refusal.status,
                ) from None
