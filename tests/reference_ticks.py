"""Naive twin of tradecore.ticks: one plain loop over all trades at once, in Decimal. Imports nothing of tradecore.

Source: M. Lopez de Prado, Advances in Financial Machine Learning (2018), chapter 2.3.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

Trade = tuple[int, Decimal, Decimal]  # ns since 1970, USD, shares
Bar = tuple[int, int, Decimal, Decimal, Decimal, Decimal, Decimal, Decimal, int]
CENT_PART = Decimal("0.0001")


def bars(trades: Iterable[Trade], kind: str, threshold: Decimal) -> list[Bar]:
    """Return bars: (first time, end, open, high, low, close, shares, USD, trades); threshold of time: ns."""
    found: list[Bar] = []
    held: list[Trade] = []
    shares = usd = Decimal(0)
    for trade in trades:
        if kind == "time" and held and trade[0] // threshold != held[0][0] // threshold:
            found.append(_bar(held, int((held[0][0] // threshold + 1) * threshold), shares, usd))
            held, shares, usd = [], Decimal(0), Decimal(0)
        held.append(trade)
        shares += trade[2]
        usd += (trade[1] * trade[2]).quantize(CENT_PART, ROUND_HALF_UP)
        measure = {"tick": Decimal(len(held)), "volume": shares, "dollar": usd}.get(kind)
        if measure is not None and measure >= threshold:
            found.append(_bar(held, trade[0], shares, usd))
            held, shares, usd = [], Decimal(0), Decimal(0)
    return found


def _bar(held: list[Trade], end: int, shares: Decimal, usd: Decimal) -> Bar:
    prices = [price for _, price, _ in held]
    return (held[0][0], end, prices[0], max(prices), min(prices), prices[-1], shares, usd, len(held))
