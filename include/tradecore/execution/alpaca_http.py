"""Requests to Alpaca's trading API, and what each answer means for an order. Numbers are read as Decimal.

alpaca-py's client gives address, version and headers. Its own way of sending repeats a POST, waits without a limit and
makes floats of money, so the one method that sends is replaced here: once, with time-outs, and exactly.

| answer | question (GET) | order, change, cancel |
|---|---|---|
| 2xx | the document | the document |
| no connection was made | Unavailable | Unavailable |
| 429 | Unavailable | Unavailable: refused before it was looked at |
| time-out, cut, 3xx, 5xx, unreadable | Unavailable | Unknown |
| 401, 403 'forbidden' | Unavailable (code auth) | Rejected auth |
| 404 | NotThere if the API itself says so | Rejected no_such_order |
| other 4xx | Unavailable | Rejected, by what it says |
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import requests
from alpaca.common.enums import BaseURL
from alpaca.trading.client import TradingClient
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import exceptions as urllib3_errors

from tradecore.errors import BrokerError, ConfigError, Rejected, Unavailable, Unknown

ADDRESSES: dict[bool, str] = {True: BaseURL.TRADING_LIVE.value, False: BaseURL.TRADING_PAPER.value}
NOT_FOUND = 40410000
SHOWN_CHARS = 200
# What a refusal says, in the order of looking: one text may hold words of several.
_SAYS = (
    (r"client_order_id must be unique|duplicate client", "duplicate_id"),
    (r"wash trade|opposite side", "wash_trade"),
    (r"buying power", "buying_power"),
    (r"insufficient qty|held.for.orders", "held_shares"),
    (r"cannot be submitted|outside of? .*hours|market is closed", "window"),
    (r"fraction", "fractional"),
    (r"\bshort", "short"),
    (r"asset .*not found|not find asset|invalid symbol", "no_such_symbol"),
    (r"not tradable|is not active|halted", "untradable"),
    (r"order not found", "no_such_order"),
    (r"already in|not cancel|not replaceable", "not_open"),
)
_BEFORE_SENDING = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)
_NO_CONNECTION = (urllib3_errors.NewConnectionError, urllib3_errors.ConnectTimeoutError)


class NotThere(Exception):
    """The API answered 404 to a question and said that there is no such thing."""


def address(live: bool, base_url: str | None) -> str:
    """Return where orders of a paper or live account go: Alpaca's own address, or a loopback one in its place.

    Raises ConfigError for any other host, for Alpaca's other address, and for plain HTTP to Alpaca.
    """
    if base_url is None:
        return ADDRESSES[live]
    parts = urlsplit(base_url)
    plain = base_url.rstrip("/").removesuffix("/v2")
    bare = not (parts.username or parts.password or parts.query or parts.fragment)
    if bare and (is_loopback(plain) or plain == ADDRESSES[live]):
        return plain
    kind, other = ("live", "paper") if live else ("paper", "live")
    raise ConfigError(
        f"ALPACA_BASE_URL names {parts.hostname or 'no host'}: orders of a {kind} account go to {ADDRESSES[live]}, or "
        f"to a stand-in on this machine, never to the {other} address or elsewhere.",
        next_step="remove ALPACA_BASE_URL from .env, or point it at the sandbox (make sandbox)",
    )


def is_loopback(url: str) -> bool:
    """Tell whether a URL stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Line(TradingClient):
    """alpaca-py's client with its sending replaced: one request, one answer, no retry, no float.

    transport: another requests adapter in the place of the network (the deterministic simulation).
    """

    def __init__(
        self,
        *,
        api_key: str,
        secret_key: str,
        live: bool,
        url: str,
        timeout_s: float,
        transport: BaseAdapter | None,
        pace: Callable[[str, str], None],
    ) -> None:
        for name, value in (("ALPACA_API_KEY", api_key), ("ALPACA_SECRET_KEY", secret_key)):
            if not (value.isascii() and value.isprintable() and value.strip() == value != ""):
                raise ConfigError(f"{name} is no key: it has blanks or unusual characters.", next_step="copy it anew")
        super().__init__(api_key, secret_key, paper=not live, raw_data=True, url_override=url)
        self.url = url
        self._timeout_s = timeout_s
        self._pace = pace
        adapter = transport or HTTPAdapter(max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._session.trust_env = transport is None and not is_loopback(url)  # no proxy between us and either

    def __repr__(self) -> str:
        return f"Line({self.url})"

    def _one_request(self, method: str, url: str, opts: dict[str, Any], retry: int) -> Any:
        """Send one request. Raises NotThere, Rejected, Unavailable, Unknown; no error shows a key or a header."""
        path = urlsplit(url).path
        what = f"{method} {path}"
        self._pace(method, path)
        try:
            response = self._session.request(method, url, timeout=(self._timeout_s, self._timeout_s), **opts)
        except requests.exceptions.RequestException as error:
            failure = _no_answer(method, what, error)
        else:
            return self._meaning(method, what, response)
        raise failure  # outside the handler: the vendor's error holds the request with its headers

    def _meaning(self, method: str, what: str, response: requests.Response) -> Any:
        status, content = response.status_code, response.content
        if 200 <= status < 300 and not content.strip():
            return None
        document = read_json(content)
        if 200 <= status < 300 and document is not UNREADABLE:
            return document
        if status == 429:
            raise Unavailable(f"Alpaca answered 429 to {what}: too many requests.", code="throttled", status=status)
        if not 400 <= status < 500 or (not isinstance(document, dict) and status != 401):
            raise unclear(method, f"Alpaca answered {status} to {what}, which tells nothing.", status=status)
        said = document if isinstance(document, dict) else {}
        raise self._refusal(method, what, status, said.get("code"), str(said.get("message") or ""))

    def _refusal(self, method: str, what: str, status: int, code: object, message: str) -> BrokerError | NotThere:
        text = f"Alpaca answered {status} to {what}: {self._shown(message)}"
        if status == 401 or (status == 403 and (code is None or str(code).startswith("401"))):
            step = "check ALPACA_API_KEY and ALPACA_SECRET_KEY in .env: paper accounts have keys of their own"
            kind = Unavailable if method == "GET" else Rejected
            return kind(text, next_step=step, code="auth", status=status)
        if method == "GET":
            if status == 404 and code == NOT_FOUND and "endpoint" not in message:
                return NotThere(text)
            return Unavailable(text, code="other", status=status, venue_code=code)
        return Rejected(text, code=refusal_code(method, status, message), status=status, venue_code=code)

    def _shown(self, message: str) -> str:
        for secret in (self._api_key, self._secret_key):
            message = message.replace(str(secret), "***")
        return message[:SHOWN_CHARS]


def refusal_code(method: str, status: int, message: str) -> str:
    """Return the code of Rejected for a refusal. The text counts: 40010001 is a duplicate id, and much else."""
    for pattern, code in _SAYS:
        if re.search(pattern, message, re.IGNORECASE):
            return code
    if method == "DELETE" and status == 422:
        return "not_open"
    return {400: "malformed", 422: "malformed", 404: "no_such_order"}.get(status, "other")


def unclear(method: str, message: str, **details: Any) -> Unavailable | Unknown:
    """Return the error of a request whose outcome the answer does not tell: nothing changes by a question."""
    if method == "GET":
        return Unavailable(message, **details)
    return Unknown(message, next_step="it is looked up by its client order id", **details)


UNREADABLE = object()


def read_json(content: bytes) -> Any:
    """Return a JSON document with whole numbers as int and all others as Decimal, or UNREADABLE."""
    try:
        return json.loads(content, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return UNREADABLE


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no amount")


def _no_answer(method: str, what: str, error: requests.exceptions.RequestException) -> BrokerError:
    """Return the meaning of a request without an answer: never made, or lost after it may have arrived."""
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else None
    if isinstance(reason, urllib3_errors.ProxyError):
        reason = reason.original_error
    never = isinstance(error, _BEFORE_SENDING) or isinstance(reason, _NO_CONNECTION)
    never = never or "certificate verify failed" in str(reason)
    name = type(reason).__name__ if isinstance(reason, Exception) else type(error).__name__
    if never:
        return Unavailable(f"No connection to Alpaca for {what} ({name}): nothing was sent.")
    return unclear(method, f"No answer from Alpaca to {what} ({name}).")
