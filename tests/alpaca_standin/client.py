"""Start the stand-in as its own process and talk to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
KEYS = {"APCA-API-KEY-ID": "STANDIN-KEY", "APCA-API-SECRET-KEY": "standin-secret"}


class Standin:
    """A running stand-in: its URL, and its routes under /standin/."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.start()

    def start(self) -> None:
        """Start the process; with the same --journal and --port it is what it was."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.alpaca_standin", *self.arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env={**os.environ},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), f"the stand-in did not start: {line!r}"
        self.url = line.split()[-1]

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)

    def api(self, method: str, path: str, document: object = None, keys: dict[str, str] = KEYS) -> tuple[int, Any]:
        """Send a request as a client of Alpaca does; returns status and document."""
        body = None if document is None else json.dumps(document).encode()
        headers = {**keys, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read() or b"null")

    def admin(self, name: str, document: object = None) -> Any:
        """POST a document to /standin/NAME, or GET it without one. Raises ValueError if refused."""
        status, answer = self.api("GET" if document is None else "POST", f"/standin/{name}", document, keys={})
        if status >= 400:
            raise ValueError(f"/standin/{name} answers {status}: {answer}")
        return answer

    def set_clock(self, at: datetime | str) -> None:
        """Let the market move on to a time and stand there."""
        self.admin("clock", {"now": at if isinstance(at, str) else at.isoformat()})

    def faults(self, *faults: dict[str, Any]) -> None:
        """Let requests meet these faults, in place of those before."""
        self.admin("faults", list(faults))


@contextmanager
def running(*arguments: str) -> Iterator[Standin]:
    """Run `python -m tests.alpaca_standin` with these arguments until the block ends."""
    standin = Standin(*arguments)
    try:
        yield standin
    finally:
        standin.stop()
