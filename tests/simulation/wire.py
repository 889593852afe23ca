"""The network between a simulated process and the venue: a requests adapter with latency, loss and yield points."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from greenlet import GreenletExit
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from alpaca_standin.venue import ReplyLost, Venue
from simulation.kernel import Kernel, Process

WAY_S = (0.002, 0.060)


class Wire(BaseAdapter):
    """Carries a process's requests to the venue.

    `hook(moment, request, later)` is told before a request leaves, once the venue has acted and the answer is under
    way, and when the answer is there; `later` lets the request arrive some seconds later.
    """

    def __init__(
        self,
        kernel: Kernel,
        venue: Venue,
        process: Process | None,
        hook: Callable[[str, str, Callable[[float], None]], None],
    ) -> None:
        super().__init__()
        self.kernel, self.venue, self.process, self.hook = kernel, venue, process, hook

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        self._check_alive()
        url = urlsplit(str(request.url))
        label = f"{request.method} {url.path}"
        patience_s = float(timeout[1] if isinstance(timeout, tuple) else timeout or 3_600)
        self.kernel.note(f"http {label} {url.query[:60]}")
        self.kernel.pause(self._way_s())
        self._check_alive()

        def later(seconds: float) -> None:
            self.deliver_later(request, seconds)

        self.hook("before send", label, later)
        try:
            reply = self.ask(request)
        except ReplyLost as lost:
            self.kernel.note(f"http {label}: no reply, {'processed' if lost.processed else 'not processed'}")
            self.hook("processed" if lost.processed else "refused", label, later)
            self.kernel.pause(min(lost.hang_s, patience_s))
            self._check_alive()
            if lost.hang_s >= patience_s:
                raise requests.ReadTimeout(f"no answer within {patience_s:g} s", request=request) from None
            raise requests.ConnectionError("the connection was closed without an answer", request=request) from None
        self.hook("processed", label, later)
        delay_s = self._way_s() + reply.delay_s
        self.kernel.pause(min(delay_s, patience_s))
        self._check_alive()
        if delay_s >= patience_s:
            raise requests.ReadTimeout(f"no answer within {patience_s:g} s", request=request)
        self.kernel.note(f"http {label}: {reply.status}")
        self.hook("answered", label, later)
        if reply.cut:
            raise requests.exceptions.ChunkedEncodingError("the connection broke in mid-body", request=request)
        return _response(request, reply.status, reply.headers, reply.body)

    def ask(self, request: requests.PreparedRequest) -> Any:
        """Let the venue act on a request, now."""
        url = urlsplit(str(request.url))
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        headers = {k: v.decode() if isinstance(v, bytes) else str(v) for k, v in request.headers.items()}
        return self.venue.respond(str(request.method), url.path, url.query, headers, body)

    def deliver_later(self, request: requests.PreparedRequest, seconds: float) -> None:
        """Let a request arrive that nobody waits for any more: its sender is dead."""

        def arrive() -> None:
            try:
                self.kernel.note(f"http {request.method} arrives late: {self.ask(request).status}")
            except ReplyLost:
                self.kernel.note(f"http {request.method} arrives late, without a reply")

        self.kernel.at(self.kernel.now + timedelta(seconds=seconds), arrive)

    def close(self) -> None:
        """Nothing is kept open."""

    def _way_s(self) -> float:
        return self.kernel.chance.uniform(*WAY_S)

    def _check_alive(self) -> None:
        if self.process is not None and not self.process.alive:
            raise GreenletExit


def _response(
    request: requests.PreparedRequest, status: int, headers: dict[str, str], body: bytes
) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    response.raw = HTTPResponse(body=io.BytesIO(body), headers=headers, status=status, preload_content=False)
    response.request = request
    response.url = str(request.url)
    response.encoding = "utf-8"
    return response
