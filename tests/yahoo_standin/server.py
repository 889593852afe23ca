"""The stand-in's HTTP: Yahoo's endpoints, faults and the log."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from yahoo_standin.market import Market, opening

CHART = "/v8/finance/chart/"
COOKIE, CRUMB = "A3=standin", "standin.crumb"
DAY_S = 86_400


class State:
    """What all requests share."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.lock = threading.Lock()
        self.faults: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.now = opening(market.last_session) + DAY_S // 2

    def take_fault(self, symbol: str) -> dict[str, Any] | None:
        """Return the fault that is due for the symbol's chart, using it up."""
        with self.lock:
            for fault in self.faults:
                if fault["times"] > 0 and fault.get("symbol") in (None, symbol):
                    fault["times"] -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    @property
    def state(self) -> State:
        return self.server.state  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the log is at /standin/log."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/standin/log":
            return self._json(200, self.state.log)
        self.state.log.append(
            {
                "path": parts.path,
                "query": parse_qs(parts.query),
                "at": time.monotonic(),
                "agent": self.headers.get("User-Agent", ""),
            }
        )
        if parts.path == "/":
            return self._send(404, "text/html", b"", {"Set-Cookie": f"{COOKIE}; Path=/"})
        if parts.path == "/v1/test/getcrumb":
            known = COOKIE in (self.headers.get("Cookie") or "")
            return self._send(200 if known else 401, "text/plain", CRUMB.encode() if known else b"")
        if parts.path.startswith(CHART):
            return self._chart(unquote(parts.path.removeprefix(CHART)), parse_qs(parts.query))
        return self._send(200, "text/html", b"<html><body>consent</body></html>")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/standin/fault":
            fault = json.loads(body)
            with self.state.lock:
                self.state.faults = [fault] if fault.get("times", 0) else []
            return self._json(200, fault)
        if self.path == "/standin/now":
            self.state.now = int(json.loads(body)["now"])
            return self._json(200, self.state.now)
        return self._send(404, "text/plain", b"")

    def _chart(self, symbol: str, query: dict[str, list[str]]) -> None:
        fault = self.state.take_fault(symbol)
        kind = fault["kind"] if fault else ""
        if fault and self._failed(fault):
            return None
        if query.get("crumb", [CRUMB]) != [CRUMB]:
            return self._error(401, "Unauthorized", "Invalid Crumb")
        if symbol not in self.state.market.shares:
            return self._error(404, "Not Found", "No data found, symbol may be delisted")
        first, last = int(query["period1"][0]), int(query["period2"][0])
        result = self.state.market.chart(symbol, first, last, self.state.now)
        if "timestamp" in result:
            _spoil(result, kind)
        return self._json(200, {"chart": {"result": [result], "error": None}})

    def _failed(self, fault: dict[str, Any]) -> bool:
        """Answer with the fault. Returns False if the fault is one of the document, not of the transport."""
        kind = fault["kind"]
        if isinstance(kind, int):
            if kind == 404:
                self._error(404, "Not Found", "No data found, symbol may be delisted")
            else:
                extra = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
                text = b"Edge: Too Many Requests" if kind == 429 else b"upstream failure"
                self._send(kind, "text/plain", text, extra)
        elif kind == "timeout":
            time.sleep(fault["seconds"])
            self._send(503, "text/plain", b"too late")
        elif kind == "empty":
            self._json(200, {"chart": {"result": [], "error": None}})
        elif kind == "down":
            self._send(200, "text/html", b"<html>Will be right back...</html>")
        elif kind == "text":
            self._send(200, "text/html", b"<html>hello</html>")
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b'{"chart":')
            self.close_connection = True
        else:
            return False
        return True

    def _error(self, status: int, code: str, description: str) -> None:
        self._json(status, {"chart": {"result": None, "error": {"code": code, "description": description}}})

    def _json(self, status: int, document: object) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client did not wait


def _spoil(result: dict[str, Any], kind: str) -> None:
    """Plant a fault of the document."""
    quote = result["indicators"]["quote"][0]
    if kind == "nulls":
        for column in quote.values():
            column[-1] = None
    elif kind in ("twice", "weekend"):
        shift = {"twice": 3_600, "weekend": -DAY_S * (2 + time.gmtime(result["timestamp"][-1]).tm_wday)}[kind]
        result["timestamp"].append(result["timestamp"][-1] + shift)
        for column in quote.values():
            column.append(column[-1])
    elif kind == "currency":
        result["meta"]["currency"] = "GBp"
