"""When an order may be sent: New York's hours, half-days, both daylight-saving weekends, never past the next bar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tradecore.execution.window import Window, window_of
from tradecore.sessions import calendar

NYSE = calendar("XNYS")
NEW_YORK = ZoneInfo("America/New_York")
STYLES = ("market_on_open", "market", "limit", "market_on_close")


def of(style: str, session: date, margin_s: int = 60) -> Window:
    """The window of what is decided at the close of a session."""
    following = NYSE.session(NYSE.next_session(session))
    return window_of(
        style,
        decided_at=NYSE.session(session).close_at,
        until=following.close_at,
        session=following,
        margin_s=margin_s,
    )


def local(window: Window) -> tuple[str, str]:
    return tuple(f"{at.astimezone(NEW_YORK):%a %d %H:%M:%S}" for at in (window.opens_at, window.closes_at))


@pytest.mark.parametrize(
    ("style", "session", "expected"),
    [
        ("market_on_open", date(2025, 6, 4), ("Wed 04 19:00:00", "Thu 05 09:27:00")),
        ("market_on_open", date(2025, 6, 6), ("Fri 06 19:00:00", "Mon 09 09:27:00")),  # over a weekend
        ("market_on_open", date(2025, 11, 28), ("Fri 28 19:00:00", "Mon 01 09:27:00")),  # decided at a half-day's close
        ("market", date(2025, 6, 4), ("Thu 05 09:30:00", "Thu 05 15:59:00")),
        ("market", date(2025, 11, 26), ("Fri 28 09:30:00", "Fri 28 12:59:00")),  # into a half-day
        ("limit", date(2025, 6, 4), ("Thu 05 09:30:00", "Thu 05 15:59:00")),
        ("market_on_close", date(2025, 6, 4), ("Wed 04 19:00:00", "Thu 05 15:49:00")),
        ("market_on_close", date(2025, 11, 26), ("Wed 26 19:00:00", "Fri 28 12:49:00")),
    ],
)
def test_window_in_new_york_time(style: str, session: date, expected: tuple[str, str]):
    assert local(of(style, session)) == expected


@pytest.mark.parametrize("session", [date(2025, 3, 7), date(2025, 10, 31), date(2026, 3, 6), date(2026, 10, 30)])
def test_daylight_saving_weekend_moves_utc_and_not_new_york(session: date):
    window = of("market_on_open", session)
    assert local(window)[0].endswith("19:00:00")
    assert local(window)[1].endswith("09:27:00")
    before = window.opens_at.astimezone(NEW_YORK).utcoffset()
    assert before != window.closes_at.astimezone(NEW_YORK).utcoffset(), "the clocks did change over that weekend"
    assert window.opens_at.tzinfo is UTC


@pytest.mark.parametrize("style", STYLES)
def test_every_window_of_ten_years_lies_between_the_two_closes(style: str):
    for session in NYSE.sessions_in_range(date(2016, 1, 4), date(2025, 12, 31)):
        window = of(style, session)
        close, following = NYSE.session(session).close_at, NYSE.session(NYSE.next_session(session)).close_at
        assert close <= window.opens_at < window.closes_at <= following - timedelta(seconds=60)


def test_window_ends_before_the_next_bar_of_the_same_session():
    day = NYSE.session(date(2025, 6, 5))
    bars = NYSE.bar_ends(date(2025, 6, 5), "195m")
    window = window_of("market", decided_at=bars[0], until=bars[1], session=day, margin_s=30)
    assert window.opens_at == bars[0]
    assert window.closes_at == bars[1] - timedelta(seconds=30)


def test_bounds_are_first_included_last_excluded():
    window = of("market", date(2025, 6, 4))
    tick = timedelta(microseconds=1)
    assert not window.holds(window.opens_at - tick)
    assert window.holds(window.opens_at)
    assert window.holds(window.closes_at - tick)
    assert not window.holds(window.closes_at)
    assert window.passed(window.closes_at)
    assert not window.passed(datetime(2025, 6, 4, tzinfo=UTC))
