"""A sell of a part, or a buy of more, in a name whose stops work at the venue: what is kept has a stop all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from real_book import SESSIONS, RealBook

from alpaca_standin.state import Order, State
from tradecore import cancelling, guard, interventions, pipeline, protection, submission
from tradecore.errors import Rejected, Unavailable
from tradecore.execution.broker import BrokerOrder, OrderRequest, Permit
from tradecore.storage import migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
DAY, NEXT, THIRD, FOURTH = date(2005, 2, 2), date(2005, 2, 3), date(2005, 2, 4), date(2005, 2, 7)
SOLD = 5
CLOSE = SESSIONS.on(NEXT).close_at


@dataclass(frozen=True)
class Made:
    """A database and what its venue was then."""

    url: str
    state: State
    now: datetime
    execution: dict[str, Any]


@pytest.fixture(scope="module", params=[None, 0.5], ids=["stop", "stop and profit"])
def made(
    request: pytest.FixtureRequest,
    make_database: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Made]:
    """A book whose holdings have legs at the venue, the morning after; NEXT has decided for THIRD."""
    execution = {"stop_loss_frac": 0.2, "take_profit_frac": request.param, "order_style": "market"}
    with make_database() as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
            book = RealBook(tmp_path_factory.mktemp("made"), url, conn, execution=execution)
            book.open(DAY)
            book.decide(DAY)
            book.to(NEXT, 9, 40)
            assert book.stage("submit", DAY)["sent"]
            book.decide(NEXT)
        yield Made(url=url, state=book.venue.state, now=book.hands.now, execution=execution)


@pytest.fixture
def protected(
    made: Made, copied_database: Callable[[str], AbstractContextManager[str]], tmp_path: Path
) -> Iterator[RealBook]:
    """A copy of it; NEXT's sheet has beside its own lines what the test writes into it."""
    with copied_database(made.url) as url, connect(url) as conn:
        book = RealBook(tmp_path, url, conn, execution=made.execution)
        book.venue.take(deepcopy(made.state))
        book.to(THIRD, 9, 40)
        yield book


def held(book: RealBook) -> tuple[str, Decimal]:
    """A name that the account holds, and how much."""
    return next((s, h.qty) for s, h in sorted(book.venue.state.holdings.items()) if h.qty > SOLD)


def ordered(
    book: RealBook, symbol: str, qty: Decimal, *, stop_e4: int = 0, order_id: str = "tc-test", epoch: int = 7
) -> str:
    """Write another line into NEXT's sheet."""
    book.conn.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object('client_order_id', %s::text,"
        " 'bar_end_at', %s::timestamptz, 'next_bar_end_at', %s::timestamptz, 'epoch', %s::int, 'line_no', 700,"
        " 'order_qty_e6', %s::bigint, 'stop_loss_e4', %s::bigint, 'take_profit_e4', 0, 'order_type', 'market',"
        " 'time_in_force', %s::text))).* FROM intents i JOIN instrument_symbols s USING (instrument_id)"
        " WHERE s.symbol = %s AND i.leg = 0 LIMIT 1",
        (
            order_id,
            SESSIONS.on(NEXT).close_at,
            SESSIONS.on(THIRD).close_at,
            epoch,
            int(qty * 1_000_000),
            stop_e4,
            "gtc" if stop_e4 else "day",
            symbol,
        ),
    )
    book.conn.execute(
        "INSERT INTO order_events VALUES (%s, 1, 'PLANNED', %s, now(), '')", (order_id, SESSIONS.on(NEXT).close_at)
    )
    book.conn.commit()
    return order_id


def working(book: RealBook, symbol: str, side: str = "sell") -> list[Order]:
    return [o for o in book.venue.state.open_orders(symbol) if o.side == side]


def covered(book: RealBook, symbol: str) -> Decimal:
    """Shares that a stop protects at the venue."""
    return sum((o.remaining_qty for o in working(book, symbol) if o.stop_price is not None), Decimal(0))


