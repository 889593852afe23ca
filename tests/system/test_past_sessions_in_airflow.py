"""Past sessions through a real scheduler with live keys in place: backfill, dags test, clear and runs by hand.

A live book, its three keys agreeing, and the venue answering (live_account.py); the venue counts what arrives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from stack_fixture import ENDED, free_port, wait_until

import live_account
from alpaca_standin.client import Standin
from live_account import BOOK, NUMBER, ORDERS
from native_stack import Stack, prepared_project
from tradecore.sessions import calendar

pytestmark = [pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(2 * 3600)]
PATIENCE_S = 3600
FIRST = date(2004, 11, 15)
COUNT = int(os.environ.get("BACKFILL_SESSIONS") or 60)
*FILLED, BY_TEST, BY_HAND = calendar("XNYS").sessions_in_range(FIRST, date(2005, 12, 30))[: COUNT + 2]
CLEARED = FILLED[-5:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The stack and the venue."""

    stack: Stack
    standin: Standin

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.env["DATABASE_URL"], autocommit=True) as conn:
            return conn.execute(sql, values or None).fetchall()

    def run(self, *command: str) -> str:
        done = self.stack.run(*command, timeout_s=900)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    def wait_for_runs(self, condition: str, count: int, *values: object) -> None:
        """Wait until so many runs have ended, and well."""
        query = f"SELECT state, count(*) FROM dag_run WHERE {condition} GROUP BY 1"
        wait_until(
            lambda: sum(n for state, n in self.query(query, *values) if state in ENDED) >= count,
            PATIENCE_S,
            f"{count} runs {condition} to end",
        )
        assert self.query(query, *values) == [("success", count)]

    def nothing_left(self, sessions: int) -> int:
        return live_account.assert_nothing_left(self.standin, self.query(ORDERS, BOOK), sessions)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("money")
    with live_account.venue_of_today() as standin:
        settings = live_account.environment(standin) | {
            "TRADECORE_CONFIG": str(folder.resolve() / "money.yaml"),
            "AIRFLOW_PORT": str(free_port()),
        }
        with prepared_project(folder, **settings) as prepared:
            live_account.write_profile(prepared.root / "money.yaml", Path("include/sample_data"))
            found = Live(stack=prepared, standin=standin)
            done = prepared.make("up", timeout_s=1200)
            assert done.returncode == 0, done.stdout + done.stderr
            for command in (
                ["load-history", "2004-06-01", str(BY_HAND)],
                ["init", "--before", str(FIRST)],
                ["live", "enable", "--account-number", NUMBER, "--reason", "the test of past sessions"],
            ):
                found.run("python", "-m", "tradecore", *command)
            parsed = "SELECT count(*) FROM serialized_dag WHERE dag_id = 'trading_day'"
            wait_until(lambda: found.query(parsed)[0][0] == 1, 900, "the DAG to be parsed")
            found.run("airflow", "dags", "unpause", "trading_day", "--yes")
            yield found


def test_backfill_of_sixty_sessions_sends_nothing(live: Live) -> None:
    assert len(FILLED) == COUNT
    dates = ["--from-date", str(FIRST), "--to-date", str(FILLED[-1])]
    live.run("airflow", "backfill", "create", "--dag-id", "trading_day", *dates, "--max-active-runs", "10")
    live.wait_for_runs("run_type = 'backfill'", COUNT)
    orders = live.nothing_left(COUNT)
    took = live.query("SELECT max(end_date) - min(queued_at) FROM dag_run WHERE run_type = 'backfill'")[0][0]
    print(
        f"proof: backfill of {COUNT} sessions of a live book in {took.total_seconds():.0f} s: {orders} orders, 0 POSTs"
    )


def test_dags_test_and_a_run_by_hand_send_nothing(live: Live) -> None:
    live.run("airflow", "dags", "test", "trading_day", str(BY_TEST))
    body = {"logical_date": None, "conf": {"session": str(BY_HAND)}}
    status, run = live.stack.call("/api/v2/dags/trading_day/dagRuns", body, live.stack.token())
    assert status == 200, run
    live.wait_for_runs("run_id = %s", 1, run["dag_run_id"])
    orders = live.nothing_left(COUNT + 2)
    print(f"proof: dags test and a run by hand: {orders} orders in all, 0 POSTs")


def test_cleared_runs_send_nothing(live: Live) -> None:
    """All tasks of some backfilled sessions again, as a person clears them."""
    before = live.query("SELECT max(start_date) FROM dag_run WHERE run_type = 'backfill'")[0][0]
    first, last = str(CLEARED[0]), str(CLEARED[-1])
    live.run("airflow", "tasks", "clear", "trading_day", "--start-date", first, "--end-date", last, "--yes")
    live.wait_for_runs("run_type = 'backfill' AND start_date > %s", len(CLEARED), before)
    orders = live.nothing_left(COUNT + 2)
    print(f"proof: {len(CLEARED)} cleared sessions: {orders} orders in all, 0 POSTs")
