"""The stand-in's market: who trades when, at which price, how much; cash and positions follow."""

from __future__ import annotations

import pickle
from datetime import timedelta
from decimal import Decimal

import pytest
from venue_case import Case, at


def test_a_day_order_of_the_evening_trades_in_the_next_opening_auction():
    case = Case()
    order = case.order(client_order_id="one")
    assert order["status"] == "accepted"
    assert order["filled_qty"] == "0"
    assert order["filled_avg_price"] is None
    case.go(at(24, 9, 29))
    assert case.again(order)["status"] == "accepted"
    case.go(at(24, 9, 30))
    filled = case.again(order)
    assert (filled["status"], filled["filled_qty"], filled["filled_avg_price"]) == ("filled", "10", "100")
    assert filled["filled_at"] == "2026-11-24T14:30:00.000000Z"
    assert case.events() == ["new", "fill"]
    (fill,) = case.fills()
    assert (fill["order_id"], fill["qty"], fill["price"], fill["side"]) == (order["id"], "10", "100", "buy")
    assert (fill["leaves_qty"], fill["cum_qty"], fill["type"]) == ("0", "10", "fill")
    account = case.get("/v2/account")
    assert account["cash"] == "99000"
    assert account["equity"] == "100000"
    assert case.get("/v2/positions/AAPL")["qty"] == "10"


def test_a_market_order_within_the_session_trades_at_once_at_the_last_price():
    case = Case(now=at(25, 10))
    answer = case.order()
    assert answer["status"] == "pending_new"
    assert case.again(answer)["filled_avg_price"] == "103"
    assert case.events() == ["pending_new", "new", "fill"]


@pytest.mark.parametrize(
    "limit, side, price",
    [("100", "buy", "100"), ("104", "buy", "103"), ("94", "buy", None)],
)
def test_a_limit_trades_at_its_price_or_better(limit: str, side: str, price: str | None):
    case = Case(now=at(24, 20))
    order = case.order(type="limit", limit_price=limit, side=side)
    case.go(at(25, 17))
    done = case.again(order)
    assert done["filled_avg_price"] == price
    assert done["status"] == ("expired" if price is None else "filled")


def bought(now=None, qty: str = "10") -> Case:
    """Return a case that holds AAPL since the open of the 24th, bought at 100."""
    case = Case()
    case.order(qty=qty)
    case.go(now or at(24, 20))
    return case


def test_stops_trigger_at_their_price_or_at_the_gap():
    case = bought()
    stop = case.order(side="sell", qty="5", type="stop", stop_price="99", time_in_force="gtc")
    case.go(at(25, 17))
    assert case.again(stop)["filled_avg_price"] == "99"
    gap = case.order(side="sell", qty="5", type="stop", stop_price="110", time_in_force="gtc")
    case.go(at(27, 10))
    assert case.again(gap)["filled_avg_price"] == "107"


def test_a_stop_limit_that_gaps_through_its_limit_rests():
    case = bought()
    order = case.order(side="sell", type="stop_limit", stop_price="104", limit_price="103.5", time_in_force="gtc")
    case.go(at(25, 9, 30))  # opens at 103: triggered, below the limit
    assert case.again(order)["status"] == "new"
    case.go(at(25, 17))
    assert case.again(order)["filled_avg_price"] == "103.5"


def test_a_trailing_stop_follows_the_price_up():
    case = bought()
    order = case.order(side="sell", type="trailing_stop", trail_price="2", time_in_force="gtc")
    case.go(at(25, 17))
    done = case.again(order)
    # 103, then up to 106 (the high is nearer to the open), then down to 95: hit at 104
    assert (done["hwm"], done["stop_price"], done["filled_avg_price"]) == ("106", "104", "104")


def test_auction_orders_trade_in_their_auction_alone():
    case = Case(now=at(24, 19, 1))
    opening = case.order(time_in_force="opg", client_order_id="o")
    too_low = case.order(time_in_force="opg", type="limit", limit_price="102", client_order_id="l")
    closing = case.order(time_in_force="cls", client_order_id="c")
    case.go(at(25, 9, 30))
    assert case.again(opening)["filled_avg_price"] == "103"
    assert case.again(too_low)["status"] == "canceled"
    assert case.again(closing)["filled_qty"] == "0"
    case.go(at(25, 16))
    assert case.again(closing)["filled_avg_price"] == "105"


def test_a_half_day_closes_at_one():
    case = Case(now=at(27, 11))
    order = case.order(type="limit", limit_price="50")
    case.go(at(27, 12, 59))
    assert case.again(order)["status"] == "new"
    case.go(at(27, 13))
    assert case.again(order)["status"] == "expired"
    assert case.again(order)["expired_at"] == "2026-11-27T18:00:00.000000Z"


