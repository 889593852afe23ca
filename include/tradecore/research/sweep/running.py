"""Who computes the chunks: joblib's workers, whose backend is configuration. What is stored stays stored.

The parent stores; workers only compute. A worker that is killed costs the chunks in flight, which are computed again by
new workers; a parent that is killed costs the same, and the next run of the same sweep goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from datetime import datetime

import joblib
import psycopg

from tradecore.errors import ConfigError, SweepError
from tradecore.research.sweep.evaluate import Job, Rows, compute
from tradecore.research.sweep.planning import Plan
from tradecore.storage import sweeps as storage

DEATHS_IN_A_ROW = 3
FIRST_CHUNK_S = 60.0  # what a chunk is taken to need before one has been seen
IDLE_WORKER_S = 30  # how long loky's processes outlive a parent that was killed
LONGER = 1.5  # and what the next may need against the longest so far

log = logging.getLogger(__name__)


def run(
    conn: psycopg.Connection,
    plan: Plan,
    *,
    now: Callable[[], datetime],
    jobs: int = 1,
    backend: str = "loky",
    chunks: Iterable[int] | None = None,
    wait_s: Callable[[float], float] | None = None,
    done: Callable[[int], None] | None = None,
) -> float:
    """Compute and store the chunks that are not there yet; return 0, or the seconds until it may go on.

    Parameters: jobs and backend as joblib has them (-1: all cores; loky, threading, or one registered by name); chunks,
    which ones (default: all); wait_s, told what the next chunk may need, returns 0 if it may begin now; done is told
    the sets of each chunk that is there.
    Raises ConfigError for an unknown backend, SweepError when workers keep dying, StrategyError from the strategy.
    """
    spec = plan.spec
    there = set(storage.chunks_done(conn, plan.sweep_id))
    conn.commit()
    if done is not None and chunks is None:
        done(sum(min(spec.chunk_size, spec.n_sets - c * spec.chunk_size) for c in there))
    due = [c for c in (range(spec.n_chunks) if chunks is None else chunks) if c not in there]
    if not due:
        return 0.0
    longest, deaths = FIRST_CHUNK_S / LONGER, 0
    waiting = [0.0]

    def allowed() -> Iterator[int]:
        for chunk in list(due):
            if wait_s is not None:
                waiting[0] = wait_s(longest * LONGER)
                if waiting[0] > 0:
                    return
            yield chunk

    while due and not waiting[0]:
        try:
            for rows in computed(plan.job, allowed(), jobs, backend):
                _store(conn, plan.sweep_id, rows, now())
                due.remove(rows.chunk_no)
                longest = rows.seconds if longest == FIRST_CHUNK_S / LONGER else max(longest, rows.seconds)
                deaths = 0
                if done is not None:
                    done(rows.n_sets)
        except BrokenExecutor as error:
            deaths += 1
            log.warning("a worker died; %d chunks are left: %s", len(due), error)
            if deaths == DEATHS_IN_A_ROW:
                raise SweepError(
                    f"workers of sweep {plan.sweep_id} died {deaths} times in a row; {len(due)} chunks are left.",
                    next_step="see whether memory ran out (dmesg), then --resume with fewer --jobs",
                    sweep_id=plan.sweep_id,
                ) from error
    return waiting[0]


def computed(job: Job, chunks: Iterator[int], jobs: int, backend: str) -> Iterator[Rows]:
    """Yield the rows of chunks as they become ready."""
    if jobs == 1:
        for chunk in chunks:
            yield compute(job, chunk)
        return
    options = {"idle_worker_timeout": IDLE_WORKER_S} if backend == "loky" else {}
    try:
        parallel = joblib.Parallel(
            n_jobs=jobs,
            backend=backend,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="n_jobs",
            **options,
        )
    except ValueError as error:
        raise ConfigError(
            f"joblib knows no backend {backend!r}, or none that yields results one by one: {error}.",
            next_step="--backend loky or threading, or the name that another engine registered",
            backend=backend,
        ) from error
    first = next(chunks, None)
    if first is None:
        return
    yield compute(job, first)  # compiles once: the workers find the kernels in the cache
    yield from parallel(joblib.delayed(compute)(job, chunk) for chunk in chunks)


def _store(conn: psycopg.Connection, sweep_id: str, rows: Rows, now: datetime) -> None:
    chunk = {
        "chunk_no": rows.chunk_no,
        "first_set": rows.first_set,
        "n_sets": rows.n_sets,
        "n_rows": rows.set_no.size,
        "rows_hash": rows.hash(),
        "now": now,
    }
    storage.add_chunk(
        conn,
        sweep_id,
        chunk,
        set_no=rows.set_no,
        params=rows.params,
        figures=rows.figures,
        n_trades=rows.n_trades,
    )
    conn.commit()
