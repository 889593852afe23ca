"""Alpaca's documents as records: the recorded ones, sparse ones, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import alpaca_payloads as payloads
import pytest
from alpaca.trading.enums import ActivityType, OrderStatus
from alpaca_answers import ORDER, Canned, broker
from hypothesis import given, settings
from hypothesis import strategies as st

from tradecore.errors import Unavailable
from tradecore.execution import alpaca_records as records
from tradecore.execution.broker import ENDED, WORKING, Account, Activity, Asset, BrokerFill, BrokerOrder, Position

ACCOUNT = Account(
    account_number="010203ABCD",
    status="ACTIVE",
    currency="USD",
    cash=Decimal("-23140.2"),
    equity=Decimal("103820.56"),
    buying_power=Decimal("262113.632"),
    trading_blocked=False,
    shorting_enabled=True,
    fractional_trading=True,
)
BOUGHT = BrokerOrder(
    broker_order_id="61e69015-8549-4bfd-b9c3-01e75843f47d",
    client_order_id="eb9e2aaa-f71a-4f51-b5b4-52a6c565dad4",
    symbol="AAPL",
    qty=Decimal(1),
    filled_qty=Decimal(0),
    status="pending",
    order_type="market",
    time_in_force="day",
    submitted_at=datetime(2021, 3, 16, 18, 38, 1, 937734, tzinfo=UTC),
    updated_at=datetime(2021, 3, 16, 18, 38, 1, 942282, tzinfo=UTC),
)
RECORDED: list[tuple[Any, dict[str, Any], Any]] = [
    (records.account_of, payloads.ACCOUNT, ACCOUNT),
    (records.order_of, payloads.ORDER, BOUGHT),
    (
        records.order_of,
        payloads.LIMIT_SALE,
        replace(BOUGHT, qty=Decimal(-1), order_type="limit", limit_price=Decimal(300), filled_qty=Decimal("-0")),
    ),
    (records.order_of, payloads.MONEY_ORDER, replace(BOUGHT, qty=Decimal(0))),
    (
        records.order_of,
        payloads.REPLACED,
        replace(
            BOUGHT,
            status="open",
            order_type="stop",
            submitted_at=datetime(2019, 8, 24, 14, 15, 22, tzinfo=UTC),
            replaced_by="0b11f089-722d-4ced-9beb-e2eeed3637dc",
        ),
    ),
    (
        records.fill_of,
        payloads.PART,
        BrokerFill(
            fill_id="20220304135420903::047e252a-a8a3-4e35-84e2-29814cbf5057",
            broker_order_id="cddf433b-1a41-497d-ae31-50b1fee56fff",
            symbol="AMZN",
            qty=Decimal("1.792161878"),
            price=Decimal("2907.15"),
            filled_at=datetime(2022, 3, 4, 18, 54, 20, 903569, tzinfo=UTC),
        ),
    ),
    (
        records.fill_of,
        payloads.WHOLE,
        BrokerFill(
            fill_id="20220304123922801::3b8a937c-b1d9-4ebe-ae94-5e0b52c3f350",
            broker_order_id="cddf433b-1a41-497d-ae31-50b1fee56fff",
            symbol="GOOGL",
            qty=Decimal("-0.058773239"),
            price=Decimal("2644.84"),
            filled_at=datetime(2022, 3, 4, 17, 39, 22, 801228, tzinfo=UTC),
        ),
    ),
    (
        records.activity_of,
        payloads.DEPOSIT,
        Activity(
            activity_id="20220419000000000::fd84741b-59c5-4ddd-a303-69f70eb7753f",
            kind="transfer",
            symbol=None,
            qty=Decimal(0),
            amount=Decimal("33324.35"),
            effective_on=date(2022, 4, 19),
            note="CSD executed",
        ),
    ),
    (
        records.activity_of,
        payloads.DIVIDEND,
        Activity(
            activity_id="20220419000000000::fb876acb-76b0-405c-8c7f-96a1c171ec5c",
            kind="dividend",
            symbol="AAPL",
            qty=Decimal(10),
            amount=Decimal("100.00"),
            effective_on=date(2022, 4, 19),
            note="DIV Dividend payment executed",
        ),
    ),
    (
        records.activity_of,
        payloads.CURRENT_DIVIDEND,
        Activity(
            activity_id="2026-07-14::activity-id",
            kind="dividend",
            symbol=None,
            qty=Decimal(0),
            amount=Decimal("12.34"),
            effective_on=date(2026, 7, 14),
            note="DIV executed",
        ),
    ),
    (
        records.position_of,
        payloads.POSITION,
        Position(symbol="AAPL", qty=Decimal(5), average_cost=Decimal("100.0"), market_value=Decimal("600.0")),
    ),
    (
        records.asset_of,
        payloads.ASSET,
        Asset(symbol="AAPL", tradable=True, fractionable=True, shortable=True, easy_to_borrow=True, status="active"),
    ),
    (
        records.asset_of,
        payloads.OPTION,
        Asset(
            symbol="AAPL231103C00170000",
            tradable=True,
            fractionable=False,
            shortable=False,
            easy_to_borrow=False,
            status="active",
        ),
    ),
]
REQUIRED = {
    records.account_of: {"account_number", "cash"},
    records.order_of: {"id", "side", "status"},
    records.fill_of: {"id", "order_id", "symbol", "side", "qty", "price", "transaction_time"},
    records.activity_of: {"id", "activity_type", "date"},
    records.position_of: {"symbol", "qty", "avg_entry_price"},
    records.asset_of: {"symbol"},
    records.clock_of: {"timestamp", "next_open", "next_close"},
    records.hours_of: {"date", "open", "close"},
}
DOCUMENTS = [(record, document) for record, document, _ in RECORDED] + [
    (records.clock_of, payloads.CLOCK),
    (records.hours_of, payloads.DAY),
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.text(max_size=20)
    | st.sampled_from(["", "NaN", "1e9", "0001-01-01T00:00:00+23:00", "0001-01-01", "24:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("record, document, expected", RECORDED)
def test_recorded_documents_parse(record: Any, document: dict[str, Any], expected: object):
    assert record(document) == expected


def test_the_recorded_clock_and_calendar_parse():
    clock = records.clock_of(payloads.CLOCK)
    assert clock.now_at == datetime(2022, 5, 16, 20, 32, 24, 143735, tzinfo=UTC)
    assert (clock.next_open_at.hour, clock.next_close_at.hour, clock.is_open) == (13, 20, False)
    hours = records.hours_of(payloads.DAY)
    assert (hours.session_date, hours.open_at.hour, hours.close_at.hour) == (date(2025, 1, 2), 14, 21)


def test_a_short_position_and_a_short_sale_are_negative():
    short = {**payloads.POSITION, "side": "short", "qty": "5"}
    assert records.position_of(short).qty == records.position_of({**short, "qty": "-5"}).qty == -5
    assert records.fill_of({**payloads.WHOLE, "side": "sell_short"}).qty < 0


@pytest.mark.parametrize("record, document", DOCUMENTS)
@pytest.mark.parametrize("gone", ["missing", "null", "empty"])
def test_what_is_missing_is_none_or_named(record: Any, document: dict[str, Any], gone: str):
    """Every field alone, then all that may: a record, or an error that names the field; nothing else."""
    values = {"missing": ..., "null": None, "empty": ""}

    def without(*keys: str) -> dict[str, Any]:
        changed = {**document, **dict.fromkeys(keys, values[gone])}
        return {key: value for key, value in changed.items() if value is not ...}

    for key in document:
        if key in REQUIRED[record]:
            with pytest.raises(records.Unreadable):
                record(without(key))
        else:
            record(without(key))
    record(without(*(set(document) - REQUIRED[record])))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_document_crashes_the_reader(data: st.DataObject):
    record, document = data.draw(st.sampled_from([*DOCUMENTS, (lambda d: list(records.family(d)), payloads.ORDER)]))
    fields = data.draw(st.lists(st.sampled_from(sorted(document)), unique=True, max_size=4))
    changed = {**document, **{field: data.draw(ANYTHING) for field in fields}}
    with contextlib.suppress(records.Unreadable):
        record(changed)


@given(st.sets(st.sampled_from(sorted(set(payloads.ACCOUNT) - {"account_number", "cash"}))))
def test_an_account_of_any_sparseness_is_read(gone: set[str]):
    line = Canned((500, b""))
    line.account = (200, json.dumps({**payloads.ACCOUNT, **dict.fromkeys(gone, None)}).encode())
    account = broker(line).account()
    assert account.account_number == "010203ABCD"
    assert account.cash == Decimal("-23140.2")
    assert (account.equity is None) == ("equity" in gone)


def test_cash_that_is_not_said_is_not_invented():
    line = Canned((500, b""))
    line.account = (200, json.dumps({**payloads.ACCOUNT, "cash": None}).encode())
    with pytest.raises(Unavailable, match="cash"):
        broker(line).account()


@pytest.mark.parametrize("status", [*(member.value for member in OrderStatus), "a_word_of_tomorrow"])
@pytest.mark.parametrize("filled_qty", ["0", "4", "10"])
def test_each_of_alpacas_statuses_is_one_of_ours(status: str, filled_qty: str):
    order = records.order_of({**ORDER, "status": status, "filled_qty": filled_qty})
    assert order.status in WORKING + ENDED
    assert (order.reason == "status a_word_of_tomorrow") == (status not in records.STATUSES)
    ends = {"filled", "canceled", "expired", "rejected", "replaced"}
    done = status in ends or (status == "calculated" and filled_qty == "10")
    assert order.ended == done
    if status in ("new", "done_for_day", "partially_filled", "stopped") and filled_qty == "4":
        assert order.status == "partial"


def test_each_kind_of_activity_has_a_kind_of_ours():
    kinds = {
        member.value: records.activity_of({**payloads.DEPOSIT, "activity_type": member.value}).kind
        for member in ActivityType
    }
    assert set(kinds.values()) <= {"dividend", "fee", "interest", "split", "transfer", "other"}
    assert [kinds[word] for word in ("DIV", "DIVNRA", "FEE", "INT", "CSD", "CSW", "JNLC", "SPLIT", "MA")] == [
        "dividend",
        "dividend",
        "fee",
        "interest",
        "transfer",
        "transfer",
        "transfer",
        "split",
        "other",
    ]


def test_an_activity_that_was_taken_back_and_a_trade_that_was_busted_are_left_out():
    rows = [payloads.DEPOSIT, {**payloads.DIVIDEND, "status": "canceled"}]
    assert [row.kind for row in broker(Canned((200, json.dumps(rows).encode()))).activities_since("")[0]] == [
        "transfer"
    ]
    fills = [payloads.PART, {**payloads.WHOLE, "type": "trade_bust"}]
    assert [fill.symbol for fill in broker(Canned((200, json.dumps(fills).encode()))).fills_since("")[0]] == ["AMZN"]


def test_of_a_symbol_that_changed_hands_the_active_asset_counts():
    gone = {**payloads.ASSET, "status": "inactive", "tradable": False}
    line = Canned((200, json.dumps([gone, payloads.ASSET, gone]).encode()))
    found = broker(line).assets(["AAPL", *(f"S{number}" for number in range(30))])
    assert len(line.seen) == 1
    assert found["AAPL"] == records.asset_of(payloads.ASSET)
    assert set(found.values()) == {found["AAPL"], None}
