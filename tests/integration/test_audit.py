"""The audit log: every change of what may trade is in it, and one altered row among many is found."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest

from tradecore.storage import audit

pytestmark = pytest.mark.db
OPENED = datetime(2005, 1, 3, 21, 0, tzinfo=UTC)
CHANGE = (
    "INSERT INTO state_events (book, bar_end_at, event_no, from_state, to_state, actor, reason)"
    " VALUES ('sim', %s, %s, 0, 2, %s, %s)"
)


def book(conn: psycopg.Connection) -> None:
    conn.execute(
        "INSERT INTO books (book, kind, account, calendar, currency, timeframe, source, universe, inception_at,"
        " opened_at) VALUES ('sim', 'simulated', 'sim', 'XNYS', 'USD', '1d', 'csv', 'sample', %s, %s)",
        (OPENED, OPENED),
    )


def tamper(conn: psycopg.Connection, statement: str) -> None:
    """Change the log as an owner of the database could: with its triggers switched off."""
    conn.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
    conn.execute(statement)
    conn.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")


def test_states_signatures_live_keys_and_flattening_are_written_down_by_the_database(conn):
    book(conn)
    conn.execute(CHANGE, (OPENED, 1, "cli:ann", "Größe"))
    conn.execute("INSERT INTO flatten_orders VALUES ('sim', %s, 'cli:bob', 'moving')", (OPENED,))
    key = "INSERT INTO approvals (book, bar_end_at, version, sheet_hash, verdict, actor, decided_at)"
    conn.execute(f"{key} VALUES ('sim', %s, 1, 'abc', 'approved', 'cli:ann', %s)", (OPENED, OPENED))
    conn.execute("UPDATE approvals SET verdict = 'voided'")
    conn.execute("INSERT INTO broker_accounts VALUES ('sim', '1', false, 'init', '', %s)", (OPENED,))
    conn.execute("UPDATE broker_accounts SET live_enabled = true, changed_by = 'cli:ann', reason = 'go'")
    audit.append(conn, kind="note", subject="sim", actor="cli:ann", detail="by hand")
    conn.commit()
    found = [(e.kind, e.actor, e.detail) for e in reversed(audit.newest(conn, 10))]
    assert found == [
        ("trading_state", "cli:ann", "ACTIVE -> HALTED from 2005-01-03T21:00Z: Größe"),
        ("flatten", "cli:bob", "moving"),
        ("approval", "cli:ann", "approved version 1 of 2005-01-03T21:00Z, sheet abc"),
        ("live_trading", "cli:ann", "on: go"),
        ("note", "cli:ann", "by hand"),
    ]
    checked = audit.verify(conn)
    assert (checked.rows, checked.broken_at, checked.head) == (5, None, audit.newest(conn, 1)[0].sealed)


def test_rows_cannot_be_changed_or_deleted_in_passing(conn):
    book(conn)
    conn.execute(CHANGE, (OPENED, 1, "a", "b"))
    conn.commit()
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            conn.execute(statement)
        conn.rollback()


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit_log SET detail = replace(detail, 'why', 'who') WHERE entry_no = 7", 7),
        ("UPDATE audit_log SET actor = 'nobody' WHERE entry_no = 1", 1),
        ("UPDATE audit_log SET happened_at = happened_at + interval '1 microsecond' WHERE entry_no = 20", 20),
        ("DELETE FROM audit_log WHERE entry_no = 11", 11),
        ("UPDATE audit_log SET actor = 'sim', subject = 'me' WHERE entry_no = 5", 5),  # the same letters elsewhere
    ],
)
def test_a_row_that_was_tampered_with_is_found(conn, statement: str, broken_at: int):
    book(conn)
    for number in range(1, 21):
        conn.execute(CHANGE, (OPENED, number, "me", f"why {number}"))
    conn.commit()
    head = audit.verify(conn).head
    assert audit.verify(conn, head).has_known
    tamper(conn, statement)
    conn.commit()
    assert audit.verify(conn).broken_at == broken_at
    tamper(conn, "DELETE FROM audit_log WHERE entry_no > 4")  # cut: what is left fits, and lacks the known seal
    if broken_at > 4:
        cut = audit.verify(conn, head)
        assert (cut.broken_at, cut.has_known, cut.rows) == (None, False, 4)


def test_one_altered_row_among_100_000_is_found(conn):
    """The rows are sealed by the database's own function, in one statement; the check seals them again in Python."""
    conn.execute(
        "WITH RECURSIVE chain AS ("
        " SELECT 0::bigint AS n, ''::text AS sealed"
        " UNION ALL SELECT n + 1, audit_seal(sealed, n + 1, %(at)s + n * interval '1 second', 'trading_state', 'sim',"
        " 'cli:ann', 'reason ' || n) FROM chain WHERE n < 100000)"
        " INSERT INTO audit_log SELECT n, %(at)s + (n - 1) * interval '1 second', 'trading_state', 'sim', 'cli:ann',"
        " 'reason ' || (n - 1), sealed FROM chain WHERE n > 0",
        {"at": OPENED},
    )
    conn.commit()
    good = audit.verify(conn)
    assert (good.rows, good.broken_at) == (100_000, None)
    tamper(conn, "UPDATE audit_log SET detail = 'reason 73210.' WHERE entry_no = 73211")
    conn.commit()
    assert audit.verify(conn).broken_at == 73_211
    print("proof: one altered row among 100,000 found at row 73,211")
