"""Every kind of corporate action that Alpaca tells of and a book can follow, from records of its published form."""

from __future__ import annotations

import logging
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tradecore.feeds.alpaca_records import actions_of

DAY = "2025-03-03"
RECORDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "forward_splits",
        {"symbol": "A", "new_rate": 7, "old_rate": 1, "ex_date": DAY},
        {"kind": "split", "ratio_num": 7, "ratio_den": 1},
    ),
    (
        "reverse_splits",
        {"symbol": "A", "new_rate": 1, "old_rate": 20, "ex_date": DAY},
        {"kind": "split", "ratio_num": 1, "ratio_den": 20},
    ),
    (
        "stock_dividends",
        {"symbol": "A", "rate": Decimal("0.05"), "ex_date": DAY},
        {"kind": "stock_dividend", "ratio_num": 21, "ratio_den": 20},
    ),
    (
        "cash_dividends",
        {"symbol": "A", "rate": Decimal("0.47"), "ex_date": DAY, "payable_date": "2025-03-10"},
        {"kind": "dividend", "dividend_e6": 470_000, "pay_date": date(2025, 3, 10)},
    ),
    (
        "name_changes",
        {"old_symbol": "A", "new_symbol": "META", "process_date": DAY},
        {"kind": "symbol_change", "new_symbol": "META"},
    ),
    ("worthless_removals", {"symbol": "A", "process_date": DAY}, {"kind": "delisting", "dividend_e6": 0}),
    (
        "cash_mergers",
        {"acquiree_symbol": "A", "rate": Decimal("54.20"), "effective_date": DAY, "process_date": "2025-03-01"},
        {"kind": "delisting", "dividend_e6": 54_200_000},
    ),
]


@pytest.mark.parametrize(("group", "record", "expected"), RECORDS, ids=[r[0] for r in RECORDS])
def test_each_kind_is_read(group: str, record: dict[str, Any], expected: dict[str, Any]) -> None:
    (found,) = actions_of([{group: [record]}], "alpaca")
    assert (found.symbol, found.ex_date, found.source) == ("A", date.fromisoformat(DAY), "alpaca")
    assert {name: getattr(found, name) for name in expected} == expected


def test_what_a_book_cannot_follow_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert actions_of([{"spin_offs": [{"source_symbol": "A", "new_symbol": "B"}]}], "alpaca") == []
    assert "spin_offs that nothing here follows" in caplog.text
