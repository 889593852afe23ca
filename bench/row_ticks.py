"""Row *ticks*: 5,000,000 trades to volume bars against the same rules in plain C; our checks are included."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import compiled
import numpy as np
from ratios import Row

from tradecore.ticks import BarMaker, dollar_bars, tick_bars, time_bars, volume_bars

TRADES, SHARES = 5_000_000, 25_000
KINDS: dict[str, Callable[[], BarMaker]] = {
    "volume": lambda: volume_bars(SHARES),
    "tick": lambda: tick_bars(250),
    "dollar": lambda: dollar_bars(2_500_000),
    "time": lambda: time_bars(60),
}


def trades() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, prices and sizes of a made-up day of very many trades."""
    rng = np.random.default_rng(1)
    at = 1_700_000_000 * 10**9 + np.cumsum(rng.integers(0, 10_000_000, TRADES))
    price = np.maximum(10_000, 1_000_000 + 100 * np.cumsum(rng.integers(-1, 2, TRADES)))
    return at, price, rng.integers(1, 200, TRADES) * 1_000_000


def in_c(day: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """Return the plain loop of bench/ticks.c as a contestant."""
    run, bars = compiled.function("ticks", "ticks", "pppiipi"), np.empty((9, 100_000), np.int64)
    run.restype = ctypes.c_int64

    def contestant() -> Any:
        columns = [compiled.pointer(c) for c in day]
        filled = run(*columns, TRADES, SHARES * 1_000_000, compiled.pointer(bars), bars.shape[1])
        return bars[:, :filled].copy()

    return contestant


def made(make: Callable[[], BarMaker], day: tuple[np.ndarray, ...]) -> Callable[[], Any]:
    """Return bars made in batches of 100,000 trades as a contestant."""

    def contestant() -> Any:
        maker = make()
        for start in range(0, TRADES, 100_000):
            maker.add(*(column[start : start + 100_000] for column in day))
        return maker.bars.rows()

    return contestant


def agree(results: dict[str, Any]) -> None:
    """Raise AssertionError unless the volume bars are C's, integer for integer."""
    np.testing.assert_array_equal(results["volume"], results["C"])


def rows() -> list[Row]:
    """Return the row."""
    day = trades()
    return [
        Row(
            name="ticks",
            unit="trade",
            units=TRADES,
            contestants={"C": in_c(day), **{kind: made(make, day) for kind, make in KINDS.items()}},
            agree=agree,
            goals={"volume": 2.0},
            note="below 50 ns a trade are more than 20,000,000 trades a second on one core",
        )
    ]
