"""A line to Alpaca that gives the answers of a test, byte by byte, and keeps what was sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import requests
from requests.adapters import BaseAdapter

from tradecore.execution.alpaca import AlpacaBroker
from tradecore.execution.broker import OrderRequest, Permit

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
KEY, SECRET, NUMBER = "PKTESTKEY0001", "a-secret-that-nobody-may-read", "PA123"
ACCOUNT = {"id": "1", "account_number": NUMBER, "status": "ACTIVE", "currency": "USD", "cash": "1000"}
ORDER = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "one",
    "symbol": "AAPL",
    "qty": "10",
    "filled_qty": "0",
    "side": "buy",
    "type": "market",
    "time_in_force": "day",
    "status": "accepted",
    "submitted_at": "2026-11-24T15:00:00.123456789Z",
}
Answer = tuple[int, bytes] | Exception


class Canned(BaseAdapter):
    """Gives the account's document to who asks for it, and `answer` to everything else; keeps the requests."""

    def __init__(self, answer: Answer | Callable[[requests.PreparedRequest], Answer]) -> None:
        super().__init__()
        self.answer = answer
        self.account: Answer = (200, json.dumps(ACCOUNT).encode())
        self.seen: list[requests.PreparedRequest] = []
        self.timeouts: list[Any] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        self.seen.append(request)
        self.timeouts.append(options["timeout"])
        answer = self.answer(request) if callable(self.answer) else self.answer
        if str(request.url).endswith("/v2/account"):
            answer = self.account
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.status_code, response._content = answer
        response.request, response.url = request, str(request.url)
        return response

    def close(self) -> None:
        """Nothing is open."""

    @property
    def trades(self) -> list[requests.PreparedRequest]:
        """The requests that change something."""
        return [request for request in self.seen if request.method != "GET"]


def broker(line: Canned, *, live: bool = False, base_url: str | None = None) -> AlpacaBroker:
    return AlpacaBroker(
        api_key=KEY, secret_key=SECRET, live=live, clock=lambda: NOW, timeout_s=7, base_url=base_url, transport=line
    )


def request(**changes: Any) -> OrderRequest:
    return OrderRequest(**{"client_order_id": "one", "symbol": "AAPL", "qty": Decimal(10), **changes})


def permit(**changes: Any) -> Permit:
    window = {"not_before": NOW - timedelta(hours=1), "not_after": NOW + timedelta(hours=1)}
    return Permit(**{"client_order_id": "one", "account_number": NUMBER, "live": False, **window, **changes})


def document(**fields: Any) -> tuple[int, bytes]:
    """Return an answer 200 with an order, changed by `fields`; None leaves a field null, ... leaves it out."""
    body = {key: value for key, value in {**ORDER, **fields}.items() if value is not ...}
    return 200, json.dumps(body).encode()


def refusal(status: int, code: int | None, message: str) -> tuple[int, bytes]:
    return status, json.dumps({**({} if code is None else {"code": code}), "message": message}).encode()
