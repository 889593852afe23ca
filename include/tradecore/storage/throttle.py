"""The token bucket of an account at a venue, shared by all processes that send to it."""

from __future__ import annotations

from datetime import datetime

import psycopg

from tradecore.storage import queries

MINUTE_S = 60


def take(conn: psycopg.Connection, account: str, *, per_minute: int, now: datetime) -> float:
    """Take one token of the account's bucket; return the seconds to wait before it may be used, 0 with one in store.

    The bucket holds `per_minute` tokens and gains as many in a minute. The token is taken, also where it must be waited
    for, so who asks next waits longer. Commit at once: until then other processes that ask wait for this one.
    """
    row = conn.execute(
        queries.load("throttle")["take"],
        {"account": account, "burst": per_minute, "per_second": per_minute / MINUTE_S, "now": now},
    ).fetchone()
    assert row is not None  # an insert or an update that returns always gives one row
    return float(row[0])
