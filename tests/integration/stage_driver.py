"""Runs the CLI's stages over sessions, each try in a process of its own as Airflow does, and kills some at a COMMIT.

    python stage_driver.py PLAN.json

PLAN is {"sessions": [date], "kills": [{"session", "stage", "commit", "moment"}]}: the first try of that stage sends
itself SIGKILL right "before" its n-th writing COMMIT goes out, or right "after" the server said that it is done. A
killed stage is tried again, as a task with retries is. One JSON line a try goes to standard output.

The children are forked from one process that has imported everything: a kill costs no import. Nothing in tradecore
knows of this: the driver stands between psycopg and its caller, at the one place where psycopg sends COMMIT.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

import tradecore.reports.session_report
import tradecore.validation.suite  # noqa: F401 - imported before the fork, like the report
from tradecore import cli, warm

BEFORE_GATE = ("ingest", "validate", "settle")
GUARDED = ("signal", "risk", "plan")
AFTER_GATE = ("report", "approve", "submit", "close")
STAGES = (*BEFORE_GATE, *GUARDED, *AFTER_GATE)
MOMENTS = ("before", "after")
MAX_TRIES = 3
WROTE = b"SELECT pg_current_xact_id_if_assigned() IS NOT NULL"


def watch_commits(at: Callable[[str, int], None]) -> None:
    """Call at(moment, n) around the n-th COMMIT of this process that has something to commit."""
    send = psycopg.Connection._exec_command  # private, and the only way that every COMMIT takes: see the test
    count = 0

    def counted(self: psycopg.Connection[Any], command: Any, *arguments: Any) -> Iterator[Any]:
        nonlocal count
        writes = command == b"COMMIT" and self.pgconn.transaction_status == TransactionStatus.INTRANS
        writes = writes and self.pgconn.exec_(WROTE).get_value(0, 0) == b"t"
        if writes:
            count += 1
            at("before", count)
        result = yield from send(self, command, *arguments)
        if writes:
            at("after", count)
        return result

    psycopg.Connection._exec_command = counted  # type: ignore[method-assign,assignment]


def child(session: str, stage: str, kill: dict[str, Any] | None, out: int, commits: int) -> None:
    """Run one stage of the CLI, its result to `out`, one byte to `commits` for each COMMIT; never returns."""

    def at(moment: str, number: int) -> None:
        if moment == "after":
            os.write(commits, b".")
        if kill and (kill["moment"], kill["commit"]) == (moment, number):
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        os.dup2(out, 1)
        watch_commits(at)
        cli.app([stage, session, "--json"], standalone_mode=False)
        sys.stdout.flush()
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
        os._exit(code)


def attempt(session: str, stage: str, kill: dict[str, Any] | None) -> dict[str, Any]:
    """Run one try; return what became of it: killed or not, its COMMITs, and the JSON that it printed."""
    (result_in, result_out), (commits_in, commits_out) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        child(session, stage, kill, result_out, commits_out)
    os.close(result_out)
    os.close(commits_out)
    with os.fdopen(result_in, "rb") as results, os.fdopen(commits_in, "rb") as commits:
        printed, done = results.read(), commits.read()
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        raise SystemExit(f"{stage} of {session} ended with status {status}")
    if killed != bool(kill):
        raise SystemExit(f"{stage} of {session}: killed {killed}, asked for {kill}; it made {len(done)} commits")
    return {
        "session": session,
        "stage": stage,
        "killed": killed,
        "commits": len(done),
        "result": None if killed else json.loads(printed),
    }


def main(plan: dict[str, Any]) -> None:
    """Run every session's stages in the DAG's order, each until it ends by itself."""
    warm.warm_serial_kernels()
    kills = {(k["session"], k["stage"]): k for k in plan["kills"]}
    for session in plan["sessions"]:
        gate_open = False
        for stage in STAGES:
            if stage in GUARDED and not gate_open:
                continue
            for number in range(MAX_TRIES):
                done = attempt(session, stage, kills.get((session, stage)) if number == 0 else None)
                print(json.dumps(done), flush=True)
                if not done["killed"]:
                    break
            if stage == "validate":
                gate_open = bool(done["result"]["gate_open"])


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
