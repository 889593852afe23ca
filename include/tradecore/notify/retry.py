"""When a failed delivery is tried again, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta

# The first retries are for a blink of the network, the last ones for a mail server that is down over night.
DELAYS_S = (30, 60, 120, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800)
MAX_ATTEMPTS = len(DELAYS_S) + 1


def next_try(attempt: int, now: datetime, retry_after_s: int | None = None) -> datetime:
    """Return when to try again after the `attempt`-th failure (from 1), no sooner than the service asks."""
    if attempt < 1:
        raise ValueError(f"attempt {attempt}: counts from 1")
    delay_s = DELAYS_S[min(attempt, len(DELAYS_S)) - 1]
    return now + timedelta(seconds=max(delay_s, retry_after_s or 0))


def is_dead(attempt: int) -> bool:
    """True when the `attempt`-th failure was the last: about 16 hours after the first."""
    return attempt >= MAX_ATTEMPTS
