"""The unpaused DAG by itself: on a calendar whose session closes while the test looks on, it runs once per session."""

from __future__ import annotations

import socket
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import yaml

from native_stack import Stack, prepared_project

pytestmark = [pytest.mark.db, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
CLOSES_IN_S = 75
PATIENCE_S = 420
DAYS_BACK = 40


def write_table(root: Path, today: date, close_at: datetime) -> None:
    """Write a calendar of three whole years on which every day has a session, today's closing as told."""
    lines = ["session_date,open_at,close_at"]
    for ordinal in range(date(today.year - 1, 1, 1).toordinal(), date(today.year + 2, 1, 1).toordinal()):
        day = date.fromordinal(ordinal)
        close = f"{close_at:%Y-%m-%dT%H:%M:%SZ}" if day == today else f"{day}T11:00Z"
        lines.append(f"{day},{day}T00:00Z,{close}")
    (root / "soon.csv").write_text("\n".join(lines) + "\n")


def write_data(root: Path, today: date) -> None:
    """Write a year's bars of one name as a csv feed, rising, so that the strategy has something to say."""
    sample = root / "sample"
    sample.mkdir()
    rows = ["session_date,open,high,low,close,volume,vendor_adj_close"]
    for shift in range(-DAYS_BACK, 1):
        price = 50 + (shift + DAYS_BACK) * 0.25
        day = today + timedelta(days=shift)
        rows.append(
            f"{day},{price:.2f},{price + 0.5:.2f},{price - 0.5:.2f},{price + 0.2:.2f},5000000,{price + 0.2:.2f}"
        )
    (sample / "AAPL.csv").write_text("\n".join(rows) + "\n")
    header = (ROOT / "include" / "sample_data" / "corporate_actions.csv").read_text().splitlines()[0]
    (sample / "corporate_actions.csv").write_text(header + "\n")


def write_config(root: Path) -> None:
    """Write a profile of one name on that calendar."""
    config = yaml.safe_load((ROOT / "include" / "config" / "trading.yaml").read_text())
    config["book"] |= {"name": "soon", "account": "soon", "calendar": str(root / "soon.csv"), "run_delay_minutes": 0}
    config["universe"] = {"name": "soon", "symbols": ["AAPL"]}
    config["data"] |= {"publication_lag_minutes": 0, "options": {"folder": str(root / "sample")}, "last_session": None}
    params = {"short_period": 2, "long_period": 5, "confidence_threshold": 0.5}
    config["strategies"]["ma_crossover"]["params"] |= params
    (root / "trading.test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def runs(stack: Stack, token: str) -> list[dict]:
    status, answer = stack.call("/api/v2/dags/trading_day/dagRuns?order_by=logical_date", token=token)
    assert status == 200, answer
    return list(answer["dag_runs"])


@pytest.mark.timeout(1200)
def test_the_unpaused_dag_runs_by_itself_once_per_session(tmp_path):
    today = (datetime.now(UTC) + timedelta(minutes=10)).date()
    yesterday = today - timedelta(days=1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with prepared_project(tmp_path / "project", AIRFLOW_PORT=port, TRADECORE_CONFIG="trading.test.yaml") as stack:
        write_table(stack.root, today, datetime.combine(today, datetime.max.time(), UTC))
        write_data(stack.root, today)
        write_config(stack.root)
        for command in (["db", "upgrade"], ["init", "--before", str(yesterday)]):
            done = stack.run("python", "-m", "tradecore", *command)
            assert done.returncode == 0, done.stdout + done.stderr
        done = stack.make("up")
        assert done.returncode == 0, done.stdout + done.stderr
        token = stack.token()
        close_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=CLOSES_IN_S)
        write_table(stack.root, today, close_at)
        assert stack.call("/api/v2/dags/trading_day", {"is_paused": False}, token, method="PATCH")[0] == 200

        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            states = [run["state"] for run in runs(stack, token)]
            if states == ["success", "success"] or "failed" in states:
                break
            time.sleep(3)
        time.sleep(20)  # long enough for a second run of the session, if there were one
        found = runs(stack, token)
        assert [(run["run_type"], run["state"]) for run in found] == [("scheduled", "success")] * 2
        assert [run["logical_date"][:10] for run in found] == [str(yesterday), str(today)]
        started = datetime.fromisoformat(found[1]["start_date"])
        assert close_at <= started <= close_at + timedelta(seconds=60)
        with psycopg.connect(stack.env["DATABASE_URL"]) as conn:
            rows = conn.execute(
                "SELECT session_date, status FROM tradecore.bar_runs WHERE book = 'soon' ORDER BY bar_end_at"
            ).fetchall()
        assert rows[1:] == [(yesterday, "closed"), (today, "closed")]
