"""What a running stack does by itself: scheduled runs, backfills, alerts, memory and time. Minutes, on two cores.

One stack for the whole file (stack_fixture.py), in this order: idle, a timed session, the kernels' first calls, a
backfill beside scheduled runs, alerts, and at the end what is noticed of parts that die. Figures are printed for
docs/PROOFS.md; what lies behind them (each stage, each task) is written into `.local/running-stack.json`.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stack_fixture import BOOK, LiveStack, as_json, running_stack, wait_until

from native_stack import REPOSITORY
from shared_machine import busy
from table_checksums import changed_tables, table_checksums
from tradecore.sessions import calendar
from tradecore.storage import embedded

pytestmark = [pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(3 * 1800)]

IDLE_S = 300
IDLE_MB, SESSION_MB = 1000, 1300
TRIGGER_TO_REPORT_S = 30
ALERT_S = 60
PATIENCE_S = 900  # how long to wait for what has no limit of its own: a busy machine is no failure
FIRST, LAST = "2004-11-15", "2004-12-13"  # 20 sessions around Thanksgiving
KERNEL_PROBE = Path(__file__).with_name("kernel_probe_dag.py")
FIGURES: dict[str, Any] = {}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The stack of this file."""
    with running_stack(tmp_path_factory.mktemp("running")) as stack:
        yield stack
    out = REPOSITORY / ".local" / "running-stack.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(FIGURES, indent=2))


def note(proof: str, **figures: Any) -> None:
    """Print a figure for docs/PROOFS.md; keep it, and what lies behind it, for the file of figures."""
    print(f"proof: {proof}")
    FIGURES.update({"proofs": [*FIGURES.get("proofs", []), proof]} | figures)


def memory(live: LiveStack, seconds: int) -> dict[str, Any]:
    """Sample the stack's PSS once a second."""
    done = live.stack.make("memory", "--seconds", str(seconds), "--json", timeout_s=seconds * 4 + 300)
    assert done.returncode == 0, done.stderr
    return dict(as_json(done))


def test_idle_for_five_minutes_in_one_gigabyte(live: LiveStack) -> None:
    figures = memory(live, IDLE_S)
    note(
        f"PSS after {IDLE_S // 60} idle minutes {figures['last_mb']:.0f} MB, peak {figures['peak_mb']:.0f} MB",
        idle_parts_mb={name: round(mb) for name, mb in figures["part_peak_mb"].items()},
    )
    assert figures["last_mb"] <= IDLE_MB


def test_session_from_trigger_to_report_in_time_and_memory(live: LiveStack) -> None:
    """Three sessions of the sample, each through the scheduler; the first pays what only a first run pays."""
    taken, shares, peaks, details = [], [], [], {}
    for session in ("2005-02-25", "2005-02-28", "2005-03-01"):
        sampled: list[dict[str, Any]] = []
        stop = threading.Event()
        sampler = threading.Thread(target=_sample_until, args=(live, stop, sampled))
        sampler.start()
        try:
            run = live.trigger("replay_day", session=session, book="replay:timed", first_session="2005-02-25")
            assert live.ended("replay_day", run, PATIENCE_S) == "success", live.log_of(run)[-4000:]
        finally:
            stop.set()
            sampler.join()
        queued = live.query("SELECT queued_at FROM dag_run WHERE run_id = %s", run)[0][0]
        tasks = live.tasks(run)
        report_end = tasks["report.run"][2]
        assert report_end is not None
        ours = live.stage_seconds(run)
        until_report = sum(s for stage, s in ours.items() if stage not in ("approve", "submit", "close"))
        taken.append((report_end - queued).total_seconds())
        shares.append(taken[-1] - until_report)
        peaks.append(max(one["peak_mb"] for one in sampled))
        details[session] = {
            "our_stages_s": ours,
            "tasks_s": {t: round((e - s).total_seconds(), 2) for t, (_, s, e) in tasks.items() if s and e},
        }
    note(
        f"trigger to report {min(taken):.1f} s at best, {statistics.median(taken):.1f} s median of {len(taken)};"
        f" Airflow's own share {min(shares):.1f} s, {statistics.median(shares):.1f} s;"
        f" PSS during a session {max(peaks):.0f} MB at most",
        sessions=details,
    )
    assert max(peaks) <= SESSION_MB
    assert min(taken) <= TRIGGER_TO_REPORT_S * busy()


