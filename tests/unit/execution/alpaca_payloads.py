"""Documents as Alpaca gives them: fields and values as in alpaca-py's own recorded answers (its test suite, 2026-07).

Written out anew from those facts, one of each kind; numbers are strings or not as they were there.
"""

from __future__ import annotations

from typing import Any

NEVER = dict.fromkeys(
    ("filled_at", "expired_at", "canceled_at", "failed_at", "replaced_at", "replaced_by", "replaces"), None
)
ACCOUNT: dict[str, Any] = {
    "id": "e6fe16f3-64a4-4921-8928-cadf02f92f98",
    "account_number": "010203ABCD",
    "status": "ACTIVE",
    "currency": "USD",
    "cash": "-23140.2",
    "equity": "103820.56",
    "last_equity": "103529.24",
    "portfolio_value": "103820.56",
    "buying_power": "262113.632",
    "regt_buying_power": "80680.36",
    "non_marginable_buying_power": "98945.02",
    "options_buying_power": "262113.632",
    "options_approved_level": "1",
    "long_market_value": "126960.76",
    "short_market_value": "0",
    "initial_margin": "63480.38",
    "maintenance_margin": "38088.228",
    "last_maintenance_margin": "38000.832",
    "multiplier": "4",
    "sma": "0",
    "accrued_fees": "0",
    "created_at": "2019-06-12T22:47:07.99658Z",
    "account_blocked": False,
    "trading_blocked": False,
    "transfers_blocked": False,
    "trade_suspended_by_user": False,
    "shorting_enabled": True,
}
ORDER: dict[str, Any] = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "eb9e2aaa-f71a-4f51-b5b4-52a6c565dad4",
    "created_at": "2021-03-16T18:38:01.942282Z",
    "updated_at": "2021-03-16T18:38:01.942282Z",
    "submitted_at": "2021-03-16T18:38:01.937734Z",
    **NEVER,
    "asset_id": "904837e3-3b76-47ec-b432-046db621571b",
    "asset_class": "us_equity",
    "symbol": "AAPL",
    "notional": None,
    "qty": 1,
    "filled_qty": "0",
    "filled_avg_price": None,
    "order_class": "simple",
    "order_type": "market",
    "type": "market",
    "side": "buy",
    "time_in_force": "day",
    "limit_price": None,
    "stop_price": None,
    "trail_percent": None,
    "trail_price": None,
    "hwm": None,
    "status": "accepted",
    "extended_hours": False,
    "legs": None,
    "position_intent": "buy_to_open",
    "commission": "1.25",
}
LIMIT_SALE = {**ORDER, "order_type": "limit", "type": "limit", "limit_price": 300, "side": "sell"}
MONEY_ORDER = {**ORDER, "qty": None, "notional": "500"}
REPLACED = {
    **ORDER,
    "submitted_at": "2019-08-24T14:15:22Z",
    "replaced_by": "0b11f089-722d-4ced-9beb-e2eeed3637dc",
    "filled_qty": 0,
    "filled_avg_price": 0,
    "type": "stop",
    "status": "new",
}
PART = {
    "id": "20220304135420903::047e252a-a8a3-4e35-84e2-29814cbf5057",
    "account_id": "3dcb795c-3ccc-402a-abb9-07e26a1b1326",
    "activity_type": "FILL",
    "transaction_time": "2022-03-04T18:54:20.903569Z",
    "type": "partial_fill",
    "price": "2907.15",
    "qty": "1.792161878",
    "side": "buy",
    "symbol": "AMZN",
    "leaves_qty": "1",
    "order_id": "cddf433b-1a41-497d-ae31-50b1fee56fff",
    "cum_qty": "1.792161878",
    "order_status": "partially_filled",
}
WHOLE = {
    **PART,
    "id": "20220304123922801::3b8a937c-b1d9-4ebe-ae94-5e0b52c3f350",
    "transaction_time": "2022-03-04T17:39:22.801228Z",
    "type": "fill",
    "price": "2644.84",
    "qty": "0.058773239",
    "side": "sell",
    "symbol": "GOOGL",
    "leaves_qty": "0",
}
DEPOSIT = {
    "id": "20220419000000000::fd84741b-59c5-4ddd-a303-69f70eb7753f",
    "account_id": "aba134b6-217d-4fd2-b460-e3c80bbfb9b4",
    "activity_type": "CSD",
    "date": "2022-04-19",
    "net_amount": "33324.35",
    "description": "",
    "status": "executed",
}
DIVIDEND = {
    **DEPOSIT,
    "id": "20220419000000000::fb876acb-76b0-405c-8c7f-96a1c171ec5c",
    "activity_type": "DIV",
    "net_amount": "100.00",
    "description": "Dividend payment",
    "symbol": "AAPL",
    "qty": "10",
    "per_share_amount": "10.00",
}
CURRENT_DIVIDEND = {
    "id": "2026-07-14::activity-id",
    "activity_type": "DIV",
    "activity_sub_type": "CDIV",
    "date": "2026-07-14T10:00:00Z",
    "net_amount": "12.34",
    "currency": "USD",
    "status": "executed",
}
POSITION = {
    "asset_id": "904837e3-3b76-47ec-b432-046db621571b",
    "symbol": "AAPL",
    "exchange": "NASDAQ",
    "asset_class": "us_equity",
    "avg_entry_price": "100.0",
    "qty": "5",
    "side": "long",
    "market_value": "600.0",
    "cost_basis": "500.0",
    "unrealized_pl": "100.0",
    "unrealized_plpc": "0.20",
    "current_price": "120.0",
    "lastday_price": "119.0",
    "change_today": "0.0084",
}
ASSET = {
    "id": "904837e3-3b76-47ec-b432-046db621571b",
    "class": "us_equity",
    "exchange": "NASDAQ",
    "symbol": "AAPL",
    "name": "Apple Inc. Common Stock",
    "status": "active",
    "tradable": True,
    "marginable": True,
    "shortable": True,
    "easy_to_borrow": True,
    "fractionable": True,
}
OPTION = {"id": "0", "symbol": "AAPL231103C00170000", "status": "active", "tradable": True, "strike_price": "170"}
CLOCK = {
    "timestamp": "2022-05-16T16:32:24.14373588-04:00",
    "is_open": False,
    "next_open": "2022-05-17T09:30:00-04:00",
    "next_close": "2022-05-17T16:00:00-04:00",
}
DAY = {
    "date": "2025-01-02",
    "open": "09:30",
    "close": "16:00",
    "session_open": "0400",
    "session_close": "2000",
    "settlement_date": "2025-01-03",
}
