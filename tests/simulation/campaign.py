"""Many runs: cells and seeds over two processes, failures shrunk to what is needed, results as plain records."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simulation import world
from simulation.plan import CELLS, Plan, of_cell, of_seed, unreachable
from simulation.trial import Outcome, Trial
from simulation.world import Ground
from tradecore import warm

TRIES_A_CELL = 4  # a cell whose fault found no occasion is tried with other seeds before it counts as not exercised
STALL_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run as it is reported: what it was, what broke, what took place."""

    plan: Plan
    violations: tuple[str, ...]
    unfired: tuple[str, ...]
    fired: tuple[str, ...]
    trace_hash: str
    counts: dict[str, int]
    cpu_s: float
    trace: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "/".join(self.plan.cell) if self.plan.cell else f"seed {self.plan.seed}"

    @property
    def ok(self) -> bool:
        return not self.violations and not (self.plan.cell and self.unfired)


def run_plan(ground: Ground, plan: Plan) -> Result:
    """Make one run."""
    outcome: Outcome = Trial(ground, plan).run()
    return Result(
        plan=plan,
        violations=outcome.violations,
        unfired=outcome.unfired,
        fired=tuple(e.kind for e, fired in zip(plan.events, outcome.fired, strict=True) if fired),
        trace_hash=outcome.trace_hash,
        counts=outcome.counts,
        cpu_s=outcome.cpu_s,
        trace=outcome.trace if outcome.violations else (),
    )


def run_cell(ground: Ground, cell: tuple[str, str, str]) -> Result:
    """Make a cell's run, with another seed where its crash, fault or act found no occasion."""
    result = run_plan(ground, of_cell(cell))
    for seed in range(1, TRIES_A_CELL):
        if result.violations or not result.unfired:
            break
        result = run_plan(ground, of_cell(cell, seed))
    return result


@contextmanager
def a_ground(worker: int = 0) -> Iterator[Ground]:
    """Give a worker's database for a while."""
    warm.warm_serial_kernels()
    found = world.ground(worker)
    try:
        yield found
    finally:
        world.drop(found)


_GROUND: list[Ground] = []


def _begin() -> None:
    """Make a worker ready, on a core of its own: a run and its server take turns, fastest where they meet."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[multiprocessing.current_process()._identity[0] % len(cores)]})
    warm.warm_serial_kernels()
    _GROUND.append(world.ground())


def _one(job: tuple[str, Any]) -> Result:
    faulthandler.dump_traceback_later(STALL_S, exit=True)
    kind, what = job
    try:
        return run_cell(_GROUND[0], what) if kind == "cell" else run_plan(_GROUND[0], of_seed(what))
    finally:
        faulthandler.cancel_dump_traceback_later()


def jobs_of(cells: bool, seeds: Iterable[int]) -> list[tuple[str, Any]]:
    """Return what a campaign consists of."""
    found: list[tuple[str, Any]] = [("cell", cell) for cell in CELLS if not unreachable(cell)] if cells else []
    return found + [("seed", seed) for seed in seeds]


def run(
    jobs: Sequence[tuple[str, Any]], processes: int = 2, say: Callable[[Result, int], None] = lambda result, done: None
) -> list[Result]:
    """Make all runs over some processes; `say` hears of each."""
    results: list[Result] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
        for future in as_completed([pool.submit(_one, job) for job in jobs]):
            results.append(future.result())
            say(results[-1], len(results))
    return results


def shrink(ground: Ground, plan: Plan, limit_s: float = 60.0) -> Result:
    """Take away one event after the other while the run still breaks the same rule; return the shortest that does."""
    best = run_plan(ground, plan)
    if not best.violations:
        return best
    deadline = time.monotonic() + limit_s
    rule = rule_of(best.violations[0])
    shorter = True
    while shorter and time.monotonic() < deadline:
        shorter = False
        for event in best.plan.events:
            tried = run_plan(ground, best.plan.without(event))
            if any(rule_of(v) == rule for v in tried.violations):
                best, shorter = tried, True
                break
    return best


def rule_of(violation: str) -> str:
    """Return the rule of a violation, without what it was about."""
    return " ".join(word for word in violation.split() if not any(c.isdigit() for c in word))[:60]
