"""What may go wrong on a day, and what then still happens: a closed gate, a failed strategy, a name without a bar."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from project_home import OWN, Project, make, open_for_trading, rows

from tradecore import strategies
from tradecore.errors import StrategyError

pytestmark = pytest.mark.db


def start(tmp_path: Path, url: str, conn: psycopg.Connection, **own: Any) -> tuple[Project, tuple[date, ...]]:
    """A project with two strategies that hold positions after its first two sessions; return it and the next ones."""
    project = make(tmp_path, url, own={"on_failure": "hold", **own})
    open_for_trading(project, conn)
    first, second, *later = project.sessions(9)
    project.trade(conn, first, second)
    assert len(held(conn)) == 4, "not exercised: the strategies hold nothing"
    return project, tuple(later)


def held(conn: psycopg.Connection) -> dict[str, tuple[int, int, int]]:
    """Return {symbol: (qty, mark, stale bars)} after the book's last bar."""
    found = rows(
        conn,
        "SELECT symbol, qty_e6, mark_e4, stale_bars FROM book_positions JOIN instrument_symbols USING (instrument_id)"
        " WHERE qty_e6 <> 0 AND bar_end_at = (SELECT max(bar_end_at) FROM book_states)",
    )
    return {r[0]: (r[1], r[2], r[3]) for r in found}


def allocated(conn: psycopg.Connection, strategy: str) -> dict[str, int]:
    """Return {symbol: qty} that a strategy holds after the book's last bar."""
    found = rows(
        conn,
        "SELECT symbol, qty_e6 FROM book_allocations JOIN instrument_symbols USING (instrument_id)"
        " WHERE strategy = %s AND bar_end_at = (SELECT max(bar_end_at) FROM book_states)",
        strategy,
    )
    return dict(found)


def orders(conn: psycopg.Connection, session: date) -> dict[str, tuple[int, str]]:
    """Return {symbol: (qty, status)} of the orders decided at a session's close."""
    found = rows(
        conn,
        "SELECT symbol, order_qty_e6, o.status FROM orders o JOIN instrument_symbols USING (instrument_id)"
        " JOIN bar_runs r USING (book, bar_end_at) WHERE r.session_date = %s",
        session,
    )
    return {r[0]: (r[1], r[2]) for r in found}


def alerts(conn: psycopg.Connection, kind: str) -> list[tuple[Any, ...]]:
    return rows(
        conn, "SELECT session_date, stage, title, body, next_step FROM alerts WHERE kind = %s ORDER BY alert_id", kind
    )


def test_closed_gate_still_settles_and_decides_nothing_and_the_next_session_runs(tmp_path, database_url, conn):
    project, (day, after, *_) = start(tmp_path, database_url, conn)
    second = project.sessions(2)[1]
    open_orders, before = orders(conn, second), held(conn)
    assert set(open_orders) == {"AAPL", "GOOG", "MSFT"}
    for symbol in ("AAPL", "MSFT"):
        project.change(symbol, day, lambda line: line.replace(line.split(",")[4], "-1"))
    (done,) = project.trade(conn, day)

    assert done["validate"]["gate_open"] is False
    assert done["validate"]["gate_reason"] == (
        "2 of 4 members due, missing AAPL, MSFT: coverage 50.0% is below 95.0% and 2 missing is more than 1"
    )
    assert set(done) == {"ingest", "validate", "settle", "report", "approve", "submit", "close"}
    assert done["close"] == {"status": "closed", "outcome": "settled, no decision"}
    # settled: what had a bar was filled at its open, what had none was not, and the book adds up
    filled = dict(
        rows(
            conn,
            "SELECT symbol, f.qty_e6 FROM fills f JOIN instrument_symbols USING (instrument_id) JOIN bar_runs r"
            " USING (book, bar_end_at) WHERE r.session_date = %s",
            day,
        )
    )
    assert filled == {"GOOG": open_orders["GOOG"][0]}
    assert {s: held(conn)[s][0] for s in before} == {s: before[s][0] + filled.get(s, 0) for s in before}
    assert {s: status for s, (_, status) in orders(conn, second).items()} == {
        "AAPL": "EXPIRED",
        "MSFT": "EXPIRED",
        "GOOG": "FILLED",
    }
    assert {s: (mark == before[s][1], stale) for s, (_, mark, stale) in held(conn).items()} == {
        "AAPL": (True, 1),
        "MSFT": (True, 1),
        "GOOG": (False, 0),
        "IBM": (False, 0),
    }
    # no signal, no decision, no order
    for table in ("signals", "strategy_runs", "decisions", "targets", "intents"):
        query = f"SELECT count(*) FROM {table} JOIN bar_runs r USING (book, bar_end_at) WHERE r.session_date = %s"
        assert rows(conn, query, day) == [(0,)], table
    ((session, stage, title, body, next_step),) = alerts(conn, "gate")
    assert (session, stage, title) == (day, "validate", "The data gate is closed")
    assert "missing AAPL, MSFT" in body
    assert next_step

    (done,) = project.trade(conn, after)
    assert done["validate"]["gate_open"] is True
    assert done["close"]["status"] == "closed"
    assert len(orders(conn, after)) >= 1
    assert all(stale == 0 for _, _, stale in held(conn).values())