def _sample_until(live: LiveStack, stop: threading.Event, out: list[dict[str, Any]]) -> None:
    """Sample until told to stop, a few seconds a time."""
    while not stop.is_set():
        out.append(memory(live, 5))


def test_first_kernel_call_of_a_stage_in_a_task(live: LiveStack) -> None:
    """Serial kernels were loaded and warmed in the scheduler: the tasks' processes have them."""
    (live.stack.root / "dags" / "kernel_probe.py").write_text(KERNEL_PROBE.read_text())
    assert live.stack.run("airflow", "dags", "reserialize").returncode == 0
    found: dict[str, list[float]] = {}
    for _ in range(3):
        run = live.trigger("kernel_probe")
        assert live.ended("kernel_probe", run, PATIENCE_S) == "success", live.log_of(run)[-4000:]
        for line in live.log_of(run).splitlines():
            if "FIRST CALLS " in line:
                text = json.loads(line) if line.startswith("{") else {"event": line}
                calls = json.loads(str(text["event"]).split("FIRST CALLS ", 1)[1])
                for kernel, seconds in calls.items():
                    found.setdefault(kernel, []).append(seconds)
    assert {"settle_bar", "decide_bar", "plan_orders", "volatility_panel", "ma_crossover_panel"} <= found.keys()
    slowest = max(found, key=lambda kernel: statistics.median(found[kernel]))
    note(
        f"first kernel call in a task: {statistics.median(found[slowest]) * 1000:.2f} ms for the slowest ({slowest}),"
        f" median of {len(found[slowest])}",
        kernel_first_call_s=found,
    )
    assert all(min(v) <= 0.05 for v in found.values()), found


def test_backfill_beside_scheduled_runs(live: LiveStack) -> None:
    """20 sessions at once on one book, while two sessions of another close: everything in order, nothing twice."""
    now = datetime.now(UTC)
    labels = [(now - timedelta(days=1)).date(), now.date()]
    closes = [now + timedelta(seconds=60), now + timedelta(seconds=200)]
    live.write_calendar(list(zip(labels, closes, strict=True)))
    for label in labels:
        live.add_bars(label)
    live.pause("trading_day", paused=False)
    _backfill(live, "none")
    wait_until(lambda: len(_scheduled(live)) == 3, PATIENCE_S, "three scheduled runs: the sample's last and two more")
    expected = calendar("XNYS").sessions_in_range(*(datetime.fromisoformat(d).date() for d in (FIRST, LAST)))
    wait_until(lambda: _ended(live, "backfill") == len(expected), 2 * PATIENCE_S, "the backfill to end")
    runs = live.query(
        "SELECT data_interval_start::date, state FROM dag_run WHERE dag_id = 'replay_day' AND run_type = 'backfill'"
        " ORDER BY 1"
    )
    assert runs == [(d, "success") for d in expected]
    assert len(expected) == 20
    assert "2004-11-25" not in {str(d) for d in expected}
    settled = live.query(
        "SELECT session_date, status FROM tradecore.bar_runs WHERE book = 'replay:filled' ORDER BY changed_at"
    )
    assert [d for d, _ in settled[1:]] == list(expected), "the sessions moved the book in another order"
    assert {status for _, status in settled} == {"closed"}
    wait_until(lambda: _ended(live, "scheduled") == 3, PATIENCE_S, "the scheduled runs to end")
    scheduled = _scheduled(live)
    assert [(d, state) for d, state, _ in scheduled[1:]] == [(d, "success") for d in labels]
    lag = [(at - close_at).total_seconds() for (_, _, at), close_at in zip(scheduled[1:], closes, strict=True)]
    assert all(s >= 0 for s in lag), "a run began before its session closed"
    book = live.query(
        "SELECT session_date, status FROM tradecore.bar_runs WHERE book = %s ORDER BY bar_end_at DESC LIMIT 2", BOOK
    )
    assert book == [(d, "closed") for d in reversed(labels)]
    took = live.query("SELECT max(end_date) - min(queued_at) FROM dag_run WHERE run_type = 'backfill'")[0][0]
    note(
        f"backfill of 20 sessions {took.total_seconds():.0f} s; scheduled runs began"
        f" {' and '.join(f'{s:.1f}' for s in lag)} s after their session's close"
    )


