"""Execution under a simulated clock, network and scheduler: docs/simulation.md.

SIMULATION_CELLS and SIMULATION_SEEDS say how much of it a test run makes (`all` cells or a number of them, and how many
seeds); `make simulate` makes all of it. A failure is printed with the command that repeats it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulation import campaign, mutants, world
from simulation.campaign import Result
from simulation.plan import ACTS, CELLS, CRASHES, FAULTS, Event, Plan, of_cell, of_seed, unreachable
from simulation.trial import Trial
from simulation.world import Ground, Variant

CHUNKS = 2
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "8"))
SOME_CELLS = os.environ.get("SIMULATION_CELLS", "20")
REACHABLE = [cell for cell in CELLS if not unreachable(cell)]

pytestmark = [pytest.mark.db, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A worker's database on the simulation's own server; the last one stops it."""
    with campaign.a_ground() as found:
        yield found


def chosen_cells() -> list[tuple[str, str, str]]:
    """Return the cells of this run: all, or so many of them, spread over all axes."""
    if SOME_CELLS == "all":
        return REACHABLE
    step = max(1, len(REACHABLE) // max(1, int(SOME_CELLS)))
    step += 1 - step % 2  # odd: neither the six acts nor the nine faults repeat
    return REACHABLE[::step]


def told(result: Result) -> str:
    return f"{result.name}: {'; '.join(result.violations) or result.unfired}\nagain: {result.plan.as_json()}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_cells_of_the_fault_matrix_hold(ground: Ground, chunk: int):
    results = [campaign.run_cell(ground, cell) for cell in chosen_cells()[chunk::CHUNKS]]
    bad = [told(r) for r in results if not r.ok]
    assert not bad, "\n".join(bad[:5])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_seeds_hold(ground: Ground, chunk: int):
    results = [campaign.run_plan(ground, of_seed(seed)) for seed in range(chunk, SEEDS, CHUNKS)]
    bad = [told(r) for r in results if not r.ok]
    assert not bad, "\n".join(bad[:5])


def test_the_same_seed_gives_the_same_trace(ground: Ground):
    plans = [
        of_seed(3),
        of_seed(17),
        of_cell(("reply_lost", "429", "two_at_once")),
        of_cell(("power_cut", "500", "clear")),
    ]
    for plan in plans:
        assert len({Trial(ground, plan).run().trace_hash for _ in range(2)}) == 1
    assert Trial(ground, of_seed(3)).run().trace_hash != Trial(ground, of_seed(17)).run().trace_hash


def test_without_faults_orders_are_sent_and_filled_and_agree(ground: Ground):
    outcome = Trial(ground, Plan(seed=1, variant=Variant(seed=1), events=())).run()
    assert outcome.ok, outcome.violations
    assert outcome.counts["orders"] >= 6
    assert outcome.counts["fills"] >= 6
    assert outcome.counts["posts"] == outcome.counts["orders"]


def test_every_axis_has_its_values_and_few_cells_are_left_out():
    assert (len(CRASHES), len(FAULTS), len(ACTS), len(CELLS)) == (14, 9, 6, 756)
    assert sum(bool(unreachable(cell)) for cell in CELLS) == 9
    covered = chosen_cells()
    assert all({c[k] for c in covered} == set(axis) for k, axis in enumerate((CRASHES, FAULTS, ACTS)))


def test_a_failing_run_shrinks_to_what_it_needs(ground: Ground, monkeypatch: pytest.MonkeyPatch):
    """With a rule that no lost answer may occur, three faults shrink to the one that breaks it."""
    whole = of_cell(("reply_lost", "500", "retry"))
    extra = Event(axis="crash", kind="disk_full", session=0)
    plan = replace(whole, events=(*whole.events, extra), cell=None)
    run = Trial.run

    def strict(self: Trial):
        outcome = run(self)
        lost = any(e.kind == "reply_lost" and fired for e, fired in zip(self.plan.events, outcome.fired, strict=True))
        return replace(outcome, violations=("an answer was lost",) if lost else ())

    monkeypatch.setattr(Trial, "run", strict)
    least = campaign.shrink(ground, plan)
    assert [e.kind for e in least.plan.events] == ["reply_lost"]
    assert Plan.of_json(least.plan.as_json()) == least.plan


@pytest.mark.parametrize("way", [0, 1], ids=["truncated", "deleted"])
def test_nothing_of_a_run_stays_for_the_next(ground: Ground, way: int):
    Trial(ground, of_seed(5)).run()
    ground.runs = way
    ground.clean()
    for table in ground.tables:
        row = ground.monitor.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
        assert row == (0,), table
    assert world.BOOK == "alpaca-paper"


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_fits_the_source_as_it_is(mutant: mutants.Mutant):
    """`make simulate-mutants` takes minutes; a text that no longer stands in its module is seen here."""
    for module in mutant.modules:
        path = importlib.util.find_spec(module).origin
        planted = mutant.planted(module, Path(path).read_text(encoding="utf-8"))
        compile(planted, path, "exec")
