"""What a campaign showed, as a page: the matrix of cells, what took place how often, and the planted bugs."""

from __future__ import annotations

import html
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from simulation import world
from simulation.campaign import Result
from simulation.plan import ACTS, CELLS, CRASHES, FAULTS, unreachable

PAGE = world.ROOT / "report.html"
MUTANTS = world.ROOT / "mutants.json"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b2430 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .5rem; border: 1px solid #cfd6de }
th { text-align: left; font-weight: 600; background: #f3f5f8 } td.n { text-align: right }
.held { background: #d9f0e0 } .broken { background: #f6c9c9 } .idle { background: #fbe6b8 } .out { background: #e4e7ec }
.cell { display: inline-block; width: 1.1rem; height: 1.1rem; margin: 1px; border-radius: 3px }
"""


def summary(results: Sequence[Result], seconds: float) -> str:
    """Return the figures in a few lines."""
    cells = [r for r in results if r.plan.cell]
    seeds = [r for r in results if not r.plan.cell]
    total: Counter[str] = Counter()
    for r in results:
        total.update(r.counts)
    out = sum(bool(unreachable(c)) for c in CELLS)
    held = sum(r.ok for r in cells)
    broken = sum(bool(r.violations) for r in results)
    faults = sum(len(r.fired) for r in results)
    cpu_s = sum(r.cpu_s for r in results) / max(1, len(results))
    return "\n".join(
        [
            f"proof: {held} of {len(CELLS)} cells hold, {out} declared unreachable, {len(cells) - held} not; "
            f"{len(seeds)} seeds; {broken} runs with a violation",
            f"proof: {total['orders']:,} orders, {total['fills']:,} fills, {faults:,} faults that took place; "
            f"duplicate orders {total['duplicates']}, lost fills {total['lost']}, doubled fills {total['doubled']}, "
            f"cents off {total['cents']}",
            f"proof: {seconds:.0f} s, {cpu_s:.2f} CPU-s a run beside the database",
        ]
    )


def write(results: Sequence[Result], seconds: float) -> Path:
    """Write the page; return its path."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Simulation of execution</title>",
        f"<style>{STYLE}</style><h1>Simulation of execution</h1>",
        "<p>" + "<br>".join(html.escape(line) for line in summary(results, seconds).splitlines()) + "</p>",
        _matrix([r for r in results if r.plan.cell]),
        _occurrences(results),
        _failures(results),
        _mutants(),
    ]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    return PAGE


def _matrix(cells: Sequence[Result]) -> str:
    known = {r.plan.cell: r for r in cells}
    head = "".join(f"<th title='{html.escape(text)}'>{fault}</th>" for fault, text in FAULTS.items())
    lines = [f"<h2>Cells</h2><p>In each box, from the left: {', '.join(ACTS)}.</p><table><tr><th></th>{head}</tr>"]
    for crash, text in CRASHES.items():
        boxes = []
        for fault in FAULTS:
            marks = []
            for act in ACTS:
                cell = (crash, fault, act)
                result, reason = known.get(cell), unreachable(cell)
                look = "out" if reason else "idle"
                said = reason or "not run"
                if result is not None:
                    look = "broken" if result.violations else "held" if result.ok else "idle"
                    said = "; ".join(result.violations) or ("held" if result.ok else f"did not occur: {result.unfired}")
                marks.append(f"<span class='cell {look}' title='{act}: {html.escape(said)}'></span>")
            boxes.append(f"<td style='white-space:nowrap'>{''.join(marks)}</td>")
        lines.append(f"<tr><th title='{html.escape(text)}'>{crash}</th>{''.join(boxes)}</tr>")
    return "".join(lines) + "</table>"


def _occurrences(results: Sequence[Result]) -> str:
    planned: Counter[str] = Counter(e.kind for r in results for e in r.plan.events)
    fired: Counter[str] = Counter(kind for r in results for kind in r.fired)
    rows = "".join(
        f"<tr><td>{html.escape(kind)}</td><td class=n>{count}</td><td class=n>{fired[kind]}</td></tr>"
        for kind, count in sorted(planned.items())
    )
    return f"<h2>What went wrong</h2><table><tr><th>kind</th><th>planned</th><th>took place</th></tr>{rows}</table>"


def _failures(results: Sequence[Result]) -> str:
    grouped: dict[str, list[str]] = defaultdict(list)
    for r in results:
        if not r.ok:
            grouped["; ".join(r.violations) or f"did not occur: {r.unfired}"].append(r.name)
    if not grouped:
        return "<h2>Failures</h2><p>None.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(what)}</td><td>{html.escape(', '.join(names[:5]))}</td></tr>"
        for what, names in list(grouped.items())[:100]
    )
    return f"<h2>Failures</h2><table>{rows}</table>"


def _mutants() -> str:
    if not MUTANTS.is_file():
        return "<h2>Planted bugs</h2><p>Not run here: make simulate-mutants.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(row['name'])}</td><td>{html.escape(row['found_by'] or 'NOT FOUND')}</td>"
        f"<td>{html.escape(row['violation'])}</td></tr>"
        for row in json.loads(MUTANTS.read_text(encoding="utf-8"))
    )
    return f"<h2>Planted bugs</h2><table><tr><th>bug</th><th>found by</th><th>how</th></tr>{rows}</table>"
