"""The outbox and the watch against a real PostgreSQL, a real HTTP server and a real mail server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from http_standin import TOKEN, HttpStandin
from tradecore import operations
from tradecore.errors import NoDatabase
from tradecore.notify import MAX_ATTEMPTS
from tradecore.settings import Settings, load
from tradecore.storage import alerts as outbox
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
NOW = datetime(2005, 3, 1, 22, 45, tzinfo=UTC)  # 1 h 45 after the close of a Tuesday
CLOSE = datetime(2005, 3, 1, 21, 0, tzinfo=UTC)
TUESDAY = date(2005, 3, 1)

MakeSettings = Callable[..., Settings]


@pytest.fixture
def http() -> Iterator[HttpStandin]:
    with HttpStandin() as server:
        yield server


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    def make(**env: str) -> Settings:
        settings = load({"ALERT_CONSOLE": "false", **env}, "sample")
        return settings.model_copy(update={"local_dir": tmp_path / "local"})

    return make


def _raise(settings: Settings, conn: psycopg.Connection, key: str = "k1", body: str = "IBM has no bar") -> int | None:
    return operations.raise_alert(
        settings,
        conn,
        dedup_key=key,
        severity="error",
        kind="gate_closed",
        stage="validate",
        title="The gate is closed",
        body=body,
        next_step="look at the quarantine",
        now=NOW,
        book="sim",
        session_date=TUESDAY,
        link="http://127.0.0.1:8080/dags/trading_day/runs/r1",
    )


def _open_book(conn: psycopg.Connection, inception_at: datetime = CLOSE - timedelta(days=30)) -> None:
    conn.execute(
        "INSERT INTO books VALUES ('sim', 'simulated', 'sim', 'XNYS', 'USD', '1d', 'csv', 'u', %s, %s)",
        (inception_at, inception_at),
    )
    conn.commit()


def _bar_run(conn: psycopg.Connection, status: str) -> None:
    conn.execute(
        "INSERT INTO bar_runs VALUES ('sim', %s, %s, %s, '', %s, %s) "
        "ON CONFLICT (book, bar_end_at) DO UPDATE SET status = excluded.status",
        (CLOSE, TUESDAY, status, CLOSE, CLOSE),
    )
    conn.commit()


def _titles(conn: psycopg.Connection) -> list[str]:
    rows = conn.execute("SELECT title FROM alerts ORDER BY alert_id").fetchall()
    conn.commit()
    return [str(row[0]) for row in rows]


def test_an_alert_rolled_back_with_its_transaction_is_never_sent(
    conn: psycopg.Connection, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _raise(settings, conn)
    conn.rollback()
    assert operations.deliver(settings, conn, NOW).sent == 0
    assert http.requests == []


def test_the_same_key_is_raised_once_and_sent_once_per_channel(
    conn: psycopg.Connection, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(
        SLACK_WEBHOOK_URL=http.slack_url,
        TELEGRAM_BOT_TOKEN=TOKEN,
        TELEGRAM_CHAT_ID="42",
        TELEGRAM_BASE_URL=http.url,
    )
    first = _raise(settings, conn)
    assert first is not None
    assert _raise(settings, conn) is None
    conn.commit()
    assert operations.deliver(settings, conn, NOW).sent == 2
    assert operations.deliver(settings, conn, NOW + timedelta(hours=1)).sent == 0
    assert sorted(request.path.split("/")[1][:3] for request in http.requests) == ["bot", "ser"]
    for request in http.requests:
        for part in ("2005-03-01", "validate", "look at the quarantine", "/dags/trading_day/runs/r1"):
            assert part in request.json["text"]
    assert outbox.undelivered(conn).healthy


def test_mail_and_slack_arrive_even_if_one_of_them_fails_first(
    conn: psycopg.Connection, make_settings: MakeSettings, http: HttpStandin
) -> None:
    mails = []

    class Keep(Message):
        def handle_message(self, message: object) -> None:
            mails.append(message)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    settings = make_settings(
        SLACK_WEBHOOK_URL=http.slack_url,
        SMTP_HOST="127.0.0.1",
        SMTP_PORT=str(port),
        SMTP_SECURITY="none",
        SMTP_FROM="desk@example.org",
        SMTP_TO="owner@example.org",
    )
    http.answer_next(503, "down for a minute")
    try:
        _raise(settings, conn)
        conn.commit()
        first = operations.deliver(settings, conn, NOW)
        assert (first.sent, first.failed, first.dead) == (1, 1, 0)
        assert first.errors == ("slack: HTTP 503: down for a minute",)
        state = outbox.undelivered(conn)
        assert (state.retrying, state.healthy) == (1, False)
        assert operations.deliver(settings, conn, NOW + timedelta(seconds=29)).sent == 0
        assert operations.deliver(settings, conn, NOW + timedelta(seconds=30)).sent == 1
    finally:
        controller.stop()
    assert len(mails) == 1
    assert "look at the quarantine" in str(mails[0])
    assert outbox.undelivered(conn).healthy


def test_an_undeliverable_alert_is_given_up_in_the_end_and_can_be_revived(
    conn: psycopg.Connection, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    http.answer_next(404, "no_service", times=MAX_ATTEMPTS)
    _raise(settings, conn)
    conn.commit()
    now, tries = NOW, 0
    while outbox.undelivered(conn).dead == 0:
        conn.commit()
        operations.deliver(settings, conn, now)
        now += timedelta(hours=9)
        tries += 1
    assert tries == MAX_ATTEMPTS == len(http.requests)
    failure = outbox.failures(conn)[0]
    assert (failure.status, failure.attempts, failure.last_error) == (
        "dead",
        MAX_ATTEMPTS,
        "slack: HTTP 404: no_service",
    )
    assert not outbox.undelivered(conn).healthy
    conn.commit()
    assert operations.deliver(settings, conn, now).sent == 0
    assert outbox.revive(conn, now) == 1
    conn.commit()
    assert operations.deliver(settings, conn, now).sent == 1
    assert outbox.undelivered(conn).healthy


def test_a_dead_channel_holds_up_neither_the_others_nor_a_pass(
    conn: psycopg.Connection,
    make_settings: MakeSettings,
    http: HttpStandin,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings(ALERT_CONSOLE="true", SLACK_WEBHOOK_URL="http://127.0.0.1:9/services/x")
    for number in range(5):
        _raise(settings, conn, key=f"k{number}")
    conn.commit()
    summary = operations.deliver(settings, conn, NOW)
    assert (summary.sent, summary.failed) == (5, 1)
    assert capsys.readouterr().err.count("The gate is closed") == 5


def test_a_channel_that_this_process_does_not_have_is_retried_not_lost(
    conn: psycopg.Connection, make_settings: MakeSettings, http: HttpStandin
) -> None:
    with_slack = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _raise(with_slack, conn)
    conn.commit()
    summary = operations.deliver(make_settings(), conn, NOW)
    assert "no such channel" in summary.errors[0]
    assert operations.deliver(with_slack, conn, NOW + timedelta(minutes=1)).sent == 1


def test_two_deliverers_at_once_send_each_alert_once(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _raise(settings, conn, key="held")
    _raise(settings, conn, key="free", body="second")
    conn.commit()
    held = outbox.claim_due(conn, NOW, limit=1)
    with connect(database_url) as other:
        assert operations.deliver(settings, other, NOW).sent == 1
    assert len(http.requests) == 1
    assert held[0].alert.body not in http.requests[0].json["text"]
    conn.rollback()
    assert operations.deliver(settings, conn, NOW).sent == 1


KILLED_DELIVERER = """
import os, signal, sys
from datetime import datetime
from tradecore import operations
from tradecore.notify.webhooks import SlackWebhook
from tradecore.settings import load
from tradecore.storage.connection import connect

