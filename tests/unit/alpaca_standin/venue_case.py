"""A venue on a small market: two symbols, sessions around Thanksgiving 2026, made-up daily bars."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from alpaca_standin.faults import Fault, FaultPlan
from alpaca_standin.market import Market, Sessions, bars_from_rows
from alpaca_standin.state import Config, State
from alpaca_standin.venue import Venue

CALENDAR = Path(__file__).resolve().parents[3] / "include" / "tradecore" / "data" / "sessions_XNYS.csv"
SESSIONS = Sessions.load(CALENDAR)
KEYS = {"APCA-API-KEY-ID": "STANDIN-KEY", "APCA-API-SECRET-KEY": "standin-secret"}
# 2026-11-26 is Thanksgiving, 2026-11-27 a half-day. New York is at UTC-5.
ROWS = [
    ("2026-11-23", "AAPL", "98", "101", "97", "100", 1_000_000),
    ("2026-11-24", "AAPL", "100", "104", "99", "102", 1_000_000),
    ("2026-11-25", "AAPL", "103", "106", "95", "105", 1_000_000),
    ("2026-11-27", "AAPL", "107", "108", "104", "104", 1_000_000),
    ("2026-11-23", "THIN", "10", "11", "9", "10", 100),
    ("2026-11-24", "THIN", "10", "11", "9", "10", 100),
    ("2026-11-25", "THIN", "10", "12", "9", "11", 100),
    ("2026-11-27", "THIN", "11", "12", "10", "11", 100),
]
EVENING = datetime(2026, 11, 24, 1, tzinfo=UTC)  # 20:00 in New York on the 23rd


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """Return a New York wall time of November 2026, as UTC."""
    return datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=hour + 5, minutes=minute)


class Case:
    """A venue and the hands of a client."""

    def __init__(self, *faults: dict[str, Any], now: datetime = EVENING, **config: Any) -> None:
        names = ("time", "symbol", "open", "high", "low", "close", "volume")
        market = Market(SESSIONS, bars_from_rows([dict(zip(names, row, strict=True)) for row in ROWS], SESSIONS))
        self.now = now
        self.fired: set[str] = set()
        self.lines: list[dict[str, Any]] = []
        plan = FaultPlan(faults=[Fault(**row) for row in faults])
        config = {"partial_fill_frac": Decimal(0), "rate_limit_per_min": 0} | config
        self.venue = Venue(State.new(Config(**config)), market, lambda: self.now, plan, self.lines.append)

    def call(self, method: str, path: str, query: str = "", body: object = None, keys: dict[str, str] = KEYS) -> Any:
        """Send a request; returns (status, document)."""
        content = b"" if body is None else json.dumps(body).encode()
        status, _, answer = self.venue.handle(method, path, query, keys, content)
        return status, json.loads(answer) if answer else None

    def get(self, path: str, query: str = "") -> Any:
        status, document = self.call("GET", path, query)
        assert status == 200, document
        return document

    def send(self, **order: Any) -> tuple[int, Any]:
        """Send a market day order to buy 10 AAPL, but for what is given."""
        return self.call("POST", "/v2/orders", body=request(**order))

    def order(self, **order: Any) -> dict[str, Any]:
        """Send an order that the venue must take; returns its document."""
        status, document = self.send(**order)
        assert status == 200, document
        return dict(document)

    def refused(self, **order: Any) -> tuple[int, Any, str]:
        """Send an order that the venue must refuse; returns status, code and message."""
        status, document = self.send(**order)
        assert status >= 400, document
        return status, document.get("code"), document["message"]

    def again(self, order: dict[str, Any]) -> dict[str, Any]:
        """Return the order as it is now."""
        return dict(self.get(f"/v2/orders/{order['id']}"))

    def go(self, when: datetime) -> None:
        """Let the market move on."""
        self.now = when
        self.venue.advance(when)

    def fills(self) -> list[dict[str, Any]]:
        return list(self.get("/v2/account/activities/FILL", "direction=asc"))

    def events(self) -> list[str]:
        return [row["data"]["event"] for row in self.venue.state.events]


def request(**order: Any) -> dict[str, Any]:
    """Return a request: a market day order to buy 10 AAPL, but for what is given (None leaves a field out)."""
    body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **order}
    return {key: value for key, value in body.items() if value is not None}