def test_volume_bounds_a_fill_and_the_rest_waits():
    case = Case()
    order = case.order(symbol="THIN", qty="60")
    case.go(at(24, 9, 30))
    part = case.again(order)
    assert (part["status"], part["filled_qty"]) == ("partially_filled", "25")
    case.go(at(24, 17))
    assert case.again(order)["filled_qty"] == "60"
    assert [row["type"] for row in case.fills()] == ["partial_fill", "partial_fill", "fill"]


def test_about_one_fill_in_ten_of_a_paper_account_is_partial_by_seed():
    def parts(seed: int) -> list[bool]:
        case = Case(seed=seed, partial_fill_frac=Decimal("0.1"))
        orders = [case.order(qty="7", client_order_id=f"{n}") for n in range(200)]
        case.go(at(24, 9, 30))
        return [case.again(order)["status"] == "partially_filled" for order in orders]

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)
    assert 8 <= sum(parts(1)) <= 35


def test_a_bracket_protects_what_was_bought_and_one_exit_ends_the_other():
    case = Case()
    legs = {"take_profit": {"limit_price": "105.5"}, "stop_loss": {"stop_price": "96"}}
    entry = case.order(order_class="bracket", time_in_force="gtc", **legs)
    assert [leg["status"] for leg in entry["legs"]] == ["held", "held"]
    case.go(at(24, 17))
    assert [leg["status"] for leg in case.get(f"/v2/orders/{entry['id']}", "nested=true")["legs"]] == ["new", "new"]
    case.go(at(25, 17))
    profit, loss = case.get(f"/v2/orders/{entry['id']}", "nested=true")["legs"]
    assert (profit["status"], profit["filled_avg_price"]) == ("filled", "105.5")
    assert loss["status"] == "canceled"
    assert case.get("/v2/positions") == []
    assert case.get("/v2/account")["cash"] == "100055"


def test_an_oco_locks_the_shares_once():
    case = bought(now=at(24, 20))
    legs = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "96"}}
    pair = case.order(side="sell", type="limit", order_class="oco", time_in_force="gtc", **legs)
    assert case.get("/v2/positions/AAPL")["qty_available"] == "0"
    case.go(at(25, 17))
    assert case.again(pair)["status"] == "canceled"
    assert case.again(pair["legs"][0])["filled_avg_price"] == "96"


def test_immediate_orders_never_rest():
    case = Case(now=at(25, 10))
    assert case.again(case.order(time_in_force="ioc", type="limit", limit_price="90"))["status"] == "canceled"
    part = case.again(case.order(symbol="THIN", qty="60", time_in_force="ioc"))
    assert (part["status"], part["filled_qty"]) == ("canceled", "25")
    none = case.again(case.order(symbol="THIN", qty="60", time_in_force="fok", client_order_id="fok"))
    assert (none["status"], none["filled_qty"]) == ("canceled", "0")


def test_cash_and_positions_follow_from_the_fills():
    case = Case()
    for n, (side, qty) in enumerate([("buy", "30"), ("sell", "12"), ("buy", "5"), ("sell", "23")]):
        case.go(at(24, 11, n))
        case.order(side=side, qty=qty)
    fills = case.fills()
    assert len(fills) == 4
    sign = {"buy": 1, "sell": -1}
    cash = Decimal(100_000) - sum(sign[f["side"]] * Decimal(f["qty"]) * Decimal(f["price"]) for f in fills)
    assert Decimal(case.get("/v2/account")["cash"]) == cash
    assert case.get("/v2/positions") == []


def test_a_notional_order_buys_fractions_for_its_dollars():
    case = Case(now=at(25, 10))
    order = case.again(case.order(qty=None, notional="500"))
    assert (order["status"], order["qty"], order["notional"]) == ("filled", None, "500")
    assert order["filled_qty"] == "4.854368932"


def test_one_step_in_time_and_many_come_to_the_same():
    def run(steps: int) -> bytes:
        case = Case(partial_fill_frac=Decimal("0.5"))
        case.order(client_order_id="a", qty="9")
        case.order(client_order_id="b", symbol="THIN", qty="90", time_in_force="gtc")
        case.order(client_order_id="c", type="limit", limit_price="96", time_in_force="gtc")
        start = case.now
        for n in range(1, steps + 1):
            case.go(start + (at(27, 20) - start) * n / steps)
        return pickle.dumps(case.venue.state)

    assert run(1) == run(977)


