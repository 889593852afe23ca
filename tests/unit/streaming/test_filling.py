"""What a stream asks REST for, and what it says of itself where nothing comes but bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tradecore.storage.streams import Hole
from tradecore.streaming.inbox import Inbox
from tradecore.streaming.meter import Meter
from tradecore.streaming.service import _first_lacking
from tradecore.streaming.store import parts_of

START = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)


def hole(first_s: int, until_s: int, *ids: int) -> Hole:
    first_at, until_at = (START + timedelta(seconds=s) for s in (first_s, until_s))
    return Hole(first_at=first_at, until_at=until_at, instrument_ids=ids)


@pytest.mark.parametrize(
    ("filled", "first_s"),
    [
        (None, 10),
        (hole(0, 16, 1, 2), 16),
        (hole(10, 16, 1, 2, 3), 16),
        (hole(0, 40, 1, 2), 30),
        (hole(0, 9, 1, 2), 10),
        (hole(12, 16, 1, 2), 10),
        (hole(0, 16, 1), 10),
    ],
)
def test_a_hole_is_fetched_from_where_the_one_before_it_ends(filled: Hole | None, first_s: int):
    assert _first_lacking(hole(10, 30, 1, 2), filled) == START + timedelta(seconds=first_s)


def test_a_hole_is_kept_in_parts_without_a_gap():
    assert list(parts_of(hole(10, 9_000, 1, 2))) == [
        *(hole(10, 3_610, 1, 2), hole(3_610, 7_210, 1, 2), hole(7_210, 9_000, 1, 2)),
    ]
    assert list(parts_of(hole(10, 20, 1))) == [hole(10, 20, 1)]


def test_bars_alone_have_no_lag():
    """A minute's bars come when no trade does: at the end of a session, and with --no-trades always."""
    meter = Meter()
    meter.wrote([], 1_000)
    assert meter.read().lag_p50_ms is None
    meter.wrote([], 1_000)
    meter.wrote([0, 0], 3_000)
    assert (meter.read().lag_p50_ms, meter.read().lag_p50_ms) == (3.0, None)


def test_a_page_with_what_is_no_trade_costs_that_row_alone():
    inbox = Inbox({"AAPL": 7})
    trade = {"t": "2026-11-25T15:00:00Z", "i": 1, "x": "V", "p": 1.5, "s": 10}
    inbox.take_page([("AAPL", 5), ("AAPL", None), ("AAPL", trade)])  # type: ignore[list-item]
    assert (len(inbox.batch.trades), inbox.rejects) == (1, 2)