plain_send = SlackWebhook.send
def send(self, alert):
    if sys.argv[2] == "after":
        plain_send(self, alert)
    os.kill(os.getpid(), signal.SIGKILL)
SlackWebhook.send = send
settings = load({"ALERT_CONSOLE": "false", "SLACK_WEBHOOK_URL": sys.argv[3]}, "sample")
with connect(sys.argv[1]) as conn:
    operations.deliver(settings, conn, datetime.fromisoformat(sys.argv[4]))
"""


@pytest.mark.parametrize(("kill", "arrivals"), [("before", 1), ("after", 2)])
def test_a_deliverer_killed_around_its_send_loses_nothing(
    kill: str,
    arrivals: int,
    conn: psycopg.Connection,
    database_url: str,
    make_settings: MakeSettings,
    http: HttpStandin,
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _raise(settings, conn)
    conn.commit()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_DELIVERER, database_url, kill, http.slack_url, NOW.isoformat()],
        env={**os.environ, "PYTHONPATH": str(Path(operations.__file__).parents[1])},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    # The server notices the lost client when it next reads from it; until then the row is still locked.
    for _ in range(100):
        if operations.deliver(settings, conn, NOW).sent == 1:
            break
    assert len(http.requests) == arrivals
    assert outbox.undelivered(conn).healthy


# --- watch ---


def test_watch_raises_a_session_that_never_started_then_one_that_hangs_and_each_once(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _open_book(conn, inception_at=CLOSE - timedelta(days=1))

    def watch(now: datetime) -> list[str]:
        return operations.watch_once(settings, lambda: connect(database_url), now)

    early = CLOSE + timedelta(minutes=30 + 59)
    assert watch(early) == []
    late = CLOSE + timedelta(minutes=30 + 60)
    assert watch(late) == ["session 2005-03-01 of sim has not started, 60 min after it was due"]
    assert len(watch(late + timedelta(minutes=1))) == 1
    assert len(http.requests) == 1
    assert "has not started" in http.requests[0].json["text"]
    assert "run-session 2005-03-01" in http.requests[0].json["text"]
    _bar_run(conn, "settled")
    assert "is still 'settled'" in watch(late + timedelta(minutes=2))[0]
    assert len(http.requests) == 2
    _bar_run(conn, "closed")
    assert watch(late + timedelta(minutes=3)) == []
    assert len(_titles(conn)) == 2


def test_watch_is_quiet_about_sessions_before_the_book_and_after_the_feed(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    settings = make_settings()
    _open_book(conn, inception_at=CLOSE)
    assert operations.watch_once(settings, lambda: connect(database_url), NOW) == []
    after_the_sample = datetime(2013, 3, 8, 23, 0, tzinfo=UTC)
    assert operations.watch_once(settings, lambda: connect(database_url), after_the_sample) == []
    assert _titles(conn) == []


def test_watch_says_that_the_book_is_not_opened_without_an_alert(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    found = operations.watch_once(make_settings(), lambda: connect(database_url), NOW)
    assert found == ["book sim is not opened yet: `python -m tradecore init`"]
    assert _titles(conn) == []


def test_watch_raises_the_end_of_the_calendar(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    _open_book(conn)
    beyond = datetime(2099, 3, 1, 23, 0, tzinfo=UTC)
    found = operations.watch_once(make_settings(), lambda: connect(database_url), beyond)
    assert "calendar XNYS" in found[0]
    assert _titles(conn) == ["The table of sessions of XNYS does not know today"]


def _airflow_jobs(conn: psycopg.Connection, rows: list[tuple[str, str | None, datetime]]) -> None:
    """The columns of Airflow 3.3.2's table (airflow/jobs/job.py) that the watch reads."""
    conn.execute(
        "CREATE TABLE public.job (id serial PRIMARY KEY, dag_id varchar(250), state varchar(20), "
        "job_type varchar(30), start_date timestamptz, end_date timestamptz, latest_heartbeat timestamptz, "
        "executor_class varchar(500), hostname varchar(500), unixname varchar(1000))"
    )
    for job_type, state, beat in rows:
        conn.execute(
            "INSERT INTO public.job (job_type, state, latest_heartbeat, hostname) VALUES (%s, %s, %s, 'pi')",
            (job_type, state, beat),
        )
    conn.commit()


