"""The token bucket of an account at a venue, shared by all processes that ask it or send to it."""

from __future__ import annotations

from datetime import datetime

import psycopg

from tradecore.storage import queries

MINUTE_S = 60
AT_ONCE = 0.6  # of what a venue allows a minute, in store; the rest comes in within a minute: together never more


def take(
    conn: psycopg.Connection,
    account: str,
    *,
    per_minute: float,
    now: datetime,
    burst: float | None = None,
    count: int = 1,
) -> float:
    """Take tokens of the account's bucket; return the seconds to wait before they may be used, 0 with some in store.

    The bucket holds `burst` tokens (default: per_minute) and gains `per_minute` in a minute. They are taken, also where
    they must be waited for, so who asks next waits longer. Commit at once: until then other processes that ask wait for
    this one.
    """
    row = conn.execute(
        queries.load("throttle")["take"],
        {
            "account": account,
            "burst": per_minute if burst is None else burst,
            "per_second": per_minute / MINUTE_S,
            "count": count,
            "now": now,
        },
    ).fetchone()
    assert row is not None  # an insert or an update that returns always gives one row
    return float(row[0])


def take_of(conn: psycopg.Connection, account: str, *, allowed: int, now: datetime, count: int = 1) -> float:
    """Take tokens so that no minute sees more than `allowed` of who waits as told: some at once, the rest by and by."""
    return take(conn, account, per_minute=allowed * (1 - AT_ONCE), burst=allowed * AT_ONCE, now=now, count=count)
