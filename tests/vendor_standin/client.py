"""Start the stand-in as its own process and drive it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


class Standin:
    """A running stand-in."""

    def __init__(self, url: str) -> None:
        self.url = url

    def reset(self) -> None:
        """Begin anew: all sessions published, no fault."""
        self._post("reset", {})

    def fault(self, kind: int | str, *, times: int = 1_000_000, path: str = "", skip: int = 0) -> None:
        """Let requests of a path meet a fault, `times` times, after `skip` of them; in place of those before."""
        self._post("faults", {"faults": [{"kind": str(kind), "times": times, "path": path, "skip": skip}]})

    def heal(self) -> None:
        """End all faults."""
        self._post("faults", {"faults": []})
        self.seed(0, 0.0)

    def seed(self, seed: int, rate: float) -> None:
        """Let each request meet a fault with that probability, by the seed and its number."""
        self._post("seed", {"seed": seed, "rate": rate})

    def end(self, day: date, *, running: bool = False) -> None:
        """Let a session be the newest that is published, or the one that runs."""
        self._post("end", {"day": str(day), "running": running})

    def late(self, bars: list[tuple[str, date]]) -> None:
        """Hold bars back, in place of those held back before."""
        self._post("late", {"bars": [[symbol, str(day)] for symbol, day in bars]})

    def restate(self, symbol: str, day: date, factor: float) -> None:
        """Replace a bar."""
        self._post("restate", {"symbol": symbol, "day": str(day), "factor": factor})

    def drop(self, symbol: str, day: date) -> None:
        """Take a bar out for good."""
        self._post("drop", {"symbol": symbol, "day": str(day)})

    def truth(self) -> list[list[Any]]:
        """Return what is published: symbol, date, open, high, low, close, volume."""
        return list(self._post("truth", {}))

    def log(self) -> list[dict[str, Any]]:
        """Return the requests since the last look, with the faults that they met."""
        return list(self._post("log", {}))

    def asked(self, path: str) -> int:
        """Return how many requests of a path there were."""
        return sum(entry["path"].startswith(path) for entry in self.log())

    def _post(self, name: str, document: object) -> Any:
        request = urllib.request.Request(
            f"{self.url}/standin/{name}", data=json.dumps(document).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def running(*arguments: str) -> Iterator[Standin]:
    """Run `python -m vendor_standin` with these arguments until the block ends."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "include")])
    process = subprocess.Popen(
        [sys.executable, "-m", "vendor_standin", *arguments],
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
