"""The stand-in's HTTP: the vendors' doors, faults by list or by seed, the driver's routes under /standin/.

| fault | what happens |
|---|---|
| 429 | too many requests, with Retry-After or X-RateLimit-Reset |
| 500, 502, 504 | a server error, with a document or a gateway's page |
| timeout | silence, longer than a client waits |
| drip | the answer comes a byte at a time |
| cut | the connection breaks in mid-body |
| malformed | 200, and a body that ends as no JSON does |
| page | 200, and a gateway's page |
| empty | a page without its rows: its token stays what it was |
| 401, 403, 404 | refused |
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from vendor_standin import alpaca, others
from vendor_standin.market import Market

SEEDED = ("429", "429", "500", "502", "504", "timeout", "drip", "cut", "malformed", "page", "empty", "empty")
HANG_S = 0.6
RESET_S = 1


class State:
    """What all requests share, under `lock`."""

    def __init__(self, market: Callable[[], Market]) -> None:
        self.make, self.market = market, market()
        self.lock = threading.RLock()
        self.faults: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.seed, self.rate, self.asked, self.before = 0, 0.0, 0, ""

    def fault(self, path: str) -> str:
        """Return the fault that this request meets, '' for none; one of a list is used up."""
        self.asked += 1
        for fault in self.faults:
            if fault["times"] > 0 and path.startswith(fault.get("path") or ""):
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    continue
                fault["times"] -= 1
                return str(fault["kind"])
        chance = random.Random(f"{self.seed}:{self.asked}")
        kind = chance.choice(SEEDED) if chance.random() < self.rate else ""
        if kind == "empty" and path == alpaca.ACTIONS and self.before == kind:
            kind = ""  # nobody can tell an answer without any action from that, given twice
        self.before = kind
        return kind

    def drive(self, name: str, given: dict[str, Any]) -> Any:
        """Do what the driver asks for."""
        if name == "reset":
            self.market, self.faults, self.log, self.asked, self.rate = self.make(), [], [], 0, 0.0
        elif name == "faults":
            self.faults = list(given["faults"])
        elif name == "seed":
            self.seed, self.rate, self.asked = given["seed"], given["rate"], 0
        elif name == "end":
            self.market.end, self.market.running = date.fromisoformat(given["day"]), bool(given.get("running"))
        elif name == "late":
            self.market.late = {(symbol, date.fromisoformat(day)) for symbol, day in given["bars"]}
        elif name == "restate":
            self.market.restate(given["symbol"], date.fromisoformat(given["day"]), given["factor"])
        elif name == "drop":
            del self.market.bars[given["symbol"]][date.fromisoformat(given["day"])]
        elif name == "truth":
            return self.market.truth()
        elif name == "log":
            told, self.log = self.log, []
            return told
        else:
            raise KeyError(name)
        return {}


class Server(ThreadingHTTPServer):
    """The listening socket."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], state: State) -> None:
        super().__init__(address, Handler)
        self.state = state


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: /standin/log tells."""

    def do_POST(self) -> None:
        state = self.server.state
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        with state.lock:
            self._send(200, state.drive(self.path.removeprefix("/standin/"), given))

    def do_GET(self) -> None:
        state, parts = self.server.state, urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        with state.lock:
            kind = state.fault(path)
            state.log.append({"path": path, "query": query, "fault": kind, "at": time.monotonic()})
            status, document = self._answer(state.market, path, query, empty=kind == "empty")
        self._with_fault(kind, status, document)

    def _answer(self, market: Market, path: str, query: dict[str, str], *, empty: bool) -> tuple[int, Any]:
        if path in alpaca.PATHS:
            given = (self.headers.get("APCA-API-KEY-ID"), self.headers.get("APCA-API-SECRET-KEY"))
            if given[0] != alpaca.KEY:
                return 401, {"message": "unauthorized."}
            if given[1] != alpaca.SECRET:
                return 403, {"message": "forbidden."}
            try:
                return 200, alpaca.answer(market, path, query, empty=empty)
            except alpaca.Refusal as refusal:
                return refusal.status, {"message": refusal.message}
        if path == "/query":
            return 200, others.vantage(market, query)
        if path == "/api/v2/markets/":
            return 200, others.markets()
        if path.startswith("/api/v2/ohlc/"):
            found = others.ohlc(market, path.split("/")[4], query)
            return (404, {"code": "not_found"}) if found is None else (200, found)
        return 404, {"message": "Not Found"}

    def _with_fault(self, kind: str, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        if kind in ("", "empty"):
            return self._send(status, document)
        if kind == "429":
            by_reset = len(body) % 2
            reset = {"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0"}
            reset |= {"X-RateLimit-Reset": str(int(time.time()) + RESET_S)} if by_reset else {"Retry-After": "0"}
            return self._send(429, {"message": "too many requests."}, reset)
        if kind.isdigit():
            return self._send(int(kind), {"message": f"the answer is {kind}"})
        if kind == "timeout":
            time.sleep(HANG_S)
            return self._hang_up()
        if kind == "page":
            return self._raw(200, b"<html><body>Bad gateway</body></html>", {"Content-Type": "text/html"})
        if kind == "malformed":
            return self._raw(200, body[: len(body) * 2 // 3] + b"<!-- upstream -->", {})
        return self._broken(body, drip=kind == "drip")

    def _broken(self, body: bytes, *, drip: bool) -> None:
        """Send the head, and then not all of the body, or one byte after the other."""
        with contextlib.suppress(OSError):
            self._head(200, {}, len(body))
            end = time.monotonic() + HANG_S
            if drip:
                for k in range(len(body)):
                    self.wfile.write(body[k : k + 1])
                    self.wfile.flush()
                    time.sleep(0.02)
                    if time.monotonic() > end:
                        break
            else:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
        self._hang_up()

    def _send(self, status: int, document: Any, extra: dict[str, str] | None = None) -> None:
        self._raw(status, json.dumps(document).encode(), {"Content-Type": "application/json", **(extra or {})})

    def _raw(self, status: int, body: bytes, extra: dict[str, str]) -> None:
        try:
            self._head(status, extra, len(body))
            self.wfile.write(body)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client did not wait

    def _head(self, status: int, extra: dict[str, str], length: int) -> None:
        self.send_response_only(status)
        market = self.server.state.market
        now = datetime.now(UTC)
        if market.running:  # in the middle of the session
            now = datetime.combine(market.end, datetime.min.time(), UTC).replace(hour=17)
        self.send_header("Date", format_datetime(now, usegmt=True))
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