def test_watch_raises_a_dead_scheduler_and_dag_processor_once_per_death(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _open_book(conn, inception_at=CLOSE)
    old, fresh = NOW - timedelta(seconds=61), NOW - timedelta(seconds=5)
    _airflow_jobs(
        conn,
        [
            ("SchedulerJob", "success", NOW - timedelta(days=2)),
            ("SchedulerJob", "running", old),
            ("DagProcessorJob", "running", old),
            ("TriggererJob", "running", NOW - timedelta(days=9)),
        ],
    )

    def watch(now: datetime) -> list[str]:
        return operations.watch_once(settings, lambda: connect(database_url), now)

    assert sorted(watch(NOW)) == [
        "Airflow's dag-processor is dead: no heartbeat for 1 min",
        "Airflow's scheduler is dead: no heartbeat for 1 min",
    ]
    watch(NOW + timedelta(minutes=1))
    assert len(http.requests) == 2
    conn.execute("UPDATE public.job SET latest_heartbeat = %s WHERE state = 'running'", (fresh,))
    conn.commit()
    assert watch(NOW) == []
    assert len(watch(NOW + timedelta(minutes=3))) == 2
    assert len(http.requests) == 4


def test_watch_takes_an_ordered_stop_for_no_death(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings
) -> None:
    _open_book(conn, inception_at=CLOSE)
    _airflow_jobs(conn, [("SchedulerJob", "success", NOW - timedelta(hours=1))])
    assert operations.watch_once(make_settings(), lambda: connect(database_url), NOW) == []


def test_watch_raises_an_api_server_that_does_not_answer_while_the_stack_is_up(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    _open_book(conn, inception_at=CLOSE)
    noted = settings.local_dir / "run" / "port"

    def watch(minutes: int) -> list[str]:
        return operations.watch_once(settings, lambda: connect(database_url), NOW + timedelta(minutes=minutes))

    def told() -> int:
        return sum(request.method == "POST" for request in http.requests)

    assert watch(0) == [], "no stack was started here"
    noted.parent.mkdir(parents=True)
    noted.write_text(http.url.rsplit(":", 1)[1])
    http.answer_next(200, "{}")
    assert watch(1) == []
    assert [r.path for r in http.requests] == ["/api/v2/monitor/health"]
    http.answer_next(503, times=2)
    assert watch(2) == [], "it may be starting"
    (line,) = watch(5)
    assert line == "Airflow's api-server is dead: no answer for 3 min (HTTPError: HTTP Error 503: Service Unavailable)"
    assert told() == 1
    noted.write_text("1")  # nothing listens there
    (line,) = watch(6)
    assert "Connection refused" in line
    assert told() == 1, "once per death"
    noted.unlink()  # make down
    assert watch(7) == []
    noted.write_text("1")
    assert watch(8) == []
    assert len(watch(11)) == 1
    assert told() == 2, "another death"


def test_watch_tells_each_channel_once_of_a_dead_database_and_when_it_is_back(
    conn: psycopg.Connection, database_url: str, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(
        SLACK_WEBHOOK_URL=http.slack_url,
        TELEGRAM_BOT_TOKEN=TOKEN,
        TELEGRAM_CHAT_ID="42",
        TELEGRAM_BASE_URL=http.url,
    )
    _open_book(conn, inception_at=CLOSE)

    def nothing_listens() -> psycopg.Connection:
        return connect("postgresql://tradecore:the-password@127.0.0.1:9/tradecore", timeout_s=2)

    http.answer_next(500, "slack is down as well")
    first = operations.watch_once(settings, nothing_listens, NOW)
    assert "no connection to PostgreSQL at 127.0.0.1:9" in first[0]
    assert "slack: HTTP 500" in first[0]
    assert len(http.requests) == 2
    operations.watch_once(settings, nothing_listens, NOW + timedelta(seconds=20))
    assert len(http.requests) == 2
    operations.watch_once(settings, nothing_listens, NOW + timedelta(seconds=40))
    operations.watch_once(settings, nothing_listens, NOW + timedelta(hours=5))
    assert len(http.requests) == 3
    assert "the-password" not in json.dumps([request.json for request in http.requests])
    back = operations.watch_once(settings, lambda: connect(database_url), NOW + timedelta(hours=6))
    assert back == ["database is back after 6 h 0 min"]
    assert _titles(conn) == ["The database is back"]
    assert len(http.requests) == 5
    assert operations.watch_once(settings, lambda: connect(database_url), NOW + timedelta(hours=6)) == []
    assert not (settings.local_dir / "watch.json").exists()


def test_watch_names_a_database_without_our_tables_and_survives_a_torn_memory(
    empty_database_url: str, make_settings: MakeSettings, http: HttpStandin
) -> None:
    settings = make_settings(SLACK_WEBHOOK_URL=http.slack_url)
    settings.local_dir.mkdir()
    (settings.local_dir / "watch.json").write_text('{"since": "2005-')
    found = operations.watch_once(settings, lambda: connect(empty_database_url), NOW)
    assert "database cannot be used: UndefinedTable" in found[0]
    assert "db upgrade" in http.requests[0].json["text"]


def test_no_database_error_survives_the_watch() -> None:
    """`connect` promises NoDatabase; the watch relies on it."""
    with pytest.raises(NoDatabase):
        connect("postgresql://nobody@127.0.0.1:9/x", timeout_s=2)
