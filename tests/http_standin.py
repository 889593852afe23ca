"""A small real HTTP server that stands in for Slack's webhooks and Telegram's Bot API.

In a test: `with HttpStandin() as server: ... server.slack_url ... server.requests`. `server.answer_next(503)`
queues an answer for the next request; with nothing queued Slack paths say `ok`, Telegram paths
`{"ok": true}`, others 404.

As a program, for a running stack: `python tests/http_standin.py --port 8099 --record FILE [--fail-first N]`
prints its URLs and appends one JSON line per request to FILE.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

TOKEN = "12345:standin-token"
MAX_BODY_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: str
    headers: dict[str, str]
    delay_s: float


class HttpStandin:
    """Serves on 127.0.0.1 from a thread of its own until the `with` block ends."""

    def __init__(self, port: int = 0, record: Path | None = None) -> None:
        self.requests: list[Request] = []
        self._answers: deque[Answer] = deque()
        self._record = record
        self._arrived = threading.Condition()
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                standin._serve(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def slack_url(self) -> str:
        return f"{self.url}/services/T000/B000/standin-secret"

    def answer_next(
        self,
        status: int,
        body: str = "",
        headers: dict[str, str] | None = None,
        delay_s: float = 0.0,
        times: int = 1,
    ) -> None:
        """Queue the answer to the next request (to the next `times` of them)."""
        self._answers.extend([Answer(status=status, body=body, headers=headers or {}, delay_s=delay_s)] * times)

    def wait_for(self, count: int, timeout_s: float) -> list[Request]:
        """Return the requests once there are `count`; raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests after {timeout_s} s")
        return list(self.requests)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = min(int(handler.headers.get("Content-Length", 0)), MAX_BODY_BYTES)
        request = Request(
            method=handler.command,
            path=handler.path,
            headers=dict(handler.headers),
            body=handler.rfile.read(length),
        )
        answer = self._answers.popleft() if self._answers else _default(request.path)
        if answer.delay_s:
            time.sleep(answer.delay_s)
        with self._arrived:
            self.requests.append(request)
            if self._record is not None:
                with self._record.open("a", encoding="utf-8") as out:
                    out.write(
                        json.dumps(
                            {
                                "at": time.time(),
                                "path": request.path,
                                "status": answer.status,
                                "body": request.body.decode("utf-8", "replace"),
                            }
                        )
                        + "\n"
                    )
            self._arrived.notify_all()
        body = answer.body.encode()
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except BrokenPipeError:  # the client gave up waiting: that is what a delayed answer is for
            handler.close_connection = True

    def __enter__(self) -> HttpStandin:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _default(path: str) -> Answer:
    if path.startswith("/services/"):
        return Answer(status=200, body="ok", headers={}, delay_s=0.0)
    if path.startswith("/bot") and path.endswith("/sendMessage"):
        right = path == f"/bot{TOKEN}/sendMessage"
        return Answer(
            status=200 if right else 401,
            headers={"Content-Type": "application/json"},
            delay_s=0.0,
            body=json.dumps(
                {"ok": right, "result": {}}
                if right
                else {"ok": False, "error_code": 401, "description": "Unauthorized"}
            ),
        )
    return Answer(status=404, body="no_service", headers={}, delay_s=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Stand-in for Slack webhooks and the Telegram Bot API.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", type=Path, required=True, help="file that gets one JSON line per request")
    parser.add_argument("--fail-first", type=int, default=0, metavar="N", help="answer N requests with 503")
    arguments = parser.parse_args()
    with HttpStandin(arguments.port, arguments.record) as server:
        server.answer_next(503, "standin is told to fail", times=arguments.fail_first)
        print(
            f"SLACK_WEBHOOK_URL={server.slack_url}\nTELEGRAM_BASE_URL={server.url}\nTELEGRAM_BOT_TOKEN={TOKEN}",
            flush=True,
        )
        server._thread.join()


if __name__ == "__main__":
    main()
