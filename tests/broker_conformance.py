"""What every broker must do: one case a line of docs, with an id. Run by tests/integration/test_broker_conformance.py.

A case gets a Bench (broker_benches.py): a broker on a small market, sessions around Thanksgiving 2026, at first 20:00
in New York on the 23rd, with 100,000 USD. `needs` names what a broker may lack; who lacks it declares why. What is not
built yet is no lack: the broker refuses it as not_built, and that is what the case sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tradecore.errors import Rejected, Unavailable, Unknown
from tradecore.execution.broker import ENDED, WORKING, BrokerOrder

if TYPE_CHECKING:
    from broker_benches import Bench

LINE, TYPES, REPLACE, BRACKET, CHECKS, OTHERS, HOURS, MOVES = (
    "a line that breaks",
    "other orders than market",
    "replace",
    "brackets",
    "checks of the account",
    "orders of others",
    "cut-offs of the venue",
    "activities",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One requirement. `run` raises AssertionError where the broker does not meet it."""

    id: str
    group: str
    line: str
    needs: tuple[str, ...]
    run: Callable[[Bench], None]


CASES: list[Case] = []


def case(case_id: str, group: str, *needs: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    def add(run: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CASES.append(Case(id=case_id, group=group, line=(run.__doc__ or "").strip(), needs=needs, run=run))
        return run

    return add


def code(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused."""
    with pytest.raises(Rejected) as caught:
        call()
    return str(caught.value.details["code"])


def found(bench: Bench, client_order_id: str) -> BrokerOrder:
    order = bench.broker.order(client_order_id)
    assert order is not None
    return order


# --- ids ---


@case("ID-1", "ids")
def same_id_twice(b: Bench) -> None:
    """A second order of one client id is refused as duplicate_id."""
    b.send("one")
    assert code(lambda: b.send("one")) == "duplicate_id"
    assert len(b.broker.orders_since(b.start)) == 1


@case("ID-2", "ids")
def same_id_other_parameters(b: Bench) -> None:
    """A second order of one client id is refused whatever its parameters, and the first stays as it is."""
    b.send("one")
    assert code(lambda: b.send("one", qty=Decimal(7), symbol="THIN")) == "duplicate_id"
    assert found(b, "one").qty == 10
    assert found(b, "one").symbol == "AAPL"


@case("ID-3", "ids")
def same_id_after_cancel(b: Bench) -> None:
    """An id stays taken after its order was cancelled."""
    b.broker.cancel(b.send("one").broker_order_id)
    assert code(lambda: b.send("one")) == "duplicate_id"


@case("ID-4", "ids")
def same_id_after_fill(b: Bench) -> None:
    """An id stays taken after its order was filled."""
    b.send("one")
    b.next_open()
    assert code(lambda: b.send("one")) == "duplicate_id"


@case("ID-5", "ids")
def longest_id(b: Bench) -> None:
    """An id of 128 characters is taken, and found again."""
    name = "x" * 128
    b.send(name)
    assert found(b, name).client_order_id == name


@case("ID-6", "ids")
def unusual_id(b: Bench) -> None:
    """An id with blanks, slashes, signs of a URL and other letters is taken and found again."""
    name = "sim/2026-11-24 #1?&=%+ä"
    b.send(name)
    assert found(b, name).client_order_id == name


@case("ID-7", "ids")
def venue_id(b: Bench) -> None:
    """The venue's own id of an order is the same in every answer about it."""
    sent = b.send("one")
    assert {sent.broker_order_id} == {
        found(b, "one").broker_order_id,
        b.broker.orders_since(b.start)[0].broker_order_id,
    }


@case("ID-8", "ids")
def ids_are_exact(b: Bench) -> None:
    """Ids that differ in the case of a letter are two orders."""
    b.send("one")
    b.send("One", symbol="THIN")
    assert (found(b, "one").symbol, found(b, "One").symbol) == ("AAPL", "THIN")


# --- look-ups ---


@case("LOOK-1", "look-ups")
def never_seen(b: Bench) -> None:
    """An id that was never sent is None, not an error."""
    assert b.broker.order("never") is None


@case("LOOK-2", "look-ups")
def looked_up(b: Bench) -> None:
    """An order is found by its client id with all that was asked for."""
    b.send("one", qty=Decimal(-3) if b.can_short else Decimal(3))
    order = found(b, "one")
    assert (order.symbol, abs(order.qty), order.order_type, order.time_in_force) == ("AAPL", 3, "market", "day")
    assert order.status in WORKING


@case("LOOK-3", "look-ups")
def ended_is_found(b: Bench) -> None:
    """An order that has ended is still found by its id."""
    b.broker.cancel(b.send("one").broker_order_id)
    assert found(b, "one").status == "canceled"


@case("LOOK-4", "look-ups")
def since(b: Bench) -> None:
    """Orders since a time are those at or after it, oldest first."""
    first = b.send("one")
    b.wait(60)
    second = b.send("two", symbol="THIN")
    assert first.submitted_at is not None
    assert second.submitted_at is not None
    assert [o.client_order_id for o in b.broker.orders_since(first.submitted_at)] == ["one", "two"]


@case("LOOK-5", "look-ups")
def since_knows_the_working(b: Bench) -> None:
    """An order that still works is in the list whenever it came; one that ended before is not."""
    b.send("old")
    b.broker.cancel(b.send("gone", symbol="THIN").broker_order_id)
    b.wait(60)
    assert [o.client_order_id for o in b.broker.orders_since(b.now)] == ["old"]


@case("LOOK-6", "look-ups")
def no_orders(b: Bench) -> None:
    """An account without orders, fills and activities has empty lists and an unchanged cursor."""
    assert list(b.broker.orders_since(b.start)) == []
    assert b.broker.fills_since("") == ([], "")
    assert (list(b.broker.activities_since("")[0]), b.broker.activities_since("")[1]) == ([], "")


@case("LOOK-7", "look-ups")
def many_orders(b: Bench) -> None:
    """A list of more orders than a page of the venue has all of them, once."""
    for number in range(b.many_orders):
        b.wait(1)
        b.send(f"n{number:04}", qty=Decimal(1))
    names = [o.client_order_id for o in b.broker.orders_since(b.start)]
    assert len(names) == len(set(names)) == b.many_orders


@case("LOOK-8", "look-ups", OTHERS)
def orders_of_others(b: Bench) -> None:
    """An order that somebody else placed is in the list, with an id that is not ours."""
    b.by_hand(symbol="AAPL", qty="5", side="buy", type="market", time_in_force="day")
    b.send("ours", symbol="THIN")
    (other,) = [o for o in b.broker.orders_since(b.start) if o.client_order_id != "ours"]
    assert (other.symbol, other.qty) == ("AAPL", 5)


@case("LOOK-9", "look-ups", OTHERS)
def money_order_of_others(b: Bench) -> None:
    """An order over an amount of money, which has no quantity, is read: its quantity is what it bought."""
    b.by_hand(symbol="AAPL", notional="500", side="buy", type="market", time_in_force="day")
    assert b.broker.orders_since(b.start)[0].qty == 0
    b.next_open()
    assert b.broker.orders_since(b.start)[0].qty == 5


# --- life cycle ---


@case("LIFE-1", "life cycle")
def acknowledged(b: Bench) -> None:
    """An order that was taken works, is not filled, and has the time at which it came."""
    order = b.send("one")
    assert order.status in WORKING
    assert (order.filled_qty, order.average_price, order.ended) == (0, None, False)
    assert order.submitted_at == b.now


@case("LIFE-2", "life cycle")
def filled(b: Bench) -> None:
    """A market order of the evening is filled in the next opening auction, at its price."""
    b.send("one")
    b.next_open()
    order = found(b, "one")
    assert (order.status, order.filled_qty, order.average_price) == ("filled", 10, 100)
    assert order.ended


@case("LIFE-3", "life cycle")
def cancelled(b: Bench) -> None:
    """A cancelled order has ended and is never filled."""
    b.broker.cancel(b.send("one").broker_order_id)
    b.next_open()
    assert (found(b, "one").status, found(b, "one").filled_qty) == ("canceled", 0)
    assert not b.broker.fills_since("")[0]


@case("LIFE-4", "life cycle")
def in_part(b: Bench) -> None:
    """An order that met too little volume is partial and works on."""
    b.send("one", symbol="THIN", qty=Decimal(60))
    b.next_open()
    order = found(b, "one")
    assert (order.status, order.filled_qty, order.qty) == ("partial", 25, 60)
    assert order.status in WORKING


@case("LIFE-5", "life cycle")
def rest_cancelled(b: Bench) -> None:
    """A partial order that is cancelled keeps what it has."""
    b.send("one", symbol="THIN", qty=Decimal(60))
    b.next_open()
    b.broker.cancel(found(b, "one").broker_order_id)
    order = found(b, "one")
    assert (order.status, order.filled_qty) == ("canceled", 25)
    assert [p.qty for p in b.broker.positions()] == [25]


@case("LIFE-6", "life cycle", TYPES)
def expired(b: Bench) -> None:
    """A day order that finds no price ends with the session, expired."""
    b.send("one", order_type="limit", limit_price=Decimal("50"))
    b.go(24, 16, 1)
    assert (found(b, "one").status, found(b, "one").filled_qty) == ("expired", 0)


@case("LIFE-7", "life cycle", TYPES)
def limit_is_kept(b: Bench) -> None:
    """A limit order is not filled beyond its limit."""
    b.send("one", order_type="limit", limit_price=Decimal("99.50"))
    b.go(24, 15, 59)
    order = found(b, "one")
    assert order.limit_price == Decimal("99.50")
    assert order.average_price is not None
    assert order.average_price <= Decimal("99.50")


@case("LIFE-8", "life cycle", TYPES)
def stop_order(b: Bench) -> None:
    """A stop order waits for its price."""
    order = b.send("one", order_type="stop", stop_price=Decimal("103"))
    assert order.stop_price == 103
    b.go(24, 9, 31)
    assert found(b, "one").status in WORKING
    b.go(24, 15, 59)
    assert found(b, "one").status == "filled"


@case("LIFE-9", "life cycle", TYPES)
def trailing_stop(b: Bench) -> None:
    """A trailing stop is taken with its distance, and works."""
    b.send("buy")
    b.next_open()
    order = b.send("one", qty=Decimal(-10), order_type="trailing_stop", trail_price=Decimal("3"))
    assert (order.order_type, order.qty) == ("trailing_stop", -10)
    assert found(b, "one").status in WORKING


@case("LIFE-10", "life cycle", TYPES)
def good_till_cancelled(b: Bench) -> None:
    """A gtc order outlives the session."""
    b.send("one", order_type="limit", limit_price=Decimal("50"), time_in_force="gtc")
    b.go(25, 10)
    assert found(b, "one").status in WORKING


@case("LIFE-11", "life cycle", TYPES)
def at_once_or_not(b: Bench) -> None:
    """An ioc order that finds no price ends at once."""
    b.go(24, 10)
    b.send("one", order_type="limit", limit_price=Decimal("50"), time_in_force="ioc")
    assert found(b, "one").status in ENDED


@case("LIFE-12", "life cycle")
def opening_auction(b: Bench) -> None:
    """An order for the opening auction is filled at the open."""
    assert b.send("one", time_in_force="opg").time_in_force == "opg"
    b.next_open()
    assert (found(b, "one").status, found(b, "one").average_price) == ("filled", 100)


@case("LIFE-13", "life cycle", TYPES)
def closing_auction(b: Bench) -> None:
    """An order for the closing auction is filled at the close and not before."""
    b.send("one", time_in_force="cls")
    b.go(24, 15, 59)
    assert found(b, "one").filled_qty == 0
    b.go(24, 16, 1)
    assert (found(b, "one").status, found(b, "one").average_price) == ("filled", 102)


@case("LIFE-14", "life cycle")
def sale(b: Bench) -> None:
    """A sale has negative quantities, ordered and filled."""
    b.send("buy")
    b.next_open()
    order = b.send("sell", qty=Decimal(-4))
    assert order.qty == -4
    b.later_open()
    assert (found(b, "sell").filled_qty, found(b, "sell").status) == (-4, "filled")


# --- errors ---


@case("ERR-1", "errors", LINE)
def lost_after(b: Bench) -> None:
    """An order whose answer is lost is Unknown; its look-up finds it, and it was sent once."""
    b.fault("timeout_accepted")
    with pytest.raises(Unknown):
        b.send("one")
    assert found(b, "one").qty == 10
    assert b.posts == 1


@case("ERR-2", "errors", LINE)
def lost_before(b: Bench) -> None:
    """An order that was lost on its way is Unknown; its look-up finds nothing, and the same id may be sent again."""
    b.fault("timeout_refused")
    with pytest.raises(Unknown):
        b.send("one")
    assert b.broker.order("one") is None
    assert b.send("one").client_order_id == "one"


@case("ERR-3", "errors", LINE)
def refused_for_number(b: Bench) -> None:
    """Too many requests is Unavailable: nothing was accepted, and nothing is sent again by itself."""
    b.fault("429")
    with pytest.raises(Unavailable):
        b.send("one")
    assert b.posts == 1
    assert b.broker.order("one") is None


@case("ERR-4", "errors", LINE)
def server_error(b: Bench) -> None:
    """A server error of an order that was not accepted is Unknown, and the look-up finds nothing."""
    for kind in ("500", "504"):
        b.fault(kind)
        with pytest.raises(Unknown):
            b.send(kind)
        assert b.broker.order(kind) is None
    assert b.posts == 2


@case("ERR-5", "errors", LINE)
def server_error_accepted(b: Bench) -> None:
    """A server error of an order that was accepted is Unknown, and the look-up finds it."""
    for kind in ("500_accepted", "504_accepted"):
        b.fault(kind)
        with pytest.raises(Unknown):
            b.send(kind)
        assert found(b, kind).client_order_id == kind
    assert b.posts == 2


@case("ERR-6", "errors", LINE)
def cut(b: Bench) -> None:
    """A connection that breaks in the answer is Unknown."""
    b.fault("cut")
    with pytest.raises(Unknown):
        b.send("one")
    assert found(b, "one").qty == 10


@case("ERR-7", "errors", LINE)
def garbled(b: Bench) -> None:
    """An answer that cannot be read is Unknown."""
    b.fault("malformed")
    with pytest.raises(Unknown):
        b.send("one")
    assert found(b, "one").qty == 10


@case("ERR-8", "errors", LINE)
def late(b: Bench) -> None:
    """An answer later than the time-out is Unknown."""
    b.wait_no_longer_than(1)
    b.fault("slow", seconds=2)
    with pytest.raises(Unknown):
        b.send("one")
    assert found(b, "one").qty == 10


@case("ERR-9", "errors", LINE)
def duplicate_by_the_network(b: Bench) -> None:
    """An order that the network delivered twice is refused as duplicate_id, and the look-up finds one."""
    b.fault("422_duplicate")
    assert code(lambda: b.send("one")) == "duplicate_id"
    assert found(b, "one").qty == 10
    assert len(b.broker.orders_since(b.start)) == 1


@case("ERR-10", "errors", LINE)
def unanswered_questions(b: Bench) -> None:
    """A question without an answer is Unavailable, whatever happened to it, and can be asked again."""
    b.send("one")
    asked: dict[str, Callable[[], object]] = {
        "/v2/orders:by_client_order_id": lambda: b.broker.order("one"),
        "/v2/orders": lambda: b.broker.orders_since(b.start),
        "/v2/account": b.broker.account,
        "/v2/account/activities": lambda: b.broker.fills_since(""),
        "/v2/positions": b.broker.positions,
        "/v2/clock": b.broker.clock,
        "/v2/calendar": lambda: b.broker.sessions(date(2026, 11, 23), date(2026, 11, 27)),
        "/v2/assets": lambda: b.broker.asset("AAPL"),
    }
    for kind in ("timeout_accepted", "429", "500", "504", "cut", "malformed"):
        for path, ask in asked.items():
            b.fault(kind, method="GET", path=path)
            with pytest.raises(Unavailable):
                ask()
            ask()


@case("ERR-11", "errors", LINE)
def nobody_there(b: Bench) -> None:
    """Without a connection an order is Unavailable: nothing was sent."""
    b.broker.account()
    b.line_down()
    with pytest.raises(Unavailable):
        b.send("one")
    with pytest.raises(Unavailable):
        b.broker.order("one")


@case("ERR-12", "errors", LINE)
def wrong_key(b: Bench) -> None:
    """A refused key is Rejected auth for an order and a cancel, Unavailable for a question, and is not shown."""
    b.broker.account()
    b.change_key()
    assert code(lambda: b.send("one")) == "auth"
    assert code(lambda: b.broker.cancel("1")) == "auth"
    with pytest.raises(Unavailable) as caught:
        b.broker.order("one")
    assert b.secret not in str(caught.value)


@case("ERR-13", "errors")
def unknown_symbol(b: Bench) -> None:
    """An order of a symbol that does not exist is refused as no_such_symbol."""
    assert code(lambda: b.send("one", symbol="NOSUCH")) == "no_such_symbol"
    assert b.broker.order("one") is None


@case("ERR-14", "errors", CHECKS)
def wash_trade(b: Bench) -> None:
    """An order against one of ours that rests is refused as wash_trade."""
    b.send("buy")
    b.next_open()
    b.send("rests", qty=Decimal(5), order_type="limit", limit_price=Decimal("90"))
    assert code(lambda: b.send("one", qty=Decimal(-5))) == "wash_trade"


@case("ERR-15", "errors", CHECKS)
def held_shares(b: Bench) -> None:
    """A sale of shares that another sale holds is refused as held_shares."""
    b.send("buy")
    b.next_open()
    b.send("rests", qty=Decimal(-10), order_type="limit", limit_price=Decimal("200"))
    assert code(lambda: b.send("one", qty=Decimal(-1))) == "held_shares"


@case("ERR-16", "errors", CHECKS)
def buying_power(b: Bench) -> None:
    """An order beyond the account's means is refused as buying_power."""
    assert code(lambda: b.send("one", qty=Decimal(100_000))) == "buying_power"


@case("ERR-17", "errors", CHECKS)
def untradable(b: Bench) -> None:
    """An order of a symbol that does not trade is refused as untradable."""
    b.asset(AAPL={"tradable": False})
    assert code(lambda: b.send("one")) == "untradable"


@case("ERR-18", "errors", CHECKS)
def no_short(b: Bench) -> None:
    """A short sale of what cannot be borrowed is refused as short."""
    b.asset(AAPL={"shortable": False, "easy_to_borrow": False})
    assert code(lambda: b.send("one", qty=Decimal(-1))) == "short"


@case("ERR-19", "errors", CHECKS)
def bad_tick(b: Bench) -> None:
    """A price between the ticks is refused as malformed."""
    assert code(lambda: b.send("one", order_type="limit", limit_price=Decimal("100.001"))) == "malformed"


@case("ERR-20", "errors")
def fractions(b: Bench) -> None:
    """A part of a share where only whole ones trade is refused as fractional."""
    b.whole_shares_only()
    assert code(lambda: b.send("one", qty=Decimal("1.5"))) == "fractional"


# --- cancel and replace ---


@case("CXL-1", "cancel and replace")
def cancel_filled(b: Bench) -> None:
    """A cancel of an order that was filled is refused as not_open, and the fill stays."""
    b.send("one")
    b.next_open()
    assert code(lambda: b.broker.cancel(found(b, "one").broker_order_id)) == "not_open"
    assert found(b, "one").status == "filled"


@case("CXL-2", "cancel and replace")
def cancel_twice(b: Bench) -> None:
    """A second cancel is refused as not_open."""
    order = b.send("one")
    b.broker.cancel(order.broker_order_id)
    assert code(lambda: b.broker.cancel(order.broker_order_id)) == "not_open"


@case("CXL-3", "cancel and replace")
def cancel_nothing(b: Bench) -> None:
    """A cancel of an order that does not exist is refused as no_such_order."""
    assert code(lambda: b.broker.cancel("904837e3-3b76-47ec-b432-046db621571b")) == "no_such_order"


@case("CXL-4", "cancel and replace", LINE)
def cancel_lost(b: Bench) -> None:
    """A cancel whose answer is lost is Unknown; the order tells what became of it."""
    order = b.send("one")
    b.fault("timeout_accepted", method="DELETE", path="/v2/orders/")
    with pytest.raises(Unknown):
        b.broker.cancel(order.broker_order_id)
    assert found(b, "one").status == "canceled"


@case("CXL-5", "cancel and replace", LINE)
def cancel_crosses_fill(b: Bench) -> None:
    """A fill that crosses a cancel is told: pending_cancel, then filled; asking again is no error."""
    order = b.send("one")
    b.fault("late_fill", seconds=30)
    b.broker.cancel(order.broker_order_id)
    assert found(b, "one").status == "pending_cancel"
    b.broker.cancel(order.broker_order_id)
    b.wait(60)
    assert (found(b, "one").status, found(b, "one").filled_qty) == ("filled", 10)


@case("CXL-6", "cancel and replace", LINE)
def fill_after_cancel(b: Bench) -> None:
    """A fill after the cancel was confirmed is told, by the order and among the fills."""
    order = b.send("one")
    b.fault("late_fill", seconds=30, shows="canceled")
    b.broker.cancel(order.broker_order_id)
    assert found(b, "one").status == "canceled"
    b.wait(60)
    assert found(b, "one").filled_qty == 10
    assert [fill.qty for fill in b.broker.fills_since("")[0]] == [10]


@case("CXL-7", "cancel and replace", REPLACE)
def replaced(b: Bench) -> None:
    """A replacement has its own id, quantity and limit; the old order has ended as replaced and names it."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    new = b.replace(old, "two", Decimal(12), Decimal("91.5"))
    assert (new.client_order_id, new.qty, new.limit_price) == ("two", 12, Decimal("91.5"))
    assert (found(b, "one").status, found(b, "one").replaced_by) == ("replaced", new.broker_order_id)
    assert found(b, "two").status in WORKING


@case("CXL-8", "cancel and replace", REPLACE)
def replace_ended(b: Bench) -> None:
    """A replacement of an order that has ended is refused as not_open."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    b.broker.cancel(old.broker_order_id)
    assert code(lambda: b.replace(old, "two", Decimal(12), None)) == "not_open"


@case("CXL-9", "cancel and replace", REPLACE)
def replace_taken_id(b: Bench) -> None:
    """A replacement under an id that is taken is refused as duplicate_id."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    assert code(lambda: b.replace(old, "one", Decimal(12), None)) == "duplicate_id"


@case("CXL-10", "cancel and replace", REPLACE, LINE)
def replace_lost(b: Bench) -> None:
    """A replacement whose answer is lost is Unknown; it is found by its own client id."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    b.fault("timeout_accepted", method="PATCH", path="/v2/orders/")
    with pytest.raises(Unknown):
        b.replace(old, "two", Decimal(12), None)
    assert found(b, "two").qty == 12


@case("CXL-11", "cancel and replace", REPLACE)
def replace_keeps_the_side(b: Bench) -> None:
    """A replacement with the other sign is refused, and the order stays as it is."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    assert code(lambda: b.replace(old, "two", Decimal(-12), None)) == "malformed"
    assert found(b, "one").qty == 10


@case("CXL-12", "cancel and replace", REPLACE)
def replace_nothing(b: Bench) -> None:
    """A replacement of an order that does not exist is refused as no_such_order."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    gone = BrokerOrder(**{n: getattr(old, n) for n in BrokerOrder.__slots__} | {"broker_order_id": "no-such"})
    assert code(lambda: b.replace(gone, "two", Decimal(12), None)) == "no_such_order"


# --- fills ---


@case("FILL-1", "fills")
def one_fill(b: Bench) -> None:
    """A fill has the venue's id of its order, signed quantity, price, fee and an aware time."""
    order = b.send("one")
    b.next_open()
    ((fill,), cursor) = b.broker.fills_since("")
    assert (fill.broker_order_id, fill.symbol, fill.qty, fill.price) == (order.broker_order_id, "AAPL", 10, 100)
    assert fill.filled_at.utcoffset() == timedelta(0)
    assert fill.fee == b.fee
    assert cursor


@case("FILL-2", "fills")
def read_again(b: Bench) -> None:
    """A fill that is read again has the same id and the same content."""
    b.send("one")
    b.next_open()
    assert b.broker.fills_since("") == b.broker.fills_since("")


@case("FILL-3", "fills")
def cursor_moves_on(b: Bench) -> None:
    """Reading from the cursor gives what is new; nothing new leaves the cursor as it is."""
    b.send("one")
    b.next_open()
    first, cursor = b.broker.fills_since("")
    assert b.broker.fills_since(cursor)[1] == cursor
    b.wait(60)
    b.send("two", symbol="THIN")
    b.later_open()
    second, after = b.broker.fills_since(cursor)
    new = [fill.symbol for fill in second if fill.fill_id not in {f.fill_id for f in first}]
    assert new == ["THIN"]
    assert after > cursor


@case("FILL-4", "fills")
def oldest_first(b: Bench) -> None:
    """Fills come oldest first, each once."""
    b.send("one")
    b.next_open()
    b.wait(60)
    b.send("two", qty=Decimal(-10))
    b.later_open()
    fills, _ = b.broker.fills_since("")
    assert [fill.qty for fill in fills] == [10, -10]
    assert sorted(fill.filled_at for fill in fills) == [fill.filled_at for fill in fills]


@case("FILL-5", "fills")
def sums(b: Bench) -> None:
    """The fills of an order sum to its filled quantity, and all fills to the position."""
    b.send("one", symbol="THIN", qty=Decimal(60))
    b.next_open()
    fills, _ = b.broker.fills_since("")
    assert sum(fill.qty for fill in fills) == found(b, "one").filled_qty == b.broker.positions()[0].qty == 25


@case("FILL-6", "fills", LINE)
def twice_reported(b: Bench) -> None:
    """A fill that the venue reports twice has one id and comes once."""
    b.fault("duplicated_fill")
    b.send("one")
    b.next_open()
    assert [fill.qty for fill in b.broker.fills_since("")[0]] == [10]


@case("FILL-7", "fills", LINE)
def late_reported(b: Bench) -> None:
    """A fill that appears after younger ones were read is not missed."""
    b.fault("dropped_fill", seconds=1800)
    b.send("late")
    b.send("other", symbol="THIN")
    b.next_open()
    first, cursor = b.broker.fills_since("")
    assert [fill.symbol for fill in first] == ["THIN"]
    b.wait(3600)
    second, _ = b.broker.fills_since(cursor)
    assert {fill.symbol for fill in second} == {"AAPL", "THIN"}


@case("FILL-8", "fills")
def many_fills(b: Bench) -> None:
    """More fills than a page of the venue has are all there, once."""
    for number in range(b.many_fills):
        b.send(f"n{number:04}", qty=Decimal(1))
    b.next_open()
    fills, cursor = b.broker.fills_since("")
    assert len({fill.fill_id for fill in fills}) == len(fills) == b.many_fills
    assert b.broker.fills_since(cursor)[1] == cursor


# --- windows ---


@case("WIN-1", "windows", HOURS)
def opening_cut_off(b: Bench) -> None:
    """An order for the opening auction after 09:28 is refused as window."""
    b.go(24, 9, 28)
    assert code(lambda: b.send("one", time_in_force="opg")) == "window"


@case("WIN-2", "windows", HOURS)
def opening_from_the_evening(b: Bench) -> None:
    """An order for the next opening auction is refused at 18:59 and taken at 19:00."""
    b.go(24, 18, 59)
    assert code(lambda: b.send("one", time_in_force="opg")) == "window"
    b.go(24, 19)
    assert b.send("one", time_in_force="opg").status in WORKING


@case("WIN-3", "windows", HOURS)
def closing_cut_off(b: Bench) -> None:
    """An order for the closing auction after 15:50 is refused as window."""
    b.go(24, 15, 50)
    assert code(lambda: b.send("one", time_in_force="cls")) == "window"


@case("WIN-4", "windows", HOURS)
def closing_cut_off_of_a_half_day(b: Bench) -> None:
    """On a half-day an order for the closing auction is refused ten minutes before its close."""
    b.go(27, 12, 49)
    b.send("one", time_in_force="cls")
    b.go(27, 12, 50)
    assert code(lambda: b.send("two", time_in_force="cls")) == "window"


@case("WIN-5", "windows")
def permit_too_early(b: Bench) -> None:
    """Nothing leaves before the permit's window: Rejected window."""
    assert code(lambda: b.send("one", permit={"not_before": b.now + timedelta(seconds=1)})) == "window"
    assert b.broker.order("one") is None


@case("WIN-6", "windows")
def permit_too_late(b: Bench) -> None:
    """Nothing leaves at the end of the permit's window or later: Rejected window."""
    assert code(lambda: b.send("one", permit={"not_after": b.now})) == "window"
    assert b.broker.order("one") is None


@case("WIN-7", "windows")
def permit_from_its_first_moment(b: Bench) -> None:
    """An order may leave from the first moment of the window."""
    assert b.send("one", permit={"not_before": b.now}).client_order_id == "one"


@case("WIN-8", "windows")
def clock_of_the_venue(b: Bench) -> None:
    """The venue's clock tells whether it is open, and what opens and closes next, in UTC."""
    clock = b.broker.clock()
    assert (clock.now_at, clock.is_open) == (b.now, False)
    assert (clock.next_open_at.isoformat(), clock.next_close_at.isoformat()) == (
        "2026-11-24T14:30:00+00:00",
        "2026-11-24T21:00:00+00:00",
    )


@case("WIN-9", "windows")
def clock_within_a_session(b: Bench) -> None:
    """Within a session the next close is today's and the next open another day's."""
    b.go(25, 11)
    clock = b.broker.clock()
    assert clock.is_open
    assert clock.next_close_at.isoformat() == "2026-11-25T21:00:00+00:00"
    assert clock.next_open_at.isoformat() == "2026-11-27T14:30:00+00:00"


@case("WIN-10", "windows")
def calendar_of_the_venue(b: Bench) -> None:
    """The calendar has sessions only, half-days with their own close, over a change of the clocks too."""
    thanksgiving = b.broker.sessions(date(2026, 11, 25), date(2026, 11, 27))
    assert [(s.session_date.day, s.close_at.isoformat()) for s in thanksgiving] == [
        (25, "2026-11-25T21:00:00+00:00"),
        (27, "2026-11-27T18:00:00+00:00"),
    ]
    change = b.broker.sessions(date(2026, 10, 30), date(2026, 11, 2))
    assert [f"{s.open_at:%d %H:%M}" for s in change] == ["30 13:30", "02 14:30"]


# --- decimal exactness ---


@case("DEC-1", "decimals")
def part_of_a_share(b: Bench) -> None:
    """A quantity of six decimal places is ordered, filled and held to the last digit."""
    b.send("one", qty=Decimal("1.234567"))
    b.next_open()
    exact = Decimal("1.234567")
    assert found(b, "one").qty == found(b, "one").filled_qty == b.broker.fills_since("")[0][0].qty == exact
    assert b.broker.positions()[0].qty == exact


@case("DEC-2", "decimals")
def cash_is_exact(b: Bench) -> None:
    """After a fill the cash has changed by quantity times price and fee, exactly."""
    b.send("one", qty=Decimal("1.234567"))
    b.next_open()
    assert b.broker.account().cash == b.cash_after(Decimal("1.234567"), Decimal(100))


@case("DEC-3", "decimals")
def only_decimals(b: Bench) -> None:
    """Every amount in every record is Decimal."""
    b.send("one")
    b.next_open()
    records = [
        b.broker.account(),
        *b.broker.positions(),
        *b.broker.orders_since(b.start),
        *b.broker.fills_since("")[0],
    ]
    values = [getattr(record, name) for record in records for name in record.__dataclass_fields__]
    assert len(records) == 4
    assert not [value for value in values if isinstance(value, float)]
    assert {type(value) for value in values if value is not None} >= {Decimal, str}


@case("DEC-4", "decimals", TYPES)
def price_of_four_places(b: Bench) -> None:
    """A limit below a dollar keeps its four decimal places."""
    order = b.send("one", order_type="limit", limit_price=Decimal("0.1234"), qty=Decimal(1))
    assert str(order.limit_price) == str(found(b, "one").limit_price) == "0.1234"


# --- account, positions, assets ---


@case("ACC-1", "account and positions")
def account(b: Bench) -> None:
    """The account has its number, currency, cash and equity."""
    account = b.broker.account()
    assert (account.account_number, account.currency, account.status) == (b.account_number, "USD", "ACTIVE")
    assert (account.cash, account.equity, account.trading_blocked) == (100_000, 100_000, False)


@case("ACC-2", "account and positions")
def empty_account(b: Bench) -> None:
    """An account that holds nothing has no positions."""
    assert list(b.broker.positions()) == []


@case("ACC-3", "account and positions")
def long_position(b: Bench) -> None:
    """A position has its quantity, its cost a share and its value."""
    b.send("one")
    b.next_open()
    (position,) = b.broker.positions()
    assert (position.symbol, position.qty, position.average_cost) == ("AAPL", 10, 100)
    assert position.market_value is not None


@case("ACC-4", "account and positions")
def short_position(b: Bench) -> None:
    """A short position is negative."""
    b.send("one", qty=Decimal(-10))
    b.next_open()
    (position,) = b.broker.positions()
    assert (position.qty, position.average_cost) == (-10, 100)


@case("ACC-5", "account and positions")
def closed_position(b: Bench) -> None:
    """A position that was sold is no position."""
    b.send("one")
    b.next_open()
    b.send("two", qty=Decimal(-10))
    b.later_open()
    assert list(b.broker.positions()) == []


@case("ACC-6", "account and positions")
def known_asset(b: Bench) -> None:
    """A symbol that trades is told as such; one that does not exist is None."""
    asset = b.broker.asset("AAPL")
    assert asset is not None
    assert (asset.symbol, asset.tradable, asset.status) == ("AAPL", True, "active")
    assert b.broker.asset("NOSUCH") is None


@case("ACC-6b", "account and positions")
def several_assets(b: Bench) -> None:
    """Several symbols at once are told as each alone would be, few or many."""
    few = b.broker.assets(["AAPL", "NOSUCH"])
    assert few == {"AAPL": b.broker.asset("AAPL"), "NOSUCH": None}
    names = ["AAPL", *(f"NO{k}" for k in range(30))]
    assert b.broker.assets(names) == {name: few.get(name) for name in names}


@case("ACC-7", "account and positions", CHECKS)
def asset_flags(b: Bench) -> None:
    """What may not be traded, borrowed or divided is told."""
    b.asset(AAPL={"tradable": False, "shortable": False, "easy_to_borrow": False, "fractionable": False})
    asset = b.broker.asset("AAPL")
    assert asset is not None
    assert not any((asset.tradable, asset.shortable, asset.easy_to_borrow, asset.fractionable))


@case("ACC-8", "account and positions", MOVES)
def dividend(b: Bench) -> None:
    """A dividend, a fee, interest and transfers are activities of their kinds with signed amounts; fills are none."""
    b.send("one")
    b.next_open()
    for kind, amount in (("DIV", "5.10"), ("DIVNRA", "-0.77"), ("FEE", "-0.02"), ("INT", "1.23"), ("CSD", "100")):
        b.activity(kind, net_amount=amount)
    rows, cursor = b.broker.activities_since("")
    assert [(row.kind, row.amount) for row in sorted(rows, key=lambda row: row.amount)] == [
        ("dividend", Decimal("-0.77")),
        ("fee", Decimal("-0.02")),
        ("interest", Decimal("1.23")),
        ("dividend", Decimal("5.10")),
        ("transfer", Decimal("100")),
    ]
    assert b.broker.activities_since(cursor)[1] == cursor


@case("ACC-9", "account and positions", MOVES)
def split(b: Bench) -> None:
    """A split is an activity with the shares that it brought."""
    b.send("one")
    b.next_open()
    b.split("AAPL", 2)
    ((row,), _) = b.broker.activities_since("")
    assert (row.kind, row.symbol, row.qty, row.amount) == ("split", "AAPL", 10, 0)
    assert b.broker.positions()[0].qty == 20


@case("ACC-10", "account and positions", CHECKS)
def sparse_account(b: Bench) -> None:
    """An account with missing and null fields is read: what is not said is None."""
    b.sparse_account()
    account = b.broker.account()
    assert (account.equity, account.buying_power, account.cash) == (None, None, 100_000)


# --- brackets ---


@case("BRK-1", "brackets", BRACKET)
def bracket(b: Bench) -> None:
    """An order with stop and target brings two legs on the other side that name it as their parent."""
    parent = b.send("one", take_profit=Decimal("120"), stop_loss=Decimal("80"))
    legs = [o for o in b.broker.orders_since(b.start) if o.parent_id == parent.broker_order_id]
    assert sorted((o.order_type, o.qty, o.limit_price, o.stop_price) for o in legs) == [
        ("limit", -10, Decimal(120), None),
        ("stop", -10, None, Decimal(80)),
    ]
    assert {o.status for o in legs} == {"pending"}


@case("BRK-2", "brackets", BRACKET)
def one_leg(b: Bench) -> None:
    """An order with a stop alone brings one leg."""
    b.send("one", stop_loss=Decimal("80"))
    assert [o.order_type for o in b.broker.orders_since(b.start) if o.parent_id] == ["stop"]


@case("BRK-3", "brackets", BRACKET)
def legs_work_after_the_entry(b: Bench) -> None:
    """Once the entry is filled its legs work, and are in the list however old they are."""
    b.send("one", take_profit=Decimal("120"), stop_loss=Decimal("80"))
    b.next_open()
    working = [o for o in b.broker.orders_since(b.now + timedelta(hours=1)) if not o.ended]
    assert sorted((o.order_type, o.status) for o in working) == [("limit", "open"), ("stop", "open")]


@case("BRK-4", "brackets", BRACKET)
def one_cancels_the_other(b: Bench) -> None:
    """When one leg is filled the other is cancelled, and the fill is told with the leg's own order id."""
    b.send("one", take_profit=Decimal("103"), stop_loss=Decimal("80"))
    b.go(24, 15, 59)
    legs = {o.order_type: o for o in b.broker.orders_since(b.start) if o.parent_id}
    assert (legs["limit"].status, legs["stop"].status) == ("filled", "canceled")
    assert legs["limit"].broker_order_id in {fill.broker_order_id for fill in b.broker.fills_since("")[0]}
    assert list(b.broker.positions()) == []


@case("BRK-5", "brackets", BRACKET)
def legs_end_with_the_entry(b: Bench) -> None:
    """An entry that is cancelled takes its legs along."""
    parent = b.send("one", take_profit=Decimal("120"), stop_loss=Decimal("80"))
    b.broker.cancel(parent.broker_order_id)
    assert {o.status for o in b.broker.orders_since(b.start)} == {"canceled"}


# --- permits ---


@case("PER-1", "permits")
def permit_of_another_order(b: Bench) -> None:
    """A permit for another client id lets nothing leave: Rejected auth."""
    assert code(lambda: b.send("one", permit={"client_order_id": "two"})) == "auth"
    assert b.broker.order("one") is None


@case("PER-2", "permits")
def permit_of_another_account(b: Bench) -> None:
    """A permit for another account than the venue reports lets nothing leave."""
    assert code(lambda: b.send("one", permit={"account_number": "OTHER"})) == "auth"
    assert b.broker.order("one") is None


@case("PER-3", "permits")
def permit_for_real_money(b: Bench) -> None:
    """A permit for the other kind of account (live, paper) lets nothing leave."""
    assert code(lambda: b.send("one", permit={"live": not b.broker.live})) == "auth"
    assert b.broker.order("one") is None


@case("PER-4", "permits")
def nothing_was_asked(b: Bench) -> None:
    """What a permit stops never reaches the venue."""
    for wrong in ({"client_order_id": "two"}, {"account_number": "OTHER"}, {"not_after": b.now}):
        code(lambda wrong=wrong: b.send("one", permit=wrong))  # type: ignore[misc]
    assert b.posts == 0


@case("PER-5", "permits", REPLACE)
def permit_of_a_replacement(b: Bench) -> None:
    """A replacement needs a permit of its own id, within its window."""
    old = b.send("one", order_type="limit", limit_price=Decimal("90"))
    for wrong, why in (({"client_order_id": "one"}, "auth"), ({"not_after": b.now}, "window")):
        assert code(lambda wrong=wrong: b.replace(old, "two", Decimal(12), None, permit=wrong)) == why  # type: ignore[misc]
    assert found(b, "one").status in WORKING


@case("PER-6", "permits")
def a_permit_is_no_id(b: Bench) -> None:
    """A permit that is used again does not bring a second order: the id is taken."""
    b.send("one")
    assert code(lambda: b.send("one")) == "duplicate_id"
