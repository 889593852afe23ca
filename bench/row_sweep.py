"""Rows *sweep* and *single*: a moving-average crossover, many pairs on daily bars and one pair on minute bars."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

import compiled
import numpy as np
from ratios import Row

from tradecore.research.screening import screen_ma_crossover

PAIRS, DAYS, SHORTEST, LONGEST = 10_000, 2_520, 2, 143  # 10,011 pairs of these windows; the first 10,000
MINUTES, MINUTES_A_YEAR = 1_000_000, 252 * 390
COST_BPS = 10.0
TOLERANCE = 1e-9  # C sums its windows by adding and taking away


def walk(n: int, step_sd: float, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return opens and closes [n] of a made-up market: a random walk of logarithms with gaps over night."""
    rng = np.random.default_rng(seed)
    gap, day = rng.normal(0.0, step_sd / 3, n), rng.normal(step_sd / 40, step_sd, n)
    close = 100.0 * np.exp(np.cumsum(gap + day))
    return np.concatenate([[100.0], close[:-1]]) * np.exp(gap), close


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Return the windows (fast, slow) [PAIRS]."""
    table = np.array(list(islice(combinations(range(SHORTEST, LONGEST + 1), 2), PAIRS)), np.int64)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


def in_c(
    open_: np.ndarray, close: np.ndarray, fast: np.ndarray, slow: np.ndarray, per_year: float
) -> Callable[[], Any]:
    """Return the plain loop in C as a contestant."""
    run = compiled.function("sweep", "sweep", "ppippiddpppp")
    out, trades = np.empty((3, fast.size)), np.empty(fast.size, np.int64)
    arguments = [*map(compiled.pointer, (open_, close))], [*map(compiled.pointer, (fast, slow))]
    ends = [compiled.pointer(a) for a in (*out, trades)]

    def contestant() -> Any:
        run(*arguments[0], close.size, *arguments[1], fast.size, COST_BPS / 1e4, per_year, *ends)
        return (*out.copy(), trades.copy())

    return contestant


def in_c_at_crossings(
    open_: np.ndarray, close: np.ndarray, fast: np.ndarray, slow: np.ndarray, per_year: float
) -> Callable[[], Any]:
    """Return the C that only looks at the averages while flat, as a contestant."""
    run = compiled.function("sweep", "sweep_at_crossings", "ppippiddppppp")
    room, out, trades = np.empty(close.size), np.empty((3, fast.size)), np.empty(fast.size, np.int64)

    def contestant() -> Any:
        at = [compiled.pointer(a) for a in (open_, close, fast, slow, room, *out, trades)]
        run(*at[:2], close.size, *at[2:4], fast.size, COST_BPS / 1e4, per_year, *at[4:])
        return (*out.copy(), trades.copy())

    return contestant


def screened(
    open_: np.ndarray, close: np.ndarray, fast: np.ndarray, slow: np.ndarray, per_year: float
) -> Callable[[], Any]:
    """Return the screening kernel as a contestant: all of its work, checks and preparation included."""
    return lambda: screen_ma_crossover(open_, close, fast, slow, cost_bps=COST_BPS, bars_per_year=per_year)


def agree(results: dict[str, Any]) -> None:
    """Raise AssertionError unless every contestant's figures are the first one's."""
    names = list(results)
    for name in names[1:]:
        for what, a, b in zip(("total return", "Sharpe", "drawdown"), results[names[0]], results[name], strict=False):
            np.testing.assert_allclose(b, a, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{name}: {what}")
        if len(results[name]) > 3:
            np.testing.assert_array_equal(results[name][3], results[names[0]][3], err_msg=f"{name}: trades")


def rows() -> list[Row]:
    """Return sweep and single."""
    fast, slow = pairs()
    days, minutes = walk(DAYS, 0.012), walk(MINUTES, 0.0004)
    one = np.array([20], np.int64), np.array([50], np.int64)
    return [
        Row(
            name="sweep",
            unit="pair",
            units=PAIRS,
            contestants={
                "C": in_c(*days, fast, slow, 252.0),
                "C, only at crossings": in_c_at_crossings(*days, fast, slow, 252.0),
                "tradecore, screening": screened(*days, fast, slow, 252.0),
            },
            goals={"tradecore, screening": 0.6},
            agree=agree,
            note=f"SMA crossover, {DAYS:,} daily bars",
        ),
        Row(
            name="single",
            unit="bar",
            units=MINUTES,
            contestants={
                "C": in_c(*minutes, *one, MINUTES_A_YEAR),
                "C, only at crossings": in_c_at_crossings(*minutes, *one, MINUTES_A_YEAR),
                "tradecore, screening": screened(*minutes, *one, MINUTES_A_YEAR),
            },
            goals={"tradecore, screening": 1.2},
            agree=agree,
            note="SMA crossover 20/50 on minute bars",
        ),
    ]