def test_stages_after_a_closed_gate_do_nothing_one_by_one_either(tmp_path, database_url, conn):
    project, (day, *_) = start(tmp_path, database_url, conn)
    for symbol in ("AAPL", "MSFT"):
        project.change(symbol, day, lambda line: None)
    said = {
        stage: project.run(stage, str(day), "--json")
        for stage in ("ingest", "validate", "settle", "signal", "risk", "plan", "report", "approve", "submit", "close")
    }
    assert {stage: answer.code for stage, answer in said.items()} == dict.fromkeys(said, 0), said
    assert said["validate"].document["gate_open"] is False
    assert said["settle"].document["fills"] == 1
    assert said["risk"].document["decision"] == "none"
    assert "gate closed" in said["risk"].document["reason"]
    assert said["close"].document == {"status": "closed", "outcome": "settled, no decision"}
    for table in ("signals", "strategy_runs", "decisions"):
        query = f"SELECT count(*) FROM {table} JOIN bar_runs r USING (book, bar_end_at) WHERE r.session_date = %s"
        assert rows(conn, query, day) == [(0,)], table


def test_gate_that_closes_after_the_plan_sends_nothing(tmp_path, database_url, conn):
    project, (day, *_) = start(tmp_path, database_url, conn)
    for stage in ("ingest", "validate", "settle", "signal", "risk", "plan", "approve"):
        assert project.run(stage, str(day)).code == 0
    planned = orders(conn, day)
    assert planned
    for symbol in ("AAPL", "MSFT"):  # the vendor restates, with nonsense
        project.change(symbol, day, lambda line: line.replace(line.split(",")[4], "-1"))
    project.run("ingest", str(day))
    assert project.run("validate", str(day), "--json").document["gate_open"] is False
    assert project.run("submit", str(day), "--json").document == {"sent": 0, "reason": "gate_closed"}
    assert {status for _, status in orders(conn, day).values()} == {"NOT_SENT"}
    assert rows(conn, "SELECT outcome FROM bar_runs WHERE session_date = %s", day) == [("not sent: gate_closed",)]
    assert len(alerts(conn, "not_sent")) == 1


