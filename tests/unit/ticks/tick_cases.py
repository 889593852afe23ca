"""Random trades, and the same bars from the kernels and from the naive twin."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise

import numpy as np

import reference_ticks
from tradecore.ticks import BarMaker
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE

Trades = tuple[np.ndarray, np.ndarray, np.ndarray]
SCALE = {"time": 1, "tick": 1, "volume": QTY_SCALE, "dollar": MONEY_SCALE}


def random_trades(rng: np.random.Generator, count: int) -> Trades:
    """Return (at_ns, price_e4, qty_e6): several at one time, pauses longer than a bar, fractions of a share."""
    gaps = rng.choice([0, 1, 400_000_000, 3_000_000_000], count) * rng.integers(0, 3, count)
    at = 1_700_000_000_123_456_789 + np.cumsum(gaps)
    price = np.maximum(1, 1_000_000 + np.cumsum(rng.integers(-250, 251, count)))
    qty = rng.choice([1, 333_333, 1_000_000, 100_000_000], count) * rng.integers(1, 5, count)
    return at.astype(np.int64), price.astype(np.int64), qty.astype(np.int64)


def cut(trades: Trades, places: Iterable[int]) -> list[Trades]:
    """Cut trades into batches at the places given; equal places give empty batches."""
    ends = [0, *sorted(places), trades[0].size]
    return [tuple(column[a:b] for column in trades) for a, b in pairwise(ends)]  # type: ignore[misc]


def bars_of(maker: BarMaker) -> list[tuple[int, ...]]:
    return [tuple(row) for row in maker.bars.rows().T.tolist()]


def twin_of(trades: Trades, maker: BarMaker) -> list[tuple[int, ...]]:
    """Return the twin's bars in the kernels' units."""
    at, price, qty = trades
    exact = [
        (int(a), Decimal(int(p)) / PRICE_SCALE, Decimal(int(q)) / QTY_SCALE)
        for a, p, q in zip(at, price, qty, strict=True)
    ]
    found = reference_ticks.bars(exact, maker.kind, Decimal(maker.threshold) / SCALE[maker.kind])
    return [
        (
            *bar[:2],
            *(int(p * PRICE_SCALE) for p in bar[2:6]),
            int(bar[6] * QTY_SCALE),
            int(bar[7] * MONEY_SCALE),
            bar[8],
        )
        for bar in found
    ]
