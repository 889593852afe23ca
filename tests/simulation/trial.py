"""One run: the real stages of a few sessions as simulated processes, everything that goes wrong, and what must hold."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import requests
from urllib3 import exceptions as urllib3_errors

from alpaca_standin.faults import Fault, FaultPlan
from alpaca_standin.venue import Venue
from simulation import invariants, sql, world
from simulation.kernel import Kernel, Process, Stuck
from simulation.plan import VENUE_FAULT, Event, Plan
from simulation.wire import Wire
from simulation.world import BOOK, Ground
from tradecore import decision, notify, pipeline
from tradecore.context import Context, context
from tradecore.errors import OutOfOrder, TradecoreError
from tradecore.execution.alpaca import AlpacaBroker
from tradecore.execution.broker import Desk
from tradecore.sessions import calendar

STAGES = ("turn", "settle", "signal", "risk", "plan", "approve", "submit", "close")
ALONE_H = 12
PROMPT_LOOKS = 6  # after so many calls that had to wait, a sensor is called less and less often
MAX_TRIES, RETRY_S, TURN_S = 4, 10.0, 120.0
RUN_DELAY = timedelta(minutes=30)
STEP_LASTS_S, DOWN_S, OUTAGE_S = 600.0, 180.0, 3_600.0
ASKED_AGAIN_S, ANSWERS_S, MOODS, NEVER = 300.0, 1_200.0, 12, 3
LIFTED_AFTER_S = 20 * 3_600.0
EXPECTED = (
    TradecoreError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    OSError,
)  # what a task may fail with, and be retried
WATCHED = ("book_states", "broker_fills", "order_events", "reconciliations")
POST, DELETE = "POST /v2/orders", "DELETE /v2/orders/"


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One DAG run of a session, as the scheduler has it."""

    name: str
    session: int
    stage: int = 0
    given_up: bool = False
    done: bool = False
    failed: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One try of a stage: a simulated process."""

    run: Run
    stage: str
    process: Process
    conns: list[sql.Connection] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    submitting: list[str] = field(default_factory=list)
    at_lock: invariants.Facts | None = None
    answered: bool = False
    later: Callable[[float], None] = lambda seconds: None

    @property
    def session(self) -> int:
        return self.run.session


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run. fired: the events that took place; cpu_s: of this process alone."""

    plan: Plan
    violations: tuple[str, ...]
    fired: tuple[bool, ...]
    trace_hash: str
    trace: tuple[str, ...]
    counts: dict[str, int]
    cpu_s: float

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def unfired(self) -> tuple[str, ...]:
        """The kinds of the plan's events that never took place."""
        return tuple(e.kind for e, fired in zip(self.plan.events, self.fired, strict=True) if not fired)


class Memory:
    """An alert channel that takes everything."""

    def send(self, alert: Any) -> None:
        """Take it."""