def test_scores_of_bars_that_were_restated_since_count_for_nothing(tmp_path, database_url, conn):
    """IBM is restated after the strategies scored it, and only one of them is run again before risk."""
    project, (day, *_) = start(tmp_path, database_url, conn)
    for stage in ("ingest", "validate", "settle", "signal"):
        assert project.run(stage, str(day)).code == 0
    scored = rows(conn, "SELECT xmin::text, r.*::text FROM strategy_runs r")
    assert project.run("signal", str(day)).code == 0
    assert rows(conn, "SELECT xmin::text, r.*::text FROM strategy_runs r") == scored, "nothing changed"
    project.change("IBM", day, lambda line: line.replace(line.split(",")[4], line.split(",")[3]))  # close = low
    for stage in ("ingest", "validate"):
        assert project.run(stage, str(day)).code == 0
    assert project.run("signal", str(day), "--strategy", "ma_crossover").code == 0
    assert project.run("risk", str(day), "--json").document["decision"] == 1
    (told,) = alerts(conn, "strategy")
    assert f"{OWN} has scored other bars" in told[2]
    kept = "SELECT strategy, instrument_id, qty_e6 FROM {} WHERE bar_end_at = (SELECT max(bar_end_at) FROM book_states)"
    of = f" AND strategy = '{OWN}' ORDER BY 2"
    held_now = rows(conn, kept.format("book_allocations") + of)
    assert held_now, "not exercised: it holds nothing"
    assert rows(conn, kept.format("target_contributions") + of) == held_now, "it holds, as it asks for on failure"
    assert project.run("signal", str(day), "--strategy", OWN).code == 0
    assert project.run("risk", str(day), "--json").document["decision"] == 2, "scored again: another decision"
    assert rows(conn, kept.format("target_contributions") + of) != held_now
    assert len(alerts(conn, "strategy")) == 1


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "sent"])
def test_carried_order_ends_only_with_the_sheet_that_replaces_it(tmp_path, database_url, conn, refused: bool):
    """Buys too large for their bars are carried; the strategy turns, and the sheet that sells instead is refused."""
    project = make(tmp_path, database_url, own={"capital_share": 1.0})
    project.configure({"execution": {"remainder": "carry", "participation_frac": 0.000001, "max_order_age_bars": 5}})
    config = yaml.safe_load(project.config.read_text())
    config["strategies"] = {OWN: config["strategies"][OWN]}
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))
    open_for_trading(project, conn)
    first, second, day, after = project.sessions(4)
    project.trade(conn, first, second)
    project.model.write_text("100\n")  # nothing rises that much: flat
    for stage in ("ingest", "validate", "settle", "signal", "risk", "plan", "approve"):
        assert project.run(stage, str(day)).code == 0
    newest = "bar_end_at = (SELECT max(bar_end_at) FROM book_states)"
    replaced = {r[0] for r in rows(conn, f"SELECT client_order_id FROM sheet_cancels WHERE {newest}")}
    assert replaced, "not exercised: nothing carried is replaced"
    query = f"SELECT client_order_id FROM order_events WHERE status = 'CANCELED' AND detail = %s AND {newest}"
    assert rows(conn, query, "working_order_replaced") == [], "the plan alone ends nothing"
    if refused:
        for symbol in ("AAPL", "MSFT"):
            project.change(symbol, day, lambda line: line.replace(line.split(",")[4], "-1"))
            project.run("ingest", str(day))
        assert project.run("validate", str(day), "--json").document["gate_open"] is False
    sent = project.run("submit", str(day), "--json").document
    assert (sent["sent"] == 0) == refused
    assert {r[0] for r in rows(conn, query, "working_order_replaced")} == (set() if refused else replaced)
    project.run("close", str(day))
    project.trade(conn, after)
    worked = rows(conn, "SELECT client_order_id FROM fills JOIN bar_runs USING (book, bar_end_at)"
                        " WHERE session_date = %s", after)  # fmt: skip
    assert bool(replaced & {r[0] for r in worked}) == refused, "it goes on where nothing took its place"


def test_failed_strategy_holds_and_the_others_trade(tmp_path, database_url, conn):
    project, (day, after, *_) = start(tmp_path, database_url, conn)
    project.model.unlink()
    mine = allocated(conn, OWN)
    assert len(mine) == 4
    assert all(mine.values())
    (done,) = project.trade(conn, day)
    assert "FileNotFoundError" in done[f"signal {OWN}"]["failed"]
    assert done["signal ma_crossover"]["opinions"] >= 1
    mine = allocated(conn, OWN)  # the orders of the session before were still filled at this one's open
    assert done["submit"]["sent"] >= 1, "not exercised: the other strategy wants no order"
    asked = dict(
        rows(
            conn,
            "SELECT symbol, qty_e6 FROM target_contributions JOIN instrument_symbols USING (instrument_id)"
            " JOIN bar_runs r USING (book, bar_end_at) WHERE r.session_date = %s AND strategy = %s",
            day,
            OWN,
        )
    )
    assert asked == mine
    ((session, stage, title, body, next_step),) = alerts(conn, "strategy")
    assert (session, stage, title) == (day, "signal", f"Strategy {OWN} failed")
    assert "FileNotFoundError" in body
    assert str(project.model) in body
    assert body.endswith("Its holdings: hold.")
    assert f"--strategy {OWN}" in next_step
    assert rows(conn, "SELECT strategy, ok FROM strategy_runs JOIN bar_runs r USING (book, bar_end_at) WHERE"
                " r.session_date = %s ORDER BY 1", day) == [("ma_crossover", True), (OWN, False)]  # fmt: skip

    (done,) = project.trade(conn, after)
    assert allocated(conn, OWN) == mine, "the others' fills are not the failed one's"
    assert len(alerts(conn, "strategy")) == 2, "an alert a session: it still fails"
    project.model.write_text("-1.0\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def own_momentum(:\n", "SyntaxError"),
        ("import tradecore_of_tomorrow\n", "No module named 'tradecore_of_tomorrow'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("x = 1\n", "defines no function 'own_momentum'"),
    ],
)
def test_strategy_whose_file_is_broken_fails_alone_too(tmp_path, database_url, conn, text: str, said: str):
    project, (day, *_) = start(tmp_path, database_url, conn)
    file = project.home / "include" / "strategies" / f"{OWN}.py"
    file.write_text(text)
    strategies.REGISTRY.pop(OWN)  # as the next process will find it
    (done,) = project.trade(conn, day)
    assert said in done[f"signal {OWN}"]["failed"]
    assert done["settle"]["fills"] == 3
    assert done["submit"]["sent"] >= 1, "the other one trades"
    ((_, stage, title, body, next_step),) = alerts(conn, "strategy")
    assert (stage, title) == ("signal", f"Strategy {OWN} failed")
    assert next_step in ("correct the file", f"name the function {OWN} and decorate it")
    assert str(file) in body
    assert said in body


