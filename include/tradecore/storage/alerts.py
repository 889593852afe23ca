"""The alert outbox: written in the transaction of what it tells about, delivered afterwards.

No function here commits. A claim holds its rows until the caller's transaction ends: a deliverer that dies
between sending and `mark_sent` gives the row back unsent, so an alert may go out twice and is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg
from psycopg.rows import class_row, dict_row

from tradecore.alert import Alert, PendingDelivery, Undelivered
from tradecore.storage import queries

ERROR_MAX_CHARS = 500
AIRFLOW_COMPONENTS = {"SchedulerJob": "scheduler", "DagProcessorJob": "dag-processor"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A delivery that has failed at least once."""

    alert_id: int
    title: str
    channel: str
    status: str
    attempts: int
    next_try_at: datetime
    last_error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a book stands at one bar: status and session are None while nothing has started."""

    book: str
    kind: str
    timeframe: str
    inception_at: datetime
    status: str | None
    session_date: date | None
    bar_end_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The newest process of a kind that Airflow's metadata knows."""

    job_type: str
    state: str | None
    latest_heartbeat: datetime | None
    hostname: str | None


def raise_alert(
    conn: psycopg.Connection,
    *,
    dedup_key: str,
    severity: str,
    kind: str,
    book: str,
    session_date: date | None,
    stage: str,
    title: str,
    body: str,
    next_step: str,
    link: str,
    now: datetime,
    channels: Sequence[str],
) -> int | None:
    """Put an alert into the outbox, with one delivery due at once per channel.

    Returns its id, or None when an alert with this key is there already. Raises ValueError without a
    channel: an alert that nobody will see is a mistake of the caller.
    """
    if not channels:
        raise ValueError(f"alert {dedup_key!r} has no channel; notify.channels() names at least the console")
    sql = queries.load("alerts")
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            sql["raise_alert"],
            {
                "dedup_key": dedup_key,
                "severity": severity,
                "kind": kind,
                "book": book,
                "session_date": session_date,
                "stage": stage,
                "title": title,
                "body": body,
                "next_step": next_step,
                "link": link,
                "now": now,
            },
        ).fetchone()
        if row is None:
            return None
        alert_id = int(row["alert_id"])
        for channel in dict.fromkeys(channels):
            cursor.execute(sql["add_delivery"], {"alert_id": alert_id, "channel": channel, "now": now})
    return alert_id


def claim_due(
    conn: psycopg.Connection, now: datetime, limit: int, skip_channels: Sequence[str] = ()
) -> list[PendingDelivery]:
    """Lock and return up to `limit` deliveries due at `now`, the longest due first, none of `skip_channels`.

    Rows that another deliverer holds are skipped. The lock lasts until the caller commits or rolls back.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            queries.load("alerts")["claim_due"], {"now": now, "limit": limit, "skip": list(skip_channels)}
        ).fetchall()
    return [
        PendingDelivery(channel=row.pop("channel"), attempts=row.pop("attempts"), alert=Alert(**row)) for row in rows
    ]


def mark_sent(conn: psycopg.Connection, alert_id: int, channel: str, now: datetime) -> None:
    """Record that the channel took the alert."""
    conn.execute(queries.load("alerts")["mark_sent"], {"alert_id": alert_id, "channel": channel, "now": now})


def mark_failed(
    conn: psycopg.Connection,
    alert_id: int,
    channel: str,
    error: str,
    next_try_at: datetime,
    dead: bool,
) -> None:
    """Record a failed attempt: due again at `next_try_at`, or given up."""
    conn.execute(
        queries.load("alerts")["mark_failed"],
        {
            "alert_id": alert_id,
            "channel": channel,
            "error": error[:ERROR_MAX_CHARS],
            "next_try_at": next_try_at,
            "dead": dead,
        },
    )


def undelivered(conn: psycopg.Connection) -> Undelivered:
    """Count deliveries that are not sent; `.healthy` is False once one has failed."""
    with conn.cursor(row_factory=class_row(Undelivered)) as cursor:
        row = cursor.execute(queries.load("alerts")["undelivered"]).fetchone()
    assert row is not None  # an aggregate without GROUP BY always gives one row
    return row


def failures(conn: psycopg.Connection) -> list[Failure]:
    """Return the deliveries that have failed and were not sent since, with the last error of each."""
    with conn.cursor(row_factory=class_row(Failure)) as cursor:
        return cursor.execute(queries.load("alerts")["failures"]).fetchall()


def revive(conn: psycopg.Connection, now: datetime) -> int:
    """Make given-up deliveries due again (after the channel was repaired). Returns how many."""
    return conn.execute(queries.load("alerts")["revive"], {"now": now}).rowcount


def book_progress(conn: psycopg.Connection, book: str, bar_end_at: datetime) -> Progress | None:
    """Return where the book stands at this bar, or None when there is no such book."""
    with conn.cursor(row_factory=class_row(Progress)) as cursor:
        return cursor.execute(
            queries.load("alerts")["book_progress"], {"book": book, "bar_end_at": bar_end_at}
        ).fetchone()


def heartbeats(conn: psycopg.Connection) -> list[Heartbeat] | None:
    """Return Airflow's newest scheduler and dag-processor; None if its tables are not in this database."""
    sql = queries.load("alerts")
    with conn.cursor(row_factory=dict_row) as cursor:
        present = cursor.execute(sql["has_airflow"]).fetchone()
        if present is None or not present["present"]:
            return None
    with conn.cursor(row_factory=class_row(Heartbeat)) as beats:
        return beats.execute(sql["component_heartbeats"], {"job_types": list(AIRFLOW_COMPONENTS)}).fetchall()
