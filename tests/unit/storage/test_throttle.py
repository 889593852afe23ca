"""The token bucket: no more than its rate, from however many processes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tradecore.storage import throttle

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
TAKER = """
import sys
from datetime import datetime
from tradecore.storage import throttle
from tradecore.storage.connection import connect
with connect(sys.argv[1]) as conn:
    for _ in range(40):
        print(throttle.take(conn, "one", per_minute=60, now=datetime.fromisoformat(sys.argv[2])))
        conn.commit()
"""


def waits(
    conn: psycopg.Connection, count: int, now: datetime, per_minute: int = 60, account: str = "one"
) -> list[float]:
    return [throttle.take(conn, account, per_minute=per_minute, now=now) for _ in range(count)]


def test_the_burst_is_free_and_what_follows_waits_its_turn(conn: psycopg.Connection):
    assert waits(conn, 60, NOW) == [0.0] * 60
    assert waits(conn, 3, NOW) == pytest.approx([1.0, 2.0, 3.0])


def test_time_pays_the_debt_and_fills_the_bucket_to_its_brim(conn: psycopg.Connection):
    waits(conn, 63, NOW)
    assert waits(conn, 1, NOW + timedelta(seconds=2)) == pytest.approx([2.0])
    assert waits(conn, 1, NOW + timedelta(seconds=5)) == [0.0]
    assert waits(conn, 61, NOW + timedelta(days=1)) == pytest.approx([0.0] * 60 + [1.0])


def test_whoever_waits_as_told_never_exceeds_the_rate(conn: psycopg.Connection):
    sent, now = [], NOW
    for _ in range(200):
        wait_s = throttle.take(conn, "one", per_minute=100, now=now)
        now += timedelta(seconds=wait_s)
        sent.append(now)
    for first in range(100):
        for more in range(100 - first):
            assert sent[first + 100 + more] - sent[first] >= timedelta(seconds=0.6 * (more + 1) - 0.001)
    assert sent[-1] - sent[0] == pytest.approx(timedelta(minutes=1), abs=timedelta(milliseconds=1))


def test_no_minute_sees_more_than_the_venue_allows(conn: psycopg.Connection):
    sent, now = [], NOW
    for count in [1] * 300 + [7] * 30:
        now += timedelta(seconds=throttle.take_of(conn, "one", allowed=200, now=now, count=count))
        sent += [now] * count
    assert sent[119] == NOW, "what is in store is free"
    for first, at in enumerate(sent):
        assert sum(at <= later < at + timedelta(minutes=1) for later in sent[first:]) <= 200


def test_each_account_has_its_own_bucket(conn: psycopg.Connection):
    waits(conn, 60, NOW)
    assert waits(conn, 1, NOW, account="two") == [0.0]


def test_a_clock_that_goes_back_gives_nothing_and_stops_nothing(conn: psycopg.Connection):
    waits(conn, 60, NOW)
    assert waits(conn, 1, NOW - timedelta(hours=1)) == pytest.approx([1.0])
    assert waits(conn, 1, NOW - timedelta(hours=1) + timedelta(seconds=2)) == [0.0]


def test_processes_share_one_bucket(conn: psycopg.Connection, database_url: str):
    command = [sys.executable, "-c", TAKER, database_url, NOW.isoformat()]
    takers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = sorted(float(line) for taker in takers for line in taker.communicate(timeout=60)[0].split())
    assert told == pytest.approx([0.0] * 60 + [float(number) for number in range(1, 61)])
