"""The stand-in's documents against Alpaca's published contract.

The field lists are facts of Alpaca's OpenAPI document for the trading API (as its own command line tool carried
it in 2026) and of the market data API; the document itself is not part of this project. Beside them each
document is read by the models of Alpaca's own client, alpaca-py.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from alpaca.data.models import BarSet
from alpaca.trading import models
from venue_case import Case, at

from alpaca_standin.state import text

ACCOUNT = {
    "id", "status", "account_blocked", "account_number", "accrued_fees", "balance_asof", "buying_power", "cash",
    "created_at", "crypto_status", "currency", "equity", "initial_margin", "intraday_adjustments", "last_equity",
    "last_maintenance_margin", "long_market_value", "maintenance_margin", "multiplier",
    "non_marginable_buying_power", "options_approved_level", "options_buying_power", "options_trading_level",
    "pending_reg_taf_fees", "pending_transfer_in", "pending_transfer_out", "portfolio_value", "regt_buying_power",
    "short_market_value", "shorting_enabled", "sma", "trade_suspended_by_user", "trading_blocked",
    "transfers_blocked",
}  # fmt: skip
ORDER = {
    "asset_class", "asset_id", "canceled_at", "client_order_id", "created_at", "expired_at", "expires_at",
    "extended_hours", "failed_at", "filled_at", "filled_avg_price", "filled_qty", "hwm", "id", "legs",
    "limit_price", "notional", "order_class", "order_type", "position_intent", "qty", "replaced_at",
    "replaced_by", "replaces", "side", "source", "status", "stop_price", "submitted_at", "subtag", "symbol",
    "time_in_force", "trail_percent", "trail_price", "type", "updated_at",
}  # fmt: skip
POSITION = {
    "asset_class", "asset_id", "asset_marginable", "avg_entry_price", "change_today", "cost_basis",
    "current_price", "exchange", "lastday_price", "market_value", "qty", "qty_available", "side", "symbol",
    "unrealized_intraday_pl", "unrealized_intraday_plpc", "unrealized_pl", "unrealized_plpc",
}  # fmt: skip
ASSET = {
    "class", "exchange", "fractionable", "id", "marginable", "name", "shortable", "status", "symbol", "tradable",
    "attributes", "easy_to_borrow", "maintenance_margin_requirement", "margin_requirement_long",
    "margin_requirement_short",
}  # fmt: skip
FILL = {
    "activity_type", "cum_qty", "id", "leaves_qty", "order_id", "order_status", "price", "qty", "side", "symbol",
    "transaction_time", "type",
}  # fmt: skip
NON_TRADE = {"activity_type", "created_at", "currency", "date", "id", "net_amount", "status"}
CALENDAR = {"close", "date", "open", "session_close", "session_open", "settlement_date"}
CLOCK = {"is_open", "next_close", "next_open", "timestamp"}
DATA_BAR = {"t", "o", "h", "l", "c", "v", "n", "vw"}
NUMBERS_AS_NUMBERS = {"maintenance_margin_requirement", "options_approved_level", "options_trading_level"}
DAY_TRADES = {"daytrade_count", "pattern_day_trader", "daytrading_buying_power"}


@pytest.fixture(scope="module")
def case() -> Case:
    """A day with a fill, a resting bracket, a dividend."""
    case = Case()
    case.order(client_order_id="filled")
    legs = {"take_profit": {"limit_price": "150"}, "stop_loss": {"stop_price": "50", "limit_price": "49"}}
    case.order(client_order_id="bracket", type="limit", limit_price="60", order_class="bracket", **legs)
    case.go(at(24, 12))
    case.venue.add_activity("DIV", symbol="AAPL", per_share_amount="0.51")
    return case


def check(document: dict[str, Any], fields: set[str]) -> None:
    """Check that the fields are there, and that money and quantities are strings."""
    assert fields <= set(document), fields - set(document)
    floats = [key for key, value in document.items() if isinstance(value, float)]
    integers = {key for key, value in document.items() if type(value) is int}
    assert floats == []
    assert integers <= NUMBERS_AS_NUMBERS | DAY_TRADES


def test_account(case: Case):
    document = case.get("/v2/account")
    check(document, ACCOUNT)
    assert not DAY_TRADES & set(document), "gone since 2026-07-06"
    assert document["crypto_status"] is None
    assert models.TradeAccount(**{k: v for k, v in document.items() if v is not None}).cash == document["cash"]


def test_day_trade_fields_were_there_before_the_rule_went():
    early = Case(now=at(24, 12).replace(month=7, day=2))
    assert set(early.get("/v2/account")) >= DAY_TRADES


def test_fields_may_be_null_or_missing():
    document = Case(null_fields=("cash", "equity"), missing_fields=("multiplier",)).get("/v2/account")
    assert document["cash"] is None
    assert document["equity"] is None
    assert "multiplier" not in document


def test_orders(case: Case):
    for document in case.get("/v2/orders", "status=all&nested=true"):
        check(document, ORDER)
        parsed = models.Order(**document)
        assert str(parsed.id) == document["id"]
        for leg in document["legs"] or []:
            check(leg, ORDER)
    statuses = {row["client_order_id"]: row["status"] for row in case.get("/v2/orders", "status=all&nested=true")}
    assert statuses == {"filled": "filled", "bracket": "new"}


def test_positions(case: Case):
    (document,) = case.get("/v2/positions")
    check(document, POSITION)
    models.Position(**document)
    assert document == case.get("/v2/positions/AAPL")
    assert case.call("GET", "/v2/positions/THIN") == (404, {"code": 40410000, "message": "position does not exist"})


def test_assets(case: Case):
    documents = case.get("/v2/assets", "status=active&asset_class=us_equity")
    assert [row["symbol"] for row in documents] == ["AAPL", "THIN"]
    for document in documents:
        check(document, ASSET)
        models.Asset(**document)
        assert case.get(f"/v2/assets/{document['id']}") == document
    missing = case.call("GET", "/v2/assets/NONE")
    assert missing == (404, {"code": 40410000, "message": "asset not found for NONE"})


def test_activities(case: Case):
    dividend, fill = case.get("/v2/account/activities")
    check(fill, FILL)
    check(dividend, NON_TRADE | {"symbol", "qty", "per_share_amount"})
    assert (dividend["net_amount"], dividend["qty"]) == ("5.1", "10")
    models.TradeActivity(account_id=case.get("/v2/account")["id"], **fill)
    models.NonTradeActivity(account_id=case.get("/v2/account")["id"], **dividend)
    assert fill["id"].split("::")[0] == "20261124143000000"
    assert case.get("/v2/account/activities/DIV") == [dividend]
    assert case.get("/v2/account/activities", "activity_types=FILL") == [fill]
    assert case.get("/v2/account/activities", "category=non_trade_activity") == [dividend]
    assert Decimal(case.get("/v2/account")["cash"]) == Decimal("99005.1")


def test_pages_of_activities_miss_and_repeat_nothing():
    case = Case(now=at(24, 10))
    for n in range(25):
        case.go(at(24, 10, n))
        case.order(qty="1", client_order_id=f"{n}")
    for direction in ("asc", "desc"):
        seen: list[str] = []
        token = ""
        while page := case.get("/v2/account/activities/FILL", f"direction={direction}&page_size=7{token}"):
            seen += [row["id"] for row in page]
            token = f"&page_token={page[-1]['id']}"
        assert len(seen) == len(set(seen)) == 25
        assert seen == sorted(seen, reverse=direction == "desc")
    after = case.get("/v2/account/activities/FILL", "after=2026-11-24T15:20:00Z&direction=asc")
    assert [row["transaction_time"][:16] for row in after] == [f"2026-11-24T15:2{n}" for n in range(1, 5)]


def test_calendar_and_clock(case: Case):
    days = case.get("/v2/calendar", "start=2026-11-24&end=2026-11-30")
    assert [(row["date"], row["open"], row["close"]) for row in days] == [
        ("2026-11-24", "09:30", "16:00"),
        ("2026-11-25", "09:30", "16:00"),
        ("2026-11-27", "09:30", "13:00"),
        ("2026-11-30", "09:30", "16:00"),
    ]
    for row in days:
        check(row, CALENDAR)
        models.Calendar(**{key: row[key] for key in ("date", "open", "close")})
    clock = Case(now=at(25, 17)).get("/v2/clock")
    check(clock, CLOCK)
    models.Clock(**clock)
    assert clock == {
        "timestamp": "2026-11-25T17:00:00-05:00",
        "is_open": False,
        "next_open": "2026-11-27T09:30:00-05:00",
        "next_close": "2026-11-27T13:00:00-05:00",
    }


def test_market_data_knows_nothing_that_is_to_come(case: Case):
    pages = case.get("/v2/stocks/bars", "symbols=AAPL,THIN&timeframe=1Day&start=2026-11-23&end=2026-11-27")
    BarSet(pages["bars"])
    assert {symbol: len(rows) for symbol, rows in pages["bars"].items()} == {"AAPL": 2, "THIN": 2}
    today = pages["bars"]["AAPL"][-1]
    assert set(today) == DATA_BAR
    assert (today["o"], today["h"], today["l"], today["v"]) == (100, 100, 99, 500_000)
    assert case.get("/v2/stocks/AAPL/trades/latest")["trade"]["p"] == 99
    assert case.get("/v2/stocks/bars/latest", "symbols=AAPL")["bars"]["AAPL"]["c"] == 99
    first = case.get("/v2/stocks/AAPL/bars", "timeframe=1Day&start=2026-11-23&limit=1")
    assert (len(first["bars"]), first["next_page_token"]) == (1, "1")


def test_events_of_the_stream_are_read_by_the_client(case: Case):
    for event in case.venue.state.events:
        assert event["stream"] == "trade_updates"
        update = models.TradeUpdate(**event["data"])
        assert str(update.order.id) == event["data"]["order"]["id"]


def test_a_split_moves_the_position_and_leaves_an_activity():
    case = Case()
    case.order()
    case.go(at(24, 20))
    case.venue.split("AAPL", 2, 1)
    position = case.get("/v2/positions/AAPL")
    assert (position["qty"], position["avg_entry_price"]) == ("20", "50")
    assert case.get("/v2/account/activities/SPLIT")[0]["qty"] == "10"


@pytest.mark.parametrize(
    "value, printed",
    [("100.00", "100"), ("0", "0"), ("-0.0", "0"), ("1E+3", "1000"), ("0.1234567891", "0.123456789"), ("10", "10")],
)
def test_numbers_are_printed_plainly(value: str, printed: str):
    assert text(Decimal(value)) == printed
