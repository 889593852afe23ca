"""How numbers read in a page: one place for signs, separators and what stands for nothing."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal

NOTHING = "–"
MINUS = "\N{MINUS SIGN}"


def usd(value: Decimal | None, places: int = 2) -> str:
    """Format dollars: $1,234.50, the sign before the $."""
    if value is None:
        return NOTHING
    rounded = _rounded(value, places)
    return f"{MINUS if rounded < 0 else ''}${abs(rounded):,}"


def signed_usd(value: Decimal | None, places: int = 2) -> str:
    """Format a change in dollars, with + for a gain; zero has no sign."""
    return NOTHING if value is None else _plus(_rounded(value, places)) + usd(value, places)


def usd_float(value: float, places: int = 0) -> str:
    """Format dollars that are a float, as research has them; NaN is nothing."""
    return NOTHING if math.isnan(value) else usd(Decimal(str(value)), places)


def signed_usd_float(value: float, places: int = 0) -> str:
    """Format a change in dollars that is a float, with + for a gain."""
    return NOTHING if math.isnan(value) else signed_usd(Decimal(str(value)), places)


def shares(value: Decimal | None) -> str:
    """Format a quantity without trailing zeros: 1,200 or 0.5."""
    if value is None:
        return NOTHING
    plain = value.normalize()
    whole = plain.quantize(Decimal(1)) if plain == plain.to_integral_value() else plain
    return f"{MINUS if whole < 0 else ''}{abs(whole):,f}"


def signed_shares(value: Decimal | None) -> str:
    """Format a change of quantity with its sign; zero has none."""
    return NOTHING if value is None else _plus(value) + shares(value)


def percent(frac: Decimal | float | None, places: int = 2) -> str:
    """Format a fraction as percent: 0.1532 -> 15.32 %."""
    if frac is None or (isinstance(frac, float) and math.isnan(frac)):
        return NOTHING
    rounded = _rounded(Decimal(str(frac)) * 100, places)
    return f"{MINUS if rounded < 0 else ''}{abs(rounded):,} %"


def signed_percent(frac: Decimal | float | None, places: int = 2) -> str:
    """Format a fractional change as percent with its sign; zero has none."""
    text = percent(frac, places)
    if frac is None or text == NOTHING:
        return NOTHING
    return _plus(_rounded(Decimal(str(frac)) * 100, places)) + text


def bps(value: Decimal | None) -> str:
    """Format basis points with a sign and one place."""
    if value is None:
        return NOTHING
    rounded = _rounded(value, 1)
    return f"{_plus(rounded)}{MINUS if rounded < 0 else ''}{abs(rounded):,}"


def ratio(value: float, places: int = 2) -> str:
    """Format a plain ratio; NaN is nothing."""
    if math.isnan(value):
        return NOTHING
    text = f"{abs(value):.{places}f}"
    return f"{MINUS if value < 0 and float(text) else ''}{text}"


def score(value: float | None) -> str:
    """Format a strategy's score; None is 'no opinion'."""
    return NOTHING if value is None else f"{value:.2f}"


def day(label: date | None) -> str:
    """Format a session label: Wed 1 Sep 2004."""
    return (
        NOTHING if label is None else f"{_WEEKDAYS[label.weekday()]} {label.day} {MONTHS[label.month - 1]} {label.year}"
    )


def short_day(label: date | None) -> str:
    """Format a session label without its weekday: 1 Sep 2004."""
    return NOTHING if label is None else f"{label.day} {MONTHS[label.month - 1]} {label.year}"


def minute(at: datetime | None) -> str:
    """Format an instant to the minute, in UTC as everywhere."""
    return NOTHING if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def words(name: str) -> str:
    """Turn an identifier into words: dividend_paid_on_ex_date -> dividend paid on ex date."""
    return name.replace("_", " ").replace("-", " ").strip()


def sign_class(value: Decimal | float | None) -> str:
    """Return the CSS class of a gain, a loss, or neither."""
    if value is None or value == 0 or (isinstance(value, float) and math.isnan(value)):
        return "flat"
    return "gain" if value > 0 else "loss"


# strftime's names follow the machine's language; the report is the same everywhere.
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _rounded(value: Decimal, places: int) -> Decimal:
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    return abs(rounded) if rounded == 0 else rounded  # no minus zero


def _plus(value: Decimal) -> str:
    return "+" if value > 0 else ""
