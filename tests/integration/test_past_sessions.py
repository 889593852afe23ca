"""Past sessions through the command line with live keys in place: orders are made, and none leaves.

A live book, its three keys agreeing, and the venue answering: what stands in the way is the window alone. Twenty
sessions run with the other tests, five years with `make past-sessions`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
from project_home import REPO, Project, rows

import live_account
from alpaca_standin.client import Standin
from live_account import BOOK, NUMBER, ORDERS
from tradecore.sessions import calendar

pytestmark = pytest.mark.db
FIRST = date(2004, 9, 1)
WITH_REPORT = 10  # sessions by run-session; those after them stage by stage without the report, which sends nothing
STAGES = ("ingest", "validate", "settle", "signal", "risk", "plan", "approve", "submit", "close")


@pytest.fixture
def standin() -> Iterator[Standin]:
    with live_account.venue_of_today() as running:
        yield running


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(date(2004, 9, 15), id="10"),
        pytest.param(date(2009, 8, 31), id="five-years", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_past_sessions_send_nothing_though_every_key_agrees(
    tmp_path: Path, database_url: str, conn: psycopg.Connection, standin: Standin, last: date
):
    project = Project(home=tmp_path, database_url=database_url)
    live_account.write_profile(project.config, REPO / "include/sample_data")
    environ = live_account.environment(standin)

    def cli(*arguments: str) -> None:
        said = project.run(*arguments, environ=environ)
        assert said.code == 0, said.err

    cli("init", "--before", str(FIRST))
    cli("live", "enable", "--account-number", NUMBER, "--reason", "the test of past sessions")
    sessions = calendar("XNYS").sessions_in_range(FIRST, last)
    cli("load-history", str(FIRST), str(last))
    started, cpu = time.monotonic(), time.process_time()
    for number, day in enumerate(sessions):
        if number < WITH_REPORT:
            cli("run-session", str(day))
            continue
        for stage in STAGES:
            cli(stage, str(day))
    took, cpu = time.monotonic() - started, time.process_time() - cpu
    found = rows(conn, ORDERS, BOOK)
    orders = live_account.assert_nothing_left(standin, found, len(sessions))
    assert rows(conn, "SELECT kind FROM books WHERE book = %s", BOOK) == [("alpaca-live",)]
    print(
        f"proof: {len(sessions)} past sessions, live book, in {took:.0f} s, {cpu / len(sessions):.2f} s of CPU each:"
        f" {orders} orders not sent, window_passed; 0 POSTs"
    )


def test_the_same_book_sends_once_its_window_is_open(tmp_path: Path, database_url: str, conn: psycopg.Connection):
    """What kept the past from trading is the window and nothing else: the counter counts."""
    closed, opens, closes = live_account.open_now(tmp_path)
    with live_account.venue_of_today(
        "--calendar", str(tmp_path / "sessions.csv"), "--prices", str(tmp_path / "feed")
    ) as standin:
        project = Project(home=tmp_path, database_url=database_url)
        live_account.write_profile(project.config, tmp_path / "feed", order_style="market")
        calendar_file = str(tmp_path / "sessions.csv")
        project.configure({"book": {"calendar": calendar_file}, "data": {"last_session": None}})
        environ = live_account.environment(standin)
        for arguments in (
            ["init", "--before", str(closed)],
            ["live", "enable", "--account-number", NUMBER, "--reason", "the test of past sessions"],
            ["run-session", str(closed)],
        ):
            said = project.run(*arguments, environ=environ)
            assert said.code == 0, said.err
        counters = standin.admin("counters")
    assert opens < datetime.now(UTC) < closes
    statuses = rows(conn, "SELECT status, count(*) FROM orders WHERE book = %s GROUP BY 1", BOOK)
    assert statuses == [("ACKED", counters["posts_accepted"])]
    assert counters["posts_accepted"] >= 4
