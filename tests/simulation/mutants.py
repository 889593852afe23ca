"""Planted bugs: each breaks one rule of execution, and the simulation must find it, or its rule is not proven.

    python -m simulation.mutants            all of them, 300 seeds each at the most
    python -m simulation.mutants --only 3   one, or some

A bug is planted while its module is imported, in a process of its own: the sources stay as they are. A text must stand
there exactly once, so that a bug that no longer fits says so.
"""

# ruff: noqa: E501 - the planted texts are as long as those that they replace
from __future__ import annotations

import argparse
import importlib.machinery
import json
import multiprocessing
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

SEEDS = 300


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug: its name, the rule that it breaks, its module, and the (old, new) texts."""

    name: str
    rule: str
    module: str
    edits: tuple[tuple[str, str], ...]
    also: tuple[tuple[str, str, str], ...] = ()  # (module, old, new) elsewhere

    @property
    def modules(self) -> set[str]:
        return {self.module, *(module for module, _, _ in self.also)}

    def planted(self, module: str, source: str) -> str:
        """Return a module's source with the bug. Raises ValueError if it does not fit."""
        edits = self.edits if module == self.module else tuple((o, n) for m, o, n in self.also if m == module)
        for old, new in edits:
            if source.count(old) != 1:
                raise ValueError(f"mutant {self.name!r}: {source.count(old)} times in {module}: {old!r}")
            source = source.replace(old, new)
        return source


ONE_ORDER, BOOKS, ALLOWED = "one order an intent", "fills = positions = cash", "no order unless allowed"
PAST, DOUBT, AGAIN = "the past sends nothing", "nothing in doubt at the end", "again changes nothing"

MUTANTS = (
    Mutant(
        "client id from a uuid",
        ONE_ORDER,
        "tradecore.submission",
        (
            (
                "found = self.desk.broker.submit(order.request(), ruling.permit)",
                "import uuid; from dataclasses import replace; fresh = 'tc-' + uuid.uuid4().hex;"
                " found = self.desk.broker.submit(replace(order.request(), client_order_id=fresh), replace(ruling.permit, client_order_id=fresh))",
            ),
        ),
    ),
    Mutant(
        "commit after the call",
        ONE_ORDER,
        "tradecore.submission",
        (
            (
                '                self._event(order.client_order_id, "SUBMITTING")\n        self.ctx.conn.commit()\n',
                '                self._event(order.client_order_id, "SUBMITTING")\n'
                "                self.desk.broker.submit(order.request(), ruling.permit)\n        self.ctx.conn.commit()\n",
            ),
        ),
    ),
    Mutant(
        "a timeout counts as a refusal",
        DOUBT,
        "tradecore.submission",
        (
            (
                'self._answer(order, "UNKNOWN", error.message)\n',
                'self._answer(order, "REJECTED", error.message)\n',
            ),
        ),
    ),
    Mutant(
        "a timeout is sent again with a new id",
        ONE_ORDER,
        "tradecore.submission",
        (
            (
                'self._answer(order, "UNKNOWN", error.message)\n            return scene\n',
                "from dataclasses import replace\n"
                "            found = self.desk.broker.submit("
                "replace(order.request(), client_order_id=order.client_order_id + 'r'),"
                " replace(ruling.permit, client_order_id=order.client_order_id + 'r'))\n",
            ),
        ),
    ),
    Mutant(
        "the trading state is read at the start only",
        ALLOWED,
        "tradecore.guard",
        (("        state=state(ctx),\n", '        state="ACTIVE",\n'),),
    ),
    Mutant(
        "the approval is not read again",
        ALLOWED,
        "tradecore.guard",
        (
            (
                '        approval="" if verdict in ("approved", "not_required") else',
                '        approval="" if verdict != "rejected" else',
            ),
        ),
    ),
    Mutant(
        "the window is not checked when sending",
        PAST,
        "tradecore.execution.window",
        (
            (
                "        return self.opens_at <= at < self.closes_at\n",
                "        return True\n",
            ),
            ("        return at >= self.closes_at\n", "        return False\n"),
        ),
    ),
    Mutant(
        "breaks stop nothing",
        ALLOWED,
        "tradecore.guard",
        (
            ("    if breaks and breaks[0]:\n", "    if False:\n"),
            ("    if look is None or not look[1]:\n", "    if look is None:\n"),
        ),
    ),
    Mutant(
        "one look-up is proof enough",
        DOUBT,
        "tradecore.unknowns",
        (
            ("    if first is None:\n", "    if False:\n"),
            ("    if asked_at < first +", "    if first is not None and asked_at < first +"),
            (
                "    if not rows or asked_at < rows[0][0] + timedelta(seconds=execution.http_timeout_s):\n",
                "    if not rows:\n",
            ),
        ),
    ),
    Mutant(
        "fills by price",
        BOOKS,
        "tradecore.observation",
        (
            (
                '            "id": fill.fill_id,\n',
                '            "id": f"{fill.broker_order_id}:{fill.price}",\n',
            ),
        ),
    ),
    Mutant(
        "a fill after the end of its bar is dropped",
        BOOKS,
        "tradecore.observation",
        (
            (
                "    new = sum(_add_fill(ctx, fill, booked) for fill in found)\n",
                "    new = sum(_add_fill(ctx, f, booked) for f in found if f.filled_at > ctx.previous_bar_end)\n",
            ),
        ),
    ),
    Mutant(
        "the cursor is committed before the fills",
        BOOKS,
        "tradecore.observation",
        (
            (
                "        new = keep_fills(ctx, found, cursor)\n",
                '        _set_cursor(ctx, "fills", cursor)\n    ctx.conn.commit()\n'
                "    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):\n"
                "        new = keep_fills(ctx, found, cursor)\n",
            ),
        ),
        also=(
            (
                "tradecore.execution.alpaca",
                "FILLS_OVERLAP, ACTIVITIES_OVERLAP = timedelta(days=1), timedelta(days=7)",
                "FILLS_OVERLAP, ACTIVITIES_OVERLAP = timedelta(0), timedelta(0)",
            ),
        ),
    ),
    Mutant(
        "settle forgets that it has settled",
        AGAIN,
        "tradecore.settlement",
        (
            (
                '        if ctx.status() in SETTLED:\n            return {"settled": str(ctx.session_date), "already": True}\n'
                "        require_turn(ctx)\n",
                "        if ctx.status() in SETTLED:\n            ctx.conn.execute("
                "books.SQL['add_cash'], (ctx.book, ctx.bar_end_at, 'opening', 0, ''))\n"
                '            return {"settled": str(ctx.session_date), "already": True}\n        require_turn(ctx)\n',
            ),
        ),
    ),
    Mutant(
        "an order in doubt is sent again without asking",
        ONE_ORDER,
        "tradecore.submission",
        (
            (
                '            status in WAITING or (status == "UNKNOWN" and unknowns.absent(self.ctx, order.client_order_id))\n',
                '            status in (*WAITING, "UNKNOWN", "SUBMITTING")\n',
            ),
            (
                "open_ones = [o for o in orders if o.status in WAITING or unknowns.absent(self.ctx, o.client_order_id)]\n",
                'open_ones = [o for o in orders if o.status in (*WAITING, "UNKNOWN", "SUBMITTING")]\n',
            ),
        ),
    ),
)