def test_failed_strategy_that_says_flatten_is_sold(tmp_path, database_url, conn):
    project, (day, after, *_) = start(tmp_path, database_url, conn, on_failure="flatten")
    project.model.unlink()
    project.trade(conn, day)
    assert any(allocated(conn, OWN).values())
    project.trade(conn, after)
    assert not any(allocated(conn, OWN).values())
    assert any(allocated(conn, "ma_crossover").values()), "the other one's holdings stay"
    assert alerts(conn, "strategy")[0][3].endswith("Its holdings: flatten.")


def test_failed_strategy_that_says_stop_stops_the_decision(tmp_path, database_url, conn):
    project, (day, after, *_) = start(tmp_path, database_url, conn, on_failure="stop")
    project.model.unlink()
    (done,) = project.trade(conn, day)
    assert done["risk"] == {"decision": "none", "reason": f"strategy {OWN} failed and says stop"}
    assert done["close"] == {"status": "closed", "outcome": "settled, no decision"}
    assert orders(conn, day) == {}
    ((_, stage, title, body, next_step),) = alerts(conn, "no_decision")
    assert (stage, title) == ("risk", "No decision")
    assert OWN in body
    assert next_step
    project.model.write_text("-1.0\n")
    (done,) = project.trade(conn, after)
    assert done["risk"]["decision"] == 1


def test_failed_strategy_through_the_command_line_names_error_and_next_step(tmp_path, database_url, conn):
    project, (day, *_) = start(tmp_path, database_url, conn)
    project.model.write_text("no number\n")
    for stage in ("ingest", "validate", "settle"):
        assert project.run(stage, str(day)).code == 0
    said = project.run("signal", str(day), "--json")
    assert said.code == 1
    assert said.document["error"] == StrategyError.__name__
    assert (
        f"strategy {OWN} raised ValueError: could not convert string to float: 'no number" in said.document["message"]
    )
    assert said.document["next_step"]
    query = "SELECT strategy, ok FROM strategy_runs JOIN bar_runs r USING (book, bar_end_at) WHERE r.session_date = %s"
    assert sorted(rows(conn, query, day)) == [("ma_crossover", True), (OWN, False)], (
        "the failed one did not stop others"
    )
    for stage in ("risk", "plan", "report", "approve", "submit", "close"):
        assert project.run(stage, str(day)).code == 0
    assert len(orders(conn, day)) >= 1


def test_name_without_a_bar_is_not_sold_and_alerts_after_n_sessions(tmp_path, database_url, conn):
    project, days = start(tmp_path, database_url, conn)
    before = held(conn)["GOOG"]
    second = project.sessions(2)[1]
    for day in days[:4]:
        project.change("GOOG", day, lambda line: None)
    # the owner's strategy says flat for a name without a bar (a comparison with NaN): it is still not sold
    seen = []
    for day in days[:4]:
        (done,) = project.trade(conn, day)
        assert done["validate"]["gate_open"] is True, "one of four is within max_missing"
        assert "GOOG" not in orders(conn, day)
        seen.append(held(conn)["GOOG"])
        raised = alerts(conn, "stale")
        assert len(raised) == (1 if day >= days[2] else 0), f"alert after {len(seen)} sessions"
    assert orders(conn, second)["GOOG"][1] == "EXPIRED"
    assert seen == [(before[0], before[1], k) for k in (1, 2, 3, 4)], "held, at the last close, flagged as stale"
    ((session, stage, title, body, next_step),) = alerts(conn, "stale")
    assert (session, stage, title) == (days[2], "settle", "No bar for 3 sessions: GOOG")
    assert body
    assert next_step
    assert rows(conn, "SELECT count(*) FROM book_events WHERE kind = 'stale_mark'") == [(4,)]

    (done,) = project.trade(conn, days[4])
    qty, mark, stale = held(conn)["GOOG"]
    assert (qty, stale) == (before[0], 0)
    assert mark != before[1]
