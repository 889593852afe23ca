"""JSON over HTTP from a vendor: one address, a time limit on the whole answer, bounded retries, errors that say which.

| answer | error | again |
|---|---|---|
| no connection, time-out, cut in mid-body, 5xx | VendorDown | yes |
| 429 | Throttled, with the wait that the vendor asks for | yes |
| 2xx that is no JSON | MalformedData | yes: a gateway's page passes |
| 401, 403 | AuthFailed | no |
| other 4xx | Refused: the feed knows what its vendor means by it | no |

No error holds the request, its headers or its query: there is the key. Waits are those of tenacity, with full jitter.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from tradecore.errors import AuthFailed, ConfigError, FeedError, MalformedData, Throttled, VendorDown

SHOWN_CHARS = 160
CHUNK_BYTES = 65_536
MAX_BODY_BYTES = 64_000_000


class Refused(Exception):
    """The vendor answered a 4xx that is its own to explain: `status` and `text`, the body cut short."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A JSON document, and the vendor's clock when it gave it (None: it does not say)."""

    document: Any
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a vendor is given: seconds for a whole answer, tries of a request, seconds between them."""

    timeout_s: float
    attempts: int
    backoff_s: float
    max_wait_s: float

    @classmethod
    def of(cls, options: Any) -> Limits:
        """Return those in a feed's options."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})


def trying_again(limits: Limits, *errors: type[FeedError]) -> Retrying:
    """Return what calls a function again after these errors: with full jitter, and as late as the vendor asks."""
    backoff = wait_random_exponential(multiplier=limits.backoff_s, max=limits.max_wait_s)

    def pause_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked_s = getattr(error, "retry_after_s", None) or 0.0
        return min(limits.max_wait_s, max(asked_s, backoff(state)))

    return Retrying(
        retry=retry_if_exception_type(errors), stop=stop_after_attempt(limits.attempts), wait=pause_s, reraise=True
    )


def check_limits(options: Any, *more: str) -> None:
    """Raise ValueError where a feed's options hold a limit that cannot be; more names further ones that are above 0."""
    if not options.name:
        raise ValueError("name is empty")
    if options.attempts < 1:
        raise ValueError(f"attempts is {options.attempts}, must be 1 or more")
    for option in ("timeout_s", "backoff_s", "max_wait_s", "requests_per_minute", *more):
        if not getattr(options, option) > 0:
            raise ValueError(f"{option} is {getattr(options, option)}, must be above 0")


