"""python -m simulation: cells and seeds, one seed again, one plan again. See docs/simulation.md.

Exit code 0: everything held, every reachable cell was exercised.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from simulation import campaign, report, world
from simulation.campaign import Result
from simulation.plan import CELLS, Plan, of_cell, of_seed, unreachable

SHOWN = 5


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1_000, help="how many random seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--no-cells", action="store_true", help="leave the 756 cells out")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument("--cell", help="one cell, crash/fault/act, with its trace")
    parser.add_argument("--cell-seed", type=int, default=0)
    parser.add_argument("--plan", help="one plan, as a failure printed it, with its trace")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.seed is not None:
            return one(of_seed(chosen.seed))
        if chosen.cell:
            crash, fault, act = chosen.cell.split("/")
            return one(of_cell((crash, fault, act), chosen.cell_seed))
        if chosen.plan:
            return one(Plan.of_json(chosen.plan))
        return many(range(chosen.first, chosen.first + chosen.seeds), not chosen.no_cells, chosen.processes)
    finally:
        world.stop_if_idle()


def one(plan: Plan) -> int:
    """Run a plan twice and print its trace."""
    with campaign.a_ground() as ground:
        first, again = (campaign.Trial(ground, plan).run() for _ in range(2))
    print("\n".join(first.trace))
    print(f"plan {plan.as_json()}")
    print(f"counts {first.counts}, not fired: {', '.join(first.unfired) or 'none'}")
    print(f"hash {first.trace_hash[:16]}, again {again.trace_hash[:16]}")
    print("\n".join(f"VIOLATION {v}" for v in first.violations) or "everything held")
    return 1 if first.violations or first.trace_hash != again.trace_hash else 0


def many(seeds: range, cells: bool, processes: int) -> int:
    """Run cells and seeds; print progress, failures with the command that repeats each, and write the report."""
    jobs = campaign.jobs_of(cells, seeds)
    began, failed = time.monotonic(), 0

    def say(result: Result, done: int) -> None:
        nonlocal failed
        failed += not result.ok
        if done % 25 == 0 or done == len(jobs):
            rate = done / (time.monotonic() - began)
            text = f"\r{done} of {len(jobs)} runs, {failed} failed, {rate:.1f} a second "
            print(text, end="" if done < len(jobs) else "\n", file=sys.stderr, flush=True)

    results = campaign.run(jobs, processes, say)
    seconds = time.monotonic() - began
    print(report.summary(results, seconds))
    explain([r for r in results if not r.ok])
    path = report.write(results, seconds)
    print(f"report: {path.relative_to(world.REPO)}")
    return 1 if failed else 0


def explain(failures: list[Result]) -> None:
    """Print each kind of failure once: shrunk, with its command."""
    kinds: Counter[str] = Counter()
    for result in failures:
        kinds[campaign.rule_of(result.violations[0]) if result.violations else f"not exercised: {result.unfired}"] += 1
    for kind, count in kinds.most_common(20):
        print(f"  {count} x {kind}")
    shown: set[str] = set()
    broken = [r for r in failures if r.violations]
    if not broken:
        return
    with campaign.a_ground(9) as ground:
        for result in broken:
            rule = campaign.rule_of(result.violations[0])
            if rule in shown or len(shown) >= SHOWN:
                continue
            shown.add(rule)
            least = campaign.shrink(ground, result.plan)
            print(f"\n{result.name}: {result.violations[0]}")
            print(f"  needs: {', '.join(f'{e.kind} in session {e.session}' for e in least.plan.events) or 'nothing'}")
            print("\n".join(f"    {line}" for line in least.trace[-12:]))
            print(f"  again: make simulate-one PLAN='{least.plan.as_json()}'")


def coverage(results: list[Result]) -> tuple[int, int, int]:
    """Return cells that held, cells that did not, cells declared unreachable."""
    held = sum(r.ok for r in results if r.plan.cell)
    return held, sum(not r.ok for r in results if r.plan.cell), sum(bool(unreachable(c)) for c in CELLS)


if __name__ == "__main__":
    sys.exit(main())
