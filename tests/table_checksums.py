"""What a database holds, in one value per table: for tests that say 'nothing changed' or 'the same in the end'."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql

from tradecore.storage.connection import SCHEMA

# Columns that tell when something was written down: they differ between two runs that did the same.
CLOCK = frozenset(
    {
        *("started_at", "changed_at", "opened_at", "applied_at", "known_at", "checked_at", "found_at"),
        *(
            "happened_at",
            "decided_at",
            "as_of",
            "raised_at",
            "next_try_at",
            "sent_at",
            "selected_at",
            "replaced_at",
            "newest_at",
            "first_at",
            "proved_at",
            "sealed",  # of the audit log: over such a column
        ),
    }
)
# Rows that tell what happened to a process, and not to a book.
OUTBOX = frozenset({"alerts", "alert_deliveries"})
EMPTY = "0 rows"


def table_checksums(
    conn: psycopg.Connection, *, clock: bool = True, leave_out: Iterable[str] = (), row_versions: bool = False
) -> dict[str, str]:
    """Return {table: 'N rows, md5 of its sorted rows'} of every table of tradecore's schema.

    clock=False leaves out the columns that a clock wrote (CLOCK), to compare two runs. row_versions=True adds each
    row's xmin: then a row that was rewritten with equal values counts as changed too. leave_out names tables. Ends
    the connection's transaction.
    """
    names = [
        row[0]
        for row in conn.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
            " ORDER BY table_name",
            (SCHEMA,),
        ).fetchall()
    ]
    left_out = frozenset(leave_out)
    found = {n: _checksum(conn, n, clock, row_versions) for n in names if n not in left_out}
    conn.rollback()
    return found


def _checksum(conn: psycopg.Connection, table: str, clock: bool, row_versions: bool) -> str:
    columns = [
        row[0]
        for row in conn.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
            " ORDER BY ordinal_position",
            (SCHEMA, table),
        ).fetchall()
    ]
    shown = [sql.Identifier(c) for c in columns if clock or c not in CLOCK]
    if row_versions:
        shown.append(sql.SQL("xmin::text"))
    row = conn.execute(
        sql.SQL(
            "SELECT count(*), md5(string_agg(digest, '' ORDER BY digest)) FROM"
            " (SELECT md5(ROW({})::text) AS digest FROM {}) AS rows"
        ).format(sql.SQL(", ").join(shown), sql.Identifier(SCHEMA, table))
    ).fetchone()
    assert row is not None
    return f"{row[0]} rows, {row[1]}" if row[0] else EMPTY


def changed_tables(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return {table: (before, after)} of the tables that differ; `== {}` shows in a failed test what changed."""
    return {
        name: (before.get(name, "no table"), after.get(name, "no table"))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }
