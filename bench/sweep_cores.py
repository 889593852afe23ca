"""A sweep over one core and over all: the same chunks by joblib's workers, wall-clock, in rounds that take turns.

    deploy/run --no-database python bench/sweep_cores.py            # 1 worker against one a core
    deploy/run --no-database python bench/sweep_cores.py --rounds 5

Real prices of the sample, a crossover through the production fold. Workers are started and have their kernels before
the first round; what is timed is sending the job, computing and taking back the rows. The figure is the median of the
rounds' ratios. Only a quiet machine gives a fair one: CPU time does not show what workers wait for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "include")]
for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import sample_sweep  # noqa: E402
from tradecore.research.sweep import running  # noqa: E402
from tradecore.research.sweep.evaluate import Job  # noqa: E402


def seconds(job: Job, jobs: int) -> tuple[float, list[str]]:
    """Compute all chunks; return the wall-clock seconds and the hashes of the chunks in order."""
    started = time.perf_counter()
    rows = list(running.computed(job, iter(range(job.spec.n_chunks)), jobs, "loky"))
    took = time.perf_counter() - started
    return took, [r.hash() for r in sorted(rows, key=lambda r: r.chunk_no)]


def main() -> None:
    """Time both, say the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    job = sample_sweep.job(
        "ma_crossover", "short_period=2:41", "long_period=42:55", rows=2_000, chunk_size=20, metric="sharpe"
    )
    one, many = seconds(job, 1), seconds(job, options.jobs)
    if one[1] != many[1]:
        raise SystemExit("the workers' rows differ from those of one process")
    ratios = [seconds(job, 1)[0] / seconds(job, options.jobs)[0] for _ in range(options.rounds)]
    print(
        f"proof: {job.spec.n_sets} sets x {len(job.inputs.days)} sessions: {options.jobs} workers take "
        f"1/{statistics.median(ratios):.2f} of one's time (median of {options.rounds} rounds, "
        f"{min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
