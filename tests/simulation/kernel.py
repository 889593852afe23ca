"""One thread, many simulated processes: a scheduler of greenlets in virtual time, with one seed for everything.

A process gives control away at each SQL statement, each HTTP call and each sleep, and nowhere else. Virtual time
decides which one goes on, and the seed how long each step takes: the same seed gives the same trace.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

TRACE_LINES = 4_000
MOST_STEPS = 40_000


class Stuck(Exception):
    """No process can go on: each waits for a lock that another one holds."""


class Strand(greenlet):
    """The greenlet of a process, which it names: who runs is asked at every step."""

    process: Process


class Process:
    """A simulated process: its greenlet, what dies with it, and what became of it."""

    def __init__(self, name: str, body: Callable[[], Any], hub: greenlet) -> None:
        self.name = name
        self.alive = True
        self.done = False
        self.killed = ""
        self.result: Any = None
        self.error: BaseException | None = None
        self.at_death: list[Callable[[], None]] = []
        self.waiters: list[Process] = []
        self.greenlet = Strand(self._run, hub)
        self.greenlet.process = self
        self._body = body

    def _run(self, _first: Any = None) -> None:
        try:
            self.result = self._body()
        except GreenletExit:
            pass
        except Exception as error:  # noqa: BLE001 - a process may die of anything: whoever looks at `error` judges it
            self.error = error
        finally:
            self.alive, self.done = False, True


class Kernel:
    """Virtual time, the queue of what happens when, and the trace."""

    def __init__(self, seed: int, start: datetime) -> None:
        self.now = start
        self.chance = random.Random(f"kernel {seed}")
        self.lines: list[str] = []
        self.digest = hashlib.sha256()
        self.hub = getcurrent()
        self.processes: list[Process] = []
        self._queue: list[tuple[datetime, int, Callable[[], None]]] = []
        self.steps = 0
        self._number = 0
        self._blocked: list[Process] = []

    @property
    def current(self) -> Process | None:
        """The process that runs now; None outside of all of them."""
        return getattr(getcurrent(), "process", None)

    def note(self, text: str) -> None:
        """Put a line into the trace: only what follows from the seed, never a time of the machine."""
        here = self.current
        line = f"{self.now.isoformat(' ')[5:26]} {here.name if here else '-'}: {text}"
        self.digest.update(line.encode() + b"\n")
        self.lines.append(line)
        if len(self.lines) > 2 * TRACE_LINES:
            del self.lines[:TRACE_LINES]

    @property
    def trace_hash(self) -> str:
        return self.digest.hexdigest()

    def at(self, when: datetime, action: Callable[[], None]) -> None:
        """Do something at a time, in the hub."""
        self._number += 1
        heapq.heappush(self._queue, (max(when, self.now), self._number, action))

    def spawn(self, name: str, body: Callable[[], Any], after_s: float = 0.0) -> Process:
        """Start a process; it runs for the first time `after_s` from now."""
        process = Process(name, body, self.hub)
        self.processes.append(process)
        self.at(self.now + timedelta(seconds=after_s), lambda: self._resume(process))
        return process

    def pause(self, seconds: float) -> None:
        """Let the others run; come back `seconds` later. Outside of a process nothing happens."""
        process = self.current
        if process is None:
            return
        self.at(self.now + timedelta(seconds=seconds), lambda: self._resume(process))
        self.hub.switch()

    def sleep(self, seconds: float) -> None:
        """Sleep, as a process does."""
        self.note(f"sleeps {seconds:g} s")
        self.pause(max(seconds, 0.0))

    def block(self) -> None:
        """Wait until some transaction has ended; what was waited for must then be looked at again."""
        process = self.current
        if process is None:
            raise Stuck("a lock is held by a process, and none can go on from here")
        self._blocked.append(process)
        self.hub.switch()

    def released(self) -> None:
        """Tell all that wait for a lock that a transaction has ended."""
        waiting, self._blocked = self._blocked, []
        for process in waiting:
            self.at(
                self.now + timedelta(microseconds=self.chance.randrange(1, 2_000)), lambda p=process: self._resume(p)
            )  # type: ignore[misc]

    def join(self, process: Process) -> Process:
        """Wait until a process is over."""
        here = self.current
        if here is not None and not process.done:
            process.waiters.append(here)
            self.hub.switch()
        return process

    def kill(self, process: Process, why: str) -> None:
        """End a process as SIGKILL does: none of its handlers reaches anything outside of it."""
        if not process.alive:
            return
        self.note(f"kills {process.name}: {why}")
        process.alive, process.killed = False, why
        for action in reversed(process.at_death):
            action()
        if process is self.current:
            raise GreenletExit
        if process.greenlet:
            process.greenlet.parent = getcurrent()  # it comes back to here, not to the hub
            process.greenlet.throw(GreenletExit)  # its `finally` blocks find every door closed
        process.done = True
        self._over(process)
        self.released()

    def step(self) -> bool:
        """Let one thing happen. Raises Stuck when all that is left waits for each other."""
        if not self._queue:
            self._blocked = [p for p in self._blocked if p.alive]
            if self._blocked:
                raise Stuck(f"{', '.join(p.name for p in self._blocked)} wait for locks that nobody will release")
            return False
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stuck(f"no end after {MOST_STEPS} steps, at {self.now}")
        when, _, action = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        action()
        return True

    def _resume(self, process: Process) -> None:
        if process.done or process.greenlet.dead:
            return
        process.greenlet.switch()
        if process.greenlet.dead:
            process.done = True
            self._over(process)
            self.released()

    def _over(self, process: Process) -> None:
        waiters, process.waiters = process.waiters, []
        for waiter in waiters:
            self.at(self.now, lambda w=waiter: self._resume(w))  # type: ignore[misc]
