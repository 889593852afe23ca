"""Research stands aside while a session is run and sent, over half-days, weekends and daylight-saving time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tradecore import settings
from tradecore.research.quiet_hours import next_quiet, wait_s

PROFILE = Path(__file__).resolve().parents[3] / "include" / "config" / "trading.yaml"


def configured(*, last=None, book=None, execution=None):
    found = settings.load({"LOG_LEVEL": "WARNING"}, PROFILE)
    trading = found.trading
    changed = {
        "data": trading.data.model_copy(update={"last_session": last}),
        "book": trading.book.model_copy(update=book or {}),
        "execution": trading.execution.model_copy(update=execution or {}),
    }
    return found.model_copy(update={"trading": trading.model_copy(update=changed)})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "now, opens, closes",
    [
        ("2024-01-03T12:00", "2024-01-03T21:00", "2024-01-03T21:45"),  # 30 minutes' delay and 900 s
        ("2024-01-03T21:44:59", "2024-01-03T21:00", "2024-01-03T21:45"),
        ("2024-01-03T21:45", "2024-01-04T21:00", "2024-01-04T21:45"),
        ("2024-01-05T22:00", "2024-01-08T21:00", "2024-01-08T21:45"),  # a weekend
        ("2024-07-03T12:00", "2024-07-03T17:00", "2024-07-03T17:45"),  # a half-day in summer
    ],
)
def test_a_simulated_book_needs_the_time_after_the_close(now, opens, closes):
    quiet = next_quiet(configured(), at(now))
    assert (quiet.opens_at, quiet.closes_at) == (at(opens), at(closes))


def test_a_real_book_needs_the_opening_of_the_venues_window_too():
    found = configured(book={"broker": "alpaca-paper"})
    quiet = next_quiet(found, at("2024-01-03T22:00"))
    assert (quiet.opens_at, quiet.closes_at) == (at("2024-01-04T00:00"), at("2024-01-04T00:15"))  # 19:00 New York
    twap = configured(
        book={"broker": "alpaca-paper"}, execution={"order_style": "market", "algorithm": "twap", "twap_minutes": 60}
    )
    quiet = next_quiet(twap, at("2024-01-08T00:00"))  # decided on Friday, sent from Monday's open on
    assert (quiet.opens_at, quiet.closes_at) == (at("2024-01-08T14:30"), at("2024-01-08T15:45"))


def test_work_begins_only_if_it_ends_before_and_waits_until_after():
    found, opens = configured(), at("2024-01-03T21:00")
    assert wait_s(found, opens - timedelta(seconds=60), 60.0) == 0.0
    assert wait_s(found, opens - timedelta(seconds=60), 61.0) == 60 + 45 * 60
    assert wait_s(found, opens + timedelta(minutes=44), 1.0) == 60.0
    assert wait_s(found, opens + timedelta(minutes=45), 1.0) == 0.0


def test_after_the_feeds_last_session_nothing_is_traded():
    found = configured(last=at("2013-03-01").date())
    assert next_quiet(found, at("2024-01-03T21:10")) is None
    assert wait_s(found, at("2024-01-03T21:10"), 1e9) == 0.0
    assert next_quiet(found, at("2013-03-01T12:00")).opens_at == at("2013-03-01T21:00")
