"""Approve, reject, let time pass, change the sheet: through a real scheduler and Airflow's REST API, as its UI does.

One stack, its book trades sessions that close when the test wants them to. Each answer is a PATCH of `hitlDetails`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import yaml
from stack_fixture import ENDED, SAMPLE_END, LiveStack, as_json, running_stack, wait_until

pytestmark = [pytest.mark.db, pytest.mark.slow, pytest.mark.timeout(2400)]

DAG = "replay_day"  # it never starts by itself: one run a session, this test's
BOOK = "replay:signed"
MARGIN_S = 2
TIME_TO_ANSWER_S = 180
PARKED = "awaiting_input"
TODAY = datetime.now(UTC).date()
LABELS = [TODAY - timedelta(days=k) for k in (2, 1, 0)]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The stack of this file: a person signs each sheet."""
    folder = tmp_path_factory.mktemp("approval")
    execution = {"approval_required": True, "window_margin_s": MARGIN_S}
    restless = {"rebalance_band_frac": 0.0001, "min_order_notional_usd": 10}  # orders in every session
    with running_stack(folder, execution=execution, risk=restless) as stack:
        done = stack.stack.run("python", "-m", "tradecore", "load-history", "2012-01-03", "2013-02-28")
        assert done.returncode == 0, done.stdout + done.stderr
        yield stack


def start(live: LiveStack, session: date) -> str:
    """Start a run by hand and wait until it waits for a person."""
    run = trigger(live, session)
    wait_until(
        lambda: PARKED in persons(live, run).values() or live.state(DAG, run) in ENDED,
        240,
        f"{session} to ask a person",
    )
    assert PARKED in persons(live, run).values(), live.log_of(run)[-6000:]
    return run


def trigger(live: LiveStack, session: date) -> str:
    return live.trigger(DAG, session=str(session), book=BOOK, first_session=str(SAMPLE_END))


def persons(live: LiveStack, run: str) -> dict[int, str]:
    """Return {map index: state} of the tasks that ask a person: one a sheet."""
    rows = live.query(
        "SELECT map_index, state FROM task_instance WHERE run_id = %s AND task_id = 'approve.person'", run
    )
    return dict(rows)


def where(run: str, index: int) -> str:
    return f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/approve.person/{index}/hitlDetails"


def shown(live: LiveStack, run: str, index: int = 0) -> dict[str, Any]:
    """Return what Airflow shows to a person."""
    path = where(run, index).removesuffix("/hitlDetails") + "/hitlDetails"
    status, said = live.stack.call(path, token=live.stack.token())
    assert status == 200, said
    return dict(said)


def answer(live: LiveStack, run: str, option: str, index: int = 0, **form: str) -> None:
    body = {"chosen_options": [option], "params_input": form}
    status, said = live.stack.call(where(run, index), body, live.stack.token(), "PATCH")
    assert status == 200, said


def sheet(live: LiveStack, session: date) -> tuple[str, str, str, str]:
    """Return (hash, verdict, actor, note) of a session's newest sheet."""
    rows = live.query(
        "SELECT d.sheet_hash, coalesce(a.verdict, ''), coalesce(a.actor, ''), coalesce(a.note, '')"
        " FROM tradecore.decisions d JOIN tradecore.bar_runs r USING (book, bar_end_at)"
        " LEFT JOIN tradecore.approvals a USING (book, bar_end_at, version)"
        " WHERE r.book = %s AND r.session_date = %s ORDER BY d.version DESC LIMIT 1", BOOK, session,
    )  # fmt: skip
    return rows[0]


def orders(live: LiveStack, session: date) -> set[str]:
    rows = live.query(
        "SELECT o.status FROM tradecore.orders o JOIN tradecore.bar_runs r USING (book, bar_end_at)"
        " WHERE r.book = %s AND r.session_date = %s", BOOK, session,
    )  # fmt: skip
    return {row[0] for row in rows}


def closed_now(live: LiveStack, *closes: datetime) -> None:
    """Let the first sessions of LABELS close at these times, and give each its bars."""
    have = (live.feed / "AAPL.csv").read_text()
    live.write_calendar(list(zip(LABELS, closes, strict=False)))
    for label in LABELS[: len(closes)]:
        if str(label) not in have:
            live.add_bars(label)


