"""Tell of kernels that are being compiled: the one wait of the first command after an installation or a change.

numba announces each function that it compiles, and none that it finds in its cache.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

KIND = "numba:compile"
TICK_S = 1.0
TELL_AFTER_S = 1.0  # a kernel of one strategy that takes half a second is nobody's business


class Compilation(event.Listener):
    """How long the compiler was at work, and how often: a function that compiles another counts once."""

    def __init__(self) -> None:
        self.functions = 0
        self.spent_s = 0.0
        self._began = 0.0
        self._depth = 0

    @property
    def seconds(self) -> float:
        """Return the seconds spent up to now, those of the function that is being compiled included."""
        return self.spent_s + (time.monotonic() - self._began if self._depth else 0.0)

    def on_start(self, event: Any) -> None:
        """Take note that a function is about to be compiled."""
        if self._depth == 0:
            self._began = time.monotonic()
        self._depth += 1
        self.functions += 1

    def on_end(self, event: Any) -> None:
        """Take note that it is."""
        self._depth -= 1
        if self._depth == 0:
            self.spent_s += time.monotonic() - self._began


@contextmanager
def watched() -> Iterator[Compilation]:
    """Measure what is compiled inside."""
    seen = Compilation()
    event.register(KIND, seen)
    try:
        yield seen
    finally:
        event.unregister(KIND, seen)


@contextmanager
def told(say: Callable[[float, int, bool], None]) -> Iterator[Compilation]:
    """Measure what is compiled inside, and tell of it about once a second: seconds, functions so far, whether it ended.

    Nothing is told of less than TELL_AFTER_S.
    """
    ended = threading.Event()

    def tick() -> None:
        before = 0.0
        while not ended.wait(TICK_S):
            now = seen.seconds
            if now >= TELL_AFTER_S and now > before:
                before = now
                say(now, seen.functions, False)

    with watched() as seen:
        teller = threading.Thread(target=tick, name="compiling", daemon=True)
        teller.start()
        try:
            yield seen
        finally:
            ended.set()
            teller.join()
    if seen.seconds >= TELL_AFTER_S:
        say(seen.seconds, seen.functions, True)
