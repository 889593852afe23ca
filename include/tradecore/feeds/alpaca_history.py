"""What a live stream missed, from Alpaca's REST: trades and minute bars of many symbols over a stretch, page by page.

The documents have the stream's own keys (t, x, p, s, c, i; o, h, l, c, v, n, vw), so what reads one reads both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from tradecore.errors import AuthFailed, FeedError, MalformedData
from tradecore.feeds.http import Limits, Refused, VendorHttp, check_address, check_key

ADDRESS = "https://data.alpaca.markets"
KEY_STEP = "Set ALPACA_API_KEY and ALPACA_SECRET_KEY in .env."
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
        key = check_key("ALPACA_API_KEY", api_key, KEY_STEP)
        secret = check_key("ALPACA_SECRET_KEY", secret_key, KEY_STEP)
        headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
        self._feed, self._rows = feed, rows_per_page
        self._http = VendorHttp("Alpaca", base_url, limits=limits, pace=pace, headers=headers, hidden=(key, secret))

    def trades(self, symbols: Sequence[str], first_at: datetime, until_at: datetime) -> Iterator[Page]:
        """Yield the trades from first_at to until_at, both included, a page at a time.

        Raises Throttled, VendorDown, MalformedData after its tries; AuthFailed where the plan does not have them.
        """
        yield from self._ask("trades", symbols, {"start": stamp(first_at), "end": stamp(until_at)})

    def minute_bars(self, symbols: Sequence[str], first_at: datetime, until_at: datetime) -> Iterator[Page]:
        """Yield the minute bars that begin from first_at to until_at, both included, a page at a time."""
        asked = {"start": stamp(first_at), "end": stamp(until_at), "timeframe": "1Min", "adjustment": "raw"}
        yield from self._ask("bars", symbols, asked)

    def _ask(self, what: str, symbols: Sequence[str], asked: dict[str, str]) -> Iterator[Page]:
        for start in range(0, len(symbols), SYMBOLS_PER_QUESTION):
            names = ",".join(symbols[start : start + SYMBOLS_PER_QUESTION])
            params = {**asked, "symbols": names, "feed": self._feed, "limit": str(self._rows), "sort": "asc"}
            while True:
                document = self._page(what, params)
                yield [(symbol, row) for symbol, rows in (document[what] or {}).items() for row in rows or ()]
                token = document.get("next_page_token")
                if not token:
                    break
                if token == params.get("page_token"):
                    raise self._http.malformed(f"Alpaca's pages of {what} go in a circle.")
                params["page_token"] = token

    def _page(self, what: str, params: dict[str, str]) -> dict[str, Any]:
        try:
            return dict(self._http.get(f"/v2/stocks/{what}", params, explain=self._readable(what)).document)
        except Refused as refusal:
            error = AuthFailed if refusal.status in (402, 403, 422) else MalformedData
            raise error(
                f"Alpaca answered {refusal.status} to a question for {what}: {refusal.text!r}.",
                next_step="Correct the symbols, or name a feed that the plan has (--feed iex).",
                status=refusal.status,
            ) from None

    def _readable(self, what: str) -> Callable[[Any], FeedError | None]:
        def check(document: Any) -> FeedError | None:
            rows = document.get(what, ...) if isinstance(document, dict) else ...
            fine = rows is None or (
                isinstance(rows, dict) and all(r is None or isinstance(r, list) for r in rows.values())
            )
            return None if fine else self._http.malformed(f"Alpaca's page of {what} has no {what}.")

        return check


def stamp(at: datetime) -> str:
    """Return a time as Alpaca takes it, to the microsecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
