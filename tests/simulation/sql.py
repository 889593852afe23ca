"""PostgreSQL for simulated processes: real statements, with a yield point at each, and no lock that hangs the thread.

Advisory locks are tried, and tried again when some transaction has ended. Whatever else waits in the server (a unique
key that another transaction has inserted) is seen by asking the server who blocks whom: it waits in virtual time too.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable
from typing import Any

import psycopg
from greenlet import GreenletExit
from psycopg import waiting

from simulation.kernel import Kernel, Process
from simulation.world import pin
from tradecore.storage.connection import SCHEMA

BLOCKING_LOCK = re.compile(r"\bpg_advisory_(xact_)?lock\(")
ENDS = (b"COMMIT", b"ROLLBACK")
LOOK_S = 0.05  # real time after which an answer that does not come is looked into
DEAD_S = 5_000


class Cursor(psycopg.Cursor[Any]):
    """A cursor whose every statement is a yield point."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        text = self._conn.before(query, params)  # type: ignore[attr-defined]
        if not BLOCKING_LOCK.search(text):
            return super().execute(query, params, **options)
        tried = BLOCKING_LOCK.sub(lambda m: f"pg_try_advisory_{m[1] or ''}lock(", text)
        while True:
            super().execute(tried, params, **options)  # type: ignore[arg-type]
            row = self.fetchone()
            if row and row[0]:
                self._conn.hook("locked", text, params)  # type: ignore[attr-defined]
                return self
            self._conn.wait_for_release()  # type: ignore[attr-defined]

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        for params in params_seq:  # psycopg's pipeline would send them in one go; one by one they can be cut in two
            self._conn.before(query, params)  # type: ignore[attr-defined]
            super().execute(query, params)


class Connection(psycopg.Connection[Any]):
    """A connection of a simulated process. `hook(moment, statement, parameters)` is told of each statement,
    each commit and each lock that was taken."""

    kernel: Kernel
    process: Process | None = None
    hook: Callable[[str, str, Any], None] = staticmethod(lambda moment, text, params: None)  # type: ignore[assignment]
    monitor: psycopg.Connection[Any]
    wrote = False

    def before(self, query: Any, params: Any = None) -> str:
        """Give control away before a statement; return its text."""
        self._check_alive()
        text = (
            query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else query.as_string(self)
        )
        short = " ".join(text.split())
        if short.lstrip("- ").upper().startswith(("INSERT", "UPDATE", "DELETE", "WITH")) or "INSERT INTO" in short:
            self.wrote = True
        self.kernel.note(f"sql {short[:90]}")
        self.kernel.pause(self.kernel.chance.randrange(200, 3_000) / 1e6)
        self._check_alive()
        self.hook("statement", short, params)
        return text

    def _exec_command(self, command: Any, *arguments: Any) -> Any:
        ends = command in ENDS
        wrote = self.wrote and command == b"COMMIT"
        if ends:
            self._check_alive()
            self.kernel.note(f"sql {command.decode()}{' with writes' if wrote else ''}")
            self.kernel.pause(self.kernel.chance.randrange(200, 3_000) / 1e6)
            self._check_alive()
            if wrote:
                self.hook("before commit", "", None)
        result = yield from super()._exec_command(command, *arguments)
        if ends:
            self.wrote = False
            self.kernel.released()
            if wrote:
                self.hook("after commit", "", None)
        return result

    def wait(self, gen: Any, interval: float = 0.1) -> Any:
        """Wait for the server. What it does not answer because of a lock is waited for in virtual time."""
        fd = self.pgconn.socket
        try:
            want = next(gen)
            while True:
                readers = [fd] if want & waiting.Wait.R else []
                writers = [fd] if want & waiting.Wait.W else []
                can_read, can_write, _ = select.select(readers, writers, [], LOOK_S)
                if not can_read and not can_write:
                    if self._is_blocked():
                        self.wait_for_release()
                    continue
                want = gen.send((waiting.Ready.R if can_read else 0) | (waiting.Ready.W if can_write else 0))
        except StopIteration as stop:
            return stop.value

    def wait_for_release(self) -> None:
        """Wait until some transaction has ended."""
        self.kernel.note("waits for a lock")
        self.kernel.block()
        self._check_alive()

    def _is_blocked(self) -> bool:
        row = self.monitor.execute(
            "SELECT cardinality(pg_blocking_pids(%s)) > 0", (self.pgconn.backend_pid,)
        ).fetchone()
        return bool(row and row[0])

    def _check_alive(self) -> None:
        if self.process is not None and not self.process.alive:
            raise GreenletExit

    def die(self) -> None:
        """End the session in the server, whatever it was doing; on return its locks are free."""
        if self.pgconn.status != psycopg.pq.ConnStatus.OK:
            return
        pid = self.pgconn.backend_pid
        self.pgconn.finish()
        self.monitor.execute("SELECT pg_terminate_backend(%s, %s)", (pid, DEAD_S))


def connect(url: str, kernel: Kernel, monitor: psycopg.Connection[Any], process: Process | None = None) -> Connection:
    """Open a connection for a process, prepared as tradecore's are; it dies with the process."""
    conn = Connection.connect(
        url, cursor_factory=Cursor, autocommit=True, options=f"-c search_path={SCHEMA},public -c timezone=UTC"
    )
    conn.kernel, conn.process, conn.monitor = kernel, process, monitor
    conn.autocommit = False
    conn.prepare_threshold, conn.prepared_max = 1, 1_000  # the same statements, thousands of times: planned once
    pin(conn)
    if process is not None:
        process.at_death.append(conn.die)
    return conn
