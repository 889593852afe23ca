"""A paper account through the DAG, as its owner starts: `init`, a session by `airflow dags test`, and the next one.

The venue is the stand-in on the real clock, over HTTP. The DAG finds the keys in Airflow's connection `alpaca_default`
and nowhere else; `init`, a command of the shell, finds them in the environment.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from stack_fixture import free_port

import live_account
from alpaca_standin.client import Standin, running
from native_stack import Stack, prepared_project

pytestmark = [pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(3600)]
OPEN_FOR = timedelta(minutes=int(os.environ.get("OPEN_MINUTES") or 5))  # of the next session: until then all is sent
BOOK, KEY, SECRET = "paper", "STANDIN-KEY", "standin-secret"
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """The copy of the project, the venue, and the two sessions: one that has closed, one that is open."""

    stack: Stack
    standin: Standin
    closed: date
    closes_at: datetime

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.env["DATABASE_URL"], options="-c search_path=tradecore,public") as conn:
            return conn.execute(sql, values or None).fetchall()

    def tradecore(self, *command: str) -> str:
        """Run a command of the shell, with the keys in its environment."""
        keys = {"ALPACA_API_KEY": KEY, "ALPACA_SECRET_KEY": SECRET}
        shell = dataclasses.replace(self.stack, env={**self.stack.env, **keys})
        return _well(shell, "python", "-m", "tradecore", *command)

    def session(self, label: date) -> float:
        """Run the DAG over a session, without keys in the environment; returns the seconds that took."""
        assert not {"ALPACA_API_KEY", "ALPACA_SECRET_KEY"} & set(self.stack.env)
        began = time.monotonic()
        said = _well(self.stack, "airflow", "dags", "test", "trading_day", str(label))
        assert SECRET not in said
        return time.monotonic() - began


def _well(stack: Stack, *command: str) -> str:
    done = stack.run(*command, timeout_s=1200)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout + done.stderr


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Paper]:
    root, port = tmp_path.resolve(), free_port()
    settings = {
        "TRADECORE_CONFIG": str(root / "paper.yaml"),
        "ALPACA_BASE_URL": f"http://127.0.0.1:{port}",
        "NUMBA_DISABLE_JIT": "1",  # two bars of five names: to compile takes longer than the session is open
        "AIRFLOW_CONN_ALPACA_DEFAULT": json.dumps({"conn_type": "generic", "login": KEY, "password": SECRET}),
    }
    with prepared_project(root, **settings) as stack:
        write_profile(root)
        _well(stack, "python", "deploy/stack.py", "migrate")
        closed, _, closes_at = live_account.open_now(root, OPEN_FOR)
        write_prices(root, closed + timedelta(days=1))
        options = ["--port", str(port), "--calendar", str(root / "sessions.csv"), "--prices", str(root / "prices")]
        options += ["--start", datetime.now(UTC).isoformat(), "--speed", "1", "--partial-fills", "0"]
        with running(*options) as standin:
            yield Paper(stack=stack, standin=standin, closed=closed, closes_at=closes_at)


def write_profile(root: Path) -> None:
    """Write the sample's profile with a paper book on a calendar and a feed of the test's own."""
    config = yaml.safe_load((root / "include" / "config" / "trading.yaml").read_text())
    calendar = str(root / "sessions.csv")
    config["book"] |= {"name": BOOK, "account": BOOK, "broker": "alpaca-paper", "calendar": calendar}
    config["book"] |= {"run_delay_minutes": 0}
    config["data"] |= {"options": {"folder": str(root / "feed")}, "publication_lag_minutes": 0, "last_session": None}
    config["strategies"] = {"buy_and_hold": {}}
    config["execution"] |= {"order_style": "market"}
    (root / "paper.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def write_prices(root: Path, opened: date) -> None:
    """Write what the venue trades at: the feed's bars and one of the open session, a hundredth higher."""
    shutil.copytree(root / "feed", root / "prices")
    for symbol in SYMBOLS:
        path = root / "prices" / f"{symbol}.csv"
        header, *_, last = path.read_text().splitlines()
        row = dict(zip(header.split(","), last.split(","), strict=True)) | {"session_date": str(opened)}
        row |= {name: f"{Decimal(row[name]) * Decimal('1.01'):.2f}" for name in ("open", "high", "low", "close")}
        with path.open("a") as out:
            out.write(",".join(row.values()) + "\n")


def test_orders_of_a_session_reach_the_paper_account_and_their_fills_the_book(paper: Paper) -> None:
    opened = paper.closed + timedelta(days=1)
    paper.tradecore("init")
    first_s = paper.session(paper.closed)
    sent = paper.query("SELECT client_order_id, status, status_detail FROM orders WHERE book = %s", BOOK)
    counters = paper.standin.admin("counters")
    assert len(sent) >= 4, f"not exercised: {sent}"
    assert {status for _, status, _ in sent} <= {"ACKED", "FILLED"}, sent
    assert counters["received"] == {order_id: 1 for order_id, *_ in sent}

    time.sleep(max(0.0, (paper.closes_at - datetime.now(UTC)).total_seconds() + 1))
    shutil.rmtree(paper.stack.root / "feed")
    shutil.copytree(paper.stack.root / "prices", paper.stack.root / "feed")  # the vendor has the session's bar now
    second_s = paper.session(opened)

    ended = paper.query(
        "SELECT client_order_id, status FROM orders WHERE client_order_id = ANY(%s)", [o[0] for o in sent]
    )
    assert set(ended) == {(order_id, "FILLED") for order_id, *_ in sent}
    fills = paper.query(
        "SELECT f.symbol, f.qty, f.price FROM broker_fills f JOIN bar_runs r"
        " ON r.book = f.book AND r.bar_end_at = f.booked_bar_end_at WHERE f.book = %s AND r.session_date = %s",
        BOOK, opened,
    )  # fmt: skip
    venue_fills = paper.standin.api("GET", "/v2/account/activities/FILL")[1]
    assert sorted((s, q, p) for s, q, p in fills) == sorted(
        (f["symbol"], Decimal(f["qty"]), Decimal(f["price"])) for f in venue_fills
    )
    held = paper.query(
        "SELECT s.symbol, p.qty_e6 / 1000000.0 FROM book_positions p JOIN instrument_symbols s USING (instrument_id)"
        " JOIN bar_runs r USING (book, bar_end_at) WHERE p.book = %s AND r.session_date = %s AND p.qty_e6 <> 0",
        BOOK, opened,
    )  # fmt: skip
    positions = paper.standin.api("GET", "/v2/positions")[1]
    assert {s: Decimal(q) for s, q in held} == {p["symbol"]: Decimal(p["qty"]) for p in positions}
    cash = paper.query("SELECT cash_e4 FROM book_states WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1", BOOK)[0][0]
    assert Decimal(cash) / 10_000 == Decimal(paper.standin.api("GET", "/v2/account")[1]["cash"])
    assert "no open breaks" in paper.tradecore("breaks")
    assert paper.standin.admin("counters")["received"] == counters["received"], "a second POST of the first sheet"
    print(
        f"proof: a paper account through the DAG: {len(sent)} orders acknowledged once each, {len(fills)} fills booked"
        f" by the next session, cash and shares equal; dags test took {first_s:.0f} and {second_s:.0f} s"
    )
