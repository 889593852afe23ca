"""Circuit breakers that look beyond the book: data, reconciliation, turnover, slippage, the broker, the machine.

Daily loss and drawdown are the step's own (docs/STEP.md, settle 7), the same in a backtest. These know what a backtest
has not got. Each that fires orders a state, as a person would: in force for sending at once, in the book from the next
bar that settles; it alerts, and says what lifts it. One that lifts by itself does so when its cause is gone and nothing
else was ordered since; the others wait for `resume`. Limits: risk.breakers; rules: docs/risk.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradecore import decision
from tradecore.config_risk import Breakers
from tradecore.context import Context
from tradecore.model import ACTIVE, HALTED, REDUCING, STATE_NAMES
from tradecore.storage import books, queries

SQL = queries.load("breakers")
PPM = 1_000_000
PREFIX = "breaker:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the machine says of itself; None: it does not say."""

    disk_free_mb: float | None = None
    memory_free_mb: float | None = None
    temperature_c: float | None = None
    clock_skew_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """A rule: its name, the state that it orders, whether it lifts by itself, and what it says of the facts ('':
    fine)."""

    name: str
    state: int
    recovers: bool
    fires: Callable[[Mapping[str, Any], Breakers], str]


def _data_gate(f: Mapping[str, Any], at: Breakers) -> str:
    if at.gate_sessions is None or f["gates_closed"] < at.gate_sessions:
        return ""
    return f"the data gate was closed at {f['gates_closed']} bars in a row, gate_sessions is {at.gate_sessions}"


def _reconciliation(f: Mapping[str, Any], at: Breakers) -> str:
    if not at.open_breaks or not f["open_breaks"]:
        return ""
    return f"{f['open_breaks']} open break(s) between ledger and broker"


def _losses(f: Mapping[str, Any], at: Breakers) -> str:
    if at.losing_sessions is None or f["losing_sessions"] < at.losing_sessions:
        return ""
    return f"{f['losing_sessions']} sessions in a row lost, losing_sessions is {at.losing_sessions}"


def _turnover(f: Mapping[str, Any], at: Breakers) -> str:
    now, usual = f["turnover_ppm"], f["usual_turnover_ppm"]
    if at.turnover_ratio is None or now is None or not usual or now <= at.turnover_ratio * usual:
        return ""
    return f"turnover {now / PPM:.2%} is {now / usual:.1f} times the usual, turnover_ratio is {at.turnover_ratio:g}"


def _slippage(f: Mapping[str, Any], at: Breakers) -> str:
    seen, fills = f["slippage_bps"], f["fills"]
    if at.slippage_excess_bps is None or seen is None or fills < at.slippage_fills:
        return ""
    excess = seen - f["expected_bps"]
    if excess <= at.slippage_excess_bps:
        return ""
    return f"the last {fills} fills slipped {seen:.1f} bps, {excess:.1f} more than expected"


def _broker(f: Mapping[str, Any], at: Breakers) -> str:
    if at.broker_error_frac is None or f["orders"] < at.broker_orders:
        return ""
    part = f["bad_orders"] / f["orders"]
    if part <= at.broker_error_frac:
        return ""
    return f"{f['bad_orders']} of the last {f['orders']} orders were rejected or in doubt"


def _machine(f: Mapping[str, Any], at: Breakers) -> str:
    machine: Machine = f["machine"]
    below = (
        ("disk", machine.disk_free_mb, at.min_disk_mb, "MB free"),
        ("memory", machine.memory_free_mb, at.min_memory_mb, "MB available"),
    )
    above = (
        ("temperature", machine.temperature_c, at.max_temperature_c, "degrees"),
        ("clock", machine.clock_skew_s, at.max_clock_skew_s, "s from the database's"),
    )
    said = [
        f"{what}: {value:.0f} {unit}, {limit:g} is the least"
        for what, value, limit, unit in below
        if limit is not None and value is not None and value < limit
    ]
    said += [
        f"{what}: {value:.0f} {unit}, {limit:g} is the most"
        for what, value, limit, unit in above
        if limit is not None and value is not None and abs(value) > limit
    ]
    return "; ".join(said)


BREAKERS = (
    Breaker(name="data_gate", state=REDUCING, recovers=True, fires=_data_gate),
    Breaker(name="reconciliation", state=REDUCING, recovers=True, fires=_reconciliation),
    Breaker(name="losing_sessions", state=REDUCING, recovers=True, fires=_losses),
    Breaker(name="turnover", state=REDUCING, recovers=True, fires=_turnover),
    Breaker(name="slippage", state=REDUCING, recovers=False, fires=_slippage),
    Breaker(name="broker_errors", state=HALTED, recovers=False, fires=_broker),
    Breaker(name="machine", state=HALTED, recovers=True, fires=_machine),
)