def test_all_of_it(live: LiveStack) -> None:
    """In one test: each session stands on the one before."""
    # approved: what was shown is what is sent
    run = start(live, SAMPLE_END)
    text = shown(live, run)
    signed = sheet(live, SAMPLE_END)[0]
    assert signed in text["body"]
    assert "| Gross exposure |" in text["body"]
    assert text["options"] == ["Approve", "Reject"]
    answer(live, run, "Approve", reason="as agreed")
    assert live.ended(DAG, run, 240) == "success", live.log_of(run)[-4000:]
    assert sheet(live, SAMPLE_END) == (signed, "approved", "airflow:admin", "as agreed")
    assert orders(live, SAMPLE_END) == {"ACKED"}

    # rejected
    closes = [datetime.now(UTC)]
    closed_now(live, *closes)
    run = start(live, LABELS[0])
    assert live.query("SELECT count(*) FROM tradecore.fills WHERE book = %s", BOOK)[0][0] > 0, (
        "the approved orders were not filled"
    )
    answer(live, run, "Reject", reason="too much")
    assert live.ended(DAG, run, 240) == "success", live.log_of(run)[-4000:]
    assert sheet(live, LABELS[0])[1:] == ("rejected", "airflow:admin", "too much")
    assert orders(live, LABELS[0]) == {"NOT_SENT"}

    # nobody answers: it ends before the next session's close, whose run starts on time
    due = datetime.now(UTC) + timedelta(seconds=TIME_TO_ANSWER_S)
    closes += [datetime.now(UTC), due]
    closed_now(live, *closes)
    run = start(live, LABELS[1])
    wait_until(lambda: datetime.now(UTC) >= due, TIME_TO_ANSWER_S + 10, "the session to close")
    following = trigger(live, LABELS[2])
    assert live.ended(DAG, run, 120) == "success", live.log_of(run)[-4000:]
    assert sheet(live, LABELS[1])[1:3] == ("expired", "deadline")
    assert orders(live, LABELS[1]) == {"NOT_SENT"}
    assert live.arrivals("Nobody signed the order sheet in time").keys() == {"email", "slack"}
    expired_at, closed_at = live.query(
        "SELECT a.decided_at, r.changed_at FROM tradecore.approvals a"
        " JOIN tradecore.bar_runs r USING (book, bar_end_at) WHERE r.book = %s AND r.session_date = %s",
        BOOK, LABELS[1],
    )[0]  # fmt: skip
    assert expired_at >= due - timedelta(seconds=MARGIN_S)

    # the next session: its sheet changes after it was signed
    wait_until(lambda: PARKED in persons(live, following).values(), 240, "the next session to ask a person")
    settled_at = live.tasks(following)["settle.run"][1]
    assert settled_at is not None
    assert closed_at <= settled_at
    print(f"proof: settle of the next session {(settled_at - due).total_seconds():.0f} s after its close, while the one"
          f" before had waited for a person until {(closed_at - due).total_seconds():+.1f} s")  # fmt: skip
    first = sheet(live, LABELS[2])[0]
    cli(live, "approve", str(LABELS[2]), "--sheet", first, "--by", "ann")
    assert orders(live, LABELS[2]) == {"APPROVED"}
    profile = live.stack.root / "running.yaml"
    config = yaml.safe_load(profile.read_text())
    config["risk"]["max_position_size"] = 0.07
    profile.write_text(yaml.safe_dump(config))
    for stage in ("risk", "plan"):
        cli(live, stage, str(LABELS[2]))
    second, verdict, *_ = sheet(live, LABELS[2])
    assert (second != first, verdict) == (True, "")
    assert live.query("SELECT verdict FROM tradecore.approvals WHERE sheet_hash = %s", first) == [("voided",)]
    answer(live, following, "Approve")
    wait_until(lambda: persons(live, following) == {0: "skipped"}, 120, "the answer to the old sheet to be refused")
    live.heard_within(60, "The answer of airflow:admin was not taken")
    assert orders(live, LABELS[2]) == {"VOIDED", "PLANNED"}
    wait_until(lambda: live.tasks(following)["submit.run"][0] == "up_for_reschedule", 120, "submit to wait")
    body = {"dry_run": False, "dag_run_id": following, "task_ids": ["approve.run"], "include_downstream": True,
            "only_failed": False, "reset_dag_runs": True}  # fmt: skip
    status, said = live.stack.call(f"/api/v2/dags/{DAG}/clearTaskInstances", body, live.stack.token())
    assert status == 200, said
    wait_until(lambda: persons(live, following).get(1) == PARKED, 120, "the new sheet to be shown")
    text = shown(live, following, 1)["body"]
    assert second in text
    assert first not in text
    answer(live, following, "Approve", 1)
    assert live.ended(DAG, following, 240) == "success", live.log_of(following)[-4000:]
    assert sheet(live, LABELS[2])[1:3] == ("approved", "airflow:admin")
    assert orders(live, LABELS[2]) == {"VOIDED", "ACKED"}


def cli(live: LiveStack, *command: str) -> Any:
    done = live.stack.run("python", "-m", "tradecore", *command, "--book", BOOK, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return as_json(done) if done.stdout else json.loads("null")
