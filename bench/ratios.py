"""Speed as ratios: contestants that do the same work, one after the other in each of seven rounds, by CPU time.

    deploy/run --no-database python bench/ratios.py                 # every row
    deploy/run --no-database python bench/ratios.py --only sweep    # those whose name starts with this
    deploy/run --no-database python bench/ratios.py --json

A row is a file bench/row_*.py with a function `rows()` that returns its Rows: the work, its contestants and how their
results must agree. The first contestant is what the others are measured against. Everything runs on one thread. In each
round each contestant runs once, in an order that rotates, as often in a row as fills MIN_ROUND_S; a ratio is the median
over the rounds of its CPU time over the first contestant's of the same round, so that a busy machine disturbs both.
With --check a ratio above its goal, or a time that a goal speaks of and nobody measured, ends with exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "include")]
for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
    os.environ[_name] = "1"  # rows import numpy and numba after this

ROUNDS = 7
MIN_ROUND_S = 0.05


class Elsewhere(Protocol):
    """A contestant in a process of its own: it measures itself (bench/peers.py)."""

    def result(self) -> Any:
        """Do the work once and return its result."""

    def cpu_s(self) -> float:
        """Do the work once and return the CPU seconds that it took."""


Contestant = Callable[[], Any] | Elsewhere


@dataclass(slots=True, kw_only=True)
class Row:
    """One piece of work.

    `contestants`: the reference first; a callable without arguments does all of the work and returns its result.
    `units` of `unit` are what one run does, in `fewer` for contestants that do less of it. `agree` gets all results by
    name and raises where they differ. `goals`: the highest ratio, by contestant.
    """

    name: str
    unit: str
    units: int
    contestants: dict[str, Contestant]
    agree: Callable[[dict[str, Any]], None] | None = None
    goals: dict[str, float] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one contestant took: nanoseconds of CPU a unit in each round, and the ratios to the first contestant's."""

    name: str
    unit_ns: list[float]
    ratios: list[float]
    goal: float | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def missed(self) -> bool:
        return self.goal is not None and not self.ratio <= self.goal


def discover(only: str = "") -> list[Row]:
    """Return the rows of all bench/row_*.py whose name starts with `only`; a file is imported if one of them may be."""
    found: list[Row] = []
    for path in sorted(HERE.glob("row_*.py")):
        found += [row for row in importlib.import_module(path.stem).rows() if row.name.startswith(only)]
    return found


def measure(row: Row, rounds: int = ROUNDS) -> list[Seen]:
    """Run a row: each contestant once to warm up and to compare results, then the rounds."""
    say(f"{row.name}: {row.units:,} {row.unit}s, {', '.join(row.contestants)}")
    results = {name: c() if callable(c) else c.result() for name, c in row.contestants.items()}
    if row.agree:
        row.agree(results)
    del results
    repeats = {name: _repeats(c) for name, c in row.contestants.items()}
    names = list(row.contestants)
    took: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            units = row.fewer.get(name, row.units) * repeats[name]
            took[name].append(_cpu_s(row.contestants[name], repeats[name]) / units * 1e9)
    first = took[names[0]]
    return [
        Seen(
            name=name,
            unit_ns=took[name],
            ratios=[a / b for a, b in zip(took[name], first, strict=True)],
            goal=row.goals.get(name),
        )
        for name in names
    ]


def _cpu_s(contestant: Contestant, repeats: int) -> float:
    if not callable(contestant):
        return sum(contestant.cpu_s() for _ in range(repeats))
    before = time.process_time()
    for _ in range(repeats):
        contestant()
    return time.process_time() - before


def _repeats(contestant: Contestant) -> int:
    took = _cpu_s(contestant, 1)
    if took < MIN_ROUND_S:
        took = min(took, _cpu_s(contestant, 1))
    return max(1, math.ceil(MIN_ROUND_S / max(took, 1e-6)))


def say(text: str) -> None:
    """Tell where we are; on stderr, so that --json stays JSON."""
    print(text, file=sys.stderr, flush=True)


def unit_time(ns: float) -> str:
    """Return nanoseconds for people: 5.31 us."""
    for scale, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= scale:
            return f"{ns / scale:.3g} {name}"
    return f"{ns:.3g} ns"


def table(row: Row, seen: list[Seen]) -> str:
    """Return a row's figures as text."""
    lines = [f"{row.name}: {row.units:,} {row.unit}s" + (f"; {row.note}" if row.note else "")]
    for s in seen:
        spread = f"{min(s.ratios):.3g} to {max(s.ratios):.3g}"
        goal = f"  goal {s.goal:g}{' MISSED' if s.missed else ''}" if s.goal is not None else ""
        unit = f"{unit_time(statistics.median(s.unit_ns))} a {row.unit}"
        lines.append(f"  {s.name:<34}{unit:>24}  {s.ratio:>8.3g} x {seen[0].name}  ({spread}){goal}")
    return "\n".join(lines)


def as_json(results: list[tuple[Row, list[Seen]]]) -> dict[str, Any]:
    """Return the figures as plain records."""
    return {
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "rows": [
            {
                "name": row.name,
                "unit": row.unit,
                "units": row.units,
                "note": row.note,
                "contestants": [
                    {
                        "name": s.name,
                        "unit_ns": statistics.median(s.unit_ns),
                        "ratio": s.ratio,
                        "ratios": s.ratios,
                        "goal": s.goal,
                        "units": row.fewer.get(s.name, row.units),
                    }
                    for s in seen
                ],
            }
            for row, seen in results
        ],
    }


def proof(row: Row, seen: list[Seen]) -> str:
    """Return one line for docs/PROOFS.md."""
    parts = [f"{s.name} {s.ratio:.3g}" + (f" (goal {s.goal:g})" if s.goal is not None else "") for s in seen[1:]]
    base = f"{seen[0].name} {unit_time(statistics.median(seen[0].unit_ns))} a {row.unit}"
    return f"proof: {row.name}: {base}; times that: {', '.join(parts)}"


def main() -> int:
    """Run the rows that are asked for and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the rows whose name starts with this")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds ({ROUNDS})")
    parser.add_argument("--check", action="store_true", help="fail where a goal is missed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    rows = discover(arguments.only)
    if not rows:
        raise SystemExit(f"no row's name starts with {arguments.only!r}")
    results = [(row, measure(row, arguments.rounds)) for row in rows]
    if arguments.json:
        print(json.dumps(as_json(results), indent=2))
    else:
        print("\n\n".join(table(row, seen) for row, seen in results), end="\n\n")
        print("\n".join(proof(row, seen) for row, seen in results))
    return int(arguments.check and any(s.missed for _, seen in results for s in seen))


if __name__ == "__main__":
    raise SystemExit(main())
