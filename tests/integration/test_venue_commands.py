"""The command line at a venue: orders and their life, cancelling, lots, breaks, checks, the key of live trading."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from project_home import FIRST, Project, make, open_for_trading, rows

from tradecore import settings
from tradecore.execution_views import venue

pytestmark = pytest.mark.db


@pytest.fixture
def project(tmp_path: Path, database_url: str, conn: psycopg.Connection) -> Project:
    """A book with orders at the simulated venue."""
    found = make(tmp_path, database_url)
    open_for_trading(found, conn)
    found.trade(conn, FIRST)
    assert {row[0] for row in rows(conn, "SELECT status FROM orders")} == {"ACKED"}, "not exercised"
    return found


def first_order(conn: psycopg.Connection) -> str:
    return str(rows(conn, "SELECT client_order_id FROM orders ORDER BY line_no LIMIT 1")[0][0])


def test_orders_with_their_life(project, conn):
    said = project.run("orders", "--events", "--json")
    assert said.code == 0
    found = {order["id"]: order for order in said.document}
    assert set(found) == {row[0] for row in rows(conn, "SELECT client_order_id FROM intents")}
    assert [event["status"] for event in found[first_order(conn)]["events"]] == ["PLANNED", "SUBMITTING", "ACKED"]
    text = project.run("orders", str(FIRST), "--events").out
    assert text.count(" ACKED ") == 2 * len(found)
    assert project.run("orders", "2005-02-02").out == "no orders\n"


def test_a_cancelled_order_does_not_fill(project, conn):
    order = first_order(conn)
    assert project.run("cancel", order, "--json").document == {"order": order, "was": "ACKED", "now": "CANCELED"}
    project.trade(conn, project.sessions(2)[1])
    filled = {row[0] for row in rows(conn, "SELECT client_order_id FROM fills")}
    assert filled, "nothing was filled"
    assert order not in filled
    again = project.run("cancel", order)
    assert (again.code, again.err.splitlines()[0]) == (1, f"error: order {order} is CANCELED: it has ended.")


def test_an_unknown_order_is_said_and_cannot_be_cancelled(project, conn):
    order = first_order(conn)
    conn.execute(
        "INSERT INTO order_events SELECT client_order_id, 99, 'UNKNOWN', bar_end_at, happened_at, 'timeout'"
        " FROM order_events WHERE client_order_id = %s LIMIT 1", (order,)
    )  # fmt: skip
    conn.commit()
    said = project.run("cancel", order)
    assert "it is in doubt" in said.err
    status = project.run("status")
    assert status.code == 2
    assert f"UNKNOWN order: {order}" in status.out


def test_lots_add_up_to_the_positions(project, conn):
    project.trade(conn, project.sessions(2)[1])
    record = project.run("book", "--lots", "--json").document
    held = {p["symbol"]: float(p["qty"]) for p in record["positions"]}
    assert held, "not exercised"
    summed: dict[str, float] = {}
    for lot in record["lots"]:
        summed[lot["symbol"]] = summed.get(lot["symbol"], 0) + float(lot["qty"])
    assert summed == held
    assert "since 2005-02-02" in project.run("book", "--lots").out


def test_breaks_are_listed_and_make_the_book_unwell(project, conn):
    assert project.run("breaks").out == "no open breaks\n"
    assert project.run("status", "--json").document["open_breaks"] == []
    conn.execute(
        "INSERT INTO breaks (book, kind, subject, ledger_value, broker_value, cause, status, opened_bar_end_at,"
        " opened_at) SELECT 'sim', 'position', 'AAPL', 10, 12, 'a fill not seen', 'open', max(bar_end_at), now()"
        " FROM book_states"
    )
    conn.commit()
    assert "position   AAPL         ledger 10  broker 12" in project.run("breaks").out
    said = project.run("status")
    assert said.code == 2
    assert "1 OPEN BREAKS: nothing is sent" in said.out


def test_window_and_checks_of_a_simulated_book(project, conn):
    said = project.run("window", str(FIRST), "--json").document
    assert (said["open"], said["passed"], said["waiting"]) == (False, True, "")
    assert said["opens_at"] < said["closes_at"]
    assert project.run("checks", first_order(conn)).out.startswith("no checks")


def test_status_and_doctor_say_where_the_book_trades(project):
    assert "venue: simulated: no order leaves this machine" in project.run("status").out
    findings = {f["what"]: f for f in project.run("doctor", "--json").document}
    assert (findings["venue"]["ok"], findings["venue"]["found"]) == (True, "simulated: no order leaves this machine")


def test_the_key_of_live_trading_is_for_a_live_book(project):
    said = project.run("live", "enable", "--account-number", "123", "--reason", "a try")
    assert said.code == 1
    assert "live trading is for a book of alpaca-live" in said.err


def test_live_stays_simulated_until_every_key_is_there(project, conn):
    def said(**environ: str) -> list[str]:
        found = settings.load({**project.environ, **environ})
        answer = venue(found, conn, "real")
        conn.rollback()
        assert answer["text"].startswith("live, but it stays simulated" if answer["missing"] else "LIVE: real money")
        return [line.partition(":")[0] for line in answer["missing"]]

    project.configure({"book": {"name": "real", "account": "real", "broker": "alpaca-live"}})
    assert said() == ["keys", "the environment", "the database", "the account number that the broker reports"]
    keys = {"ALPACA_API_KEY": "k" * 20, "ALPACA_SECRET_KEY": "s" * 40}
    live = {"PAPER_TRADING": "false", "DEMO_MODE": "false"}
    assert said(**keys) == ["the environment", "the database", "the account number that the broker reports"]
    assert said(**keys, **live) == ["the database", "the account number that the broker reports"]
    enabled = project.run("live", "enable", "--account-number", "123", "--reason", "a try", environ=keys)
    assert enabled.code == 0, enabled.err
    assert said(**keys) == ["the environment"]
    assert said(**keys, **live) == []
    other = project.run("live", "enable", "--account-number", "124", "--reason", "a try", environ=keys)
    assert "account 'real' is 123 at the broker, not 124" in other.err
    assert project.run("live", "disable", "--reason", "holidays", environ=keys).code == 0
    assert said(**keys, **live) == ["the database"]
