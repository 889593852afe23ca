"""The pre-trade checks of an order: pure, each a number, a name and a sentence. Limits: execution.checks and risk.

In the spirit of SEC rule 15c3-5. What is not known is refused, never assumed: a missing reference price, volume or
buying power fails its check. The numbers are those of the project's table of checks; 6 is the token bucket, which
waits instead of refusing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from tradecore.config_risk import PreTrade, Risk
from tradecore.execution.broker import Account, Asset, BrokerOrder
from tradecore.execution.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An order of ours on this account that was sent for the session, or still works.

    remaining: what no settled bar has of it, executed or not; unpaid: what the account's cash does not know of yet.
    line_id: the line of the sheet that it belongs to, its parent or itself.
    """

    client_order_id: str
    line_id: str
    symbol: str
    qty: Decimal
    remaining: Decimal
    unpaid: Decimal
    ref_price: Decimal
    sent_at: datetime
    working: bool
    child: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the checks of one order look at. Money in USD, quantities signed shares; None: not known."""

    now: datetime
    client_order_id: str
    line_id: str
    symbol: str
    qty: Decimal
    parent_qty: Decimal
    child: bool
    sent_of_parent: Decimal
    children: int
    ref_price: Decimal | None
    ref_age_sessions: int
    limit_price: Decimal | None
    held: Decimal
    gross: Decimal
    equity: Decimal
    daily_return: Decimal
    drawdown: Decimal
    volume_20: Decimal | None
    orders_in_run: int
    sent: tuple[Sent, ...]
    at_venue: tuple[BrokerOrder, ...]
    account: Account | None
    asset: Asset | None
    window: Window
    skew_s: float
    keys: str
    state: str
    clean: str
    gate: str
    approval: str
    signed: bool
    turnover: Decimal
    usual_turnover: Decimal | None
    time_in_force: str = "day"
    bracket: bool = False  # a buy with legs of its own
    legs: frozenset[str] = frozenset()  # the venue's ids of our orders that protect a holding

    @property
    def notional(self) -> Decimal:
        return abs(self.qty) * (self.ref_price or Decimal(0))

    @property
    def reduces(self) -> bool:
        """Whether it brings the position nearer to zero, and not past it."""
        return self.held * self.qty < 0 and abs(self.qty) <= abs(self.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The configured limits that the checks read."""

    risk: Risk
    checks: PreTrade
    max_clock_skew_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One check of one order: `detail` says what was found against what is allowed."""

    number: int
    name: str
    passed: bool
    detail: str


def _exact(value: float) -> Decimal:
    return Decimal(str(value))


def exposure(f: Facts, at: Limits) -> str:
    """1: weight of the name and gross exposure after the order."""
    if f.reduces:
        return ""
    if f.equity <= 0 or f.ref_price is None:
        return "equity or reference price is not known"
    weight = abs(f.held + f.qty) * f.ref_price / f.equity
    bought = sum((abs(s.remaining) * s.ref_price for s in f.sent if s.qty > 0), Decimal(0))
    gross = (f.gross + bought + f.notional) / f.equity
    if weight > _exact(at.risk.max_position_size):
        return f"weight {weight:.2%} is above max_position_size {at.risk.max_position_size:.2%}"
    if f.qty > 0 and gross > _exact(at.risk.max_exposure) + _sold(f) / f.equity:
        return f"gross exposure {gross:.2%} is above max_exposure {at.risk.max_exposure:.2%}"
    return ""


def _sold(f: Facts) -> Decimal:
    """Return the notional that sells of the same sheet free."""
    return sum((abs(s.remaining) * s.ref_price for s in f.sent if s.qty < 0), Decimal(0))


def losses(f: Facts, at: Limits) -> str:
    """2: daily loss (reductions only) and drawdown (reductions only until the halt is in force)."""
    if f.reduces:
        return ""
    if -f.daily_return >= _exact(at.risk.max_daily_loss):
        return f"the session lost {-f.daily_return:.2%}, max_daily_loss is {at.risk.max_daily_loss:.2%}"
    if f.drawdown >= _exact(at.risk.max_drawdown):
        return f"the drawdown is {f.drawdown:.2%}, max_drawdown is {at.risk.max_drawdown:.2%}"
    return ""


def size(f: Facts, at: Limits) -> str:
    """3: notional against equity (a reduction may be of any), quantity against the 20-session average volume."""
    if f.ref_price is None or f.equity <= 0:
        return "equity or reference price is not known"
    if not f.reduces and f.notional > _exact(at.checks.max_order_frac) * f.equity:
        return f"notional {f.notional / f.equity:.2%} of equity is above max_order_frac {at.checks.max_order_frac:.2%}"
    if f.volume_20 is None or f.volume_20 <= 0:
        return "there is no 20-session volume"
    if abs(f.qty) > _exact(at.checks.max_adv_frac) * f.volume_20:
        return f"{abs(f.qty)} shares are above max_adv_frac {at.checks.max_adv_frac:.2%} of {f.volume_20:.0f}"
    return ""


def collar(f: Facts, at: Limits) -> str:
    """4: a reference price that is there, positive and fresh; a limit price within the collar around it."""
    if f.ref_price is None or not f.ref_price.is_finite() or f.ref_price <= 0:
        return f"the reference price is {f.ref_price}"
    if f.ref_age_sessions > 1:
        return f"the reference price is {f.ref_age_sessions} sessions old"
    if f.limit_price is not None:
        away = abs(f.limit_price - f.ref_price) / f.ref_price
        if away > _exact(at.checks.price_collar_frac):
            return f"limit {f.limit_price} is {away:.2%} from the reference {f.ref_price}"
    return ""


def counts(f: Facts, at: Limits) -> str:
    """5: orders a run, a session, and a session and symbol; parents count, children have a cap of their own."""
    if f.child:
        if f.children > at.checks.max_children_per_parent:
            return f"{f.children} children are above max_children_per_parent {at.checks.max_children_per_parent}"
        if abs(f.sent_of_parent + f.qty) > abs(f.parent_qty):
            return f"children would reach {f.sent_of_parent + f.qty}, the parent asks for {f.parent_qty}"
    of_parents = {s.line_id: s for s in f.sent if s.child and s.line_id != f.line_id}
    parents = [s for s in f.sent if not s.child] + list(of_parents.values())
    same = [s for s in parents if s.symbol == f.symbol]
    if f.orders_in_run > at.checks.max_orders_per_run:
        return f"{f.orders_in_run} orders in this run are above {at.checks.max_orders_per_run}"
    if len(parents) >= at.checks.max_orders_per_day:
        return f"{len(parents)} orders were sent for this session, max_orders_per_day is {at.checks.max_orders_per_day}"
    if len(same) >= at.checks.max_orders_per_symbol:
        return f"{len(same)} orders of {f.symbol} were sent, max_orders_per_symbol is {at.checks.max_orders_per_symbol}"
    return ""


def duplicative(f: Facts, at: Limits) -> str:
    """7: another order of ours, same symbol and side, that works or was sent minutes ago; its own siblings may."""
    since = f.now - timedelta(minutes=at.checks.duplicate_minutes)
    for s in f.sent:
        if f.child and s.line_id == f.line_id:
            continue
        if s.symbol == f.symbol and (s.qty > 0) == (f.qty > 0) and (s.working or s.sent_at > since):
            return f"order {s.client_order_id} of {s.qty} {s.symbol} works or was sent at {s.sent_at:%H:%M:%S}"
    return ""


def opposite(f: Facts, _: Limits) -> str:
    """9: an order at the venue that opposes this one (a wash trade), or sells that hold the shares.

    A buy with legs of its own may stand beside the legs of an earlier one: the venue takes that for no wash trade.
    """
    against = [o for o in f.at_venue if o.symbol == f.symbol and (o.qty > 0) != (f.qty > 0)]
    against = [o for o in against if not (f.bracket and o.broker_order_id in f.legs)]
    if against:
        first = against[0]
        if f.qty > 0 and first.broker_order_id in f.legs:
            return (
                f"stop {first.broker_order_id} protects what is held of {f.symbol}, and is not lifted for a buy: give "
                "buys stops of their own (execution.stop_loss_frac), or cancel it at the broker"
            )
        return f"order {first.broker_order_id} of {first.qty} {f.symbol} works at the venue: cancel it first"
    if f.qty < 0:
        selling = sum(selling_groups(f.at_venue, f.symbol).values(), Decimal(0))
        if abs(f.qty) + selling > f.held:
            return f"{f.held} are held, {selling} of them by open sells; {abs(f.qty)} cannot be sold"
    return ""


def selling_groups(at_venue: Iterable[BrokerOrder], symbol: str) -> dict[str, Decimal]:
    """Return the shares that working sells of a symbol hold, by order; legs of a pair share theirs."""
    found: dict[str, Decimal] = {}
    for o in at_venue:
        if o.symbol == symbol and o.qty < 0 and not o.ended:
            key = o.parent_id or o.broker_order_id
            found[key] = max(found.get(key, Decimal(0)), abs(o.qty - o.filled_qty))
    return found


def funds(f: Facts, at: Limits) -> str:
    """10: buying power after open orders, and cash left after everything that works; a short may always be covered."""
    if f.qty < 0 or f.reduces:
        return ""
    if f.account is None or f.account.buying_power is None:
        return "the venue does not say what the buying power is"
    if f.notional > f.account.buying_power:
        return f"notional {f.notional:.2f} is above the buying power {f.account.buying_power:.2f}"
    coming = sum((-s.unpaid * s.ref_price for s in f.sent), Decimal(0))
    left = f.account.cash + coming - f.notional
    if left < _exact(at.checks.min_cash_frac) * f.equity:
        return f"cash after all orders would be {left:.2f}, min_cash_frac asks for {at.checks.min_cash_frac:.2%}"
    return ""


def tradable(f: Facts, at: Limits) -> str:
    """11: not restricted, known to the venue, active, tradable, no shorts, fractions only where allowed and by day."""
    if f.symbol in at.checks.restricted:
        return f"{f.symbol} is on the restricted list"
    if f.asset is None:
        return f"the venue does not know {f.symbol}"
    if not f.asset.tradable or f.asset.status != "active":
        return f"{f.symbol} is {f.asset.status} and {'' if f.asset.tradable else 'not '}tradable"
    if f.qty != f.qty.to_integral_value() and not f.asset.fractionable:
        return f"{f.symbol} is not traded in fractions"
    if f.qty != f.qty.to_integral_value() and f.time_in_force != "day":
        return f"{abs(f.qty)} {f.symbol} is a fraction, which is taken as a day order only, not {f.time_in_force}"
    if f.qty < 0 and f.held + f.qty < 0:
        return f"{f.held} are held: selling {abs(f.qty)} would be short"
    if f.account is not None and (f.account.trading_blocked or f.account.status != "ACTIVE"):
        return f"the account is {f.account.status}{', trading is blocked' if f.account.trading_blocked else ''}"
    return ""


def timing(f: Facts, at: Limits) -> str:
    """12: inside the window, by a clock that agrees with the venue's."""
    if abs(f.skew_s) > at.max_clock_skew_s:
        return f"our clock and the venue's differ by {f.skew_s:.0f} s, max_clock_skew_s is {at.max_clock_skew_s}"
    if not f.window.holds(f.now):
        return f"window {f.window.opens_at:%Y-%m-%d %H:%M} to {f.window.closes_at:%Y-%m-%d %H:%M} UTC"
    return ""


