"""A running stack with a calendar, a feed, a mail server and a Slack of the test's own.

It is `make up` on a copy of the project (tests/native_stack.py): its own database, port and `.local`. The calendar
is the real one up to the end of the sample, behind which a test writes sessions that close when it wants them to;
the feed is the sample's folder with bars for those.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import psycopg
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from http_standin import HttpStandin
from native_stack import Stack, prepared_project
from tradecore.sessions import HEADER, TABLES

SAMPLE_END = date(2013, 3, 1)
BOOK = "live"
ENDED = ("success", "failed")


class Mailbox(MessageHandler):
    """A mail server that keeps what arrives, with the time of its arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[tuple[float, Message]] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append((time.time(), message))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStack:
    """The stack, what it reads (calendar, feed) and who hears its alerts."""

    stack: Stack
    table: Path
    feed: Path
    mailbox: Mailbox
    slack: HttpStandin
    heard: dict[str, list[float]] = field(default_factory=dict)

    # -- what it reads

    def write_calendar(self, live: Sequence[tuple[date, datetime]]) -> None:
        """Write the exchange's sessions up to the sample's end, then (label, close) as given, then quiet days."""
        rows = [line for line in (TABLES / "sessions_XNYS.csv").read_text().splitlines()[1:] if line < "2013-03-02"]
        opens = datetime.combine(SAMPLE_END, datetime.min.time(), UTC) + timedelta(days=1)
        for label, close_at in live:
            rows.append(f"{label},{opens.isoformat()},{close_at.isoformat()}")
            opens = close_at
        after = max([datetime.now(UTC).date(), *(label for label, _ in live)])
        for k in range(1, 6):
            day = after + timedelta(days=k)
            rows.append(f"{day},{day}T14:30Z,{day}T21:00Z")
        fresh = self.table.with_suffix(".new")
        fresh.write_text("\n".join([HEADER, *rows]) + "\n")
        fresh.replace(self.table)

    def add_bars(self, label: date) -> None:
        """Append a bar like the last one, half a percent higher, to each symbol's file."""
        for path in sorted(self.feed.glob("*.csv")):
            lines = path.read_text().splitlines()
            if not lines[0].startswith("session_date,open"):
                continue
            columns = lines[0].split(",")
            last = dict(zip(columns, lines[-1].split(","), strict=True))
            close = round(float(last["close"]) * 1.005, 2)
            quote = {"open": close, "high": round(close * 1.01, 2), "low": round(close * 0.99, 2), "close": close}
            row = last | {key: f"{value:.2f}" for key, value in quote.items()} | {"session_date": str(label)}
            path.write_text("\n".join([*lines, ",".join(row[c] for c in columns)]) + "\n")

    def drop_bars(self, label: str, symbols: Sequence[str]) -> None:
        """Take the bars of a session out of some symbols' files."""
        for symbol in symbols:
            path = self.feed / f"{symbol}.csv"
            lines = path.read_text().splitlines()
            kept = [line for line in lines if not line.startswith(label)]
            assert len(kept) == len(lines) - 1, f"{symbol} has no bar on {label}"
            path.write_text("\n".join(kept) + "\n")

    # -- Airflow

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement in the stack's database; Airflow's tables are in public, ours in tradecore."""
        with psycopg.connect(self.stack.env["DATABASE_URL"], autocommit=True) as conn:
            cursor = conn.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.stack.env["DATABASE_URL"], options="-c search_path=tradecore,public")

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Switch a DAG on or off, as a person does in Airflow's list."""
        status, said = self.stack.call(f"/api/v2/dags/{dag_id}", {"is_paused": paused}, self.stack.token(), "PATCH")
        assert status == 200, said

    def trigger(self, dag_id: str, **conf: str) -> str:
        """Start a run by hand, as the form does; return its id."""
        body = {"logical_date": None, "conf": conf}
        status, run = self.stack.call(f"/api/v2/dags/{dag_id}/dagRuns", body, self.stack.token())
        assert status == 200, run
        return str(run["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        rows = self.query("SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s", dag_id, run_id)
        return str(rows[0][0]) if rows else ""

    def ended(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        """Wait for the end of a run and return its state."""
        wait_until(lambda: self.state(dag_id, run_id) in ENDED, timeout_s, f"{dag_id} {run_id} to end")
        return self.state(dag_id, run_id)

    def tasks(self, run_id: str) -> dict[str, tuple[str, datetime | None, datetime | None]]:
        """Return (state, start, end) of a run's tasks by id (the first of mapped ones)."""
        rows = self.query(
            "SELECT task_id, state, start_date, end_date FROM task_instance WHERE run_id = %s"
            " ORDER BY map_index DESC", run_id,
        )  # fmt: skip
        return {row[0]: (row[1], row[2], row[3]) for row in rows}

    def log_of(self, run_id: str) -> str:
        """Return the logs of all tasks of a run."""
        folder = Path(self.stack.env["AIRFLOW__LOGGING__BASE_LOG_FOLDER"])
        return "\n".join(p.read_text(errors="replace") for p in sorted(folder.glob(f"*/run_id={run_id}/**/*.log")))

    def stage_seconds(self, run_id: str) -> dict[str, float]:
        """Return what each stage said about its own duration, in the run's logs."""
        found = re.findall(r"Stage (\w+) of \S+ took ([0-9.]+) s", self.log_of(run_id))
        total: dict[str, float] = {}
        for stage, seconds in found:
            total[stage] = total.get(stage, 0.0) + float(seconds)
        return total

    # -- alerts

    def arrivals(self, *words: str) -> dict[str, tuple[float, str]]:
        """Return {'email': (when, text), 'slack': ...} of the first message over each channel with all the words."""
        found: dict[str, tuple[float, str]] = {}
        for when, mail in list(self.mailbox.mails):
            text = f"{mail['subject']}\n{mail.get_payload(decode=True).decode()}"
            if "email" not in found and all(word in " ".join(text.split()) for word in words):
                found["email"] = (when, text)
        for request in list(self.slack.requests):
            text = str(request.json.get("text", ""))
            if "slack" not in found and all(word in " ".join(text.split()) for word in words):
                found["slack"] = (0.0, text)
        return found

    def heard_within(self, seconds: float, *words: str) -> tuple[float, dict[str, str]]:
        """Wait until both channels said all the words; return the seconds that took and the texts."""
        started = time.monotonic()
        wait_until(lambda: len(self.arrivals(*words)) == 2, seconds, f"an alert with {words} by email and Slack")
        return time.monotonic() - started, {channel: text for channel, (_, text) in self.arrivals(*words).items()}


def wait_until(done: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Ask twice a second until it is done; return the seconds that took. Raises AssertionError."""
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < timeout_s, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.5)
    return time.monotonic() - started


def write_profile(root: Path, changes: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a profile beside the sample's: the same book over a calendar and a feed folder of its own."""
    profile = yaml.safe_load((root / "include" / "config" / "trading.yaml").read_text())
    profile["book"] |= {"name": BOOK, "account": BOOK, "calendar": str(root / "sessions.csv"), "run_delay_minutes": 0}
    profile["data"] |= {"options": {"folder": str(root / "feed")}, "publication_lag_minutes": 0, "last_session": None}
    for section, values in changes.items():
        profile[section] |= values
    shutil.copytree(root / "include" / "sample_data", root / "feed")
    path = root / "running.yaml"
    path.write_text(yaml.safe_dump(profile))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def alert_receivers() -> Iterator[tuple[Mailbox, HttpStandin, dict[str, str]]]:
    """Serve a real SMTP and a real HTTP receiver; yield them and the settings that name them."""
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        with HttpStandin() as slack:
            yield (
                mailbox,
                slack,
                {
                    "SMTP_HOST": "127.0.0.1",
                    "SMTP_PORT": str(port),
                    "SMTP_SECURITY": "none",
                    "SMTP_FROM": "desk@example.org",
                    "SMTP_TO": "owner@example.org",
                    "SLACK_WEBHOOK_URL": slack.slack_url,
                },
            )
    finally:
        controller.stop()


@contextmanager
def running_stack(folder: Path, **changes: Mapping[str, object]) -> Iterator[LiveStack]:
    """Give a stack that runs, its history loaded, its book open before the sample's last session, replay_day on.

    changes: keys by section of trading.yaml.
    """
    with alert_receivers() as (mailbox, slack, alerts):
        settings = alerts | {
            "TRADECORE_CONFIG": str(folder.resolve() / "running.yaml"),
            "AIRFLOW_PORT": str(free_port()),
        }
        with prepared_project(folder, **settings) as prepared:
            write_profile(prepared.root, changes)
            live = LiveStack(
                stack=prepared, table=prepared.root / "sessions.csv", feed=prepared.root / "feed",
                mailbox=mailbox, slack=slack,
            )  # fmt: skip
            live.write_calendar([])
            done = prepared.make("up", timeout_s=1200)
            assert done.returncode == 0, done.stdout + done.stderr
            for command in (["load-history", "2004-06-01", "2005-02-24"], ["init", "--before", str(SAMPLE_END)]):
                said = prepared.run("python", "-m", "tradecore", *command, timeout_s=900)
                assert said.returncode == 0, said.stdout + said.stderr
            wait_until(lambda: _dags(live) >= {"trading_day", "replay_day"}, 900, "the DAGs to be parsed")
            live.pause("replay_day", paused=False)
            yield live


def _dags(live: LiveStack) -> set[str]:
    return {row[0] for row in live.query("SELECT dag_id FROM serialized_dag")}


def as_json(done: Any) -> Any:
    """Return the JSON that a command printed."""
    return json.loads(done.stdout)