class Trial:
    """A plan on a ground."""

    def __init__(self, ground: Ground, plan: Plan) -> None:
        self.ground, self.plan = ground, plan
        self.settings = world.settings_for(ground, plan.variant)
        self.days = list(world.sessions_of(plan.variant))
        self.calendar = calendar("XNYS")
        self.kernel = Kernel(plan.seed, self._close(self.days[0]) - timedelta(hours=2))
        self.venue = Venue(world.venue_state(plan.variant), ground.market, lambda: self.kernel.now, FaultPlan())
        self.tasks: list[Task] = []
        self.runs: list[Run] = []
        self.supervisors: dict[Process, Run] = {}
        self.fired: dict[Event, bool] = {}
        self.seen: Counter[Event] = Counter()
        self.violations: list[str] = []
        self.offset_s = 0.0
        self.down_until = self.kernel.now
        self.outages: list[tuple[datetime, datetime, Event]] = []
        self.begun: set[Event] = set()
        self.armed: dict[Event, Fault] = {}
        self.asked: set[int] = set()
        self.figures: dict[str, int] = {}

    # -- the run

    def run(self) -> Outcome:
        """Trade the sessions, then look at everything."""
        began = time.process_time()
        self.ground.clean()
        with _quiet_channels():
            try:
                violations = self._trade()
            finally:
                self._stop()
        return Outcome(
            plan=self.plan,
            violations=tuple(dict.fromkeys(violations)),
            fired=tuple(self.fired.get(e, False) or self._met(e) for e in self.plan.events),
            trace_hash=self.kernel.trace_hash,
            trace=tuple(self.kernel.lines[-400:]),
            counts=self._counts(),
            cpu_s=time.process_time() - began,
        )

    def _trade(self) -> list[str]:
        self._open()
        for number, day in enumerate(self.days):
            self.kernel.at(self._close(day) + RUN_DELAY, lambda n=number: self._start_session(n))  # type: ignore[misc]
        self._through(self._close(self._after(self.days[-1], 1)) + RUN_DELAY)
        self._settle_what_is_left()
        violations = [*self.violations]
        if not violations:
            violations += invariants.at_the_end(self)
            self.figures = invariants.figures(self)
        if not violations:
            violations += self._again()
        return violations

    def _stop(self) -> None:
        """End what is still under way: the next run begins on empty tables."""
        digest = self.kernel.digest.copy()
        for process in self.kernel.processes:
            self.kernel.kill(process, "the run is over")
        self.kernel.digest = digest

    def _open(self) -> None:
        conn = self._connection(None)
        try:
            pipeline.open_book(
                self.settings,
                conn,
                book=BOOK,
                before=self.days[0],
                now=self.kernel.now,
                desk=lambda record: self._desk(None),
            )
        finally:
            self._give_back(conn)

    def _through(self, until: datetime) -> None:
        """Let everything happen up to a time."""
        try:
            while self.kernel.now < until and not self.violations:
                if not self.kernel.step():
                    break
        except Stuck as stuck:
            self.violations.append(f"stuck: {stuck}")
        self.kernel.now = max(self.kernel.now, until)

    def _settle_what_is_left(self) -> None:
        """Settle the sessions in which orders of the last one, and late news of them, still come; send nothing."""
        for extra in (1, 2):
            day = self._after(self.days[-1], extra)
            self._finish_all(self._close(day) + RUN_DELAY)
            run = Run(name=f"after{extra}", session=len(self.days) - 1 + extra)
            self.days_extra = extra
            self._supervise_now(run, ("turn", "settle", "close"))

    def _again(self) -> list[str]:
        """Run every stage of every session again: no business row changes, nothing is sent."""
        self.offset_s = 0.0
        before, sent = invariants.checksum(self), self.venue.state.counters.posts_received
        for number in range(len(self.days) + 2):
            self._supervise_now(Run(name=f"again{number}", session=number), STAGES)
        after = invariants.checksum(self)
        changed = [table for table in sorted(before) if before[table] != after[table]]
        problems = [f"rerun: table {table} changed when everything was run again" for table in changed]
        if self.venue.state.counters.posts_received != sent:
            problems.append("rerun: a past session sent an order")
        return [*self.violations, *problems]

    # -- the scheduler

    def _start_session(self, number: int) -> None:
        if self.kernel.now < self.down_until:
            self.kernel.at(self.down_until, lambda: self._start_session(number))
            return
        for event in self._events("fault"):
            if event.session == number:
                self._arm(event)
        self._start(Run(name=f"s{number}", session=number))
        for event in self._events("act"):
            due = event.session == number or (self.plan.cell is not None and event.session <= number)
            if event.kind == "two_at_once" and due:
                self.fired[event] = True
                self._start(Run(name=f"s{number}+", session=number))
            elif event.session == number and self.plan.cell is None and event.kind in ("clear", "backfill", "manual"):
                self.kernel.at(self._soon(event.seconds), partial(self._act_alone, event, number))
        for event in (*self._events("person"), *self._events("outage")):
            if event.session == number:
                self._arm_person(event, number)

    def _start(self, run: Run) -> None:
        self.runs.append(run)
        self._spawn_supervisor(run)

    def _spawn_supervisor(self, run: Run) -> None:
        process = self.kernel.spawn(f"scheduler {run.name}", lambda: self._supervise(run, STAGES))
        self.supervisors[process] = run

    def _supervise(self, run: Run, stages: tuple[str, ...]) -> None:
        """Run the stages in order as the DAG does; what fails for good leaves only `close` to do."""
        while run.stage < len(stages):
            stage = stages[run.stage]
            if run.failed and stage != "close":
                run.stage += 1
                continue
            if not self._stage(run, stage):
                if run.given_up:
                    return
                run.failed.append(stage)
            run.stage += 1
        run.done = True

    def _stage(self, run: Run, stage: str) -> bool:
        """Run one stage until it is done; False where it failed for good or the run was given up."""
        tries, looks, deadline = 0, 0, self.kernel.now + timedelta(days=3)
        while tries < MAX_TRIES and self.kernel.now < deadline:
            task = self._spawn_task(run, stage)
            self.kernel.join(task.process)
            if run.given_up:
                return False
            process = task.process
            if process.killed or process.error is not None:
                if process.error is not None and not self._expected(task, process.error):
                    return False
                if isinstance(process.error, OutOfOrder):
                    return False
                tries += 1
                self.kernel.pause(RETRY_S * 2**tries)
                continue
            again_s = _again_s(stage, process.result, looks)
            if again_s is None:
                return True
            if stage == "approve":
                again_s = min(again_s, self._ask(run.session))
            looks += 1
            self.kernel.pause(
                max(again_s, 30.0 * 1.5 ** min(looks - PROMPT_LOOKS, 10) if looks > PROMPT_LOOKS else 0.0)
            )
        return False

    def _expected(self, task: Task, error: BaseException) -> bool:
        if isinstance(error, EXPECTED):
            self.kernel.note(f"{task.stage} failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
            return True
        self.violations.append(f"{task.stage} raised {type(error).__name__}: {error}")
        self.crash_of = error
        return False

    def _spawn_task(self, run: Run, stage: str, after_s: float = 0.0) -> Task:
        number = len(self.tasks)
        task = Task(run=run, stage=stage, process=None)  # type: ignore[arg-type]
        task.process = self.kernel.spawn(f"{run.name}.{stage}#{number}", lambda: self._body(task), after_s)
        self.tasks.append(task)
        return task

    def _body(self, task: Task) -> Any:
        conn = self._connection(task)
        try:
            ctx = context(
                self.settings,
                conn,
                book=BOOK,
                session_date=self._day(task.session),
                now=self.clock(),
                desk=self._desk(task),
            )
            return _call(task.stage, ctx, task.run)
        finally:
            self._give_back(conn, task)

    def _supervise_now(self, run: Run, stages: tuple[str, ...]) -> None:
        """Run stages to their end with nothing beside them."""
        self.kernel.spawn(f"scheduler {run.name}", lambda: self._supervise(run, stages))
        limit = self.kernel.now + timedelta(hours=ALONE_H)
        try:  # to the end of all that comes of it, a survivor and a second run too
            while not self.violations and self.kernel.now < limit and self.kernel.step():
                pass
        except Stuck as stuck:
            self.violations.append(f"stuck: {stuck}")

    def _finish_all(self, until: datetime) -> None:
        """Let what still runs come to its end, at the latest at a time."""
        self._through(until)

    # -- a process's surroundings

    def clock(self) -> datetime:
        """The machine's clock: it may be wrong."""
        return self.kernel.now + timedelta(seconds=self.offset_s)

    def _connection(self, task: Task | None) -> sql.Connection:
        process = task.process if task else None
        if self.ground.idle:
            conn = self.ground.idle.pop()
            conn.kernel, conn.process = self.kernel, process
            if process is not None:
                process.at_death.append(conn.die)
        else:
            conn = sql.connect(self.ground.url, self.kernel, self.ground.monitor, process)
        conn.hook = (lambda moment, text, params: None) if task is None else self._sql_hook(task, conn)
        if task is not None:
            task.conns.append(conn)
        return conn

    def _give_back(self, conn: sql.Connection, task: Task | None = None) -> None:
        """Keep the session of a process that ended well for the next one."""
        conn.hook, conn.process = (lambda moment, text, params: None), None
        if task is not None:
            task.conns.remove(conn)
            task.process.at_death.clear()
        if conn.closed or conn.broken:
            return
        conn.pgconn.exec_(b"ROLLBACK")  # as when a process ends: not through the yield points
        conn.pgconn.exec_(b"SELECT pg_advisory_unlock_all()")
        self.ground.idle.append(conn)

    def _desk(self, task: Task | None) -> Desk:
        execution = self.settings.trading.execution
        process = task.process if task else None
        hook = self._http_hook(task) if task else (lambda moment, label, later: None)
        broker = AlpacaBroker(
            api_key=world.KEY,
            secret_key=world.SECRET,
            live=False,
            clock=self.clock,
            timeout_s=execution.http_timeout_s,
            transport=Wire(self.kernel, self.venue, process, hook),
        )
        return Desk(broker=broker, clock=self.clock, sleep=self.kernel.sleep)

    def _day(self, number: int) -> date:
        last = len(self.days) - 1
        return self.days[number] if number <= last else self._after(self.days[last], number - last)

    def _after(self, day: date, count: int) -> date:
        for _ in range(count):
            day = self.calendar.next_session(day)
        return day

    def _close(self, day: date) -> datetime:
        return self.calendar.session(day).close_at

    def _soon(self, seconds: float) -> datetime:
        return self.kernel.now + timedelta(seconds=seconds)

    def _events(self, axis: str) -> list[Event]:
        return [e for e in self.plan.events if e.axis == axis]

    # -- what goes wrong

    def _sql_hook(self, task: Task, conn: sql.Connection) -> Callable[[str, str, Any], None]:
        def hook(moment: str, text: str, params: Any) -> None:
            if moment == "locked" and task.stage in ("approve", "submit"):  # no other may send
                task.at_lock = invariants.facts(self)
            if moment == "statement":
                task.touched |= {name for name in WATCHED if f"INTO {name}" in text or f"UPDATE {name}" in text}
                if "INTO order_events" in text and isinstance(params, dict) and params.get("status") == "SUBMITTING":
                    task.submitting.append(params["id"])
            for event in self._events("crash"):
                if not self.fired.get(event) and self._is_at(event, task, moment, text):
                    self._strike(event, task, moment)
            if moment == "after commit":
                if task.submitting:
                    self.violations += invariants.at_submitting(self, task)
                task.touched, task.submitting, task.answered = set(), [], False

        return hook

    def _http_hook(self, task: Task) -> Callable[[str, str, Callable[[float], None]], None]:
        def hook(moment: str, label: str, later: Callable[[float], None]) -> None:
            task.later = later
            if moment == "before send":
                self._outage(label)
            if moment == "processed" and label == POST:
                self.violations += invariants.at_post(self)
                self._late_fill_of_newest()
            if moment == "answered" and label == POST:
                task.answered = True
            for event in self._events("crash"):
                if not self.fired.get(event) and self._is_at(event, task, moment, label):
                    self._strike(event, task, moment)

        return hook

    def _is_at(self, event: Event, task: Task, moment: str, text: str) -> bool:
        """Tell whether this is the n-th place that the event is for."""
        if task.session < event.session or not _place(event.kind, task, moment, text, self.venue, event.nth):
            return False
        self.seen[event] += 1
        return self.seen[event] >= event.nth

    def _strike(self, event: Event, task: Task, moment: str) -> None:
        """Let a crash happen, and what the scheduler makes of it."""
        self.fired[event] = True
        self.kernel.note(f"fault {event.kind}")
        acts = [e for e in self._events("act") if self._belongs(e, event) and not self.fired.get(e)]
        act = acts[0] if acts else None
        if act is not None and act.kind != "two_at_once":
            self.fired[act] = True
            self._act(act, task)
        survives = act is not None and act.kind == "survivor"
        if event.kind == "clock_step":
            self.offset_s = event.seconds
            self.kernel.at(self._soon(STEP_LASTS_S), self._right_clock)
            if not survives:
                return
        elif event.kind == "power_cut":
            self._power_cut(task)
        elif event.kind == "database_failover":
            self._failover()
        elif event.kind == "disk_full" and not survives:
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")
        elif event.kind == "sent_no_reply" and not survives:
            task.later(event.seconds)
        if survives:
            self.kernel.note("is asleep, its scheduler is gone")
            self.kernel.pause(act.seconds if act else 0.0)
            task.conns[0]._check_alive() if task.conns else None
            if event.kind == "disk_full":
                raise psycopg.errors.DiskFull("could not extend file: No space left on device")
            if event.kind == "database_failover":
                raise psycopg.OperationalError("terminating connection due to administrator command")
            return
        if event.kind == "database_failover":
            raise psycopg.OperationalError("terminating connection due to administrator command")
        self.kernel.kill(task.process, event.kind)

    def _belongs(self, act: Event, crash: Event) -> bool:
        return self.plan.cell is not None or act.session == crash.session

    def _right_clock(self) -> None:
        self.offset_s = 0.0

    def _power_cut(self, here: Task) -> None:
        """End everything that runs here; go on with each run where it stood, once the machine is back."""
        self.down_until = self._soon(DOWN_S)
        runs = [run for process, run in self.supervisors.items() if process.alive and not run.done]
        for process in list(self.supervisors):
            if process.alive:
                self.kernel.kill(process, "power cut")
        for task in self.tasks:
            if task.process.alive and task is not here:
                self.kernel.kill(task.process, "power cut")
        for run in runs:
            if not run.given_up:
                self.kernel.at(self.down_until, lambda r=run: self._spawn_supervisor(r))  # type: ignore[misc]

    def _failover(self) -> None:
        for task in self.tasks:
            for conn in task.conns:
                conn.die()
        for conn in self.ground.idle:
            conn.die()
        self.ground.idle.clear()
        self.kernel.released()

    def _act(self, act: Event, task: Task) -> None:
        """What the scheduler, or a person at it, makes of a task that has just died."""
        run = task.run
        if act.kind == "clear":
            run.given_up = True
            self.kernel.at(self._soon(act.seconds), lambda: self._start(Run(name=f"{run.name}c", session=run.session)))
        elif act.kind == "backfill":
            self.kernel.at(self._soon(act.seconds), lambda: self._start(Run(name=f"{run.name}b", session=run.session)))
        elif act.kind == "manual":
            run.given_up = True
            self.kernel.at(self._soon(act.seconds), lambda: self._start(Run(name=f"{run.name}m", session=run.session)))
            past = max(0, run.session - 1)
            self.kernel.at(self._soon(act.seconds), lambda: self._start(Run(name=f"{run.name}p", session=past)))
        elif act.kind == "survivor":
            run.given_up = True
            again = Run(name=f"{run.name}n", session=run.session, stage=run.stage)
            self.kernel.at(self._soon(0.5), lambda: self._start(again))

    def _act_alone(self, act: Event, number: int) -> None:
        """An act that no crash has led to."""
        if self.fired.get(act):
            return
        self.fired[act] = True
        if act.kind == "clear":
            for run in self.runs:
                if run.session == number and not run.done:
                    run.given_up = True
        suffix = {"clear": "c", "backfill": "b", "manual": "m"}[act.kind]
        self._start(Run(name=f"s{number}{suffix}", session=number))
        if act.kind == "manual" and number:
            self._start(Run(name=f"s{number}p", session=number - 1))

    def _arm(self, event: Event) -> None:
        """Lay a fault of the venue ready for the orders that come."""
        faults = self.venue.faults.faults
        if event.kind in VENUE_FAULT:
            self.armed[event] = Fault(
                kind=VENUE_FAULT[event.kind],
                skip=event.nth - 1,
                method="POST",
                path="/v2/orders",
                seconds=event.seconds,
            )
            faults.append(self.armed[event])
        elif event.kind == "dropped_or_doubled_fill":
            kind = "dropped_fill" if self.plan.seed % 2 else "duplicated_fill"
            if self.plan.cell is not None:
                kind = "dropped_fill" if int(event.seconds) > 30 else "duplicated_fill"
            self.armed[event] = Fault(kind=kind, skip=event.nth - 1, seconds=event.seconds)
            faults.append(self.armed[event])
        else:
            self.begun.add(event)

    def _met(self, event: Event) -> bool:
        """Tell whether an order met a fault that was laid ready; one of its fills, where it is a fault of fills."""
        fault = self.armed.get(event)
        if fault is None or fault.times > 0:
            return False
        orders = self.venue.state.orders.values()
        if fault.kind == "dropped_fill":
            return any(o.drop_fills_s is not None and o.filled_qty for o in orders)
        return fault.kind != "duplicated_fill" or any(o.double_fills and o.filled_qty for o in orders)

    def _late_fill_of_newest(self) -> None:
        """Where a late fill is due: have the owner cancel an open order in a minute, and the venue fill it later."""
        for event in self._events("fault"):
            if event.kind == "late_fill" and event in self.begun and not self.fired.get(event):
                self.kernel.at(self._soon(61), lambda e=event: self._cancel_by_hand(e))  # type: ignore[misc]

    def _cancel_by_hand(self, event: Event) -> None:
        working = [o for o in self.venue.state.open_orders() if o.status in ("new", "accepted", "partially_filled")]
        if self.fired.get(event) or not working:
            return
        self.fired[event] = True
        effects = {"by_hand": True, "late_fill_s": event.seconds, "shows": "canceled"}
        command = {"op": "request", "method": "DELETE", "path": f"/v2/orders/{working[0].id}", "query": {}, "body": ""}
        self.venue._apply_and_record({**command, "effects": effects}, self.kernel.now)
        self.kernel.note(f"fault late_fill of {working[0].symbol}")

    def _arm_person(self, event: Event, number: int) -> None:
        window = self._close(self._day(number)) + timedelta(hours=3)  # 19:00 in New York: the evening's auction orders
        if self.plan.variant.style in ("market", "limit"):
            window = self.calendar.session(self._after(self._day(number), 1)).open_at
        at = window + timedelta(seconds=event.seconds / 2_000)  # while the orders leave
        if event.nth == 1 or event.kind == "broker_down":
            at = window + timedelta(seconds=event.seconds / 10 - 60)
        if event.kind == "broker_down":
            self.outages.append((at, at + timedelta(seconds=OUTAGE_S), event))
        else:
            self.kernel.at(at, lambda: self._person(event, number))

    def _ask(self, number: int) -> float:
        """Have a person answer a sheet that waits: soon, at the last moment, too late, or never; return the seconds
        until the last answer that is not too late is there, as the waiting task hears of it at once."""
        _, closes = invariants.venue_hours(self, self._close(self._day(number)))
        left_s = (closes - self.kernel.now).total_seconds() - 240.0
        left_s = left_s if left_s > 0 else ASKED_AGAIN_S
        if number in self.asked:
            return left_s
        self.asked.add(number)
        mood = (self.plan.seed + 5 * number) % MOODS
        late = {0: timedelta(minutes=1), 1: timedelta(minutes=-5), 2: timedelta(minutes=90)}.get(mood)
        if mood != NEVER:
            at = self._soon(ANSWERS_S) if late is None else closes + late
            self.kernel.at(at, lambda: self._sign(number))
        return left_s

    def _sign(self, number: int) -> None:
        """Have a person approve the session's newest sheet as it is."""
        self.asked.discard(number)
        run = Run(name=f"person{number}", session=number)
        task = Task(run=run, stage="sign", process=None)  # type: ignore[arg-type]

        def body() -> None:
            conn = self._connection(task)
            try:
                day = self._day(number)
                ctx = context(self.settings, conn, book=BOOK, session_date=day, now=self.clock(), desk=self._desk(task))
                sheet = decision.newest(ctx)
                conn.rollback()
                if sheet is not None and sheet[2] is not None:
                    pipeline.approve(ctx, verdict="approved", actor="person", sheet_hash=sheet[2])
            finally:
                self._give_back(conn, task)

        task.process = self.kernel.spawn(f"person signs {number}", body)
        self.tasks.append(task)

    def _person(self, event: Event, number: int) -> None:
        self.fired[event] = True
        run = Run(name=f"person{number}", session=number)
        task = Task(run=run, stage=event.kind, process=None)  # type: ignore[arg-type]
        task.process = self.kernel.spawn(f"person {event.kind}", lambda: self._hand(task, event))
        self.tasks.append(task)

    def _hand(self, task: Task, event: Event) -> None:
        conn = self._connection(task)
        if event.kind == "halt":
            self._change_state(conn, "HALTED")
            self.kernel.pause(LIFTED_AFTER_S)
            self._change_state(conn, "ACTIVE")
        else:
            conn.execute("UPDATE approvals SET verdict = 'voided' WHERE book = %s AND verdict <> 'voided'", (BOOK,))
            conn.commit()
        self._give_back(conn, task)

    def _change_state(self, conn: sql.Connection, state: str) -> None:
        now = self.clock()
        pipeline.change_state(
            self.settings, conn, book=BOOK, state=state, actor="person", reason=f"simulated {now}", now=now
        )

    def _outage(self, label: str) -> None:
        for start, end, event in self.outages:
            if start <= self.kernel.now < end:
                self.fired[event] = True
                reason = urllib3_errors.NewConnectionError(None, "connection refused")  # type: ignore[arg-type]
                refused = urllib3_errors.MaxRetryError(None, label, reason)  # type: ignore[arg-type]
                raise requests.ConnectionError(refused)

    def _counts(self) -> dict[str, int]:
        counters = self.venue.state.counters
        fills = [a for a in self.venue.state.activities if a.document.get("activity_type") == "FILL"]
        return {
            "requests": counters.requests,
            "posts": counters.posts_received,
            "orders": counters.posts_accepted,
            "fills": len(fills),
            "processes": len(self.tasks),
            **self.figures,
        }


def _place(kind: str, task: Task, moment: str, text: str, venue: Venue, nth: int) -> bool:
    """Tell whether a moment of a process is one that a crash is named for."""
    writes = moment == "statement" and ("INSERT INTO" in text or text.startswith("UPDATE"))
    if kind in ("before_ledger_commit", "after_ledger_commit"):
        return moment == f"{kind.split('_')[0]} commit" and "book_states" in task.touched
    if kind in ("before_send", "sent_no_reply"):
        return moment == "before send" and text == POST
    if kind == "reply_lost":
        return moment == "processed" and text == POST
    if kind == "after_ack":
        return moment == "before commit" and task.answered and "order_events" in task.touched
    if kind == "in_partial_fill":
        partly = any(o.qty and 0 < o.filled_qty < o.qty for o in venue.state.orders.values())
        return partly and moment == "statement" and "INTO broker_fills" in text
    if kind == "before_fill_commit":
        return moment == "before commit" and "broker_fills" in task.touched
    if kind == "during_cancel":
        return moment == "processed" and text.startswith(DELETE)
    if kind == "during_reconciliation":
        return moment == "statement" and "INTO reconciliations" in text
    if kind == "database_failover":
        return moment == ("before commit" if nth % 2 else "after commit") and task.stage in ("settle", "submit")
    if kind == "clock_step":
        return moment == "before send" and text == POST
    if kind == "disk_full":
        return writes and task.stage in ("settle", "submit")
    if kind == "power_cut":
        return (moment == "before send" and text == POST) or moment == "before commit"
    raise ValueError(kind)


def _call(stage: str, ctx: Context, run: Run) -> Any:
    """Call a stage as its task does."""
    if stage == "signal":
        return [pipeline.signal(ctx, name) for name in pipeline.strategies(ctx)]
    if stage == "close":
        return pipeline.close(ctx, run.failed)
    return getattr(pipeline, stage)(ctx)


def _again_s(stage: str, result: Any, looks: int) -> float | None:
    """Return after how long a stage is to be called again, after so many looks, or None where it is done."""
    if stage == "turn":
        return None if result else TURN_S
    if stage == "approve" and result["approval"] == "pending":
        return ASKED_AGAIN_S * 2 ** min(looks, 5)
    if stage == "submit" and result.get("waiting"):
        return float(result["again_s"])
    return None


@contextmanager
def _quiet_channels() -> Any:
    """Put one channel that takes everything in the place of the configured ones: delivery is tested elsewhere."""
    kept = notify.channels
    notify.channels = lambda settings: {"memory": Memory()}  # type: ignore[assignment]
    try:
        yield
    finally:
        notify.channels = kept
