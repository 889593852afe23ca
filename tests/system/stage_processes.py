"""Runs stages of a book at a venue, each try in a process of its own as Airflow does, and kills some while they run.

    python stage_processes.py STANDIN_URL

Reads one JSON document a line: {"stage", "session", "kill_s": seconds after which the process gets SIGKILL, or null}.
Writes one a line: {"end": "done" | "killed" | "failed", "seconds", "result" or "reason" and "error"}.

The children are forked from one process that has imported everything: a kill costs no import. Their clock is the
stand-in's, and whoever waits moves it; it is asked on a route that no fault meets.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import psycopg

import tradecore.execution.alpaca
import tradecore.reports.session_report
import tradecore.validation.suite  # noqa: F401 - imported before the fork, like the two above
from tradecore import pipeline, settings, venue, warm
from tradecore.errors import BookError, NoDatabase, Unavailable
from tradecore.storage import books
from tradecore.storage.connection import connect

RESTART_S = 60.0
Result = dict[str, object]


class VenueClock:
    """The clock of the stand-in, whether it is just being started again or not."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _ask(self, body: bytes | None) -> datetime:
        deadline = time.monotonic() + RESTART_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/standin/clock", data=body, timeout=10) as answer:
                    return datetime.fromisoformat(json.loads(answer.read())["now"])
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def now(self) -> datetime:
        return self._ask(None)

    def sleep(self, seconds: float) -> None:
        self._ask(json.dumps({"advance_s": seconds}).encode())


def run_stage(found: settings.Settings, clock: VenueClock, stage: str, session: date) -> Result:
    """Run one stage as its task does: a connection, a desk and a context of its own."""
    name = found.trading.book.name
    with connect(str(found.database_url)) as conn:
        record = books.get(conn, name)
        conn.rollback()
        desk = venue.open_desk(found, conn, record, clock.now, clock.sleep)
        ctx = pipeline.context(found, conn, book=name, session_date=session, now=clock.now(), desk=desk)
        if stage == "settle" and not pipeline.turn(ctx):
            raise BookError(f"it is not the turn of {session}")
        if stage == "signal":
            return {strategy: pipeline.signal(ctx, strategy) for strategy in pipeline.strategies(ctx)}
        stages: dict[str, Callable[[pipeline.Context], Result]] = {s: getattr(pipeline, s) for s in ONE_CALL}
        return stages[stage](ctx)


ONE_CALL = ("ingest", "validate", "settle", "risk", "plan", "report", "approve", "submit", "close")


def reason(error: Exception) -> str:
    """Say what failed: the database, the venue, or something that nobody had planned."""
    if isinstance(error, NoDatabase | psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError):
        return "database"
    return "venue" if isinstance(error, Unavailable) else "other"


def child(found: settings.Settings, clock: VenueClock, asked: dict[str, Any], out: int) -> None:
    """Run one try, its outcome to `out`; never returns."""
    try:
        try:
            result = run_stage(found, clock, asked["stage"], date.fromisoformat(asked["session"]))
            said = {"end": "done", "result": result}
        except Exception as error:  # noqa: BLE001 - told to the parent, which judges it
            said = {"end": "failed", "reason": reason(error), "error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        os.write(out, json.dumps(said, default=str).encode())
    finally:
        os._exit(0)


def attempt(found: settings.Settings, clock: VenueClock, asked: dict[str, Any]) -> dict[str, Any]:
    """Run one try and kill it at its time; what it managed to say before that does not count, as in Airflow."""
    result_in, result_out = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(result_in)
        child(found, clock, asked, result_out)
    os.close(result_out)
    if asked["kill_s"] is not None:
        select.select([result_in], [], [], asked["kill_s"])
        os.kill(pid, signal.SIGKILL)  # one that has ended stays until it is waited for
    with os.fdopen(result_in, "rb") as results:
        said = results.read()
    os.waitpid(pid, 0)
    seconds = time.monotonic() - started
    if not said:
        return {"end": "killed", "seconds": seconds}
    return {**json.loads(said), "seconds": seconds}


def main() -> None:
    """Answer line for line until the input ends."""
    found, clock = settings.load(), VenueClock(sys.argv[1])
    warm.warm_serial_kernels()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(attempt(found, clock, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
