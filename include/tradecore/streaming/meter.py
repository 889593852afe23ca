"""What a stream did since it last told: messages a second, and how long a trade took from its time to the commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tradecore.model import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Figures of the time since the reading before; lags None where no trade was written."""

    messages_per_s: float
    lag_p50_ms: float | None
    lag_p99_ms: float | None


class Meter:
    """Counts for one source."""

    def __init__(self) -> None:
        self.messages = 0
        self._read_messages, self._read_s = 0, time.monotonic()
        self._lags: list[Floats] = []

    def wrote(self, trade_us: Sequence[int], now_us: int) -> None:
        """Note the times of trades, µs since 2000, that are in the database by now_us; a batch may have none."""
        if trade_us:
            self._lags.append((now_us - np.array(trade_us, np.int64)) / 1e3)

    def read(self) -> Reading:
        """Return the figures, and begin anew."""
        now_s, lags = time.monotonic(), self._lags
        rate = (self.messages - self._read_messages) / max(now_s - self._read_s, 1e-9)
        self._read_messages, self._read_s, self._lags = self.messages, now_s, []
        if not lags:
            return Reading(messages_per_s=rate, lag_p50_ms=None, lag_p99_ms=None)
        p50, p99 = np.percentile(np.concatenate(lags), (50, 99))
        return Reading(messages_per_s=rate, lag_p50_ms=float(p50), lag_p99_ms=float(p99))
