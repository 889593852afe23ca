"""A Venue in the place of the network, for clients that use requests: no socket, no thread, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from alpaca_standin.venue import ReplyLost, Venue


class InProcess(BaseAdapter):
    """A requests adapter: `session.mount("http://", InProcess(venue))`.

    `around` is called with 'send' before the venue sees a request and with 'answer' before its sender does: there a
    simulation takes turns, or breaks the line by raising. An answer that is later than the time-out is lost.
    """

    def __init__(self, venue: Venue, around: Callable[[str], None] = lambda step: None) -> None:
        super().__init__()
        self.venue = venue
        self.around = around

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | None = None,
        verify: bool | str = True,
        cert: object = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Answer one request. Raises the errors that requests raises for a line that breaks."""
        assert request.url is not None
        assert request.method is not None
        assert timeout is not None, "a client that waits for ever"
        parts, body = urlsplit(request.url), request.body or b""
        content = body.encode() if isinstance(body, str) else body
        self.around("send")
        try:
            reply = self.venue.respond(request.method, parts.path, parts.query, request.headers, content)
        except ReplyLost as lost:
            self.around("answer")
            raise requests.exceptions.ReadTimeout(str(lost), request=request) from None
        self.around("answer")
        if reply.delay_s > (timeout[1] if isinstance(timeout, tuple) else timeout):
            raise requests.exceptions.ReadTimeout("the answer is late", request=request)
        if reply.cut:
            raise requests.exceptions.ChunkedEncodingError("the connection broke", request=request)
        response = requests.Response()
        response.status_code = reply.status
        response.headers = CaseInsensitiveDict(reply.headers)
        response._content = reply.body
        response.request, response.url = request, request.url
        return response

    def close(self) -> None:
        """Nothing is open."""