def test_a_state_is_made_again_from_its_commands_and_pickles():
    case = bought()
    case.refused(symbol="NONE")
    case.order(side="sell", qty="4", type="limit", limit_price="104", client_order_id="x")
    case.venue.place_by_hand({"symbol": "THIN", "qty": 3, "side": "buy", "type": "market", "time_in_force": "day"})
    case.venue.add_activity("DIV", symbol="AAPL", per_share_amount="0.51")
    case.go(at(25, 17))
    other = Case()
    for line in case.lines:
        other.venue.replay(line)
    other.go(case.now)
    assert other.get("/v2/account") == case.get("/v2/account")
    assert other.get("/v2/orders", "status=all") == case.get("/v2/orders", "status=all")
    assert other.get("/v2/account/activities") == case.get("/v2/account/activities")
    assert other.venue.state.events == case.venue.state.events
    assert pickle.loads(pickle.dumps(case.venue.state)) == case.venue.state


def minute(clock: str, price: str, volume: int = 1000) -> dict[str, object]:
    """Return a minute bar of AAPL on the 25th, standing at a price; `clock` in UTC."""
    prices = dict.fromkeys(("open", "high", "low", "close"), price)
    return {"time": f"2026-11-25T{clock}Z", "symbol": "AAPL", **prices, "volume": volume}


def test_extended_hours_are_for_those_who_asked():
    case = Case(now=at(25, 7))
    case.venue.add_bars([minute("12:05", "90"), minute("21:30", "80")])  # 07:05 and 16:30 in New York
    asked = case.order(type="limit", limit_price="91", extended_hours=True, client_order_id="asked")
    other = case.order(type="limit", limit_price="92", client_order_id="other")
    case.go(at(25, 7, 30))
    assert case.again(asked)["filled_avg_price"] == "90"
    assert case.again(other)["filled_qty"] == "0"
    late = case.order(type="limit", limit_price="85", extended_hours=True, client_order_id="late")
    case.go(at(25, 16, 15))
    assert case.again(other)["status"] == "expired"
    assert case.again(late)["status"] == "new"
    case.go(at(25, 17))
    assert case.again(late)["filled_avg_price"] == "80"
    never = case.order(type="limit", limit_price="10", extended_hours=True, client_order_id="never")
    case.go(at(25, 20))
    assert case.again(never)["status"] == "expired"


def test_a_replacement_of_a_partly_filled_order_keeps_its_fills():
    case = Case()
    old = case.order(symbol="THIN", qty="60", type="limit", limit_price="10", time_in_force="gtc")
    case.go(at(24, 9, 30))
    assert case.again(old)["filled_qty"] == "25"
    status, new = case.call("PATCH", f"/v2/orders/{old['id']}", body={"qty": "40"})
    assert (status, new["qty"], new["filled_qty"]) == (200, "40", "25")
    assert case.call("PATCH", f"/v2/orders/{new['id']}", body={"qty": "20"})[0] == 422
    case.go(at(24, 17))
    assert case.again(new)["filled_qty"] == "40"
    assert case.get("/v2/positions/THIN")["qty"] == "40"


def test_closing_a_position_sells_all_of_it():
    case = bought(now=at(24, 11))
    status, order = case.call("DELETE", "/v2/positions/AAPL")
    assert (status, order["side"], order["qty"], order["position_intent"]) == (200, "sell", "10", "sell_to_close")
    assert case.get("/v2/positions") == []
    assert case.call("DELETE", "/v2/positions/AAPL")[0] == 404


def test_an_account_that_suspends_trading_takes_no_order():
    case = Case()
    assert case.call("PATCH", "/v2/account/configurations", body={"suspend_trade": True})[1]["suspend_trade"]
    assert case.refused() == (403, 40310000, "new orders are rejected by user request")
    assert case.get("/v2/account")["trade_suspended_by_user"] is True
    case.call("PATCH", "/v2/account/configurations", body={"suspend_trade": False})
    case.order()


def test_a_gtc_order_ends_after_90_days():
    case = Case()
    order = case.order(type="limit", limit_price="1", time_in_force="gtc")
    case.go(at(24, 9) + timedelta(days=89))
    assert case.again(order)["status"] == "new"
    case.go(at(24, 9) + timedelta(days=91))
    assert case.again(order)["status"] == "expired"


def test_a_take_profit_that_is_partly_filled_shrinks_its_stop():
    case = Case()
    legs = {"take_profit": {"limit_price": "11.5"}, "stop_loss": {"stop_price": "5"}}
    entry = case.order(symbol="THIN", qty="50", order_class="bracket", time_in_force="gtc", **legs)
    case.go(at(25, 17))  # 25 shares an hour or so: 50 bought on the 24th, the high of the 25th sells 25
    profit, loss = case.get(f"/v2/orders/{entry['id']}", "nested=true")["legs"]
    assert (profit["status"], profit["filled_qty"]) == ("partially_filled", "25")
    assert (loss["status"], loss["qty"]) == ("new", "25")
    assert case.get("/v2/positions/THIN")["qty_available"] == "0"
