"""No amount loses a digit between us and Alpaca, and none is ever a binary float."""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import alpaca_payloads as payloads
import pytest
import requests
from alpaca_answers import ORDER, Canned, broker, permit, request
from hypothesis import given, settings
from hypothesis import strategies as st

from tradecore.execution.broker import OrderRequest

PLACES = st.integers(0, 27)
DIGITS_28 = st.integers(10**27, 10**28 - 1)
AMOUNTS = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), DIGITS_28, PLACES)
PRICES = ("limit_price", "stop_price", "trail_price", "take_profit", "stop_loss")


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is written as a number with a point: its reader makes a float of it")


def no_floats(value: object) -> None:
    """Assert that no float is in a record or document, at any depth."""
    assert not isinstance(value, float)
    if isinstance(value, dict):
        for item in value.values():
            no_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            no_floats(item)
    elif hasattr(value, "__dataclass_fields__"):
        for field in fields(value):  # type: ignore[arg-type]
            no_floats(getattr(value, field.name))


def written(document: dict[str, Any], amounts: dict[str, Decimal], as_strings: bool) -> bytes:
    """Return the document's JSON with amounts as strings or as bare numbers, all digits written."""
    text = json.dumps({**document, **{key: f"<{key}>" for key in amounts}})
    for key, amount in amounts.items():
        digits = format(amount, "f")
        text = text.replace(f'"<{key}>"', f'"{digits}"' if as_strings else digits)
    return text.encode()


@settings(max_examples=200, deadline=None)
@given(qty=AMOUNTS, short=st.booleans(), prices=st.fixed_dictionaries({}, optional=dict.fromkeys(PRICES, AMOUNTS)))
def test_what_is_sent_has_all_its_digits(qty: Decimal, short: bool, prices: dict[str, Decimal]):
    line = Canned((200, json.dumps(ORDER).encode()))
    signed = qty.copy_negate() if short else qty
    with patch.object(requests.Response, "json", side_effect=AssertionError("requests' own reader makes floats")):
        broker(line).submit(request(qty=signed, **prices), permit())
    (sent,) = line.trades
    body = json.loads(sent.body or b"", parse_float=refuse)
    no_floats(body)
    found = {
        "limit_price": body.get("limit_price"),
        "stop_price": body.get("stop_price"),
        "trail_price": body.get("trail_price"),
        "take_profit": body.get("take_profit", {}).get("limit_price"),
        "stop_loss": body.get("stop_loss", {}).get("stop_price"),
    }
    assert {key: Decimal(value) for key, value in found.items() if value is not None} == prices
    assert (Decimal(body["qty"]), body["side"]) == (qty, "sell" if short else "buy")
    assert all(isinstance(value, str) for value in found.values() if value is not None)


@settings(max_examples=200, deadline=None)
@given(amount=AMOUNTS, other=AMOUNTS, as_strings=st.booleans())
def test_what_is_read_has_all_its_digits(amount: Decimal, other: Decimal, as_strings: bool):
    def answered(path: str, document: dict[str, Any], amounts: dict[str, Decimal]) -> Any:
        row = written(document, amounts, as_strings)
        line = Canned((200, row if path.startswith("/orders:") else b"[" + row + b"]"))
        line.account = (200, row)
        return broker(line)

    minus = amount.copy_negate()
    account = answered("/account", payloads.ACCOUNT, {"cash": minus, "equity": other, "buying_power": amount}).account()
    assert (str(account.cash), str(account.equity), str(account.buying_power)) == (str(minus), str(other), str(amount))
    order = answered(
        "/orders:",
        {**ORDER, "side": "sell", "status": "filled"},
        {"qty": amount, "filled_qty": amount, "limit_price": other, "stop_price": amount, "filled_avg_price": other},
    ).order("one")
    assert (order.qty, order.filled_qty) == (minus, minus)
    assert (str(order.limit_price), str(order.stop_price), str(order.average_price)) == (
        str(other),
        str(amount),
        str(other),
    )
    (fill,) = answered("/fills", payloads.WHOLE, {"qty": amount, "price": other}).fills_since("")[0]
    assert (fill.qty, str(fill.price)) == (minus, str(other))
    (activity,) = answered("/activities", payloads.DEPOSIT, {"qty": amount, "net_amount": minus}).activities_since("")[
        0
    ]
    assert (str(activity.qty), str(activity.amount)) == (str(amount), str(minus))
    (position,) = answered(
        "/positions", {**payloads.POSITION, "side": "short"}, {"qty": minus, "avg_entry_price": other}
    ).positions()
    assert (str(position.qty), str(position.average_cost)) == (str(minus), str(other))
    for record in (account, order, fill, activity, position):
        no_floats(record)


def test_the_guard_against_floats_works():
    with pytest.raises(AssertionError):
        no_floats({"a": [Decimal(1), {"b": 0.5}]})
    with pytest.raises(AssertionError):
        json.loads('{"qty": 1.5}', parse_float=refuse)
    with pytest.raises(AssertionError):
        no_floats(OrderRequest(client_order_id="one", symbol="AAPL", qty=0.5))  # type: ignore[arg-type]


def test_more_digits_than_the_context_has_are_kept():
    long = Decimal("1234567890123456789012345678901234567890.123456789")
    line = Canned((200, json.dumps({**ORDER, "qty": str(long), "side": "sell"}).encode()))
    order = broker(line).submit(request(qty=long.copy_negate()), permit())
    assert order.qty.as_tuple() == long.copy_negate().as_tuple()
    assert json.loads(line.trades[0].body or b"")["qty"] == str(long)
