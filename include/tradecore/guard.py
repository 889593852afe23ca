"""The guard: what must hold for one order to be sent now, looked at anew for each; who passes gets a permit.

Rules 5 and 6 of the design: the past never trades, and real money moves only where three keys agree. The permit that is
issued here is looked at again by the broker where the request leaves the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from tradecore import decision, unknowns, waiting
from tradecore.context import SETTLED, Context
from tradecore.execution import checks
from tradecore.execution.broker import Account, Asset, BrokerOrder, Desk, OrderRequest, Permit
from tradecore.execution.checks import Facts, Limits, Sent, Verdict
from tradecore.execution.window import Window
from tradecore.model import HALTED, REDUCING, STATE_NAMES
from tradecore.storage import books, queries
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE, from_quanta

SQL = queries.load("execution")
PPM = 1_000_000
MAY_CHANGE = {"ready", "timing", "opposite", "funds"}  # while the window lasts; another failed check is final
OF_STOPS = {"live_keys", "ready", "timing", "tradable", "opposite"}  # what an order that protects must pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of a sheet, as it will be sent. Quantities in shares, prices in USD; 0 where it has none."""

    client_order_id: str
    symbol: str
    instrument_id: int
    qty: Decimal
    order_type: str
    time_in_force: str
    limit_price: Decimal
    stop_price: Decimal
    take_profit: Decimal
    stop_loss: Decimal
    parent_id: str | None
    child: int
    not_before_at: datetime | None
    ref_price: Decimal
    split: Decimal
    status: str
    protects: bool = False  # in the place of a bracket's legs: no line of the sheet

    @property
    def line_id(self) -> str:
        """The line of the sheet that it belongs to: its parent, or itself."""
        return self.parent_id or self.client_order_id

    def request(self) -> OrderRequest:
        """Return the order as it goes to the venue: decimal shares and dollars."""
        return OrderRequest(
            client_order_id=self.client_order_id,
            symbol=self.symbol,
            qty=self.qty,
            order_type=self.order_type,
            time_in_force=self.time_in_force,
            limit_price=self.limit_price or None,
            stop_price=self.stop_price or None,
            take_profit=self.take_profit or None,
            stop_loss=self.stop_loss or None,
            pair=self.protects and bool(self.stop_loss),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BookFacts:
    """What the book was after settle; nothing of it changes while orders are sent. held: instrument -> quantity, mark,
    bars since the mark."""

    held: dict[int, tuple[Decimal, Decimal, int]]
    volumes: dict[int, Decimal | None]
    equity: Decimal
    daily_return: Decimal
    drawdown: Decimal
    turnover: Decimal
    usual_turnover: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the venue said when a run of submit asked it, and the book.

    left: of each order that the venue had by then, what was not executed; cash and buying power know of the rest.
    by_hand: symbols in which orders work that are not ours. legs: the venue's ids of ours that protect a holding.
    """

    account: Account
    skew_s: float
    assets: dict[str, Asset | None]
    at_venue: tuple[BrokerOrder, ...]
    left: dict[str, Decimal]
    by_hand: frozenset[str]
    legs: frozenset[str]
    hours: str
    book: BookFacts

    def with_order(self, order: BrokerOrder) -> Scene:
        """Return the scene with an order that was just sent."""
        return self.seeing((*self.at_venue, order))

    def seeing(self, at_venue: tuple[BrokerOrder, ...], legs: frozenset[str] = frozenset()) -> Scene:
        """Return the scene with other orders at the venue, and further legs."""
        return replace(self, at_venue=at_venue, legs=self.legs | legs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the guard says of one order: a permit, or why not and whether that may still change."""

    verdicts: tuple[Verdict, ...]
    permit: Permit | None
    refusal: str = ""
    final: bool = False


def sheet(ctx: Context) -> list[Order]:
    """Return the orders of the newest sheet that are sent by themselves, in sending order."""
    due = ctx.calendar.session_of(ctx.next_bar_end)  # a name that changes overnight is sent as it is called then
    rows = ctx.conn.execute(
        SQL["sheet_orders"], {"book": ctx.book, "bar_end": ctx.bar_end_at, "session": due}
    ).fetchall()
    found = []
    for row in rows:
        qty, prices = from_quanta(row[3], QTY_SCALE), [from_quanta(p, PRICE_SCALE) for p in (*row[6:10], row[13])]
        found.append(
            Order(
                client_order_id=row[0],
                symbol=row[1],
                instrument_id=row[2],
                qty=qty,
                order_type=row[4],
                time_in_force=row[5],
                limit_price=prices[0],
                stop_price=prices[1],
                take_profit=prices[2],
                stop_loss=prices[3],
                parent_id=row[10],
                child=row[11],
                not_before_at=row[12],
                ref_price=prices[4],
                split=Decimal(row[14]) / row[15],
                status=row[17],
            )
        )
    return found


def refusal(ctx: Context) -> str:
    """Return why nothing of the newest sheet may be sent, or '': state, gate, approval and the next bar, read anew."""
    if ctx.status(ctx.next_bar_end) in SETTLED:
        return "window_passed"
    if not decision.gate(ctx)[0]:
        return "gate_closed"
    if approval(ctx) not in ("approved", "not_required"):
        return "not_approved"
    return "halted" if state(ctx) == "HALTED" else ""


def approval(ctx: Context) -> str:
    """Return the verdict on the newest sheet as it is: '' while nobody has signed, 'voided' for another sheet's.

    What needed nobody by the configuration of its time needs somebody once a signature is asked for.
    """
    last = decision.newest(ctx)
    if last is None or last[2] is None:
        return ""
    row = ctx.conn.execute(decision.SQL["approval"], (*ctx.key, last[0])).fetchone()
    if row is None or decision.needs_person(ctx, row):
        return ""
    return str(row[1]) if row[0] == last[2] else "voided"


def state(ctx: Context) -> str:
    """Return the trading state in force for sending: the book's, or what was ordered since for the next bar."""
    row = ctx.conn.execute(books.SQL["state"], ctx.key).fetchone()
    ordered = ctx.conn.execute(books.SQL["person_state"], (ctx.book, ctx.next_bar_end)).fetchone()
    known = [int(row[7]) if row else HALTED, int(ordered[0]) if ordered else 0]
    return STATE_NAMES[HALTED if HALTED in known else REDUCING if REDUCING in known else 0]


def live_keys(ctx: Context, account: Account | None, *, live: bool) -> str:
    """Return which of the keys of this book's account do not agree, or ''."""
    row = ctx.conn.execute(SQL["broker_account"], (ctx.record.account,)).fetchone()
    if row is None:
        return f"account {ctx.record.account} is not known: python -m tradecore init opens the book at its broker"
    if account is None:
        return "the broker does not report its account"
    if account.account_number != row[0]:
        return f"the broker reports account {account.account_number}, the book belongs to {row[0]}"
    if live != (ctx.record.kind == "alpaca-live"):
        return f"the book is {ctx.record.kind}, the address is {'live' if live else 'paper'}"
    if not live:
        return ""
    missing = []
    if ctx.settings.paper_trading or ctx.settings.demo_mode:
        missing.append("the environment says PAPER_TRADING or DEMO_MODE")
    if not row[1]:
        missing.append("the database's flag is off (python -m tradecore live enable)")
    return f"live trading stays off: {', '.join(missing)}" if missing else ""


def survey(ctx: Context, desk: Desk, orders: Sequence[Order]) -> Scene:
    """Ask the venue for all that the checks need, and read what the book was after settle. Raises Unavailable."""
    broker = desk.broker
    asked_at = desk.clock()
    venue_clock = broker.clock()
    answered_at = desk.clock()
    middle = asked_at + (answered_at - asked_at) / 2
    account = broker.account()
    assets = dict(broker.assets(list(dict.fromkeys(o.symbol for o in orders))))
    reached = [str(r[0]) for r in ctx.conn.execute(SQL["reached"], (ctx.book,)).fetchall()]
    working = unknowns.with_parents(ctx, (o for o in broker.orders_since(answered_at) if not o.ended))
    left = {o.client_order_id: o.qty - o.filled_qty for o in working}
    own = {o.broker_order_id for o in unknowns.ours(ctx, working)}
    legs = frozenset(o.broker_order_id for o in working if o.broker_order_id in own and unknowns.protects(ctx, o))
    ctx.conn.rollback()
    due = ctx.calendar.session_of(ctx.next_bar_end)
    hours = [h for h in broker.sessions(due, due) if h.session_date == due]
    ours = ctx.calendar.session(due)
    differs = not hours or (hours[0].open_at, hours[0].close_at) != (ours.open_at, ours.close_at)
    said = f"{hours[0].open_at} to {hours[0].close_at}" if hours else "no session"
    return Scene(
        account=account,
        skew_s=(middle - venue_clock.now_at).total_seconds(),
        assets=assets,
        at_venue=working,
        left={order_id: left.get(order_id, Decimal(0)) for order_id in reached},
        by_hand=frozenset(o.symbol for o in working if o.broker_order_id not in own),
        legs=legs,
        hours=f"the venue's calendar says {said} for {due}, ours {ours.open_at} to {ours.close_at}" if differs else "",
        book=_book_facts(ctx, orders),
    )


def _book_facts(ctx: Context, orders: Sequence[Order]) -> BookFacts:
    rows = ctx.conn.execute(SQL["held"], ctx.key).fetchall()
    volumes = ctx.conn.execute(
        SQL["volumes"],
        {
            "instruments": [o.instrument_id for o in orders],
            "timeframe": ctx.record.timeframe,
            "source": ctx.record.source,
            "bar_end": ctx.bar_end_at,
        },
    ).fetchall()
    equity = ctx.conn.execute(books.SQL["state"], ctx.key).fetchone()
    day = ctx.conn.execute(SQL["snapshot"], ctx.key).fetchone() or (0, 0, 0)
    usual = ctx.conn.execute(SQL["usual_turnover"], {"book": ctx.book, "bar_end": ctx.bar_end_at}).fetchone()
    ctx.conn.rollback()
    return BookFacts(
        held={r[0]: (from_quanta(r[1], QTY_SCALE), from_quanta(r[2], PRICE_SCALE), int(r[3])) for r in rows},
        volumes={r[0]: None if r[1] is None else Decimal(r[1]) for r in volumes},
        equity=from_quanta(equity[1], MONEY_SCALE) if equity else Decimal(0),
        daily_return=Decimal(day[0]) / PPM,
        drawdown=Decimal(day[1]) / PPM,
        turnover=Decimal(day[2]) / PPM,
        usual_turnover=Decimal(str(usual[0])) / PPM if usual and usual[0] is not None else None,
    )


def examine(ctx: Context, desk: Desk, scene: Scene, order: Order, run_size: int) -> Ruling:
    """Rule on one order, in the transaction that will commit SUBMITTING: every check, then a permit."""
    facts = _facts(ctx, desk, scene, order, run_size)
    trading = ctx.settings.trading
    limits = Limits(
        risk=trading.risk, checks=trading.execution.checks, max_clock_skew_s=trading.execution.max_clock_skew_s
    )
    verdicts = checks.examine(facts, limits)
    failed = [v for v in verdicts if not v.passed]
    if failed:
        first = failed[0]
        final = any(v.name not in MAY_CHANGE for v in failed) or facts.window.passed(facts.now)
        final = final or approval(ctx) in ("rejected", "expired", "voided")
        return Ruling(
            verdicts=verdicts, permit=None, refusal=f"check {first.number}, {first.name}: {first.detail}", final=final
        )
    permit = Permit(
        client_order_id=order.client_order_id,
        account_number=scene.account.account_number,
        live=desk.broker.live,
        not_before=facts.window.opens_at,
        not_after=facts.window.closes_at,
    )
    return Ruling(verdicts=verdicts, permit=permit)


def examine_stop(ctx: Context, desk: Desk, scene: Scene, order: Order) -> Ruling:
    """Rule on an order that takes the place of lifted stops: of the sheet's checks those that a protection must pass.

    It needs no window of the sheet's style, no signature, no ACTIVE book: what it restores was signed with the entry,
    and a halt leaves stops at work. It may leave until the next bar ends, never later.
    """
    execution = ctx.settings.trading.execution
    until = ctx.next_bar_end - timedelta(seconds=execution.window_margin_s)
    window = Window(opens_at=ctx.bar_end_at, closes_at=until)
    facts = replace(_facts(ctx, desk, scene, order, 1), gate="", approval="", window=window)
    limits = Limits(
        risk=ctx.settings.trading.risk, checks=execution.checks, max_clock_skew_s=execution.max_clock_skew_s
    )
    verdicts = tuple(v for v in checks.examine(facts, limits) if v.name in OF_STOPS)
    failed = [v for v in verdicts if not v.passed]
    if failed:
        final = any(v.name not in MAY_CHANGE for v in failed) or window.passed(facts.now)
        said = f"check {failed[0].number}, {failed[0].name}: {failed[0].detail}"
        return Ruling(verdicts=verdicts, permit=None, refusal=said, final=final)
    permit = Permit(
        client_order_id=order.client_order_id,
        account_number=scene.account.account_number,
        live=desk.broker.live,
        not_before=window.opens_at,
        not_after=window.closes_at,
    )
    return Ruling(verdicts=verdicts, permit=permit)


def _facts(ctx: Context, desk: Desk, scene: Scene, order: Order, run_size: int) -> Facts:
    sent, of_parent = _sent(ctx, scene, order)
    qty, _, stale = scene.book.held.get(order.instrument_id, (Decimal(0), Decimal(0), 0))
    volume = scene.book.volumes.get(order.instrument_id)
    verdict = approval(ctx)
    return Facts(
        now=desk.clock(),
        client_order_id=order.client_order_id,
        line_id=order.line_id,
        symbol=order.symbol,
        qty=order.qty,
        parent_qty=_parent_qty(ctx, order),
        child=order.child > 0,
        sent_of_parent=of_parent[0],
        children=of_parent[1] + 1,
        ref_price=order.ref_price or None,
        ref_age_sessions=stale,
        limit_price=order.limit_price or None,
        held=qty * order.split,
        gross=sum((abs(q) * mark for q, mark, _ in scene.book.held.values()), Decimal(0)),
        equity=scene.book.equity,
        daily_return=scene.book.daily_return,
        drawdown=scene.book.drawdown,
        volume_20=volume * order.split if volume is not None else None,
        orders_in_run=run_size,
        sent=sent,
        at_venue=scene.at_venue,
        time_in_force=order.time_in_force,
        bracket=order.qty > 0 and bool(order.take_profit or order.stop_loss),
        legs=scene.legs,
        account=scene.account,
        asset=scene.assets.get(order.symbol),
        window=waiting.window(ctx),
        skew_s=scene.skew_s,
        keys=live_keys(ctx, scene.account, live=desk.broker.live),
        state=state(ctx),
        clean=scene.hours or _clean(ctx, scene, order),
        gate="" if decision.gate(ctx)[0] else "the data gate is closed",
        approval="" if verdict in ("approved", "not_required") else f"the sheet is {verdict or 'not approved yet'}",
        signed=verdict == "approved",
        turnover=scene.book.turnover,
        usual_turnover=scene.book.usual_turnover,
    )


def _sent(ctx: Context, scene: Scene, order: Order) -> tuple[tuple[Sent, ...], tuple[Decimal, int]]:
    rows = ctx.conn.execute(SQL["sent"], {"book": ctx.book, "bar_end": ctx.bar_end_at}).fetchall()
    found = tuple(
        Sent(
            client_order_id=r[0],
            symbol=r[1],
            qty=from_quanta(r[2], QTY_SCALE),
            remaining=from_quanta(r[3], QTY_SCALE),
            unpaid=scene.left.get(r[0], from_quanta(r[3], QTY_SCALE)) if r[6] else Decimal(0),
            ref_price=from_quanta(r[4], PRICE_SCALE),
            sent_at=r[5],
            working=bool(r[6]),
            child=bool(r[7]),
            line_id=str(r[8] or r[0]),
        )
        for r in rows
        if r[0] != order.client_order_id
    )
    mine = [r for r in rows if order.parent_id and r[8] == order.parent_id and r[0] != order.client_order_id]
    return found, (sum((from_quanta(r[2], QTY_SCALE) for r in mine), Decimal(0)), len(mine))


def _parent_qty(ctx: Context, order: Order) -> Decimal:
    if order.parent_id is None:
        return order.qty
    row = ctx.conn.execute("SELECT order_qty_e6 FROM intents WHERE client_order_id = %s", (order.parent_id,)).fetchone()
    return from_quanta(row[0], QTY_SCALE) if row else Decimal(0)


def _clean(ctx: Context, scene: Scene, order: Order) -> str:
    breaks = ctx.conn.execute(SQL["open_breaks"], (ctx.book,)).fetchone()
    if breaks and breaks[0]:
        return f"{breaks[0]} open break(s): python -m tradecore breaks"
    look = ctx.conn.execute(SQL["reconciled"], ctx.key).fetchone()
    if look is None or not look[1]:
        return "the book was not reconciled with the broker at this session"
    if not look[0]:
        return "the session is not the venue's last one: nothing to compare with"
    adopted = {r[0] for r in ctx.conn.execute(SQL["adopted_working"], (ctx.book,)).fetchall()}
    if order.symbol in adopted | scene.by_hand:
        return f"an order placed by hand works in {order.symbol}"
    if order.protects:  # by the venue's own positions: what was executed is known
        return ""
    if ctx.conn.execute(SQL["stopped"], {"book": ctx.book, "symbol": order.symbol}).fetchone() is not None:
        return f"a stop of {order.symbol} was executed after this sheet was made, which did not know of it"
    key = {"book": ctx.book, "bar_end": ctx.bar_end_at, "instrument": order.instrument_id}
    for replaced, works in ctx.conn.execute(SQL["replaced"], key).fetchall():
        what = "still works" if works else "was executed after this sheet was made, which did not know of it"
        return f"order {replaced}, which this one replaces, {what}"
    return ""