def keys(f: Facts, _: Limits) -> str:
    """13: environment, database and account number agree."""
    return f.keys


def trading_state(f: Facts, _: Limits) -> str:
    """14: HALTED sends nothing, REDUCING only what reduces."""
    if f.state == "HALTED" or (f.state == "REDUCING" and not f.reduces):
        return f"the book is {f.state}"
    return ""


def ready(f: Facts, _: Limits) -> str:
    """15: reconciled and without a break, gate open, sheet approved as it is."""
    return f.clean or f.gate or f.approval


def turnover(f: Facts, at: Limits) -> str:
    """16: a turnover far above the usual one needs a person's approval."""
    if f.usual_turnover is None or f.signed:
        return ""
    times = at.checks.max_turnover_ratio
    if f.turnover > _exact(times) * f.usual_turnover:
        return f"turnover {f.turnover:.2%} is above {times:g} times the usual {f.usual_turnover:.2%}, nobody signed"
    return ""


Check = Callable[[Facts, Limits], str]
CHECKS: tuple[tuple[int, str, Check], ...] = (
    (14, "trading_state", trading_state),
    (13, "live_keys", keys),
    (15, "ready", ready),
    (12, "timing", timing),
    (11, "tradable", tradable),
    (4, "collar", collar),
    (2, "losses", losses),
    (1, "exposure", exposure),
    (3, "size", size),
    (5, "counts", counts),
    (7, "duplicative", duplicative),
    (9, "opposite", opposite),
    (10, "funds", funds),
    (16, "turnover", turnover),
)


def examine(facts: Facts, limits: Limits) -> tuple[Verdict, ...]:
    """Make every check of an order; all verdicts, in the order in which they are made."""
    found = []
    for number, name, check in CHECKS:
        problem = check(facts, limits)
        found.append(Verdict(number=number, name=name, passed=not problem, detail=problem))
    return tuple(found)
