"""Breakers beyond the book, and flattening it: the state moves, an alert says what lifts it, and it is lifted so."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg
import pytest
from project_home import NOW, Project, make, open_for_trading, rows

from tradecore import breakers, pipeline
from tradecore.breakers import Machine
from tradecore.config_risk import Breakers
from tradecore.storage import audit

QUIET: dict[str, Any] = {
    "gates_closed": 0,
    "open_breaks": 0,
    "losing_sessions": 0,
    "turnover_ppm": None,
    "usual_turnover_ppm": None,
    "slippage_bps": None,
    "fills": 0,
    "expected_bps": 2.0,
    "orders": 0,
    "bad_orders": 0,
    "machine": Machine(),
}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # breaker, limits, just inside, just outside
    ("data_gate", {"gate_sessions": 3}, {"gates_closed": 2}, {"gates_closed": 3}),
    ("reconciliation", {"open_breaks": True}, {"open_breaks": 0}, {"open_breaks": 1}),
    ("losing_sessions", {"losing_sessions": 4}, {"losing_sessions": 3}, {"losing_sessions": 4}),
    (
        "turnover",
        {"turnover_ratio": 3},
        {"turnover_ppm": 300, "usual_turnover_ppm": 100},
        {"turnover_ppm": 301, "usual_turnover_ppm": 100},
    ),
    (
        "slippage",
        {"slippage_excess_bps": 5, "slippage_fills": 20},
        {"slippage_bps": 7.0, "fills": 20},
        {"slippage_bps": 7.1, "fills": 20},
    ),
    (
        "slippage",
        {"slippage_excess_bps": 5, "slippage_fills": 20},
        {"slippage_bps": 50.0, "fills": 19},
        {"slippage_bps": 50.0, "fills": 20},
    ),
    (
        "broker_errors",
        {"broker_error_frac": 0.2, "broker_orders": 10},
        {"orders": 10, "bad_orders": 2},
        {"orders": 10, "bad_orders": 3},
    ),
    (
        "broker_errors",
        {"broker_error_frac": 0.2, "broker_orders": 10},
        {"orders": 9, "bad_orders": 9},
        {"orders": 10, "bad_orders": 9},
    ),
    ("machine", {"min_disk_mb": 500}, {"machine": Machine(disk_free_mb=500)}, {"machine": Machine(disk_free_mb=499)}),
    (
        "machine",
        {"min_memory_mb": 100},
        {"machine": Machine(memory_free_mb=100)},
        {"machine": Machine(memory_free_mb=99)},
    ),
    (
        "machine",
        {"max_temperature_c": 80},
        {"machine": Machine(temperature_c=80)},
        {"machine": Machine(temperature_c=81)},
    ),
    (
        "machine",
        {"max_clock_skew_s": 30},
        {"machine": Machine(clock_skew_s=-30)},
        {"machine": Machine(clock_skew_s=-31)},
    ),
]


@pytest.mark.parametrize(
    ("name", "limits", "inside", "outside"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_breaker_holds_just_inside_and_fires_just_outside(name: str, limits: dict, inside: dict, outside: dict):
    breaker = next(b for b in breakers.BREAKERS if b.name == name)
    at = Breakers(**limits)
    assert at.on
    assert not breaker.fires({**QUIET, **inside}, at)
    assert breaker.fires({**QUIET, **outside}, at)
    assert not breaker.fires({**QUIET, **outside}, Breakers()), "off as shipped"


def test_every_breaker_has_its_pair_and_all_are_off_as_shipped():
    assert {c[0] for c in CASES} == {b.name for b in breakers.BREAKERS}
    assert not Breakers().on


def test_machine_is_read(tmp_path, monkeypatch):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4 kB\nMemAvailable:    2048 kB\n")
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("61234\n")
    assert breakers._available(tmp_path / "proc/meminfo") == 2.0
    assert breakers._number(zone / "temp") == 61_234.0
    assert breakers._available(tmp_path / "none") is None


def start(tmp_path: Any, url: str, conn: psycopg.Connection, **risk: Any) -> tuple[Project, list[date]]:
    project = make(tmp_path, url)
    project.configure({"risk": risk})
    open_for_trading(project, conn)
    return project, list(project.sessions(12))


def states(conn: psycopg.Connection) -> list[tuple[int, str]]:
    return rows(conn, "SELECT to_state, actor FROM state_events WHERE actor <> 'breaker' ORDER BY bar_end_at, event_no")


@pytest.mark.db
def test_closed_gate_reduces_until_it_opens_and_says_so(tmp_path, database_url, conn):
    project, (first, second, third, fourth, *_) = start(tmp_path, database_url, conn, breakers={"gate_sessions": 1})
    project.trade(conn, first)
    kept = {s: project.change(s, second, lambda line: line.replace(line.split(",")[4], "-1")) for s in ("AAPL", "MSFT")}
    (closed,) = project.trade(conn, second)
    assert "data_gate" in closed["settle"]["breakers"]
    assert states(conn) == [(1, "breaker:data_gate")]
    ctx = pipeline.context(project.settings(), conn, book="sim", session_date=second, now=NOW)
    breakers.check(ctx)
    assert len(states(conn)) == 1, "the same facts twice order nothing twice"
    alert = rows(conn, "SELECT title, severity, next_step FROM alerts WHERE kind = 'breaker'")
    assert alert == [("Breaker data_gate: REDUCING", "warning", "it lifts when its cause is gone")]
    del kept
    (reduced,) = project.trade(conn, third)
    assert reduced["settle"]["state"] == "REDUCING"
    of_day = "FROM intents JOIN bar_runs USING (book, bar_end_at) WHERE session_date = %s AND order_qty_e6 > 0"
    bought = rows(conn, f"SELECT 1 {of_day}", third)
    assert bought == []
    assert states(conn) == [(1, "breaker:data_gate"), (0, "breaker:data_gate")]
    (again,) = project.trade(conn, fourth)
    assert again["settle"]["state"] == "ACTIVE"
    assert [e.actor for e in audit.newest(conn, 9)].count("breaker:data_gate") == 2, "it is in the audit log"


@pytest.mark.db
def test_flatten_sells_everything_and_buys_nothing_until_resume(tmp_path, database_url, conn):
    project, (first, second, third, fourth, fifth, *_) = start(tmp_path, database_url, conn)
    project.trade(conn, first, second)
    newest = "(SELECT max(bar_end_at) FROM book_states)"
    held = f"SELECT count(*) FROM book_positions WHERE qty_e6 <> 0 AND bar_end_at = {newest}"
    assert rows(conn, held)[0][0] > 1, "not exercised: nothing is held"
    wrong = project.run("flatten", "--reason", "test", "--confirm", "another")
    assert wrong.code == 1
    assert "nothing was done" in wrong.err
    assert project.run("flatten", "--reason", "test", "--confirm", "sim").code == 0
    (decides,) = project.trade(conn, third)
    assert decides["risk"]["targets"] == 0
    (sold,) = project.trade(conn, fourth)
    assert sold["settle"]["state"] == "REDUCING"
    assert rows(conn, held)[0][0] == 0
    assert sold["plan"]["orders"] == 0
    assert project.run("resume", "--reason", "done").code == 0
    (back,) = project.trade(conn, fifth)
    assert back["plan"]["orders"] > 0
    kinds = [e.kind for e in reversed(audit.newest(conn, 9))]
    assert kinds == ["trading_state", "flatten", *["trading_state"] * 3], "ordered, in force, lifted, in force"
    assert audit.verify(conn).broken_at is None