def alerts(book: RealBook, kind: str) -> list[str]:
    found = book.conn.execute("SELECT title FROM alerts WHERE kind = %s", (kind,)).fetchall()
    book.conn.rollback()
    return [r[0] for r in found]


def without_stops(book: RealBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue takes everything but stops, until monkeypatch is undone."""
    send = book.desk.broker.submit

    def down(order: OrderRequest, permit: Permit) -> BrokerOrder:
        if order.stop_price is not None or order.stop_loss is not None:
            raise Unavailable("No connection: nothing was sent.")
        return send(order, permit)

    monkeypatch.setattr(book.desk.broker, "submit", down)


def stops_of(book: RealBook, symbol: str) -> list[tuple[int, str, str]]:
    """(shares, status, its detail) of the stops that were planned for a name, in their order."""
    rows = book.conn.execute(
        "SELECT abs(o.order_qty_e6) / 1000000, o.status, o.status_detail FROM orders o"
        " JOIN instrument_symbols s USING (instrument_id) WHERE s.symbol = %s AND o.leg > 0"
        " ORDER BY o.bar_end_at, o.line_no",
        (symbol,),
    ).fetchall()
    book.conn.rollback()
    return [(int(r[0]), r[1], r[2]) for r in rows]


def test_a_sell_of_a_part_leaves_stops_on_the_rest_and_they_are_there_before_it(protected: RealBook):
    symbol, qty = held(protected)
    legs = working(protected, symbol)
    prices = {(o.stop_price, o.limit_price) for o in legs}
    assert covered(protected, symbol) == qty, "not exercised: the holding has no stop"
    sell = ordered(protected, symbol, Decimal(-SOLD))
    assert protected.stage("submit", NEXT)["done"]
    assert protected.history(sell)[:3] == ["PLANNED", "SUBMITTING", "ACKED"]
    assert covered(protected, symbol) == qty - SOLD
    kept = [o for o in working(protected, symbol) if o.client_order_id != sell]
    assert {(o.stop_price, o.limit_price) for o in kept} == prices
    assert not {o.id for o in legs} & {o.id for o in kept}, "the legs hold the shares: they had to end"
    orders = protected.venue.state.orders
    places = list(orders)
    selling = next(key for key, o in orders.items() if o.client_order_id == sell)
    assert max(places.index(o.id) for o in kept) < places.index(selling)
    posts = dict(protected.posts)
    assert set(posts.values()) == {1}
    protected.stage("submit", NEXT)  # again: nothing more
    assert protected.posts == posts


def test_what_stands_in_the_place_of_legs_is_no_order_of_the_book_and_its_fill_is_booked(protected: RealBook):
    """The next plan does not count it, reconciliation agrees, and when it fills it closes the holding."""
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    protected.stage("submit", NEXT)
    planned = protected.decide(THIRD)
    assert not [s for s, _, _, _ in protected.orders(THIRD) if s == symbol], planned
    row = protected.conn.execute("SELECT count(*) FROM breaks WHERE status = 'open'").fetchone()
    assert row == (0,)
    stop = next(o for o in working(protected, symbol) if o.stop_price is not None)
    protected.to(FOURTH, 9, 40)
    assert protected.stage("submit", THIRD)["done"]
    stop.stop_price = Decimal(10_000)  # the price falls through it, as it were
    protected.decide(FOURTH)
    assert stop.status == "filled", "not exercised: the stop did not trade"
    sold = protected.conn.execute(
        "SELECT sum(f.qty_e6) FROM fills f JOIN instrument_symbols s USING (instrument_id)"
        " WHERE s.symbol = %s AND f.qty_e6 < 0",
        (symbol,),
    ).fetchone()
    assert sold == (-int(qty * 1_000_000),)
    row = protected.conn.execute("SELECT count(*) FROM breaks WHERE status = 'open'").fetchone()
    assert row == (0,)


@pytest.mark.parametrize("crash", ["before the legs end", "before the stop is sent", "its answer is lost"])
def test_a_process_that_dies_in_between_is_made_good_by_the_next(
    protected: RealBook, crash: str, monkeypatch: pytest.MonkeyPatch
):
    symbol, qty = held(protected)
    sell = ordered(protected, symbol, Decimal(-SOLD))
    send = protected.desk.broker.submit

    def dies(*_: object) -> None:
        raise SystemExit("killed")

    def sent_and_dies(order: OrderRequest, permit: Permit) -> BrokerOrder:
        send(order, permit)
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        if crash == "before the legs end":
            patch.setattr(cancelling, "end", dies)
        else:
            patch.setattr(protected.desk.broker, "submit", dies if "stop" in crash else sent_and_dies)
        with pytest.raises(SystemExit):
            protected.stage("submit", NEXT)
    protected.conn.rollback()
    for _ in range(4):
        if protected.stage("submit", NEXT).get("done"):
            break
        protected.hands.sleep(30)
    assert protected.history(sell)[-1] in ("ACKED", "FILLED")
    assert covered(protected, symbol) == qty - SOLD
    assert set(protected.posts.values()) <= {1, 2}, "sent again only with the same id"
    assert protected.accepted == len(protected.venue.state.counters.accepted)


def test_a_sale_of_a_part_that_is_refused_gives_its_shares_a_stop_as_well(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    """The pair that was just placed for the rest is not counted twice, and none of it is anybody else's."""
    symbol, qty = held(protected)
    sell = ordered(protected, symbol, Decimal(-SOLD))
    protected.faults("403_wash", client_order_id=sell)
    send = protected.desk.broker.submit

    def takes_a_while(order: OrderRequest, permit: Permit) -> BrokerOrder:
        found = send(order, permit)
        protected.hands.now += timedelta(seconds=5)  # later, a list of what works does not say whose leg it is
        return found

    monkeypatch.setattr(protected.desk.broker, "submit", takes_a_while)
    assert protected.stage("submit", NEXT)["done"]
    assert protected.history(sell)[-1] == "REJECTED", "not exercised"
    assert [n for n, _, _ in stops_of(protected, symbol)] == [qty - SOLD, SOLD]
    assert covered(protected, symbol) == qty
    assert not alerts(protected, "adopted")


def test_a_sale_of_all_that_is_refused_gives_the_holding_its_stop_back(protected: RealBook):
    symbol, qty = held(protected)
    sell = ordered(protected, symbol, -qty)
    protected.faults("403_wash", client_order_id=sell)
    assert protected.stage("submit", NEXT)["done"]
    assert protected.history(sell)[-1] == "REJECTED", "not exercised"
    assert covered(protected, symbol) == qty


def test_a_sale_of_all_that_filled_leaves_no_stop(protected: RealBook):
    symbol, qty = held(protected)
    ordered(protected, symbol, -qty)
    assert protected.stage("submit", NEXT)["done"]
    protected.hands.now += timedelta(minutes=10)
    protected.venue.advance(protected.hands.now)
    assert symbol not in protected.venue.state.holdings, "not exercised"
    protected.stage("submit", NEXT)
    assert not working(protected, symbol)


def test_a_stop_that_cannot_be_placed_is_told_and_the_bar_waits_for_it(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, _ = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    without_stops(protected, monkeypatch)
    assert "nothing was sent" in str(protected.stage("submit", NEXT)["waiting"]).lower()
    assert covered(protected, symbol) == 0, "not exercised"
    protected.hands.now = SESSIONS.on(THIRD).close_at - timedelta(seconds=30)
    assert protected.stage("submit", NEXT)["done"]
    assert any("held without a stop" in title for title in alerts(protected, "unprotected"))
    monkeypatch.undo()
    protected.decide(THIRD)
    protected.to(FOURTH, 9, 40)
    protected.stage("submit", THIRD)
    assert covered(protected, symbol) == protected.venue.state.holdings[symbol].qty


@pytest.mark.parametrize("how", ["fewer are held", "a person sells"])
def test_a_stop_that_waited_is_sent_by_what_the_venue_has_by_then(
    protected: RealBook, how: str, monkeypatch: pytest.MonkeyPatch
):
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    without_stops(protected, monkeypatch)
    protected.stage("submit", NEXT)
    assert [(n, status) for n, status, _ in stops_of(protected, symbol)] == [(qty - SOLD, "APPROVED")], "not exercised"
    protected.hands.now += timedelta(minutes=10)
    protected.venue.advance(protected.hands.now)
    assert protected.venue.state.holdings[symbol].qty == qty - SOLD, "not exercised: the sell did not fill"
    monkeypatch.undo()
    if how == "fewer are held":
        protected.venue.state.holdings[symbol].qty -= 2
    else:
        by_hand = {"side": "sell", "type": "limit", "limit_price": "9000", "time_in_force": "gtc"}
        protected.venue.place_by_hand({**by_hand, "symbol": symbol, "qty": 2})
    protected.stage("submit", NEXT)
    planned = stops_of(protected, symbol)
    assert [n for n, _, _ in planned] == [qty - SOLD, qty - SOLD - 2]
    assert planned[0][1] == "NOT_SENT"
    assert planned[0][2].startswith("planned anew")


def test_what_fills_while_the_venue_is_read_leaves_no_stop_too_many(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    """Had the positions been read before the orders, it would be in neither."""
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    without_stops(protected, monkeypatch)
    protected.stage("submit", NEXT)
    monkeypatch.undo()
    protected.hands.now += timedelta(minutes=10)
    protected.venue.advance(protected.hands.now)
    by_hand = {"side": "sell", "type": "limit", "limit_price": "9000", "time_in_force": "day"}
    protected.venue.place_by_hand({**by_hand, "symbol": symbol, "qty": 2})
    read = protected.desk.broker.positions

    def fills_then() -> object:
        found = read()
        for order in working(protected, symbol):  # it fills, as it were
            protected.venue.cancel_by_hand(order.id)
            protected.venue.state.holdings[symbol].qty -= 2
        return found

    monkeypatch.setattr(protected.desk.broker, "positions", fills_then)
    submission.keep_stops(protected.context(NEXT))
    assert protected.venue.state.holdings[symbol].qty == qty - SOLD - 2, "not exercised"
    assert [n for n, _, _ in stops_of(protected, symbol)] == [qty - SOLD, qty - SOLD - 2]


def test_a_stop_that_is_refused_is_asked_for_and_told_once_a_session(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    send, refused = protected.desk.broker.submit, []

    def refuses(order: OrderRequest, permit: Permit) -> BrokerOrder:
        if order.stop_price is not None or order.stop_loss is not None:
            refused.append(order)
            raise Rejected("stop price is not below the market", code="other")
        return send(order, permit)

    monkeypatch.setattr(protected.desk.broker, "submit", refuses)
    for _ in range(3):
        protected.stage("submit", NEXT)
        protected.conn.execute("UPDATE bar_runs SET status = 'decided' WHERE bar_end_at = %s", (CLOSE,))
        protected.conn.commit()
    assert len(refused) == 1
    assert len([title for title in alerts(protected, "unprotected") if symbol in title]) == 1
    monkeypatch.undo()
    protected.stage("submit", NEXT)
    protected.decide(THIRD)
    protected.to(FOURTH, 9, 40)
    protected.stage("submit", THIRD)
    assert covered(protected, symbol) == qty - SOLD


def test_a_stop_that_a_person_cancels_before_it_is_sent_stays_cancelled(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, _ = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    without_stops(protected, monkeypatch)
    protected.stage("submit", NEXT)
    row = protected.conn.execute("SELECT client_order_id FROM orders WHERE leg > 0 AND status = 'APPROVED'").fetchone()
    assert row is not None
    interventions.cancel(protected.context(NEXT), row[0], "a trader")
    monkeypatch.undo()
    assert protected.stage("submit", NEXT)["done"]
    protected.decide(THIRD)
    protected.to(FOURTH, 9, 40)
    protected.stage("submit", THIRD)
    assert [status for _, status, _ in stops_of(protected, symbol)] == ["NOT_SENT"]
    assert covered(protected, symbol) == 0


def test_legs_that_are_lifted_again_for_the_same_sell_are_written_down_once(protected: RealBook):
    """Also where more or fewer shares are held beside them by then."""
    symbol, _ = held(protected)
    legs = working(protected, symbol)
    sell = ordered(protected, symbol, Decimal(-SOLD))
    ctx = protected.context(NEXT)
    order = next(o for o in guard.sheet(ctx) if o.client_order_id == sell)
    at_venue = [
        o for o in protected.desk.broker.orders_since(ctx.bar_end_at) if o.broker_order_id in {o.id for o in legs}
    ]
    assert at_venue, "not exercised"
    for free in (Decimal(0), Decimal(3)):
        protection.lift(ctx, order, [at_venue], free)
    assert len([one for one in protection.lifts(ctx) if one.sell_id == sell]) == 1


def left_without(book: RealBook, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Decimal]:
    """Let NEXT end with a holding whose stops were lifted and not replaced; return it, and how much is kept."""
    symbol, qty = held(book)
    ordered(book, symbol, Decimal(-SOLD))
    without_stops(book, monkeypatch)
    book.stage("submit", NEXT)
    book.hands.now = SESSIONS.on(THIRD).close_at - timedelta(seconds=30)
    assert book.stage("submit", NEXT)["done"]
    monkeypatch.undo()
    assert covered(book, symbol) == 0, "not exercised"
    return symbol, qty - SOLD


def test_missing_stops_are_restored_before_anybody_has_signed(protected: RealBook, monkeypatch: pytest.MonkeyPatch):
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    without_stops(protected, monkeypatch)
    protected.stage("submit", NEXT)
    monkeypatch.undo()
    assert covered(protected, symbol) == 0, "not exercised"
    ordered(protected, symbol, Decimal(1), order_id="tc-unsigned", epoch=8)
    protected.conn.execute("DELETE FROM approvals WHERE bar_end_at = %s", (CLOSE,))
    protected.conn.commit()
    trading = protected.settings.trading
    execution = trading.execution.model_copy(update={"approval_required": True})
    signed = {"trading": trading.model_copy(update={"execution": execution})}
    protected.settings = protected.settings.model_copy(update=signed)
    assert "a person's answer" in str(protected.stage("submit", NEXT)["waiting"])
    assert covered(protected, symbol) == qty - SOLD
    posted = dict(protected.posts)
    assert "tc-unsigned" not in posted
    assert protected.stage("approve", NEXT)["approval"] == "pending"
    assert protected.posts == posted


def test_a_bar_without_a_decision_tells_of_what_is_held_without_a_stop(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, kept = left_without(protected, monkeypatch)
    protected.hands.now = SESSIONS.on(THIRD).close_at + timedelta(minutes=30)
    for name in ("ingest", "validate", "settle"):
        protected.stage(name, THIRD)
    assert protected.stage("submit", THIRD)["reason"] == "no decision"
    for _ in range(2):
        assert protected.stage("close", THIRD)["outcome"] == "settled, no decision"
    said = [title for title in alerts(protected, "unprotected") if title == f"{kept} {symbol} are held without a stop"]
    assert len(said) == 2, "one of NEXT's end, one of THIRD"


def splits(book: RealBook, symbol: str, kind: str, *, withdrawn: bool = False) -> None:
    book.conn.execute(
        "INSERT INTO corporate_actions (instrument_id, ex_date, kind, source, known_at, known_at_assumed, ratio_num,"
        " ratio_den, withdrawn) SELECT s.instrument_id, %s, %s, b.source, clock_timestamp(), false, 2, 1, %s"
        " FROM instrument_symbols s, books b WHERE s.symbol = %s",
        (THIRD, kind, withdrawn, symbol),
    )
    book.conn.commit()


@pytest.mark.parametrize("kind", ["split", "stock_dividend"])
def test_across_the_split_of_the_session_that_comes_no_old_price_becomes_a_stop(protected: RealBook, kind: str):
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    splits(protected, symbol, kind)
    protected.stage("submit", NEXT)
    assert covered(protected, symbol) == 0, "not exercised: no leg was lifted"
    assert not stops_of(protected, symbol)
    assert f"{qty - SOLD} {symbol} are held without a stop" in alerts(protected, "unprotected")


def test_a_split_that_was_withdrawn_does_not_keep_a_stop_away(protected: RealBook):
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    splits(protected, symbol, "split")
    splits(protected, symbol, "split", withdrawn=True)
    protected.stage("submit", NEXT)
    assert covered(protected, symbol) == qty - SOLD


def test_a_stop_that_a_person_cancels_at_the_broker_stays_cancelled(protected: RealBook):
    symbol, _ = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    assert protected.stage("submit", NEXT)["done"]
    protected.decide(THIRD)
    for order in working(protected, symbol):
        if order.is_open:  # the other one of a pair has ended with it
            protected.venue.cancel_by_hand(order.id)
    protected.to(FOURTH, 9, 40)
    protected.stage("submit", THIRD)
    assert covered(protected, symbol) == 0


def test_a_buy_with_stops_of_its_own_stands_beside_those_that_work(protected: RealBook):
    symbol, qty = held(protected)
    legs = {o.id for o in working(protected, symbol)}
    stop_e4 = int(min(o.stop_price for o in working(protected, symbol) if o.stop_price is not None) * 10_000)
    buy = ordered(protected, symbol, Decimal(SOLD), stop_e4=stop_e4)
    assert protected.stage("submit", NEXT)["done"]
    assert protected.history(buy)[-1] in ("ACKED", "FILLED")
    protected.hands.now += timedelta(minutes=10)
    protected.venue.advance(protected.hands.now)
    assert legs < {o.id for o in working(protected, symbol)}
    assert covered(protected, symbol) == qty + SOLD == protected.venue.state.holdings[symbol].qty


def test_a_buy_without_stops_does_not_lift_those_that_work(protected: RealBook):
    symbol, _ = held(protected)
    legs = {o.id for o in working(protected, symbol)}
    buy = ordered(protected, symbol, Decimal(SOLD))
    assert "is not lifted for a buy" in str(protected.stage("submit", NEXT)["waiting"])
    assert {o.id for o in working(protected, symbol)} == legs
    assert buy not in protected.posts


def venue_ends(book: RealBook, symbol: str) -> None:
    """The stops of a name end at the venue, unfilled, and nobody here asked for it."""
    for order in working(book, symbol):
        if order.is_open:  # the other one of a pair ends with it
            book.venue.cancel_by_hand(order.id)
    assert covered(book, symbol) == 0, "not exercised"


def settled(book: RealBook, day: date) -> None:
    book.hands.now = SESSIONS.on(day).close_at + timedelta(minutes=30)
    before = SESSIONS.previous_close(SESSIONS.on(day).open_at).label
    pipeline.close(book.context(before), failed=["test"])
    for name in ("ingest", "validate", "settle"):
        book.stage(name, day)


def test_a_stop_that_the_venue_ends_is_told_at_every_session_until_there_is_one_again(protected: RealBook):
    symbol, qty = held(protected)
    venue_ends(protected, symbol)
    for day in (THIRD, FOURTH):
        settled(protected, day)
        protected.stage("settle", day)
    title = f"{qty} {symbol} are held without a stop"
    assert alerts(protected, "unprotected") == [title, title], "once a session, and of this name alone"
    sent = protected.conn.execute(
        "SELECT DISTINCT d.status FROM alert_deliveries d JOIN alerts a USING (alert_id) WHERE a.kind = 'unprotected'"
    ).fetchall()
    assert sent == [("sent",)], "through the outbox"
    assert not alerts(protected, "protected")
    by_hand = {"side": "sell", "type": "stop", "stop_price": "1", "time_in_force": "gtc"}
    protected.venue.place_by_hand({**by_hand, "symbol": symbol, "qty": str(qty)})
    settled(protected, date(2005, 2, 8))
    assert alerts(protected, "unprotected") == [title, title]
    assert alerts(protected, "protected") == [f"{symbol} has its stop again"]


def test_a_take_profit_alone_is_no_stop(protected: RealBook):
    """The venue ended one order of the pair only."""
    symbol, qty = held(protected)
    legs = [o for o in working(protected, symbol) if o.stop_price is not None]
    for leg in legs:
        leg.status = "canceled"
    settled(protected, THIRD)
    assert alerts(protected, "unprotected") == [f"{qty} {symbol} are held without a stop"]


def test_an_entry_that_ends_half_filled_takes_its_stops_with_it_and_that_is_told(protected: RealBook):
    symbol, qty = held(protected)
    legs = working(protected, symbol)
    (entry,) = {leg.parent for leg in legs}
    order = protected.venue.state.orders[entry]
    order.status, order.filled_qty = "canceled", order.filled_qty - 3
    for leg in legs:
        leg.status = "canceled"
    settled(protected, THIRD)
    assert alerts(protected, "unprotected") == [f"{qty - 3} {symbol} are held without a stop"]


def test_legs_that_end_for_a_sell_of_ours_are_not_told_of(protected: RealBook):
    symbol, _ = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    protected.stage("submit", NEXT)
    protected.decide(THIRD)
    settled(protected, FOURTH)
    assert not alerts(protected, "unprotected")


def test_who_was_told_that_a_stop_was_refused_is_told_that_there_is_one_again(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, _ = left_without(protected, monkeypatch)
    assert alerts(protected, "unprotected"), "not exercised"
    protected.decide(THIRD)
    assert not alerts(protected, "protected")
    protected.to(FOURTH, 9, 40)
    protected.stage("submit", THIRD)
    assert covered(protected, symbol), "not exercised"
    assert alerts(protected, "protected") == [f"{symbol} has its stop again"]


def test_a_venue_that_is_down_in_a_bar_without_a_decision_does_not_keep_quiet_about_it(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, kept = left_without(protected, monkeypatch)
    settled(protected, THIRD)
    told = len(alerts(protected, "unprotected"))

    def down(*_: object) -> None:
        raise Unavailable("No connection to Alpaca.")

    monkeypatch.setattr(protected.desk.broker, "orders_since", down)
    assert protected.stage("close", THIRD)["outcome"] == "settled, no decision"
    said = protected.conn.execute(
        "SELECT title, body FROM alerts WHERE kind = 'unprotected' ORDER BY alert_id OFFSET %s", (told,)
    ).fetchall()
    assert said == [
        (
            f"{kept} {symbol} are held without a stop",
            "as far as is known: nothing was decided at this bar, and No connection to Alpaca.",
        )
    ]


def test_a_bar_stays_open_while_it_is_not_known_whether_lifted_stops_were_replaced(
    protected: RealBook, monkeypatch: pytest.MonkeyPatch
):
    symbol, qty = held(protected)
    ordered(protected, symbol, Decimal(-SOLD))
    read = protected.desk.broker.positions

    def down_once_legs_ended() -> object:
        if not working(protected, symbol):
            raise Unavailable("No connection to Alpaca.")
        return read()

    with monkeypatch.context() as patch:
        patch.setattr(protected.desk.broker, "positions", down_once_legs_ended)
        protected.stage("submit", NEXT)
        protected.hands.now += timedelta(minutes=10)
        protected.venue.advance(protected.hands.now)
        assert protected.venue.state.holdings[symbol].qty == qty - SOLD, "not exercised: the sell did not fill"
        assert "No connection" in str(protected.stage("submit", NEXT)["waiting"])
    protected.stage("submit", NEXT)
    assert covered(protected, symbol) == qty - SOLD
