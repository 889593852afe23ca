"""Fixed-point units of money, price, quantity and weight, and the conversions to and from them.

Everything that crosses a bar is an int64 count of a quantum, so that parity is equality of integers:

| suffix | quantity                    | quantum      | int64 reaches      |
|--------|-----------------------------|--------------|--------------------|
| `_e4`  | price, money                | 0.0001 USD   | 9.2e14 USD         |
| `_e6`  | quantity                    | 1e-6 share   | 9.2e12 shares      |
| `_e6`  | dividend per share          | 1e-6 USD     |                    |
| `_ppm` | weight, score as a fraction | 1e-6         |                    |

Products of a price and a quantity stay below 2**63 up to 922 million USD a position; settings refuse more cash.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import numpy.typing as npt

PRICE_SCALE = 10_000
MONEY_SCALE = 10_000
QTY_SCALE = 1_000_000
DIVIDEND_SCALE = 1_000_000
WEIGHT_SCALE = 1_000_000
MAX_BOOK_USD = 100_000_000

_EPOCH = date(1970, 1, 1)


def to_quanta(value: Decimal | str | int, scale: int) -> int:
    """Round an exact value to quanta, half away from zero.

    Raises ValueError for a float: binary floats never carry money across a boundary.
    """
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a binary float; pass Decimal, str or int")
    return int((Decimal(value) * scale).to_integral_value(rounding=ROUND_HALF_UP))


def from_quanta(quanta: int, scale: int) -> Decimal:
    """Return quanta as an exact Decimal with as many places as the scale has zeros."""
    places = len(str(scale)) - 1
    return Decimal(int(quanta)).scaleb(-places)


def usd(money_e4: int) -> Decimal:
    """Return money in 1e-4 USD as Decimal dollars."""
    return from_quanta(money_e4, MONEY_SCALE)


def shares(qty_e6: int) -> Decimal:
    """Return a quantity in 1e-6 shares as Decimal shares, without trailing zeros."""
    value = from_quanta(qty_e6, QTY_SCALE).normalize()
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value


def prices_to_e4(prices_usd: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Convert finite vendor prices (any shape, USD) to int64 1e-4 USD, nearest quantum.

    Raises ValueError where a price is NaN or infinite: those are quarantined before this point.
    """
    if not np.isfinite(prices_usd).all():
        raise ValueError("a price is NaN or infinite; only validated bars are converted to quanta")
    return np.asarray(np.rint(prices_usd * PRICE_SCALE), dtype=np.int64)


def to_ns(at: datetime) -> int:
    """Return an aware datetime as int64 nanoseconds since 1970 UTC (whole microseconds, exact)."""
    delta = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1_000


def from_ns(ns: int) -> datetime:
    """Return nanoseconds since 1970 UTC as an aware UTC datetime (to the microsecond)."""
    seconds, rest = divmod(int(ns), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000)


def to_day(label: date) -> int:
    """Return a session label as days since 1970-01-01."""
    return (label - _EPOCH).days


def from_day(day: int) -> date:
    """Return days since 1970-01-01 as a session label."""
    return date.fromordinal(_EPOCH.toordinal() + int(day))