def check_address(url: str, own: str) -> None:
    """Raise ValueError unless a URL is the vendor's own or stays on this machine: elsewhere goes no key."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    bare = not (parts.username or parts.password or parts.query or parts.fragment)
    if not (bare and (url.rstrip("/") == own or (loopback and parts.scheme in ("http", "https")))):
        raise ValueError(f"base_url is on {host or 'no host'}: it must be {own}, or an address of this machine")


def check_key(name: str, value: str, where: str) -> str:
    """Return a key that may go into a request. Raises AuthFailed without one, ConfigError for what is no key."""
    if not value:
        raise AuthFailed(f"{name} is not set: there is no key to ask with.", next_step=where)
    if not (value.isascii() and value.isprintable() and value.strip() == value):
        raise ConfigError(f"{name} is no key: it has blanks or unusual characters.", next_step="copy it anew")
    return value


class VendorHttp:
    """Asks one vendor, politely: `pace` is called before each request and waits until it may leave."""

    def __init__(
        self,
        vendor: str,
        base_url: str,
        *,
        limits: Limits,
        pace: Callable[[], None],
        headers: Mapping[str, str] | None = None,
        hidden: tuple[str, ...] = (),
    ) -> None:
        self.vendor = vendor
        self._base_url = base_url.rstrip("/")
        self._limits, self._pace, self._hidden = limits, pace, hidden
        self._again = trying_again(limits, Throttled, VendorDown, MalformedData)
        self._session = requests.Session()
        self._session.headers.update(headers or {})
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=0))
        self._session.trust_env = base_url.startswith("https://")  # no proxy between us and this machine

    def __repr__(self) -> str:
        return f"VendorHttp({self.vendor}, {self._base_url})"

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        exact: bool = False,
        explain: Callable[[Any], FeedError | None] = lambda document: None,
    ) -> Answer:
        """Return the document of a path; exact: with Decimal in the place of floats.

        explain tells what a 2xx document really says, for vendors whose errors come with 200. Tries again after
        Throttled, VendorDown and MalformedData, then raises it; raises AuthFailed, Refused and others at once.
        """
        return self._again(self._once, path, params, exact, explain)

    def _once(
        self, path: str, params: Mapping[str, str], exact: bool, explain: Callable[[Any], FeedError | None]
    ) -> Answer:
        self._pace()
        failure = self._send(path, params)
        if isinstance(failure, Exception):
            raise failure  # outside the handler: the library's own error holds the request with its key
        status, headers, body = failure
        if not 200 <= status < 300:
            raise self._meaning(path, status, headers, body)
        try:
            document = json.loads(body, parse_float=Decimal if exact else float)
        except (ValueError, RecursionError):
            raise self.malformed(f"{self.vendor}'s answer to {path} is no JSON: {self.shown(body)!r}.") from None
        if (error := explain(document)) is not None:
            raise error
        return Answer(document=document, at=_date_of(headers))

    def _send(self, path: str, params: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes] | VendorDown:
        """Return status, headers and the whole body, or the failure to get them within the time limit."""
        limit_s, started = self._limits.timeout_s, time.monotonic()
        try:
            with self._session.get(
                self._base_url + path,
                params=dict(params),
                timeout=(limit_s, limit_s),
                stream=True,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                for chunk in response.iter_content(CHUNK_BYTES):
                    body += chunk
                    if time.monotonic() - started > limit_s:
                        return self._down(f"{self.vendor} took more than {limit_s:g} s over {path}.")
                    if len(body) > MAX_BODY_BYTES:
                        return self._down(f"{self.vendor} sent more than {MAX_BODY_BYTES} bytes for {path}.")
                return response.status_code, response.headers, bytes(body)
        except requests.exceptions.RequestException as error:
            return self._down(f"{self.vendor} did not answer {path}: {type(error).__name__}.")

    def _meaning(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        said = self.shown(body)
        if status == 429:
            return self.throttled(f"{self.vendor} refuses {path}: too many requests (429).", _wait_s(headers))
        if status in (401, 403):
            return self.auth(f"{self.vendor} refused {path} with {status}: {said!r}.", status=status)
        if 400 <= status < 500:
            return Refused(status, said)
        return self._down(f"{self.vendor} answered {status} to {path}: {said!r}.", status=status)

    def shown(self, body: bytes | str) -> str:
        """Return the beginning of what the vendor said, without a key that it repeats."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text[:SHOWN_CHARS]

    def malformed(self, message: str, **details: Any) -> MalformedData:
        """Return the error of an answer that cannot be read."""
        step = "Ask again later; if it stays so, the vendor has changed its answers."
        return MalformedData(message, next_step=step, vendor=self.vendor, **details)

    def throttled(self, message: str, retry_after_s: float | None = None) -> Throttled:
        """Return the error of too many requests."""
        step = "Wait; lower data.options.requests_per_minute if it happens daily."
        return Throttled(message, next_step=step, vendor=self.vendor, retry_after_s=retry_after_s)

    def auth(self, message: str, **details: Any) -> AuthFailed:
        """Return the error of a key that is wrong or not entitled."""
        step = "Check the key in .env or Airflow's connection, and what its plan may ask for."
        return AuthFailed(message, next_step=step, vendor=self.vendor, **details)

    def _down(self, message: str, **details: Any) -> VendorDown:
        step = "Check the connection; the next try of the task asks again."
        return VendorDown(message, next_step=step, vendor=self.vendor, **details)


def _date_of(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError):
        return None


def _wait_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the vendor asks to wait: Retry-After in seconds, or X-RateLimit-Reset against its own clock."""
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    if after.isdigit():
        return float(after)
    at = _date_of(headers)
    return max(0.0, float(reset) - at.timestamp()) if reset.isdigit() and at is not None else None