def check(ctx: Context, machine: Machine | None = None) -> dict[str, object]:
    """Look at every breaker after this bar: order the state of those that fire, lift what has recovered.

    In the caller's transaction, under the book's lock. Says which fire; the same facts twice order nothing twice.
    """
    at = ctx.settings.trading.risk.breakers
    found = facts(ctx, machine if machine is not None else read_machine(ctx))
    firing = {b: said for b in BREAKERS if (said := b.fires(found, at))}
    ordered = ctx.conn.execute(SQL["ordered"], {"book": ctx.book, "until": ctx.next_bar_end}).fetchone()
    in_force = int(ordered[0]) if ordered else ACTIVE
    by = str(ordered[1]) if ordered else ""
    for breaker, said in firing.items():
        if in_force < breaker.state and _order(ctx, breaker, breaker.state, said):
            _alert(ctx, breaker, said)
            in_force, by = breaker.state, PREFIX + breaker.name
    mine = next((b for b in BREAKERS if PREFIX + b.name == by), None)
    if mine is not None and mine.recovers and not firing and in_force != ACTIVE:
        _order(ctx, mine, ACTIVE, "its cause is gone")
    return {"breakers": {b.name: said for b, said in firing.items()}} if firing else {}


def _order(ctx: Context, breaker: Breaker, state: int, reason: str) -> bool:
    """Write the state that a breaker orders for the next bar; False if it ordered the same there already."""
    last = ctx.conn.execute(SQL["said"], (ctx.book, ctx.next_bar_end, PREFIX + breaker.name)).fetchone()
    if last is not None and int(last[0]) == state:
        return False
    before = ctx.conn.execute(books.SQL["state"], ctx.key).fetchone()
    ctx.conn.execute(
        books.SQL["add_person_state"],
        {
            "book": ctx.book,
            "bar_end": ctx.next_bar_end,
            "old": before[7] if before else ACTIVE,
            "new": state,
            "actor": PREFIX + breaker.name,
            "reason": reason,
        },
    )
    return True


def _alert(ctx: Context, breaker: Breaker, said: str) -> None:
    lifts = (
        "lifts when its cause is gone" if breaker.recovers else "stays until python -m tradecore resume --reason ..."
    )
    ctx.alert(
        kind="breaker",
        severity="critical" if breaker.state == HALTED else "warning",
        stage="settle",
        key=breaker.name,
        title=f"Breaker {breaker.name}: {STATE_NAMES[breaker.state]}",
        body=f"{said}. Nothing that adds to a position is sent from now on."
        if breaker.state == REDUCING
        else f"{said}. Nothing is sent from now on.",
        next_step=f"it {lifts}",
    )


def facts(ctx: Context, machine: Machine) -> dict[str, Any]:
    """Read what the breakers look at, after this bar."""
    at, execution = ctx.settings.trading.risk.breakers, ctx.settings.trading.execution
    key = {"book": ctx.book, "bar_end": ctx.bar_end_at}
    slipped = ctx.conn.execute(SQL["slippage"], {**key, "fills": at.slippage_fills}).fetchone()
    orders = ctx.conn.execute(SQL["orders"], {**key, "orders": at.broker_orders}).fetchone()
    turnover = ctx.conn.execute(SQL["turnover"], key).fetchone()
    losing = ctx.conn.execute(SQL["losing_sessions"], {"book": ctx.book, "bar_end": ctx.bar_end_at}).fetchone()
    breaks = ctx.conn.execute(SQL["open_breaks"], {"book": ctx.book}).fetchone()
    return {
        "gates_closed": _gates_closed(ctx),
        "open_breaks": int(breaks[0]) if breaks else 0,
        "losing_sessions": int(losing[0]) if losing else 0,
        "turnover_ppm": turnover[0] if turnover else None,
        "usual_turnover_ppm": turnover[1] if turnover else None,
        "slippage_bps": None if slipped is None or slipped[0] is None else float(slipped[0]),
        "fills": int(slipped[1]) if slipped else 0,
        "expected_bps": float(execution.slippage_bps),
        "orders": int(orders[0]) if orders else 0,
        "bad_orders": int(orders[1]) if orders else 0,
        "machine": machine,
    }


def _gates_closed(ctx: Context) -> int:
    """Return how many bars up to this one had a closed gate, in a row: those that ended without a decision for it."""
    if decision.gate(ctx)[0]:
        return 0
    rows = ctx.conn.execute(SQL["decided"], {"book": ctx.book, "bar_end": ctx.bar_end_at}).fetchall()
    count = 1
    for (decided,) in rows:
        if decided:
            break
        count += 1
    return count


def read_machine(ctx: Context, root: Path = Path("/")) -> Machine:
    """Read disk, memory, temperature and the clock against the database's; what cannot be read is None."""
    row = ctx.conn.execute("SELECT clock_timestamp()").fetchone()
    skew = (ctx.now - row[0]).total_seconds() if row and ctx.settings.trading.risk.breakers.max_clock_skew_s else None
    zones = [_number(path) for path in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    known = [zone / 1000.0 for zone in zones if zone is not None]
    return Machine(
        disk_free_mb=shutil.disk_usage(ctx.settings.home).free / 1e6,
        memory_free_mb=_available(root / "proc/meminfo"),
        temperature_c=max(known, default=None),
        clock_skew_s=skew,
    )


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _available(path: Path) -> float | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else float(found) / 1024.0
