"""Start the stand-in as its own process and talk to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


class Standin:
    """A running stand-in."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fault(self, kind: int | str, *, times: int = 1_000_000, symbol: str | None = None, **more: Any) -> None:
        """Let the next charts fail, `times` times; replaces the fault before."""
        self._post("/standin/fault", {"kind": kind, "times": times, "symbol": symbol, **more})

    def heal(self) -> None:
        """End all faults."""
        self._post("/standin/fault", {"kind": "", "times": 0})

    def set_now(self, at: datetime) -> None:
        """Set the service's clock."""
        self._post("/standin/now", {"now": at.timestamp()})

    def log(self) -> list[dict[str, Any]]:
        """Return the requests so far."""
        with urllib.request.urlopen(self.url + "/standin/log", timeout=10) as answer:
            return list(json.load(answer))

    def charts(self) -> int:
        """Return how many charts were asked for so far."""
        return sum(entry["path"].startswith("/v8/") for entry in self.log())

    def _post(self, path: str, document: object) -> None:
        request = urllib.request.Request(self.url + path, data=json.dumps(document).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def running(*arguments: str) -> Iterator[Standin]:
    """Run `python -m yahoo_standin` with these arguments until the block ends."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "include")])
    process = subprocess.Popen(
        [sys.executable, "-m", "yahoo_standin", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), f"the stand-in did not start: {line!r}"
        yield Standin(line.split()[-1])
    finally:
        process.terminate()
        process.wait(timeout=10)