BROKEN = re.compile(r"raised (NameError|TypeError|AttributeError|ImportError|UnboundLocalError|SyntaxError)")


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads one module with a bug in it."""

    mutant: Mutant

    def get_code(self, fullname: str) -> CodeType:
        source = self.mutant.planted(fullname, Path(self.path).read_text(encoding="utf-8"))
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Gives the planted module its loader."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self.mutant.modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            loader = _Loader(name, spec.origin)
            loader.mutant = self.mutant
            spec.loader = loader
        return spec


def hunt(job: tuple[int, int]) -> dict[str, Any]:
    """Plant one bug in this process and run seeds until one finds it."""
    number, seeds = job
    mutant = MUTANTS[number]
    sys.meta_path.insert(0, _Finder(mutant))  # type: ignore[arg-type]
    from simulation import campaign
    from simulation.plan import of_seed

    if not mutant.modules <= set(sys.modules):
        raise ValueError(f"mutant {mutant.name!r}: {mutant.modules - set(sys.modules)} was not imported")
    row = {"name": mutant.name, "rule": mutant.rule, "found_by": "", "violation": "", "runs": 0}
    with campaign.a_ground(number + 100) as ground:
        for seed in range(seeds):
            result = campaign.run_plan(ground, of_seed(seed))
            row["runs"] = seed + 1
            if result.violations:
                if BROKEN.search(result.violations[0]):
                    raise ValueError(f"mutant {mutant.name!r} does not run: {result.violations[0]}")
                return row | {"found_by": f"seed {seed}", "violation": result.violations[0][:160]}
    return row


def main(arguments: list[str] | None = None) -> int:
    """Hunt each bug; 0 if all were found."""
    from simulation import report, world

    parser = argparse.ArgumentParser(prog="python -m simulation.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", help="some of them, by number")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    numbers = range(len(MUTANTS)) if chosen.only is None else chosen.only
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.processes, mp_context=context, max_tasks_per_child=1) as pool:
        for row in pool.map(hunt, [(n, chosen.seeds) for n in numbers]):
            rows.append(row)
            print(f"  {row['name']:<48} {row['found_by'] or 'NOT FOUND':<10} {row['violation'][:110]}", flush=True)
    world.stop_if_idle()
    if chosen.only is None:
        report.MUTANTS.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    found = sum(bool(row["found_by"]) for row in rows)
    print(f"proof: {found} of {len(rows)} planted bugs found, each within {max(row['runs'] for row in rows)} seeds")
    return 0 if found == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