def _backfill(live: LiveStack, reprocess: str) -> None:
    """Start the backfill; Airflow allows one at a time, and the scheduler notes only every 30 s that one has ended."""
    open_ones = "SELECT count(*) FROM backfill WHERE completed_at IS NULL"
    wait_until(lambda: live.query(open_ones)[0][0] == 0, PATIENCE_S, "the backfill before to be noted as ended")
    conf = json.dumps({"book": "replay:filled", "first_session": FIRST})
    done = live.stack.run(
        "airflow", "backfill", "create", "--dag-id", "replay_day", "--from-date", FIRST, "--to-date", LAST,
        "--max-active-runs", "10", "--dag-run-conf", conf, "--reprocess-behavior", reprocess,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _ended(live: LiveStack, kind: str) -> int:
    return int(live.query(
        "SELECT count(*) FROM dag_run WHERE run_type = %s AND state IN ('success', 'failed')", kind
    )[0][0])  # fmt: skip


def _scheduled(live: LiveStack) -> list[tuple[Any, ...]]:
    return live.query(
        "SELECT data_interval_start::date, state, start_date FROM dag_run WHERE dag_id = 'trading_day'"
        " AND run_type = 'scheduled' ORDER BY 1"
    )


def test_backfill_again_changes_no_row(live: LiveStack) -> None:
    """--reprocess-behavior completed runs all 20 sessions again; not one value of any table is another one."""
    live.pause("trading_day", paused=True)
    with live.connect() as conn:
        before = table_checksums(conn)
    starts = live.query("SELECT max(start_date) FROM dag_run WHERE run_type = 'backfill'")[0][0]
    _backfill(live, "completed")
    again = "SELECT count(*) FROM dag_run WHERE run_type = 'backfill' AND state = 'success' AND start_date > %s"
    wait_until(lambda: live.query(again, starts)[0][0] == 20, 2 * PATIENCE_S, "the second backfill")
    with live.connect() as conn:
        assert changed_tables(before, table_checksums(conn)) == {}


def test_dags_test_of_a_traded_session_changes_no_row(live: LiveStack) -> None:
    label = str(_scheduled(live)[-1][0])
    with live.connect() as conn:
        before = table_checksums(conn)
    done = live.stack.run("airflow", "dags", "test", "trading_day", label)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    with live.connect() as conn:
        assert changed_tables(before, table_checksums(conn)) == {}


def test_backfilled_book_equals_the_command_line(live: LiveStack) -> None:
    """Every state of the book, every order and every fill, session by session."""
    sessions = calendar("XNYS").sessions_in_range(*(datetime.fromisoformat(d).date() for d in (FIRST, LAST)))
    run = live.stack.run("python", "-m", "tradecore", "init", "--before", FIRST, "--book", "replay:shell")
    assert run.returncode == 0, run.stderr
    for day in sessions:
        run = live.stack.run("python", "-m", "tradecore", "run-session", str(day), "--book", "replay:shell")
        assert run.returncode == 0, run.stdout + run.stderr
    for query in (
        "SELECT bar_end_at, state_hash, equity_e4, cash_e4 FROM tradecore.book_states WHERE book = %s ORDER BY 1",
        "SELECT bar_end_at, instrument_id, order_qty_e6, ref_price_e4 FROM tradecore.intents WHERE book = %s"
        " ORDER BY 1, 2",
        "SELECT bar_end_at, instrument_id, qty_e6, price_e4, fee_e4 FROM tradecore.fills WHERE book = %s ORDER BY 1, 2",
    ):
        backfilled, shell = live.query(query, "replay:filled"), live.query(query, "replay:shell")
        assert backfilled == shell
        assert len(backfilled) > 1, "not exercised"


def test_failed_task_is_heard_by_mail_and_slack(live: LiveStack) -> None:
    """A session out of order: turn fails at once."""
    live.trigger("replay_day", session="2004-12-20", book="replay:filled")
    seconds, texts = live.heard_within(ALERT_S * busy(), "replay_day of session 2004-12-20: turn failed")
    note(f"alert of a failed task by mail and Slack {seconds:.0f} s after the trigger")
    for text in texts.values():
        for part in ("2004-12-20", "turn", "Next: run 2004-12-14 first", "/dags/replay_day/runs/", "tasks/turn.run"):
            assert part in text


def test_task_killed_by_sigkill_is_heard(live: LiveStack) -> None:
    """Nobody may write the book's states, so that settle waits (ingest reads them, and may); it is killed there."""
    with live.connect() as blocker:
        blocker.execute("LOCK TABLE tradecore.book_states IN EXCLUSIVE MODE")
        run = live.trigger("replay_day", session="2004-12-14", book="replay:filled")
        wait_until(lambda: live.tasks(run).get("settle.run", ("",))[0] == "running", PATIENCE_S, "settle to run")
        waits = "SELECT count(*) FROM pg_locks WHERE relation = 'tradecore.book_states'::regclass AND NOT granted"
        wait_until(lambda: live.query(waits)[0][0] > 0, PATIENCE_S, "settle to want to write the book's state")
        pid = live.query("SELECT pid FROM task_instance WHERE run_id = %s AND task_id = 'settle.run'", run)[0][0]
        os.kill(pid, signal.SIGKILL)
        blocker.rollback()
    # From Airflow's callback, or from the next try if that is sooner: one alert in either case.
    said = ("2004-12-14: settle", "try 1 and is tried again", "killed by a signal")
    seconds, texts = live.heard_within(ALERT_S * busy(), *said)
    note(f"alert of a task killed by SIGKILL {seconds:.0f} s after the kill")
    for text in texts.values():
        for part in ("2004-12-14", "settle", "Next: Look at the log and the machine's memory", "tasks/settle.run"):
            assert part in text
    assert live.ended("replay_day", run, PATIENCE_S) == "success"


def test_closed_gate_is_heard(live: LiveStack) -> None:
    live.drop_bars("2005-03-10", ["IBM", "MSFT"])
    run = live.trigger("replay_day", session="2005-03-10", book="replay:gate", first_session="2005-03-10")
    wait_until(lambda: live.tasks(run).get("validate.run", ("",))[0] == "success", PATIENCE_S, "validate to end")
    seconds, texts = live.heard_within(ALERT_S * busy(), "The data gate is closed", "2005-03-10")
    note(f"alert of a closed gate {seconds:.0f} s after validate")
    for text in texts.values():
        for part in ("validate", "Next: see the data quality section", "/dags/replay_day/runs/", "tasks/validate.run"):
            assert part in text
    assert live.ended("replay_day", run, PATIENCE_S) == "success"
    assert live.tasks(run)["settle.run"][0] == "success"
    assert live.tasks(run)["submit.run"][0] == "skipped"


def test_undeliverable_alert_is_retried_and_status_says_so(live: LiveStack) -> None:
    def status() -> Any:
        return live.stack.run("python", "-m", "tradecore", "status", "--json")

    live.slack.answer_next(503, "down for a minute", times=2)
    live.trigger("replay_day", session="2004-12-28", book="replay:filled")
    said = "replay_day of session 2004-12-28: turn failed"
    wait_until(lambda: "email" in live.arrivals(said), ALERT_S * busy(), "the mail")
    unwell = status()
    assert unwell.returncode != 0
    assert any("slack" in failure for failure in as_json(unwell)["undelivered"])
    seconds = wait_until(lambda: status().returncode == 0, PATIENCE_S, "status to be well again")
    tries = [r for r in live.slack.requests if said in " ".join(str(r.json.get("text", "")).split())]
    assert len(tries) >= 2, "Slack was not asked again"
    note(f"an alert that Slack refused was delivered by the watch {seconds:.0f} s later, after {len(tries)} tries")


def test_zz_dead_parts_are_noticed(live: LiveStack) -> None:
    """Killed, not stopped: the watch, a process of its own, tells about each of them."""
    for part in ("scheduler", "dag-processor"):
        os.killpg(live.stack.pid(part), signal.SIGKILL)
    killed = time.monotonic()
    for part in ("scheduler", "dag-processor"):
        live.heard_within(200 * busy(), f"Airflow's {part} is dead")
        note(f"watch reports a dead {part} {time.monotonic() - killed:.0f} s after its kill")
    embedded.stop(live.stack.root)
    seconds, texts = live.heard_within(120 * busy(), "The database is down")
    note(f"watch reports a dead database after {seconds:.0f} s")
    assert "Next:" in texts["slack"]
    embedded.ensure(live.stack.root)
