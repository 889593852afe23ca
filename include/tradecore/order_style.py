"""From a line of the sheet to the orders that a venue gets: type, time in force, collar, bracket, slices. Pure.

Simulated books: one order for the next bar, as the plan kernel made it. Rules: docs/EXECUTION.md, docs/STEP.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tradecore.config_models import Execution
from tradecore.execution.window import TIME_IN_FORCE, Window
from tradecore.model import ON_CLOSE, ORDER_TYPES
from tradecore.units import to_quanta

CHILD_LINES = 1_000  # a child's line is its parent's times this, and its number: lines stay unique in a sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Styled:
    """One order of a line. child 0 is the line itself; a `twap` parent is never sent, its children are."""

    child: int
    line: int
    qty_e6: int
    order_type: str
    time_in_force: str
    limit_e4: int = 0
    stop_e4: int = 0
    take_profit_e4: int = 0
    stop_loss_e4: int = 0
    not_before_at: datetime | None = None


def simulated(line: int, qty_e6: int, *, kind: int, limit_e4: int, stop_e4: int) -> tuple[Styled, ...]:
    """Return the one order of a line in a simulated book."""
    return (
        Styled(
            child=0,
            line=line,
            qty_e6=qty_e6,
            order_type="market" if kind == ON_CLOSE else ORDER_TYPES[kind],
            time_in_force="cls" if kind == ON_CLOSE else "day",
            limit_e4=limit_e4,
            stop_e4=stop_e4,
        ),
    )


def styled(
    execution: Execution,
    *,
    line: int,
    qty_e6: int,
    ref_e4: int,
    tick_e4: int,
    step_e6: int,
    window: Window,
    covers: bool = False,
) -> tuple[Styled, ...]:
    """Return the orders of a line at a real venue, the parent first.

    qty_e6 is signed; ref_e4 the reference price in the next session's units. A limit is at most the collar away from
    it, rounded to the tick towards the reference; so are a bracket's prices. covers: the line buys a short back; it has
    no legs, as there is nothing that they could protect, and a stop that fires would make the book short again.
    """
    style = execution.order_style
    kind, tif = ("limit" if style == "limit" else "market"), TIME_IN_FORCE[style]
    limit = 0
    if kind == "limit":
        ppm = round(execution.limit_collar_bps * 100)
        limit = _near(ref_e4, ppm, tick_e4) if qty_e6 > 0 else _near(ref_e4, -ppm, tick_e4, below=True)
    if execution.algorithm == "twap":
        parts = _slices(abs(qty_e6), execution.twap_slices, step_e6)
        if len(parts) > 1:
            times = _spread(window, len(parts), execution.twap_minutes)
            sign = 1 if qty_e6 > 0 else -1
            parent = Styled(child=0, line=line, qty_e6=qty_e6, order_type="twap", time_in_force=tif, limit_e4=limit)
            children = [
                Styled(
                    child=k,
                    line=(line + 1) * CHILD_LINES + k,
                    qty_e6=sign * part,
                    order_type=kind,
                    time_in_force=tif,
                    limit_e4=limit,
                    not_before_at=at,
                )
                for k, (part, at) in enumerate(zip(parts, times, strict=True), start=1)
            ]
            return (parent, *children)
    profit = loss = 0
    if qty_e6 > 0 and not covers and execution.take_profit_frac is not None:
        profit = _near(ref_e4, to_quanta(str(execution.take_profit_frac), 1_000_000), tick_e4)
    if qty_e6 > 0 and not covers and execution.stop_loss_frac is not None:
        loss = _near(ref_e4, -to_quanta(str(execution.stop_loss_frac), 1_000_000), tick_e4, below=True)
    return (
        Styled(
            child=0,
            line=line,
            qty_e6=qty_e6,
            order_type=kind,
            time_in_force="gtc" if profit or loss else tif,
            limit_e4=limit,
            take_profit_e4=profit,
            stop_loss_e4=loss,
        ),
    )


def _near(ref_e4: int, ppm: int, tick_e4: int, *, below: bool = False) -> int:
    """Return ref * (1 + ppm / 1e6) rounded to the tick towards ref (up where it lies below); one tick at least."""
    exact, unit = ref_e4 * (1_000_000 + ppm), tick_e4 * 1_000_000
    ticks = -(-exact // unit) if below else exact // unit
    return max(1, ticks) * tick_e4


def _slices(qty_e6: int, slices: int, step_e6: int) -> list[int]:
    """Split a quantity into at most `slices` parts of whole steps that sum to it, the larger ones first."""
    steps = qty_e6 // step_e6
    count = min(slices, steps)
    if count <= 1:
        return [qty_e6]
    low, more = divmod(steps, count)
    parts = [(low + (k < more)) * step_e6 for k in range(count)]
    parts[0] += qty_e6 - sum(parts)
    return parts


def _spread(window: Window, count: int, minutes: int) -> list[datetime]:
    """Return when each slice is due: equally spaced from the window's start, within nine tenths of a short one."""
    whole = min(timedelta(minutes=minutes), (window.closes_at - window.opens_at) * 9 / 10)
    return [window.opens_at + whole * k / (count - 1) for k in range(count)]
