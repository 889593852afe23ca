"""What comes out of a sweep: its best through the production fold, a Parquet file, a page. Files are written whole."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from tradecore.errors import ConfigError, SweepError
from tradecore.model import J_FILLS
from tradecore.reports.sweep_page import Heat, render
from tradecore.research.sweep.evaluate import FIGURES, canonical_json, figures_of, fold, rule_of, scores_of, spec_of
from tradecore.research.sweep.planning import Plan
from tradecore.research.sweep.space import Axis
from tradecore.settings import Settings
from tradecore.storage import sweeps as storage

MOST_CELLS = 40  # a side of the heat map
_AT = {name: 2 + k for k, name in enumerate(FIGURES)}  # where a figure stands in a row of `storage.results`


def require_whole(record: Mapping[str, Any]) -> None:
    """Raise SweepError for a sweep with chunks left: its best would be the best of a part."""
    left = record["n_chunks"] - record["chunks_done"]
    if left:
        raise SweepError(
            f"{left} of {record['n_chunks']} chunks of sweep {record['sweep_id']} are left.",
            next_step=f"python -m tradecore sweep --resume {record['sweep_id']}",
            sweep_id=record["sweep_id"],
        )


def fold_best(conn: psycopg.Connection, plan: Plan, top: int) -> list[dict[str, Any]]:
    """Run the best `top` sets through the production fold and store them with both their figures.

    Raises SweepError for a sweep without a result.
    """
    found = storage.best(conn, plan.sweep_id, plan.spec.metric, top)
    conn.commit()
    if not found:
        raise SweepError(
            f"sweep {plan.sweep_id} has no result: every combination was refused.",
            next_step="correct the ranges of --param",
            sweep_id=plan.sweep_id,
        )
    lines = []
    for rank, row in enumerate(found, start=1):
        rule = rule_of(plan.job, row["params"])
        assert rule is not None  # it has a result
        result = fold(plan.job, scores_of(plan.job, rule))
        folded = {**figures_of(plan.job, result), "n_trades": int(result.journal.counts[J_FILLS])}
        lines.append(
            {
                "rank": rank,
                "set_no": row["set_no"],
                "params": row["params"],
                "swept": finite({name: row[name] for name in (*FIGURES, "n_trades")}),
                "folded": finite(folded),
            }
        )
    storage.set_best(conn, plan.sweep_id, lines)
    conn.commit()
    return lines


def finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON has them: None for what is not defined."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}


def folder(settings: Settings) -> Path:
    """Return the folder of the files, made if need be."""
    found = settings.local_dir / "research" / "sweeps"
    found.mkdir(parents=True, exist_ok=True)
    return found


def write_parquet(conn: psycopg.Connection, record: Mapping[str, Any], path: Path) -> int:
    """Write all results to a Parquet file, a column a parameter and figure, by number; return the rows.

    The same table gives the same columns whatever order its chunks came in; memory does not grow with the rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [axis.name for axis in spec_of(record["spec"]).axes]
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    axes = spec_of(record["spec"]).axes
    schema = pa.schema(
        [("set_no", pa.int64()), *((a.name, kinds[_kind(a)]) for a in axes)]
        + [(name, pa.float64()) for name in FIGURES]
        + [("n_trades", pa.int64())]
    )
    count, part = 0, path.with_name(path.name + ".part")
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in storage.results(conn, record["sweep_id"]):
            columns = [[row[0] for row in batch]]
            columns += [[row[1][name] for row in batch] for name in names]
            columns += [[row[k] for row in batch] for k in range(2, 3 + len(FIGURES))]
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(batch)
    conn.commit()
    os.replace(part, path)
    return count


def _kind(axis: Axis) -> type:
    kinds = {type(value) for value in axis.values} or {float}
    if kinds <= {int, float}:
        return float if float in kinds else int
    return kinds.pop() if len(kinds) == 1 else str


