"""Real tasks, a real PostgreSQL with fsync on, the stand-in over HTTP; killed, cut off and lied to: both sides agree.

`make real-parts` is 200 sessions (RUNS=n for another number, REAL_PARTS_SEED=n for a seed); five of them run with the
other tests. When trouble strikes is real time, so a seed gives the same troubles and not the same course.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from real_parts import SESSIONS, STAGES, Database, Seen, Series, both_sides, database_of_its_own

pytestmark = pytest.mark.db
FIRST = date(2005, 2, 2)  # the split of AAPL comes on the 28th
SESSIONS_A_SERIES = 20
CALM = 2  # sessions at the end without trouble: what came late is booked by then
RUNS = int(os.environ.get("RUNS") or 200)


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param(5, id="5"),
        pytest.param(RUNS, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_venue_and_ledger_agree_exactly_after_all_that_can_go_wrong(tmp_path: Path, runs: int):
    seed = int(os.environ.get("REAL_PARTS_SEED") or (7 if runs == 5 else random.SystemRandom().randrange(10**6)))
    labels = [row.label for row in SESSIONS.rows if row.label >= FIRST]
    total, done = Seen(), 0
    with database_of_its_own(tmp_path / "server") as database:
        while done < runs:
            count = min(SESSIONS_A_SERIES, runs - done)
            days = labels[done : done + count + CALM]
            seen = one_series(tmp_path / f"series-{seed}", database, days, seed)
            total.add(seen)
            done += count
            print(f"{done} runs; seed {seed}: {said(seen)}", flush=True)
            seed += 1
    print(f"proof: {runs} runs, agreed to the share and the cent: {said(total)}")
    exercised(total, runs)


def one_series(folder: Path, database: Database, days: list[date], seed: int) -> Seen:
    """Run consecutive sessions and compare the two sides."""
    folder.mkdir()
    series = Series(folder, database, days[0], seed)
    try:
        for number, day in enumerate(days):
            series.run(day, calm=number >= len(days) - CALM, decide=day != days[-1])
        agree(series, seed)
    finally:
        series.stop()
    return series.seen


def agree(series: Series, seed: int) -> None:
    """Assert that venue and ledger have the same orders, fills, shares and cents, and that nothing is in doubt."""
    sides = both_sides(series)
    for what, there in sides.venue.items():
        assert there == sides.ledger[what], f"{what} differ, seed {seed}"
    ids = Counter(sides.venue["orders"])
    assert set(ids.values()) <= {1}, f"an id with two orders, seed {seed}"
    counters = series.standin.admin("counters")
    assert set(counters["accepted"].values()) <= {1}, f"an id was accepted twice, seed {seed}"
    assert set(counters["accepted"]) == set(ids)
    with series.connect() as conn:
        doubts = conn.execute("SELECT count(*) FROM orders WHERE status IN ('UNKNOWN', 'SUBMITTING')").fetchone()
        breaks = conn.execute("SELECT count(*) FROM breaks WHERE status = 'open'").fetchone()
        booked = conn.execute("SELECT count(*) FROM fills").fetchone()
        looked = conn.execute(
            "SELECT comparable, clean FROM reconciliations ORDER BY bar_end_at DESC, looked_at DESC LIMIT 1"
        ).fetchone()
        partial = conn.execute("SELECT count(*) FROM order_events WHERE status = 'PARTIAL'").fetchone()
    assert doubts == (0,), f"orders in doubt, seed {seed}"
    assert breaks == (0,), f"open breaks, seed {seed}"
    assert booked == (len(sides.venue["fills"]),), f"fills booked not once, seed {seed}"
    assert looked == (True, True)
    series.seen.sent, series.seen.fills = len(ids), len(sides.venue["fills"])
    series.seen.partial = partial[0] if partial else 0


def said(seen: Seen) -> str:
    """Put what happened into a line."""
    trouble = ", ".join(f"{n} {kind}" for kind, n in sorted(seen.trouble.items()))
    return (
        f"{seen.sent} orders, {seen.fills} fills, {seen.tries} tries of a task; {sum(seen.killed.values())} processes"
        f" killed while they worked, {seen.failed['database']} tries lost the database and {seen.failed['venue']} the"
        f" venue ({trouble}); {sum(seen.faults.values())} HTTP faults of {len(seen.faults)} kinds"
    )


def exercised(seen: Seen, runs: int) -> None:
    """Assert that what could have done damage happened."""
    assert seen.sent >= 2 * runs, seen
    assert seen.fills >= runs, seen
    assert sum(seen.killed.values()) >= runs // 2, seen
    assert sum(seen.faults.values()) >= runs // 2, seen
    if runs >= 100:
        assert set(seen.killed) == set(STAGES), f"never killed: {set(STAGES) - set(seen.killed)}"
        assert min(seen.trouble[t] for t in ("kill", "power_cut", "server_killed", "disk_full", "venue_killed")) >= 5
        assert seen.failed["database"] >= 10
        assert seen.failed["venue"] >= 10
        assert seen.partial
