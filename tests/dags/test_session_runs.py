"""Whole runs of trading_day through `airflow dags test`: what is red, what is green, and what was done all the same.

Each case is a book from 2004-11-03 on in a database of its own, with the real sample data; Airflow's tables are
shared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
import yaml

from tradecore.storage.connection import connect

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FIRST, SECOND = "2004-11-03", "2004-11-04"
BROKEN = '''
from tradecore.strategies import strategy


@strategy(lookback_bars=2)
def broken(window):
    """Raise, as a mistake in an owner's file does."""
    raise RuntimeError("planted")
'''
pytestmark = [pytest.mark.db, pytest.mark.slow]


@dataclass(kw_only=True)
class Case:
    """A configuration with a home, a database and a data folder of its own."""

    home: Path
    metadata_url: str
    environ: dict[str, str]
    config: dict = field(repr=False)

    def configure(self) -> None:
        (self.home / "trading.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def run(self, *command: str, expect: int | None = 0) -> str:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        output = done.stdout + done.stderr
        assert expect is None or done.returncode == expect, output[-4000:]
        return output

    def trade(self, session: str, *, expect: int = 0) -> str:
        return self.run("airflow", "dags", "test", "trading_day", session, expect=expect)

    def rows(self, query: str) -> list[tuple]:
        with connect(self.environ["DATABASE_URL"]) as conn:
            return conn.execute(query).fetchall()

    def states(self) -> dict[str, str]:
        """Return the states of the tasks of the newest run."""
        with psycopg.connect(self.metadata_url) as conn:
            found = conn.execute(
                "SELECT task_id || CASE WHEN map_index < 0 THEN '' ELSE ' ' || map_index END, state FROM task_instance"
                " WHERE run_id = (SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 1)"
            )
            return dict(found.fetchall())


@pytest.fixture(scope="module")
def metadata_url(database_server, tmp_path_factory):
    """A database with Airflow's tables."""
    name = f"test_{uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(database_server)._replace(path=f"/{name}"))
    with psycopg.connect(database_server, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        environ = airflow_environ(tmp_path_factory.mktemp("airflow"), url)
        subprocess.run([str(BIN / "airflow"), "db", "migrate"], env=environ, check=True, capture_output=True)
        yield url
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def airflow_environ(home: Path, metadata_url: str) -> dict[str, str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "TRADECORE", "DB_"))}
    return environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url.replace("postgresql://", "postgresql+psycopg2://"),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins")]),
    }


@pytest.fixture
def case(metadata_url, database_url, tmp_path) -> Case:
    """A case that reads a copy of the sample."""
    config = yaml.safe_load((ROOT / "include" / "config" / "trading.yaml").read_text())
    shutil.copytree(ROOT / "include" / "sample_data", tmp_path / "sample")
    config["data"]["options"] = {"folder": str(tmp_path / "sample")}
    environ = airflow_environ(tmp_path / "airflow", metadata_url) | {
        "AIRFLOW_CONN_TRADECORE_DB": database_url.replace("postgresql://", "postgres://"),
        "DATABASE_URL": database_url,
        "TRADECORE_HOME": str(tmp_path),
        "TRADECORE_CONFIG": "./trading.yaml",
        "TRADECORE_LOCAL_DIR": str(tmp_path / "local"),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(tmp_path / "numba")),
    }
    return Case(home=tmp_path, environ=environ, config=config, metadata_url=metadata_url)


def started(case: Case) -> Case:
    case.configure()
    case.run("python", "-m", "tradecore", "init", "--before", FIRST)
    return case


def test_a_session_and_the_next_and_the_first_again(case):
    started(case)
    case.trade(FIRST)
    states = case.states()
    assert [task for task, state in states.items() if state != "success"] == ["approve.person"]
    assert states["approve.person"] == "skipped", "a person was asked for"
    case.trade(SECOND)
    assert case.rows("SELECT count(*) FROM fills")[0][0] > 0, "not exercised"
    tables = "book_states book_positions signals targets intents order_events fills bar_runs decisions reports"
    before = {table: case.rows(f"SELECT t::text, xmin FROM {table} t ORDER BY 1") for table in tables.split()}
    case.trade(FIRST)
    after = {table: case.rows(f"SELECT t::text, xmin FROM {table} t ORDER BY 1") for table in tables.split()}
    assert after == before


def test_a_closed_gate_settles_and_reports_and_orders_nothing(case):
    for symbol in ("IBM", "MSFT"):
        path = case.home / "sample" / f"{symbol}.csv"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(SECOND)]
        path.write_text("\n".join(lines) + "\n")
    started(case)
    case.trade(FIRST)
    case.trade(SECOND)
    states = case.states()
    assert {task for task, state in states.items() if state == "skipped"} == {
        "signal.strategies", "signal.run", "risk.run", "plan.run", "approve.run", "approve.person",
        "submit.run"}  # fmt: skip
    assert {state for task, state in states.items() if state != "skipped"} == {"success"}
    assert case.rows("SELECT status, outcome FROM bar_runs ORDER BY bar_end_at DESC LIMIT 1") == [
        ("closed", "settled, no decision")
    ]
    assert "gate" in [row[0] for row in case.rows("SELECT kind FROM alerts")]
    case.trade("2004-11-05")
    assert case.states()["submit.run"] == "success"


def test_a_strategy_that_raises_is_red_and_the_run_is_green(case):
    own = case.home / "include" / "strategies"
    own.mkdir(parents=True)
    (own / "broken.py").write_text(BROKEN)
    good = case.config["strategies"]["ma_crossover"]
    case.config["strategies"] = {"ma_crossover": good | {"capital_share": 0.5}, "broken": {"capital_share": 0.5}}
    started(case)
    case.trade(FIRST)
    states = case.states()
    assert (states["signal.run 0"], states["signal.run 1"]) == ("success", "failed")
    rest = {state for task, state in states.items() if task not in ("signal.run 1", "approve.person")}
    assert rest == {"success"}
    assert case.rows("SELECT count(*) FROM intents")[0][0] > 0
    assert "Strategy broken failed" in [row[0] for row in case.rows("SELECT title FROM alerts")]


def test_a_failed_settle_makes_the_run_red_and_leaves_the_book_where_it_was(case):
    started(case)
    with connect(case.environ["DATABASE_URL"]) as conn:
        conn.execute("ALTER TABLE book_states RENAME COLUMN cash_e4 TO planted")
    case.trade(FIRST, expect=1)
    with connect(case.environ["DATABASE_URL"]) as conn:
        conn.execute("ALTER TABLE book_states RENAME COLUMN planted TO cash_e4")
    states = case.states()
    assert (states["settle.run"], states["close.run"], states["close.outcome"]) == (
        "failed", "success", "upstream_failed")  # fmt: skip
    behind = ("gate.run", "signal.strategies", "risk.run", "plan.run", "report.run", "approve.run", "submit.run")
    assert {states[task] for task in behind} == {"upstream_failed"}
    assert case.rows("SELECT max(session_date)::text FROM book_states") == [("2004-11-02",)]
    titles = [row[0] for row in case.rows("SELECT title FROM alerts WHERE kind = 'task_failed'")]
    assert titles == [f"trading_day of session {FIRST}: settle failed"]
    case.trade(FIRST)


@pytest.mark.parametrize(
    "session, stage, message",
    [
        ("2004-11-06", "ingest", r"2004-11-06 \(Saturday\) is not a session of XNYS; nearest sessions: 2004-11-05 and"),
        ("2004-11-25", "ingest", r"2004-11-25 \(Thursday\) is not a session of XNYS"),
        ("2004-11-05", "turn", r"session 2004-11-05 is not the next one of book"),
    ],
)
def test_a_date_that_cannot_be_traded_fails_at_once_with_the_reason(case, session, stage, message):
    started(case)
    output = case.trade(session, expect=1)
    assert re.search(message, output)
    states = case.states()
    assert [task for task, state in states.items() if state == "failed"] == [f"{stage}.run"]
    assert case.rows("SELECT count(*) FROM book_states") == [(1,)]


# -- a sweep in shards

SWEEP = {
    "strategy": "donchian_breakout",
    "parameters": ["entry_period=5:20:5", "exit_period=3:9:2"],
    "first_session": "2004-12-01",
    "last_session": "2005-03-31",
    "tasks": 3,
    "top": 2,
}


def test_a_sweep_runs_in_shards_its_best_are_folded_and_a_walk_forward_joins_its_tests(case):
    case.configure()
    case.run("python", "-m", "tradecore", "load-history", "2004-09-01", "2005-03-31")
    case.run("airflow", "dags", "test", "research_sweep", "2005-04-01", "--conf", json.dumps(SWEEP))
    names = ("sweep.plan", "sweep.run 0", "sweep.run 1", "sweep.run 2", "sweep.collect")
    assert case.states() == dict.fromkeys(names, "success")
    assert case.rows("SELECT n_sets, n_chunks, engine FROM sweeps") == [(16, 1, "fold")]
    assert case.rows("SELECT count(*) FROM sweep_results") == [(16,)]
    assert case.rows("SELECT rank FROM sweep_best ORDER BY 1") == [(1,), (2,)]
    files = sorted(p.suffix for p in (case.home / "local" / "research" / "sweeps").iterdir())
    assert files == [".html", ".parquet"]
    walk = {**SWEEP, "walk_forward": "anchored", "train_sessions": 30, "test_sessions": 15, "tasks": 1}
    case.run("airflow", "dags", "test", "research_sweep", "2005-04-01", "--conf", json.dumps(walk))
    assert set(case.states().values()) == {"success"}
    assert case.rows("SELECT count(*), count(params) FROM walk_forward_windows") == [(3, 3)]
    assert case.rows("SELECT count(*) FROM walk_forward_equity")[0][0] > 30


# -- a backtest and a page on the universe, from their forms


@pytest.mark.slow
def test_a_backtest_from_its_form_is_kept_with_its_page_and_a_universe_is_analysed(case):
    case.configure()
    case.run("python", "-m", "tradecore", "load-history", "2004-09-01", "2005-03-31")
    form = {"first_session": "2004-12-01", "last_session": "2005-03-31"}
    asked = {
        "params_json": '{"ma_crossover": {"short_period": 5}}',
        "cash_usd": 50_000,
        "cost_bps": 4,
        "benchmark": "IBM",
    }
    case.run("airflow", "dags", "test", "research_backtest", "2005-04-01", "--conf", json.dumps(form | asked))
    assert case.states() == dict.fromkeys(("backtest.quiet", "backtest.run"), "success")
    ((cash, benchmark, overrides, path),) = case.rows(
        "SELECT initial_cash_e4, benchmark, overrides, report_path FROM backtests"
    )
    assert (cash, benchmark, overrides["cost_bps"]) == (500_000_000, "IBM", 4)
    assert "Tear sheet" in (case.home / path).read_text(encoding="utf-8")
    case.run("airflow", "dags", "test", "research_analyse", "2005-04-01", "--conf", json.dumps(form))
    assert case.states() == dict.fromkeys(("analyse.quiet", "analyse.run"), "success")
    (page,) = (case.home / "local" / "reports" / "analysis").iterdir()
    assert "Volatility regimes" in page.read_text(encoding="utf-8")


# -- a person who is asked, and a day that is not over: `dags test` waits for nothing

TABLE = "session_date,open_at,close_at"


def today_is_a_session(case: Case) -> str:
    """Give the case a calendar and bars on which a session has just closed and the next one closes tomorrow."""
    today = datetime.now(UTC).date()
    closed = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    first = date(today.year - 1, 1, 1)  # whole years: volatility counts the sessions of one
    days = [first + timedelta(days=shift) for shift in range(3 * 365)]
    ends = {day: f"{day}T{closed:%H:%M:%S}Z" for day in days}
    opens = {day: f"{day - timedelta(days=1)}T{closed:%H:%M:%S}Z" for day in days}
    table = "\n".join([TABLE, *(f"{day},{opens[day]},{ends[day]}" for day in days)])
    (case.home / "days.csv").write_text(table + "\n")
    rows = ["session_date,open,high,low,close,volume,vendor_adj_close"]
    for k, day in enumerate(d for d in days if today - timedelta(days=60) <= d <= today):
        price = 50 + k / 4
        rows.append(
            f"{day},{price:.2f},{price + 0.5:.2f},{price - 0.5:.2f},{price + 0.2:.2f},5000000,{price + 0.2:.2f}"
        )
    (case.home / "sample" / "AAPL.csv").write_text("\n".join(rows) + "\n")
    (case.home / "sample" / "corporate_actions.csv").write_text(
        (ROOT / "include" / "sample_data" / "corporate_actions.csv").read_text().splitlines()[0] + "\n"
    )
    case.config["book"] |= {"calendar": str(case.home / "days.csv"), "run_delay_minutes": 0}
    case.config["data"] |= {"publication_lag_minutes": 0, "last_session": None}
    case.config["universe"] = {"name": "one", "symbols": ["AAPL"]}
    case.config["strategies"]["ma_crossover"]["params"] |= {
        "short_period": 2, "long_period": 5, "confidence_threshold": 0.5}  # fmt: skip
    case.config["execution"]["approval_required"] = True
    return str(today)


def test_a_test_of_today_asks_nobody_and_says_what_it_would_wait_for(case):
    today = today_is_a_session(case)
    case.configure()
    case.run("python", "-m", "tradecore", "init", "--before", today)
    output = case.trade(today)
    assert "Not waited for in a test: 1 orders of sim for the session after" in output
    assert "Waiting for a person's answer to the order sheet, until" in output
    assert set(case.states().values()) == {"success"}
    assert case.rows("SELECT status FROM orders") == [("PLANNED",)]
    assert case.rows("SELECT status FROM bar_runs ORDER BY bar_end_at DESC LIMIT 1") == [("decided",)]
    # the command line goes on from there
    sheet = case.rows("SELECT sheet_hash FROM decisions")[0][0]
    case.run("python", "-m", "tradecore", "approve", today, "--sheet", sheet, "--by", "ann")
    case.run("python", "-m", "tradecore", "submit", today)
    assert case.rows("SELECT status FROM orders") == [("ACKED",)]
    assert case.rows("SELECT verdict, actor FROM approvals") == [("approved", "cli:ann")]


def test_history_is_loaded_in_parts_validated_and_repaired(case):
    """Five names in parts of two, a hole that the folder fills again, and the repair that finds it."""
    case.configure()
    case.run("python", "-m", "tradecore", "db", "upgrade")
    case.run("airflow", "pools", "set", "vendor", "2", "asks a vendor")
    form = {"first_session": "2004-11-01", "last_session": "2004-12-31", "batch_size": 2}
    output = case.run("airflow", "dags", "test", "load_history", "-c", json.dumps(form))
    assert "3 of 3 parts" in output or case.rows("SELECT count(*) FROM load_parts WHERE done_at IS NOT NULL") == [(3,)]
    states = case.states()
    assert {states[f"load.run {k}"] for k in range(3)} == {"success"}
    assert (states["load.validate"], states["load.repair"]) == ("success", "success")
    assert case.rows("SELECT count(*) FROM loads WHERE finished_at IS NOT NULL") == [(1,)]
    loaded = case.rows("SELECT count(*) FROM bars")
    assert loaded == [(4 * 43,)]
    with connect(case.environ["DATABASE_URL"]) as conn:
        conn.execute("DELETE FROM bars WHERE session_date = '2004-12-01'")
    form |= {"repair": True, "symbols": ["IBM"]}
    case.run("airflow", "dags", "test", "load_history", "-c", json.dumps(form))
    assert case.rows("SELECT count(*) FROM bars WHERE session_date = '2004-12-01'") != [(0,)]