def write_page(
    conn: psycopg.Connection, record: Mapping[str, Any], path: Path, *, x: str = "", y: str = "", metric: str = ""
) -> None:
    """Write the heat map of two parameters (default: the first two), means over the others, and the best.

    Raises ConfigError for a parameter that was not swept or a figure that is not there.
    """
    axes = {axis.name: axis for axis in spec_of(record["spec"]).axes}
    names, metric = list(axes), metric or record["metric"]
    for name in (x, y):
        if name and name not in axes:
            raise ConfigError(f"{name!r} was not swept; swept: {', '.join(names)}.", next_step="correct --x and --y")
    if metric not in FIGURES:
        raise ConfigError(f"metric {metric!r} is unknown; known: {', '.join(FIGURES)}.", next_step="correct --metric")
    x = x or next((name for name in names if name != y), y)
    y = y if y != x and y else next((name for name in names if name != x), "")
    heat = heat_of(conn, record["sweep_id"], axes[x], axes.get(y), metric)
    part = path.with_name(path.name + ".part")
    part.write_text(render(record, heat, storage.folded_best(conn, record["sweep_id"])), encoding="utf-8")
    conn.commit()
    os.replace(part, path)


def heat_of(conn: psycopg.Connection, sweep_id: str, x: Axis, y: Axis | None, metric: str) -> Heat:
    """Return the mean of a figure in each cell of one or two axes; long axes in at most MOST_CELLS cells."""
    place = [_Cells(axis) for axis in ([x] if y is None else [x, y])]
    shape = tuple(cells.count for cells in reversed(place))
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    for batch in storage.results(conn, sweep_id):
        values = np.array([np.nan if row[_AT[metric]] is None else row[_AT[metric]] for row in batch])
        at = tuple(np.array([cells.of(row[1][cells.name]) for row in batch]) for cells in reversed(place))
        good = np.isfinite(values)
        at = tuple(a[good] for a in at)
        np.add.at(total, at, values[good])
        np.add.at(count, at, 1)
    conn.commit()
    mean = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
    return Heat(
        metric=metric,
        x_name=x.name,
        y_name=y.name if y else "",
        x_labels=place[0].labels,
        y_labels=place[1].labels if y else (),
        mean=mean,
        n_sets=int(count.sum()),
    )


class _Cells:
    """The cells of an axis: one a value, or at most MOST_CELLS ranges of them."""

    def __init__(self, axis: Axis) -> None:
        self.name, self.axis = axis.name, axis
        self.count = min(len(axis.values), MOST_CELLS) if axis.values else MOST_CELLS // 2
        self.place = {value: k * self.count // len(axis.values) for k, value in enumerate(axis.values)}
        self.labels = self._labels()

    def of(self, value: Any) -> int:
        if self.axis.values:
            return self.place[value]
        width = (self.axis.high - self.axis.low) or 1.0
        return min(int((value - self.axis.low) / width * self.count), self.count - 1)

    def _labels(self) -> tuple[str, ...]:
        if not self.axis.values:
            width = (self.axis.high - self.axis.low) / self.count
            return tuple(f"{self.axis.low + k * width:.3g}" for k in range(self.count))
        first: dict[int, str] = {}
        for value, cell in self.place.items():
            first.setdefault(cell, f"{value:g}" if isinstance(value, float) else str(value))
        return tuple(first[k] for k in range(self.count))


def canonical_table(conn: psycopg.Connection, sweep_id: str) -> list[tuple[Any, ...]]:
    """Return all results as they compare: floats to the bit, parameters as one text."""
    return [
        (row[0], canonical_json(row[1]), *(None if v is None else float(v).hex() for v in row[2:10]), row[10])
        for batch in storage.results(conn, sweep_id)
        for row in batch
    ]


def best_text(lines: Sequence[Mapping[str, Any]], engine: str, metric: str) -> str:
    """Return the best of a sweep for people: the sweep's figures and the fold's side by side."""
    shown = list(dict.fromkeys((metric, "total_return", "sharpe", "max_drawdown")))
    head = "".join(f"{name:>26}" for name in shown)
    text = [f"best by {metric}: {engine} | fold", f"{'':>4}{head}  trades   parameters"]
    for line in lines:
        cells = "".join(f"{number(line['swept'][n]):>13}{number(line['folded'][n]):>13}" for n in shown)
        trades = f"{line['swept']['n_trades']} | {line['folded']['n_trades']}"
        params = ", ".join(f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in line["params"].items())
        text.append(f"{line['rank']:>3}.{cells}  {trades}   {params}")
    return "\n".join(text)


def number(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
