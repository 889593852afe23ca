"""The back-off grows, respects what the service asks for, and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tradecore.notify.retry import MAX_ATTEMPTS, is_dead, next_try

NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)


def test_delays_never_shrink_and_the_first_is_within_a_minute() -> None:
    delays = [next_try(attempt, NOW) - NOW for attempt in range(1, MAX_ATTEMPTS + 3)]
    assert delays == sorted(delays)
    assert delays[0] <= timedelta(minutes=1)


def test_all_tries_together_cover_a_night() -> None:
    total = sum((next_try(attempt, NOW) - NOW for attempt in range(1, MAX_ATTEMPTS)), timedelta())
    assert timedelta(hours=12) < total < timedelta(hours=24)


def test_the_last_attempt_is_final() -> None:
    assert [is_dead(attempt) for attempt in (1, MAX_ATTEMPTS - 1, MAX_ATTEMPTS)] == [False, False, True]


def test_a_service_may_ask_for_more_time_not_for_less() -> None:
    assert next_try(1, NOW, retry_after_s=500) - NOW == timedelta(seconds=500)
    assert next_try(1, NOW, retry_after_s=1) == next_try(1, NOW)


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        next_try(0, NOW)
